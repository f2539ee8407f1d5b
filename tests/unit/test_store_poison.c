/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that the database refuses: each is found and put aside, and holds up nobody. */
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

#include "core/base/clock.h"
#include "tests/unit/store_fixture.h"

static void put_numbers(struct store_fixture *f, int n)
{
	char json[64];

	for (int i = 0; i < n; i++) {
		snprintf(json, sizeof(json), "{\"temperature\":%d}", i);
		store_fixture_put_at(f, i % 2 ? "odd" : "even", "", json, clock_realtime_us() + i);
	}
}

static void test_one_message_of_a_thousand_is_put_aside_and_the_rest_is_stored(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(
		f, "alter table telemetry add constraint not_637 check (temperature <> 637)");
	put_numbers(f, 1000);
	store_fixture_run(f);
	store_fixture_sql(f, "alter table telemetry drop constraint not_637");
	assert_sql(f, "select row(count(*), sum(temperature))::text from telemetry",
		   "(999,498863)");
	assert_sql(f,
		   "select row(count(*), min(device), min(convert_from(payload, 'UTF8')))::text"
		   " from dead_letter",
		   "(1,odd,\"{\"\"temperature\"\":637}\")");
	assert_sql(f, "select reason like '%not_637%SQLSTATE 23514%' from dead_letter", "t");
	assert_sql(f, "select row(messages, row_count, dead_letters)::text from ingest",
		   "(1000,999,1)");
	assert_sql(f, "select array_agg(temperature order by device) from telemetry_latest",
		   "{998,999}");
}

static void test_first_last_and_neighbours_are_found_too(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table telemetry add constraint c"
			     " check (temperature not in (0, 1, 2, 254, 256, 499))");
	put_numbers(f, 500);
	store_fixture_run(f);
	store_fixture_sql(f, "alter table telemetry drop constraint c");
	assert_sql(f, "select count(*) from telemetry", "494");
	assert_sql(f,
		   "select array_agg((convert_from(payload, 'UTF8')::json->>'temperature')::int"
		   " order by received_at) from dead_letter",
		   "{0,1,2,254,256,499}");
}

static void test_when_all_are_refused_all_are_put_aside(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table telemetry add constraint c check (temperature is null)");
	put_numbers(f, 300);
	store_fixture_put(f, "good", "{\"humidity\":1}");
	store_fixture_run(f);
	store_fixture_sql(f, "alter table telemetry drop constraint c");
	assert_sql(f, "select count(distinct payload) from dead_letter", "300");
	assert_sql(f, "select array_agg(device) from telemetry", "{good}");
}

static void trigger(struct store_fixture *f, const char *body)
{
	char sql[512];

	snprintf(sql, sizeof(sql),
		 "create function spoil() returns trigger language plpgsql as"
		 " $$ begin if new.temperature = 5 then %s; end if; return new; end $$",
		 body);
	store_fixture_sql(f, sql);
	store_fixture_sql(f, "create trigger spoil before insert on telemetry for each row"
			     " execute function spoil()");
}

static void drop_trigger(struct store_fixture *f)
{
	store_fixture_sql(f, "drop function spoil() cascade");
}

static void test_exception_of_a_users_trigger_puts_its_message_aside(void **state)
{
	struct store_fixture *f = *state;

	trigger(f, "raise exception 'five is right out'");
	put_numbers(f, 20);
	store_fixture_run(f);
	drop_trigger(f);
	assert_sql(f, "select reason from dead_letter", "five is right out (SQLSTATE P0001)");
	assert_sql(f, "select count(*) from telemetry", "19");
}

static void test_error_that_might_be_the_schemas_is_tried_again_and_then_put_aside(void **state)
{
	struct store_fixture *f = *state;

	trigger(f, "perform * from no_such_table");
	put_numbers(f, 20);
	store_fixture_run(f);
	drop_trigger(f);
	assert_sql(f, "select reason like '%no_such_table%42P01%' from dead_letter", "t");
	assert_sql(f, "select count(*) from telemetry", "19");
}

static void test_users_trigger_that_fails_for_the_systems_sake_puts_nothing_aside(void **state)
{
	struct store_fixture *f = *state;

	trigger(f, "raise exception using errcode = '53100', message = 'disk full'");
	put_numbers(f, 20);
	store_fixture_start(f);
	usleep(700000);
	assert_sql(f, "select count(*) from telemetry", "0");
	assert_sql(f, "select count(*) from dead_letter", "0");
	drop_trigger(f);
	store_fixture_settle(f);
	assert_sql(f, "select count(*) from telemetry", "20");
}

static void test_nothing_is_lost_when_dead_letters_are_refused(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table dead_letter add constraint c check (device <> 'x')");
	store_fixture_put(f, "x", "{");
	put_numbers(f, 10);
	store_fixture_start(f);
	usleep(500000);
	assert_sql(f, "select messages from ingest", "0");
	assert_sql(f, "select backlog_bytes > 200 and lag > '0' from fieldgate_status", "t");
	store_fixture_sql(f, "alter table dead_letter drop constraint c");
	store_fixture_settle(f);
	assert_sql(f, "select count(*) from dead_letter", "1");
	assert_sql(f, "select count(*) from telemetry", "10");
}

static void test_presence_that_no_index_takes_is_put_aside(void **state)
{
	static char json[9000];
	struct store_fixture *f = *state;
	size_t n = (size_t)sprintf(json,
				   "{\"event\":\"connected\",\"source\":\"mqtt\",\"client_id\":\"");

	for (int i = 0; i < 500; i++) {
		uint64_t r;

		random_bytes(&r, sizeof(r));
		n += (size_t)sprintf(json + n, "%016" PRIx64, r);
	}
	strcpy(json + n, "\"}");
	store_fixture_presence(f, "d", json, clock_realtime_us());
	put_numbers(f, 10);
	store_fixture_presence(f, "d",
			       "{\"event\":\"connected\",\"source\":\"mqtt\",\"client_id\":\"c\"}",
			       clock_realtime_us());
	store_fixture_run(f);
	assert_sql(f, "select reason like '%SQLSTATE 54000%' from dead_letter", "t");
	assert_sql(f, "select count(*) from telemetry", "10");
	assert_sql(f, "select array_agg(client_id) from presence", "{c}");
}

static void test_constraint_on_the_latest_values_puts_the_message_aside(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table telemetry_latest add constraint c check (humidity < 50)");
	store_fixture_put(f, "a", "{\"humidity\":99}");
	store_fixture_put(f, "b", "{\"humidity\":9}");
	store_fixture_run(f);
	store_fixture_sql(f, "alter table telemetry_latest drop constraint c");
	assert_sql(f, "select array_agg(device) from telemetry", "{b}");
	assert_sql(f, "select device from dead_letter", "a");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_begin, store_fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_message_of_a_thousand_is_put_aside_and_the_rest_is_stored),
		TEST(test_first_last_and_neighbours_are_found_too),
		TEST(test_when_all_are_refused_all_are_put_aside),
		TEST(test_exception_of_a_users_trigger_puts_its_message_aside),
		TEST(test_error_that_might_be_the_schemas_is_tried_again_and_then_put_aside),
		TEST(test_users_trigger_that_fails_for_the_systems_sake_puts_nothing_aside),
		TEST(test_nothing_is_lost_when_dead_letters_are_refused),
		TEST(test_presence_that_no_index_takes_is_put_aside),
		TEST(test_constraint_on_the_latest_values_puts_the_message_aside),
	};

	return cmocka_run_group_tests(tests, store_fixture_group, store_fixture_group_end);
}
