/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a rule fit the table that it stores into? Asked when the rule is written, by the command,
 * and again by each sink, as tables and rights change afterwards. Each message says what to do
 * about it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/rule/ast.h"
#include "core/sink/sink.h"
#include "core/sink/table.h"

struct judgement {
	const struct sink_table *table;
	const struct rule *rule;
	const struct rule_action *action;
	char *why;
	size_t why_len;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct judgement *j, const char *fmt,
							...)
{
	const struct rule_actions *all = &j->rule->actions;
	int n = snprintf(j->why, j->why_len, "rule '%s', ", j->rule->name);
	size_t used = n < 0 || (size_t)n >= j->why_len ? 0 : (size_t)n;
	va_list ap;

	if (j->action >= all->items && j->action < all->items + all->count)
		n = snprintf(j->why + used, j->why_len - used,
			     "actions[%zu].store: ", (size_t)(j->action - all->items));
	else
		n = snprintf(j->why + used, j->why_len - used, "error_action.store: ");
	if (n > 0 && (size_t)n < j->why_len - used)
		used += (size_t)n;
	va_start(ap, fmt);
	vsnprintf(j->why + used, j->why_len - used, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int check_schema(const struct judgement *j)
{
	const struct sink_table *t = j->table;

	if (strcmp(t->schema, "fieldgate") == 0 || strcmp(t->schema, "information_schema") == 0 ||
	    strncmp(t->schema, "pg_", 3) == 0)
		return refuse(j,
			      "the tables of schema %s are not for rules; make one in a schema of "
			      "your own, such as public",
			      t->schema);
	if (!t->schema_exists)
		return refuse(
			j, "there is no schema %s; create it, or correct the name (case matters)",
			t->schema);
	if (!t->schema_usable)
		return refuse(j,
			      "the role %s may not use the schema; run: grant usage on schema %s "
			      "to %s;",
			      t->said_role, t->said_schema, t->said_role);
	return 0;
}

static int check_table(const struct judgement *j)
{
	const struct sink_table *t = j->table;

	if (t->kind == '\0' && t->similar)
		return refuse(j,
			      "there is no table %s, but one that is called %s; correct the name "
			      "(case matters)",
			      t->said, t->similar);
	if (t->kind == '\0')
		return refuse(j, "there is no table %s; create it, or correct the name", t->said);
	if (!strchr("rpv", t->kind))
		return refuse(j,
			      "%s is no table or view that rows can be inserted into in a "
			      "transaction; give a table",
			      t->said);
	if (t->temporary)
		return refuse(j,
			      "%s is temporary, only the session that made it can use it; give "
			      "another",
			      t->said);
	if (!t->insertable)
		return refuse(j,
			      "nothing can be inserted into the view %s; give a table, or the "
			      "view a trigger INSTEAD OF INSERT",
			      t->said);
	return 0;
}

/* The role needs the right to the table, or to each column that is written. */
static int check_right(const struct judgement *j, const struct sink_column *c)
{
	const struct sink_table *t = j->table;

	if (t->granted || (c && c->granted))
		return 0;
	return refuse(j, "the role %s may not insert into %s; run: grant insert on %s to %s;",
		      t->said_role, t->said, t->said, t->said_role);
}

static int check_written(const struct judgement *j, const char *name)
{
	const struct sink_table *t = j->table;
	const struct sink_column *c = sink_table_column(t, name);

	if (!c)
		return refuse(j,
			      "the table %s has no column %s; add it, or correct the name (case "
			      "matters)",
			      t->said, name);
	if (c->generated || c->always_identity)
		return refuse(j,
			      "the column %s of %s is always generated, nothing can be written to "
			      "it; leave it out",
			      c->quoted, t->said);
	if (!c->insertable && !t->by_trigger)
		return refuse(j, "the column %s of the view %s cannot be written to; leave it out",
			      c->quoted, t->said);
	return check_right(j, c);
}

/* One that the rule does not write. */
static int check_left_out(const struct judgement *j, const struct sink_column *c)
{
	const struct sink_table *t = j->table;

	if (c->denied_sequence)
		return refuse(j,
			      "the role %s may not use the sequence that the column %s takes its "
			      "value from; run: grant usage on sequence %s to %s;",
			      t->said_role, c->quoted, c->denied_sequence, t->said_role);
	if (c->not_null && !c->has_default && !c->generated && !c->always_identity)
		return refuse(j,
			      "the column %s of %s is NOT NULL and has no default, and the rule "
			      "does not write it; map it, or give it a default",
			      c->quoted, t->said);
	return 0;
}

static bool maps(const struct rule_action *a, const char *column)
{
	for (size_t i = 0; i < a->store.column_count; i++)
		if (strcmp(a->store.columns[i].column, column) == 0)
			return true;
	return false;
}

static bool selects(const struct rule_statement *s, const char *column)
{
	for (size_t i = 0; i < s->field_count; i++)
		if (s->fields[i].alias && strlen(column) == s->fields[i].alias_len &&
		    memcmp(s->fields[i].alias, column, s->fields[i].alias_len) == 0)
			return true;
	return false;
}

static int check_mapped(const struct judgement *j)
{
	const struct sink_table *t = j->table;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < j->action->store.column_count; i++)
		rc = check_written(j, j->action->store.columns[i].column);
	for (size_t i = 0; rc == 0 && i < t->column_count; i++)
		if (!maps(j->action, t->columns[i].name))
			rc = check_left_out(j, &t->columns[i]);
	return rc;
}

/* Members that only the message tells. A default that the role may not take would refuse each row
 * without a number of its own. */
static int check_unknown(const struct judgement *j)
{
	const struct sink_table *t = j->table;
	int rc = check_right(j, NULL);

	for (size_t i = 0; rc == 0 && i < t->column_count; i++)
		if (t->columns[i].denied_sequence)
			rc = check_left_out(j, &t->columns[i]);
	return rc;
}

/* Each member goes to the column of its name. Which members there are is known before the first
 * message if the statement names them all, and `*` is none of them. */
static int check_by_name(const struct judgement *j)
{
	const struct rule_statement *s = j->rule->statement;
	const struct sink_table *t = j->table;
	const struct rule_actions *all = &j->rule->actions;
	bool known = s && j->action >= all->items && j->action < all->items + all->count;
	int rc = 0;

	for (size_t i = 0; known && i < s->field_count; i++)
		known = !s->fields[i].everything && s->fields[i].alias;
	for (size_t i = 0; rc == 0 && known && i < s->field_count; i++)
		rc = check_written(j, s->fields[i].alias);
	for (size_t i = 0; rc == 0 && known && i < t->column_count; i++)
		if (!selects(s, t->columns[i].name))
			rc = check_left_out(j, &t->columns[i]);
	return rc == 0 && !known ? check_unknown(j) : rc;
}

int sink_check_action(const struct sink_table *t, const struct rule *r, const struct rule_action *a,
		      char *why, size_t why_len)
{
	const struct judgement j = {t, r, a, why, why_len};
	int rc = check_schema(&j);

	if (rc == 0)
		rc = check_table(&j);
	if (rc == 0)
		rc = a->store.column_count > 0 ? check_mapped(&j) : check_by_name(&j);
	return rc;
}

static int check_one(PGconn *c, int stop_fd, int timeout_s, const char *role, const struct rule *r,
		     const struct rule_action *a, char *why, size_t why_len)
{
	struct sink_table t;
	int rc = sink_table_init(&t, a);

	if (rc != 0) {
		snprintf(why, why_len, "out of memory");
		return rc;
	}
	rc = sink_tables_load(c, stop_fd, timeout_s, role, &t, 1, why, why_len);
	if (rc == 0)
		rc = sink_check_action(&t, r, a, why, why_len);
	sink_table_free(&t);
	return rc;
}

int sink_check_rule(PGconn *c, int stop_fd, int timeout_s, const char *role, const struct rule *r,
		    char *why, size_t why_len)
{
	const struct rule_actions *lists[] = {&r->actions, &r->error_actions};
	int rc = 0;

	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; rc == 0 && i < lists[k]->count; i++)
			if (lists[k]->items[i].kind == RULE_STORE)
				rc = check_one(c, stop_fd, timeout_s, role, r, &lists[k]->items[i],
					       why, why_len);
	return rc;
}
