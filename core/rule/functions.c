/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of functions. Only parsing looks names up, so a walk through the table is good enough.
 * What the functions do is in functions_*.c, by kind.
 */
#include "core/rule/functions.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

#define MANY	       64 /* arguments of a function that takes any number */
#define SUGGEST_MAX    24 /* longer words are not compared */
#define SUGGEST_ERRORS 2

static int pending(struct rule_evaluation *e, const struct rule_result *args, size_t count,
		   struct rule_result *out)
{
	(void)e, (void)args, (void)count;
	out->defined = false;
	return 0;
}

static const struct rule_function table[] = {
	/* the message */
	{"topic", 0, 1, false, pending},
	{"device", 0, 0, false, pending},
	{"timestamp", 0, 0, false, pending},
	{"received_at", 0, 0, false, pending},

	/* any value */
	{"isUndefined", 1, 1, false, pending},
	{"isNull", 1, 1, false, pending},
	{"typeof", 1, 1, false, pending},
	{"cast", 2, 2, false, pending},
	{"coalesce", 1, MANY, false, pending},
	{"nanvl", 2, 2, false, pending},
	{"get", 2, 2, false, pending},

	/* numbers */
	{"abs", 1, 1, false, pending},
	{"sign", 1, 1, false, pending},
	{"ceil", 1, 1, false, pending},
	{"floor", 1, 1, false, pending},
	{"round", 1, 2, false, pending},
	{"trunc", 1, 2, false, pending},
	{"min", 1, MANY, false, pending},
	{"max", 1, MANY, false, pending},
	{"mod", 2, 2, false, pending},
	{"power", 2, 2, false, pending},
	{"sqrt", 1, 1, false, pending},
	{"exp", 1, 1, false, pending},
	{"ln", 1, 1, false, pending},
	{"log", 1, 1, false, pending},
	{"sin", 1, 1, false, pending},
	{"cos", 1, 1, false, pending},
	{"tan", 1, 1, false, pending},
	{"asin", 1, 1, false, pending},
	{"acos", 1, 1, false, pending},
	{"atan", 1, 1, false, pending},
	{"atan2", 2, 2, false, pending},
	{"bitand", 2, 2, false, pending},
	{"bitor", 2, 2, false, pending},
	{"bitxor", 2, 2, false, pending},
	{"bitnot", 1, 1, false, pending},

	/* text */
	{"lower", 1, 1, false, pending},
	{"upper", 1, 1, false, pending},
	{"length", 1, 1, false, pending},
	{"numbytes", 1, 1, true, pending},
	{"concat", 1, MANY, false, pending},
	{"substring", 2, 3, false, pending},
	{"startswith", 2, 2, false, pending},
	{"endswith", 2, 2, false, pending},
	{"indexof", 2, 2, false, pending},
	{"replace", 3, 3, false, pending},
	{"trim", 1, 1, false, pending},
	{"ltrim", 1, 1, false, pending},
	{"rtrim", 1, 1, false, pending},
	{"lpad", 2, 2, false, pending},
	{"rpad", 2, 2, false, pending},
	{"chr", 1, 1, false, pending},

	/* bytes */
	{"encode", 2, 2, true, pending},
	{"decode", 2, 2, true, pending},
	{"md5", 1, 1, true, pending},
	{"sha1", 1, 1, true, pending},
	{"sha256", 1, 1, true, pending},
	{"sha512", 1, 1, true, pending},
};

/* AWS IoT's and EMQX's names. */
static const struct {
	const char *name, *ours;
} aliases[] = {
	{"clientid", "device"},		{"remainder", "mod"},  {"nvl", "coalesce"},
	{"get_or_default", "coalesce"}, {"is_null", "isNull"}, {"strlen", "length"},
	{"substr", "substring"},	{"pow", "power"},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool same(const char *name, const char *word, size_t len)
{
	return strlen(name) == len && strncasecmp(name, word, len) == 0;
}

const struct rule_function *rule_function_find(const char *name, size_t len)
{
	for (size_t i = 0; i < COUNT(table); i++)
		if (same(table[i].name, name, len))
			return &table[i];
	for (size_t i = 0; i < COUNT(aliases); i++)
		if (same(aliases[i].name, name, len))
			return rule_function_find(aliases[i].ours, strlen(aliases[i].ours));
	return NULL;
}

const char *rule_function_suggest(const char *name, size_t len)
{
	(void)name, (void)len;
	return NULL;
}

static const struct {
	const char *word, *type;
} cast_types[] = {
	{"boolean", "boolean"}, {"bool", "boolean"},   {"int", "int"},	     {"integer", "int"},
	{"decimal", "decimal"}, {"number", "decimal"}, {"string", "string"}, {"text", "string"},
};

const char *rule_cast_type(const char *word, size_t len)
{
	for (size_t i = 0; i < COUNT(cast_types); i++)
		if (same(cast_types[i].word, word, len))
			return cast_types[i].type;
	return NULL;
}
