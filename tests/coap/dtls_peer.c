/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/coap/dtls_peer.h"

enum { QUEUE_LEN = 256 };

struct datagram {
	struct datagram *next;
	size_t len;
	uint8_t bytes[];
};

struct dtls_peer {
	struct dtls_peer_options options;
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	mbedtls_x509_crt ca, certificate;
	mbedtls_pk_context key;
	struct datagram *first, **last;
	size_t queued;
	int64_t expires_us; /* 0: the timer does not run */
};

static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
				  MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

static int rng(void *arg, unsigned char *out, size_t len)
{
	(void)arg;
	random_bytes(out, len);
	return 0;
}

static int send_datagram(void *arg, const unsigned char *bytes, size_t len)
{
	struct dtls_peer *p = arg;

	p->options.send(p->options.arg, bytes, len);
	return (int)len;
}

static int receive_datagram(void *arg, unsigned char *bytes, size_t size)
{
	struct dtls_peer *p = arg;
	struct datagram *d = p->first;
	size_t len;

	if (!d)
		return MBEDTLS_ERR_SSL_WANT_READ;
	p->first = d->next;
	if (!p->first)
		p->last = &p->first;
	p->queued--;
	len = d->len < size ? d->len : size;
	memcpy(bytes, d->bytes, len);
	free(d);
	return (int)len;
}

static void set_timer(void *arg, uint32_t intermediate_ms, uint32_t final_ms)
{
	struct dtls_peer *p = arg;

	(void)intermediate_ms;
	p->expires_us = final_ms ? clock_monotonic_us() + final_ms * US_PER_MS : 0;
}

static int get_timer(void *arg)
{
	const struct dtls_peer *p = arg;

	if (!p->expires_us)
		return -1;
	return clock_monotonic_us() >= p->expires_us ? 2 : 0;
}

static void load_files(struct dtls_peer *p)
{
	const struct dtls_peer_options *o = &p->options;

	mbedtls_ssl_conf_authmode(&p->conf, o->ca_file ? MBEDTLS_SSL_VERIFY_REQUIRED
						       : MBEDTLS_SSL_VERIFY_NONE);
	if (o->ca_file) {
		assert_int_equal(mbedtls_x509_crt_parse_file(&p->ca, o->ca_file), 0);
		mbedtls_ssl_conf_ca_chain(&p->conf, &p->ca, NULL);
	}
	if (o->certificate_file) {
		assert_int_equal(mbedtls_x509_crt_parse_file(&p->certificate, o->certificate_file),
				 0);
		assert_int_equal(mbedtls_pk_parse_keyfile(&p->key, o->key_file, NULL, rng, NULL),
				 0);
		assert_int_equal(mbedtls_ssl_conf_own_cert(&p->conf, &p->certificate, &p->key), 0);
	}
}

static void configure(struct dtls_peer *p)
{
	const struct dtls_peer_options *o = &p->options;

	assert_int_equal(mbedtls_ssl_config_defaults(&p->conf, MBEDTLS_SSL_IS_CLIENT,
						     MBEDTLS_SSL_TRANSPORT_DATAGRAM,
						     MBEDTLS_SSL_PRESET_DEFAULT),
			 0);
	mbedtls_ssl_conf_rng(&p->conf, rng, NULL);
	mbedtls_ssl_conf_groups(&p->conf, groups);
	if (o->suites)
		mbedtls_ssl_conf_ciphersuites(&p->conf, o->suites);
	mbedtls_ssl_conf_session_tickets(&p->conf, o->tickets);
	mbedtls_ssl_conf_extended_master_secret(&p->conf, !o->no_extended_master_secret);
	/* Long enough for tests that lose a lot. */
	mbedtls_ssl_conf_handshake_timeout(&p->conf, 1000, 30000);
	assert_int_equal(mbedtls_ssl_conf_cid(&p->conf, 0, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE), 0);
	if (o->psk_identity)
		assert_int_equal(mbedtls_ssl_conf_psk(&p->conf, o->psk, o->psk_len,
						      (const unsigned char *)o->psk_identity,
						      strlen(o->psk_identity)),
				 0);
	load_files(p);
}

struct dtls_peer *dtls_peer_new(const struct dtls_peer_options *o)
{
	struct dtls_peer *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->options = *o;
	p->last = &p->first;
	mbedtls_ssl_init(&p->ssl);
	mbedtls_ssl_config_init(&p->conf);
	mbedtls_x509_crt_init(&p->ca);
	mbedtls_x509_crt_init(&p->certificate);
	mbedtls_pk_init(&p->key);
	configure(p);
	assert_int_equal(mbedtls_ssl_setup(&p->ssl, &p->conf), 0);
	mbedtls_ssl_set_bio(&p->ssl, p, send_datagram, receive_datagram, NULL);
	mbedtls_ssl_set_timer_cb(&p->ssl, p, set_timer, get_timer);
	mbedtls_ssl_set_mtu(&p->ssl, o->mtu);
	if (o->ca_file)
		assert_int_equal(mbedtls_ssl_set_hostname(&p->ssl, "server.test"), 0);
	if (o->connection_id)
		assert_int_equal(mbedtls_ssl_set_cid(&p->ssl, MBEDTLS_SSL_CID_ENABLED,
						     (const unsigned char *)"", 0),
				 0);
	return p;
}

void dtls_peer_free(struct dtls_peer *p)
{
	if (!p)
		return;
	while (p->first) {
		struct datagram *d = p->first;

		p->first = d->next;
		free(d);
	}
	mbedtls_ssl_free(&p->ssl);
	mbedtls_ssl_config_free(&p->conf);
	mbedtls_x509_crt_free(&p->ca);
	mbedtls_x509_crt_free(&p->certificate);
	mbedtls_pk_free(&p->key);
	free(p);
}

void dtls_peer_deliver(struct dtls_peer *p, const uint8_t *data, size_t len)
{
	struct datagram *d;

	assert_in_range(len, 1, DTLS_PEER_DATAGRAM_MAX);
	if (p->queued == QUEUE_LEN)
		return; /* as a socket's buffer would */
	d = malloc(sizeof(*d) + len);
	assert_non_null(d);
	d->next = NULL;
	d->len = len;
	memcpy(d->bytes, data, len);
	*p->last = d;
	p->last = &d->next;
	p->queued++;
}

int dtls_peer_handshake(struct dtls_peer *p)
{
	return mbedtls_ssl_handshake(&p->ssl);
}

int dtls_peer_write(struct dtls_peer *p, const void *data, size_t len)
{
	return mbedtls_ssl_write(&p->ssl, data, len);
}

int dtls_peer_read(struct dtls_peer *p, void *out, size_t size)
{
	return mbedtls_ssl_read(&p->ssl, out, size);
}

int dtls_peer_close_notify(struct dtls_peer *p)
{
	return mbedtls_ssl_close_notify(&p->ssl);
}

int dtls_peer_get_session(struct dtls_peer *p, mbedtls_ssl_session *out)
{
	return mbedtls_ssl_get_session(&p->ssl, out);
}

int dtls_peer_set_session(struct dtls_peer *p, const mbedtls_ssl_session *session)
{
	return mbedtls_ssl_set_session(&p->ssl, session);
}

mbedtls_ssl_context *dtls_peer_ssl(struct dtls_peer *p)
{
	return &p->ssl;
}
