/* SPDX-License-Identifier: Apache-2.0 */
/* Texts with `${<expression>}` in them. The expression's own parser finds its end, so a brace or a
 * quote inside of it is no trouble. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/payload/text.h"
#include "core/rule/parser.h"
#include "core/rule/template.h"

#define ARENA_CHUNK 512
#define ARENA_LIMIT ((size_t)1024 * 1024) /* as a statement's */

/* One more part. The array is doubled when it is full. */
static struct rule_part *add_part(struct parser *p, struct rule_template *t)
{
	size_t n = t->count;

	if ((n & (n - 1)) == 0) {
		struct rule_part *parts =
			arena_alloc(p->arena, (n ? 2 * n : 1) * sizeof(*t->parts));

		if (!parts) {
			lexer_fail_memory(&p->lx);
			return NULL;
		}
		if (n > 0)
			memcpy(parts, t->parts, n * sizeof(*parts));
		t->parts = parts;
	}
	t->parts[n] = (struct rule_part){0};
	t->count++;
	return &t->parts[n];
}

static void add_text(struct parser *p, struct rule_template *t, const char *text, size_t len)
{
	struct rule_part *part = len > 0 ? add_part(p, t) : NULL;

	if (part) {
		part->text = text;
		part->len = len;
	}
}

static bool any_is_from_payload(struct rule_node *const *nodes, size_t count);

/* May what the expression gives be text that the payload holds? A payload that only decides, as
 * behind WHEN, chooses among the owner's own texts. */
static bool is_from_payload(const struct rule_node *n)
{
	switch (n->kind) {
	case NODE_PATH:
	case NODE_ALL:
	case NODE_ARRAY:
	case NODE_OBJECT:
		return true;
	case NODE_CALL:
		return any_is_from_payload(n->u.call.args, n->u.call.count);
	case NODE_BINARY:
		return n->u.binary.op == OP_ADD &&
		       (is_from_payload(n->u.binary.left) || is_from_payload(n->u.binary.right));
	case NODE_CASE:
		for (size_t i = 0; i < n->u.when.count; i++)
			if (is_from_payload(n->u.when.arms[i].then))
				return true;
		return n->u.when.otherwise && is_from_payload(n->u.when.otherwise);
	default:
		return false;
	}
}

static bool any_is_from_payload(struct rule_node *const *nodes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_from_payload(nodes[i]))
			return true;
	return false;
}

/* lx.pos is behind `${`; it will be behind `}`. */
static void add_expression(struct parser *p, struct rule_template *t)
{
	size_t open = p->lx.pos - 2;
	struct rule_node *expression;
	struct rule_part *part;

	/* What was before is no token of this expression's. */
	p->lx.token = (struct token){.at = open, .len = 2};
	lexer_next(&p->lx);
	expression = parse_expression(p).node;
	if (p->lx.error)
		return;
	if (!lexer_is_sign(&p->lx, '}')) {
		lexer_fail_expected(&p->lx, "'}'");
		return;
	}
	part = add_part(p, t);
	if (part) {
		part->expression = expression;
		part->from_payload = is_from_payload(expression);
	}
}

static void parse_parts(struct parser *p, struct rule_template *t)
{
	struct lexer *lx = &p->lx;
	size_t from = 0;

	while (!lx->error && lx->pos < lx->len) {
		const char *s = lx->copy + lx->pos;

		if (strncmp(s, "$${", 3) == 0) {
			add_text(p, t, lx->copy + from, lx->pos - from);
			from = lx->pos + 1; /* the second '$' begins the plain text */
			lx->pos += 3;
		} else if (strncmp(s, "${", 2) == 0) {
			add_text(p, t, lx->copy + from, lx->pos - from);
			lx->pos += 2;
			add_expression(p, t);
			from = lx->pos;
		} else {
			lx->pos++;
		}
	}
	if (!lx->error)
		add_text(p, t, lx->copy + from, lx->pos - from);
}

static int parse_text(struct rule_template *t, const char *text, size_t len, char *err,
		      size_t err_len)
{
	char subject[RULE_NAME_MAX + 80];
	struct parser *p = malloc(sizeof(*p));
	int error;

	if (!p)
		return -ENOMEM;
	p->arena = &t->arena;
	p->depth = 0;
	p->nodes = 0;
	p->item_count = 0;
	snprintf(subject, sizeof(subject), "rule '%.*s', %.*s", RULE_NAME_MAX, t->name, 60,
		 t->where);
	lexer_init(&p->lx, &t->arena, subject, true, text, len, err, err_len);
	parse_parts(p, t);
	error = p->lx.error;
	free(p);
	return error;
}

int rule_template_parse(struct rule_template **out, const char *name, const char *where,
			const char *text, char *err, size_t err_len)
{
	size_t len = strlen(text);
	struct rule_template *t;
	int error = -ENOMEM;

	if (len > RULE_TEXT_MAX)
		return text_reason(err, err_len, -EINVAL,
				   "rule '%s', %s: a text of %zu bytes; the limit is %d", name,
				   where, len, RULE_TEXT_MAX);
	t = calloc(1, sizeof(*t));
	if (!t)
		goto no_memory;
	arena_init(&t->arena, ARENA_CHUNK, ARENA_LIMIT);
	t->name = arena_strndup(&t->arena, name, strlen(name));
	t->where = arena_strndup(&t->arena, where, strlen(where));
	if (!t->name || !t->where)
		goto no_memory;
	error = parse_text(t, text, len, err, err_len);
	if (error == -ENOMEM)
		goto no_memory;
	if (error) {
		rule_template_free(t);
		return error;
	}
	*out = t;
	return 0;

no_memory:
	rule_template_free(t);
	return text_reason(err, err_len, -ENOMEM, "rule '%s', %s: no memory", name, where);
}

void rule_template_free(struct rule_template *t)
{
	if (!t)
		return;
	arena_free(&t->arena);
	free(t);
}
