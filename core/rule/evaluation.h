/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What evaluation is made of, shared by eval.c, functions_*.c and template.c: conversions between
 * types (convert.c), equality and order (compare.c), arithmetic and LIKE. docs/rules.md, "Types",
 * is the specification.
 *
 * A conversion says 1: here it is; 0: there is none, so the result is undefined; or -errno with the
 * reason in e->why. Nothing here makes NaN or an infinity, and nothing changes its input.
 */
#ifndef FG_RULE_EVALUATION_H
#define FG_RULE_EVALUATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/rule/functions.h"

struct rule_text { /* UTF-8, not NUL-terminated */
	const char *data;
	size_t len;
};

/* error, with a reason in e->why. */
int rule_fail(struct rule_evaluation *e, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Take from what may be done for the message. 0; -E2BIG: that was all of it. */
int rule_spend(struct rule_evaluation *e, size_t work);

/* 0, -E2BIG for more than RULE_RESULT_MAX, -ENOMEM. */
int rule_alloc_text(struct rule_evaluation *e, size_t len, char **out);

/* 0 or -ENOMEM. */
int rule_alloc(struct rule_evaluation *e, size_t size, void **out);

/* --- Results --- */

void rule_set_boolean(struct rule_result *r, bool b);
void rule_set_integer(struct rule_result *r, int64_t i);
void rule_set_number(struct rule_result *r, double x); /* undefined when not finite */
void rule_set_whole(struct rule_result *r, double x);  /* an integer if it fits, or a number */
void rule_set_text(struct rule_result *r, const char *data, size_t len);
void rule_set_bytes(struct rule_result *r, const char *data, size_t len);

/* --- Conversions --- */

/* A number, or text that reads like one: of type VALUE_INTEGER or VALUE_NUMBER. */
bool rule_to_number(const struct rule_result *r, struct value *out);
bool rule_to_double(const struct rule_result *r, double *out);

/* As rule_to_number, then rounded down; false also when it does not fit. */
bool rule_to_integer(const struct rule_result *r, int64_t *out);

/* A boolean, or the text "true" or "false" in any case. */
bool rule_to_boolean(const struct rule_result *r, bool *out);

/* As JSON writes it, text without its quotes. Not null. */
int rule_to_text(struct rule_evaluation *e, const struct rule_result *r, struct rule_text *out);

/* The bytes of bytes, or of the text. */
int rule_to_bytes(struct rule_evaluation *e, const struct rule_result *r, struct rule_text *out);

/* --- Values --- */

/* The member's name: its key, or its label in decimal, written to buffer. */
#define RULE_LABEL_MAX 24
struct rule_text rule_member_name(const struct member *m, char buffer[RULE_LABEL_MAX]);

/* Is this the member's name? */
bool rule_member_is(const struct member *m, const char *name, size_t len);

/* The member's value, or NULL; also when v is no map. */
const struct value *rule_member(const struct value *v, const char *name, size_t len);

/* In place of the member of that name, or behind the last one: there must be room. */
void rule_put(struct value *map, const char *name, size_t len, const struct value *v);

/* Both are defined. Values of two types are not equal, save an integer and a number. */
bool rule_equal(const struct value *a, const struct value *b);

/* Two numbers, exactly: below 0, 0, above 0. */
int rule_compare_numbers(const struct value *a, const struct value *b);

/* false: neither is before the other nor are they equal. */
bool rule_compare(const struct rule_result *a, const struct rule_result *b, int *order);

/* OP_ADD to OP_MODULO. 0 or -errno. */
int rule_arithmetic(struct rule_evaluation *e, enum rule_operator op, const struct rule_result *a,
		    const struct rule_result *b, struct rule_result *out);

/* A boolean, or undefined. 0 or -errno. */
int rule_like(struct rule_evaluation *e, const struct rule_result *subject,
	      const struct rule_result *pattern, struct rule_result *out);

#endif
