/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rule/words.h"

#include <string.h>
#include <strings.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool is_word(const char *word, const char *s, size_t len)
{
	return strlen(word) == len && strncasecmp(word, s, len) == 0;
}

enum rule_word rule_word(const char *s, size_t len)
{
	static const char *const words[] = {
		[WORD_AND] = "and",	[WORD_AS] = "as",	  [WORD_BETWEEN] = "between",
		[WORD_CASE] = "case",	[WORD_ELSE] = "else",	  [WORD_END] = "end",
		[WORD_FALSE] = "false", [WORD_FROM] = "from",	  [WORD_IN] = "in",
		[WORD_LIKE] = "like",	[WORD_NOT] = "not",	  [WORD_NULL] = "null",
		[WORD_OR] = "or",	[WORD_SELECT] = "select", [WORD_THEN] = "then",
		[WORD_TRUE] = "true",	[WORD_WHEN] = "when",	  [WORD_UNDEFINED] = "undefined",
		[WORD_WHERE] = "where",
	};

	for (size_t i = WORD_NONE + 1; i < COUNT(words); i++)
		if (is_word(words[i], s, len))
			return (enum rule_word)i;
	return WORD_NONE;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool rule_name_is_plain(const char *s, size_t len)
{
	if (len == 0 || !is_letter(s[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!is_letter(s[i]) && !(s[i] >= '0' && s[i] <= '9'))
			return false;
	return true;
}

bool rule_name_is_payload(const char *s, size_t len)
{
	return len == 7 && memcmp(s, "payload", 7) == 0;
}

const char *rule_word_hint(const char *s, size_t len)
{
	static const struct {
		const char *word;
		const char *hint;
	} hints[] = {
		{"mod", "the remainder is written a % b"},
		{"div", "a whole quotient is written floor(a / b)"},
		{"is", "write isNull(x) or isUndefined(x)"},
		{"escape", "LIKE has no ESCAPE"},
		{"rlike", "there are no regular expressions"},
		{"regexp", "there are no regular expressions"},
		{"group", "a rule sees one message, so there is no GROUP BY"},
		{"order", "a rule sees one message, so there is no ORDER BY"},
		{"having", "a rule sees one message, so there is no HAVING"},
		{"limit", "a rule sees one message, so there is no LIMIT"},
		{"distinct", "a rule sees one message, so there is no DISTINCT"},
		{"join", "a rule sees one message, so there is no JOIN"},
		{"union", "a rule sees one message, so there is no UNION"},
		{"foreach", "EMQX's FOREACH is not part of this language"},
		{"set", "AWS's SET is not part of this language"},
	};

	for (size_t i = 0; i < COUNT(hints); i++)
		if (is_word(hints[i].word, s, len))
			return hints[i].hint;
	return NULL;
}

bool rule_function_is_foreign(const char *s, size_t len)
{
	static const char *const names[] = {
		"accountid",
		"aws_lambda",
		"cosh",
		"exists",
		"get_dynamodb",
		"get_mqtt_property",
		"get_registry_data",
		"get_secret",
		"get_thing_shadow",
		"get_user_properties",
		"hashbytes",
		"machinelearning_predict",
		"md2",
		"newuuid",
		"parse_time",
		"principal",
		"rand",
		"regexp_matches",
		"regexp_replace",
		"regexp_substr",
		"sha224",
		"sha384",
		"sinh",
		"sourceip",
		"tanh",
		"time_to_epoch",
		"traceid",
		"transform",
	};

	for (size_t i = 0; i < COUNT(names); i++)
		if (is_word(names[i], s, len))
			return true;
	return false;
}
