/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A statement in its canonical form: one line, words in capitals, parentheses only where the tree
 * needs them. Recursion ends where parsing's did (RULE_DEPTH_MAX).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rule/functions.h"
#include "core/rule/parser.h"
#include "core/rule/words.h"

struct printer {
	FILE *out;
	bool failed;
};

static const struct {
	const char *sign;
	enum rule_level level;
} operators[] = {
	[OP_OR] = {"OR", LEVEL_OR},
	[OP_AND] = {"AND", LEVEL_AND},
	[OP_EQUAL] = {"=", LEVEL_COMPARE},
	[OP_NOT_EQUAL] = {"<>", LEVEL_COMPARE},
	[OP_LESS] = {"<", LEVEL_COMPARE},
	[OP_LESS_EQUAL] = {"<=", LEVEL_COMPARE},
	[OP_GREATER] = {">", LEVEL_COMPARE},
	[OP_GREATER_EQUAL] = {">=", LEVEL_COMPARE},
	[OP_ADD] = {"+", LEVEL_ADD},
	[OP_SUBTRACT] = {"-", LEVEL_ADD},
	[OP_MULTIPLY] = {"*", LEVEL_MULTIPLY},
	[OP_DIVIDE] = {"/", LEVEL_MULTIPLY},
	[OP_MODULO] = {"%", LEVEL_MULTIPLY},
};

/* Does its text begin with '-'? Then another '-' needs a space before it. */
static bool is_negative(const struct rule_node *n)
{
	if (n->kind != NODE_LITERAL)
		return false;
	if (n->u.literal.type == VALUE_INTEGER)
		return n->u.literal.u.integer < 0;
	return n->u.literal.type == VALUE_NUMBER && signbit(n->u.literal.u.number);
}

static enum rule_level level_of(const struct rule_node *n)
{
	switch (n->kind) {
	case NODE_BINARY:
		return operators[n->u.binary.op].level;
	case NODE_NOT:
		return LEVEL_NOT;
	case NODE_IN:
	case NODE_BETWEEN:
	case NODE_LIKE:
		return LEVEL_COMPARE;
	case NODE_NEGATE:
		return LEVEL_NEGATE;
	case NODE_LITERAL:
		return is_negative(n) ? LEVEL_NEGATE : LEVEL_PRIMARY;
	default:
		return LEVEL_PRIMARY;
	}
}

static void print_node(struct printer *p, const struct rule_node *n);

/* In parentheses, if it would fall apart next to an operator of this level. */
static void print_at(struct printer *p, const struct rule_node *n, enum rule_level level)
{
	bool open = level_of(n) < level;

	if (open)
		fputc('(', p->out);
	print_node(p, n);
	if (open)
		fputc(')', p->out);
}

/* --- Names, texts, literals --- */

static void print_quoted(struct printer *p, const char *s, size_t len, char mark)
{
	fputc(mark, p->out);
	for (size_t i = 0; i < len; i++) {
		if (s[i] == mark)
			fputc(mark, p->out);
		fputc(s[i], p->out);
	}
	fputc(mark, p->out);
}

static void print_name(struct printer *p, const char *s, size_t len)
{
	if (rule_name_is_plain(s, len))
		fwrite(s, 1, len, p->out);
	else
		print_quoted(p, s, len, '"');
}

static void print_path(struct printer *p, const struct rule_node *n)
{
	const struct rule_step *steps = n->u.path.steps;

	if (rule_word(steps[0].name, steps[0].name_len) != WORD_NONE ||
	    rule_name_is_payload(steps[0].name, steps[0].name_len))
		print_quoted(p, steps[0].name, steps[0].name_len, '"');
	else
		print_name(p, steps[0].name, steps[0].name_len);
	for (size_t i = 1; i < n->u.path.count; i++) {
		if (steps[i].is_index) {
			fprintf(p->out, "[%lld]", (long long)steps[i].index);
		} else {
			fputc('.', p->out);
			print_name(p, steps[i].name, steps[i].name_len);
		}
	}
}

static void print_literal(struct printer *p, const struct value *v)
{
	struct arena scratch;
	const char *s;
	size_t len;

	if (v->type == VALUE_TEXT) {
		print_quoted(p, v->u.text.data, v->u.text.len, '\'');
		return;
	}
	arena_init(&scratch, 512, 4096);
	s = value_print_json(&scratch, v, &len);
	if (s)
		fwrite(s, 1, len, p->out);
	else
		p->failed = true;
	arena_free(&scratch);
}

/* --- Expressions --- */

static void print_list(struct printer *p, struct rule_node *const *items, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			fputs(", ", p->out);
		print_node(p, items[i]);
	}
}

/* cast(x AS type) as AWS writes it; '*' where the function takes it. */
static void print_call(struct printer *p, const struct rule_node *n)
{
	const struct rule_function *f = n->u.call.function;
	struct rule_node *const *args = n->u.call.args;

	fprintf(p->out, "%s(", f->name);
	if (strcmp(f->name, "cast") == 0) {
		const struct value *type = &args[1]->u.literal;

		print_node(p, args[0]);
		fprintf(p->out, " AS %.*s", (int)type->u.text.len, type->u.text.data);
	} else if (f->takes_all && n->u.call.count > 0 && args[0]->kind == NODE_ALL) {
		fputs(n->u.call.count > 1 ? "*, " : "*", p->out);
		print_list(p, args + 1, n->u.call.count - 1);
	} else {
		print_list(p, args, n->u.call.count);
	}
	fputc(')', p->out);
}

static void print_negate(struct printer *p, const struct rule_node *n)
{
	const struct rule_node *operand = n->u.operand;
	/* A sign before digits would be the number's own. */
	bool number = operand->kind == NODE_LITERAL && !is_negative(operand) &&
		      (operand->u.literal.type == VALUE_INTEGER ||
		       operand->u.literal.type == VALUE_NUMBER);

	fputc('-', p->out);
	if (number) {
		fputc('(', p->out);
		print_node(p, operand);
		fputc(')', p->out);
		return;
	}
	if (operand->kind == NODE_NEGATE || is_negative(operand))
		fputc(' ', p->out);
	print_at(p, operand, LEVEL_NEGATE);
}

/* Operators of one level are taken from the left; comparisons do not follow one another. */
static void print_binary(struct printer *p, const struct rule_node *n)
{
	enum rule_level level = level_of(n);

	print_at(p, n->u.binary.left, level == LEVEL_COMPARE ? level + 1 : level);
	fprintf(p->out, " %s ", operators[n->u.binary.op].sign);
	print_at(p, n->u.binary.right, level + 1);
}

static void print_in(struct printer *p, const struct rule_node *n)
{
	print_at(p, n->u.in.subject, LEVEL_ADD);
	fputs(n->u.in.negated ? " NOT IN " : " IN ", p->out);
	if (n->u.in.is_array) {
		print_node(p, n->u.in.items[0]);
		return;
	}
	fputc('(', p->out);
	print_list(p, n->u.in.items, n->u.in.count);
	fputc(')', p->out);
}

static void print_between(struct printer *p, const struct rule_node *n)
{
	print_at(p, n->u.between.subject, LEVEL_ADD);
	fputs(n->u.between.negated ? " NOT BETWEEN " : " BETWEEN ", p->out);
	print_at(p, n->u.between.low, LEVEL_ADD);
	fputs(" AND ", p->out);
	print_at(p, n->u.between.high, LEVEL_ADD);
}

static void print_like(struct printer *p, const struct rule_node *n)
{
	print_at(p, n->u.like.subject, LEVEL_ADD);
	fputs(n->u.like.negated ? " NOT LIKE " : " LIKE ", p->out);
	print_at(p, n->u.like.pattern, LEVEL_ADD);
}

static void print_case(struct printer *p, const struct rule_node *n)
{
	fputs("CASE", p->out);
	if (n->u.when.subject) {
		fputc(' ', p->out);
		print_node(p, n->u.when.subject);
	}
	for (size_t i = 0; i < n->u.when.count; i++) {
		fputs(" WHEN ", p->out);
		print_node(p, n->u.when.arms[i].when);
		fputs(" THEN ", p->out);
		print_node(p, n->u.when.arms[i].then);
	}
	if (n->u.when.otherwise) {
		fputs(" ELSE ", p->out);
		print_node(p, n->u.when.otherwise);
	}
	fputs(" END", p->out);
}

static void print_object(struct printer *p, const struct rule_node *n)
{
	fputc('{', p->out);
	for (size_t i = 0; i < n->u.object.count; i++) {
		const struct rule_pair *pair = &n->u.object.pairs[i];

		if (i > 0)
			fputs(", ", p->out);
		print_quoted(p, pair->key, pair->key_len, '\'');
		fputs(": ", p->out);
		print_node(p, pair->value);
	}
	fputc('}', p->out);
}

static void print_node(struct printer *p, const struct rule_node *n)
{
	switch (n->kind) {
	case NODE_LITERAL:
		print_literal(p, &n->u.literal);
		break;
	case NODE_UNDEFINED:
		fputs("undefined", p->out);
		break;
	case NODE_ALL:
		fputs("payload", p->out);
		break;
	case NODE_PATH:
		print_path(p, n);
		break;
	case NODE_CALL:
		print_call(p, n);
		break;
	case NODE_NOT:
		fputs("NOT ", p->out);
		print_at(p, n->u.operand, LEVEL_NOT);
		break;
	case NODE_NEGATE:
		print_negate(p, n);
		break;
	case NODE_BINARY:
		print_binary(p, n);
		break;
	case NODE_IN:
		print_in(p, n);
		break;
	case NODE_BETWEEN:
		print_between(p, n);
		break;
	case NODE_LIKE:
		print_like(p, n);
		break;
	case NODE_CASE:
		print_case(p, n);
		break;
	case NODE_ARRAY:
		fputc('[', p->out);
		print_list(p, n->u.array.items, n->u.array.count);
		fputc(']', p->out);
		break;
	case NODE_OBJECT:
		print_object(p, n);
		break;
	}
}

/* --- The statement --- */

static void print_field(struct printer *p, const struct rule_field *f)
{
	if (f->everything) {
		fputc('*', p->out);
		return;
	}
	print_node(p, f->expression);
	if (!f->alias_given)
		return;
	fputs(" AS ", p->out);
	if (rule_word(f->alias, f->alias_len) != WORD_NONE)
		print_quoted(p, f->alias, f->alias_len, '"');
	else
		print_name(p, f->alias, f->alias_len);
}

char *rule_print(const struct rule_statement *s)
{
	struct printer p = {0};
	char *text = NULL;
	size_t len;

	p.out = open_memstream(&text, &len);
	if (!p.out)
		return NULL;
	fputs("SELECT ", p.out);
	for (size_t i = 0; i < s->field_count; i++) {
		if (i > 0)
			fputs(", ", p.out);
		print_field(&p, &s->fields[i]);
	}
	fputs(" FROM ", p.out);
	print_quoted(&p, s->filter, strlen(s->filter), '\'');
	if (s->where) {
		fputs(" WHERE ", p.out);
		print_node(&p, s->where);
	}
	p.failed |= ferror(p.out) != 0;
	if (fclose(p.out) != 0 || p.failed) {
		free(text);
		return NULL;
	}
	return text;
}
