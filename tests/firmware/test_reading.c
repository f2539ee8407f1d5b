/* SPDX-License-Identifier: Apache-2.0 */
/* How readings are kept and put into a buffer; what is written is in tests/vectors/device.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "device-fw/core/reading.h"

static const struct fg_reading readings[] = {
	{.name = "temperature", .mantissa = 2153, .decimals = 2},
	{.name = "tamper", .type = FG_READING_BOOL, .boolean = true},
	{.name = "network", .type = FG_READING_TEXT, .text = "LTE-M"},
};

#define PAIRS_LENGTH (12 + 5 + 7 + 1 + 8 + 6)

static void test_pairs_are_what_a_map_holds(void **state)
{
	uint8_t pairs[64] = {0xa3};
	struct fg_cbor_walk walk = {.next = fg_cbor_walk_next};
	struct fg_cbor_item item;
	int length = fg_readings_encode(readings, 3, pairs + 1, sizeof(pairs) - 1);

	(void)state;
	assert_int_equal(length, PAIRS_LENGTH);
	fg_cbor_read(&walk.in, pairs, 1 + (size_t)length);
	do {
		assert_int_equal(fg_cbor_step(&walk, &item), 0);
	} while (walk.depth > 0);
	assert_ptr_equal(walk.in.at, walk.in.end);
}

static void test_pairs_that_do_not_fit_are_refused(void **state)
{
	(void)state;
	for (size_t size = 0; size <= PAIRS_LENGTH; size++) {
		uint8_t *pairs = malloc(size ? size : 1);

		assert_non_null(pairs);
		assert_int_equal(fg_readings_encode(readings, 3, pairs, size),
				 size < PAIRS_LENGTH ? -EMSGSIZE : PAIRS_LENGTH);
		free(pairs);
	}
}

static void test_no_readings_are_no_pairs(void **state)
{
	uint8_t nothing;

	(void)state;
	assert_int_equal(fg_readings_encode(NULL, 0, &nothing, 0), 0);
}

/* So a batch can take the records that fit, and leave the next one for the next message. */
static void test_records_follow_each_other_in_a_buffer(void **state)
{
	uint8_t pairs[64], one[128], all[128];
	struct fg_record record = {.seq = 7, .time_ms = 1763695200123, .pair_count = 3};
	struct fg_cbor_writer w, b;

	(void)state;
	record.pairs = pairs;
	record.length = (size_t)fg_readings_encode(readings, 3, pairs, sizeof(pairs));
	fg_cbor_begin(&w, one, sizeof(one));
	fg_record_write(&w, &record);
	fg_cbor_begin(&b, all, 2 * w.length + 3);
	for (int i = 0; i < 2; i++)
		fg_record_write(&b, &record);
	assert_false(b.full);
	assert_int_equal(b.length, 2 * w.length);
	assert_memory_equal(all + w.length, one, w.length);
	fg_record_write(&b, &record);
	assert_true(b.full);
	assert_memory_equal(all, one, w.length);
}

static void test_record_without_time_has_no_ts(void **state)
{
	uint8_t pairs[64], out[128];
	struct fg_record record = {.seq = 7, .pair_count = 3, .pairs = pairs};
	struct fg_cbor_writer w;

	(void)state;
	record.length = (size_t)fg_readings_encode(readings, 3, pairs, sizeof(pairs));
	fg_cbor_begin(&w, out, sizeof(out));
	fg_record_write(&w, &record);
	assert_int_equal(w.length, 1 + 5 + PAIRS_LENGTH);
	assert_memory_equal(out, "\xa4\x63seq\x07", 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs_are_what_a_map_holds),
		cmocka_unit_test(test_pairs_that_do_not_fit_are_refused),
		cmocka_unit_test(test_no_readings_are_no_pairs),
		cmocka_unit_test(test_records_follow_each_other_in_a_buffer),
		cmocka_unit_test(test_record_without_time_has_no_ts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
