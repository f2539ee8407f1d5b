/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the parser have of each other: parser.c, operators; parse_primary.c, values;
 * parse_call.c; parse_compound.c. */
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

/* The sign that closes a list must be next. */
void parser_close(struct parser *p, int close);

/* --- Each of these goes past what it parses --- */

/* The value of the token that is looked at. */
struct rule_tree parse_literal(struct parser *p, size_t at, struct value v);
struct rule_tree parse_number(struct parser *p, size_t at, bool negative);

struct rule_tree parse_array(struct parser *p);
struct rule_tree parse_object(struct parser *p);
struct rule_tree parse_case(struct parser *p);

/* A call of the function of this name, which has been passed; the parenthesis is looked at. */
struct rule_tree parse_call(struct parser *p, size_t at, const char *name, size_t len);

/* A .name or [index]; false: there is none, or there was an error. */
bool parse_step(struct parser *p, struct rule_step *step);

/* The steps behind what has none of its own: f(x).name is get(f(x), 'name'). */
struct rule_tree parse_steps_of(struct parser *p, struct rule_tree t);

/* Whatever holds together without parentheses, with the steps behind it. */
struct rule_tree parse_primary(struct parser *p);

#endif
