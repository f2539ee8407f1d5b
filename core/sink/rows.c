/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows are JSON objects until PostgreSQL makes columns of them, so a column's type is its own
 * business: what fits is what its input function and jsonb take. Only what JSON cannot say is put
 * so that it is understood: times that are numbers, bytes, and whole numbers that arithmetic made.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"
#include "core/payload/timestamp.h"
#include "core/sink/internal.h"

#define ARENA_CHUNK (256 * 1024)
#define BATCH_MOST                                                                                 \
	(32 * 1024 * 1024)     /* of memory, for the rows of one batch and their messages          \
				*/
#define ROW_MOST (1024 * 1024) /* bytes of a row as JSON */

/* pg_type.dat */
#define OID_BYTEA	17
#define OID_INT8	20
#define OID_INT2	21
#define OID_INT4	23
#define OID_DATE	1082
#define OID_TIMESTAMP	1114
#define OID_TIMESTAMPTZ 1184

#define WHOLE_MOST 9007199254740992.0 /* 2^53: below, a whole double is exact */

void sink_batch_init(struct sink_batch *b)
{
	*b = (struct sink_batch){0};
	arena_init(&b->arena, ARENA_CHUNK, BATCH_MOST);
}

void sink_batch_clear(struct sink_batch *b)
{
	struct arena arena = b->arena;

	arena_reset(&arena);
	*b = (struct sink_batch){.arena = arena};
}

void sink_batch_free(struct sink_batch *b)
{
	arena_free(&b->arena);
	*b = (struct sink_batch){0};
}

/* ---- values ---- */

static struct value text_value(const char *data, size_t len)
{
	return (struct value){.type = VALUE_TEXT, .u.text = {data, len}};
}

/* A device's time in the unit that its magnitude says, as `ts` of a message. */
static int time_text(struct value *v, struct arena *a)
{
	const size_t size = 40;
	char *text = arena_alloc(a, size);
	time_t seconds;
	struct tm tm;
	int64_t us;
	size_t n;

	if (!text)
		return -ENOMEM;
	if (!timestamp_from_value(v, &us))
		return 0; /* PostgreSQL says why not */
	seconds = (time_t)(us / US_PER_S - (us % US_PER_S < 0));
	us -= seconds * US_PER_S;
	if (!gmtime_r(&seconds, &tm) || tm.tm_year < -1899 || tm.tm_year > 8099)
		return 0;
	n = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(text + n, size - n, ".%06" PRId64 "Z", us);
	*v = text_value(text, n);
	return 0;
}

static int bytea_text(struct value *v, struct arena *a)
{
	static const char digits[] = "0123456789abcdef";
	size_t len = v->u.text.len;
	char *text = arena_alloc(a, 2 + 2 * len);

	if (!text)
		return -ENOMEM;
	memcpy(text, "\\x", 2);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)v->u.text.data[i];

		text[2 + 2 * i] = digits[c >> 4];
		text[3 + 2 * i] = digits[c & 15];
	}
	*v = text_value(text, 2 + 2 * len);
	return 0;
}

static bool is_number(const struct value *v)
{
	return v->type == VALUE_INTEGER || v->type == VALUE_NUMBER;
}

static int fit(struct value *v, const struct sink_column *c, struct arena *a)
{
	switch (c->type_oid) {
	case OID_DATE:
	case OID_TIMESTAMP:
	case OID_TIMESTAMPTZ:
		return is_number(v) ? time_text(v, a) : 0;
	case OID_BYTEA:
		return v->type == VALUE_BYTES ? bytea_text(v, a) : 0;
	case OID_INT2:
	case OID_INT4:
	case OID_INT8:
		if (v->type == VALUE_NUMBER && fabs(v->u.number) < WHOLE_MOST &&
		    v->u.number == trunc(v->u.number))
			*v = (struct value){.type = VALUE_INTEGER,
					    .u.integer = (int64_t)v->u.number};
		return 0;
	default:
		return 0;
	}
}

static const struct value *member(const struct value *map, const char *key, size_t len)
{
	for (size_t i = 0; map->type == VALUE_MAP && i < map->u.map.count; i++) {
		const struct member *m = &map->u.map.members[i];

		if (!m->is_label && m->key_len == len && memcmp(m->key, key, len) == 0)
			return &m->value;
	}
	return NULL;
}

/* ---- a row ---- */

struct draft {
	const struct sink_table *table;
	struct member *members;
	size_t count;
	uint64_t *columns;
};

static size_t words_of(const struct sink_table *t)
{
	return (t->column_count + 63) / 64;
}

static int put(struct draft *d, const struct sink_column *c, const struct value *v, struct arena *a)
{
	size_t i = (size_t)(c - d->table->columns);
	struct member *m = &d->members[d->count];

	if (d->columns[i / 64] & UINT64_C(1) << i % 64)
		return 0; /* of a name that stands there twice the first counts */
	*m = (struct member){.key = c->name, .key_len = strlen(c->name), .value = *v};
	d->columns[i / 64] |= UINT64_C(1) << i % 64;
	d->count++;
	return fit(&m->value, c, a);
}

static int put_mapped(struct draft *d, const struct rule_action *action,
		      const struct value *selected, struct arena *a)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < action->store.column_count; i++) {
		const struct rule_column *m = &action->store.columns[i];
		const struct sink_column *c = sink_table_column(d->table, m->column);
		const struct value *v = rule_column_value(selected, m->member);

		if (c && v)
			rc = put(d, c, v, a);
	}
	return rc;
}

/* What has no column is left out: a device that reports one thing more must not lose the others. */
static int put_by_name(struct draft *d, const struct value *selected, struct arena *a)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < d->table->column_count; i++) {
		const struct sink_column *c = &d->table->columns[i];
		const struct value *v = member(selected, c->name, strlen(c->name));

		if (v && !c->generated && !c->always_identity)
			rc = put(d, c, v, a);
	}
	return rc;
}

static int draft_row(struct draft *d, const struct sink_table *t, const struct rule_action *action,
		     const struct value *selected, struct arena *a)
{
	*d = (struct draft){
		.table = t,
		.members = arena_alloc(a, t->column_count * sizeof(*d->members)),
		.columns = arena_alloc(a, words_of(t) * sizeof(*d->columns)),
	};
	if (!d->members || !d->columns)
		return -ENOMEM;
	memset(d->columns, 0, words_of(t) * sizeof(*d->columns));
	return action->store.column_count > 0 ? put_mapped(d, action, selected, a)
					      : put_by_name(d, selected, a);
}

/* ---- groups ---- */

static void *copy(struct arena *a, const void *data, size_t len)
{
	void *p = arena_alloc(a, len);

	if (p && len > 0)
		memcpy(p, data, len);
	return p;
}

/* An array in the arena, for one item more. NULL without memory. */
static void *grown(struct arena *a, void *items, size_t count, size_t *size, size_t item)
{
	void *more;

	if (count < *size)
		return items;
	more = arena_alloc(a, (*size ? *size * 2 : 8) * item);
	if (!more)
		return NULL;
	if (count > 0)
		memcpy(more, items, count * item);
	*size = *size ? *size * 2 : 8;
	return more;
}

static struct sink_group *find_group(struct sink_batch *b, const struct sink_targets *t,
				     size_t table, const uint64_t *columns, bool late)
{
	size_t len = words_of(&t->tables[table]) * sizeof(*columns);
	struct sink_group *g;

	for (size_t i = 0; i < b->group_count; i++) {
		g = &b->groups[i];
		if (g->table == table && g->late == late && memcmp(g->columns, columns, len) == 0)
			return g;
	}
	g = grown(&b->arena, b->groups, b->group_count, &b->group_size, sizeof(*g));
	if (!g)
		return NULL;
	b->groups = g;
	g += b->group_count;
	*g = (struct sink_group){
		.table = table, .columns = copy(&b->arena, columns, len), .late = late};
	if (!g->columns)
		return NULL;
	b->group_count++;
	return g;
}

void sink_batch_next_record(struct sink_batch *b)
{
	b->message_of = NULL;
}

/* Several rules that match one record share it. What was republished has no address of its own. */
static const struct sink_message *keep_message(struct sink_batch *b, const struct rule_firing *f,
					       uint8_t format)
{
	const struct rule_input *in = f->in;
	struct sink_message *m;

	if (f->depth == 0 && b->message_of == in)
		return b->message;
	m = arena_alloc(&b->arena, sizeof(*m));
	if (!m)
		return NULL;
	*m = (struct sink_message){.in = *in, .format = f->depth == 0 ? format : PAYLOAD_AUTO};
	m->in.payload = NULL;
	m->in.work = NULL;
	m->in.topic = arena_strndup(&b->arena, in->topic, strlen(in->topic));
	m->in.device = in->device ? arena_strndup(&b->arena, in->device, strlen(in->device)) : NULL;
	m->in.raw = copy(&b->arena, in->raw, in->raw_len);
	if (!m->in.topic || !m->in.raw || (in->device && !m->in.device))
		return NULL;
	if (f->depth == 0) {
		b->message = m;
		b->message_of = in;
	}
	return m;
}

static int refuse(int rc, char *why, size_t why_len, const char *text)
{
	snprintf(why, why_len, "%s", text);
	return rc;
}

static int keep_row(struct sink_batch *b, struct sink_group *g, const struct sink_row *row)
{
	struct sink_row *rows = grown(&b->arena, g->rows, g->count, &g->size, sizeof(*g->rows));

	if (!rows)
		return -ENOMEM;
	g->rows = rows;
	rows[g->count++] = *row;
	b->rows++;
	b->bytes += row->json_len;
	return 0;
}

int sink_batch_add(struct sink_batch *b, const struct sink_targets *t,
		   const struct sink_target *target, const struct rule_firing *f, uint8_t format,
		   bool late, struct arena *temporary, char *why, size_t why_len)
{
	static const char no_memory[] = "the rows of one message, or of those that wait, take more "
					"memory than there is for them";
	const struct sink_table *table = &t->tables[target->table];
	struct sink_row row = {.target = target, .is_report = f->is_error_action};
	struct value object;
	struct sink_group *g;
	struct draft d;
	char *json;

	if (draft_row(&d, table, target->action, f->selected, temporary) != 0)
		return refuse(-ENOMEM, why, why_len, no_memory);
	if (d.count == 0)
		return refuse(-EBADMSG, why, why_len, "SELECT gave nothing for any of its columns");
	object = (struct value){.type = VALUE_MAP, .u.map = {d.members, d.count}};
	json = value_print_json(temporary, &object, &row.json_len);
	if (!json)
		return refuse(-ENOMEM, why, why_len, no_memory);
	if (row.json_len > ROW_MOST)
		return refuse(-E2BIG, why, why_len, "the row is larger than 1 MiB");
	row.json = copy(&b->arena, json, row.json_len);
	if (!row.is_report)
		row.message = keep_message(b, f, format);
	g = row.json && (row.message || row.is_report)
		    ? find_group(b, t, target->table, d.columns, late)
		    : NULL;
	if (!g || keep_row(b, g, &row) != 0)
		return refuse(-ENOMEM, why, why_len, no_memory);
	return 0;
}

int sink_batch_publish(struct sink_batch *b, const struct rule_firing *f)
{
	struct sink_publication *p = arena_alloc(&b->arena, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct sink_publication){
		.message = {.topic = arena_strndup(&b->arena, f->topic, strlen(f->topic)),
			    .payload = copy(&b->arena, f->payload, f->payload_len),
			    .payload_len = f->payload_len,
			    .qos = f->action->republish.qos,
			    .retain = f->action->republish.retain},
	};
	if (!p->message.topic || !p->message.payload)
		return -ENOMEM;
	if (b->last)
		b->last->next = p;
	else
		b->first = p;
	b->last = p;
	return 0;
}
