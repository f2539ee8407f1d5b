/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/will.h"

#include <string.h>

#include "core/base/log.h"
#include "plugin/plugin.h"

void will_hold(struct plugin *p, const struct mosquitto_evt_acl_check *e)
{
	size_t topic_len = strlen(e->topic);

	/* A will's payload has a 16-bit length: what is longer is a publish. */
	if (e->payloadlen > WILL_PAYLOAD_MAX || topic_len > WILL_TOPIC_MAX)
		return;
	if (message_deletes_retained(e->retain, e->payloadlen))
		return;
	if (!pipeline_takes(p->pipeline, e->topic))
		return;
	/* With check_retain_source the broker asks once more for the publisher's right whenever it
	 * delivers a retained message, in the name of a client without address. */
	if (!mosquitto_client_address(e->client))
		return;
	/* And 2.1 does, between BASIC_AUTH and CONNECT, for what the session has half received. */
	if (e->client == p->connecting)
		return;
	p->will.client = e->client;
	p->will.relayed = p->relaying == e->client;
	p->will.payload_len = e->payloadlen;
	memcpy(p->will.topic, e->topic, topic_len + 1);
	if (e->payloadlen > 0)
		memcpy(p->will.payload, e->payload, e->payloadlen);
}

void will_drop(struct plugin *p, const struct mosquitto *client)
{
	if (p->will.client == client)
		p->will.client = NULL;
	will_take(p);
}

void will_take(struct plugin *p)
{
	const struct message m = {
		.topic = p->will.topic,
		.payload = p->will.payload,
		.payload_len = p->will.payload_len,
		.format = PAYLOAD_AUTO,
		.relayed = p->will.relayed,
		.delivered = p->will.client && plugin_delivers(p, p->will.topic),
	};
	const char *device = NULL;
	size_t device_len;
	char name[PRINCIPAL_ID_MAX + 1] = "";
	int rc;

	if (!p->will.client)
		return;
	p->will.client = NULL;
	rc = pipeline_publish(p->pipeline, &m);
	if (rc == 0)
		return;
	if (pipeline_is_telemetry(m.topic, &device, &device_len) ||
	    pipeline_is_downlink(m.topic, &device, &device_len)) {
		memcpy(name, device, device_len);
		name[device_len] = '\0';
	}
	log_error("will_lost", *name ? name : NULL,
		  "a last will on %.200s could not be stored: %s; nobody can be asked to send it "
		  "again",
		  m.topic, strerror(-rc));
}
