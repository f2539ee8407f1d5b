/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DTLS client of tests, without a socket: Mbed TLS's own client in this process. What it sends
 * goes to `send` at once, what is for it is queued by dtls_peer_deliver. Its retransmissions go by
 * clock_monotonic_us, so a test that overrides that clock drives them.
 */
#ifndef FG_TESTS_DTLS_PEER_H
#define FG_TESTS_DTLS_PEER_H

#include <mbedtls/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DTLS_PEER_DATAGRAM_MAX 4400

struct dtls_peer;

struct dtls_peer_options {
	const int *suites;	  /* Mbed TLS's numbers, 0 behind them; must outlive the peer */
	const char *psk_identity; /* NULL: no pre-shared key */
	const void *psk;
	size_t psk_len;
	const char *ca_file;	      /* NULL: the server's certificate is not verified */
	const char *certificate_file; /* with key_file: the client's own */
	const char *key_file;
	bool connection_id; /* offer it (with an empty one for itself) */
	bool tickets;
	bool no_extended_master_secret;
	uint16_t mtu; /* of handshake flights; 0: any */
	void (*send)(void *arg, const uint8_t *data, size_t len);
	void *arg;
};

/* Never NULL: what goes wrong fails the test. */
struct dtls_peer *dtls_peer_new(const struct dtls_peer_options *o);
void dtls_peer_free(struct dtls_peer *p); /* nothing is sent; NULL is allowed */

void dtls_peer_deliver(struct dtls_peer *p, const uint8_t *data, size_t len);

/* As far as what was delivered goes. 0: complete; MBEDTLS_ERR_SSL_WANT_READ; another error. */
int dtls_peer_handshake(struct dtls_peer *p);

int dtls_peer_write(struct dtls_peer *p, const void *data, size_t len);

/* The next message: its length, MBEDTLS_ERR_SSL_WANT_READ if there is none, another error. */
int dtls_peer_read(struct dtls_peer *p, void *out, size_t size);

int dtls_peer_close_notify(struct dtls_peer *p);

/* The session with its ticket, for another peer; before its handshake. */
int dtls_peer_get_session(struct dtls_peer *p, mbedtls_ssl_session *out);
int dtls_peer_set_session(struct dtls_peer *p, const mbedtls_ssl_session *session);

mbedtls_ssl_context *dtls_peer_ssl(struct dtls_peer *p);

#endif
