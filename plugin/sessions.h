/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections that the plugin let in, by the broker's client pointer and by client id. A
 * session is here from its BASIC_AUTH until the first TICK after its DISCONNECT: the broker still
 * asks about its will in between. So the table is bounded by the broker's connections. The broker
 * may give the memory of a freed client to a new one, but asks BASIC_AUTH about that one first,
 * which replaces the entry.
 */
#ifndef FG_PLUGIN_SESSIONS_H
#define FG_PLUGIN_SESSIONS_H

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
	TAILQ_ENTRY(session) list;
	const struct mosquitto *client;
	enum session_state state;
	enum credential_kind kind;
	uint8_t fingerprint[FINGERPRINT_LEN];
	const char *close_reason; /* static text: why we had it closed; NULL if we had not */

	/* The last judgement, good for the snapshot of this generation only. */
	uint64_t judged;
	const struct principal *principal; /* NULL: refused */

	char principal_id[PRINCIPAL_ID_MAX + 1];
	char client_id[]; /* NUL-terminated */
};

TAILQ_HEAD(session_list, session);

struct sessions {
	struct session **by_client, **by_id; /* by_id holds live sessions only */
	size_t mask, count;		     /* buckets - 1; sessions in by_client */
	struct session_list open;	     /* live and superseded */
	struct session_list gone;
};

/* 0 or -ENOMEM. */
int sessions_init(struct sessions *t);
void sessions_free(struct sessions *t);

/* NULL if there is none. */
struct session *sessions_by_client(const struct sessions *t, const struct mosquitto *client);
struct session *sessions_live_by_id(const struct sessions *t, const char *client_id);

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
