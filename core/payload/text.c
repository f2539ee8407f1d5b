/* SPDX-License-Identifier: Apache-2.0 */
#include "core/payload/text.h"

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

/* The bytes of the sequence that begins at s, or 0. RFC 3629 section 4. */
static size_t sequence_len(const unsigned char *s, size_t left)
{
	unsigned char low = 0x80, high = 0xbf; /* what the second byte may be */
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (len > left)
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool text_is_valid(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;

	for (size_t i = 0; i < len;) {
		size_t step;

		if (s[i] == 0)
			return false;
		step = sequence_len(s + i, len - i);
		if (step == 0)
			return false;
		i += step;
	}
	return true;
}

/* printf's "1e+09" and "1e-07" are "1e9" and "1e-7". */
static size_t shorten_exponent(char *s, size_t len)
{
	char *e = memchr(s, 'e', len);
	char *to, *from;

	if (!e)
		return len;
	to = from = e + 1;
	if (*from == '-')
		*to++ = *from++;
	else if (*from == '+')
		from++;
	while (*from == '0')
		from++;
	len = (size_t)(s + len - from);
	memmove(to, from, len);
	return (size_t)(to - s) + len;
}

/* The decimal point is the locale's: nothing here ever sets one but C's. */
size_t text_number(char out[TEXT_NUMBER_MAX], double x)
{
	size_t len = 0;

	for (int precision = 15; precision <= 17; precision++) {
		len = (size_t)snprintf(out, TEXT_NUMBER_MAX, "%.*g", precision, x);
		if (strtod(out, NULL) == x)
			break;
	}
	if (!strpbrk(out, ".e")) {
		memcpy(out + len, ".0", 2);
		return len + 2;
	}
	return shorten_exponent(out, len);
}

char *text_base64url(struct arena *a, const void *data, size_t len, size_t *out_len)
{
	unsigned char *out;
	size_t n;

	if (len > INT_MAX)
		return NULL;
	out = arena_alloc(a, (len + 2) / 3 * 4 + 1);
	if (!out)
		return NULL;
	n = (size_t)EVP_EncodeBlock(out, data, (int)len);
	while (n > 0 && out[n - 1] == '=')
		n--;
	for (size_t i = 0; i < n; i++) {
		if (out[i] == '+')
			out[i] = '-';
		else if (out[i] == '/')
			out[i] = '_';
	}
	*out_len = n;
	return (char *)out;
}

/* snprintf may have cut a character in two: take the rest of it away. */
static size_t cut_at_character(const char *s, size_t len)
{
	size_t end = len;

	while (end > 0 && len - end < 4 && ((unsigned char)s[end - 1] & 0xc0) == 0x80)
		end--;
	if (end > 0 && (unsigned char)s[end - 1] >= 0xc0)
		end--;
	return text_is_valid(s, len) ? len : end;
}

int text_reason(char *reason, size_t reason_len, int error, const char *fmt, ...)
{
	bool utf8;
	size_t len;
	va_list ap;
	int n;

	if (reason_len == 0)
		return error;
	va_start(ap, fmt);
	n = vsnprintf(reason, reason_len, fmt, ap);
	va_end(ap);
	if (n < 0) {
		reason[0] = '\0';
		return error;
	}
	len = strlen(reason);
	if ((size_t)n >= reason_len)
		len = cut_at_character(reason, len);
	reason[len] = '\0';
	utf8 = text_is_valid(reason, len);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)reason[i];

		if (c < 0x20 || c == 0x7f || (c > 0x7f && !utf8))
			reason[i] = '?';
	}
	return error;
}
