/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer thread's state, shared by the files that make it up:
 *
 *     writer.c    the loop: read and decode, send, take answers, wait
 *     session.c   the connection: what is read and done when it begins, and between batches
 *     failure.c   what a failed batch means: put back, split, refuse one message, wait, reconnect
 *     store.c     start, stop, counters for other threads
 *
 * Nothing here is locked: it is one thread's, save what store.c says of counters.
 */
#ifndef FG_STORE_WRITER_H
#define FG_STORE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/store/flight.h"
#include "core/store/row.h"
#include "core/store/store.h"

#define FLIGHTS_MAX  2	/* so that the server has the next batch when it is done with one */
#define REFUSALS_MAX 64 /* messages in one batch that were found one by one to be refused */
#define SENT_MAX     64

/* The batch being filled. */
struct open_batch {
	struct flight_load load;
	int64_t opened_us; /* when its first record was read */
	bool closed;	   /* nothing more may be added */
	bool unreadable;   /* the journal has failed to give more */
	bool drained;	   /* the journal held nothing more */
};

/* A record that was read and is not in a batch yet; valid until the next read. */
struct held_record {
	bool there;
	struct journal_record r;
	struct journal_position next;
	bool needs_partition;
};

/* Where the position in the database may stand because of us. */
struct sent_position {
	struct journal_position to;
	uint64_t records, rows, dead_letters, dropped;
	bool given_up; /* its messages were sent again since: whichever arrives, they count once */
};

struct writer {
	struct store_options o; /* strings are the writer's own */
	struct journal *journal;
	struct journal_reader *reader;
	int stop_fd;
	void (*publish)(struct writer *w); /* hand the counters to other threads */
	void *owner;

	struct flight_sender sender; /* .conn: NULL when not connected */
	struct catalogue catalogue;
	struct partitions partitions;
	struct row_context rows;
	struct batch batch;

	struct flight flights[FLIGHTS_MAX]; /* oldest first */
	size_t flight_count;
	struct flight failed; /* a copy of one that has ended so */
	int64_t progress_us;  /* when the server was last heard of, or given work */
	struct open_batch open;
	struct held_record held;

	struct journal_position committed; /* as the database had it last */
	struct journal_position read_to;   /* behind the last record taken into a batch */
	struct sent_position sent[SENT_MAX];
	size_t sent_next;

	/* Looking for the message that the database refuses: */
	uint64_t limit;	     /* records of a batch that were not refused before */
	unsigned keep_limit; /* for so many batches more: larger ones took too long */
	uint64_t suspects;   /* the next so many records: at least one of them is refused */
	struct row_refusal refusals[REFUSALS_MAX];
	size_t refusal_count;
	char *too_old_reason;

	unsigned retries; /* of errors that may be the message's or not */
	int64_t backoff_us;
	char last_trouble[DBERROR_MESSAGE_MAX + 32]; /* logged once */

	int64_t catalogue_at_us, maintain_at_us, reported_at_us, status_at_us, dead_letters_at_us;
	int64_t refused_at_us;
	uint64_t dead_letters_said;

	bool in_pipeline;
	bool position_known;
	bool maintained;
	bool said_storing;

	struct store_stats stats; /* but connected and lag_us */
};

/* 0, -ENOMEM or another -errno. */
int writer_init(struct writer *w);
void writer_free(struct writer *w);

/* Until stop_fd is readable. */
void writer_run(struct writer *w);

/* ---- session.c: 0, -ECANCELED or -EIO with *e ---- */

int session_open(struct writer *w, struct dberror *e);
void session_close(struct writer *w);

/* Read the committed position, and begin to read the journal there. No flight may be under way. */
int session_read_position(struct writer *w, struct dberror *e);

/* Is something due that needs the connection for itself? */
bool session_chores_due(const struct writer *w, int64_t now_us);
bool session_chores_overdue(const struct writer *w, int64_t now_us);
int session_chores(struct writer *w, struct dberror *e);

/* Neither this process nor the server has any prepared statement any more. */
int session_forget_statements(struct writer *w, struct dberror *e);

int session_reload_catalogue(struct writer *w, struct dberror *e);
int session_reload_partitions(struct writer *w, bool *changed, struct dberror *e);

/* The backlog and its age into fieldgate.ingest, if that was not done a moment ago. */
int session_report_trouble(struct writer *w, struct dberror *e);

/* Make the partition that the held record needs, or note that the database refuses it. */
int session_make_partition(struct writer *w, struct dberror *e);

int session_enter_pipeline(struct writer *w, struct dberror *e);
int session_leave_pipeline(struct writer *w, struct dberror *e);

/* ---- failure.c ---- */

/* Something went wrong with a flight (NULL: with none). Drop what is under way, and find out how to
 * go on. */
int failure_handle(struct writer *w, const struct flight *f, const struct dberror *e);

/* A batch was committed. */
void failure_clear(struct writer *w, const struct flight_load *load);

/* Remember that the record ending at `at` is refused. */
int failure_refuse(struct writer *w, struct journal_position at, const char *reason, bool now);
void failure_forget(struct writer *w);
const struct row_refusal *failure_find(const struct writer *w, struct journal_position at);

/* ---- writer.c ---- */

/* Forget the open batch and what was read, and read again from the committed position. */
void writer_rewind(struct writer *w);

/* Wait for the flights under way and their ends. 0, -ECANCELED or -EIO with *e. */
int writer_drain(struct writer *w, int stop_fd, int64_t timeout_us, struct dberror *e);

/* Take the committed position as known; what was sent up to it has arrived. */
void writer_arrived(struct writer *w, struct journal_position to);

void writer_status(struct writer *w, bool force);

#endif
