/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LINK: -Wl,--wrap=malloc
 * What the vectors cannot say of payload_decode: limits that are settings, memory, and what
 * PAYLOAD_AUTO answers to bytes that are nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "core/payload/payload.h"

static const struct decode_limits defaults = {
	.max_bytes = 131072, .max_depth = 8, .max_readings = 256};

struct fixture {
	struct arena arena;
	struct payload payload;
	char reason[256];
};

static size_t malloc_calls;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
	malloc_calls++;
	return __real_malloc(size);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	arena_init(&f->arena, 65536, 8u << 20);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	arena_free(&f->arena);
	free(f);
	return 0;
}

static int decode(struct fixture *f, const void *data, size_t len, struct decode_limits limits)
{
	arena_reset(&f->arena);
	return payload_decode(&f->arena, PAYLOAD_AUTO, data, len, &limits, &f->payload, f->reason,
			      sizeof(f->reason));
}

static int decode_text(struct fixture *f, const char *text)
{
	return decode(f, text, strlen(text), defaults);
}

static void test_readings_of_all_samples_count_together(void **state)
{
	const char *text = "[{\"a\":1,\"b\":2},{\"a\":3}]";
	struct decode_limits limits = defaults;

	limits.max_readings = 3;
	assert_int_equal(decode(*state, text, strlen(text), limits), 0);
	limits.max_readings = 2;
	assert_int_equal(decode(*state, text, strlen(text), limits), -EMSGSIZE);
}

static void test_ts_and_seq_are_no_readings_to_count(void **state)
{
	struct fixture *f = *state;
	const char *text = "[{\"ts\":1,\"seq\":1,\"a\":{\"b\":1,\"c\":2,\"d\":3}}]";
	struct decode_limits limits = defaults;

	limits.max_readings = 3;
	assert_int_equal(decode(f, text, strlen(text), limits), 0);
	assert_int_equal(f->payload.samples[0].reading_count, 3);
}

static void test_reading_renamed_by_its_unit_counts_once(void **state)
{
	const char *text = "[{\"bn\":\"x\",\"u\":\"A\",\"v\":1},{\"u\":\"B\",\"v\":2}]";
	struct decode_limits limits = defaults;

	limits.max_readings = 3; /* x, x.unit, x.B */
	assert_int_equal(decode(*state, text, strlen(text), limits), 0);
}

static void test_cbor_is_decoded_without_malloc_in_the_steady_state(void **state)
{
	const char bytes[] = "\xa2\x61\x61\x18\x64\x61\x62\xa1\x61\x63\x63xyz";
	struct fixture *f = *state;

	assert_int_equal(decode(f, bytes, sizeof(bytes) - 1, defaults), 0);
	malloc_calls = 0;
	for (int i = 0; i < 100; i++)
		assert_int_equal(decode(f, bytes, sizeof(bytes) - 1, defaults), 0);
	assert_int_equal(malloc_calls, 0);
}

static void test_reading_names_outlive_the_message(void **state)
{
	char bytes[] = "\xa1\x64temp\x01";
	struct fixture *f = *state;

	assert_int_equal(decode(f, bytes, sizeof(bytes) - 1, defaults), 0);
	memset(bytes, 0, sizeof(bytes));
	assert_string_equal(f->payload.samples[0].readings[0].name, "temp");
}

static void test_unclear_bytes_get_the_reason_of_the_format_they_resemble(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(decode_text(f, "hello world"), -EBADMSG);
	assert_non_null(strstr(f->reason, "JSON"));
	assert_int_equal(decode_text(f, "21.5 C"), -EBADMSG);
	assert_non_null(strstr(f->reason, "JSON"));
	assert_int_equal(decode_text(f, "{\"a\":\"\xff\x01\"}"), -EBADMSG);
	assert_non_null(strstr(f->reason, "JSON"));
	assert_int_equal(decode_text(f, "\xa2\x61\x61\x01"), -EBADMSG);
	assert_non_null(strstr(f->reason, "CBOR"));
	assert_int_equal(decode_text(f, "torn text\xff\x01"), -EBADMSG);
	assert_non_null(strstr(f->reason, "CBOR"));
	assert_int_equal(decode(f, "\0", 1, defaults), 0);
	assert_int_equal(decode(f, "\0\0", 2, defaults), -EBADMSG);
	assert_non_null(strstr(f->reason, "CBOR"));
}

static void test_a_limit_that_json_exceeds_is_not_tried_as_cbor(void **state)
{
	struct fixture *f = *state;
	struct decode_limits limits = defaults;

	limits.max_readings = 2;
	assert_int_equal(decode(f, "[1,2,3]", 7, limits), -EMSGSIZE);
	assert_non_null(strstr(f->reason, "JSON: 3 items"));
}

static void test_what_is_said_to_be_json_is_not_tried_as_cbor(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(payload_decode(&f->arena, PAYLOAD_JSON, "\xa1\x61\x61\x01", 4, &defaults,
					&f->payload, f->reason, sizeof(f->reason)),
			 -EBADMSG);
	assert_non_null(strstr(f->reason, "JSON"));
}

static void test_no_format_that_there_is_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(payload_decode(&f->arena, (enum payload_format)99, "1", 1, &defaults,
					&f->payload, f->reason, sizeof(f->reason)),
			 -EINVAL);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_readings_of_all_samples_count_together),
		TEST(test_ts_and_seq_are_no_readings_to_count),
		TEST(test_reading_renamed_by_its_unit_counts_once),
		TEST(test_cbor_is_decoded_without_malloc_in_the_steady_state),
		TEST(test_reading_names_outlive_the_message),
		TEST(test_unclear_bytes_get_the_reason_of_the_format_they_resemble),
		TEST(test_a_limit_that_json_exceeds_is_not_tried_as_cbor),
		TEST(test_what_is_said_to_be_json_is_not_tried_as_cbor),
		TEST(test_no_format_that_there_is_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
