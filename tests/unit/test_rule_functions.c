/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of rules. Cases marked AWS are the examples and tables of "Functions" in AWS IoT
 * Core's developer guide (iot-sql-functions), those marked EMQX of "Built-in SQL functions" in
 * EMQX's documentation (rule-sql-builtin-functions); the rest are ours, see docs/rules.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rule/functions.h"
#include "tests/unit/rule_fixture.h"

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

static void test_message(void **state)
{
	CHECK(state, {"topic()", "\"m/d/dev-1/d2c\""}, {"topic(1)", "\"m\""},
	      {"topic(3)", "\"dev-1\""}, {"topic(4)", "\"d2c\""}, {"topic(5)", "undefined"},
	      {"topic(0)", "undefined"}, {"topic(-1)", "undefined"}, {"topic('2')", "\"d\""},
	      {"topic(1e300)", "undefined"}, {"topic(null)", "undefined"},
	      {"device()", "\"dev-1\""}, {"clientid()", "\"dev-1\""},
	      {"timestamp()", "1772368496789"}, {"received_at()", "\"2026-03-01T12:34:56.789Z\""});
}

static void test_empty_levels_of_a_topic_count(void **state)
{
	struct rule_fixture *f = *state;

	f->in.topic = "/a//b/";
	CHECK(state, {"topic(1)", "\"\""}, {"topic(2)", "\"a\""}, {"topic(3)", "\"\""},
	      {"topic(4)", "\"b\""}, {"topic(5)", "\"\""}, {"topic(6)", "undefined"});
}

static void test_message_of_nobody_has_no_device(void **state)
{
	struct rule_fixture *f = *state;

	f->in.device = NULL;
	CHECK(state, {"device()", "undefined"}, {"coalesce(device(), 'nobody')", "\"nobody\""});
}

static void test_time_of_receipt_as_text(void **state)
{
	static const struct {
		int64_t us;
		const char *text;
	} times[] = {
		{0, "\"1970-01-01T00:00:00.000Z\""},
		{INT64_C(951782399999999), "\"2000-02-28T23:59:59.999Z\""},
		{INT64_C(951782400000000), "\"2000-02-29T00:00:00.000Z\""},
		{INT64_C(1709164800000000), "\"2024-02-29T00:00:00.000Z\""},
		{INT64_C(1735689599000000), "\"2024-12-31T23:59:59.000Z\""},
		{INT64_C(4107542400000000), "\"2100-03-01T00:00:00.000Z\""},
		{INT64_C(253402300799999000), "\"9999-12-31T23:59:59.999Z\""},
		{INT64_C(253402300800000000), "undefined"},
		{-1, "undefined"},
	};
	struct rule_fixture *f = *state;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		f->in.received_at_us = times[i].us;
		assert_string_equal(rule_fixture_value(f, "received_at()"), times[i].text);
	}
	assert_string_equal(rule_fixture_value(f, "timestamp()"), "-1");
}

static void test_undefined_and_null(void **state)
{
	/* AWS */
	CHECK(state, {"isNull(5)", "false"}, {"isNull(null)", "true"}, {"isNull(missing)", "false"},
	      {"isUndefined(5)", "false"}, {"isUndefined(floor([1,2,3]))", "true"},
	      {"isUndefined(null)", "false"}, {"isUndefined(missing)", "true"},
	      {"isundefined(undefined)", "true"});
	/* AWS: nanvl */
	CHECK(state, {"nanvl(8, 3)", "8"}, {"nanvl(missing, 3)", "3"}, {"nanvl(null, 3)", "3"},
	      {"nanvl('x', 3)", "\"x\""});
	CHECK(state, {"coalesce(missing, null, 7, 8)", "7"}, {"coalesce(false, 1)", "false"},
	      {"coalesce(missing, null)", "null"}, {"coalesce(null, missing)", "undefined"},
	      {"nvl(missing, 'x')", "\"x\""}, {"get_or_default(missing, 0)", "0"});
}

static void test_typeof_names_the_type(void **state)
{
	rule_fixture_cbor(*state, "\xa1\x61\x62\x41\xff", 5);
	CHECK(state, {"typeof(missing)", "\"undefined\""}, {"typeof(null)", "\"null\""},
	      {"typeof(true)", "\"boolean\""}, {"typeof(1)", "\"int\""},
	      {"typeof(1.0)", "\"decimal\""}, {"typeof('1')", "\"string\""},
	      {"typeof(b)", "\"bytes\""}, {"typeof([])", "\"array\""},
	      {"typeof({})", "\"object\""});
}

static void test_cast(void **state)
{
	/* AWS: the example and the tables of cast() */
	CHECK(state, {"cast(true as Int)", "1"}, {"cast(5 as decimal)", "5.0"},
	      {"cast(2.5 as decimal)", "2.5"}, {"cast(false as decimal)", "0.0"},
	      {"cast('0' as decimal)", "0.0"}, {"cast('-1.2' as decimal)", "-1.2"},
	      {"cast('5E-12' as decimal)", "5e-12"}, {"cast([1] as decimal)", "undefined"},
	      {"cast({'a': 1} as decimal)", "undefined"}, {"cast(null as decimal)", "undefined"},
	      {"cast(missing as decimal)", "undefined"}, {"cast(2.9 as int)", "2"},
	      {"cast(-2.1 as int)", "-3"}, {"cast('2.9' as int)", "2"},
	      {"cast('x' as int)", "undefined"}, {"cast(0 as boolean)", "false"},
	      {"cast(7 as boolean)", "true"}, {"cast(0.0 as boolean)", "false"},
	      {"cast(0.1 as boolean)", "true"}, {"cast('TRUE' as boolean)", "true"},
	      {"cast('yes' as boolean)", "undefined"}, {"cast([] as boolean)", "undefined"},
	      {"cast(12 as string)", "\"12\""}, {"cast(1.5 as string)", "\"1.5\""},
	      {"cast(true as string)", "\"true\""},
	      {"cast([1, 'a', null] as string)", "\"[1,\\\"a\\\",null]\""},
	      {"cast({'a': 1.5} as string)", "\"{\\\"a\\\":1.5}\""},
	      {"cast(null as string)", "undefined"}, {"cast(missing as string)", "undefined"});
	CHECK(state, {"cast(1e30 as int)", "1e30"}, {"cast('12' as Integer)", "12"},
	      {"cast('x' as text)", "\"x\""}, {"cast('1' as Double)", "1.0"},
	      {"cast('99999999999999999999' as int)", "1e20"});
}

static void test_get(void **state)
{
	/* AWS */
	CHECK(state, {"get(['a', 'b', 'c'], 1)", "\"b\""}, {"get({'a': 'b'}, 'a')", "\"b\""},
	      {"get('abc', 0)", "\"a\""}, {"get(['a'], '0')", "\"a\""},
	      {"get(['a'], 1)", "undefined"}, {"get(['a'], -1)", "undefined"},
	      {"get('abc', 3)", "undefined"}, {"get({'a': 'b'}, 'b')", "undefined"},
	      {"get(5, 0)", "undefined"}, {"get(null, 'a')", "undefined"},
	      {"get(missing, 0)", "undefined"}, {"get(['a'], missing)", "undefined"},
	      {"get({'1': 'x'}, 1)", "\"x\""}, {"get({'1.5': 'x'}, 1.5)", "undefined"},
	      {"get('æøå', 1)", "\"ø\""});
	/* AWS, "JSON extensions" */
	rule_fixture_json(*state, "{\"mydata\":{\"item2\":{\"0\":{\"my-key\":\"myValue\"}}}}");
	CHECK(state, {"get(get(get(mydata, 'item2'), '0'), 'my-key')", "\"myValue\""});
}

static void test_rounding(void **state)
{
	/* AWS */
	CHECK(state, {"abs(-5)", "5"}, {"abs('-5.123')", "5.123"}, {"abs(true)", "undefined"},
	      {"abs(null)", "undefined"}, {"abs('x')", "undefined"}, {"ceil(1.2)", "2"},
	      {"ceil(-1.2)", "-1"}, {"ceil('1.2')", "2"}, {"floor(1.2)", "1"},
	      {"floor(-1.2)", "-2"}, {"floor([1, 2, 3])", "undefined"}, {"round(1.2)", "1"},
	      {"round(1.5)", "2"}, {"round(1.7)", "2"}, {"round(-1.1)", "-1"},
	      {"round(-1.5)", "-2"}, {"round('1.5')", "2"}, {"sign(-7)", "-1"}, {"sign(0)", "0"},
	      {"sign(13)", "1"}, {"sign('-0.5')", "-1"}, {"trunc(2.3, 0)", "2"},
	      {"trunc(2.3123, 2)", "2.31"}, {"trunc(2.888, 2)", "2.88"}, {"trunc(5, 3)", "5"});
	/* EMQX */
	CHECK(state, {"abs(-12)", "12"}, {"ceil(1.34)", "2"}, {"floor(1.34)", "1"},
	      {"round(1.34)", "1"}, {"round(1.54)", "2"});
	CHECK(state, {"round(21.456, 1)", "21.5"}, {"round(2.675, 2)", "2.68"},
	      {"round(-2.675, 2)", "-2.68"}, {"trunc(1.15, 2)", "1.15"},
	      {"trunc(-1.159, 2)", "-1.15"}, {"round(0.1, 15)", "0.1"},
	      {"round(1e300, 2)", "1e300"}, {"round(5e-324, 99)", "0.0"}, {"round(12.5, -1)", "13"},
	      {"round(12.5, 'x')", "undefined"},
	      {"abs(-9223372036854775808)", "9.223372036854776e18"},
	      {"floor(9223372036854775807)", "9223372036854775807"}, {"ceil(1e300)", "1e300"},
	      {"floor(-0.0)", "0"}, {"round(-0.2, 0)", "0"});
}

static void test_calculation(void **state)
{
	/* AWS */
	CHECK(state, {"acos(0)", "1.5707963267948966"}, {"asin(0)", "0.0"}, {"atan(0)", "0.0"},
	      {"atan2(1, 0)", "1.5707963267948966"}, {"cos(0)", "1.0"}, {"sin(0)", "0.0"},
	      {"tan(3)", "-0.1425465430742778"}, {"acos(2)", "undefined"},
	      {"exp(1)", "2.718281828459045"}, {"ln(exp(1))", "1.0"}, {"log(100)", "2.0"},
	      {"ln(0)", "undefined"}, {"log(-1)", "undefined"}, {"mod(8, 3)", "2"},
	      {"remainder(8, 3)", "2"}, {"mod(8, 0)", "undefined"}, {"power(2, 5)", "32.0"},
	      {"power('2', 5)", "32.0"}, {"power(2, 'x')", "undefined"}, {"sqrt(9)", "3.0"},
	      {"sqrt(-1)", "undefined"}, {"sqrt(null)", "undefined"});
	/* EMQX */
	CHECK(state, {"cos(1.5)", "0.0707372016677029"}, {"sin(0.5)", "0.479425538604203"},
	      {"tan(1.4)", "5.797883715482887"}, {"exp(10)", "22026.465794806718"},
	      {"sqrt(2)", "1.4142135623730951"}, {"fmod(-32, 5)", "-2"}, {"log10(1000)", "3.0"},
	      {"pow(2, 10)", "1024.0"});
	CHECK(state, {"exp(1000)", "undefined"}, {"power(10, 400)", "undefined"},
	      {"power(0, -1)", "undefined"}, {"mod(7.5, 2)", "1.5"}, {"mod(-7, 2)", "-1"});
}

static void test_least_and_greatest(void **state)
{
	rule_fixture_json(*state, "{\"t\":[3,1.5,2],\"none\":[],\"odd\":[1,\"x\"]}");
	CHECK(state, {"min(3, 1, 2)", "1"}, {"max(3, 1.5, 2)", "3"}, {"max(1, '7')", "7"},
	      {"min(t)", "1.5"}, {"max(t)", "3"}, {"max(t, 4)", "4"}, {"min(none)", "undefined"},
	      {"min(odd)", "undefined"}, {"min(1, missing)", "undefined"},
	      {"max(1, null)", "undefined"}, {"max(true)", "undefined"},
	      {"max(9007199254740993, 9007199254740992.0)", "9007199254740993"});
}

static void test_bits(void **state)
{
	/* AWS. Its page gives bitnot(13) as 2, and an example of bitxor under bitor's name. */
	CHECK(state, {"bitand(13, 5)", "5"}, {"bitor(8, 5)", "13"}, {"bitxor(13, 5)", "8"},
	      {"bitand(13.9, '5.5')", "5"}, {"bitor(1, 'x')", "undefined"}, {"bitnot(13)", "-14"},
	      {"bitand(true, 1)", "undefined"}, {"bitor(1e300, 1)", "undefined"});
}

static void test_joining_text(void **state)
{
	/* AWS: concat() */
	CHECK(state, {"concat(1)", "\"1\""}, {"concat([1, 2, 3], 4)", "[1,2,3,4]"},
	      {"concat([1, 2, 3], 'hello')", "[1,2,3,\"hello\"]"},
	      {"concat('con', 'cat')", "\"concat\""}, {"concat(1, 'hello')", "\"1hello\""},
	      {"concat('he', 'is', 'man')", "\"heisman\""},
	      {"concat([1, 2, 3], 'hello', [4, 5, 6])", "[1,2,3,\"hello\",4,5,6]"});
	CHECK(state, {"concat('a', 1.5, true)", "\"a1.5true\""}, {"concat('a', null)", "undefined"},
	      {"concat('a', missing)", "undefined"}, {"concat([1], missing)", "undefined"},
	      {"concat([1], null)", "[1,null]"}, {"concat('', '')", "\"\""},
	      {"concat('a', {'b': 1})", "\"a{\\\"b\\\":1}\""});
}

static void test_case_of_letters(void **state)
{
	/* AWS */
	CHECK(state, {"lower('HELLO')", "\"hello\""}, {"lower(['HELLO'])", "\"[\\\"hello\\\"]\""},
	      {"upper('hello')", "\"HELLO\""}, {"upper(['hello'])", "\"[\\\"HELLO\\\"]\""},
	      {"upper(null)", "undefined"});
	/* EMQX */
	CHECK(state, {"lower('AbC')", "\"abc\""}, {"upper('AbC')", "\"ABC\""});
	CHECK(state, {"upper('blåbærsyltetøy 1')", "\"BLÅBÆRSYLTETØY 1\""},
	      {"lower('ÅÆØ×Ž')", "\"åæø×ž\""}, {"upper('łódź')", "\"ŁÓDŹ\""},
	      {"lower('ΩЖЁ')", "\"ωжё\""}, {"upper('ωжё÷€ß')", "\"ΩЖЁ÷€ß\""});
}

static void test_length(void **state)
{
	/* AWS */
	CHECK(state, {"length('hi')", "2"}, {"length(false)", "5"}, {"numbytes('hi')", "2"},
	      {"numbytes('€')", "3"}, {"length(null)", "undefined"});
	/* EMQX */
	CHECK(state, {"length([1, 2, 3, 4])", "4"}, {"strlen('hello')", "5"});
	CHECK(state, {"length('€ø')", "2"}, {"length({'a': 1})", "1"}, {"length('')", "0"},
	      {"length(12.5)", "4"}, {"numbytes(missing)", "undefined"});
}

static void test_parts_of_text(void **state)
{
	/* AWS */
	CHECK(state, {"substring('012345', 0)", "\"012345\""},
	      {"substring('012345', 2)", "\"2345\""}, {"substring('012345', 2.745)", "\"2345\""},
	      {"substring(123, 2)", "\"3\""}, {"substring('012345', -1)", "\"012345\""},
	      {"substring(true, 1.2)", "\"rue\""}, {"substring(false, -2.411E247)", "\"false\""},
	      {"substring('012345', 1, 3)", "\"12\""},
	      {"substring('012345', -50, 50)", "\"012345\""},
	      {"substring('012345', 3, 1)", "\"\""});
	CHECK(state, {"substring('blåbær', 2, 5)", "\"åbæ\""}, {"substring('abc', 7)", "\"\""},
	      {"substring('abc', 1e300)", "\"\""}, {"substring('abc', null)", "undefined"},
	      {"substring('abc', 0, 'x')", "undefined"}, {"substring(null, 0)", "undefined"});
	/* AWS */
	CHECK(state, {"startswith('ranger', 'ran')", "true"}, {"endswith('cat', 'at')", "true"},
	      {"startswith('ran', 'ranger')", "false"}, {"endswith('at', 'cat')", "false"},
	      {"startswith(123, 12)", "true"}, {"startswith(null, 'a')", "undefined"},
	      {"endswith('a', missing)", "undefined"}, {"indexof('abcd', 'bc')", "1"});
	CHECK(state, {"indexof('abcd', 'x')", "-1"}, {"indexof('æøå', 'å')", "2"},
	      {"indexof('a', '')", "0"}, {"indexof(null, 'a')", "undefined"},
	      {"startswith('', '')", "true"}, {"endswith('abc', 'abc')", "true"});
}

static void test_replacing_and_spaces(void **state)
{
	/* AWS */
	CHECK(state, {"replace('abcd', 'bc', 'x')", "\"axd\""},
	      {"replace('abcdabcd', 'b', 'x')", "\"axcdaxcd\""}, {"trim(' hi ')", "\"hi\""},
	      {"ltrim(' h i ')", "\"h i \""}, {"rtrim(' h i ')", "\" h i\""},
	      {"lpad('hello', 2)", "\"  hello\""}, {"lpad(1, 3)", "\"   1\""},
	      {"rpad('hello', 2)", "\"hello  \""}, {"rpad(1, 3)", "\"1   \""},
	      {"lpad('a', 'x')", "undefined"}, {"chr(65)", "\"A\""}, {"chr(49)", "\"1\""},
	      {"chr(65.9)", "\"A\""}, {"chr('66')", "\"B\""});
	/* EMQX */
	CHECK(state, {"trim(' hello  ')", "\"hello\""}, {"ltrim(' hello  ')", "\"hello  \""},
	      {"rtrim(' hello  ')", "\" hello\""});
	CHECK(state, {"replace('aaa', 'a', '')", "\"\""}, {"replace('aaa', '', 'x')", "\"aaa\""},
	      {"replace('aaaa', 'aa', 'a')", "\"aa\""}, {"replace(null, 'a', 'b')", "undefined"},
	      {"trim('   ')", "\"\""}, {"lpad('a', -5)", "\"a\""},
	      {"length(rpad('a', 1e9))", "1001"}, {"chr(8364)", "\"€\""}, {"chr(128512)", "\"😀\""},
	      {"chr(0)", "undefined"}, {"chr(55296)", "undefined"}, {"chr(1114112)", "undefined"},
	      {"chr(-1)", "undefined"});
}

static void test_encoding(void **state)
{
	/* RFC 4648 section 10 */
	CHECK(state, {"encode('', 'base64')", "\"\""}, {"encode('f', 'base64')", "\"Zg==\""},
	      {"encode('fo', 'base64')", "\"Zm8=\""}, {"encode('foo', 'base64')", "\"Zm9v\""},
	      {"encode('foob', 'base64')", "\"Zm9vYg==\""},
	      {"encode('foobar', 'hex')", "\"666f6f626172\""},
	      {"decode('Zm9vYg==', 'base64')", "\"foob\""},
	      {"decode('Zm9vYmE=', 'base64')", "\"fooba\""},
	      {"decode('666F6f', 'hex')", "\"foo\""});
	CHECK(state, {"encode('f')", "\"Zg==\""}, {"base64_encode('f')", "\"Zg==\""},
	      {"base64_decode('Zg==')", "\"f\""},
	      {"encode('?~?~>>~?', 'base64')", "\"P34/fj4+fj8=\""},
	      {"encode('?~?~>>~?', 'base64url')", "\"P34_fj4-fj8\""},
	      {"decode('P34_fj4-fj8')", "\"?~?~>>~?\""}, {"encode('f', 'base64url')", "\"Zg\""},
	      {"decode('Zg')", "\"f\""}, {"encode(12, 'base64')", "\"MTI=\""},
	      {"encode(null)", "undefined"}, {"encode('f', 'rot13')", "undefined"},
	      {"encode('f', null)", "undefined"});
	/* AWS's example of decode(): the object is a text here */
	CHECK(state, {"decode('eyAidGVtcGVyYXR1cmUiOiAzMyB9Cg==', 'base64')",
		      "\"{ \\\"temperature\\\": 33 }\\n\""});
}

static void test_what_is_not_encoded_is_undefined(void **state)
{
	CHECK(state, {"decode('Z')", "undefined"}, {"decode('Zg=')", "undefined"},
	      {"decode('Zg===')", "undefined"}, {"decode('Z g=')", "undefined"},
	      {"decode('Zh==')", "undefined"}, {"decode('====')", "undefined"},
	      {"decode('=')", "undefined"}, {"decode('0', 'hex')", "undefined"},
	      {"decode('0x', 'hex')", "undefined"}, {"decode('')", "\"\""},
	      {"decode(null)", "undefined"});
}

static void test_bytes(void **state)
{
	rule_fixture_cbor(*state, "\xa1\x61\x62\x43\x00\xff\x80", 7);
	CHECK(state, {"b", "\"AP-A\""}, {"encode(b, 'base64')", "\"AP+A\""},
	      {"encode(b, 'hex')", "\"00ff80\""}, {"numbytes(b)", "3"},
	      {"typeof(decode('AP+A'))", "\"bytes\""}, {"decode('AP+A') = b", "true"},
	      {"typeof(decode('AA=='))", "\"bytes\""}, {"lower(b)", "\"ap-a\""},
	      {"b = 'AP-A'", "false"});
}

static void test_payload_as_it_came(void **state)
{
	rule_fixture_raw(*state, "\x00\xff raw", 6);
	CHECK(state, {"encode(*, 'base64')", "\"AP8gcmF3\""}, {"numbytes(*)", "6"},
	      {"encode(*, 'hex')", "\"00ff20726177\""},
	      {"encode(payload, 'hex')", "\"00ff20726177\""}, {"payload", "undefined"},
	      {"encode(x, 'base64')", "undefined"});
	/* AWS, "Working with binary payloads" */
	rule_fixture_raw(*state, "hello", 5);
	CHECK(state, {"decode(encode(*, 'base64'), 'base64')", "\"hello\""});
	rule_fixture_raw(*state, "", 0);
	CHECK(state, {"encode(*, 'base64')", "\"\""});
}

static void test_digests(void **state)
{
	/* AWS, and its example in "JSON extensions"; EMQX */
	CHECK(state, {"md5('hello')", "\"5d41402abc4b2a76b9719d911017c592\""},
	      {"md5('iot123')", "\"e37f81fb397e595c4aeb5645b8cbbbd1\""},
	      {"md5('some val')", "\"1b68352b3e9c2de52ffd322e30bffcc4\""},
	      {"sha('some val')", "\"f85ba28ff5ea84a0cbfa118319acb0c5e58ee2b9\""},
	      {"sha256('some val')",
	       "\"67f97635d8a0e064f60ba6e8846a0ac0be664f18f0c1dc6445cd3542d2b71993\""});
	/* FIPS 180-4's "abc" */
	CHECK(state, {"sha1('abc')", "\"a9993e364706816aba3e25717850c26c9cd0d89d\""},
	      {"sha512('abc')",
	       "\"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
	       "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f\""},
	      {"md5(null)", "undefined"}, {"sha256(missing)", "undefined"});
	rule_fixture_raw(*state, "hello", 5);
	CHECK(state, {"md5(*)", "\"5d41402abc4b2a76b9719d911017c592\""});
}

static void test_names_are_found_without_case_and_by_alias(void **state)
{
	(void)state;
	assert_string_equal(rule_function_find("ISundefined", 11)->name, "isUndefined");
	assert_string_equal(rule_function_find("clientid", 8)->name, "device");
	assert_null(rule_function_find("clienti", 7));
	assert_null(rule_function_find("device", 5));
	assert_null(rule_function_find("", 0));
}

static void test_misspelt_name_is_suggested(void **state)
{
	static const struct {
		const char *word, *name;
	} words[] = {
		{"flor", "floor"},
		{"lenght", "length"},
		{"startwith", "startswith"},
		{"SUBSTRIN", "substring"},
		{"clientd", "clientid"},
		{"xyzzy", NULL},
		{"ab", NULL},
		{"", NULL},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const char *found = rule_function_suggest(words[i].word, strlen(words[i].word));

		if (words[i].name)
			assert_string_equal(found, words[i].name);
		else
			assert_null(found);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rule_fixture_set_up, rule_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_message),
		TEST(test_empty_levels_of_a_topic_count),
		TEST(test_message_of_nobody_has_no_device),
		TEST(test_time_of_receipt_as_text),
		TEST(test_undefined_and_null),
		TEST(test_typeof_names_the_type),
		TEST(test_cast),
		TEST(test_get),
		TEST(test_rounding),
		TEST(test_calculation),
		TEST(test_least_and_greatest),
		TEST(test_bits),
		TEST(test_joining_text),
		TEST(test_case_of_letters),
		TEST(test_length),
		TEST(test_parts_of_text),
		TEST(test_replacing_and_spaces),
		TEST(test_encoding),
		TEST(test_what_is_not_encoded_is_undefined),
		TEST(test_bytes),
		TEST(test_payload_as_it_came),
		TEST(test_digests),
		TEST(test_names_are_found_without_case_and_by_alias),
		TEST(test_misspelt_name_is_suggested),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
