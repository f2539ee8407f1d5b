/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule's statement as a tree: made by parser.c, written out by print.c, walked by eval.c.
 * Immutable once parsed; all of it is in the statement's arena. docs/rules.md is the grammar.
 */
#ifndef FG_RULE_AST_H
#define FG_RULE_AST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/payload/value.h"
#include "core/rule/statement.h"

struct rule_function; /* functions.h */

enum rule_node_kind {
	NODE_LITERAL,	/* null, true, 12, 1.5, 'text' */
	NODE_UNDEFINED, /* the word `undefined` */
	NODE_ALL,	/* `payload`, also `*` as an argument: encode(*, 'base64') */
	NODE_PATH,	/* temperature, state.reported.v, list[0].x, "odd name" */
	NODE_CALL,
	NODE_NOT,
	NODE_NEGATE,
	NODE_BINARY,
	NODE_IN,
	NODE_BETWEEN,
	NODE_LIKE,
	NODE_CASE,
	NODE_ARRAY,  /* [a, b] */
	NODE_OBJECT, /* {'a': b} */
};

enum rule_operator {
	OP_OR,
	OP_AND,
	OP_EQUAL,
	OP_NOT_EQUAL,
	OP_LESS,
	OP_LESS_EQUAL,
	OP_GREATER,
	OP_GREATER_EQUAL,
	OP_ADD,
	OP_SUBTRACT,
	OP_MULTIPLY,
	OP_DIVIDE,
	OP_MODULO,
};

struct rule_step { /* of a path */
	bool is_index;
	int64_t index; /* from 0 */
	const char *name;
	size_t name_len;
};

struct rule_arm {
	struct rule_node *when, *then;
};

struct rule_pair {
	const char *key;
	size_t key_len;
	struct rule_node *value;
};

struct rule_node {
	enum rule_node_kind kind;
	uint32_t at; /* byte in the statement's text */
	union {
		struct value literal;
		struct {
			struct rule_step *steps; /* the first is a name */
			size_t count;
		} path;
		struct {
			const struct rule_function *function;
			struct rule_node **args;
			size_t count;
		} call;
		struct rule_node *operand; /* NOT, NEGATE */
		struct {
			enum rule_operator op;
			struct rule_node *left, *right;
		} binary;
		struct {
			struct rule_node *subject;
			struct rule_node **items; /* IN (1, 2); or one that gives an array */
			size_t count;
			bool negated, is_array;
		} in;
		struct {
			struct rule_node *subject, *low, *high;
			bool negated;
		} between;
		struct {
			struct rule_node *subject, *pattern;
			bool negated;
		} like;
		struct {
			struct rule_node *subject; /* NULL: CASE WHEN condition ... */
			struct rule_arm *arms;
			size_t count;
			struct rule_node *otherwise; /* NULL: undefined */
		} when;
		struct {
			struct rule_node **items;
			size_t count;
		} array;
		struct {
			struct rule_pair *pairs;
			size_t count;
		} object;
	} u;
};

struct rule_field {
	bool everything; /* `*`: all members of the payload */
	struct rule_node *expression;
	const char *alias; /* given by AS, or taken from the expression; NUL-terminated */
	size_t alias_len;
	bool alias_given;
};

struct rule_statement {
	struct arena arena;
	char *name; /* of the rule, for messages */
	struct rule_field *fields;
	size_t field_count;
	const char *filter;
	struct rule_node *where; /* NULL: always */
};

#endif
