/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/payload/text.h"
#include "core/rule/evaluation.h"

#define NUMBER_TEXT_MAX 100 /* bytes of a text that can be read as a number */
#define INT64_BOUND	9223372036854775808.0

int rule_fail(struct rule_evaluation *e, int error, const char *fmt, ...)
{
	char what[RULE_WHY_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	snprintf(e->why, e->why_len, "rule '%s'%s%s: %s", e->name, e->where ? ", " : "",
		 e->where ? e->where : "", what);
	return error;
}

int rule_spend(struct rule_evaluation *e, size_t work)
{
	size_t *left = e->in->work;

	if (!left)
		return 0;
	if (work < *left) {
		*left -= work;
		return 0;
	}
	*left = 0;
	return rule_fail(e, -E2BIG,
			 "this message takes more work than the rules may do for one (%d: bytes of "
			 "text and steps of LIKE)",
			 RULE_WORK_MAX);
}

int rule_alloc(struct rule_evaluation *e, size_t size, void **out)
{
	*out = arena_alloc(e->arena, size);
	if (*out)
		return 0;
	rule_fail(e, -ENOMEM, "out of memory: the message's rules may use %zu bytes",
		  e->arena->limit);
	return -ENOMEM;
}

int rule_alloc_text(struct rule_evaluation *e, size_t len, char **out)
{
	void *data;
	int rc;

	*out = NULL;
	if (len > RULE_RESULT_MAX) {
		rule_fail(e, -E2BIG, "a text of %zu bytes, at most %d are allowed", len,
			  RULE_RESULT_MAX);
		return -E2BIG;
	}
	rc = rule_spend(e, len);
	if (!rc)
		rc = rule_alloc(e, len, &data);
	if (rc)
		return rc;
	*out = data;
	return 0;
}

void rule_set_boolean(struct rule_result *r, bool b)
{
	r->defined = true;
	r->value.type = VALUE_BOOL;
	r->value.u.boolean = b;
}

void rule_set_integer(struct rule_result *r, int64_t i)
{
	r->defined = true;
	r->value.type = VALUE_INTEGER;
	r->value.u.integer = i;
}

/* Adding 0.0 makes 0.0 of -0.0, which no device means. */
void rule_set_number(struct rule_result *r, double x)
{
	r->defined = isfinite(x);
	r->value.type = VALUE_NUMBER;
	r->value.u.number = x + 0.0;
}

void rule_set_whole(struct rule_result *r, double x)
{
	if (x >= -INT64_BOUND && x < INT64_BOUND)
		rule_set_integer(r, (int64_t)x);
	else
		rule_set_number(r, x);
}

void rule_set_text(struct rule_result *r, const char *data, size_t len)
{
	r->defined = true;
	r->value.type = VALUE_TEXT;
	r->value.u.text.data = data;
	r->value.u.text.len = len;
}

void rule_set_bytes(struct rule_result *r, const char *data, size_t len)
{
	rule_set_text(r, data, len);
	r->value.type = VALUE_BYTES;
}

static size_t digits(const char *s, size_t len, size_t at)
{
	size_t n = 0;

	while (at + n < len && isdigit((unsigned char)s[at + n]))
		n++;
	return n;
}

/* -?digits(.digits)?([eE][+-]?digits)? over the whole text; *whole: without fraction and exponent.
 */
static bool is_number(const char *s, size_t len, bool *whole)
{
	size_t at = len > 0 && s[0] == '-', n = digits(s, len, at);

	*whole = true;
	if (n == 0)
		return false;
	at += n;
	if (at < len && s[at] == '.') {
		n = digits(s, len, at + 1);
		if (n == 0)
			return false;
		at += 1 + n;
		*whole = false;
	}
	if (at < len && (s[at] == 'e' || s[at] == 'E')) {
		at++;
		if (at < len && (s[at] == '+' || s[at] == '-'))
			at++;
		n = digits(s, len, at);
		if (n == 0)
			return false;
		at += n;
		*whole = false;
	}
	return at == len;
}

static bool number_of_text(const char *s, size_t len, struct value *out)
{
	char copy[NUMBER_TEXT_MAX + 1];
	bool whole;

	if (len > NUMBER_TEXT_MAX || !is_number(s, len, &whole))
		return false;
	memcpy(copy, s, len);
	copy[len] = '\0';
	if (whole) {
		errno = 0;
		out->type = VALUE_INTEGER;
		out->u.integer = strtoll(copy, NULL, 10);
		if (errno == 0)
			return true;
	}
	out->type = VALUE_NUMBER;
	out->u.number = strtod(copy, NULL);
	return isfinite(out->u.number);
}

bool rule_to_number(const struct rule_result *r, struct value *out)
{
	if (!r->defined)
		return false;
	if (r->value.type == VALUE_INTEGER || r->value.type == VALUE_NUMBER) {
		*out = r->value;
		return true;
	}
	return r->value.type == VALUE_TEXT &&
	       number_of_text(r->value.u.text.data, r->value.u.text.len, out);
}

bool rule_to_double(const struct rule_result *r, double *out)
{
	struct value v;

	if (!rule_to_number(r, &v))
		return false;
	*out = v.type == VALUE_INTEGER ? (double)v.u.integer : v.u.number;
	return true;
}

bool rule_to_integer(const struct rule_result *r, int64_t *out)
{
	struct value v;
	double x;

	if (!rule_to_number(r, &v))
		return false;
	if (v.type == VALUE_INTEGER) {
		*out = v.u.integer;
		return true;
	}
	x = floor(v.u.number);
	if (x < -INT64_BOUND || x >= INT64_BOUND)
		return false;
	*out = (int64_t)x;
	return true;
}

static bool is_word(const struct value *text, const char *word)
{
	size_t len = strlen(word);

	return text->u.text.len == len && strncasecmp(text->u.text.data, word, len) == 0;
}

bool rule_to_boolean(const struct rule_result *r, bool *out)
{
	if (!r->defined)
		return false;
	if (r->value.type == VALUE_BOOL) {
		*out = r->value.u.boolean;
		return true;
	}
	if (r->value.type != VALUE_TEXT)
		return false;
	*out = is_word(&r->value, "true");
	return *out || is_word(&r->value, "false");
}

static int take(struct rule_evaluation *e, const char *data, size_t len, struct rule_text *out)
{
	char *copy;
	int rc = rule_alloc_text(e, len, &copy);

	if (rc)
		return rc;
	memcpy(copy, data, len);
	out->data = copy;
	out->len = len;
	return 1;
}

/* The text was looked at, or will be. */
static int spent(struct rule_evaluation *e, const struct rule_text *text)
{
	int rc = rule_spend(e, text->len);

	return rc ? rc : 1;
}

static int printed(struct rule_evaluation *e, const struct value *v, struct rule_text *out)
{
	out->data = v->type == VALUE_BYTES
			    ? text_base64url(e->arena, v->u.text.data, v->u.text.len, &out->len)
			    : value_print_json(e->arena, v, &out->len);
	if (!out->data)
		return rule_fail(e, -ENOMEM, "out of memory: the message's rules may use %zu bytes",
				 e->arena->limit);
	if (out->len > RULE_RESULT_MAX)
		return rule_fail(e, -E2BIG, "a text of %zu bytes, at most %d are allowed", out->len,
				 RULE_RESULT_MAX);
	return spent(e, out);
}

int rule_to_text(struct rule_evaluation *e, const struct rule_result *r, struct rule_text *out)
{
	const struct value *v = &r->value;
	char s[TEXT_NUMBER_MAX];

	if (!r->defined)
		return 0;
	switch (v->type) {
	case VALUE_NULL:
		return 0;
	case VALUE_BOOL:
		out->data = v->u.boolean ? "true" : "false";
		out->len = strlen(out->data);
		return 1;
	case VALUE_INTEGER:
		return take(e, s, (size_t)snprintf(s, sizeof(s), "%" PRId64, v->u.integer), out);
	case VALUE_NUMBER:
		return take(e, s, text_number(s, v->u.number), out);
	case VALUE_TEXT:
		out->data = v->u.text.data;
		out->len = v->u.text.len;
		return spent(e, out);
	case VALUE_BYTES:
	case VALUE_ARRAY:
	case VALUE_MAP:
		break;
	}
	return printed(e, v, out);
}

int rule_to_bytes(struct rule_evaluation *e, const struct rule_result *r, struct rule_text *out)
{
	if (!r->defined || r->value.type != VALUE_BYTES)
		return rule_to_text(e, r, out);
	out->data = r->value.u.text.data;
	out->len = r->value.u.text.len;
	return spent(e, out);
}
