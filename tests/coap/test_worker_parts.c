/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the worker and of the supervisor that need no process: rates, the table of devices,
 * which settings change by a reload, and when a worker that died is started again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "coap-server/supervisor/children.h"
#include "coap-server/worker/bucket.h"
#include "coap-server/worker/devices.h"
#include "coap-server/worker/settings.h"
#include "core/base/clock.h"
#include "core/base/log.h"

/* --- bucket --- */

#define START (1000 * US_PER_S)

static void test_a_burst_passes_and_then_one_each_interval(void **state)
{
	struct bucket b = {0};

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(bucket_take(&b, START, US_PER_S, 5), 0);
	assert_int_equal(bucket_take(&b, START, US_PER_S, 5), US_PER_S);
	assert_int_equal(bucket_take(&b, START + US_PER_S - 1, US_PER_S, 5), 1);
	assert_int_equal(bucket_take(&b, START + US_PER_S, US_PER_S, 5), 0);
	assert_int_equal(bucket_take(&b, START + US_PER_S, US_PER_S, 5), US_PER_S);
}

static void test_what_is_refused_costs_nothing(void **state)
{
	struct bucket b = {0};

	(void)state;
	assert_int_equal(bucket_take(&b, START, US_PER_S, 1), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_not_equal(bucket_take(&b, START + 1, US_PER_S, 1), 0);
	assert_int_equal(bucket_take(&b, START + US_PER_S, US_PER_S, 1), 0);
}

static void test_a_long_silence_fills_the_bucket_and_no_more(void **state)
{
	struct bucket b = {0};
	int64_t later = START + 1000000 * US_PER_S;

	(void)state;
	for (int i = 0; i < 3; i++)
		bucket_take(&b, START, US_PER_S, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(bucket_take(&b, later, US_PER_S, 3), 0);
	assert_int_not_equal(bucket_take(&b, later, US_PER_S, 3), 0);
}

/* --- devices --- */

static void test_a_device_is_there_as_long_as_its_sessions(void **state)
{
	struct devices t;
	struct session a = {0}, b = {0};
	struct device *d;

	(void)state;
	assert_int_equal(devices_init(&t), 0);
	d = devices_get(&t, "dev-1");
	device_add(d, &a);
	device_add(devices_get(&t, "dev-1"), &b);
	assert_int_equal(t.count, 1);
	assert_int_equal(d->count, 2);
	devices_remove(&t, &a);
	assert_ptr_equal(devices_get(&t, "dev-1"), d);
	assert_null(a.device);
	devices_remove(&t, &b);
	assert_int_equal(t.count, 0);
	devices_free(&t);
}

static void test_the_session_that_was_silent_longest_is_first(void **state)
{
	struct devices t;
	struct session s[3] = {{0}};
	struct device *d;

	(void)state;
	assert_int_equal(devices_init(&t), 0);
	d = devices_get(&t, "dev-1");
	for (int i = 0; i < 3; i++)
		device_add(d, &s[i]);
	device_touch(&s[0]);
	device_touch(&s[0]);
	assert_ptr_equal(TAILQ_FIRST(&d->sessions), &s[1]);
	device_touch(&s[1]);
	assert_ptr_equal(TAILQ_FIRST(&d->sessions), &s[2]);
	for (int i = 0; i < 3; i++)
		devices_remove(&t, &s[i]);
	devices_free(&t);
}

static void count_device(void *arg, struct device *d)
{
	(void)d;
	++*(size_t *)arg;
}

static void test_thousands_of_devices_are_found_and_forgotten(void **state)
{
	enum { COUNT = 5000 };
	static struct session s[COUNT];
	struct devices t;
	size_t seen = 0;
	char id[16];

	(void)state;
	assert_int_equal(devices_init(&t), 0);
	for (int i = 0; i < COUNT; i++) {
		snprintf(id, sizeof(id), "dev-%d", i);
		device_add(devices_get(&t, id), &s[i]);
	}
	devices_each(&t, count_device, &seen);
	assert_int_equal(seen, COUNT);
	for (int i = 0; i < COUNT; i++) {
		snprintf(id, sizeof(id), "dev-%d", i);
		assert_ptr_equal(devices_get(&t, id), s[i].device);
	}
	for (int i = 0; i < COUNT; i++)
		devices_remove(&t, &s[i]);
	assert_int_equal(t.count, 0);
	devices_free(&t);
}

/* --- settings --- */

static void load(struct config *c, const char *text)
{
	char path[] = "/tmp/worker-test-XXXXXX", err[512];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	if (config_load(c, path, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	unlink(path);
}

static void test_a_reload_takes_what_it_can_and_names_the_rest(void **state)
{
	struct config now, fresh;
	char pending[256];

	(void)state;
	load(&now, "database.url = a\nstate.dir = /a\ncoap.jwt_audience = x\n");
	load(&fresh, "database.url = b\nstate.dir = /a\ncoap.requests_per_s = 7\n"
		     "coap.workers = 2\ncoap.certificate_file = /c\nlog.level = debug\n");
	settings_adopt(&now, &fresh, pending, sizeof(pending));
	config_free(&fresh);
	assert_string_equal(pending, "database.url, coap.workers");
	assert_string_equal(now.database_url, "a");
	assert_int_equal(now.coap_workers, 1);
	assert_int_equal(now.coap_requests_per_s, 7);
	assert_string_equal(now.coap_certificate_file, "/c");
	assert_null(now.coap_jwt_audience);
	assert_int_equal(now.log_level, LOG_LEVEL_DEBUG);
	config_free(&now);
}

static void test_many_changed_settings_are_cut_not_overrun(void **state)
{
	struct config now, fresh;
	char pending[24];

	(void)state;
	load(&now, "database.url = a\nstate.dir = /a\n");
	load(&fresh, "database.url = b\nstate.dir = /b\ncoap.workers = 2\n"
		     "coap.listen = [::]:1\ncoap.max_sessions = 17\n");
	settings_adopt(&now, &fresh, pending, sizeof(pending));
	assert_string_equal(pending, "database.url, state.dir");
	config_free(&fresh);
	config_free(&now);
}

/* --- children --- */

static char last_line[LOG_LINE_MAX];

static void keep_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

#define KILLED	     9 /* as waitpid has it */
#define EXITED(code) ((code) << 8)

static int64_t pause_after_short_life(struct child *c, int64_t now)
{
	c->pid = 123;
	c->started_us = now;
	child_ended(c, KILLED, now + 1, false);
	return c->start_at_us - now - 1;
}

static void test_pauses_grow_to_a_bound_and_a_long_life_forgives(void **state)
{
	struct child c = {.ready_fd = -1};

	(void)state;
	assert_int_equal(pause_after_short_life(&c, START), 100 * US_PER_MS);
	assert_int_equal(pause_after_short_life(&c, START), 200 * US_PER_MS);
	assert_int_equal(pause_after_short_life(&c, START), 400 * US_PER_MS);
	for (int i = 0; i < 100; i++)
		pause_after_short_life(&c, START);
	assert_int_equal(pause_after_short_life(&c, START), 10 * US_PER_S);
	c.started_us = START;
	child_ended(&c, KILLED, START + 3600 * US_PER_S, false);
	assert_int_equal(c.start_at_us, START + 3600 * US_PER_S);
}

static void test_the_end_of_a_worker_is_told_with_signal_or_exit_status(void **state)
{
	struct child c = {.ready_fd = -1, .pid = 123, .number = 3, .started_us = START};

	(void)state;
	child_ended(&c, KILLED, START + 1, false);
	assert_non_null(strstr(last_line, "event=worker_ended"));
	assert_non_null(strstr(last_line, "number=3 pid=123"));
	assert_non_null(strstr(last_line, "by signal 9 (Killed); another is started in 0.1 s"));
	child_ended(&c, EXITED(1), START + 1, true);
	assert_non_null(strstr(last_line, "with exit status 1\""));
	assert_true(c.done);
}

static void test_a_drain_that_is_through_is_not_started_again(void **state)
{
	struct child c = {.ready_fd = -1, .pid = 123, .drains = true, .started_us = START};

	(void)state;
	last_line[0] = '\0';
	child_ended(&c, EXITED(0), START + 1, false);
	assert_true(c.done);
	assert_string_equal(last_line, "");
	child_ended(&c, EXITED(1), START + 1, false);
	assert_false(c.done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_passes_and_then_one_each_interval),
		cmocka_unit_test(test_what_is_refused_costs_nothing),
		cmocka_unit_test(test_a_long_silence_fills_the_bucket_and_no_more),
		cmocka_unit_test(test_a_device_is_there_as_long_as_its_sessions),
		cmocka_unit_test(test_the_session_that_was_silent_longest_is_first),
		cmocka_unit_test(test_thousands_of_devices_are_found_and_forgotten),
		cmocka_unit_test(test_a_reload_takes_what_it_can_and_names_the_rest),
		cmocka_unit_test(test_many_changed_settings_are_cut_not_overrun),
		cmocka_unit_test(test_pauses_grow_to_a_bound_and_a_long_life_forgives),
		cmocka_unit_test(test_the_end_of_a_worker_is_told_with_signal_or_exit_status),
		cmocka_unit_test(test_a_drain_that_is_through_is_not_started_again),
	};

	log_set_sink(keep_line, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
