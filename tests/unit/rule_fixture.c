/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/rule_fixture.h"

#define RECEIVED_AT_US INT64_C(1772368496789012)

static const struct decode_limits limits = {
	.max_bytes = 1u << 20, .max_depth = 8, .max_readings = 256};

int rule_fixture_set_up(void **state)
{
	struct rule_fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	arena_init(&f->payload, 65536, 16u << 20);
	arena_init(&f->arena, 65536, 16u << 20);
	arena_init(&f->printed, 65536, 16u << 20);
	f->in.topic = "m/d/dev-1/d2c";
	f->in.device = "dev-1";
	f->in.received_at_us = RECEIVED_AT_US;
	*state = f;
	rule_fixture_json(f, "{}");
	return 0;
}

int rule_fixture_tear_down(void **state)
{
	struct rule_fixture *f = *state;

	arena_free(&f->payload);
	arena_free(&f->arena);
	arena_free(&f->printed);
	free(f);
	return 0;
}

void rule_fixture_raw(struct rule_fixture *f, const void *data, size_t len)
{
	f->in.payload = NULL;
	f->in.raw = data;
	f->in.raw_len = len;
}

void rule_fixture_json(struct rule_fixture *f, const char *text)
{
	rule_fixture_raw(f, text, strlen(text));
	arena_reset(&f->payload);
	if (json_decode(&f->payload, text, strlen(text), &limits, &f->value, f->why,
			sizeof(f->why)) != 0)
		fail_msg("%s", f->why);
	f->in.payload = &f->value;
}

void rule_fixture_cbor(struct rule_fixture *f, const void *data, size_t len)
{
	rule_fixture_raw(f, data, len);
	arena_reset(&f->payload);
	if (cbor_decode(&f->payload, data, len, &limits, &f->value, f->why, sizeof(f->why)) != 0)
		fail_msg("%s", f->why);
	f->in.payload = &f->value;
}

static const char *error_text(struct rule_fixture *f)
{
	char *text = arena_alloc(&f->printed, RULE_WHY_MAX + 8);

	assert_non_null(text);
	snprintf(text, RULE_WHY_MAX + 8, "error: %s", f->why);
	return text;
}

/* 1 or 0, and what was selected; below 0 with the reason in f->why. */
static int evaluate(struct rule_fixture *f, const char *statement, struct value *out)
{
	struct rule_statement *s;
	int rc;

	arena_reset(&f->arena);
	arena_reset(&f->printed);
	if (rule_parse(&s, "t", statement, strlen(statement), f->why, sizeof(f->why)) != 0)
		fail_msg("%s", f->why);
	rc = rule_evaluate(s, &f->in, &f->arena, out, f->why, sizeof(f->why));
	if (rc == 1) { /* literals are the statement's */
		size_t len;
		char *json = value_print_json(&f->printed, out, &len);

		assert_non_null(json);
		out->type = VALUE_TEXT;
		out->u.text.data = json;
	}
	rule_free(s);
	return rc;
}

const char *rule_fixture_run(struct rule_fixture *f, const char *statement)
{
	struct value v;
	int rc = evaluate(f, statement, &v);

	return rc == 1 ? v.u.text.data : rc == 0 ? "no" : error_text(f);
}

const char *rule_fixture_value(struct rule_fixture *f, const char *expression)
{
	size_t len = strlen(expression) + 64;
	char *statement = malloc(len), *json;
	struct value v;
	int rc;

	assert_non_null(statement);
	snprintf(statement, len, "SELECT %s AS v FROM '#'", expression);
	rc = evaluate(f, statement, &v);
	free(statement);
	if (rc != 1)
		return error_text(f);
	json = (char *)v.u.text.data;
	if (strcmp(json, "{}") == 0)
		return "undefined";
	json[strlen(json) - 1] = '\0';
	return json + strlen("{\"v\":");
}
