/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent does over MQTT: readings up, one publish after the other, and commands down. */
#include <errno.h>
#include <limits.h>

#include "device-fw/core/agent_internal.h"

#if FG_WITH_MQTT

#define SERVER_UNAVAILABLE 3 /* return code of CONNACK, MQTT 3.1.1 section 3.2.2.3 */
#define ANSWER_TIMEOUT_MS  30000

static void authenticate(struct fg_agent *a)
{
	fg_mqtt_client_open(&a->mqtt, fg_agent_now(a));
}

static bool mqtt_work(struct fg_agent *a)
{
	char topic[FG_DEVICE_ID_MAX + 16];
	int rc;

	a->report_wanted = false; /* there is no state over MQTT */
	if (a->reboot_wanted || a->backlog.waiting == 0)
		return false;
	fg_topic_d2c(topic, sizeof(topic), a->config->device, fg_agent_bulk(a) ? "bulk" : NULL);
	rc = fg_mqtt_client_publish(&a->mqtt, topic, fg_agent_write_batch, a, false,
				    fg_agent_now(a));
	if (rc != 0) {
		fg_agent_fault(a, rc, 0);
		fg_agent_hold(a, (uint32_t)a->interval_s);
	}
	return true;
}

static void take_refusal(struct fg_agent *a, uint8_t code)
{
	fg_agent_fault(a, -EACCES, code);
	fg_agent_event(a, code == SERVER_UNAVAILABLE ? FG_SESSION_FAILED : FG_SESSION_REFUSED);
}

static void handle(void *ctx, enum fg_mqtt_outcome outcome, const struct fg_mqtt_event *event)
{
	struct fg_agent *a = ctx;

	if (!a->linked)
		return;
	switch (outcome) {
	case FG_MQTT_CONNECTED:
		fg_agent_event(a, FG_SESSION_AUTHENTICATED);
		break;
	case FG_MQTT_REFUSED:
		take_refusal(a, event->return_code);
		break;
	case FG_MQTT_ACKNOWLEDGED:
		fg_agent_event(a, FG_SESSION_ANSWERED);
		fg_agent_batch_taken(a, event->elapsed_ms, 1);
		break;
	case FG_MQTT_MESSAGE:
		/* It may come again after each reboot. */
		fg_agent_obey(a, event->payload, event->length,
			      event->duplicate || event->retained ? ~(unsigned)FG_COMMAND_REBOOT
								  : ~0u);
		break;
	case FG_MQTT_TOO_LONG:
		fg_agent_fault(a, -EMSGSIZE, 0);
		break;
	/* Also of a connection that is kept: it is not to be resumed. */
	case FG_MQTT_SILENT:
	case FG_MQTT_MALFORMED:
	case FG_MQTT_NOT_SENT:
		fg_agent_fault(a,
			       outcome == FG_MQTT_SILENT      ? -ETIMEDOUT
			       : outcome == FG_MQTT_MALFORMED ? -EBADMSG
							      : -EIO,
			       0);
		fg_agent_event(a, FG_SESSION_CLOSED);
		break;
	}
}

static int send_bytes(void *ctx, const void *bytes, size_t length, bool expects_answer)
{
	struct fg_agent *a = ctx;

	return a->port->send(a->ctx, bytes, length, expects_answer);
}

static void mqtt_init(struct fg_agent *a)
{
	fg_topic_c2d_filter(a->filter, sizeof(a->filter), a->config->device);
	a->mqtt.client_id = a->config->device;
	a->mqtt.subscription = a->filter;
	a->mqtt.keepalive_s = a->config->keepalive_s;
	a->mqtt.clean_session = a->config->clean_session;
	a->mqtt.answer_timeout_ms = ANSWER_TIMEOUT_MS;
	a->mqtt.send = send_bytes;
	a->mqtt.handle = handle;
	a->mqtt.ctx = a;
	fg_mqtt_client_init(&a->mqtt);
}

static bool mqtt_busy(const struct fg_agent *a)
{
	return fg_mqtt_client_busy(&a->mqtt);
}

static void mqtt_forget(struct fg_agent *a)
{
	fg_mqtt_client_init(&a->mqtt);
}

static void mqtt_farewell(struct fg_agent *a)
{
	fg_mqtt_client_close(&a->mqtt);
}

static void mqtt_receive(struct fg_agent *a, const void *bytes, size_t length, int64_t now_ms)
{
	fg_mqtt_client_receive(&a->mqtt, bytes, length, now_ms);
}

static int64_t mqtt_poll(struct fg_agent *a, int64_t now_ms)
{
	return fg_mqtt_client_poll(&a->mqtt, now_ms);
}

const struct fg_agent_protocol fg_agent_mqtt = {
	.init = mqtt_init,
	.authenticate = authenticate,
	.work = mqtt_work,
	.busy = mqtt_busy,
	.forget = mqtt_forget,
	.farewell = mqtt_farewell,
	.receive = mqtt_receive,
	.poll = mqtt_poll,
};

#endif
