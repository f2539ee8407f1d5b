/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/pgtext.h"

#define ROWS_FIRST 1024

static void free_metrics(struct batch *b)
{
	for (size_t m = 0; m < b->metric_count; m++) {
		free(b->metrics[m].values);
		free(b->metrics[m].present);
	}
	free(b->metrics);
	free(b->row_mask);
	b->metrics = NULL;
	b->row_mask = NULL;
	b->metric_count = 0;
}

int batch_init(struct batch *b, size_t metric_count)
{
	free_metrics(b);
	batch_clear(b);
	b->metrics = calloc(metric_count + 1, sizeof(*b->metrics));
	b->row_mask = calloc(mask_words(metric_count + 1), sizeof(*b->row_mask));
	if (!b->metrics || !b->row_mask)
		return -ENOMEM;
	b->metric_count = metric_count;
	return latest_init(&b->latest, metric_count);
}

void batch_clear(struct batch *b)
{
	for (size_t m = 0; m < b->metric_count; m++) {
		struct batch_metric *metric = &b->metrics[m];
		size_t n = b->row_count < metric->size ? b->row_count : metric->size;

		if (metric->used)
			memset(metric->present, 0, n);
		metric->used = false;
	}
	bytes_clear(&b->heap);
	latest_clear(&b->latest);
	b->repeated = 0;
	b->row_count = 0;
	b->dead_letter_count = 0;
	b->dropped = 0;
	b->presence_count = 0;
	b->downlink_count = 0;
	b->started.happened = false;
	b->has_subtopic = b->has_extra = b->has_once = false;
}

void batch_free(struct batch *b)
{
	free_metrics(b);
	bytes_free(&b->heap);
	latest_free(&b->latest);
	free(b->rows);
	free(b->dead_letters);
	free(b->presence);
	free(b->downlinks);
	*b = (struct batch){0};
}

/* Make room for one more element; false without memory. */
static bool room(void **array, size_t *size, size_t count, size_t element)
{
	size_t bigger = *size ? *size * 2 : ROWS_FIRST;
	void *p;

	if (count < *size)
		return true;
	p = realloc(*array, bigger * element);
	if (!p)
		return false;
	*array = p;
	*size = bigger;
	return true;
}

struct batch_row *batch_add_row(struct batch *b)
{
	struct batch_row *r;
	void *rows = b->rows;

	if (!room(&rows, &b->rows_size, b->row_count, sizeof(*r)))
		return NULL;
	b->rows = rows;
	memset(b->row_mask, 0, b->latest.words * sizeof(*b->row_mask));
	r = &b->rows[b->row_count++];
	*r = (struct batch_row){0};
	return r;
}

static bool grow_metric(struct batch_metric *m, size_t size)
{
	uint64_t *values = realloc(m->values, size * sizeof(*values));
	unsigned char *present;

	if (!values)
		return false;
	m->values = values;
	present = realloc(m->present, size);
	if (!present)
		return false;
	memset(present + m->size, 0, size - m->size);
	m->present = present;
	m->size = size;
	return true;
}

bool batch_set_bits(struct batch *b, size_t metric, uint64_t bits, bool in_latest)
{
	struct batch_metric *m = &b->metrics[metric];
	size_t row = b->row_count - 1;

	if (row >= m->size && !grow_metric(m, b->rows_size)) {
		b->heap.failed = true;
		return true;
	}
	if (m->present[row])
		return false;
	m->used = true;
	m->present[row] = 1;
	m->values[row] = bits;
	if (in_latest)
		mask_set(b->row_mask, metric);
	return true;
}

bool batch_set_text(struct batch *b, size_t metric, struct span text, bool in_latest)
{
	return batch_set_bits(b, metric, span_pack(text), in_latest);
}

int batch_row_done(struct batch *b, uint64_t extra_keys)
{
	const struct batch_row *r = &b->rows[b->row_count - 1];
	const struct latest_row l = {
		.ts = r->ts_us,
		.seq = r->seq,
		.row = (uint32_t)(b->row_count - 1),
		.uncertain = r->once,
		.extra_keys = extra_keys,
	};

	if (b->heap.failed)
		return -ENOMEM;
	b->has_subtopic |= r->has_subtopic;
	b->has_extra |= r->extra.len > 0;
	b->has_once |= r->once;
	if (r->latest_extra.len > 0)
		mask_set(b->row_mask, b->metric_count);
	return latest_add(&b->latest, r->device, &l, b->row_mask);
}

struct batch_dead_letter *batch_add_dead_letter(struct batch *b)
{
	void *array = b->dead_letters;

	if (!room(&array, &b->dead_letters_size, b->dead_letter_count, sizeof(*b->dead_letters)))
		return NULL;
	b->dead_letters = array;
	return &b->dead_letters[b->dead_letter_count++];
}

struct batch_presence *batch_add_presence(struct batch *b)
{
	void *array = b->presence;

	if (!room(&array, &b->presence_size, b->presence_count, sizeof(*b->presence)))
		return NULL;
	b->presence = array;
	return &b->presence[b->presence_count++];
}

struct batch_downlink *batch_add_downlink(struct batch *b)
{
	void *array = b->downlinks;

	if (!room(&array, &b->downlinks_size, b->downlink_count, sizeof(*b->downlinks)))
		return NULL;
	b->downlinks = array;
	return &b->downlinks[b->downlink_count++];
}

struct span batch_text(struct batch *b, const void *data, size_t len)
{
	size_t at = b->heap.len;

	bytes_put(&b->heap, data, len);
	return b->heap.failed ? (struct span){0, 0} : bytes_since(&b->heap, at);
}
