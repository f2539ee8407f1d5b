/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACL_CHECK: may this client publish, subscribe, receive? Asked for every delivery, so it allocates
 * nothing. The state of the principal and of its credential count each time, as they are now.
 */
#include "plugin/plugin.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/policy.h"

#define REFUSAL_INTERVAL_US	 (10 * US_PER_S)
#define DEVICE_SUBSCRIPTIONS_MAX 100 /* of one connection */

const struct principal *session_principal(const struct plugin *p, struct session *s)
{
	struct identity who;

	if (s->judged != p->generation) {
		identify_again(&who, p->snapshot, s->principal_id, s->kind, s->fingerprint,
			       s->edition);
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

/* The broker keeps every subscription in memory and sets no bound itself. A device has a handful;
 * a service may need one for each device. */
static bool too_many_subscriptions(const struct mosquitto_evt_acl_check *e,
				   const struct principal *principal)
{
	return e->access == MOSQ_ACL_SUBSCRIBE && principal->kind == PRINCIPAL_DEVICE &&
	       mosquitto_client_sub_count(e->client) >= DEVICE_SUBSCRIPTIONS_MAX;
}

static const char *why_refused(char *text, size_t len, const struct mosquitto_evt_acl_check *e,
			       const struct principal *principal)
{
	if (!principal)
		return "it is no longer active, or it is not registered any more";
	if (too_many_subscriptions(e, principal))
		snprintf(text, len, "a device may have %d subscriptions, and it has them",
			 DEVICE_SUBSCRIPTIONS_MAX);
	else
		snprintf(text, len, "no rule allows it in policy %.64s", principal->policy->name);
	return text;
}

static void log_refusal(struct plugin *p, const struct mosquitto_evt_acl_check *e,
			const struct session *s, const struct principal *principal,
			const char *name, const char *consequence)
{
	bool will = e->access == MOSQ_ACL_WRITE && (!s || s->state != SESSION_LIVE);
	const char *event = will			      ? "will_refused"
			    : e->access == MOSQ_ACL_SUBSCRIBE ? "subscribe_refused"
							      : "publish_refused";
	char note[RATE_LIMIT_NOTE_MAX], why[128];
	uint64_t suppressed;

	if (!rate_limit_pass(refusal_limit(&p->refused, name), REFUSAL_INTERVAL_US, &suppressed))
		return;
	log_warn(event, name, "client %.*s may not %s %.200s: %s; %s%s", CLIENT_ID_MAX,
		 mosquitto_client_id(e->client), verb(e->access), e->topic,
		 why_refused(why, sizeof(why), e, principal), consequence,
		 rate_limit_note(note, suppressed));
}

/*
 * MQTT 3.1.1 has no negative PUBACK: the broker would acknowledge what it throws away. So unless
 * the operator wants that, the connection is closed by another code than ACL_DENIED. MQTT 3.1 has
 * no negative SUBACK either, and gets a granted QoS for what was refused.
 */
static const char *closing(const struct plugin *p, const struct mosquitto_evt_acl_check *e,
			   const struct session *s)
{
	int version = mosquitto_client_protocol_version(e->client);

	if (!s || s->state != SESSION_LIVE)
		return NULL;
	if (e->access == MOSQ_ACL_WRITE && version != 5 &&
	    p->config.mqtt_refused_publish == REFUSED_PUBLISH_DISCONNECT)
		return "it published what its policy forbids";
	if (e->access == MOSQ_ACL_SUBSCRIBE && version == 3)
		return "it subscribed to what it may not";
	return NULL;
}

static int refuse(struct plugin *p, const struct mosquitto_evt_acl_check *e, struct session *s,
		  const struct principal *principal, const char *name)
{
	const char *reason = closing(p, e, s), *consequence;

	if (!reason)
		consequence = "correct the client, or add a rule to policy_rule";
	else if (e->access == MOSQ_ACL_WRITE)
		consequence = "its connection is closed (mqtt.refused_publish)";
	else
		consequence = "its connection is closed (MQTT 3.1 cannot be told)";
	log_refusal(p, e, s, principal, name ? name : "", consequence);
	if (!reason)
		return MOSQ_ERR_ACL_DENIED;
	s->close_reason = reason;
	return MOSQ_ERR_AUTH;
}

/* MESSAGE comes next, unless it is a will. */
static void allowed_publish(struct plugin *p, const struct mosquitto_evt_acl_check *e,
			    const struct principal *principal)
{
	bool relays = principal->kind == PRINCIPAL_SERVICE &&
		      policy_allows(principal->policy, POLICY_RELAY, principal->id, e->topic);

	p->relaying = relays ? e->client : NULL;
	will_hold(p, e);
}

static int check(struct plugin *p, const struct mosquitto_evt_acl_check *e,
		 enum policy_action action)
{
	const char *name = mosquitto_client_username(e->client);
	struct session *s = session_of(p, e->client, name);
	const struct principal *principal =
		s ? session_principal(p, s) : plugin_principal_by_name(p, name);

	if (principal && policy_allows(principal->policy, action, principal->id, e->topic) &&
	    !too_many_subscriptions(e, principal)) {
		if (action == POLICY_PUBLISH)
			allowed_publish(p, e, principal);
		else if (s && action == POLICY_RECEIVE)
			downlink_taken(p, s, e->topic);
		else if (s && s->state == SESSION_LIVE)
			downlink_session(p, s);
		return MOSQ_ERR_SUCCESS;
	}
	if (s && action == POLICY_RECEIVE)
		downlink_refused(p, s, e->topic);
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
