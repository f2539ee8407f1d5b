/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Mosquitto of the test's own, without the plugin: TLS on localhost with the certificates of
 * world_pki.h, and who shows the device's may publish everywhere but below `forbidden/`; and a
 * subscriber to everything.
 */
#ifndef FG_TESTS_BUS_BROKER_H
#define FG_TESTS_BUS_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mosquitto;

struct bus_broker {
	char dir[64];
	pid_t pid;	     /* 0: it does not run */
	uint16_t port;	     /* TLS */
	uint16_t plain_port; /* for the subscriber */
	struct mosquitto *subscriber;
	bool subscribed;
	size_t received;
	uint32_t times[65536]; /* how often the message with this payload came, a number */
};

/* A TCP port that nobody listens on, from a range that no client is given. */
uint16_t bus_free_port(void);

void bus_broker_init(struct bus_broker *b);
void bus_broker_free(struct bus_broker *b);

void bus_broker_start(struct bus_broker *b);
void bus_broker_kill(struct bus_broker *b);

/* All that is published from now on; until the broker ends. */
void bus_broker_subscribe(struct bus_broker *b);

/* Take what comes, for `ms`. */
void bus_broker_poll(struct bus_broker *b, int ms);

#endif
