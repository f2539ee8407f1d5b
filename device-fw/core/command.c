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

/* Passes over the character if it comes next. */
static bool take(struct fg_cbor_reader *in, char c)
{
	if (in->at == in->end || *in->at != (uint8_t)c)
		return false;
	in->at++;
	return true;
}

/* Passes over white space and the character behind it. NUL at the end, or if it is NUL, which JSON
 * has nowhere; then it is not passed over. */
static char next_character(struct fg_cbor_reader *in)
{
	char c;

	do {
		c = in->at < in->end ? (char)*in->at : '\0';
		in->at += c != '\0';
	} while (c == ' ' || c == '\t' || c == '\r' || c == '\n');
	return c;
}

/* Behind the quote. Escapes are passed over and not looked at: none of the names that we know needs
 * one. */
static int json_string(struct fg_cbor_reader *in, struct fg_cbor_item *item)
{
	bool escaped = false;

	item->type = FG_CBOR_TEXT;
	item->data = in->at;
	for (; in->at < in->end && *in->at >= ' '; in->at++) {
		if (*in->at == '"' && !escaped) {
			item->value = (size_t)(in->at++ - item->data);
			return 0;
		}
		escaped = *in->at == '\\' && !escaped;
	}
	return -EBADMSG;
}

/* How many digits come. Their value is the item's; too large for an int32_t stays too large. */
static size_t json_digits(struct fg_cbor_reader *in, struct fg_cbor_item *item)
{
	const uint8_t *first = in->at;
	uint32_t value = 0;

	for (; in->at < in->end; in->at++) {
		uint32_t digit = (uint32_t)*in->at - '0';

		if (digit > 9)
			break;
		value = value < UINT32_MAX / 16 ? value * 10 + digit : UINT32_MAX;
	}
	item->value = value;
	return (size_t)(in->at - first);
}

/* What is no integer becomes a float without a value. */
static int json_number(struct fg_cbor_reader *in, struct fg_cbor_item *item)
{
	bool negative = take(in, '-'), zero = take(in, '0');
	bool good = (json_digits(in, item) == 0) == zero;

	item->type = FG_CBOR_UINT;
	if (negative && item->value > 0) {
		item->type = FG_CBOR_NEGINT;
		item->value--;
	}
	if (take(in, '.')) {
		good &= json_digits(in, item) > 0;
		item->type = FG_CBOR_FLOAT;
	}
	if (take(in, 'e') || take(in, 'E')) {
		if (!take(in, '+'))
			take(in, '-');
		good &= json_digits(in, item) > 0;
		item->type = FG_CBOR_FLOAT;
	}
	return good ? 0 : -EBADMSG;
}

/* The rest of false, true or null. */
static int json_word(struct fg_cbor_reader *in, const char *rest)
{
	while (*rest != '\0')
		if (!take(in, *rest++))
			return -EBADMSG;
	return 0;
}

/* c is the first character, and passed already. */
static int json_value(struct fg_cbor_reader *in, char c, struct fg_cbor_item *item)
{
	item->type = FG_CBOR_SIMPLE;
	switch (c) {
	case '{':
	case '[':
		item->type = c == '{' ? FG_CBOR_MAP : FG_CBOR_ARRAY;
		item->value = FG_CBOR_INDEFINITE;
		return 0;
	case 'f':
		item->value = CBOR_FALSE;
		return json_word(in, "alse");
	case 't':
		item->value = CBOR_TRUE;
		return json_word(in, "rue");
	case 'n':
		item->value = CBOR_NULL;
		return json_word(in, "ull");
	case '\0':
		return -EBADMSG;
	default:
		in->at--;
		return json_number(in, item);
	}
}

/* JSON's { and [ are a map and an array of indefinite length, } and ] the break. */
static int json_next(struct fg_cbor_walk *walk, struct fg_cbor_item *item)
{
	size_t left = walk->depth > 0 ? walk->left[walk->depth - 1] : 0;
	struct fg_cbor_reader *in = &walk->in;
	char c = next_character(in), separator = ',';

	item->type = FG_CBOR_BREAK;
	if (left == FG_CBOR_ANY_VALUE)
		separator = ':';
	else if ((left == FG_CBOR_ANY_KEY && c == '}') || (left == FG_CBOR_ANY_ITEM && c == ']'))
		return 0;
	if (!walk->opened && left != 0) {
		if (c != separator)
			return -EBADMSG;
		c = next_character(in);
	}
	if (c == '"')
		return json_string(in, item);
	return left == FG_CBOR_ANY_KEY ? -EBADMSG : json_value(in, c, item);
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

/* False: it is not of the member's type, or out of range. */
static bool set_member(struct fg_command *c, unsigned member, const struct fg_cbor_item *value)
{
	int32_t number;

	if (member & (FG_COMMAND_READ | FG_COMMAND_REBOOT)) {
		if (value->type == FG_CBOR_SIMPLE && value->value == CBOR_FALSE)
			return true;
		if (value->type != FG_CBOR_SIMPLE || value->value != CBOR_TRUE)
			return false;
	} else if (fg_cbor_as_int(value, &number)) {
		return false;
	} else if (member == FG_COMMAND_ID) {
		c->id = number;
	} else {
		c->interval_s = number;
		if (number < FG_INTERVAL_MIN_S || number > FG_INTERVAL_MAX_S)
			return false;
	}
	c->present |= member;
	return true;
}

/* Passes over what is in the last item, if something is. */
static int pass(struct fg_cbor_walk *walk)
{
	struct fg_cbor_item item;
	int rc = 0;

	while (rc == 0 && walk->depth > 1)
		rc = fg_cbor_step(walk, &item);
	return rc;
}

static int read_map(struct fg_cbor_walk *walk, struct fg_command *c)
{
	struct fg_cbor_item item;
	unsigned seen = 0, member;

	if (fg_cbor_step(walk, &item) || item.type != FG_CBOR_MAP)
		return -EBADMSG;
	while (walk->depth > 0) {
		if (fg_cbor_step(walk, &item))
			return -EBADMSG;
		if (item.type == FG_CBOR_BREAK)
			break;
		member = member_of(&item);
		if (member & seen || pass(walk) || fg_cbor_step(walk, &item) ||
		    (member != 0 && !set_member(c, member, &item)) || pass(walk))
			return -EBADMSG;
		seen |= member;
	}
	return 0;
}

int fg_command_decode(struct fg_command *out, const void *payload, size_t length)
{
	struct fg_cbor_walk walk = {.next = fg_cbor_walk_next};
	const uint8_t *first = payload;

	memset(out, 0, sizeof(*out));
	fg_cbor_read(&walk.in, payload, length);
	if (length > 0 && (*first < CBOR_MAP_FIRST || *first > CBOR_MAP_LAST))
		walk.next = json_next;
	if (read_map(&walk, out) || (walk.next == json_next && next_character(&walk.in) != '\0') ||
	    walk.in.at < walk.in.end) {
		out->present = 0;
		return -EBADMSG;
	}
	return 0;
}
