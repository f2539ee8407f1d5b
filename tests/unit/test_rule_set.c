/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages through sets of rules: chains and where they are cut, errors and their actions, drops,
 * counters that outlive a set. What the rules do is written down line by line as it is fired:
 *
 *     hot@0 republish alarms/dev-1 {"t":21}
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/rule/set.h"

#define ARENA_LIMIT (4 * 1024 * 1024)
#define NOW_US	    INT64_C(1795279005000000)

/* --- Sets --- */

struct row {
	const char *name, *sql, *actions, *error_action;
	int64_t revision;
};

#define RULE(n, s, a)                                                                              \
	{                                                                                          \
		.name = (n), .sql = (s), .actions = (a)                                            \
	}
#define GUARDED(n, s, a, e)                                                                        \
	{                                                                                          \
		.name = (n), .sql = (s), .actions = (a), .error_action = (e)                       \
	}

static const struct rule_set *make_after(const struct rule_set *before, const struct row *rows,
					 size_t count)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *snapshot;
	const struct rule_set *set;
	char err[256];

	for (size_t i = 0; i < count; i++) {
		const struct snapshot_rule r = {
			.name = rows[i].name,
			.revision = rows[i].revision,
			.sql = rows[i].sql,
			.actions = rows[i].actions ? rows[i].actions : "[]",
			.error_action = rows[i].error_action,
		};

		if (snapshot_add_rule(b, &r, err, sizeof(err)) != 0)
			fail_msg("%s", err);
	}
	snapshot = snapshot_build(b, 1);
	assert_int_equal(rule_set_make(&set, snapshot, before), 0);
	snapshot_release(snapshot);
	return set;
}

#define make_set(rows) make_after(NULL, rows, sizeof(rows) / sizeof(*(rows)))

static const struct rule *named(const struct rule_set *s, const char *name)
{
	for (size_t i = 0; i < rule_set_count(s); i++)
		if (strcmp(rule_set_at(s, i)->name, name) == 0)
			return rule_set_at(s, i);
	fail_msg("there is no rule %s", name);
	return NULL;
}

static unsigned long matched(const struct rule_set *s, const char *name)
{
	return (unsigned long)named(s, name)->counters->matched;
}

static unsigned long errors(const struct rule_set *s, const char *name)
{
	return (unsigned long)named(s, name)->counters->errors;
}

static unsigned long cuts(const struct rule_set *s, const char *name)
{
	return (unsigned long)named(s, name)->counters->cut;
}

/* --- What was fired --- */

struct run {
	char text[16 * 1024];
	size_t used, fires;
	const char *refuse; /* the kind of action that fails: "store", ... */
	struct rule_visitor visitor;
};

static struct run run;

__attribute__((format(printf, 1, 2))) static void write_down(const char *fmt, ...)
{
	size_t left = sizeof(run.text) - run.used;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(run.text + run.used, left, fmt, ap);
	va_end(ap);
	assert_true(n >= 0);
	if ((size_t)n < left)
		run.used += (size_t)n;
}

static int fired(void *arg, const struct rule_firing *f, char *why, size_t why_len)
{
	static const char *const kinds[] = {"republish", "store", "drop"};
	const char *kind = kinds[f->action->kind];
	struct arena a;
	size_t len;

	(void)arg;
	run.fires++;
	if (run.refuse && strcmp(kind, run.refuse) == 0) {
		snprintf(why, why_len, "refused here");
		return -EIO;
	}
	arena_init(&a, 4096, ARENA_LIMIT);
	write_down("%s%s@%u %s", f->rule->name, f->is_error_action ? "!" : "", f->depth, kind);
	if (f->action->kind == RULE_REPUBLISH)
		write_down(" %s", f->topic);
	else if (f->action->kind == RULE_STORE)
		write_down(" %s", f->action->store.table);
	if (f->action->kind == RULE_REPUBLISH && f->action->republish.format == RULE_FORMAT_JSON)
		write_down(" %.*s\n", (int)f->payload_len, (const char *)f->payload);
	else
		write_down(" %s\n", value_print_json(&a, f->selected, &len));
	arena_free(&a);
	return 0;
}

static void begin(void)
{
	run = (struct run){.visitor = {.fired = fired, .counts = true}};
}

static const char *run_on(const struct rule_set *s, const char *topic, const char *payload)
{
	const struct decode_limits limits = {65536, 16, 1000};
	struct rule_input in = {.topic = topic,
				.device = "dev-1",
				.raw = payload,
				.raw_len = strlen(payload),
				.received_at_us = NOW_US};
	struct value v;
	struct arena a;
	char why[256];

	arena_init(&a, 4096, ARENA_LIMIT);
	if (json_decode(&a, payload, strlen(payload), &limits, &v, why, sizeof(why)) == 0)
		in.payload = &v;
	run.used = 0;
	run.text[0] = '\0';
	rule_set_run(s, &in, &a, &run.visitor);
	arena_free(&a);
	return run.text;
}

static bool drops(const struct rule_set *s, const char *topic, const char *payload)
{
	const struct decode_limits limits = {65536, 16, 1000};
	struct rule_input in = {.topic = topic, .device = "dev-1"};
	struct value v;
	struct arena a;
	char why[256];
	bool yes;

	arena_init(&a, 4096, ARENA_LIMIT);
	if (json_decode(&a, payload, strlen(payload), &limits, &v, why, sizeof(why)) == 0)
		in.payload = &v;
	yes = rule_set_drops(s, &in, &a);
	arena_free(&a);
	return yes;
}

/* --- The log --- */

static char logged[16 * 1024];

static void keep_line(enum log_level level, const char *line, void *arg)
{
	size_t used = strlen(logged);

	(void)level;
	(void)arg;
	snprintf(logged + used, sizeof(logged) - used, "%s\n", line);
}

static int times_logged(const char *text)
{
	int n = 0;

	for (const char *p = logged; (p = strstr(p, text)); p++)
		n++;
	return n;
}

static int set_up(void **state)
{
	(void)state;
	logged[0] = '\0';
	log_set_sink(keep_line, NULL);
	begin();
	return 0;
}

#define TO(topic)    "[{\"republish\": {\"topic\": \"" topic "\"}}]"
#define STORE(table) "[{\"store\": {\"table\": \"" table "\"}}]"
#define ERRORS	     "{\"republish\": {\"topic\": \"errors\"}}"
#define DROP	     "[{\"drop\": {}}]"
#define D2C	     "m/d/dev-1/d2c"

/* --- One rule --- */

static void test_a_rule_that_matches_does_its_actions_in_order(void **state)
{
	const struct row rows[] = {
		RULE("hot", "SELECT t, device() AS device FROM 'm/d/+/d2c' WHERE t > 20",
		     "[{\"republish\": {\"topic\": \"alarms/${device()}\"}},"
		     " {\"store\": {\"table\": \"alarm\"}}, {\"drop\": {}}]"),
		RULE("other", "SELECT * FROM 'm/d/+/c2d'", TO("x")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_string_equal(run_on(s, D2C, "{\"t\": 21, \"v\": 3}"),
			    "hot@0 republish alarms/dev-1 {\"t\":21,\"device\":\"dev-1\"}\n"
			    "hot@0 store alarm {\"t\":21,\"device\":\"dev-1\"}\n"
			    "hot@0 drop {\"t\":21,\"device\":\"dev-1\"}\n");
	assert_string_equal(run_on(s, D2C, "{\"t\": 20}"), "");
	assert_int_equal(matched(s, "hot"), 1);
	assert_int_equal(errors(s, "hot"), 0);
	assert_int_equal(matched(s, "other"), 0);
	assert_true(named(s, "hot")->counters->matched_at_us > 0);
	rule_set_release(s);
}

static void test_all_rules_that_match_are_run(void **state)
{
	const struct row rows[] = {
		RULE("a", "SELECT 1 AS n FROM '#'", TO("x/a")),
		RULE("b", "SELECT 2 AS n FROM 'm/d/+/d2c'", TO("x/b")),
		RULE("c", "SELECT 3 AS n FROM 'm/d/dev-1/d2c' WHERE t = 5", TO("x/c")),
		RULE("d", "SELECT 4 AS n FROM 'm/d/dev-1/d2c'", TO("x/d")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run_on(s, D2C, "{\"t\": 1}");
	assert_non_null(strstr(run.text, "a@0 republish x/a {\"n\":1}\n"));
	assert_non_null(strstr(run.text, "b@0 republish x/b {\"n\":2}\n"));
	assert_null(strstr(run.text, "c@0"));
	assert_non_null(strstr(run.text, "d@0 republish x/d {\"n\":4}\n"));
	rule_set_release(s);
}

static void test_a_set_knows_what_is_in_it(void **state)
{
	const struct row rows[] = {
		RULE("b", "SELECT * FROM 'a/+'", STORE("t")),
		RULE("a", "SELECT * FROM", TO("x")),
		{"c", "SELECT * FROM 'c'", NULL, ERRORS, 7},
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_int_equal(rule_set_count(s), 3);
	assert_string_equal(rule_set_at(s, 0)->name, "a");
	assert_string_equal(rule_set_at(s, 1)->name, "b");
	assert_string_equal(rule_set_at(s, 2)->name, "c");
	assert_int_equal(rule_set_at(s, 2)->revision, 7);
	assert_true(rule_set_has(s, RULE_STORE));
	assert_true(rule_set_has(s, RULE_REPUBLISH)); /* the error action */
	assert_false(rule_set_has(s, RULE_DROP));
	assert_true(rule_set_wants(s, "a/x"));
	assert_true(rule_set_wants(s, "c"));
	assert_false(rule_set_wants(s, "a"));
	assert_false(rule_set_wants(s, "$SYS/x"));
	rule_set_release(s);
}

static void test_an_empty_set_wants_nothing(void **state)
{
	const struct rule_set *s = make_after(NULL, NULL, 0);

	(void)state;
	assert_false(rule_set_wants(s, D2C));
	assert_string_equal(run_on(s, D2C, "{}"), "");
	assert_false(drops(s, D2C, "{}"));
	rule_set_release(rule_set_retain(s));
	rule_set_release(s);
	rule_set_release(NULL);
}

/* --- Chains --- */

static void test_what_is_republished_triggers_rules(void **state)
{
	const struct row rows[] = {
		RULE("first", "SELECT t, 1 AS n FROM 'm/d/+/d2c'", TO("step/one")),
		RULE("second",
		     "SELECT t * 2 AS t, n + 1 AS n, topic(2) AS via, device() AS device"
		     " FROM 'step/one'",
		     TO("step/two")),
		RULE("third", "SELECT * FROM 'step/two'", STORE("t")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_string_equal(
		run_on(s, D2C, "{\"t\": 4, \"x\": 0}"),
		"first@0 republish step/one {\"t\":4,\"n\":1}\n"
		"second@1 republish step/two "
		"{\"t\":8,\"n\":2,\"via\":\"one\",\"device\":\"dev-1\"}\n"
		"third@2 store t {\"t\":8,\"n\":2,\"via\":\"one\",\"device\":\"dev-1\"}\n");
	rule_set_release(s);
}

static void test_the_format_cbor_is_read_like_json(void **state)
{
	const struct row rows[] = {
		RULE("first", "SELECT t FROM 'm/d/+/d2c'",
		     "[{\"republish\": {\"topic\": \"b\", \"format\": \"cbor\"}}]"),
		RULE("second", "SELECT t + 1 AS t, encode(*, 'base64') AS raw FROM 'b'",
		     STORE("t")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_string_equal(run_on(s, D2C, "{\"t\": 4}"),
			    "first@0 republish b {\"t\":4}\n"
			    "second@1 store t {\"t\":5,\"raw\":\"oWF0BA==\"}\n");
	rule_set_release(s);
}

static void test_a_chain_of_five_is_cut_behind_the_fourth(void **state)
{
	const struct row rows[] = {
		RULE("r0", "SELECT * FROM 'm/d/+/d2c'", TO("s/1")),
		RULE("r1", "SELECT * FROM 's/1'", TO("s/2")),
		RULE("r2", "SELECT * FROM 's/2'", TO("s/3")),
		RULE("r3", "SELECT * FROM 's/3'", TO("s/4")),
		RULE("r4", "SELECT * FROM 's/4'", TO("s/5")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_string_equal(run_on(s, D2C, "{}"), "r0@0 republish s/1 {}\n"
						  "r1@1 republish s/2 {}\n"
						  "r2@2 republish s/3 {}\n"
						  "r3@3 republish s/4 {}\n");
	assert_int_equal(matched(s, "r3"), 1);
	assert_int_equal(cuts(s, "r3"), 0);
	assert_int_equal(matched(s, "r4"), 0);
	assert_int_equal(cuts(s, "r4"), 1);
	rule_set_release(s);
}

static void test_a_rule_that_triggers_itself_is_cut_counted_and_said_once(void **state)
{
	const struct row rows[] = {RULE("loop", "SELECT * FROM 'm/d/+/d2c'", TO(D2C))};
	const struct rule_set *s = make_set(rows);

	(void)state;
	for (int i = 0; i < 3; i++)
		run_on(s, D2C, "{}");
	assert_int_equal(run.fires, 3 * RULE_CHAIN_MAX);
	assert_int_equal(matched(s, "loop"), 3 * RULE_CHAIN_MAX);
	assert_int_equal(cuts(s, "loop"), 3);
	assert_int_equal(errors(s, "loop"), 0);
	assert_int_equal(times_logged("event=rule_cut"), 1);
	assert_int_equal(times_logged("device=dev-1 msg=\"rule 'loop' was not run for a message on "
				      "'" D2C "'"),
			 1);
	rule_set_release(s);
}

static void test_rules_that_trigger_one_another_are_cut(void **state)
{
	const struct row rows[] = {
		RULE("ping", "SELECT * FROM 'ping'", TO("pong")),
		RULE("pong", "SELECT * FROM 'pong'", TO("ping")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run_on(s, "ping", "{}");
	assert_int_equal(run.fires, 4);
	assert_int_equal(cuts(s, "ping"), 1);
	assert_int_equal(cuts(s, "pong"), 0);
	rule_set_release(s);
}

#define SELF   "{\"republish\": {\"topic\": \"a\"}}"
#define TEN(x) "[" x "," x "," x "," x "," x "," x "," x "," x "," x "," x "]"

static void test_a_message_has_so_many_actions_and_no_more(void **state)
{
	/* 10 + 100 + 1000 + 10000 actions. */
	const struct row rows[] = {RULE("flood", "SELECT * FROM 'a'", TEN(SELF))};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run_on(s, "a", "{}");
	assert_int_equal(run.fires, RULE_FIRES_MAX);
	assert_true(cuts(s, "flood") > 0);
	assert_int_equal(times_logged("event=rule_cut"), 1);
	/* The next message has its own. */
	run.fires = 0;
	run_on(s, "a", "{}");
	assert_int_equal(run.fires, RULE_FIRES_MAX);
	rule_set_release(s);
}

/* --- Errors --- */

#define PAYLOAD_OF_NOTHING "not JSON"

static void test_a_rule_that_fails_does_not_stop_the_others(void **state)
{
	const struct row rows[] = {
		RULE("a", "SELECT 1 AS n FROM 'm/d/+/d2c'", TO("x/a")),
		RULE("b", "SELECT * FROM 'm/d/+/d2c'", TO("x/b")),
		RULE("c", "SELECT 3 AS n FROM 'm/d/+/d2c'", TO("x/c")),
	};
	const struct rule_set *s = make_set(rows);
	char why[RULE_WHY_MAX];

	(void)state;
	assert_string_equal(run_on(s, D2C, PAYLOAD_OF_NOTHING), "a@0 republish x/a {\"n\":1}\n"
								"c@0 republish x/c {\"n\":3}\n");
	assert_int_equal(errors(s, "b"), 1);
	assert_int_equal(matched(s, "b"), 0);
	assert_true(named(s, "b")->counters->failed_at_us > 0);
	rule_counters_last_error(named(s, "b")->counters, why);
	assert_memory_equal(why, "sql: `SELECT *` of a payload that is neither", 44);
	assert_int_equal(errors(s, "a"), 0);
	rule_counters_last_error(named(s, "a")->counters, why);
	assert_string_equal(why, "");
	rule_set_release(s);
}

static void test_errors_of_a_rule_are_said_now_and_then(void **state)
{
	const struct row rows[] = {RULE("b", "SELECT * FROM 'm/d/+/d2c'", TO("x/b"))};
	const struct rule_set *s = make_set(rows);

	(void)state;
	for (int i = 0; i < 100; i++)
		run_on(s, D2C, PAYLOAD_OF_NOTHING);
	assert_int_equal(errors(s, "b"), 100);
	assert_int_equal(times_logged("event=rule_failed device=dev-1 msg=\"rule 'b', a message on "
				      "'" D2C "': sql: `SELECT *`"),
			 1);
	assert_int_equal(times_logged("event=rule_failed"), 1);
	rule_set_release(s);
}

static void test_an_action_that_fails_does_not_stop_the_others(void **state)
{
	const struct row rows[] = {
		RULE("a", "SELECT t FROM 'm/d/+/d2c'",
		     "[{\"store\": {\"table\": \"t\"}}, {\"republish\": {\"topic\": \"x\"}},"
		     " {\"store\": {\"table\": \"u\"}}, {\"republish\": {\"topic\": \"y\"}}]"),
	};
	const struct rule_set *s = make_set(rows);
	char why[RULE_WHY_MAX];

	(void)state;
	run.refuse = "store";
	assert_string_equal(run_on(s, D2C, "{\"t\": 1}"), "a@0 republish x {\"t\":1}\n"
							  "a@0 republish y {\"t\":1}\n");
	assert_int_equal(matched(s, "a"), 1);
	assert_int_equal(errors(s, "a"), 2);
	rule_counters_last_error(named(s, "a")->counters, why);
	assert_string_equal(why, "store public.u: refused here");
	rule_set_release(s);
}

static void test_what_could_not_be_republished_triggers_nothing(void **state)
{
	const struct row rows[] = {
		RULE("a", "SELECT * FROM 'm/d/+/d2c'", TO("x")),
		RULE("b", "SELECT * FROM 'x'", STORE("t")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run.refuse = "republish";
	assert_string_equal(run_on(s, D2C, "{}"), "");
	assert_int_equal(errors(s, "a"), 1);
	assert_int_equal(matched(s, "b"), 0);
	rule_set_release(s);
}

/* Who may send long messages could else keep the rules busy for seconds with each. */
static void test_the_work_of_rules_for_one_message_has_a_bound(void **state)
{
	enum { RULES = 200, LONG = 60000 };
	struct row rows[RULES];
	char names[RULES][8], *text = calloc(1, LONG + 16);
	unsigned long failed = 0, cut = 0, ran = 0;
	const struct rule_set *s;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < RULES; i++) {
		snprintf(names[i], sizeof(names[i]), "r%03zu", i);
		rows[i] = (struct row){.name = names[i],
				       .sql = "SELECT 1 AS n FROM 'm/d/+/d2c' WHERE NOT x LIKE "
					      "'%_aaaaaaaaaaaaaaaaaaaab%'",
				       .actions = TO("x")};
	}
	s = make_set(rows);
	snprintf(text, LONG, "{\"x\":\"%*s\"}", LONG / 2, "");
	for (char *p = strchr(text, ' '); *p == ' '; p++)
		*p = 'a';
	run_on(s, D2C, text);
	for (size_t i = 0; i < RULES; i++) {
		failed += errors(s, names[i]);
		cut += cuts(s, names[i]);
		ran += matched(s, names[i]);
	}
	assert_in_range(ran, 10, RULES / 2);
	assert_int_equal(failed, 1);
	assert_int_equal(cut, RULES - ran - failed);

	run.fires = 0;
	run_on(s, D2C, "{\"x\":\"aaaa\"}");
	assert_int_equal(run.fires, RULES);
	rule_set_release(s);
	free(text);
}

static void test_a_message_is_kept_when_the_work_for_it_is_too_much(void **state)
{
	enum { RULES = 200, LONG = 60000 };
	struct row rows[RULES + 1];
	char names[RULES][8], *text = calloc(1, LONG + 16);
	const struct rule_set *s;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < RULES; i++) {
		snprintf(names[i], sizeof(names[i]), "r%03zu", i);
		rows[i] = (struct row){.name = names[i],
				       .sql = "SELECT 1 AS n FROM 'm/d/+/d2c' WHERE x LIKE "
					      "'%_aaaaaaaaaaaaaaaaaaaab%'",
				       .actions = "[{\"drop\":{}}]"};
	}
	rows[RULES] = (struct row){
		.name = "s", .sql = "SELECT 1 AS n FROM 'm/d/+/d2c'", .actions = "[{\"drop\":{}}]"};
	s = make_set(rows);
	snprintf(text, LONG, "{\"x\":\"%*s\"}", LONG / 2, "");
	for (char *p = strchr(text, ' '); *p == ' '; p++)
		*p = 'a';
	assert_false(drops(s, D2C, text));
	assert_true(drops(s, D2C, "{\"x\":\"aaaa\"}"));
	rule_set_release(s);
	free(text);
}

static void topic_fails(const char *topic, const char *payload, const char *expected)
{
	char actions[256], why[RULE_WHY_MAX];
	struct row rows[] = {RULE("a", "SELECT * FROM 'm/d/+/d2c'", actions)};
	const struct rule_set *s;

	snprintf(actions, sizeof(actions), TO("%s"), topic);
	s = make_set(rows);
	assert_null(named(s, "a")->problem);
	assert_string_equal(run_on(s, D2C, payload), "");
	assert_int_equal(errors(s, "a"), 1);
	rule_counters_last_error(named(s, "a")->counters, why);
	assert_non_null(strstr(why, expected));
	rule_set_release(s);
}

static void test_topics_that_nobody_may_publish_to_are_errors(void **state)
{
	(void)state;
	topic_fails("${place}", "{\"place\": \"$SYS/broker\"}",
		    "republish $SYS/broker: '$SYS/broker' begins with '$': such topics are the "
		    "broker's own");
	topic_fails("a/${place}", "{\"place\": \"+\"}", "'a/+' is not a topic to publish to");
	topic_fails("${place}", "{\"place\": \"b/#\"}", "'b/#' is not a topic to publish to");
	topic_fails("a/${place}", "{\"place\": \"b/c\"}", "other levels of the topic");
	topic_fails("${place}", "{\"place\": \"\"}", "'' is not a topic to publish to");
	topic_fails("a/${place}", "{}", "republish: ");
}

static void test_the_error_action_reports_what_failed(void **state)
{
	const struct row rows[] = {
		GUARDED("hot", "SELECT * FROM 'm/d/+/d2c'", TO("x/${place}"), ERRORS),
		RULE("seen", "SELECT failures[0].failedAction AS action FROM 'errors'", STORE("t")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_string_equal(
		run_on(s, D2C, "{\"place\":\"+\"}"),
		"hot!@0 republish errors {\"ruleName\":\"hot\",\"topic\":\"" D2C
		"\",\"clientId\":\"dev-1\",\"base64OriginalPayload\":\"eyJwbGFjZSI6IisifQ==\","
		"\"failures\":[{\"failedAction\":\"republish\",\"failedResource\":\"x/+\","
		"\"errorMessage\":\"'x/+' is not a topic to publish to: it is empty, too long or "
		"holds a wildcard, + or #\"}]}\n"
		"seen@1 store t {\"action\":\"republish\"}\n");
	assert_int_equal(errors(s, "hot"), 1);
	rule_set_release(s);
}

static void test_a_statement_that_fails_has_its_error_action(void **state)
{
	const struct row rows[] = {GUARDED("b", "SELECT * FROM 'm/d/+/d2c'", TO("x"), ERRORS)};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run_on(s, D2C, PAYLOAD_OF_NOTHING);
	assert_non_null(strstr(run.text, "b!@0 republish errors {\"ruleName\":\"b\""));
	assert_non_null(strstr(run.text, "\"base64OriginalPayload\":\"bm90IEpTT04=\""));
	assert_non_null(strstr(run.text,
			       "{\"failedAction\":\"sql\",\"failedResource\":null,"
			       "\"errorMessage\":\"`SELECT *` of a payload that is neither"));
	rule_set_release(s);
}

static void test_a_store_that_fails_has_its_error_action(void **state)
{
	const struct row rows[] = {
		GUARDED("b", "SELECT t FROM 'm/d/+/d2c'", STORE("plant.t"), ERRORS)};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run.refuse = "store";
	run_on(s, D2C, "{}");
	assert_non_null(strstr(run.text, "{\"failedAction\":\"store\",\"failedResource\":\"plant."
					 "t\",\"errorMessage\":\"refused here\"}"));
	rule_set_release(s);
}

static void test_an_error_action_that_fails_is_counted_and_no_more(void **state)
{
	const struct row rows[] = {GUARDED("b", "SELECT * FROM 'm/d/+/d2c'", TO("x"), ERRORS)};
	const struct rule_set *s = make_set(rows);
	char why[RULE_WHY_MAX];

	(void)state;
	run.refuse = "republish";
	assert_string_equal(run_on(s, D2C, PAYLOAD_OF_NOTHING), "");
	assert_int_equal(run.fires, 1);
	assert_int_equal(errors(s, "b"), 2);
	rule_counters_last_error(named(s, "b")->counters, why);
	assert_string_equal(why, "republish errors: refused here");
	rule_set_release(s);
}

static void test_error_actions_in_a_loop_are_cut_too(void **state)
{
	const struct row rows[] = {GUARDED("b", "SELECT * FROM '#'", TO("${'+'}"),
					   "{\"republish\": {\"topic\": \"a\"}}")};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run_on(s, "a", "{}");
	assert_int_equal(run.fires, RULE_CHAIN_MAX);
	assert_int_equal(errors(s, "b"), RULE_CHAIN_MAX);
	assert_int_equal(cuts(s, "b"), 1);
	rule_set_release(s);
}

static void test_a_report_leaves_out_a_payload_that_is_too_large(void **state)
{
	const struct row rows[] = {GUARDED("b", "SELECT * FROM 'm/d/+/d2c'", TO("x"), ERRORS)};
	const struct rule_set *s = make_set(rows);
	static char big[RULE_RESULT_MAX];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	run_on(s, D2C, big);
	assert_non_null(strstr(run.text, "\"base64OriginalPayload\":null"));
	rule_set_release(s);
}

static void test_a_failure_that_is_known_later_has_its_error_action(void **state)
{
	const struct row rows[] = {
		GUARDED("b", "SELECT * FROM 'm/d/+/d2c'", STORE("t"), ERRORS),
		RULE("all", "SELECT * FROM '#'", TO("x")),
	};
	const struct rule_set *s = make_set(rows);
	const struct rule_input in = {.topic = D2C, .raw = "{}", .raw_len = 2};
	struct arena a;

	(void)state;
	arena_init(&a, 4096, ARENA_LIMIT);
	run.visitor.counts = false;
	rule_failed_later(named(s, "b"), &in, "store public.t", "there is no column \"x\"", &a,
			  &run.visitor);
	assert_string_equal(run.text,
			    "b!@0 republish errors {\"ruleName\":\"b\",\"topic\":\"" D2C
			    "\",\"clientId\":null,\"base64OriginalPayload\":\"e30=\",\"failures\":"
			    "[{\"failedAction\":\"store\",\"failedResource\":\"public.t\","
			    "\"errorMessage\":\"there is no column \\\"x\\\"\"}]}\n");
	assert_int_equal(errors(s, "b"), 1);
	arena_free(&a);
	rule_set_release(s);
}

static void test_who_does_not_count_counts_its_own_refusals_only(void **state)
{
	const struct row rows[] = {
		RULE("a", "SELECT * FROM 'm/d/+/d2c'", TO(D2C)),
		RULE("b", "SELECT * FROM 'm/d/+/d2c'", TO("x/${nothing}")),
		RULE("c", "SELECT 1 AS n FROM 'm/d/+/d2c'", STORE("t")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	run.visitor.counts = false;
	run_on(s, D2C, "{}");
	run_on(s, D2C, PAYLOAD_OF_NOTHING);
	assert_int_equal(matched(s, "a") + matched(s, "b") + matched(s, "c"), 0);
	assert_int_equal(errors(s, "a") + errors(s, "b") + errors(s, "c"), 0);
	assert_int_equal(cuts(s, "a") + cuts(s, "b") + cuts(s, "c"), 0);
	assert_string_equal(logged, "");
	run.refuse = "store";
	run_on(s, D2C, PAYLOAD_OF_NOTHING);
	assert_int_equal(errors(s, "c"), 1);
	assert_int_equal(times_logged("event=rule_failed"), 1);
	rule_set_release(s);
}

/* --- Memory --- */

static void test_a_rule_that_takes_all_memory_fails_alone(void **state)
{
	const struct row rows[] = {
		GUARDED("a", "SELECT concat(t, t, t) AS a, concat(t, t) AS b FROM 'm/d/+/d2c'",
			TO("x/a"), ERRORS),
		RULE("b", "SELECT t FROM 'm/d/+/d2c'", STORE("t")),
		RULE("c", "SELECT t FROM 'm/d/+/d2c'", TEN(SELF)),
	};
	const struct rule_set *s = make_set(rows);
	static char text[3001];
	struct value v = {.type = VALUE_MAP};
	struct member m = {.key = "t", .key_len = 1};
	struct rule_input in = {.topic = D2C, .payload = &v, .raw = "", .raw_len = 0};
	struct arena a;
	char *before;
	size_t used;

	(void)state;
	memset(text, 'x', 3000);
	m.value = (struct value){.type = VALUE_TEXT, .u.text = {text, 3000}};
	v.u.map.members = &m;
	v.u.map.count = 1;
	arena_init(&a, 1024, 10 * 1024);
	before = arena_strndup(&a, "before", 6);
	used = a.used;
	for (int i = 0; i < 10; i++)
		rule_set_run(s, &in, &a, &run.visitor);
	assert_int_equal(errors(s, "a"), 10);
	assert_int_equal(matched(s, "b"), 10);
	assert_int_equal(errors(s, "b"), 0);
	/* One action after another has the same room, and so have the reports of errors. */
	assert_int_equal(errors(s, "c"), 0);
	assert_int_equal(run.fires, 10 * (1 + 1 + 10));
	assert_int_equal(a.used, used);
	assert_string_equal(before, "before");
	arena_free(&a);
	rule_set_release(s);
}

/* --- drop --- */

static void test_a_message_is_dropped_by_a_rule_that_holds(void **state)
{
	const struct row rows[] = {
		RULE("keep", "SELECT * FROM '#'", STORE("t")),
		RULE("noise", "SELECT * FROM 'm/d/+/d2c' WHERE kind = 'noise'", DROP),
		RULE("test", "SELECT * FROM 'm/d/test-1/d2c'", DROP),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_true(rule_set_has(s, RULE_DROP));
	assert_true(drops(s, D2C, "{\"kind\": \"noise\"}"));
	assert_false(drops(s, D2C, "{\"kind\": \"signal\"}"));
	assert_false(drops(s, D2C, "{}"));
	assert_true(drops(s, "m/d/test-1/d2c", "{}"));
	assert_false(drops(s, "m/d/test-1/c2d", "{}"));
	rule_set_release(s);
}

static void test_an_evaluation_that_fails_keeps_the_message(void **state)
{
	const struct row rows[] = {RULE(
		"noise", "SELECT 1 AS n FROM 'm/d/+/d2c' WHERE concat(t, t, t, t) <> 'x'", DROP)};
	const struct rule_set *s = make_set(rows);
	static char text[9001];
	struct value v = {.type = VALUE_MAP};
	struct member m = {.key = "t", .key_len = 1};
	struct rule_input in = {.topic = D2C, .payload = &v, .raw = "", .raw_len = 0};
	struct arena a;

	(void)state;
	memset(text, 'x', 9000);
	m.value = (struct value){.type = VALUE_TEXT, .u.text = {text, 9000}};
	v.u.map.members = &m;
	v.u.map.count = 1;
	arena_init(&a, 1024, 64 * 1024);
	assert_true(rule_set_drops(s, &in, &a));
	arena_free(&a);
	arena_init(&a, 1024, 16 * 1024);
	assert_false(rule_set_drops(s, &in, &a));
	assert_int_equal(a.used, 0);
	arena_free(&a);
	rule_set_release(s);
}

static void test_drop_is_for_the_message_itself(void **state)
{
	const struct row rows[] = {
		RULE("a", "SELECT * FROM 'm/d/+/d2c'", TO("x")),
		RULE("b", "SELECT * FROM 'x'", DROP),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_false(drops(s, D2C, "{}"));
	assert_string_equal(run_on(s, D2C, "{}"), "a@0 republish x {}\n");
	assert_int_equal(matched(s, "b"), 1);
	rule_set_release(s);
}

/* --- Refused rules, and the next set --- */

static void test_a_refused_rule_is_listed_and_does_nothing(void **state)
{
	const struct row rows[] = {
		RULE("bad-actions", "SELECT * FROM '#'", "[{\"drop\": 1}]"),
		GUARDED("bad-error", "SELECT * FROM '#'", TO("x"), "{}"),
		RULE("bad-sql", "SELECT * FRM '#'", TO("x")),
		RULE("good", "SELECT * FROM '#'", STORE("t")),
	};
	const struct rule_set *s = make_set(rows);

	(void)state;
	assert_string_equal(run_on(s, D2C, "{}"), "good@0 store t {}\n");
	assert_string_equal(named(s, "bad-actions")->problem,
			    "rule 'bad-actions', actions[0].drop: expected {...}");
	assert_memory_equal(named(s, "bad-error")->problem, "rule 'bad-error', error_action: ", 32);
	assert_memory_equal(named(s, "bad-sql")->problem,
			    "rule 'bad-sql': line 1, column 10: ", 35);
	assert_null(named(s, "bad-actions")->statement);
	assert_int_equal(named(s, "bad-error")->actions.count, 0);
	assert_non_null(named(s, "bad-sql")->counters);
	assert_null(named(s, "good")->problem);
	assert_false(rule_set_has(s, RULE_REPUBLISH));
	assert_int_equal(times_logged("event=rule_refused"), 3);
	rule_set_release(s);
}

static void test_a_filter_that_no_topic_matches_is_refused(void **state)
{
	char sql[600] = "SELECT * FROM '";
	const struct row rows[] = {RULE("deep", sql, TO("x"))};
	const struct rule_set *s;

	(void)state;
	memset(sql + 15, '/', 199);
	strcpy(sql + 15 + 199, "'");
	s = make_set(rows);
	assert_null(named(s, "deep")->problem);
	rule_set_release(s);
	strcpy(sql + 15 + 199, "/'");
	s = make_set(rows);
	assert_non_null(strstr(named(s, "deep")->problem, "more than 200 levels"));
	rule_set_release(s);
}

static void test_a_problem_is_text_that_the_database_takes(void **state)
{
	/* Cut in the middle of a character. */
	char sql[RULE_TEXT_MAX] = "SELECT * FROM 'a' ";
	struct row rows[] = {RULE("a", sql, NULL)};

	(void)state;
	for (size_t n = strlen(sql), i = 0; i < 200; i++, n += 2)
		strcpy(sql + n, "ä");
	for (int shift = 0; shift < 4; shift++) {
		const struct rule_set *s;
		const char *p;

		memmove(sql + 1, sql, strlen(sql) + 1);
		sql[0] = ' ';
		s = make_set(rows);
		p = named(s, "a")->problem;
		assert_non_null(p);
		for (; *p; p++)
			if ((*p & 0xc0) == 0xc0)
				assert_int_equal(p[1] & 0xc0, 0x80);
		rule_set_release(s);
	}
}

static void test_counters_outlive_the_set(void **state)
{
	const struct row first[] = {{"a", "SELECT * FROM '#'", TO("x"), NULL, 1},
				    {"b", "SELECT * FROM '#'", STORE("t"), NULL, 1}};
	const struct row second[] = {{"a", "SELECT * FROM 'm/#'", STORE("u"), NULL, 2},
				     {"c", "SELECT * FROM '#'", STORE("t"), NULL, 1}};
	const struct rule_set *s = make_set(first), *next;

	(void)state;
	run_on(s, D2C, "{}");
	next = make_after(s, second, 2);
	assert_ptr_equal(named(next, "a")->counters, named(s, "a")->counters);
	assert_int_equal(matched(next, "a"), matched(s, "a"));
	rule_set_release(s);
	run_on(next, D2C, "{}");
	assert_int_equal(matched(next, "c"), 1);
	assert_true(matched(next, "a") > 1);
	rule_set_release(next);
}

static void test_a_new_revision_may_say_its_loop_again(void **state)
{
	struct row rows[] = {{"loop", "SELECT * FROM 'a'", TO("a"), NULL, 1}};
	const struct rule_set *s = make_set(rows), *next;

	(void)state;
	run_on(s, "a", "{}");
	next = make_after(s, rows, 1);
	rule_set_release(s);
	run_on(next, "a", "{}");
	assert_int_equal(times_logged("event=rule_cut"), 1);
	rows[0].revision = 2;
	s = make_after(next, rows, 1);
	rule_set_release(next);
	run_on(s, "a", "{}");
	assert_int_equal(times_logged("event=rule_cut"), 2);
	assert_int_equal(cuts(s, "loop"), 3);
	rule_set_release(s);
}

static void test_a_refused_rule_is_said_once(void **state)
{
	struct row rows[] = {{"a", "SELECT", NULL, NULL, 1}};
	const struct rule_set *s = make_set(rows), *next;

	(void)state;
	assert_int_equal(times_logged("event=rule_refused"), 1);
	next = make_after(s, rows, 1);
	rule_set_release(s);
	assert_int_equal(times_logged("event=rule_refused"), 1);
	rows[0].revision = 2;
	s = make_after(next, rows, 1);
	rule_set_release(next);
	assert_int_equal(times_logged("event=rule_refused"), 2);
	rule_set_release(s);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_rule_that_matches_does_its_actions_in_order),
		TEST(test_all_rules_that_match_are_run),
		TEST(test_a_set_knows_what_is_in_it),
		TEST(test_an_empty_set_wants_nothing),
		TEST(test_what_is_republished_triggers_rules),
		TEST(test_the_format_cbor_is_read_like_json),
		TEST(test_a_chain_of_five_is_cut_behind_the_fourth),
		TEST(test_a_rule_that_triggers_itself_is_cut_counted_and_said_once),
		TEST(test_rules_that_trigger_one_another_are_cut),
		TEST(test_a_message_has_so_many_actions_and_no_more),
		TEST(test_a_rule_that_fails_does_not_stop_the_others),
		TEST(test_errors_of_a_rule_are_said_now_and_then),
		TEST(test_an_action_that_fails_does_not_stop_the_others),
		TEST(test_what_could_not_be_republished_triggers_nothing),
		TEST(test_the_work_of_rules_for_one_message_has_a_bound),
		TEST(test_a_message_is_kept_when_the_work_for_it_is_too_much),
		TEST(test_topics_that_nobody_may_publish_to_are_errors),
		TEST(test_the_error_action_reports_what_failed),
		TEST(test_a_statement_that_fails_has_its_error_action),
		TEST(test_a_store_that_fails_has_its_error_action),
		TEST(test_an_error_action_that_fails_is_counted_and_no_more),
		TEST(test_error_actions_in_a_loop_are_cut_too),
		TEST(test_a_report_leaves_out_a_payload_that_is_too_large),
		TEST(test_a_failure_that_is_known_later_has_its_error_action),
		TEST(test_who_does_not_count_counts_its_own_refusals_only),
		TEST(test_a_rule_that_takes_all_memory_fails_alone),
		TEST(test_a_message_is_dropped_by_a_rule_that_holds),
		TEST(test_an_evaluation_that_fails_keeps_the_message),
		TEST(test_drop_is_for_the_message_itself),
		TEST(test_a_refused_rule_is_listed_and_does_nothing),
		TEST(test_a_filter_that_no_topic_matches_is_refused),
		TEST(test_a_problem_is_text_that_the_database_takes),
		TEST(test_counters_outlive_the_set),
		TEST(test_a_new_revision_may_say_its_loop_again),
		TEST(test_a_refused_rule_is_said_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
