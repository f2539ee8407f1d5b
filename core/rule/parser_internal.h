/* SPDX-License-Identifier: Apache-2.0 */
/* What parser.c (operators) and parse_primary.c (values) have of each other. */
#ifndef FG_RULE_PARSER_INTERNAL_H
#define FG_RULE_PARSER_INTERNAL_H

#include "core/rule/parser.h"

/* An empty node over subtrees of this height; none after an error or beyond a limit. */
struct rule_tree tree_new(struct parser *p, enum rule_node_kind kind, size_t at, unsigned below);

/* Into a construct that may contain itself; false: too deep, or there was an error. */
bool parser_enter(struct parser *p);
void parser_leave(struct parser *p);

/* Keep a node of a list that is being parsed; NULL is passed over. */
void parser_push(struct parser *p, struct rule_node *node, const char *key, size_t key_len);

/* The nodes that were pushed since there were `first` of them, in the arena. */
struct rule_node **parser_take_nodes(struct parser *p, size_t first);

/* Expressions with commas between them, pushed, and the sign that closes. Their greatest height. */
unsigned parse_list(struct parser *p, int close);

struct rule_tree parse_number(struct parser *p, size_t at, bool negative);

/* Whatever holds together without parentheses, with the .name and [index] behind it. */
struct rule_tree parse_primary(struct parser *p);

#endif
