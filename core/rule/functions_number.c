/* SPDX-License-Identifier: Apache-2.0 */
/* Of numbers, and of text that reads like one. What has no finite result is undefined. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/rule/evaluation.h"
#include "core/rule/functions_table.h"

#define DECIMALS_MAX 15
#define NO_FRACTION  9007199254740992.0 /* 2^53: numbers from here on have no decimals */

int rule_call_abs(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		  struct rule_result *out)
{
	struct value v;

	(void)e, (void)count;
	if (!rule_to_number(&args[0], &v))
		return 0;
	if (v.type == VALUE_NUMBER)
		rule_set_number(out, fabs(v.u.number));
	else if (v.u.integer == INT64_MIN)
		rule_set_number(out, -(double)v.u.integer);
	else
		rule_set_integer(out, v.u.integer < 0 ? -v.u.integer : v.u.integer);
	return 0;
}

int rule_call_sign(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		   struct rule_result *out)
{
	double x;

	(void)e, (void)count;
	if (rule_to_double(&args[0], &x))
		rule_set_integer(out, (x > 0) - (x < 0));
	return 0;
}

/* To a whole number: an integer stays what it is, for a double has fewer digits. */
static int whole(const struct rule_result *arg, double (*f)(double), struct rule_result *out)
{
	struct value v;

	if (!rule_to_number(arg, &v))
		return 0;
	if (v.type == VALUE_INTEGER)
		rule_set_integer(out, v.u.integer);
	else
		rule_set_whole(out, f(v.u.number));
	return 0;
}

int rule_call_ceil(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		   struct rule_result *out)
{
	(void)e, (void)count;
	return whole(&args[0], ceil, out);
}

int rule_call_floor(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	(void)e, (void)count;
	return whole(&args[0], floor, out);
}

/*
 * To so many decimals. A number that has no more of them is left alone: 1.15 times 100 is a little
 * less than 115 and must not become 1.14. For the same reason half of the last decimal is what is
 * within a rounding error of it: 2.675 becomes 2.68.
 */
static double to_decimals(double x, int64_t decimals, double (*f)(double))
{
	static const double powers[DECIMALS_MAX + 1] = {
		1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
	double scale = powers[decimals], scaled = x * scale;

	if (fabs(scaled) >= NO_FRACTION || round(scaled) / scale == x)
		return x;
	if (f == round)
		scaled += copysign(fabs(scaled) * DBL_EPSILON, x);
	return f(scaled) / scale;
}

static int shorten(const struct rule_result *args, size_t count, double (*f)(double),
		   struct rule_result *out)
{
	int64_t decimals = 0;
	struct value v;

	if (count == 2 && !rule_to_integer(&args[1], &decimals))
		return 0;
	if (decimals <= 0 || (rule_to_number(&args[0], &v) && v.type == VALUE_INTEGER))
		return whole(&args[0], f, out);
	if (!rule_to_number(&args[0], &v))
		return 0;
	rule_set_number(
		out, to_decimals(v.u.number, decimals < DECIMALS_MAX ? decimals : DECIMALS_MAX, f));
	return 0;
}

int rule_call_round(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	(void)e;
	return shorten(args, count, round, out);
}

int rule_call_trunc(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		    struct rule_result *out)
{
	(void)e;
	return shorten(args, count, trunc, out);
}

/* --- The least and the greatest --- */

/* Take the value if it goes before what there is. false: it is no number. */
static bool better(const struct value *v, int wanted, struct rule_result *best)
{
	struct rule_result r = {.defined = true, .value = *v};
	struct value x;

	if (!rule_to_number(&r, &x))
		return false;
	if (!best->defined || rule_compare_numbers(&x, &best->value) * wanted > 0) {
		best->defined = true;
		best->value = x;
	}
	return true;
}

/* Of the arguments, and of the items of those that are arrays: wanted is 1 or -1. */
static int extreme(const struct rule_result *args, size_t count, int wanted,
		   struct rule_result *out)
{
	struct rule_result best = {0};

	for (size_t i = 0; i < count; i++) {
		const struct value *v = &args[i].value, *items = v;
		size_t n = 1;

		if (!args[i].defined)
			return 0;
		if (v->type == VALUE_ARRAY) {
			items = v->u.array.items;
			n = v->u.array.count;
		}
		for (size_t j = 0; j < n; j++)
			if (!better(&items[j], wanted, &best))
				return 0;
	}
	*out = best;
	return 0;
}

int rule_call_min(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		  struct rule_result *out)
{
	(void)e;
	return extreme(args, count, -1, out);
}

int rule_call_max(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		  struct rule_result *out)
{
	(void)e;
	return extreme(args, count, 1, out);
}

/* --- What the C library does with doubles --- */

int rule_call_mod(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		  struct rule_result *out)
{
	(void)count;
	return rule_arithmetic(e, OP_MODULO, &args[0], &args[1], out);
}

#define OF_ONE(name, function)                                                                     \
	int rule_call_##name(struct rule_evaluation *e, const struct rule_result *args,            \
			     size_t count, struct rule_result *out)                                \
	{                                                                                          \
		double x;                                                                          \
                                                                                                   \
		(void)e, (void)count;                                                              \
		if (rule_to_double(&args[0], &x))                                                  \
			rule_set_number(out, function(x));                                         \
		return 0;                                                                          \
	}

#define OF_TWO(name, function)                                                                     \
	int rule_call_##name(struct rule_evaluation *e, const struct rule_result *args,            \
			     size_t count, struct rule_result *out)                                \
	{                                                                                          \
		double x, y;                                                                       \
                                                                                                   \
		(void)e, (void)count;                                                              \
		if (rule_to_double(&args[0], &x) && rule_to_double(&args[1], &y))                  \
			rule_set_number(out, function(x, y));                                      \
		return 0;                                                                          \
	}

OF_ONE(sqrt, sqrt)
OF_ONE(exp, exp)
OF_ONE(ln, log)
OF_ONE(log, log10)
OF_ONE(sin, sin)
OF_ONE(cos, cos)
OF_ONE(tan, tan)
OF_ONE(asin, asin)
OF_ONE(acos, acos)
OF_ONE(atan, atan)
OF_TWO(atan2, atan2)
OF_TWO(power, pow)

/* --- Bits --- */

static bool two_integers(const struct rule_result *args, int64_t *a, int64_t *b)
{
	return rule_to_integer(&args[0], a) && rule_to_integer(&args[1], b);
}

#define OF_BITS(name, operation)                                                                   \
	int rule_call_##name(struct rule_evaluation *e, const struct rule_result *args,            \
			     size_t count, struct rule_result *out)                                \
	{                                                                                          \
		int64_t a, b;                                                                      \
                                                                                                   \
		(void)e, (void)count;                                                              \
		if (two_integers(args, &a, &b))                                                    \
			rule_set_integer(out, a operation b);                                      \
		return 0;                                                                          \
	}

OF_BITS(bitand, &)
OF_BITS(bitor, |)
OF_BITS(bitxor, ^)

int rule_call_bitnot(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		     struct rule_result *out)
{
	int64_t i;

	(void)e, (void)count;
	if (rule_to_integer(&args[0], &i))
		rule_set_integer(out, ~i);
	return 0;
}
