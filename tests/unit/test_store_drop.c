/* SPDX-License-Identifier: Apache-2.0 */
/* Rules with the action `drop`: which messages are kept out of telemetry, and what is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/rule/set.h"
#include "tests/unit/rules_on_disk.h"
#include "tests/unit/store_fixture.h"

static struct registry *registry;
static struct rules *rules;

static void with_rules(struct store_fixture *f, const struct rule_row *rows, size_t count)
{
	char path[] = "/tmp/store-drop-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	rules_on_disk_save(path, rows, count);
	registry = rules_on_disk_open(path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rules_open(&rules, registry), 0);
	f->options.rules = rules;
}

static int tear_down(void **state)
{
	int rc = store_fixture_end(state);

	rules_close(rules);
	registry_close(registry);
	rules = NULL;
	registry = NULL;
	return rc;
}

static void test_a_dropped_message_is_neither_in_telemetry_nor_the_latest(void **state)
{
	struct store_fixture *f = *state;
	struct store_stats st;

	with_rules(f, ROWS({"noise", "SELECT * FROM 'm/d/+/d2c' WHERE noise", DROP}), 1);
	store_fixture_put(f, "dev-1", "{\"noise\":false,\"n\":1}");
	store_fixture_put(f, "dev-1", "{\"noise\":true,\"n\":2}");
	store_fixture_put(f, "dev-2", "{\"noise\":true,\"n\":3}");
	store_fixture_put(f, "dev-1", "{\"n\":4}");
	store_fixture_start(f);
	store_fixture_settle(f);
	store_stats(f->store, &st);
	assert_int_equal(st.dropped, 2);
	assert_int_equal(st.messages, 4);
	assert_int_equal(st.rows, 2);
	assert_int_equal(st.dead_letters, 0);
	assert_sql(f, "select string_agg(extra->>'n', ',' order by extra->>'n') from telemetry",
		   "1,4");
	assert_sql(f, "select string_agg(device, ',') from telemetry_latest", "dev-1");
	assert_sql(f, "select messages from ingest", "4");
}

static void test_only_messages_of_the_rules_topics_are_dropped(void **state)
{
	struct store_fixture *f = *state;

	with_rules(f, ROWS({"one", "SELECT * FROM 'm/d/dev-1/d2c/debug'", DROP}), 1);
	store_fixture_put_at(f, "dev-1", "/debug", "{\"n\":1}", clock_realtime_us());
	store_fixture_put_at(f, "dev-1", "", "{\"n\":2}", clock_realtime_us());
	store_fixture_put_at(f, "dev-2", "/debug", "{\"n\":3}", clock_realtime_us());
	store_fixture_run(f);
	assert_sql(f, "select string_agg(extra->>'n', ',' order by extra->>'n') from telemetry",
		   "2,3");
}

static void test_what_cannot_be_judged_is_stored(void **state)
{
	struct store_fixture *f = *state;

	with_rules(
		f,
		ROWS({"fails", "SELECT * FROM 'm/d/+/d2c' WHERE decode(b, 'base64') = 'x'", DROP},
		     {"no table", "SELECT", DROP}),
		1);
	store_fixture_put(f, "dev-1", "{\"b\":\"not base64!\",\"n\":1}");
	store_fixture_run(f);
	assert_sql(f, "select extra->>'n' from telemetry", "1");
}

static void test_what_is_no_json_may_be_dropped_too_and_is_no_dead_letter_then(void **state)
{
	struct store_fixture *f = *state;

	with_rules(f, ROWS({"raw", "SELECT * FROM 'm/d/dev-1/d2c'", DROP}), 1);
	store_fixture_put(f, "dev-1", "\x01\x02");
	store_fixture_put(f, "dev-2", "\x01\x02");
	store_fixture_run(f);
	assert_sql(f, "select string_agg(device, ',') from dead_letter", "dev-2");
}

static void test_presence_is_never_dropped(void **state)
{
	struct store_fixture *f = *state;

	with_rules(f, ROWS({"all", "SELECT * FROM '#'", DROP}), 1);
	store_fixture_put(f, "dev-1", "{\"n\":1}");
	store_fixture_presence(f, "dev-1",
			       "{\"event\":\"connected\",\"source\":\"mqtt\",\"client_id\":\"c\"}",
			       clock_realtime_us());
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry", "0");
	assert_sql(f, "select device from presence", "dev-1");
}

static void test_a_record_for_rules_only_makes_no_row(void **state)
{
	const struct journal_record r = {.kind = JOURNAL_MESSAGE,
					 .received_at_us = clock_realtime_us(),
					 .device = "",
					 .topic = "weather/oslo",
					 .topic_len = 12,
					 .payload = "{}",
					 .payload_len = 2};
	struct store_fixture *f = *state;

	store_fixture_append(f, &r);
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry", "0");
	assert_sql(f, "select count(*) from dead_letter", "0");
	assert_sql(f, "select messages from ingest", "1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_begin, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_a_dropped_message_is_neither_in_telemetry_nor_the_latest),
		TEST(test_only_messages_of_the_rules_topics_are_dropped),
		TEST(test_what_cannot_be_judged_is_stored),
		TEST(test_what_is_no_json_may_be_dropped_too_and_is_no_dead_letter_then),
		TEST(test_presence_is_never_dropped),
		TEST(test_a_record_for_rules_only_makes_no_row),
	};

	return cmocka_run_group_tests(tests, store_fixture_group, store_fixture_group_end);
}
