/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Mosquitto plugin: turns the broker's events into calls of core and core's answers into the
 * broker's codes. Everything here runs on the broker's one thread; only log_bridge.c is entered by
 * others. README.md beside this file says in which order the broker calls, and what follows from
 * it.
 */
#ifndef FG_PLUGIN_PLUGIN_H
#define FG_PLUGIN_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#include "core/base/config.h"
#include "core/pipeline/pipeline.h"
#include "core/registry/identify.h"
#include "core/base/rate_limit.h"
#include "plugin/bus.h"
#include "plugin/downlink.h"
#include "plugin/sessions.h"
#include "plugin/will.h"

/* Events of Mosquitto 2.1, which our header, 2.0.11's, does not have. Their data begin like those
 * of MOSQ_EVT_DISCONNECT, with the client. CLIENT_OFFLINE comes instead of DISCONNECT when the
 * session outlives the connection. */
#define EVT_CONNECT	   11
#define EVT_CLIENT_OFFLINE 28

struct plugin {
	mosquitto_plugin_id_t *id;
	struct config config;
	struct plugin_bus *bus; /* what core publishes here */
	struct pipeline *pipeline;
	struct registry *registry; /* the pipeline's */

	/* The registry as every decision sees it. plugin_renew swaps it when the generation moved.
	 */
	const struct snapshot *snapshot;
	uint64_t generation;
	uint64_t judged_generation; /* all live sessions were judged again by this one */

	struct sessions sessions;
	int64_t next_end_us; /* no live session's credential ends before */
	struct downlink downlink;
	struct will_slot will;
	bool reloading; /* between RELOAD and the TICK after it; see reload.c */
	bool has_connect_event;
	const struct mosquitto
		*connecting;		 /* let in by BASIC_AUTH, CONNECT yet to come; see will.c */
	const struct mosquitto *kicking; /* see tick.c */
	const struct mosquitto
		*relaying; /* ACL_CHECK has just allowed it a publish that is relayed */

	struct rate_limit not_ready;
	struct rate_limit not_stored;
	struct rate_limit lost_qos0;
	struct refusal_limits refused, refused_connects;
};

/* Callbacks, one file each. userdata is the struct plugin. */
int on_basic_auth(int event, void *event_data, void *userdata); /* connect.c */
int on_reload(int event, void *event_data, void *userdata);	/* reload.c */
int on_acl_check(int event, void *event_data, void *userdata);	/* acl.c */
int on_message(int event, void *event_data, void *userdata);	/* message.c */
int on_connect(int event, void *event_data, void *userdata);	/* connect.c; 2.1 only */
int on_disconnect(int event, void *event_data, void *userdata); /* disconnect.c */
int on_tick(int event, void *event_data, void *userdata);	/* tick.c */

/* Hold the newest snapshot; each callback calls it first. Pointers into the old one become invalid,
 * which is why sessions ask session_principal and keep none longer. */
void plugin_renew(struct plugin *p);

/* The principal of an accepted session as of now; NULL when it may do nothing any more. No
 * allocation. */
const struct principal *session_principal(const struct plugin *p, struct session *s);

/* The same for a client that has no session here: offline, or restored by the broker from disk. */
const struct principal *plugin_principal_by_name(const struct plugin *p, const char *name);

/* Is this a message to a device that is connected here, and so has it from the broker? */
bool plugin_delivers(const struct plugin *p, const char *topic);

/* Is the broker asking again about a session that it accepted before? Only during a reload. */
bool reload_knows(const struct plugin *p, const struct mosquitto *client);
/* The answer to that question. */
int reload_judge(struct plugin *p, const struct mosquitto *client);

/* An empty retained message is an order to the broker (MQTT 5.0 section 3.3.1.3), not a reading. */
static inline bool message_deletes_retained(bool retain, uint32_t payload_len)
{
	return retain && payload_len == 0;
}

/* Write that this session ended, once. address may be NULL. */
void presence_ended(struct plugin *p, const struct session *s, const char *address,
		    const char *reason);

#endif
