/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/file.h"

#include <errno.h>
#include <unistd.h>

int file_write_new(int fd, const void *bytes, size_t len)
{
	ssize_t n = pwrite(fd, bytes, len, 0);

	if (n >= 0 && (size_t)n != len)
		return -ENOSPC; /* the only reason for a short write here */
	return n < 0 || fsync(fd) != 0 ? -errno : 0;
}
