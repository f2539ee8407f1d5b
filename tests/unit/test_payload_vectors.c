/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every vector in tests/vectors/ decodes to what it says. One cmocka test a file; each vector that
 * fails is named. Then every vector is cut short, decoded in every format, and starved of memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>

#include <errno.h>

#include "core/payload/payload.h"
#include "core/payload/text.h"

#define MESSAGE_MAX 65536
#define MEMORY	    (8u << 20)

static const struct decode_limits limits = {
	.max_bytes = 131072, .max_depth = 8, .max_readings = 256};

struct bytes {
	unsigned char data[MESSAGE_MAX];
	size_t len;
};

static const char *text_of(json_t *vector, const char *member)
{
	const char *s = json_string_value(json_object_get(vector, member));

	return s ? s : "";
}

static void read_bytes(json_t *vector, struct bytes *b)
{
	const char *hex = text_of(vector, "hex");
	json_t *text = json_object_get(vector, "text");

	b->len = strlen(hex) / 2;
	assert_in_range(b->len, 0, MESSAGE_MAX);
	for (size_t i = 0; i < b->len; i++) {
		char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		b->data[i] = (unsigned char)strtoul(pair, NULL, 16);
	}
	if (!text)
		return;
	assert_int_equal(b->len, json_string_length(text));
	assert_memory_equal(b->data, json_string_value(text), b->len);
}

static enum payload_format format_of(json_t *vector)
{
	static const char *const names[] = {
		[PAYLOAD_AUTO] = "auto",
		[PAYLOAD_JSON] = "json",
		[PAYLOAD_CBOR] = "cbor",
		[PAYLOAD_SENML_JSON] = "senml-json",
		[PAYLOAD_SENML_CBOR] = "senml-cbor",
	};
	enum payload_format f = PAYLOAD_AUTO;

	while (strcmp(names[f], text_of(vector, "format")) != 0)
		assert_true(++f <= PAYLOAD_SENML_CBOR);
	return f;
}

static bool same_text(const struct reading *r, json_t *want)
{
	return json_is_string(want) && r->u.text.len == json_string_length(want) &&
	       memcmp(r->u.text.data, json_string_value(want), r->u.text.len) == 0;
}

/* Bit by bit, for the sign of a zero. */
static bool same_number(double a, double b)
{
	uint64_t bits_a, bits_b;

	memcpy(&bits_a, &a, sizeof(bits_a));
	memcpy(&bits_b, &b, sizeof(bits_b));
	return bits_a == bits_b;
}

static bool same_reading(const struct reading *r, json_t *want)
{
	switch (r->type) {
	case READING_NULL:
		return json_is_null(want);
	case READING_BOOL:
		return json_is_boolean(want) && r->u.boolean == json_is_true(want);
	case READING_INTEGER:
		return json_is_integer(want) && r->u.integer == json_integer_value(want);
	case READING_NUMBER:
		return json_is_real(want) && same_number(r->u.number, json_real_value(want));
	case READING_TEXT:
		return same_text(r, want);
	case READING_JSON:
		return same_text(r, json_object_get(want, "json"));
	}
	return false;
}

static const char *time_name(const struct sample *s)
{
	static const char *const names[] = {
		[SAMPLE_TIME_RECEIPT] = "receipt",
		[SAMPLE_TIME_DEVICE] = "device",
		[SAMPLE_TIME_RELATIVE] = "relative",
	};

	return names[s->time];
}

static void check_sample(const struct sample *s, json_t *want)
{
	json_t *seq = json_object_get(want, "seq");
	json_t *readings = json_object_get(want, "readings");

	assert_string_equal(time_name(s), text_of(want, "time"));
	if (s->time != SAMPLE_TIME_RECEIPT)
		assert_int_equal(s->ts_us, json_integer_value(json_object_get(want, "ts_us")));
	assert_int_equal(s->has_seq, seq != NULL);
	if (seq)
		assert_int_equal(s->seq, json_integer_value(seq));
	assert_int_equal(s->reading_count, json_object_size(readings));
	for (size_t i = 0; i < s->reading_count; i++) {
		const struct reading *r = &s->readings[i];

		assert_int_equal(r->name_len, strlen(r->name));
		if (!same_reading(r, json_object_get(readings, r->name)))
			fail_msg("reading %s is not what the vector says", r->name);
	}
}

static void check_refused(json_t *vector, int rc, const char *reason)
{
	assert_int_equal(rc,
			 strcmp(text_of(vector, "error"), "EMSGSIZE") == 0 ? -EMSGSIZE : -EBADMSG);
	if (!strstr(reason, text_of(vector, "reason")))
		fail_msg("the reason is \"%s\", without \"%s\"", reason, text_of(vector, "reason"));
}

static void check_vector(json_t *vector, struct arena *a)
{
	static struct bytes b;
	json_t *samples = json_object_get(vector, "samples");
	struct payload p;
	char reason[256] = "";
	int rc;

	print_message("        %s\n", text_of(vector, "name"));
	read_bytes(vector, &b);
	arena_reset(a);
	rc = payload_decode(a, format_of(vector), b.data, b.len, &limits, &p, reason,
			    sizeof(reason));
	if (!samples) {
		check_refused(vector, rc, reason);
		return;
	}
	if (rc)
		fail_msg("refused with %d: %s", rc, reason);
	assert_int_equal(p.sample_count, json_array_size(samples));
	for (size_t i = 0; i < p.sample_count; i++)
		check_sample(&p.samples[i], json_array_get(samples, i));
}

static json_t *load(const char *file)
{
	char path[128];
	json_error_t e;
	json_t *vectors;

	snprintf(path, sizeof(path), "tests/vectors/%s", file);
	vectors = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
	if (!vectors)
		fail_msg("%s, line %d: %s", path, e.line, e.text);
	return vectors;
}

static void check_file(const char *file)
{
	json_t *vectors = load(file);
	struct arena a;

	arena_init(&a, 65536, MEMORY);
	assert_true(json_array_size(vectors) > 20);
	for (size_t i = 0; i < json_array_size(vectors); i++)
		check_vector(json_array_get(vectors, i), &a);
	arena_free(&a);
	json_decref(vectors);
}

static void test_messages(void **state)
{
	(void)state;
	check_file("messages.json");
}

static void test_senml(void **state)
{
	(void)state;
	check_file("senml.json");
}

static void test_nrfcloud(void **state)
{
	(void)state;
	check_file("nrfcloud.json");
}

static void test_device(void **state)
{
	(void)state;
	check_file("device.json");
}

static void test_refused(void **state)
{
	(void)state;
	check_file("refused.json");
}

static const char *const files[] = {"messages.json", "senml.json", "nrfcloud.json", "device.json",
				    "refused.json"};

static void each_vector(void (*check)(const struct bytes *, enum payload_format))
{
	static struct bytes b;

	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		json_t *vectors = load(files[f]);

		for (size_t i = 0; i < json_array_size(vectors); i++) {
			json_t *vector = json_array_get(vectors, i);

			read_bytes(vector, &b);
			check(&b, format_of(vector));
		}
		json_decref(vectors);
	}
}

/* Whatever comes out, it keeps the contract: a result with readings, or an error with a clean
 * reason. */
static int decode_anything(struct arena *a, enum payload_format format, const void *data,
			   size_t len)
{
	char reason[64] = "";
	struct payload p;
	int rc;

	rc = payload_decode(a, format, data, len, &limits, &p, reason, sizeof(reason));
	assert_true(rc == 0 || rc == -EBADMSG || rc == -EMSGSIZE || rc == -ENOMEM);
	if (rc) {
		assert_true(reason[0] != '\0');
		assert_true(text_is_valid(reason, strlen(reason)));
		return rc;
	}
	assert_true(p.sample_count > 0);
	for (size_t i = 0; i < p.sample_count; i++)
		assert_true(p.samples[i].reading_count > 0);
	return 0;
}

/* Cut at every byte of a short message, in a buffer of exactly that size so that a read behind it
 * shows. */
static void decode_cut_short(const struct bytes *b, enum payload_format format)
{
	struct arena a;

	arena_init(&a, 65536, MEMORY);
	for (size_t len = 0; len<b->len; len += b->len> 400 ? b->len / 8 : 1) {
		unsigned char *cut = malloc(len ? len : 1);

		assert_non_null(cut);
		memcpy(cut, b->data, len);
		arena_reset(&a);
		decode_anything(&a, format, cut, len);
		free(cut);
	}
	arena_free(&a);
}

static void test_message_cut_short_anywhere_is_harmless(void **state)
{
	(void)state;
	each_vector(decode_cut_short);
}

static void decode_in_every_format(const struct bytes *b, enum payload_format ignored)
{
	struct arena a;

	(void)ignored;
	arena_init(&a, 65536, MEMORY);
	for (enum payload_format f = PAYLOAD_AUTO; f <= PAYLOAD_SENML_CBOR; f++) {
		arena_reset(&a);
		decode_anything(&a, f, b->data, b->len);
	}
	arena_free(&a);
}

static void test_message_in_another_format_than_said_is_harmless(void **state)
{
	(void)state;
	each_vector(decode_in_every_format);
}

/* With one allocation more each time, until it is enough: every failure is -ENOMEM, and clean. */
static void decode_starved(const struct bytes *b, enum payload_format format)
{
	struct arena enough;
	int rc = -ENOMEM, want;
	size_t step;

	arena_init(&enough, 65536, MEMORY);
	want = decode_anything(&enough, format, b->data, b->len);
	step = enough.used > 4096 ? enough.used / 64 : 16;
	for (size_t memory = 0; rc == -ENOMEM; memory += step) {
		struct arena a;

		assert_true(memory <= enough.used + step);
		arena_init(&a, 4096, memory);
		rc = decode_anything(&a, format, b->data, b->len);
		arena_free(&a);
	}
	assert_int_equal(rc, want);
	arena_free(&enough);
}

static void test_memory_that_runs_out_anywhere_is_an_error(void **state)
{
	(void)state;
	each_vector(decode_starved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_senml),
		cmocka_unit_test(test_nrfcloud),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_message_cut_short_anywhere_is_harmless),
		cmocka_unit_test(test_message_in_another_format_than_said_is_harmless),
		cmocka_unit_test(test_memory_that_runs_out_anywhere_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
