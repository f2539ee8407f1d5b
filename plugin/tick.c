/* SPDX-License-Identifier: Apache-2.0 */
/* TICK: what is to be done now and then, at least ten times a second. */
#include "plugin/plugin.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "plugin/log_bridge.h"

#define TICK_MS	     100
#define BUSY_TICK_MS 1	  /* something is left for the next one */
#define DRAIN_BUDGET 1000 /* of the bus: some milliseconds */

/*
 * Mosquitto 2.1 asks again for the right to each subscription of a session that outlives a kick,
 * and removes those that are refused. A suspended device that may come back would then find its
 * session, and nothing in it. So ACL_CHECK says yes meanwhile: every delivery is checked on its
 * own.
 */
static void close_session(struct plugin *p, struct session *s, enum refusal refusal,
			  const char *why)
{
	s->close_reason = refusal_reason(refusal);
	log_warn("session_closed", s->principal_id, "client %s: %s", s->client_id, why);
	p->kicking = s->client;
	mosquitto_kick_client_by_clientid(s->client_id, false);
	p->kicking = NULL;
}

static void close_if_refused(struct plugin *p, struct session *s)
{
	struct identity who;

	if (s->state != SESSION_LIVE || s->close_reason)
		return;
	identify_again(&who, p->snapshot, s->principal_id, s->kind, s->fingerprint, s->edition);
	if (who.refusal != REFUSAL_NONE)
		close_session(p, s, who.refusal, who.why);
}

/* The registry changed: judge every live session by it. A kick calls DISCONNECT before it returns,
 * which moves the session to the other list. */
static void judge_all(struct plugin *p)
{
	struct session *s, *next;

	for (s = TAILQ_FIRST(&p->sessions.open); s; s = next) {
		next = TAILQ_NEXT(s, list);
		close_if_refused(p, s);
	}
	p->judged_generation = p->generation;
}

/* Who is still connected when its credential ends. All are looked at, but only when one is due. */
static void close_ended(struct plugin *p)
{
	const int64_t now_us = clock_monotonic_us();
	struct session *s, *next;

	if (now_us < p->next_end_us)
		return;
	p->next_end_us = INT64_MAX;
	for (s = TAILQ_FIRST(&p->sessions.open); s; s = next) {
		next = TAILQ_NEXT(s, list);
		if (s->state != SESSION_LIVE || s->close_reason)
			continue;
		if (s->ends_us <= now_us)
			close_session(
				p, s, REFUSAL_EXPIRED,
				"its credential has expired since it connected; give it a new "
				"one: `pki/fleet expiring` lists who needs one soon");
		else if (s->ends_us < p->next_end_us)
			p->next_end_us = s->ends_us;
	}
}

int on_tick(int event, void *event_data, void *userdata)
{
	struct mosquitto_evt_tick *e = event_data;
	struct plugin *p = userdata;

	(void)event;
	will_take(p);
	log_bridge_drain();
	plugin_renew(p);
	if (p->judged_generation != p->generation)
		judge_all(p);
	close_ended(p);
	sessions_bury(&p->sessions);
	plugin_bus_drain(p, DRAIN_BUDGET);
	downlink_tick(p);
	p->reloading = false;
	p->relaying = NULL;
	/* Mosquitto 2.1 has `next_ms` in this place, and calls again after that many milliseconds;
	 * 2.0 reads it back never, and calls every round. */
	e->next_ns = plugin_bus_waits(p->bus) || downlink_busy(p) ? BUSY_TICK_MS : TICK_MS;
	return MOSQ_ERR_SUCCESS;
}
