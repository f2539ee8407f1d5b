/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that die, hang or forget, connections cut at the worst moment: every record exactly once.
 */
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "core/base/clock.h"
#include "tests/unit/cut_proxy.h"
#include "tests/unit/store_fixture.h"

/* Messages of all kinds of keys: own time, number only, neither; and some that cannot be decoded.
 */
static void put_mixed(struct store_fixture *f, int from, int n)
{
	char json[128], device[16];

	for (int i = from; i < from + n; i++) {
		int64_t now = clock_realtime_us();

		snprintf(device, sizeof(device), "dev-%d", i % 7);
		if (i % 50 == 0)
			snprintf(json, sizeof(json), "{%d", i);
		else if (i % 3 == 0)
			snprintf(json, sizeof(json), "{\"ts\":%" PRId64 ",\"light\":%d}",
				 now / 1000, i);
		else if (i % 3 == 1)
			snprintf(json, sizeof(json), "{\"seq\":%d,\"light\":%d}", i, i);
		else
			snprintf(json, sizeof(json), "{\"light\":%d}", i);
		store_fixture_put_at(f, device, "", json, now);
	}
}

static void assert_each_stored_once(struct store_fixture *f, int n)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
		 "select row(count(*), count(distinct light), count(*) filter (where light >= "
		 "%d))::text"
		 " from telemetry",
		 n);
	{
		char expected[64];
		int undecodable = (n + 49) / 50;

		snprintf(expected, sizeof(expected), "(%d,%d,0)", n - undecodable, n - undecodable);
		assert_sql(f, sql, expected);
		snprintf(expected, sizeof(expected), "(%d,%d)", undecodable, undecodable);
		assert_sql(f,
			   "select row(count(*), count(distinct payload))::text from dead_letter",
			   expected);
		snprintf(expected, sizeof(expected), "%d", n);
		assert_sql(f, "select messages from ingest", expected);
	}
}

/* Appends while the main thread breaks things. */
struct stream {
	struct store_fixture *f;
	int n;
	_Atomic bool done;
	pthread_t thread;
};

static void *run_stream(void *arg)
{
	struct stream *s = arg;

	for (int i = 0; i < s->n; i += 20) {
		put_mixed(s->f, i, 20);
		usleep(2000);
	}
	atomic_store(&s->done, true);
	return NULL;
}

static void stream_start(struct stream *s, struct store_fixture *f, int n)
{
	*s = (struct stream){.f = f, .n = n};
	assert_int_equal(pthread_create(&s->thread, NULL, run_stream, s), 0);
}

static void wait_rows(struct store_fixture *f, uint64_t n)
{
	struct store_stats st;
	int64_t begin = clock_monotonic_us();

	do {
		usleep(1000);
		store_stats(f->store, &st);
		assert_true(clock_monotonic_us() - begin < 60 * US_PER_S);
	} while (st.messages < n);
}

/* The process of the server that serves the store. */
static pid_t backend(struct store_fixture *f)
{
	PGconn *c = PQconnectdb(f->cluster.url);
	PGresult *r = PQexec(c, "select pid from pg_stat_activity where application_name ="
				" 'fieldgate-mqtt-store'");
	pid_t pid = PQntuples(r) > 0 ? atoi(PQgetvalue(r, 0, 0)) : 0;

	PQclear(r);
	PQfinish(c);
	return pid;
}

/* A loop that does not sleep would use a whole core. */
static void assert_idle_for(int64_t us)
{
	struct timespec before, after;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	usleep((useconds_t)us);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * US_PER_S +
			    (after.tv_nsec - before.tv_nsec) / 1000 <
		    us / 4);
}

static void test_killed_backends_lose_and_repeat_nothing(void **state)
{
	struct store_fixture *f = *state;
	struct stream s;

	f->options.batch_rows = 50;
	stream_start(&s, f, 4000);
	store_fixture_start(f);
	for (uint64_t i = 1; i <= 3; i++) {
		pid_t pid;

		wait_rows(f, i * 700);
		pid = backend(f);
		if (pid > 0)
			assert_int_equal(kill(pid, SIGKILL), 0);
	}
	pthread_join(s.thread, NULL);
	store_fixture_settle(f);
	assert_each_stored_once(f, 4000);
}

static void test_server_killed_and_started_again_loses_and_repeats_nothing(void **state)
{
	struct store_fixture *f = *state;
	struct stream s;

	f->options.batch_rows = 50;
	stream_start(&s, f, 3000);
	store_fixture_start(f);
	wait_rows(f, 500);
	pg_cluster_kill(&f->cluster);
	usleep(300000);
	pg_cluster_start(&f->cluster);
	wait_rows(f, 1500);
	pg_cluster_stop(&f->cluster);
	pg_cluster_start(&f->cluster);
	pthread_join(s.thread, NULL);
	store_fixture_settle(f);
	assert_each_stored_once(f, 3000);
}

static void test_connection_cut_between_commit_and_answer_repeats_nothing(void **state)
{
	struct store_fixture *f = *state;
	struct cut_proxy *p;
	struct store_stats st;
	char url[256];

	p = cut_proxy_start(&f->cluster, f->dir, url, sizeof(url));
	f->options.database_url = url;
	f->options.batch_rows = 100;
	put_mixed(f, 0, 1000);
	cut_proxy_cut_commits(p, 4);
	store_fixture_start(f);
	store_fixture_settle(f);
	assert_int_equal(cut_proxy_left(p), 0);
	assert_each_stored_once(f, 1000);
	do { /* the last batch is in the database before its answer is here */
		usleep(1000);
		store_stats(f->store, &st);
	} while (st.messages < 1000);
	assert_int_equal(st.messages, 1000);
	store_fixture_stop(f);
	cut_proxy_stop(p);
}

static void test_store_stopped_and_started_at_any_moment_repeats_nothing(void **state)
{
	struct store_fixture *f = *state;

	f->options.batch_rows = 20;
	put_mixed(f, 0, 3000);
	for (int i = 0; i < 15; i++) {
		uint16_t r;

		store_fixture_start(f);
		random_bytes(&r, sizeof(r));
		usleep(5000 + r);
		store_fixture_stop(f);
	}
	store_fixture_run(f);
	assert_each_stored_once(f, 3000);
}

static void test_database_that_is_away_at_the_start_is_waited_for(void **state)
{
	struct store_fixture *f = *state;
	struct store_stats st;

	pg_cluster_stop(&f->cluster);
	store_fixture_start(f);
	put_mixed(f, 0, 100);
	usleep(300000);
	store_stats(f->store, &st);
	assert_false(st.connected);
	assert_true(st.lag_us >= 250000);
	pg_cluster_start(&f->cluster);
	store_fixture_settle(f);
	assert_each_stored_once(f, 100);
}

static void test_lag_grows_while_the_database_is_away(void **state)
{
	struct store_fixture *f = *state;
	struct store_stats st;

	put_mixed(f, 0, 10);
	store_fixture_start(f);
	store_fixture_settle(f);
	pg_cluster_stop(&f->cluster);
	store_fixture_put_at(f, "d", "", "{}", clock_realtime_us() - 3600 * US_PER_S);
	put_mixed(f, 10, 9);
	usleep(700000);
	store_stats(f->store, &st);
	assert_false(st.connected);
	assert_true(st.lag_us >= 3600 * US_PER_S + 500000);
	pg_cluster_start(&f->cluster);
	store_fixture_settle(f);
	do {
		usleep(1000);
		store_stats(f->store, &st);
	} while (st.messages < 20);
	assert_true(st.lag_us < 100000);
}

static void test_silent_server_is_given_up_and_nothing_repeated(void **state)
{
	struct store_fixture *f = *state;
	struct store_stats st;
	struct stream s;

	f->options.statement_timeout_s = 1;
	f->options.batch_rows = 50;
	stream_start(&s, f, 1500);
	store_fixture_start(f);
	wait_rows(f, 300);
	pg_cluster_pause(&f->cluster);
	pthread_join(s.thread, NULL);
	assert_idle_for(4000000);
	store_stats(f->store, &st);
	assert_false(st.connected);
	pg_cluster_resume(&f->cluster);
	store_fixture_settle(f);
	assert_each_stored_once(f, 1500);
}

static void test_stop_does_not_wait_for_a_silent_server(void **state)
{
	struct store_fixture *f = *state;
	int64_t begin;

	f->options.connect_timeout_s = 1;
	store_fixture_start(f);
	put_mixed(f, 0, 1);
	store_fixture_settle(f);
	pg_cluster_pause(&f->cluster);
	put_mixed(f, 1, 100);
	usleep(100000);
	begin = clock_monotonic_us();
	store_fixture_stop(f);
	assert_true(clock_monotonic_us() - begin < 5 * US_PER_S);
	pg_cluster_resume(&f->cluster);
	store_fixture_run(f);
	assert_each_stored_once(f, 101);
}

static void test_writer_sleeps_when_there_is_nothing_to_do(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_start(f);
	put_mixed(f, 0, 100);
	store_fixture_settle(f);
	assert_idle_for(500000);
	put_mixed(f, 100, 1); /* and wakes */
	store_fixture_settle(f);
}

static void test_locked_table_is_waited_for(void **state)
{
	struct store_fixture *f = *state;
	PGconn *c = PQconnectdb(f->cluster.owner_url);

	f->options.statement_timeout_s = 1;
	PQclear(PQexec(c, "begin; lock table fieldgate.telemetry in access exclusive mode"));
	f->options.batch_rows = 10;
	put_mixed(f, 0, 100);
	store_fixture_start(f);
	usleep(100000);
	assert_idle_for(2400000);
	PQfinish(c);
	store_fixture_settle(f);
	assert_each_stored_once(f, 100);
}

static void test_missing_rights_and_tables_are_waited_for(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "revoke insert on telemetry from fieldgate_ingest");
	put_mixed(f, 0, 100);
	store_fixture_start(f);
	usleep(500000);
	assert_sql(f, "select messages from ingest", "0");
	store_fixture_sql(f, "alter table telemetry rename to telemetry_away");
	store_fixture_sql(f, "grant insert on telemetry_away to fieldgate_ingest");
	usleep(500000);
	store_fixture_sql(f, "alter table telemetry_away rename to telemetry");
	store_fixture_settle(f);
	assert_each_stored_once(f, 100);
}

static void test_database_that_went_back_gets_its_messages_again(void **state)
{
	struct store_fixture *f = *state;

	f->options.batch_rows = 50;
	store_fixture_start(f);
	put_mixed(f, 0, 200);
	store_fixture_settle(f);
	/* As after a standby took over that lacked the last transactions. */
	store_fixture_sql(f, "update ingest set segment = 0, \"offset\" = 0, messages = 0");
	store_fixture_sql(f, "truncate telemetry, dead_letter, sequence_seen");
	put_mixed(f, 200, 100);
	store_fixture_settle(f);
	assert_each_stored_once(f, 300);
}

/* Asked by the same role: others are not told. */
static bool store_waits(struct store_fixture *f)
{
	PGconn *c = PQconnectdb(f->cluster.url);
	PGresult *r = PQexec(c, "select from pg_stat_activity where wait_event_type = 'Lock'"
				" and application_name = 'fieldgate-mqtt-store'");
	bool waits = PQntuples(r) > 0;

	PQclear(r);
	PQfinish(c);
	return waits;
}

/* The server does not notice at once that the process has died, and commits what it had sent. */
static void test_last_batch_of_a_killed_process_may_be_committed_late(void **state)
{
	struct store_fixture *f = *state;
	struct journal_position stored, sent;
	char id[33], sql[512], err[256];
	struct journal_options o = {.dir = f->journal_dir,
				    .max_bytes = 64 << 20,
				    .segment_bytes = 1 << 20,
				    .sync_interval_ms = 1000};
	bool waited = false;
	PGconn *former;

	put_mixed(f, 1, 10);
	store_fixture_run(f);
	stored = journal_end(f->journal);
	put_mixed(f, 11, 10);
	sent = journal_end(f->journal);
	for (size_t i = 0; i < 16; i++)
		snprintf(id + 2 * i, 3, "%02x", journal_id(f->journal)[i]);
	journal_close(f->journal);
	if (journal_open(&f->journal, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);

	former = PQconnectdb(f->cluster.url);
	snprintf(sql, sizeof(sql),
		 "begin; select fieldgate.journal_advance('%s', %" PRIu64 ", %" PRIu64 ", %" PRIu64
		 ", %" PRIu64 ", 10, 10, 0, 0, '0')",
		 id, stored.segment, stored.offset, sent.segment, sent.offset);
	PQclear(PQexec(former, sql));
	assert_int_equal(PQtransactionStatus(former), PQTRANS_INTRANS);
	store_fixture_start(f);
	for (int i = 0; i < 1000 && !(waited = store_waits(f)); i++)
		usleep(10000);
	PQclear(PQexec(former, "commit"));
	PQfinish(former);
	assert_true(waited);
	put_mixed(f, 21, 10);
	store_fixture_settle(f);
	assert_sql(f,
		   "select row(count(*), count(*) filter (where light between 11 and 20))::text"
		   " from telemetry",
		   "(20,0)");
	assert_sql(f, "select messages from ingest", "30");
}

static void open_copy(struct store_fixture *f, struct journal **copy, char *dir, size_t dir_len)
{
	char command[256], err[256];
	struct journal_options o = {
		.max_bytes = 64 << 20, .segment_bytes = 1 << 20, .sync_interval_ms = 1000};

	journal_close(f->journal);
	snprintf(dir, dir_len, "%s/copy", f->dir);
	snprintf(command, sizeof(command), "cp -r '%s' '%s'", f->journal_dir, dir);
	assert_int_equal(system(command), 0);
	o.dir = dir;
	if (journal_open(copy, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	o.dir = f->journal_dir;
	if (journal_open(&f->journal, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void append_to(struct journal *j, const char *device)
{
	const struct journal_record r = {.kind = JOURNAL_TELEMETRY,
					 .received_at_us = clock_realtime_us(),
					 .device = device,
					 .device_len = strlen(device),
					 .topic = "m/d/x/d2c",
					 .topic_len = 9,
					 .payload = "{\"light\":1}",
					 .payload_len = 11};

	assert_int_equal(journal_append(j, &r, NULL), 0);
}

static void test_second_writer_on_a_copied_journal_writes_nothing(void **state)
{
	struct store_fixture *f = *state;
	struct store_stats st;
	struct journal *copy;
	struct store *second;
	char dir[128], err[256];

	put_mixed(f, 0, 10);
	store_fixture_run(f);
	open_copy(f, &copy, dir, sizeof(dir));
	assert_int_equal(store_start(&second, &f->options, copy, err, sizeof(err)), 0);
	do {
		usleep(1000);
		store_stats(second, &st);
	} while (!st.connected);
	store_fixture_start(f);
	append_to(f->journal, "first");
	store_fixture_settle(f);
	/* Of the same length: both end at the same position of the same segment. */
	append_to(copy, "other");
	usleep(600000);
	append_to(f->journal, "first");
	append_to(copy, "other");
	store_fixture_settle(f);
	store_stats(second, &st);
	assert_int_equal(st.messages, 0);
	assert_true(st.lag_us > 0);
	store_stop(second);
	assert_sql(f, "select array_agg(device) from telemetry where light = 1 and device !~ 'dev'",
		   "{first,first}");
	assert_true(journal_position_compare(journal_end(copy), (struct journal_position){0, 0}) >
		    0);
	journal_close(copy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_begin, store_fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_killed_backends_lose_and_repeat_nothing),
		TEST(test_server_killed_and_started_again_loses_and_repeats_nothing),
		TEST(test_connection_cut_between_commit_and_answer_repeats_nothing),
		TEST(test_store_stopped_and_started_at_any_moment_repeats_nothing),
		TEST(test_database_that_is_away_at_the_start_is_waited_for),
		TEST(test_lag_grows_while_the_database_is_away),
		TEST(test_silent_server_is_given_up_and_nothing_repeated),
		TEST(test_stop_does_not_wait_for_a_silent_server),
		TEST(test_writer_sleeps_when_there_is_nothing_to_do),
		TEST(test_locked_table_is_waited_for),
		TEST(test_missing_rights_and_tables_are_waited_for),
		TEST(test_database_that_went_back_gets_its_messages_again),
		TEST(test_last_batch_of_a_killed_process_may_be_committed_late),
		TEST(test_second_writer_on_a_copied_journal_writes_nothing),
	};

	return cmocka_run_group_tests(tests, store_fixture_group, store_fixture_group_end);
}
