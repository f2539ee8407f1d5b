/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device itself: it measures into the backlog, lets the session decide when there is a
 * connection, and has a protocol empty the backlog while there is one. Readings take the same way
 * whether there is a connection or not, so what happens offline is nothing special.
 */
#include "device-fw/core/agent.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "device-fw/core/agent_internal.h"

#define READINGS_MAX 24

static const struct fg_agent_protocol *protocol(const struct fg_agent *a)
{
#if FG_WITH_MQTT
	if (a->config->target.transport == FG_TRANSPORT_MQTT)
		return &fg_agent_mqtt;
#endif
	(void)a;
	return &fg_agent_coap;
}

int64_t fg_agent_now(const struct fg_agent *a)
{
	return a->port->uptime_ms(a->ctx);
}

void fg_agent_note(const struct fg_agent *a, struct fg_note *note)
{
	note->now_ms = fg_agent_now(a);
	if (a->port->note)
		a->port->note(a->ctx, note);
}

static void note_state(const struct fg_agent *a)
{
	struct fg_note note = {.kind = FG_NOTE_STATE, .state = a->session.state};

	fg_agent_note(a, &note);
}

void fg_agent_fault(struct fg_agent *a, int error, uint8_t code)
{
	struct fg_note note = {.kind = FG_NOTE_FAULT, .fault = {.error = error, .code = code}};

	a->faults++;
	fg_agent_note(a, &note);
}

/* ---- the session */

static void leave(struct fg_agent *a, bool keep)
{
	const struct fg_agent_protocol *p = protocol(a);

	if (!keep && a->session.state == FG_SESSION_OFF && a->linked)
		p->farewell(a);
	/* What is under way in a kept connection goes on in it; TCP would have it so, and CoAP
	 * takes it. */
	if (!keep) {
		p->forget(a);
		a->linked = false;
	}
	a->port->close(a->ctx, keep);
}

static void open_link(struct fg_agent *a, bool resume)
{
	int rc = a->port->open(a->ctx, &a->config->target, resume);

	if (rc == 0)
		return;
	fg_agent_fault(a, rc, 0);
	fg_agent_event(a, FG_SESSION_FAILED);
}

static void work(struct fg_agent *a)
{
	if (a->session.state != FG_SESSION_RUNNING || protocol(a)->busy(a))
		return;
	if (protocol(a)->work(a) || a->session.state != FG_SESSION_RUNNING)
		return;
	if (!a->reboot_wanted)
		fg_agent_event(a, FG_SESSION_IDLE);
}

static void act(struct fg_agent *a, unsigned actions)
{
	if (actions & FG_SESSION_DO_CLOSE)
		leave(a, false);
	if (actions & FG_SESSION_DO_KEEP)
		leave(a, true);
	if (actions & FG_SESSION_DO_DETACH)
		a->port->detach(a->ctx);
	if (actions & FG_SESSION_DO_ATTACH && a->port->attach(a->ctx) != 0)
		fg_agent_event(a, FG_SESSION_FAILED);
	if (actions & FG_SESSION_DO_CONNECT)
		open_link(a, false);
	if (actions & FG_SESSION_DO_RESUME)
		open_link(a, true);
	if (actions & FG_SESSION_DO_AUTHENTICATE)
		protocol(a)->authenticate(a);
	if (actions & FG_SESSION_DO_WORK)
		work(a);
}

static void step(struct fg_agent *a, enum fg_session_event event)
{
	struct fg_session_input input = {
		.event = event, .now_ms = fg_agent_now(a), .hold_ms = a->hold_ms};
	enum fg_session_state before = a->session.state;
	unsigned actions;

	a->port->random(a->ctx, &input.random, sizeof(input.random));
	actions = fg_session_step(&a->config->session, &a->session, &input, &a->session);
	if (a->session.state != before)
		note_state(a);
	act(a, actions);
}

/* An action that fails at once is an event of its own: it waits until the step is over. */
void fg_agent_event(struct fg_agent *a, enum fg_session_event event)
{
	a->pending |= 1u << event;
	if (a->stepping)
		return;
	a->stepping = true;
	for (int e = 0; a->pending != 0; e = (e + 1) % FG_SESSION_EVENTS) {
		if ((a->pending & 1u << e) == 0)
			continue;
		a->pending &= ~(1u << e);
		step(a, (enum fg_session_event)e);
	}
	a->stepping = false;
}

void fg_agent_hold(struct fg_agent *a, uint32_t seconds)
{
	a->hold_ms = seconds > UINT32_MAX / 1000 ? UINT32_MAX : seconds * 1000;
	fg_agent_event(a, FG_SESSION_HOLD);
}

/* ---- readings */

int fg_agent_record(struct fg_agent *a, const struct fg_reading *readings, size_t count)
{
	struct fg_note note = {.kind = FG_NOTE_RECORDED};
	uint8_t pairs[FG_BACKLOG_PAYLOAD_MAX];
	int rc = 0;

	if (count == 0)
		return 0;
	/* What does not fit into one record goes into several, of the same time. */
	for (size_t taken; count > 0; readings += taken, count -= taken) {
		taken = count;
		while ((rc = fg_readings_encode(readings, taken, pairs, sizeof(pairs))) < 0 &&
		       taken > 1)
			taken /= 2;
		if (rc >= 0)
			rc = fg_backlog_append(&a->backlog, a->port->wall_ms(a->ctx),
					       fg_agent_now(a), (uint8_t)taken, pairs, (size_t)rc,
					       &note.record.seq);
		note.record.error = rc;
		fg_agent_note(a, &note);
	}
	fg_agent_event(a, FG_SESSION_WORK);
	return rc;
}

void fg_agent_measure(struct fg_agent *a)
{
	struct fg_reading readings[READINGS_MAX];

	fg_agent_record(a, readings, a->port->measure(a->ctx, readings, READINGS_MAX));
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

void fg_agent_set_interval(struct fg_agent *a, int32_t interval_s)
{
	if (interval_s == a->interval_s)
		return;
	a->interval_s = interval_s;
	a->measure_at_ms = fg_agent_now(a) + interval_s * 1000;
	a->port->save(a->ctx, "interval", &interval_s, sizeof(interval_s));
	a->report_wanted = true;
}

bool fg_agent_bulk(const struct fg_agent *a)
{
	return a->backlog.waiting > 1 && a->batch_limit > 1;
}

/* One message, or an array of as many as there is room for. */
int fg_agent_write_batch(void *arg, uint8_t *out, size_t room)
{
	struct fg_agent *a = arg;
	uint8_t pairs[FG_BACKLOG_PAYLOAD_MAX];
	int64_t wall_ms = a->port->wall_ms(a->ctx);
	struct fg_backlog_cursor at;
	struct fg_record record;
	struct fg_cbor_writer w;
	int rc = 0;

	/* Before a record is sent for the first time: its time must be the same at each attempt. */
	if (wall_ms > 0)
		rc = fg_backlog_anchor(&a->backlog, wall_ms - fg_agent_now(a));
	if (rc != 0)
		return rc;
	fg_cbor_begin(&w, out, room);
	a->batch_count = 0;
	if (fg_agent_bulk(a))
		fg_cbor_array(&w, 0); /* the number comes when it is known */
	rc = fg_backlog_first(&a->backlog, &at, &record, pairs, sizeof(pairs));
	if (rc == 0)
		a->batch_first_seq = record.seq;
	while (rc == 0) {
		size_t before = w.length;

		fg_record_write(&w, &record);
		if (w.full) {
			w.length = before;
			break;
		}
		a->batch_last = at;
		if (++a->batch_count == a->batch_limit || !fg_agent_bulk(a))
			break;
		rc = fg_backlog_next(&a->backlog, &at, &record, pairs, sizeof(pairs));
	}
	if (a->batch_count == 0)
		return rc == 0 ? -EMSGSIZE : rc;
	if (fg_agent_bulk(a))
		out[0] = (uint8_t)(out[0] + a->batch_count); /* batch_max is below 24 */
	return (int)w.length;
}

static void batch_done(struct fg_agent *a, struct fg_note *note)
{
	int rc = fg_backlog_acknowledge(&a->backlog, &a->batch_last);

	note->delivery.first = a->batch_first_seq;
	note->delivery.last = a->batch_last.seq;
	note->delivery.count = a->batch_count;
	fg_agent_note(a, note);
	/* It would be sent again and again, as fast as the server answers. */
	if (rc != 0) {
		fg_agent_fault(a, rc, 0);
		fg_agent_hold(a, (uint32_t)a->interval_s);
	}
}

void fg_agent_batch_taken(struct fg_agent *a, uint32_t elapsed_ms, uint8_t transmissions)
{
	struct fg_note note = {
		.kind = FG_NOTE_ACKNOWLEDGED,
		.delivery = {.elapsed_ms = elapsed_ms, .transmissions = transmissions}};

	a->acknowledged += a->batch_count;
	if (a->batch_limit < a->config->batch_max)
		a->batch_limit++;
	batch_done(a, &note);
}

bool fg_agent_batch_refused(struct fg_agent *a, uint8_t code)
{
	struct fg_note note = {.kind = FG_NOTE_REFUSED, .delivery = {.code = code}};

	/* One of them may be the cause: the others are not to suffer. */
	if (a->batch_count > 1) {
		a->batch_limit = a->batch_count / 2;
		return true;
	}
	a->refused++;
	batch_done(a, &note);
	return false;
}

/* ---- commands */

void fg_agent_obey(struct fg_agent *a, const void *payload, size_t length, unsigned allowed)
{
	struct fg_command command;
	struct fg_note note = {.kind = FG_NOTE_COMMAND, .command = &command};

	if (fg_command_decode(&command, payload, length) != 0) {
		note.kind = FG_NOTE_COMMAND_REFUSED;
		fg_agent_note(a, &note);
		return;
	}
	command.present &= allowed;
	if (command.present & FG_COMMAND_ID) {
		if (command.id == a->last_command)
			return;
		a->last_command = command.id;
		a->port->save(a->ctx, "command", &command.id, sizeof(command.id));
	}
	if ((command.present & ~(unsigned)FG_COMMAND_ID) == 0)
		return;
	fg_agent_note(a, &note);
	if (command.present & FG_COMMAND_INTERVAL)
		fg_agent_set_interval(a, command.interval_s);
	if (command.present & FG_COMMAND_READ)
		fg_agent_measure(a);
	/* Not before the cloud knows that we have it, or it would come again. */
	if (command.present & FG_COMMAND_REBOOT)
		a->reboot_wanted = true;
}

/* ---- life */

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
	a->last_command = load_number(a, "command", 0);
	protocol(a)->init(a);
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

int64_t fg_agent_poll(struct fg_agent *a)
{
	int64_t now_ms = fg_agent_now(a), due_ms;

	if (a->session.state == FG_SESSION_OFF)
		return INT64_MAX;
	measure_when_due(a, now_ms);
	if (now_ms >= a->session.deadline_ms)
		fg_agent_event(a, FG_SESSION_TIMER);
	due_ms = a->linked ? protocol(a)->poll(a, now_ms) : INT64_MAX;
	work(a);
	if (a->reboot_wanted && a->session.state == FG_SESSION_RUNNING && !protocol(a)->busy(a)) {
		a->reboot_wanted = false;
		fg_agent_event(a, FG_SESSION_STOP);
		a->port->reboot(a->ctx);
		return INT64_MAX;
	}
	/* What that has begun may be due earlier. */
	if (a->linked)
		due_ms = protocol(a)->poll(a, now_ms);
	if (due_ms > a->session.deadline_ms)
		due_ms = a->session.deadline_ms;
	return due_ms < a->measure_at_ms ? due_ms : a->measure_at_ms;
}

/* ---- what the port tells */

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
		protocol(a)->forget(a);
		a->time_asked = a->observing = false;
		a->c2d_wanted = true;
		a->etag_length = 0;
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
		protocol(a)->receive(a, bytes, length, fg_agent_now(a));
}

/* ---- what a person asks for */

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
