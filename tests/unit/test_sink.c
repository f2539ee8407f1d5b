/* SPDX-License-Identifier: Apache-2.0 */
/* What rules store, into a real PostgreSQL: which rows, of which types, and what is said of rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "tests/unit/sink_fixture.h"

static void put(struct sink_fixture *f, const char *json)
{
	store_fixture_put(f->base, "dev-1", json);
}

static void test_rule_stores_a_row_of_each_message(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "alarm (device text not null, degrees float8)");
	sink_fixture_rule(
		f, "hot",
		"SELECT device() AS device, temperature AS t FROM 'm/d/+/d2c' WHERE temperature > "
		"30",
		"[{\"store\": {\"table\": \"app.alarm\", \"columns\": {\"device\": \"device\","
		" \"degrees\": \"t\"}}}]",
		NULL);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"temperature\": 31.5}");
	put(f, "{\"temperature\": 12}");
	put(f, "{\"temperature\": 40}");
	store_fixture_await(f->base, "select count(*) from app.alarm", 2);
	assert_sql(
		f->base,
		"select string_agg(device || ' ' || degrees, ', ' order by degrees) from app.alarm",
		"dev-1 31.5, dev-1 40");
}

static void test_values_become_what_the_columns_are(void **state)
{
	struct sink_fixture *f = *state;

	store_fixture_sql(f->base,
			  "create type app.level as enum ('low', 'high');"
			  " create domain app.percent as int check (value between 0 and 100)");
	sink_fixture_table(
		f, "typed (i int, b bigint, f float8, n numeric(6,2), t text, v varchar(3), o bool,"
		   " at timestamptz, plain timestamp, d date, j jsonb, js json, a int[], ta text[],"
		   " e app.level, p app.percent, y bytea, u uuid, ip inet)");
	sink_fixture_store_rule(f, "*", "typed");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"i\": 3.0, \"b\": 9007199254740993, \"f\": 2, \"n\": 1234.567, \"t\": "
	       "\"x'\\\"\\\\ \\u00e9\","
	       " \"v\": \"abc\", \"o\": true, \"at\": 1760000000123, \"plain\": 1760000000,"
	       " \"d\": \"2026-02-03\", \"j\": {\"a\": [1, null]}, \"js\": \"text\", \"a\": [1, 2, "
	       "null],"
	       " \"ta\": [\"x\", \"y,z\"], \"e\": \"high\", \"p\": 100, \"y\": \"\\\\x00ff\","
	       " \"u\": \"00000000-0000-0000-0000-000000000001\", \"ip\": \"10.0.0.1\"}");
	store_fixture_await(f->base, "select count(*) from app.typed", 1);
	assert_sql(f->base, "select row(i, b, f, n, t, v, o)::text from app.typed",
		   "(3,9007199254740993,2,1234.57,\"x'\"\"\\\\ \xc3\xa9\",abc,t)");
	assert_sql(f->base, "select row(at, plain, d)::text from app.typed",
		   "(\"2025-10-09 08:53:20.123+00\",\"2025-10-09 08:53:20\",2026-02-03)");
	assert_sql(f->base, "select concat_ws(' ', j, js, a, ta, e, p, y, u, ip) from app.typed",
		   "{\"a\": [1, null]} \"text\" {1,2,NULL} {x,\"y,z\"} high 100 \\x00ff"
		   " 00000000-0000-0000-0000-000000000001 10.0.0.1");
}

static void test_null_is_null_and_what_is_missing_is_the_default(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "lacking (n int, a int default 7, b text default 'none')");
	sink_fixture_store_rule(f, "n, a, b", "lacking");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 1}");
	put(f, "{\"n\": 2, \"a\": null}");
	put(f, "{\"n\": 3, \"a\": 1, \"b\": \"x\"}");
	store_fixture_await(f->base, "select count(*) from app.lacking", 3);
	assert_sql(f->base,
		   "select string_agg(row(n, a, b)::text, ' ' order by n) from app.lacking",
		   "(1,7,none) (2,,none) (3,1,x)");
}

static void test_not_null_domain_with_a_default_need_not_be_written(void **state)
{
	struct sink_fixture *f = *state;

	store_fixture_sql(f->base, "create domain app.needed as int not null");
	sink_fixture_table(f, "domained (n int, d app.needed default 5)");
	sink_fixture_store_rule(f, "n", "domained");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 1}");
	store_fixture_await(f->base, "select count(*) from app.domained where d = 5", 1);
}

static void test_members_with_dots_are_found_in_maps(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "dotted (v int, w int, x int)");
	sink_fixture_rule(f, "dots", "SELECT * FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"app.dotted\", \"columns\":"
			  " {\"v\": \"state.reported.v\", \"w\": \"a.b\", \"x\": \"c.d.e\"}}}]",
			  NULL);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"state\": {\"reported\": {\"v\": 1}}, \"a.b\": 2, \"c\": {\"d.e\": 3}}");
	store_fixture_await(f->base,
			    "select count(*) from app.dotted where v = 1 and w = 2 and x = 3", 1);
}

static void test_weird_names_are_taken_as_they_are(void **state)
{
	struct sink_fixture *f = *state;

	store_fixture_sql(
		f->base,
		"create schema if not exists \"we \"\"irds\";"
		" create table \"we \"\"irds\".\"T;drop table x--\" (\"Se lect\" int,"
		" \"a\"\"b'\" int, \"\xc3\xa9\" int);"
		" grant usage on schema \"we \"\"irds\" to fieldgate_ingest;"
		" grant insert on \"we \"\"irds\".\"T;drop table x--\" to fieldgate_ingest");
	sink_fixture_rule(f, "weird", "SELECT * FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"we \\\"irds.T;drop table x--\", \"columns\":"
			  " {\"Se lect\": \"a\", \"a\\\"b'\": \"b\", \"\xc3\xa9\": \"c\"}}}]",
			  NULL);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"a\": 1, \"b\": 2, \"c\": 3}");
	store_fixture_await(f->base, "select count(*) from \"we \"\"irds\".\"T;drop table x--\"",
			    1);
	store_fixture_sql(f->base, "drop schema \"we \"\"irds\" cascade");
}

static void test_members_without_a_column_are_left_out(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "part (n int, id int generated always as identity)");
	sink_fixture_store_rule(f, "*", "part");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 4, \"id\": 17, \"more\": true}");
	store_fixture_await(f->base, "select count(*) from app.part where n = 4 and id = 1", 1);
}

static void test_row_that_the_table_refuses_keeps_no_other_back(void **state)
{
	struct sink_fixture *f = *state;
	char json[64];

	sink_fixture_table(f, "picky (n int check (n % 7 <> 0))");
	sink_fixture_table(f, "failure (\"ruleName\" text, topic text, failures jsonb)");
	sink_fixture_rule(f, "picky", "SELECT n FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"app.picky\"}}]",
			  "{\"store\": {\"table\": \"app.failure\"}}");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	for (int i = 1; i <= 100; i++) {
		snprintf(json, sizeof(json), i == 50 ? "{\"n\": \"fifty\"}" : "{\"n\": %d}", i);
		put(f, json);
	}
	store_fixture_await(f->base, "select count(*) from app.picky", 85);
	store_fixture_await(f->base, "select count(*) from app.failure", 15);
	assert_sql(f->base, "select count(distinct n) from app.picky", "85");
	assert_sql(f->base,
		   "select string_agg(distinct \"ruleName\" || ' ' || topic || ' ' || "
		   "(failures->0->>'failedAction')"
		   " || ' ' || (failures->0->>'failedResource'), '; ') from app.failure",
		   "picky m/d/dev-1/d2c store app.picky");
	assert_sql(f->base,
		   "select failures->0->>'errorMessage' from app.failure where failures::text like "
		   "'%fifty%'",
		   "invalid input syntax for type integer: \"fifty\" (SQLSTATE 22P02)");
	store_fixture_await(f->base, "select errors from rule_status where name = 'picky'", 15);
	assert_sql(f->base,
		   "select last_error like '%picky_n_check%' or last_error like '%fifty%' from "
		   "rule_status",
		   "t");
}

static void test_constraint_that_is_deferred_refuses_its_row_only(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "parent (n int primary key)");
	store_fixture_sql(f->base, "insert into app.parent values (1), (3)");
	sink_fixture_table(f, "child (n int references app.parent deferrable initially deferred)");
	sink_fixture_store_rule(f, "n", "child");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 1}");
	put(f, "{\"n\": 2}");
	put(f, "{\"n\": 3}");
	store_fixture_await(f->base, "select count(*) from app.child", 2);
	store_fixture_await(f->base, "select errors from rule_status where name = 'store'", 1);
}

static void test_row_that_is_there_already_is_left_out(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "keyed (n int primary key, v int)");
	sink_fixture_table(f, "deferred (n int unique deferrable initially deferred, v int)");
	sink_fixture_store_rule(f, "n, v", "keyed");
	sink_fixture_rule(f, "deferred", "SELECT n, v FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"app.deferred\"}}]", NULL);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 1, \"v\": 1}");
	put(f, "{\"n\": 1, \"v\": 2}");
	put(f, "{\"n\": 2, \"v\": 3}");
	sink_fixture_settle(f);
	assert_sql(f->base, "select string_agg(row(n, v)::text, ' ' order by n) from app.keyed",
		   "(1,1) (2,3)");
	assert_sql(f->base, "select string_agg(row(n, v)::text, ' ' order by n) from app.deferred",
		   "(1,1) (2,3)");
	store_fixture_await(f->base, "select errors from rule_status where name = 'deferred'", 1);
	assert_sql(f->base, "select errors from rule_status where name = 'store'", "0");
}

static void test_trigger_finds_its_own_tables(void **state)
{
	struct sink_fixture *f = *state;

	pg_cluster_superuser_sql(&f->base->cluster,
				 "grant create on schema public to fieldgate_owner");
	store_fixture_sql(f->base,
			  "drop table if exists public.noted; create table public.noted (n int);"
			  " grant insert on public.noted to fieldgate_ingest");
	sink_fixture_table(f, "triggered (n int)");
	store_fixture_sql(f->base, "create function app.note() returns trigger language plpgsql as"
				   " 'begin insert into noted values (new.n); return new; end';"
				   " create trigger note after insert on app.triggered for each row"
				   " execute function app.note()");
	sink_fixture_store_rule(f, "n", "triggered");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 6}");
	store_fixture_await(f->base, "select count(*) from public.noted where n = 6", 1);
	store_fixture_sql(f->base, "drop table public.noted");
}

static void test_missing_table_is_said_and_heals(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_store_rule(f, "n", "later");
	sink_fixture_start(f);
	store_fixture_await(f->base, "select count(*) from rule where problem is not null", 1);
	assert_sql(f->base, "select problem from rule_status where not in_force",
		   "rule 'store', actions[0].store: there is no table app.later; create it, or "
		   "correct "
		   "the name");
	put(f, "{\"n\": 1}");
	store_fixture_await(f->base, "select errors from rule_status", 1);
	sink_fixture_table(f, "later (n int)");
	sink_fixture_in_force(f);
	put(f, "{\"n\": 2}");
	store_fixture_await(f->base, "select n from app.later", 2);
}

static void test_right_that_is_taken_away_is_said_and_heals(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "guarded (n int)");
	sink_fixture_table(f, "open (n int)");
	sink_fixture_store_rule(f, "n", "guarded");
	sink_fixture_rule(f, "other", "SELECT n FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"app.open\"}}]", NULL);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 1}");
	store_fixture_await(f->base, "select count(*) from app.guarded", 1);
	store_fixture_sql(f->base, "revoke insert on app.guarded from fieldgate_ingest");
	put(f, "{\"n\": 2}");
	store_fixture_await(f->base, "select count(*) from app.open", 2);
	store_fixture_await(f->base, "select errors from rule_status where name = 'store'", 1);
	store_fixture_await(f->base,
			    "select count(*) from rule where name = 'store' and problem like "
			    "'%grant insert on app.guarded%'",
			    1);
	store_fixture_sql(f->base, "grant insert on app.guarded to fieldgate_ingest");
	sink_fixture_in_force(f);
	put(f, "{\"n\": 3}");
	store_fixture_await(f->base, "select count(*) from app.guarded", 2);
	assert_sql(f->base, "select string_agg(n::text, ' ' order by n) from app.open", "1 2 3");
}

static void test_column_that_changes_its_type_is_no_error(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "changing (v text)");
	sink_fixture_store_rule(f, "v", "changing");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"v\": \"1\"}");
	store_fixture_await(f->base, "select count(*) from app.changing", 1);
	store_fixture_sql(f->base, "alter table app.changing alter v type int using v::int");
	put(f, "{\"v\": \"2\"}");
	store_fixture_await(f->base, "select count(*) from app.changing where v = 2", 1);
	assert_sql(f->base, "select errors from rule_status", "0");
}

static void test_rule_that_does_not_parse_says_so(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_rule(f, "broken", "SELECT FROM", "[]", NULL);
	sink_fixture_rule(f, "fine", "SELECT * FROM 'a/b'", "[]", NULL);
	sink_fixture_start(f);
	store_fixture_await(f->base,
			    "select count(*) from rule_status where not in_force and problem like "
			    "'rule ''broken'': line 1, column %'",
			    1);
	store_fixture_await(f->base,
			    "select count(*) from rule_status where in_force and name = 'fine'", 1);
	store_fixture_sql(f->base,
			  "update rule set sql = 'SELECT * FROM ''b''' where name = 'broken'");
	store_fixture_await(f->base, "select count(*) from rule_status where in_force", 2);
}

static void test_first_rule_begins_with_what_comes_then(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "begun (n int)");
	sink_fixture_start(f);
	put(f, "{\"n\": 1}");
	usleep(700 * 1000);
	sink_fixture_store_rule(f, "n", "begun");
	sink_fixture_in_force(f);
	put(f, "{\"n\": 2}");
	sink_fixture_settle(f);
	assert_sql(f->base, "select string_agg(n::text, ' ') from app.begun", "2");
}

static void test_rule_that_was_away_begins_anew(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "begun (n int)");
	sink_fixture_store_rule(f, "n", "begun");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 1}");
	store_fixture_await(f->base, "select count(*) from app.begun", 1);
	store_fixture_sql(f->base, "update rule set enabled = false");
	store_fixture_await(f->base, "select count(*) from sink_position", 0);
	put(f, "{\"n\": 2}");
	store_fixture_sql(f->base, "update rule set enabled = true");
	sink_fixture_in_force(f);
	put(f, "{\"n\": 3}");
	sink_fixture_settle(f);
	assert_sql(f->base, "select string_agg(n::text, ' ' order by n) from app.begun", "1 3");
}

static void test_what_came_while_it_was_stopped_is_stored(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "kept (n int)");
	sink_fixture_store_rule(f, "n", "kept");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 1}");
	store_fixture_await(f->base, "select count(*) from app.kept", 1);
	sink_fixture_stop(f);
	put(f, "{\"n\": 2}");
	put(f, "{\"n\": 3}");
	sink_fixture_start(f);
	sink_fixture_settle(f);
	assert_sql(f->base, "select string_agg(n::text, ' ' order by n) from app.kept", "1 2 3");
}

static void test_rules_change_while_messages_flow(void **state)
{
	struct sink_fixture *f = *state;
	char json[64], sql[256];

	sink_fixture_table(f, "flow (n int, r int)");
	sink_fixture_rule(f, "steady", "SELECT n, 0 AS r FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"app.flow\"}}]", NULL);
	sink_fixture_rule(f, "varying", "SELECT n, 1 AS r FROM 'm/d/+/d2c'",
			  "[{\"store\": {\"table\": \"app.flow\"}}]", NULL);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	for (int i = 0; i < 3000; i++) {
		snprintf(json, sizeof(json), "{\"n\": %d}", i);
		put(f, json);
		if (i % 300 == 0) {
			snprintf(sql, sizeof(sql),
				 "update rule set sql = 'SELECT n, %d AS r FROM ''m/d/+/d2c''' "
				 "where name = 'varying'",
				 i + 1);
			store_fixture_sql(f->base, sql);
			usleep(150 * 1000);
		}
	}
	sink_fixture_settle(f);
	assert_sql(f->base,
		   "select row(count(*), count(distinct n))::text from app.flow where r = 0",
		   "(3000,3000)");
	assert_sql(f->base,
		   "select row(count(*), count(distinct n))::text from app.flow where r > 0",
		   "(3000,3000)");
}

static void test_counters_are_added_to_and_gone_with_the_rule(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "strict (n int not null)");
	sink_fixture_store_rule(f, "n, m", "strict");
	store_fixture_sql(f->base, "alter table app.strict add m int");
	store_fixture_sql(
		f->base,
		"insert into rule_counter (rule, source, matched, errors, last_error) values"
		" ('store', 'mqtt', 10, 5, 'old'), ('store', 'coap', 1, 1, 'other')");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"m\": 1}");
	store_fixture_await(f->base, "select errors from rule_status", 7);
	assert_sql(f->base, "select last_error from rule_status",
		   "store app.strict: null value in column \"n\" of relation \"strict\" violates "
		   "not-null constraint (SQLSTATE 23502)");
	assert_sql(f->base, "select matched from rule_status", "11");
	put(f, "{\"m\": 2}");
	store_fixture_sql(f->base, "delete from rule");
	sink_fixture_rule(f, "fine", "SELECT * FROM 'a/b'", "[]", NULL);
	sink_fixture_in_force(f);
	assert_sql(f->base, "select count(*) from rule_counter", "0");
}

static void test_counters_survive_a_clean_stop(void **state)
{
	struct sink_fixture *f = *state;
	struct sink_stats st;

	sink_fixture_table(f, "strict (n int check (n > 0))");
	sink_fixture_store_rule(f, "n", "strict");
	f->options.report_interval_ms = 60000;
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": -1}");
	do
		sink_stats(f->sink, &st);
	while (st.refused == 0);
	sink_fixture_stop(f);
	assert_sql(f->base, "select errors from rule_status", "1");
}

static void test_chained_rules_store_once_each(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_table(f, "second (n int, t text)");
	sink_fixture_rule(f, "first", "SELECT n FROM 'm/d/+/d2c'",
			  "[{\"republish\": {\"topic\": \"next/${n}\"}}]", NULL);
	sink_fixture_rule(f, "then", "SELECT n, topic() AS t FROM 'next/+'",
			  "[{\"store\": {\"table\": \"app.second\"}}]", NULL);
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	put(f, "{\"n\": 5}");
	put(f, "{\"n\": 6}");
	sink_fixture_settle(f);
	assert_sql(f->base, "select string_agg(n || t, ' ' order by n) from app.second",
		   "5next/5 6next/6");
}

static void test_nothing_is_connected_without_rules(void **state)
{
	struct sink_fixture *f = *state;

	sink_fixture_start(f);
	usleep(500 * 1000);
	store_fixture_await(f->base,
			    "select count(*) from pg_stat_activity where application_name = "
			    "'fieldgate-mqtt-sink'",
			    0);
}

static void test_lone_message_is_stored_soon(void **state)
{
	struct sink_fixture *f = *state;
	int64_t best = 60 * US_PER_S;

	sink_fixture_table(f, "soon (n int, at timestamptz default clock_timestamp())");
	sink_fixture_store_rule(f, "n", "soon");
	sink_fixture_start(f);
	sink_fixture_in_force(f);
	for (int i = 1; i <= 10; i++) {
		int64_t begun = clock_monotonic_us(), took;

		put(f, "{\"n\": 1}");
		store_fixture_await(f->base, "select count(*) from app.soon", i);
		took = clock_monotonic_us() - begun;
		best = took < best ? took : best;
		usleep(20000);
	}
	if (getenv("FIELDGATE_TEST_LOG"))
		print_message("best latency %lld us\n", (long long)best);
	assert_true(best < 400 * US_PER_MS); /* it waits for no tick */
}

#define sink_test(t) cmocka_unit_test_setup_teardown(t, sink_fixture_begin, sink_fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		sink_test(test_rule_stores_a_row_of_each_message),
		sink_test(test_values_become_what_the_columns_are),
		sink_test(test_null_is_null_and_what_is_missing_is_the_default),
		sink_test(test_not_null_domain_with_a_default_need_not_be_written),
		sink_test(test_members_with_dots_are_found_in_maps),
		sink_test(test_weird_names_are_taken_as_they_are),
		sink_test(test_members_without_a_column_are_left_out),
		sink_test(test_row_that_the_table_refuses_keeps_no_other_back),
		sink_test(test_constraint_that_is_deferred_refuses_its_row_only),
		sink_test(test_row_that_is_there_already_is_left_out),
		sink_test(test_trigger_finds_its_own_tables),
		sink_test(test_missing_table_is_said_and_heals),
		sink_test(test_right_that_is_taken_away_is_said_and_heals),
		sink_test(test_column_that_changes_its_type_is_no_error),
		sink_test(test_rule_that_does_not_parse_says_so),
		sink_test(test_first_rule_begins_with_what_comes_then),
		sink_test(test_rule_that_was_away_begins_anew),
		sink_test(test_what_came_while_it_was_stopped_is_stored),
		sink_test(test_rules_change_while_messages_flow),
		sink_test(test_counters_are_added_to_and_gone_with_the_rule),
		sink_test(test_counters_survive_a_clean_stop),
		sink_test(test_chained_rules_store_once_each),
		sink_test(test_nothing_is_connected_without_rules),
		sink_test(test_lone_message_is_stored_soon),
	};

	return cmocka_run_group_tests_name("sink", tests, sink_fixture_group,
					   sink_fixture_group_end);
}
