/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's directory: made if missing, locked against other processes, named by an id that is
 * drawn once, and holding nothing but `lock`, `id` (`id.new` while it is made) and segments.
 */
#ifndef FG_JOURNAL_DIRECTORY_H
#define FG_JOURNAL_DIRECTORY_H

#include <stddef.h>
#include <stdint.h>

#include "core/journal/record.h"

struct directory {
	int fd;
	int lock_fd; /* holds the lock as long as it is open */
	uint8_t id[JOURNAL_ID_BYTES];
	uint64_t *segments; /* numbers, ascending; valid after opening, the caller may free them */
	size_t segment_count;
};

/* 0, or -errno with a message in err; d then holds nothing. */
int directory_open(struct directory *d, const char *path, char *err, size_t err_len);

void directory_close(struct directory *d);

/* Format the message into err and return rc. */
int directory_error(int rc, char *err, size_t err_len, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
