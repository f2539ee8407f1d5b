/* SPDX-License-Identifier: Apache-2.0 */
/* CoAP messages: what is written is what the vectors say, and is read back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "device-fw/core/coap_message.h"
#include "tests/firmware/coap_vectors.h"

static const uint8_t token[] = {1, 2, 3, 4};

static void begin(struct fg_coap_writer *w, void *buffer, size_t size)
{
	fg_coap_begin(w, buffer, size, FG_COAP_CON, FG_COAP_POST, 0x1234, token, sizeof(token));
}

/* A copy of just its size, so that reading beyond it is seen. */
static int parse(struct fg_coap_message *m, const uint8_t *bytes, size_t length, uint8_t **copy)
{
	*copy = malloc(length ? length : 1);
	assert_non_null(*copy);
	if (length > 0)
		memcpy(*copy, bytes, length);
	return fg_coap_parse(m, *copy, length);
}

static void expect_read(const struct coap_vector *v)
{
	struct fg_coap_message m;
	struct fg_coap_option o = {0};
	uint8_t *copy;

	assert_int_equal(parse(&m, v->bytes, v->length, &copy), 0);
	assert_int_equal(m.type, v->type);
	assert_int_equal(m.code, v->code);
	assert_int_equal(m.id, v->id);
	assert_int_equal(m.token_length, v->token_length);
	assert_memory_equal(m.token, v->token, v->token_length);
	for (size_t i = 0; i < v->option_count; i++) {
		assert_true(fg_coap_next_option(&m, &o));
		assert_int_equal(o.number, v->options[i].number);
		assert_int_equal(o.length, v->options[i].length);
		assert_memory_equal(o.value, v->options[i].value, o.length);
	}
	assert_false(fg_coap_next_option(&m, &o));
	assert_int_equal(m.payload_length, v->payload_length);
	assert_memory_equal(m.payload, v->payload, v->payload_length);
	free(copy);
}

static void write_vector(const struct coap_vector *v, struct fg_coap_writer *w, uint8_t *bytes,
			 size_t size)
{
	fg_coap_begin(w, bytes, size, (enum fg_coap_type)v->type, (uint8_t)v->code, (uint16_t)v->id,
		      v->token, (uint8_t)v->token_length);
	for (size_t i = 0; i < v->option_count; i++)
		fg_coap_option(w, (uint16_t)v->options[i].number, v->options[i].value,
			       v->options[i].length);
	fg_coap_payload(w, v->payload, v->payload_length);
}

static void expect_written(const struct coap_vector *v)
{
	struct fg_coap_writer w;

	/* Into each size that is too small, then into one that is just enough. */
	for (size_t size = 0; size <= v->length; size++) {
		uint8_t *bytes = malloc(size ? size : 1);

		assert_non_null(bytes);
		write_vector(v, &w, bytes, size);
		assert_int_equal(w.full, size < v->length);
		if (size == v->length) {
			assert_int_equal(w.length, v->length);
			assert_memory_equal(bytes, v->bytes, v->length);
		}
		free(bytes);
	}
}

static void expect_refused(const struct coap_vector *v)
{
	struct fg_coap_message m;
	uint8_t *copy;

	assert_int_equal(parse(&m, v->bytes, v->length, &copy), -EBADMSG);
	assert_int_equal(m.type == FG_COAP_CON, v->reset);
	if (v->reset)
		assert_int_equal(m.id, 1);
	free(copy);
}

static void test_vectors_are_read_and_written(void **state)
{
	static struct coap_vector v;
	FILE *file = fopen(COAP_VECTORS, "r");
	size_t count = 0;

	(void)state;
	assert_non_null(file);
	for (; coap_vector_next(file, &v); count++) {
		print_message("%s", strchr(v.line, '#'));
		if (v.refused) {
			expect_refused(&v);
		} else {
			expect_read(&v);
			expect_written(&v);
		}
	}
	fclose(file);
	assert_true(count > 50);
}

static void expect_path(const char *text, const char *const *segments)
{
	uint8_t bytes[64];
	struct fg_coap_writer w;
	struct fg_coap_message m;
	struct fg_coap_option o = {0};

	begin(&w, bytes, sizeof(bytes));
	fg_coap_option_split(&w, FG_COAP_OPTION_URI_PATH, text, '/');
	assert_false(w.full);
	assert_int_equal(fg_coap_parse(&m, bytes, w.length), 0);
	for (; *segments; segments++) {
		assert_true(fg_coap_next_option(&m, &o));
		assert_int_equal(o.number, FG_COAP_OPTION_URI_PATH);
		assert_int_equal(o.length, strlen(*segments));
		assert_memory_equal(o.value, *segments, o.length);
	}
	assert_false(fg_coap_next_option(&m, &o));
}

static void test_path_is_split_into_segments(void **state)
{
	(void)state;
	expect_path("msg/d2c", (const char *const[]){"msg", "d2c", NULL});
	expect_path("time", (const char *const[]){"time", NULL});
	expect_path("a//b/", (const char *const[]){"a", "", "b", "", NULL});
	expect_path("", (const char *const[]){NULL});
	expect_path(NULL, (const char *const[]){NULL});
}

static void test_numbers_take_as_few_bytes_as_they_need(void **state)
{
	static const uint32_t numbers[] = {0,	  1,	    255,       256,	  65535,
					   65536, 0xffffff, 0x1000000, UINT32_MAX};
	static const size_t lengths[] = {0, 1, 1, 2, 2, 3, 3, 4, 4};

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		uint8_t bytes[32];
		struct fg_coap_writer w;
		struct fg_coap_message m;
		struct fg_coap_option o;

		begin(&w, bytes, sizeof(bytes));
		fg_coap_option_uint(&w, FG_COAP_OPTION_MAX_AGE, numbers[i]);
		assert_int_equal(fg_coap_parse(&m, bytes, w.length), 0);
		assert_true(fg_coap_find_option(&m, FG_COAP_OPTION_MAX_AGE, &o));
		assert_int_equal(o.length, lengths[i]);
		assert_int_equal(fg_coap_find_uint(&m, FG_COAP_OPTION_MAX_AGE, 7), numbers[i]);
		assert_int_equal(fg_coap_find_uint(&m, FG_COAP_OPTION_ACCEPT, 7), 7);
	}
}

static void test_number_of_more_than_four_bytes_is_none(void **state)
{
	uint8_t bytes[32];
	struct fg_coap_writer w;
	struct fg_coap_message m;

	(void)state;
	begin(&w, bytes, sizeof(bytes));
	fg_coap_option(&w, FG_COAP_OPTION_MAX_AGE, "\0\0\0\0\1", 5);
	assert_int_equal(fg_coap_parse(&m, bytes, w.length), 0);
	assert_int_equal(fg_coap_find_uint(&m, FG_COAP_OPTION_MAX_AGE, 60), 60);
}

static void test_first_of_several_options_is_found(void **state)
{
	uint8_t bytes[32];
	struct fg_coap_writer w;
	struct fg_coap_message m;

	(void)state;
	begin(&w, bytes, sizeof(bytes));
	fg_coap_option_uint(&w, FG_COAP_OPTION_MAX_AGE, 1);
	fg_coap_option_uint(&w, FG_COAP_OPTION_MAX_AGE, 2);
	assert_int_equal(fg_coap_parse(&m, bytes, w.length), 0);
	assert_int_equal(fg_coap_find_uint(&m, FG_COAP_OPTION_MAX_AGE, 60), 1);
}

static void test_options_out_of_order_or_after_the_payload_are_not_written(void **state)
{
	uint8_t bytes[64];
	struct fg_coap_writer w;

	(void)state;
	begin(&w, bytes, sizeof(bytes));
	fg_coap_option_uint(&w, FG_COAP_OPTION_ACCEPT, 60);
	fg_coap_option_uint(&w, FG_COAP_OPTION_URI_PATH, 60);
	assert_true(w.full);
	begin(&w, bytes, sizeof(bytes));
	fg_coap_payload(&w, "x", 1);
	fg_coap_option_uint(&w, FG_COAP_OPTION_BLOCK2, 60);
	assert_true(w.full);
}

static void test_too_long_token_and_option_are_not_written(void **state)
{
	static uint8_t bytes[70000], value[66000];
	uint8_t long_token[9] = {0};
	struct fg_coap_writer w;

	(void)state;
	fg_coap_begin(&w, bytes, sizeof(bytes), FG_COAP_CON, FG_COAP_GET, 1, long_token, 9);
	assert_true(w.full);
	begin(&w, bytes, sizeof(bytes));
	fg_coap_option(&w, FG_COAP_OPTION_URI_PATH, value, sizeof(value));
	assert_true(w.full);
}

static void test_payload_is_written_in_place(void **state)
{
	uint8_t bytes[16], expected[16];
	struct fg_coap_writer w, e;
	size_t room;
	uint8_t *out;

	(void)state;
	begin(&w, bytes, sizeof(bytes));
	out = fg_coap_payload_begin(&w, &room);
	assert_int_equal(room, 7);
	memcpy(out, "payload", 7);
	fg_coap_payload_end(&w, 7);
	begin(&e, expected, sizeof(expected));
	fg_coap_payload(&e, "payload", 7);
	assert_false(w.full);
	assert_int_equal(w.length, e.length);
	assert_memory_equal(bytes, expected, e.length);
}

static void test_payload_of_nothing_has_no_marker(void **state)
{
	uint8_t bytes[16];
	struct fg_coap_writer w;
	size_t room;

	(void)state;
	begin(&w, bytes, sizeof(bytes));
	fg_coap_payload_begin(&w, &room);
	fg_coap_payload_end(&w, 0);
	assert_false(w.full);
	assert_int_equal(w.length, FG_COAP_HEADER + sizeof(token));
}

static void test_payload_longer_than_its_room_is_refused(void **state)
{
	uint8_t bytes[16];
	struct fg_coap_writer w;
	size_t room;

	(void)state;
	begin(&w, bytes, sizeof(bytes));
	fg_coap_payload_begin(&w, &room);
	fg_coap_payload_end(&w, room + 1);
	assert_true(w.full);
	begin(&w, bytes, FG_COAP_HEADER + sizeof(token));
	fg_coap_payload_begin(&w, &room);
	assert_int_equal(room, 0);
	fg_coap_payload_end(&w, 1);
	assert_true(w.full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors_are_read_and_written),
		cmocka_unit_test(test_path_is_split_into_segments),
		cmocka_unit_test(test_numbers_take_as_few_bytes_as_they_need),
		cmocka_unit_test(test_number_of_more_than_four_bytes_is_none),
		cmocka_unit_test(test_first_of_several_options_is_found),
		cmocka_unit_test(test_options_out_of_order_or_after_the_payload_are_not_written),
		cmocka_unit_test(test_too_long_token_and_option_are_not_written),
		cmocka_unit_test(test_payload_is_written_in_place),
		cmocka_unit_test(test_payload_of_nothing_has_no_marker),
		cmocka_unit_test(test_payload_longer_than_its_room_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
