/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A value as compact JSON text. The text grows in the arena by doubling; a failure is remembered
 * and asked for once at the end.
 */
#include "core/payload/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/payload/text.h"

#define FIRST_SIZE 128

struct printer {
	struct arena *arena;
	char *text;
	size_t len;
	size_t size;
	bool failed;
};

static bool make_room(struct printer *p, size_t more)
{
	size_t size = p->size;
	char *text;

	if (p->failed)
		return false;
	if (more <= p->size - p->len)
		return true;
	while (size - p->len < more)
		size *= 2;
	text = arena_alloc(p->arena, size);
	if (!text) {
		p->failed = true;
		return false;
	}
	memcpy(text, p->text, p->len);
	p->text = text;
	p->size = size;
	return true;
}

static void put(struct printer *p, const char *s, size_t len)
{
	if (len == 0 || !make_room(p, len))
		return;
	memcpy(p->text + p->len, s, len);
	p->len += len;
}

static void put_char(struct printer *p, char c)
{
	put(p, &c, 1);
}

static void put_integer(struct printer *p, int64_t i)
{
	char s[24];
	int len = snprintf(s, sizeof(s), "%" PRId64, i);

	put(p, s, (size_t)len);
}

static void put_number(struct printer *p, double x)
{
	char s[TEXT_NUMBER_MAX];

	put(p, s, text_number(s, x));
}

static void put_escape(struct printer *p, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t";
	static const char to[] = "\"\\bfnrt";
	const char *known = strchr(from, c);
	char s[8];
	int len;

	if (known) {
		put_char(p, '\\');
		put_char(p, to[known - from]);
		return;
	}
	len = snprintf(s, sizeof(s), "\\u%04x", c);
	put(p, s, (size_t)len);
}

static void put_text(struct printer *p, const char *s, size_t len)
{
	size_t from = 0;

	put_char(p, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		put(p, s + from, i - from);
		put_escape(p, c);
		from = i + 1;
	}
	put(p, s + from, len - from);
	put_char(p, '"');
}

static void put_bytes(struct printer *p, const char *data, size_t len)
{
	size_t n;
	char *s = text_base64url(p->arena, data, len, &n);

	if (!s) {
		p->failed = true;
		return;
	}
	put_text(p, s, n);
}

static void put_value(struct printer *p, const struct value *v);

static void put_map(struct printer *p, const struct value *v)
{
	put_char(p, '{');
	for (size_t i = 0; i < v->u.map.count; i++) {
		const struct member *m = &v->u.map.members[i];

		if (i > 0)
			put_char(p, ',');
		if (m->is_label) {
			put_char(p, '"');
			put_integer(p, m->label);
			put_char(p, '"');
		} else {
			put_text(p, m->key, m->key_len);
		}
		put_char(p, ':');
		put_value(p, &m->value);
	}
	put_char(p, '}');
}

static void put_array(struct printer *p, const struct value *v)
{
	put_char(p, '[');
	for (size_t i = 0; i < v->u.array.count; i++) {
		if (i > 0)
			put_char(p, ',');
		put_value(p, &v->u.array.items[i]);
	}
	put_char(p, ']');
}

static void put_value(struct printer *p, const struct value *v)
{
	switch (v->type) {
	case VALUE_NULL:
		put(p, "null", 4);
		break;
	case VALUE_BOOL:
		put(p, v->u.boolean ? "true" : "false", v->u.boolean ? 4 : 5);
		break;
	case VALUE_INTEGER:
		put_integer(p, v->u.integer);
		break;
	case VALUE_NUMBER:
		put_number(p, v->u.number);
		break;
	case VALUE_TEXT:
		put_text(p, v->u.text.data, v->u.text.len);
		break;
	case VALUE_BYTES:
		put_bytes(p, v->u.text.data, v->u.text.len);
		break;
	case VALUE_ARRAY:
		put_array(p, v);
		break;
	case VALUE_MAP:
		put_map(p, v);
		break;
	}
}

char *value_print_json(struct arena *a, const struct value *v, size_t *len)
{
	struct printer p = {.arena = a, .size = FIRST_SIZE};

	p.text = arena_alloc(a, p.size);
	if (!p.text)
		return NULL;
	put_value(&p, v);
	if (!make_room(&p, 1))
		return NULL;
	p.text[p.len] = '\0';
	*len = p.len;
	return p.text;
}
