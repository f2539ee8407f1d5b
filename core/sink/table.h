/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of the owner's own, as rules store into them: what there is, what the processes' role may
 * do with it, and whether a rule fits. Loading asks the catalogue of PostgreSQL, all tables in one
 * query; judging asks nobody.
 */
#ifndef FG_SINK_TABLE_H
#define FG_SINK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/rule/set.h"

struct sink_column {
	char *name;
	char *quoted;	       /* as in SQL */
	char *type;	       /* as in SQL, with its modifier */
	char *denied_sequence; /* its default takes from this sequence, which the role may not use
				*/
	uint32_t type_oid;     /* of a domain: what it is made of */
	bool not_null, has_default, generated, always_identity, insertable, granted;
};

struct sink_table {
	char *schema, *name; /* as the rule has them */
	char *quoted;	     /* "schema"."name", fit for SQL as it is */
	char *said;	     /* as a person writes it */
	char *said_schema;
	char *similar;	 /* a table of this name but for the case; NULL: none */
	char *said_role; /* the role, as in SQL */
	char kind;	 /* pg_class.relkind; 0: no such table */
	bool schema_exists, schema_usable, temporary, insertable, by_trigger, granted;
	bool has_key; /* a row that is there already can be left out */
	bool changed; /* its columns are not what the load before found */
	struct sink_column *columns;
	size_t column_count;
};

/* Of a rule's action. 0 or -ENOMEM. */
int sink_table_init(struct sink_table *t, const struct rule_action *a);
void sink_table_free(struct sink_table *t);

/* Is it the table that this action stores into? */
bool sink_table_is(const struct sink_table *t, const struct rule_action *a);

/* Fill all of them in, as they are now. role as sink_check_rule. 0, -ENOMEM, or a code of
 * pgconn_exec with a message in err: then they are as before. */
int sink_tables_load(PGconn *c, int stop_fd, int timeout_s, const char *role,
		     struct sink_table *tables, size_t count, char *err, size_t err_len);

/* NULL: it has none of this name. */
const struct sink_column *sink_table_column(const struct sink_table *t, const char *name);

/* check.c: does an action of the rule fit its table? 0, or -EINVAL with what is wrong and what to
 * do. */
int sink_check_action(const struct sink_table *t, const struct rule *r, const struct rule_action *a,
		      char *why, size_t why_len);

#endif
