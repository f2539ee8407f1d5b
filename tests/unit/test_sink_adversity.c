/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that are killed, connections that are cut, tables that are locked: each row once, and
 * no table waits for another. */
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
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"
#include "tests/unit/cut_proxy.h"
#include "tests/unit/sink_fixture.h"

static void put_numbers(struct sink_fixture *f, int from, int n)
{
	char json[32];

	for (int i = from; i < from + n; i++) {
		snprintf(json, sizeof(json), "{\"n\": %d}", i);
		store_fixture_put(f->base, "dev-1", json);
	}
}

static void assert_each_once(struct sink_fixture *f, const char *table, int n)
{
	char sql[160], expected[64];

	snprintf(sql, sizeof(sql), "select row(count(*), count(distinct n))::text from app.%s",
		 table);
	snprintf(expected, sizeof(expected), "(%d,%d)", n, n);
	assert_sql(f->base, sql, expected);
}

/* A rule that stores n of every message into the table of its name. */
static void store_into(struct sink_fixture *f, const char *table)
{
	char definition[128], actions[96];

	snprintf(definition, sizeof(definition), "%s (n int)", table);
	snprintf(actions, sizeof(actions), "[{\"store\": {\"table\": \"app.%s\"}}]", table);
	sink_fixture_table(f, definition);
	sink_fixture_rule(f, table, "SELECT n FROM 'm/d/+/d2c'", actions, NULL);
}

/* A session of somebody else's, with a transaction that is open. */
static PGconn *hold(struct sink_fixture *f, const char *sql)
{
	PGconn *c = PQconnectdb(f->base->cluster.owner_url);
	PGresult *r;

	PQclear(PQexec(c, "begin"));
	r = PQexec(c, sql);
	if (PQresultStatus(r) != PGRES_COMMAND_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(c));
	PQclear(r);
	return c;
}

static void let_go(PGconn *c)
{
	PQclear(PQexec(c, "rollback"));
	PQfinish(c);
}

static void count(struct sink_fixture *f, const char *table, long n)
{
	char sql[96];

	snprintf(sql, sizeof(sql), "select count(*) from app.%s", table);
	store_fixture_await(f->base, sql, n);
}

static struct sink_fixture *begun(void **state, const char *a, const char *b)
{
	struct sink_fixture *f = *state;

	store_into(f, a);
	if (b)
		store_into(f, b);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	return f;
}

/* ---- tables that take no rows ---- */

static void test_locked_table_keeps_no_other_waiting(void **state)
{
	struct sink_fixture *f = begun(state, "locked", "open");
	PGconn *holder = hold(f, "lock table app.locked in access exclusive mode");

	for (int i = 0; i < 20; i++) {
		put_numbers(f, i * 10, 10);
		count(f, "open", (i + 1) * 10);
	}
	store_fixture_await(f->base, "select count(*) from sink_position where target <> ''", 1);
	let_go(holder);
	count(f, "locked", 200);
	store_fixture_await(f->base, "select count(*) from sink_position where target <> ''", 0);
	put_numbers(f, 200, 50);
	count(f, "locked", 250);
	count(f, "open", 250);
	assert_each_once(f, "locked", 250);
	assert_each_once(f, "open", 250);
	assert_sql(f->base, "select sum(errors) from rule_status", "0");
}

static void test_rows_for_a_locked_table_survive_a_restart(void **state)
{
	struct sink_fixture *f = begun(state, "locked", "open");
	PGconn *holder = hold(f, "lock table app.locked in access exclusive mode");

	put_numbers(f, 0, 100);
	count(f, "open", 100);
	sink_fixture_stop(f);
	put_numbers(f, 100, 100);
	sink_fixture_start(f);
	count(f, "open", 200);
	sink_fixture_stop(f);
	let_go(holder);
	sink_fixture_start(f);
	count(f, "locked", 200);
	put_numbers(f, 200, 10);
	count(f, "locked", 210);
	count(f, "open", 210);
	assert_each_once(f, "locked", 210);
	assert_each_once(f, "open", 210);
}

static void test_lane_of_a_rule_that_is_gone_is_given_up(void **state)
{
	struct sink_fixture *f = begun(state, "locked", "open");
	PGconn *holder = hold(f, "lock table app.locked in access exclusive mode");

	put_numbers(f, 0, 10);
	store_fixture_await(f->base, "select count(*) from sink_position where target <> ''", 1);
	store_fixture_sql(f->base, "delete from rule where name = 'locked'");
	store_fixture_await(f->base, "select count(*) from sink_position where target <> ''", 0);
	let_go(holder);
	count(f, "open", 10);
	count(f, "locked", 0);
}

static void test_row_that_hangs_is_refused_and_the_others_stored(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "hanging (n int)");
	store_fixture_sql(f->base, "create function app.hang() returns trigger language plpgsql as"
				   " 'begin if new.n = 7 then perform pg_sleep(1000); end if;"
				   " return new; end';"
				   " create trigger hang before insert on app.hanging for each row"
				   " execute function app.hang()");
	sink_fixture_rule(f, "hanging", "SELECT n FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"app.hanging\"}}]", NULL);
	store_into(f, "open");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put_numbers(f, 0, 12);
	count(f, "open", 12);
	put_numbers(f, 12, 8);
	count(f, "open", 20);
	count(f, "hanging", 19);
	store_fixture_await(f->base, "select errors from rule_status where name = 'hanging'", 1);
	assert_each_once(f, "hanging", 19);
	assert_each_once(f, "open", 20);
}

static void test_many_locked_tables_wait_each_for_itself(void **state)
{
	struct sink_fixture *f = *state;
	PGconn *holders[4];
	char name[16], sql[64];

	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		store_into(f, name);
	}
	store_into(f, "open");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	for (int i = 0; i < 4; i++) {
		snprintf(sql, sizeof(sql), "lock table app.t%d in share mode", i);
		holders[i] = hold(f, sql);
	}
	put_numbers(f, 0, 500);
	count(f, "open", 500);
	store_fixture_await(f->base, "select count(*) from sink_position where target <> ''", 4);
	for (int i = 3; i >= 0; i--) {
		snprintf(name, sizeof(name), "t%d", i);
		let_go(holders[i]);
		count(f, name, 500);
		assert_each_once(f, name, 500);
	}
	sink_fixture_settle(f);
	assert_each_once(f, "open", 500);
}

static void test_locked_rules_keep_no_row_waiting(void **state)
{
	struct sink_fixture *f = begun(state, "open", NULL);
	PGconn *holder;

	f->options.report_interval_ms = 50;
	holder = hold(f,
		      "lock table fieldgate.rule, fieldgate.rule_counter in access exclusive mode");
	put_numbers(f, 0, 10);
	{
		PGconn *c = PQconnectdb(f->base->cluster.owner_url);
		int64_t deadline = clock_monotonic_us() + 60 * US_PER_S;
		bool there = false;

		while (!there && clock_monotonic_us() < deadline) {
			PGresult *r = PQexec(c, "select count(*) from app.open");

			there = strcmp(PQgetvalue(r, 0, 0), "10") == 0;
			PQclear(r);
			usleep(2000);
		}
		PQfinish(c);
		assert_true(there);
	}
	let_go(holder);
}

/* ---- positions ---- */

static void test_position_that_somebody_else_moved_stops_it(void **state)
{
	struct sink_fixture *f = begun(state, "open", NULL);
	struct sink_stats st;

	put_numbers(f, 0, 10);
	count(f, "open", 10);
	store_fixture_sql(f->base, "update sink_position set \"offset\" = \"offset\" + 1000000");
	put_numbers(f, 10, 10);
	usleep(500 * 1000);
	count(f, "open", 10);
	store_fixture_sql(f->base, "update sink_position set \"offset\" = \"offset\" - 1000000");
	count(f, "open", 20);
	assert_each_once(f, "open", 20);
	sink_stats(f->sink, &st);
	assert_int_equal(st.rows, 20);
}

static void test_database_that_went_back_gets_its_rows_again(void **state)
{
	struct sink_fixture *f = begun(state, "open", NULL);

	put_numbers(f, 0, 10);
	count(f, "open", 10);
	store_fixture_sql(f->base, "create table app.backup as select * from sink_position");
	put_numbers(f, 10, 10);
	count(f, "open", 20);
	store_fixture_sql(f->base, "begin; delete from app.open where n >= 10;"
				   " update sink_position p set segment = b.segment,"
				   " \"offset\" = b.\"offset\" from app.backup b; commit");
	put_numbers(f, 20, 10);
	count(f, "open", 30);
	assert_each_once(f, "open", 30);
}

static void test_position_that_is_gone_is_made_again(void **state)
{
	struct sink_fixture *f = begun(state, "open", NULL);

	put_numbers(f, 0, 10);
	count(f, "open", 10);
	store_fixture_sql(f->base, "delete from sink_position");
	put_numbers(f, 10, 10);
	count(f, "open", 20);
	assert_each_once(f, "open", 20);
}

static void reopen_journal(struct sink_fixture *f, uint64_t follower_max_bytes)
{
	const struct journal_options o = {.dir = f->base->journal_dir,
					  .max_bytes = 64 << 20,
					  .segment_bytes = 64 << 10,
					  .sync_interval_ms = 1000,
					  .follower_max_bytes = follower_max_bytes};
	char err[256];

	journal_close(f->base->journal);
	if (journal_open(&f->base->journal, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

/* The server may still have a batch of a process that was killed, and commit it when the next one
 * has read the position. */
static void test_a_batch_that_a_killed_process_left_to_the_server_is_believed(void **state)
{
	struct sink_fixture *f = *state;
	struct journal_position end;
	char sql[256];
	PGconn *left;

	reopen_journal(f, 32 << 20);
	begun(state, "open", NULL);
	put_numbers(f, 0, 10);
	count(f, "open", 10);
	sink_fixture_stop(f);
	put_numbers(f, 10, 90);
	end = journal_end(f->base->journal);
	reopen_journal(f, 32 << 20);
	snprintf(sql, sizeof(sql),
		 "with p as (update fieldgate.sink_position set segment = %llu, \"offset\" = %llu"
		 " returning 1) insert into app.open select n from p, generate_series(10, 99) n",
		 (unsigned long long)end.segment, (unsigned long long)end.offset);
	left = hold(f, sql);
	sink_fixture_start(f);
	put_numbers(f, 100, 10);
	store_fixture_await(f->base, "select least(count(*), 1) from pg_locks where not granted",
			    1);
	PQclear(PQexec(left, "commit"));
	PQfinish(left);
	count(f, "open", 110);
	sink_fixture_settle(f);
	assert_each_once(f, "open", 110);
}

static void copy_dir(const char *from, const char *to)
{
	char text[512];

	snprintf(text, sizeof(text), "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
	assert_int_equal(system(text), 0);
}

static void test_old_copy_of_the_journal_repeats_nothing(void **state)
{
	struct sink_fixture *f = begun(state, "open", NULL);
	char copy[96];

	snprintf(copy, sizeof(copy), "%s.copy", f->base->journal_dir);
	put_numbers(f, 0, 10);
	count(f, "open", 10);
	sink_fixture_stop(f);
	reopen_journal(f, 1 << 20);
	journal_close(f->base->journal);
	f->base->journal = NULL;
	copy_dir(f->base->journal_dir, copy);
	reopen_journal(f, 1 << 20);
	sink_fixture_start(f);
	put_numbers(f, 10, 10);
	count(f, "open", 20);
	sink_fixture_stop(f);
	journal_close(f->base->journal);
	f->base->journal = NULL;
	copy_dir(copy, f->base->journal_dir);
	reopen_journal(f, 1 << 20);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put_numbers(f, 20, 10);
	count(f, "open", 30);
	sink_fixture_settle(f);
	assert_each_once(f, "open", 30);
}

/* ---- too far behind ---- */

static void test_what_the_journal_cannot_keep_is_missed_and_counted(void **state)
{
	struct sink_fixture *f = *state;
	struct sink_stats st;
	long rows;

	reopen_journal(f, 256 << 10);
	begun(state, "open", NULL);
	store_fixture_start(f->base);
	put_numbers(f, 0, 10);
	count(f, "open", 10);
	{
		PGconn *holder =
			hold(f, "lock table fieldgate.sink_position in access exclusive mode");

		put_numbers(f, 10, 20000);
		store_fixture_settle(f->base);
		let_go(holder);
	}
	sink_fixture_settle(f);
	sink_stats(f->sink, &st);
	assert_true(st.missed > 0);
	rows = store_fixture_number(f->base, "select count(*) from app.open");
	assert_true(rows > 10 && rows < 20010);
	assert_sql(f->base, "select count(*) - count(distinct n) from app.open", "0");
	assert_sql(f->base, "select count(*) from app.open where n = 20009", "1");
}

/* Long messages: a few fill a segment. */
static void put_long(struct sink_fixture *f, int from, int n)
{
	char json[2100];

	for (int i = from; i < from + n; i++) {
		snprintf(json, sizeof(json), "{\"n\": %d, \"pad\": \"%2000d\"}", i, 0);
		store_fixture_put(f->base, "dev-1", json);
	}
}

/* Whatever is done and released beside it: a table that waits keeps what it waits for. */
static void test_what_a_locked_table_waits_for_is_kept_from_the_moment_it_waits(void **state)
{
	struct sink_fixture *f = *state;
	PGconn *positions, *locked;

	reopen_journal(f, 32 << 20);
	begun(state, "locked", "open");
	put_long(f, 0, 1);
	count(f, "locked", 1);
	sink_fixture_stop(f);
	put_long(f, 1, 599);
	positions = hold(f, "lock table fieldgate.sink_position in access exclusive mode");
	locked = hold(f, "lock table app.locked in access exclusive mode");
	sink_fixture_start(f);
	store_fixture_start(f->base);
	store_fixture_settle(f->base);
	let_go(positions);
	count(f, "open", 600);
	let_go(locked);
	count(f, "locked", 600);
	assert_each_once(f, "open", 600);
	assert_each_once(f, "locked", 600);
}

static void test_what_a_locked_table_waits_for_is_kept_over_a_restart(void **state)
{
	struct sink_fixture *f = *state;
	PGconn *positions, *locked;

	reopen_journal(f, 32 << 20);
	begun(state, "locked", "open");
	locked = hold(f, "lock table app.locked in access exclusive mode");
	put_long(f, 0, 600);
	count(f, "open", 600);
	sink_fixture_stop(f);
	positions = hold(f, "lock table fieldgate.sink_position in access exclusive mode");
	sink_fixture_start(f);
	store_fixture_start(f->base);
	store_fixture_settle(f->base);
	let_go(positions);
	put_long(f, 600, 10);
	count(f, "open", 610);
	let_go(locked);
	count(f, "locked", 610);
	assert_each_once(f, "open", 610);
	assert_each_once(f, "locked", 610);
}

/* ---- connections ---- */

/* The rows are seen before the answer comes by. */
static void await_cut(struct cut_proxy *p)
{
	int64_t deadline = clock_monotonic_us() + 60 * US_PER_S;

	while (cut_proxy_left(p) > 0 && clock_monotonic_us() < deadline)
		usleep(2000);
	assert_int_equal(cut_proxy_left(p), 0);
}

static void test_cut_commits_lose_and_repeat_nothing(void **state)
{
	struct sink_fixture *f = *state;
	struct cut_proxy *p;
	char url[192];

	store_into(f, "open");
	store_into(f, "locked");
	p = cut_proxy_start(&f->base->cluster, f->base->dir, url, sizeof(url));
	f->options.database_url = url;
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	for (int i = 0; i < 10; i++) {
		PGconn *holder =
			i % 3 == 1 ? hold(f, "lock table app.locked in exclusive mode") : NULL;

		cut_proxy_cut_commits(p, 1);
		put_numbers(f, i * 30, 30);
		count(f, "open", (i + 1) * 30);
		if (holder)
			let_go(holder);
		count(f, "locked", (i + 1) * 30);
		await_cut(p);
	}
	sink_fixture_stop(f);
	cut_proxy_stop(p);
	assert_each_once(f, "open", 300);
	assert_each_once(f, "locked", 300);
}

/* What was read for that commit is read again for the table as it is now, and then the database
 * says that it had been done. */
static void test_cut_commits_repeat_nothing_when_their_table_has_changed(void **state)
{
	struct sink_fixture *f = *state;
	struct cut_proxy *p;
	char url[192], sql[100];

	store_into(f, "open");
	p = cut_proxy_start(&f->base->cluster, f->base->dir, url, sizeof(url));
	f->options.database_url = url;
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	for (int i = 0; i < 5; i++) {
		snprintf(sql, sizeof(sql), "alter table app.open add column more%d int", i);
		store_fixture_sql(f->base, sql);
		cut_proxy_cut_commits(p, 1);
		put_numbers(f, i * 30, 30);
		await_cut(p);
		sink_fixture_settle(f);
	}
	sink_fixture_stop(f);
	cut_proxy_stop(p);
	assert_each_once(f, "open", 150);
}

/* Backends of a sink that wait for a lock in sink_advance or before. */
static long waiting_backends(struct sink_fixture *f)
{
	return store_fixture_number(f->base,
				    "select count(*) from pg_stat_activity where wait_event_type ="
				    " 'Lock' and usename = 'fieldgate_ingest'");
}

static void await_waiting(struct sink_fixture *f, long n, int64_t most_us)
{
	int64_t deadline = clock_monotonic_us() + most_us;

	while (waiting_backends(f) < n && clock_monotonic_us() < deadline)
		usleep(2000);
}

/* The server goes on with what it was told, though nobody waits for its answer. Whether it gets so
 * far before its lock_timeout is a matter of speed; what is stored is not. */
static void test_commit_that_comes_late_repeats_nothing(void **state)
{
	struct sink_fixture *f = *state;
	struct cut_proxy *p;
	char url[192];

	store_into(f, "open");
	p = cut_proxy_start(&f->base->cluster, f->base->dir, url, sizeof(url));
	f->options.database_url = url;
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	for (int i = 0; i < 5; i++) {
		PGconn *holder;

		put_numbers(f, i * 20, 10);
		count(f, "open", i * 20 + 10);
		holder = PQconnectdb(f->base->cluster.owner_url);
		PQclear(PQexec(holder, "begin"));
		PQclear(PQexec(holder, "select from fieldgate.sink_position for update"));
		put_numbers(f, i * 20 + 10, 10);
		await_waiting(f, 1, 400 * US_PER_MS);
		cut_proxy_cut_now(p);
		await_waiting(f, 2, 300 * US_PER_MS);
		let_go(holder);
		count(f, "open", i * 20 + 20);
	}
	sink_fixture_stop(f);
	cut_proxy_stop(p);
	assert_each_once(f, "open", 100);
}

static void test_server_that_dies_and_comes_back_misses_nothing(void **state)
{
	struct sink_fixture *f = begun(state, "open", NULL);

	for (int i = 0; i < 3; i++) {
		put_numbers(f, i * 2000, 2000);
		pg_cluster_kill(&f->base->cluster);
		pg_cluster_start(&f->base->cluster);
	}
	count(f, "open", 6000);
	assert_each_once(f, "open", 6000);
}

/* ---- processes ---- */

struct shared {
	_Atomic int tried;
	_Atomic int acked[200000];
	_Atomic int acked_count;
};

/* A process that receives messages until it is killed. */
static void be_a_process(struct sink_fixture *f, struct shared *shared)
{
	char json[32];
	struct journal_record r = {.kind = JOURNAL_TELEMETRY,
				   .device = "dev-1",
				   .device_len = 5,
				   .topic = "m/d/dev-1/d2c",
				   .topic_len = 13,
				   .payload = json};

	reopen_journal(f, 64 << 20);
	sink_fixture_start(f);
	for (;;) {
		int n = atomic_fetch_add(&shared->tried, 1);

		r.received_at_us = clock_realtime_us();
		r.payload_len = (size_t)snprintf(json, sizeof(json), "{\"n\": %d}", n);
		if (journal_append(f->base->journal, &r, NULL) != 0)
			_exit(1);
		shared->acked[atomic_fetch_add(&shared->acked_count, 1)] = n;
		if (n % 16 == 0)
			usleep(1000);
	}
}

/* What was not acknowledged may be there, too. */
static void assert_each_acked_once(struct sink_fixture *f, const char *table)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
		 "select count(*) from (select n from app.%s group by n having count(*) > 1) x",
		 table);
	assert_sql(f->base, sql, "0");
	snprintf(sql, sizeof(sql),
		 "select count(*) from app.acked a left join app.%s t using (n) where t.n is null",
		 table);
	assert_sql(f->base, sql, "0");
}

static void test_killed_processes_store_each_message_once(void **state)
{
	struct sink_fixture *f = *state;
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	PGconn *holder = NULL;

	assert_true(shared != MAP_FAILED);
	store_into(f, "open");
	store_into(f, "locked");
	/* The position is there before the first process is killed. */
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	store_fixture_await(f->base, "select count(*) from sink_position", 1);
	sink_fixture_stop(f);
	journal_close(f->base->journal);
	f->base->journal = NULL;
	for (int i = 0; i < 15; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			be_a_process(f, shared);
		if (i % 4 == 1)
			holder = hold(f, "lock table app.locked in exclusive mode");
		usleep((useconds_t)(50000 + rand() % 700000));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		if (i % 4 == 3) {
			let_go(holder);
			holder = NULL;
		}
	}
	if (holder)
		let_go(holder);
	reopen_journal(f, 64 << 20);
	sink_fixture_start(f);
	sink_fixture_settle(f);
	store_fixture_await(f->base, "select count(*) from sink_position where target <> ''", 0);
	store_fixture_sql(f->base, "create table app.acked (n int)");
	{
		PGconn *c = PQconnectdb(f->base->cluster.owner_url);
		char text[32];

		PQclear(PQexec(c, "copy app.acked from stdin"));
		for (int i = 0; i < shared->acked_count; i++) {
			int len = snprintf(text, sizeof(text), "%d\n", shared->acked[i]);

			PQputCopyData(c, text, len);
		}
		PQputCopyEnd(c, NULL);
		PQclear(PQgetResult(c));
		PQfinish(c);
	}
	assert_true(shared->acked_count > 500);
	assert_each_acked_once(f, "open");
	assert_each_acked_once(f, "locked");
	munmap(shared, sizeof(*shared));
}

#define sink_test(t) cmocka_unit_test_setup_teardown(t, sink_fixture_begin, sink_fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		sink_test(test_locked_table_keeps_no_other_waiting),
		sink_test(test_rows_for_a_locked_table_survive_a_restart),
		sink_test(test_lane_of_a_rule_that_is_gone_is_given_up),
		sink_test(test_row_that_hangs_is_refused_and_the_others_stored),
		sink_test(test_many_locked_tables_wait_each_for_itself),
		sink_test(test_locked_rules_keep_no_row_waiting),
		sink_test(test_position_that_somebody_else_moved_stops_it),
		sink_test(test_database_that_went_back_gets_its_rows_again),
		sink_test(test_position_that_is_gone_is_made_again),
		sink_test(test_old_copy_of_the_journal_repeats_nothing),
		sink_test(test_what_the_journal_cannot_keep_is_missed_and_counted),
		sink_test(test_what_a_locked_table_waits_for_is_kept_from_the_moment_it_waits),
		sink_test(test_what_a_locked_table_waits_for_is_kept_over_a_restart),
		sink_test(test_a_batch_that_a_killed_process_left_to_the_server_is_believed),
		sink_test(test_cut_commits_lose_and_repeat_nothing),
		sink_test(test_cut_commits_repeat_nothing_when_their_table_has_changed),
		sink_test(test_commit_that_comes_late_repeats_nothing),
		sink_test(test_server_that_dies_and_comes_back_misses_nothing),
		sink_test(test_killed_processes_store_each_message_once),
	};

	return cmocka_run_group_tests_name("sink_adversity", tests, sink_fixture_group,
					   sink_fixture_group_end);
}
