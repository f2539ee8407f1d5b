/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single statements, and errors as the store keeps them: the class decides, the message is for
 * people.
 */
#ifndef FG_STORE_DATABASE_H
#define FG_STORE_DATABASE_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/store/sqlstate.h"

#define DBERROR_MESSAGE_MAX 300

struct dberror {
	enum sqlstate_class class;
	char sqlstate[6]; /* "" when it is libpq's own */
	bool lost;	  /* the connection is good for nothing any more */
	bool too_much;	  /* the server had no time or memory for it: less of it might do */
	char message[DBERROR_MESSAGE_MAX];
};

/* From the result of a failed statement. */
void dberror_from_result(struct dberror *e, const PGconn *c, const PGresult *r);

/* The connection is lost; message NULL: what libpq says of it. */
void dberror_lost(struct dberror *e, const PGconn *c, const char *message);

/* Another trouble that is not the messages' fault; the connection lives. */
void dberror_system(struct dberror *e, const char *message);

struct database_query {
	const char *sql;
	int count; /* of parameters, all binary */
	const char *values[4];
	int lengths[4];
	bool binary_result;
};

/*
 * Send a statement (outside of pipeline mode) and wait for its rows. 0 and *out (may be NULL: not
 * wanted); -ECANCELED when stop_fd became readable; or -EIO with *e.
 */
int database_query(PGconn *c, const struct database_query *q, int stop_fd, int64_t timeout_us,
		   PGresult **out, struct dberror *e);

#endif
