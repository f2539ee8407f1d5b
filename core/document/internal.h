/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of documents: the queues between the two threads (document.c), the thread with the
 * connection (connection.c), what an operation is in SQL (statement.c), and for which devices
 * messages wait (waiting.c).
 *
 * A request is one entry from documents_ask until its answer was delivered, and is in one list at a
 * time: waiting -> sent -> answered. Their sum is bounded by max_queue.
 */
#ifndef FG_DOCUMENT_INTERNAL_H
#define FG_DOCUMENT_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "core/base/rate_limit.h"
#include "core/document/document.h"

#define DOCUMENT_WHY_MAX 300
#define SHARES		 4096

struct entry {
	struct entry *next;
	struct document_request request; /* its strings and payload are in data */
	int64_t deadline_us;
	uint8_t *share; /* of documents.shares, or NULL */
	struct document_answer answer;
	char *content; /* the answer's payload */
	char why[DOCUMENT_WHY_MAX];
	char data[];
};

struct entries {
	struct entry *first, *last;
	size_t count;
};

struct change {
	struct change *next;
	enum document_changed what;
	const char *name; /* in device, or NULL */
	char device[];
};

/* A set of device ids. Zeroed: empty. */
struct waiting {
	struct waiting_name **buckets;
	size_t mask, count; /* buckets - 1 */
	bool overflowed;    /* not all could be kept: so everybody may be in it */
};

struct documents {
	struct document_options o;

	/* Of those who ask: requests under way, by a hash of the device. Two that fall together
	 * share what one may have. */
	uint8_t shares[SHARES];

	pthread_t thread;
	int stop_fd, wake_fd, ready_fd;

	pthread_mutex_t lock; /* what follows */
	bool connected;
	struct entries waiting, answered;
	size_t held; /* entries in all lists, sent too */
	struct change *first_change, *last_change;
	size_t change_count;
	bool all_changed;	 /* and no single change is kept */
	struct waiting downlink; /* devices for which a message may wait */

	/* The thread's own. */
	PGconn *conn;
	struct entries sent;
	bool committing; /* the first of them has its result, and its sync is to come */
	int64_t backoff_us;
	bool was_connected, said_lost;
	struct rate_limit failed;
};

void entries_push(struct entries *l, struct entry *e);
struct entry *entries_pop(struct entries *l); /* NULL: empty */

/* --- document.c, for the thread --- */

/* From now on requests are taken; missed: there may have been changes that were not heard of.
 * Messages wait for the devices in downlink, which is taken over. */
void documents_connected(struct documents *d, bool missed, struct waiting *downlink);

/* No more requests; those under way are answered DOCUMENT_UNAVAILABLE. */
void documents_lost(struct documents *d);

struct entry *documents_next(struct documents *d); /* to be sent, or NULL */
void documents_answer(struct documents *d, struct entry *e);

/* A notification: of sql/0007_documents.sql or sql/0011_downlink.sql. */
void documents_changed(struct documents *d, const char *channel, const char *payload);

/* --- connection.c --- */

void *document_thread(void *arg); /* struct documents */

/* --- statement.c --- */

/* What a session needs before statement_send. From then on it hears of every change. */
extern const char statement_session_sql[];

#define DOWNLINK_CHANNEL "fieldgate_downlink"

/* Send one operation, and a sync behind it. 0, or -EIO: the connection is lost. */
int statement_send(PGconn *c, const struct entry *e, const struct document_options *o);

/* Take a result of it into the answer. 0, or -EIO: the connection is of no use any more. */
int statement_result(PGconn *c, struct entry *e, const PGresult *r);

/* The answer is DOCUMENT_UNAVAILABLE, whatever it was. */
void statement_unavailable(struct entry *e, const char *why);

/* --- waiting.c --- */

#define WAITING_MAX (1 << 20) /* device ids; about 100 bytes each */

void waiting_add(struct waiting *w, const char *device);
void waiting_remove(struct waiting *w, const char *device);
bool waiting_has(const struct waiting *w, const char *device);
void waiting_free(struct waiting *w);

/* The ids one behind the other, each with its NUL: *len bytes; free it. NULL: none, or no memory.
 */
char *waiting_copy(const struct waiting *w, size_t *len);

#endif
