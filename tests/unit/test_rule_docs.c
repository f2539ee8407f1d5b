/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every example of docs/rules.md does what the page says. An example is a block that is marked
 * `rule`, of lines `key: value`; a line that begins with a space goes on with the one before it:
 *
 *     sql, template       the statement or template, once, at the beginning
 *     error               it is refused, with this message
 *     means               rule_print gives this
 *     topic               of the messages that follow; m/d/tracker-1/d2c at first
 *     message, bytes      the payload: JSON, or any bytes in hexadecimal
 *     gives               what becomes of it: JSON, a template's text, or `nothing`
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/payload/payload.h"
#include "core/registry/topic.h"
#include "core/rule/statement.h"

#define PAGE	    "docs/rules.md"
#define VALUE_SIZE  2048
#define RESULTS_MIN 90 /* fewer: the page is not read as it should be */
#define RECEIVED_US INT64_C(1767225600000000)

static const struct decode_limits limits = {
	.max_bytes = 131072, .max_depth = 8, .max_readings = 256};

struct example {
	unsigned line; /* where it begins */
	bool is_template;
	char text[VALUE_SIZE]; /* "": none yet */
	char topic[VALUE_SIZE];
	char payload[VALUE_SIZE];
	size_t payload_len;
	unsigned results; /* lines that said what should come out */
};

static struct arena arena;
static unsigned failed, results;

static void expect(const struct example *x, const char *what, const char *expected, const char *got)
{
	if (strcmp(expected, got) == 0)
		return;
	failed++;
	print_error("%s, example in line %u, %s\n  of       %s\n  expected %s\n  got      %s\n",
		    PAGE, x->line, what, x->text, expected, got);
}

/* As compact JSON, so that spaces make no difference. */
static const char *compact(const char *json)
{
	char why[200];
	struct value v;
	size_t len;

	if (json_decode(&arena, json, strlen(json), &limits, &v, why, sizeof(why)) != 0) {
		print_error("%s: %s\n", json, why);
		return "(no JSON)";
	}
	return value_print_json(&arena, &v, &len);
}

/* --- Running an example --- */

static struct rule_input input_of(const struct example *x, struct value *payload)
{
	struct rule_input in = {.topic = x->topic,
				.raw = x->payload,
				.raw_len = x->payload_len,
				.received_at_us = RECEIVED_US};
	char why[RULE_WHY_MAX];

	if (strncmp(x->topic, "m/d/", 4) == 0)
		in.device = arena_strndup(&arena, x->topic + 4, strcspn(x->topic + 4, "/"));
	if (payload_parse(&arena, PAYLOAD_AUTO, x->payload, x->payload_len, &limits, payload, why,
			  sizeof(why)) == 0)
		in.payload = payload;
	return in;
}

static void check_statement(const struct example *x, const char *expected)
{
	struct value payload, out;
	struct rule_input in = input_of(x, &payload);
	struct rule_statement *s;
	char why[RULE_WHY_MAX] = "";
	const char *got = "nothing";
	size_t len;
	int rc;

	if (rule_parse(&s, "example", x->text, strlen(x->text), why, sizeof(why)) != 0) {
		expect(x, "refused", expected, why);
		return;
	}
	if (topic_matches(rule_filter(s), NULL, x->topic)) {
		rc = rule_evaluate(s, &in, &arena, &out, why, sizeof(why));
		if (rc == 1)
			got = value_print_json(&arena, &out, &len);
		else if (rc < 0)
			got = why;
	}
	expect(x, x->payload, strcmp(expected, "nothing") == 0 ? expected : compact(expected), got);
	rule_free(s);
}

static void check_template(const struct example *x, const char *expected)
{
	struct value payload;
	struct rule_input in = input_of(x, &payload);
	struct rule_template *t;
	char why[RULE_WHY_MAX] = "";
	const char *got;

	if (rule_template_parse(&t, "example", "republish.topic", x->text, why, sizeof(why)) != 0) {
		expect(x, "refused", expected, why);
		return;
	}
	if (rule_template_render(t, &in, &arena, &got, why, sizeof(why)) != 0)
		got = why;
	expect(x, x->payload, expected, got);
	rule_template_free(t);
}

static void check_error(const struct example *x, const char *expected)
{
	char why[RULE_WHY_MAX] = "accepted";
	struct rule_statement *s = NULL;
	struct rule_template *t = NULL;

	if (x->is_template)
		(void)rule_template_parse(&t, "example", "republish.topic", x->text, why,
					  sizeof(why));
	else
		(void)rule_parse(&s, "example", x->text, strlen(x->text), why, sizeof(why));
	expect(x, "error", expected, why);
	rule_template_free(t);
	rule_free(s);
}

static void check_means(const struct example *x, const char *expected)
{
	struct rule_statement *s;
	char why[RULE_WHY_MAX];
	char *got;

	if (rule_parse(&s, "example", x->text, strlen(x->text), why, sizeof(why)) != 0) {
		expect(x, "means", expected, why);
		return;
	}
	got = rule_print(s);
	assert_non_null(got);
	expect(x, "means", expected, got);
	free(got);
	rule_free(s);
}

/* --- Reading the page --- */

static void set(char *to, const char *from)
{
	assert_in_range(strlen(from), 0, VALUE_SIZE - 1);
	strcpy(to, from);
}

static void set_bytes(struct example *x, const char *hex)
{
	char *end;

	x->payload_len = 0;
	while (*hex && x->payload_len < sizeof(x->payload)) {
		x->payload[x->payload_len++] = (char)strtoul(hex, &end, 16);
		assert_ptr_not_equal(end, hex);
		hex = end;
	}
	assert_int_equal(*hex, '\0');
}

static void take(struct example *x, const char *key, const char *value)
{
	bool is_result = true;

	if (strcmp(key, "gives") == 0 && x->is_template) {
		check_template(x, value);
	} else if (strcmp(key, "gives") == 0) {
		check_statement(x, value);
	} else if (strcmp(key, "error") == 0) {
		check_error(x, value);
	} else if (strcmp(key, "means") == 0) {
		check_means(x, value);
	} else {
		is_result = false;
		if (strcmp(key, "sql") == 0 || strcmp(key, "template") == 0) {
			x->is_template = key[0] == 't';
			assert_string_equal(x->text, "");
			set(x->text, value);
		} else if (strcmp(key, "topic") == 0) {
			set(x->topic, value);
		} else if (strcmp(key, "message") == 0) {
			set(x->payload, value);
			x->payload_len = strlen(value);
		} else if (strcmp(key, "bytes") == 0) {
			set_bytes(x, value);
		} else {
			fail_msg("%s, example in line %u: '%s' is no key", PAGE, x->line, key);
		}
	}
	x->results += is_result;
	results += is_result;
	arena_reset(&arena);
}

/* A whole item: `key: value`, perhaps of several lines. */
static void take_item(struct example *x, char *item)
{
	char *colon = strstr(item, ": ");

	if (item[0] == '\0')
		return;
	if (!colon) {
		fail_msg("%s, example in line %u: no `key: ` in '%s'", PAGE, x->line, item);
		return;
	}
	*colon = '\0';
	take(x, item, colon + 2);
}

/* From behind the line that opens the block to the one that closes it. */
static void run_example(FILE *page, unsigned *line)
{
	struct example x = {.line = *line, .topic = "m/d/tracker-1/d2c"};
	char item[VALUE_SIZE] = "", text[VALUE_SIZE];

	while (fgets(text, sizeof(text), page)) {
		(*line)++;
		text[strcspn(text, "\n")] = '\0';
		if (text[0] == ' ') {
			assert_in_range(strlen(item) + strlen(text) + 1, 0, sizeof(item) - 1);
			strcat(strcat(item, "\n"), text);
			continue;
		}
		take_item(&x, item);
		set(item, text);
		if (strcmp(text, "```") == 0)
			break;
	}
	if (x.results == 0)
		fail_msg("%s, example in line %u says no result", PAGE, x.line);
}

static void test_every_example_of_the_page_does_what_it_says(void **state)
{
	FILE *page = fopen(PAGE, "r");
	unsigned line = 0, examples = 0;
	char text[VALUE_SIZE];

	(void)state;
	assert_non_null(page);
	arena_init(&arena, 65536, (size_t)8 << 20);
	while (fgets(text, sizeof(text), page)) {
		line++;
		if (strcmp(text, "```rule\n") != 0)
			continue;
		run_example(page, &line);
		examples++;
	}
	fclose(page);
	arena_free(&arena);
	print_message("%u examples with %u results\n", examples, results);
	assert_int_equal(failed, 0);
	assert_in_range(results, RESULTS_MIN, 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_example_of_the_page_does_what_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
