/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-secret: master key files, and secrets sealed with them for the table credential
 * (core/registry/secret.h). A secret comes in through stdin and never leaves; arguments are no
 * secrets.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/registry/secret.h"

#define KEY_LEN	 32
#define HEX_MAX	 (2 * SECRET_MAX)
#define PATH_LEN 4096

static int usage(void)
{
	fprintf(stderr,
		"usage: fieldgate-secret make-key FILE\n"
		"       fieldgate-secret seal FILE KIND FINGERPRINT PRINCIPAL <HEX\n"
		"\n"
		"make-key  a new file with a new master key, mode 0600 (secrets.key_file)\n"
		"seal      the secret on stdin, 1 to %d bytes in hexadecimal, sealed with the "
		"first\n"
		"          key of FILE for this row of fieldgate.credential, in hexadecimal\n",
		SECRET_MAX);
	return 2;
}

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "fieldgate-secret: %s: %s\n", what, why);
	return 1;
}

static void print_hex(char *out, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* --- make-key --- */

static int write_key(int fd)
{
	static const char head[] =
		"# Master key of Fieldgate (secrets.key_file): whoever has it can open the "
		"pre-shared\n"
		"# keys in the database. Without it they are lost. Keep a copy elsewhere.\n";
	char text[sizeof(head) + (size_t)2 * KEY_LEN + 1];
	uint8_t key[KEY_LEN];
	char *p = stpcpy(text, head);
	int rc;

	random_bytes(key, sizeof(key));
	print_hex(p, key, sizeof(key));
	p[2 * KEY_LEN] = '\n';
	rc = file_write_new(fd, text, (size_t)(p - text) + 2 * KEY_LEN + 1);
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(text, sizeof(text));
	return rc;
}

static int sync_directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_LEN] = ".";
	int fd, rc;

	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path) + 1, path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fsync(fd) == 0 ? 0 : -errno;
	close(fd);
	return rc;
}

/* The file has its name only when it is whole; a file that is there is never touched. */
static int make_key(const char *path)
{
	char temporary[PATH_LEN];
	uint32_t random;
	int n, fd, rc;

	random_bytes(&random, sizeof(random));
	n = snprintf(temporary, sizeof(temporary), "%s.%08x", path, random);
	if (n < 0 || (size_t)n >= sizeof(temporary))
		return fail(path, strerror(ENAMETOOLONG));
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(path, strerror(errno));
	rc = write_key(fd);
	close(fd);
	if (rc == 0 && link(temporary, path) != 0)
		rc = -errno;
	unlink(temporary);
	if (rc == 0)
		rc = sync_directory_of(path);
	if (rc == -EEXIST)
		return fail(path, "exists, and is left as it is");
	return rc == 0 ? 0 : fail(path, strerror(-rc));
}

/* --- seal --- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The number of bytes, or 0: this is not hexadecimal, or more than max. */
static size_t parse_hex(uint8_t *out, size_t max, const char *hex, size_t len)
{
	if (len % 2 != 0 || len / 2 > max)
		return 0;
	for (size_t i = 0; i < len / 2; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return 0;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return len / 2;
}

/* All of stdin, without a newline at its end. Not through stdio, which would keep it in its buffer.
 */
static size_t read_secret(uint8_t secret[SECRET_MAX])
{
	char hex[HEX_MAX + 2];
	size_t len = 0;

	while (len < sizeof(hex)) {
		ssize_t n = read(STDIN_FILENO, hex + len, sizeof(hex) - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (len > 0 && hex[len - 1] == '\n')
		len--;
	len = parse_hex(secret, SECRET_MAX, hex, len);
	OPENSSL_cleanse(hex, sizeof(hex));
	return len;
}

struct row {
	enum credential_kind kind;
	uint8_t fingerprint[FINGERPRINT_LEN];
	const char *principal;
};

static int parse_row(struct row *row, char *const *arguments)
{
	int kind = credential_kind_parse(arguments[0]);

	if (kind < 0)
		return fail(arguments[0], "there is no such kind of credential");
	if (parse_hex(row->fingerprint, FINGERPRINT_LEN, arguments[1], strlen(arguments[1])) !=
	    FINGERPRINT_LEN)
		return fail(arguments[1], "a fingerprint has 64 hexadecimal digits");
	if (!principal_id_valid(arguments[2], strlen(arguments[2])))
		return fail(arguments[2], "is no id: 1 to 64 of A-Z a-z 0-9 _ . : -");
	row->kind = (enum credential_kind)kind;
	row->principal = arguments[2];
	return 0;
}

static int seal_with(const struct secret_keys *keys, const struct row *row)
{
	uint8_t secret[SECRET_MAX], sealed[SECRET_OVERHEAD + SECRET_MAX];
	uint8_t context[SECRET_CONTEXT_MAX];
	char hex[2 * sizeof(sealed) + 1];
	size_t len = read_secret(secret), context_len;
	int rc;

	if (len == 0)
		return fail("stdin", "expected 1 to 64 bytes in hexadecimal");
	context_len = secret_context(context, row->kind, row->fingerprint, row->principal);
	rc = secret_seal(keys, secret, len, context, context_len, sealed);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc != 0)
		return fail("seal", strerror(-rc));
	print_hex(hex, sealed, SECRET_OVERHEAD + len);
	return puts(hex) >= 0 && fflush(stdout) == 0 ? 0 : fail("stdout", strerror(errno));
}

static int seal(const char *key_file, char *const *arguments)
{
	struct secret_keys *keys;
	struct row row;
	char err[512];
	int rc = parse_row(&row, arguments);

	if (rc != 0)
		return rc;
	if (secret_keys_load(&keys, key_file, err, sizeof(err)) != 0) {
		fprintf(stderr, "fieldgate-secret: %s\n", err);
		return 1;
	}
	rc = seal_with(keys, &row);
	secret_keys_free(keys);
	return rc;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "make-key") == 0)
		return make_key(argv[2]);
	if (argc == 6 && strcmp(argv[1], "seal") == 0)
		return seal(argv[2], argv + 3);
	return usage();
}
