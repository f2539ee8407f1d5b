/* SPDX-License-Identifier: Apache-2.0 */
/* Values: literals and paths, and whatever else a value begins with. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/rule/parser_internal.h"

#define NUMBER_MAX 400 /* digits of a number: more tell a double nothing */

static const struct rule_tree nothing;

/* --- Literals --- */

struct rule_tree parse_literal(struct parser *p, size_t at, struct value v)
{
	struct rule_tree t = tree_new(p, NODE_LITERAL, at, 0);

	if (t.node)
		t.node->u.literal = v;
	lexer_next(&p->lx);
	return t;
}

static struct rule_tree literal(struct parser *p, struct value v)
{
	return parse_literal(p, p->lx.token.at, v);
}

/*
 * As JSON has it: an integer beyond 64 bits is a number. JSON's decoder reads it, because strtod's
 * decimal point is the locale's.
 */
struct rule_tree parse_number(struct parser *p, size_t at, bool negative)
{
	static const struct decode_limits limits = {.max_bytes = NUMBER_MAX + 8};
	const struct token *t = &p->lx.token;
	const char *digits = p->lx.text + t->at;
	size_t len = t->len;
	char text[NUMBER_MAX + 8], reason[64];
	struct value v;
	int n, error;

	while (len > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9') {
		digits++;
		len--;
	}
	if (len > NUMBER_MAX) {
		lexer_fail(&p->lx, at, "a number of more than %d digits", NUMBER_MAX);
		return nothing;
	}
	n = snprintf(text, sizeof(text), "%s%.*s", negative ? "-" : "", (int)len, digits);
	error = json_decode(p->arena, text, (size_t)n, &limits, &v, reason, sizeof(reason));
	if (error == -ENOMEM)
		lexer_fail_memory(&p->lx);
	else if (error)
		lexer_fail(&p->lx, at, "the number is too large");
	if (error)
		return nothing;
	return parse_literal(p, at, v);
}

static struct rule_tree text_literal(struct parser *p)
{
	struct value v = {.type = VALUE_TEXT};

	v.u.text.data = p->lx.token.data;
	v.u.text.len = p->lx.token.data_len;
	return literal(p, v);
}

static struct rule_tree boolean(struct parser *p, bool b)
{
	struct value v = {.type = VALUE_BOOL};

	v.u.boolean = b;
	return literal(p, v);
}

static struct rule_tree undefined(struct parser *p)
{
	struct rule_tree t = tree_new(p, NODE_UNDEFINED, p->lx.token.at, 0);

	lexer_next(&p->lx);
	return t;
}

/* --- Paths --- */

/* A name behind a dot, where the language's own words are names too. */
static bool member_name(struct parser *p, const char **name, size_t *len)
{
	const struct token *t = &p->lx.token;

	if (t->kind != TOKEN_WORD && t->kind != TOKEN_NAME) {
		lexer_fail_expected(&p->lx, "a name");
		return false;
	}
	*name = t->data;
	*len = t->data_len;
	lexer_next(&p->lx);
	return true;
}

static bool index_number(struct parser *p, int64_t *index)
{
	const struct token *t = &p->lx.token;
	const char *s = p->lx.text + t->at;
	int64_t i = 0;

	if (t->kind != TOKEN_NUMBER || memchr(s, '.', t->len)) {
		lexer_fail_expected(&p->lx,
				    "a whole number from 0 on (get(list, x) takes any expression)");
		return false;
	}
	for (size_t n = 0; n < t->len; n++) {
		if (s[n] < '0' || s[n] > '9' || i > INT32_MAX) {
			lexer_fail(&p->lx, t->at, "no array has an index like this");
			return false;
		}
		i = i * 10 + (s[n] - '0');
	}
	*index = i;
	lexer_next(&p->lx);
	if (lexer_skip_sign(&p->lx, ']'))
		return true;
	lexer_fail_expected(&p->lx, "']'");
	return false;
}

bool parse_step(struct parser *p, struct rule_step *step)
{
	*step = (struct rule_step){0};
	if (lexer_skip_sign(&p->lx, '.'))
		return member_name(p, &step->name, &step->name_len);
	if (lexer_skip_sign(&p->lx, '[')) {
		step->is_index = true;
		return index_number(p, &step->index);
	}
	return false;
}

/* One more step. The array is doubled when it is full, so that it costs what is used. */
static bool add_step(struct parser *p, struct rule_node *path, const struct rule_step *step)
{
	size_t n = path->u.path.count;
	struct rule_step *steps = path->u.path.steps;

	if ((n & (n - 1)) == 0) {
		steps = arena_alloc(p->arena, (n ? 2 * n : 1) * sizeof(*steps));
		if (!steps) {
			lexer_fail_memory(&p->lx);
			return false;
		}
		if (n > 0)
			memcpy(steps, path->u.path.steps, n * sizeof(*steps));
		path->u.path.steps = steps;
	}
	steps[n] = *step;
	path->u.path.count++;
	return true;
}

static struct rule_tree parse_path(struct parser *p, size_t at, const struct rule_step *first)
{
	struct rule_tree t = tree_new(p, NODE_PATH, at, 0);
	struct rule_step step = *first;

	while (t.node && add_step(p, t.node, &step))
		if (!parse_step(p, &step))
			break;
	return t;
}

/* `payload` is the payload itself, so payload.x is the path x. In quotes it is a member's name. */
static struct rule_tree parse_payload(struct parser *p, size_t at)
{
	struct rule_step step;

	if (lexer_skip_sign(&p->lx, '.')) {
		step = (struct rule_step){0};
		if (!member_name(p, &step.name, &step.name_len))
			return nothing;
		return parse_path(p, at, &step);
	}
	return tree_new(p, NODE_ALL, at, 0);
}

/* --- Names: a path, or a call --- */

static struct rule_tree parse_name(struct parser *p)
{
	const struct token name = p->lx.token;
	struct rule_step step = {.name = name.data, .name_len = name.data_len};

	lexer_next(&p->lx);
	if (name.kind == TOKEN_WORD && lexer_is_sign(&p->lx, '('))
		return parse_steps_of(p, parse_call(p, name.at, name.data, name.data_len));
	if (name.kind == TOKEN_WORD && rule_name_is_payload(name.data, name.data_len))
		return parse_steps_of(p, parse_payload(p, name.at));
	return parse_path(p, name.at, &step);
}

/* --- All of them --- */

static struct rule_tree parse_parentheses(struct parser *p)
{
	struct rule_tree t;

	lexer_next(&p->lx);
	if (lexer_is_word(&p->lx, WORD_SELECT)) {
		lexer_fail(&p->lx, p->lx.token.at,
			   "a SELECT in a SELECT is AWS's and not part of this language; "
			   "list[0].x and get() reach into arrays");
		return nothing;
	}
	t = parse_expression(p);
	if (!p->lx.error && !lexer_skip_sign(&p->lx, ')'))
		lexer_fail_expected(&p->lx, "')'");
	return t;
}

static struct rule_tree fail_value(struct parser *p)
{
	if (lexer_is_word(&p->lx, WORD_NOT))
		lexer_fail_expected(&p->lx, "a value (NOT is put in parentheses here)");
	else if (lexer_is_sign(&p->lx, '*'))
		lexer_fail_expected(&p->lx, "a value (the payload is called payload)");
	else
		lexer_fail_expected(&p->lx, "a value");
	return nothing;
}

static struct rule_tree parse_word(struct parser *p)
{
	struct value null = {.type = VALUE_NULL};

	switch (p->lx.token.word) {
	case WORD_NONE:
		return parse_name(p);
	case WORD_TRUE:
	case WORD_FALSE:
		return boolean(p, p->lx.token.word == WORD_TRUE);
	case WORD_NULL:
		return literal(p, null);
	case WORD_UNDEFINED:
		return undefined(p);
	case WORD_CASE:
		return parse_steps_of(p, parse_case(p));
	default:
		return fail_value(p);
	}
}

struct rule_tree parse_primary(struct parser *p)
{
	switch (p->lx.token.kind) {
	case TOKEN_WORD:
		return parse_word(p);
	case TOKEN_NAME:
		return parse_name(p);
	case TOKEN_TEXT:
		return text_literal(p);
	case TOKEN_NUMBER:
		return parse_number(p, p->lx.token.at, false);
	case TOKEN_SIGN:
		if (p->lx.token.sign == '(')
			return parse_steps_of(p, parse_parentheses(p));
		if (p->lx.token.sign == '[')
			return parse_steps_of(p, parse_array(p));
		if (p->lx.token.sign == '{')
			return parse_steps_of(p, parse_object(p));
		return fail_value(p);
	case TOKEN_END:
		break;
	}
	return fail_value(p);
}
