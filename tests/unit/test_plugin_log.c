/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge from core's log to the broker's, with this program in the place of the broker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "plugin/log_bridge.h"
#include "core/base/rate_limit.h"

#define LINES	   400
#define RING_LINES 256 /* as in log_bridge.c */

static pthread_t broker;

static char lines[LINES][LOG_LINE_MAX];
static int levels[LINES];
static size_t line_count;
static bool foreign_call;

void mosquitto_log_printf(int level, const char *fmt, ...)
{
	va_list ap;

	if (!pthread_equal(pthread_self(), broker))
		foreign_call = true;
	assert_true(line_count < LINES);
	va_start(ap, fmt);
	vsnprintf(lines[line_count], sizeof(lines[0]), fmt, ap);
	va_end(ap);
	levels[line_count++] = level;
}

static int setup(void **state)
{
	(void)state;
	line_count = 0;
	foreign_call = false;
	broker = pthread_self();
	log_bridge_open();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	log_bridge_close();
	return 0;
}

static void *write_lines(void *arg)
{
	for (int i = 0; i < *(int *)arg; i++)
		log_info("worker", NULL, "line %d", i);
	return NULL;
}

static void other_thread_writes(int count)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, write_lines, &count), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_line_of_the_broker_thread_goes_out_at_once(void **state)
{
	(void)state;
	log_error("here", "dev-1", "100%% %s", "%n");
	assert_int_equal(line_count, 1);
	assert_string_equal(lines[0], "level=error event=here device=dev-1 msg=\"100% %n\"");
	assert_int_equal(levels[0], MOSQ_LOG_ERR);
}

static void test_line_of_another_thread_waits_for_the_broker_thread(void **state)
{
	(void)state;
	other_thread_writes(2);
	assert_int_equal(line_count, 0);
	log_bridge_drain();
	assert_int_equal(line_count, 2);
	assert_string_equal(lines[1], "level=info event=worker msg=\"line 1\"");
	assert_int_equal(levels[1], MOSQ_LOG_INFO);
	assert_false(foreign_call);
}

static void test_waiting_lines_go_before_a_line_of_the_broker_thread(void **state)
{
	(void)state;
	other_thread_writes(1);
	log_warn("here", NULL, "later");
	assert_int_equal(line_count, 2);
	assert_non_null(strstr(lines[0], "line 0"));
	assert_non_null(strstr(lines[1], "later"));
}

static void test_lines_beyond_the_ring_are_counted(void **state)
{
	(void)state;
	other_thread_writes(RING_LINES + 7);
	log_bridge_drain();
	assert_int_equal(line_count, RING_LINES + 1);
	assert_non_null(strstr(lines[RING_LINES - 1], "line 255"));
	assert_string_equal(lines[RING_LINES], "level=warn event=log_lines_dropped msg=\"7 lines "
					       "were not kept\"");
	line_count = 0;
	other_thread_writes(1);
	log_bridge_drain();
	assert_int_equal(line_count, 1);
}

static int64_t now_us;

static int64_t fake_now(void)
{
	return now_us;
}

static void test_limited_line_passes_once_per_interval_with_the_count(void **state)
{
	struct rate_limit l = {0};
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed = 99;

	(void)state;
	clock_override(NULL, fake_now);
	now_us = 1;
	assert_true(rate_limit_pass(&l, 1000, &suppressed));
	assert_string_equal(rate_limit_note(note, suppressed), "");
	now_us = 1000;
	assert_false(rate_limit_pass(&l, 1000, &suppressed));
	assert_false(rate_limit_pass(&l, 1000, &suppressed));
	now_us = 1001;
	assert_true(rate_limit_pass(&l, 1000, &suppressed));
	assert_string_equal(rate_limit_note(note, suppressed),
			    " (2 more since the last such line)");
	clock_override(NULL, NULL);
}

static void test_refusals_of_one_principal_share_a_limit(void **state)
{
	static struct refusal_limits limits;

	(void)state;
	assert_ptr_equal(refusal_limit(&limits, "dev-1"), refusal_limit(&limits, "dev-1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_line_of_the_broker_thread_goes_out_at_once,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_line_of_another_thread_waits_for_the_broker_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_waiting_lines_go_before_a_line_of_the_broker_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lines_beyond_the_ring_are_counted, setup,
						teardown),
		cmocka_unit_test(test_limited_line_passes_once_per_interval_with_the_count),
		cmocka_unit_test(test_refusals_of_one_principal_share_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
