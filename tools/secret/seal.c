/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets of rows. A plain one comes in through stdin (seal) or from a row (reseal), and never
 * leaves. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "core/base/hex.h"
#include "tools/secret/tool.h"

#define HEX_MAX (2 * SECRET_MAX)

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
	len = tool_parse_hex(secret, SECRET_MAX, hex, len);
	OPENSSL_cleanse(hex, sizeof(hex));
	return len;
}

struct row {
	enum credential_kind kind;
	uint8_t fingerprint[FINGERPRINT_LEN];
	const char *principal;
};

static int parse_row(struct row *row, const char *kind_name, const char *fingerprint,
		     const char *principal)
{
	int kind = credential_kind_parse(kind_name);

	if (kind < 0)
		return tool_fail(kind_name, "there is no such kind of credential");
	if (tool_parse_hex(row->fingerprint, FINGERPRINT_LEN, fingerprint, strlen(fingerprint)) !=
	    FINGERPRINT_LEN)
		return tool_fail(fingerprint, "a fingerprint has 64 hexadecimal digits");
	if (!principal_id_valid(principal, strlen(principal)))
		return tool_fail(principal, "is no id: 1 to 64 of A-Z a-z 0-9 _ . : -");
	row->kind = (enum credential_kind)kind;
	row->principal = principal;
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
		return tool_fail("stdin", "expected 1 to 64 bytes in hexadecimal");
	context_len = secret_context(context, row->kind, row->fingerprint, row->principal);
	rc = secret_seal(keys, secret, len, context, context_len, sealed);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc != 0)
		return tool_fail("seal", strerror(-rc));
	hex_print(hex, sealed, SECRET_OVERHEAD + len);
	return puts(hex) >= 0 && fflush(stdout) == 0 ? 0 : tool_fail("stdout", strerror(errno));
}

int tool_seal(const char *path, char *const *arguments)
{
	struct secret_keys *keys;
	struct row row = {0};
	int rc = parse_row(&row, arguments[0], arguments[1], arguments[2]);

	if (rc != 0 || tool_load_keys(&keys, path) != 0)
		return 1;
	rc = seal_with(keys, &row);
	secret_keys_free(keys);
	return rc;
}

/* --- reseal --- */

/* What a row's secret becomes: the number of bytes in sealed, 0 when it stays as it is, or -errno.
 */
static int reseal_one(const struct secret_keys *keys, const struct row *row, const uint8_t *old,
		      size_t old_len, uint8_t *sealed)
{
	uint8_t secret[SECRET_MAX], context[SECRET_CONTEXT_MAX];
	size_t context_len = secret_context(context, row->kind, row->fingerprint, row->principal),
	       len;
	int rc = secret_open(keys, old, old_len, context, context_len, secret, &len);

	if (rc != 0)
		return rc;
	/* Version, key id, ...: it is under the first key already. */
	if (memcmp(old + 1, secret_key_id(keys, 0), SECRET_KEY_ID_LEN) != 0) {
		rc = secret_seal(keys, secret, len, context, context_len, sealed);
		rc = rc == 0 ? (int)(SECRET_OVERHEAD + len) : rc;
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	return rc;
}

static const char *why_not(int rc)
{
	if (rc == -ENOKEY)
		return "it is sealed with a master key that is not given";
	if (rc == -EBADMSG)
		return "it is damaged, or was sealed for another row";
	return strerror(-rc);
}

/* The next field of a line between tabs, or nothing. */
static const char *field(char **rest)
{
	const char *text = strtok_r(NULL, "\t\n", rest);

	return text ? text : "";
}

/* FINGERPRINT, PRINCIPAL, SECRET between tabs. Out: the same, and the new secret. */
static int reseal_line(const struct secret_keys *keys, const char *kind, char *line)
{
	uint8_t old[SECRET_OVERHEAD + SECRET_MAX], sealed[sizeof(old)];
	const char *fingerprint = field(&line), *id = field(&line), *material = field(&line);
	char hex[2 * sizeof(sealed) + 1];
	struct row row = {0};
	int rc;

	if (parse_row(&row, kind, fingerprint, id) != 0)
		return 1;
	rc = reseal_one(keys, &row, old,
			tool_parse_hex(old, sizeof(old), material, strlen(material)), sealed);
	if (rc < 0)
		return tool_fail(id, why_not(rc));
	if (rc > 0) {
		hex_print(hex, sealed, (size_t)rc);
		printf("%s\t%s\t%s\t%s\n", fingerprint, id, material, hex);
	}
	return 0;
}

int tool_reseal(const char *path, const char *kind)
{
	struct secret_keys *keys;
	char *line = NULL;
	size_t size = 0;
	int failed = 0;

	if (tool_load_keys(&keys, path) != 0)
		return 1;
	while (getline(&line, &size, stdin) > 0)
		failed |= reseal_line(keys, kind, line);
	free(line);
	secret_keys_free(keys);
	if (ferror(stdin) || fflush(stdout) != 0)
		return tool_fail("reseal", strerror(errno));
	return failed ? TOOL_SOME_FAILED : 0;
}
