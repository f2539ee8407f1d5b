/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ClientHello. Without a valid cookie it is answered from what it says itself, and forgotten
 * (RFC 6347 section 4.2.1). With one, the peer has shown that it receives at this address: only
 * then anything is allocated.
 *
 * There is always room for another handshake: when max_handshakes are running, the one that began
 * first is given up. It is the least likely to be alive, while turning new ones away would let
 * whoever fills the table lock everybody out for as long as a handshake may take.
 */
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define LOG_INTERVAL_US (10 * US_PER_S)

/* The cookie is of the address alone, and good for MBEDTLS_SSL_COOKIE_TIMEOUT seconds. */
static bool cookie_valid(struct dtls_endpoint *e, const struct hello *h, const struct address *from)
{
	return h->cookie_len > 0 &&
	       mbedtls_ssl_cookie_check(&e->cookie, h->cookie, h->cookie_len,
					(const unsigned char *)from, sizeof(*from)) == 0;
}

static void ask_for_cookie(struct dtls_endpoint *e, const struct record *r,
			   const struct address *from)
{
	uint8_t cookie[HELLO_COOKIE_MAX], answer[HELLO_VERIFY_MAX];
	unsigned char *end = cookie;

	if (mbedtls_ssl_cookie_write(&e->cookie, &end, cookie + sizeof(cookie),
				     (const unsigned char *)from, sizeof(*from)) != 0)
		return;
	e->stats.cookies_sent++;
	e->callbacks.send(e->callbacks.arg, from, answer,
			  hello_verify_request(answer, r, cookie, (size_t)(end - cookie)));
}

/* May this source begin another one now? */
static bool admit(struct dtls_endpoint *e, const struct address *from)
{
	uint64_t source = address_source(from), suppressed;
	int64_t now_us = clock_monotonic_us();
	char text[ADDRESS_TEXT_MAX], note[RATE_LIMIT_NOTE_MAX];

	if (e->stats.sessions + e->stats.handshaking >= e->options.max_sessions) {
		e->stats.limited++;
		if (rate_limit_pass(&e->log.full, LOG_INTERVAL_US, &suppressed))
			log_warn("dtls_sessions_full", NULL,
				 "there are %zu sessions: new handshakes are not begun; raise "
				 "coap.max_sessions or lower coap.idle_days%s",
				 e->stats.sessions, rate_limit_note(note, suppressed));
		return false;
	}
	if (e->options.handshakes_per_source > 0 &&
	    limits_seen(&e->limits, source, now_us) >= e->options.handshakes_per_source) {
		e->stats.limited++;
		if (rate_limit_pass(&e->log.limited, LOG_INTERVAL_US, &suppressed))
			log_warn("dtls_source_limited", NULL,
				 "%s: more than %u handshakes in this minute; the rest is ignored "
				 "(coap.handshakes_per_source)%s",
				 address_text(from, text), e->options.handshakes_per_source,
				 rate_limit_note(note, suppressed));
		return false;
	}
	limits_count(&e->limits, source, now_us);
	return true;
}

static void give_up_oldest(struct dtls_endpoint *e)
{
	struct context *c = (struct context *)(void *)e->handshakes.next;

	e->stats.handshakes_failed++;
	dtls_session_end(c->session, false, "given up for a newer handshake");
}

/* A session that begins to shake hands, or NULL without memory. */
static struct dtls_session *begin(struct dtls_endpoint *e, const struct hello *hello,
				  const struct address *from)
{
	struct context *c = dtls_context_get(e);
	struct handshake *h = calloc(1, sizeof(*h));
	struct dtls_session *s = dtls_session_new(e, from);
	int cid =
		c && c->config->connection_id ? MBEDTLS_SSL_CID_ENABLED : MBEDTLS_SSL_CID_DISABLED;

	if (!c || !h || !s || mbedtls_ssl_set_cid(&c->ssl, cid, s->cid, sizeof(s->cid)) != 0) {
		dtls_context_put(c);
		free(h);
		if (s)
			dtls_session_end(s, false, "no memory");
		return NULL;
	}
	memcpy(h->random, hello->random, sizeof(h->random));
	h->extended_master_secret = hello->extended_master_secret;
	h->deadline_us = clock_monotonic_us() + e->options.handshake_timeout_us;
	h->resend_us = INT64_MAX;
	c->handshake = h;
	c->session = s;
	s->context = c;
	dtls_context_move(c, &e->handshakes);
	e->stats.handshakes_begun++;
	return s;
}

/* A new attempt. One that runs from this address is given up by its client: it is the same one, or
 * was there before. */
static void promote(struct dtls_endpoint *e, const struct hello *hello, const struct record *r,
		    const struct address *from)
{
	struct dtls_session *old = dtls_session_by_address(e, from, SESSION_HANDSHAKE), *s;

	if (!admit(e, from))
		return;
	if (old)
		dtls_session_end(old, false, "its client began again");
	while (e->stats.handshaking >= e->options.max_handshakes &&
	       !dtls_list_empty(&e->handshakes))
		give_up_oldest(e);
	s = begin(e, hello, from);
	if (s)
		dtls_handshake_record(s, r);
}

void dtls_hello_record(struct dtls_endpoint *e, const struct record *r, const struct address *from)
{
	struct dtls_session *running = dtls_session_by_address(e, from, SESSION_HANDSHAKE);
	struct hello h;

	e->stats.hellos++;
	if (hello_parse(&h, r) != 0) {
		e->stats.dropped++;
		return;
	}
	if (!h.first) {
		/* The rest of a long one: its beginning has brought the cookie. */
		if (running)
			dtls_handshake_record(running, r);
		return;
	}
	if (!cookie_valid(e, &h, from)) {
		ask_for_cookie(e, r, from);
		return;
	}
	if (running && memcmp(running->context->handshake->random, h.random, HELLO_RANDOM_LEN) == 0)
		dtls_handshake_record(running, r);
	else
		promote(e, &h, r, from);
}
