/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices that have a session with this worker. A device is here from the first session that it
 * has proven itself in until the last of them ends, so the table is bounded by the sessions. What
 * counts per device lives here: its rate of requests, its presence, and how many sessions it may
 * have: one that forgets its sessions would otherwise leave them behind for a month each.
 */
#ifndef FG_WORKER_DEVICES_H
#define FG_WORKER_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "coap-server/dtls/endpoint.h"
#include "coap-server/worker/bucket.h"
#include "core/registry/snapshot.h"

#define DEVICE_SESSIONS_MAX 8

struct coap_peer;
struct device;

struct session { /* ours in every DTLS session (dtls_user); all zero at first */
	struct dtls_session *dtls;
	struct device *device; /* NULL: it has not proven who it is */
	TAILQ_ENTRY(session) list;
	struct coap_peer *peer;
	bool known; /* its note was given to the CoAP server */

	/* The last judgement, good for the snapshot of this generation only. */
	uint64_t judged;		   /* generation + 1 */
	const struct principal *principal; /* NULL: refused */

	const char *end_reason; /* end it when the request under way is answered */
	struct bucket anonymous;
};

TAILQ_HEAD(session_list, session);

struct device {
	struct device *next;	      /* hash chain */
	struct session_list sessions; /* the one that was silent longest first */
	size_t count;
	struct bucket bucket;
	bool connected; /* so it is said in the table of presence */
	char id[];
};

struct devices {
	struct device **buckets;
	size_t mask, count;
};

/* 0 or -ENOMEM. */
int devices_init(struct devices *t);
void devices_free(struct devices *t);

/* The device with this id, made if it is not there; NULL without memory. */
struct device *devices_get(struct devices *t, const char *id);

/* A session of this device, as the newest. */
void device_add(struct device *d, struct session *s);

/* It has been heard. */
void device_touch(struct session *s);

/* Takes it out. The device is then freed if that was the last one; say before what is to be said of
 * it. */
void devices_remove(struct devices *t, struct session *s);

/* All of them, in no order. visit must not change the table. */
void devices_each(struct devices *t, void (*visit)(void *arg, struct device *d), void *arg);

#endif
