/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the database's catalogue says about fieldgate.telemetry: the columns that readings may go
 * to, and the times for which there are partitions. Read at connect and again every few seconds, so
 * that `alter table fieldgate.telemetry add column co2 real` is all that a new metric needs.
 */
#ifndef FG_STORE_CATALOGUE_H
#define FG_STORE_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/store/pgarray.h"

struct column {
	char *name;
	size_t name_len;
	char *identifier;  /* quoted for SQL */
	enum pg_oid type;  /* PG_BOOL, _INT2, _INT4, _INT8, _FLOAT4, _FLOAT8, _TEXT (varchar too),
			      _JSONB */
	size_t max_length; /* characters of varchar(n); 0: no bound */
	bool in_latest;	   /* telemetry_latest has it too, with the same type */
};

struct catalogue {
	struct column *columns;
	size_t count;
	uint32_t *slots; /* hash table of column numbers + 1 */
	size_t slot_mask;
	char *unsupported; /* for a person: columns that cannot be written to, with their types; or
			      NULL */
};

/* No parameters, results in text. */
extern const char catalogue_sql[];

/* 0; -ENOENT: there is no such table; -ENOMEM. */
int catalogue_parse(struct catalogue *out, const PGresult *rows);
bool catalogue_same(const struct catalogue *a, const struct catalogue *b);
void catalogue_free(struct catalogue *c);

/* The column of exactly this name, or -1. */
int catalogue_find(const struct catalogue *c, const char *name, size_t len);

enum partitioned_table {
	PARTITIONED_TELEMETRY,
	PARTITIONED_DEAD_LETTER,
	PARTITIONED_PRESENCE_EVENT,
	PARTITIONED_COUNT,
};

extern const char *const partitioned_table_names[PARTITIONED_COUNT];

struct time_range {
	int64_t lower_us, upper_us; /* since 1970; lower <= t < upper */
};

struct partitions {
	struct {
		struct time_range *ranges;
		size_t count, last; /* last: where the last look-up ended */
	} table[PARTITIONED_COUNT];
};

/* No parameters, results in binary. */
extern const char partitions_sql[];

/* 0 or -ENOMEM. */
int partitions_parse(struct partitions *out, const PGresult *rows);
bool partitions_same(const struct partitions *a, const struct partitions *b);
void partitions_free(struct partitions *p);

/* Is there a partition for this time? */
bool partitions_cover(struct partitions *p, enum partitioned_table table, int64_t us);

#endif
