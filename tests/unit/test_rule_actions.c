/* SPDX-License-Identifier: Apache-2.0 */
/* The columns `actions` and `error_action`: what they mean, and what is said of those that mean
 * nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/arena.h"
#include "core/payload/text.h"
#include "core/rule/action.h"

static char err[512];

static int parse(struct rule_actions *a, const char *json)
{
	err[0] = '\0';
	return rule_actions_parse(a, "hot", json, err, sizeof(err));
}

static void refused(const char *json, const char *expected)
{
	struct rule_actions a;

	assert_int_equal(parse(&a, json), -EINVAL);
	assert_string_equal(err, expected);
	assert_int_equal(a.count, 0);
	assert_null(a.items);
}

static void error_action_refused(const char *json, const char *expected)
{
	struct rule_actions a;

	assert_int_equal(rule_error_action_parse(&a, "hot", json, err, sizeof(err)), -EINVAL);
	assert_string_equal(err, expected);
	assert_int_equal(a.count, 0);
}

static void assert_topic(const struct rule_action *a, const char *expected)
{
	const struct rule_input in = {.topic = "m/d/dev-1/d2c", .device = "dev-1"};
	struct arena arena;
	const char *topic;

	arena_init(&arena, 1024, 8192);
	assert_int_equal(
		rule_template_render(a->republish.topic, &in, &arena, &topic, err, sizeof(err)), 0);
	assert_string_equal(topic, expected);
	arena_free(&arena);
}

static void test_no_actions(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(parse(&a, " [ ] "), 0);
	assert_int_equal(a.count, 0);
	rule_actions_free(&a);
	rule_actions_free(&a);
}

static void test_republish_in_full(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(parse(&a,
			       "[{\"republish\": {\"topic\": \"alarms/${device()}\", \"qos\": 1,"
			       " \"retain\": true, \"format\": \"cbor\"}}]"),
			 0);
	assert_int_equal(a.count, 1);
	assert_int_equal(a.items[0].kind, RULE_REPUBLISH);
	assert_topic(&a.items[0], "alarms/dev-1");
	assert_int_equal(a.items[0].republish.qos, 1);
	assert_true(a.items[0].republish.retain);
	assert_int_equal(a.items[0].republish.format, RULE_FORMAT_CBOR);
	rule_actions_free(&a);
}

static void test_republish_needs_a_topic_only(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(parse(&a, "[{\"republish\": {\"topic\": \"a/b\"}}]"), 0);
	assert_int_equal(a.items[0].republish.qos, 0);
	assert_false(a.items[0].republish.retain);
	assert_int_equal(a.items[0].republish.format, RULE_FORMAT_JSON);
	rule_actions_free(&a);
}

static void test_store_in_full(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(parse(&a, "[{\"store\": {\"table\": \"plant.Alarm\", \"columns\":"
				   " {\"degrees\": \"t.inner\", \"device\": \"device\"}}}]"),
			 0);
	assert_int_equal(a.items[0].kind, RULE_STORE);
	assert_string_equal(a.items[0].store.schema, "plant");
	assert_string_equal(a.items[0].store.table, "Alarm");
	assert_int_equal(a.items[0].store.column_count, 2);
	assert_string_equal(a.items[0].store.columns[0].column, "degrees");
	assert_string_equal(a.items[0].store.columns[0].member, "t.inner");
	assert_string_equal(a.items[0].store.columns[1].column, "device");
	rule_actions_free(&a);
}

static void test_columns_are_in_the_order_of_their_names(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(parse(&a, "[{\"store\": {\"table\": \"t\", \"columns\": {\"z\": \"1\","
				   " \"b\": \"2\", \"aa\": \"3\"}}}]"),
			 0);
	assert_null(a.items[0].store.schema);
	assert_string_equal(a.items[0].store.columns[0].column, "aa");
	assert_string_equal(a.items[0].store.columns[0].member, "3");
	assert_string_equal(a.items[0].store.columns[1].column, "b");
	assert_string_equal(a.items[0].store.columns[2].column, "z");
	rule_actions_free(&a);
}

static void test_actions_keep_their_order(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(parse(&a, "[{\"drop\": {}}, {\"store\": {\"table\": \"t\"}},"
				   " {\"republish\": {\"topic\": \"x\"}}, {\"drop\": {}}]"),
			 0);
	assert_int_equal(a.count, 4);
	assert_int_equal(a.items[0].kind, RULE_DROP);
	assert_int_equal(a.items[1].kind, RULE_STORE);
	assert_int_equal(a.items[1].store.column_count, 0);
	assert_int_equal(a.items[2].kind, RULE_REPUBLISH);
	assert_int_equal(a.items[3].kind, RULE_DROP);
	rule_actions_free(&a);
}

static void test_an_error_action_is_one_object_or_nothing(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(rule_error_action_parse(&a, "hot", NULL, err, sizeof(err)), 0);
	assert_int_equal(a.count, 0);
	assert_int_equal(rule_error_action_parse(&a, "hot", "", err, sizeof(err)), 0);
	assert_int_equal(a.count, 0);
	assert_int_equal(rule_error_action_parse(&a, "hot", "{\"republish\": {\"topic\": \"e\"}}",
						 err, sizeof(err)),
			 0);
	assert_int_equal(a.count, 1);
	assert_int_equal(a.items[0].kind, RULE_REPUBLISH);
	rule_actions_free(&a);
	error_action_refused("[]", "rule 'hot', error_action: expected {\"republish\": {...}} or "
				   "{\"store\": {...}}");
	error_action_refused("null", "rule 'hot', error_action: expected {\"republish\": {...}} or "
				     "{\"store\": {...}}");
	error_action_refused("{\"drop\": {}}",
			     "rule 'hot', error_action: there is no action 'drop' here: expected "
			     "{\"republish\": {...}} or {\"store\": {...}}");
	error_action_refused("{\"republish\": {\"topic\": \"\"}}",
			     "rule 'hot', error_action.republish.topic: it is empty");
}

#define EXPECTED "expected {\"republish\": {...}}, {\"store\": {...}} or {\"drop\": {}}"

static void test_what_is_no_list_of_actions(void **state)
{
	(void)state;
	refused("", "rule 'hot', actions: not JSON: line 1, column 0: unexpected token near end of "
		    "file");
	refused("[{]", "rule 'hot', actions: not JSON: line 1, column 3: string or '}' expected "
		       "near ']'");
	refused("{}", "rule 'hot', actions: expected an array of actions, [] if there are none");
	refused("[1]", "rule 'hot', actions[0]: " EXPECTED);
	refused("[{\"drop\": {}}, {}]", "rule 'hot', actions[1]: " EXPECTED);
	refused("[{\"drop\": {}, \"store\": {}}]", "rule 'hot', actions[0]: " EXPECTED);
	refused("[{\"lambda\": {}}]",
		"rule 'hot', actions[0]: there is no action 'lambda' here: " EXPECTED);
	refused("[{\"drop\": true}]", "rule 'hot', actions[0].drop: expected {...}");
	refused("[{\"drop\": {\"all\": 1}}]", "rule 'hot', actions[0].drop: expected {}");
	refused("[{},{},{},{},{},{},{},{},{},{},{}]", "rule 'hot', actions: they are more than 10");
}

static void test_what_is_no_republish(void **state)
{
#define REPUBLISH(members) "[{\"republish\": {" members "}}]"
#define AT		   "rule 'hot', actions[0].republish"
	(void)state;
	refused(REPUBLISH(""), AT ".topic: it is missing: the topic to publish to, such as "
				  "'alarms/${device()}'");
	refused(REPUBLISH("\"topic\": 1"),
		AT ".topic: expected a text, such as 'alarms/${device()}'");
	refused(REPUBLISH("\"topic\": \"\""), AT ".topic: it is empty");
	refused(REPUBLISH("\"topic\": \"$SYS/x\""),
		AT ".topic: topics that begin with '$' are the broker's own");
	refused(REPUBLISH("\"topic\": \"$${x}\""),
		AT ".topic: topics that begin with '$' are the broker's own");
	refused(REPUBLISH("\"topic\": \"a/+/b\""),
		AT ".topic: 'a/+/b' is not a topic to publish to: it holds a wildcard, + or #, or "
		   "is too long");
	refused(REPUBLISH("\"topic\": \"a\", \"qos\": 2"), AT ".qos: expected 0 or 1");
	refused(REPUBLISH("\"topic\": \"a\", \"qos\": -1"), AT ".qos: expected 0 or 1");
	refused(REPUBLISH("\"topic\": \"a\", \"qos\": true"), AT ".qos: expected 0 or 1");
	refused(REPUBLISH("\"topic\": \"a\", \"retain\": 1"), AT ".retain: expected true or false");
	refused(REPUBLISH("\"topic\": \"a\", \"format\": \"xml\""),
		AT ".format: expected \"json\" or \"cbor\"");
	refused(REPUBLISH("\"topic\": \"a\", \"format\": null"),
		AT ".format: expected \"json\" or \"cbor\"");
	refused(REPUBLISH("\"topic\": \"a\", \"retian\": true"),
		AT ": it has no member 'retian'; known are: topic, qos, retain, format");
}

static void test_a_template_is_refused_with_its_place(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(
		parse(&a, "[{\"drop\": {}}, {\"republish\": {\"topic\": \"a/${topic(\"}}]"),
		-EINVAL);
	assert_memory_equal(err, "rule 'hot', actions[1].republish.topic: column ", 47);
	assert_int_equal(a.count, 0);
}

static void test_what_is_no_store(void **state)
{
#define STORE(members) "[{\"store\": {" members "}}]"
#undef AT
#define AT	"rule 'hot', actions[0].store"
#define MANY_XS "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" /* 63 */
	struct rule_actions a;

	(void)state;
	refused(STORE(""), AT ".table: expected the name of a table, such as \"public.alarm\"");
	refused(STORE("\"table\": \"a.b.c\""),
		AT ".table: 'a.b.c' has more than one dot: expected schema.table");
	refused(STORE("\"table\": \".b\""), AT ".table: a name is empty");
	refused(STORE("\"table\": \"a.\""), AT ".table: a name is empty");
	refused(STORE("\"table\": \"" MANY_XS "y\""),
		AT ".table: '" MANY_XS "...' has more than 63 bytes: PostgreSQL has no such name");
	refused(STORE("\"table\": \"t\", \"columns\": {}"),
		AT ".columns: expected {\"column\": \"member\", ...}; without it each member goes "
		   "to the column of its name");
	refused(STORE("\"table\": \"t\", \"columns\": [\"a\"]"),
		AT ".columns: expected {\"column\": \"member\", ...}; without it each member goes "
		   "to the column of its name");
	refused(STORE("\"table\": \"t\", \"columns\": {\"a\": \"b\", \"c\": 1}"),
		AT ".columns: column 'c': expected the name of a member of what SELECT gives");
	refused(STORE("\"table\": \"t\", \"columns\": {\"\": \"b\"}"),
		AT ".columns: a name is empty");
	refused(STORE("\"table\": \"t\", \"where\": 1"),
		AT ": it has no member 'where'; known are: table, columns");
	assert_int_equal(parse(&a, STORE("\"table\": \"" MANY_XS "." MANY_XS "\"")), 0);
	rule_actions_free(&a);
}

static char *with_columns(unsigned count)
{
	char *json = NULL;
	size_t len;
	FILE *f = open_memstream(&json, &len);

	assert_non_null(f);
	fputs("[{\"store\": {\"table\": \"t\", \"columns\": {", f);
	for (unsigned i = 0; i < count; i++)
		fprintf(f, "%s\"c%u\": \"m\"", i ? ", " : "", i);
	fputs("}}}]", f);
	fclose(f);
	return json;
}

static void test_columns_have_a_bound(void **state)
{
	struct rule_actions a;
	char *json = with_columns(RULE_COLUMNS_MAX + 1);

	(void)state;
	refused(json, "rule 'hot', actions[0].store.columns: they are more than 200");
	free(json);
	json = with_columns(RULE_COLUMNS_MAX);
	assert_int_equal(parse(&a, json), 0);
	assert_int_equal(a.items[0].store.column_count, RULE_COLUMNS_MAX);
	rule_actions_free(&a);
	free(json);
}

static void test_repeated_members_are_refused(void **state)
{
	struct rule_actions a;

	(void)state;
	assert_int_equal(parse(&a, "[{\"republish\": {\"topic\": \"a\", \"topic\": \"b\"}}]"),
			 -EINVAL);
	assert_non_null(strstr(err, "duplicate object key"));
}

static void test_values_in_both_formats(void **state)
{
	struct member m = {.key = "t", .key_len = 1, .value = {VALUE_INTEGER, .u.integer = 21}};
	const struct value v = {VALUE_MAP, .u.map = {&m, 1}};
	struct arena a;
	const void *data;
	size_t len;

	(void)state;
	arena_init(&a, 1024, 1024);
	assert_int_equal(rule_format_value(&v, RULE_FORMAT_JSON, &a, &data, &len), 0);
	assert_int_equal(len, 8);
	assert_memory_equal(data, "{\"t\":21}", 8);
	assert_int_equal(rule_format_value(&v, RULE_FORMAT_CBOR, &a, &data, &len), 0);
	assert_int_equal(len, 4);
	assert_memory_equal(data, "\xa1\x61\x74\x15", 4);
	arena_free(&a);
	arena_init(&a, 1024, 0);
	assert_int_equal(rule_format_value(&v, RULE_FORMAT_JSON, &a, &data, &len), -ENOMEM);
	assert_int_equal(rule_format_value(&v, RULE_FORMAT_CBOR, &a, &data, &len), -ENOMEM);
	arena_free(&a);
}

/* The message ends in a column of the database, which takes well-formed UTF-8 only. */
static void test_what_is_quoted_may_be_cut_within_a_character(void **state)
{
	char json[128] = "[{\"";
	struct rule_actions a;

	(void)state;
	memset(json + 3, 'a', 79);
	strcpy(json + 82, "\303\274\": {}}]");
	assert_int_equal(parse(&a, json), -EINVAL);
	assert_true(text_is_valid(err, strlen(err)));
	assert_non_null(strstr(err, "aaa?' here: "));
}

static void test_a_column_finds_its_member(void **state)
{
	struct member inner[] = {
		{.key = "c", .key_len = 1, .value = {VALUE_INTEGER, .u.integer = 1}},
		{.key = "d.e", .key_len = 3, .value = {VALUE_INTEGER, .u.integer = 2}},
	};
	struct member outer[] = {
		{.key = "a", .key_len = 1, .value = {VALUE_MAP, .u.map = {inner, 2}}},
		{.key = "a.b", .key_len = 3, .value = {VALUE_INTEGER, .u.integer = 3}},
		{.key = "a.x", .key_len = 3, .value = {VALUE_MAP, .u.map = {inner, 2}}},
	};
	const struct value v = {VALUE_MAP, .u.map = {outer, 3}};

	(void)state;
	assert_ptr_equal(rule_column_value(&v, "a"), &outer[0].value);
	assert_ptr_equal(rule_column_value(&v, "a.c"), &inner[0].value);
	assert_ptr_equal(rule_column_value(&v, "a.b"), &outer[1].value);
	assert_ptr_equal(rule_column_value(&v, "a.d.e"), &inner[1].value);
	assert_ptr_equal(rule_column_value(&v, "a.x.c"), &inner[0].value);
	assert_null(rule_column_value(&v, "a.z"));
	assert_null(rule_column_value(&v, "a.b.c"));
	assert_null(rule_column_value(&v, "."));
	assert_null(rule_column_value(&inner[0].value, "c"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_actions),
		cmocka_unit_test(test_republish_in_full),
		cmocka_unit_test(test_republish_needs_a_topic_only),
		cmocka_unit_test(test_store_in_full),
		cmocka_unit_test(test_columns_are_in_the_order_of_their_names),
		cmocka_unit_test(test_actions_keep_their_order),
		cmocka_unit_test(test_an_error_action_is_one_object_or_nothing),
		cmocka_unit_test(test_what_is_no_list_of_actions),
		cmocka_unit_test(test_what_is_no_republish),
		cmocka_unit_test(test_a_template_is_refused_with_its_place),
		cmocka_unit_test(test_what_is_no_store),
		cmocka_unit_test(test_columns_have_a_bound),
		cmocka_unit_test(test_repeated_members_are_refused),
		cmocka_unit_test(test_values_in_both_formats),
		cmocka_unit_test(test_a_column_finds_its_member),
		cmocka_unit_test(test_what_is_quoted_may_be_cut_within_a_character),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
