/* SPDX-License-Identifier: Apache-2.0 */
/* The connection: made, asked, and given up when it is lost. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/pgconn.h"
#include "core/sink/internal.h"

#define BACKOFF_FIRST_US (100 * US_PER_MS)
#define BACKOFF_MOST_US	 (5 * US_PER_S)
#define LAST_US		 US_PER_S /* for what is said at the end */

/*
 * lock_timeout: for reports, which wait for whoever changes rules. synchronous_commit: what is
 * committed leaves the journal, so it must be on the server's disk, whatever its default.
 */
static const char session_sql[] =
	"set lock_timeout = '500ms'; select set_config('jit', 'off', false),"
	" set_config('synchronous_commit', case when current_setting('synchronous_commit') = 'off'"
	" then 'on' else current_setting('synchronous_commit') end, false)";

static bool is_success(const PGresult *r)
{
	return PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK;
}

static int send(struct sink *s, const char *sql, int count, const char *const *values)
{
	return count == 0 ? PQsendQuery(s->conn, sql)
			  : PQsendQueryParams(s->conn, sql, count, NULL, values, NULL, NULL, 0);
}

/* Of several statements the first that fails says why; else the last answer counts. */
int sink_query(struct sink *s, const char *sql, int count, const char *const *values,
	       PGresult **out, struct dberror *e)
{
	int64_t deadline_us = clock_monotonic_us() +
			      (s->ending ? LAST_US : (s->o.statement_timeout_s + 2) * US_PER_S);
	int stop_fd = s->ending ? -1 : s->stop_fd;
	char err[DBERROR_MESSAGE_MAX];
	PGresult *last = NULL, *r;
	int rc;

	if (!send(s, sql, count, values)) {
		dberror_lost(e, s->conn, NULL);
		return -EIO;
	}
	while ((rc = pgconn_result(s->conn, &r, stop_fd, deadline_us, err, sizeof(err))) == 0 &&
	       r) {
		PGresult *kept = last && !is_success(last) ? last : r;

		PQclear(kept == r ? last : r);
		last = kept;
	}
	if (rc != 0 && rc != -ECANCELED) {
		dberror_lost(e, s->conn, err);
		rc = -EIO;
	} else if (rc == 0 && !last) {
		dberror_lost(e, s->conn, NULL);
		rc = -EIO;
	} else if (rc == 0 && !is_success(last)) {
		dberror_from_result(e, s->conn, last);
		rc = -EIO;
	}
	if (rc == 0 && out)
		*out = last;
	else
		PQclear(last);
	return rc;
}

void sink_disconnect(struct sink *s)
{
	PQfinish(s->conn);
	s->conn = NULL;
	s->positions_read = false;
}

/* Processes that lost the same database must not come back in step. */
static int64_t with_jitter(int64_t us)
{
	uint32_t r;

	random_bytes(&r, sizeof(r));
	return us / 2 + (int64_t)((uint64_t)us / 2 * r >> 32);
}

int64_t sink_backoff(int64_t backoff_us, int64_t first_us, int64_t most_us)
{
	if (backoff_us == 0)
		return first_us;
	return backoff_us * 2 < most_us ? backoff_us * 2 : most_us;
}

/* Of the database as a whole. Each state is logged once, when it is entered. */
void sink_trouble(struct sink *s, const struct dberror *e)
{
	char text[sizeof(s->last_trouble)];

	if (e->sqlstate[0])
		snprintf(text, sizeof(text), "%s (SQLSTATE %s)", e->message, e->sqlstate);
	else
		snprintf(text, sizeof(text), "%s", e->message);
	if (strcmp(text, s->last_trouble) != 0)
		log_warn("sink_trouble", NULL,
			 "%s; what rules store waits in the journal, within "
			 "journal.follower_max_bytes, and it is tried again every 0.1 to 5 s",
			 text);
	memcpy(s->last_trouble, text, sizeof(text));
	if (e->lost && s->conn)
		sink_disconnect(s);
	s->backoff_us = sink_backoff(s->backoff_us, BACKOFF_FIRST_US, BACKOFF_MOST_US);
	s->retry_at_us = clock_monotonic_us() + with_jitter(s->backoff_us);
}

void sink_no_trouble(struct sink *s)
{
	s->backoff_us = 0;
	if (s->last_trouble[0])
		log_info("sink_storing", NULL, "the database takes what rules store again");
	s->last_trouble[0] = '\0';
}

static void ignore_notices(void *arg, const PGresult *r)
{
	(void)arg;
	(void)r;
}

int sink_connect(struct sink *s, struct dberror *e)
{
	char name[64], err[DBERROR_MESSAGE_MAX];
	const struct pgconn_options o = {
		.url = s->o.database_url,
		.application_name = name,
		.connect_timeout_s = s->o.connect_timeout_s,
		.statement_timeout_s = s->o.statement_timeout_s,
	};
	int rc;

	snprintf(name, sizeof(name), "fieldgate-%.32s-sink", s->o.source);
	rc = pgconn_open(&s->conn, &o, s->stop_fd, err, sizeof(err));
	if (rc == -ECANCELED)
		return rc;
	if (rc != 0) {
		dberror_lost(e, NULL, err);
		return -EIO;
	}
	PQsetNoticeReceiver(s->conn, ignore_notices, NULL);
	rc = sink_query(s, session_sql, 0, NULL, NULL, e);
	if (rc == -EIO)
		e->lost = true;
	s->check_at_us = 0;
	sink_report_forget(s);
	return rc;
}
