/* SPDX-License-Identifier: Apache-2.0 */
/* Which statements there are, and their texts. What goes into them is in params.c. */
#include "core/store/statement.h"

#include <stdlib.h>
#include <string.h>
#include <stdio.h>

/* How many metrics too many a statement may name before another is worth its preparation. */
#define SPARE_COLUMNS 4

/*
 * telemetry_latest.extra of a device that keeps inventing names must not grow without end: from
 * this size (as stored) on, what a message brings replaces it.
 */
#define LATEST_EXTRA_MAX "8192"

void statements_reset(struct statements *s, const struct catalogue *catalogue)
{
	for (size_t i = 0; i < STATEMENTS_KEPT; i++)
		free(s->kept[i].columns);
	*s = (struct statements){
		.catalogue = catalogue,
		.words = catalogue ? mask_words(catalogue->count + 2) : 0,
		.numbers = s->numbers,
	};
}

/* How many columns st names beyond `columns`; -1 if it lacks one. */
static int spare_columns(const struct statements *s, const struct statement *st,
			 const uint64_t *columns)
{
	int spare = 0;

	for (size_t w = 0; w < s->words; w++) {
		uint64_t wanted = columns ? columns[w] : 0;

		if (wanted & ~st->columns[w])
			return -1;
		spare += __builtin_popcountll(st->columns[w] & ~wanted);
	}
	return spare;
}

static struct statement *find(struct statements *s, enum statement_kind kind,
			      const uint64_t *columns)
{
	struct statement *best = NULL;
	int best_spare = SPARE_COLUMNS + 1;

	for (size_t i = 0; i < s->count; i++) {
		int spare = s->kept[i].kind == kind ? spare_columns(s, &s->kept[i], columns) : -1;

		if (spare >= 0 && spare < best_spare) {
			best = &s->kept[i];
			best_spare = spare;
		}
	}
	return best;
}

static struct statement *place_for_another(struct statements *s, unsigned *dropped)
{
	struct statement *oldest = &s->kept[0];

	if (s->count < STATEMENTS_KEPT)
		return &s->kept[s->count++];
	for (size_t i = 1; i < s->count; i++)
		if (s->kept[i].used < oldest->used)
			oldest = &s->kept[i];
	if (oldest->asked) {
		*dropped = oldest->number;
		s->dropped = true;
	}
	return oldest;
}

struct statement *statements_get(struct statements *s, enum statement_kind kind,
				 const uint64_t *columns, unsigned *dropped)
{
	struct statement *st = find(s, kind, columns);
	uint64_t *own;

	*dropped = 0;
	if (!st) {
		own = calloc(s->words, sizeof(*own));
		if (!own)
			return NULL;
		if (columns)
			memcpy(own, columns, s->words * sizeof(*own));
		st = place_for_another(s, dropped);
		free(st->columns);
		*st = (struct statement){.kind = kind, .number = ++s->numbers, .columns = own};
	}
	st->used = ++s->clock;
	return st;
}

void statements_ready(struct statements *s, unsigned number)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->kept[i].number == number)
			s->kept[i].ready = true;
}

void statements_forget_unready(struct statements *s)
{
	for (size_t i = s->count; i-- > 0;) {
		if (s->kept[i].ready)
			continue;
		free(s->kept[i].columns);
		s->kept[i] = s->kept[--s->count];
		s->kept[s->count] = (struct statement){0};
	}
}

void statement_name(unsigned number, char name[STATEMENT_NAME_MAX])
{
	snprintf(name, STATEMENT_NAME_MAX, "fg%u", number);
}

static const char *type_name(enum pg_oid type)
{
	switch (type) {
	case PG_BOOL:
		return "bool";
	case PG_BYTEA:
		return "bytea";
	case PG_INT2:
		return "int2";
	case PG_INT4:
		return "int4";
	case PG_INT8:
		return "int8";
	case PG_FLOAT4:
		return "float4";
	case PG_FLOAT8:
		return "float8";
	case PG_TIMESTAMPTZ:
		return "timestamptz";
	case PG_JSONB:
		return "jsonb";
	default:
		return "text";
	}
}

/* A text is made in three lists at once: target columns, their values, and the parameters. */
struct builder {
	struct bytes targets, values, params;
	unsigned count;
};

static void comma(struct bytes *b)
{
	if (b->len > 0)
		bytes_put_string(b, ", ");
}

/* One more parameter. target: NULL if it is no column. value: with %1$u for its number. */
static void add(struct builder *t, const char *target, enum pg_oid type, bool source)
{
	t->count++;
	comma(&t->params);
	bytes_printf(&t->params, "unnest($%1$u::%2$s[]) as a%1$u", t->count, type_name(type));
	if (!target)
		return;
	comma(&t->targets);
	bytes_put_string(&t->targets, target);
	comma(&t->values);
	if (source)
		bytes_printf(&t->values,
			     "('{device,receipt,out_of_range}'::fieldgate.ts_source[])[a%u]",
			     t->count);
	else
		bytes_printf(&t->values, "a%u", t->count);
}

static void add_metrics(struct builder *t, const struct statement *st, const struct catalogue *c)
{
	for (size_t m = 0; m < c->count; m++)
		if (mask_has(st->columns, m))
			add(t, c->columns[m].identifier, c->columns[m].type, false);
	if (mask_has(st->columns, c->count))
		add(t, "extra", PG_JSONB, false);
	if (mask_has(st->columns, c->count + 1))
		add(t, "subtopic", PG_TEXT, false);
}

static void finish(struct builder *t, struct bytes *b)
{
	b->failed |= t->targets.failed | t->values.failed | t->params.failed;
	bytes_free(&t->targets);
	bytes_free(&t->values);
	bytes_free(&t->params);
}

static void put_bytes(struct bytes *b, const struct bytes *from)
{
	bytes_put(b, from->data, from->len);
}

/*
 * All the arrays side by side. As functions in `from` each would be written to a tuplestore of its
 * own first; as a select list they are read in step.
 */
static void put_rows(struct bytes *b, const struct builder *t)
{
	bytes_put_string(b, "(select ");
	put_bytes(b, &t->params);
	bytes_put_string(b, ") as u");
}

static void put_insert(struct bytes *b, const char *table, const struct builder *t)
{
	bytes_printf(b, "insert into fieldgate.%s (", table);
	put_bytes(b, &t->targets);
	bytes_put_string(b, ") select ");
	put_bytes(b, &t->values);
	bytes_put_string(b, " from ");
}

static void telemetry_text(const struct statement *st, const struct catalogue *c, struct bytes *b)
{
	struct builder t = {0};

	add(&t, "device", PG_TEXT, false);
	add(&t, "ts", PG_TIMESTAMPTZ, false);
	add(&t, "seq", PG_INT8, false);
	add(&t, "received_at", PG_TIMESTAMPTZ, false);
	add(&t, "ts_source", PG_INT2, true);
	if (st->kind == STATEMENT_TELEMETRY) {
		add_metrics(&t, st, c);
		put_insert(b, "telemetry", &t);
		put_rows(b, &t);
	} else {
		add(&t, NULL, PG_INT8, false); /* a6: content, null for rows that need no look */
		add_metrics(&t, st, c);
		bytes_put_string(b, "with u as materialized (select * from ");
		put_rows(b, &t);
		bytes_put_string(b, "), fresh as (insert into fieldgate.sequence_seen"
				    " (device, seq, content, ts) select a1, a3, a6, a2 from u"
				    " where a6 is not null on conflict do nothing"
				    " returning device, seq, content, ts) ");
		put_insert(b, "telemetry", &t);
		bytes_put_string(b, "u where a6 is null or (a1, a3, a6, a2) in"
				    " (select device, seq, content, ts from fresh)");
	}
	bytes_put_string(b, " on conflict do nothing");
	finish(&t, b);
}

#define NEWER "(excluded.ts, excluded.seq) > (l.ts, l.seq)"

static void put_latest_assignment(struct bytes *b, const char *column)
{
	bytes_printf(b,
		     ", %1$s = case when " NEWER " then coalesce(excluded.%1$s, l.%1$s)"
		     " else coalesce(l.%1$s, excluded.%1$s) end",
		     column);
}

static void put_latest_update(struct bytes *b, const struct statement *st,
			      const struct catalogue *c)
{
	bool extra = mask_has(st->columns, c->count);

	bytes_put_string(b, " on conflict (device) do update set"
			    " ts = greatest(excluded.ts, l.ts),"
			    " seq = case when " NEWER " then excluded.seq else l.seq end,"
			    " received_at = case when " NEWER
			    " then excluded.received_at else l.received_at end");
	for (size_t m = 0; m < c->count; m++)
		if (mask_has(st->columns, m))
			put_latest_assignment(b, c->columns[m].identifier);
	if (extra)
		bytes_put_string(b, ", extra = case when excluded.extra is null then l.extra"
				    " when l.extra is null then excluded.extra"
				    " when " NEWER " then"
				    " case when pg_column_size(l.extra) > " LATEST_EXTRA_MAX
				    " then excluded.extra else l.extra || excluded.extra end"
				    " when pg_column_size(l.extra) > " LATEST_EXTRA_MAX
				    " then l.extra else excluded.extra || l.extra end");
	bytes_put_string(b, " where " NEWER);
	for (size_t m = 0; m < c->count; m++)
		if (mask_has(st->columns, m))
			bytes_printf(b, " or (l.%1$s is null and excluded.%1$s is not null)",
				     c->columns[m].identifier);
	if (extra)
		bytes_put_string(b, " or excluded.extra || coalesce(l.extra, '{}')"
				    " is distinct from l.extra");
}

static void latest_text(const struct statement *st, const struct catalogue *c, struct bytes *b)
{
	struct builder t = {0};

	add(&t, "device", PG_TEXT, false);
	add(&t, "ts", PG_TIMESTAMPTZ, false);
	add(&t, "seq", PG_INT8, false);
	add(&t, "received_at", PG_TIMESTAMPTZ, false);
	if (st->kind == STATEMENT_LATEST_ONCE)
		add(&t, NULL, PG_BOOL, false); /* a5: may not have been stored */
	add_metrics(&t, st, c);
	bytes_put_string(b, "insert into fieldgate.telemetry_latest as l (");
	put_bytes(b, &t.targets);
	bytes_put_string(b, ") select ");
	put_bytes(b, &t.values);
	bytes_put_string(b, " from ");
	put_rows(b, &t);
	if (st->kind == STATEMENT_LATEST_ONCE)
		bytes_put_string(b, " where not a5 or exists (select from fieldgate.telemetry t"
				    " where t.device = a1 and t.ts = a2 and t.seq = a3)");
	put_latest_update(b, st, c);
	finish(&t, b);
}

static const char *const fixed_texts[] = {
	[STATEMENT_BEGIN] = "begin",
	[STATEMENT_DEAD_LETTER] =
		"insert into fieldgate.dead_letter"
		" (device, received_at, seq, topic, reason, payload)"
		" select * from unnest($1::text[], $2::timestamptz[], $3::int8[], $4::text[],"
		" $5::text[], $6::bytea[]) on conflict do nothing",
	/* Answers how many went to dead_letter. */
	[STATEMENT_DOWNLINK] =
		"select fieldgate.downlink_enqueue($1::uuid, $2::text, $3::text[], $4::text[],"
		" $5::bytea[], $6::int4[], $7::text[], $8::timestamptz[], $9::int8[])",
	[STATEMENT_PRESENCE_EVENT] =
		"insert into fieldgate.presence_event"
		" (device, at, seq, source, client_id, event, reason, address)"
		" select a1, a2, a3, a4, a5,"
		" case when a6 then 'connected' else 'disconnected' end, a7, a8"
		" from unnest($1::text[], $2::timestamptz[], $3::int8[], $4::text[], $5::text[],"
		" $6::bool[], $7::text[], $8::text[]) as u(a1, a2, a3, a4, a5, a6, a7, a8)"
		" on conflict do nothing",
	/*
	 * seq orders the events of one journal, whatever its clock did meanwhile; since tells that
	 * another journal has taken its place, whose numbers began again.
	 */
	[STATEMENT_PRESENCE] =
		"insert into fieldgate.presence as p"
		" (device, since, seq, source, client_id, connected, reason, address)"
		" select distinct on (a1, a4, a5) *"
		" from unnest($1::text[], $2::timestamptz[], $3::int8[], $4::text[], $5::text[],"
		" $6::bool[], $7::text[], $8::text[]) as u(a1, a2, a3, a4, a5, a6, a7, a8)"
		" order by a1, a4, a5, a3 desc"
		" on conflict (device, source, client_id) do update set"
		" connected = excluded.connected, since = excluded.since, seq = excluded.seq,"
		" reason = excluded.reason, address = excluded.address"
		" where excluded.seq > p.seq or excluded.since > p.since",
	/* A device may have had several connections: each event needs a key of its own. */
	[STATEMENT_STARTED] =
		"with gone as (update fieldgate.presence set connected = false, since = $1,"
		" seq = $2, reason = 'server restarted' where source = $3 and connected"
		" and (seq < $2 or since < $1) returning device, client_id, address)"
		" insert into fieldgate.presence_event"
		" (device, at, seq, source, client_id, event, reason, address)"
		" select device, $1::timestamptz,"
		" $2::int8 + row_number() over (partition by device order by client_id) - 1,"
		" $3::text, client_id, 'disconnected', 'server restarted', address from gone"
		" on conflict do nothing",
	[STATEMENT_ADVANCE] =
		"select fieldgate.journal_advance($1::uuid, $2::int8, $3::int8, $4::int8,"
		" $5::int8, $6::int8, $7::int8, $8::int8, $9::int8, $10::interval)",
	[STATEMENT_COMMIT] = "commit",
};

void statement_text(const struct statement *st, const struct catalogue *c, struct bytes *b)
{
	switch (st->kind) {
	case STATEMENT_TELEMETRY:
	case STATEMENT_TELEMETRY_ONCE:
		telemetry_text(st, c, b);
		break;
	case STATEMENT_LATEST:
	case STATEMENT_LATEST_ONCE:
		latest_text(st, c, b);
		break;
	default:
		bytes_put_string(b, fixed_texts[st->kind]);
	}
	bytes_put_byte(b, '\0');
}
