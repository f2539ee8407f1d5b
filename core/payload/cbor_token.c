/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcbor's stateless stream decoder, with callbacks that note what it found: it finds and checks
 * one head and allocates nothing.
 */
#include "core/payload/cbor_token.h"

#include <errno.h>
#include <float.h>
#include <math.h>

#include <cbor.h>

#define TAG_HEAD      0xc0 /* major type 6 with the tag in the head: 0 to 23 */
#define TAG_HEAD_LAST 0xd7

#define SINGLE_PLACES                                                                              \
	9 /* powers of ten up to this one are exact, and so is what is made with them */

static void on_uint(struct cbor_token *t, uint64_t n)
{
	if (n <= INT64_MAX) {
		t->type = CBOR_TOKEN_INTEGER;
		t->u.integer = (int64_t)n;
	} else {
		t->type = CBOR_TOKEN_NUMBER;
		t->u.number = (double)n;
	}
}

static void on_negint(struct cbor_token *t, uint64_t n)
{
	if (n <= INT64_MAX) {
		t->type = CBOR_TOKEN_INTEGER;
		t->u.integer = -1 - (int64_t)n;
	} else {
		t->type = CBOR_TOKEN_NUMBER;
		t->u.number = -1.0 - (double)n;
	}
}

static void on_uint8(void *t, uint8_t n)
{
	on_uint(t, n);
}

static void on_uint16(void *t, uint16_t n)
{
	on_uint(t, n);
}

static void on_uint32(void *t, uint32_t n)
{
	on_uint(t, n);
}

static void on_uint64(void *t, uint64_t n)
{
	on_uint(t, n);
}

static void on_negint8(void *t, uint8_t n)
{
	on_negint(t, n);
}

static void on_negint16(void *t, uint16_t n)
{
	on_negint(t, n);
}

static void on_negint32(void *t, uint32_t n)
{
	on_negint(t, n);
}

static void on_negint64(void *t, uint64_t n)
{
	on_negint(t, n);
}

static void on_string(struct cbor_token *t, enum cbor_token_type type, cbor_data data, size_t len)
{
	t->type = type;
	t->u.text.data = (const char *)data;
	t->u.text.len = len;
}

static void on_bytes(void *t, cbor_data data, size_t len)
{
	on_string(t, CBOR_TOKEN_BYTES, data, len);
}

static void on_text(void *t, cbor_data data, size_t len)
{
	on_string(t, CBOR_TOKEN_TEXT, data, len);
}

static void on_count(struct cbor_token *t, enum cbor_token_type type, uint64_t count)
{
	t->type = type;
	t->u.count = count;
}

static void on_array(void *t, size_t count)
{
	on_count(t, CBOR_TOKEN_ARRAY, count);
}

static void on_map(void *t, size_t count)
{
	on_count(t, CBOR_TOKEN_MAP, count);
}

static void on_tag(void *t, uint64_t tag)
{
	on_count(t, CBOR_TOKEN_TAG, tag);
}

static void on_double(void *arg, double x)
{
	struct cbor_token *t = arg;

	t->type = CBOR_TOKEN_NUMBER;
	t->u.number = x;
}

static void on_half(void *t, float x)
{
	on_double(t, (double)x);
}

/*
 * A device that sends 21.53 in four bytes means 21.53, not the 21.530000686645508 that a wider
 * number would show: if a decimal with so few places that single precision can tell it from its
 * neighbours is this number when rounded, then that decimal is meant.
 */
static void on_float(void *t, float x)
{
	double wide = (double)x, step, scale = 1;
	int exponent;

	on_double(t, wide);
	if (!isfinite(x))
		return;
	frexp(wide, &exponent);
	step = ldexp(1, exponent - FLT_MANT_DIG);
	for (int places = 0; places <= SINGLE_PLACES && step * scale < 1; places++) {
		double decimal = rint(wide * scale) / scale;

		if ((float)decimal == x) {
			on_double(t, decimal);
			return;
		}
		scale *= 10;
	}
}

static void on_bool(void *arg, bool b)
{
	struct cbor_token *t = arg;

	t->type = CBOR_TOKEN_BOOL;
	t->u.boolean = b;
}

static void on_null(void *t)
{
	((struct cbor_token *)t)->type = CBOR_TOKEN_NULL;
}

static void on_text_start(void *t)
{
	((struct cbor_token *)t)->type = CBOR_TOKEN_TEXT_START;
}

static void on_bytes_start(void *t)
{
	((struct cbor_token *)t)->type = CBOR_TOKEN_BYTES_START;
}

static void on_array_start(void *t)
{
	((struct cbor_token *)t)->type = CBOR_TOKEN_ARRAY_START;
}

static void on_map_start(void *t)
{
	((struct cbor_token *)t)->type = CBOR_TOKEN_MAP_START;
}

static void on_break(void *t)
{
	((struct cbor_token *)t)->type = CBOR_TOKEN_BREAK;
}

static const struct cbor_callbacks callbacks = {
	.uint8 = on_uint8,
	.uint16 = on_uint16,
	.uint32 = on_uint32,
	.uint64 = on_uint64,
	.negint8 = on_negint8,
	.negint16 = on_negint16,
	.negint32 = on_negint32,
	.negint64 = on_negint64,
	.byte_string_start = on_bytes_start,
	.byte_string = on_bytes,
	.string = on_text,
	.string_start = on_text_start,
	.indef_array_start = on_array_start,
	.array_start = on_array,
	.indef_map_start = on_map_start,
	.map_start = on_map,
	.tag = on_tag,
	.float2 = on_half,
	.float4 = on_float,
	.float8 = on_double,
	.undefined = on_null,
	.null = on_null,
	.boolean = on_bool,
	.indef_break = on_break,
};

int cbor_token_read(const unsigned char *data, size_t len, struct cbor_token *t, size_t *read)
{
	struct cbor_decoder_result r;

	if (len == 0)
		return -ENODATA;
	/* libcbor 0.8 takes tags 6 to 20 for errors. */
	if (data[0] >= TAG_HEAD && data[0] <= TAG_HEAD_LAST) {
		on_tag(t, data[0] - TAG_HEAD);
		*read = 1;
		return 0;
	}
	r = cbor_stream_decode(data, len, &callbacks, t);
	*read = r.read;
	if (r.status == CBOR_DECODER_NEDATA)
		return -ENODATA;
	return r.status == CBOR_DECODER_FINISHED ? 0 : -EBADMSG;
}
