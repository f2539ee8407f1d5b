/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A statement's or template's text as tokens, and the first error in it. Private to core/rule.
 * Names and texts of tokens lie in a copy of the text that is the arena's, so they outlive the
 * text.
 */
#ifndef FG_RULE_LEXER_H
#define FG_RULE_LEXER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/arena.h"
#include "core/rule/words.h"

enum token_kind {
	TOKEN_END,
	TOKEN_WORD,   /* a name without quotes, or a word of the language */
	TOKEN_NAME,   /* "name" */
	TOKEN_TEXT,   /* 'text' */
	TOKEN_NUMBER, /* 12, 1.5, 2e3 */
	TOKEN_SIGN,
};

enum token_sign { /* those of one character are that character */
		  SIGN_NOT_EQUAL = 256,
		  SIGN_LESS_EQUAL,
		  SIGN_GREATER_EQUAL,
};

struct token {
	enum token_kind kind;
	enum rule_word word;
	int sign;
	size_t at, len;	  /* in the text, quotes included */
	const char *data; /* of words, names and texts: without quotes, doubled quotes made one */
	size_t data_len;
};

struct lexer {
	const char *text;
	size_t len;
	char *copy;
	size_t pos;
	struct token token;	  /* the one that is looked at */
	size_t last_at, last_len; /* the one before it; length 0: there is none */
	const char *subject;	  /* what the text is, for messages: `rule 'hot'` */
	bool one_line;		  /* its errors name the column alone */
	int error;		  /* 0, -EINVAL or -ENOMEM: the first one stays */
	char *err;
	size_t err_len;
};

/* The text must be UTF-8 (else lx->error). Looks at no token yet. */
void lexer_init(struct lexer *lx, struct arena *a, const char *subject, bool one_line,
		const char *text, size_t len, char *err, size_t err_len);

/* To the next token; after an error there is only TOKEN_END. */
void lexer_next(struct lexer *lx);

bool lexer_is_word(const struct lexer *lx, enum rule_word word);
bool lexer_is_sign(const struct lexer *lx, int sign);

/* Go past it, if it is there. */
bool lexer_skip_word(struct lexer *lx, enum rule_word word);
bool lexer_skip_sign(struct lexer *lx, int sign);

/* Keep the first error, at this byte of the text. */
void lexer_fail(struct lexer *lx, size_t at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void lexer_fail_memory(struct lexer *lx);

/* "expected <what> after <token before>, found <token>". */
void lexer_fail_expected(struct lexer *lx, const char *what);

#endif
