/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/link_tls.h"

#include <mbedtls/platform_util.h>
#include <stdlib.h>
#include <string.h>

#define US_PER_MS 1000
/* IPv6's smallest MTU without the headers of IPv6 and UDP; a CoAP message of 1152 bytes (RFC 7252,
 * section 4.6) fits in. */
#define DATAGRAM_LONGEST (1280 - 40 - 8)
#define TICKET_LONGEST	 2048

struct link_tls {
	mbedtls_ssl_context ssl;
	struct link_profile *profile;
	const struct loop *loop;
	int64_t interval_us, final_us; /* final 0: no timer runs */
	bool saw_certificate_flight;
};

struct link_tls_ticket {
	mbedtls_ssl_session session;
};

static void on_set_timer(void *arg, uint32_t interval_ms, uint32_t final_ms)
{
	struct link_tls *t = arg;
	int64_t now = loop_now_us(t->loop);

	t->interval_us = now + (int64_t)interval_ms * US_PER_MS;
	t->final_us = final_ms ? now + (int64_t)final_ms * US_PER_MS : 0;
}

static int on_get_timer(void *arg)
{
	const struct link_tls *t = arg;
	int64_t now = loop_now_us(t->loop);

	if (t->final_us == 0)
		return -1;
	return now >= t->final_us ? 2 : now >= t->interval_us ? 1 : 0;
}

int64_t link_tls_due(const struct link_tls *t)
{
	return t->final_us ? t->final_us : INT64_MAX;
}

static int set_up(struct link_tls *t, const char *host)
{
	static const unsigned char no_bytes[1];
	int r = mbedtls_ssl_setup(&t->ssl, &t->profile->config);

	if (r == 0)
		r = mbedtls_ssl_set_hostname(&t->ssl, host);
	if (r == 0 && t->profile->datagrams && t->profile->connection_id)
		r = mbedtls_ssl_set_cid(&t->ssl, MBEDTLS_SSL_CID_ENABLED, no_bytes, 0);
	if (t->profile->datagrams)
		mbedtls_ssl_set_mtu(&t->ssl, DATAGRAM_LONGEST);
	return r;
}

struct link_tls *link_tls_new(struct link_profile *p, const struct loop *loop, const char *host,
			      const struct link_tls_carrier *carrier, void *arg, int *error)
{
	struct link_tls *t = calloc(1, sizeof(*t));

	if (!t) {
		link_profile_put(p);
		*error = MBEDTLS_ERR_SSL_ALLOC_FAILED;
		return NULL;
	}
	t->profile = p;
	t->loop = loop;
	mbedtls_ssl_init(&t->ssl);
	*error = set_up(t, host);
	if (*error != 0) {
		link_tls_free(t);
		return NULL;
	}
	mbedtls_ssl_set_bio(&t->ssl, arg, carrier->send, carrier->receive, NULL);
	mbedtls_ssl_set_timer_cb(&t->ssl, t, on_set_timer, on_get_timer);
	return t;
}

void link_tls_free(struct link_tls *t)
{
	if (!t)
		return;
	mbedtls_ssl_free(&t->ssl);
	link_profile_put(t->profile);
	free(t);
}

/* ---- the handshake */

void link_tls_offer(struct link_tls *t, const struct link_tls_ticket *ticket)
{
	if (ticket)
		(void)!mbedtls_ssl_set_session(&t->ssl, &ticket->session);
}

int link_tls_handshake(struct link_tls *t)
{
	int r = 0;

	while (r == 0 && !mbedtls_ssl_is_handshake_over(&t->ssl)) {
		if (t->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_SERVER_HELLO_DONE)
			t->saw_certificate_flight = true;
		r = mbedtls_ssl_handshake_step(&t->ssl);
	}
	return r;
}

bool link_tls_was_abbreviated(const struct link_tls *t)
{
	return !t->saw_certificate_flight;
}

bool link_tls_has_connection_id(const struct link_tls *t)
{
	unsigned char cid[MBEDTLS_SSL_CID_OUT_LEN_MAX];
	size_t length = 0;
	int enabled = MBEDTLS_SSL_CID_DISABLED;

	if (!t->profile->datagrams ||
	    mbedtls_ssl_get_peer_cid((mbedtls_ssl_context *)&t->ssl, &enabled, cid, &length) != 0)
		return false;
	/* A server that took the extension, but wants no ID, tells devices apart by address. */
	return enabled == MBEDTLS_SSL_CID_ENABLED && length > 0;
}

struct link_tls_ticket *link_tls_ticket(struct link_tls *t)
{
	struct link_tls_ticket *ticket = calloc(1, sizeof(*ticket));

	if (!ticket)
		return NULL;
	mbedtls_ssl_session_init(&ticket->session);
	if (mbedtls_ssl_get_session(&t->ssl, &ticket->session) == 0 &&
	    (ticket->session.MBEDTLS_PRIVATE(id_len) > 0 ||
	     ticket->session.MBEDTLS_PRIVATE(ticket_len) > 0) &&
	    ticket->session.MBEDTLS_PRIVATE(ticket_len) <= TICKET_LONGEST)
		return ticket;
	link_tls_ticket_free(ticket);
	return NULL;
}

void link_tls_ticket_free(struct link_tls_ticket *ticket)
{
	if (!ticket)
		return;
	mbedtls_ssl_session_free(&ticket->session);
	free(ticket);
}

/* ---- afterwards */

size_t link_tls_longest(const struct link_tls *t)
{
	int n = mbedtls_ssl_get_max_out_record_payload(&t->ssl);

	return n > 0 ? (size_t)n : 0;
}

int link_tls_write(struct link_tls *t, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;

	while (length > 0) {
		int n = mbedtls_ssl_write(&t->ssl, at, length);

		if (n <= 0)
			return n;
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

int link_tls_read(struct link_tls *t, void *out, size_t size)
{
	return mbedtls_ssl_read(&t->ssl, out, size);
}

void link_tls_farewell(struct link_tls *t)
{
	(void)mbedtls_ssl_close_notify(&t->ssl);
}

void *link_tls_save(struct link_tls *t, size_t *length)
{
	unsigned char scratch[TICKET_LONGEST + 512];
	void *saved = NULL;

	if (mbedtls_ssl_context_save(&t->ssl, scratch, sizeof(scratch), length) == 0)
		saved = malloc(*length);
	if (saved)
		memcpy(saved, scratch, *length);
	mbedtls_platform_zeroize(scratch, sizeof(scratch));
	return saved;
}

int link_tls_load(struct link_tls *t, const void *saved, size_t length)
{
	return mbedtls_ssl_context_load(&t->ssl, saved, length);
}

const mbedtls_ssl_context *link_tls_context(const struct link_tls *t)
{
	return &t->ssl;
}
