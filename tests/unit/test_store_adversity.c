/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What befalls an installation over the years: a journal brought back from an old copy, partitions
 * that were detached, triggers that are slow, clocks that are wrong, devices that send what nobody
 * had thought of. Nothing acknowledged is lost, nothing is stored twice, and nothing waits for
 * ever.
 */
#include <inttypes.h>
#include <setjmp.h>
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

#include "core/base/clock.h"
#include "core/base/log.h"
#include "tests/unit/store_fixture.h"

/* How far this process's clock is wrong. */
static _Atomic int64_t clock_error_us;

static int64_t wrong_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * US_PER_S + t.tv_nsec / 1000 + atomic_load(&clock_error_us);
}

static int reset_clock(void **state)
{
	atomic_store(&clock_error_us, 0);
	return store_fixture_end(state);
}

static void open_journal(struct store_fixture *f)
{
	const struct journal_options o = {.dir = f->journal_dir,
					  .max_bytes = 256 << 20,
					  .segment_bytes = 1 << 20,
					  .sync_interval_ms = 1000};
	char err[256];

	assert_int_equal(journal_open(&f->journal, &o, err, sizeof(err)), 0);
}

static void close_journal(struct store_fixture *f)
{
	journal_close(f->journal);
	f->journal = NULL;
}

/* Messages from..from+n-1, each of about 100 kB: ten are a segment. */
static void put_large(struct store_fixture *f, int from, int n)
{
	static char json[100000];

	for (int i = from; i < from + n; i++) {
		int head = snprintf(json, sizeof(json), "{\"light\":%d,\"filling\":\"", i);

		memset(json + head, 'x', sizeof(json) - (size_t)head);
		strcpy(json + sizeof(json) - 3, "\"}");
		store_fixture_put(f, "dev-1", json);
	}
}

/*
 * The database stands at segment 9 of this journal or later; the journal is what it was in
 * segment 2.
 */
static void bring_back_an_old_copy(struct store_fixture *f)
{
	char command[256];

	store_fixture_put(f, "dev-1", "{\"light\":-1}");
	store_fixture_run(f);
	close_journal(f);
	snprintf(command, sizeof(command), "cp -r '%s' '%s/copy'", f->journal_dir, f->dir);
	assert_int_equal(system(command), 0);
	for (int i = 0; i < 8; i++) {
		open_journal(f);
		store_fixture_put(f, "dev-1", "{\"light\":-1}");
		store_fixture_run(f);
		close_journal(f);
	}
	snprintf(command, sizeof(command), "rm -r '%1$s' && mv '%2$s/copy' '%1$s'", f->journal_dir,
		 f->dir);
	assert_int_equal(system(command), 0);
}

/* Where the database stands says nothing in these tests: the rows do. */
static void run_until_large_are_stored_once(struct store_fixture *f, int n)
{
	char expected[64];

	store_fixture_start(f);
	store_fixture_await(f, "select count(distinct light) from telemetry where light >= 0", n);
	store_fixture_settle(f);
	store_fixture_stop(f);
	snprintf(expected, sizeof(expected), "%d", n);
	assert_sql(f, "select count(*) from telemetry where light >= 0", expected);
}

static void test_journal_from_an_old_copy_keeps_what_came_before_the_database(void **state)
{
	struct store_fixture *f = *state;

	bring_back_an_old_copy(f);
	open_journal(f);
	put_large(f, 0, 35); /* to segment 6 */
	run_until_large_are_stored_once(f, 35);
}

static void test_journal_from_an_old_copy_that_has_grown_past_the_position_skips_nothing(
	void **state)
{
	struct store_fixture *f = *state;

	bring_back_an_old_copy(f);
	open_journal(f);
	put_large(f, 0, 100); /* to segment 12 */
	run_until_large_are_stored_once(f, 100);
}

static void test_journal_from_an_old_copy_may_be_opened_twice_before_the_database_is_there(
	void **state)
{
	struct store_fixture *f = *state;

	bring_back_an_old_copy(f);
	open_journal(f);
	put_large(f, 0, 15);
	close_journal(f);
	open_journal(f);
	put_large(f, 15, 5);
	run_until_large_are_stored_once(f, 20);
	put_large(f, 20, 5);
	run_until_large_are_stored_once(f, 25);
}

static void test_detached_partition_is_in_nobodys_way(void **state)
{
	struct store_fixture *f = *state;
	int64_t then = clock_realtime_us() - 100 * US_PER_DAY;
	char sql[256];

	store_fixture_put_at(f, "dev-1", "", "{\"light\":1}", then);
	store_fixture_run(f);
	snprintf(sql, sizeof(sql), "alter table telemetry detach partition %s",
		 store_fixture_text(f, "select tableoid::regclass from telemetry"));
	store_fixture_sql(f, sql);
	store_fixture_put_at(f, "dev-1", "", "{\"light\":2}", then);
	store_fixture_put(f, "dev-1", "{\"light\":3}");
	store_fixture_run(f);
	assert_sql(f, "select array_agg(light order by light) from telemetry", "{2,3}");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

static void make_trigger(struct store_fixture *f, const char *body)
{
	char sql[1024];

	snprintf(sql, sizeof(sql),
		 "create function meddle() returns trigger language plpgsql security definer"
		 " set search_path = fieldgate as $$ begin %s; return new; end $$",
		 body);
	store_fixture_sql(f, sql);
	store_fixture_sql(f, "create trigger meddle before insert on telemetry for each row"
			     " execute function meddle()");
}

static void drop_trigger(struct store_fixture *f)
{
	store_fixture_sql(f, "drop function meddle() cascade");
}

static void put_numbers(struct store_fixture *f, int n)
{
	char json[64];

	for (int i = 0; i < n; i++) {
		snprintf(json, sizeof(json), "{\"light\":%d}", i);
		store_fixture_put_at(f, "dev-1", "", json, clock_realtime_us() + i);
	}
}

/* A batch that the server does not get done in time would never get done, were it not made smaller.
 */
static void test_batch_that_takes_too_long_is_made_smaller(void **state)
{
	struct store_fixture *f = *state;

	f->options.statement_timeout_s = 1;
	make_trigger(f, "perform pg_sleep(0.004)");
	put_numbers(f, 500);
	store_fixture_run(f);
	drop_trigger(f);
	assert_sql(f, "select count(distinct light) from telemetry", "500");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

/* The topic is sent to the database once for each sample. */
static void test_batch_is_bounded_when_long_topics_are_repeated_in_it(void **state)
{
	struct store_fixture *f = *state;
	static char topic[60001], json[8192];
	struct journal_record r = {.kind = JOURNAL_TELEMETRY,
				   .device = "dev-1",
				   .device_len = 5,
				   .topic = topic,
				   .topic_len = sizeof(topic) - 1,
				   .payload = json};
	struct store_stats st;
	int n = 1;

	memset(topic, 't', sizeof(topic) - 1);
	memcpy(topic, "m/d/dev-1/d2c/", 14);
	json[0] = '[';
	for (int i = 0; i < 200; i++)
		n += snprintf(json + n, sizeof(json) - (size_t)n, "%s{\"light\":%d}", i ? "," : "",
			      i);
	json[n++] = ']';
	r.payload_len = (size_t)n;
	for (int i = 0; i < 20; i++) {
		r.received_at_us = clock_realtime_us();
		store_fixture_append(f, &r);
	}
	store_fixture_start(f);
	store_fixture_settle(f);
	do {
		usleep(1000);
		store_stats(f->store, &st);
	} while (st.messages < 20);
	store_fixture_stop(f);
	assert_true(st.batches >= 20); /* 12 MB each */
	assert_sql(f, "select count(*) from telemetry", "4000");
}

/* As a connection pooler does that gives each transaction another server. */
static void test_statements_that_the_server_forgot_are_no_messages_fault(void **state)
{
	struct store_fixture *f = *state;

	make_trigger(f, "if new.light = 50 and not exists (select from presence) then"
			" insert into presence values ('x', 'x', 'x', true, now(), 0);"
			" execute 'deallocate all'; end if");
	f->options.batch_rows = 20;
	put_numbers(f, 200);
	store_fixture_run(f);
	drop_trigger(f);
	assert_sql(f, "select count(distinct light) from telemetry", "200");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

/* A statement that cannot even be prepared fails for all messages alike. */
static void test_missing_table_of_ours_is_waited_for_and_no_message_blamed(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table telemetry_latest rename to away");
	store_fixture_sql(f, "alter table sequence_seen rename to away_too");
	put_numbers(f, 20);
	store_fixture_put(f, "dev-2", "{\"seq\":1,\"light\":20}");
	store_fixture_start(f);
	usleep(2500000);
	assert_sql(f, "select count(*) from dead_letter", "0");
	store_fixture_sql(f, "alter table away rename to telemetry_latest");
	store_fixture_sql(f, "alter table away_too rename to sequence_seen");
	store_fixture_settle(f);
	store_fixture_stop(f);
	assert_sql(f, "select count(distinct light) from telemetry", "21");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

/* The first was stored when its time was long ago already, and the repeat waited in the journal. */
static void test_repeat_in_an_old_backlog_is_stored_once(void **state)
{
	struct store_fixture *f = *state;
	int64_t then = clock_realtime_us() - 3 * US_PER_DAY;

	store_fixture_put_at(f, "dev-1", "", "{\"seq\":1,\"light\":1}", then);
	store_fixture_run(f);
	store_fixture_put_at(f, "dev-1", "", "{\"seq\":1,\"light\":1}", then + 60 * US_PER_S);
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry", "1");
}

/* A message of 60 samples, each with another four of the metrics. Without a time of their own they
 * may be repeats, so that none replaces another in telemetry_latest. */
static void put_kinds(struct store_fixture *f, int message)
{
	static const char *const names[] = {
		"temperature", "humidity", "pressure", "air_quality", "light",	 "battery",
		"rsrp",	       "altitude", "accuracy", "speed",	      "heading", "latitude",
	};
	static char json[16384];
	uint32_t random = (uint32_t)message * 2654435761U + 1;
	int n = 0;

	for (int i = 0; i < 60; i++) {
		unsigned used = 0;

		n += snprintf(json + n, sizeof(json) - (size_t)n, "%s{\"seq\":%d", i ? "," : "[",
			      message * 100 + i);
		while (__builtin_popcount(used) < 4) {
			unsigned m;

			random = random * 1664525 + 1013904223;
			m = (random >> 16) % 12;
			if (used >> m & 1)
				continue;
			used |= 1U << m;
			n += snprintf(json + n, sizeof(json) - (size_t)n, ",\"%s\":1", names[m]);
		}
		n += snprintf(json + n, sizeof(json) - (size_t)n, "}");
	}
	snprintf(json + n, sizeof(json) - (size_t)n, "]");
	store_fixture_put(f, "dev-1", json);
}

static void test_prepared_statements_do_not_pile_up_on_the_server(void **state)
{
	struct store_fixture *f = *state;
	char most[16];

	store_fixture_sql(f, "create table prepared (n bigint)");
	make_trigger(f, "insert into prepared select count(*) from pg_prepared_statements");
	for (int i = 0; i < 20; i++)
		put_kinds(f, i);
	store_fixture_run(f);
	drop_trigger(f);
	snprintf(most, sizeof(most), "%s", store_fixture_text(f, "select max(n) from prepared"));
	store_fixture_sql(f, "drop table prepared");
	assert_sql(f, "select count(*) from telemetry", "1200");
	assert_true(strtol(most, NULL, 10) <= 64);
}

static void test_integer_that_a_real_would_round_goes_to_extra(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(f, "a", "{\"light\":16777216,\"latitude\":9007199254740992}");
	store_fixture_put(f, "b", "{\"light\":16777217,\"latitude\":9007199254740993}");
	store_fixture_put(f, "c", "{\"light\":-16777217,\"latitude\":9223372036854775807}");
	store_fixture_run(f);
	assert_sql(f, "select row(light, latitude, extra)::text from telemetry where device = 'a'",
		   "(1.6777216e+07,9.007199254740992e+15,)");
	assert_sql(f,
		   "select extra = '{\"light\":16777217,\"latitude\":9007199254740993}' and"
		   " num_nonnulls(light, latitude) = 0 from telemetry where device = 'b'",
		   "t");
	assert_sql(f,
		   "select extra = '{\"light\":-16777217,\"latitude\":9223372036854775807}' and"
		   " num_nonnulls(light, latitude) = 0 from telemetry where device = 'c'",
		   "t");
}

static _Atomic int refusals_logged;

static void count_refusals(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	if (strstr(line, "event=store_message_refused"))
		atomic_fetch_add(&refusals_logged, 1);
}

/* A column that was added with `not null` refuses all there is. */
static void test_each_refused_message_is_kept_and_few_are_logged(void **state)
{
	struct store_fixture *f = *state;

	log_set_sink(count_refusals, NULL);
	store_fixture_sql(f, "alter table telemetry add column needed real not null");
	put_numbers(f, 200);
	store_fixture_run(f);
	store_fixture_sql(f, "alter table telemetry drop column needed");
	assert_sql(f, "select count(distinct payload) from dead_letter", "200");
	assert_in_range(atomic_load(&refusals_logged), 1, 10);
}

/* A gateway without a battery-backed clock begins in 1970. */
static void test_clock_of_long_ago_blocks_nobody(void **state)
{
	struct store_fixture *f = *state;

	atomic_store(&clock_error_us, -clock_realtime_us());
	store_fixture_put(f, "dev-1", "{\"light\":1}");
	store_fixture_run(f);
	assert_sql(f,
		   "select row(count(*), min(convert_from(payload, 'UTF8')))::text from dead_letter"
		   " where received_at > now() - interval '1 hour'",
		   "(1,\"{\"\"light\"\":1}\")");
}

/* The clock was a year ahead when the device connected, and was put right. */
static void test_presence_from_the_future_does_not_stay(void **state)
{
	struct store_fixture *f = *state;
	const char *connected = "{\"event\":\"connected\",\"source\":\"mqtt\",\"client_id\":\"c\"}";
	const char *gone = "{\"event\":\"disconnected\",\"source\":\"mqtt\",\"client_id\":\"c\"}";
	const char *started = "{\"event\":\"started\",\"source\":\"mqtt\"}";
	int64_t now = clock_realtime_us(), ahead = now + 20 * US_PER_DAY;

	store_fixture_presence(f, "dev-1", connected, ahead);
	store_fixture_presence(f, "dev-1", gone, now);
	store_fixture_presence(f, "dev-2", connected, ahead);
	store_fixture_run(f);
	assert_sql(f, "select connected from presence where device = 'dev-1'", "f");
	store_fixture_presence(f, "", started, now);
	store_fixture_run(f);
	assert_sql(f, "select connected from presence where device = 'dev-2'", "f");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_begin, reset_clock)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_journal_from_an_old_copy_keeps_what_came_before_the_database),
		TEST(test_journal_from_an_old_copy_that_has_grown_past_the_position_skips_nothing),
		TEST(test_journal_from_an_old_copy_may_be_opened_twice_before_the_database_is_there),
		TEST(test_detached_partition_is_in_nobodys_way),
		TEST(test_batch_that_takes_too_long_is_made_smaller),
		TEST(test_batch_is_bounded_when_long_topics_are_repeated_in_it),
		TEST(test_statements_that_the_server_forgot_are_no_messages_fault),
		TEST(test_missing_table_of_ours_is_waited_for_and_no_message_blamed),
		TEST(test_repeat_in_an_old_backlog_is_stored_once),
		TEST(test_prepared_statements_do_not_pile_up_on_the_server),
		TEST(test_integer_that_a_real_would_round_goes_to_extra),
		TEST(test_clock_of_long_ago_blocks_nobody),
		TEST(test_presence_from_the_future_does_not_stay),
		TEST(test_each_refused_message_is_kept_and_few_are_logged),
	};

	clock_override(wrong_clock, NULL);
	return cmocka_run_group_tests(tests, store_fixture_group, store_fixture_group_end);
}
