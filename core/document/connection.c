/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread: one connection in libpq's pipeline mode. Each request has a sync of its own behind
 * it, so it is a transaction of its own and the error of one is no other's. Its answer counts when
 * that sync has come back, and not before: only then is it committed.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"
#include "core/document/internal.h"

#define SENT_MAX	   64 /* under way on the connection; the others wait here */
#define FAILED_INTERVAL_US (10 * US_PER_S)
#define BACKOFF_MIN_US	   (100 * US_PER_MS)
#define BACKOFF_MAX_US	   (5 * US_PER_S)
#define DATABASE_ERR_MAX   300

static void say_failed(struct documents *d, const struct entry *e)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass(&d->failed, FAILED_INTERVAL_US, &suppressed))
		log_warn("document_failed", e->request.device,
			 "the database did not take an operation on its state or values: %s%s",
			 e->why, rate_limit_note(note, suppressed));
}

static int fail(struct documents *d, char *err)
{
	pgconn_message(err, DATABASE_ERR_MAX, PQerrorMessage(d->conn));
	if (!*err)
		snprintf(err, DATABASE_ERR_MAX, "connection lost");
	return -EIO;
}

static int send_waiting(struct documents *d, char *err)
{
	while (d->sent.count < SENT_MAX) {
		struct entry *e = documents_next(d);

		if (!e)
			break;
		statement_unavailable(e, "the database did not answer");
		entries_push(&d->sent, e);
		if (statement_send(d->conn, e, &d->o) != 0)
			return fail(d, err);
	}
	return 0;
}

/* One result: of the first request that was sent, or the sync behind it. */
static int take_result(struct documents *d, const PGresult *r, char *err)
{
	d->committing = PQresultStatus(r) != PGRES_PIPELINE_SYNC;
	if (!d->committing) {
		documents_answer(d, entries_pop(&d->sent));
		return 0;
	}
	if (statement_result(d->conn, d->sent.first, r) != 0) {
		snprintf(err, DATABASE_ERR_MAX, "%s", d->sent.first->why);
		return -EIO;
	}
	if (d->sent.first->answer.outcome == DOCUMENT_UNAVAILABLE)
		say_failed(d, d->sent.first);
	return 0;
}

/*
 * What the server tells between a result and its sync is of a change that the result may not know
 * of, and that answer is still to be given: first that, then the change, as it happened.
 */
static void take_notifications(struct documents *d)
{
	PGnotify *n;

	while (!d->committing && (n = PQnotifies(d->conn))) {
		documents_changed(d, n->relname, n->extra);
		PQfreemem(n);
	}
}

static int receive(struct documents *d, char *err)
{
	bool ended = false; /* the results of a statement end with a NULL; two of them are an error
			     */

	while (d->sent.first && !PQisBusy(d->conn)) {
		PGresult *r = PQgetResult(d->conn);
		int rc;

		if (!r && (ended || PQstatus(d->conn) != CONNECTION_OK))
			return fail(d, err);
		ended = !r;
		if (!r)
			continue;
		rc = take_result(d, r, err);
		PQclear(r);
		if (rc != 0)
			return rc;
	}
	take_notifications(d);
	return 0;
}

/* Milliseconds until the oldest request has waited too long; -1: there is none. */
static int patience_ms(const struct documents *d)
{
	int64_t left;

	if (!d->sent.first)
		return -1;
	left = d->sent.first->deadline_us - clock_monotonic_us();
	return left <= 0 ? 0 : (int)((left + US_PER_MS - 1) / US_PER_MS);
}

/* Until there is something to read, something to send, or nothing to wait for any more. */
static int wait_for_work(struct documents *d, char *err)
{
	int unsent = PQflush(d->conn);
	int timeout = patience_ms(d);
	struct pollfd fds[] = {
		{.fd = PQsocket(d->conn), .events = (short)(unsent ? POLLIN | POLLOUT : POLLIN)},
		{.fd = d->wake_fd, .events = POLLIN},
		{.fd = d->stop_fd, .events = POLLIN},
	};
	eventfd_t n;

	if (unsent < 0)
		return fail(d, err);
	if (timeout == 0) {
		snprintf(err, DATABASE_ERR_MAX, "no answer for %d s", d->o.statement_timeout_s);
		return -ETIMEDOUT;
	}
	/* With SENT_MAX under way only an answer makes room. */
	if (d->sent.count == SENT_MAX)
		fds[1].fd = -1;
	if (poll(fds, 3, timeout) < 0 && errno != EINTR)
		return fail(d, err);
	if (fds[2].revents)
		return -ECANCELED;
	if (fds[1].revents)
		(void)eventfd_read(d->wake_fd, &n);
	if ((fds[0].revents & ~POLLOUT) && !PQconsumeInput(d->conn))
		return fail(d, err);
	return 0;
}

static int serve(struct documents *d, char *err)
{
	int rc;

	do {
		rc = send_waiting(d, err);
		if (rc == 0)
			rc = receive(d, err);
		if (rc == 0)
			rc = wait_for_work(d, err);
	} while (rc == 0);
	return rc;
}

/* --- Connecting --- */

/* The session listens already: who is not among them yet is heard of. */
static int read_waiting(struct documents *d, struct waiting *w, char *err)
{
	PGresult *r = NULL;
	char sql[80];
	int rc;

	snprintf(sql, sizeof(sql), "select * from fieldgate.downlink_waiting() limit %d",
		 WAITING_MAX + 1);
	rc = pgconn_exec(d->conn, sql, &r, d->stop_fd, d->o.connect_timeout_s, err,
			 DATABASE_ERR_MAX);
	for (int i = 0; rc == 0 && i < PQntuples(r); i++)
		waiting_add(w, PQgetvalue(r, i, 0));
	PQclear(r);
	return rc;
}

static int begin_session(struct documents *d, struct waiting *w, char *err)
{
	const struct pgconn_options o = {
		.url = d->o.database_url,
		.application_name = "fieldgate documents",
		.connect_timeout_s = d->o.connect_timeout_s,
		.statement_timeout_s = d->o.statement_timeout_s,
	};
	int rc = pgconn_open(&d->conn, &o, d->stop_fd, err, DATABASE_ERR_MAX);

	if (rc != 0)
		return rc;
	rc = pgconn_exec(d->conn, statement_session_sql, NULL, d->stop_fd, o.connect_timeout_s, err,
			 DATABASE_ERR_MAX);
	if (rc == 0)
		rc = read_waiting(d, w, err);
	if (rc == 0 && !PQenterPipelineMode(d->conn))
		rc = fail(d, err);
	return rc;
}

static void say_lost(struct documents *d, const char *why)
{
	if (d->said_lost)
		log_debug("document_database_lost", NULL, "still: %s", why);
	else
		log_warn("document_database_lost", NULL,
			 "%s; devices are asked to come back for their state and values, and "
			 "messages to them wait, until the database answers (database.url, and its "
			 "migrations)",
			 why);
	d->said_lost = true;
}

static void say_back(struct documents *d)
{
	if (d->said_lost)
		log_info("document_database_back", NULL, "the database answers again");
	d->said_lost = false;
}

/* Half to all of the backoff, which doubles. False: it is to stop. An attempt that fails at once,
 * as with a socket that is not there, never looks. */
static bool wait_before_next(struct documents *d)
{
	struct pollfd stop = {.fd = d->stop_fd, .events = POLLIN};
	uint32_t r;

	random_bytes(&r, sizeof(r));
	if (poll(&stop, 1,
		 (int)((d->backoff_us / 2 + (int64_t)r * (d->backoff_us / 2) / UINT32_MAX) /
		       US_PER_MS)) > 0)
		return false;
	d->backoff_us = 2 * d->backoff_us < BACKOFF_MAX_US ? 2 * d->backoff_us : BACKOFF_MAX_US;
	return true;
}

void *document_thread(void *arg)
{
	struct documents *d = arg;
	char err[DATABASE_ERR_MAX];
	struct waiting waiting = {0};
	int64_t since_us;
	int rc;

	d->backoff_us = BACKOFF_MIN_US;
	do {
		err[0] = '\0';
		rc = begin_session(d, &waiting, err);
		if (rc == 0) {
			say_back(d);
			documents_connected(d, d->was_connected, &waiting);
			d->was_connected = true;
			d->committing = false;
			since_us = clock_monotonic_us();
			rc = serve(d, err);
			documents_lost(d);
			/* One that is lost as soon as it is there is not to be made ten times a
			 * second. */
			if (clock_monotonic_us() - since_us > BACKOFF_MAX_US)
				d->backoff_us = BACKOFF_MIN_US;
		}
		waiting_free(&waiting);
		PQfinish(d->conn);
		d->conn = NULL;
		if (rc == -ECANCELED)
			break;
		say_lost(d, err);
	} while (wait_before_next(d));
	return NULL;
}
