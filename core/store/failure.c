/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a batch fails. Everything under way is dropped; it is all in the journal still. If the
 * system is at fault, the same is tried again, later and later. If a message is, the records that
 * the batch held are sent again in ever smaller batches, each of which is stored or halved, until
 * the one that is refused is alone: it is remembered by its position, and goes to dead_letter with
 * the next batch.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/store/writer.h"

#define BACKOFF_FIRST_US    (100 * US_PER_MS)
#define BACKOFF_MOST_US	    (5 * US_PER_S)
#define REFUSED_INTERVAL_US (10 * US_PER_S) /* in the log; all are in dead_letter */

#define KEEP_LIMIT   16 /* batches that were small enough, before a larger one is tried */
#define RETRIES_MOST 3	/* of errors that are perhaps not a message's fault */

const struct row_refusal *failure_find(const struct writer *w, struct journal_position at)
{
	for (size_t i = 0; i < w->refusal_count; i++)
		if (journal_position_compare(w->refusals[i].at, at) == 0)
			return &w->refusals[i];
	return NULL;
}

void failure_forget(struct writer *w)
{
	for (size_t i = 0; i < w->refusal_count; i++)
		free(w->refusals[i].reason);
	w->refusal_count = 0;
}

/* A free place; or the last refusal's, which will be found again. */
static struct row_refusal *place_for_refusal(struct writer *w)
{
	struct row_refusal *last = &w->refusals[0];

	if (w->refusal_count < REFUSALS_MAX)
		return &w->refusals[w->refusal_count++];
	for (size_t i = 1; i < w->refusal_count; i++)
		if (journal_position_compare(w->refusals[i].at, last->at) > 0)
			last = &w->refusals[i];
	free(last->reason);
	return last;
}

int failure_refuse(struct writer *w, struct journal_position at, const char *reason, bool now)
{
	struct row_refusal *r = NULL;
	char *copy = reason ? strdup(reason) : NULL;

	if (reason && !copy)
		return -ENOMEM;
	for (size_t i = 0; i < w->refusal_count; i++)
		if (journal_position_compare(w->refusals[i].at, at) == 0)
			r = &w->refusals[i];
	if (!r) {
		r = place_for_refusal(w);
		*r = (struct row_refusal){.at = at};
	}
	if (copy) {
		free(r->reason);
		r->reason = copy;
	}
	r->now |= now;
	return 0;
}

static void forget_refusals(struct writer *w, struct journal_position committed)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->refusal_count; i++) {
		if (journal_position_compare(w->refusals[i].at, committed) <= 0)
			free(w->refusals[i].reason);
		else
			w->refusals[kept++] = w->refusals[i];
	}
	w->refusal_count = kept;
}

void failure_clear(struct writer *w, const struct flight_load *load)
{
	forget_refusals(w, load->to);
	w->retries = 0;
	w->backoff_us = 0;
	w->suspects -= load->suspects < w->suspects ? load->suspects : w->suspects;
	if (w->keep_limit > 0)
		w->keep_limit--;
	else if (w->suspects > 0)
		w->limit = w->suspects > 1 ? w->suspects / 2 : 1;
	else if (w->limit < w->o.batch_rows)
		w->limit = w->limit * 2 < w->o.batch_rows ? w->limit * 2 : w->o.batch_rows;
	if (w->last_trouble[0]) {
		log_info("store_storing", NULL, "messages are being stored again");
		w->last_trouble[0] = '\0';
	} else if (!w->said_storing) {
		log_info("store_storing", NULL, "messages are being stored");
	}
	w->said_storing = true;
}

/* Each state is logged once, when it is entered. */
static void log_trouble(struct writer *w, const struct dberror *e)
{
	char text[sizeof(w->last_trouble)];

	if (e->sqlstate[0])
		snprintf(text, sizeof(text), "%s (SQLSTATE %s)", e->message, e->sqlstate);
	else
		snprintf(text, sizeof(text), "%s", e->message);
	if (strcmp(text, w->last_trouble) == 0)
		return;
	memcpy(w->last_trouble, text, sizeof(text));
	log_warn("store_trouble", NULL,
		 "%s; messages stay in the journal, and it is tried again every 0.1 to 5 s", text);
}

static int wait_until(struct writer *w, int64_t until_us)
{
	for (;;) {
		int64_t left = until_us - clock_monotonic_us();
		struct pollfd stop = {.fd = w->stop_fd, .events = POLLIN};
		int n;

		if (left <= 0)
			return 0;
		n = poll(&stop, 1, (int)((left + US_PER_MS - 1) / US_PER_MS));
		if (n < 0 && errno != EINTR)
			return -ECANCELED;
		if (n > 0)
			return -ECANCELED;
		writer_status(w, false);
	}
}

/* Processes that lost the same database must not come back in step. */
static int64_t with_jitter(int64_t us)
{
	uint32_t r;

	random_bytes(&r, sizeof(r));
	return us / 2 + (int64_t)((uint64_t)us / 2 * r >> 32);
}

static int back_off(struct writer *w)
{
	if (w->backoff_us == 0)
		w->backoff_us = BACKOFF_FIRST_US;
	else
		w->backoff_us *= 2;
	if (w->backoff_us > BACKOFF_MOST_US)
		w->backoff_us = BACKOFF_MOST_US;
	w->publish(w);
	return wait_until(w, clock_monotonic_us() + with_jitter(w->backoff_us));
}

/* Bring a connection that lives back to where a batch can begin. */
static int restore(struct writer *w, struct dberror *e)
{
	static const struct database_query rollback = {.sql = "rollback"};
	int64_t timeout = w->o.statement_timeout_s * US_PER_S;
	int rc = writer_drain(w, w->stop_fd, timeout, e);

	statements_forget_unready(&w->sender.statements);
	if (rc == 0)
		rc = session_leave_pipeline(w, e);
	if (rc == 0)
		rc = database_query(w->sender.conn, &rollback, w->stop_fd, timeout, NULL, e);
	if (rc == 0 && w->sender.statements.dropped)
		rc = session_forget_statements(w, e);
	if (rc == 0)
		rc = session_read_position(w, e);
	if (rc == 0)
		rc = session_report_trouble(w, e);
	if (rc == -EIO && !e->lost)
		log_trouble(w, e);
	return rc;
}

/* It may be that all are refused, for the schema's sake: store_dead_letters counts them. */
static void log_refused(struct writer *w, const struct flight_load *load, const char *reason)
{
	int64_t now = clock_monotonic_us();

	if (w->refused_at_us != 0 && now - w->refused_at_us < REFUSED_INTERVAL_US)
		return;
	w->refused_at_us = now;
	log_warn("store_message_refused", load->suspect_device,
		 "the database does not take a message, it goes to fieldgate.dead_letter: %s",
		 reason);
}

/* The batch of n records was refused because of one of them. */
static int split(struct writer *w, const struct flight_load *load, const struct dberror *e)
{
	char reason[DBERROR_MESSAGE_MAX + 32];

	w->keep_limit = 0;
	if (load->suspects > 1) {
		w->suspects = load->suspects;
		w->limit = load->suspects / 2;
		return 0;
	}
	snprintf(reason, sizeof(reason), "%s (SQLSTATE %s)", e->message, e->sqlstate);
	log_refused(w, load, reason);
	if (w->suspects > 0)
		w->suspects--;
	w->limit = 1;
	return failure_refuse(w, load->suspect, reason, false);
}

/* A row may have been refused because its partition was dropped, or a column: then it is not its
 * fault. */
static int look_again(struct writer *w, const struct dberror *e, bool *changed,
		      struct dberror *trouble)
{
	int rc = 0;

	*changed = false;
	if (strcmp(e->sqlstate, "23514") == 0)
		rc = session_reload_partitions(w, changed, trouble);
	else if (e->class == SQLSTATE_SCHEMA || e->class == SQLSTATE_UNKNOWN)
		rc = session_reload_catalogue(w, trouble);
	return rc;
}

/* Can it be a message's fault at all? What keeps the messages must never take the blame for them.
 */
static bool blames_a_message(const struct flight *f)
{
	return f->load.suspects > 0 && !f->failed_preparing && f->failed_kind != STATEMENT_BEGIN &&
	       f->failed_kind != STATEMENT_DEAD_LETTER && f->failed_kind != STATEMENT_ADVANCE &&
	       f->failed_kind != STATEMENT_DEALLOCATE;
}

enum verdict { TRY_LATER, TRY_NOW, SPLIT };

static enum verdict judge(struct writer *w, const struct flight *f, const struct dberror *e,
			  bool changed)
{
	if (!blames_a_message(f) || e->class == SQLSTATE_SYSTEM || e->class == SQLSTATE_POSITION)
		return TRY_LATER;
	if (changed && w->retries++ < RETRIES_MOST)
		return TRY_NOW;
	if (e->class == SQLSTATE_ROW || w->suspects > 0)
		return SPLIT;
	return w->retries++ < RETRIES_MOST ? TRY_LATER : SPLIT;
}

static int recover_from(struct writer *w, const struct flight *f, const struct dberror *e)
{
	struct dberror trouble;
	bool changed;
	int rc = restore(w, &trouble);

	if (rc == 0)
		rc = look_again(w, e, &changed, &trouble);
	if (rc == -ECANCELED)
		return rc;
	if (rc != 0) {
		log_trouble(w, &trouble);
		session_close(w);
		writer_rewind(w);
		return back_off(w);
	}
	switch (judge(w, f, e, changed)) {
	case SPLIT:
		rc = split(w, &f->load, e);
		break;
	case TRY_LATER:
		log_trouble(w, e);
		rc = back_off(w);
		break;
	case TRY_NOW:
		break;
	}
	if (rc == -ENOMEM)
		rc = back_off(w);
	if (rc == 0 && session_enter_pipeline(w, &trouble) != 0)
		session_close(w);
	return rc;
}

/*
 * What the server did not get done in time, or had no memory for, would fail again as it is: half
 * of it goes next. No message is under suspicion, as a lock may be all that was waited for.
 */
static void send_less(struct writer *w, const struct flight_load *load)
{
	if (load->suspects < 2)
		return;
	w->limit = load->suspects / 2 < w->limit ? load->suspects / 2 : w->limit;
	w->keep_limit = KEEP_LIMIT;
}

int failure_handle(struct writer *w, const struct flight *f, const struct dberror *e)
{
	if (e->too_much && (f || w->flight_count > 0))
		send_less(w, f ? &f->load : &w->flights[0].load);
	if (f && !e->lost && w->sender.conn)
		return recover_from(w, f, e);
	log_trouble(w, e);
	session_close(w);
	writer_rewind(w);
	return back_off(w);
}
