/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CBOR and JSON are read as the same items: JSON's `{` is a map of indefinite length, its `}` the
 * break. So there is one place that knows what a command is.
 */
#include "device-fw/core/command.h"

#include <errno.h>
#include <string.h>

#include "device-fw/core/cbor.h"

/* RFC 8949 section 3.1, major type 5; section 3.3. */
enum { CBOR_MAP_FIRST = 0xa0, CBOR_MAP_LAST = 0xbf };
enum { CBOR_FALSE = 20, CBOR_TRUE = 21, CBOR_NULL = 22 };

/* The map of the command, and as deep below it as CBOR's reader goes. */
#define JSON_DEPTH_MAX (1 + FG_CBOR_MAX_DEPTH)

struct source {
	struct fg_cbor_reader in;
	bool json;
	/* JSON's: what is open, one bit for each level, the innermost is the last: is it a map?
	 * What came last in it: nothing yet, a map's key, or a value. */
	uint8_t depth;
	enum { OPENED, KEY, VALUE } last;
	uint32_t maps;
};

/* The next character that is no white space, or NUL at the end; neither is NUL in any JSON. */
static char peek(struct source *s)
{
	for (; s->in.at < s->in.end; s->in.at++) {
		char c = (char)*s->in.at;

		if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
			return c;
	}
	return '\0';
}

/* Escapes are passed over and not looked at: none of the names that we know needs one. */
static int json_string(struct source *s, struct fg_cbor_item *item)
{
	bool escaped = false;

	item->type = FG_CBOR_TEXT;
	item->data = ++s->in.at;
	for (; s->in.at < s->in.end && *s->in.at >= ' '; s->in.at++) {
		if (*s->in.at == '"' && !escaped) {
			item->value = (uint64_t)(s->in.at++ - item->data);
			return 0;
		}
		escaped = *s->in.at == '\\' && !escaped;
	}
	return -EBADMSG;
}

static bool take(struct source *s, char a, char b)
{
	bool there = s->in.at < s->in.end && (*s->in.at == a || *s->in.at == b);

	s->in.at += there;
	return there;
}

/* The value of a row of digits; what is too large for an int32_t stays too large. False: there is
 * none. */
static bool json_digits(struct source *s, uint64_t *value)
{
	const uint8_t *first = s->in.at;

	for (*value = 0; s->in.at < s->in.end && *s->in.at >= '0' && *s->in.at <= '9'; s->in.at++)
		if (*value <= INT32_MAX)
			*value = *value * 10 + (*s->in.at - (unsigned)'0');
	return s->in.at > first;
}

static int json_number(struct source *s, struct fg_cbor_item *item)
{
	bool negative = take(s, '-', '-'), good;
	const uint8_t *first = s->in.at;
	uint64_t ignored;

	good = json_digits(s, &item->value) && (*first != '0' || s->in.at == first + 1);
	item->type = FG_CBOR_UINT;
	if (negative && item->value > 0) {
		item->type = FG_CBOR_NEGINT;
		item->value--;
	}
	if (take(s, '.', '.')) {
		item->type = FG_CBOR_FLOAT;
		good = good && json_digits(s, &ignored);
	}
	if (take(s, 'e', 'E')) {
		item->type = FG_CBOR_FLOAT;
		take(s, '+', '-');
		good = good && json_digits(s, &ignored);
	}
	return good ? 0 : -EBADMSG;
}

static int json_scalar(struct source *s, struct fg_cbor_item *item)
{
	static const struct {
		char text[6];
		uint8_t length, value;
	} words[] = {{"false", 5, CBOR_FALSE}, {"true", 4, CBOR_TRUE}, {"null", 4, CBOR_NULL}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if ((size_t)(s->in.end - s->in.at) >= words[i].length &&
		    memcmp(s->in.at, words[i].text, words[i].length) == 0) {
			s->in.at += words[i].length;
			item->type = FG_CBOR_SIMPLE;
			item->value = words[i].value;
			return 0;
		}
	}
	return json_number(s, item);
}

static int json_open(struct source *s, struct fg_cbor_item *item, bool map)
{
	if (s->depth == JSON_DEPTH_MAX)
		return -EBADMSG;
	s->in.at++;
	s->depth++;
	s->maps = s->maps << 1 | map;
	s->last = OPENED;
	item->type = map ? FG_CBOR_MAP : FG_CBOR_ARRAY;
	item->value = FG_CBOR_INDEFINITE;
	return 0;
}

static int json_close(struct source *s, struct fg_cbor_item *item)
{
	s->in.at++;
	s->depth--;
	s->maps >>= 1;
	s->last = VALUE;
	item->type = FG_CBOR_BREAK;
	return 0;
}

static int json_next(struct source *s, struct fg_cbor_item *item)
{
	bool map = s->maps & 1, key = map && s->last != KEY;
	char c = peek(s);

	if (s->depth > 0 && s->last != KEY && c == (map ? '}' : ']'))
		return json_close(s, item);
	if (s->last != OPENED) {
		if (c != (s->last == KEY ? ':' : ','))
			return -EBADMSG;
		s->in.at++;
		c = peek(s);
	}
	s->last = key ? KEY : VALUE;
	if (c == '"')
		return json_string(s, item);
	if (key)
		return -EBADMSG;
	if (c == '{' || c == '[')
		return json_open(s, item, c == '{');
	return json_scalar(s, item);
}

static int next(struct source *s, struct fg_cbor_item *item)
{
	return s->json ? json_next(s, item) : fg_cbor_next(&s->in, item);
}

static int skip(struct source *s)
{
	uint8_t depth = s->depth;
	struct fg_cbor_item item;

	if (!s->json)
		return fg_cbor_skip(&s->in);
	do {
		if (json_next(s, &item))
			return -EBADMSG;
	} while (s->depth > depth);
	return 0;
}

/* FG_COMMAND_..., or 0 if we know no such name. */
static unsigned member_of(const struct fg_cbor_item *key)
{
	static const char names[][9] = {"interval", "read", "reboot", "id"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (fg_cbor_is_text(key, names[i]))
			return 1U << i;
	return 0;
}

static int set_member(struct fg_command *c, unsigned member, const struct fg_cbor_item *value)
{
	if (member == FG_COMMAND_ID) {
		if (fg_cbor_as_int(value, &c->id))
			return -EBADMSG;
	} else if (member == FG_COMMAND_INTERVAL) {
		if (fg_cbor_as_int(value, &c->interval_s) || c->interval_s < FG_INTERVAL_MIN_S ||
		    c->interval_s > FG_INTERVAL_MAX_S)
			return -EBADMSG;
	} else {
		if (value->type != FG_CBOR_SIMPLE || (value->value | 1) != CBOR_TRUE)
			return -EBADMSG;
		if (value->value == CBOR_FALSE)
			return 0;
	}
	c->present |= member;
	return 0;
}

static int read_map(struct source *s, struct fg_command *c)
{
	struct fg_cbor_item map, item;
	unsigned seen = 0;

	if (next(s, &map) || map.type != FG_CBOR_MAP)
		return -EBADMSG;
	for (uint64_t left = map.value; left > 0; left--) {
		struct fg_cbor_reader at = s->in;
		unsigned member;

		if (next(s, &item))
			return -EBADMSG;
		if (item.type == FG_CBOR_BREAK)
			return map.value == FG_CBOR_INDEFINITE ? 0 : -EBADMSG;
		if (item.type != FG_CBOR_TEXT) {
			s->in = at;
			if (skip(s))
				return -EBADMSG;
		}
		member = member_of(&item);
		if (member & seen)
			return -EBADMSG;
		seen |= member;
		if (member ? next(s, &item) || set_member(c, member, &item) : skip(s))
			return -EBADMSG;
	}
	return 0;
}

int fg_command_decode(struct fg_command *out, const void *payload, size_t length)
{
	struct source s = {.last = OPENED};

	memset(out, 0, sizeof(*out));
	fg_cbor_read(&s.in, payload, length);
	s.json = length > 0 && (*s.in.at < CBOR_MAP_FIRST || *s.in.at > CBOR_MAP_LAST);
	if (read_map(&s, out) || (s.json ? peek(&s) != '\0' : false) || s.in.at < s.in.end) {
		out->present = 0;
		return -EBADMSG;
	}
	return 0;
}
