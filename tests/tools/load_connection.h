/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One MQTT 3.1.1 connection of the load generator: connects (plain or mutual TLS), publishes QoS 1
 * with a window of unacknowledged messages, and after a lost connection comes back and sends what
 * was not acknowledged again, as a device with a persistent session does. Non-blocking; one thread.
 */
#ifndef FG_TOOLS_LOAD_CONNECTION_H
#define FG_TOOLS_LOAD_CONNECTION_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/tools/load_payload.h"

enum load_state {
	LOAD_IDLE, /* not connected; retry_at_us says when to try */
	LOAD_CONNECTING,
	LOAD_HANDSHAKE,
	LOAD_CONNACK,
	LOAD_RUNNING,
};

struct load_slot { /* packet id = index + 1 */
	bool used;
	int64_t seq;
	int64_t ts_ms;
	int64_t first_sent_us; /* of the first attempt: a latency includes every retry */
};

struct load_buffer {
	unsigned char *data;
	size_t len, size, done;
};

struct load_options {
	struct sockaddr_in address;
	bool cbor;
	bool resume; /* clean session 0, reconnect and send again */
	unsigned keepalive_s;
	unsigned window;
	/* Called for each acknowledgement. */
	void (*on_ack)(const char *device, int64_t seq, int64_t latency_us);
};

struct load_connection {
	const struct load_options *options;
	char device[65];
	const char *token; /* NULL: none */
	SSL_CTX *tls;	   /* NULL: plain TCP */
	SSL *ssl;
	int fd;
	enum load_state state;
	bool want_write;
	int64_t retry_at_us;
	struct load_buffer out, in;
	struct load_payload payload;
	struct load_slot *slots;
	unsigned in_flight;
	unsigned next_slot;
	int64_t next_seq;
	unsigned connects, losses, refused;
};

void load_connection_init(struct load_connection *c, const struct load_options *o,
			  const char *device, unsigned number);
void load_connection_free(struct load_connection *c);

/* Begin to connect. 0, or -1 when not even a socket could be had. */
int load_connection_open(struct load_connection *c);

/* Close; with resume set it will be opened again by the caller at retry_at_us. */
void load_connection_lost(struct load_connection *c);

/* Is there room in the window of a running connection? */
bool load_connection_ready(const struct load_connection *c);

/* Queue one message; load_connection_flush sends. */
void load_connection_publish(struct load_connection *c);

/* Do what the socket allows. -1: the connection is lost (load_connection_lost was called). */
int load_connection_readable(struct load_connection *c);
int load_connection_flush(struct load_connection *c);

/* DISCONNECT and close. */
void load_connection_goodbye(struct load_connection *c);

#endif
