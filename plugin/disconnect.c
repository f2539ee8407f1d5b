/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DISCONNECT, and CLIENT_OFFLINE of Mosquitto 2.1: presence, with the reason in words. What we
 * ended ourselves we know; for the rest there is the broker's code, which Mosquitto 2.0 always
 * gives as -1 and 2.1 tells. The session stays until the next TICK: the broker still asks ACL_CHECK
 * about its will.
 */
#include "plugin/plugin.h"

static const struct {
	int code;
	const char *reason;
} reasons[] = {
	{MOSQ_ERR_SUCCESS, "the client said goodbye"},
	{MOSQ_ERR_PROTOCOL, "the client broke the protocol"},
	{MOSQ_ERR_MALFORMED_PACKET, "the client sent a malformed packet"},
	{MOSQ_ERR_NO_CONN, "the connection was lost"},
	{MOSQ_ERR_CONN_LOST, "the connection was lost"},
	{MOSQ_ERR_ERRNO, "the connection failed"},
	{MOSQ_ERR_TLS, "TLS failed"},
	{MOSQ_ERR_AUTH, "the client is not authorised any more"},
	{MOSQ_ERR_KEEPALIVE, "nothing was heard for longer than its keepalive"},
	{MOSQ_ERR_OVERSIZE_PACKET, "the client sent too large a packet"},
	{MOSQ_ERR_PAYLOAD_SIZE, "the client sent too large a payload"},
	{MOSQ_ERR_QOS_NOT_SUPPORTED, "the client asked for a QoS that is not offered"},
	{MOSQ_ERR_NOMEM, "the broker is out of memory"},
	{MOSQ_ERR_ADMINISTRATIVE_ACTION, "it was disconnected by the operator"},
	/* Mosquitto 2.1 gives MQTT 5's reason codes (section 2.4) to what has one. */
	{139, "the broker is shutting down"},
	{142, "a newer connection took over its client id"},
	{152, "it was disconnected by the operator"},
};

static const char *reason_of(int code)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (reasons[i].code == code)
			return reasons[i].reason;
	return "the connection was closed";
}

void presence_ended(struct plugin *p, const struct session *s, const char *address,
		    const char *reason)
{
	const struct presence e = {
		.event = PRESENCE_DISCONNECTED,
		.device = s->principal_id,
		.client_id = s->client_id,
		.address = address,
		.reason = reason,
	};

	if (s->state == SESSION_LIVE)
		pipeline_presence(p->pipeline, &e);
}

int on_disconnect(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_disconnect *e = event_data;
	struct plugin *p = userdata;
	struct session *s = sessions_by_client(&p->sessions, e->client);

	(void)event;
	will_take(p);
	if (p->connecting == e->client)
		p->connecting = NULL;
	if (!s || s->state == SESSION_GONE)
		return MOSQ_ERR_SUCCESS;
	presence_ended(p, s, mosquitto_client_address(e->client),
		       s->close_reason ? s->close_reason : reason_of(e->reason));
	sessions_gone(&p->sessions, s);
	return MOSQ_ERR_SUCCESS;
}
