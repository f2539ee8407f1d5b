/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQL of the store: texts, parameters, and which statements the connection's server has
 * prepared. A text names only the metrics that its rows use; preparing is dear beside small
 * batches, so statements are remembered by their set of metrics, and one that names a few metrics
 * more will do. One thread.
 */
#ifndef FG_STORE_STATEMENT_H
#define FG_STORE_STATEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/journal/journal.h"
#include "core/store/batch.h"
#include "core/store/bytes.h"
#include "core/store/catalogue.h"
#include "core/store/pgarray.h"

enum statement_kind {
	STATEMENT_BEGIN,
	STATEMENT_TELEMETRY,
	STATEMENT_TELEMETRY_ONCE, /* some rows go through sequence_seen */
	STATEMENT_LATEST,
	STATEMENT_LATEST_ONCE, /* rows count only if they were stored */
	STATEMENT_DEAD_LETTER,
	STATEMENT_DOWNLINK,
	STATEMENT_PRESENCE_EVENT,
	STATEMENT_PRESENCE,
	STATEMENT_STARTED,
	STATEMENT_ADVANCE,
	STATEMENT_COMMIT,
	STATEMENT_DEALLOCATE, /* of a statement that made room for another */
};

#define STATEMENT_NAME_MAX 24

struct statement {
	enum statement_kind kind;
	unsigned number; /* names it on the server; never used twice */
	bool asked;	 /* its preparation was sent */
	bool ready;	 /* and has succeeded */
	uint64_t used;
	uint64_t *columns; /* metrics; then the bits of extra and subtopic */
};

#define STATEMENTS_KEPT 48

struct statements {
	const struct catalogue *catalogue;
	size_t words;
	struct statement kept[STATEMENTS_KEPT];
	size_t count;
	unsigned numbers;
	uint64_t clock;
	bool dropped; /* some were; a transaction that failed may have kept them */
};

/* The server is a new one, or the catalogue has changed: nothing is prepared. */
void statements_reset(struct statements *s, const struct catalogue *catalogue);

/*
 * The statement for these columns (NULL: none), or one for more. It may take the place of another;
 * *dropped is then that one's number if the server has it, or will have when it comes to this,
 * 0 otherwise. NULL without memory.
 */
struct statement *statements_get(struct statements *s, enum statement_kind kind,
				 const uint64_t *columns, unsigned *dropped);

/* A preparation has succeeded. */
void statements_ready(struct statements *s, unsigned number);

/* The pipeline was aborted: what is not ready never will be. */
void statements_forget_unready(struct statements *s);

void statement_name(unsigned number, char name[STATEMENT_NAME_MAX]);

/* As SQL, NUL-terminated, appended to b. */
void statement_text(const struct statement *st, const struct catalogue *c, struct bytes *b);

/* Parameters of one execution, all binary. Kept for the next. */
struct params {
	struct pgarray *arrays;
	const char **values;
	int *lengths, *formats;
	size_t count, size;
	bool failed;
};

/* What journal_advance is told. */
struct advance {
	const uint8_t *journal_id;
	const char *source;
	struct journal_position from, to;
	uint64_t messages, rows, dead_letters, backlog_bytes;
	int64_t lag_us;
};

/* The columns that the batch's rows use. mask: statements.words words. */
void telemetry_columns(const struct batch *b, uint64_t *mask, size_t words);

/* Each fills p for one execution. 0 or -ENOMEM. */
int telemetry_params(struct params *p, const struct statement *st, const struct catalogue *c,
		     const struct batch *b);
int dead_letter_params(struct params *p, const struct batch *b);
int presence_event_params(struct params *p, const struct batch *b);
int downlink_params(struct params *p, const struct batch *b, const struct advance *adv);
int started_params(struct params *p, const struct batch *b);
int advance_params(struct params *p, const struct advance *a);

/* The rows of one round of telemetry_latest: candidates, at most one of each device. */
void latest_columns(const struct batch *b, const uint32_t *picks, size_t n, uint64_t *mask,
		    size_t words);
int latest_params(struct params *p, const struct statement *st, const struct catalogue *c,
		  const struct batch *b, const uint32_t *picks, size_t n);

void params_free(struct params *p);

#endif
