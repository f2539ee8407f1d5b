/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections that the plugin let in, by the broker's client pointer, by client id and by
 * principal. A
 * session is here from its BASIC_AUTH until the first TICK after its DISCONNECT: the broker still
 * asks about its will in between. So the table is bounded by the broker's connections. The broker
 * may give the memory of a freed client to a new one, but asks BASIC_AUTH about that one first,
 * which replaces the entry.
 */
#ifndef FG_PLUGIN_SESSIONS_H
#define FG_PLUGIN_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "core/registry/snapshot.h"

#define CLIENT_ID_MAX 255 /* bytes */

struct mosquitto;

enum session_state {
	SESSION_LIVE,
	SESSION_SUPERSEDED, /* a newer connection has its client id; its DISCONNECT is yet to come
			     */
	SESSION_GONE,	    /* disconnected; only its will may still be asked about */
};

struct session {
	struct session *next_by_client, *next_by_id; /* hash chains */
	LIST_ENTRY(session) by_principal;	     /* another; one principal may have many */
	TAILQ_ENTRY(session) list;
	const struct mosquitto *client;
	enum session_state state;
	enum credential_kind kind;
	uint8_t fingerprint[FINGERPRINT_LEN];
	uint32_t edition;	  /* of its credential */
	int64_t ends_us;	  /* of the monotonic clock: its credential; INT64_MAX: never */
	const char *close_reason; /* static text: why we had it closed; NULL if we had not */

	/* See downlink.c: no subscription fits this message, or 0; the next time to ask for one. */
	int64_t not_taken, ask_again_us;
	uint64_t not_allowed; /* it was refused by the registry of this generation; 0: it was not */

	/* The last judgement, good for the snapshot of this generation only. */
	uint64_t judged;
	const struct principal *principal; /* NULL: refused */

	char principal_id[PRINCIPAL_ID_MAX + 1];
	char client_id[]; /* NUL-terminated */
};

TAILQ_HEAD(session_list, session);
LIST_HEAD(session_chain, session);

struct sessions {
	struct session **by_client, **by_id; /* by_id and by_principal hold live sessions only */
	struct session_chain *by_principal;
	size_t mask, count;	  /* buckets - 1; sessions in by_client */
	struct session_list open; /* live and superseded */
	struct session_list gone;
};

/* 0 or -ENOMEM. */
int sessions_init(struct sessions *t);
void sessions_free(struct sessions *t);

/* NULL if there is none. */
struct session *sessions_by_client(const struct sessions *t, const struct mosquitto *client);
struct session *sessions_live_by_id(const struct sessions *t, const char *client_id);

/* A live session of the principal; and the next of the same one. NULL: no more. */
struct session *sessions_live_of(const struct sessions *t, const char *principal_id);
struct session *sessions_next_of(const struct session *s);

/*
 * A new live session. What is left of another one under this pointer is freed. A live session with
 * the same client id must have been given to sessions_supersede before. NULL without memory.
 */
struct session *sessions_add(struct sessions *t, const struct mosquitto *client,
			     const char *client_id, const char *principal_id,
			     enum credential_kind kind, const uint8_t *fingerprint);

void sessions_supersede(struct sessions *t, struct session *s);

/* Disconnected: from now on it waits for sessions_bury. */
void sessions_gone(struct sessions *t, struct session *s);

/* Forget this one now. */
void sessions_remove(struct sessions *t, struct session *s);

/* Free all that are gone. */
void sessions_bury(struct sessions *t);

#endif
