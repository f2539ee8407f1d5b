/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of functions, and what stands behind values that are no paths. */
#include <stdio.h>
#include <string.h>

#include "core/rule/functions.h"
#include "core/rule/parser_internal.h"

#define CAST_TYPES "boolean, decimal, int or string"

static const struct rule_tree nothing;

static void fail_unknown_function(struct parser *p, size_t at, const char *name, size_t len)
{
	const char *near = rule_function_suggest(name, len);
	int n = len < 40 ? (int)len : 40;

	if (rule_function_is_foreign(name, len))
		lexer_fail(&p->lx, at, "%.*s() is AWS's and not part of this language", n, name);
	else if (near)
		lexer_fail(&p->lx, at, "there is no function %.*s(); do you mean %s()?", n, name,
			   near);
	else
		lexer_fail(&p->lx, at, "there is no function %.*s()", n, name);
}

static void check_count(struct parser *p, const struct rule_function *f, size_t at, size_t count)
{
	char range[40];

	if (count >= f->min_args && count <= f->max_args)
		return;
	if (f->min_args == f->max_args)
		snprintf(range, sizeof(range), "%u argument%s", f->min_args,
			 f->min_args == 1 ? "" : "s");
	else if (f->max_args - f->min_args == 1)
		snprintf(range, sizeof(range), "%u or %u arguments", f->min_args, f->max_args);
	else
		snprintf(range, sizeof(range), "%u to %u arguments", f->min_args, f->max_args);
	lexer_fail(&p->lx, at, "%s() takes %s, not %zu", f->name, range, count);
}

/* `*`, as the first argument of a function that takes the payload. */
static struct rule_tree parse_all(struct parser *p, const struct rule_function *f, bool is_first)
{
	struct rule_tree t;

	if (!f->takes_all || !is_first) {
		lexer_fail(&p->lx, p->lx.token.at, "%s() does not take '*' %s", f->name,
			   f->takes_all ? "here" : "(the payload is called payload)");
		return nothing;
	}
	t = tree_new(p, NODE_ALL, p->lx.token.at, 0);
	lexer_next(&p->lx);
	return t;
}

/* cast(x AS Type): the type is the second argument, in the spelling of the table. */
static struct rule_tree parse_cast_type(struct parser *p)
{
	const struct token *t = &p->lx.token;
	struct value v = {.type = VALUE_TEXT};
	const char *type = NULL;

	if (t->kind == TOKEN_WORD || t->kind == TOKEN_TEXT)
		type = rule_cast_type(t->data, t->data_len);
	if (!type) {
		lexer_fail_expected(&p->lx, "a type (" CAST_TYPES ")");
		return nothing;
	}
	v.u.text.data = type;
	v.u.text.len = strlen(type);
	return parse_literal(p, p->lx.token.at, v);
}

static bool is_cast(const struct rule_function *f)
{
	return strcmp(f->name, "cast") == 0;
}

/* Up to and with the closing parenthesis; the greatest height. */
static unsigned parse_arguments(struct parser *p, const struct rule_function *f, size_t first)
{
	unsigned height = 0;

	if (lexer_skip_sign(&p->lx, ')'))
		return 0;
	for (;;) {
		size_t count = p->item_count - first;
		struct rule_tree arg;

		if (is_cast(f) && count == 1)
			arg = parse_cast_type(p);
		else if (lexer_is_sign(&p->lx, '*'))
			arg = parse_all(p, f, count == 0);
		else
			arg = parse_expression(p);
		parser_push(p, arg.node, NULL, 0);
		height = arg.height > height ? arg.height : height;
		if (p->lx.error)
			return height;
		if (is_cast(f) && count == 0 && lexer_skip_word(&p->lx, WORD_AS))
			continue;
		if (!lexer_skip_sign(&p->lx, ','))
			break;
	}
	parser_close(p, ')');
	return height;
}

static struct rule_tree call_new(struct parser *p, const struct rule_function *f, size_t at,
				 size_t first, unsigned height)
{
	size_t count = p->item_count - first;
	struct rule_node **args = parser_take_nodes(p, first);
	struct rule_tree t;

	if (!p->lx.error)
		check_count(p, f, at, count);
	t = tree_new(p, NODE_CALL, at, height);
	if (t.node) {
		t.node->u.call.function = f;
		t.node->u.call.args = args;
		t.node->u.call.count = count;
	}
	return t;
}

struct rule_tree parse_call(struct parser *p, size_t at, const char *name, size_t len)
{
	const struct rule_function *f = rule_function_find(name, len);
	size_t first = p->item_count;
	unsigned height;

	if (!f) {
		fail_unknown_function(p, at, name, len);
		return nothing;
	}
	lexer_next(&p->lx);
	height = parse_arguments(p, f, first);
	return call_new(p, f, at, first, height);
}

struct rule_tree parse_steps_of(struct parser *p, struct rule_tree t)
{
	const struct rule_function *get = rule_function_find("get", 3);
	struct rule_step step;
	size_t at = p->lx.token.at;

	while (t.node && parse_step(p, &step)) {
		size_t first = p->item_count;
		struct rule_tree which = tree_new(p, NODE_LITERAL, at, 0);

		if (!which.node)
			return nothing;
		if (step.is_index) {
			which.node->u.literal.type = VALUE_INTEGER;
			which.node->u.literal.u.integer = step.index;
		} else {
			which.node->u.literal.type = VALUE_TEXT;
			which.node->u.literal.u.text.data = step.name;
			which.node->u.literal.u.text.len = step.name_len;
		}
		parser_push(p, t.node, NULL, 0);
		parser_push(p, which.node, NULL, 0);
		t = call_new(p, get, at, first, t.height);
		at = p->lx.token.at;
	}
	return p->lx.error ? nothing : t;
}
