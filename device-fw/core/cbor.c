/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/core/cbor.h"

#include <errno.h>
#include <string.h>

/* RFC 8949 section 3: three bits of major type, five of additional information. */
#define MAJOR(initial) ((initial) >> 5)
#define INFO(initial)  ((initial)&0x1f)
/* Bytes of the number that follows, for INFO_1_BYTE to INFO_8_BYTES. */
#define WIDTH(initial) (1U << (INFO(initial) - INFO_1_BYTE))

enum {
	UINT = 0x00,
	NEGINT = 0x20,
	BYTES = 0x40,
	TEXT = 0x60,
	ARRAY = 0x80,
	MAP = 0xa0,
	FALSE = 0xf4,
	NIL = 0xf6,
	HALF = 0xf9,
	SINGLE = 0xfa,
	DOUBLE = 0xfb
};

/* IEEE 754: what is added to exponents. */
enum { HALF_BIAS = 15, SINGLE_BIAS = 127, DOUBLE_BIAS = 1023 };

/* 64 of the mantissa, and 30 + 64 places for 10^-9; the loop ends there for more decimals than may
 * be, too. */
#define QUOTIENT_STEPS 158

enum { INFO_1_BYTE = 24, INFO_8_BYTES = 27, INFO_INDEFINITE = 31 };

void fg_cbor_begin(struct fg_cbor_writer *w, void *buffer, size_t size)
{
	*w = (struct fg_cbor_writer){.buffer = buffer, .size = size};
}

/* A head, as long as its first byte says, and what belongs to it: whole or not at all. */
static void put(struct fg_cbor_writer *w, unsigned initial, uint64_t value, const void *content,
		size_t length)
{
	uint8_t *at = w->buffer + w->length;
	size_t room = w->size - w->length;
	size_t width = INFO(initial) < INFO_1_BYTE ? 0 : WIDTH(initial);

	if (room <= width || room - width - 1 < length)
		w->full = true;
	if (w->full)
		return;
	w->length += 1 + width + length;
	*at = (uint8_t)initial;
	for (size_t i = width; i > 0; i--) {
		at[i] = (uint8_t)value;
		value >>= 8;
	}
	if (length > 0)
		memcpy(at + 1 + width, content, length);
}

static void put_item(struct fg_cbor_writer *w, unsigned major, uint64_t value, const void *content,
		     size_t length)
{
	unsigned info = INFO_1_BYTE;

	if (value >> 32)
		info = INFO_8_BYTES;
	else if ((uint32_t)value >> 16)
		info = INFO_8_BYTES - 1;
	else if ((uint32_t)value >> 8)
		info = INFO_8_BYTES - 2;
	else if (value < INFO_1_BYTE)
		info = (unsigned)value;
	put(w, major | info, value, content, length);
}

void fg_cbor_uint(struct fg_cbor_writer *w, uint64_t value)
{
	put_item(w, UINT, value, NULL, 0);
}

void fg_cbor_int(struct fg_cbor_writer *w, int64_t value)
{
	if (value < 0)
		put_item(w, NEGINT, ~(uint64_t)value, NULL, 0);
	else
		fg_cbor_uint(w, (uint64_t)value);
}

void fg_cbor_bytes(struct fg_cbor_writer *w, const void *bytes, size_t length)
{
	put_item(w, BYTES, length, bytes, length);
}

void fg_cbor_text(struct fg_cbor_writer *w, const char *text, size_t length)
{
	put_item(w, TEXT, length, text, length);
}

void fg_cbor_string(struct fg_cbor_writer *w, const char *text)
{
	fg_cbor_text(w, text, strlen(text));
}

void fg_cbor_array(struct fg_cbor_writer *w, size_t items)
{
	put_item(w, ARRAY, items, NULL, 0);
}

void fg_cbor_map(struct fg_cbor_writer *w, size_t pairs)
{
	put_item(w, MAP, pairs, NULL, 0);
}

void fg_cbor_bool(struct fg_cbor_writer *w, bool value)
{
	put_item(w, FALSE + value, 0, NULL, 0);
}

void fg_cbor_null(struct fg_cbor_writer *w)
{
	put_item(w, NIL, 0, NULL, 0);
}

void fg_cbor_raw(struct fg_cbor_writer *w, const void *bytes, size_t length)
{
	if (length > w->size - w->length)
		w->full = true;
	if (w->full || length == 0)
		return;
	memcpy(w->buffer + w->length, bytes, length);
	w->length += length;
}

/*
 * A float is made by long division, bit by bit: small, exact, without tables. After the mantissa's
 * 64 bits the quotient is the integer part; each bit more is a binary place, until the first bit
 * that is set has come to the top: `bits` is 1.xxx, and counts 2^(63 - places).
 *
 * A width is taken when it holds the value exactly, single precision also when its significand is
 * `single_min` or more (fg_cbor_decimal). In neither case, nor as a double, is the value just
 * between two numbers of the width: there its significand would be one bit longer than the width's,
 * and the decimal mantissa longer than that. So the first bit that is left out decides the
 * rounding.
 */
static void put_decimal(struct fg_cbor_writer *w, bool negative, uint64_t mantissa,
			unsigned decimals, uint32_t single_min)
{
	uint64_t bits = 0;
	uint32_t divisor = 1, rest = 0, high;
	unsigned n, exponent, initial, sign = negative;
	bool exact;

	for (; decimals > 0; decimals--)
		divisor *= 10;
	for (n = 0; n < 64 || (!(bits >> 63) && n < QUOTIENT_STEPS); n++) {
		if (n == 64 && rest == 0) {
			fg_cbor_int(w, negative ? -(int64_t)bits : (int64_t)bits);
			return;
		}
		rest = rest << 1 | (uint32_t)(mantissa >> 63);
		mantissa <<= 1;
		bits <<= 1;
		if (rest >= divisor) {
			rest -= divisor;
			bits |= 1;
		}
	}
	high = (uint32_t)(bits >> 32);
	exact = (uint32_t)bits == 0 && rest == 0;
	/* One less, because the significand's first bit, which is not stored, adds 1 to it. */
	exponent = 63 + 64 - 1 - n;
	if (exact && high << 11 == 0) {
		initial = HALF;
		bits = ((exponent + HALF_BIAS + (sign << 5)) << 10) + (high >> 21);
	} else if ((exact && high << 24 == 0) || high >> 8 >= single_min) {
		initial = SINGLE;
		bits = ((exponent + SINGLE_BIAS + (sign << 8)) << 23) + (high >> 8) +
		       (high >> 7 & 1);
	} else {
		initial = DOUBLE;
		bits = ((uint64_t)(exponent + DOUBLE_BIAS + (sign << 11)) << 52) + (bits >> 11) +
		       (bits >> 10 & 1);
	}
	put(w, initial, bits, NULL, 0);
}

/*
 * Near a value with this mantissa, single precision's numbers are closer to each other than
 * decimals of so many places are if and only if its own significand is greater: both count the
 * value, in steps of their own. Then no two such decimals are the same number.
 */
void fg_cbor_decimal(struct fg_cbor_writer *w, int32_t mantissa, uint8_t decimals)
{
	uint32_t digits = mantissa < 0 ? 0U - (uint32_t)mantissa : (uint32_t)mantissa;

	for (; decimals > 0 && digits % 10 == 0; decimals--)
		digits /= 10;
	put_decimal(w, mantissa < 0, digits, decimals, digits);
}

void fg_cbor_decimal_exact(struct fg_cbor_writer *w, int64_t mantissa, uint8_t decimals)
{
	uint64_t digits = mantissa < 0 ? 0U - (uint64_t)mantissa : (uint64_t)mantissa;

	put_decimal(w, mantissa < 0, digits, decimals, UINT32_MAX);
}

void fg_cbor_read(struct fg_cbor_reader *r, const void *bytes, size_t length)
{
	r->at = bytes;
	r->end = r->at + length;
}

/* Which major types may have INFO_INDEFINITE. Strings are not taken. */
#define INDEFINITE_TYPES (1U << FG_CBOR_ARRAY | 1U << FG_CBOR_MAP | 1U << FG_CBOR_SIMPLE)

/* The head at `at`; behind it, or NULL if it is not all there, or reserved. */
static const uint8_t *read_head(const uint8_t *at, const uint8_t *end, struct fg_cbor_item *item)
{
	unsigned info, width = 0;
	uint64_t value;

	if (at == end)
		return NULL;
	info = INFO(*at);
	item->type = (enum fg_cbor_type)MAJOR(*at);
	at++;
	value = info;
	if (info >= INFO_1_BYTE) {
		value = FG_CBOR_INDEFINITE;
		if (info == INFO_INDEFINITE) {
			if (!(INDEFINITE_TYPES >> item->type & 1))
				return NULL;
		} else {
			width = WIDTH(info);
			if (info > INFO_8_BYTES || (size_t)(end - at) < width)
				return NULL;
			value = 0;
			for (unsigned i = 0; i < width; i++)
				value = value << 8 | *at++;
		}
	}
	item->value = value;
	item->width = (uint8_t)width;
	item->data = at;
	return at;
}

int fg_cbor_next(struct fg_cbor_reader *r, struct fg_cbor_item *item)
{
	const uint8_t *at = read_head(r->at, r->end, item);
	bool indefinite;

	if (!at)
		return -EBADMSG;
	indefinite = INFO(*r->at) == INFO_INDEFINITE;
	if (item->type == FG_CBOR_SIMPLE) {
		/* Simple values below 32 have one form only (RFC 8949 section 3.3). */
		if (item->width == 1 && item->value < 32)
			return -EBADMSG;
		if (indefinite)
			item->type = FG_CBOR_BREAK;
		else if (item->width > 1)
			item->type = FG_CBOR_FLOAT;
	} else if (item->type >= FG_CBOR_BYTES && item->type <= FG_CBOR_MAP && !indefinite) {
		/* Each item has a byte at least; a map's pair has two. */
		if (item->value > (size_t)(r->end - at) >> (item->type == FG_CBOR_MAP))
			return -EBADMSG;
		if (item->type <= FG_CBOR_TEXT)
			at += item->value;
	}
	r->at = at;
	return 0;
}

int fg_cbor_walk_next(struct fg_cbor_walk *walk, struct fg_cbor_item *item)
{
	return fg_cbor_next(&walk->in, item);
}

/* An item is complete, and perhaps what it was the last item of. */
static void count_item(struct fg_cbor_walk *walk)
{
	for (; walk->depth > 0; walk->depth--) {
		size_t *left = &walk->left[walk->depth - 1];

		if (*left >= FG_CBOR_ANY_KEY) {
			if (*left != FG_CBOR_ANY_ITEM)
				*left ^= FG_CBOR_ANY_KEY ^ FG_CBOR_ANY_VALUE;
			break;
		}
		if (--*left > 0)
			break;
	}
}

/* How many items an array, a map or a tag has in it. */
static size_t count_of(const struct fg_cbor_item *item)
{
	bool is_map = item->type == FG_CBOR_MAP;

	if (item->type == FG_CBOR_TAG)
		return 1;
	if (item->value == FG_CBOR_INDEFINITE)
		return is_map ? FG_CBOR_ANY_KEY : FG_CBOR_ANY_ITEM;
	return (size_t)item->value << is_map;
}

int fg_cbor_step(struct fg_cbor_walk *walk, struct fg_cbor_item *item)
{
	size_t *left = &walk->left[walk->depth];

	if (walk->next(walk, item))
		return -EBADMSG;
	walk->opened = item->type >= FG_CBOR_ARRAY && item->type <= FG_CBOR_TAG;
	if (walk->opened) {
		if (walk->depth == FG_CBOR_MAX_DEPTH)
			return -EBADMSG;
		*left = count_of(item);
		if (*left > 0) {
			walk->depth++;
			return 0;
		}
	} else if (item->type == FG_CBOR_BREAK) {
		if (walk->depth == 0 || left[-1] < FG_CBOR_ANY_KEY || left[-1] == FG_CBOR_ANY_VALUE)
			return -EBADMSG;
		walk->depth--;
	}
	count_item(walk);
	return 0;
}

bool fg_cbor_is_text(const struct fg_cbor_item *item, const char *text)
{
	return item->type == FG_CBOR_TEXT && item->value == strlen(text) &&
	       memcmp(item->data, text, (size_t)item->value) == 0;
}

int fg_cbor_as_int(const struct fg_cbor_item *item, int32_t *out)
{
	int32_t value;

	if (item->type > FG_CBOR_NEGINT || item->value > INT32_MAX)
		return -ERANGE;
	value = (int32_t)item->value;
	*out = item->type == FG_CBOR_NEGINT ? -1 - value : value;
	return 0;
}
