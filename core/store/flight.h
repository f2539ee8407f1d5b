/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch on its way: its statements are in the pipeline, their answers are awaited. The batch
 * itself is not kept (libpq has copied it); after a failure it is made again from the journal.
 */
#ifndef FG_STORE_FLIGHT_H
#define FG_STORE_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/journal/journal.h"
#include "core/store/batch.h"
#include "core/store/database.h"
#include "core/store/statement.h"

/* Records of the journal that a batch holds. */
struct flight_load {
	struct journal_position from, to;
	uint64_t records, rows, dead_letters, dropped;
	uint64_t refused_down;		 /* messages to devices; the database has counted them */
	uint64_t suspects;		 /* records that the database has not refused before */
	struct journal_position suspect; /* the last of them */
	char suspect_device[256];
	int64_t first_received_us, last_received_us;
	uint64_t bytes;
};

struct flight_op {
	enum statement_kind kind;
	bool preparing;
	unsigned number; /* of the statement prepared */
};

struct flight {
	struct flight_load load;
	struct flight_op *ops;
	size_t op_count, ops_size, answered;
	bool committed;
	bool failed;
	enum statement_kind failed_kind;
	bool failed_preparing; /* before any message's values were there */
	struct dberror error;  /* of the first statement that failed */
};

/* What sending needs, and keeps from one to the next. */
struct flight_sender {
	PGconn *conn;
	struct statements statements;
	struct params params;
	struct bytes text;
	uint32_t *picks;
	uint32_t *order;
	size_t picks_size;
	uint64_t *columns;
	size_t columns_size;
};

/*
 * Send the batch, and the advance of the journal's position with it, as one transaction; load is
 * set by the caller. 0; -ENOMEM or -EIO, after which the connection is good for nothing.
 */
int flight_send(struct flight *f, struct flight_sender *s, const struct batch *b,
		const struct advance *a);

/* Take an answer. true: it was the last. */
bool flight_answer(struct flight *f, struct flight_sender *s, const PGresult *r);

void flight_free(struct flight *f);
void flight_sender_free(struct flight_sender *s);

#endif
