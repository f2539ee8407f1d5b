/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text to a value: jansson parses and checks, its tree is copied into the arena and freed. Its
 * only narrowness, that an integer outside int64 is an error, is mended by a second parse of a text
 * in which those integers end in ".0".
 */
#include "core/payload/value.h"

#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "core/payload/text.h"

#define INT64_DIGITS 19
#define PARSE_FLAGS  (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)

struct json {
	struct arena *arena;
	const struct decode_limits *limits;
	char *reason;
	size_t reason_len;
};

static int out_of_memory(struct json *j)
{
	return text_reason(j->reason, j->reason_len, -ENOMEM, "JSON: out of memory");
}

static int copy_value(struct json *j, json_t *from, unsigned depth, struct value *to);

static int copy_text(struct json *j, const char *from, size_t len, const char **to)
{
	char *copy = arena_alloc(j->arena, len);

	if (!copy)
		return out_of_memory(j);
	memcpy(copy, from, len);
	*to = copy;
	return 0;
}

/* May there be a container of count items at this depth? */
static int check_limits(struct json *j, size_t count, unsigned depth)
{
	if (depth > j->limits->max_depth)
		return text_reason(j->reason, j->reason_len, -EMSGSIZE,
				   "JSON: nested deeper than %u", j->limits->max_depth);
	if (count > j->limits->max_readings)
		return text_reason(j->reason, j->reason_len, -EMSGSIZE,
				   "JSON: %zu items in one array or object, at most %u", count,
				   j->limits->max_readings);
	return 0;
}

static int copy_array(struct json *j, json_t *from, unsigned depth, struct value *to)
{
	size_t count = json_array_size(from);
	int rc = check_limits(j, count, depth);

	if (rc)
		return rc;
	to->type = VALUE_ARRAY;
	to->u.array.count = count;
	to->u.array.items = arena_alloc(j->arena, count * sizeof(*to->u.array.items));
	if (!to->u.array.items)
		return out_of_memory(j);
	for (size_t i = 0; i < count; i++) {
		rc = copy_value(j, json_array_get(from, i), depth, &to->u.array.items[i]);
		if (rc)
			return rc;
	}
	return 0;
}

static int copy_object(struct json *j, json_t *from, unsigned depth, struct value *to)
{
	size_t count = json_object_size(from);
	struct member *m;
	int rc = check_limits(j, count, depth);

	if (rc)
		return rc;
	m = arena_alloc(j->arena, count * sizeof(*m));
	if (!m)
		return out_of_memory(j);
	to->type = VALUE_MAP;
	to->u.map.count = count;
	to->u.map.members = m;
	for (void *it = json_object_iter(from); it; it = json_object_iter_next(from, it), m++) {
		m->is_label = false;
		m->key_len = json_object_iter_key_len(it);
		rc = copy_text(j, json_object_iter_key(it), m->key_len, &m->key);
		if (rc)
			return rc;
		rc = copy_value(j, json_object_iter_value(it), depth, &m->value);
		if (rc)
			return rc;
	}
	return 0;
}

/* depth: of the container that holds this value. */
static int copy_value(struct json *j, json_t *from, unsigned depth, struct value *to)
{
	switch (json_typeof(from)) {
	case JSON_OBJECT:
		return copy_object(j, from, depth + 1, to);
	case JSON_ARRAY:
		return copy_array(j, from, depth + 1, to);
	case JSON_STRING:
		to->type = VALUE_TEXT;
		to->u.text.len = json_string_length(from);
		return copy_text(j, json_string_value(from), to->u.text.len, &to->u.text.data);
	case JSON_INTEGER:
		to->type = VALUE_INTEGER;
		to->u.integer = json_integer_value(from);
		return 0;
	case JSON_REAL:
		to->type = VALUE_NUMBER;
		to->u.number = json_real_value(from);
		return 0;
	case JSON_TRUE:
	case JSON_FALSE:
		to->type = VALUE_BOOL;
		to->u.boolean = json_is_true(from);
		return 0;
	case JSON_NULL:
		break;
	}
	to->type = VALUE_NULL;
	return 0;
}

/* Is this number, as JSON writes it, an integer outside int64? */
static bool is_wide_integer(const char *s, size_t len)
{
	bool negative = len > 0 && s[0] == '-';
	const char *last = negative ? "9223372036854775808" : "9223372036854775807";

	s += negative;
	len -= negative;
	if (len < INT64_DIGITS)
		return false;
	for (size_t i = 0; i < len; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return len > INT64_DIGITS || memcmp(s, last, INT64_DIGITS) > 0;
}

/* The bytes of the string or the number that begins at s, or 1 for anything else. */
static size_t token_len(const char *s, size_t left)
{
	size_t n = 1;

	if (s[0] == '"') {
		while (n < left && s[n] != '"')
			n += s[n] == '\\' && n + 1 < left ? 2 : 1;
		return n < left ? n + 1 : n;
	}
	if (s[0] != '-' && (s[0] < '0' || s[0] > '9'))
		return 1;
	while (n < left && s[n] != '\0' && strchr("0123456789+-.eE", s[n]))
		n++;
	return n;
}

/* The same text with every integer outside int64 written as a real; NULL without memory. */
static char *widen_integers(struct json *j, const char *text, size_t len, size_t *wide_len)
{
	/* Each widened token has at least INT64_DIGITS bytes and gains two. */
	char *wide = arena_alloc(j->arena, len + len / INT64_DIGITS * 2 + 2);
	size_t n = 0;

	for (size_t i = 0; wide && i < len;) {
		size_t step = token_len(text + i, len - i);

		memcpy(wide + n, text + i, step);
		n += step;
		if (text[i] != '"' && is_wide_integer(text + i, step)) {
			memcpy(wide + n, ".0", 2);
			n += 2;
		}
		i += step;
	}
	*wide_len = n;
	return wide;
}

static int parse_error(struct json *j, const json_error_t *e)
{
	enum json_error_code code = json_error_code(e);

	if (code == json_error_out_of_memory)
		return out_of_memory(j);
	if (code == json_error_stack_overflow)
		return text_reason(j->reason, j->reason_len, -EMSGSIZE,
				   "JSON: nested deeper than %u", j->limits->max_depth);
	if (e->column == 0)
		return text_reason(j->reason, j->reason_len, -EBADMSG, "JSON: line %d: %s", e->line,
				   e->text);
	return text_reason(j->reason, j->reason_len, -EBADMSG, "JSON: line %d, column %d: %s",
			   e->line, e->column, e->text);
}

static int parse_widened(struct json *j, const char *text, size_t len, json_t **root)
{
	size_t wide_len;
	char *wide = widen_integers(j, text, len, &wide_len);
	json_error_t e;

	if (!wide)
		return out_of_memory(j);
	*root = json_loadb(wide, wide_len, PARSE_FLAGS, &e);
	if (*root)
		return 0;
	/* Columns of the widened text are not those of the message. */
	e.column = 0;
	return parse_error(j, &e);
}

static int parse(struct json *j, const char *text, size_t len, json_t **root)
{
	json_error_t e;

	*root = json_loadb(text, len, PARSE_FLAGS, &e);
	if (*root)
		return 0;
	if (json_error_code(&e) == json_error_numeric_overflow)
		return parse_widened(j, text, len, root);
	return parse_error(j, &e);
}

/* What jansson would not, or not clearly, complain about. */
static int check_bytes(struct json *j, const char *text, size_t len)
{
	const char *nul;

	if (len > j->limits->max_bytes)
		return text_reason(j->reason, j->reason_len, -EMSGSIZE,
				   "JSON: %zu bytes, at most %zu", len, j->limits->max_bytes);
	if (len == 0)
		return text_reason(j->reason, j->reason_len, -EBADMSG, "JSON: no bytes");
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		return text_reason(j->reason, j->reason_len, -EBADMSG,
				   "JSON: begins with a byte order mark; send UTF-8 without one");
	/* jansson 2.14 passes over a NUL behind a number or a word. */
	nul = memchr(text, 0, len);
	if (nul)
		return text_reason(j->reason, j->reason_len, -EBADMSG, "JSON: byte %zu is NUL",
				   (size_t)(nul - text));
	return 0;
}

int json_decode(struct arena *a, const void *data, size_t len, const struct decode_limits *limits,
		struct value *out, char *reason, size_t reason_len)
{
	struct json j = {.arena = a, .limits = limits, .reason = reason, .reason_len = reason_len};
	json_t *root;
	int rc = check_bytes(&j, data, len);

	if (rc == 0)
		rc = parse(&j, data, len, &root);
	if (rc)
		return rc;
	rc = copy_value(&j, root, 0, out);
	json_decref(root);
	return rc;
}
