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
enum { CBOR_FALSE = 20, CBOR_TRUE = 21 };

static void skip_space(struct fg_cbor_reader *in)
{
	while (in->at < in->end &&
	       (*in->at == ' ' || *in->at == '\t' || *in->at == '\r' || *in->at == '\n'))
		in->at++;
}

/* Passes over the word if it comes next. */
static bool accept(struct fg_cbor_reader *in, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0)
		return false;
	in->at += length;
	return true;
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
			item->value = (uint64_t)(in->at++ - item->data);
			return 0;
		}
		escaped = *in->at == '\\' && !escaped;
	}
	return -EBADMSG;
}

/* How many digits come, and their value; what is too large for an int32_t stays too large. */
static size_t json_digits(struct fg_cbor_reader *in, uint32_t *value)
{
	const uint8_t *first = in->at;

	for (*value = 0; in->at < in->end; in->at++) {
		uint32_t digit = (uint32_t)*in->at - '0';

		if (digit > 9)
			break;
		*value = *value < UINT32_MAX / 16 ? *value * 10 + digit : UINT32_MAX;
	}
	return (size_t)(in->at - first);
}

/* What is no integer becomes a float without a value. */
static int json_number(struct fg_cbor_reader *in, struct fg_cbor_item *item)
{
	bool negative = accept(in, "-"), good;
	bool zero = accept(in, "0");
	uint32_t value, ignored;
	size_t digits = json_digits(in, &value);

	good = zero ? digits == 0 : digits > 0;
	item->type = FG_CBOR_UINT;
	if (negative && value > 0) {
		item->type = FG_CBOR_NEGINT;
		value--;
	}
	item->value = value;
	if (accept(in, ".")) {
		item->type = FG_CBOR_FLOAT;
		good = good && json_digits(in, &ignored) > 0;
	}
	if (accept(in, "e") || accept(in, "E")) {
		item->type = FG_CBOR_FLOAT;
		if (!accept(in, "+"))
			accept(in, "-");
		good = good && json_digits(in, &ignored) > 0;
	}
	return good ? 0 : -EBADMSG;
}

static int json_value(struct fg_cbor_reader *in, struct fg_cbor_item *item)
{
	static const char words[][6] = {"false", "true", "null"};

	item->value = FG_CBOR_INDEFINITE;
	item->type = FG_CBOR_MAP;
	if (accept(in, "{"))
		return 0;
	item->type = FG_CBOR_ARRAY;
	if (accept(in, "["))
		return 0;
	item->type = FG_CBOR_SIMPLE;
	for (item->value = CBOR_FALSE; item->value < CBOR_FALSE + 3; item->value++)
		if (accept(in, words[item->value - CBOR_FALSE]))
			return 0;
	return json_number(in, item);
}

/* JSON's { and [ are a map and an array of indefinite length, } and ] the break. */
static int json_next(struct fg_cbor_walk *walk, struct fg_cbor_item *item)
{
	size_t left = walk->depth > 0 ? walk->left[walk->depth - 1] : 0;
	struct fg_cbor_reader *in = &walk->in;

	skip_space(in);
	if (left == FG_CBOR_ANY_VALUE) {
		if (!accept(in, ":"))
			return -EBADMSG;
	} else if (left != 0) {
		item->type = FG_CBOR_BREAK;
		if (accept(in, left == FG_CBOR_ANY_KEY ? "}" : "]"))
			return 0;
		if (!walk->opened && !accept(in, ","))
			return -EBADMSG;
	}
	skip_space(in);
	if (accept(in, "\""))
		return json_string(in, item);
	return left == FG_CBOR_ANY_KEY ? -EBADMSG : json_value(in, item);
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

/* What is in the last item, if it is an array or a map in the command's map, or a tag. */
static int pass(struct fg_cbor_walk *walk)
{
	struct fg_cbor_item item;
	int rc = 0;

	while (rc == 0 && (walk->depth > 1 || walk->tagged))
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
	int rc;

	memset(out, 0, sizeof(*out));
	fg_cbor_read(&walk.in, payload, length);
	if (length > 0 && (*first < CBOR_MAP_FIRST || *first > CBOR_MAP_LAST))
		walk.next = json_next;
	rc = read_map(&walk, out);
	if (walk.next == json_next)
		skip_space(&walk.in);
	if (rc || walk.in.at < walk.in.end) {
		out->present = 0;
		return -EBADMSG;
	}
	return 0;
}
