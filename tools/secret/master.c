/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of master keys. A file has its name only when it is whole, on the disk, and what is there
 * is replaced by a rename or not at all: without its master key, a pre-shared key is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/hex.h"
#include "tools/secret/tool.h"

#define KEY_LEN	 32
#define LINE_LEN (2 * KEY_LEN + 1)
#define TEXT_MAX 8192 /* what secret_keys_load takes */

static const char head[] =
	"# Master key of Fieldgate (secrets.key_file): whoever has it can open the pre-shared\n"
	"# keys in the database. Without it they are lost. Keep a copy elsewhere.\n";

int tool_load_keys(struct secret_keys **keys, const char *path)
{
	bool environment = strcmp(path, "-") == 0;
	char err[512];

	*keys = NULL;
	if (environment && !secret_keys_given(NULL))
		return tool_fail(SECRET_KEYS_VARIABLE, "is not set");
	if (secret_keys_open(keys, environment ? NULL : path, err, sizeof(err)) == 0)
		return 0;
	fprintf(stderr, "fieldgate-secret: %s\n", err);
	return 1;
}

/* A new key and a newline; out: LINE_LEN + 1 bytes. */
static void print_new_key(char *out)
{
	uint8_t key[KEY_LEN];

	random_bytes(key, sizeof(key));
	hex_print(out, key, sizeof(key));
	out[LINE_LEN - 1] = '\n';
	OPENSSL_cleanse(key, sizeof(key));
}

/* The name, PATH_MAX bytes, of a file beside path that is not there yet, opened; or -errno. */
static int open_beside(const char *path, char *name)
{
	uint32_t random;
	int n, fd;

	random_bytes(&random, sizeof(random));
	n = snprintf(name, PATH_MAX, "%s.%08x", path, random);
	if (n < 0 || n >= PATH_MAX)
		return -ENAMETOOLONG;
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int write_key(int fd)
{
	char text[sizeof(head) + LINE_LEN];
	int rc;

	print_new_key(stpcpy(text, head));
	rc = file_write_new(fd, text, sizeof(text) - 1);
	OPENSSL_cleanse(text, sizeof(text));
	return rc;
}

/* A file that is there is never touched. */
int tool_make_key(const char *path)
{
	char temporary[PATH_MAX];
	int fd = open_beside(path, temporary), rc;

	if (fd < 0)
		return tool_fail(path, strerror(-fd));
	rc = write_key(fd);
	close(fd);
	if (rc == 0 && link(temporary, path) != 0)
		rc = -errno;
	unlink(temporary);
	if (rc == 0)
		rc = file_sync_directory_of(path);
	if (rc == -EEXIST)
		return tool_fail(path, "exists, and is left as it is");
	return rc == 0 ? 0 : tool_fail(path, strerror(-rc));
}

/* --- add-key --- */

/* All of the file behind a new key, for who may read it now. */
static int write_longer(int fd, const char *path)
{
	int old = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	char text[LINE_LEN + TEXT_MAX + 1];
	struct stat st;
	ssize_t n;

	if (old < 0)
		return -errno;
	print_new_key(text);
	n = read(old, text + LINE_LEN, TEXT_MAX);
	if (n < 0 || fstat(old, &st) != 0 || fchown(fd, st.st_uid, st.st_gid) != 0 ||
	    fchmod(fd, st.st_mode & 07777) != 0)
		rc = -errno;
	else if (n != st.st_size)
		rc = -EIO;
	if (rc == 0)
		rc = file_write_new(fd, text, LINE_LEN + (size_t)n);
	OPENSSL_cleanse(text, sizeof(text));
	close(old);
	return rc;
}

static int replace_with_longer(const char *path, const char *temporary, int fd)
{
	struct secret_keys *keys = NULL;
	int rc = write_longer(fd, path);

	/* The new file must be one that servers take: it may be too long now, or have too many
	 * keys. */
	if (rc == 0 && tool_load_keys(&keys, temporary) != 0)
		rc = -EINVAL;
	secret_keys_free(keys);
	if (rc == 0 && rename(temporary, path) != 0)
		rc = -errno;
	if (rc != 0)
		unlink(temporary);
	return rc == 0 ? file_sync_directory_of(path) : rc;
}

int tool_add_key(const char *path)
{
	char place[PATH_MAX], temporary[PATH_MAX];
	struct secret_keys *keys;
	int fd, rc;

	if (tool_load_keys(&keys, path) != 0)
		return 1;
	secret_keys_free(keys);
	/* Where a link leads, so that the link stays one. */
	if (!realpath(path, place))
		return tool_fail(path, strerror(errno));
	fd = open_beside(place, temporary);
	if (fd < 0)
		return tool_fail(path, strerror(-fd));
	rc = replace_with_longer(place, temporary, fd);
	close(fd);
	return rc == 0 ? 0 : tool_fail(path, strerror(-rc));
}

/* --- key-ids --- */

int tool_key_ids(const char *path)
{
	char hex[2 * SECRET_KEY_ID_LEN + 1];
	struct secret_keys *keys;

	if (tool_load_keys(&keys, path) != 0)
		return 1;
	for (size_t i = 0; i < secret_keys_count(keys); i++) {
		hex_print(hex, secret_key_id(keys, i), SECRET_KEY_ID_LEN);
		puts(hex);
	}
	secret_keys_free(keys);
	return fflush(stdout) == 0 ? 0 : tool_fail("stdout", strerror(errno));
}
