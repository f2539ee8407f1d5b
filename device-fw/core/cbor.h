/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CBOR (RFC 8949) for a device: a writer into a buffer, and a reader that trusts nothing. No
 * allocation, no recursion, no floating point; any thread, no state outside of the two structures.
 */
#ifndef FG_DEVICE_CBOR_H
#define FG_DEVICE_CBOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- writing: preferred serialization (RFC 8949 section 4.1) */

struct fg_cbor_writer {
	uint8_t *buffer; /* the caller's */
	size_t size;
	size_t length; /* of what was written; never beyond size */
	bool full;     /* something did not fit: it and all that came after was left out */
};

void fg_cbor_begin(struct fg_cbor_writer *w, void *buffer, size_t size);
void fg_cbor_uint(struct fg_cbor_writer *w, uint64_t value);
void fg_cbor_int(struct fg_cbor_writer *w, int64_t value);
void fg_cbor_bytes(struct fg_cbor_writer *w, const void *bytes, size_t length);
void fg_cbor_text(struct fg_cbor_writer *w, const char *text, size_t length);
void fg_cbor_string(struct fg_cbor_writer *w, const char *text); /* ends with NUL */
void fg_cbor_array(struct fg_cbor_writer *w, size_t items);
void fg_cbor_map(struct fg_cbor_writer *w, size_t pairs);
void fg_cbor_bool(struct fg_cbor_writer *w, bool value);
void fg_cbor_null(struct fg_cbor_writer *w);
/* Encoded items as they are. */
void fg_cbor_raw(struct fg_cbor_writer *w, const void *bytes, size_t length);
/*
 * mantissa * 10^-decimals, decimals 0 to 9: an integer where it is whole, else the
 * shortest of half, single and double precision that gives back these decimal digits; computed with
 * integers only.
 *
 * Half precision is used for what it holds exactly. Single precision also where it can tell all
 * decimals of so many places apart, which it can for 6 significant digits, and 7 up to 8388607: who
 * prints a number of single precision with the fewest digits that read back as it has these. As a
 * double it would read 21.530000686645508; docs/messages.md says how the server reads it.
 */
void fg_cbor_decimal(struct fg_cbor_writer *w, int32_t mantissa, uint8_t decimals);
/*
 * The same for readers that widen: the shortest width that holds exactly what a double would
 * (RFC 8949 section 4.1, RFC 8428 section 6). |mantissa| below 2^53.
 */
void fg_cbor_decimal_exact(struct fg_cbor_writer *w, int64_t mantissa, uint8_t decimals);

/* ---- reading */

enum fg_cbor_type {
	FG_CBOR_UINT,	/* value */
	FG_CBOR_NEGINT, /* -1 - value */
	FG_CBOR_BYTES,	/* data, value = length */
	FG_CBOR_TEXT,
	FG_CBOR_ARRAY,	/* value = items, or FG_CBOR_INDEFINITE */
	FG_CBOR_MAP,	/* value = pairs, or FG_CBOR_INDEFINITE */
	FG_CBOR_TAG,	/* value = number; the content comes next */
	FG_CBOR_SIMPLE, /* value = 20 false, 21 true, 22 null, 23 undefined, and others */
	FG_CBOR_FLOAT,	/* value = the bits, length 2, 4 or 8 in `width` */
	FG_CBOR_BREAK,
};

#define FG_CBOR_INDEFINITE UINT64_MAX
#define FG_CBOR_MAX_DEPTH  8 /* of arrays, maps and tags in each other */

struct fg_cbor_reader {
	const uint8_t *at, *end; /* the caller's bytes, which stay where they are */
};

struct fg_cbor_item {
	enum fg_cbor_type type;
	uint8_t width; /* bytes of a float */
	uint64_t value;
	const uint8_t *data; /* into the reader's bytes */
};

void fg_cbor_read(struct fg_cbor_reader *r, const void *bytes, size_t length);
/* The next item's head, with the content of strings. Strings of indefinite length are not taken.
 * 0, or -EBADMSG: not CBOR, or it ends in the middle; then the reader is where it was. */
int fg_cbor_next(struct fg_cbor_reader *r, struct fg_cbor_item *item);
/*
 * The items of a whole, with what is in them, one after the other, and how deep they are. `next`
 * gives the items: fg_cbor_walk_next, or another notation's (command.c reads JSON so).
 */
struct fg_cbor_walk {
	struct fg_cbor_reader in;
	int (*next)(struct fg_cbor_walk *walk, struct fg_cbor_item *item);
	uint8_t depth; /* of arrays, maps and tags that are open; 0 behind the whole */
	bool opened;   /* the last item was one of them, and nothing of it came yet */
	size_t left[FG_CBOR_MAX_DEPTH]; /* items to come in each, or one of these: */
};

/* Of indefinite length: any number of items; of a map's keys; the value that belongs to a key. */
#define FG_CBOR_ANY_ITEM  (SIZE_MAX - 1)
#define FG_CBOR_ANY_KEY	  (SIZE_MAX - 3)
#define FG_CBOR_ANY_VALUE (SIZE_MAX - 2)

int fg_cbor_walk_next(struct fg_cbor_walk *walk, struct fg_cbor_item *item);
/* 0, or -EBADMSG: as fg_cbor_next, or nested deeper than FG_CBOR_MAX_DEPTH, or a break that cannot
 * be here. */
int fg_cbor_step(struct fg_cbor_walk *walk, struct fg_cbor_item *item);
/* Is the item this text? */
bool fg_cbor_is_text(const struct fg_cbor_item *item, const char *text);
/* The integer, if it is one that fits. 0, or -ERANGE. */
int fg_cbor_as_int(const struct fg_cbor_item *item, int32_t *out);

#endif
