/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "core/rule/evaluation.h"

/* false: it does not fit, or is a division by zero, which is tried with doubles next. */
static bool integers(enum rule_operator op, int64_t a, int64_t b, int64_t *out)
{
	switch (op) {
	case OP_ADD:
		return !__builtin_add_overflow(a, b, out);
	case OP_SUBTRACT:
		return !__builtin_sub_overflow(a, b, out);
	case OP_MULTIPLY:
		return !__builtin_mul_overflow(a, b, out);
	case OP_DIVIDE:
		if (b == 0 || (b == -1 && a == INT64_MIN))
			return false;
		*out = a / b;
		return true;
	case OP_MODULO:
		if (b == 0)
			return false;
		*out = b == -1 ? 0 : a % b;
		return true;
	default:
		return false;
	}
}

/* What is divided by zero becomes NaN or infinite here, so rule_set_number makes it undefined. */
static double doubles(enum rule_operator op, double a, double b)
{
	switch (op) {
	case OP_ADD:
		return a + b;
	case OP_SUBTRACT:
		return a - b;
	case OP_MULTIPLY:
		return a * b;
	case OP_DIVIDE:
		return a / b;
	case OP_MODULO:
		return fmod(a, b);
	default:
		return NAN;
	}
}

static void calculate(enum rule_operator op, const struct value *a, const struct value *b,
		      struct rule_result *out)
{
	int64_t i;

	if (a->type == VALUE_INTEGER && b->type == VALUE_INTEGER &&
	    integers(op, a->u.integer, b->u.integer, &i)) {
		rule_set_integer(out, i);
		return;
	}
	rule_set_number(out,
			doubles(op, a->type == VALUE_INTEGER ? (double)a->u.integer : a->u.number,
				b->type == VALUE_INTEGER ? (double)b->u.integer : b->u.number));
}

static int concatenate(struct rule_evaluation *e, const struct rule_result *a,
		       const struct rule_result *b, struct rule_result *out)
{
	struct rule_text x, y;
	char *both;
	int rc;

	out->defined = false;
	rc = rule_to_text(e, a, &x);
	if (rc == 1)
		rc = rule_to_text(e, b, &y);
	if (rc != 1)
		return rc;
	rc = rule_alloc_text(e, x.len + y.len, &both);
	if (rc)
		return rc;
	memcpy(both, x.data, x.len);
	memcpy(both + x.len, y.data, y.len);
	rule_set_text(out, both, x.len + y.len);
	return 0;
}

static bool is_text(const struct rule_result *r)
{
	return r->defined && r->value.type == VALUE_TEXT;
}

int rule_arithmetic(struct rule_evaluation *e, enum rule_operator op, const struct rule_result *a,
		    const struct rule_result *b, struct rule_result *out)
{
	struct value x, y;

	if (op == OP_ADD && (is_text(a) || is_text(b)))
		return concatenate(e, a, b, out);
	out->defined = false;
	if (rule_to_number(a, &x) && rule_to_number(b, &y))
		calculate(op, &x, &y, out);
	return 0;
}
