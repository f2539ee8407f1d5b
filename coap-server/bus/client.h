/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-coap's bus: a client of the fleet's broker, on a thread of its own that does everything
 * which may wait (names, connections, TLS). Nobody else ever waits for the broker: what is given to
 * it is copied into a ring of bounded size, and sent when there is a connection.
 *
 * At least once: a message stays in the ring until the broker has answered for it, and what was
 * sent over a connection that was lost is sent again over the next. The broker keeps no session for
 * us: it could not know a repeat from a new message (MQTT has no such thing for QoS 1), so a
 * session would save nothing, and it would have to be cleaned up when workers go.
 */
#ifndef FG_BUS_CLIENT_H
#define FG_BUS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/bus/tls.h"
#include "core/relay/bus.h"

/* Copies of messages without an answer, in bytes; beyond that -EAGAIN, whatever their number. */
#define BUS_MAX_BYTES ((size_t)16 * 1024 * 1024)

struct bus_client;

struct bus_client_options {
	struct bus_tls_options tls;
	uint16_t port;
	const char *suffix; /* of the client id, which is the service's id; NULL: none */
	size_t max_in_flight;
};

struct bus_client_stats {
	bool connected;
	size_t in_flight;   /* not answered yet, sent or not */
	uint64_t published; /* taken over by the broker */
	uint64_t refused;   /* for good, by the broker or for it */
	uint64_t connections;
};

/* 0 or -errno. Does not wait for the broker, nor for files that can be used: those are looked for
 * again (logged), as devices must be served without them. All strings are copied. */
int bus_client_open(struct bus_client **out, const struct bus_client_options *o);

/* Take leave and end. What is not settled is lost here: its relay publishes it again. Waits for no
 * more than a name that is being looked up. NULL is allowed. */
void bus_client_close(struct bus_client *b);

const struct bus *bus_client_bus(const struct bus_client *b);

/* Read the files again, and connect anew with them when what is under way was answered. Files that
 * are no good change nothing (logged). Any thread. */
void bus_client_renew(struct bus_client *b);

void bus_client_stats(struct bus_client *b, struct bus_client_stats *out); /* any thread */

#endif
