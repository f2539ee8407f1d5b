/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may ask? Every request is admitted by the state of its device and credential as the registry
 * has them now. What was found is kept until the registry changes; then all sessions are looked at
 * again, a slice between two batches of datagrams, so that a revoked device that says nothing loses
 * its session as well.
 */
#include "coap-server/worker/internal.h"

#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define SWEEP_SLICE 1000

/* Before a device has proven who it is it needs few requests, and each try costs us a signature. */
#define ANONYMOUS_INTERVAL_US US_PER_S
#define ANONYMOUS_BURST	      20

#define NOT_READY_RETRY_S 5

static bool refuse(struct coap_reply *reply, uint8_t code, int64_t max_age_s, const char *text)
{
	resource_reply(reply, code, text);
	reply->max_age_s = max_age_s;
	return false;
}

/*
 * The session's principal as of now, or NULL: then end_reason says what happened to it. If that is
 * NULL too, nobody can tell: a session can be younger than the copy of the registry on disk, and
 * that is all there is until the database has answered once.
 */
static const struct principal *judge(struct worker *w, struct session *s)
{
	const struct dtls_identity *who = dtls_session_identity(s->dtls);
	struct identity now;

	if (dtls_identity_expired(who)) {
		s->end_reason = refusal_reason(REFUSAL_EXPIRED);
		return NULL;
	}
	if (s->judged == w->generation + 1)
		return s->principal;
	identify_again(&now, w->snapshot, who->id, (enum credential_kind)who->kind,
		       who->fingerprint, who->edition);
	if (now.refusal == REFUSAL_UNKNOWN && !w->confirmed)
		return NULL;
	s->principal = now.refusal == REFUSAL_NONE ? now.principal : NULL;
	s->judged = w->generation + 1;
	if (!s->principal) {
		s->end_reason = refusal_reason(now.refusal);
		log_warn("session_closed", who->id, "session %016llx: %s",
			 (unsigned long long)dtls_session_id(s->dtls), now.why);
	}
	return s->principal;
}

bool access_let_in(struct resources *r, struct dtls_session *s)
{
	return judge(worker_of(r), dtls_user(s)) != NULL;
}

static bool not_ready(struct worker *w, struct coap_reply *reply)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass(&w->not_ready, US_PER_S, &suppressed))
		log_warn("request_delayed", NULL,
			 "a device is told to try again: the registry is not loaded yet, or the "
			 "device is not in the copy of it on disk; is the database reachable?%s",
			 rate_limit_note(note, suppressed));
	return refuse(reply, FG_COAP_CODE(5, 3), NOT_READY_RETRY_S, "not ready yet");
}

static bool within_rate(struct worker *w, struct session *s, struct coap_reply *reply)
{
	int64_t interval = US_PER_S / w->config->coap_requests_per_s, wait;
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (s->device)
		wait = bucket_take(&s->device->bucket, clock_monotonic_us(), interval,
				   w->config->coap_requests_burst);
	else
		wait = bucket_take(&s->anonymous, clock_monotonic_us(), ANONYMOUS_INTERVAL_US,
				   ANONYMOUS_BURST);
	if (wait == 0)
		return true;
	w->refused_rate++;
	if (rate_limit_pass(&w->too_fast, 10 * US_PER_S, &suppressed))
		log_warn("too_many_requests", s->device ? s->device->id : NULL,
			 "%s: it is answered 4.29%s%s",
			 s->device ? "more than coap.requests_per_s and coap.requests_burst allow"
				   : "a session that has not proven who it is asks too often",
			 s->device ? "; is it in a loop?" : "", rate_limit_note(note, suppressed));
	return refuse(reply, FG_COAP_CODE(4, 29), (wait + US_PER_S - 1) / US_PER_S,
		      "too many requests");
}

bool access_admit(void *arg, void *session, unsigned method, const char *path,
		  struct coap_reply *reply)
{
	struct worker *w = worker_of(arg);
	struct session *s = dtls_user(session);

	(void)method;
	if (!registry_ready(w->registry))
		return not_ready(w, reply);
	if (!dtls_identity_proven(dtls_session_identity(session))) {
		if (!resource_public(path))
			return refuse(reply, FG_COAP_CODE(4, 1), -1,
				      "who are you? POST auth/jwt first");
		return within_rate(w, s, reply);
	}
	if (!judge(w, s))
		return s->end_reason ? refuse(reply, FG_COAP_CODE(4, 1), -1, NULL)
				     : not_ready(w, reply);
	if (!s->device && !presence_attach(w, s))
		return refuse(reply, FG_COAP_CODE(5, 3), NOT_READY_RETRY_S, "out of memory");
	if (!within_rate(w, s, reply))
		return false;
	presence_heard(w, s);
	return true;
}

static void look_again(void *arg, struct dtls_session *session)
{
	struct worker *w = arg;
	struct session *s = dtls_user(session);

	if (!dtls_identity_proven(dtls_session_identity(session)) || judge(w, s))
		return;
	if (s->end_reason)
		dtls_end(session, true, s->end_reason);
}

/* A walk that has begun is finished before the next, however often the registry changes: what it
 * visits is judged by the newest. */
bool access_sweep(struct worker *w)
{
	if (!w->sweeping) {
		if (w->swept_generation == w->generation)
			return false;
		w->sweeping = true;
		w->sweep_generation = w->generation;
		w->sweep_cursor = 0;
	}
	dtls_walk(w->dtls, &w->sweep_cursor, SWEEP_SLICE, look_again, w);
	if (w->sweep_cursor != 0)
		return true;
	w->sweeping = false;
	w->swept_generation = w->sweep_generation;
	return w->swept_generation != w->generation;
}
