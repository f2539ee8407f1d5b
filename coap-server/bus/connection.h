/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to the broker, from connect(2) to its end, by libmosquitto: MQTT 5, so that the
 * broker can say no to a message, and a clean start, so that it keeps nothing of us. A new one is
 * made for each attempt; what was not answered is the ring's to send again, not the library's. It
 * never waits, and belongs to one thread.
 */
#ifndef FG_BUS_CONNECTION_H
#define FG_BUS_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/bus/tls.h"
#include "core/relay/bus.h"

struct connection;

struct connection_options {
	struct bus_tls *tls;   /* outlives the connection */
	const char *client_id; /* likewise */
	const char *address;   /* a number, not a name */
	uint16_t port;
	unsigned send_max; /* messages without an answer; the broker may want fewer */
	void *arg;
	/* A message of QoS 1 was answered; reason: of MQTT 5, 0x80 and above are a refusal. */
	void (*answered)(void *arg, int mid, int reason);
};

enum connection_sent {
	CONNECTION_SENT,
	CONNECTION_REFUSES, /* this message, for good: why says so */
	CONNECTION_ENDED,
};

/* 0, or -errno with a message in err. */
int connection_open(struct connection **out, const struct connection_options *o, char *err,
		    size_t err_len);

/* polite: take leave of the broker. NULL is allowed. */
void connection_close(struct connection *c, bool polite);

int connection_fd(const struct connection *c);
short connection_events(const struct connection *c); /* for poll(2) */

/* After poll, and at least once a second. False: it has ended. */
bool connection_work(struct connection *c, short revents);

/* The broker has let us in. */
bool connection_ready(const struct connection *c);

/* As many may be without an answer; good when ready. */
unsigned connection_send_max(const struct connection *c);

/* Send; *mid is what `answered` will say. QoS 0 has no answer. */
enum connection_sent connection_publish(struct connection *c, const struct bus_message *m, int *mid,
					char *why, size_t why_len);

/* Between true and false what is published leaves in as few segments as possible: the library
 * writes each message by itself, and a segment each costs us, the network and the broker. */
void connection_cork(const struct connection *c, bool corked);

/* Why it has ended: a text for the log. */
void connection_why(const struct connection *c, char *text, size_t len);

/* It ended because the broker was silent, not because it wanted to. */
bool connection_was_silent(const struct connection *c);

/* The broker said why it ended it, and that is no message of ours: it stops, or others have come
 * under our name, or its operator wants it. */
bool connection_was_dismissed(const struct connection *c);

/* May this be published at all? 0, or -EINVAL. Any thread. */
int connection_check_topic(const char *topic);

#endif
