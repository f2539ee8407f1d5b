/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: what is submitted is settled in its order, when fdatasync has returned for it and
 * not before, and a failure is told for those messages whose segment it was and for no others.
 *
 * LINK: -Wl,--wrap=fdatasync,--wrap=malloc,--wrap=pthread_create
 */
#include "tests/unit/test_journal.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/base/config.h"
#include "core/pipeline/commit.h"
#include "core/pipeline/pipeline.h"

#define SEGMENT	 UINT64_C(4096)
#define LIMIT_MS 20000

/* --- The disk: only what the commit thread asks of it is counted, kept waiting or refused --- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	bool closed;	  /* fdatasync does not return */
	unsigned entered; /* calls so far */
	unsigned fails;	  /* bit n: call n, from 0 */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static _Atomic bool no_memory, no_thread;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	char name[16] = "";
	bool fails;

	pthread_getname_np(pthread_self(), name, sizeof(name));
	if (strcmp(name, "pipeline-commit") != 0)
		return __real_fdatasync(fd);
	pthread_mutex_lock(&disk.lock);
	fails = disk.fails >> disk.entered & 1;
	disk.entered++;
	pthread_cond_broadcast(&disk.moved);
	while (disk.closed)
		pthread_cond_wait(&disk.moved, &disk.lock);
	pthread_mutex_unlock(&disk.lock);
	if (!fails)
		return __real_fdatasync(fd);
	errno = EIO;
	return -1;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return no_memory ? NULL : __real_malloc(n);
}

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
	return no_thread ? EAGAIN : __real_pthread_create(t, a, f, arg);
}

static void disk_set(bool closed)
{
	pthread_mutex_lock(&disk.lock);
	disk.closed = closed;
	pthread_cond_broadcast(&disk.moved);
	pthread_mutex_unlock(&disk.lock);
}

static void disk_wait_entered(unsigned calls)
{
	pthread_mutex_lock(&disk.lock);
	while (disk.entered < calls)
		pthread_cond_wait(&disk.moved, &disk.lock);
	pthread_mutex_unlock(&disk.lock);
}

/* --- A journal with its commit --- */

struct state {
	struct dir dir;
	struct journal *journal;
	struct commit *commit;
	uint64_t segments[64]; /* of each ticket */
};

static int set_up(void **arg)
{
	struct state *s = calloc(1, sizeof(*s));
	char err[512];

	assert_non_null(s);
	disk.closed = false;
	disk.entered = disk.fails = 0;
	s->dir = dir_new();
	/* The journal's own thread must not sync meanwhile. */
	assert_int_equal(journal_open(&s->journal,
				      &(struct journal_options){.dir = s->dir.path,
								.max_bytes = MIB,
								.segment_bytes = SEGMENT,
								.sync_interval_ms = 3600 * 1000},
				      err, sizeof(err)),
			 0);
	assert_int_equal(commit_open(&s->commit, s->journal), 0);
	*arg = s;
	return 0;
}

static int tear_down(void **arg)
{
	struct state *s = *arg;

	disk_set(false);
	commit_close(s->commit);
	journal_close(s->journal);
	dir_remove(&s->dir);
	free(s);
	return 0;
}

static uint64_t submit(struct state *s)
{
	struct journal_position end;
	uint64_t ticket;

	assert_int_equal(commit_prepare(s->commit), 0);
	assert_int_equal(append_sized(s->journal, 1, 500, &end), 0);
	ticket = commit_add(s->commit, end);
	assert_true(ticket < sizeof(s->segments) / sizeof(*s->segments));
	s->segments[ticket] = end.segment;
	return ticket;
}

/* The last ticket before `count` more whose segment is not that of the first. */
static uint64_t submit_over_a_segment_change(struct state *s, unsigned more)
{
	uint64_t first = submit(s), ticket = first;

	while (s->segments[ticket] == s->segments[first])
		ticket = submit(s);
	for (unsigned i = 0; i < more; i++)
		assert_true(s->segments[submit(s)] == s->segments[ticket]);
	return ticket - 1;
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

static void expect_settled(struct state *s, uint64_t ticket, int rc)
{
	uint64_t settled = 0;
	int result = 1;

	assert_true(readable(commit_fd(s->commit), LIMIT_MS));
	assert_true(commit_settled(s->commit, &settled, &result));
	assert_int_equal(settled, ticket);
	assert_int_equal(result, rc);
}

static void expect_nothing_settled(struct state *s)
{
	uint64_t ticket;
	int rc;

	assert_false(readable(commit_fd(s->commit), 0));
	assert_false(commit_settled(s->commit, &ticket, &rc));
}

/* --- */

static void test_messages_of_one_batch_share_one_fdatasync(void **arg)
{
	struct state *s = *arg;

	for (uint64_t n = 1; n <= 5; n++)
		assert_int_equal(submit(s), n);
	commit_run(s->commit);
	expect_settled(s, 5, 0);
	expect_nothing_settled(s);
	assert_int_equal(disk.entered, 1);
}

static void test_nothing_is_settled_before_fdatasync_has_returned(void **arg)
{
	struct state *s = *arg;

	disk_set(true);
	submit(s);
	commit_run(s->commit);
	disk_wait_entered(1);
	expect_nothing_settled(s);
	disk_set(false);
	expect_settled(s, 1, 0);
}

static void test_nothing_is_synced_before_commit(void **arg)
{
	struct state *s = *arg;

	submit(s);
	assert_false(readable(commit_fd(s->commit), 50));
	assert_int_equal(disk.entered, 0);
}

static void test_batches_that_come_while_the_disk_works_share_the_next_fdatasync(void **arg)
{
	struct state *s = *arg;

	disk_set(true);
	submit(s);
	commit_run(s->commit);
	disk_wait_entered(1);
	for (int i = 0; i < 4; i++) {
		submit(s);
		commit_run(s->commit);
	}
	disk_set(false);
	for (uint64_t n = 1; n <= 5; n++)
		expect_settled(s, n, 0);
	assert_int_equal(disk.entered, 2);
}

static void test_a_batch_over_two_segments_is_settled_segment_by_segment(void **arg)
{
	struct state *s = *arg;
	uint64_t boundary = submit_over_a_segment_change(s, 2);

	commit_run(s->commit);
	expect_settled(s, boundary, 0);
	expect_settled(s, boundary + 3, 0);
	expect_nothing_settled(s);
	assert_int_equal(disk.entered, 2);
}

static void test_a_failure_in_the_first_segment_does_not_hurt_the_second(void **arg)
{
	struct state *s = *arg;
	uint64_t boundary = submit_over_a_segment_change(s, 2);

	disk.fails = 1;
	commit_run(s->commit);
	expect_settled(s, boundary, -EIO);
	expect_settled(s, boundary + 3, 0);
}

static void test_a_failure_in_the_second_segment_does_not_hurt_the_first(void **arg)
{
	struct state *s = *arg;
	uint64_t boundary = submit_over_a_segment_change(s, 2);

	disk.fails = 2;
	commit_run(s->commit);
	expect_settled(s, boundary, 0);
	expect_settled(s, boundary + 3, -EIO);
}

/* A second fdatasync of the same file would claim what is not so. */
static void test_after_a_failure_only_a_new_segment_is_believed(void **arg)
{
	struct state *s = *arg;

	submit(s);
	commit_run(s->commit);
	expect_settled(s, 1, 0);

	disk.fails = 2;
	disk_set(true);
	submit(s);
	commit_run(s->commit);
	disk_wait_entered(2);
	submit(s); /* in the same segment, after that fdatasync began */
	commit_run(s->commit);
	disk_set(false);
	expect_settled(s, 2, -EIO);
	expect_settled(s, 3, -EIO);

	submit(s);
	commit_run(s->commit);
	expect_settled(s, 4, 0);
	assert_int_equal(s->segments[3], s->segments[1]);
	assert_int_not_equal(s->segments[4], s->segments[1]);
}

static void *open_disk_soon(void *arg)
{
	(void)arg;
	usleep(50 * 1000);
	disk_set(false);
	return NULL;
}

static void test_close_waits_for_the_disk_and_settles_nothing_more(void **arg)
{
	struct state *s = *arg;
	pthread_t opener;

	disk_set(true);
	submit(s);
	commit_run(s->commit);
	disk_wait_entered(1);
	submit(s);
	commit_run(s->commit);
	submit(s); /* without a commit */
	assert_int_equal(pthread_create(&opener, NULL, open_disk_soon, NULL), 0);
	commit_close(s->commit);
	s->commit = NULL;
	pthread_join(opener, NULL);
	assert_int_equal(disk.entered, 1);
}

static void test_without_memory_or_thread_prepare_says_so(void **arg)
{
	struct state *s = *arg;

	no_memory = true;
	assert_int_equal(commit_prepare(s->commit), -ENOMEM);
	no_memory = false;
	no_thread = true;
	assert_int_equal(commit_prepare(s->commit), -EAGAIN);
	no_thread = false;
	submit(s);
	commit_run(s->commit);
	expect_settled(s, 1, 0);
}

/* --- The pipeline in front of it; its database is not there --- */

static struct pipeline *open_pipeline(const struct dir *d, enum durability durability)
{
	const struct config c = {
		.database_url = (char *)(uintptr_t) "host=/nonexistent",
		.database_connect_timeout_s = 1,
		.database_timeout_s = 1,
		.state_dir = (char *)(uintptr_t)d->path,
		.registry_poll_ms = 1000,
		.journal_durability = DURABILITY_DEFAULT,
		.journal_max_bytes = 4 * (int64_t)MIB,
		.journal_segment_bytes = (int64_t)MIB,
		.journal_sync_interval_ms = 10000,
		.payload_max_bytes = 1000,
		.payload_max_depth = 8,
		.payload_max_readings = 8,
		.store_batch_rows = 10,
		.store_status_interval_s = 60,
	};
	struct pipeline *p;
	char err[512];

	if (pipeline_open(&p, &c, "coap", durability, NULL, err, sizeof(err)) != 0)
		fail_msg("pipeline_open: %s", err);
	return p;
}

static void close_pipeline(struct pipeline *p, const struct dir *d)
{
	char command[128];

	pipeline_close(p);
	snprintf(command, sizeof(command), "rm -r %s", d->path);
	assert_int_equal(system(command), 0);
}

static const struct message telemetry = {
	.topic = "m/d/dev-1/d2c", .payload = "{\"a\":1}", .payload_len = 7};

static void test_with_durability_write_there_is_nothing_to_wait_for(void **arg)
{
	struct dir d = dir_new();
	struct pipeline *p = open_pipeline(&d, DURABILITY_WRITE);
	uint64_t ticket = 99;

	(void)arg;
	disk.entered = 0;
	assert_int_equal(pipeline_submit(p, &telemetry, &ticket), 0);
	assert_int_equal(ticket, 0);
	pipeline_commit(p);
	assert_false(readable(pipeline_commit_fd(p), 50));
	assert_int_equal(disk.entered, 0);
	close_pipeline(p, &d);
}

static void test_with_durability_fsync_tickets_grow_and_are_settled(void **arg)
{
	struct dir d = dir_new();
	struct pipeline *p = open_pipeline(&d, DURABILITY_FSYNC);
	uint64_t ticket = 0;
	int rc = 1;

	(void)arg;
	for (uint64_t n = 1; n <= 3; n++) {
		assert_int_equal(pipeline_submit(p, &telemetry, &ticket), 0);
		assert_int_equal(ticket, n);
	}
	pipeline_commit(p);
	assert_true(readable(pipeline_commit_fd(p), LIMIT_MS));
	assert_true(pipeline_settled(p, &ticket, &rc));
	assert_int_equal(ticket, 3);
	assert_int_equal(rc, 0);
	close_pipeline(p, &d);
}

static void test_what_nobody_needs_or_is_not_taken_has_no_ticket(void **arg)
{
	const struct message other = {.topic = "weather/oslo", .payload = "1", .payload_len = 1};
	static uint8_t much[3 * 1024 * 1024];
	const struct message large = {
		.topic = "m/d/dev-1/d2c", .payload = much, .payload_len = sizeof(much)};
	struct dir d = dir_new();
	struct pipeline *p = open_pipeline(&d, DURABILITY_FSYNC);
	uint64_t ticket = 99;

	(void)arg;
	assert_int_equal(pipeline_submit(p, &other, &ticket), 0);
	assert_int_equal(ticket, 0);
	assert_int_equal(pipeline_submit(p, &large, &ticket), -EMSGSIZE);
	assert_int_equal(ticket, 0);
	close_pipeline(p, &d);
}

/* Several threads log at once here. */
static void ignore_log(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)line;
	(void)arg;
}

int main(void)
{
#define WITH_JOURNAL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_JOURNAL(test_messages_of_one_batch_share_one_fdatasync),
		WITH_JOURNAL(test_nothing_is_settled_before_fdatasync_has_returned),
		WITH_JOURNAL(test_nothing_is_synced_before_commit),
		WITH_JOURNAL(test_batches_that_come_while_the_disk_works_share_the_next_fdatasync),
		WITH_JOURNAL(test_a_batch_over_two_segments_is_settled_segment_by_segment),
		WITH_JOURNAL(test_a_failure_in_the_first_segment_does_not_hurt_the_second),
		WITH_JOURNAL(test_a_failure_in_the_second_segment_does_not_hurt_the_first),
		WITH_JOURNAL(test_after_a_failure_only_a_new_segment_is_believed),
		WITH_JOURNAL(test_close_waits_for_the_disk_and_settles_nothing_more),
		WITH_JOURNAL(test_without_memory_or_thread_prepare_says_so),
		cmocka_unit_test(test_with_durability_write_there_is_nothing_to_wait_for),
		cmocka_unit_test(test_with_durability_fsync_tickets_grow_and_are_settled),
		cmocka_unit_test(test_what_nobody_needs_or_is_not_taken_has_no_ticket),
	};

	log_set_sink(ignore_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
