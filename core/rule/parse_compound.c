/* SPDX-License-Identifier: Apache-2.0 */
/* Lists, and the values that are made of others: arrays, objects, CASE. */
#include <stdio.h>
#include <string.h>

#include "core/rule/parser_internal.h"

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

void parser_close(struct parser *p, int close)
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
	parser_close(p, close);
	return height;
}

/* --- Arrays, objects, CASE, parentheses --- */

struct rule_tree parse_array(struct parser *p)
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
	parser_close(p, '}');
	return height;
}

struct rule_tree parse_object(struct parser *p)
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

struct rule_tree parse_case(struct parser *p)
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
