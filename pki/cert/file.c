/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/cert/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "pki/cert/cert.h"

#define PATH_LEN 4096
#define ROOM	 (CERT_FILE_MAX + 2) /* a byte too many, and the NUL */

static ssize_t read_whole(int fd, char *data, size_t max)
{
	size_t len = 0;

	while (len < max) {
		ssize_t n = read(fd, data + len, max - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

int cert_file_read(const char *path, char **data, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *whole;
	ssize_t n;
	int error;

	if (fd < 0)
		return complain("%s: %s", path, strerror(errno));
	whole = OPENSSL_zalloc(ROOM);
	if (!whole) {
		close(fd);
		return complain("%s: out of memory", path);
	}
	n = read_whole(fd, whole, CERT_FILE_MAX + 1);
	error = errno;
	close(fd);
	if (n > 0 && n <= CERT_FILE_MAX) {
		*data = whole;
		*len = (size_t)n;
		return 0;
	}
	cert_file_free(whole);
	if (n < 0)
		return complain("%s: %s", path, strerror(error));
	return n == 0 ? complain("%s is empty", path)
		      : complain("%s has more than %d bytes: it is no key, certificate or request",
				 path, CERT_FILE_MAX);
}

void cert_file_free(char *data)
{
	OPENSSL_clear_free(data, ROOM);
}

int cert_file_new(const char *path, BIO *content, unsigned mode)
{
	char *data;
	long len = BIO_get_mem_data(content, &data);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	ssize_t n;
	int error;

	if (fd < 0)
		return complain("%s: %s", path, strerror(errno));
	n = write(fd, data, (size_t)len);
	error = n < 0 ? errno : ENOSPC; /* the only reason for a short write here */
	if (close(fd) != 0 && n == len) {
		error = errno;
		n = -1;
	}
	return n == len ? 0 : complain("%s: %s", path, strerror(error));
}

int cert_file_replace(const char *path, BIO *content, unsigned mode)
{
	char new[PATH_LEN];
	int status;

	if (snprintf(new, sizeof(new), "%s.new", path) >= PATH_LEN)
		return complain("%s: %s", path, strerror(ENAMETOOLONG));
	unlink(new); /* of one that was killed */
	status = cert_file_new(new, content, mode);
	if (status == 0 && rename(new, path) != 0)
		status = complain("%s: %s", path, strerror(errno));
	return status;
}
