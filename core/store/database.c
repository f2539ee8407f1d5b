/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/database.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/pgconn.h"

/* A statement that was prepared is gone: a pooler gave this session another server, or somebody
 * deallocated it. Only a new session is sure of what it has. */
static bool has_forgotten(const char *sqlstate)
{
	return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0;
}

void dberror_from_result(struct dberror *e, const PGconn *c, const PGresult *r)
{
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

	*e = (struct dberror){.class = sqlstate_class(sqlstate)};
	snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", sqlstate ? sqlstate : "");
	pgconn_message(e->message, sizeof(e->message), message ? message : PQresultErrorMessage(r));
	e->lost = PQstatus(c) != CONNECTION_OK || !e->sqlstate[0] || has_forgotten(e->sqlstate);
	e->too_much = strcmp(e->sqlstate, "57014") == 0 || strcmp(e->sqlstate, "53200") == 0;
}

void dberror_lost(struct dberror *e, const PGconn *c, const char *message)
{
	*e = (struct dberror){.class = SQLSTATE_SYSTEM, .lost = true};
	if (!message)
		message = c && *PQerrorMessage(c) ? PQerrorMessage(c) : "connection lost";
	pgconn_message(e->message, sizeof(e->message), message);
}

void dberror_system(struct dberror *e, const char *message)
{
	*e = (struct dberror){.class = SQLSTATE_SYSTEM};
	pgconn_message(e->message, sizeof(e->message), message);
}

static bool is_success(const PGresult *r)
{
	return PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK;
}

int database_query(PGconn *c, const struct database_query *q, int stop_fd, int64_t timeout_us,
		   PGresult **out, struct dberror *e)
{
	static const int binary[] = {1, 1, 1, 1};
	int64_t deadline_us = clock_monotonic_us() + timeout_us;
	char err[DBERROR_MESSAGE_MAX];
	PGresult *first = NULL, *r;
	int rc;

	if (!PQsendQueryParams(c, q->sql, q->count, NULL, q->values, q->lengths, binary,
			       q->binary_result)) {
		dberror_lost(e, c, NULL);
		return -EIO;
	}
	while ((rc = pgconn_result(c, &r, stop_fd, deadline_us, err, sizeof(err))) == 0 && r) {
		if (first)
			PQclear(r);
		else
			first = r;
	}
	if (rc != 0 && rc != -ECANCELED) {
		dberror_lost(e, c, err);
		rc = -EIO;
	}
	if (rc == 0 && !first) {
		dberror_lost(e, c, NULL);
		rc = -EIO;
	}
	if (rc == 0 && !is_success(first)) {
		dberror_from_result(e, c, first);
		rc = -EIO;
	}
	if (rc == 0 && out)
		*out = first;
	else
		PQclear(first);
	return rc;
}
