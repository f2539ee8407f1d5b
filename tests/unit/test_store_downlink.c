/* SPDX-License-Identifier: Apache-2.0 */
/* What was published to devices becomes rows of downlink, once, and never stands in the way of
 * telemetry. Real store, real database. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"
#include "tests/unit/cut_proxy.h"
#include "tests/unit/store_fixture.h"

static int begin(void **state)
{
	store_fixture_begin(state);
	store_fixture_sql(*state, "delete from device; insert into device (id) values ('x'), ('y');"
				  " update setting set value = 100000 where name ="
				  " 'downlink_max_waiting'");
	return 0;
}

static void put_bytes(struct store_fixture *f, const char *topic, const void *payload, size_t len,
		      enum payload_format format)
{
	const struct journal_record r = {
		.kind = JOURNAL_DOWNLINK,
		.format = (uint8_t)format,
		.received_at_us = clock_realtime_us(),
		.device = "backend", /* whoever published it */
		.device_len = strlen("backend"),
		.topic = topic,
		.topic_len = strlen(topic),
		.payload = payload,
		.payload_len = len,
	};

	store_fixture_append(f, &r);
}

static void put(struct store_fixture *f, const char *topic, const char *payload)
{
	put_bytes(f, topic, payload, strlen(payload), PAYLOAD_AUTO);
}

static void put_numbers(struct store_fixture *f, int from, int n)
{
	char text[32];

	for (int i = from; i < from + n; i++) {
		snprintf(text, sizeof(text), "%d", i);
		put(f, i % 3 ? "m/d/x/c2d" : "m/d/y/c2d/cfg", text);
		if (i % 4 == 0)
			store_fixture_put(f, "t", "{\"light\":1}");
	}
}

static void assert_numbers_once_and_in_order(struct store_fixture *f, int n)
{
	char expected[64];

	snprintf(expected, sizeof(expected), "(%d,%d,%d)", n, n, n - 1);
	assert_sql(f,
		   "select row(count(*), count(distinct payload), max(convert_from(payload,"
		   " 'UTF8')::int))::text from downlink",
		   expected);
	assert_sql(f,
		   "select count(*) from (select convert_from(payload, 'UTF8')::int as n,"
		   " lag(convert_from(payload, 'UTF8')::int) over (partition by device order by id)"
		   " as before from downlink) o where before >= n",
		   "0");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

static void test_a_message_waits_as_it_was_published(void **state)
{
	struct store_fixture *f = *state;

	put_bytes(f, "m/d/x/c2d", "\0\xff", 2, PAYLOAD_AUTO);
	put_bytes(f, "m/d/x/c2d/cfg/a", "{}", 2, PAYLOAD_JSON);
	put_bytes(f, "m/d/x/c2d", "", 0, PAYLOAD_CBOR);
	store_fixture_run(f);
	assert_sql(f,
		   "select string_agg(concat_ws(',', device, coalesce(subtopic, '-'), payload,"
		   " format, source), ' ' order by id) from downlink",
		   "x,-,\\x00ff,mqtt x,cfg/a,\\x7b7d,50,mqtt x,-,\\x,60,mqtt");
	assert_sql(f, "select row(messages, row_count, dead_letters)::text from ingest", "(3,0,0)");
}

static void test_a_message_does_not_wait_for_its_batch_to_grow(void **state)
{
	struct store_fixture *f = *state;

	f->options.batch_delay_ms = 3600 * 1000;
	store_fixture_start(f);
	store_fixture_put(f, "t", "{\"light\":1}");
	put(f, "m/d/x/c2d", "1");
	store_fixture_settle(f);
	assert_sql(f, "select count(*) from downlink", "1");
}

static void test_a_message_with_a_bad_topic_is_a_dead_letter(void **state)
{
	struct store_fixture *f = *state;

	put(f, "m/d/x/c2dx", "1");
	put(f, "m/d/x/c2d/", "2");
	put(f, "m/d/x", "3");
	put(f, "m/d/x/c2d/ok", "4");
	store_fixture_run(f);
	assert_sql(f, "select string_agg(payload::text, ' ') from downlink", "\\x34");
	assert_sql(f, "select string_agg(topic, ' ' order by topic) from dead_letter",
		   "m/d/x m/d/x/c2d/ m/d/x/c2dx");
}

static void test_what_is_refused_is_counted_and_holds_up_nobody(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "update setting set value = 2 where name = 'downlink_max_waiting'");
	store_fixture_start(f);
	for (int i = 0; i < 5; i++)
		put(f, "m/d/x/c2d", "1");
	put(f, "m/d/nobody/c2d", "1");
	store_fixture_put(f, "x", "{\"light\":1}");
	put(f, "m/d/y/c2d", "1");
	store_fixture_settle(f);
	assert_sql(f, "select string_agg(device, ' ' order by device) from downlink", "x x y");
	assert_sql(f, "select count(*) from telemetry", "1");
	assert_sql(f,
		   "select count(*) from dead_letter where device = 'x' and topic = 'm/d/x/c2d'"
		   " and reason like '%2 messages wait for x already%'",
		   "3");
	assert_sql(f, "select row(messages, dead_letters)::text from ingest", "(8,3)");
	store_fixture_stop(f);
}

static void test_process_counts_what_the_database_refused(void **state)
{
	struct store_fixture *f = *state;
	struct store_stats st = {0};

	store_fixture_sql(f, "update setting set value = 1 where name = 'downlink_max_waiting'");
	store_fixture_start(f);
	for (int i = 0; i < 3; i++)
		put(f, "m/d/x/c2d", "1");
	for (int i = 0; i < 10000 && st.messages < 3; i++) {
		usleep(1000);
		store_stats(f->store, &st);
	}
	assert_int_equal(st.messages, 3);
	assert_int_equal(st.dead_letters, 2);
	store_fixture_stop(f);
}

/* As somebody's trigger does, or a row that no index takes. */
static void test_poison_is_isolated(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table downlink add constraint not_57 check (payload <> '57')");
	put_numbers(f, 0, 200);
	store_fixture_run(f);
	store_fixture_sql(f, "alter table downlink drop constraint not_57");
	assert_sql(f, "select count(*) from downlink", "199");
	assert_sql(f,
		   "select row(count(*), min(convert_from(payload, 'UTF8')))::text from dead_letter"
		   " where reason like '%not_57%'",
		   "(1,57)");
	assert_sql(f, "select count(*) from telemetry", "50");
}

static void test_messages_for_rules_only_are_not_stored(void **state)
{
	struct store_fixture *f = *state;
	const struct journal_record r = {.kind = JOURNAL_MESSAGE,
					 .received_at_us = clock_realtime_us(),
					 .device = "x",
					 .device_len = 1,
					 .topic = "a/b",
					 .topic_len = 3,
					 .payload = "1",
					 .payload_len = 1};

	store_fixture_append(f, &r);
	store_fixture_put(f, "x", "{\"light\":1}");
	store_fixture_append(f, &r);
	store_fixture_run(f);
	assert_sql(f, "select row(messages, row_count, dead_letters)::text from ingest", "(3,1,0)");
}

/* A device that connects over MQTT for the first time after the message was published: nobody else
 * has kept it for the device. */
static void test_a_message_before_the_first_connection_waits(void **state)
{
	struct store_fixture *f = *state;

	put(f, "m/d/x/c2d", "early");
	store_fixture_presence(f, "x",
			       "{\"event\":\"connected\",\"source\":\"mqtt\",\"client_id\":\"x\"}",
			       clock_realtime_us());
	store_fixture_run(f);
	assert_sql(f, "select count(*) from downlink", "1");
	put(f, "m/d/x/c2d", "the broker's business");
	store_fixture_run(f);
	assert_sql(f, "select count(*) from downlink", "1");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

static void test_each_message_waits_once_whenever_the_store_is_stopped(void **state)
{
	struct store_fixture *f = *state;

	f->options.batch_rows = 20;
	put_numbers(f, 0, 1500);
	for (int i = 0; i < 15; i++) {
		uint16_t r;

		store_fixture_start(f);
		random_bytes(&r, sizeof(r));
		usleep(5000 + r);
		store_fixture_stop(f);
	}
	store_fixture_run(f);
	assert_numbers_once_and_in_order(f, 1500);
}

static void test_each_message_waits_once_when_the_server_is_killed(void **state)
{
	struct store_fixture *f = *state;

	f->options.batch_rows = 20;
	put_numbers(f, 0, 1500);
	store_fixture_start(f);
	store_fixture_await(f, "select (count(*) > 100)::int from downlink", 1);
	pg_cluster_kill(&f->cluster);
	put_numbers(f, 1500, 100);
	pg_cluster_start(&f->cluster);
	store_fixture_settle(f);
	store_fixture_stop(f);
	assert_numbers_once_and_in_order(f, 1600);
}

static void test_each_message_waits_once_when_the_commits_answer_is_lost(void **state)
{
	struct store_fixture *f = *state;
	struct cut_proxy *p;
	char url[256];

	p = cut_proxy_start(&f->cluster, f->dir, url, sizeof(url));
	f->options.database_url = url;
	f->options.batch_rows = 100;
	put_numbers(f, 0, 1000);
	cut_proxy_cut_commits(p, 4);
	store_fixture_start(f);
	store_fixture_settle(f);
	assert_int_equal(cut_proxy_left(p), 0);
	store_fixture_stop(f);
	cut_proxy_stop(p);
	assert_numbers_once_and_in_order(f, 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, store_fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_message_waits_as_it_was_published),
		TEST(test_a_message_does_not_wait_for_its_batch_to_grow),
		TEST(test_a_message_with_a_bad_topic_is_a_dead_letter),
		TEST(test_what_is_refused_is_counted_and_holds_up_nobody),
		TEST(test_process_counts_what_the_database_refused),
		TEST(test_poison_is_isolated),
		TEST(test_messages_for_rules_only_are_not_stored),
		TEST(test_a_message_before_the_first_connection_waits),
		TEST(test_each_message_waits_once_whenever_the_store_is_stopped),
		TEST(test_each_message_waits_once_when_the_server_is_killed),
		TEST(test_each_message_waits_once_when_the_commits_answer_is_lost),
	};

	return cmocka_run_group_tests(tests, store_fixture_group, store_fixture_group_end);
}
