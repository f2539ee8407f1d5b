/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of the writer thread. Up to two batches are in the pipeline while the next is being read
 * and decoded, so the server never waits for this thread. The second one's journal_advance expects
 * the position at which the first one ends: if the first fails, so does the second.
 */
#include "core/store/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"

#define READ_AT_ONCE	   128 /* records, before the socket is looked at again */
#define HEAP_MOST	   (8 * 1024 * 1024)
#define LATEST_ROUNDS_MOST 32
#define ROWS_PER_RECORD	   4 /* on average: a batch of bulk messages ends earlier */
#define GROWING_STEP_MS	   20
#define JOURNAL_RETRY_US   US_PER_S
#define STOP_GRACE_US	   (2 * US_PER_S)

#define ARENA_CHUNK (256 * 1024)
#define ARENA_RATIO 64 /* a decoded document is at most this many times its text */

int writer_init(struct writer *w)
{
	int rc;

	w->limit = w->o.batch_rows;
	w->rows.batch = &w->batch;
	w->rows.catalogue = &w->catalogue;
	w->rows.partitions = &w->partitions;
	w->rows.limits = w->o.limits;
	w->rows.max_past_us = w->o.max_past_days * US_PER_DAY;
	w->rows.max_future_us = w->o.max_future_days * US_PER_DAY;
	w->rows.journal_id = journal_id(w->journal);
	w->rows.rules = w->o.rules;
	arena_init(&w->rows.arena, ARENA_CHUNK,
		   ARENA_CHUNK * 16 + w->o.limits.max_bytes * ARENA_RATIO);
	row_forget_guesses(&w->rows);
	w->status_at_us = clock_monotonic_us();
	rc = journal_reader_open(&w->reader, w->journal);
	return rc == 0 ? batch_init(&w->batch, 0) : rc;
}

void writer_free(struct writer *w)
{
	session_close(w);
	journal_reader_close(w->reader);
	for (size_t i = 0; i < FLIGHTS_MAX; i++)
		flight_free(&w->flights[i]);
	failure_forget(w);
	free(w->too_old_reason);
	flight_sender_free(&w->sender);
	batch_free(&w->batch);
	arena_free(&w->rows.arena);
	rule_set_release(w->rows.set);
	catalogue_free(&w->catalogue);
	partitions_free(&w->partitions);
}

/* ---- the position ---- */

void writer_rewind(struct writer *w)
{
	batch_clear(&w->batch);
	w->open = (struct open_batch){0};
	w->held.there = false;
	w->held.needs_partition = false;
	w->flight_count = 0;
	w->read_to = w->committed;
	if (!w->position_known)
		return;
	journal_seek(w->reader, w->committed);
	/* How long the oldest message waits is to be seen even while nothing can be stored. */
	w->held.there = journal_read(w->reader, &w->held.r, &w->held.next) == 1;
}

void writer_arrived(struct writer *w, struct journal_position to)
{
	for (size_t i = 0; i < SENT_MAX; i++) {
		struct sent_position *s = &w->sent[i];

		if (s->records == 0 || journal_position_compare(s->to, to) > 0)
			continue;
		if (!s->given_up) {
			w->stats.messages += s->records;
			w->stats.rows += s->rows;
			w->stats.dead_letters += s->dead_letters;
			w->stats.dropped += s->dropped;
			w->stats.batches++;
		}
		s->records = 0;
	}
	w->committed = to;
	journal_release(w->journal, to);
}

static void remember_sent(struct writer *w, const struct flight_load *l)
{
	w->sent[w->sent_next++ % SENT_MAX] = (struct sent_position){
		.to = l->to,
		.records = l->records,
		.rows = l->rows,
		.dead_letters = l->dead_letters,
		.dropped = l->dropped,
	};
}

/* The server has answered that a batch failed: if the position stands at its end, it is not our
 * doing. */
static void forget_sent(struct writer *w, struct journal_position to)
{
	for (size_t i = 0; i < SENT_MAX; i++)
		if (journal_position_compare(w->sent[i].to, to) == 0)
			w->sent[i].records = 0;
}

/* ---- reading ---- */

static bool isolating(const struct writer *w)
{
	return w->suspects > 0 || w->limit < w->o.batch_rows;
}

static size_t flights_allowed(const struct writer *w)
{
	return isolating(w) ? 1 : FLIGHTS_MAX;
}

static bool is_full(const struct writer *w)
{
	const struct open_batch *o = &w->open;

	return o->load.records >= w->o.batch_rows || o->load.suspects >= w->limit ||
	       w->batch.row_count >= w->o.batch_rows * ROWS_PER_RECORD ||
	       w->batch.heap.len + w->batch.repeated >= HEAP_MOST ||
	       w->batch.latest.most >= LATEST_ROUNDS_MOST;
}

static void account(struct writer *w, const struct row_refusal *refusal)
{
	const struct journal_record *r = &w->held.r;
	struct flight_load *l = &w->open.load;

	if (l->records++ == 0) {
		l->from = w->read_to;
		l->first_received_us = r->received_at_us;
		w->open.opened_us = clock_monotonic_us();
	}
	l->to = w->held.next;
	l->last_received_us = r->received_at_us;
	l->rows = w->batch.row_count;
	l->dead_letters = w->batch.dead_letter_count;
	l->dropped = w->batch.dropped;
	l->bytes += r->device_len + r->topic_len + r->payload_len;
	if (refusal && refusal->reason)
		return;
	l->suspects++;
	l->suspect = w->held.next;
	if (isolating(w)) {
		size_t n = r->device_len < sizeof(l->suspect_device) - 1
				   ? r->device_len
				   : sizeof(l->suspect_device) - 1;

		memcpy(l->suspect_device, r->device, n);
		l->suspect_device[n] = '\0';
	}
}

/* The held record into the batch. 0, or -ENOMEM. */
static int take_held(struct writer *w)
{
	const struct row_refusal *refusal =
		w->refusal_count > 0 ? failure_find(w, w->held.next) : NULL;
	int rc;

	/* All the messages that can be refused at once are: let them go first. */
	if (!refusal && w->refusal_count == REFUSALS_MAX && w->open.load.records > 0) {
		w->open.closed = true;
		return 0;
	}
	rc = row_take(&w->rows, &w->held.r, w->held.next, refusal);
	if (rc < 0)
		return rc;
	if (rc == ROW_NEEDS_PARTITION) {
		w->held.needs_partition = true;
		w->open.closed = w->open.load.records > 0;
		return 0;
	}
	account(w, refusal);
	w->read_to = w->held.next;
	w->held.there = false;
	w->open.closed = rc == ROW_LAST || is_full(w);
	return 0;
}

/* 1: there is a record; 0: none now. A journal that cannot be read has said so itself. */
static int hold_next(struct writer *w)
{
	if (!w->held.there) {
		int rc = journal_read(w->reader, &w->held.r, &w->held.next);

		w->held.there = rc == 1;
		w->open.unreadable = rc < 0;
	}
	w->open.drained = !w->held.there;
	return w->held.there;
}

/* Read some records into the open batch. */
static int fill(struct writer *w, struct dberror *e)
{
	int64_t now = clock_monotonic_us();

	if (w->open.load.records == 0 && session_chores_due(w, now) &&
	    (w->flight_count == 0 || session_chores_overdue(w, now)))
		return 0; /* the catalogue is looked at before a batch is begun with it */
	for (int i = 0; i < READ_AT_ONCE && !w->open.closed && !w->held.needs_partition; i++) {
		if (!hold_next(w))
			return 0;
		if (take_held(w) != 0) {
			dberror_system(e, "out of memory");
			return -EIO;
		}
	}
	return 0;
}

/* ---- sending ---- */

/* A message to a device is worth a batch of its own: somebody waits for what becomes of it. */
static bool urgent(const struct writer *w)
{
	return w->open.drained && w->batch.downlink_count > 0;
}

static bool ready_to_send(const struct writer *w)
{
	int64_t delay_us = w->o.batch_delay_ms * US_PER_MS;

	if (w->open.load.records == 0 || w->flight_count >= flights_allowed(w))
		return false;
	if (w->open.closed || (w->open.drained && isolating(w)) || urgent(w))
		return true;
	return clock_monotonic_us() - w->open.opened_us >= delay_us;
}

/* What will be left behind this batch, so that an idle journal shows as one. */
static void set_backlog(struct writer *w, struct advance *a)
{
	struct journal_stats js;
	uint64_t ours = w->open.load.bytes;

	if (w->open.drained)
		return;
	journal_stats(w->journal, &js);
	for (size_t i = 0; i < w->flight_count; i++)
		ours += w->flights[i].load.bytes;
	a->backlog_bytes = js.backlog_bytes > ours ? js.backlog_bytes - ours : 0;
	if (__builtin_sub_overflow(clock_realtime_us(), w->open.load.last_received_us,
				   &a->lag_us) ||
	    a->lag_us < 0)
		a->lag_us = 0; /* a clock that was set: nothing is known of the lag */
}

static int send_open(struct writer *w, struct dberror *e)
{
	struct flight *f = &w->flights[w->flight_count];
	struct advance a = {
		.journal_id = journal_id(w->journal),
		.source = w->o.source,
		.from = w->open.load.from,
		.to = w->open.load.to,
		.messages = w->open.load.records,
		.rows = w->open.load.rows,
		.dead_letters = w->open.load.dead_letters,
	};
	int rc;

	set_backlog(w, &a);
	f->load = w->open.load;
	rc = flight_send(f, &w->sender, &w->batch, &a);
	if (rc != 0) {
		dberror_lost(e, w->sender.conn, rc == -ENOMEM ? "out of memory" : NULL);
		return -EIO;
	}
	if (w->flight_count++ == 0)
		w->progress_us = clock_monotonic_us();
	remember_sent(w, &f->load);
	batch_clear(&w->batch);
	w->open = (struct open_batch){0};
	return 0;
}

/* ---- answers ---- */

static void pop_flight(struct writer *w)
{
	struct flight first = w->flights[0];

	for (size_t i = 1; i < FLIGHTS_MAX; i++)
		w->flights[i - 1] = w->flights[i];
	w->flights[FLIGHTS_MAX - 1] = first;
	w->flight_count--;
}

static void committed(struct writer *w)
{
	struct flight_load load = w->flights[0].load;

	writer_arrived(w, load.to);
	w->stats.dead_letters += load.refused_down;
	pop_flight(w);
	failure_clear(w, &load);
	w->publish(w);
}

/*
 * Take the answers that are there. 1: the oldest flight has ended; 0: more is to come; -EIO: the
 * connection is lost.
 */
static int take_answers(struct writer *w, struct dberror *e)
{
	PGconn *c = w->sender.conn;
	int ends =
		0; /* libpq puts one NULL behind each statement; several mean that it has nothing */

	while (w->flight_count > 0 && !PQisBusy(c)) {
		PGresult *r = PQgetResult(c);
		bool last;

		if (!r) {
			if (++ends < 4 && PQstatus(c) == CONNECTION_OK)
				continue;
			dberror_lost(e, c, NULL);
			return -EIO;
		}
		ends = 0;
		w->progress_us = clock_monotonic_us();
		last = flight_answer(&w->flights[0], &w->sender, r);
		PQclear(r);
		if (PQstatus(c) != CONNECTION_OK) {
			dberror_lost(e, c,
				     w->flights[0].failed ? w->flights[0].error.message : NULL);
			return -EIO;
		}
		if (last)
			return 1;
	}
	return 0;
}

/* Read what has come. 0; or -EIO and the flight that failed, if one did. */
static int receive(struct writer *w, const struct flight **failed, struct dberror *e)
{
	PGconn *c = w->sender.conn;
	int rc;

	*failed = NULL;
	if (PQflush(c) < 0 || !PQconsumeInput(c)) {
		dberror_lost(e, c, NULL);
		return -EIO;
	}
	while ((rc = take_answers(w, e)) == 1) {
		struct flight *f = &w->flights[0];

		if (f->committed) {
			committed(w);
			continue;
		}
		if (!f->failed)
			dberror_system(&f->error, "the commit was answered with a rollback");
		forget_sent(w, f->load.to);
		w->failed = *f;
		*failed = &w->failed;
		*e = f->error;
		pop_flight(w);
		return -EIO;
	}
	return rc;
}

int writer_drain(struct writer *w, int stop_fd, int64_t timeout_us, struct dberror *e)
{
	char err[DBERROR_MESSAGE_MAX];
	PGresult *r;

	while (w->flight_count > 0) {
		int rc = pgconn_result(w->sender.conn, &r, stop_fd,
				       clock_monotonic_us() + timeout_us, err, sizeof(err));

		if (rc == -ECANCELED)
			return rc;
		if (rc != 0 || PQstatus(w->sender.conn) != CONNECTION_OK) {
			dberror_lost(e, w->sender.conn, rc != 0 ? err : NULL);
			PQclear(r);
			return -EIO;
		}
		if (!r)
			continue;
		if (flight_answer(&w->flights[0], &w->sender, r)) {
			if (w->flights[0].committed)
				writer_arrived(w, w->flights[0].load.to);
			else
				forget_sent(w, w->flights[0].load.to);
			pop_flight(w);
		}
		PQclear(r);
	}
	return 0;
}

/* ---- waiting ---- */

static bool idle(const struct writer *w)
{
	return w->open.load.records == 0 && w->open.drained && !w->held.there;
}

/* When something has to be done even if nothing happens; INT64_MAX: never. */
static int64_t next_event(const struct writer *w, int64_t now)
{
	int64_t next = w->status_at_us + w->o.status_interval_s * US_PER_S;
	int64_t growing = w->open.opened_us + w->o.batch_delay_ms * US_PER_MS;

	if (w->flight_count > 0) {
		int64_t silent = w->progress_us + (w->o.statement_timeout_s + 2) * US_PER_S;

		next = silent < next ? silent : next;
	}
	if (w->open.load.records > 0 && !w->open.closed && w->flight_count < flights_allowed(w)) {
		if (growing > now + GROWING_STEP_MS * US_PER_MS)
			growing = now + GROWING_STEP_MS * US_PER_MS;
		next = growing < next ? growing : next;
	}
	if (w->open.unreadable && now + JOURNAL_RETRY_US < next)
		next = now + JOURNAL_RETRY_US;
	if (w->flight_count == 0 && idle(w)) {
		int64_t chores = w->maintain_at_us + 60 * US_PER_S;

		next = chores < next ? chores : next;
	}
	return next;
}

static bool has_work(const struct writer *w, int64_t now)
{
	bool room = w->flight_count < flights_allowed(w);

	if (ready_to_send(w))
		return true;
	if (w->flight_count == 0 && w->held.needs_partition)
		return true;
	if (w->open.load.records == 0 && session_chores_due(w, now) && !idle(w) &&
	    (w->flight_count == 0 || session_chores_overdue(w, now)))
		return w->flight_count == 0;
	return !w->open.closed && !w->held.needs_partition && !w->open.drained &&
	       (room || w->open.load.records < w->o.batch_rows);
}

/* 0; -ECANCELED: stop. */
static int wait_for_something(struct writer *w)
{
	int64_t now = clock_monotonic_us(), left;
	struct pollfd fds[3] = {
		{.fd = w->stop_fd, .events = POLLIN},
		{.fd = PQsocket(w->sender.conn), .events = POLLIN},
		{.fd = -1, .events = POLLIN},
	};
	int timeout, n;

	if (has_work(w, now))
		return 0;
	if (idle(w)) {
		journal_arm(w->reader);
		if (hold_next(w))
			return 0;
		fds[2].fd = journal_wakeup_fd(w->reader);
	}
	if (PQflush(w->sender.conn) > 0)
		fds[1].events |= POLLOUT;
	w->publish(w);
	left = next_event(w, now) - now;
	timeout = left <= 0 ? 0 : (int)((left + US_PER_MS - 1) / US_PER_MS);
	n = poll(fds, 3, timeout);
	if (n < 0 && errno != EINTR)
		return -ECANCELED;
	if (n > 0 && fds[0].revents)
		return -ECANCELED;
	/* More may have been appended while this thread slept. */
	w->open.drained = false;
	return 0;
}

static int check_silence(const struct writer *w, struct dberror *e)
{
	int64_t silent_us = clock_monotonic_us() - w->progress_us;

	if (w->flight_count == 0 || silent_us < (w->o.statement_timeout_s + 2) * US_PER_S)
		return 0;
	dberror_lost(e, NULL, "the database does not answer");
	e->too_much = true;
	return -EIO;
}

/* ---- the loop ---- */

static int one_turn(struct writer *w, const struct flight **failed, struct dberror *e)
{
	int64_t now = clock_monotonic_us();
	int rc = receive(w, failed, e);

	if (rc == 0)
		rc = check_silence(w, e);
	if (rc == 0 && w->flight_count == 0 && w->open.load.records == 0) {
		if (w->held.needs_partition)
			rc = session_make_partition(w, e);
		else if (session_chores_due(w, now))
			rc = session_chores(w, e);
	}
	if (rc == 0)
		rc = fill(w, e);
	if (rc == 0 && ready_to_send(w))
		rc = send_open(w, e);
	return rc;
}

static bool stop_requested(const struct writer *w)
{
	struct pollfd stop = {.fd = w->stop_fd, .events = POLLIN};

	return poll(&stop, 1, 0) > 0;
}

/* What is under way may well be committed in a moment. */
static void finish(struct writer *w)
{
	int64_t grace_us = w->o.connect_timeout_s * US_PER_S;
	struct dberror e;

	if (w->sender.conn && w->flight_count > 0)
		(void)writer_drain(w, -1, grace_us < STOP_GRACE_US ? grace_us : STOP_GRACE_US, &e);
	session_close(w);
	w->publish(w);
}

void writer_run(struct writer *w)
{
	int rc = 0;

	while (rc != -ECANCELED && !stop_requested(w)) {
		const struct flight *failed = NULL;
		struct dberror e;

		writer_status(w, false);
		if (!w->sender.conn)
			rc = session_open(w, &e);
		else
			rc = one_turn(w, &failed, &e);
		if (rc == -EIO)
			rc = failure_handle(w, failed, &e);
		else if (rc == 0)
			rc = wait_for_something(w);
	}
	finish(w);
}
