/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch into the database. First all of it at once. If a statement fails, the transaction is made
 * anew with a savepoint before each statement, and the rows of the one that fails are halved until
 * the refused row is alone.
 *
 * A table that is locked or takes too long is nobody's fault, and must keep no other table waiting:
 * the main lane leaves its rows to a lane of their own, whose position is committed with the
 * others' rows. Such a lane tries now and then, with a shorter patience.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/sink/internal.h"
#include "core/sink/sql.h"

#define LOCK_MS	      500 /* how long one table may keep the others waiting, once */
#define LOCK_AGAIN_MS 100 /* and when it is tried again */
#define STATEMENT_MS  2000
#define FAILURES_MOST 5 /* of the whole database, in a row, that one table's rows meet */
#define TIMEOUTS_MOST 3 /* of a single row: then it is the row's fault */

struct attempt {
	struct sink *s;
	struct sink_lane *l;
	struct dberror *e;
	bool careful;
};

enum blame {
	BLAME_ROW,
	BLAME_SCHEMA, /* the table is not as it was, or the rights are not */
	BLAME_TABLE,  /* locked, slow */
	BLAME_SYSTEM,
};

static bool has_prefix(const char *text, const char *const *prefixes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static enum blame blame(const struct dberror *e)
{
	/* Locks, deadlocks, timeouts, memory for one statement; other servers, of foreign data. */
	static const char *const table[] = {"08", "40", "53200", "55006", "55P03", "57014", "HV"};
	static const char *const schema[] = {"0A000", "3F", "42"};
	static const char *const system[] = {"25", "53", "57", "58"};

	if (e->lost || !e->sqlstate[0])
		return BLAME_SYSTEM;
	if (has_prefix(e->sqlstate, table, 7))
		return BLAME_TABLE;
	if (has_prefix(e->sqlstate, schema, 3))
		return BLAME_SCHEMA;
	return has_prefix(e->sqlstate, system, 4) ? BLAME_SYSTEM : BLAME_ROW;
}

/* ---- statements ---- */

/* 0, -ECANCELED or -EIO. */
static int insert(struct attempt *a, const struct sink_group *g, size_t from, size_t count)
{
	struct sink_sql sql = {0}, rows = {0};
	int rc;

	sink_sql_insert(&sql, &a->s->targets.tables[g->table], g);
	sink_sql_rows(&rows, g, from, count);
	if (sql.failed || rows.failed) {
		dberror_system(a->e, "out of memory");
		rc = -EIO;
	} else {
		rc = sink_query(a->s, sql.data, 1, (const char *const[]){rows.data}, NULL, a->e);
	}
	free(sql.data);
	free(rows.data);
	return rc;
}

static int command(struct attempt *a, const char *sql)
{
	return sink_query(a->s, sql, 0, NULL, NULL, a->e);
}

/* Constraints are not to fail at the commit, where no row can be found. Triggers find what their
 * owner's other sessions find. */
static int begin(struct attempt *a)
{
	char sql[200];

	snprintf(sql, sizeof(sql),
		 "begin; set local lock_timeout = '%dms'; set local statement_timeout = '%dms';"
		 " set local search_path to default; set constraints all immediate",
		 a->l->key ? LOCK_AGAIN_MS : LOCK_MS, STATEMENT_MS);
	return command(a, sql);
}

/* ---- rows that fail ---- */

static enum sink_outcome outcome_of(int rc)
{
	return rc == 0 ? SINK_DONE : rc == -ECANCELED ? SINK_STOPPED : SINK_TROUBLE;
}

static void refuse(struct attempt *a, struct sink_row *row)
{
	char why[DBERROR_MESSAGE_MAX + 32];

	snprintf(why, sizeof(why), "%s (SQLSTATE %s)", a->e->message, a->e->sqlstate);
	sink_lane_refuse(a->s, a->l, row, why);
}

/* Of a table: what is to be stored of it in this batch. */
static void refuse_table(struct attempt *a, size_t table)
{
	struct sink_batch *b = &a->l->batch;

	for (size_t i = 0; i < b->group_count; i++)
		for (size_t k = 0; b->groups[i].table == table && k < b->groups[i].count; k++)
			if (!b->groups[i].rows[k].refused)
				refuse(a, &b->groups[i].rows[k]);
}

/* Leave this table's rows to a lane of their own. */
static void detach(struct attempt *a, size_t table)
{
	struct sink *s = a->s;

	if (s->lane_count + s->detached_count >= SINK_LANES_MAX) {
		refuse_table(a, table);
		return;
	}
	s->detached[s->detached_count++] = table;
	s->targets.waiting[table] = true;
	log_warn("sink_table_waits", NULL,
		 "rows for %s wait, those of other tables do not: %s (SQLSTATE %s)",
		 s->targets.tables[table].said, a->e->message, a->e->sqlstate);
}

static enum sink_outcome store_range(struct attempt *a, size_t group, size_t from, size_t count);

static enum sink_outcome store_halves(struct attempt *a, size_t group, size_t from, size_t count)
{
	enum sink_outcome o = store_range(a, group, from, count / 2);

	return o == SINK_DONE ? store_range(a, group, from + count / 2, count - count / 2) : o;
}

/* A lane's own table. A lock is waited for; what takes too long is tried in smaller pieces, and a
 * single row that does so again and again is refused. */
static enum sink_outcome lane_waits(struct attempt *a, size_t group, size_t from, size_t count)
{
	struct sink_lane *l = a->l;

	if (strcmp(a->e->sqlstate, "57014") != 0 && strcmp(a->e->sqlstate, "53200") != 0)
		return SINK_WAITS;
	if (l->row_limit > 1) {
		l->row_limit = l->batch.rows > 1 ? l->batch.rows / 2 : 1;
		sink_lane_rewind(l);
		return SINK_WAITS;
	}
	if (count > 1)
		return a->careful ? store_halves(a, group, from, count) : SINK_WAITS;
	if (++l->timeouts < TIMEOUTS_MOST)
		return SINK_WAITS;
	l->timeouts = 0;
	refuse(a, &l->batch.groups[group].rows[from]);
	return SINK_DONE;
}

static enum sink_outcome table_waits(struct attempt *a, size_t group, size_t from, size_t count)
{
	const struct sink_group *g = &a->l->batch.groups[group];
	size_t table = g->table;

	if (g->late) {
		refuse_table(a, table);
		return SINK_DONE;
	}
	if (a->l->key)
		return lane_waits(a, group, from, count);
	detach(a, table);
	return SINK_DONE;
}

/* What to do about a statement that failed: in a careful attempt its rows are still where they
 * were. */
static enum sink_outcome judge(struct attempt *a, size_t group, size_t from, size_t count)
{
	switch (blame(a->e)) {
	case BLAME_SYSTEM:
		/* It may be this table's all the same: a disk of its own that is full. */
		if (a->e->lost || (!a->l->key && ++a->s->failures < FAILURES_MOST))
			return SINK_TROUBLE;
		return table_waits(a, group, from, count);
	case BLAME_TABLE:
		return table_waits(a, group, from, count);
	case BLAME_SCHEMA:
		if (!a->l->looked)
			return SINK_LOOK_AGAIN;
		break;
	case BLAME_ROW:
		break;
	}
	if (!a->careful)
		return SINK_DONE;
	if (count > 1)
		return store_halves(a, group, from, count);
	refuse(a, &a->l->batch.groups[group].rows[from]);
	return SINK_DONE;
}

static enum sink_outcome store_range(struct attempt *a, size_t group, size_t from, size_t count)
{
	struct dberror failure;
	int rc;

	if (count == 1 && a->l->batch.groups[group].rows[from].refused)
		return SINK_DONE;
	rc = command(a, "savepoint fieldgate");
	if (rc != 0)
		return outcome_of(rc);
	rc = insert(a, &a->l->batch.groups[group], from, count);
	if (rc == 0)
		return outcome_of(command(a, "release savepoint fieldgate"));
	if (rc == -ECANCELED || a->e->lost)
		return outcome_of(rc);
	failure = *a->e;
	rc = command(a, "rollback to savepoint fieldgate; release savepoint fieldgate");
	if (rc != 0)
		return outcome_of(rc);
	*a->e = failure;
	return judge(a, group, from, count);
}

/* ---- a transaction ---- */

/* The rows of a group that is late are here because of others that were refused: their table may
 * have been left to a lane meanwhile. */
static bool is_left_out(struct attempt *a, const struct sink_group *g)
{
	if (g->late ? !a->s->targets.waiting[g->table]
		    : a->l->key || !a->s->targets.waiting[g->table])
		return false;
	if (!g->late)
		return true;
	*a->e = (struct dberror){.message = "the table takes no rows now", .sqlstate = "55P03"};
	refuse_table(a, g->table);
	return true;
}

/* There may be more groups at the end than there were. */
static enum sink_outcome store_groups(struct attempt *a)
{
	struct sink_batch *b = &a->l->batch;
	enum sink_outcome o = SINK_DONE;

	for (size_t i = 0; o == SINK_DONE && i < b->group_count; i++) {
		size_t count = b->groups[i].count;
		int rc;

		if (is_left_out(a, &b->groups[i]))
			continue;
		if (a->careful) {
			o = store_range(a, i, 0, count);
			continue;
		}
		rc = insert(a, &b->groups[i], 0, count);
		if (rc == -ECANCELED)
			return SINK_STOPPED;
		if (rc == 0)
			continue;
		o = judge(a, i, 0, count);
		return o == SINK_DONE ? SINK_AGAIN : o;
	}
	return o;
}

static enum sink_outcome finish(struct attempt *a)
{
	struct sink_lane *l = a->l;
	struct sink_sql sql = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < a->s->detached_count; i++)
		rc = sink_sql_detach(&sql, a->s, l, a->s->detached[i]);
	if (rc == 0)
		rc = sink_sql_advance(&sql, a->s, l);
	sink_sql_put(&sql, "commit");
	if (rc != 0 || sql.failed) {
		free(sql.data);
		dberror_system(a->e, "out of memory");
		return SINK_TROUBLE;
	}
	l->sent = true;
	l->sent_to = l->read_to;
	rc = command(a, sql.data);
	free(sql.data);
	if (rc == -EIO && !a->e->lost)
		l->sent = false;
	else if (rc != 0 && !l->key)
		a->s->sent[a->s->sent_next++ % SINK_SENT_MAX] = l->sent_to;
	if (rc == -EIO && a->e->class == SQLSTATE_POSITION)
		a->s->positions_read = false;
	return outcome_of(rc);
}

static enum sink_outcome attempt(struct attempt *a)
{
	enum sink_outcome o;
	struct dberror failure;

	a->s->detached_count = a->careful ? a->s->detached_count : 0;
	o = outcome_of(begin(a));
	if (o == SINK_DONE)
		o = store_groups(a);
	if (o == SINK_DONE)
		o = finish(a);
	if (o == SINK_DONE || o == SINK_STOPPED || a->e->lost)
		return o;
	failure = *a->e;
	if (command(a, "rollback") == 0)
		*a->e = failure;
	else
		o = SINK_TROUBLE;
	return o;
}

/* The database has it: now it is so here, too. */
static void arrived(struct sink *s, struct sink_lane *l)
{
	/* The new lanes keep the journal from here on before this one lets it go. */
	for (size_t i = 0; i < s->detached_count; i++)
		if (sink_add_lane(s, s->targets.tables[s->detached[i]].quoted, l->committed) != 0)
			s->positions_read = false; /* which makes it again */
	s->detached_count = 0;
	sink_lane_arrived(s, l, l->read_to);
}

enum sink_outcome sink_store(struct sink *s, struct sink_lane *l, struct dberror *e)
{
	struct attempt a = {.s = s, .l = l, .e = e};
	bool moved = journal_position_compare(l->read_to, l->committed) != 0;
	enum sink_outcome o;

	*e = (struct dberror){0};
	l->ending = sink_lane_may_end(s, l);
	if (l->batch.rows == 0 && !l->batch.first && !l->ending &&
	    !(moved && clock_monotonic_us() >= l->advance_at_us)) {
		l->filled = false;
		return SINK_DONE;
	}
	o = attempt(&a);
	if (o == SINK_AGAIN) {
		a.careful = true;
		o = attempt(&a);
	}
	if (o == SINK_DONE)
		arrived(s, l);
	else if (!l->sent)
		sink_mark_waiting(s);
	return o;
}
