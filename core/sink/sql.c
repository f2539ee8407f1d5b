/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sink/sql.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct sink_sql *t, const char *data, size_t len)
{
	if (t->size - t->len < len + 1 && !t->failed) {
		size_t size = (t->len + len + 1) * 2;
		char *more = realloc(t->data, size);

		t->failed = !more;
		if (more) {
			t->data = more;
			t->size = size;
		}
	}
	if (t->failed)
		return;
	memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void sink_sql_put(struct sink_sql *t, const char *s)
{
	put(t, s, strlen(s));
}

static bool has_column(const struct sink_group *g, size_t i)
{
	return g->columns[i / 64] & UINT64_C(1) << i % 64;
}

static void put_columns(struct sink_sql *t, const struct sink_table *table,
			const struct sink_group *g, bool types)
{
	const char *between = "";

	for (size_t i = 0; i < table->column_count; i++) {
		if (!has_column(g, i))
			continue;
		sink_sql_put(t, between);
		sink_sql_put(t, table->columns[i].quoted);
		if (types) {
			sink_sql_put(t, " ");
			sink_sql_put(t, table->columns[i].type);
		}
		between = ", ";
	}
}

void sink_sql_insert(struct sink_sql *t, const struct sink_table *table, const struct sink_group *g)
{
	sink_sql_put(t, "insert into ");
	sink_sql_put(t, table->quoted);
	sink_sql_put(t, " (");
	put_columns(t, table, g, false);
	sink_sql_put(t, ") select ");
	put_columns(t, table, g, false);
	sink_sql_put(t, " from pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) as x (");
	put_columns(t, table, g, true);
	sink_sql_put(t, table->has_key ? ") on conflict do nothing" : ")");
}

void sink_sql_rows(struct sink_sql *t, const struct sink_group *g, size_t from, size_t count)
{
	const char *between = "[";

	for (size_t i = from; i < from + count; i++) {
		if (g->rows[i].refused)
			continue;
		sink_sql_put(t, between);
		put(t, g->rows[i].json, g->rows[i].json_len);
		between = ",";
	}
	sink_sql_put(t, *between == '[' ? "[]" : "]");
}

static int put_literal(struct sink_sql *t, const struct sink *s, const char *value)
{
	char *quoted = PQescapeLiteral(s->conn, value, strlen(value));

	if (!quoted)
		return -ENOMEM;
	sink_sql_put(t, quoted);
	PQfreemem(quoted);
	return 0;
}

static void put_position(struct sink_sql *t, struct journal_position p)
{
	char text[48];

	snprintf(text, sizeof(text), ", %" PRIu64 ", %" PRIu64, p.segment, p.offset);
	sink_sql_put(t, text);
}

/* `(<journal>, <target>` */
static int put_key(struct sink_sql *t, const struct sink *s, const char *key)
{
	char journal[SINK_JOURNAL_TEXT];

	sink_journal_text(s, journal);
	sink_sql_put(t, "('");
	sink_sql_put(t, journal);
	sink_sql_put(t, "', ");
	return put_literal(t, s, key ? key : "");
}

int sink_sql_detach(struct sink_sql *t, const struct sink *s, const struct sink_lane *l,
		    size_t table)
{
	int rc;

	sink_sql_put(t, "insert into fieldgate.sink_position (journal, target, segment, \"offset\","
			" source) values ");
	rc = put_key(t, s, s->targets.tables[table].quoted);
	put_position(t, l->committed);
	sink_sql_put(t, ", ");
	if (rc == 0)
		rc = put_literal(t, s, s->o.source);
	sink_sql_put(t, "); ");
	return rc;
}

int sink_sql_advance(struct sink_sql *t, const struct sink *s, const struct sink_lane *l)
{
	int rc;

	sink_sql_put(t, "select fieldgate.sink_advance");
	rc = put_key(t, s, l->key);
	put_position(t, l->committed);
	put_position(t, l->read_to);
	sink_sql_put(t, "); ");
	if (rc == 0 && l->ending) {
		sink_sql_put(t, "delete from fieldgate.sink_position where (journal, target) = ");
		rc = put_key(t, s, l->key);
		sink_sql_put(t, "); ");
	}
	return rc;
}
