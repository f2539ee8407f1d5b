/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sink thread's state, shared by the files that make it up:
 *
 *     sink.c      start, stop, counters for other threads
 *     loop.c      what is to be done next, and the wait
 *     targets.c   the tables of the rules in force, and which rules fit theirs
 *     lane.c      reads the journal and runs the rules: rows of a batch
 *     rows.c      a batch
 *     insert.c    a batch into the database, in one transaction with the position
 *     sql.c       the texts for that
 *     session.c   the connection
 *     position.c  what the database says of positions, and what of it is believed
 *     report.c    verdicts on rules and their counters, into the database
 *
 * Nothing here is locked: it is one thread's, but for struct sink's atomic counters.
 */
#ifndef FG_SINK_INTERNAL_H
#define FG_SINK_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/base/arena.h"
#include "core/base/rate_limit.h"
#include "core/sink/sink.h"
#include "core/sink/table.h"
#include "core/store/database.h"

#define SINK_SENT_MAX  8
#define SINK_LANES_MAX 16 /* tables that wait, each with a position of its own */

/* ---- targets.c ---- */

struct sink_target { /* a store action of a rule in force */
	const struct rule_action *action;
	const struct rule *rule;
	size_t table;  /* of sink_targets.tables */
	char *problem; /* why it cannot be done; NULL: it can */
};

struct sink_targets {
	struct sink_target *items; /* by the action's address */
	size_t count;
	struct sink_table *tables;
	bool *waiting; /* of each table: its rows are a lane's of its own */
	size_t table_count;
	bool loaded; /* the database was asked */
};

/* Those of a set; not loaded. 0 or -ENOMEM. */
int sink_targets_build(struct sink_targets *t, const struct rule_set *set);
void sink_targets_free(struct sink_targets *t);

/* Ask the database and judge. *changed: rows made before may not fit any more. 0, or as
 * sink_tables_load. */
int sink_targets_load(struct sink_targets *t, PGconn *c, int stop_fd, int timeout_s, bool *changed,
		      char *err, size_t err_len);

const struct sink_target *sink_targets_find(const struct sink_targets *t,
					    const struct rule_action *action);

/* Why a rule's store actions are not in force; NULL: they are, or it has none. */
const char *sink_targets_problem(const struct sink_targets *t, const struct rule *r);

/* ---- rows.c: a batch. Everything of it is in its arena. ---- */

struct sink_message {	      /* what a row was made of, should the row be refused */
	struct rule_input in; /* payload: NULL, to be decoded again */
	uint8_t format;
};

struct sink_row {
	const struct sink_target *target;
	const struct sink_message *message;
	const char *json; /* an object, a member for each column */
	size_t json_len;
	bool is_report; /* of an error action: if it is refused, that is all */
	bool refused;
};

struct sink_group { /* rows of one statement */
	size_t table;
	const uint64_t *columns; /* which, as a bit each */
	bool late;		 /* of errors that the database found */
	struct sink_row *rows;
	size_t count, size;
};

struct sink_publication { /* of an error action, for when the batch is committed */
	struct sink_publication *next;
	struct bus_message message;
};

struct sink_batch {
	struct arena arena;
	struct sink_group *groups;
	size_t group_count, group_size;
	size_t rows, bytes;
	struct sink_publication *first, *last;
	uint64_t refused;
	const struct sink_message *message; /* of this record */
	const struct rule_input *message_of;
};

void sink_batch_init(struct sink_batch *b);
void sink_batch_clear(struct sink_batch *b);
void sink_batch_free(struct sink_batch *b);

/* A row of what SELECT gave. temporary: for what is not kept. 0, or -errno with the reason in why.
 */
int sink_batch_add(struct sink_batch *b, const struct sink_targets *t,
		   const struct sink_target *target, const struct rule_firing *f, uint8_t format,
		   bool late, struct arena *temporary, char *why, size_t why_len);

/* The next record: its input may have the address of the one before. */
void sink_batch_next_record(struct sink_batch *b);

/* 0 or -ENOMEM. */
int sink_batch_publish(struct sink_batch *b, const struct rule_firing *f);

/* ---- lane.c ---- */

/*
 * A place in the journal and the rows from there on. The main lane has all tables but those that
 * wait: each of these has a lane of its own, which stays behind until the table takes rows again,
 * and ends when it has caught up.
 */
struct sink_lane {
	char *key; /* the table, as sink_table.quoted; NULL: the main lane */
	struct journal_reader *reader;
	struct journal_position committed; /* as the database has it */
	struct journal_position read_to;   /* behind the last record of the batch */
	struct journal_position sent_to;   /* of the commit whose fate is unknown */
	struct sink_batch batch;
	bool filled; /* the batch is to be stored */
	bool drained;
	bool sent;
	bool ending; /* this batch is its last: it has caught up */
	bool ended;
	bool looked; /* the catalogue was read again because of this batch */
	size_t row_limit;
	unsigned calm;	   /* batches since it was lowered */
	unsigned timeouts; /* of a single row */
	uint64_t missed;   /* of journal_missed, as counted */
	int64_t retry_at_us, backoff_us, advance_at_us;
};

struct sink;

/* At `from`. key is copied. 0 or -errno. */
int sink_lane_open(struct sink_lane *l, struct journal *j, const char *key,
		   struct journal_position from);
void sink_lane_close(struct sink_lane *l);

/* Forget the batch, and read from the committed position again. */
void sink_lane_rewind(struct sink_lane *l);

/* Everything up to `to` is committed. */
void sink_lane_arrived(struct sink *s, struct sink_lane *l, struct journal_position to);

/* Read and run rules until the batch is full or the journal drained. */
void sink_lane_fill(struct sink *s, struct sink_lane *l);

/* May a table's lane end with what it has read? */
bool sink_lane_may_end(const struct sink *s, const struct sink_lane *l);
bool sink_lane_has_work(const struct sink *s, const struct sink_lane *l);

/* A row was refused by the database: count it and do the rule's error action, whose rows become
 * late ones of the batch. */
void sink_lane_refuse(struct sink *s, struct sink_lane *l, struct sink_row *row, const char *why);

/* ---- the thread ---- */

enum sink_mode {
	SINK_UNSURE,	/* no rule stores, as far as is known: the database has not been read */
	SINK_IDLE,	/* no rule stores */
	SINK_FOLLOWING, /* some do */
};

struct sink_entry; /* report.c */

struct sink {
	struct sink_options o; /* strings are the sink's own */
	struct journal *journal;
	struct rules *rules;
	int stop_fd;
	pthread_t thread;

	const struct rule_set *set;
	uint64_t generation;
	struct sink_targets targets;
	struct sink_entry *entries; /* by the rule's name */
	size_t entry_count;

	bool ending; /* stop_fd was seen */
	PGconn *conn;
	bool positions_read; /* with this connection */
	enum sink_mode mode;
	struct journal_position begin_at; /* where to begin when the database has no position */
	struct journal_position
		sent[SINK_SENT_MAX]; /* of the main lane's commits without an answer */
	unsigned sent_next;
	bool fresh;  /* begin there whatever the database has */
	bool forget; /* its positions are to be deleted */
	bool known;  /* the main lane's position is what the database had */

	struct sink_lane main;
	struct sink_lane *lanes[SINK_LANES_MAX]; /* in no order */
	size_t lane_count, lane_next;
	size_t detached[SINK_LANES_MAX]; /* tables that the batch under way leaves to lanes */
	size_t detached_count;

	struct arena arena;	   /* of one record */
	struct sink_lane *running; /* the lane whose record it is */
	uint8_t format;
	const struct rule *failed; /* its error action is fired next because of us */
	bool late;

	unsigned failures; /* of the main lane's rows, in a row */
	int64_t retry_at_us, backoff_us;
	int64_t check_at_us, report_at_us, status_at_us;
	bool verdicts_due;
	char last_trouble[DBERROR_MESSAGE_MAX + 32]; /* logged once */
	struct rate_limit unpublished;

	_Atomic uint64_t rows, refused, missed;
};

/* loop.c: until stop_fd is readable. */
void sink_loop(struct sink *s);

/* ---- session.c ---- */

/* 0, -ECANCELED or -EIO with *e. */
int sink_connect(struct sink *s, struct dberror *e);
void sink_disconnect(struct sink *s);

/*
 * One statement with text parameters, or several without. 0 and *out (may be NULL: not wanted);
 * -ECANCELED, or -EIO with *e.
 */
int sink_query(struct sink *s, const char *sql, int count, const char *const *values,
	       PGresult **out, struct dberror *e);

/* Of the database as a whole: say it once, try again later; e->lost: disconnect. */
void sink_trouble(struct sink *s, const struct dberror *e);
void sink_no_trouble(struct sink *s);

/* How long to wait the next time. */
int64_t sink_backoff(int64_t last_us, int64_t first_us, int64_t most_us);

/* ---- insert.c ---- */

enum sink_outcome {
	SINK_DONE,	 /* committed; or there was nothing to commit */
	SINK_STOPPED,	 /* stop_fd */
	SINK_TROUBLE,	 /* *e: of the database as a whole; the batch is kept */
	SINK_LOOK_AGAIN, /* the tables are perhaps not as they were */
	SINK_WAITS,	 /* the lane's table takes no rows now */
	SINK_AGAIN,	 /* more carefully: never of sink_store */
};

/* Store a lane's batch and move its position. */
enum sink_outcome sink_store(struct sink *s, struct sink_lane *l, struct dberror *e);

/* ---- position.c: 0, -ECANCELED or -EIO with *e ---- */

int sink_read_positions(struct sink *s, struct dberror *e);
int sink_forget_positions(struct sink *s, struct dberror *e);

/* As text for SQL. */
#define SINK_JOURNAL_TEXT 33
void sink_journal_text(const struct sink *s, char text[SINK_JOURNAL_TEXT]);

/* The lanes' tables are waiting; no others. */
void sink_mark_waiting(struct sink *s);

void sink_drop_lane(struct sink *s, size_t i);

/* 0 or -errno. */
int sink_add_lane(struct sink *s, const char *key, struct journal_position from);

/* ---- report.c ---- */

/* The set is another: what the rules of the one before counted is kept to be reported. 0 or
 * -ENOMEM. */
int sink_report_follow(struct sink *s, const struct rule_set *next);
void sink_report_free(struct sink *s);

/* Nothing of what was said is taken as known. */
void sink_report_forget(struct sink *s);

/* Verdicts that are new. */
int sink_report_verdicts(struct sink *s, struct dberror *e);

/* Add what was counted. */
int sink_report_counters(struct sink *s, struct dberror *e);
bool sink_report_pending(struct sink *s);

#endif
