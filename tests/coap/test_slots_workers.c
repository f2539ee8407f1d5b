/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coap-server/dtls/slots: sessions follow the worker that the sockets steer their records to.
 *
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=strdup,--wrap=strndup
 */
#include "tests/coap/slots_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- Another number of workers --- */

static void redistribute(unsigned workers, long moved)
{
	long n = slots_redistribute(dir, workers, 64, err, sizeof(err));

	if (n < 0)
		fail_msg("%s", err);
	assert_int_equal(n, moved);
}

static void open_worker(unsigned worker)
{
	snprintf(path, sizeof(path), "%s/worker-%u.slots", dir, worker);
	reopen(64);
	assert_int_equal(found.damaged, 0);
}

/* Byte 0 of these CIDs is 0..39. */
static void assert_distributed(unsigned workers, unsigned sessions)
{
	size_t all = 0;

	for (unsigned w = 0; w < workers; w++) {
		open_worker(w);
		all += found.count;
		for (unsigned i = 0; i < sessions; i++) {
			struct slot_content c = session(i);

			assert_int_equal(found_id(c.id), i % workers == w);
		}
	}
	assert_int_equal(all, sessions);
	snprintf(path, sizeof(path), "%s/worker-%u.slots", dir, workers);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_other_numbers_of_workers_lose_no_cid_session(void **state)
{
	(void)state;
	fill(64, 40);
	redistribute(1, 0);
	assert_distributed(1, 40);
	redistribute(4, 30);
	assert_distributed(4, 40);
	redistribute(4, 0);
	redistribute(2, 20);
	assert_distributed(2, 40);
	redistribute(3, 26);
	assert_distributed(3, 40);
	assert_string_equal(last_line, "");
}

static void test_a_moved_session_is_the_same(void **state)
{
	struct slots *s = open_slots(64);
	struct slot_content c = session(7);
	uint32_t slot = put(s, &c);

	(void)state;
	slots_set_out(s, slot, EPOCH | 99);
	slots_close(s);
	redistribute(4, 1);
	open_worker(3);
	patch(&c, EPOCH | 99, 5, 0x1f);
	assert_int_equal(found.count, 1);
	assert_same(&found.c[0], &c);
}

static void test_sessions_without_cid_stay_or_go_with_their_worker(void **state)
{
	struct slot_content c = session(9);

	(void)state;
	c.has_cid = false;
	for (unsigned w = 0; w < 3; w++) {
		struct slots *s;

		snprintf(path, sizeof(path), "%s/worker-%u.slots", dir, w);
		s = open_slots(64);
		put(s, &c);
		slots_close(s);
	}
	redistribute(2, 0);
	assert_non_null(strstr(last_line, "event=slots_lost"));
	assert_non_null(strstr(last_line, "1 sessions"));
	open_worker(0);
	assert_int_equal(found.count, 1);
	open_worker(1);
	assert_int_equal(found.count, 1);
}

static void test_workers_with_too_few_slots_lose_the_rest(void **state)
{
	(void)state;
	fill(64, 40);
	assert_int_equal(slots_redistribute(dir, 2, 4, err, sizeof(err)), 4);
	assert_non_null(strstr(last_line, "event=slots_lost"));
	assert_non_null(strstr(last_line, "16 sessions"));
	reopen(64);
	assert_int_equal(found.count, 20); /* these had not to move */
}

static void test_nothing_moves_while_a_worker_runs(void **state)
{
	struct slots *s;

	(void)state;
	fill(64, 4);
	s = open_slots(64);
	assert_int_equal(slots_redistribute(dir, 2, 64, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "in use by another process"));
	slots_close(s);
	reopen(64);
	assert_int_equal(found.count, 4);
}

static void test_other_files_are_left_alone(void **state)
{
	char other[128];
	int fd;

	(void)state;
	snprintf(other, sizeof(other), "%s/worker-07.slots", dir);
	fd = open(other, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	redistribute(2, 0);
	assert_int_equal(access(other, F_OK), 0);
	redistribute(1, 0);
	assert_int_equal(access(other, F_OK), 0);
}

/* --- Memory that is not there --- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);

static int fail_at; /* the how-manieth allocation from now; 0: none */

static bool fails_now(void)
{
	return fail_at > 0 && --fail_at == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

char *__wrap_strdup(const char *text)
{
	return fails_now() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len)
{
	return fails_now() ? NULL : __real_strndup(text, len);
}

static void test_a_failed_allocation_moves_no_session_into_nowhere(void **state)
{
	int failures = 0;
	long rc = -1;

	(void)state;
	fill(64, 40);
	while (rc < 0 && failures < 1000) {
		fail_at = failures + 1;
		rc = slots_redistribute(dir, 4, 64, err, sizeof(err));
		fail_at = 0;
		failures += rc < 0;
	}
	assert_true(failures > 10);
	assert_distributed(4, 40);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_other_numbers_of_workers_lose_no_cid_session),
		TEST(test_a_moved_session_is_the_same),
		TEST(test_sessions_without_cid_stay_or_go_with_their_worker),
		TEST(test_workers_with_too_few_slots_lose_the_rest),
		TEST(test_nothing_moves_while_a_worker_runs),
		TEST(test_other_files_are_left_alone),
		TEST(test_a_failed_allocation_moves_no_session_into_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
