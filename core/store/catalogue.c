/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/catalogue.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

/* Key and bookkeeping columns are left out: a reading of such a name goes to extra. */
const char catalogue_sql[] =
	"select a.attname, quote_ident(a.attname), a.atttypid, a.atttypmod,"
	" a.attgenerated <> '' or a.attidentity = 'a', format_type(a.atttypid, a.atttypmod),"
	" l.attname is not null"
	" from pg_attribute a"
	" left join pg_attribute l on l.attrelid = to_regclass('fieldgate.telemetry_latest')"
	"  and l.attname = a.attname and l.atttypid = a.atttypid and l.atttypmod = a.atttypmod"
	"  and not l.attisdropped and l.attgenerated = ''"
	" where a.attrelid = to_regclass('fieldgate.telemetry') and a.attnum > 0"
	"  and not a.attisdropped and a.attname not in"
	"  ('device', 'ts', 'seq', 'received_at', 'ts_source', 'subtopic', 'extra')"
	" order by a.attnum";

enum catalogue_field {
	FIELD_NAME,
	FIELD_IDENTIFIER,
	FIELD_TYPE,
	FIELD_MODIFIER,
	FIELD_GENERATED,
	FIELD_TYPE_NAME,
	FIELD_IN_LATEST,
};

const char partitions_sql[] = "select table_name::text, lower, upper from fieldgate.partition_range"
			      " order by table_name, lower";

const char *const partitioned_table_names[PARTITIONED_COUNT] = {"telemetry", "dead_letter",
								"presence_event"};

#define VARCHAR_MODIFIER_BASE 4 /* atttypmod of varchar(n) is n + VARHDRSZ */

static bool supported(unsigned long oid)
{
	switch (oid) {
	case PG_BOOL:
	case PG_INT2:
	case PG_INT4:
	case PG_INT8:
	case PG_FLOAT4:
	case PG_FLOAT8:
	case PG_TEXT:
	case PG_VARCHAR:
	case PG_JSONB:
		return true;
	default:
		return false;
	}
}

static bool is_true(const PGresult *rows, int row, int field)
{
	return PQgetvalue(rows, row, field)[0] == 't';
}

static int take_column(struct column *c, const PGresult *rows, int row, unsigned long oid)
{
	long modifier = strtol(PQgetvalue(rows, row, FIELD_MODIFIER), NULL, 10);

	c->name = strdup(PQgetvalue(rows, row, FIELD_NAME));
	c->identifier = strdup(PQgetvalue(rows, row, FIELD_IDENTIFIER));
	if (!c->name || !c->identifier)
		return -ENOMEM;
	c->name_len = strlen(c->name);
	c->type = oid == PG_VARCHAR ? PG_TEXT : (enum pg_oid)oid;
	if (oid == PG_VARCHAR && modifier > VARCHAR_MODIFIER_BASE)
		c->max_length = (size_t)(modifier - VARCHAR_MODIFIER_BASE);
	c->in_latest = is_true(rows, row, FIELD_IN_LATEST);
	return 0;
}

static int make_slots(struct catalogue *c)
{
	size_t size = 16;

	while (size < c->count * 4)
		size *= 2;
	c->slots = calloc(size, sizeof(*c->slots));
	if (!c->slots)
		return -ENOMEM;
	c->slot_mask = size - 1;
	for (size_t i = 0; i < c->count; i++) {
		size_t s =
			hash_siphash(hash_table_key(), c->columns[i].name, c->columns[i].name_len);

		for (s &= c->slot_mask; c->slots[s]; s = (s + 1) & c->slot_mask)
			;
		c->slots[s] = (uint32_t)i + 1;
	}
	return 0;
}

int catalogue_parse(struct catalogue *out, const PGresult *rows)
{
	struct bytes unsupported = {0};
	int n = PQntuples(rows), rc = 0;

	*out = (struct catalogue){0};
	if (n == 0)
		return -ENOENT;
	out->columns = calloc((size_t)n, sizeof(*out->columns));
	if (!out->columns)
		return -ENOMEM;
	for (int i = 0; i < n && rc == 0; i++) {
		unsigned long oid = strtoul(PQgetvalue(rows, i, FIELD_TYPE), NULL, 10);

		if (supported(oid) && !is_true(rows, i, FIELD_GENERATED))
			rc = take_column(&out->columns[out->count++], rows, i, oid);
		else
			bytes_printf(&unsupported, "%s%s (%s%s)", unsupported.len ? ", " : "",
				     PQgetvalue(rows, i, FIELD_IDENTIFIER),
				     is_true(rows, i, FIELD_GENERATED) ? "generated " : "",
				     PQgetvalue(rows, i, FIELD_TYPE_NAME));
	}
	if (rc == 0)
		rc = make_slots(out);
	if (rc == 0 && unsupported.len > 0) {
		bytes_put_byte(&unsupported, '\0');
		if (unsupported.failed)
			rc = -ENOMEM;
		else
			out->unsupported = (char *)unsupported.data;
	}
	if (!out->unsupported)
		bytes_free(&unsupported);
	if (rc != 0)
		catalogue_free(out);
	return rc;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool catalogue_same(const struct catalogue *a, const struct catalogue *b)
{
	if (a->count != b->count || !same_text(a->unsupported, b->unsupported))
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct column *x = &a->columns[i], *y = &b->columns[i];

		if (strcmp(x->name, y->name) != 0 || x->type != y->type ||
		    x->max_length != y->max_length || x->in_latest != y->in_latest)
			return false;
	}
	return true;
}

void catalogue_free(struct catalogue *c)
{
	for (size_t i = 0; i < c->count; i++) {
		free(c->columns[i].name);
		free(c->columns[i].identifier);
	}
	free(c->columns);
	free(c->slots);
	free(c->unsupported);
	*c = (struct catalogue){0};
}

int catalogue_find(const struct catalogue *c, const char *name, size_t len)
{
	size_t s;

	if (!c->slots)
		return -1;
	s = hash_siphash(hash_table_key(), name, len) & c->slot_mask;
	for (; c->slots[s]; s = (s + 1) & c->slot_mask) {
		const struct column *column = &c->columns[c->slots[s] - 1];

		if (column->name_len == len && memcmp(column->name, name, len) == 0)
			return (int)(c->slots[s] - 1);
	}
	return -1;
}

static int64_t binary_timestamp(const PGresult *rows, int row, int field)
{
	uint64_t be;

	if (PQgetlength(rows, row, field) != sizeof(be))
		return INT64_MIN; /* an empty range then: it would be asked for again */
	memcpy(&be, PQgetvalue(rows, row, field), sizeof(be));
	return pg_timestamp_to_unix((int64_t)be64toh(be));
}

static int table_number(const char *name)
{
	for (int t = 0; t < PARTITIONED_COUNT; t++)
		if (strcmp(name, partitioned_table_names[t]) == 0)
			return t;
	return -1;
}

int partitions_parse(struct partitions *out, const PGresult *rows)
{
	int n = PQntuples(rows);

	*out = (struct partitions){0};
	for (int t = 0; t < PARTITIONED_COUNT; t++) {
		out->table[t].ranges = calloc((size_t)n + 1, sizeof(struct time_range));
		if (!out->table[t].ranges) {
			partitions_free(out);
			return -ENOMEM;
		}
	}
	for (int i = 0; i < n; i++) {
		int t = table_number(PQgetvalue(rows, i, 0));

		if (t >= 0)
			out->table[t].ranges[out->table[t].count++] = (struct time_range){
				binary_timestamp(rows, i, 1), binary_timestamp(rows, i, 2)};
	}
	return 0;
}

bool partitions_same(const struct partitions *a, const struct partitions *b)
{
	for (int t = 0; t < PARTITIONED_COUNT; t++) {
		size_t n = a->table[t].count;

		if (n != b->table[t].count)
			return false;
		for (size_t i = 0; i < n; i++)
			if (a->table[t].ranges[i].lower_us != b->table[t].ranges[i].lower_us ||
			    a->table[t].ranges[i].upper_us != b->table[t].ranges[i].upper_us)
				return false;
	}
	return true;
}

void partitions_free(struct partitions *p)
{
	for (int t = 0; t < PARTITIONED_COUNT; t++)
		free(p->table[t].ranges);
	*p = (struct partitions){0};
}

static bool in_range(const struct time_range *r, int64_t us)
{
	return r->lower_us <= us && us < r->upper_us;
}

bool partitions_cover(struct partitions *p, enum partitioned_table table, int64_t us)
{
	const struct time_range *ranges = p->table[table].ranges;
	size_t low = 0, high = p->table[table].count;

	if (high == 0)
		return false;
	if (in_range(&ranges[p->table[table].last], us))
		return true;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (in_range(&ranges[middle], us)) {
			p->table[table].last = middle;
			return true;
		}
		if (us < ranges[middle].lower_us)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}
