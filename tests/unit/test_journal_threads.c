/* SPDX-License-Identifier: Apache-2.0 */
/* The journal with its threads at work at the same time, and with its process killed. */
#include "tests/unit/test_journal.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define RECORDS 300000

struct shared {
	struct journal *j;
	_Atomic bool done;
	_Atomic uint64_t turns;
	_Atomic unsigned errors; /* cmocka's assertions are for the main thread only */
};

static void *write_records(void *arg)
{
	struct shared *s = arg;

	for (uint64_t n = 0; n < RECORDS;) {
		int rc = append_sized(s->j, n, 40 + (size_t)(n % 50), NULL);

		if (rc == -ENOBUFS)
			usleep(100);
		else if (rc)
			s->errors++;
		else
			n++;
	}
	return NULL;
}

static void *sync_records(void *arg)
{
	struct shared *s = arg;
	struct journal_position last = {0, 0};

	while (!s->done) {
		struct journal_position end = journal_end(s->j);
		struct journal_position durable;

		if (journal_sync(s->j, end) != 0)
			s->errors++;
		durable = journal_durable(s->j);
		if (journal_position_compare(durable, end) < 0 ||
		    journal_position_compare(durable, last) < 0)
			s->errors++;
		last = durable;
		if (stats_of(s->j).bytes > 8 * MIB)
			s->errors++;
		usleep(500);
	}
	return NULL;
}

/* Sleeps until the time is up when a wake-up is lost: -1. */
static int64_t wait_for_number(struct journal_reader *r, struct journal_position *next)
{
	struct pollfd p = {.fd = journal_wakeup_fd(r), .events = POLLIN};
	int64_t n = read_one(r, next);

	while (n < 0) {
		journal_arm(r);
		n = read_one(r, next);
		if (n < 0 && poll(&p, 1, 60000) != 1)
			return -1;
		if (n < 0)
			n = read_one(r, next);
	}
	return n;
}

static void test_one_writes_one_reads_and_some_sync_at_the_same_time(void **state)
{
	struct dir d = dir_new();
	struct shared s = {.j = open_sized(&d, 8 * MIB, MIB)};
	struct journal_position next;
	pthread_t writer, syncer[2];

	(void)state;
	assert_int_equal(pthread_create(&writer, NULL, write_records, &s), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&syncer[i], NULL, sync_records, &s), 0);
	for (uint64_t n = 0; n < RECORDS; n++) {
		assert_int_equal(wait_for_number(reader_of(s.j), &next), n);
		if (n % 1000 == 0)
			journal_release(s.j, next);
	}
	s.done = true;
	pthread_join(writer, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(syncer[i], NULL);
	assert_int_equal(s.errors, 0);
	assert_int_equal(read_number(s.j, NULL), -1);
	assert_int_equal(stats_of(s.j).appended, RECORDS);
	assert_int_equal(stats_of(s.j).skipped_bytes, 0);
	close_journal(s.j);
	dir_remove(&d);
}

/* --- Several readers --- */

struct following {
	struct shared *s;
	struct journal_reader *r;
	uint64_t every; /* records between two positions */
	uint64_t read;
};

/* Every number, or if segments were deleted first, some of them in order. */
static void *follow(void *arg)
{
	struct following *f = arg;
	struct journal_position next;
	int64_t n, last = -1;

	while (last + 1 < RECORDS) {
		n = wait_for_number(f->r, &next);
		if (n <= last || (n > last + 1 && journal_missed(f->r) == 0)) {
			f->s->errors++;
			return NULL;
		}
		last = n;
		f->read++;
		if (f->read % f->every == 0)
			journal_keep(f->r, next);
	}
	return NULL;
}

/* The store and two followers, of which one keeps much and one asks for nothing for long. All sleep
 * and are woken all the time; the bound is so near that appends delete too. */
static void test_readers_that_follow_at_the_same_time_lose_nothing_but_what_was_deleted(
	void **state)
{
	struct dir d = dir_new();
	struct shared s = {.j = open_sized(&d, 8 * MIB, MIB)};
	struct following followers[2] = {{.s = &s, .every = 1000}, {.s = &s, .every = 50000}};
	pthread_t writer, threads[2];
	struct journal_position next;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(journal_reader_open(&followers[i].r, s.j), 0);
		journal_keep(followers[i].r, (struct journal_position){0, 0});
		assert_int_equal(pthread_create(&threads[i], NULL, follow, &followers[i]), 0);
	}
	assert_int_equal(pthread_create(&writer, NULL, write_records, &s), 0);
	for (uint64_t n = 0; n < RECORDS; n++) {
		assert_int_equal(wait_for_number(reader_of(s.j), &next), n);
		if (n % 1000 == 0)
			journal_release(s.j, next);
	}
	pthread_join(writer, NULL);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_true(followers[i].read == RECORDS || journal_missed(followers[i].r) > 0);
		journal_reader_close(followers[i].r);
	}
	assert_int_equal(s.errors, 0);
	assert_int_equal(stats_of(s.j).skipped_bytes, 0);
	close_journal(s.j);
	dir_remove(&d);
}

/* One record at a time, and the next one only when all have it: each has slept. */
static void *take_turns(void *arg)
{
	struct following *f = arg;

	for (uint64_t n = 0; n < 5000; n++) {
		if (wait_for_number(f->r, NULL) != (int64_t)n) {
			f->s->errors++;
			return NULL;
		}
		f->s->turns++;
	}
	return NULL;
}

static void test_no_wake_up_of_several_sleepers_is_lost(void **state)
{
	struct dir d = dir_new();
	struct shared s = {.j = open_journal(&d)};
	struct following sleepers[3] = {{.s = &s}, {.s = &s}, {.s = &s}};
	pthread_t threads[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(journal_reader_open(&sleepers[i].r, s.j), 0);
		assert_int_equal(pthread_create(&threads[i], NULL, take_turns, &sleepers[i]), 0);
	}
	for (uint64_t n = 0; n < 5000; n++) {
		append(s.j, n);
		while (s.turns < 3 * (n + 1) && s.errors == 0)
			sched_yield();
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		journal_reader_close(sleepers[i].r);
	}
	assert_int_equal(s.errors, 0);
	close_journal(s.j);
	dir_remove(&d);
}

/* --- The thread sleeps --- */

/* How often the journal's thread was put to sleep. */
static long thread_sleeps(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *e;
	long sleeps = -1;

	assert_non_null(tasks);
	while ((e = readdir(tasks))) {
		char path[300], line[128];
		bool ours = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f)) {
			if (strcmp(line, "Name:\tjournal-sync\n") == 0)
				ours = true;
			if (ours && sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps) == 1)
				break;
		}
		if (f)
			fclose(f);
	}
	closedir(tasks);
	return sleeps;
}

static void test_an_idle_journal_wakes_nobody(void **state)
{
	struct dir d = dir_new();
	struct journal *j = open_journal(&d);
	long before;

	(void)state;
	append(j, 0);
	usleep(200000);
	before = thread_sleeps();
	assert_true(before > 0);
	usleep(400000); /* twenty times the interval */
	assert_in_range(thread_sleeps() - before, 0, 2);
	close_journal(j);
	dir_remove(&d);
}

/* --- kill -9 --- */

static void append_until_killed(const struct dir *d, uint64_t n, uint64_t segment_bytes, int report)
{
	struct journal *j = open_sized(d, 64 * MIB, segment_bytes);

	for (;; n++) {
		if (append_sized(j, n, 40 + (size_t)(n % 3000), NULL) != 0)
			_exit(1);
		if (write(report, &n, sizeof(n)) != (ssize_t)sizeof(n))
			_exit(2);
	}
}

/* The last number that the child reported; it is killed while it goes on after `reports` of them.
 */
static int64_t kill_after(pid_t child, int pipe_fd, int reports)
{
	uint64_t n;
	int64_t last = -1;
	int status;

	while (reports-- > 0 && read(pipe_fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		last = (int64_t)n;
	kill(child, SIGKILL);
	while (read(pipe_fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		last = (int64_t)n;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return last;
}

static void test_what_a_killed_process_reported_is_read_once_and_in_order(void **state)
{
	struct dir d = dir_new();
	uint64_t expected = 0;
	struct journal *j;

	(void)state;
	srand(1);
	for (int round = 0; round < 30; round++) {
		struct journal_position next = {0, 0};
		int64_t n, last_reported;
		int p[2];
		pid_t child;

		assert_int_equal(pipe(p), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0)
			append_until_killed(&d, expected, round % 2 ? 4096 : MIB, p[1]);
		close(p[1]);
		last_reported = kill_after(child, p[0], rand() % (round % 2 ? 100 : 1500));
		close(p[0]);

		j = open_journal(&d);
		while ((n = read_number(j, &next)) >= 0) {
			if ((uint64_t)n < expected)
				continue; /* of an earlier round, in a segment not released yet */
			assert_int_equal(n, expected);
			expected++;
		}
		assert_true((int64_t)expected > last_reported);
		assert_true((int64_t)expected <= last_reported + 2 || last_reported < 0);
		assert_int_equal(stats_of(j).skipped_bytes, 0);
		journal_release(j, next);
		close_journal(j);
	}
	dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_writes_one_reads_and_some_sync_at_the_same_time),
		cmocka_unit_test(
			test_readers_that_follow_at_the_same_time_lose_nothing_but_what_was_deleted),
		cmocka_unit_test(test_no_wake_up_of_several_sleepers_is_lost),
		cmocka_unit_test(test_an_idle_journal_wakes_nobody),
		cmocka_unit_test(test_what_a_killed_process_reported_is_read_once_and_in_order),
	};

	log_set_sink(keep_log, NULL);
	return cmocka_run_group_tests_name("journal threads", tests, NULL, NULL);
}
