/* SPDX-License-Identifier: Apache-2.0 */
/* Values: literals, paths, calls, arrays, objects, CASE, and what is in parentheses. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/rule/functions.h"
#include "core/rule/parser_internal.h"

#define CAST_TYPES "boolean, decimal, int or string"
#define NUMBER_MAX 400 /* digits of a number: more tell a double nothing */

static const struct rule_tree nothing;

/* --- Lists --- */

void parser_push(struct parser *p, struct rule_node *node, const char *key, size_t key_len)
{
	/* Each entry is a node, of which there are no more than this. */
	if (node && p->item_count < RULE_NODES_MAX)
		p->items[p->item_count++] = (struct parser_item){node, key, key_len};
}

struct rule_node **parser_take_nodes(struct parser *p, size_t first)
{
	size_t count = p->item_count - first;
	struct rule_node **nodes;

	p->item_count = first;
	if (p->lx.error)
		return NULL;
	nodes = arena_alloc(p->arena, count * sizeof(struct rule_node *));
	if (!nodes) {
		lexer_fail_memory(&p->lx);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		nodes[i] = p->items[first + i].node;
	return nodes;
}

static void expect_close(struct parser *p, int close)
{
	char what[16];

	if (p->lx.error || lexer_skip_sign(&p->lx, close))
		return;
	snprintf(what, sizeof(what), "',' or '%c'", close);
	lexer_fail_expected(&p->lx, what);
}

unsigned parse_list(struct parser *p, int close)
{
	unsigned height = 0;

	do {
		struct rule_tree item = parse_expression(p);

		parser_push(p, item.node, NULL, 0);
		height = item.height > height ? item.height : height;
	} while (!p->lx.error && lexer_skip_sign(&p->lx, ','));
	expect_close(p, close);
	return height;
}

/* --- Literals --- */

/* The token that is looked at. */
static struct rule_tree literal_at(struct parser *p, size_t at, struct value v)
{
	struct rule_tree t = tree_new(p, NODE_LITERAL, at, 0);

	if (t.node)
		t.node->u.literal = v;
	lexer_next(&p->lx);
	return t;
}

static struct rule_tree literal(struct parser *p, struct value v)
{
	return literal_at(p, p->lx.token.at, v);
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
	return literal_at(p, at, v);
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

/* A .name or [index], if there is one. */
static bool parse_step(struct parser *p, struct rule_step *step)
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

/* --- Calls --- */

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
	return literal(p, v);
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
	expect_close(p, ')');
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

/* The name has been passed, the parenthesis is looked at. */
static struct rule_tree parse_call(struct parser *p, size_t at, const char *name, size_t len)
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

/* What has no steps of its own: f(x).name is get(f(x), 'name'). */
static struct rule_tree parse_steps_of(struct parser *p, struct rule_tree t)
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

/* --- Arrays, objects, CASE, parentheses --- */

static struct rule_tree parse_array(struct parser *p)
{
	size_t at = p->lx.token.at, first = p->item_count, count;
	struct rule_node **items;
	struct rule_tree t;
	unsigned height = 0;

	lexer_next(&p->lx);
	if (!lexer_skip_sign(&p->lx, ']'))
		height = parse_list(p, ']');
	count = p->item_count - first;
	items = parser_take_nodes(p, first);
	t = tree_new(p, NODE_ARRAY, at, height);
	if (t.node) {
		t.node->u.array.items = items;
		t.node->u.array.count = count;
	}
	return t;
}

static bool parse_key(struct parser *p, size_t first, const char **key, size_t *len)
{
	const struct token t = p->lx.token;

	if (t.kind != TOKEN_TEXT && t.kind != TOKEN_NAME) {
		lexer_fail_expected(&p->lx, "a key in quotes");
		return false;
	}
	for (size_t i = first; i < p->item_count; i++) {
		if (p->items[i].key_len == t.data_len &&
		    memcmp(p->items[i].key, t.data, t.data_len) == 0) {
			lexer_fail(&p->lx, t.at, "the object has this key already");
			return false;
		}
	}
	*key = t.data;
	*len = t.data_len;
	lexer_next(&p->lx);
	if (lexer_skip_sign(&p->lx, ':'))
		return true;
	lexer_fail_expected(&p->lx, "':'");
	return false;
}

static unsigned parse_pairs(struct parser *p, size_t first)
{
	unsigned height = 0;

	do {
		struct rule_tree value;
		const char *key;
		size_t len;

		if (!parse_key(p, first, &key, &len))
			break;
		value = parse_expression(p);
		parser_push(p, value.node, key, len);
		height = value.height > height ? value.height : height;
	} while (!p->lx.error && lexer_skip_sign(&p->lx, ','));
	expect_close(p, '}');
	return height;
}

static struct rule_tree parse_object(struct parser *p)
{
	size_t at = p->lx.token.at, first = p->item_count, count;
	struct rule_pair *pairs;
	struct rule_tree t;
	unsigned height = 0;

	lexer_next(&p->lx);
	if (!lexer_skip_sign(&p->lx, '}'))
		height = parse_pairs(p, first);
	count = p->item_count - first;
	p->item_count = first;
	t = tree_new(p, NODE_OBJECT, at, height);
	if (!t.node)
		return nothing;
	pairs = arena_alloc(p->arena, count * sizeof(*pairs));
	if (!pairs) {
		lexer_fail_memory(&p->lx);
		return nothing;
	}
	for (size_t i = 0; i < count; i++)
		pairs[i] = (struct rule_pair){p->items[first + i].key, p->items[first + i].key_len,
					      p->items[first + i].node};
	t.node->u.object.pairs = pairs;
	t.node->u.object.count = count;
	return t;
}

/* Expressions that follow one another as words demand it. */
static struct rule_node *part_of_case(struct parser *p, unsigned *height)
{
	struct rule_tree t = parse_expression(p);

	*height = t.height > *height ? t.height : *height;
	return t.node;
}

/* The arms, pushed two and two. */
static void parse_arms(struct parser *p, unsigned *height)
{
	if (!lexer_is_word(&p->lx, WORD_WHEN))
		lexer_fail_expected(&p->lx, "WHEN");
	while (!p->lx.error && lexer_skip_word(&p->lx, WORD_WHEN)) {
		parser_push(p, part_of_case(p, height), NULL, 0);
		if (!p->lx.error && !lexer_skip_word(&p->lx, WORD_THEN))
			lexer_fail_expected(&p->lx, "THEN");
		if (!p->lx.error)
			parser_push(p, part_of_case(p, height), NULL, 0);
	}
}

static struct rule_tree parse_case(struct parser *p)
{
	size_t at = p->lx.token.at, first = p->item_count, count;
	struct rule_node *subject = NULL, *otherwise = NULL;
	struct rule_arm *arms;
	struct rule_tree t;
	unsigned height = 0;

	lexer_next(&p->lx);
	if (!lexer_is_word(&p->lx, WORD_WHEN))
		subject = part_of_case(p, &height);
	if (!p->lx.error)
		parse_arms(p, &height);
	if (!p->lx.error && lexer_skip_word(&p->lx, WORD_ELSE))
		otherwise = part_of_case(p, &height);
	if (!p->lx.error && !lexer_skip_word(&p->lx, WORD_END))
		lexer_fail_expected(&p->lx, otherwise ? "END" : "WHEN, ELSE or END");
	count = (p->item_count - first) / 2;
	p->item_count = first;
	t = tree_new(p, NODE_CASE, at, height);
	if (!t.node)
		return nothing;
	arms = arena_alloc(p->arena, count * sizeof(*arms));
	if (!arms) {
		lexer_fail_memory(&p->lx);
		return nothing;
	}
	for (size_t i = 0; i < count; i++)
		arms[i] = (struct rule_arm){p->items[first + 2 * i].node,
					    p->items[first + 2 * i + 1].node};
	t.node->u.when.subject = subject;
	t.node->u.when.arms = arms;
	t.node->u.when.count = count;
	t.node->u.when.otherwise = otherwise;
	return t;
}

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
