/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages that the broker has not answered for, in the order in which they came. They are sent
 * in that order, answered in any, and leave from the oldest end: so "settled" is one number. When a
 * connection is lost, what was sent over it and not answered is to be sent again.
 *
 * No lock and no I/O of its own. One thread puts, another sends and takes answers; whoever calls
 * holds one lock, but a message that ring_next has shown may be read without it until it is done.
 */
#ifndef FG_BUS_RING_H
#define FG_BUS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/relay/bus.h"

struct ring_message {
	struct bus_message m; /* its topic and payload are a copy, which is freed when it is done */
	uint64_t ticket;
	int mid; /* the connection's number of it; 0: not sent over this one */
	bool done;
};

struct ring {
	struct ring_message *slots;
	size_t capacity;
	size_t max_bytes;
	size_t bytes;		    /* of topics and payloads that are not done */
	uint64_t oldest, next, end; /* to be answered, to be sent, to be put: never wrap */
	size_t on_wire;
	uint64_t settled; /* every ticket up to this one is done */
};

/* 0 or -ENOMEM. max_bytes bounds the copies; one message is always taken, whatever its length. */
int ring_init(struct ring *r, size_t capacity, size_t max_bytes);
void ring_free(struct ring *r);

/* 0; -EAGAIN: it is full; -ENOMEM. */
int ring_put(struct ring *r, const struct bus_message *m, uint64_t ticket);

/* The next to be sent, or NULL. */
struct ring_message *ring_next(struct ring *r);

/* That one is under way with this number, which nothing else on the wire has. */
void ring_sent(struct ring *r, struct ring_message *m, int mid);

/* The message with this number, or NULL. */
struct ring_message *ring_on_wire(struct ring *r, int mid);

/* Answered, or never to be sent. */
void ring_done(struct ring *r, struct ring_message *m);

/* The connection is gone: what is not done is sent again, in the same order. */
void ring_rewind(struct ring *r);

static inline size_t ring_count(const struct ring *r)
{
	return (size_t)(r->end - r->oldest);
}

#endif
