/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session's events and what follows from them: the state machine says what is to be done
 * (session.h), and here it is done, with the port and with the protocol that the agent was made
 * for.
 */
#include <errno.h>
#include <limits.h>

#include "device-fw/core/agent_internal.h"

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

static void leave(struct fg_agent *a, bool keep)
{
	if (!keep && a->session.state == FG_SESSION_OFF && a->linked)
		a->protocol->farewell(a);
	/* What is under way in a kept connection goes on in it; TCP would have it so, and CoAP
	 * takes it. */
	if (!keep) {
		a->protocol->forget(a);
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

void fg_agent_work(struct fg_agent *a)
{
	if (a->session.state != FG_SESSION_RUNNING || a->protocol->busy(a))
		return;
	if (a->protocol->work(a) || a->session.state != FG_SESSION_RUNNING)
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
		a->protocol->authenticate(a);
	if (actions & FG_SESSION_DO_WORK)
		fg_agent_work(a);
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
