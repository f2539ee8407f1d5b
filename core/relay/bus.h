/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What core needs to publish to the fleet's broker. The Mosquitto plugin and fieldgate-coap each
 * have one. It never waits and never loses what it took silently: `settled` says what has arrived.
 */
#ifndef FG_RELAY_BUS_H
#define FG_RELAY_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus_message {
	const char *topic;
	const void *payload;
	size_t payload_len;
	int qos; /* 0 or 1 */
	bool retain;
};

struct bus {
	void *arg;

	/* Take a message, which is copied. 0; -EAGAIN: no room now, come again when wake_fd is
	 * readable; another -errno: never, it is refused for what it is. Tickets grow with each
	 * call. The relay's thread. */
	int (*publish)(void *arg, const struct bus_message *m, uint64_t ticket);

	/* Every message up to this ticket has been taken over by the broker (QoS 1: acknowledged),
	 * or refused by it for good (logged there). The relay's thread. */
	uint64_t (*settled)(void *arg);

	/* An eventfd that becomes readable when there is room again or settled has moved. */
	int (*wake_fd)(void *arg);

	/* Has the broker seen what devices publish already? The plugin: true. */
	bool is_broker;
};

#endif
