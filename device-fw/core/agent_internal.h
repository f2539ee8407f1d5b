/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the agent, from the top: agent.c; agent_coap.c and agent_mqtt.c;
 * agent_command.c; agent_readings.c; agent_session.c. */
#ifndef FG_DEVICE_AGENT_INTERNAL_H
#define FG_DEVICE_AGENT_INTERNAL_H

#include "device-fw/core/agent.h"

/* What a protocol does for the agent. */
struct fg_agent_protocol {
	void (*init)(struct fg_agent *a);
	void (*authenticate)(struct fg_agent *a);
	/* Begins the next thing that is to be done. False: there is nothing. Not called while busy.
	 */
	bool (*work)(struct fg_agent *a);
	bool (*busy)(const struct fg_agent *a);
	void (*forget)(struct fg_agent *a); /* what is under way */
	void (*farewell)(struct fg_agent *a);
	void (*receive)(struct fg_agent *a, const void *bytes, size_t length, int64_t now_ms);
	int64_t (*poll)(struct fg_agent *a, int64_t now_ms);
};

extern const struct fg_agent_protocol fg_agent_coap;
#if FG_WITH_MQTT
extern const struct fg_agent_protocol fg_agent_mqtt;
#endif

/* ---- the session */

int64_t fg_agent_now(const struct fg_agent *a);
/* An event of the session, and the actions that follow. May be called from anywhere, also from an
 * action. */
void fg_agent_event(struct fg_agent *a, enum fg_session_event event);
/* HOLD, for so long. */
void fg_agent_hold(struct fg_agent *a, uint32_t seconds);
/* Begins what is to be done next, if the session lets it and nothing is under way. */
void fg_agent_work(struct fg_agent *a);
void fg_agent_note(const struct fg_agent *a, struct fg_note *note);
void fg_agent_fault(struct fg_agent *a, int error, uint8_t code);

/* ---- the batch of records that is sent next */

/* Decides for fg_agent_write_batch, which comes next: an array (bulk), or one message? */
bool fg_agent_bulk(struct fg_agent *a);
/* For fg_coap_client_compose and fg_mqtt_client_publish; arg is the agent. */
int fg_agent_write_batch(void *arg, uint8_t *out, size_t room);
void fg_agent_batch_taken(struct fg_agent *a, uint32_t elapsed_ms, uint8_t transmissions);
/* The server cannot take it: smaller ones are tried, until it is one record, which is given up. */
void fg_agent_batch_refused(struct fg_agent *a, uint8_t code);

/* ---- commands */
void fg_agent_obey(struct fg_agent *a, const void *payload, size_t length, unsigned allowed);

#endif
