/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST auth/jwt: a device says who it is, in a session that the server has proven itself in. A peer
 * that is not let in learns nothing: whatever was wrong, it gets the same answer. The log says what
 * it was.
 *
 * A session that was identified stays so, whatever is tried in it later.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "coap-server/resource/resource.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define LOG_INTERVAL_US (10 * US_PER_S)
#define NOT_READY_S	5
#define DAY_S		INT64_C(86400)

/* How long the device may sleep before it has to log in again. */
static int64_t session_lasts_s(const struct config *c, const struct dtls_session *s)
{
	int64_t idle =
		dtls_session_has_cid(s) ? c->coap_idle_days * DAY_S : c->coap_idle_without_cid_s;
	int64_t lifetime = c->coap_lifetime_days * DAY_S;

	return idle < lifetime ? idle : lifetime;
}

/*
 * One limit for each device at each address: a stranger who names a device cannot keep that
 * device's own refusals out of the log.
 */
static bool may_log(struct resources *r, const struct dtls_session *s, const char *device,
		    uint64_t *suppressed)
{
	char who[PRINCIPAL_ID_MAX + sizeof(" 0123456789abcdef")];

	snprintf(who, sizeof(who), "%s %" PRIx64, device ? device : "",
		 address_source(dtls_session_address(s)));
	return rate_limit_pass(refusal_limit(&r->refused, who), LOG_INTERVAL_US, suppressed);
}

static enum coap_done refuse(struct resources *r, const struct dtls_session *s,
			     const struct identity *who, struct coap_reply *reply)
{
	const char *device = who->principal ? who->principal->id : NULL;
	char from[ADDRESS_TEXT_MAX], note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (may_log(r, s, device, &suppressed))
		log_warn("login_refused", device, "from %s: %s%s",
			 address_text(dtls_session_address(s), from), who->why,
			 rate_limit_note(note, suppressed));
	return resource_reply(reply, FG_COAP_CODE(4, 1), "not let in");
}

/* Before the first copy of the registry nobody can be judged: that is no refusal. */
static enum coap_done delay(struct resources *r, const struct dtls_session *s,
			    struct coap_reply *reply)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (may_log(r, s, NULL, &suppressed))
		log_warn("login_delayed", NULL,
			 "devices are told to try again: the registry is not loaded yet; is the "
			 "database reachable?%s",
			 rate_limit_note(note, suppressed));
	reply->max_age_s = NOT_READY_S;
	return resource_reply(reply, FG_COAP_CODE(5, 3), "not ready yet: try again");
}

/* 0, or -EALREADY: it is somebody's. */
static int bind_session(struct resources *r, struct dtls_session *s, const struct identity *who)
{
	struct dtls_identity identity;
	int rc;

	dtls_identity_set(&identity, who);
	rc = dtls_identify(s, &identity);
	if (rc == 0)
		r->authenticated(r, s);
	return rc;
}

static void check_session(struct resources *r, struct dtls_session *s, struct identity *who)
{
	const struct dtls_identity *now = dtls_session_identity(s);

	if (bind_session(r, s, who) == 0)
		return;
	if (strcmp(now->id, who->principal->id) != 0)
		identify_refuse(who, who->principal, REFUSAL_NAME,
				"its JWT is good, but came in a session that belongs to %s until "
				"it ends; a device opens a DTLS session of its own",
				now->id);
}

enum coap_done login_post(void *arg, const struct coap_call *call, struct coap_reply *reply,
			  struct coap_exchange *e)
{
	struct resources *r = arg;
	struct identity who;

	(void)e;
	if (call->format != FG_COAP_FORMAT_NONE && call->format != FG_COAP_TEXT)
		return resource_reply(reply, FG_COAP_CODE(4, 15),
				      "Content-Format must be 0 (text/plain), or absent");
	if (snapshot_version(r->snapshot) == 0)
		return delay(r, call->session, reply);
	jwt_authenticate(&who, r->snapshot, &r->jwt_rules, call->payload, call->payload_len,
			 clock_realtime_us() / US_PER_S);
	if (who.refusal == REFUSAL_NONE)
		check_session(r, call->session, &who);
	if (who.refusal != REFUSAL_NONE)
		return refuse(r, call->session, &who, reply);
	reply->max_age_s = session_lasts_s(r->config, call->session);
	return resource_reply(reply, FG_COAP_CODE(2, 1), NULL);
}
