/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of the sink's thread. Each round: are the rules others, is the database there, what of
 * the tables and reports is due; then a batch of the main lane, and one of a table that waits.
 * Nothing is waited for but the database's answers, which have a bound: whatever fails is tried
 * again when its time has come.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"
#include "core/sink/internal.h"

#define TICK_US		(200 * US_PER_MS) /* the rules are looked at so often */
#define CHECK_US	(2 * US_PER_S)	  /* and their tables */
#define REPORT_AGAIN_US US_PER_S
#define LANE_FIRST_US	(250 * US_PER_MS)
#define LANE_MOST_US	(5 * US_PER_S)

/* ---- the rules ---- */

static void rewind_all(struct sink *s)
{
	if (s->mode != SINK_IDLE)
		sink_lane_rewind(&s->main);
	for (size_t i = 0; i < s->lane_count; i++)
		sink_lane_rewind(s->lanes[i]);
}

/* What is in a batch belongs to the set that it was made with: it is made again. */
static int use_set(struct sink *s, const struct rule_set *next)
{
	struct sink_targets targets;
	int rc = sink_targets_build(&targets, next);

	if (rc != 0)
		return rc;
	rc = sink_report_follow(s, next);
	if (rc != 0) {
		sink_targets_free(&targets);
		return rc;
	}
	sink_targets_free(&s->targets);
	s->targets = targets;
	rule_set_release(s->set);
	s->set = next;
	rewind_all(s);
	sink_mark_waiting(s);
	s->check_at_us = 0;
	return 0;
}

static void follow_rules(struct sink *s)
{
	uint64_t generation = rules_generation(s->rules);
	const struct rule_set *next;

	if (s->set && generation == s->generation)
		return;
	next = rules_acquire(s->rules);
	if (next == s->set) {
		rule_set_release(next);
	} else if (use_set(s, next) != 0) {
		rule_set_release(next); /* without memory: the next round tries again */
		return;
	}
	s->generation = generation;
}

static void close_lanes(struct sink *s)
{
	while (s->lane_count > 0)
		sink_drop_lane(s, 0);
	sink_lane_close(&s->main);
}

/* A first rule that stores begins with what comes from now on. */
static void begin_following(struct sink *s)
{
	struct journal_position end = journal_end(s->journal);

	if (sink_lane_open(&s->main, s->journal, NULL, end) != 0)
		return; /* the next round tries again */
	s->begin_at = end;
	s->fresh = true;
	s->known = false;
	s->positions_read = false;
	s->mode = SINK_FOLLOWING;
}

static void choose_mode(struct sink *s)
{
	bool stores = s->set && rule_set_has(s->set, RULE_STORE);

	if (stores && s->mode == SINK_IDLE) {
		begin_following(s);
	} else if (stores) {
		s->mode = SINK_FOLLOWING;
	} else if (s->mode != SINK_IDLE && s->set &&
		   (!s->o.registry || registry_confirmed(s->o.registry))) {
		close_lanes(s);
		s->mode = SINK_IDLE;
		s->forget = true;
	}
}

/* ---- what is due: 0, -ECANCELED or -EIO with *e ---- */

static int check_tables(struct sink *s, struct dberror *e, bool *changed)
{
	char err[DBERROR_MESSAGE_MAX];
	int rc = sink_targets_load(&s->targets, s->conn, s->stop_fd, s->o.statement_timeout_s + 2,
				   changed, err, sizeof(err));

	s->check_at_us = clock_monotonic_us() + CHECK_US;
	if (rc == -ECANCELED)
		return rc;
	if (*changed) {
		rewind_all(s);
		s->verdicts_due = true;
	}
	if (rc == 0)
		return 0;
	dberror_system(e, err);
	e->lost = rc != -ENOMEM && rc != -EBADMSG;
	/* A view is locked, say: what was known of it is still the best that is known. */
	return s->targets.loaded && !e->lost ? 0 : -EIO;
}

/* What cannot be said now is said later; rows do not wait for it. */
static int forgive(int rc, struct sink *s, struct dberror *e)
{
	if (rc != -EIO || e->lost)
		return rc;
	log_debug("sink_report", NULL, "%s", e->message);
	s->report_at_us = clock_monotonic_us() + REPORT_AGAIN_US;
	return 0;
}

static int report(struct sink *s, struct dberror *e)
{
	int64_t now = clock_monotonic_us();
	int rc = 0;

	if (s->verdicts_due)
		rc = forgive(sink_report_verdicts(s, e), s, e);
	if (rc != 0 || now < s->report_at_us)
		return rc;
	s->report_at_us = now + s->o.report_interval_ms * US_PER_MS;
	return forgive(sink_report_counters(s, e), s, e);
}

static int chores(struct sink *s, struct dberror *e)
{
	bool changed = false;
	int rc = 0;

	if (s->forget && s->mode != SINK_FOLLOWING) {
		rc = sink_forget_positions(s, e);
		s->forget = rc != 0;
	}
	if (rc == 0 && clock_monotonic_us() >= s->check_at_us)
		rc = check_tables(s, e, &changed);
	if (rc == 0)
		rc = report(s, e);
	if (rc == 0 && s->mode == SINK_FOLLOWING && !s->positions_read)
		rc = sink_read_positions(s, e);
	return rc;
}

/* ---- rows ---- */

static int look_again(struct sink *s, struct sink_lane *l, struct dberror *e)
{
	bool changed = false;
	int rc = check_tables(s, e, &changed);

	if (rc == 0 && !changed)
		l->looked = true;
	return rc;
}

static int step(struct sink *s, struct sink_lane *l, struct dberror *e)
{
	if (!l->filled)
		sink_lane_fill(s, l);
	switch (sink_store(s, l, e)) {
	case SINK_STOPPED:
		return -ECANCELED;
	case SINK_LOOK_AGAIN:
		return look_again(s, l, e);
	case SINK_WAITS:
		l->backoff_us = sink_backoff(l->backoff_us, LANE_FIRST_US, LANE_MOST_US);
		l->retry_at_us = clock_monotonic_us() + l->backoff_us;
		return 0;
	case SINK_DONE:
		sink_no_trouble(s);
		return 0;
	default:
		return -EIO;
	}
}

static bool lane_due(const struct sink *s, const struct sink_lane *l, int64_t now)
{
	return now >= l->retry_at_us && sink_lane_has_work(s, l);
}

/* No rule stores into its table any more. */
static int abandon_lane(struct sink *s, size_t i, struct dberror *e)
{
	char journal[SINK_JOURNAL_TEXT];
	int rc;

	sink_journal_text(s, journal);
	rc = sink_query(s,
			"delete from fieldgate.sink_position where journal = $1::uuid and target ="
			" $2",
			2, (const char *const[]){journal, s->lanes[i]->key}, NULL, e);
	if (rc == 0)
		sink_drop_lane(s, i);
	return rc;
}

static bool is_wanted(const struct sink *s, const struct sink_lane *l)
{
	for (size_t i = 0; i < s->targets.table_count; i++)
		if (strcmp(s->targets.tables[i].quoted, l->key) == 0)
			return true;
	return false;
}

static int step_lane(struct sink *s, size_t i, struct dberror *e)
{
	struct sink_lane *l = s->lanes[i];
	int rc;

	if (!is_wanted(s, l))
		return abandon_lane(s, i, e);
	rc = step(s, l, e);
	if (rc == 0 && l->ended) {
		log_info("sink_table_stored", NULL, "rows for %s are being stored again", l->key);
		sink_drop_lane(s, i);
	}
	return rc;
}

/* One table that waits, in turn. */
static int step_lanes(struct sink *s, struct dberror *e)
{
	int64_t now = clock_monotonic_us();

	for (size_t n = 0; n < s->lane_count; n++) {
		size_t i = s->lane_next++ % s->lane_count;

		if (lane_due(s, s->lanes[i], now))
			return step_lane(s, i, e);
	}
	return 0;
}

static bool may_store(const struct sink *s)
{
	return s->mode == SINK_FOLLOWING && s->conn && s->positions_read && s->targets.loaded;
}

static int work(struct sink *s, struct dberror *e)
{
	int rc = s->conn ? 0 : sink_connect(s, e);

	if (rc == 0)
		rc = chores(s, e);
	if (rc == 0 && may_store(s) && clock_monotonic_us() >= s->main.retry_at_us)
		rc = step(s, &s->main, e);
	if (rc == 0 && may_store(s))
		rc = step_lanes(s, e);
	return rc;
}

static bool needs_database(struct sink *s)
{
	return rule_set_count(s->set) > 0 || s->forget || sink_report_pending(s);
}

/* ---- waiting ---- */

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t next_event(const struct sink *s, int64_t now)
{
	int64_t due = now + TICK_US;

	if (now < s->retry_at_us)
		return sooner(due, s->retry_at_us);
	if (!may_store(s))
		return due;
	if (now < s->main.retry_at_us)
		due = sooner(due, s->main.retry_at_us);
	else if (!s->main.drained || s->main.filled)
		return now;
	else if (journal_position_compare(s->main.read_to, s->main.committed) != 0)
		due = sooner(due, s->main.advance_at_us);
	for (size_t i = 0; i < s->lane_count; i++)
		if (sink_lane_has_work(s, s->lanes[i]))
			due = sooner(due, s->lanes[i]->retry_at_us);
	return due;
}

/* False: stop. */
static bool wait_event(struct sink *s)
{
	int64_t now = clock_monotonic_us(), left = next_event(s, now) - now;
	bool reads = may_store(s) && now >= s->retry_at_us && now >= s->main.retry_at_us;
	struct pollfd fds[] = {
		{.fd = s->stop_fd, .events = POLLIN},
		{.fd = reads ? journal_wakeup_fd(s->main.reader) : -1, .events = POLLIN},
	};
	int n = poll(fds, 2, left <= 0 ? 0 : (int)((left + US_PER_MS - 1) / US_PER_MS));

	if (n < 0 && errno != EINTR)
		return false;
	return n <= 0 || !fds[0].revents;
}

static void say_status(struct sink *s)
{
	int64_t now = clock_monotonic_us();

	if (now - s->status_at_us < s->o.status_interval_s * US_PER_S)
		return;
	s->status_at_us = now;
	if (s->mode != SINK_FOLLOWING)
		return;
	log_info("sink_status", NULL,
		 "connected=%s rows=%" PRIu64 " refused=%" PRIu64 " missed=%" PRIu64
		 " waiting_tables=%zu",
		 s->conn ? "yes" : "no", atomic_load(&s->rows), atomic_load(&s->refused),
		 atomic_load(&s->missed), s->lane_count);
}

/* What was counted since the last report would end with the process. */
static void report_at_last(struct sink *s)
{
	struct dberror e;

	if (!s->conn || PQtransactionStatus(s->conn) != PQTRANS_IDLE)
		return;
	s->ending = true;
	(void)sink_report_counters(s, &e);
}

void sink_loop(struct sink *s)
{
	struct dberror e;
	int rc;

	do {
		follow_rules(s);
		if (!s->set)
			continue;
		choose_mode(s);
		rc = 0;
		if (!needs_database(s)) {
			sink_disconnect(s);
			s->retry_at_us = 0;
		} else if (clock_monotonic_us() >= s->retry_at_us) {
			rc = work(s, &e);
		}
		if (rc == -ECANCELED)
			break;
		if (rc != 0)
			sink_trouble(s, &e);
		say_status(s);
	} while (wait_event(s));
	report_at_last(s);
}
