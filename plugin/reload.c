/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGHUP. The broker calls RELOAD and then asks BASIC_AUTH about every session it has, those of
 * clients that are offline included, and those have no certificate to show. They are answered from
 * memory.
 *
 * That must never let a new connection in, so it has to be certain that the question is about a
 * session the broker accepted before:
 *
 * - RELOAD and these questions come from one place of the broker's loop, behind its network events
 *   (2.0.11 and 2.0.22: loop.c, `if(flag_reload)`; 2.1.2: signals.c). The time that counts as a
 * reload ends with the next TICK. 2.0 calls TICK at the end of the same round. 2.1 calls it at the
 * start of the next round, before the network, but no more often than the plugin asked for: so
 * RELOAD registers TICK anew, and a new registration is due at once.
 * - One call of the loop stands between the two that may bring network events: lws_service, in
 * brokers built with libwebsockets. A client that came by it says so, and is answered from memory
 * only if it is in the table of sessions, or has subscriptions, which nobody has who is only just
 * connecting.
 *
 * A session that is offline is never refused here, even when its principal is suspended. It has no
 * connection to close, nothing is delivered to it meanwhile (ACL_CHECK), and it cannot connect. And
 * Mosquitto 2.0.11 enters a refused offline session into its list of expiring sessions a second
 * time, and aborts when it has freed the first: "free(): invalid pointer".
 */
#include "plugin/plugin.h"

#include "core/base/log.h"
#include "plugin/tls.h"

int on_reload(int event, void *event_data, void *userdata)
{
	struct plugin *p = userdata;
	int rc;

	(void)event;
	(void)event_data;
	will_take(p);
	tls_reload();
	mosquitto_callback_unregister(p->id, MOSQ_EVT_TICK, on_tick, NULL);
	rc = mosquitto_callback_register(p->id, MOSQ_EVT_TICK, on_tick, NULL, p);
	p->reloading = rc == MOSQ_ERR_SUCCESS;
	if (rc != MOSQ_ERR_SUCCESS)
		log_error("reload_failed", NULL, "out of memory; restart the broker");
	/* 2.1 exits for any other code. */
	return MOSQ_ERR_SUCCESS;
}

bool reload_knows(const struct plugin *p, const struct mosquitto *client)
{
	const struct session *s;

	if (!p->reloading)
		return false;
	s = sessions_by_client(&p->sessions, client);
	if (s && s->state == SESSION_LIVE)
		return true;
	return mosquitto_client_sub_count(client) > 0 ||
	       mosquitto_client_protocol(client) != mp_websockets;
}

int reload_judge(struct plugin *p, const struct mosquitto *client)
{
	struct session *s = sessions_by_client(&p->sessions, client);
	struct identity who;

	if (!s || s->state != SESSION_LIVE)
		return MOSQ_ERR_SUCCESS;
	identify_again(&who, p->snapshot, s->principal_id, s->kind, s->fingerprint, s->edition);
	if (who.refusal == REFUSAL_NONE)
		return MOSQ_ERR_SUCCESS;
	s->close_reason = refusal_reason(who.refusal);
	log_warn("session_closed", s->principal_id, "client %s: %s", s->client_id, who.why);
	return MOSQ_ERR_AUTH;
}
