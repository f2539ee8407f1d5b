/* SPDX-License-Identifier: Apache-2.0 */
/* What client.c (the calls of others) and thread.c (the connection's life) share. */
#ifndef FG_BUS_INTERNAL_H
#define FG_BUS_INTERNAL_H

#include <pthread.h>

#include "coap-server/bus/client.h"
#include "coap-server/bus/connection.h"
#include "coap-server/bus/ring.h"
#include "core/base/rate_limit.h"

#define ADDRESS_MAX   64 /* in text, with a scope */
#define ADDRESSES_MAX 8

struct bus_client {
	struct bus bus;
	struct bus_client_options o;
	char *strings[5]; /* what o points to */
	pthread_t thread;
	int kick_fd; /* wakes the thread */
	int wake_fd; /* wakes the relay */

	pthread_mutex_t lock; /* for what follows */
	struct ring ring;
	struct bus_client_stats stats;
	bool stop, renew;
	bool kicked;	/* kick_fd was written, and the thread has not looked yet */
	bool no_memory; /* a message was not taken for want of it, and nothing else will wake the
			   relay */

	/* The thread's own. */
	struct bus_tls *tls; /* NULL: the files were never good */
	char client_id[128];
	struct connection *connection;
	char addresses[ADDRESSES_MAX][ADDRESS_MAX]; /* those that were not tried yet */
	size_t address_count, address;
	char tried[512]; /* what became of those before */
	int64_t connect_at_us, delay_us, entered_at_us;
	bool entered;	    /* this connection was ready */
	bool answered;	    /* something, over this connection */
	bool draining;	    /* nothing more is sent over it, as new files wait */
	bool progress;	    /* settled or room has moved since the relay was woken */
	unsigned fruitless; /* connections in a row that the broker ended without an answer */
	struct rate_limit trouble, refusals;
};

/* thread.c */
void *bus_client_run(void *client);

#endif
