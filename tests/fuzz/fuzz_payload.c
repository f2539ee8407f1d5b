/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes, decoded in every format: what is accepted keeps the contract of payload.h, and what is
 * printed as JSON reads back and prints the same. Seeds: tests/fuzz/fuzz_payload_seeds.py
 * DIRECTORY.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/payload/payload.h"
#include "core/payload/text.h"
#include "core/payload/timestamp.h"

#define MEMORY (64u << 20)

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static const struct decode_limits limits = {
	.max_bytes = 131072, .max_depth = 8, .max_readings = 256};
static struct arena arena;

static void check_reason(int rc, const char *reason)
{
	CHECK(rc == -EBADMSG || rc == -EMSGSIZE);
	CHECK(reason[0] != '\0');
	CHECK(text_is_valid(reason, strlen(reason)));
}

static void check_json_text(const char *data, size_t len)
{
	struct value v;
	char reason[128];
	int rc = json_decode(&arena, data, len, &limits, &v, reason, sizeof(reason));

	/* Printed text may be longer than the message: bytes grow by a third, escapes by more. */
	CHECK(rc == 0 || (rc == -EMSGSIZE && len > limits.max_bytes));
}

static void check_reading(const struct reading *r)
{
	CHECK(r->name_len > 0 && r->name_len <= READING_NAME_MAX);
	CHECK(strlen(r->name) == r->name_len);
	CHECK(text_is_valid(r->name, r->name_len));
	for (size_t i = 0; i < r->name_len; i++)
		CHECK((unsigned char)r->name[i] >= 0x20 && r->name[i] != 0x7f);
	if (r->type == READING_NUMBER)
		CHECK(isfinite(r->u.number));
	if (r->type == READING_TEXT)
		CHECK(text_is_valid(r->u.text.data, r->u.text.len));
	if (r->type == READING_JSON)
		check_json_text(r->u.text.data, r->u.text.len);
}

static int compare_names(const void *a, const void *b)
{
	const struct reading *ra = a, *rb = b;

	return strcmp(ra->name, rb->name);
}

/* Sorted, so that two of one name are neighbours. */
static void check_names_differ(const struct sample *s)
{
	struct reading sorted[256];

	memcpy(sorted, s->readings, s->reading_count * sizeof(sorted[0]));
	qsort(sorted, s->reading_count, sizeof(sorted[0]), compare_names);
	for (size_t i = 1; i < s->reading_count; i++)
		CHECK(strcmp(sorted[i - 1].name, sorted[i].name) != 0);
}

static void check_payload(const struct payload *p)
{
	size_t readings = 0;

	CHECK(p->sample_count > 0);
	for (size_t i = 0; i < p->sample_count; i++) {
		const struct sample *s = &p->samples[i];

		CHECK(s->reading_count > 0);
		readings += s->reading_count;
		CHECK(readings <= limits.max_readings);
		CHECK(!s->has_seq || s->seq >= 0);
		CHECK(s->time == SAMPLE_TIME_RECEIPT ||
		      (s->ts_us <= TIMESTAMP_LIMIT_US && s->ts_us >= -TIMESTAMP_LIMIT_US));
		for (size_t k = 0; k < s->reading_count; k++)
			check_reading(&s->readings[k]);
		check_names_differ(s);
	}
}

static void decode(enum payload_format format, const uint8_t *data, size_t size)
{
	char reason[128] = "";
	struct payload p;
	int rc;

	arena_reset(&arena);
	rc = payload_decode(&arena, format, data, size, &limits, &p, reason, sizeof(reason));
	if (rc)
		check_reason(rc, reason);
	else
		check_payload(&p);
}

static void print_and_read_back(const struct value *v)
{
	size_t len, again_len;
	char *text = value_print_json(&arena, v, &len), *again;
	struct value read;
	char reason[128];

	CHECK(text && text[len] == '\0');
	if (len > limits.max_bytes)
		return;
	CHECK(json_decode(&arena, text, len, &limits, &read, reason, sizeof(reason)) == 0);
	again = value_print_json(&arena, &read, &again_len);
	CHECK(again && again_len == len && memcmp(text, again, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char reason[128];
	struct value v;

	if (!arena.limit)
		arena_init(&arena, 1u << 20, MEMORY);
	for (enum payload_format f = PAYLOAD_AUTO; f <= PAYLOAD_SENML_CBOR; f++)
		decode(f, data, size);
	arena_reset(&arena);
	if (json_decode(&arena, data, size, &limits, &v, reason, sizeof(reason)) == 0)
		print_and_read_back(&v);
	arena_reset(&arena);
	if (cbor_decode(&arena, data, size, &limits, &v, reason, sizeof(reason)) == 0)
		print_and_read_back(&v);
	return 0;
}
