/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/place.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/store/pgtext.h"

#define TWO_TO_63 9223372036854775808.0

static bool integer_fits(const struct column *column, const struct reading *r, int64_t *out)
{
	int64_t low = INT64_MIN, high = INT64_MAX;

	if (r->type == READING_INTEGER) {
		*out = r->u.integer;
	} else if (r->type == READING_NUMBER) {
		if (!(r->u.number >= -TWO_TO_63 && r->u.number < TWO_TO_63) ||
		    trunc(r->u.number) != r->u.number)
			return false;
		*out = (int64_t)r->u.number;
	} else {
		return false;
	}
	if (column->type == PG_INT2) {
		low = INT16_MIN;
		high = INT16_MAX;
	} else if (column->type == PG_INT4) {
		low = INT32_MIN;
		high = INT32_MAX;
	}
	return *out >= low && *out <= high;
}

/* A fraction has as many digits as the column gives it; a whole number is a counter or an
 * identifier, and stays whole. */
static bool number_of(const struct reading *r, double *out)
{
	if (r->type == READING_NUMBER)
		*out = r->u.number;
	else if (r->type == READING_INTEGER)
		*out = (double)r->u.integer;
	else
		return false;
	return r->type == READING_NUMBER || (*out < TWO_TO_63 && (int64_t)*out == r->u.integer);
}

static bool real_fits(const struct reading *r, uint64_t *bits)
{
	double v;
	float f;
	uint32_t word;

	if (!number_of(r, &v) || !(fabs(v) <= (double)FLT_MAX))
		return false;
	f = (float)v;
	if ((f == 0.0F && v != 0.0) || (r->type == READING_INTEGER && (double)f != v))
		return false;
	memcpy(&word, &f, sizeof(word));
	*bits = word;
	return true;
}

static bool double_fits(const struct reading *r, uint64_t *bits)
{
	double v;

	if (!number_of(r, &v))
		return false;
	memcpy(bits, &v, sizeof(*bits));
	return true;
}

/* Put a reading into the column, if the column's type holds its value as it is. */
static bool place(struct batch *b, const struct column *column, size_t metric,
		  const struct reading *r)
{
	int64_t integer;
	uint64_t bits;
	size_t at;

	switch (column->type) {
	case PG_BOOL:
		return r->type == READING_BOOL &&
		       batch_set_bits(b, metric, r->u.boolean, column->in_latest);
	case PG_INT2:
	case PG_INT4:
	case PG_INT8:
		return integer_fits(column, r, &integer) &&
		       batch_set_bits(b, metric, (uint64_t)integer, column->in_latest);
	case PG_FLOAT4:
		return real_fits(r, &bits) && batch_set_bits(b, metric, bits, column->in_latest);
	case PG_FLOAT8:
		return double_fits(r, &bits) && batch_set_bits(b, metric, bits, column->in_latest);
	case PG_TEXT:
		if (r->type != READING_TEXT ||
		    (column->max_length > 0 &&
		     pgtext_length(r->u.text.data, r->u.text.len) > column->max_length))
			return false;
		return batch_set_text(b, metric, batch_text(b, r->u.text.data, r->u.text.len),
				      column->in_latest);
	case PG_JSONB:
		at = b->heap.len;
		pgtext_put_json_value(&b->heap, r);
		return batch_set_text(b, metric, bytes_since(&b->heap, at), column->in_latest);
	default:
		return false;
	}
}

static int find_column(struct row_context *c, const struct reading *r, size_t index)
{
	int metric = -1;

	if (index < ROW_GUESSES && c->guess[index] >= 0) {
		const struct column *guess = &c->catalogue->columns[c->guess[index]];

		if (guess->name_len == r->name_len &&
		    memcmp(guess->name, r->name, r->name_len) == 0)
			return c->guess[index];
	}
	metric = catalogue_find(c->catalogue, r->name, r->name_len);
	if (index < ROW_GUESSES)
		c->guess[index] = metric;
	return metric;
}

static enum placed place_reading(struct row_context *c, const struct reading *r, size_t index)
{
	int metric;

	if (r->type == READING_NULL)
		return PLACED_EXTRA_NULL;
	metric = find_column(c, r, index);
	if (metric < 0 || !place(c->batch, &c->catalogue->columns[metric], (size_t)metric, r))
		return PLACED_EXTRA;
	return c->catalogue->columns[metric].in_latest ? PLACED_COLUMN : PLACED_COLUMN_ONLY;
}

bool place_sample(struct row_context *c, const struct sample *s, unsigned char *placed)
{
	bool extra = false;

	for (size_t i = 0; i < s->reading_count; i++) {
		placed[i] = (unsigned char)place_reading(c, &s->readings[i], i);
		extra |= placed[i] != PLACED_COLUMN;
	}
	return extra;
}

static void begin_member(struct bytes *heap, size_t at)
{
	bytes_put_byte(heap, heap->len == at ? '{' : ',');
}

static struct span end_object(struct bytes *heap, size_t at)
{
	if (heap->len == at)
		return (struct span){0, 0};
	bytes_put_byte(heap, '}');
	return bytes_since(heap, at);
}

static bool has_reading(const struct sample *s, const char *name)
{
	for (size_t i = 0; i < s->reading_count; i++)
		if (strcmp(s->readings[i].name, name) == 0)
			return true;
	return false;
}

/* What the device's clock said; under another name when the device reports something of this name.
 */
static void put_device_ts(struct bytes *heap, const struct sample *s, int64_t us)
{
	bytes_put_string(heap, has_reading(s, "device_ts") ? "\"_device_ts\":" : "\"device_ts\":");
	bytes_put_byte(heap, '"');
	if (pgtext_put_rfc3339(heap, us)) {
		bytes_put_byte(heap, '"');
		return;
	}
	if (!heap->failed)
		heap->len--;
	bytes_printf(heap, "%" PRId64, us);
}

struct span place_extra(struct bytes *heap, const struct sample *s, const unsigned char *placed,
			const int64_t *device_us)
{
	size_t at = heap->len;

	for (size_t i = 0; i < s->reading_count; i++) {
		if (placed[i] < PLACED_EXTRA)
			continue;
		begin_member(heap, at);
		pgtext_put_json_member(heap, &s->readings[i]);
	}
	if (device_us) {
		begin_member(heap, at);
		put_device_ts(heap, s, *device_us);
	}
	return end_object(heap, at);
}

struct span place_latest_extra(struct bytes *heap, const struct sample *s,
			       const unsigned char *placed, uint64_t *keys)
{
	size_t at = heap->len;

	for (size_t i = 0; i < s->reading_count; i++) {
		const struct reading *r = &s->readings[i];
		struct hash_key key = *hash_table_key();

		if (placed[i] != PLACED_EXTRA && placed[i] != PLACED_COLUMN_ONLY)
			continue;
		key.k0 ^= *keys;
		*keys = hash_siphash(&key, r->name, r->name_len);
		begin_member(heap, at);
		pgtext_put_json_member(heap, r);
	}
	return end_object(heap, at);
}
