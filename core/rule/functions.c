/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of functions. Only parsing looks names up, so a walk through the table is good enough.
 * What the functions do is in functions_*.c, by kind.
 */
#include "core/rule/functions.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "core/rule/functions_table.h"

#define SUGGEST_MAX    24 /* longer words are not compared */
#define SUGGEST_ERRORS 2

static const struct rule_function table[] = {
	/* the message */
	{"topic", 0, 1, false, rule_call_topic},
	{"device", 0, 0, false, rule_call_device},
	{"timestamp", 0, 0, false, rule_call_timestamp},
	{"received_at", 0, 0, false, rule_call_received_at},

	/* any value */
	{"isUndefined", 1, 1, false, rule_call_is_undefined},
	{"isNull", 1, 1, false, rule_call_is_null},
	{"typeof", 1, 1, false, rule_call_typeof},
	{"cast", 2, 2, false, rule_call_cast},
	{"coalesce", 1, RULE_ARGUMENTS_MAX, false, rule_call_coalesce},
	{"get", 2, 2, false, rule_call_get},

	/* numbers */
	{"abs", 1, 1, false, rule_call_abs},
	{"sign", 1, 1, false, rule_call_sign},
	{"ceil", 1, 1, false, rule_call_ceil},
	{"floor", 1, 1, false, rule_call_floor},
	{"round", 1, 2, false, rule_call_round},
	{"trunc", 1, 2, false, rule_call_trunc},
	{"min", 1, RULE_ARGUMENTS_MAX, false, rule_call_min},
	{"max", 1, RULE_ARGUMENTS_MAX, false, rule_call_max},
	{"mod", 2, 2, false, rule_call_mod},
	{"power", 2, 2, false, rule_call_power},
	{"sqrt", 1, 1, false, rule_call_sqrt},
	{"exp", 1, 1, false, rule_call_exp},
	{"ln", 1, 1, false, rule_call_ln},
	{"log", 1, 1, false, rule_call_log},
	{"sin", 1, 1, false, rule_call_sin},
	{"cos", 1, 1, false, rule_call_cos},
	{"tan", 1, 1, false, rule_call_tan},
	{"asin", 1, 1, false, rule_call_asin},
	{"acos", 1, 1, false, rule_call_acos},
	{"atan", 1, 1, false, rule_call_atan},
	{"atan2", 2, 2, false, rule_call_atan2},
	{"bitand", 2, 2, false, rule_call_bitand},
	{"bitor", 2, 2, false, rule_call_bitor},
	{"bitxor", 2, 2, false, rule_call_bitxor},
	{"bitnot", 1, 1, false, rule_call_bitnot},

	/* text */
	{"lower", 1, 1, false, rule_call_lower},
	{"upper", 1, 1, false, rule_call_upper},
	{"length", 1, 1, false, rule_call_length},
	{"numbytes", 1, 1, true, rule_call_numbytes},
	{"concat", 1, RULE_ARGUMENTS_MAX, false, rule_call_concat},
	{"substring", 2, 3, false, rule_call_substring},
	{"startswith", 2, 2, false, rule_call_startswith},
	{"endswith", 2, 2, false, rule_call_endswith},
	{"indexof", 2, 2, false, rule_call_indexof},
	{"replace", 3, 3, false, rule_call_replace},
	{"trim", 1, 1, false, rule_call_trim},
	{"ltrim", 1, 1, false, rule_call_ltrim},
	{"rtrim", 1, 1, false, rule_call_rtrim},
	{"lpad", 2, 2, false, rule_call_lpad},
	{"rpad", 2, 2, false, rule_call_rpad},
	{"chr", 1, 1, false, rule_call_chr},

	/* bytes */
	{"encode", 1, 2, true, rule_call_encode},
	{"decode", 1, 2, true, rule_call_decode},
	{"md5", 1, 1, true, rule_call_md5},
	{"sha1", 1, 1, true, rule_call_sha1},
	{"sha256", 1, 1, true, rule_call_sha256},
	{"sha512", 1, 1, true, rule_call_sha512},
};

/* AWS IoT's and EMQX's names, where they mean the same. */
static const struct {
	const char *name, *ours;
} aliases[] = {
	{"clientid", "device"},
	{"nvl", "coalesce"},
	{"nanvl", "coalesce"},
	{"get_or_default", "coalesce"},
	{"remainder", "mod"},
	{"fmod", "mod"},
	{"pow", "power"},
	{"log10", "log"},
	{"strlen", "length"},
	{"sha", "sha1"},
	{"base64_encode", "encode"},
	{"base64_decode", "decode"},
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

static int fold(char c)
{
	return tolower((unsigned char)c);
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	if (b < a)
		a = b;
	return c < a ? c : a;
}

/* How many letters are to be changed, added, removed or swapped with the next, up to too many
 * (Damerau, Levenshtein). */
static unsigned distance(const char *name, const char *word, size_t len)
{
	unsigned rows[3][SUGGEST_MAX + 1];
	unsigned *above2 = rows[0], *above = rows[1], *row = rows[2];
	size_t n = strlen(name);

	for (size_t j = 0; j <= len; j++)
		above[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *oldest = above2;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= len; j++) {
			bool same_letter = fold(name[i - 1]) == fold(word[j - 1]);

			row[j] = least(above[j] + 1, row[j - 1] + 1, above[j - 1] + !same_letter);
			if (i > 1 && j > 1 && fold(name[i - 1]) == fold(word[j - 2]) &&
			    fold(name[i - 2]) == fold(word[j - 1]))
				row[j] = least(row[j], above2[j - 2] + 1, UINT_MAX);
		}
		above2 = above;
		above = row;
		row = oldest;
	}
	return above[len];
}

/* At most two errors, and fewer than half of the word. */
static void consider(const char *name, const char *word, size_t len, const char **nearest,
		     unsigned *errors)
{
	unsigned d = distance(name, word, len);

	if (d < *errors && 2 * d < len) {
		*nearest = name;
		*errors = d;
	}
}

const char *rule_function_suggest(const char *name, size_t len)
{
	const char *nearest = NULL;
	unsigned errors = SUGGEST_ERRORS + 1;

	if (len > SUGGEST_MAX)
		return NULL;
	for (size_t i = 0; i < COUNT(table); i++)
		consider(table[i].name, name, len, &nearest, &errors);
	for (size_t i = 0; i < COUNT(aliases); i++)
		consider(aliases[i].name, name, len, &nearest, &errors);
	return nearest;
}

static const struct {
	const char *word, *type;
} cast_types[] = {
	{"boolean", "boolean"},
	{"bool", "boolean"},
	{"int", "int"},
	{"integer", "int"},
	{"decimal", "decimal"},
	{"number", "decimal"},
	{"string", "string"},
	{"text", "string"},
	/* more of AWS's */
	{"double", "decimal"},
	{"varchar", "string"},
	{"nvarchar", "string"},
	{"ntext", "string"},
};

const char *rule_cast_type(const char *word, size_t len)
{
	for (size_t i = 0; i < COUNT(cast_types); i++)
		if (same(cast_types[i].word, word, len))
			return cast_types[i].type;
	return NULL;
}
