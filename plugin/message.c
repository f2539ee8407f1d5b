/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MESSAGE: a publish that ACL_CHECK allowed. The broker writes its PUBACK or PUBREC as soon as this
 * returns 0, so by then the message is in the journal; any other code closes the socket without
 * one, the only "not stored" that MQTT 3.1.1 has, and the client sends again.
 */
#include "plugin/plugin.h"

#include <errno.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define DRAIN_BUDGET 8 /* of the bus, with each message: a busy broker need not wait for TICK */

static const char *what_to_do(int rc)
{
	switch (rc) {
	case -ENOBUFS:
		return "the journal is full: is the database reachable? (journal.max_bytes)";
	case -EMSGSIZE:
		/* Not message_size_limit: for MQTT 3.1.1 the broker then acknowledges what it
		 * throws away. */
		return "it is too long to be stored, ever: set max_packet_size in mosquitto.conf";
	default:
		return "see to the disk of state.dir";
	}
}

/*
 * QoS 0 is never acknowledged, so nothing untrue is said to its sender, and it would not send again
 * after a reconnect, which costs a device on a cellular network dearly: the connection stays, the
 * message goes to subscribers, and the loss is counted.
 */
static int lost_qos0(struct plugin *p, const char *name, int rc)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass(&p->lost_qos0, US_PER_S, &suppressed))
		log_error("message_lost", name, "a QoS 0 message could not be stored: %s; %s%s",
			  strerror(-rc), what_to_do(rc), rate_limit_note(note, suppressed));
	return MOSQ_ERR_SUCCESS;
}

static int not_stored(struct plugin *p, const struct mosquitto *client, const char *name, int rc)
{
	struct session *s = sessions_by_client(&p->sessions, client);
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (s)
		s->close_reason = "its message could not be stored";
	if (rate_limit_pass(&p->not_stored, US_PER_S, &suppressed))
		log_error("publish_not_stored", name,
			  "its connection is closed without acknowledgement, so that it keeps the "
			  "message: %s; %s%s",
			  strerror(-rc), what_to_do(rc), rate_limit_note(note, suppressed));
	return MOSQ_ERR_UNKNOWN;
}

/* From fieldgate-coap, which would send it again for ever: as plugin_bus_drain does. */
static int never_stored(const struct message *m)
{
	log_error("republish_not_queued", NULL,
		  "a message on %.200s is too long to wait for its device", m->topic);
	return MOSQ_ERR_SUCCESS;
}

bool plugin_delivers(const struct plugin *p, const char *topic)
{
	char name[PRINCIPAL_ID_MAX + 1];
	const char *device;
	size_t device_len;

	if (!pipeline_is_downlink(topic, &device, &device_len))
		return false;
	memcpy(name, device, device_len);
	name[device_len] = '\0';
	return sessions_live_of(&p->sessions, name) != NULL;
}

int on_message(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_message *e = event_data;
	struct plugin *p = userdata;
	const struct message m = {
		.topic = e->topic,
		.payload = e->payload,
		.payload_len = e->payloadlen,
		.format = PAYLOAD_AUTO,
		.relayed = p->relaying == e->client,
		.delivered = plugin_delivers(p, e->topic),
	};
	const char *name;
	int rc;

	(void)event;
	p->relaying = NULL;
	will_drop(p, e->client);
	plugin_bus_drain(p, DRAIN_BUDGET);
	if (message_deletes_retained(e->retain, e->payloadlen))
		return MOSQ_ERR_SUCCESS;
	rc = pipeline_publish(p->pipeline, &m);
	if (rc == 0)
		return MOSQ_ERR_SUCCESS;
	if (rc == -EMSGSIZE && m.relayed)
		return never_stored(&m);
	name = mosquitto_client_username(e->client);
	return e->qos == 0 ? lost_qos0(p, name, rc) : not_stored(p, e->client, name, rc);
}
