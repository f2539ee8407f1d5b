/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/pgtext.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/clock.h"

#define REPLACEMENT_CHARACTER "\xef\xbf\xbd"

static bool json_plain(unsigned char c)
{
	return c >= 0x20 && c != '"' && c != '\\';
}

void pgtext_put_json_string(struct bytes *b, const char *s, size_t len)
{
	size_t from = 0;

	bytes_put_byte(b, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (json_plain(c))
			continue;
		bytes_put(b, s + from, i - from);
		from = i + 1;
		if (c == '"' || c == '\\')
			bytes_put(b, (char[]){'\\', (char)c}, 2);
		else
			bytes_printf(b, "\\u%04x", c);
	}
	bytes_put(b, s + from, len - from);
	bytes_put_byte(b, '"');
}

/* Finite, by the decoder's contract. The host program's locale may print a decimal comma. */
static void put_json_number(struct bytes *b, double v)
{
	char text[32];

	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (digits == 17 || strtod(text, NULL) == v)
			break;
	}
	for (char *p = text; *p; p++)
		if (*p == ',')
			*p = '.';
	bytes_put_string(b, text);
}

void pgtext_put_json_value(struct bytes *b, const struct reading *r)
{
	switch (r->type) {
	case READING_NULL:
		bytes_put_string(b, "null");
		return;
	case READING_BOOL:
		bytes_put_string(b, r->u.boolean ? "true" : "false");
		return;
	case READING_INTEGER:
		bytes_printf(b, "%" PRId64, r->u.integer);
		return;
	case READING_NUMBER:
		put_json_number(b, r->u.number);
		return;
	case READING_TEXT:
		pgtext_put_json_string(b, r->u.text.data, r->u.text.len);
		return;
	case READING_JSON:
		bytes_put(b, r->u.text.data, r->u.text.len);
		return;
	}
}

void pgtext_put_json_member(struct bytes *b, const struct reading *r)
{
	pgtext_put_json_string(b, r->name, r->name_len);
	bytes_put_byte(b, ':');
	pgtext_put_json_value(b, r);
}

/*
 * Bytes of the character at p, or 0 when it is not one: RFC 3629 section 4, as PostgreSQL's
 * pg_utf8_islegal. NUL is none here.
 */
static size_t utf8_character(const unsigned char *p, size_t len)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n;

	if (p[0] == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > len)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

void pgtext_put_utf8(struct bytes *b, const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t from = 0, i = 0;

	while (i < len) {
		size_t n = utf8_character(p + i, len - i);

		if (n > 0) {
			i += n;
			continue;
		}
		bytes_put(b, p + from, i - from);
		bytes_put_string(b, REPLACEMENT_CHARACTER);
		from = ++i;
	}
	bytes_put(b, p + from, len - from);
}

size_t pgtext_length(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

bool pgtext_put_rfc3339(struct bytes *b, int64_t us)
{
	int64_t seconds = us / US_PER_S, fraction = us % US_PER_S;
	struct tm tm;
	time_t t;

	if (fraction < 0) {
		fraction += US_PER_S;
		seconds--;
	}
	t = (time_t)seconds;
	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
		return false;
	bytes_printf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%06" PRId64 "Z", tm.tm_year + 1900,
		     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, fraction);
	return true;
}
