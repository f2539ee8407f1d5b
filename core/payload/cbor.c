/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CBOR (RFC 8949) to a value, by recursive descent over the tokens of libcbor's stateless stream
 * decoder: it finds and checks one head at a time, nothing is allocated but the result in the
 * arena, and depth and counts are checked before anything is done for them. Text and bytes point
 * into the message.
 */
#include "core/payload/value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/payload/cbor_token.h"
#include "core/payload/key_map.h"
#include "core/payload/text.h"

#define FIRST_ITEMS   4 /* room for the first items of an indefinite length */
#define TAG_DATE_TIME 0 /* RFC 8949 section 3.4.1: text */
#define TAG_EPOCH     1 /* section 3.4.2: a number */
#define LABEL_TEXT    24

struct cbor {
	struct arena *arena;
	const struct decode_limits *limits;
	const unsigned char *data;
	size_t len;
	size_t pos; /* behind the last token */
	size_t at;  /* where the last token began, for the reason */
	char *reason;
	size_t reason_len;
};

static int fail(struct cbor *c, int error, const char *what)
{
	text_reason(c->reason, c->reason_len, error, "CBOR: byte %zu: %s", c->at, what);
	return error;
}

static int next_token(struct cbor *c, struct cbor_token *t)
{
	size_t read;
	int rc;

	c->at = c->pos;
	rc = cbor_token_read(c->data + c->pos, c->len - c->pos, t, &read);
	if (rc == -ENODATA)
		return fail(c, -EBADMSG, "the message ends within an item");
	if (rc)
		return fail(c, -EBADMSG, "not well-formed: reserved or unassigned head");
	c->pos += read;
	return 0;
}

static int check_text(struct cbor *c, const char *s, size_t len)
{
	if (!text_is_valid(s, len))
		return fail(c, -EBADMSG, "text is not UTF-8, or has a NUL in it");
	return 0;
}

/* A string of indefinite length is a row of definite ones; the first pass measures, the second
 * copies. */
static int join_chunks(struct cbor *c, enum cbor_token_type type, struct cbor_token *out)
{
	size_t begin = c->pos, at = c->at, total = 0;
	struct cbor_token t;
	char *text;
	int rc;

	for (;;) {
		rc = next_token(c, &t);
		if (rc)
			return rc;
		if (t.type == CBOR_TOKEN_BREAK)
			break;
		if (t.type != type)
			return fail(c, -EBADMSG, "a string has a chunk of another type");
		rc = type == CBOR_TOKEN_TEXT ? check_text(c, t.u.text.data, t.u.text.len) : 0;
		if (rc)
			return rc;
		total += t.u.text.len;
	}
	c->at = at;
	text = arena_alloc(c->arena, total);
	if (!text)
		return fail(c, -ENOMEM, "out of memory");
	*out = (struct cbor_token){.type = type, .u.text = {.data = text, .len = total}};
	for (c->pos = begin; next_token(c, &t) == 0 && t.type == type; text += t.u.text.len)
		memcpy(text, t.u.text.data, t.u.text.len);
	return 0;
}

/* t is the first token of a string; afterwards it is a whole one, checked. */
static int read_string(struct cbor *c, struct cbor_token *t)
{
	if (t->type == CBOR_TOKEN_TEXT_START)
		return join_chunks(c, CBOR_TOKEN_TEXT, t);
	if (t->type == CBOR_TOKEN_BYTES_START)
		return join_chunks(c, CBOR_TOKEN_BYTES, t);
	return t->type == CBOR_TOKEN_TEXT ? check_text(c, t->u.text.data, t->u.text.len) : 0;
}

/* Take tags away from before an item; *t is then the item's first token. */
static int skip_tags(struct cbor *c, struct cbor_token *t)
{
	bool date_time = false, epoch = false;

	while (t->type == CBOR_TOKEN_TAG) {
		int rc;

		date_time |= t->u.count == TAG_DATE_TIME;
		epoch |= t->u.count == TAG_EPOCH;
		rc = next_token(c, t);
		if (rc)
			return rc;
	}
	if (date_time && t->type != CBOR_TOKEN_TEXT && t->type != CBOR_TOKEN_TEXT_START)
		return fail(c, -EBADMSG, "tag 0 marks something that is not text");
	if (epoch && t->type != CBOR_TOKEN_INTEGER && t->type != CBOR_TOKEN_NUMBER)
		return fail(c, -EBADMSG, "tag 1 marks something that is not a number");
	return 0;
}

static int read_key(struct cbor *c, struct cbor_token *t, struct member *m)
{
	int rc = skip_tags(c, t);

	if (rc)
		return rc;
	if (t->type == CBOR_TOKEN_INTEGER) {
		m->is_label = true;
		m->label = t->u.integer;
		return 0;
	}
	if (t->type != CBOR_TOKEN_TEXT && t->type != CBOR_TOKEN_TEXT_START)
		return fail(c, -EBADMSG, "a map's key is neither text nor an integer");
	rc = read_string(c, t);
	m->is_label = false;
	m->key = t->u.text.data;
	m->key_len = t->u.text.len;
	return rc;
}

static size_t print_label(char *s, int64_t label)
{
	return (size_t)snprintf(s, LABEL_TEXT, "%" PRId64, label);
}

/* A label and a text that reads like it are the same key: both become the same name. */
static bool same_key(const struct member *a, const struct member *b)
{
	char label[LABEL_TEXT];
	size_t len;

	if (a->is_label && b->is_label)
		return a->label == b->label;
	if (a->is_label)
		return same_key(b, a);
	if (!b->is_label)
		return a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0;
	len = print_label(label, b->label);
	return a->key_len == len && memcmp(a->key, label, len) == 0;
}

static int duplicate_key(struct cbor *c, const struct member *m)
{
	char label[LABEL_TEXT];

	if (m->is_label)
		print_label(label, m->label);
	return text_reason(c->reason, c->reason_len, -EBADMSG,
			   "CBOR: byte %zu: duplicate key %.*s in the map that ends here", c->pos,
			   m->is_label ? LABEL_TEXT : (int)(m->key_len < 128 ? m->key_len : 128),
			   m->is_label ? label : m->key);
}

static int check_many_keys(struct cbor *c, const struct member *m, size_t count)
{
	struct key_map seen;

	if (key_map_init(&seen, c->arena, count))
		return fail(c, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		const char *key = m[i].key;
		size_t len = m[i].key_len, ignored = 0;

		if (m[i].is_label) {
			char *label = arena_alloc(c->arena, LABEL_TEXT);

			if (!label)
				return fail(c, -ENOMEM, "out of memory");
			len = print_label(label, m[i].label);
			key = label;
		}
		if (!key_map_put(&seen, key, len, &ignored))
			return duplicate_key(c, &m[i]);
	}
	return 0;
}

static int check_keys(struct cbor *c, const struct member *m, size_t count)
{
	if (count > KEY_MAP_FEW)
		return check_many_keys(c, m, count);
	for (size_t i = 1; i < count; i++)
		for (size_t k = 0; k < i; k++)
			if (same_key(&m[i], &m[k]))
				return duplicate_key(c, &m[i]);
	return 0;
}

static int too_many(struct cbor *c, uint64_t count)
{
	text_reason(c->reason, c->reason_len, -EMSGSIZE,
		    "CBOR: byte %zu: %" PRIu64 " items in one array or map, at most %u", c->at,
		    count, c->limits->max_readings);
	return -EMSGSIZE;
}

/*
 * Room for the items of a container; *capacity is 0 at first. A definite length is claimed at once,
 * but only as many items as the bytes that are left could be.
 */
static int make_room(struct cbor *c, const struct cbor_token *head, size_t count, size_t item_size,
		     size_t *capacity, void **items)
{
	bool definite = head->type == CBOR_TOKEN_ARRAY || head->type == CBOR_TOKEN_MAP;
	size_t more = definite ? (size_t)head->u.count : *capacity ? *capacity * 2 : FIRST_ITEMS;
	void *room;

	if (count < *capacity)
		return 0;
	if (count >= c->limits->max_readings && !definite)
		return too_many(c, (uint64_t)count + 1);
	if (more > c->limits->max_readings)
		more = c->limits->max_readings;
	room = arena_alloc(c->arena, more * item_size);
	if (!room)
		return fail(c, -ENOMEM, "out of memory");
	if (count > 0)
		memcpy(room, *items, count * item_size);
	*items = room;
	*capacity = more;
	return 0;
}

static int check_head(struct cbor *c, const struct cbor_token *head, unsigned depth)
{
	if (depth > c->limits->max_depth)
		return text_reason(c->reason, c->reason_len, -EMSGSIZE,
				   "CBOR: byte %zu: nested deeper than %u", c->at,
				   c->limits->max_depth);
	if (head->type != CBOR_TOKEN_ARRAY && head->type != CBOR_TOKEN_MAP)
		return 0;
	if (head->u.count > (c->len - c->pos) / (head->type == CBOR_TOKEN_MAP ? 2 : 1))
		return fail(c, -EBADMSG, "the message ends within an item");
	if (head->u.count > c->limits->max_readings)
		return too_many(c, head->u.count);
	return 0;
}

/* Is there another item in the container? Then *t is its first token. */
static int next_item(struct cbor *c, const struct cbor_token *head, size_t count,
		     struct cbor_token *t, bool *more)
{
	int rc;

	*more = false;
	if ((head->type == CBOR_TOKEN_ARRAY || head->type == CBOR_TOKEN_MAP) &&
	    count == head->u.count)
		return 0;
	rc = next_token(c, t);
	if (rc)
		return rc;
	*more = true;
	if (t->type == CBOR_TOKEN_BREAK &&
	    (head->type == CBOR_TOKEN_ARRAY_START || head->type == CBOR_TOKEN_MAP_START))
		*more = false;
	return 0;
}

static int read_value(struct cbor *c, struct cbor_token *t, unsigned depth, struct value *out);

static int read_array(struct cbor *c, const struct cbor_token *head, unsigned depth,
		      struct value *out)
{
	size_t count = 0, capacity = 0;
	void *items = NULL;
	struct cbor_token t;
	bool more;
	int rc = check_head(c, head, depth);

	while (rc == 0) {
		rc = next_item(c, head, count, &t, &more);
		if (rc || !more)
			break;
		rc = make_room(c, head, count, sizeof(struct value), &capacity, &items);
		if (rc)
			break;
		rc = read_value(c, &t, depth, (struct value *)items + count);
		count++;
	}
	out->type = VALUE_ARRAY;
	out->u.array.items = items;
	out->u.array.count = count;
	return rc;
}

static int read_member(struct cbor *c, struct cbor_token *t, unsigned depth, struct member *m)
{
	int rc = read_key(c, t, m);

	if (rc)
		return rc;
	rc = next_token(c, t);
	if (rc)
		return rc;
	return read_value(c, t, depth, &m->value);
}

static int read_map(struct cbor *c, const struct cbor_token *head, unsigned depth,
		    struct value *out)
{
	size_t count = 0, capacity = 0;
	void *members = NULL;
	struct cbor_token t;
	bool more;
	int rc = check_head(c, head, depth);

	while (rc == 0) {
		rc = next_item(c, head, count, &t, &more);
		if (rc || !more)
			break;
		rc = make_room(c, head, count, sizeof(struct member), &capacity, &members);
		if (rc)
			break;
		rc = read_member(c, &t, depth, (struct member *)members + count);
		count++;
	}
	out->type = VALUE_MAP;
	out->u.map.members = members;
	out->u.map.count = count;
	return rc ? rc : check_keys(c, members, count);
}

static int read_text(struct cbor *c, struct cbor_token *t, struct value *out)
{
	int rc = read_string(c, t);

	out->type = t->type == CBOR_TOKEN_TEXT ? VALUE_TEXT : VALUE_BYTES;
	out->u.text.data = t->u.text.data;
	out->u.text.len = t->u.text.len;
	return rc;
}

/* t: the value's first token. depth: of the container that holds it. */
static int read_value(struct cbor *c, struct cbor_token *t, unsigned depth, struct value *out)
{
	int rc = skip_tags(c, t);

	if (rc)
		return rc;
	switch (t->type) {
	case CBOR_TOKEN_INTEGER:
		out->type = VALUE_INTEGER;
		out->u.integer = t->u.integer;
		return 0;
	case CBOR_TOKEN_NUMBER:
		out->type = isfinite(t->u.number) ? VALUE_NUMBER : VALUE_NULL;
		out->u.number = t->u.number;
		return 0;
	case CBOR_TOKEN_BOOL:
		out->type = VALUE_BOOL;
		out->u.boolean = t->u.boolean;
		return 0;
	case CBOR_TOKEN_NULL:
		out->type = VALUE_NULL;
		return 0;
	case CBOR_TOKEN_TEXT:
	case CBOR_TOKEN_TEXT_START:
	case CBOR_TOKEN_BYTES:
	case CBOR_TOKEN_BYTES_START:
		return read_text(c, t, out);
	case CBOR_TOKEN_ARRAY:
	case CBOR_TOKEN_ARRAY_START:
		return read_array(c, t, depth + 1, out);
	case CBOR_TOKEN_MAP:
	case CBOR_TOKEN_MAP_START:
		return read_map(c, t, depth + 1, out);
	case CBOR_TOKEN_BREAK:
	case CBOR_TOKEN_TAG:
		break;
	}
	return fail(c, -EBADMSG, "a break where a value belongs");
}

int cbor_decode(struct arena *a, const void *data, size_t len, const struct decode_limits *limits,
		struct value *out, char *reason, size_t reason_len)
{
	struct cbor c = {
		.arena = a,
		.limits = limits,
		.data = data,
		.len = len,
		.reason = reason,
		.reason_len = reason_len,
	};
	struct cbor_token t;
	int rc;

	if (len > limits->max_bytes)
		return text_reason(reason, reason_len, -EMSGSIZE, "CBOR: %zu bytes, at most %zu",
				   len, limits->max_bytes);
	if (len == 0)
		return text_reason(reason, reason_len, -EBADMSG, "CBOR: no bytes");
	rc = next_token(&c, &t);
	if (rc)
		return rc;
	rc = read_value(&c, &t, 0, out);
	if (rc)
		return rc;
	c.at = c.pos;
	if (c.pos < len)
		return fail(&c, -EBADMSG, "bytes behind the item");
	return 0;
}
