/* SPDX-License-Identifier: Apache-2.0 */
/* Timers come in their order and not before their time; descriptors that are unwatched are silent,
 * whatever is known of them already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "device-fw/ports/posix/loop.h"

#define MANY 5000

static struct loop *loop;
static unsigned calls;

static int set_up(void **state)
{
	(void)state;
	loop = loop_new();
	calls = 0;
	return loop ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

struct probe {
	struct loop_timer timer;
	int64_t due_us;
	bool cancelled;
};

static struct probe probes[MANY];
static int64_t last_due_us;
static unsigned left;

static void on_probe(void *arg)
{
	struct probe *p = arg;

	assert_false(p->cancelled);
	assert_true(p->due_us >= last_due_us);
	assert_true(loop_now_us(loop) >= p->due_us);
	last_due_us = p->due_us;
	if (--left == 0)
		loop_stop(loop);
}

static void test_thousands_of_timers_come_in_order_those_moved_and_cancelled_too(void **state)
{
	int64_t now = loop_now_us(loop);

	(void)state;
	last_due_us = 0;
	left = MANY;
	srand(1);
	for (size_t i = 0; i < MANY; i++) {
		probes[i] = (struct probe){.timer = {.call = on_probe, .arg = &probes[i]}};
		probes[i].due_us = now + rand() % 50000;
		loop_at(loop, &probes[i].timer, probes[i].due_us);
	}
	for (size_t i = 0; i < MANY; i += 3) {
		probes[i].due_us = now + rand() % 50000;
		loop_at(loop, &probes[i].timer, probes[i].due_us);
	}
	for (size_t i = 0; i < MANY; i += 4) {
		probes[i].cancelled = true;
		loop_cancel(loop, &probes[i].timer);
		loop_cancel(loop, &probes[i].timer);
		left--;
	}
	loop_run(loop);
	assert_int_equal(left, 0);
}

static struct loop_timer again, stop;

static void on_again(void *arg)
{
	(void)arg;
	calls++;
	loop_at(loop, &again, 0);
}

static void on_stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void test_a_timer_that_is_always_due_keeps_nobody_waiting(void **state)
{
	(void)state;
	again = (struct loop_timer){.call = on_again};
	stop = (struct loop_timer){.call = on_stop};
	loop_at(loop, &again, 0);
	loop_at(loop, &stop, loop_now_us(loop) + 3000);
	loop_run(loop);
	assert_true(calls > 0);
}

static struct loop_fd ends[2];

static void on_end(void *arg, uint32_t events)
{
	struct loop_fd *other = arg;

	assert_true(events & EPOLLIN);
	calls++;
	loop_unwatch(loop, other);
}

/* Both are readable at the same wake-up; whichever is called first unwatches the other one. */
static void test_a_descriptor_that_another_has_unwatched_is_not_called_any_more(void **state)
{
	int a[2], b[2];

	(void)state;
	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	ends[0] = (struct loop_fd){.call = on_end, .arg = &ends[1], .fd = a[0]};
	ends[1] = (struct loop_fd){.call = on_end, .arg = &ends[0], .fd = b[0]};
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1);
	assert_int_equal(loop_watch(loop, &ends[0], EPOLLIN | EPOLLONESHOT), 0);
	assert_int_equal(loop_watch(loop, &ends[1], EPOLLIN | EPOLLONESHOT), 0);
	stop = (struct loop_timer){.call = on_stop};
	loop_at(loop, &stop, loop_now_us(loop) + 3000);
	loop_run(loop);
	assert_int_equal(calls, 1);
	close(a[0]);
	close(a[1]);
	close(b[0]);
	close(b[1]);
}

static void test_what_cannot_be_watched_is_told(void **state)
{
	struct loop_fd none = {.fd = -1};

	(void)state;
	assert_int_equal(loop_watch(loop, &none, EPOLLIN), -EBADF);
}

static void test_the_limit_of_open_files_is_raised_as_far_as_it_may(void **state)
{
	struct rlimit limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(loop_descriptors(), limit.rlim_max);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(limit.rlim_cur, limit.rlim_max);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_thousands_of_timers_come_in_order_those_moved_and_cancelled_too,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_timer_that_is_always_due_keeps_nobody_waiting, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_descriptor_that_another_has_unwatched_is_not_called_any_more, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_watched_is_told, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			test_the_limit_of_open_files_is_raised_as_far_as_it_may, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
