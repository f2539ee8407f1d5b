/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/pgarray.h"

#include <endian.h>
#include <errno.h>

#define HEADER_BYTES	 20 /* dimensions, has nulls, element type, count, lower bound */
#define NULL_LENGTH	 UINT32_MAX
#define JSONB_VERSION	 1
#define PG_EPOCH_UNIX_US INT64_C(946684800000000) /* 2000-01-01 */

static void put_be32(unsigned char *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

void pgarray_begin(struct pgarray *a, enum pg_oid element)
{
	unsigned char *p;

	bytes_clear(&a->b);
	a->count = 0;
	a->has_null = false;
	p = bytes_room(&a->b, HEADER_BYTES);
	if (!p)
		return;
	put_be32(p, 1);
	put_be32(p + 8, (uint32_t)element);
	put_be32(p + 16, 1);
}

/* Room for an element of len bytes, its length written. */
static inline unsigned char *element(struct pgarray *a, uint32_t len)
{
	unsigned char *p = bytes_room(&a->b, 4 + (size_t)len);

	a->count++;
	if (!p)
		return NULL;
	put_be32(p, len);
	return p + 4;
}

void pgarray_null(struct pgarray *a)
{
	unsigned char *p = bytes_room(&a->b, 4);

	a->count++;
	a->has_null = true;
	if (p)
		put_be32(p, NULL_LENGTH);
}

void pgarray_bool(struct pgarray *a, bool v)
{
	unsigned char *p = element(a, 1);

	if (p)
		*p = v;
}

void pgarray_int2(struct pgarray *a, int16_t v)
{
	unsigned char *p = element(a, sizeof(v));
	uint16_t be = htobe16((uint16_t)v);

	if (p)
		memcpy(p, &be, sizeof(be));
}

void pgarray_int4(struct pgarray *a, int32_t v)
{
	unsigned char *p = element(a, sizeof(v));

	if (p)
		put_be32(p, (uint32_t)v);
}

void pgarray_int8(struct pgarray *a, int64_t v)
{
	unsigned char *p = element(a, sizeof(v));
	uint64_t be = htobe64((uint64_t)v);

	if (p)
		memcpy(p, &be, sizeof(be));
}

void pgarray_float4(struct pgarray *a, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	pgarray_int4(a, (int32_t)bits);
}

void pgarray_float8(struct pgarray *a, double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	pgarray_int8(a, (int64_t)bits);
}

void pgarray_data(struct pgarray *a, const void *data, size_t len)
{
	unsigned char *p;

	if (len > INT32_MAX) {
		a->b.failed = true;
		return;
	}
	p = element(a, (uint32_t)len);
	if (p && len > 0)
		memcpy(p, data, len);
}

void pgarray_jsonb(struct pgarray *a, const void *json, size_t len)
{
	unsigned char *p;

	if (len >= INT32_MAX) {
		a->b.failed = true;
		return;
	}
	p = element(a, (uint32_t)len + 1);
	if (!p)
		return;
	*p = JSONB_VERSION;
	memcpy(p + 1, json, len);
}

void pgarray_timestamptz(struct pgarray *a, int64_t us)
{
	pgarray_int8(a, pg_timestamp_from_unix(us));
}

int pgarray_end(struct pgarray *a)
{
	if (a->b.failed)
		return -ENOMEM;
	put_be32(a->b.data + 4, a->has_null);
	put_be32(a->b.data + 12, a->count);
	return 0;
}

void pgarray_free(struct pgarray *a)
{
	bytes_free(&a->b);
}

int64_t pg_timestamp_from_unix(int64_t us)
{
	return us < INT64_MIN + PG_EPOCH_UNIX_US ? INT64_MIN : us - PG_EPOCH_UNIX_US;
}

int64_t pg_timestamp_to_unix(int64_t pg)
{
	return pg > INT64_MAX - PG_EPOCH_UNIX_US ? INT64_MAX : pg + PG_EPOCH_UNIX_US;
}
