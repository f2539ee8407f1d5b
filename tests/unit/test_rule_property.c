/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Printing and parsing undo each other. Thousands of statements are made as trees, at random and
 * with every kind of node, not as text, so the printer is asked for everything that parsing could
 * give: each is printed, parsed, the same, and printed the same again.
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
#include "core/rule/parser.h"
#include "rule_same.h"

#define STATEMENTS 20000
#define SEED	   0x5eed2026u

static uint64_t random_state;
static size_t nodes_left;
static struct rule_statement *made; /* the one that is being made */

/* xorshift64*: the same on every machine. */
static uint32_t any(uint32_t below)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

static void *get_memory(size_t size)
{
	void *p = arena_alloc(&made->arena, size);

	assert_non_null(p);
	return p;
}

static struct rule_node *node(enum rule_node_kind kind)
{
	struct rule_node *n = get_memory(sizeof(*n));

	*n = (struct rule_node){.kind = kind};
	nodes_left -= nodes_left > 0;
	return n;
}

/* --- Words and numbers that are hard to print --- */

static const char *hard_text(void)
{
	static const char *const texts[] = {
		"a",	 "temp",   "it's",     "\"",	 "''",		"",	"payload",
		"from",	 "END",	   "2nd",      "a b",	 "gr\303\274n", "\\",	"line\nbreak",
		"${x}",	 "--",	   "value",    "device", "true",	"null", "_x9",
		"\"\"a", "a.b[0]", "\001\177", "SELECT", "'",		"mod",	"\360\237\214\241",
	};

	return texts[any(sizeof(texts) / sizeof(texts[0]))];
}

static struct value hard_integer(void)
{
	static const int64_t integers[] = {0,	      1,	 -1,	    42,		  -7,
					   INT64_MAX, INT64_MIN, INT32_MAX, INT64_MIN + 1};
	struct value v = {.type = VALUE_INTEGER};

	v.u.integer = integers[any(sizeof(integers) / sizeof(integers[0]))];
	return v;
}

static struct value hard_number(void)
{
	static const double numbers[] = {0.0,
					 -0.0,
					 0.1,
					 -1.5,
					 1e22,
					 1e-7,
					 5e-324,
					 1.7976931348623157e308,
					 1e300,
					 -1e-300,
					 9.007199254740993e15,
					 1.0 / 3,
					 100.0,
					 9.223372036854775808e18};
	struct value v = {.type = VALUE_NUMBER};

	v.u.number = numbers[any(sizeof(numbers) / sizeof(numbers[0]))];
	return v;
}

static struct value hard_literal(void)
{
	struct value v = {.type = VALUE_NULL};

	switch (any(5)) {
	case 0:
		return v;
	case 1:
		v.type = VALUE_BOOL;
		v.u.boolean = any(2);
		return v;
	case 2:
		return hard_integer();
	case 3:
		return hard_number();
	default:
		v.type = VALUE_TEXT;
		v.u.text.data = hard_text();
		v.u.text.len = strlen(v.u.text.data);
		return v;
	}
}

/* --- Trees --- */

static struct rule_node *tree(unsigned height);

static struct rule_node **trees(size_t count, unsigned height)
{
	struct rule_node **list = get_memory(count * sizeof(struct rule_node *));

	for (size_t i = 0; i < count; i++)
		list[i] = tree(height);
	return list;
}

static struct rule_node *a_path(void)
{
	struct rule_node *n = node(NODE_PATH);

	n->u.path.count = 1 + any(4);
	n->u.path.steps = get_memory(n->u.path.count * sizeof(*n->u.path.steps));
	for (size_t i = 0; i < n->u.path.count; i++) {
		struct rule_step *s = &n->u.path.steps[i];

		*s = (struct rule_step){.is_index = i > 0 && any(3) == 0};
		if (s->is_index) {
			s->index = any(2) ? any(10) : INT32_MAX;
		} else {
			s->name = hard_text();
			s->name_len = strlen(s->name);
		}
	}
	return n;
}

static struct rule_node *a_literal(struct value v)
{
	struct rule_node *n = node(NODE_LITERAL);

	n->u.literal = v;
	return n;
}

static struct rule_node *a_leaf(void)
{
	switch (any(6)) {
	case 0:
		return node(NODE_UNDEFINED);
	case 1:
		return node(NODE_ALL);
	case 2:
	case 3:
		return a_literal(hard_literal());
	default:
		return a_path();
	}
}

static struct rule_node *a_call(unsigned height)
{
	static const char *const names[] = {"abs",  "topic",  "device", "coalesce", "get",
					    "cast", "encode", "concat", "substring"};
	const char *name = names[any(sizeof(names) / sizeof(names[0]))];
	struct rule_node *n = node(NODE_CALL);
	const struct rule_function *f = rule_function_find(name, strlen(name));
	struct value type = {.type = VALUE_TEXT};

	assert_non_null(f);
	n->u.call.function = f;
	n->u.call.count = f->min_args +
			  any(f->max_args - f->min_args < 3 ? f->max_args - f->min_args + 1 : 3);
	n->u.call.args = trees(n->u.call.count, height);
	if (strcmp(name, "cast") == 0) {
		type.u.text.data = any(2) ? "int" : "string";
		type.u.text.len = strlen(type.u.text.data);
		n->u.call.args[1] = a_literal(type);
	}
	return n;
}

static struct rule_node *a_case(unsigned height)
{
	struct rule_node *n = node(NODE_CASE);

	n->u.when.subject = any(2) ? tree(height) : NULL;
	n->u.when.count = 1 + any(3);
	n->u.when.arms = get_memory(n->u.when.count * sizeof(*n->u.when.arms));
	for (size_t i = 0; i < n->u.when.count; i++) {
		n->u.when.arms[i].when = tree(height);
		n->u.when.arms[i].then = tree(height);
	}
	n->u.when.otherwise = any(2) ? tree(height) : NULL;
	return n;
}

static struct rule_node *an_array(unsigned height)
{
	struct rule_node *n = node(NODE_ARRAY);

	n->u.array.count = any(4);
	n->u.array.items = trees(n->u.array.count, height);
	return n;
}

/* Keys are different by their first character. */
static struct rule_node *an_object(unsigned height)
{
	struct rule_node *n = node(NODE_OBJECT);

	n->u.object.count = any(4);
	n->u.object.pairs = get_memory(n->u.object.count * sizeof(*n->u.object.pairs));
	for (size_t i = 0; i < n->u.object.count; i++) {
		char key[64];
		int len = snprintf(key, sizeof(key), "%c%s", (char)('0' + i), hard_text());

		n->u.object.pairs[i] = (struct rule_pair){
			arena_strndup(&made->arena, key, (size_t)len), (size_t)len, tree(height)};
	}
	return n;
}

/* What IN looks through without parentheses: see parse_in_array. */
static struct rule_node *what_gives_an_array(unsigned height)
{
	switch (any(5)) {
	case 0:
		return an_array(height);
	case 1:
		return a_call(height);
	case 2:
		return a_case(height);
	case 3:
		return node(NODE_ALL);
	default:
		return a_path();
	}
}

static struct rule_node *an_in(unsigned height)
{
	struct rule_node *n = node(NODE_IN);

	n->u.in.subject = tree(height);
	n->u.in.negated = any(2);
	n->u.in.is_array = any(2);
	n->u.in.count = n->u.in.is_array ? 1 : 1 + any(3);
	if (n->u.in.is_array) {
		n->u.in.items = get_memory(sizeof(struct rule_node *));
		n->u.in.items[0] = height > 1 ? what_gives_an_array(height - 1) : a_path();
	} else {
		n->u.in.items = trees(n->u.in.count, height);
	}
	return n;
}

static struct rule_node *a_between_or_like(unsigned height)
{
	bool is_like = any(2);
	struct rule_node *n = node(is_like ? NODE_LIKE : NODE_BETWEEN);

	if (is_like) {
		n->u.like.subject = tree(height);
		n->u.like.pattern = tree(height);
		n->u.like.negated = any(2);
	} else {
		n->u.between.subject = tree(height);
		n->u.between.low = tree(height);
		n->u.between.high = tree(height);
		n->u.between.negated = any(2);
	}
	return n;
}

/* Of this height at most. One side of an operator is often a leaf, so that trees get deep. */
static struct rule_node *tree(unsigned height)
{
	struct rule_node *n;
	bool left;

	if (height <= 1 || nodes_left == 0 || any(8) == 0)
		return a_leaf();
	height--;
	switch (any(13)) {
	case 0:
		return a_call(height);
	case 1:
		return a_case(height);
	case 2:
		return an_array(height);
	case 3:
		return an_object(height);
	case 4:
	case 5:
		return an_in(height);
	case 6:
		return a_between_or_like(height);
	case 7:
	case 8:
		n = node(any(2) ? NODE_NOT : NODE_NEGATE);
		n->u.operand = tree(height);
		return n;
	default:
		n = node(NODE_BINARY);
		n->u.binary.op = (enum rule_operator)any(OP_MODULO + 1);
		left = any(2);
		n->u.binary.left = left ? tree(height) : a_leaf();
		n->u.binary.right = left ? a_leaf() : tree(height);
		return n;
	}
}

/* --- Statements --- */

static bool alias_is_taken(const struct rule_statement *s, size_t count, const char *alias,
			   size_t len)
{
	for (size_t i = 0; i < count; i++)
		if (s->fields[i].alias_len == len && memcmp(s->fields[i].alias, alias, len) == 0)
			return true;
	return false;
}

static void a_field(struct rule_statement *s, size_t i, unsigned height)
{
	struct rule_field *f = &s->fields[i];
	const char *alias;
	size_t len = 0;
	char given[64];

	*f = (struct rule_field){.expression = tree(height), .alias_given = any(2)};
	alias = f->alias_given ? NULL : rule_default_alias(f->expression, &len);
	if (!alias || alias_is_taken(s, i, alias, len)) {
		f->alias_given = true;
		len = (size_t)snprintf(given, sizeof(given), "%s%s%zu", any(2) ? "x" : "",
				       hard_text(), i);
		alias = given;
	}
	f->alias = arena_strndup(&made->arena, alias, len);
	f->alias_len = len;
}

static const char *a_filter(void)
{
	static const char *const filters[] = {"#", "m/d/+/d2c", "it's/\"quoted\"/#",
					      "/", "+/+",	"gr\303\274n/ /x"};

	return filters[any(sizeof(filters) / sizeof(filters[0]))];
}

static struct rule_statement *a_statement(void)
{
	struct rule_statement *s = calloc(1, sizeof(*s));
	unsigned height = 1 + any(any(4) == 0 ? RULE_DEPTH_MAX : 6);

	assert_non_null(s);
	arena_init(&s->arena, 65536, (size_t)16 << 20);
	made = s;
	nodes_left = 1 + any(200);
	s->field_count = 1 + any(3);
	s->fields = get_memory(s->field_count * sizeof(*s->fields));
	for (size_t i = 0; i < s->field_count; i++) {
		if (i == 0 && any(4) == 0)
			s->fields[i] = (struct rule_field){.everything = true, .alias = ""};
		else
			a_field(s, i, height);
	}
	s->filter = a_filter();
	s->where = any(3) ? tree(height) : NULL;
	return s;
}

/* False: its text is longer than a statement may be, so there is nothing to read again. */
static bool check(const struct rule_statement *s, unsigned number)
{
	struct rule_statement *again = NULL;
	char *text = rule_print(s), *second, err[RULE_WHY_MAX];

	assert_non_null(text);
	if (strlen(text) > RULE_TEXT_MAX) {
		free(text);
		return false;
	}
	if (rule_parse(&again, "p", text, strlen(text), err, sizeof(err)) != 0)
		fail_msg("statement %u: %s\n  %s", number, err, text);
	if (!rule_same_statement(s, again))
		fail_msg("statement %u is another one when it is read again:\n  %s", number, text);
	second = rule_print(again);
	assert_string_equal(text, second);
	free(text);
	free(second);
	rule_free(again);
	return true;
}

static void test_what_is_printed_is_read_as_the_same(void **state)
{
	unsigned checked = 0;

	(void)state;
	random_state = SEED;
	for (unsigned i = 0; i < STATEMENTS; i++) {
		struct rule_statement *s = a_statement();

		checked += check(s, i);
		rule_free(s);
	}
	print_message("%u statements of %u, seed %x\n", checked, STATEMENTS, SEED);
	assert_in_range(checked, STATEMENTS * 9 / 10, STATEMENTS);
}

/* The deepest that parsing allows, in the forms that cost the most when they are read again. */
static void test_the_deepest_trees_are_read_as_the_same(void **state)
{
	static const enum rule_node_kind kinds[][2] = {
		{NODE_NOT, NODE_NOT},	    {NODE_NEGATE, NODE_NEGATE}, {NODE_NEGATE, NODE_NOT},
		{NODE_BINARY, NODE_NOT},    {NODE_BINARY, NODE_BINARY}, {NODE_ARRAY, NODE_NOT},
		{NODE_BINARY, NODE_NEGATE}, {NODE_ARRAY, NODE_ARRAY},
	};

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		struct rule_statement *s = calloc(1, sizeof(*s));
		struct rule_node *n, *inner;

		assert_non_null(s);
		arena_init(&s->arena, 65536, (size_t)1 << 20);
		made = s;
		random_state = SEED;
		inner = a_path();
		for (unsigned h = 1; h < RULE_DEPTH_MAX; h++) {
			n = node(kinds[k][h % 2]);
			if (n->kind == NODE_BINARY) {
				n->u.binary.op = OP_MULTIPLY;
				n->u.binary.left = a_path();
				n->u.binary.right = inner;
			} else if (n->kind == NODE_ARRAY) {
				n->u.array.items = get_memory(sizeof(struct rule_node *));
				n->u.array.items[0] = inner;
				n->u.array.count = 1;
			} else {
				n->u.operand = inner;
			}
			inner = n;
		}
		s->fields = get_memory(sizeof(*s->fields));
		s->fields[0] = (struct rule_field){.everything = true};
		s->field_count = 1;
		s->filter = "t";
		s->where = inner;
		assert_true(check(s, (unsigned)k));
		rule_free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_printed_is_read_as_the_same),
		cmocka_unit_test(test_the_deepest_trees_are_read_as_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
