/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL's binary arrays (one dimension, with nulls), the form in which a whole column of a
 * batch is one parameter of a statement. The layout is that of array_recv() and of each type's
 * receive function. Buffers are kept from batch to batch. No locks: one thread.
 */
#ifndef FG_STORE_PGARRAY_H
#define FG_STORE_PGARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/store/bytes.h"

/* Oids of built-in types are fixed for ever (src/include/catalog/pg_type.dat). */
enum pg_oid {
	PG_BOOL = 16,
	PG_BYTEA = 17,
	PG_INT8 = 20,
	PG_INT2 = 21,
	PG_INT4 = 23,
	PG_TEXT = 25,
	PG_FLOAT4 = 700,
	PG_FLOAT8 = 701,
	PG_VARCHAR = 1043,
	PG_TIMESTAMPTZ = 1184,
	PG_INTERVAL = 1186,
	PG_UUID = 2950,
	PG_JSONB = 3802,
};

struct pgarray {
	struct bytes b;
	uint32_t count;
	bool has_null;
};

/* Begin a new array; what was in it is gone. */
void pgarray_begin(struct pgarray *a, enum pg_oid element);

void pgarray_null(struct pgarray *a);
void pgarray_bool(struct pgarray *a, bool v);
void pgarray_int2(struct pgarray *a, int16_t v);
void pgarray_int4(struct pgarray *a, int32_t v);
void pgarray_int8(struct pgarray *a, int64_t v);
void pgarray_float4(struct pgarray *a, float v);
void pgarray_float8(struct pgarray *a, double v);
/* text, varchar and bytea: the bytes as they are. */
void pgarray_data(struct pgarray *a, const void *data, size_t len);
/* JSON as text. */
void pgarray_jsonb(struct pgarray *a, const void *json, size_t len);
/* Microseconds since 1970. */
void pgarray_timestamptz(struct pgarray *a, int64_t us);

/* Complete the header: a->b is then the parameter. 0 or -ENOMEM. */
int pgarray_end(struct pgarray *a);

void pgarray_free(struct pgarray *a);

/* The wire form of a timestamptz: microseconds since 2000, saturated. And back. */
int64_t pg_timestamp_from_unix(int64_t us);
int64_t pg_timestamp_to_unix(int64_t pg);

#endif
