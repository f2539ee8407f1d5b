/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presence: a device is connected to this worker from the first request of its first session until
 * its last session ends. The table of presence has one row for each device and worker, however many
 * sessions come and go, so the client id is the same for all of them.
 *
 * Sessions that survive the process (slots) are still connected when the next one has them again:
 * nothing is said then. Otherwise the first thing that is said is that all have ended.
 */
#include "coap-server/worker/internal.h"

#include <stdio.h>
#include <string.h>

#include "core/base/log.h"

#define CLIENT_ID "dtls"

/* Without the port, as the other protocol writes it. */
static const char *address_only(char text[ADDRESS_TEXT_MAX], const struct address *a)
{
	char *end;

	address_text(a, text);
	end = strrchr(text, ':');
	if (end)
		*end = '\0';
	if (text[0] != '[')
		return text;
	end = strchr(text, ']');
	if (end)
		*end = '\0';
	return text + 1;
}

static void say(struct worker *w, const struct session *s, enum presence_event event,
		const char *reason)
{
	char address[ADDRESS_TEXT_MAX];
	const struct presence e = {
		.event = event,
		.device = s->device->id,
		.client_id = CLIENT_ID,
		.address = address_only(address, dtls_session_address(s->dtls)),
		.reason = reason,
	};

	pipeline_presence(w->pipeline, &e);
	s->device->connected = event == PRESENCE_CONNECTED;
}

static bool take_place(struct worker *w, struct session *s)
{
	struct device *d = devices_get(&w->devices, dtls_session_identity(s->dtls)->id);

	if (!d)
		return false;
	device_add(d, s);
	return true;
}

bool presence_attach(struct worker *w, struct session *s)
{
	if (!take_place(w, s))
		return false;
	if (s->device->count > DEVICE_SESSIONS_MAX)
		dtls_end(TAILQ_FIRST(&s->device->sessions)->dtls, true,
			 "the device has newer sessions");
	return true;
}

void presence_heard(struct worker *w, struct session *s)
{
	device_touch(s);
	if (!s->device->connected)
		say(w, s, PRESENCE_CONNECTED, NULL);
}

void presence_detach(struct worker *w, struct session *s, const char *reason)
{
	if (!s->device)
		return;
	if (s->device->count == 1 && s->device->connected)
		say(w, s, PRESENCE_DISCONNECTED, reason);
	devices_remove(&w->devices, s);
}

static void restore(void *arg, struct dtls_session *session)
{
	struct worker *w = arg;
	struct session *s = dtls_user(session);

	s->dtls = session;
	if (!dtls_identity_proven(dtls_session_identity(session)) || s->device)
		return;
	if (!take_place(w, s))
		return;
	if (w->restored_anew)
		presence_heard(w, s);
	else
		s->device->connected = true;
}

/*
 * What was connected and is not here any more was moved to another worker, or its slot is damaged,
 * or it was of those that have no slot: then everything is said anew.
 */
void presence_restore(struct worker *w)
{
	const struct presence started = {.event = PRESENCE_STARTED, .device = "", .client_id = ""};
	struct dtls_stats stats;
	uint64_t cursor = 0;

	dtls_stats(w->dtls, &stats);
	if (stats.restored == 0 || stats.slots_damaged > 0 || stats.slots_lacked ||
	    w->config->coap_legacy_cbc)
		w->restored_anew = true;
	if (w->restored_anew)
		pipeline_presence(w->pipeline, &started);
	if (stats.restored > 0)
		do {
			dtls_walk(w->dtls, &cursor, SIZE_MAX, restore, w);
		} while (cursor != 0);
}

static void say_stopped(void *arg, struct device *d)
{
	if (d->connected)
		say(arg, TAILQ_FIRST(&d->sessions), PRESENCE_DISCONNECTED,
		    "the server was stopped");
}

void presence_stop(struct worker *w)
{
	if (!w->config->coap_sessions_dir)
		devices_each(&w->devices, say_stopped, w);
}
