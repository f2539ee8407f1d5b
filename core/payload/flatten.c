/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps to readings: names joined with dots, one reading for each leaf. Two names that become the
 * same are an error, because nobody could tell which value was meant; keys of one map differ
 * already, so only messages with a map inside need the check.
 */
#include "core/payload/decoder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/payload/key_map.h"
#include "core/payload/timestamp.h"

int decoder_out_of_memory(struct decoder *d)
{
	return decoder_fail(d, -ENOMEM, "out of memory");
}

int sample_begin(struct decoder *d, struct sample *s, size_t capacity)
{
	*s = (struct sample){.time = SAMPLE_TIME_RECEIPT};
	s->readings = arena_alloc(d->arena, capacity * sizeof(*s->readings));
	return s->readings ? 0 : decoder_out_of_memory(d);
}

int sample_end(struct decoder *d, struct sample *s, bool check_names)
{
	struct key_map names;

	if (s->reading_count == 0)
		return decoder_fail(d, -EBADMSG, "no readings");
	if (!check_names)
		return 0;
	if (key_map_init(&names, d->arena, s->reading_count))
		return decoder_out_of_memory(d);
	for (size_t i = 0; i < s->reading_count; i++) {
		size_t ignored = 0;

		if (!key_map_put(&names, s->readings[i].name, s->readings[i].name_len, &ignored))
			return decoder_fail(d, -EBADMSG, "duplicate reading %s",
					    s->readings[i].name);
	}
	return 0;
}

size_t flatten_count(const struct value *v)
{
	size_t count = 0;

	if (v->type != VALUE_MAP)
		return 1;
	for (size_t i = 0; i < v->u.map.count; i++)
		count += flatten_count(&v->u.map.members[i].value);
	return count;
}

/* C0, DEL, and C1 (U+0080 to U+009F in UTF-8). */
static bool has_control_character(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 0x20 || c == 0x7f)
			return true;
		if (c == 0xc2 && i + 1 < len && (unsigned char)s[i + 1] < 0xa0)
			return true;
	}
	return false;
}

int name_append(struct decoder *d, struct name *n, const char *text, size_t len)
{
	size_t dot = n->len > 0;

	if (len == 0)
		return decoder_fail(d, -EBADMSG, "an empty name%s%.*s", dot ? " in " : "",
				    (int)n->len, n->text);
	if (len > READING_NAME_MAX || n->len + dot + len > READING_NAME_MAX)
		return decoder_fail(d, -EMSGSIZE, "a name longer than %d bytes: %.*s%s%.*s",
				    READING_NAME_MAX, (int)n->len, n->text, dot ? "." : "",
				    (int)(len > READING_NAME_MAX ? READING_NAME_MAX : len), text);
	if (has_control_character(text, len))
		return decoder_fail(d, -EBADMSG, "a control character in the name %.*s", (int)len,
				    text);
	if (dot)
		n->text[n->len++] = '.';
	memcpy(n->text + n->len, text, len);
	n->len += len;
	return 0;
}

int name_append_key(struct decoder *d, struct name *n, const struct member *m)
{
	char label[24];

	if (!m->is_label)
		return name_append(d, n, m->key, m->key_len);
	return name_append(d, n, label,
			   (size_t)snprintf(label, sizeof(label), "%" PRId64, m->label));
}

static int set_json(struct decoder *d, struct reading *r, const struct value *v)
{
	r->type = READING_JSON;
	r->u.text.data = value_print_json(d->arena, v, &r->u.text.len);
	return r->u.text.data ? 0 : decoder_out_of_memory(d);
}

static int set_bytes(struct decoder *d, struct reading *r, const struct value *v)
{
	r->type = READING_TEXT;
	r->u.text.data = text_base64url(d->arena, v->u.text.data, v->u.text.len, &r->u.text.len);
	return r->u.text.data ? 0 : decoder_out_of_memory(d);
}

static int set_value(struct decoder *d, struct reading *r, const struct value *v)
{
	switch (v->type) {
	case VALUE_BOOL:
		r->type = READING_BOOL;
		r->u.boolean = v->u.boolean;
		return 0;
	case VALUE_INTEGER:
		r->type = READING_INTEGER;
		r->u.integer = v->u.integer;
		return 0;
	case VALUE_NUMBER:
		r->type = READING_NUMBER;
		r->u.number = v->u.number;
		return 0;
	case VALUE_TEXT:
		r->type = READING_TEXT;
		r->u.text.data = v->u.text.data;
		r->u.text.len = v->u.text.len;
		return 0;
	case VALUE_BYTES:
		return set_bytes(d, r, v);
	case VALUE_ARRAY:
	case VALUE_MAP:
		return set_json(d, r, v);
	case VALUE_NULL:
		break;
	}
	r->type = READING_NULL;
	return 0;
}

static int add_reading(struct decoder *d, struct sample *s, const struct name *n,
		       const struct value *v)
{
	struct reading *r = &s->readings[s->reading_count];

	if (d->reading_count == d->limits->max_readings)
		return decoder_fail(d, -EMSGSIZE, "more than %u readings", d->limits->max_readings);
	r->name = arena_strndup(d->arena, n->text, n->len);
	if (!r->name)
		return decoder_out_of_memory(d);
	r->name_len = n->len;
	d->reading_count++;
	s->reading_count++;
	return set_value(d, r, v);
}

int flatten(struct decoder *d, struct sample *s, struct name *n, const struct value *v)
{
	size_t len = n->len;

	if (v->type != VALUE_MAP)
		return add_reading(d, s, n, v);
	for (size_t i = 0; i < v->u.map.count; i++) {
		const struct member *m = &v->u.map.members[i];
		int rc = name_append_key(d, n, m);

		if (rc == 0)
			rc = flatten(d, s, n, &m->value);
		if (rc)
			return rc;
		n->len = len;
	}
	return 0;
}

bool sample_take_seq(struct sample *s, const struct value *v)
{
	const double end = 9223372036854775808.0; /* 2^63 */

	if (v->type == VALUE_INTEGER && v->u.integer >= 0)
		s->seq = v->u.integer;
	else if (v->type == VALUE_NUMBER && v->u.number >= 0 && v->u.number < end &&
		 (double)(int64_t)v->u.number == v->u.number)
		s->seq = (int64_t)v->u.number;
	else
		return false;
	s->has_seq = true;
	return true;
}

static bool take_ts(struct sample *s, const struct value *v)
{
	if (!timestamp_from_value(v, &s->ts_us))
		return false;
	s->time = SAMPLE_TIME_DEVICE;
	return true;
}

/* `ts` and `seq` are the sample's own, if they can be. */
static bool is_taken(struct sample *s, const struct member *m)
{
	if (m->is_label)
		return false;
	if (m->key_len == 2 && memcmp(m->key, "ts", 2) == 0)
		return take_ts(s, &m->value);
	if (m->key_len == 3 && memcmp(m->key, "seq", 3) == 0)
		return sample_take_seq(s, &m->value);
	return false;
}

int flatten_message(struct decoder *d, struct sample *s, const struct value *map)
{
	struct name n;

	for (size_t i = 0; i < map->u.map.count; i++) {
		const struct member *m = &map->u.map.members[i];
		int rc;

		if (is_taken(s, m))
			continue;
		n.len = 0;
		rc = name_append_key(d, &n, m);
		if (rc == 0)
			rc = flatten(d, s, &n, &m->value);
		if (rc)
			return rc;
	}
	return 0;
}
