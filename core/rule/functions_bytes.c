/* SPDX-License-Identifier: Apache-2.0 */
/* Of bytes: those of CBOR, of a payload as it came, or of a text. */
#define OPENSSL_SUPPRESS_DEPRECATED /* see DIGEST */
#include <string.h>

#include <openssl/md5.h>
#include <openssl/sha.h>

#include "core/payload/text.h"
#include "core/rule/evaluation.h"
#include "core/rule/functions_table.h"

enum scheme {
	SCHEME_UNKNOWN,
	SCHEME_BASE64,
	SCHEME_BASE64URL,
	SCHEME_HEX,
};

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
static const char hex_digits[] = "0123456789abcdef";

/* base64 unless one is named. */
static enum scheme scheme_of(const struct rule_result *args, size_t count)
{
	static const char *const names[] = {"base64", "base64url", "hex"};
	const struct value *v = &args[1].value;

	if (count < 2)
		return SCHEME_BASE64;
	if (!args[1].defined || v->type != VALUE_TEXT)
		return SCHEME_UNKNOWN;
	for (size_t i = 0; i < 3; i++)
		if (strlen(names[i]) == v->u.text.len &&
		    memcmp(names[i], v->u.text.data, v->u.text.len) == 0)
			return (enum scheme)(SCHEME_BASE64 + i);
	return SCHEME_UNKNOWN;
}

int rule_call_numbytes(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		       struct rule_result *out)
{
	struct rule_text t;
	int rc = rule_to_bytes(e, &args[0], &t);

	(void)count;
	if (rc == 1)
		rule_set_integer(out, (int64_t)t.len);
	return rc < 0 ? rc : 0;
}

/* --- Encoding --- */

static char base64_digit(unsigned six, bool url)
{
	return base64_digits[url && six >= 62 ? six + 2 : six];
}

static size_t encode_base64(char *to, const struct rule_text *t, bool url)
{
	const unsigned char *s = (const unsigned char *)t->data;
	size_t n = 0;

	for (size_t i = 0; i < t->len; i += 3) {
		size_t left = t->len - i < 3 ? t->len - i : 3;
		unsigned bits = (unsigned)s[i] << 16;

		bits |= left > 1 ? (unsigned)s[i + 1] << 8 : 0;
		bits |= left > 2 ? s[i + 2] : 0;
		for (size_t digit = 0; digit <= left; digit++)
			to[n++] = base64_digit(bits >> (18 - 6 * digit) & 63, url);
		for (size_t digit = left; digit < 3 && !url; digit++)
			to[n++] = '=';
	}
	return n;
}

static size_t encode_hex(char *to, const unsigned char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		to[2 * i] = hex_digits[s[i] >> 4];
		to[2 * i + 1] = hex_digits[s[i] & 15];
	}
	return 2 * len;
}

int rule_call_encode(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		     struct rule_result *out)
{
	enum scheme scheme = scheme_of(args, count);
	struct rule_text t;
	size_t len;
	char *to;
	int rc = rule_to_bytes(e, &args[0], &t);

	if (rc != 1 || scheme == SCHEME_UNKNOWN)
		return rc < 0 ? rc : 0;
	rc = rule_alloc_text(e, scheme == SCHEME_HEX ? 2 * t.len : (t.len + 2) / 3 * 4, &to);
	if (rc)
		return rc;
	if (scheme == SCHEME_HEX)
		len = encode_hex(to, (const unsigned char *)t.data, t.len);
	else
		len = encode_base64(to, &t, scheme == SCHEME_BASE64URL);
	rule_set_text(out, to, len);
	return 0;
}

/* --- Decoding: either alphabet of base64, with or without padding; nothing else in between --- */

static int digit_of(char c, enum scheme scheme)
{
	const char *d;

	if (c == '\0')
		return -1;
	if (scheme == SCHEME_HEX) {
		d = strchr(hex_digits, c >= 'A' && c <= 'F' ? c | 0x20 : c);
		return d ? (int)(d - hex_digits) : -1;
	}
	d = strchr(base64_digits, c);
	return !d			? -1
	       : d - base64_digits < 64 ? (int)(d - base64_digits)
					: (int)(d - base64_digits) - 2;
}

static bool strip_padding(struct rule_text *t)
{
	size_t padding = 0;

	while (padding < 2 && t->len > padding && t->data[t->len - 1 - padding] == '=')
		padding++;
	if (padding > 0 && t->len % 4 != 0)
		return false;
	t->len -= padding;
	return t->len % 4 != 1;
}

/* The bits of all digits in a row; those that are left over are less than a byte, and zero. */
static bool decode(const struct rule_text *t, enum scheme scheme, char *to, size_t *len)
{
	unsigned per_digit = scheme == SCHEME_HEX ? 4 : 6, held = 0, bits = 0;

	*len = 0;
	for (size_t i = 0; i < t->len; i++) {
		int digit = digit_of(t->data[i], scheme);

		if (digit < 0)
			return false;
		bits = (bits << per_digit | (unsigned)digit) & 0xffff;
		held += per_digit;
		if (held >= 8) {
			held -= 8;
			to[(*len)++] = (char)(bits >> held & 0xff);
		}
	}
	return (bits & ((1u << held) - 1)) == 0;
}

/* Text if it is UTF-8, or bytes. */
int rule_call_decode(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		     struct rule_result *out)
{
	enum scheme scheme = scheme_of(args, count);
	struct rule_text t;
	size_t len;
	char *to;
	int rc = rule_to_bytes(e, &args[0], &t);

	if (rc != 1 || scheme == SCHEME_UNKNOWN)
		return rc < 0 ? rc : 0;
	if (scheme == SCHEME_HEX ? t.len % 2 != 0 : !strip_padding(&t))
		return 0;
	rc = rule_alloc_text(e, t.len, &to);
	if (rc)
		return rc;
	if (!decode(&t, scheme, to, &len))
		return 0;
	if (text_is_valid(to, len))
		rule_set_text(out, to, len);
	else
		rule_set_bytes(out, to, len);
	return 0;
}

/* --- Digests --- */

static int set_hex(struct rule_evaluation *e, const unsigned char *digest, size_t len,
		   struct rule_result *out)
{
	char *hex;
	int rc = rule_alloc_text(e, 2 * len, &hex);

	if (rc)
		return rc;
	rule_set_text(out, hex, encode_hex(hex, digest, len));
	return 0;
}

/* OpenSSL's EVP calls allocate for each digest; these are the ones that do not. */
#define DIGEST(name, type, context, length)                                                        \
	int rule_call_##name(struct rule_evaluation *e, const struct rule_result *args,            \
			     size_t count, struct rule_result *out)                                \
	{                                                                                          \
		unsigned char digest[length];                                                      \
		struct rule_text t;                                                                \
		context c;                                                                         \
		int rc = rule_to_bytes(e, &args[0], &t);                                           \
                                                                                                   \
		(void)count;                                                                       \
		if (rc != 1)                                                                       \
			return rc;                                                                 \
		if (type##_Init(&c) != 1 || type##_Update(&c, t.data, t.len) != 1 ||               \
		    type##_Final(digest, &c) != 1)                                                 \
			return 0;                                                                  \
		return set_hex(e, digest, sizeof(digest), out);                                    \
	}

DIGEST(md5, MD5, MD5_CTX, MD5_DIGEST_LENGTH)
DIGEST(sha1, SHA1, SHA_CTX, SHA_DIGEST_LENGTH)
DIGEST(sha256, SHA256, SHA256_CTX, SHA256_DIGEST_LENGTH)
DIGEST(sha512, SHA512, SHA512_CTX, SHA512_DIGEST_LENGTH)
