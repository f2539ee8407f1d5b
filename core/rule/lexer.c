/* SPDX-License-Identifier: Apache-2.0 */
#include "core/rule/lexer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/payload/text.h"

#define QUOTE_MAX 40 /* bytes of the statement in a message */

/* --- Errors --- */

/* Columns are characters, as an editor counts them. */
static void position(const struct lexer *lx, size_t at, unsigned *line, unsigned *column)
{
	*line = 1;
	*column = 1;
	for (size_t i = 0; i < at; i++) {
		if (lx->text[i] == '\n' && !lx->one_line) {
			(*line)++;
			*column = 1;
		} else if (((unsigned char)lx->text[i] & 0xc0) != 0x80) {
			(*column)++;
		}
	}
}

void lexer_fail(struct lexer *lx, size_t at, const char *fmt, ...)
{
	char what[400];
	unsigned line, column;
	va_list args;

	if (lx->error)
		return;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	position(lx, at, &line, &column);
	if (lx->one_line)
		lx->error = text_reason(lx->err, lx->err_len, -EINVAL, "%s: column %u: %s",
					lx->subject, column, what);
	else
		lx->error = text_reason(lx->err, lx->err_len, -EINVAL, "%s: line %u, column %u: %s",
					lx->subject, line, column, what);
}

void lexer_fail_memory(struct lexer *lx)
{
	if (!lx->error)
		lx->error =
			text_reason(lx->err, lx->err_len, -ENOMEM, "%s: no memory", lx->subject);
}

/* A part of the text in quotes; a long one is cut between two characters. */
static const char *quote(const struct lexer *lx, size_t at, size_t len, char *out, size_t out_len)
{
	const char *s = lx->text + at;
	bool is_quoted = len > 0 && (s[0] == '\'' || s[0] == '"');
	size_t n = len < QUOTE_MAX ? len : QUOTE_MAX;

	while (n > 0 && n < len && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	snprintf(out, out_len, is_quoted ? "%.*s%s" : "'%.*s%s'", (int)n, s, n < len ? "..." : "");
	return out;
}

void lexer_fail_expected(struct lexer *lx, const char *what)
{
	const struct token *t = &lx->token;
	const char *hint = t->kind == TOKEN_WORD ? rule_word_hint(t->data, t->data_len) : NULL;
	char before[QUOTE_MAX + 8], found[QUOTE_MAX + 8];
	char after[sizeof(before) + 8] = "";

	if (lx->last_len > 0)
		snprintf(after, sizeof(after), " after %s",
			 quote(lx, lx->last_at, lx->last_len, before, sizeof(before)));
	if (t->kind == TOKEN_END)
		lexer_fail(lx, t->at, "expected %s%s", what, after);
	else
		lexer_fail(lx, t->at, "expected %s%s, found %s%s%s", what, after,
			   quote(lx, t->at, t->len, found, sizeof(found)), hint ? ": " : "",
			   hint ? hint : "");
}

/* --- Tokens --- */

/* The bytes before the first that are no character. */
static size_t valid_prefix(const char *text, size_t len)
{
	size_t at = 0;

	while (at < len) {
		size_t step = 1;

		while (step < 4 && at + step < len && !text_is_valid(text + at, step))
			step++;
		if (!text_is_valid(text + at, step))
			break;
		at += step;
	}
	return at;
}

void lexer_init(struct lexer *lx, struct arena *a, const char *subject, bool one_line,
		const char *text, size_t len, char *err, size_t err_len)
{
	*lx = (struct lexer){
		.text = text,
		.len = len,
		.subject = subject,
		.one_line = one_line,
		.err = err,
		.err_len = err_len,
	};
	if (!text_is_valid(text, len)) {
		lexer_fail(lx, valid_prefix(text, len),
			   "the text is not UTF-8, or has a NUL in it");
		return;
	}
	lx->copy = arena_strndup(a, text, len);
	if (!lx->copy)
		lexer_fail_memory(lx);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* The character so far behind the place; NUL at the end. */
static char ahead(const struct lexer *lx, size_t n)
{
	return lx->pos + n < lx->len ? lx->text[lx->pos + n] : '\0';
}

static void lex_word(struct lexer *lx)
{
	struct token *t = &lx->token;

	while (is_letter(ahead(lx, 0)) || is_digit(ahead(lx, 0)))
		lx->pos++;
	t->kind = TOKEN_WORD;
	t->data = lx->copy + t->at;
	t->data_len = lx->pos - t->at;
	t->word = rule_word(t->data, t->data_len);
}

static void skip_digits(struct lexer *lx)
{
	while (is_digit(ahead(lx, 0)))
		lx->pos++;
}

/* Digits, a fraction, an exponent: what JSON has, and zeros before it. */
static void lex_number(struct lexer *lx)
{
	size_t sign;

	lx->token.kind = TOKEN_NUMBER;
	skip_digits(lx);
	if (ahead(lx, 0) == '.') {
		if (!is_digit(ahead(lx, 1))) {
			lexer_fail(lx, lx->pos, "expected a digit after the decimal point");
			return;
		}
		lx->pos++;
		skip_digits(lx);
	}
	if (ahead(lx, 0) == 'e' || ahead(lx, 0) == 'E') {
		sign = ahead(lx, 1) == '+' || ahead(lx, 1) == '-';
		if (!is_digit(ahead(lx, 1 + sign))) {
			lexer_fail(lx, lx->pos, "expected an exponent's digits after 'e'");
			return;
		}
		lx->pos += 1 + sign;
		skip_digits(lx);
	}
	if (is_letter(ahead(lx, 0)))
		lexer_fail(lx, lx->token.at,
			   "a name that begins with a digit is written in double quotes");
}

/* What is between the quotes goes to the copy, each doubled quote as one. */
static void lex_quoted(struct lexer *lx, char mark)
{
	struct token *t = &lx->token;
	char *out = lx->copy + t->at;

	t->kind = mark == '"' ? TOKEN_NAME : TOKEN_TEXT;
	t->data = out;
	for (lx->pos++; lx->pos < lx->len; lx->pos++) {
		if (lx->text[lx->pos] == mark) {
			lx->pos++;
			if (ahead(lx, 0) != mark) {
				t->data_len = (size_t)(out - t->data);
				return;
			}
		}
		*out++ = lx->text[lx->pos];
	}
	lexer_fail(lx, t->at, "the %s that begins here has no closing %c",
		   mark == '"' ? "name" : "text", mark);
}

/* Signs that other dialects have: what to write instead. */
static const char *sign_hint(const struct lexer *lx)
{
	static const struct {
		const char *sign;
		const char *hint;
	} hints[] = {
		{"--", "'--': there are no comments; a negative number after '-' needs a space"},
		{"/*", "'/*': there are no comments"},
		{"==", "'==': equal is written ="},
		{"=~", "'=~': write LIKE, or a topic filter after FROM"},
		{"&&", "'&&': write AND"},
		{"||", "'||': write OR, or concat() for texts"},
		{"`", "'`': names with odd characters are written in double quotes"},
		{"@", "'@': AWS's variables are not part of this language"},
		{"!", "'!': write NOT, or <> for not equal"},
	};

	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		size_t len = strlen(hints[i].sign);

		if (lx->len - lx->pos >= len && memcmp(lx->text + lx->pos, hints[i].sign, len) == 0)
			return hints[i].hint;
	}
	return NULL;
}

static int sign_of_two(const struct lexer *lx)
{
	char a = ahead(lx, 0), b = ahead(lx, 1);

	if ((a == '<' && b == '>') || (a == '!' && b == '='))
		return SIGN_NOT_EQUAL;
	if (a == '<' && b == '=')
		return SIGN_LESS_EQUAL;
	if (a == '>' && b == '=')
		return SIGN_GREATER_EQUAL;
	return 0;
}

static void fail_character(struct lexer *lx)
{
	size_t len = 1;

	while (lx->pos + len < lx->len && ((unsigned char)lx->text[lx->pos + len] & 0xc0) == 0x80)
		len++;
	if (len > 1)
		lexer_fail(lx, lx->pos,
			   "'%.*s': names with other characters than A-Z, a-z, 0-9 and _ are "
			   "written in double quotes",
			   (int)len, lx->text + lx->pos);
	else
		lexer_fail(lx, lx->pos, "'%c' has no meaning here", lx->text[lx->pos]);
}

static void lex_sign(struct lexer *lx)
{
	struct token *t = &lx->token;
	const char *hint;

	t->kind = TOKEN_SIGN;
	t->sign = sign_of_two(lx);
	if (t->sign) {
		lx->pos += 2;
		return;
	}
	hint = sign_hint(lx);
	if (hint) {
		lexer_fail(lx, lx->pos, "%s", hint);
	} else if (!strchr("*,.()[]{}:;=<>+-/%", lx->text[lx->pos])) {
		fail_character(lx);
	} else {
		t->sign = (unsigned char)lx->text[lx->pos];
		lx->pos++;
	}
}

void lexer_next(struct lexer *lx)
{
	char c;

	lx->last_at = lx->token.at;
	lx->last_len = lx->token.len;
	if (!lx->error)
		while (lx->pos < lx->len && is_space(lx->text[lx->pos]))
			lx->pos++;
	lx->token = (struct token){.kind = TOKEN_END, .at = lx->pos};
	if (lx->error || lx->pos >= lx->len)
		return;
	c = lx->text[lx->pos];
	if (is_letter(c))
		lex_word(lx);
	else if (is_digit(c))
		lex_number(lx);
	else if (c == '\'' || c == '"')
		lex_quoted(lx, c);
	else
		lex_sign(lx);
	if (lx->error)
		lx->token.kind = TOKEN_END;
	lx->token.len = lx->pos - lx->token.at;
}

bool lexer_is_word(const struct lexer *lx, enum rule_word word)
{
	return lx->token.kind == TOKEN_WORD && lx->token.word == word;
}

bool lexer_is_sign(const struct lexer *lx, int sign)
{
	return lx->token.kind == TOKEN_SIGN && lx->token.sign == sign;
}

bool lexer_skip_word(struct lexer *lx, enum rule_word word)
{
	if (!lexer_is_word(lx, word))
		return false;
	lexer_next(lx);
	return true;
}

bool lexer_skip_sign(struct lexer *lx, int sign)
{
	if (!lexer_is_sign(lx, sign))
		return false;
	lexer_next(lx);
	return true;
}
