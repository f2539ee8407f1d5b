/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session from its first ClientHello with a valid cookie to the end of its handshake: who the
 * peer is, retransmissions, and what is said of a failure.
 *
 * What can be said against outsiders who send in a client's name (RFC 6347 section 4.1.2.7): alerts
 * in clear are not given to Mbed TLS, so they end nothing. Messages of epoch 0 are authentic only
 * in hindsight: one that is forged well enough, from the client's address, at the right moment,
 * ends the handshake (and no other session).
 */
#include <errno.h>
#include <mbedtls/error.h>
#include <mbedtls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define LOG_INTERVAL_US (10 * US_PER_S)
#define LOG_BURST	10

void dtls_handshake_free(struct handshake *h)
{
	if (!h)
		return;
	free(h->certificate);
	explicit_bzero(h, sizeof(*h));
	free(h);
}

/* --- Mbed TLS's timer: the next retransmission --- */

void dtls_handshake_set_timer(void *p, uint32_t intermediate_ms, uint32_t final_ms)
{
	struct handshake *h = ((struct context *)p)->handshake;

	(void)intermediate_ms;
	if (!h)
		return;
	h->resend_us = final_ms ? clock_monotonic_us() + final_ms * US_PER_MS : INT64_MAX;
}

/* 2: expired. Only said when the time is asked for: Mbed TLS would otherwise send again instead of
 * reading the record that it was called for. */
int dtls_handshake_get_timer(void *p)
{
	struct handshake *h = ((struct context *)p)->handshake;

	if (!h || h->resend_us == INT64_MAX)
		return -1;
	return h->resend_now ? 2 : 0;
}

/* --- Who is it? --- */

/* A key that nobody has: the peer cannot tell an unknown identity from a wrong key (RFC 4279
 * section 2), not by an alert and not by time. */
static int refuse_psk(struct handshake *h, mbedtls_ssl_context *ssl, size_t key_len)
{
	uint8_t key[MBEDTLS_PSK_MAX_LEN];

	h->psk_refused = true;
	random_bytes(key, sizeof(key));
	return mbedtls_ssl_set_hs_psk(ssl, key, key_len < sizeof(key) ? key_len : sizeof(key));
}

int dtls_handshake_psk(void *arg, mbedtls_ssl_context *ssl, const unsigned char *identity,
		       size_t len)
{
	struct context *c = mbedtls_ssl_get_user_data_p(ssl);
	struct dtls_endpoint *e = arg;
	struct handshake *h = c->handshake;
	uint8_t key[DTLS_PSK_MAX];
	size_t key_len = 0;
	uint64_t suppressed;
	char note[RATE_LIMIT_NOTE_MAX];
	int ret;

	memset(&h->who, 0, sizeof(h->who));
	if (e->callbacks.psk(e->callbacks.arg, &c->session->address, identity, len, &h->who, key,
			     &key_len) != 0) {
		h->told = true;
		ret = refuse_psk(h, ssl, 16);
	} else if (key_len > MBEDTLS_PSK_MAX_LEN) {
		if (rate_limit_pass(&e->log.psk, LOG_INTERVAL_US, &suppressed))
			log_error("dtls_psk_too_long", h->who.id,
				  "its pre-shared key has %zu bytes, and this build takes at most "
				  "%d; register a shorter one%s",
				  key_len, MBEDTLS_PSK_MAX_LEN, rate_limit_note(note, suppressed));
		h->failure = "the pre-shared key is too long for this build";
		ret = refuse_psk(h, ssl, MBEDTLS_PSK_MAX_LEN);
	} else {
		ret = mbedtls_ssl_set_hs_psk(ssl, key, key_len);
	}
	explicit_bzero(key, sizeof(key));
	return ret;
}

void dtls_handshake_export(void *p, mbedtls_ssl_key_export_type type, const unsigned char *secret,
			   size_t len, const unsigned char client_random[32],
			   const unsigned char server_random[32], mbedtls_tls_prf_types prf)
{
	struct handshake *h = ((struct context *)p)->handshake;

	(void)client_random;
	(void)server_random;
	(void)prf;
	/* It is also called when a parked session is loaded. */
	if (!h || type != MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET || len != sizeof(h->secret))
		return;
	memcpy(h->secret, secret, len);
	h->has_secret = true;
}

/* --- The end --- */

/* Mbed TLS adds what it found below to the code of where it found it (mbedtls/error.h). */
static bool unreadable_certificate(int ret)
{
	int high = -(-ret & 0xff80);

	return high <= MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE && high >= MBEDTLS_ERR_X509_FATAL_ERROR;
}

/* NULL: nobody can tell. */
static const char *told_reason(const struct handshake *h, int ret)
{
	switch (ret) {
	case MBEDTLS_ERR_SSL_INVALID_MAC:
		return h->who.kind == CREDENTIAL_PSK && h->who.id[0]
			       ? "wrong key: its last message is not authentic, so it has "
				 "another pre-shared key than the registry; replace one of "
				 "them with `pki/fleet psk`"
			       : "its last message is not authentic: forged, or damaged";
	case MBEDTLS_ERR_ECP_VERIFY_FAILED:
		return "its certificate's key has not signed the handshake: it has the certificate "
		       "with another private key, or somebody shows what is not his";
	case MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE:
		return "no cipher suite, curve or signature algorithm in common (coap.suites; "
		       "without coap.certificate_file only those with a pre-shared key)";
	case MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION:
		return "it does not speak DTLS 1.2";
	case MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE:
		return "it uses an elliptic curve other than P-256";
	default:
		return unreadable_certificate(ret) ? "its certificate cannot be read: damaged, or "
						     "with a kind of key that is not known here"
						   : NULL;
	}
}

static void tell(const struct dtls_session *s, const char *why)
{
	const struct dtls_endpoint *e = s->endpoint;
	const struct handshake *h = s->context->handshake;
	const struct dtls_refusal refusal = {
		.device = h->who.id[0] ? h->who.id : NULL,
		.certificate = h->certificate,
		.certificate_len = h->certificate ? h->chain_len[0] : 0,
		.why = why,
	};

	e->callbacks.refused(e->callbacks.arg, &s->address, &refusal);
}

static void fail(struct dtls_session *s, int ret)
{
	struct dtls_endpoint *e = s->endpoint;
	const struct handshake *h = s->context->handshake;
	const char *why = h->failure ? h->failure : told_reason(h, ret);
	char from[ADDRESS_TEXT_MAX], note[RATE_LIMIT_NOTE_MAX], text[96];
	bool told = h->told || (h->alerted && ret == MBEDTLS_ERR_SSL_TIMEOUT);
	uint64_t suppressed;

	e->stats.handshakes_failed++;
	if (!told && why && e->callbacks.refused) {
		tell(s, why);
	} else if (!told &&
		   rate_limit_pass_burst(&e->log.failed, LOG_INTERVAL_US, LOG_BURST, &suppressed)) {
		mbedtls_strerror(ret, text, sizeof(text));
		log_info("dtls_handshake_failed", h->who.id[0] ? h->who.id : NULL, "%s: %s%s",
			 address_text(&s->address, from),
			 why				  ? why
			 : ret == MBEDTLS_ERR_SSL_TIMEOUT ? "no answer"
							  : text,
			 rate_limit_note(note, suppressed));
	}
	dtls_session_end(s, false, "the handshake failed");
}

/* Whoever was found by this address before is not the one who answers there now. A session with
 * CID stays reachable by that. */
static void take_address(struct dtls_session *s)
{
	struct dtls_session *old =
		dtls_session_by_address(s->endpoint, &s->address, SESSION_ESTABLISHED);

	if (old && old->has_cid)
		dtls_session_leave_address(old);
	else if (old)
		dtls_session_end(old, false, "replaced by a new handshake from its address");
}

static void complete(struct dtls_session *s)
{
	struct dtls_endpoint *e = s->endpoint;
	struct context *c = s->context;
	struct handshake *h = c->handshake;
	int cid = MBEDTLS_SSL_CID_DISABLED;

	take_address(s);
	mbedtls_ssl_get_peer_cid(&c->ssl, &cid, NULL, NULL);
	s->has_cid = cid == MBEDTLS_SSL_CID_ENABLED;
	s->identity = h->who;
	s->state = SESSION_ESTABLISHED;
	s->id = e->next_id++;
	s->opened_us = s->last_us = clock_monotonic_us();
	e->stats.handshakes_done++;
	e->stats.resumed += h->resumed;
	e->stats.handshaking--;
	e->stats.sessions++;
	e->stats.live++;
	if (h->has_secret)
		keylog_secret(e->keylog, s, h->random, h->secret);
	dtls_handshake_free(h);
	c->handshake = NULL;
	mbedtls_ssl_set_mtu(&c->ssl, 0);
	dtls_context_move(c, &e->silent);
	dtls_session_set_timer(s);
	if (e->callbacks.opened)
		e->callbacks.opened(e->callbacks.arg, s);
	dtls_contexts_trim(e, c);
}

/* Mbed TLS takes what it was given, as far as that goes. */
static int run(struct context *c)
{
	int ret = 0;

	while (ret == 0 && !mbedtls_ssl_is_handshake_over(&c->ssl)) {
		ret = mbedtls_ssl_handshake_step(&c->ssl);
		if (ret == 0)
			ret = dtls_certificate_check(c);
	}
	/* Mbed TLS leaves the client waiting (RFC 5246 section 7.2.2). */
	if (ret == MBEDTLS_ERR_ECP_VERIFY_FAILED)
		mbedtls_ssl_send_alert_message(&c->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
					       MBEDTLS_SSL_ALERT_MSG_DECRYPT_ERROR);
	if (ret == 0 && c->handshake->psk_refused)
		return MBEDTLS_ERR_SSL_INVALID_MAC; /* one in 2^128 */
	return ret;
}

/* resend: its time has come to send the last flight again. */
static void step(struct dtls_session *s, bool resend)
{
	struct dtls_endpoint *e = s->endpoint;
	struct context *c = s->context;
	struct handshake *h = c->handshake;
	int ret;

	e->shaking = s;
	h->resend_now = resend;
	ret = run(c);
	h->resend_now = false;
	e->shaking = NULL;
	c->in = NULL;
	if (ret == 0)
		complete(s);
	else if (ret != MBEDTLS_ERR_SSL_WANT_READ && ret != MBEDTLS_ERR_SSL_WANT_WRITE)
		fail(s, ret);
	else
		timers_set(&e->timers, s,
			   h->resend_us < h->deadline_us ? h->resend_us : h->deadline_us);
}

void dtls_handshake_record(struct dtls_session *s, const struct record *r)
{
	s->context->in = r->bytes;
	s->context->in_len = r->len;
	step(s, false);
}

void dtls_handshake_timer(struct dtls_session *s, int64_t now_us)
{
	if (now_us >= s->context->handshake->deadline_us) {
		fail(s, MBEDTLS_ERR_SSL_TIMEOUT);
		return;
	}
	step(s, true);
}
