/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of the rule language: one table, in functions.c. */
#ifndef FG_RULE_FUNCTIONS_H
#define FG_RULE_FUNCTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/rule/ast.h"

/* The result of an expression. Undefined is no value: null is one. */
struct rule_result {
	bool defined;
	struct value value;
};

struct rule_evaluation { /* of one statement and message */
	const struct rule_input *in;
	struct arena *arena;
	const char *name;  /* of the rule, for messages */
	const char *where; /* of the template, likewise; NULL: it is the statement */
	char *why;
	size_t why_len;
};

/* 0, or -EBADMSG, -E2BIG, -ENOMEM with the reason in e->why. What makes no sense of its arguments
 * (abs('x')) is undefined, not an error. */
typedef int rule_function_call(struct rule_evaluation *e, const struct rule_result *args,
			       size_t count, struct rule_result *out);

struct rule_function {
	const char *name; /* as docs/rules.md and rule_print write it; matched without case */
	unsigned min_args, max_args;
	bool takes_all; /* its first argument may be `*`: the payload as it came, as bytes */
	rule_function_call *call;
};

/* NULL: there is none of this name. Aliases (AWS's names) find the function itself, so rule_print
 * writes ours. */
const struct rule_function *rule_function_find(const char *name, size_t len);

/* The name nearest to a misspelt one, for the message; NULL: none is near. */
const char *rule_function_suggest(const char *name, size_t len);

/*
 * cast(x AS type) is a call of `cast` with x and a text literal, the type: "boolean", "decimal",
 * "int" or "string", which is what this gives for a word in the statement, matched without case
 * (also "bool", "number", "integer", "text" and AWS's others). NULL: no type that a value can be
 * cast to.
 */
const char *rule_cast_type(const char *word, size_t len);

/* eval.c: any expression. */
int rule_eval(struct rule_evaluation *e, const struct rule_node *n, struct rule_result *out);

#endif
