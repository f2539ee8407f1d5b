/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wills. The broker has no event for a will: it asks ACL_CHECK for the right to publish it, and
 * then it does. For a publish it asks the same, and calls MESSAGE next. So the plugin holds a copy
 * of what it allowed: if MESSAGE for the same client comes next, it was a publish and the copy is
 * dropped; if anything else comes, it was a will, and is taken into the pipeline then. That is true
 * in a take-over, for a delayed will and while the broker stops as well, and needs no guess about
 * the client's state.
 */
#ifndef FG_PLUGIN_WILL_H
#define FG_PLUGIN_WILL_H

#include <stdbool.h>
#include <stddef.h>

struct mosquitto;
struct mosquitto_evt_acl_check;
struct plugin;

#define WILL_TOPIC_MAX	 65535 /* MQTT 5.0 sections 1.5.4 and 1.5.6 */
#define WILL_PAYLOAD_MAX 65535

struct will_slot {
	const struct mosquitto *client; /* NULL: empty */
	bool relayed;
	size_t payload_len;
	char topic[WILL_TOPIC_MAX + 1];
	char payload[WILL_PAYLOAD_MAX];
};

/* ACL_CHECK allowed this; is it a will? */
void will_hold(struct plugin *p, const struct mosquitto_evt_acl_check *e);

/* MESSAGE came: what is held for this client was a publish. */
void will_drop(struct plugin *p, const struct mosquitto *client);

/* Any other event came: what is held is a will. */
void will_take(struct plugin *p);

#endif
