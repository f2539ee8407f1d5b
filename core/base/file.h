/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to files in more than one place. Any thread. */
#ifndef FG_BASE_FILE_H
#define FG_BASE_FILE_H

#include <stddef.h>

/* Write the beginning of a small new file, and sync it. 0 or -errno. */
int file_write_new(int fd, const void *bytes, size_t len);

/* Sync the directory that path is in, so that its name outlives a loss of power. 0 or -errno. */
int file_sync_directory_of(const char *path);

#endif
