/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions from text. Private to core/rule: statement.c and template_parse.c put what they are
 * made of around them.
 *
 * One recursive function per construct, and one for all binary operators, by level. Every
 * construct that may contain itself counts against PARSER_DEPTH_MAX before it is entered, and every
 * node's height against RULE_DEPTH_MAX when it is made, so neither parsing nor whoever walks the
 * tree later recurses deeper than that allows.
 */
#ifndef FG_RULE_PARSER_H
#define FG_RULE_PARSER_H

#include "core/base/arena.h"
#include "core/rule/ast.h"
#include "core/rule/lexer.h"

/*
 * Parentheses count too, as trees do not know them. No node needs more than two of what counts when
 * it is printed (a NOT and the parentheses around it), so every tree of an allowed height can be
 * printed and read again.
 */
#define PARSER_DEPTH_MAX (2 * RULE_DEPTH_MAX)

/* How tightly an expression holds together; the printer sets parentheses by it. */
enum rule_level {
	LEVEL_OR = 1,
	LEVEL_AND,
	LEVEL_NOT,
	LEVEL_COMPARE, /* = < IN BETWEEN LIKE: not twice in a row without parentheses */
	LEVEL_ADD,
	LEVEL_MULTIPLY,
	LEVEL_NEGATE,
	LEVEL_PRIMARY,
};

struct parser_item { /* of a list that is being parsed */
	struct rule_node *node;
	const char *key;
	size_t key_len;
};

struct parser {
	struct lexer lx;
	struct arena *arena;
	unsigned depth;
	size_t nodes;
	struct parser_item items[RULE_NODES_MAX]; /* of all lists that are open, innermost last */
	size_t item_count;
};

struct rule_tree {		/* a node, and the length of the longest way down from it */
	struct rule_node *node; /* NULL: lx.error says why */
	unsigned height;
};

/* Its first token is looked at; afterwards the one behind it is. */
struct rule_tree parse_expression(struct parser *p);

/* The name that SELECT gives an expression without AS; NULL: there is none. */
const char *rule_default_alias(const struct rule_node *n, size_t *len);

#endif
