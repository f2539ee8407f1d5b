/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BASIC_AUTH: who is this, and may it hold this connection? A refusal is one line in the log that
 * says who, why and what to do; of somebody who keeps on trying, ten lines in ten seconds. "Cannot
 * decide now" is another answer than "no": the first closes the socket so that the device tries
 * again, the second tells it that its credentials are not good.
 */
#include "plugin/plugin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/x509.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/certificate.h"
#include "core/registry/enrolment.h"
#include "plugin/tls.h"

/* Mosquitto 2.1's MOSQ_ERR_SERVER_UNAVAILABLE: reason 0x88 for MQTT 5. Mosquitto 2.0 closes the
 * socket, as every version does for MQTT 3.1.1 when it gets MOSQ_ERR_UNKNOWN. */
#define ERR_SERVER_UNAVAILABLE 136

#define REFUSAL_INTERVAL_US (10 * US_PER_S)
#define REFUSAL_BURST	    10

struct attempt {
	struct plugin *plugin;
	struct mosquitto *client;
	const char *client_id;
	const char *address;
	const char *device; /* for the log; NULL until known */
	const char *name;   /* in its certificate, whoever that is; NULL without one */
	enum credential_kind kind;
	uint8_t fingerprint[FINGERPRINT_LEN];
	uint32_t edition;
	const struct principal *principal;
	int64_t valid_for_s; /* its credential, as of now */
};

static void log_refusal(const struct attempt *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void log_refusal(const struct attempt *a, const char *fmt, ...)
{
	const char *who = a->device ? a->device : a->name ? a->name : a->address;
	char why[640], note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;
	va_list ap;

	if (!rate_limit_pass_burst(refusal_limit(&a->plugin->refused_connects, who),
				   REFUSAL_INTERVAL_US, REFUSAL_BURST, &suppressed))
		return;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_warn("connect_refused", a->device, "client %.*s from %s: %s%s", CLIENT_ID_MAX,
		 a->client_id, a->address, why, rate_limit_note(note, suppressed));
}

/* The only way to say no: with the one line that says who, why, and what to do. */
#define refuse(...) (log_refusal(__VA_ARGS__), MOSQ_ERR_AUTH)

static int try_later(const struct attempt *a, const char *why)
{
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	if (rate_limit_pass(&a->plugin->not_ready, US_PER_S, &suppressed))
		log_warn("connect_delayed", NULL, "client %.*s from %s is told to try again: %s%s",
			 CLIENT_ID_MAX, a->client_id, a->address, why,
			 rate_limit_note(note, suppressed));
	return mosquitto_client_protocol_version(a->client) == 5 ? ERR_SERVER_UNAVAILABLE
								 : MOSQ_ERR_UNKNOWN;
}

/* Take over what identify found, or refuse. */
static int accept_identity(struct attempt *a, const struct identity *who)
{
	if (who->principal)
		a->device = who->principal->id;
	if (who->refusal == REFUSAL_NOT_NOW)
		return try_later(a, who->why);
	if (who->refusal != REFUSAL_NONE)
		return refuse(a, "%s", who->why);
	a->principal = who->principal;
	a->valid_for_s = who->valid_for_s;
	a->kind = who->credential->kind;
	memcpy(a->fingerprint, who->credential->fingerprint, FINGERPRINT_LEN);
	a->edition = who->credential->edition;
	return MOSQ_ERR_SUCCESS;
}

/* The registry may know a certificate by its key alone, and then knows no dates; and of a session
 * that is resumed TLS does not ask for them. */
static int limit_by_certificate(struct attempt *a, const X509 *x509)
{
	const int64_t now_s = clock_realtime_us() / US_PER_S;
	struct tm end;
	int64_t left_s;

	if (!a->principal || !ASN1_TIME_to_tm(X509_get0_notAfter(x509), &end))
		return MOSQ_ERR_SUCCESS;
	left_s = (int64_t)timegm(&end) - now_s;
	if (left_s < 0)
		return refuse(a,
			      "its certificate has expired; issue a new one with `pki/fleet "
			      "renew %s`",
			      a->principal->id);
	if (left_s < a->valid_for_s)
		a->valid_for_s = left_s;
	return MOSQ_ERR_SUCCESS;
}

static int by_certificate(struct attempt *a, X509 *x509)
{
	struct certificate cert;
	struct identity who;
	unsigned char *der = NULL;
	char err[256];
	int len = i2d_X509(x509, &der), rc;

	if (len < 0)
		return try_later(a, "its certificate could not be copied: out of memory");
	rc = certificate_read(&cert, der, (size_t)len, err, sizeof(err));
	if (rc == 0)
		enrolment_identify(&who, a->plugin->registry, a->plugin->snapshot,
				   &(struct enrolment_peer){&cert, der, (size_t)len, a->address});
	OPENSSL_free(der);
	if (rc != 0)
		return refuse(a, "its certificate is of no use: %s", err);
	a->name = cert.name;
	rc = accept_identity(a, &who);
	a->name = NULL;
	return rc == MOSQ_ERR_SUCCESS ? limit_by_certificate(a, x509) : rc;
}

static int by_token(struct attempt *a, const char *username, const char *token)
{
	const enum token_auth allowed = (enum token_auth)a->plugin->config.mqtt_token_auth;
	struct identity who;
	int rc;

	if (allowed == TOKEN_AUTH_OFF)
		return refuse(a, "no certificate; give the client one (pki/fleet add), or allow "
				 "tokens with mqtt.token_auth");
	if (!username || !token)
		return refuse(a, "neither a certificate nor user name and token");
	identify_token(&who, a->plugin->snapshot, username, token);
	rc = accept_identity(a, &who);
	if (rc != MOSQ_ERR_SUCCESS || !a->principal)
		return rc;
	if (allowed == TOKEN_AUTH_SERVICES && a->principal->kind != PRINCIPAL_SERVICE)
		return refuse(a, "a device may not use a token; give it a certificate (pki/fleet "
				 "add), or set mqtt.token_auth = all");
	return MOSQ_ERR_SUCCESS;
}

static int identify(struct attempt *a, const struct mosquitto_evt_basic_auth *e)
{
	X509 *x509 = mosquitto_client_certificate(a->client);
	struct identity who;
	int rc;

	if (!x509 && tls_psk_identify(&who, a->plugin, a->client))
		return accept_identity(a, &who);
	if (!x509)
		return by_token(a, e->username, e->password);
	rc = by_certificate(a, x509);
	X509_free(x509);
	return rc;
}

/*
 * The principal that a client id belongs to is the one with the longest id that it begins with:
 * `gw:1` is device `gw:1` if there is one, and a second connection of device `gw` if not. Without
 * this, `gw` could take over the session of `gw:1`. Returns the other principal's id, or NULL.
 */
static const char *longer_owner(const struct snapshot *s, const char *client_id, size_t own_len)
{
	char prefix[PRINCIPAL_ID_MAX + 1];
	const struct principal *other;

	for (size_t len = own_len + 1; len <= PRINCIPAL_ID_MAX; len++) {
		const char end = client_id[len];

		if (end == '\0' || end == '/' || end == ':') {
			memcpy(prefix, client_id, len);
			prefix[len] = '\0';
			other = snapshot_principal(s, prefix);
			if (other)
				return other->id;
		}
		if (end == '\0')
			break;
	}
	return NULL;
}

/* A service, which is not on a modem's battery and may have many processes, may always have several
 * connections. */
static int check_client_id(const struct attempt *a)
{
	const char *id = a->principal->id, *rest, *owner;
	size_t len = strlen(id);
	bool service = a->principal->kind == PRINCIPAL_SERVICE;
	bool suffix = service || a->plugin->config.mqtt_client_id_suffix != 0;

	if (strcmp(a->client_id, id) == 0)
		return MOSQ_ERR_SUCCESS;
	rest = a->client_id + len;
	if (!suffix || strncmp(a->client_id, id, len) != 0 || (*rest != '/' && *rest != ':'))
		return refuse(a,
			      "the client id must be %s%s; set it in the MQTT client (an "
			      "empty one is replaced by the broker)",
			      id,
			      suffix ? ", or that followed by / or :"
				     : " (mqtt.client_id_suffix = yes allows more connections)");
	if (strlen(a->client_id) > CLIENT_ID_MAX)
		return refuse(a, "the client id is longer than %d bytes", CLIENT_ID_MAX);
	owner = longer_owner(a->plugin->snapshot, a->client_id, len);
	if (owner)
		return refuse(a, "that client id belongs to %s; choose another suffix", owner);
	return MOSQ_ERR_SUCCESS;
}

static int check_keepalive(const struct attempt *a)
{
	const int64_t cap = a->plugin->config.mqtt_max_keepalive_s;
	int asked = mosquitto_client_keepalive(a->client);

	if (cap == 0 || a->principal->kind != PRINCIPAL_DEVICE || (asked > 0 && asked <= cap))
		return MOSQ_ERR_SUCCESS;
	return refuse(a,
		      "its keepalive is %d s%s, the cap is %lld s; lower it in the device, or "
		      "raise mqtt.max_keepalive_s",
		      asked, asked == 0 ? " (never)" : "", (long long)cap);
}

/* From now on a clock counts that does not jump. The last second of a credential is good to its
 * end: who is sent away must not be let in for the rest of it. */
static void limit_session(struct plugin *p, struct session *s, int64_t valid_for_s)
{
	const int64_t now_us = clock_monotonic_us();

	if (valid_for_s >= (INT64_MAX - now_us) / US_PER_S - 1)
		return;
	s->ends_us = now_us + (valid_for_s + 1) * US_PER_S;
	if (s->ends_us < p->next_end_us)
		p->next_end_us = s->ends_us;
}

/*
 * Enter the new session. If a connection with its client id is there, the broker is about to end
 * it: its presence is closed first, so that the rows come in the order of the events.
 */
static struct session *open_session(const struct attempt *a)
{
	struct plugin *p = a->plugin;
	struct session *old = sessions_live_by_id(&p->sessions, a->client_id), *s;

	if (old && old->client == a->client)
		old = NULL;
	s = sessions_add(&p->sessions, a->client, a->client_id, a->principal->id, a->kind,
			 a->fingerprint);
	if (!s)
		return NULL;
	s->edition = a->edition;
	limit_session(p, s, a->valid_for_s);
	s->judged = p->generation;
	s->principal = a->principal;
	if (old) {
		presence_ended(p, old, mosquitto_client_address(old->client),
			       "a newer connection took over its client id");
		sessions_supersede(&p->sessions, old);
	}
	return s;
}

static int admit(const struct attempt *a)
{
	const struct presence connected = {
		.event = PRESENCE_CONNECTED,
		.device = a->principal->id,
		.client_id = a->client_id,
		.address = a->address,
	};

	struct session *s = NULL;

	if (mosquitto_set_username(a->client, a->principal->id) == MOSQ_ERR_SUCCESS)
		s = open_session(a);
	if (!s)
		return try_later(a, "out of memory");
	downlink_session(a->plugin, s);
	if (a->plugin->has_connect_event)
		a->plugin->connecting = a->client;
	pipeline_presence(a->plugin->pipeline, &connected);
	log_debug("connected", a->device, "client %s from %s", a->client_id, a->address);
	return MOSQ_ERR_SUCCESS;
}

static int judge(struct attempt *a, const struct mosquitto_evt_basic_auth *e)
{
	int rc;

	if (!registry_ready(a->plugin->registry))
		return try_later(a, "the registry is not loaded yet; is the database reachable?");
	rc = identify(a, e);
	if (rc == MOSQ_ERR_SUCCESS && !a->principal)
		rc = MOSQ_ERR_AUTH; /* nobody is let in without one */
	if (rc == MOSQ_ERR_SUCCESS)
		rc = check_client_id(a);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = check_keepalive(a);
	return rc == MOSQ_ERR_SUCCESS ? admit(a) : rc;
}

int on_basic_auth(int event, void *event_data, void *userdata)
{
	const struct mosquitto_evt_basic_auth *e = event_data;
	struct plugin *p = userdata;
	const char *client_id = mosquitto_client_id(e->client);
	const char *address = mosquitto_client_address(e->client);
	struct attempt a = {
		.plugin = p,
		.client = e->client,
		.client_id = client_id ? client_id : "",
		.address = address ? address : "?",
	};

	(void)event;
	will_take(p);
	plugin_renew(p);
	if (reload_knows(p, e->client))
		return reload_judge(p, e->client);
	return judge(&a, e);
}

int on_connect(int event, void *event_data, void *userdata)
{
	struct plugin *p = userdata;

	(void)event;
	(void)event_data;
	will_take(p);
	p->connecting = NULL;
	return MOSQ_ERR_SUCCESS;
}
