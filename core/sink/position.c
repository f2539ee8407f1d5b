/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Positions are read when a connection begins, and when a commit's fate is unknown: the database
 * alone knows where this journal stands. As with the store's (core/store/session.c), one that is
 * ahead for no reason of ours means that somebody else writes under this journal's name: then
 * nothing is written. One that lies behind comes of a backup or a standby, in which the rows after
 * it are missing, too: they are stored again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hex.h"
#include "core/base/log.h"
#include "core/sink/internal.h"

#define POSITION "%" PRIu64 "/%" PRIu64

void sink_journal_text(const struct sink *s, char text[SINK_JOURNAL_TEXT])
{
	hex_print(text, journal_id(s->journal), 16);
}

void sink_mark_waiting(struct sink *s)
{
	for (size_t i = 0; i < s->targets.table_count; i++) {
		s->targets.waiting[i] = false;
		for (size_t k = 0; k < s->lane_count; k++)
			s->targets.waiting[i] |=
				strcmp(s->lanes[k]->key, s->targets.tables[i].quoted) == 0;
	}
}

void sink_drop_lane(struct sink *s, size_t i)
{
	sink_lane_close(s->lanes[i]);
	free(s->lanes[i]);
	s->lanes[i] = s->lanes[--s->lane_count];
	sink_mark_waiting(s);
}

int sink_add_lane(struct sink *s, const char *key, struct journal_position from)
{
	struct sink_lane *l = s->lane_count < SINK_LANES_MAX ? calloc(1, sizeof(*l)) : NULL;
	int rc = l ? sink_lane_open(l, s->journal, key, from) : -ENOMEM;

	if (rc != 0) {
		free(l);
		return rc;
	}
	s->lanes[s->lane_count++] = l;
	sink_mark_waiting(s);
	return 0;
}

static int write_position(struct sink *s, const char *key, struct journal_position p,
			  struct dberror *e)
{
	char journal[SINK_JOURNAL_TEXT], segment[24], offset[24];

	sink_journal_text(s, journal);
	snprintf(segment, sizeof(segment), "%" PRIu64, p.segment);
	snprintf(offset, sizeof(offset), "%" PRIu64, p.offset);
	return sink_query(
		s,
		"insert into fieldgate.sink_position (journal, target, source, segment, \"offset\")"
		" values ($1::uuid, $2, $3, $4::int8, $5::int8) on conflict (journal, target)"
		" do update set segment = excluded.segment, \"offset\" = excluded.\"offset\"",
		5, (const char *const[]){journal, key, s->o.source, segment, offset}, NULL, e);
}

int sink_forget_positions(struct sink *s, struct dberror *e)
{
	char journal[SINK_JOURNAL_TEXT];

	sink_journal_text(s, journal);
	return sink_query(s, "delete from fieldgate.sink_position where journal = $1::uuid", 1,
			  (const char *const[]){journal}, NULL, e);
}

/* Begin to read at p. */
static void place(struct sink_lane *l, struct journal_position p)
{
	l->committed = p;
	l->sent = false;
	journal_keep(l->reader, p);
	sink_lane_rewind(l);
}

/* The commit whose fate was unknown has succeeded. If what was read for it was given up meanwhile,
 * for rules or tables have changed, it must not be read again. */
static void sent_has_arrived(struct sink *s, struct sink_lane *l, struct journal_position to)
{
	bool given_up = journal_position_compare(l->read_to, to) != 0;

	sink_lane_arrived(s, l, to);
	if (given_up)
		place(l, to);
}

/* The database was without a position, or with one of rules that are gone. */
static int begin_anew(struct sink *s, struct dberror *e)
{
	int rc = sink_forget_positions(s, e);

	if (rc == 0)
		rc = write_position(s, "", s->begin_at, e);
	if (rc != 0)
		return rc;
	while (s->lane_count > 0)
		sink_drop_lane(s, 0);
	place(&s->main, s->begin_at);
	s->fresh = false;
	s->forget = false;
	return 0;
}

/*
 * The numbers of this run's segments were used before, by a run that the directory knows nothing
 * of: what it had before that run was done then, and what this run has appended was not.
 */
static int put_back(struct sink *s, struct journal_position p, struct dberror *e)
{
	log_error("sink_position", NULL,
		  "the database has this journal's rules done up to " POSITION
		  ", where it has not come since it was opened: was state.dir brought back from an "
		  "old copy? They go on with what was received since this process began",
		  p.segment, p.offset);
	return begin_anew(s, e);
}

static int somebody_else(struct journal_position p, struct dberror *e)
{
	char message[DBERROR_MESSAGE_MAX];

	snprintf(message, sizeof(message),
		 "somebody else moved this journal's rules to " POSITION
		 ": two processes run on copies of one state.dir? Stop one, give it an empty "
		 "state.dir, and restart; until then rules store nothing",
		 p.segment, p.offset);
	dberror_system(e, message);
	return -EIO;
}

/* A commit that was on its way when its connection was given up may come to the server late. */
static bool was_sent(const struct sink *s, struct journal_position p)
{
	for (size_t i = 0; i < SINK_SENT_MAX; i++)
		if (journal_position_compare(s->sent[i], p) == 0)
			return true;
	return false;
}

static int accept_later(struct sink *s, struct journal_position p, struct dberror *e)
{
	if (was_sent(s, p)) {
		sent_has_arrived(s, &s->main, p);
		return 0;
	}
	/* So may one of the process before this one, which was killed: those records are done. */
	if (journal_of_former_run(s->journal, p)) {
		place(&s->main, p);
		return 0;
	}
	return somebody_else(p, e);
}

static int accept_main(struct sink *s, struct journal_position p, struct dberror *e)
{
	struct sink_lane *l = &s->main;
	int order = journal_position_compare(p, l->committed);

	if (!s->known && !journal_reached(l->reader, p))
		return put_back(s, p, e);
	if (!s->known) {
		place(l, p);
		return 0;
	}
	l->sent = false;
	if (order > 0)
		return accept_later(s, p, e);
	if (order < 0) {
		log_warn("sink_position", NULL,
			 "the database went back from " POSITION " to " POSITION
			 " (restored, or a standby took over?); what rules stored since then is "
			 "stored again, as far as the journal still holds it",
			 l->committed.segment, l->committed.offset, p.segment, p.offset);
		place(l, p);
	}
	return 0;
}

static struct sink_lane *find_lane(struct sink *s, const char *key)
{
	for (size_t i = 0; i < s->lane_count; i++)
		if (strcmp(s->lanes[i]->key, key) == 0)
			return s->lanes[i];
	return NULL;
}

/* A lane is there as the database says. One of which this run can know nothing goes with the main
 * lane's position. */
static int accept_lane(struct sink *s, const char *key, struct journal_position p)
{
	struct sink_lane *l = find_lane(s, key);

	if (!l)
		return journal_reached(s->main.reader, p) ? sink_add_lane(s, key, p) : 0;
	if (l->sent && journal_position_compare(p, l->sent_to) == 0)
		sent_has_arrived(s, l, p);
	else if (journal_position_compare(p, l->committed) != 0)
		place(l, p);
	l->sent = false;
	return 0;
}

static struct journal_position position_of(const PGresult *r, int row)
{
	return (struct journal_position){strtoull(PQgetvalue(r, row, 1), NULL, 10),
					 strtoull(PQgetvalue(r, row, 2), NULL, 10)};
}

static bool is_among(const PGresult *r, const char *key)
{
	for (int i = 0; i < PQntuples(r); i++)
		if (strcmp(PQgetvalue(r, i, 0), key) == 0)
			return true;
	return false;
}

/* Those that ended. */
static void drop_lanes(struct sink *s, const PGresult *r)
{
	for (size_t i = s->lane_count; i-- > 0;) {
		if (is_among(r, s->lanes[i]->key))
			continue;
		if (s->lanes[i]->sent) /* it had caught up, and its end was committed */
			sink_lane_arrived(s, s->lanes[i], s->lanes[i]->read_to);
		sink_drop_lane(s, i);
	}
}

/* The main lane's name is empty, so it comes first in the result; and here last: what the others
 * need of the journal must be kept before it lets go. */
static int accept_all(struct sink *s, const PGresult *r, struct dberror *e)
{
	drop_lanes(s, r);
	for (int i = 1; i < PQntuples(r); i++) {
		if (accept_lane(s, PQgetvalue(r, i, 0), position_of(r, i)) == 0)
			continue;
		dberror_system(e, "out of memory");
		return -EIO;
	}
	return accept_main(s, position_of(r, 0), e);
}

/* `for update`: a commit that is under way, of a connection that was lost or of a process that was
 * killed, is waited for. */
int sink_read_positions(struct sink *s, struct dberror *e)
{
	char journal[SINK_JOURNAL_TEXT];
	PGresult *r;
	int rc;

	sink_journal_text(s, journal);
	rc = sink_query(s,
			"select target, segment, \"offset\" from fieldgate.sink_position"
			" where journal = $1::uuid order by target for update",
			1, (const char *const[]){journal}, &r, e);
	if (rc != 0)
		return rc;
	if (!s->fresh && PQntuples(r) > 0 && *PQgetvalue(r, 0, 0) == '\0') {
		rc = accept_all(s, r, e);
	} else {
		if (s->known && !s->fresh) {
			log_warn(
				"sink_position", NULL,
				"this journal's position in fieldgate.sink_position is gone; it is "
				"made again");
			s->begin_at = s->main.committed;
		}
		rc = begin_anew(s, e);
	}
	PQclear(r);
	if (rc == 0) {
		s->known = true;
		s->positions_read = true;
	}
	s->detached_count = 0;
	sink_mark_waiting(s);
	return rc;
}
