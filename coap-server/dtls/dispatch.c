/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which session is a record for? See README.md for the table. Nothing here changes a session; that
 * is for those who know whether a record is authentic.
 */
#include "coap-server/dtls/internal.h"

#include "core/base/clock.h"
#include "core/base/log.h"

enum {
	RECORDS_MAX = 16, /* of one datagram; a handshake flight has four or five */
	ALERT_CLEAR_LEN = 2,
};

#define LOG_INTERVAL_US (10 * US_PER_S)

/* Nobody vouches for an alert in clear: it ends nothing. It may tell a person something. */
static void clear_alert(struct dtls_endpoint *e, const struct record *r, const struct address *from)
{
	char text[ADDRESS_TEXT_MAX], note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	e->stats.dropped++;
	if (r->body_len != ALERT_CLEAR_LEN ||
	    !dtls_session_by_address(e, from, SESSION_HANDSHAKE) ||
	    !rate_limit_pass(&e->log.alert, LOG_INTERVAL_US, &suppressed))
		return;
	log_info("dtls_alert_in_clear", NULL,
		 "%s: during a handshake, alert %u (RFC 5246 section 7.2) in clear, so perhaps not "
		 "of its client; ignored%s",
		 address_text(from, text), r->body[1], rate_limit_note(note, suppressed));
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
