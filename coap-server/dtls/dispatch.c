/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which session is a record for? See README.md for the table. Nothing here changes a session; that
 * is for those who know whether a record is authentic.
 */
#include <stdio.h>

#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

enum {
	RECORDS_MAX = 16, /* of one datagram; a handshake flight has four or five */
	ALERT_CLEAR_LEN = 2,
};

#define LOG_INTERVAL_US (10 * US_PER_S)

/* RFC 5246 section 7.2, RFC 4279 section 6. */
static const char *said_by(uint8_t alert)
{
	switch (alert) {
	case MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA:
		return "its client does not know the CA of coap.certificate_file (alert "
		       "unknown_ca): "
		       "give the device the CA's certificate (`pki/fleet anchors`)";
	case MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED:
		return "its client takes the certificate of coap.certificate_file for expired "
		       "(alert certificate_expired): renew it, or look at the device's clock";
	case MBEDTLS_SSL_ALERT_MSG_BAD_CERT:
	case MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT:
	case MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED:
	case MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN:
		return "its client does not accept the certificate of coap.certificate_file "
		       "(alerts "
		       "42 to 46): is it for the host name that the device uses, and of a CA that "
		       "the device knows?";
	case MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE:
		return "its client finds no cipher suite, curve or signature algorithm in common "
		       "(alert handshake_failure; coap.suites)";
	default:
		return "its client has given up (an alert, RFC 5246 section 7.2)";
	}
}

/* Nobody vouches for an alert in clear: it ends nothing. It may tell a person something. */
static void clear_alert(struct dtls_endpoint *e, const struct record *r, const struct address *from)
{
	struct dtls_session *s = dtls_session_by_address(e, from, SESSION_HANDSHAKE);
	char why[320], text[ADDRESS_TEXT_MAX], note[RATE_LIMIT_NOTE_MAX];
	const struct dtls_refusal refusal = {.why = why};
	uint64_t suppressed;

	e->stats.dropped++;
	if (r->body_len != ALERT_CLEAR_LEN || !s)
		return;
	snprintf(why, sizeof(why),
		 "%s; alert %u came in clear, so perhaps from somebody else, and is ignored",
		 said_by(r->body[1]), r->body[1]);
	if (e->callbacks.refused)
		e->callbacks.refused(e->callbacks.arg, from, &refusal);
	else if (rate_limit_pass(&e->log.alert, LOG_INTERVAL_US, &suppressed))
		log_info("dtls_alert_in_clear", NULL, "%s: %s%s", address_text(from, text), why,
			 rate_limit_note(note, suppressed));
	s->context->handshake->alerted = true;
}

static void record_with_cid(struct dtls_endpoint *e, const struct record *r,
			    const struct address *from)
{
	struct dtls_session *s = dtls_session_by_cid(e, r->cid);

	if (!s) {
		e->stats.unknown_cid++;
		return;
	}
	if (s->state == SESSION_ESTABLISHED && s->has_cid)
		dtls_session_record(s, r, from);
	else if (s->state == SESSION_HANDSHAKE && r->epoch != 0 && address_equal(&s->address, from))
		dtls_handshake_record(s, r);
	else
		e->stats.dropped++;
}

/* In clear: the messages of a handshake, and what only looks like one. */
static void record_in_clear(struct dtls_endpoint *e, const struct record *r,
			    const struct address *from)
{
	struct dtls_session *s;

	if (record_is_hello(r)) {
		dtls_hello_record(e, r, from);
		return;
	}
	if (r->type == RECORD_ALERT) {
		clear_alert(e, r, from);
		return;
	}
	s = dtls_session_by_address(e, from, SESSION_HANDSHAKE);
	if (s && (r->type == RECORD_HANDSHAKE || r->type == RECORD_CHANGE_CIPHER_SPEC))
		dtls_handshake_record(s, r);
	else
		e->stats.dropped++;
}

/* A Finished may be the new handshake's, or the old session's once more, because our answer to it
 * was lost. The old session tells by answering. */
static bool is_repeated_finished(struct dtls_session *s, const struct record *r,
				 const struct address *from)
{
	unsigned sent;

	if (!s || s->active || !s->context)
		return false;
	sent = s->context->sent;
	dtls_session_record(s, r, from);
	return s->state == SESSION_ENDED || (s->context && s->context->sent != sent);
}

static void record_by_address(struct dtls_endpoint *e, const struct record *r,
			      const struct address *from)
{
	struct dtls_session *established = dtls_session_by_address(e, from, SESSION_ESTABLISHED);
	struct dtls_session *running = dtls_session_by_address(e, from, SESSION_HANDSHAKE);

	if (established && established->has_cid)
		established = NULL;
	if (r->type == RECORD_HANDSHAKE && running) {
		if (!is_repeated_finished(established, r, from))
			dtls_handshake_record(running, r);
		return;
	}
	if (established && r->type != RECORD_CHANGE_CIPHER_SPEC)
		dtls_session_record(established, r, from);
	else
		e->stats.dropped++;
}

static void one_record(struct dtls_endpoint *e, const struct record *r, const struct address *from)
{
	e->stats.records++;
	if (r->cid)
		record_with_cid(e, r, from);
	else if (r->epoch == 0)
		record_in_clear(e, r, from);
	else
		record_by_address(e, r, from);
}

void dtls_dispatch(struct dtls_endpoint *e, const struct address *from, const uint8_t *data,
		   size_t len)
{
	struct record r;

	e->stats.datagrams++;
	for (unsigned i = 0; i < RECORDS_MAX && len > 0; i++) {
		if (dtls_record_parse(&r, data, len) != 0) {
			e->stats.dropped++;
			return;
		}
		one_record(e, &r, from);
		data += r.len;
		len -= r.len;
	}
}
