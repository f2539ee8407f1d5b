/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of a batch, and which of its rows have a say in telemetry_latest. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/store/batch.h"

#define METRICS 70 /* a mask of more than one word */

static struct batch b;

static int setup(void **state)
{
	(void)state;
	return batch_init(&b, METRICS);
}

static int teardown(void **state)
{
	(void)state;
	batch_free(&b);
	return 0;
}

/* A row with the metrics given, ended by -1; its own number is the value of each. */
static void add(const char *device, int64_t ts, int64_t seq, bool once, ...)
{
	struct batch_row *r = batch_add_row(&b);
	uint64_t number = b.row_count - 1;
	va_list ap;
	int metric;

	assert_non_null(r);
	r->device = (uint32_t)latest_device(&b.latest, &b.heap, device, strlen(device));
	r->ts_us = ts;
	r->seq = seq;
	r->once = once;
	va_start(ap, once);
	while ((metric = va_arg(ap, int)) >= 0)
		assert_true(batch_set_bits(&b, (size_t)metric, number, true));
	va_end(ap);
	assert_int_equal(batch_row_done(&b, 0), 0);
}

/* Rows that a device still has in telemetry_latest's rounds, newest first, as "row:metrics ". */
static const char *candidates(const char *device)
{
	static char text[512];
	int64_t d = latest_device(&b.latest, &b.heap, device, strlen(device));
	uint32_t c = b.latest.devices[d].newest, n = 0;

	text[0] = '\0';
	for (; c != LATEST_NONE; c = b.latest.candidates[c].older, n++) {
		char *p = text + strlen(text);

		p += sprintf(p, "%u:", b.latest.candidates[c].r.row);
		for (size_t m = 0; m <= METRICS; m++)
			if (mask_has(latest_mask(&b.latest, c), m))
				p += sprintf(p, "%zu,", m);
		strcpy(p, " ");
	}
	assert_int_equal(n, b.latest.devices[d].count);
	return text;
}

static void test_rows_that_look_alike_leave_the_newest(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++)
		add("a", i, 0, false, 1, 2, 69, -1);
	assert_string_equal(candidates("a"), "999:1,2,69, ");
	assert_int_equal(b.latest.most, 1);
}

static void test_each_metric_is_decided_by_the_newest_row_that_has_it(void **state)
{
	(void)state;
	add("a", 1, 0, false, 1, 2, 3, -1);
	add("a", 2, 0, false, 2, -1);
	add("a", 3, 0, false, 3, 65, -1);
	assert_string_equal(candidates("a"), "2:3,65, 1:2, 0:1, ");
}

static void test_late_row_in_the_batch_keeps_only_what_is_not_newer_elsewhere(void **state)
{
	(void)state;
	add("a", 10, 0, false, 1, 2, -1);
	add("a", 5, 0, false, 2, 3, -1);
	add("a", 4, 0, false, 1, 2, -1);
	add("a", 7, 0, false, 3, -1);
	assert_string_equal(candidates("a"), "0:1,2, 3:3, ");
}

static void test_of_equal_keys_the_first_counts(void **state)
{
	(void)state;
	add("a", 10, 7, false, 1, -1);
	add("a", 10, 7, false, 1, -1);
	add("a", 10, 8, false, 2, -1);
	assert_string_equal(candidates("a"), "2:2, 0:1, ");
}

static void test_row_that_may_be_a_repeat_replaces_nothing(void **state)
{
	(void)state;
	add("a", 1, 0, false, 1, -1);
	add("a", 2, 0, true, 1, -1);
	assert_string_equal(candidates("a"), "1:1, 0:1, ");
	add("a", 3, 0, false, 1, -1);
	assert_string_equal(candidates("a"), "2:1, ");
}

static void test_newest_row_without_values_still_moves_the_time(void **state)
{
	(void)state;
	add("a", 1, 0, false, 1, -1);
	add("a", 2, 0, false, -1);
	assert_string_equal(candidates("a"), "1: 0:1, ");
	add("a", 3, 0, false, 1, -1);
	assert_string_equal(candidates("a"), "2:1, ");
}

static void test_devices_do_not_mix(void **state)
{
	char name[16];

	(void)state;
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		add(name, i, 0, false, i % METRICS, -1);
	}
	assert_int_equal(b.latest.device_count, 3000);
	assert_string_equal(candidates("d0"), "0:0, ");
	assert_string_equal(candidates("d2999"), "2999:59, ");
}

static void add_extra(int64_t ts, uint64_t keys)
{
	struct batch_row *r = batch_add_row(&b);

	assert_non_null(r);
	r->device = (uint32_t)latest_device(&b.latest, &b.heap, "a", 1);
	r->ts_us = ts;
	r->latest_extra = batch_text(&b, "{}", 2);
	assert_int_equal(batch_row_done(&b, keys), 0);
}

static void test_extra_is_replaced_only_by_the_same_names(void **state)
{
	(void)state;
	add_extra(1, 100);
	add_extra(2, 200);
	assert_string_equal(candidates("a"), "1:70, 0:70, ");
	add_extra(3, 100);
	assert_string_equal(candidates("a"), "2:70, 1:70, ");
}

static void test_metric_is_null_where_it_was_not_set(void **state)
{
	(void)state;
	for (int i = 0; i < 2000; i++)
		add("a", i, 0, false, i == 1500 ? 5 : 6, -1);
	assert_true(b.metrics[5].used);
	assert_int_equal(b.metrics[5].present[1499], 0);
	assert_int_equal(b.metrics[5].present[1500], 1);
	assert_int_equal(b.metrics[5].values[1500], 1500);
	assert_false(b.metrics[7].used);
}

static void test_cleared_batch_remembers_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		add("a", i, 0, false, 5, 6, -1);
	batch_clear(&b);
	assert_int_equal(b.row_count, 0);
	assert_int_equal(b.latest.most, 0);
	for (int i = 0; i < 100; i++)
		add("b", i, 0, false, 6, -1);
	assert_false(b.metrics[5].used);
	assert_int_equal(b.metrics[5].present[50], 0);
	assert_int_equal(b.latest.device_count, 1);
	assert_string_equal(candidates("b"), "99:6, ");
}

static void test_second_value_for_a_metric_of_a_row_is_refused(void **state)
{
	(void)state;
	add("a", 1, 0, false, 5, -1);
	assert_false(batch_set_bits(&b, 5, 42, true));
	assert_int_equal(b.metrics[5].values[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_that_look_alike_leave_the_newest),
		cmocka_unit_test(test_each_metric_is_decided_by_the_newest_row_that_has_it),
		cmocka_unit_test(test_late_row_in_the_batch_keeps_only_what_is_not_newer_elsewhere),
		cmocka_unit_test(test_of_equal_keys_the_first_counts),
		cmocka_unit_test(test_row_that_may_be_a_repeat_replaces_nothing),
		cmocka_unit_test(test_newest_row_without_values_still_moves_the_time),
		cmocka_unit_test(test_devices_do_not_mix),
		cmocka_unit_test(test_extra_is_replaced_only_by_the_same_names),
		cmocka_unit_test(test_metric_is_null_where_it_was_not_set),
		cmocka_unit_test(test_cleared_batch_remembers_nothing),
		cmocka_unit_test(test_second_value_for_a_metric_of_a_row_is_refused),
	};
	struct CMUnitTest each[sizeof(tests) / sizeof(*tests)];

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		each[i] = tests[i];
		each[i].setup_func = setup;
		each[i].teardown_func = teardown;
	}
	return cmocka_run_group_tests(each, NULL, NULL);
}
