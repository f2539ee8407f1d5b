/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers share. */
#include "coap-server/resource/resource.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define LOG_INTERVAL_US (10 * US_PER_S)
#define TOPIC_MAX	(sizeof("m/d//") + PRINCIPAL_ID_MAX + FG_COAP_PATH_MAX)

bool resource_public(const char *path)
{
	return strcmp(path, "auth/jwt") == 0 || strcmp(path, ".well-known/core") == 0 ||
	       strcmp(path, "time") == 0;
}

enum coap_done resource_reply(struct coap_reply *reply, uint8_t code, const char *diagnostic)
{
	reply->code = code;
	reply->format = FG_COAP_FORMAT_NONE;
	reply->payload = NULL;
	reply->payload_len = 0;
	reply->diagnostic = diagnostic;
	return COAP_DONE;
}

static void log_refusal(struct resources *r, const char *id, const struct principal *p,
			enum policy_action action, const char *topic)
{
	const bool publish = action == POLICY_PUBLISH;
	char note[RATE_LIMIT_NOTE_MAX], why[128];
	uint64_t suppressed;

	if (!rate_limit_pass(refusal_limit(&r->refused, id), LOG_INTERVAL_US, &suppressed))
		return;
	if (p)
		snprintf(why, sizeof(why), "no rule allows it in policy %.64s", p->policy->name);
	else
		snprintf(why, sizeof(why), "it is not registered any more");
	log_warn(publish ? "publish_refused" : "receive_refused", id,
		 "it may not %s %.200s: %s; correct the device, or add a rule to policy_rule%s",
		 publish ? "publish" : "receive", topic, why, rate_limit_note(note, suppressed));
}

bool resource_allowed(struct resources *r, struct dtls_session *s, enum policy_action action,
		      const char *rest, struct coap_reply *reply)
{
	const char *id = dtls_session_identity(s)->id;
	const struct principal *p = snapshot_principal(r->snapshot, id);
	char topic[TOPIC_MAX];
	int len = snprintf(topic, sizeof(topic), "m/d/%s/%s", id, rest);

	if (p && len > 0 && (size_t)len < sizeof(topic) &&
	    policy_allows(p->policy, action, id, topic))
		return true;
	log_refusal(r, id, p, action, topic);
	resource_reply(reply, FG_COAP_CODE(4, 3), "this device's policy does not allow it");
	return false;
}
