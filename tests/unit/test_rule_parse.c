/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule language as text: what is read as what, and every error with its words and place. What
 * values come out of it is test_rule_eval.c's and test_rule_docs.c's.
 *
 * LINK: -Wl,--wrap=malloc -Wl,--wrap=calloc
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rule/functions.h"
#include "core/rule/template.h"
#include "rule_same.h"

/* --- Starving it of memory --- */

static int allocations_left = -1; /* -1: as many as one likes */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static bool refuse_allocation(void)
{
	if (allocations_left < 0)
		return false;
	if (allocations_left == 0)
		return true;
	allocations_left--;
	return false;
}

void *__wrap_malloc(size_t size)
{
	return refuse_allocation() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return refuse_allocation() ? NULL : __real_calloc(count, size);
}

/* --- Helpers --- */

static struct rule_statement *parse(const char *text)
{
	struct rule_statement *s = NULL;
	char err[RULE_WHY_MAX];

	if (rule_parse(&s, "hot", text, strlen(text), err, sizeof(err)) != 0)
		fail_msg("%s\n  %s", text, err);
	return s;
}

/* The canonical form is this, and this is its own canonical form and the same statement. */
static void prints(const char *text, const char *canonical)
{
	struct rule_statement *s = parse(text), *again = parse(canonical);
	char *first = rule_print(s), *second = rule_print(again);

	assert_string_equal(first, canonical);
	assert_string_equal(second, canonical);
	if (!rule_same_statement(s, again))
		fail_msg("not the same: %s", text);
	free(first);
	free(second);
	rule_free(s);
	rule_free(again);
}

static void refuses(const char *text, const char *expected)
{
	struct rule_statement *s = NULL;
	char err[RULE_WHY_MAX] = "", whole[RULE_WHY_MAX];
	int rc = rule_parse(&s, "hot", text, strlen(text), err, sizeof(err));

	snprintf(whole, sizeof(whole), "rule 'hot': %s", expected);
	if (rc == 0)
		fail_msg("accepted: %s", text);
	assert_int_equal(rc, -EINVAL);
	assert_string_equal(err, whole);
	assert_null(s);
}

/* Expressions, so that a test need not write a statement around each. */

static void where_prints(const char *expression, const char *canonical)
{
	char a[4096], b[4096];

	snprintf(a, sizeof(a), "SELECT * FROM 't' WHERE %s", expression);
	snprintf(b, sizeof(b), "SELECT * FROM 't' WHERE %s", canonical);
	prints(a, b);
}

static void where_is(const char *expression)
{
	where_prints(expression, expression);
}

/* The column is counted from the beginning of the expression. */
static void where_refuses(const char *expression, unsigned column, const char *expected)
{
	static const char before[] = "SELECT * FROM 't' WHERE ";
	char text[4096], message[RULE_WHY_MAX];

	snprintf(text, sizeof(text), "%s%s", before, expression);
	snprintf(message, sizeof(message), "line 1, column %zu: %s", sizeof(before) - 1 + column,
		 expected);
	refuses(text, message);
}

/* Parentheses may be added so without a change. */
static void where_same(const char *expression, const char *with_parentheses)
{
	char a[512], b[512];
	struct rule_statement *s, *t;

	snprintf(a, sizeof(a), "SELECT * FROM 't' WHERE %s", expression);
	snprintf(b, sizeof(b), "SELECT * FROM 't' WHERE %s", with_parentheses);
	s = parse(a);
	t = parse(b);
	if (!rule_same_statement(s, t))
		fail_msg("%s is not %s", expression, with_parentheses);
	rule_free(s);
	rule_free(t);
}

static void field_is_called(const char *expression, const char *alias)
{
	char text[512];
	struct rule_statement *s;

	snprintf(text, sizeof(text), "SELECT %s FROM 't'", expression);
	s = parse(text);
	assert_int_equal(s->field_count, 1);
	assert_string_equal(s->fields[0].alias, alias);
	assert_int_equal(s->fields[0].alias_len, strlen(alias));
	rule_free(s);
}

/* n times the same text. */
static char *repeated(const char *part, size_t n)
{
	size_t len = strlen(part);
	char *s = malloc(n * len + 1);

	assert_non_null(s);
	for (size_t i = 0; i < n; i++)
		memcpy(s + i * len, part, len);
	s[n * len] = '\0';
	return s;
}

/* `before`, n times `part`, `after`: 0 or the error, without what was before the position. */
static int parse_repeated(const char *before, const char *part, size_t n, const char *after,
			  char *err)
{
	char *middle = repeated(part, n), *text;
	struct rule_statement *s = NULL;
	int rc;

	assert_true(asprintf(&text, "%s%s%s", before, middle, after) >= 0);
	rc = rule_parse(&s, "hot", text, strlen(text), err, RULE_WHY_MAX);
	rule_free(s);
	free(middle);
	free(text);
	return rc;
}

/* --- Statements --- */

static void test_words_are_read_without_case_and_printed_in_capitals(void **state)
{
	(void)state;
	prints("select a as b from 't' where a and not b or c in (1) and d between 1 and 2",
	       "SELECT a AS b FROM 't' WHERE a AND NOT b OR c IN (1) AND d BETWEEN 1 AND 2");
	prints("Select cAsE wHen True Then Null Else Undefined eNd As x From 't'",
	       "SELECT CASE WHEN true THEN null ELSE undefined END AS x FROM 't'");
}

static void test_spaces_and_line_breaks_mean_nothing(void **state)
{
	(void)state;
	prints("\tSELECT\r\n  a,b\nFROM't'WHERE(a>1)AND b  <  2\n;\n",
	       "SELECT a, b FROM 't' WHERE a > 1 AND b < 2");
}

static void test_select_has_fields_and_everything(void **state)
{
	(void)state;
	prints("SELECT * FROM 't'", "SELECT * FROM 't'");
	prints("SELECT *, a, b AS c FROM 't'", "SELECT *, a, b AS c FROM 't'");
	prints("SELECT a, * FROM 't'", "SELECT a, * FROM 't'");
	refuses("SELECT *, * FROM 't'", "line 1, column 11: '*' is there already");
	refuses("SELECT * AS x FROM 't'",
		"line 1, column 10: '*' has no name of its own: write payload AS name");
	refuses("SELECT FROM 't'",
		"line 1, column 8: expected a value after 'SELECT', found 'FROM'");
	refuses("SELECT a, FROM 't'",
		"line 1, column 11: expected a value after ',', found 'FROM'");
	refuses("SELECT a b FROM 't'",
		"line 1, column 10: expected AS, ',' or FROM after 'a', found 'b'");
	refuses("SELECT a AS b c FROM 't'",
		"line 1, column 15: expected ',' or FROM after 'b', found 'c'");
	refuses("SELECT a", "line 1, column 9: expected AS, ',' or FROM after 'a'");
}

static void test_from_has_one_topic_filter_in_either_quotes(void **state)
{
	struct rule_statement *s = parse("SELECT * FROM \"m/d/+/d2c/#\"");

	(void)state;
	assert_string_equal(rule_filter(s), "m/d/+/d2c/#");
	rule_free(s);
	prints("SELECT * FROM \"a\"\"b'c\"", "SELECT * FROM 'a\"b''c'");
	refuses("SELECT * FROM t",
		"line 1, column 15: expected a topic filter in quotes after 'FROM', found 't'");
	refuses("SELECT * FROM",
		"line 1, column 14: expected a topic filter in quotes after 'FROM'");
	refuses("SELECT * FROM 'a', 'b'",
		"line 1, column 18: a rule has one topic filter: make a rule of each");
}

static void test_what_is_no_topic_filter_is_refused(void **state)
{
	static const char *const bad[] = {"", "a/#/b", "a+", "+a/b", "a/b#", "##"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "SELECT * FROM '%s'", bad[i]);
		refuses(text, "line 1, column 15: this is no topic filter: '+' is a whole level, "
			      "'#' the whole last one");
	}
	refuses("SELECT * FROM 'm/d/${device}/d2c'",
		"line 1, column 15: nothing is filled in here: write '+' and compare with device() "
		"or topic(n)");
	refuses("SELECT * FROM '$share/g/m/#'",
		"line 1, column 15: a rule sees every message: leave out $share/<group>/");
	refuses("SELECT * FROM \"$events/client_connected\"",
		"line 1, column 15: EMQX's events are not here; presence is on "
		"m/presence/<device>");
}

static void test_nothing_stands_behind_the_statement(void **state)
{
	(void)state;
	prints("SELECT * FROM 't';", "SELECT * FROM 't'");
	refuses("SELECT * FROM 't' x",
		"line 1, column 19: expected WHERE or the end after 't', found 'x'");
	refuses("SELECT * FROM 't' WHERE a b",
		"line 1, column 27: expected the end after 'a', found 'b'");
	refuses("SELECT * FROM 't'; SELECT * FROM 'u'",
		"line 1, column 20: expected WHERE or the end after ';', found 'SELECT'");
	refuses("SELECT * FROM 't' WHERE", "line 1, column 24: expected a value after 'WHERE'");
	refuses("", "line 1, column 1: expected SELECT");
	refuses("  \n ", "line 2, column 2: expected SELECT");
	refuses("INSERT INTO t", "line 1, column 1: expected SELECT, found 'INSERT'");
}

static void test_fields_are_called_as_what_they_come_from(void **state)
{
	(void)state;
	field_is_called("a", "a");
	field_is_called("a.b.c", "c");
	field_is_called("a.b[0][1]", "b");
	field_is_called("\"odd name\"", "odd name");
	field_is_called("payload", "payload");
	field_is_called("payload.a", "a");
	field_is_called("UPPER(a)", "upper");
	field_is_called("clientid()", "clientid");
	field_is_called("get(a, 'b')", "b");
	field_is_called("get(a, 0)", "a");
	field_is_called("get(get(a.list, 0), 'v')", "v");
	field_is_called("coalesce(a, b).v[0]", "v");
	field_is_called("get(a, b)", "get");
	field_is_called("a AS b", "b");
	field_is_called("a AS \"odd \"\"name\"", "odd \"name");
	prints("SELECT clientid() FROM 't'", "SELECT device() AS clientid FROM 't'");
}

static void test_what_has_no_name_needs_one(void **state)
{
	(void)state;
	refuses("SELECT 1 FROM 't'",
		"line 1, column 10: expected AS and a name after '1', found 'FROM'");
	refuses("SELECT a + b FROM 't'",
		"line 1, column 14: expected AS and a name after 'b', found 'FROM'");
	refuses("SELECT a AS FROM 't'",
		"line 1, column 13: expected a name (a word of the language is put in quotes) "
		"after 'AS', found 'FROM'");
	refuses("SELECT a AS 'b' FROM 't'",
		"line 1, column 13: expected a name after 'AS', found 'b'");
	refuses("SELECT a AS b.c FROM 't'", "line 1, column 14: AS takes one name; an object "
					    "inside is written {'name': value}");
	prints("SELECT 1 AS \"from\" FROM 't'", "SELECT 1 AS \"from\" FROM 't'");
}

static void test_two_fields_of_one_name_are_refused(void **state)
{
	(void)state;
	refuses("SELECT a.x, b.x FROM 't'",
		"line 1, column 13: two fields are called 'x': rename one with AS");
	refuses("SELECT abs(a), abs(b) FROM 't'",
		"line 1, column 16: two fields are called 'abs': rename one with AS");
	prints("SELECT a.x, b.x AS y, X FROM 't'", "SELECT a.x, b.x AS y, X FROM 't'");
}

/* --- Values --- */

static void test_paths_have_names_and_indexes(void **state)
{
	(void)state;
	where_is("a.b.c");
	where_is("a[0][12].b");
	where_is("_a1.B_2");
	where_is("\"odd name\".\"\"\"\".\"\"[1]");
	where_prints("\"plain\".\"a1\"", "plain.a1");
	where_prints("a . b [ 0 ]", "a.b[0]");
	where_is("\"gr\303\274n\"");
}

static void test_words_of_the_language_are_names_in_quotes_and_after_dots(void **state)
{
	(void)state;
	where_is("\"from\".from.select.\"a b\".null");
	where_is("a.End");
	where_is("\"END\"");
	where_refuses("from.a", 1, "expected a value after 'WHERE', found 'from'");
	where_refuses("end", 1, "expected a value after 'WHERE', found 'end'");
}

static void test_paths_that_are_none(void **state)
{
	(void)state;
	where_refuses("a.", 3, "expected a name after '.'");
	where_refuses("a.1", 3, "expected a name after '.', found '1'");
	where_refuses("a.'b'", 3, "expected a name after '.', found 'b'");
	where_refuses("a[]", 3,
		      "expected a whole number from 0 on (get(list, x) takes any expression) after "
		      "'[', found ']'");
	where_refuses("a[-1]", 3,
		      "expected a whole number from 0 on (get(list, x) takes any expression) after "
		      "'[', found '-'");
	where_refuses("a[1.0]", 3,
		      "expected a whole number from 0 on (get(list, x) takes any expression) after "
		      "'[', found '1.0'");
	where_refuses("a[b]", 3,
		      "expected a whole number from 0 on (get(list, x) takes any expression) after "
		      "'[', found 'b'");
	where_refuses("a[99999999999999999999]", 3, "no array has an index like this");
	where_refuses("a[1e3]", 3, "no array has an index like this");
	where_refuses("a[0", 4, "expected ']' after '0'");
}

static void test_payload_is_the_payload_itself(void **state)
{
	(void)state;
	where_prints("payload.a.b > 1", "a.b > 1");
	where_is("payload");
	where_prints("payload[0].v", "get(get(payload, 0), 'v')");
	where_prints("payload.\"odd name\"", "\"odd name\"");
	where_is("\"payload\".a");
	where_prints("payload.payload.a", "\"payload\".a");
	where_prints("\"payload\"", "\"payload\"");
	where_is("Payload.a");
	where_is("a.payload");
	where_refuses("payload.", 9, "expected a name after '.'");
}

static void test_numbers(void **state)
{
	(void)state;
	where_is("[0, 12, 9223372036854775807, 1.5, 0.1, -3, -1.5]");
	where_is("-9223372036854775808");
	where_prints("007", "7");
	where_prints("1.50", "1.5");
	where_prints("[1E3, 1e+3, 25e-2]", "[1000.0, 1000.0, 0.25]");
	where_prints("[9223372036854775808, -9223372036854775809]",
		     "[9.223372036854776e18, -9.223372036854776e18]");
	where_prints("-0", "0");
	where_is("-0.0");
	where_refuses("1.", 2, "expected a digit after the decimal point");
	where_refuses("1.e5", 2, "expected a digit after the decimal point");
	where_refuses("1e", 2, "expected an exponent's digits after 'e'");
	where_refuses("1e+", 2, "expected an exponent's digits after 'e'");
	where_refuses(".5", 1, "expected a value after 'WHERE', found '.'");
	where_refuses("1e400", 1, "the number is too large");
	where_refuses("-1e400", 1, "the number is too large");
	where_refuses("2nd", 1, "a name that begins with a digit is written in double quotes");
}

static void test_a_number_of_many_digits_is_still_one(void **state)
{
	char err[RULE_WHY_MAX];

	(void)state;
	assert_int_equal(parse_repeated("SELECT 0.", "1", 300, " AS x FROM 't'", err), 0);
	assert_int_equal(parse_repeated("SELECT ", "0", 5000, "1 AS x FROM 't'", err), 0);
	assert_int_equal(parse_repeated("SELECT 0.", "1", 500, " AS x FROM 't'", err), -EINVAL);
	assert_string_equal(err, "rule 'hot': line 1, column 8: a number of more than 400 digits");
}

static void test_texts(void **state)
{
	(void)state;
	where_is("a = ''");
	where_is("a = 'it''s'");
	where_is("a = ''''");
	where_is("a = 'back\\slash \"double\" \303\274\n line'");
	where_refuses("a = 'it's'", 9, "expected the end after 'it', found 's'");
	where_refuses("a = 'x", 5, "the text that begins here has no closing '");
	where_refuses("a = 'x''", 5, "the text that begins here has no closing '");
	where_refuses("a = \"x", 5, "the name that begins here has no closing \"");
}

static void test_what_is_no_utf8_is_refused(void **state)
{
	struct rule_statement *s = NULL;
	char err[RULE_WHY_MAX];

	(void)state;
	where_refuses("a = '\303\274\377'", 7, "the text is not UTF-8, or has a NUL in it");
	assert_int_equal(rule_parse(&s, "hot", "SELECT\0", 7, err, sizeof(err)), -EINVAL);
	assert_string_equal(err,
			    "rule 'hot': line 1, column 7: the text is not UTF-8, or has a NUL "
			    "in it");
}

static void test_arrays_and_objects(void **state)
{
	(void)state;
	where_is("[]");
	where_is("{}");
	where_is("[a, [1, 'x'], {'k': [null]}, a + 1, a OR b]");
	where_prints("{\"a\": 1, 'b''c':{}}", "{'a': 1, 'b''c': {}}");
	where_refuses("[a b]", 4, "expected ',' or ']' after 'a', found 'b'");
	where_refuses("[a,]", 4, "expected a value after ',', found ']'");
	where_refuses("[", 2, "expected a value after '['");
	where_refuses("{a: 1}", 2, "expected a key in quotes after '{', found 'a'");
	where_refuses("{'a' 1}", 6, "expected ':' after 'a', found '1'");
	where_refuses("{'a': 1", 8, "expected ',' or '}' after '1'");
	where_refuses("{'a': 1, \"a\": 2}", 10, "the object has this key already");
}

/* --- Calls --- */

static void test_calls(void **state)
{
	(void)state;
	where_is("topic(2) = device()");
	where_prints("ISNULL ( a )", "isNull(a)");
	where_prints("clientid() = 'x'", "device() = 'x'");
	where_is("concat(a, 'x', 1, [b])");
	where_is("abs(abs(a) - 1)");
}

static void test_wrong_calls(void **state)
{
	(void)state;
	where_refuses("abs()", 1, "abs() takes 1 argument, not 0");
	where_refuses("1 + abs(a, b)", 5, "abs() takes 1 argument, not 2");
	where_refuses("topic(1, 2)", 1, "topic() takes 0 or 1 arguments, not 2");
	where_refuses("startswith(a)", 1, "startswith() takes 2 arguments, not 1");
	where_refuses("substring(a)", 1, "substring() takes 2 or 3 arguments, not 1");
	where_refuses("nosuchthing(a)", 1, "there is no function nosuchthing()");
	where_refuses("abs(a b)", 7, "expected ',' or ')' after 'a', found 'b'");
	where_refuses("abs(a", 6, "expected ',' or ')' after 'a'");
	where_refuses("abs(", 5, "expected a value after '('");
	where_refuses("abs(a,)", 7, "expected a value after ',', found ')'");
}

static void test_a_misspelt_function_gets_a_suggestion(void **state)
{
	(void)state;
	where_refuses("uper(a) = 'X'", 1, "there is no function uper(); do you mean upper()?");
	where_refuses("startwith(a, 'b')", 1,
		      "there is no function startwith(); do you mean startswith()?");
}

static void test_the_payload_as_it_came_is_a_star(void **state)
{
	(void)state;
	where_is("encode(*, 'base64') = ''");
	where_prints("encode(payload, 'base64')", "encode(*, 'base64')");
	where_refuses("abs(*)", 5, "abs() does not take '*' (the payload is called payload)");
	where_refuses("encode('a', *)", 13, "encode() does not take '*' here");
	where_refuses("a = *", 5,
		      "expected a value (the payload is called payload) after '=', found '*'");
}

static void test_casts(void **state)
{
	(void)state;
	where_is("cast(a AS int)");
	where_prints("CAST(a + 1 as Decimal)", "cast(a + 1 AS decimal)");
	where_prints("cast(a, 'String')", "cast(a AS string)");
	where_refuses("cast(a AS date)", 11,
		      "expected a type (boolean, decimal, int or string) after 'AS', found 'date'");
	where_refuses("cast(a)", 1, "cast() takes 2 arguments, not 1");
	where_refuses("abs(a AS int)", 7, "expected ',' or ')' after 'a', found 'AS'");
}

static void test_names_and_indexes_behind_anything_but_a_path_are_get(void **state)
{
	(void)state;
	where_prints("coalesce(a, b).c.d[0]", "get(get(get(coalesce(a, b), 'c'), 'd'), 0)");
	where_prints("[1, 2][0]", "get([1, 2], 0)");
	where_prints("{'a': 1}.a", "get({'a': 1}, 'a')");
	where_prints("(a).b", "get(a, 'b')");
	where_prints("CASE WHEN a THEN b END.c", "get(CASE WHEN a THEN b END, 'c')");
	where_prints("abs(a).\"odd name\"", "get(abs(a), 'odd name')");
}

/* --- Operators --- */

static void test_every_operator_is_read_and_printed(void **state)
{
	(void)state;
	where_is("a OR b");
	where_is("a AND b");
	where_is("NOT a");
	where_is("a = b");
	where_is("a <> b");
	where_prints("a != b", "a <> b");
	where_is("a < b");
	where_is("a <= b");
	where_is("a > b");
	where_is("a >= b");
	where_is("a + b");
	where_is("a - b");
	where_is("a * b");
	where_is("a / b");
	where_is("a % b");
	where_is("-a");
	where_is("a IN (1)");
	where_is("a NOT IN (1, 'x', b + 1)");
	where_is("a BETWEEN 1 AND 2");
	where_is("a NOT BETWEEN b + 1 AND -c");
	where_is("a LIKE 'x%'");
	where_is("a NOT LIKE b + '%'");
}

static void test_what_holds_together_more_tightly_needs_no_parentheses(void **state)
{
	(void)state;
	where_same("a OR b AND c", "a OR (b AND c)");
	where_same("a AND NOT b AND c", "(a AND (NOT b)) AND c");
	where_same("NOT a = b", "NOT (a = b)");
	where_same("NOT a IN (1) OR b", "(NOT (a IN (1))) OR b");
	where_same("a + 1 = b * 2", "(a + 1) = (b * 2)");
	where_same("a + b * c", "a + (b * c)");
	where_same("a - b + c - d", "((a - b) + c) - d");
	where_same("a / b * c % d", "((a / b) * c) % d");
	where_same("-a * b", "(-a) * b");
	where_same("- a.b", "-(a.b)");
	where_same("a + 1 IN (1)", "(a + 1) IN (1)");
	where_same("a BETWEEN b + 1 AND c * 2 AND d", "(a BETWEEN (b + 1) AND (c * 2)) AND d");
	where_same("a LIKE 'x' + b AND c", "(a LIKE ('x' + b)) AND c");
	where_same("a OR b OR c", "(a OR b) OR c");
}

static void test_parentheses_are_printed_only_where_the_tree_needs_them(void **state)
{
	(void)state;
	where_prints("((a) AND (b)) AND ((c))", "a AND b AND c");
	where_is("a AND (b AND c)");
	where_is("(a OR b) AND c");
	where_is("NOT (a OR b)");
	where_prints("NOT (a = b)", "NOT a = b");
	where_is("(NOT a) = b");
	where_is("a = (b = c)");
	where_is("(a = b) = c");
	where_is("a - (b - c)");
	where_is("a * (b + c)");
	where_is("-(a + b)");
	where_is("- -a");
	where_is("- -1");
	where_is("-(1)");
	where_is("a - -1");
	where_prints("a - (-b)", "a - -b");
	where_is("(a IN (1)) IN (true)");
	where_is("(a OR b) BETWEEN (c = d) AND (NOT e)");
	where_is("(a LIKE b) LIKE (c LIKE d)");
	where_is("CASE a OR b WHEN c OR d THEN e OR f ELSE g OR h END OR i");
}

static void test_comparisons_do_not_follow_one_another(void **state)
{
	(void)state;
	where_refuses("1 < x < 5", 7, "a comparison of a comparison needs parentheses");
	where_refuses("a = b = c", 7, "a comparison of a comparison needs parentheses");
	where_refuses("a IN (1) = true", 10, "a comparison of a comparison needs parentheses");
	where_refuses("a = b IN (1)", 7, "a comparison of a comparison needs parentheses");
	where_refuses("a LIKE b NOT LIKE c", 10, "a comparison of a comparison needs parentheses");
	where_refuses("a BETWEEN 1 AND 2 BETWEEN 3 AND 4", 19,
		      "a comparison of a comparison needs parentheses");
	where_is("a < b AND b < c");
}

static void test_in_takes_a_list_or_an_array(void **state)
{
	(void)state;
	where_is("a IN [1, 2]");
	where_is("a IN b.list[0]");
	where_is("a NOT IN coalesce(b, [])");
	where_is("a IN payload");
	where_is("a IN \"payload\"");
	where_is("a IN CASE WHEN b THEN c END");
	where_prints("a IN ((b))", "a IN (b)");
	where_refuses("a IN", 5, "expected '(', '[' or the name of an array after 'IN'");
	where_refuses("a IN 5", 6,
		      "expected '(', '[' or the name of an array after 'IN', found '5'");
	where_refuses("a IN 'x'", 6,
		      "expected '(', '[' or the name of an array after 'IN', found 'x'");
	where_refuses("a IN ()", 7, "expected a value after '(', found ')'");
	where_refuses("a IN (1", 8, "expected ',' or ')' after '1'");
	where_refuses("a NOT b", 7, "expected IN, BETWEEN or LIKE after 'NOT', found 'b'");
}

static void test_between_needs_its_and(void **state)
{
	(void)state;
	where_refuses("a BETWEEN 1", 12, "expected AND between the two ends after '1'");
	where_refuses("a BETWEEN 1 OR 2", 13,
		      "expected AND between the two ends after '1', found 'OR'");
	where_refuses("a BETWEEN 1 AND", 16, "expected a value after 'AND'");
}

static void test_case_of_both_forms(void **state)
{
	(void)state;
	where_is("CASE a WHEN 1 THEN 'x' WHEN 2 THEN 'y' ELSE 'z' END");
	where_is("CASE WHEN a > 1 THEN 'x' END");
	where_is("CASE CASE WHEN a THEN b END WHEN c THEN CASE d WHEN e THEN f END END");
	where_refuses("CASE END", 6, "expected a value after 'CASE', found 'END'");
	where_refuses("CASE a END", 8, "expected WHEN after 'a', found 'END'");
	where_refuses("CASE WHEN a 1", 13, "expected THEN after 'a', found '1'");
	where_refuses("CASE WHEN a THEN 1", 19, "expected WHEN, ELSE or END after '1'");
	where_refuses("CASE WHEN a THEN 1 ELSE 2", 26, "expected END after '2'");
	where_refuses("CASE WHEN a THEN 1 ELSE 2 WHEN", 27, "expected END after '2', found 'WHEN'");
}

static void test_a_value_is_missing(void **state)
{
	(void)state;
	where_refuses("a >", 4, "expected a value after '>'");
	where_refuses("a > AND b", 5, "expected a value after '>', found 'AND'");
	where_refuses("a + ", 5, "expected a value after '+'");
	where_refuses("(a", 3, "expected ')' after 'a'");
	where_refuses("(a b)", 4, "expected ')' after 'a', found 'b'");
	where_refuses("()", 2, "expected a value after '(', found ')'");
	where_refuses("a)", 2, "expected the end after 'a', found ')'");
	where_refuses("NOT", 4, "expected a value after 'NOT'");
	where_refuses("a = NOT b", 5,
		      "expected a value (NOT is put in parentheses here) after '=', found 'NOT'");
	where_refuses("-", 2, "expected a value after '-'");
}

static void test_errors_name_line_and_column(void **state)
{
	(void)state;
	refuses("SELECT device(), t FROM 'a' WHERE t >",
		"line 1, column 38: expected a value after '>'");
	refuses("SELECT *\nFROM 'm/d/+/d2c'\nWHERE temp >\n  AND x",
		"line 4, column 3: expected a value after '>', found 'AND'");
	/* Columns are characters, not bytes. */
	where_refuses("'\303\274\303\274' = \"\303\274", 8,
		      "the name that begins here has no closing \"");
}

/* --- Other dialects --- */

static void test_signs_of_other_dialects_are_explained(void **state)
{
	(void)state;
	where_refuses("a == 1", 3, "'==': equal is written =");
	where_refuses("a && b", 3, "'&&': write AND");
	where_refuses("a || b", 3, "'||': write OR, or concat() for texts");
	where_refuses("!a", 1, "'!': write NOT, or <> for not equal");
	where_refuses("a --1", 3,
		      "'--': there are no comments; a negative number after '-' needs a space");
	where_refuses("a /* b */", 3, "'/*': there are no comments");
	where_refuses("topic =~ 't/#'", 7, "'=~': write LIKE, or a topic filter after FROM");
	where_refuses("@x = 1", 1, "'@': AWS's variables are not part of this language");
	where_refuses("`a`", 1, "'`': names with odd characters are written in double quotes");
	where_refuses("a ^ b", 3, "'^' has no meaning here");
	where_refuses(
		"gr\303\274n", 3,
		"'\303\274': names with other characters than A-Z, a-z, 0-9 and _ are written "
		"in double quotes");
}

static void test_words_of_other_dialects_are_explained(void **state)
{
	(void)state;
	where_refuses("a mod 2 = 0", 3,
		      "expected the end after 'a', found 'mod': the remainder is written a % b");
	where_refuses("a IS NULL", 3,
		      "expected the end after 'a', found 'IS': write isNull(x) or isUndefined(x)");
	where_refuses("a LIKE 'b' ESCAPE '!'", 12,
		      "expected the end after 'b', found 'ESCAPE': LIKE has no ESCAPE");
	refuses("SELECT a FROM 't' GROUP BY a", "line 1, column 19: expected WHERE or the end "
						"after 't', found 'GROUP': a rule sees "
						"one message, so there is no GROUP BY");
	refuses("SET @x = 1 SELECT * FROM 't'",
		"line 1, column 1: expected SELECT, found 'SET': AWS's SET is not part of this "
		"language");
	refuses("FOREACH payload.sensors FROM 't'",
		"line 1, column 1: expected SELECT, found 'FOREACH': EMQX's FOREACH is not part of "
		"this language");
}

static void test_what_aws_has_and_we_have_not_says_so(void **state)
{
	(void)state;
	refuses("SELECT VALUE color FROM 't'",
		"line 1, column 8: SELECT VALUE is AWS's and not part of this language");
	refuses("SELECT VALUE * FROM 't'",
		"line 1, column 8: SELECT VALUE is AWS's and not part of this language");
	prints("SELECT value, value * 2 AS b, value.c, [value] AS d FROM 't'",
	       "SELECT value, value * 2 AS b, value.c, [value] AS d FROM 't'");
	refuses("SELECT (SELECT v FROM e) AS x FROM 't'",
		"line 1, column 9: a SELECT in a SELECT is AWS's and not part of this language; "
		"list[0].x and get() reach into arrays");
	refuses("SELECT get((SELECT v FROM e WHERE n = 'temperature'), 0).v as x FROM 't'",
		"line 1, column 13: a SELECT in a SELECT is AWS's and not part of this language; "
		"list[0].x and get() reach into arrays");
	where_refuses("aws_lambda('arn', {})", 1,
		      "aws_lambda() is AWS's and not part of this language");
	where_refuses("EXISTS (SELECT * FROM e)", 1,
		      "EXISTS() is AWS's and not part of this language");
	where_refuses("machinelearning_predict('m', 'arn', *)", 1,
		      "machinelearning_predict() is AWS's and not part of this language");
}

/* The statements of AWS's and EMQX's own pages. */
static void test_published_examples_are_understood(void **state)
{
	(void)state;
	prints("SELECT color AS rgb FROM 'topic/subtopic' WHERE temperature > 50",
	       "SELECT color AS rgb FROM 'topic/subtopic' WHERE temperature > 50");
	prints("SELECT *, 15 as speed FROM 'topic/subtopic'",
	       "SELECT *, 15 AS speed FROM 'topic/subtopic'");
	prints("SELECT color.red as red_value FROM 'topic/subtopic'",
	       "SELECT color.red AS red_value FROM 'topic/subtopic'");
	prints("SELECT color AS my_color FROM 'topic/subtopic' WHERE temperature > 50 AND color <> "
	       "'red'",
	       "SELECT color AS my_color FROM 'topic/subtopic' WHERE temperature > 50 AND color <> "
	       "'red'");
	prints("SELECT {'latitude': get(lat_long, 0),'longitude':get(lat_long, 1)} as lat_long "
	       "FROM "
	       "'topic/subtopic'",
	       "SELECT {'latitude': get(lat_long, 0), 'longitude': get(lat_long, 1)} AS lat_long "
	       "FROM 'topic/subtopic'");
	prints("SELECT CASE color\n WHEN 'green' THEN 'go'\n WHEN 'red' THEN 'stop'\n ELSE 'you "
	       "are "
	       "not at a stop light' END as instructions\n FROM 'topic/subtopic'",
	       "SELECT CASE color WHEN 'green' THEN 'go' WHEN 'red' THEN 'stop' ELSE 'you are not "
	       "at a stop light' END AS instructions FROM 'topic/subtopic'");
	prints("SELECT decode(encode(*, 'base64'), 'base64') AS value FROM 'topic/subtopic' WHERE "
	       "decode(encode(*, 'base64'), 'base64') > 50",
	       "SELECT decode(encode(*, 'base64'), 'base64') AS value FROM 'topic/subtopic' WHERE "
	       "decode(encode(*, 'base64'), 'base64') > 50");
	prints("SELECT get(payload.vals,0).val AS VAL FROM 'TestRule'",
	       "SELECT get(get(vals, 0), 'val') AS VAL FROM 'TestRule'");
	prints("SELECT a, b FROM \"t/#\"", "SELECT a, b FROM 't/#'");
	prints("SELECT payload.x as x FROM \"t/#\" WHERE payload.x = 1",
	       "SELECT x AS x FROM 't/#' WHERE x = 1");
	refuses("SELECT clientid, payload.clientid as myclientid FROM \"t/#\", \"my/other/topic\"",
		"line 1, column 59: a rule has one topic filter: make a rule of each");
	refuses("SELECT peername as ip_port FROM \"$events/client_connected\" WHERE clientid = "
		"'c1'",
		"line 1, column 33: EMQX's events are not here; presence is on "
		"m/presence/<device>");
}

/* --- Limits --- */

static void test_a_statement_has_a_greatest_length(void **state)
{
	char err[RULE_WHY_MAX];
	size_t room = RULE_TEXT_MAX - strlen("SELECT '' AS x FROM 't'");

	(void)state;
	assert_int_equal(parse_repeated("SELECT '", "x", room, "' AS x FROM 't'", err), 0);
	assert_int_equal(parse_repeated("SELECT '", "x", room + 1, "' AS x FROM 't'", err),
			 -EINVAL);
	assert_string_equal(err, "rule 'hot': a statement of 8193 bytes; the limit is 8192");
}

static void test_expressions_have_a_greatest_depth(void **state)
{
	static const struct {
		const char *before, *part;
		size_t most;
		const char *after;
	} deep[] = {
		{"SELECT ", "- ", 31, "a AS x FROM 't'"},
		{"SELECT ", "NOT ", 31, "a AS x FROM 't'"},
		{"SELECT a", " + a", 31, " AS x FROM 't'"},
		{"SELECT a", " OR a", 31, " AS x FROM 't'"},
		{"SELECT coalesce(a)", "[0]", 30, " AS x FROM 't'"},
		{"SELECT coalesce(a)", ".b", 30, " AS x FROM 't'"},
	};
	char err[RULE_WHY_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(deep) / sizeof(deep[0]); i++) {
		assert_int_equal(parse_repeated(deep[i].before, deep[i].part, deep[i].most,
						deep[i].after, err),
				 0);
		assert_int_equal(parse_repeated(deep[i].before, deep[i].part, deep[i].most + 1,
						deep[i].after, err),
				 -EINVAL);
		assert_non_null(strstr(err, "expressions are nested more than 32 deep"));
	}
}

/* Whatever may stand in itself, thousands of times: an error that is found at once, no recursion.
 */
static void test_nothing_recurses_without_end(void **state)
{
	static const char *const parts[] = {
		"(",
		"[",
		"{'a':",
		"- ",
		"NOT ",
		"abs(",
		"coalesce(a,",
		"CASE WHEN ",
		"CASE ",
		"CASE WHEN a THEN ",
		"a IN (",
		"a IN [",
		"a BETWEEN (",
		"a LIKE (",
		"a + (",
		"cast(",
		"CASE a WHEN ",
		"CASE WHEN a THEN b ELSE ",
		"a AND NOT (",
		"a IN CASE ",
	};
	char err[RULE_WHY_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t n = (RULE_TEXT_MAX - 8) / strlen(parts[i]);

		assert_int_equal(parse_repeated("SELECT ", parts[i], n, "", err), -EINVAL);
		assert_non_null(strstr(err, "nested more than"));
	}
}

static void test_parentheses_have_a_greatest_depth(void **state)
{
	char *open = repeated("(", 63), *close = repeated(")", 63), *text;
	char err[RULE_WHY_MAX];
	struct rule_statement *s = NULL;

	(void)state;
	assert_true(asprintf(&text, "SELECT %sa%s FROM 't'", open, close) >= 0);
	prints(text, "SELECT a FROM 't'");
	free(text);
	assert_true(asprintf(&text, "SELECT (%sa%s) FROM 't'", open, close) >= 0);
	assert_int_equal(rule_parse(&s, "hot", text, strlen(text), err, sizeof(err)), -EINVAL);
	assert_string_equal(err, "rule 'hot': line 1, column 72: expressions and parentheses are "
				 "nested more than 64 deep");
	free(text);
	free(open);
	free(close);
}

static void test_a_statement_has_a_greatest_number_of_values(void **state)
{
	char err[RULE_WHY_MAX];

	(void)state;
	assert_int_equal(parse_repeated("SELECT [a", ",1", 998, "] AS x FROM 't'", err), 0);
	assert_int_equal(parse_repeated("SELECT [a", ",1", 999, "] AS x FROM 't'", err), -EINVAL);
	assert_string_equal(err,
			    "rule 'hot': line 1, column 8: more than 1000 values and operators");
	assert_int_equal(parse_repeated("SELECT [a", ",1", 3000, "] AS x FROM 't'", err), -EINVAL);
	assert_int_equal(parse_repeated("SELECT * FROM 't' WHERE a IN (a", ",1", 997, ")", err), 0);
	assert_int_equal(parse_repeated("SELECT * FROM 't' WHERE a IN (a", ",1", 2000, ")", err),
			 -EINVAL);
}

static void test_select_has_a_greatest_number_of_fields(void **state)
{
	char text[4096] = "SELECT f0";
	struct rule_statement *s = NULL;
	char err[RULE_WHY_MAX];

	(void)state;
	for (int i = 1; i < RULE_FIELDS_MAX; i++)
		snprintf(text + strlen(text), 16, ", f%d", i);
	strcat(text, " FROM 't'");
	prints(text, text);
	strcpy(strstr(text, " FROM"), ", * FROM 't'");
	assert_int_equal(rule_parse(&s, "hot", text, strlen(text), err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "more than 100 fields"));
}

static void test_a_path_may_be_as_long_as_the_text(void **state)
{
	char err[RULE_WHY_MAX];

	(void)state;
	assert_int_equal(parse_repeated("SELECT a", ".b", 4000, " FROM 't'", err), 0);
	assert_int_equal(parse_repeated("SELECT a", "[0]", 2700, " FROM 't'", err), 0);
}

static void test_long_words_are_cut_in_messages(void **state)
{
	(void)state;
	where_refuses("a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 3,
		      "expected the end after 'a', found "
		      "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'");
	/* Between two characters, and without control characters. */
	where_refuses("a '\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274"
		      "\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274"
		      "\303\274\303\274\303\274\303\274\303\274\303\274'",
		      3,
		      "expected the end after 'a', found "
		      "'\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274"
		      "\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274\303\274"
		      "\303\274...");
	where_refuses("a '\033[1m\n'", 3, "expected the end after 'a', found '?[1m?'");
}

static void test_every_allocation_may_fail(void **state)
{
	static const char text[] =
		"SELECT *, a.b[0] AS x, concat(a, 'b', [1, {'k': CASE WHEN a THEN 1 END}]) FROM "
		"'t' "
		"WHERE a IN (1, 2) AND b IN [3] OR clientid() = 'x' AND c.d.e.f.g.h > 1.5";
	struct rule_statement *s = NULL;
	char err[RULE_WHY_MAX];
	int rc = -ENOMEM, n;

	(void)state;
	for (n = 0; n < 1000 && rc != 0; n++) {
		allocations_left = n;
		rc = rule_parse(&s, "hot", text, strlen(text), err, sizeof(err));
		allocations_left = -1;
		if (rc != 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_string_equal(err, "rule 'hot': no memory");
		}
	}
	assert_in_range(n, 4, 999);
	allocations_left = 0;
	assert_null(rule_print(s));
	allocations_left = -1;
	rule_free(s);
	rule_free(NULL);
}

/* --- Templates --- */

static struct rule_template *template(const char *text)
{
	struct rule_template *t = NULL;
	char err[RULE_WHY_MAX];

	if (rule_template_parse(&t, "hot", "republish.topic", text, err, sizeof(err)) != 0)
		fail_msg("%s\n  %s", text, err);
	return t;
}

/* Its parts, expressions by their kind. */
static void template_is(const char *text, const char *expected)
{
	struct rule_template *t = template(text);
	char got[256] = "";

	for (size_t i = 0; i < t->count; i++) {
		const struct rule_part *p = &t->parts[i];
		size_t used = strlen(got);

		if (p->expression)
			snprintf(got + used, sizeof(got) - used, "<%d>", (int)p->expression->kind);
		else
			snprintf(got + used, sizeof(got) - used, "(%.*s)", (int)p->len, p->text);
	}
	assert_string_equal(got, expected);
	assert_string_equal(t->name, "hot");
	assert_string_equal(t->where, "republish.topic");
	rule_template_free(t);
}

static void template_refuses(const char *text, const char *expected)
{
	struct rule_template *t = NULL;
	char err[RULE_WHY_MAX] = "", whole[RULE_WHY_MAX];

	snprintf(whole, sizeof(whole), "rule 'hot', republish.topic: %s", expected);
	assert_int_equal(rule_template_parse(&t, "hot", "republish.topic", text, err, sizeof(err)),
			 -EINVAL);
	assert_string_equal(err, whole);
}

static void test_templates_are_text_and_expressions(void **state)
{
	char path[8], call[8], object[8];

	(void)state;
	snprintf(path, sizeof(path), "<%d>", NODE_PATH);
	snprintf(call, sizeof(call), "<%d>", NODE_CALL);
	snprintf(object, sizeof(object), "<%d>", NODE_OBJECT);
	template_is("", "");
	template_is("alarms/hot", "(alarms/hot)");
	template_is("${a}", path);
	template_is("${ a }", path);
	template_is("${a.b}${c}", "<3><3>");
	assert_int_equal(NODE_PATH, 3);
	template_is("x/${topic(2)}/y", "(x/)<4>(/y)");
	assert_int_equal(NODE_CALL, 4);
	template_is("a$b}c{d$", "(a$b}c{d$)");
	template_is("$${a}", "(${a})");
	template_is("x$${a}y${b}", "(x)(${a}y)<3>");
	template_is("$$${a}", "($)(${a})");
	template_is("${'}'}", "<0>");
	template_is("${{'a': {'b': '}'}}}x", "<13>(x)");
	assert_int_equal(NODE_OBJECT, 13);
	template_is("${'it''s'}/${\"a\"\"b\"}", "<0>(/)<3>");
}

static void test_templates_say_where_they_are_wrong(void **state)
{
	(void)state;
	template_refuses("a/${", "column 5: expected a value after '${'");
	template_refuses("a/${}", "column 5: expected a value after '${', found '}'");
	template_refuses("a/${b", "column 6: expected '}' after 'b'");
	template_refuses("a/${b c}", "column 7: expected '}' after 'b', found 'c'");
	template_refuses("${a}/${topic(}", "column 14: expected a value after '(', found '}'");
	template_refuses("${nosuchthing()}", "column 3: there is no function nosuchthing()");
	template_refuses("\303\274/\n${'", "column 6: the text that begins here has no closing '");
	template_refuses("\377", "column 1: the text is not UTF-8, or has a NUL in it");
}

static void test_templates_have_limits(void **state)
{
	struct rule_template *t = NULL;
	char *text = repeated("${a}", 1000), err[RULE_WHY_MAX];

	(void)state;
	rule_template_free(template(text));
	free(text);
	text = repeated("${a}", 1001);
	assert_int_equal(rule_template_parse(&t, "hot", "t", text, err, sizeof(err)), -EINVAL);
	assert_string_equal(err, "rule 'hot', t: column 4003: more than 1000 values and operators");
	free(text);
	text = repeated("x", RULE_TEXT_MAX + 1);
	assert_int_equal(rule_template_parse(&t, "hot", "t", text, err, sizeof(err)), -EINVAL);
	assert_string_equal(err, "rule 'hot', t: a text of 8193 bytes; the limit is 8192");
	free(text);
	assert_null(t);
}

static void test_every_allocation_of_a_template_may_fail(void **state)
{
	static const char text[] = "alarms/${topic(2)}/${coalesce(a, [1, 2], 1.5)}/$${x}";
	struct rule_template *t = NULL;
	char err[RULE_WHY_MAX];
	int rc = -ENOMEM, n;

	(void)state;
	for (n = 0; n < 1000 && rc != 0; n++) {
		allocations_left = n;
		rc = rule_template_parse(&t, "hot", "t", text, err, sizeof(err));
		allocations_left = -1;
		if (rc != 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_string_equal(err, "rule 'hot', t: no memory");
		}
	}
	assert_in_range(n, 4, 999);
	rule_template_free(t);
	rule_template_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words_are_read_without_case_and_printed_in_capitals),
		cmocka_unit_test(test_spaces_and_line_breaks_mean_nothing),
		cmocka_unit_test(test_select_has_fields_and_everything),
		cmocka_unit_test(test_from_has_one_topic_filter_in_either_quotes),
		cmocka_unit_test(test_what_is_no_topic_filter_is_refused),
		cmocka_unit_test(test_nothing_stands_behind_the_statement),
		cmocka_unit_test(test_fields_are_called_as_what_they_come_from),
		cmocka_unit_test(test_what_has_no_name_needs_one),
		cmocka_unit_test(test_two_fields_of_one_name_are_refused),
		cmocka_unit_test(test_paths_have_names_and_indexes),
		cmocka_unit_test(test_words_of_the_language_are_names_in_quotes_and_after_dots),
		cmocka_unit_test(test_paths_that_are_none),
		cmocka_unit_test(test_payload_is_the_payload_itself),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_a_number_of_many_digits_is_still_one),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_what_is_no_utf8_is_refused),
		cmocka_unit_test(test_arrays_and_objects),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_wrong_calls),
		cmocka_unit_test(test_a_misspelt_function_gets_a_suggestion),
		cmocka_unit_test(test_the_payload_as_it_came_is_a_star),
		cmocka_unit_test(test_casts),
		cmocka_unit_test(test_names_and_indexes_behind_anything_but_a_path_are_get),
		cmocka_unit_test(test_every_operator_is_read_and_printed),
		cmocka_unit_test(test_what_holds_together_more_tightly_needs_no_parentheses),
		cmocka_unit_test(test_parentheses_are_printed_only_where_the_tree_needs_them),
		cmocka_unit_test(test_comparisons_do_not_follow_one_another),
		cmocka_unit_test(test_in_takes_a_list_or_an_array),
		cmocka_unit_test(test_between_needs_its_and),
		cmocka_unit_test(test_case_of_both_forms),
		cmocka_unit_test(test_a_value_is_missing),
		cmocka_unit_test(test_errors_name_line_and_column),
		cmocka_unit_test(test_signs_of_other_dialects_are_explained),
		cmocka_unit_test(test_words_of_other_dialects_are_explained),
		cmocka_unit_test(test_what_aws_has_and_we_have_not_says_so),
		cmocka_unit_test(test_published_examples_are_understood),
		cmocka_unit_test(test_a_statement_has_a_greatest_length),
		cmocka_unit_test(test_expressions_have_a_greatest_depth),
		cmocka_unit_test(test_nothing_recurses_without_end),
		cmocka_unit_test(test_parentheses_have_a_greatest_depth),
		cmocka_unit_test(test_a_statement_has_a_greatest_number_of_values),
		cmocka_unit_test(test_select_has_a_greatest_number_of_fields),
		cmocka_unit_test(test_a_path_may_be_as_long_as_the_text),
		cmocka_unit_test(test_long_words_are_cut_in_messages),
		cmocka_unit_test(test_every_allocation_may_fail),
		cmocka_unit_test(test_templates_are_text_and_expressions),
		cmocka_unit_test(test_templates_say_where_they_are_wrong),
		cmocka_unit_test(test_templates_have_limits),
		cmocka_unit_test(test_every_allocation_of_a_template_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
