/* SPDX-License-Identifier: Apache-2.0 */
/* The words of the rule language, and those of other dialects that a person may paste. Any thread.
 */
#ifndef FG_RULE_WORDS_H
#define FG_RULE_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum rule_word {
	WORD_NONE, /* a name */
	WORD_AND,
	WORD_AS,
	WORD_BETWEEN,
	WORD_CASE,
	WORD_ELSE,
	WORD_END,
	WORD_FALSE,
	WORD_FROM,
	WORD_IN,
	WORD_LIKE,
	WORD_NOT,
	WORD_NULL,
	WORD_OR,
	WORD_SELECT,
	WORD_THEN,
	WORD_TRUE,
	WORD_UNDEFINED,
	WORD_WHEN,
	WORD_WHERE,
};

/* Without case. */
enum rule_word rule_word(const char *s, size_t len);

/* Letters, digits and '_', not beginning with a digit. */
bool rule_name_is_plain(const char *s, size_t len);

/* The payload itself, at the beginning of a path. */
bool rule_name_is_payload(const char *s, size_t len);

/* What to write instead of a word or a sign that other dialects have; NULL: nothing is known. */
const char *rule_word_hint(const char *s, size_t len);

/* A function that AWS has and this language has not? */
bool rule_function_is_foreign(const char *s, size_t len);

#endif
