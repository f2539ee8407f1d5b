/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parameters of the store's statements, in the order in which statement.c numbers them. A column of
 * the batch is written in one tight loop over its rows.
 */
#include "core/store/statement.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PARAMS_FIRST 32

static bool grow(struct params *p)
{
	size_t size = p->size ? p->size * 2 : PARAMS_FIRST;
	struct pgarray *arrays = realloc(p->arrays, size * sizeof(*arrays));
	const char **values;
	int *lengths, *formats;

	if (!arrays)
		return false;
	memset(arrays + p->size, 0, (size - p->size) * sizeof(*arrays));
	p->arrays = arrays;
	values = realloc(p->values, size * sizeof(*values));
	if (!values)
		return false;
	p->values = values;
	lengths = realloc(p->lengths, size * sizeof(*lengths));
	if (!lengths)
		return false;
	p->lengths = lengths;
	formats = realloc(p->formats, size * sizeof(*formats));
	if (!formats)
		return false;
	p->formats = formats;
	for (size_t i = p->size; i < size; i++)
		p->formats[i] = 1;
	p->size = size;
	return true;
}

void params_free(struct params *p)
{
	for (size_t i = 0; i < p->size; i++)
		pgarray_free(&p->arrays[i]);
	free(p->arrays);
	free(p->values);
	free(p->lengths);
	free(p->formats);
	*p = (struct params){0};
}

static void begin(struct params *p)
{
	p->count = 0;
	p->failed = false;
}

/* The next parameter; NULL without memory. */
static struct pgarray *next(struct params *p)
{
	if (p->failed || (p->count == p->size && !grow(p))) {
		p->failed = true;
		return NULL;
	}
	return &p->arrays[p->count++];
}

static struct pgarray *next_array(struct params *p, enum pg_oid type)
{
	struct pgarray *a = next(p);

	if (a)
		pgarray_begin(a, type);
	return a;
}

static void complete(struct params *p, struct pgarray *a)
{
	size_t i = (size_t)(a - p->arrays);

	if (pgarray_end(a) != 0) {
		p->failed = true;
		return;
	}
	p->values[i] = (const char *)a->b.data;
	p->lengths[i] = (int)a->b.len;
}

static int finish(struct params *p)
{
	return p->failed ? -ENOMEM : 0;
}

/* A parameter that is no array: its binary form as it is. */
static void put_raw(struct params *p, const void *data, size_t len)
{
	struct pgarray *a = next(p);
	size_t i;

	if (!a)
		return;
	i = (size_t)(a - p->arrays);
	bytes_clear(&a->b);
	bytes_put(&a->b, data, len);
	p->failed |= a->b.failed;
	p->values[i] = (const char *)a->b.data;
	p->lengths[i] = (int)len;
}

static void put_raw_int8(struct params *p, int64_t v)
{
	uint64_t be = htobe64((uint64_t)v);

	put_raw(p, &be, sizeof(be));
}

static void put_span(struct pgarray *a, const struct batch *b, struct span s)
{
	pgarray_data(a, b->heap.data + s.at, s.len);
}

static void put_span_or_null(struct pgarray *a, const struct batch *b, struct span s, bool there)
{
	if (there)
		put_span(a, b, s);
	else
		pgarray_null(a);
}

/* ---- metrics ---- */

static void put_value(struct pgarray *a, const struct batch *b, enum pg_oid type, uint64_t bits)
{
	uint32_t word = (uint32_t)bits;
	struct span s = span_unpack(bits);

	switch (type) {
	case PG_BOOL:
		pgarray_bool(a, bits != 0);
		break;
	case PG_INT2:
		pgarray_int2(a, (int16_t)bits);
		break;
	case PG_INT4:
	case PG_FLOAT4:
		pgarray_int4(a, (int32_t)word);
		break;
	case PG_INT8:
	case PG_FLOAT8:
		pgarray_int8(a, (int64_t)bits);
		break;
	case PG_JSONB:
		pgarray_jsonb(a, b->heap.data + s.at, s.len);
		break;
	default:
		put_span(a, b, s);
	}
}

static void put_metric(struct params *p, const struct batch *b, size_t metric, enum pg_oid type)
{
	const struct batch_metric *m = &b->metrics[metric];
	struct pgarray *a = next_array(p, type);

	if (!a)
		return;
	for (size_t row = 0; row < b->row_count; row++) {
		if (row < m->size && m->present[row])
			put_value(a, b, type, m->values[row]);
		else
			pgarray_null(a);
	}
	complete(p, a);
}

static void put_jsonb(struct pgarray *a, const struct batch *b, struct span s)
{
	if (s.len > 0)
		pgarray_jsonb(a, b->heap.data + s.at, s.len);
	else
		pgarray_null(a);
}

/* A column of all rows: `body` writes that of `row` to `a`. */
#define EACH_ROW(p, b, type, body)                                                                 \
	do {                                                                                       \
		struct pgarray *a = next_array(p, type);                                           \
		for (size_t i = 0; a && i < (b)->row_count; i++) {                                 \
			const struct batch_row *row = &(b)->rows[i];                               \
			body;                                                                      \
		}                                                                                  \
		if (a)                                                                             \
			complete(p, a);                                                            \
	} while (0)

void telemetry_columns(const struct batch *b, uint64_t *mask, size_t words)
{
	memset(mask, 0, words * sizeof(*mask));
	for (size_t m = 0; m < b->metric_count; m++)
		if (b->metrics[m].used)
			mask_set(mask, m);
	if (b->has_extra)
		mask_set(mask, b->metric_count);
	if (b->has_subtopic)
		mask_set(mask, b->metric_count + 1);
}

int telemetry_params(struct params *p, const struct statement *st, const struct catalogue *c,
		     const struct batch *b)
{
	begin(p);
	EACH_ROW(p, b, PG_TEXT, put_span(a, b, b->latest.devices[row->device].name));
	EACH_ROW(p, b, PG_TIMESTAMPTZ, pgarray_timestamptz(a, row->ts_us));
	EACH_ROW(p, b, PG_INT8, pgarray_int8(a, row->seq));
	EACH_ROW(p, b, PG_TIMESTAMPTZ, pgarray_timestamptz(a, row->received_at_us));
	EACH_ROW(p, b, PG_INT2, pgarray_int2(a, (int16_t)(row->ts_source + 1)));
	if (st->kind == STATEMENT_TELEMETRY_ONCE)
		EACH_ROW(p, b, PG_INT8, {
			if (row->once)
				pgarray_int8(a, row->content);
			else
				pgarray_null(a);
		});
	for (size_t m = 0; m < c->count; m++)
		if (mask_has(st->columns, m))
			put_metric(p, b, m, c->columns[m].type);
	if (mask_has(st->columns, c->count))
		EACH_ROW(p, b, PG_JSONB, put_jsonb(a, b, row->extra));
	if (mask_has(st->columns, c->count + 1))
		EACH_ROW(p, b, PG_TEXT, put_span_or_null(a, b, row->subtopic, row->has_subtopic));
	return finish(p);
}

/* ---- telemetry_latest ---- */

void latest_columns(const struct batch *b, const uint32_t *picks, size_t n, uint64_t *mask,
		    size_t words)
{
	memset(mask, 0, words * sizeof(*mask));
	for (size_t i = 0; i < n; i++) {
		const uint64_t *own = latest_mask(&b->latest, picks[i]);

		for (size_t w = 0; w < b->latest.words; w++)
			mask[w] |= own[w];
	}
}

static const struct batch_row *picked(const struct batch *b, uint32_t candidate)
{
	return &b->rows[b->latest.candidates[candidate].r.row];
}

static void put_latest_metric(struct params *p, const struct batch *b, size_t metric,
			      enum pg_oid type, const uint32_t *picks, size_t n)
{
	struct pgarray *a = next_array(p, type);

	if (!a)
		return;
	for (size_t i = 0; i < n; i++) {
		if (mask_has(latest_mask(&b->latest, picks[i]), metric))
			put_value(a, b, type,
				  b->metrics[metric].values[picked(b, picks[i]) - b->rows]);
		else
			pgarray_null(a);
	}
	complete(p, a);
}

#define EACH_PICK(p, type, body)                                                                   \
	do {                                                                                       \
		struct pgarray *a = next_array(p, type);                                           \
		for (size_t i = 0; a && i < n; i++) {                                              \
			const struct batch_row *row = picked(b, picks[i]);                         \
			body;                                                                      \
		}                                                                                  \
		if (a)                                                                             \
			complete(p, a);                                                            \
	} while (0)

int latest_params(struct params *p, const struct statement *st, const struct catalogue *c,
		  const struct batch *b, const uint32_t *picks, size_t n)
{
	begin(p);
	EACH_PICK(p, PG_TEXT, put_span(a, b, b->latest.devices[row->device].name));
	EACH_PICK(p, PG_TIMESTAMPTZ, pgarray_timestamptz(a, row->ts_us));
	EACH_PICK(p, PG_INT8, pgarray_int8(a, row->seq));
	EACH_PICK(p, PG_TIMESTAMPTZ, pgarray_timestamptz(a, row->received_at_us));
	if (st->kind == STATEMENT_LATEST_ONCE)
		EACH_PICK(p, PG_BOOL, pgarray_bool(a, row->once));
	for (size_t m = 0; m < c->count; m++)
		if (mask_has(st->columns, m))
			put_latest_metric(p, b, m, c->columns[m].type, picks, n);
	if (mask_has(st->columns, c->count))
		EACH_PICK(p, PG_JSONB, {
			const uint64_t *mask = latest_mask(&b->latest, picks[i]);

			if (mask_has(mask, c->count))
				put_jsonb(a, b, row->latest_extra);
			else
				pgarray_null(a);
		});
	return finish(p);
}

/* ---- the others ---- */

#define EACH_OF(p, array, n, type, body)                                                           \
	do {                                                                                       \
		struct pgarray *a = next_array(p, type);                                           \
		for (size_t i = 0; a && i < (n); i++) {                                            \
			const __typeof__(*(array)) *it = &(array)[i];                              \
			body;                                                                      \
		}                                                                                  \
		if (a)                                                                             \
			complete(p, a);                                                            \
	} while (0)

int dead_letter_params(struct params *p, const struct batch *b)
{
	const struct batch_dead_letter *d = b->dead_letters;
	size_t n = b->dead_letter_count;

	begin(p);
	EACH_OF(p, d, n, PG_TEXT, put_span(a, b, it->device));
	EACH_OF(p, d, n, PG_TIMESTAMPTZ, pgarray_timestamptz(a, it->received_at_us));
	EACH_OF(p, d, n, PG_INT8, pgarray_int8(a, it->seq));
	EACH_OF(p, d, n, PG_TEXT, put_span(a, b, it->topic));
	EACH_OF(p, d, n, PG_TEXT, put_span(a, b, it->reason));
	EACH_OF(p, d, n, PG_BYTEA, put_span(a, b, it->payload));
	return finish(p);
}

/* The same parameters serve presence. */
int presence_event_params(struct params *p, const struct batch *b)
{
	const struct batch_presence *e = b->presence;
	size_t n = b->presence_count;

	begin(p);
	EACH_OF(p, e, n, PG_TEXT, put_span(a, b, it->device));
	EACH_OF(p, e, n, PG_TIMESTAMPTZ, pgarray_timestamptz(a, it->at_us));
	EACH_OF(p, e, n, PG_INT8, pgarray_int8(a, it->seq));
	EACH_OF(p, e, n, PG_TEXT, put_span(a, b, it->source));
	EACH_OF(p, e, n, PG_TEXT, put_span(a, b, it->client_id));
	EACH_OF(p, e, n, PG_BOOL, pgarray_bool(a, it->connected));
	EACH_OF(p, e, n, PG_TEXT, put_span_or_null(a, b, it->reason, it->has_reason));
	EACH_OF(p, e, n, PG_TEXT, put_span_or_null(a, b, it->address, it->has_address));
	return finish(p);
}

int downlink_params(struct params *p, const struct batch *b, const struct advance *adv)
{
	const struct batch_downlink *d = b->downlinks;
	size_t n = b->downlink_count;

	begin(p);
	put_raw(p, adv->journal_id, 16);
	put_raw(p, adv->source, strlen(adv->source));
	EACH_OF(p, d, n, PG_TEXT, put_span(a, b, it->device));
	EACH_OF(p, d, n, PG_TEXT, put_span_or_null(a, b, it->subtopic, it->has_subtopic));
	EACH_OF(p, d, n, PG_BYTEA, put_span(a, b, it->payload));
	EACH_OF(p, d, n, PG_INT4, {
		if (it->format >= 0)
			pgarray_int4(a, it->format);
		else
			pgarray_null(a);
	});
	EACH_OF(p, d, n, PG_TEXT, put_span(a, b, it->topic));
	EACH_OF(p, d, n, PG_TIMESTAMPTZ, pgarray_timestamptz(a, it->received_at_us));
	EACH_OF(p, d, n, PG_INT8, pgarray_int8(a, it->seq));
	return finish(p);
}

int started_params(struct params *p, const struct batch *b)
{
	begin(p);
	put_raw_int8(p, pg_timestamp_from_unix(b->started.at_us));
	put_raw_int8(p, b->started.seq);
	put_raw(p, b->heap.data + b->started.source.at, b->started.source.len);
	return finish(p);
}

int advance_params(struct params *p, const struct advance *a)
{
	unsigned char interval[16] = {0}; /* microseconds; days and months stay 0 */
	uint64_t lag = htobe64((uint64_t)a->lag_us);

	memcpy(interval, &lag, sizeof(lag));
	begin(p);
	put_raw(p, a->journal_id, 16);
	put_raw_int8(p, (int64_t)a->from.segment);
	put_raw_int8(p, (int64_t)a->from.offset);
	put_raw_int8(p, (int64_t)a->to.segment);
	put_raw_int8(p, (int64_t)a->to.offset);
	put_raw_int8(p, (int64_t)a->messages);
	put_raw_int8(p, (int64_t)a->rows);
	put_raw_int8(p, (int64_t)a->dead_letters);
	put_raw_int8(p, (int64_t)a->backlog_bytes);
	put_raw(p, interval, sizeof(interval));
	return finish(p);
}
