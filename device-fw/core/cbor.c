/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/core/cbor.h"

#include <errno.h>
#include <string.h>

/* RFC 8949 section 3: three bits of major type, five of additional information. */
#define MAJOR(initial) ((initial) >> 5)
#define INFO(initial)  ((initial)&0x1f)

enum {
	UINT = 0x00,
	NEGINT = 0x20,
	BYTES = 0x40,
	TEXT = 0x60,
	ARRAY = 0x80,
	MAP = 0xa0,
	FALSE = 0xf4,
	NIL = 0xf6,
	HALF = 0xf9
};

enum { INFO_1_BYTE = 24, INFO_8_BYTES = 27, INFO_INDEFINITE = 31 };

void fg_cbor_begin(struct fg_cbor_writer *w, void *buffer, size_t size)
{
	*w = (struct fg_cbor_writer){.buffer = buffer, .size = size};
}

/* An item is written whole or not at all. */
static bool has_room(struct fg_cbor_writer *w, size_t head, size_t content)
{
	size_t room = w->size - w->length;

	if (head > room || content > room - head)
		w->full = true;
	return !w->full;
}

static void put_number(struct fg_cbor_writer *w, unsigned initial, uint64_t value, size_t width)
{
	uint8_t *at = w->buffer + w->length;

	at[0] = (uint8_t)initial;
	for (size_t i = width; i > 0; i--) {
		at[i] = (uint8_t)value;
		value >>= 8;
	}
	w->length += 1 + width;
}

static void put_content(struct fg_cbor_writer *w, const void *bytes, size_t length)
{
	if (length > 0)
		memcpy(w->buffer + w->length, bytes, length);
	w->length += length;
}

static void put(struct fg_cbor_writer *w, unsigned major, uint64_t value, const void *content,
		size_t length)
{
	unsigned info = INFO_1_BYTE;
	size_t width = 1;

	if (value < INFO_1_BYTE) {
		info = (unsigned)value;
		width = 0;
	} else {
		while (width < 8 && value >> (8 * width) != 0) {
			width *= 2;
			info++;
		}
	}
	if (!has_room(w, 1 + width, length))
		return;
	put_number(w, major | info, value, width);
	put_content(w, content, length);
}

void fg_cbor_uint(struct fg_cbor_writer *w, uint64_t value)
{
	put(w, UINT, value, NULL, 0);
}

void fg_cbor_int(struct fg_cbor_writer *w, int64_t value)
{
	if (value < 0)
		put(w, NEGINT, ~(uint64_t)value, NULL, 0);
	else
		fg_cbor_uint(w, (uint64_t)value);
}

void fg_cbor_bytes(struct fg_cbor_writer *w, const void *bytes, size_t length)
{
	put(w, BYTES, length, bytes, length);
}

void fg_cbor_text(struct fg_cbor_writer *w, const char *text, size_t length)
{
	put(w, TEXT, length, text, length);
}

void fg_cbor_string(struct fg_cbor_writer *w, const char *text)
{
	fg_cbor_text(w, text, strlen(text));
}

void fg_cbor_array(struct fg_cbor_writer *w, size_t items)
{
	put(w, ARRAY, items, NULL, 0);
}

void fg_cbor_map(struct fg_cbor_writer *w, size_t pairs)
{
	put(w, MAP, pairs, NULL, 0);
}

void fg_cbor_bool(struct fg_cbor_writer *w, bool value)
{
	put(w, FALSE + value, 0, NULL, 0);
}

void fg_cbor_null(struct fg_cbor_writer *w)
{
	put(w, NIL, 0, NULL, 0);
}

void fg_cbor_raw(struct fg_cbor_writer *w, const void *bytes, size_t length)
{
	if (has_room(w, 0, length))
		put_content(w, bytes, length);
}

/* Long division of mantissa by divisor, bit by bit: small, exact, without tables. After the 64 bits
 * of the mantissa `bits` is the integer part; each further bit is a binary place. */
struct quotient {
	uint64_t mantissa; /* what is left of it */
	uint64_t bits;
	uint32_t divisor; /* below 2^31 */
	uint32_t rest;	  /* 0, with nothing left of the mantissa: the bits are all of it */
};

static void divide_bit(struct quotient *q)
{
	q->rest = q->rest << 1 | (uint32_t)(q->mantissa >> 63);
	q->mantissa <<= 1;
	q->bits <<= 1;
	if (q->rest >= q->divisor) {
		q->rest -= q->divisor;
		q->bits |= 1;
	}
}

/* The bits of the quotient that are needed: a double's significand, and one more to round it. */
#define QUOTIENT_BITS 54

/*
 * IEEE 754: sign, `eb` bits of exponent, the significand without its first bit. The first bit of
 * `q` counts 2^exponent.
 *
 * A width is taken when it holds the value exactly, single precision also when its significand is
 * `single_min` or more (fg_cbor_decimal). In neither case, nor as a double, is the value just
 * between two numbers of the width: there the significand would be one bit longer than the width's,
 * and the decimal mantissa longer than that.
 */
static void put_float(struct fg_cbor_writer *w, const struct quotient *q, int exponent,
		      bool negative, uint64_t single_min)
{
	unsigned initial = HALF, width = 2, eb = 5, kept, dropped;
	uint64_t bits;

	for (;; initial++, width *= 2, eb += 3) {
		kept = 8 * width - eb;
		dropped = QUOTIENT_BITS - kept;
		if (width == 8 || (q->rest == 0 && q->bits << (64 - dropped) == 0) ||
		    (width == 4 && q->bits >> dropped >= single_min))
			break;
	}
	bits = (q->bits + (UINT64_C(1) << (dropped - 1))) >> dropped;
	/* The significand's first bit, which is not stored, adds 1 to the exponent. */
	bits += (uint64_t)(exponent + (1 << (eb - 1)) - 2) << (kept - 1);
	bits |= (uint64_t)negative << (8 * width - 1);
	if (has_room(w, 1 + width, 0))
		put_number(w, initial, bits, width);
}

static void put_decimal(struct fg_cbor_writer *w, bool negative, uint64_t mantissa,
			uint8_t decimals, uint64_t single_min)
{
	struct quotient q = {.mantissa = mantissa, .divisor = 1};
	int exponent = QUOTIENT_BITS - 1;

	while (decimals-- > 0)
		q.divisor *= 10;
	for (int i = 0; i < 64; i++)
		divide_bit(&q);
	if (q.rest == 0) {
		fg_cbor_int(w, negative ? -(int64_t)q.bits : (int64_t)q.bits);
		return;
	}
	while (q.bits >> (QUOTIENT_BITS - 1) == 0) {
		divide_bit(&q);
		exponent--;
	}
	put_float(w, &q, exponent, negative, single_min);
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

	put_decimal(w, mantissa < 0, digits, decimals, UINT64_MAX);
}

void fg_cbor_read(struct fg_cbor_reader *r, const void *bytes, size_t length)
{
	r->at = bytes;
	r->end = r->at + length;
}

/* The argument of the head at `at`. 0 if it is not all there, or reserved; else the head's length.
 */
static size_t read_head(const uint8_t *at, size_t room, uint64_t *value)
{
	unsigned info;
	size_t width = 0;

	if (room == 0)
		return 0;
	info = INFO(at[0]);
	*value = info;
	if (info == INFO_INDEFINITE)
		*value = FG_CBOR_INDEFINITE;
	else if (info > INFO_8_BYTES)
		return 0;
	else if (info >= INFO_1_BYTE)
		width = (size_t)1 << (info - INFO_1_BYTE);
	if (width >= room)
		return 0;
	if (width > 0)
		*value = 0;
	for (size_t i = 1; i <= width; i++)
		*value = *value << 8 | at[i];
	return 1 + width;
}

/* Major type 7, by its additional information. */
static bool is_special(struct fg_cbor_item *item, unsigned info, size_t head)
{
	item->type = FG_CBOR_SIMPLE;
	if (info == INFO_INDEFINITE)
		item->type = FG_CBOR_BREAK;
	else if (info > INFO_1_BYTE)
		item->type = FG_CBOR_FLOAT;
	item->width = (uint8_t)(head - 1);
	/* Simple values below 32 have one form only (RFC 8949 section 3.3). */
	return info != INFO_1_BYTE || item->value >= 32;
}

int fg_cbor_next(struct fg_cbor_reader *r, struct fg_cbor_item *item)
{
	size_t head = read_head(r->at, (size_t)(r->end - r->at), &item->value), length = 0, room;
	unsigned info;

	if (head == 0)
		return -EBADMSG;
	room = (size_t)(r->end - r->at) - head;
	info = INFO(r->at[0]);
	item->type = (enum fg_cbor_type)MAJOR(r->at[0]);
	item->width = 0;
	item->data = r->at + head;
	switch (item->type) {
	case FG_CBOR_BYTES:
	case FG_CBOR_TEXT:
		if (item->value > room)
			return -EBADMSG;
		length = (size_t)item->value;
		break;
	case FG_CBOR_ARRAY:
	case FG_CBOR_MAP:
		/* Each item in it has a byte at least. */
		if (info != INFO_INDEFINITE &&
		    item->value > room >> (item->type == FG_CBOR_MAP ? 1 : 0))
			return -EBADMSG;
		break;
	case FG_CBOR_SIMPLE:
		if (!is_special(item, info, head))
			return -EBADMSG;
		break;
	default:
		if (info == INFO_INDEFINITE)
			return -EBADMSG;
		break;
	}
	r->at += head + length;
	return 0;
}

/* An array or a map that is being passed over. */
struct open_item {
	size_t left; /* items in it; of indefinite length: counted down from 0 */
	bool indefinite, is_map;
};

/* A break is no value of a map's pair. */
static bool may_end(const struct open_item *o)
{
	return o->indefinite && !(o->is_map && (o->left & 1));
}

/* An item is complete, and perhaps what it was the last item of. The new depth. */
static size_t count_item(struct open_item *open, size_t depth)
{
	while (depth > 0) {
		struct open_item *o = &open[depth - 1];

		o->left--;
		if (o->indefinite || o->left > 0)
			break;
		depth--;
	}
	return depth;
}

int fg_cbor_skip(struct fg_cbor_reader *r)
{
	struct open_item open[FG_CBOR_MAX_DEPTH];
	struct fg_cbor_reader in = *r;
	struct fg_cbor_item item = {.type = FG_CBOR_UINT};
	size_t depth = 0;

	do {
		bool tagged = item.type == FG_CBOR_TAG, is_map;

		if (fg_cbor_next(&in, &item))
			return -EBADMSG;
		is_map = item.type == FG_CBOR_MAP;
		if (item.type == FG_CBOR_TAG)
			continue;
		if (item.type == FG_CBOR_BREAK) {
			if (tagged || depth == 0 || !may_end(&open[depth - 1]))
				return -EBADMSG;
			depth--;
		} else if (is_map || item.type == FG_CBOR_ARRAY) {
			if (depth == FG_CBOR_MAX_DEPTH)
				return -EBADMSG;
			open[depth].indefinite = item.value == FG_CBOR_INDEFINITE;
			open[depth].is_map = is_map;
			open[depth].left =
				open[depth].indefinite ? 0 : (size_t)item.value << is_map;
			if (item.value > 0) {
				depth++;
				continue;
			}
		}
		depth = count_item(open, depth);
	} while (depth > 0 || item.type == FG_CBOR_TAG);
	*r = in;
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
