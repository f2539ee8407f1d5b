/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACL_CHECK: may this client publish, subscribe, receive? Asked for every delivery, so it allocates
 * nothing. The state of the principal and of its credential count each time, as they are now.
 */
#include "plugin/plugin.h"

#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/policy.h"

#define REFUSAL_INTERVAL_US (10 * US_PER_S)

const struct principal *session_principal(const struct plugin *p, struct session *s)
{
	struct identity who;

	if (s->judged != p->generation) {
		identify_again(&who, p->snapshot, s->principal_id, s->kind, s->fingerprint);
		s->principal = who.refusal == REFUSAL_NONE ? who.principal : NULL;
		s->judged = p->generation;
	}
	return s->principal;
}

const struct principal *plugin_principal_by_name(const struct plugin *p, const char *name)
{
	const struct principal *principal = name ? snapshot_principal(p->snapshot, name) : NULL;

	return principal && principal->state == PRINCIPAL_ACTIVE ? principal : NULL;
}

/* The session of this client, if it is still the one that was let in under this name. */
static struct session *session_of(const struct plugin *p, const struct mosquitto *client,
				  const char *username)
{
	struct session *s = sessions_by_client(&p->sessions, client);

	return s && username && strcmp(s->principal_id, username) == 0 ? s : NULL;
}

static const char *verb(int access)
{
	return access == MOSQ_ACL_SUBSCRIBE ? "subscribe to" : "publish to";
}

static void log_refusal(struct plugin *p, const struct mosquitto_evt_acl_check *e,
			const struct session *s, const struct principal *principal,
			const char *name, const char *consequence)
{
	bool will = e->access == MOSQ_ACL_WRITE && (!s || s->state != SESSION_LIVE);
	const char *event = will			      ? "will_refused"
			    : e->access == MOSQ_ACL_SUBSCRIBE ? "subscribe_refused"
							      : "publish_refused";
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (!rate_limit_pass(refusal_limit(&p->refused, name), REFUSAL_INTERVAL_US, &suppressed))
		return;
	log_warn(event, name, "client %.*s may not %s %.200s: %s %.64s; %s%s", CLIENT_ID_MAX,
		 mosquitto_client_id(e->client), verb(e->access), e->topic,
		 principal ? "no rule allows it in policy" : "it is no longer active, or it is not",
		 principal ? principal->policy->name : "registered any more", consequence,
		 rate_limit_note(note, suppressed));
}

/*
 * MQTT 3.1.1 has no negative PUBACK: the broker would acknowledge what it throws away. So unless
 * the operator wants that, the connection is closed by another code than ACL_DENIED.
 */
static int refuse(struct plugin *p, const struct mosquitto_evt_acl_check *e, struct session *s,
		  const struct principal *principal, const char *name)
{
	bool closes = e->access == MOSQ_ACL_WRITE && s && s->state == SESSION_LIVE &&
		      mosquitto_client_protocol_version(e->client) != 5 &&
		      p->config.mqtt_refused_publish == REFUSED_PUBLISH_DISCONNECT;

	log_refusal(p, e, s, principal, name ? name : "",
		    closes ? "its connection is closed (mqtt.refused_publish)"
			   : "correct the client, or add a rule to policy_rule");
	if (!closes)
		return MOSQ_ERR_ACL_DENIED;
	s->close_reason = "it published what its policy forbids";
	return MOSQ_ERR_AUTH;
}

static int check(struct plugin *p, const struct mosquitto_evt_acl_check *e,
		 enum policy_action action)
{
	const char *name = mosquitto_client_username(e->client);
	struct session *s = session_of(p, e->client, name);
	const struct principal *principal =
		s ? session_principal(p, s) : plugin_principal_by_name(p, name);

	if (principal && policy_allows(principal->policy, action, principal->id, e->topic)) {
		if (action == POLICY_PUBLISH)
			will_hold(p, e);
		return MOSQ_ERR_SUCCESS;
	}
	/* Deliveries are refused in silence, and so is the question about a retained message's
	 * publisher (check_retain_source), which has no address. */
	if (action == POLICY_RECEIVE || !mosquitto_client_address(e->client))
		return MOSQ_ERR_ACL_DENIED;
	return refuse(p, e, s, principal, name);
}

int on_acl_check(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_acl_check *e = event_data;
	struct plugin *p = userdata;

	(void)event;
	will_take(p);
	plugin_renew(p);
	switch (e->access) {
	case MOSQ_ACL_READ:
		return check(p, e, POLICY_RECEIVE);
	case MOSQ_ACL_WRITE:
		return check(p, e, POLICY_PUBLISH);
	case MOSQ_ACL_SUBSCRIBE:
		if (e->client == p->kicking)
			return MOSQ_ERR_SUCCESS;
		return check(p, e, POLICY_SUBSCRIBE);
	case MOSQ_ACL_UNSUBSCRIBE:
		return MOSQ_ERR_SUCCESS;
	default:
		return MOSQ_ERR_ACL_DENIED;
	}
}
