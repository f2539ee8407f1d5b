/* SPDX-License-Identifier: Apache-2.0 */
/* A value as CBOR, in two passes: its length, and then its bytes. */
#include <string.h>

#include "core/payload/value.h"

enum { /* RFC 8949 section 3.1 */
       MAJOR_UNSIGNED = 0x00,
       MAJOR_NEGATIVE = 0x20,
       MAJOR_BYTES = 0x40,
       MAJOR_TEXT = 0x60,
       MAJOR_ARRAY = 0x80,
       MAJOR_MAP = 0xa0,
       SIMPLE_FALSE = 0xf4,
       SIMPLE_TRUE = 0xf5,
       SIMPLE_NULL = 0xf6,
       FLOAT_32 = 0xfa,
       FLOAT_64 = 0xfb,
};

struct encoder {
	uint8_t *out; /* NULL: only count */
	size_t len;
};

static void put(struct encoder *e, const void *data, size_t len)
{
	if (e->out && len > 0)
		memcpy(e->out + e->len, data, len);
	e->len += len;
}

static void put_byte(struct encoder *e, unsigned byte)
{
	uint8_t b = (uint8_t)byte;

	put(e, &b, 1);
}

static void put_big_endian(struct encoder *e, uint64_t n, unsigned bytes)
{
	while (bytes-- > 0)
		put_byte(e, (unsigned)(n >> 8 * bytes) & 0xff);
}

static void put_head(struct encoder *e, unsigned major, uint64_t n)
{
	unsigned size = n <= UINT8_MAX ? 0 : n <= UINT16_MAX ? 1 : n <= UINT32_MAX ? 2 : 3;

	if (n < 24) {
		put_byte(e, major | (unsigned)n);
		return;
	}
	put_byte(e, major | (24 + size));
	put_big_endian(e, n, 1u << size);
}

static void put_integer(struct encoder *e, int64_t i)
{
	if (i >= 0)
		put_head(e, MAJOR_UNSIGNED, (uint64_t)i);
	else
		put_head(e, MAJOR_NEGATIVE, (uint64_t) - (i + 1));
}

static void put_number(struct encoder *e, double x)
{
	float narrow = (float)x;
	uint32_t bits32;
	uint64_t bits64;

	if ((double)narrow == x) {
		memcpy(&bits32, &narrow, sizeof(bits32));
		put_byte(e, FLOAT_32);
		put_big_endian(e, bits32, sizeof(bits32));
		return;
	}
	memcpy(&bits64, &x, sizeof(bits64));
	put_byte(e, FLOAT_64);
	put_big_endian(e, bits64, sizeof(bits64));
}

static void put_string(struct encoder *e, unsigned major, const char *data, size_t len)
{
	put_head(e, major, len);
	put(e, data, len);
}

static void put_value(struct encoder *e, const struct value *v);

static void put_map(struct encoder *e, const struct member *members, size_t count)
{
	put_head(e, MAJOR_MAP, count);
	for (size_t i = 0; i < count; i++) {
		const struct member *m = &members[i];

		if (m->is_label)
			put_integer(e, m->label);
		else
			put_string(e, MAJOR_TEXT, m->key, m->key_len);
		put_value(e, &m->value);
	}
}

/* As deep as the decoder's max_depth let it become. */
static void put_value(struct encoder *e, const struct value *v)
{
	switch (v->type) {
	case VALUE_NULL:
		put_byte(e, SIMPLE_NULL);
		break;
	case VALUE_BOOL:
		put_byte(e, v->u.boolean ? SIMPLE_TRUE : SIMPLE_FALSE);
		break;
	case VALUE_INTEGER:
		put_integer(e, v->u.integer);
		break;
	case VALUE_NUMBER:
		put_number(e, v->u.number);
		break;
	case VALUE_TEXT:
		put_string(e, MAJOR_TEXT, v->u.text.data, v->u.text.len);
		break;
	case VALUE_BYTES:
		put_string(e, MAJOR_BYTES, v->u.text.data, v->u.text.len);
		break;
	case VALUE_ARRAY:
		put_head(e, MAJOR_ARRAY, v->u.array.count);
		for (size_t i = 0; i < v->u.array.count; i++)
			put_value(e, &v->u.array.items[i]);
		break;
	case VALUE_MAP:
		put_map(e, v->u.map.members, v->u.map.count);
		break;
	}
}

uint8_t *value_encode_cbor(struct arena *a, const struct value *v, size_t *len)
{
	struct encoder e = {0};

	put_value(&e, v);
	e.out = arena_alloc(a, e.len);
	e.len = 0;
	if (e.out)
		put_value(&e, v);
	*len = e.len;
	return e.out;
}
