/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rules' operators, paths and SELECT mean: the tables of "Operators", "Data types", "Case
 * statements", "Literals", "JSON extensions" and "SELECT clause" in AWS IoT Core's developer guide
 * (marked AWS), the statements of "Rule SQL Reference" in EMQX's documentation (EMQX), what
 * docs/rules.md says where those are silent, and the limits.
 *
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "tests/unit/rule_fixture.h"

static unsigned long allocations;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocations++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	allocations++;
	return __real_realloc(p, size);
}

struct example {
	const char *expression, *value; /* as JSON, or "undefined" */
};

static void check(void **state, const struct example *examples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *value = rule_fixture_value(*state, examples[i].expression);

		if (strcmp(value, examples[i].value) != 0)
			fail_msg("%s is %s, not %s", examples[i].expression, value,
				 examples[i].value);
	}
}

#define CHECK(state, ...)                                                                          \
	do {                                                                                       \
		static const struct example examples[] = {__VA_ARGS__};                            \
                                                                                                   \
		check(state, examples, sizeof(examples) / sizeof(examples[0]));                    \
	} while (0)

static void gives(void **state, const char *payload, const char *statement, const char *result)
{
	const char *given;

	rule_fixture_json(*state, payload);
	given = rule_fixture_run(*state, statement);
	if (strcmp(given, result) != 0)
		fail_msg("%s of %s gives %s, not %s", statement, payload, given, result);
}

/* --- Operators --- */

static void test_and_or_not(void **state)
{
	/* AWS: booleans, and text that says true or false */
	CHECK(state, {"true AND true", "true"}, {"true AND false", "false"},
	      {"'TRUE' AND true", "true"}, {"'false' AND true", "false"},
	      {"true AND 'yes'", "undefined"}, {"1 AND true", "undefined"},
	      {"false OR true", "true"}, {"false OR false", "false"}, {"'False' OR 'True'", "true"},
	      {"0 OR false", "undefined"}, {"NOT true", "false"}, {"NOT 'false'", "true"},
	      {"NOT 0", "undefined"}, {"NOT null", "undefined"}, {"NOT missing", "undefined"});
	/* and SQL's third value */
	CHECK(state, {"missing AND false", "false"}, {"false AND missing", "false"},
	      {"missing AND true", "undefined"}, {"true AND missing", "undefined"},
	      {"missing OR true", "true"}, {"true OR missing", "true"},
	      {"missing OR false", "undefined"}, {"false OR missing", "undefined"},
	      {"missing OR missing", "undefined"}, {"null AND false", "false"});
}

static void test_side_that_decides_keeps_the_other_from_being_evaluated(void **state)
{
	rule_fixture_json(*state, "{}");
	CHECK(state, {"false AND length(rpad('x', 1000)) = 1001", "false"},
	      {"CASE WHEN true THEN 1 ELSE encode(rpad('x', 1000)) END", "1"});
}

static void test_order(void **state)
{
	/* AWS: numbers, and text that is one */
	CHECK(state, {"2 > 1", "true"}, {"1 > 1.5", "false"}, {"1 >= 1.0", "true"},
	      {"1 < 2", "true"}, {"2 <= 1", "false"}, {"'10' > 9", "true"}, {"'10' > '9'", "true"},
	      {"'1e1' <= 10", "true"}, {"'x' > 9", "undefined"}, {"true > false", "undefined"},
	      {"null < 1", "undefined"}, {"missing >= 1", "undefined"}, {"[1] < [2]", "undefined"},
	      {"{} <= {}", "undefined"});
	/* two texts that are no numbers */
	CHECK(state, {"'a' < 'b'", "true"}, {"'a' < 'aa'", "true"}, {"'' < 'a'", "true"},
	      {"'b' <= 'a'", "false"}, {"'z' < 'æ'", "true"},
	      {"'2026-03-01T00:00' > '2026-02-28T23:59'", "true"}, {"'9' < '10a'", "false"});
}

static void test_integers_and_numbers_are_compared_exactly(void **state)
{
	CHECK(state, {"9007199254740993 > 9007199254740992.0", "true"},
	      {"9007199254740993 = 9007199254740992.0", "false"},
	      {"9223372036854775807 < 9223372036854775808.0", "true"},
	      {"-9223372036854775808 = -9223372036854775808.0", "true"}, {"-1 < -0.5", "true"},
	      {"-1 > -1.5", "true"}, {"1 < 1.5", "true"}, {"2 > 1.5", "true"}, {"0 = -0.0", "true"},
	      {"5 > -1e300", "true"}, {"5 < 1e300", "true"});
}

static void test_equality(void **state)
{
	/* AWS */
	CHECK(state, {"1 = 1", "true"}, {"1 = 1.0", "true"}, {"1 <> 2", "true"},
	      {"'a' = 'a'", "true"}, {"'a' = 'A'", "false"}, {"'a' != 'b'", "true"},
	      {"[1, 2] = [1, 2]", "true"}, {"[1, 2] = [2, 1]", "false"}, {"[1, 2] <> [1]", "true"},
	      {"{'a': 1, 'b': 2} = {'b': 2, 'a': 1.0}", "true"}, {"{'a': 1} = {'a': 2}", "false"},
	      {"{'a': 1} = {'b': 1}", "false"}, {"{'a': 1} <> {'a': 1, 'b': 2}", "true"},
	      {"null = null", "true"}, {"null <> null", "false"}, {"null = 0", "false"},
	      {"missing = 1", "undefined"}, {"1 <> missing", "undefined"},
	      {"missing = missing", "undefined"}, {"'1' = 1", "false"}, {"'1' <> 1", "true"},
	      {"true = 'true'", "false"}, {"true = 1", "false"}, {"true = true", "true"});
}

static void test_plus_puts_text_together(void **state)
{
	/* AWS */
	CHECK(state, {"'a' + 1", "\"a1\""}, {"1.5 + 'a'", "\"1.5a\""}, {"'a' + true", "\"atrue\""},
	      {"'a' + [1, 'b']", "\"a[1,\\\"b\\\"]\""}, {"'a' + {'b': 1}", "\"a{\\\"b\\\":1}\""},
	      {"'a' + null", "undefined"}, {"missing + 'a'", "undefined"}, {"'1' + '2'", "\"12\""},
	      {"1 + 2", "3"}, {"1 + 2.5", "3.5"}, {"true + 1", "undefined"},
	      {"[1] + [2]", "undefined"}, {"null + 1", "undefined"}, {"'x' + 1e21", "\"x1e21\""},
	      {"'x' + 21.0", "\"x21.0\""}, {"'x' + 0.1", "\"x0.1\""});
}

static void test_arithmetic(void **state)
{
	/* AWS */
	CHECK(state, {"5 - 3", "2"}, {"5 - 3.0", "2.0"}, {"'5' - 3", "2"}, {"'5.5' - 3", "2.5"},
	      {"'x' - 3", "undefined"}, {"true - 1", "undefined"}, {"4 * 5", "20"},
	      {"4 * 0.5", "2.0"}, {"'4' * '5'", "20"}, {"7 / 2", "3"}, {"-7 / 2", "-3"},
	      {"7 / 2.0", "3.5"}, {"7 % 3", "1"}, {"-7 % 3", "-1"}, {"7.5 % 2", "1.5"},
	      {"null * 2", "undefined"}, {"[1] * 2", "undefined"}, {"2 + 3 * 4", "14"},
	      {"(2 + 3) * 4", "20"}, {"-(2)", "-2"}, {"-'5'", "-5"}, {"-missing", "undefined"},
	      {"-true", "undefined"});
}

static void test_arithmetic_never_leaves_the_numbers(void **state)
{
	CHECK(state, {"1 / 0", "undefined"}, {"0 / 0", "undefined"}, {"1.5 / 0", "undefined"},
	      {"1 % 0", "undefined"}, {"1.5 % 0", "undefined"}, {"1e308 * 10", "undefined"},
	      {"1e308 + 1e308", "undefined"}, {"-1e308 - 1e308", "undefined"},
	      {"9223372036854775807 + 1", "9.223372036854776e18"},
	      {"-9223372036854775808 - 1", "-9.223372036854776e18"},
	      {"9223372036854775807 * 2", "1.8446744073709552e19"},
	      {"-9223372036854775808 / -1", "9.223372036854776e18"},
	      {"-9223372036854775808 % -1", "0"},
	      {"-(-9223372036854775808)", "9.223372036854776e18"}, {"0 * -1.5", "0.0"},
	      {"1e-300 * 1e-300", "0.0"});
}

static void test_text_that_is_a_number(void **state)
{
	/* AWS, "Data types": ^-?\d+(\.\d+)?((?i)E-?\d+)?$ */
	CHECK(state, {"'0' * 1", "0"}, {"'-1.2' * 1", "-1.2"}, {"'5E-12' * 1", "5e-12"},
	      {"'5e3' * 1", "5000.0"}, {"'1e+2' * 1", "100.0"}, {"'007' * 1", "7"},
	      {"'' * 1", "undefined"}, {"'-' * 1", "undefined"}, {"'+1' * 1", "undefined"},
	      {"' 1' * 1", "undefined"}, {"'1 ' * 1", "undefined"}, {"'1.' * 1", "undefined"},
	      {"'.5' * 1", "undefined"}, {"'1e' * 1", "undefined"}, {"'0x10' * 1", "undefined"},
	      {"'1e999' * 1", "undefined"}, {"'nan' * 1", "undefined"}, {"'inf' * 1", "undefined"},
	      {"'9223372036854775808' * 1", "9.223372036854776e18"});
}

static void test_in(void **state)
{
	rule_fixture_json(*state, "{\"list\":[1,\"a\",null],\"n\":5}");
	CHECK(state, {"1 IN (1, 2)", "true"}, {"3 IN (1, 2)", "false"}, {"1.0 IN (1)", "true"},
	      {"'1' IN (1)", "false"}, {"3 NOT IN (1, 2)", "true"}, {"missing IN (1)", "undefined"},
	      {"1 IN (missing, 1)", "true"}, {"1 IN (missing, 2)", "undefined"},
	      {"1 NOT IN (missing, 2)", "undefined"}, {"'a' IN list", "true"},
	      {"'b' IN list", "false"}, {"null IN list", "true"}, {"'a' IN ['a']", "true"},
	      {"'a' NOT IN []", "true"}, {"1 IN n", "undefined"}, {"1 IN missing", "undefined"},
	      {"missing IN list", "undefined"});
}

static void test_between(void **state)
{
	CHECK(state, {"1 BETWEEN 1 AND 3", "true"}, {"3 BETWEEN 1 AND 3", "true"},
	      {"3.1 BETWEEN 1 AND 3", "false"}, {"3.1 NOT BETWEEN 1 AND 3", "true"},
	      {"2 BETWEEN 3 AND 1", "false"}, {"'b' BETWEEN 'a' AND 'c'", "true"},
	      {"missing BETWEEN 1 AND 2", "undefined"}, {"0 BETWEEN 1 AND missing", "false"},
	      {"2 BETWEEN 1 AND missing", "undefined"}, {"2 NOT BETWEEN missing AND 1", "true"});
}

static void test_like(void **state)
{
	CHECK(state, {"'abc' LIKE 'abc'", "true"}, {"'abc' LIKE 'ABC'", "false"},
	      {"'abc' LIKE 'ab'", "false"}, {"'abc' LIKE 'a%'", "true"},
	      {"'abc' LIKE '%c'", "true"}, {"'abc' LIKE '%b%'", "true"},
	      {"'abc' LIKE 'a_c'", "true"}, {"'abc' LIKE 'a_'", "false"},
	      {"'abc' LIKE '___'", "true"}, {"'abc' LIKE '____'", "false"}, {"'' LIKE ''", "true"},
	      {"'' LIKE '%'", "true"}, {"'' LIKE '_'", "false"}, {"'a' LIKE 'a%a'", "false"},
	      {"'aa' LIKE 'a%a'", "true"}, {"'abab' LIKE '%ab'", "true"},
	      {"'abcabd' LIKE '%ab_'", "true"}, {"'abcabd' LIKE '%a_c%'", "true"},
	      {"'xaxbx' LIKE '%a%b%'", "true"}, {"'xbxax' LIKE '%a%b%'", "false"},
	      {"'a' LIKE '%%%'", "true"}, {"'abc' LIKE '%_%_%_%'", "true"},
	      {"'ab' LIKE '%_%_%_%'", "false"}, {"'abc' NOT LIKE 'a%'", "false"},
	      {"'abc' NOT LIKE 'b%'", "true"});
	CHECK(state, {"'50%' LIKE '50\\%'", "true"}, {"'505' LIKE '50\\%'", "false"},
	      {"'a_b' LIKE 'a\\_b'", "true"}, {"'axb' LIKE 'a\\_b'", "false"},
	      {"'a\\b' LIKE 'a\\\\b'", "true"}, {"'a\\' LIKE 'a\\'", "true"},
	      {"'x50%y' LIKE '%\\%_'", "true"});
	CHECK(state, {"'blåbær' LIKE 'bl_b_r'", "true"}, {"'å' LIKE '_'", "true"},
	      {"'å' LIKE '__'", "false"}, {"'xåy' LIKE '%_y'", "true"},
	      {"'axå' LIKE '%x_'", "true"}, {"'å' LIKE '_%_'", "false"}, {"'å😀' LIKE '%_'", "true"},
	      {"'å😀' LIKE '__'", "true"}, {"12.5 LIKE '12%'", "true"},
	      {"null LIKE '%'", "undefined"}, {"missing LIKE '%'", "undefined"},
	      {"'a' LIKE missing", "undefined"}, {"'a' NOT LIKE missing", "undefined"});
}

static void test_case(void **state)
{
	/* AWS, "Case statements" */
	const char *light = "SELECT CASE color WHEN 'green' THEN 'go' WHEN 'yellow' THEN 'caution'"
			    " WHEN 'red' THEN 'stop' ELSE 'you are not at a stop light' END"
			    " as instructions FROM 'topic/subtopic'";

	gives(state, "{\"color\":\"yellow\"}", light, "{\"instructions\":\"caution\"}");
	gives(state, "{\"color\":\"blue\"}", light,
	      "{\"instructions\":\"you are not at a stop light\"}");
	gives(state, "{}", light, "{}");
	/* EMQX */
	gives(state, "{\"x\":8}",
	      "SELECT CASE WHEN payload.x < 0 THEN 0 WHEN payload.x > 7 THEN 7 ELSE payload.x END"
	      " as x FROM \"t/#\"",
	      "{\"x\":7}");
	CHECK(state, {"CASE 1 WHEN 1 THEN 'a' WHEN 1 THEN 'b' END", "\"a\""},
	      {"CASE 1 WHEN 2 THEN 'a' END", "undefined"},
	      {"CASE 1 WHEN missing THEN 'a' ELSE 'b' END", "\"b\""},
	      {"CASE null WHEN null THEN 'a' END", "\"a\""},
	      {"CASE WHEN missing THEN 1 ELSE 2 END", "2"}, {"CASE WHEN 'true' THEN 1 END", "1"},
	      {"CASE WHEN 1 THEN 1 END", "undefined"},
	      {"CASE 1 WHEN 1.0 THEN missing ELSE 2 END", "undefined"});
}

/* --- Paths and literals --- */

static void test_paths(void **state)
{
	rule_fixture_json(*state, "{\"a\":{\"b\":[{\"c\":1},{\"c\":2}]},\"n\":null,\"1\":\"one\","
				  "\"with space\":true,\"A\":5}");
	CHECK(state, {"a.b[1].c", "2"}, {"a.b[2].c", "undefined"}, {"a.x.y", "undefined"},
	      {"n", "null"}, {"n.x", "undefined"}, {"a[0]", "undefined"}, {"a.b.c", "undefined"},
	      {"\"1\"", "\"one\""}, {"\"with space\"", "true"}, {"A", "5"}, {"a.B", "undefined"},
	      {"payload.a.b[0]", "{\"c\":1}"}, {"payload[0]", "undefined"});
}

static void test_payload_that_is_no_object(void **state)
{
	gives(state, "21.5", "SELECT *, value + 1 AS more FROM 't'",
	      "{\"value\":21.5,\"more\":22.5}");
	gives(state, "[1,{\"x\":2}]", "SELECT value[1].x AS x, payload[1].x AS same FROM 't'",
	      "{\"x\":2,\"same\":2}");
	gives(state, "\"on\"", "SELECT value FROM 't' WHERE value = 'on'", "{\"value\":\"on\"}");
	gives(state, "null", "SELECT * FROM 't'", "{\"value\":null}");
	gives(state, "5", "SELECT x, val FROM 't'", "{}");
}

static void test_labels_of_cbor_are_names(void **state)
{
	/* {1: 10, -2: {3: "x"}, "a": 12} */
	rule_fixture_cbor(*state, "\xa3\x01\x0a\x21\xa1\x03\x61\x78\x61\x61\x0c", 11);
	CHECK(state, {"\"1\"", "10"}, {"\"-2\".\"3\"", "\"x\""}, {"\"01\"", "undefined"},
	      {"\"+1\"", "undefined"}, {"\"2\"", "undefined"}, {"get(payload, 1)", "10"},
	      {"get(payload, '-2')", "{\"3\":\"x\"}"}, {"a", "12"},
	      {"payload = {'1': 10, '-2': {'3': 'x'}, 'a': 12}", "true"},
	      {"{'1': 10, '-2': {'3': 'x'}, 'b': 12} = payload", "false"});
	assert_string_equal(rule_fixture_run(*state, "SELECT 5 AS \"1\", * FROM 't'"),
			    "{\"1\":5,\"-2\":{\"3\":\"x\"},\"a\":12}");
	assert_string_equal(rule_fixture_run(*state, "SELECT *, 5 AS \"1\" FROM 't'"),
			    "{\"1\":5,\"-2\":{\"3\":\"x\"},\"a\":12}");
}

static void test_arrays_and_objects(void **state)
{
	/* AWS, "Literals" */
	gives(state, "{\"lat_long\":[47.606,-122.332]}",
	      "SELECT {'latitude': get(lat_long, 0),'longitude':get(lat_long, 1)} as lat_long"
	      " FROM 'topic/subtopic'",
	      "{\"lat_long\":{\"latitude\":47.606,\"longitude\":-122.332}}");
	gives(state, "{\"lat\":47.696,\"long\":-122.332}",
	      "SELECT [lat,long] as lat_long FROM 'topic/subtopic'",
	      "{\"lat_long\":[47.696,-122.332]}");
	CHECK(state, {"[]", "[]"}, {"{}", "{}"}, {"[1, missing, 3]", "[1,null,3]"},
	      {"{'a': 1, 'b': missing, 'c': null}", "{\"a\":1,\"c\":null}"});
}

/* --- SELECT and WHERE --- */

static void test_select(void **state)
{
	const char *red = "{\"color\":\"red\",\"temperature\":50}";

	/* AWS, "SELECT clause" and "JSON extensions" */
	gives(state, red, "SELECT * FROM 'topic/subtopic'", red);
	gives(state, red, "SELECT color FROM 'topic/subtopic'", "{\"color\":\"red\"}");
	gives(state, red, "SELECT color AS my_color FROM 'topic/subtopic'",
	      "{\"my_color\":\"red\"}");
	gives(state, red,
	      "SELECT color as my_color, temperature as fahrenheit FROM 'topic/subtopic'",
	      "{\"my_color\":\"red\",\"fahrenheit\":50}");
	gives(state, red, "SELECT *, 15 as speed FROM 'topic/subtopic'",
	      "{\"color\":\"red\",\"temperature\":50,\"speed\":15}");
	gives(state, "{\"color\":{\"red\":255,\"green\":0,\"blue\":0},\"temperature\":50}",
	      "SELECT color.red as red_value FROM 'topic/subtopic'", "{\"red_value\":255}");
	gives(state, red,
	      "SELECT (temperature - 32) * 5 / 9 AS celsius, upper(color) as my_color"
	      " FROM 'topic/subtopic'",
	      "{\"celsius\":10,\"my_color\":\"RED\"}");
	gives(state, "{\"deviceid\":\"iot123\",\"temp\":54.98,\"humidity\":32.43}",
	      "SELECT temp, md5(deviceid) AS hashed_id FROM 'topic/#'",
	      "{\"temp\":54.98,\"hashed_id\":\"e37f81fb397e595c4aeb5645b8cbbbd1\"}");
}

static void test_statements_of_emqx(void **state)
{
	/* EMQX, with functions for what are fields there */
	gives(state, "{\"clientid\":\"c\"}",
	      "SELECT clientid() AS clientid, payload.clientid as myclientid FROM \"t/#\"",
	      "{\"clientid\":\"dev-1\",\"myclientid\":\"c\"}");
	gives(state, "{}", "SELECT (upper(clientid()) + '_UPPERCASE_LETTERS') as cid FROM \"t/#\"",
	      "{\"cid\":\"DEV-1_UPPERCASE_LETTERS\"}");
	gives(state, "{\"integer_field\":3}",
	      "SELECT (payload.integer_field + 2) * 2 as num FROM \"t/#\"", "{\"num\":10}");
	gives(state, "{\"a\":{\"b\":{\"c\":{\"deep\":7}}}}",
	      "SELECT payload.a.b.c.deep as my_field FROM \"t/#\"", "{\"my_field\":7}");
	gives(state, "{\"x\":{\"y\":1},\"other\":\"field\"}",
	      "SELECT * FROM \"#\" WHERE payload.x.y = 1", "{\"x\":{\"y\":1},\"other\":\"field\"}");
	gives(state, "{\"name\":\"sensor_1\",\"temperature\":40}",
	      "SELECT * FROM \"t/#\" WHERE payload.name = 'sensor_1' and payload.temperature > 39",
	      "{\"name\":\"sensor_1\",\"temperature\":40}");
	gives(state, "{\"name\":\"sensor_1\",\"temperature\":39}",
	      "SELECT * FROM \"t/#\" WHERE payload.name = 'sensor_1' and payload.temperature > 39",
	      "no");
}

static void test_field_goes_before_the_member_of_its_name(void **state)
{
	const char *payload = "{\"z\":1,\"t\":2,\"a\":3}";

	gives(state, payload, "SELECT *, 9 AS t FROM 't'", "{\"z\":1,\"t\":9,\"a\":3}");
	gives(state, payload, "SELECT 9 AS t, * FROM 't'", "{\"t\":9,\"z\":1,\"a\":3}");
	gives(state, payload, "SELECT *, 8 AS n, 9 AS t FROM 't'",
	      "{\"z\":1,\"t\":9,\"a\":3,\"n\":8}");
	gives(state, payload, "SELECT *, missing AS t FROM 't'", payload);
	gives(state, payload, "SELECT missing AS t, * FROM 't'", payload);
}

static void test_where_holds_when_it_is_true(void **state)
{
	gives(state, "{\"t\":31}", "SELECT t FROM 't' WHERE t > 30", "{\"t\":31}");
	gives(state, "{\"t\":30}", "SELECT t FROM 't' WHERE t > 30", "no");
	gives(state, "{}", "SELECT t FROM 't' WHERE t > 30", "no");
	gives(state, "{}", "SELECT t FROM 't' WHERE NOT t > 30", "no");
	gives(state, "{}", "SELECT t FROM 't' WHERE isUndefined(t)", "{}");
	gives(state, "{\"t\":1}", "SELECT t FROM 't' WHERE t", "no");
	gives(state, "{\"t\":\"true\"}", "SELECT t FROM 't' WHERE t", "{\"t\":\"true\"}");
	gives(state, "{\"t\":null}", "SELECT t FROM 't' WHERE t", "no");
}

static void test_payload_that_was_not_decoded(void **state)
{
	rule_fixture_raw(*state, "\xff\xff", 2);
	assert_string_equal(rule_fixture_run(*state, "SELECT topic(3) AS d, t FROM 't'"),
			    "{\"d\":\"dev-1\"}");
	assert_string_equal(rule_fixture_run(*state, "SELECT t FROM 't' WHERE t = 1"), "no");
	assert_string_equal(rule_fixture_run(*state, "SELECT * FROM 't' WHERE t = 1"), "no");
	assert_string_equal(
		rule_fixture_run(*state, "SELECT * FROM 't'"),
		"error: rule 't': `SELECT *` of a payload that is neither JSON nor CBOR;"
		" encode(*, 'base64') takes it as it is");
}

/* --- Templates --- */

static const char *render(struct rule_fixture *f, const char *text)
{
	static char out[RULE_WHY_MAX];
	struct rule_template *t;
	const char *s;
	int rc;

	arena_reset(&f->arena);
	if (rule_template_parse(&t, "t", "republish.topic", text, f->why, sizeof(f->why)) != 0)
		fail_msg("%s", f->why);
	rc = rule_template_render(t, &f->in, &f->arena, &s, f->why, sizeof(f->why));
	snprintf(out, sizeof(out), "%s", rc == 0 ? s : f->why);
	if (rc)
		assert_int_equal(rc, -EBADMSG);
	rule_template_free(t);
	return out;
}

static void test_template_is_filled_in(void **state)
{
	rule_fixture_json(*state, "{\"t\":21.5,\"n\":7,\"ok\":true,\"s\":\"x/y\"}");
	assert_string_equal(render(*state, "alarms/${topic(3)}/${n}"), "alarms/dev-1/7");
	assert_string_equal(render(*state, "${s}"), "x/y");
	assert_string_equal(render(*state, "a/${t}/${ok}/${n + 1}/z"), "a/21.5/true/8/z");
	assert_string_equal(render(*state, "plain"), "plain");
}

static void test_template_refuses_what_is_no_text(void **state)
{
	rule_fixture_json(*state, "{\"n\":null,\"l\":[1],\"o\":{}}");
	assert_string_equal(
		render(*state, "a/${x}"),
		"rule 't', republish.topic: column 5: ${} is undefined; it must be text, "
		"a number or a boolean");
	assert_string_equal(render(*state, "${n}/a"),
			    "rule 't', republish.topic: column 3: ${} is null; it must be text, "
			    "a number or a boolean");
	assert_non_null(strstr(render(*state, "${l}"), "an array"));
	assert_non_null(strstr(render(*state, "${o}"), "an object"));
}

/* A device that writes levels into a member moves nothing to a topic of another shape. */
static void test_template_takes_no_levels_from_the_payload(void **state)
{
	static const char problem[] = "is text of the message with a '/', which would make other "
				      "levels of the topic; only "
				      "a template that is nothing but ${} takes it";

	rule_fixture_json(*state, "{\"to\":\"b/d2c\",\"on\":true,\"l\":[\"x/y\"]}");
	assert_non_null(strstr(render(*state, "m/d/${to}/c2d"), problem));
	assert_non_null(strstr(render(*state, "m/d/${lower(to)}"), problem));
	assert_non_null(strstr(render(*state, "m/d/${'x' + to}"), problem));
	assert_non_null(strstr(render(*state, "${to}${on}"), problem));
	assert_non_null(strstr(render(*state, "m/${get(l, 0)}"), problem));
	assert_non_null(strstr(render(*state, "m/${CASE WHEN on THEN to END}"), problem));
	assert_non_null(
		strstr(render(*state, "m/${CASE WHEN 1 = 2 THEN 'x' ELSE to END}"), problem));
	assert_string_equal(render(*state, "a/${topic()}"), "a/m/d/dev-1/d2c");
	assert_string_equal(render(*state, "a/${CASE WHEN on THEN 'x/y' END}"), "a/x/y");
	assert_string_equal(render(*state, "${to}"), "b/d2c");
}

/* --- Limits and hostile input --- */

static char *big_payload(const char *before, char c, size_t len, const char *after)
{
	size_t size = strlen(before) + len + strlen(after) + 1;
	char *text = malloc(size);

	assert_non_null(text);
	snprintf(text, size, "%s", before);
	memset(text + strlen(before), c, len);
	memcpy(text + strlen(before) + len, after, strlen(after) + 1);
	return text;
}

static void test_text_longer_than_allowed_is_an_error(void **state)
{
	char *payload = big_payload("{\"s\":\"", 'a', 100000, "\"}");
	const char *too_long =
		"error: rule 't': a text of 300000 bytes, at most 262144 are allowed";

	rule_fixture_json(*state, payload);
	CHECK(state, {"length(s + s)", "200000"}, {"length(concat(s, s))", "200000"});
	assert_string_equal(rule_fixture_value(*state, "s + s + s"), too_long);
	assert_string_equal(rule_fixture_value(*state, "concat(s, s, s)"), too_long);
	assert_string_equal(rule_fixture_value(*state, "replace(s, 'a', 'aaa')"), too_long);
	assert_string_equal(rule_fixture_value(*state, "encode(s + s, 'hex')"),
			    "error: rule 't': a text of 400000 bytes, at most 262144 are allowed");
	assert_non_null(strstr(rule_fixture_value(*state, "cast([s, s, s] AS string)"), "at most"));
	free(payload);
}

static void test_arena_that_is_full_is_an_error(void **state)
{
	struct rule_fixture *f = *state;

	arena_free(&f->arena);
	arena_init(&f->arena, 4096, 8192);
	assert_string_equal(
		rule_fixture_value(f, "rpad('a', 1000) + rpad('a', 1000) + rpad('a', 1000) + "
				      "rpad('a', 1000)"),
		"error: rule 't': out of memory: the message's rules may use 8192 bytes");
}

/* Each of these takes minutes, or for ever, when it goes back for each place of each `%`. */
static void test_like_of_a_long_text_is_one_search_for_each_piece(void **state)
{
	char *payload = big_payload("{\"s\":\"", 'a', 100000, "\"}");

	rule_fixture_json(*state, payload);
	CHECK(state, {"s LIKE '%a%a%a%a%a%a%a%a%a%a%b'", "false"},
	      {"s LIKE '%a%a%a%a%a%a%a%a%a%a%'", "true"}, {"s LIKE '%aab%aab%aab%'", "false"},
	      {"s LIKE '%_a%_a%_a%_a%_a%_a%_b%'", "false"}, {"s LIKE '%a_a_a_a_a_b%'", "false"},
	      {"s LIKE s", "true"}, {"s LIKE s + 'a'", "false"}, {"s LIKE '%' + s + '%'", "true"},
	      {"s LIKE '%' + s + 'b%'", "false"});
	free(payload);
}

static void test_like_counts_its_steps(void **state)
{
	char *payload = big_payload("{\"s\":\"", 'a', 50000, "\",\"p\":\"_\"}");

	rule_fixture_json(*state, payload);
	assert_string_equal(
		rule_fixture_value(*state, "s LIKE '%_' + substring(s, 0, 20000) + 'b%'"),
		"error: rule 't': LIKE with `_` behind a `%` takes more than 4000000 steps");
	free(payload);
}

static void test_deep_values_are_compared_and_printed(void **state)
{
	const char *deep = "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":[1,2]}}}}}}}";

	rule_fixture_json(*state, deep);
	CHECK(state, {"payload = payload", "true"}, {"a.a.a.a.a.a.a[1]", "2"},
	      {"length(cast(payload AS string))", "47"}, {"[payload] IN ([payload])", "true"});
}

static void test_result_of_too_many_arguments_is_within_the_arena(void **state)
{
	char expression[2048] = "concat('x'";

	for (int i = 1; i < 64; i++)
		strcat(expression, ", 'x'");
	strcat(expression, ")");
	assert_int_equal(strlen(rule_fixture_value(*state, expression)), 66);
}

/* --- What evaluating costs and leaves --- */

static const char typical[] =
	"SELECT *, round(temp * 1.8 + 32, 1) AS fahrenheit, device() AS device, topic(2) AS kind,"
	" upper(unit) AS unit, [temp, humidity] AS both, {'at': received_at()} AS o,"
	" CASE WHEN temp > 30 THEN 'hot' ELSE 'mild' END AS feels, encode(*, 'base64') AS raw,"
	" sha256(unit) AS digest, cast(payload AS string) AS text, timestamp() AS ts,"
	" concat(unit, '-', temp) AS label, coalesce(missing, battery.mv) AS mv"
	" FROM 'm/d/+/d2c' WHERE (temp BETWEEN 20 AND 40 AND unit IN ('C', 'F'))"
	" OR name LIKE 'door-%_'";

static const char reading[] = "{\"temp\":31.25,\"unit\":\"C\",\"humidity\":40,\"battery\":"
			      "{\"mv\":3712},\"list\":[1,2.5,\"x\",null,true]}";

static void test_evaluating_takes_nothing_from_the_heap(void **state)
{
	struct rule_fixture *f = *state;
	struct rule_statement *s;
	unsigned long before;
	struct value v;

	rule_fixture_json(f, reading);
	assert_int_equal(rule_parse(&s, "t", typical, strlen(typical), f->why, sizeof(f->why)), 0);
	arena_reset(&f->arena);
	assert_int_equal(rule_evaluate(s, &f->in, &f->arena, &v, f->why, sizeof(f->why)), 1);
	before = allocations;
	assert_int_not_equal(before, 0);
	for (int i = 0; i < 100; i++) {
		arena_reset(&f->arena);
		rule_evaluate(s, &f->in, &f->arena, &v, f->why, sizeof(f->why));
	}
	assert_int_equal(allocations, before);
	rule_free(s);
}

static void test_evaluating_does_not_change_the_message(void **state)
{
	struct rule_fixture *f = *state;
	char raw[sizeof(reading)];
	size_t len;
	char *json;

	rule_fixture_json(f, reading);
	memcpy(raw, reading, sizeof(reading));
	f->in.raw = raw;
	assert_int_equal(rule_fixture_run(f, typical)[0], '{');
	json = value_print_json(&f->payload, f->in.payload, &len);
	assert_string_equal(json, reading);
	assert_memory_equal(raw, reading, sizeof(reading));
}

static void test_evaluating_twice_gives_the_same(void **state)
{
	char first[4096];

	rule_fixture_json(*state, reading);
	snprintf(first, sizeof(first), "%s", rule_fixture_run(*state, typical));
	assert_string_equal(rule_fixture_run(*state, typical), first);
	assert_non_null(strstr(first, "\"fahrenheit\":88.3"));
	assert_non_null(strstr(first, "\"label\":\"C-31.25\""));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rule_fixture_set_up, rule_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_and_or_not),
		TEST(test_side_that_decides_keeps_the_other_from_being_evaluated),
		TEST(test_order),
		TEST(test_integers_and_numbers_are_compared_exactly),
		TEST(test_equality),
		TEST(test_plus_puts_text_together),
		TEST(test_arithmetic),
		TEST(test_arithmetic_never_leaves_the_numbers),
		TEST(test_text_that_is_a_number),
		TEST(test_in),
		TEST(test_between),
		TEST(test_like),
		TEST(test_case),
		TEST(test_paths),
		TEST(test_payload_that_is_no_object),
		TEST(test_labels_of_cbor_are_names),
		TEST(test_arrays_and_objects),
		TEST(test_select),
		TEST(test_statements_of_emqx),
		TEST(test_field_goes_before_the_member_of_its_name),
		TEST(test_where_holds_when_it_is_true),
		TEST(test_payload_that_was_not_decoded),
		TEST(test_template_is_filled_in),
		TEST(test_template_refuses_what_is_no_text),
		TEST(test_template_takes_no_levels_from_the_payload),
		TEST(test_text_longer_than_allowed_is_an_error),
		TEST(test_arena_that_is_full_is_an_error),
		TEST(test_like_of_a_long_text_is_one_search_for_each_piece),
		TEST(test_like_counts_its_steps),
		TEST(test_deep_values_are_compared_and_printed),
		TEST(test_result_of_too_many_arguments_is_within_the_arena),
		TEST(test_evaluating_takes_nothing_from_the_heap),
		TEST(test_evaluating_does_not_change_the_message),
		TEST(test_evaluating_twice_gives_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
