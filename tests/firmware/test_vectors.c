/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's messages of tests/vectors/device.json: from the readings that a vector describes the
 * core writes exactly its bytes. That the server takes them for these readings is what
 * tests/unit/test_payload_vectors.c tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "device-fw/core/reading.h"

#define READINGS_MAX 32
#define PAIRS_MAX    512
#define MESSAGE_MAX  1024

static const char *text_of(json_t *object, const char *member)
{
	return json_string_value(json_object_get(object, member));
}

static int64_t integer_of(json_t *object, const char *member)
{
	return json_integer_value(json_object_get(object, member));
}

static struct fg_reading reading_of(json_t *from)
{
	struct fg_reading r = {.name = text_of(from, "name"), .unit = text_of(from, "unit")};
	json_t *value;

	assert_non_null(r.name);
	if ((value = json_object_get(from, "bool"))) {
		r.type = FG_READING_BOOL;
		r.boolean = json_is_true(value);
	} else if ((value = json_object_get(from, "text"))) {
		r.type = FG_READING_TEXT;
		r.text = json_string_value(value);
	} else {
		assert_true(json_is_integer(json_object_get(from, "mantissa")));
		r.type = FG_READING_DECIMAL;
		r.mantissa = (int32_t)integer_of(from, "mantissa");
		r.decimals = (uint8_t)integer_of(from, "decimals");
	}
	return r;
}

struct message {
	struct fg_reading readings[READINGS_MAX];
	size_t count;
	int64_t time_ms;
};

static void read_message(json_t *from, struct message *m)
{
	json_t *readings = json_object_get(from, "readings");

	*m = (struct message){.count = json_array_size(readings),
			      .time_ms = integer_of(from, "ts")};
	assert_in_range(m->count, 1, READINGS_MAX);
	for (size_t i = 0; i < m->count; i++)
		m->readings[i] = reading_of(json_array_get(readings, i));
}

static void write_record(struct fg_cbor_writer *w, json_t *from)
{
	uint8_t pairs[PAIRS_MAX];
	struct message m;
	struct fg_record record;
	int length;

	read_message(from, &m);
	length = fg_readings_encode(m.readings, m.count, pairs, sizeof(pairs));
	assert_true(length > 0);
	record = (struct fg_record){.seq = (uint32_t)integer_of(from, "seq"),
				    .time_ms = m.time_ms,
				    .pair_count = (uint8_t)m.count,
				    .pairs = pairs,
				    .length = (size_t)length};
	fg_record_write(w, &record);
}

static void write_bulk(struct fg_cbor_writer *w, json_t *records)
{
	fg_cbor_array(w, json_array_size(records));
	for (size_t i = 0; i < json_array_size(records); i++)
		write_record(w, json_array_get(records, i));
}

static void write_message(struct fg_cbor_writer *w, json_t *device)
{
	json_t *from;
	struct message m;

	if ((from = json_object_get(device, "record"))) {
		write_record(w, from);
	} else if ((from = json_object_get(device, "bulk"))) {
		write_bulk(w, from);
	} else if ((from = json_object_get(device, "nrfcloud"))) {
		read_message(from, &m);
		assert_int_equal(m.count, 1);
		fg_nrfcloud_write(w, m.readings[0].name, &m.readings[0], m.time_ms);
	} else {
		from = json_object_get(device, "senml");
		read_message(from, &m);
		fg_senml_write(w, text_of(from, "base_name"), m.time_ms, m.readings, m.count);
	}
}

static void check_vector(json_t *vector)
{
	uint8_t bytes[MESSAGE_MAX];
	char hex[2 * MESSAGE_MAX + 1] = "";
	struct fg_cbor_writer w;

	fg_cbor_begin(&w, bytes, sizeof(bytes));
	write_message(&w, json_object_get(vector, "device"));
	assert_false(w.full);
	for (size_t i = 0; i < w.length; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	if (strcmp(hex, text_of(vector, "hex")) != 0)
		fail_msg("%s: the device writes %s", text_of(vector, "name"), hex);
}

static json_t *load(void)
{
	json_error_t e;
	json_t *vectors = json_load_file("tests/vectors/device.json", JSON_REJECT_DUPLICATES, &e);

	if (!vectors)
		fail_msg("tests/vectors/device.json, line %d: %s", e.line, e.text);
	assert_true(json_array_size(vectors) > 20);
	return vectors;
}

static void test_device_writes_the_vectors_bytes(void **state)
{
	json_t *vectors = load();

	(void)state;
	for (size_t i = 0; i < json_array_size(vectors); i++)
		check_vector(json_array_get(vectors, i));
	json_decref(vectors);
}

static void test_message_that_does_not_fit_is_never_whole(void **state)
{
	json_t *vectors = load();

	(void)state;
	for (size_t i = 0; i < json_array_size(vectors); i++) {
		json_t *vector = json_array_get(vectors, i);
		size_t length = strlen(text_of(vector, "hex")) / 2;

		for (size_t size = 0; size < length; size++) {
			uint8_t *bytes = malloc(size ? size : 1);
			struct fg_cbor_writer w;

			assert_non_null(bytes);
			fg_cbor_begin(&w, bytes, size);
			write_message(&w, json_object_get(vector, "device"));
			assert_true(w.full);
			free(bytes);
		}
	}
	json_decref(vectors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_device_writes_the_vectors_bytes),
		cmocka_unit_test(test_message_that_does_not_fit_is_never_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
