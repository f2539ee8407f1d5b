/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/tls.h"

#include <arpa/inet.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap-client/die.h"

/* Content types and the one kind of handshake message that is looked for (RFC 5246, RFC 9146). */
#define RECORD_HANDSHAKE       22
#define RECORD_CID	       25
#define HELLO_COOKIE_AT	       (TLS_HEADER_LEN + 12 + 2 + 32) /* behind version and random: session id */
#define HANDSHAKE_CLIENT_HELLO 1

static int state_of(const struct tls *t)
{
	return t->ssl.MBEDTLS_PRIVATE(state);
}

static void note_hello(struct tls *t, const unsigned char *d, size_t len)
{
	size_t cookie_at;

	if (len <= HELLO_COOKIE_AT || d[0] != RECORD_HANDSHAKE || d[3] || d[4] ||
	    d[TLS_HEADER_LEN] != HANDSHAKE_CLIENT_HELLO)
		return;
	t->hello_sent = true;
	cookie_at = HELLO_COOKIE_AT + 1 + d[HELLO_COOKIE_AT];
	if (cookie_at < len && d[cookie_at])
		t->cookie_sent = true;
}

static int on_send(void *arg, const unsigned char *datagram, size_t len)
{
	struct tls *t = arg;

	if (t->state == TLS_SHAKING)
		note_hello(t, datagram, len);
	t->events->send(t, datagram, len);
	return (int)len;
}

static int on_receive(void *arg, unsigned char *out, size_t size)
{
	struct tls *t = arg;
	size_t len = t->in_len;

	if (!t->in || len > size)
		return MBEDTLS_ERR_SSL_WANT_READ;
	memcpy(out, t->in, len);
	t->in = NULL;
	return (int)len;
}

static void on_set_timer(void *arg, uint32_t interval_ms, uint32_t final_ms)
{
	struct tls *t = arg;
	int64_t now = clock_monotonic_us();

	t->interval_us = now + interval_ms * US_PER_MS;
	t->final_us = final_ms ? now + final_ms * US_PER_MS : 0;
}

static int on_get_timer(void *arg)
{
	const struct tls *t = arg;
	int64_t now = clock_monotonic_us();

	if (t->final_us == 0)
		return -1;
	return now >= t->final_us ? 2 : now >= t->interval_us ? 1 : 0;
}

void tls_init(struct tls *t, const struct tls_config *c, const struct tls_events *e, void *owner)
{
	*t = (struct tls){.config = c, .events = e, .owner = owner};
	mbedtls_ssl_init(&t->ssl);
	mbedtls_ssl_session_init(&t->saved);
	if (mbedtls_ssl_setup(&t->ssl, &c->conf) != 0 ||
	    mbedtls_ssl_set_hostname(&t->ssl, c->host) != 0)
		die("out of memory");
	mbedtls_ssl_set_bio(&t->ssl, t, on_send, on_receive, NULL);
	mbedtls_ssl_set_timer_cb(&t->ssl, t, on_set_timer, on_get_timer);
	if (c->mtu)
		mbedtls_ssl_set_mtu(&t->ssl, c->mtu);
	mbedtls_ssl_set_datagram_packing(&t->ssl, !c->one_record);
}

void tls_free(struct tls *t)
{
	mbedtls_ssl_free(&t->ssl);
	mbedtls_ssl_session_free(&t->saved);
	seen_clear(&t->seen);
}

static int alert_of(const struct tls *t, int error)
{
	return error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE ? t->ssl.MBEDTLS_PRIVATE(in_msg)[1]
							    : -1;
}

static void opened(struct tls *t)
{
	int enabled = MBEDTLS_SSL_CID_DISABLED;

	t->peer_cid_len = 0;
	if (mbedtls_ssl_get_peer_cid(&t->ssl, &enabled, t->peer_cid, &t->peer_cid_len) != 0)
		enabled = MBEDTLS_SSL_CID_DISABLED;
	t->cid_negotiated = enabled == MBEDTLS_SSL_CID_ENABLED;
	t->state = TLS_OPEN;
	t->opened_us = clock_monotonic_us();
	/* Records under the old keys may have come while this was shaken out. */
	seen_clear(&t->seen);
	if (t->last_number)
		seen_add(&t->seen, t->last_number, t->last_digest);
	if (t->config->conf.MBEDTLS_PRIVATE(session_tickets) ==
	    MBEDTLS_SSL_SESSION_TICKETS_ENABLED) {
		mbedtls_ssl_session_free(&t->saved);
		mbedtls_ssl_session_init(&t->saved);
		t->has_saved = mbedtls_ssl_get_session(&t->ssl, &t->saved) == 0;
	}
	t->events->opened(t);
}

static bool stop_here(const struct tls *t)
{
	int state = state_of(t);

	switch (t->stop_after) {
	case 1:
		return t->hello_sent;
	case 3:
		return t->cookie_sent;
	case 4:
		return state >= MBEDTLS_SSL_CLIENT_CERTIFICATE;
	case 5:
		return state > MBEDTLS_SSL_CLIENT_FINISHED && t->full_handshake;
	default:
		return false;
	}
}

static void shake(struct tls *t)
{
	int r = 0;

	while (r == 0 && !stop_here(t) && !mbedtls_ssl_is_handshake_over(&t->ssl)) {
		if (state_of(t) == MBEDTLS_SSL_SERVER_HELLO_DONE)
			t->full_handshake = true;
		r = mbedtls_ssl_handshake_step(&t->ssl);
	}
	if (stop_here(t)) {
		t->state = TLS_STOPPED;
		t->events->stopped(t);
	} else if (r == 0) {
		opened(t);
	} else if (r != MBEDTLS_ERR_SSL_WANT_READ && r != MBEDTLS_ERR_SSL_WANT_WRITE) {
		t->state = TLS_CLOSED;
		t->final_us = 0;
		t->events->failed(t, r, alert_of(t, r));
	}
}

int tls_begin(struct tls *t, bool resume)
{
	int r = mbedtls_ssl_session_reset(&t->ssl);

	if (r == 0 && resume && t->has_saved)
		r = mbedtls_ssl_set_session(&t->ssl, &t->saved);
	/* A new one each time: records of an old session are then never taken for this one's. */
	random_bytes(t->cid, sizeof(t->cid));
	if (t->config->tagged) {
		uint32_t tag = htonl(t->tag);

		memcpy(t->cid, &tag, sizeof(tag));
	}
	if (r == 0 && t->config->cid)
		r = mbedtls_ssl_set_cid(&t->ssl, MBEDTLS_SSL_CID_ENABLED, t->cid,
					t->config->cid_len);
	if (r != 0)
		return r;
	t->hello_sent = t->cookie_sent = t->full_handshake = t->cid_negotiated = false;
	t->last_number = 0;
	t->final_us = 0;
	t->begun_us = clock_monotonic_us();
	t->state = TLS_SHAKING;
	shake(t);
	return 0;
}

void tls_go_on(struct tls *t)
{
	t->stop_after = 0;
	if (t->state == TLS_STOPPED) {
		t->state = TLS_SHAKING;
		shake(t);
	}
}

static uint64_t number_of(const uint8_t *record)
{
	uint64_t v = 0;

	for (int i = 3; i < 11; i++)
		v = v << 8 | record[i];
	return v;
}

/* A record that claims to be protected with our keys. */
static void watch(struct tls *t, const uint8_t *record, size_t len)
{
	uint64_t number = number_of(record), digest = seen_digest(record, len);

	if (number >> 48 == 0)
		return;
	if (t->state == TLS_SHAKING) {
		t->last_number = number;
		t->last_digest = digest;
	} else if (t->state == TLS_OPEN) {
		switch (seen_add(&t->seen, number, digest)) {
		case SEEN_NEW:
			break;
		case SEEN_SAME:
			t->counts.repeated++;
			break;
		case SEEN_REUSED:
			t->counts.reused++;
			t->events->reused(t, number);
			break;
		}
	}
}

static void read_all(struct tls *t)
{
	unsigned char plaintext[TLS_RECORD_MAX];
	bool any = false;
	int r;

	while ((r = mbedtls_ssl_read(&t->ssl, plaintext, sizeof(plaintext))) > 0) {
		any = true;
		t->counts.authentic++;
		t->events->data(t, plaintext, (size_t)r);
		if (t->state != TLS_OPEN)
			return;
	}
	if (r == MBEDTLS_ERR_SSL_WANT_READ || r == MBEDTLS_ERR_SSL_WANT_WRITE) {
		t->counts.rejected += !any;
		return;
	}
	t->state = TLS_CLOSED;
	t->events->closed(t, r, alert_of(t, r));
}

/* The whole record at the beginning of this, or 0. *ours: it has our Connection ID, or rightly
 * none. */
static size_t record_len(const struct tls *t, const uint8_t *d, size_t len, bool *ours)
{
	size_t cid_len = len && d[0] == RECORD_CID ? t->config->cid_len : 0;
	size_t header = TLS_HEADER_LEN + cid_len;
	size_t whole;

	if (len < header)
		return 0;
	whole = header + ((size_t)d[header - 2] << 8 | d[header - 1]);
	*ours = memcmp(d + 11, t->cid, cid_len) == 0;
	return whole <= len ? whole : 0;
}

void tls_receive(struct tls *t, const uint8_t *datagram, size_t len)
{
	bool ours;

	for (size_t n; (n = record_len(t, datagram, len, &ours)) != 0; datagram += n, len -= n) {
		t->counts.records++;
		if (ours)
			watch(t, datagram, n);
		t->in = datagram;
		t->in_len = n;
		if (t->state == TLS_SHAKING)
			shake(t);
		else if (t->state == TLS_OPEN)
			read_all(t);
		t->in = NULL;
	}
}

int64_t tls_deadline(const struct tls *t)
{
	return t->state == TLS_SHAKING && t->final_us ? t->final_us : INT64_MAX;
}

void tls_tick(struct tls *t, int64_t now_us)
{
	if (now_us >= tls_deadline(t))
		shake(t);
}

int tls_write(struct tls *t, const uint8_t *data, size_t len)
{
	int r = t->state == TLS_OPEN ? mbedtls_ssl_write(&t->ssl, data, len)
				     : MBEDTLS_ERR_SSL_CONN_EOF;

	return r < 0 ? r : 0;
}

void tls_close(struct tls *t, bool notify)
{
	if (t->state == TLS_OPEN && notify)
		mbedtls_ssl_close_notify(&t->ssl);
	t->state = TLS_CLOSED;
	t->final_us = 0;
}
