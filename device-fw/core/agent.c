/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device itself: it begins, it is told things, and it says when it wants to be called again.
 * What it does is in agent_readings.c, agent_command.c and agent_session.c, and for each protocol
 * in agent_coap.c and agent_mqtt.c.
 */
#include "device-fw/core/agent.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "device-fw/core/agent_internal.h"

static const struct fg_agent_protocol *protocol_for(enum fg_transport transport)
{
#if FG_WITH_MQTT
	if (transport == FG_TRANSPORT_MQTT)
		return &fg_agent_mqtt;
#endif
	(void)transport;
	return &fg_agent_coap;
}

/* At its times, not so long after the last one: a late reading does not shift those after it. */
static void measure_when_due(struct fg_agent *a, int64_t now_ms)
{
	int32_t interval_ms = a->interval_s * 1000;

	if (now_ms < a->measure_at_ms)
		return;
	a->measure_at_ms += interval_ms;
	if (a->measure_at_ms <= now_ms)
		a->measure_at_ms = now_ms + interval_ms;
	fg_agent_measure(a);
}

static int32_t load_number(const struct fg_agent *a, const char *name, int32_t otherwise)
{
	int32_t value;

	return a->port->load(a->ctx, name, &value, sizeof(value)) == (int)sizeof(value) ? value
											: otherwise;
}

int fg_agent_init(struct fg_agent *a, const struct fg_port *port, void *ctx,
		  const struct fg_config *config)
{
	const char *what;
	int rc = fg_config_check(config, &what);

	if (rc != 0)
		return rc;
	memset(a, 0, sizeof(*a));
	a->port = port;
	a->ctx = ctx;
	a->config = config;
	a->batch_limit = config->batch_max;
	a->backlog.port = port;
	a->backlog.ctx = ctx;
	a->session.deadline_ms = INT64_MAX;
	a->interval_s = load_number(a, "interval", config->interval_s);
	if (a->interval_s < FG_INTERVAL_MIN_S || a->interval_s > FG_INTERVAL_MAX_S)
		a->interval_s = config->interval_s;
	a->last_command = load_number(a, "command", INT32_MIN);
	a->protocol = protocol_for(config->target.transport);
	a->protocol->init(a);
	rc = fg_backlog_mount(&a->backlog);
	if (rc != 0)
		fg_agent_fault(a, rc, 0);
	return 0;
}

void fg_agent_start(struct fg_agent *a)
{
	a->measure_at_ms = fg_agent_now(a);
	a->report_wanted = true;
	fg_agent_event(a, FG_SESSION_START);
}

void fg_agent_stop(struct fg_agent *a)
{
	fg_agent_event(a, FG_SESSION_STOP);
}

/* What is under way in a connection that is kept waits for it, or there would be no use in keeping
 * it. */
static int64_t poll_protocol(struct fg_agent *a, int64_t now_ms)
{
	enum fg_session_state state = a->session.state;
	bool open = state == FG_SESSION_RUNNING || state == FG_SESSION_AUTHENTICATING;

	return open ? a->protocol->poll(a, now_ms) : INT64_MAX;
}

int64_t fg_agent_poll(struct fg_agent *a)
{
	int64_t now_ms = fg_agent_now(a), due_ms;

	if (a->session.state == FG_SESSION_OFF)
		return INT64_MAX;
	measure_when_due(a, now_ms);
	if (now_ms >= a->session.deadline_ms)
		fg_agent_event(a, FG_SESSION_TIMER);
	poll_protocol(a, now_ms);
	fg_agent_work(a);
	if (a->reboot_wanted && a->session.state == FG_SESSION_RUNNING && !a->protocol->busy(a)) {
		a->reboot_wanted = false;
		fg_agent_event(a, FG_SESSION_STOP);
		a->port->reboot(a->ctx);
		return INT64_MAX;
	}
	/* What that has begun may be due earlier. */
	due_ms = poll_protocol(a, now_ms);
	if (due_ms > a->session.deadline_ms)
		due_ms = a->session.deadline_ms;
	return due_ms < a->measure_at_ms ? due_ms : a->measure_at_ms;
}

void fg_agent_network(struct fg_agent *a, bool attached)
{
	fg_agent_event(a, attached ? FG_SESSION_ATTACHED : FG_SESSION_DETACHED);
}

void fg_agent_connected(struct fg_agent *a, const struct fg_connection *connection)
{
	struct fg_note note = {.kind = FG_NOTE_CONNECTED,
			       .connection = {.resumed = connection->resumed,
					      .connection_id = connection->connection_id}};

	a->linked = true;
	if (!connection->resumed) {
		a->protocol->forget(a);
		a->time_asked = a->observing = false;
		a->c2d_wanted = true;
		a->state_at_ms = fg_agent_now(a);
	}
	fg_agent_note(a, &note);
	fg_agent_event(a, connection->resumed ? FG_SESSION_RESUMED : FG_SESSION_CONNECTED);
}

void fg_agent_disconnected(struct fg_agent *a, int error)
{
	bool opening = a->session.state == FG_SESSION_CONNECTING ||
		       a->session.state == FG_SESSION_RESUMING;

	fg_agent_fault(a, error, 0);
	fg_agent_event(a, error == -EACCES ? FG_SESSION_REFUSED
			  : opening	   ? FG_SESSION_FAILED
					   : FG_SESSION_CLOSED);
}

void fg_agent_receive(struct fg_agent *a, const void *bytes, size_t length)
{
	if (a->linked)
		a->protocol->receive(a, bytes, length, fg_agent_now(a));
}

static int ask(struct fg_agent *a, const struct fg_coap_request *request)
{
	if (a->config->target.transport != FG_TRANSPORT_COAP)
		return -ENOTSUP;
	if (a->asked.method != 0)
		return -EBUSY;
	a->asked = *request;
	fg_agent_event(a, FG_SESSION_WORK);
	return 0;
}

int fg_agent_get(struct fg_agent *a, const char *path)
{
	return ask(a, &(struct fg_coap_request){.method = FG_COAP_GET,
						.path = path,
						.format = FG_COAP_FORMAT_NONE,
						.accept = FG_COAP_FORMAT_NONE});
}

int fg_agent_put(struct fg_agent *a, const char *path, int format, const void *payload,
		 size_t length)
{
	return ask(a, &(struct fg_coap_request){.method = FG_COAP_PUT,
						.path = path,
						.format = format,
						.accept = FG_COAP_FORMAT_NONE,
						.payload = payload,
						.length = length});
}
