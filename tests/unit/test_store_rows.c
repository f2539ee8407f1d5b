/* SPDX-License-Identifier: Apache-2.0 */
/* What a message becomes: columns, extra, times, keys, dead letters, presence. Real store, real
 * database. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"
#include "tests/unit/store_fixture.h"

#define SECOND US_PER_S

static int64_t now_us(void)
{
	return clock_realtime_us() / US_PER_S * US_PER_S;
}

static const char *format_sql(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *format_sql(const char *fmt, ...)
{
	static char text[2][2048];
	static int turn;
	va_list ap;

	turn ^= 1;
	va_start(ap, fmt);
	vsnprintf(text[turn], sizeof(text[turn]), fmt, ap);
	va_end(ap);
	return text[turn];
}

static int add_columns(void **state)
{
	store_fixture_group(state);
	store_fixture_sql(*state, "alter table telemetry add flag boolean, add small smallint,"
				  " add medium integer, add large bigint, add exact float8,"
				  " add label text, add code varchar(3), add doc jsonb,"
				  " add \"Odd.Name \"\"x\" real, add at timestamptz,"
				  " add twice real generated always as (temperature * 2) stored");
	return 0;
}

/* ---- columns ---- */

static void test_values_are_read_back_as_they_were_sent(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(
		f, "dev-1",
		"{\"temperature\":21.7,\"exact\":0.30000000000000004,\"flag\":true,"
		"\"small\":-32768,\"medium\":2147483647,\"large\":-9223372036854775808,"
		"\"label\":\"\\u00e6\\u00f8 \\ud83d\\ude00 \\\"x\\\"\",\"code\":\"\\u00e6bc\","
		"\"doc\":[1,{\"a\":null}],\"Odd.Name \\\"x\":1.5,\"latitude\":63.4213579}");
	store_fixture_run(f);
	assert_sql(f,
		   "select row(temperature, exact, flag, small, medium, large, label, code, doc,"
		   " \"Odd.Name \"\"x\", latitude)::text from telemetry",
		   "(21.7,0.30000000000000004,t,-32768,2147483647,-9223372036854775808,"
		   "\"\xc3\xa6\xc3\xb8 \xf0\x9f\x98\x80 \"\"x\"\"\",\xc3\xa6"
		   "bc,\"[1, {\"\"a\"\": null}]\",1.5,63.4213579)");
	assert_sql(f, "select extra from telemetry", "null");
	assert_sql(f, "select row(device, ts_source, subtopic)::text from telemetry",
		   "(dev-1,receipt,)");
}

static void test_integers_go_into_real_and_whole_numbers_into_integer(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(f, "d", "{\"temperature\":21,\"exact\":-7,\"small\":5.0,\"large\":1e15}");
	store_fixture_run(f);
	assert_sql(f, "select row(temperature, exact, small, large, extra)::text from telemetry",
		   "(21,-7,5,1000000000000000,)");
}

static void test_what_does_not_fit_its_column_goes_to_extra_unchanged(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(f, "d",
			  "{\"temperature\":\"hot\",\"humidity\":true,\"pressure\":1e39,"
			  "\"battery\":1e-60,\"flag\":1,\"small\":32768,\"medium\":1.5,"
			  "\"large\":9.3e18,\"label\":5,\"code\":\"four\",\"light\":[1]}");
	store_fixture_run(f);
	assert_sql(
		f,
		"select num_nonnulls(temperature, humidity, pressure, battery, flag, small, medium,"
		" large, label, code, light) from telemetry",
		"0");
	assert_sql(f,
		   "select extra = '{\"temperature\":\"hot\",\"humidity\":true,\"pressure\":1e39,"
		   "\"battery\":1e-60,\"flag\":1,\"small\":32768,\"medium\":1.5,\"large\":9.3e18,"
		   "\"label\":5,\"code\":\"four\",\"light\":[1]}' from telemetry",
		   "t");
}

static void test_unknown_names_and_nulls_go_to_extra(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(f, "d",
			  "{\"co2\":417,\"a \\\"b\\\\\":\"\\t\\u00e6\",\"humidity\":null,"
			  "\"n\":{\"x\":0.1}}");
	store_fixture_run(f);
	assert_sql(f,
		   "select extra = '{\"co2\":417,\"a \\\"b\\\\\":\"\\t\\u00e6\",\"humidity\":null,"
		   "\"n.x\":0.1}' from telemetry",
		   "t");
	assert_sql(f, "select extra->>'n.x' from telemetry", "0.1");
	assert_sql(f, "select extra ? 'humidity' from telemetry_latest", "f");
}

static void test_key_columns_are_no_targets(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(f, "dev-1",
			  "{\"device\":\"other\",\"received_at\":5,\"ts_source\":\"device\","
			  "\"subtopic\":\"s\",\"extra\":\"e\",\"ts\":\"yesterday\",\"seq\":-1}");
	store_fixture_run(f);
	assert_sql(f, "select device from telemetry", "dev-1");
	assert_sql(
		f,
		"select extra = '{\"device\":\"other\",\"received_at\":5,\"ts_source\":\"device\","
		"\"subtopic\":\"s\",\"extra\":\"e\",\"ts\":\"yesterday\",\"seq\":-1}'"
		" and subtopic is null and ts_source = 'receipt' from telemetry",
		"t");
}

static void test_generated_and_unsupported_columns_are_no_targets(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(f, "d",
			  "{\"temperature\":2,\"twice\":99,\"at\":\"2026-01-01T00:00:00Z\"}");
	store_fixture_run(f);
	assert_sql(f, "select row(twice, at, extra->'twice', extra->>'at')::text from telemetry",
		   "(4,,99,2026-01-01T00:00:00Z)");
}

static void test_new_column_is_in_use_within_seconds(void **state)
{
	struct store_fixture *f = *state;
	int64_t begin = clock_monotonic_us();

	store_fixture_start(f);
	store_fixture_put(f, "d", "{\"co2\":1}");
	store_fixture_settle(f);
	store_fixture_sql(f, "alter table telemetry add column co2 real");
	while (store_fixture_number(f, "select count(co2) from telemetry") == 0) {
		assert_true(clock_monotonic_us() - begin < 20 * US_PER_S);
		store_fixture_put(f, "d", "{\"co2\":2}");
		usleep(50000);
	}
	store_fixture_stop(f);
	assert_sql(f, "select bool_and((co2 = 2) <> (extra is not null)) from telemetry", "t");
	store_fixture_sql(f, "alter table telemetry drop column co2");
	store_fixture_sql(f, "alter table telemetry_latest drop column if exists co2");
}

static void test_dropped_column_loses_nothing_that_comes_after(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table telemetry add column co2 real");
	store_fixture_start(f);
	for (int i = 0; i < 50; i++) {
		store_fixture_put(f, "d", "{\"co2\":7}");
		if (i == 25) {
			store_fixture_settle(f);
			store_fixture_sql(f, "alter table telemetry drop column co2");
		}
	}
	store_fixture_settle(f);
	store_fixture_stop(f);
	assert_sql(f, "select count(*) from telemetry", "50");
	assert_sql(f, "select count(*) from telemetry where extra->>'co2' = '7'", "24");
	assert_sql(f, "select count(*) from dead_letter", "0");
	store_fixture_sql(f, "alter table telemetry_latest drop column if exists co2");
}

static void test_rows_of_one_batch_may_use_different_columns(void **state)
{
	struct store_fixture *f = *state;
	char json[64];

	for (int i = 0; i < 600; i++) {
		snprintf(json, sizeof(json), "{\"%s\":%d}",
			 (const char *[]){"temperature", "humidity", "label2"}[i % 3], i);
		store_fixture_put(f, "d", json);
	}
	store_fixture_run(f);
	assert_sql(f,
		   "select row(count(*), count(temperature), sum(temperature), count(humidity),"
		   " sum(humidity), count(extra))::text from telemetry",
		   "(600,200,59700,200,59900,200)");
}

static void test_more_kinds_of_messages_than_statements_are_remembered(void **state)
{
	static const char *const names[] = {"temperature", "humidity", "pressure", "air_quality",
					    "light",	   "battery",  "rsrp",	   "altitude",
					    "accuracy",	   "speed",    "heading",  "exact"};
	struct store_fixture *f = *state;
	char json[512];
	long values = 0;

	f->options.batch_rows = 1;
	for (unsigned i = 1; i <= 150; i++) {
		unsigned set = i * 2654435761U >> 20; /* twelve bits, scattered */
		size_t n = 0;

		for (unsigned m = 0; m < 12; m++)
			if (set >> m & 1) {
				n += (size_t)sprintf(json + n, "%c\"%s\":%u", n ? ',' : '{',
						     names[m], i);
				values++;
			}
		strcpy(json + n, n ? "}" : "{\"rsrp\":0}");
		values += n == 0;
		store_fixture_put(f, "d", json);
	}
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry where extra is null", "150");
	assert_int_equal(
		store_fixture_number(f, "select sum(num_nonnulls(temperature, humidity, pressure,"
					" air_quality, light, battery, rsrp, altitude, accuracy,"
					" speed, heading, exact)) from telemetry"),
		values);
}

static void test_subtopic_is_what_follows_d2c(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put_at(f, "d", "", "{\"temperature\":0}", now_us());
	store_fixture_put_at(f, "d", "/a/b", "{\"temperature\":1}", now_us());
	store_fixture_put_at(f, "d", "/", "{\"temperature\":2}", now_us());
	store_fixture_run(f);
	assert_sql(f,
		   "select array_agg(coalesce('<' || subtopic || '>', 'null') order by temperature)"
		   " from telemetry",
		   "{\"null\",<a/b>,<>}");
}

/* ---- time ---- */

static void test_time_of_the_device_is_kept_within_the_window(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	store_fixture_put_at(
		f, "d", "",
		format_sql("{\"ts\":%" PRId64 ",\"large\":1}", (now - 3600 * SECOND) / 1000), now);
	store_fixture_put_at(f, "d", "", "{\"large\":2}", now + 1);
	store_fixture_run(f);
	assert_sql(f,
		   "select row(ts_source, received_at - ts)::text from telemetry where large = 1",
		   "(device,01:00:00)");
	assert_sql(f,
		   "select row(ts_source, received_at - ts)::text from telemetry where large = 2",
		   "(receipt,00:00:00)");
}

static void test_implausible_time_is_kept_in_extra(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	store_fixture_put_at(f, "d", "", "{\"ts\":\"1999-12-31T23:59:59.5Z\",\"large\":1}", now);
	store_fixture_put_at(f, "d", "",
			     "{\"ts\":\"2999-01-01T00:00:00Z\",\"large\":2,"
			     "\"device_ts\":\"mine\"}",
			     now + 1);
	store_fixture_put_at(
		f, "d", "",
		format_sql("{\"ts\":%" PRId64 ",\"large\":3}", (now - 401 * US_PER_DAY) / 1000),
		now + 2);
	store_fixture_run(f);
	assert_sql(f,
		   "select count(*) from telemetry where ts = received_at"
		   " and ts_source = 'out_of_range'",
		   "3");
	assert_sql(f, "select extra->>'device_ts' from telemetry where large = 1",
		   "1999-12-31T23:59:59.500000Z");
	assert_sql(f,
		   "select row(extra->>'device_ts', extra->>'_device_ts')::text from telemetry"
		   " where large = 2",
		   "(mine,2999-01-01T00:00:00.000000Z)");
	assert_sql(f, "select extra from telemetry_latest", "{\"device_ts\": \"mine\"}");
}

static void test_relative_time_counts_from_receipt(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put(f, "d",
			  "[{\"n\":\"temperature\",\"v\":1,\"t\":-60},"
			  "{\"n\":\"temperature\",\"v\":2}]");
	store_fixture_run(f);
	assert_sql(f,
		   "select array_agg(row(temperature, ts_source, received_at - ts)::text"
		   " order by temperature) from telemetry",
		   "{\"(1,receipt,00:01:00)\",\"(2,receipt,00:00:00)\"}");
}

/* ---- keys ---- */

static void test_repeat_with_its_own_time_is_stored_once(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();
	const char *json = format_sql("{\"ts\":%" PRId64 ",\"temperature\":5}", now / 1000);

	store_fixture_put_at(f, "d", "", json, now);
	store_fixture_put_at(f, "d", "", json, now + 5 * SECOND);
	store_fixture_run(f);
	store_fixture_put_at(f, "d", "", json, now + 9 * SECOND);
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry", "1");
	assert_sql(f, "select seq < 0 from telemetry", "t");
}

static void test_different_readings_of_one_moment_are_both_stored(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	for (int i = 0; i < 3; i++)
		store_fixture_put_at(f, "d", i == 2 ? "/x" : "",
				     format_sql("{\"ts\":%" PRId64 ",\"temperature\":%d}",
						now / 1000, i < 1 ? 0 : 1),
				     now);
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry", "3");
}

static void test_messages_without_time_or_number_are_all_stored(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	for (int i = 0; i < 4; i++)
		store_fixture_put_at(f, "d", "", "{\"temperature\":5}", now);
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry", "4");
}

static void test_repeat_with_number_only_is_stored_once(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	store_fixture_put_at(f, "d", "", "{\"seq\":7,\"temperature\":5}", now);
	store_fixture_put_at(f, "d", "", "{\"seq\":7,\"temperature\":5}", now + 1 * SECOND);
	store_fixture_put_at(f, "d", "", "{\"seq\":7,\"temperature\":6}", now + 2 * SECOND);
	store_fixture_put_at(f, "d", "", "{\"temperature\":9}", now + 3 * SECOND);
	store_fixture_run(f);
	store_fixture_put_at(f, "d", "", "{\"seq\":7,\"temperature\":5}", now + 4 * SECOND);
	store_fixture_put_at(f, "e", "", "{\"seq\":7,\"temperature\":5}", now + 5 * SECOND);
	store_fixture_run(f);
	assert_sql(f,
		   "select array_agg(row(device, seq, temperature)::text order by received_at)"
		   " from telemetry where seq = 7",
		   "{\"(d,7,5)\",\"(d,7,6)\",\"(e,7,5)\"}");
	assert_sql(f, "select count(*) from telemetry", "4");
}

static void test_number_and_time_together_are_the_key(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();
	const char *json =
		format_sql("{\"ts\":%" PRId64 ",\"seq\":9,\"temperature\":5}", now / 1000);

	store_fixture_put_at(f, "d", "", json, now);
	store_fixture_put_at(f, "d", "", json, now + SECOND);
	store_fixture_run(f);
	assert_sql(f, "select row(count(*), max(seq))::text from telemetry", "(1,9)");
	assert_sql(f, "select count(*) from sequence_seen", "0");
}

static void test_samples_of_a_message_with_one_number_are_all_stored(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	for (int i = 0; i < 2; i++)
		store_fixture_put_at(f, "d", "",
				     "[{\"seq\":3,\"temperature\":1},{\"seq\":3,\"temperature\":2},"
				     "{\"seq\":3,\"temperature\":3}]",
				     now + i * SECOND);
	store_fixture_run(f);
	assert_sql(f, "select array_agg(temperature order by temperature) from telemetry",
		   "{1,2,3}");
}

static void test_taking_the_journal_again_stores_nothing_twice(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	store_fixture_put_at(f, "d", "", "{\"temperature\":5}", now);
	store_fixture_put_at(f, "d", "", "{\"seq\":1,\"temperature\":5}", now);
	store_fixture_put_at(f, "d", "", "not json", now);
	store_fixture_presence(
		f, "d", "{\"event\":\"connected\",\"source\":\"mqtt\",\"client_id\":\"d\"}", now);
	store_fixture_run(f);
	store_fixture_sql(f, "update ingest set segment = 0, \"offset\" = 0");
	store_fixture_run(f);
	assert_sql(f, "select (select count(*) from telemetry), messages from ingest", "2");
	assert_sql(f, "select messages from ingest", "8");
	assert_sql(f, "select count(*) from dead_letter", "1");
	assert_sql(f, "select count(*) from presence_event", "1");
}

/* ---- telemetry_latest ---- */

static void put_ts(struct store_fixture *f, int64_t ts_us, const char *readings)
{
	char json[256];

	snprintf(json, sizeof(json), "{\"ts\":%" PRId64 ",%s}", ts_us / 1000, readings);
	store_fixture_put_at(f, "d", "", json, now_us());
}

#define LATEST                                                                                     \
	"select row(extract(epoch from ts)::bigint - %" PRId64 ", temperature, humidity, extra)"   \
	"::text from telemetry_latest"

static void test_late_data_never_overwrites_and_fills_what_is_unknown(void **state)
{
	struct store_fixture *f = *state;
	int64_t t = now_us() - 1000 * SECOND, s = t / SECOND;

	put_ts(f, t + 20 * SECOND, "\"temperature\":20");
	store_fixture_run(f);
	put_ts(f, t + 10 * SECOND, "\"temperature\":10,\"humidity\":10,\"co2\":10");
	store_fixture_run(f);
	assert_sql(f, format_sql(LATEST, s), "(20,20,10,\"{\"\"co2\"\": 10}\")");
	put_ts(f, t + 5 * SECOND, "\"humidity\":5,\"co2\":5,\"ch4\":5");
	store_fixture_run(f);
	assert_sql(f, format_sql(LATEST, s), "(20,20,10,\"{\"\"ch4\"\": 5, \"\"co2\"\": 10}\")");
	put_ts(f, t + 30 * SECOND, "\"humidity\":30,\"co2\":30");
	store_fixture_run(f);
	assert_sql(f, format_sql(LATEST, s), "(30,20,30,\"{\"\"ch4\"\": 5, \"\"co2\"\": 30}\")");
}

static void test_late_and_newer_rows_of_one_batch_are_not_mixed(void **state)
{
	struct store_fixture *f = *state;
	int64_t t = now_us() - 1000 * SECOND, s = t / SECOND;

	put_ts(f, t + 17 * SECOND, "\"temperature\":17");
	store_fixture_run(f);
	/* The temperature is older than what is known, the humidity newer. */
	put_ts(f, t + 15 * SECOND, "\"temperature\":15");
	put_ts(f, t + 20 * SECOND, "\"humidity\":20");
	store_fixture_run(f);
	assert_sql(f, format_sql(LATEST, s), "(20,17,20,)");
}

static void test_newest_of_a_batch_counts_in_whatever_order_it_came(void **state)
{
	struct store_fixture *f = *state;
	int64_t t = now_us() - 1000 * SECOND, s = t / SECOND;

	put_ts(f, t + 1 * SECOND, "\"temperature\":1,\"humidity\":1,\"ch4\":1");
	store_fixture_run(f);
	put_ts(f, t + 3 * SECOND, "\"temperature\":3");
	put_ts(f, t + 9 * SECOND, "\"temperature\":9,\"co2\":9");
	put_ts(f, t + 5 * SECOND, "\"temperature\":5,\"humidity\":5,\"ch4\":5");
	put_ts(f, t + 4 * SECOND, "\"temperature\":4,\"humidity\":4,\"ch4\":4");
	store_fixture_run(f);
	assert_sql(f, format_sql(LATEST, s), "(9,9,5,\"{\"\"ch4\"\": 5, \"\"co2\"\": 9}\")");
}

static void test_repeat_that_is_not_stored_does_not_count_as_latest(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	store_fixture_put_at(f, "d", "", "{\"seq\":1,\"temperature\":1}", now);
	store_fixture_put_at(f, "d", "", "{\"seq\":2,\"temperature\":2}", now + SECOND);
	store_fixture_put_at(f, "d", "", "{\"seq\":1,\"temperature\":1}", now + 2 * SECOND);
	store_fixture_run(f);
	store_fixture_put_at(f, "d", "", "{\"seq\":1,\"temperature\":1}", now + 3 * SECOND);
	store_fixture_run(f);
	assert_sql(f, "select row(seq, temperature)::text from telemetry_latest", "(2,2)");
	assert_sql(
		f,
		"select l.ts = t.ts from telemetry_latest l join telemetry t using (device, seq)",
		"t");
}

static void test_many_numbered_messages_of_one_device_in_a_backlog(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	for (int i = 0; i < 500; i++)
		store_fixture_put_at(f, "d", "", format_sql("{\"seq\":%d,\"large\":%d}", i, i),
				     now + i * 1000);
	store_fixture_run(f);
	assert_sql(f, "select row(count(*), sum(large))::text from telemetry", "(500,124750)");
	assert_sql(f, "select large from telemetry_latest", "499");
}

static void test_column_that_latest_lacks_is_in_its_extra(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_sql(f, "alter table telemetry_latest drop column if exists small");
	store_fixture_start(f);
	store_fixture_put(f, "d", "{\"temperature\":1}");
	store_fixture_settle(f);
	store_fixture_stop(f);
	store_fixture_sql(f, "alter table telemetry_latest drop column if exists small");
	store_fixture_sql(f, "create table keeps_maintain_out ()");
	store_fixture_sql(f, "alter function maintain() rename to maintain_away");
	store_fixture_put(f, "d", "{\"small\":5}");
	store_fixture_run(f);
	assert_sql(f, "select row(small, extra)::text from telemetry where small is not null",
		   "(5,)");
	assert_sql(f, "select row(temperature, extra)::text from telemetry_latest",
		   "(1,\"{\"\"small\"\": 5}\")");
	store_fixture_sql(f, "alter function maintain_away() rename to maintain");
	store_fixture_sql(f, "drop table keeps_maintain_out");
}

static void test_extra_of_latest_does_not_grow_without_end(void **state)
{
	struct store_fixture *f = *state;
	char json[256];

	for (int i = 0; i < 1500; i++) {
		snprintf(json, sizeof(json), "{\"invented-%d-%d\":%d}", i * 7919, i * 104729, i);
		store_fixture_put_at(f, "d", "", json, now_us() + i);
	}
	store_fixture_run(f);
	assert_sql(f, "select count(*) from telemetry", "1500");
	assert_sql(f, "select pg_column_size(extra) < 20000 from telemetry_latest", "t");
	assert_sql(f, "select extra ? 'invented-11870581-156988771' from telemetry_latest", "t");
}

/* ---- dead letters ---- */

static void test_what_cannot_be_decoded_is_kept_as_it_came(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put_at(f, "d", "/s", "{\"temperature\":", now_us());
	store_fixture_run(f);
	assert_sql(
		f,
		"select row(device, topic, convert_from(payload, 'UTF8'))::text from dead_letter",
		"(d,m/d/d/d2c/s,\"{\"\"temperature\"\":\")");
	assert_sql(f,
		   "select length(reason) > 5 and received_at > now() - interval '1 hour'"
		   " from dead_letter",
		   "t");
	assert_sql(f, "select row(messages, row_count, dead_letters)::text from ingest", "(1,0,1)");
}

static void test_any_bytes_can_be_a_dead_letter(void **state)
{
	static const char topic[] = "m/d/\xff\x00/d2c/\xc3", payload[] = "\x00\xff\xfe";
	struct store_fixture *f = *state;
	const struct journal_record r = {.kind = JOURNAL_TELEMETRY,
					 .format = PAYLOAD_AUTO,
					 .received_at_us = now_us(),
					 .device = "\xe6x",
					 .device_len = 2,
					 .topic = topic,
					 .topic_len = sizeof(topic) - 1,
					 .payload = payload,
					 .payload_len = sizeof(payload) - 1};

	store_fixture_append(f, &r);
	store_fixture_run(f);
	assert_sql(f, "select row(device, topic, payload)::text from dead_letter",
		   "(\xef\xbf\xbdx,m/d/\xef\xbf\xbd\xef\xbf\xbd/d2c/\xef\xbf\xbd,\"\\\\x00fffe\")");
}

static void test_topic_that_is_not_telemetry_is_a_dead_letter(void **state)
{
	struct store_fixture *f = *state;
	const struct journal_record r = {.kind = JOURNAL_TELEMETRY,
					 .received_at_us = now_us(),
					 .device = "d",
					 .device_len = 1,
					 .topic = "m/d/d/d2cx",
					 .topic_len = 10,
					 .payload = "{\"temperature\":1}",
					 .payload_len = 17};

	store_fixture_append(f, &r);
	store_fixture_run(f);
	assert_sql(f, "select reason from dead_letter", "the topic is not m/d/<device>/d2c");
}

/* ---- partitions ---- */

static void test_partitions_are_made_for_days_that_have_none(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	for (int i = 0; i < 20; i++)
		store_fixture_put_at(f, "d", "",
				     format_sql("{\"ts\":%" PRId64 ",\"large\":%d}",
						(now - i * 19 * US_PER_DAY) / 1000, i),
				     now);
	store_fixture_run(f);
	assert_sql(f,
		   "select row(count(*), sum(large), count(distinct tableoid) > 15)::text from "
		   "telemetry",
		   "(20,190,t)");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

static void test_time_that_retention_does_not_keep_is_a_dead_letter(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	store_fixture_sql(f, "update setting set value = 30 where name = 'retention_days'");
	for (int i = 0; i < 6; i++)
		store_fixture_put_at(f, "d", "",
				     format_sql("{\"ts\":%" PRId64 ",\"large\":%d}",
						(now - (i % 2) * 300 * US_PER_DAY) / 1000, i),
				     now + i);
	store_fixture_run(f);
	store_fixture_sql(f, "update setting set value = 0 where name = 'retention_days'");
	assert_sql(f, "select row(count(*), sum(large))::text from telemetry", "(3,6)");
	assert_sql(f, "select count(*) from dead_letter where reason like '%no partition is made%'",
		   "3");
}

static void test_message_older_than_dead_letters_are_kept_is_kept_under_the_present(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_put_at(f, "d", "", "nonsense", INT64_C(86400) * US_PER_S);
	store_fixture_put_at(f, "d", "", "{\"temperature\":1}", INT64_C(86400) * US_PER_S);
	store_fixture_presence(f, "d",
			       "{\"event\":\"connected\",\"source\":\"mqtt\",\"client_id\":\"d\"}",
			       INT64_C(86400) * US_PER_S);
	store_fixture_put_at(f, "d", "", "{\"temperature\":1}", INT64_MIN);
	store_fixture_put_at(f, "d", "", "{\"temperature\":1}", INT64_MAX);
	store_fixture_run(f);
	assert_sql(f,
		   "select count(*) from dead_letter where received_at > now() - interval '1 hour'",
		   "5");
	assert_sql(f, "select count(*) from dead_letter where reason like '%no partition is made%'",
		   "4");
}

static void test_partition_dropped_behind_the_stores_back_is_made_again(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us(), t = now - 100 * US_PER_DAY;

	store_fixture_start(f);
	put_ts(f, t, "\"large\":1");
	store_fixture_settle(f);
	store_fixture_sql(f, "do $$ declare p text; begin select tableoid::regclass::text into p"
			     " from telemetry where large = 1; execute 'drop table ' || p; end $$");
	put_ts(f, t, "\"large\":2");
	store_fixture_settle(f);
	store_fixture_stop(f);
	assert_sql(f, "select array_agg(large) from telemetry", "{2}");
	assert_sql(f, "select count(*) from dead_letter", "0");
}

/* ---- presence ---- */

static void presence(struct store_fixture *f, const char *device, const char *event, int64_t at_us)
{
	char json[256];

	snprintf(json, sizeof(json),
		 "{\"event\":\"%s\",\"source\":\"mqtt\",\"client_id\":\"c-%s\","
		 "\"address\":\"192.0.2.1:5\",\"reason\":\"r-%s\"}",
		 event, device, event);
	store_fixture_presence(f, device, json, at_us);
}

static void test_presence_follows_the_journal_whatever_its_clock_did(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	presence(f, "a", "connected", now);
	presence(f, "b", "connected", now);
	presence(f, "a", "disconnected", now + SECOND);
	store_fixture_run(f);
	presence(f, "b", "disconnected", now - SECOND); /* the clock was put right */
	store_fixture_run(f);
	assert_sql(
		f,
		"select array_agg(row(device, source, client_id, connected, reason, address)::text"
		" order by device) from presence",
		"{\"(a,mqtt,c-a,f,r-disconnected,192.0.2.1:5)\",\"(b,mqtt,c-b,f,r-disconnected,"
		"192.0.2.1:5)\"}");
	assert_sql(
		f,
		"select array_agg(device || ' ' || event order by device, at) from presence_event",
		"{\"a connected\",\"a disconnected\",\"b disconnected\",\"b connected\"}");
}

static void test_events_of_one_moment_keep_their_order(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	for (int i = 0; i < 21; i++)
		presence(f, "a", i % 2 ? "disconnected" : "connected", now);
	store_fixture_run(f);
	assert_sql(f, "select connected from presence", "t");
	assert_sql(f, "select count(*) from presence_event", "21");
	assert_sql(f,
		   "select bool_and(event = case when n % 2 = 1 then 'connected' else "
		   "'disconnected' end)"
		   " from (select event, row_number() over (order by at, seq) n from "
		   "presence_event) x",
		   "t");
}

static void test_restart_of_the_server_disconnects_who_was_connected(void **state)
{
	struct store_fixture *f = *state;
	int64_t now = now_us();

	presence(f, "a", "connected", now);
	presence(f, "b", "connected", now);
	presence(f, "b", "disconnected", now + SECOND);
	store_fixture_presence(
		f, "c", "{\"event\":\"connected\",\"source\":\"coap\",\"client_id\":\"c\"}", now);
	store_fixture_presence(f, "", "{\"event\":\"started\",\"source\":\"mqtt\"}",
			       now + 2 * SECOND);
	presence(f, "a", "connected", now + 3 * SECOND);
	store_fixture_run(f);
	assert_sql(f,
		   "select array_agg(row(device, connected)::text order by device) from presence",
		   "{\"(a,t)\",\"(b,f)\",\"(c,t)\"}");
	assert_sql(f,
		   "select array_agg(event || ' ' || coalesce(reason, '') order by at, seq)"
		   " from presence_event where device = 'a'",
		   "{\"connected r-connected\",\"disconnected server restarted\",\"connected "
		   "r-connected\"}");
}

static void test_presence_that_is_none_is_a_dead_letter(void **state)
{
	struct store_fixture *f = *state;

	store_fixture_presence(f, "a", "{\"event\":\"exploded\"}", now_us());
	store_fixture_presence(f, "a", "{", now_us());
	store_fixture_run(f);
	assert_sql(f, "select count(*) from dead_letter where device = 'a'", "2");
}

/* ---- counters ---- */

static void test_counters_and_backlog_say_what_was_done(void **state)
{
	struct store_fixture *f = *state;
	struct store_stats st;

	for (int i = 0; i < 100; i++)
		store_fixture_put(f, "d", i % 10 ? "{\"temperature\":1}" : "{");
	store_fixture_start(f);
	do {
		usleep(1000);
		store_stats(f->store, &st);
	} while (st.messages < 100);
	assert_true(st.connected);
	assert_int_equal(st.messages, 100);
	assert_int_equal(st.rows, 90);
	assert_int_equal(st.dead_letters, 10);
	assert_true(st.batches >= 1);
	store_fixture_stop(f);
	assert_sql(f,
		   "select row(source, messages, row_count, dead_letters, backlog_bytes)::text "
		   "from ingest",
		   "(mqtt,100,90,10,0)");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_begin, store_fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_values_are_read_back_as_they_were_sent),
		TEST(test_integers_go_into_real_and_whole_numbers_into_integer),
		TEST(test_what_does_not_fit_its_column_goes_to_extra_unchanged),
		TEST(test_unknown_names_and_nulls_go_to_extra),
		TEST(test_key_columns_are_no_targets),
		TEST(test_generated_and_unsupported_columns_are_no_targets),
		TEST(test_new_column_is_in_use_within_seconds),
		TEST(test_dropped_column_loses_nothing_that_comes_after),
		TEST(test_rows_of_one_batch_may_use_different_columns),
		TEST(test_more_kinds_of_messages_than_statements_are_remembered),
		TEST(test_subtopic_is_what_follows_d2c),
		TEST(test_time_of_the_device_is_kept_within_the_window),
		TEST(test_implausible_time_is_kept_in_extra),
		TEST(test_relative_time_counts_from_receipt),
		TEST(test_repeat_with_its_own_time_is_stored_once),
		TEST(test_different_readings_of_one_moment_are_both_stored),
		TEST(test_messages_without_time_or_number_are_all_stored),
		TEST(test_repeat_with_number_only_is_stored_once),
		TEST(test_number_and_time_together_are_the_key),
		TEST(test_samples_of_a_message_with_one_number_are_all_stored),
		TEST(test_taking_the_journal_again_stores_nothing_twice),
		TEST(test_late_data_never_overwrites_and_fills_what_is_unknown),
		TEST(test_late_and_newer_rows_of_one_batch_are_not_mixed),
		TEST(test_newest_of_a_batch_counts_in_whatever_order_it_came),
		TEST(test_repeat_that_is_not_stored_does_not_count_as_latest),
		TEST(test_many_numbered_messages_of_one_device_in_a_backlog),
		TEST(test_column_that_latest_lacks_is_in_its_extra),
		TEST(test_extra_of_latest_does_not_grow_without_end),
		TEST(test_what_cannot_be_decoded_is_kept_as_it_came),
		TEST(test_any_bytes_can_be_a_dead_letter),
		TEST(test_topic_that_is_not_telemetry_is_a_dead_letter),
		TEST(test_partitions_are_made_for_days_that_have_none),
		TEST(test_time_that_retention_does_not_keep_is_a_dead_letter),
		TEST(test_message_older_than_dead_letters_are_kept_is_kept_under_the_present),
		TEST(test_partition_dropped_behind_the_stores_back_is_made_again),
		TEST(test_presence_follows_the_journal_whatever_its_clock_did),
		TEST(test_events_of_one_moment_keep_their_order),
		TEST(test_restart_of_the_server_disconnects_who_was_connected),
		TEST(test_presence_that_is_none_is_a_dead_letter),
		TEST(test_counters_and_backlog_say_what_was_done),
	};

	return cmocka_run_group_tests(tests, add_columns, store_fixture_group_end);
}
