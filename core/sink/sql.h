/* SPDX-License-Identifier: Apache-2.0 */
/* The statements of a batch, as text that grows. Names are quoted, values are parameters or
 * escaped. */
#ifndef FG_SINK_SQL_H
#define FG_SINK_SQL_H

#include "core/sink/internal.h"

struct sink_sql {
	char *data; /* NUL-terminated; for free() */
	size_t len, size;
	bool failed; /* without memory: remembered, and asked for once at the end */
};

void sink_sql_put(struct sink_sql *t, const char *s);

/* Rows of a group's columns, from one parameter that sink_sql_rows makes. */
void sink_sql_insert(struct sink_sql *t, const struct sink_table *table,
		     const struct sink_group *g);

/* So many of the group, as a JSON array; those that were refused are left out. */
void sink_sql_rows(struct sink_sql *t, const struct sink_group *g, size_t from, size_t count);

/* A position of its own, where the lane's is now, for a table. 0 or -ENOMEM. */
int sink_sql_detach(struct sink_sql *t, const struct sink *s, const struct sink_lane *l,
		    size_t table);

/* Move the lane's position. One whose task is done is deleted: its rows are the main lane's
 * again. */
int sink_sql_advance(struct sink_sql *t, const struct sink *s, const struct sink_lane *l);

#endif
