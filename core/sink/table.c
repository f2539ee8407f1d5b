/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sink/table.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/pgconn.h"

/*
 * One row for each table and column, in order; one without a column for a table that has none, or
 * that is not there. pg_catalog is searched before everything else, whoever connects.
 *
 * A view's column takes what is inserted if the view is a simple one; with a trigger instead of the
 * insert, all do. To know it PostgreSQL locks the view: of a table nothing is asked that would wait
 * for a lock. A key can leave rows out if it is checked at once, and no rewrite rule is in the way.
 * Of a serial column the role needs the sequence, too: of an identity column it does not.
 */
static const char tables_sql[] =
	"select w.place, quote_ident(w.schema) || '.' || quote_ident(w.name), "
	"quote_ident(w.schema),"
	" quote_ident(o.name),"
	" n.oid is not null, coalesce(has_schema_privilege(o.name, n.oid, 'usage'), false),"
	" (select quote_ident(l.relname) from pg_class l where l.relnamespace = n.oid"
	"  and lower(l.relname) = lower(w.name) and l.relkind in ('r', 'p', 'v') limit 1),"
	" c.relkind, coalesce(c.relpersistence = 't', false),"
	" case c.relkind when 'v' then pg_relation_is_updatable(c.oid, true) & 8 <> 0 else true "
	"end,"
	" case c.relkind when 'v' then pg_relation_is_updatable(c.oid, false) & 8 = 0 else false "
	"end,"
	" coalesce(has_table_privilege(o.name, c.oid, 'insert'), false),"
	" coalesce((select bool_or(i.indisunique) and bool_and(i.indimmediate)"
	"  from pg_index i where i.indrelid = c.oid), false)"
	"  and c.relkind in ('r', 'p') and not c.relhasrules,"
	" a.attname, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),"
	" case when t.typtype = 'd' then t.typbasetype else t.oid end,"
	" a.attnotnull or t.typnotnull, a.atthasdef or t.typdefault is not null or a.attidentity "
	"<> '',"
	" a.attgenerated <> '', a.attidentity = 'a',"
	" case c.relkind when 'v' then pg_column_is_updatable(c.oid, a.attnum, false) else true "
	"end,"
	" has_column_privilege(o.name, c.oid, a.attnum, 'insert'),"
	" (select quote_ident(sn.nspname) || '.' || quote_ident(s.relname) from pg_attrdef d"
	"  join pg_depend p on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid"
	"  and p.refclassid = 'pg_class'::regclass"
	"  join pg_class s on s.oid = p.refobjid and s.relkind = 'S'"
	"  join pg_namespace sn on sn.oid = s.relnamespace"
	"  where d.adrelid = c.oid and d.adnum = a.attnum"
	/* The planner may ask it before it has joined: of a table it would be an error. */
	"  and case when s.relkind = 'S'"
	"  then not has_sequence_privilege(o.name, s.oid, 'usage, update') end limit 1)"
	" from jsonb_to_recordset($1::text::jsonb) as w (place int, schema text, name text)"
	" cross join (select coalesce($2::text, current_user::text) as name) o"
	" left join pg_namespace n on n.nspname = w.schema"
	" left join pg_class c on c.relnamespace = n.oid and c.relname = w.name"
	" and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I', 'c', 't')"
	" left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
	" left join pg_type t on t.oid = a.atttypid"
	" order by w.place, a.attnum";

enum field {
	F_PLACE,
	F_SAID,
	F_SAID_SCHEMA,
	F_ROLE,
	F_SCHEMA_EXISTS,
	F_SCHEMA_USABLE,
	F_SIMILAR,
	F_KIND,
	F_TEMPORARY,
	F_INSERTABLE,
	F_BY_TRIGGER,
	F_GRANTED,
	F_HAS_KEY,
	F_COLUMN,
	F_QUOTED,
	F_TYPE,
	F_TYPE_OID,
	F_NOT_NULL,
	F_HAS_DEFAULT,
	F_GENERATED,
	F_ALWAYS_IDENTITY,
	F_COLUMN_INSERTABLE,
	F_COLUMN_GRANTED,
	F_DENIED_SEQUENCE,
};

static const char *schema_of(const struct rule_action *a)
{
	return a->store.schema ? a->store.schema : "public";
}

static char *put_quoted(char *at, const char *name)
{
	*at++ = '"';
	for (; *name; name++) {
		if (*name == '"')
			*at++ = '"';
		*at++ = *name;
	}
	*at++ = '"';
	return at;
}

/* What PQescapeIdentifier gives in UTF-8, without a connection: it also names the table's own
 * position. */
static char *quote_name(const char *schema, const char *name)
{
	char *out = malloc(2 * strlen(schema) + 2 * strlen(name) + 6), *at;

	if (!out)
		return NULL;
	at = put_quoted(out, schema);
	*at++ = '.';
	*put_quoted(at, name) = '\0';
	return out;
}

int sink_table_init(struct sink_table *t, const struct rule_action *a)
{
	*t = (struct sink_table){
		.schema = strdup(schema_of(a)),
		.name = strdup(a->store.table),
		.quoted = quote_name(schema_of(a), a->store.table),
	};
	if (t->schema && t->name && t->quoted)
		return 0;
	sink_table_free(t);
	return -ENOMEM;
}

static void free_columns(struct sink_column *columns, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(columns[i].name);
		free(columns[i].quoted);
		free(columns[i].type);
		free(columns[i].denied_sequence);
	}
	free(columns);
}

static void free_loaded(struct sink_table *t)
{
	free(t->said);
	free(t->said_schema);
	free(t->similar);
	free(t->said_role);
	free_columns(t->columns, t->column_count);
}

void sink_table_free(struct sink_table *t)
{
	free_loaded(t);
	free(t->schema);
	free(t->name);
	free(t->quoted);
	*t = (struct sink_table){0};
}

bool sink_table_is(const struct sink_table *t, const struct rule_action *a)
{
	return strcmp(t->name, a->store.table) == 0 && strcmp(t->schema, schema_of(a)) == 0;
}

const struct sink_column *sink_table_column(const struct sink_table *t, const char *name)
{
	for (size_t i = 0; i < t->column_count; i++)
		if (strcmp(t->columns[i].name, name) == 0)
			return &t->columns[i];
	return NULL;
}

static bool same_columns(const struct sink_table *a, const struct sink_table *b)
{
	if (a->kind != b->kind || a->column_count != b->column_count)
		return false;
	for (size_t i = 0; i < a->column_count; i++)
		if (strcmp(a->columns[i].name, b->columns[i].name) != 0 ||
		    strcmp(a->columns[i].type, b->columns[i].type) != 0)
			return false;
	return true;
}

/* ---- loading ---- */

static char *wanted_json(const struct sink_table *tables, size_t count)
{
	json_t *list = json_array();
	char *text;

	for (size_t i = 0; list && i < count; i++)
		if (json_array_append_new(list, json_pack("{s:I, s:s, s:s}", "place", (json_int_t)i,
							  "schema", tables[i].schema, "name",
							  tables[i].name)) != 0) {
			json_decref(list);
			list = NULL;
		}
	text = list ? json_dumps(list, JSON_COMPACT) : NULL;
	json_decref(list);
	return text;
}

/* NULL stays NULL; *failed without memory. */
static char *copy(const PGresult *r, int row, enum field f, bool *failed)
{
	char *text = NULL;

	if (PQgetisnull(r, row, (int)f))
		return NULL;
	text = strdup(PQgetvalue(r, row, (int)f));
	*failed |= !text;
	return text;
}

static bool yes(const PGresult *r, int row, enum field f)
{
	return PQgetvalue(r, row, (int)f)[0] == 't';
}

static void take_column(struct sink_column *c, const PGresult *r, int row, bool *failed)
{
	*c = (struct sink_column){
		.name = copy(r, row, F_COLUMN, failed),
		.quoted = copy(r, row, F_QUOTED, failed),
		.type = copy(r, row, F_TYPE, failed),
		.denied_sequence = copy(r, row, F_DENIED_SEQUENCE, failed),
		.type_oid = (uint32_t)strtoul(PQgetvalue(r, row, F_TYPE_OID), NULL, 10),
		.not_null = yes(r, row, F_NOT_NULL),
		.has_default = yes(r, row, F_HAS_DEFAULT),
		.generated = yes(r, row, F_GENERATED),
		.always_identity = yes(r, row, F_ALWAYS_IDENTITY),
		.insertable = yes(r, row, F_COLUMN_INSERTABLE),
		.granted = yes(r, row, F_COLUMN_GRANTED),
	};
}

/* Rows `from` to `to` of the result are one table's. What it had been loaded with stays the
 * caller's. */
static void take_table(struct sink_table *t, const PGresult *r, int from, int to, bool *failed)
{
	*t = (struct sink_table){
		.schema = t->schema,
		.name = t->name,
		.quoted = t->quoted,
		.said = copy(r, from, F_SAID, failed),
		.said_schema = copy(r, from, F_SAID_SCHEMA, failed),
		.said_role = copy(r, from, F_ROLE, failed),
		.similar = copy(r, from, F_SIMILAR, failed),
		.kind = PQgetvalue(r, from, F_KIND)[0],
		.schema_exists = yes(r, from, F_SCHEMA_EXISTS),
		.schema_usable = yes(r, from, F_SCHEMA_USABLE),
		.temporary = yes(r, from, F_TEMPORARY),
		.insertable = yes(r, from, F_INSERTABLE),
		.by_trigger = yes(r, from, F_BY_TRIGGER),
		.granted = yes(r, from, F_GRANTED),
		.has_key = yes(r, from, F_HAS_KEY),
	};
	if (PQgetisnull(r, from, F_COLUMN))
		return;
	t->columns = calloc((size_t)(to - from), sizeof(*t->columns));
	*failed |= !t->columns;
	for (int row = from; t->columns && row < to; row++)
		take_column(&t->columns[t->column_count++], r, row, failed);
}

static bool same_place(const PGresult *r, int a, int b)
{
	return strcmp(PQgetvalue(r, a, F_PLACE), PQgetvalue(r, b, F_PLACE)) == 0;
}

static int take_tables(struct sink_table *tables, size_t count, const PGresult *r)
{
	struct sink_table *fresh = calloc(count, sizeof(*fresh));
	int rows = PQntuples(r), from = 0, to;
	bool failed = !fresh;
	size_t i = 0;

	for (; !failed && from < rows && i < count; from = to, i++) {
		for (to = from + 1; to < rows && same_place(r, from, to); to++)
			;
		fresh[i] = tables[i];
		take_table(&fresh[i], r, from, to, &failed);
	}
	for (size_t k = 0; k < i; k++) {
		if (!failed)
			fresh[k].changed = !same_columns(&fresh[k], &tables[k]);
		free_loaded(failed ? &fresh[k] : &tables[k]);
		if (!failed)
			tables[k] = fresh[k];
	}
	free(fresh);
	return failed ? -ENOMEM : 0;
}

/* As pgconn_exec, with text parameters. */
static int ask(PGconn *c, const char *const *values, PGresult **out, int stop_fd, int timeout_s,
	       char *err, size_t err_len)
{
	int64_t deadline_us = clock_monotonic_us() + timeout_s * US_PER_S;
	PGresult *first = NULL, *r;
	int rc;

	if (!PQsendQueryParams(c, tables_sql, 2, NULL, values, NULL, NULL, 0)) {
		pgconn_message(err, err_len, PQerrorMessage(c));
		return -EIO;
	}
	while ((rc = pgconn_result(c, &r, stop_fd, deadline_us, err, err_len)) == 0 && r) {
		if (first)
			PQclear(r);
		else
			first = r;
	}
	if (rc == 0 && PQresultStatus(first) != PGRES_TUPLES_OK) {
		pgconn_message(err, err_len, PQresultErrorMessage(first));
		rc = PQstatus(c) == CONNECTION_OK ? -EBADMSG : -EIO;
	}
	if (rc == 0)
		*out = first;
	else
		PQclear(first);
	return rc;
}

int sink_tables_load(PGconn *c, int stop_fd, int timeout_s, const char *role,
		     struct sink_table *tables, size_t count, char *err, size_t err_len)
{
	char *wanted;
	PGresult *r;
	int rc;

	if (count == 0)
		return 0;
	wanted = wanted_json(tables, count);
	if (!wanted) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	rc = ask(c, (const char *const[]){wanted, role}, &r, stop_fd, timeout_s, err, err_len);
	free(wanted);
	if (rc != 0)
		return rc;
	rc = take_tables(tables, count, r);
	PQclear(r);
	if (rc != 0)
		snprintf(err, err_len, "out of memory");
	return rc;
}
