/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text as a rule: a statement, a template, the columns of actions. What is refused has a reason
 * with a place; what is accepted prints, and is read again as the same; and it is evaluated, within
 * a small arena, without harm. A text may have a payload to evaluate with behind a NUL. Seeds:
 * tests/fuzz/fuzz_rule_seeds.py DIRECTORY, from the examples of docs/rules.md.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/payload/payload.h"
#include "core/payload/text.h"
#include "core/registry/topic.h"
#include "core/rule/action.h"
#include "core/rule/ast.h"
#include "core/rule/evaluation.h"

#define ARENA_MAX (4u << 20)

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static const struct decode_limits limits = {
	.max_bytes = 131072, .max_depth = 8, .max_readings = 256};
static struct arena arena;

static void check_why(int rc, const char *why, const char *beginning)
{
	CHECK(rc == -EINVAL);
	CHECK(strncmp(why, beginning, strlen(beginning)) == 0);
	CHECK(strlen(why) > strlen(beginning));
	CHECK(text_is_valid(why, strlen(why)));
}

/* --- Evaluation --- */

static struct rule_input input_of(const char *data, size_t len, struct value *payload)
{
	struct rule_input in = {.topic = "m/d/dev-1/d2c/x",
				.device = "dev-1",
				.raw = data,
				.raw_len = len,
				.received_at_us = INT64_C(1767225600123456)};
	char why[RULE_WHY_MAX];

	if (payload_parse(&arena, PAYLOAD_AUTO, data, len, &limits, payload, why, sizeof(why)) == 0)
		in.payload = payload;
	return in;
}

static void check_failure(int rc, const char *why)
{
	CHECK(rc == -EBADMSG || rc == -E2BIG || rc == -ENOMEM);
	CHECK(why[0] != '\0');
	CHECK(text_is_valid(why, strlen(why)));
}

/* Finite numbers, text that is text, and names that tell members apart: what any encoder needs. */
static void check_value(const struct value *v)
{
	switch (v->type) {
	case VALUE_NUMBER:
		CHECK(isfinite(v->u.number));
		break;
	case VALUE_TEXT:
		CHECK(text_is_valid(v->u.text.data, v->u.text.len));
		break;
	case VALUE_ARRAY:
		for (size_t i = 0; i < v->u.array.count; i++)
			check_value(&v->u.array.items[i]);
		break;
	case VALUE_MAP:
		for (size_t i = 0; i < v->u.map.count; i++) {
			const struct member *m = &v->u.map.members[i];
			char label[RULE_LABEL_MAX];
			struct rule_text name = rule_member_name(m, label);

			CHECK(text_is_valid(name.data, name.len));
			CHECK(rule_member(v, name.data, name.len) == &m->value);
			check_value(&m->value);
		}
		break;
	default:
		break;
	}
}

static void check_same_again(const struct rule_statement *s, const struct rule_input *in,
			     const struct value *first)
{
	struct value second;
	char why[RULE_WHY_MAX], *a, *b;
	size_t a_len, b_len;
	int rc = rule_evaluate(s, in, &arena, &second, why, sizeof(why));

	CHECK(rc == 1 || rc == -ENOMEM);
	if (rc != 1)
		return;
	a = value_print_json(&arena, first, &a_len);
	b = value_print_json(&arena, &second, &b_len);
	if (a && b)
		CHECK(a_len == b_len && memcmp(a, b, a_len) == 0);
}

static void evaluate(const struct rule_statement *s, const char *data, size_t len)
{
	struct value payload, out;
	struct rule_input in = input_of(data, len, &payload);
	char why[RULE_WHY_MAX] = "";
	int holds = rule_holds(s, &in, &arena, why, sizeof(why));
	int rc = rule_evaluate(s, &in, &arena, &out, why, sizeof(why));

	if (rc < 0)
		check_failure(rc, why);
	if (rc >= 0 && holds >= 0)
		CHECK(rc == holds);
	if (rc != 1)
		return;
	CHECK(out.type == VALUE_MAP);
	check_value(&out);
	check_same_again(s, &in, &out);
}

/* --- Texts --- */

static void check_statement(const struct rule_statement *s, const char *data, size_t len)
{
	struct rule_statement *again = NULL;
	char *first = rule_print(s), *second, why[RULE_WHY_MAX];
	int rc;

	CHECK(topic_filter_valid(rule_filter(s)));
	CHECK(s->field_count > 0 && s->field_count <= RULE_FIELDS_MAX);
	CHECK(first);
	rc = rule_parse(&again, "f", first, strlen(first), why, sizeof(why));
	/* The canonical form may be longer: `a.b` of a call becomes get(a, 'b'). */
	CHECK(rc == 0 || strlen(first) > RULE_TEXT_MAX);
	if (rc == 0) {
		second = rule_print(again);
		CHECK(second && strcmp(first, second) == 0);
		free(second);
		evaluate(again, data, len);
	}
	rule_free(again);
	free(first);
}

static void try_statement(const char *text, size_t len, const char *data, size_t data_len)
{
	struct rule_statement *s = NULL;
	char why[RULE_WHY_MAX] = "";
	int rc = rule_parse(&s, "f", text, len, why, sizeof(why));

	if (rc) {
		check_why(rc, why, "rule 'f': ");
		CHECK(!s);
		return;
	}
	check_statement(s, data, data_len);
	rule_free(s);
}

static void try_template(const char *text, const char *data, size_t data_len)
{
	struct rule_template *t = NULL;
	char why[RULE_WHY_MAX] = "";
	struct value payload;
	struct rule_input in;
	const char *out;
	int rc = rule_template_parse(&t, "f", "t", text, why, sizeof(why));

	if (rc) {
		check_why(rc, why, "rule 'f', t: ");
		CHECK(!t);
		return;
	}
	in = input_of(data, data_len, &payload);
	rc = rule_template_render(t, &in, &arena, &out, why, sizeof(why));
	if (rc)
		check_failure(rc, why);
	else
		CHECK(strlen(out) <= RULE_RESULT_MAX);
	rule_template_free(t);
}

/* Most of what a fuzzer finds is an expression: it is tried as one, too. */
static void try_condition(const char *text, const char *data, size_t data_len)
{
	char *whole;
	int len = asprintf(&whole, "SELECT *, (%s) AS x FROM 't' WHERE %s", text, text);

	CHECK(len > 0);
	try_statement(whole, (size_t)len, data, data_len);
	free(whole);
}

static void check_actions(const struct rule_actions *a)
{
	CHECK(a->count <= RULE_ACTIONS_MAX);
	for (size_t i = 0; i < a->count; i++) {
		const struct rule_action *action = &a->items[i];

		if (action->kind == RULE_REPUBLISH)
			CHECK(action->republish.topic && action->republish.qos >= 0 &&
			      action->republish.qos <= 1);
		if (action->kind == RULE_STORE)
			CHECK(action->store.table &&
			      action->store.column_count <= RULE_COLUMNS_MAX);
	}
}

static void try_actions(const char *text)
{
	struct rule_actions a;
	char why[RULE_WHY_MAX] = "";
	int rc = rule_actions_parse(&a, "f", text, why, sizeof(why));

	if (rc)
		check_why(rc, why, "rule 'f', actions");
	check_actions(&a);
	rule_actions_free(&a);
	rc = rule_error_action_parse(&a, "f", text, why, sizeof(why));
	if (rc)
		check_why(rc, why, "rule 'f', error_action");
	check_actions(&a);
	rule_actions_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len = strnlen((const char *)data, size);
	const char *payload = (const char *)data + (len < size ? len + 1 : len);
	size_t payload_len = (size_t)((const char *)data + size - payload);
	char *text;

	if (!arena.limit)
		arena_init(&arena, 1u << 16, ARENA_MAX);
	arena_reset(&arena);
	text = strndup((const char *)data, len);
	CHECK(text);
	try_statement(text, len, payload, payload_len);
	try_condition(text, payload, payload_len);
	try_template(text, payload, payload_len);
	try_actions(text);
	if (size > len)
		try_statement((const char *)data, size, payload, payload_len);
	free(text);
	return 0;
}
