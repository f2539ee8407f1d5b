/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Mbed TLS is told once for all handshakes, and the files it needs. A context keeps the
 * configuration that it was made with, so one that was replaced lives on until its last context is
 * gone.
 */
#include <errno.h>
#include <mbedtls/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

enum {
	/* A modem was seen to crash with more. */
	CHAIN_WARN_LEN = 4096,
	EXPIRY_WARN_DAYS = 30,
	S_PER_DAY = 86400,
	/* Handshake header, length of the list; 3 more bytes for each certificate (RFC 5246
	 * section 7.4.2). */
	CERTIFICATE_MESSAGE_OVERHEAD = 12 + 3,
	RETRANSMIT_MIN_MS = 1000, /* RFC 6347 section 4.2.4.1 */
	RETRANSMIT_MAX_MS = 60000,
};

static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
				  MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

/* ecdsa_secp256r1_sha256 first; with other hashes for clients that insist (RFC 8446 section
 * 4.2.3's numbers are those of RFC 5246 section 7.4.1.4.1). */
static const uint16_t signatures[] = {0x0403, 0x0503, 0x0603, MBEDTLS_TLS1_3_SIG_NONE};

int dtls_config_random(void *arg, unsigned char *out, size_t len)
{
	(void)arg;
	random_bytes(out, len);
	return 0;
}

/* hello.c has looked at it. */
static int cookie_was_checked(void *ctx, const unsigned char *cookie, size_t len,
			      const unsigned char *id, size_t id_len)
{
	(void)ctx, (void)cookie, (void)len, (void)id, (void)id_len;
	return 0;
}

static int no_cookie(void *ctx, unsigned char **p, unsigned char *end, const unsigned char *id,
		     size_t id_len)
{
	(void)ctx, (void)p, (void)end, (void)id, (void)id_len;
	return MBEDTLS_ERR_SSL_FEATURE_UNAVAILABLE;
}

/* --- Files --- */

static int fail(char *err, size_t err_len, const char *setting, const char *file, const char *what)
{
	snprintf(err, err_len, "%s: %s: %s", setting, file, what);
	return -1;
}

static int fail_mbedtls(char *err, size_t err_len, const char *setting, const char *file, int ret)
{
	char text[128];

	mbedtls_strerror(ret, text, sizeof(text));
	return fail(err, err_len, setting, file, text);
}

static int load_certificates(mbedtls_x509_crt *out, const char *setting, const char *file,
			     char *err, size_t err_len)
{
	int ret = mbedtls_x509_crt_parse_file(out, file);

	if (ret < 0)
		return fail_mbedtls(err, err_len, setting, file, ret);
	if (ret > 0)
		return fail(err, err_len, setting, file,
			    "not every certificate in it can be read; check the file");
	for (const mbedtls_x509_crt *c = out; c; c = c->next)
		if (!dtls_key_is_p256(&c->pk))
			return fail(err, err_len, setting, file,
				    "a certificate in it has a key that is not P-256; devices and "
				    "this server use that curve only");
	return 0;
}

static int check_chain(const mbedtls_x509_crt *chain, const char *file, char *err, size_t err_len)
{
	size_t len = 0, message = CERTIFICATE_MESSAGE_OVERHEAD;

	for (const mbedtls_x509_crt *c = chain; c; c = c->next) {
		len += c->raw.len;
		message += c->raw.len + 3;
	}
	if (message > MBEDTLS_SSL_OUT_CONTENT_LEN) {
		snprintf(err, err_len,
			 "coap.certificate_file: %s: its certificates have %zu bytes, more than "
			 "this build can send (%d with 3 for each); leave out the root, or use "
			 "smaller ones",
			 file, len, MBEDTLS_SSL_OUT_CONTENT_LEN - CERTIFICATE_MESSAGE_OVERHEAD);
		return -1;
	}
	if (len > CHAIN_WARN_LEN)
		log_warn("dtls_certificate_chain_long", NULL,
			 "%s: the chain has %zu bytes; nRF9160 takes at most %d: leave out the "
			 "root, use one intermediate at most",
			 file, len, CHAIN_WARN_LEN);
	if (mbedtls_x509_time_is_past(&chain->valid_to))
		log_error("dtls_certificate_expired", NULL,
			  "%s: the certificate has expired; devices refuse it: renew it and reload",
			  file);
	else if (dtls_certificate_left_s(chain) < EXPIRY_WARN_DAYS * S_PER_DAY)
		log_warn("dtls_certificate_expires", NULL,
			 "%s: the certificate expires in %lld days; renew it and reload", file,
			 (long long)(dtls_certificate_left_s(chain) / S_PER_DAY));
	return 0;
}

static int load_own(struct dtls_config *c, const struct dtls_options *o, char *err, size_t err_len)
{
	int ret;

	if (!o->certificate_file)
		return 0;
	if (!o->key_file) {
		snprintf(err, err_len,
			 "coap.key_file is not set, but coap.certificate_file is: name the private "
			 "key of that certificate");
		return -1;
	}
	if (load_certificates(&c->chain, "coap.certificate_file", o->certificate_file, err,
			      err_len) != 0 ||
	    check_chain(&c->chain, o->certificate_file, err, err_len) != 0)
		return -1;
	ret = mbedtls_pk_parse_keyfile(&c->key, o->key_file, NULL, dtls_config_random, NULL);
	if (ret != 0)
		return fail_mbedtls(err, err_len, "coap.key_file", o->key_file, ret);
	if (!dtls_key_is_p256(&c->key) ||
	    mbedtls_pk_check_pair(&c->chain.pk, &c->key, dtls_config_random, NULL) != 0)
		return fail(err, err_len, "coap.key_file", o->key_file,
			    "this is not the key of the first certificate in "
			    "coap.certificate_file");
	ret = mbedtls_ssl_conf_own_cert(&c->ssl, &c->chain, &c->key);
	if (ret != 0)
		return fail_mbedtls(err, err_len, "coap.certificate_file", o->certificate_file,
				    ret);
	return 0;
}

static int load_client_ca(struct dtls_config *c, const struct dtls_options *o, char *err,
			  size_t err_len)
{
	mbedtls_ssl_conf_authmode(&c->ssl, MBEDTLS_SSL_VERIFY_NONE);
	if (!o->client_ca_file)
		return 0;
	if (load_certificates(&c->client_ca, "coap.client_ca_file", o->client_ca_file, err,
			      err_len) != 0)
		return -1;
	mbedtls_ssl_conf_ca_chain(&c->ssl, &c->client_ca, NULL);
	/* One that is shown must be good: see certificates.c. */
	mbedtls_ssl_conf_authmode(&c->ssl, MBEDTLS_SSL_VERIFY_OPTIONAL);
	/* Names of CAs would make the flight longer, and a device has one certificate. */
	mbedtls_ssl_conf_cert_req_ca_list(&c->ssl, MBEDTLS_SSL_CERT_REQ_CA_LIST_DISABLED);
	return 0;
}

/* --- All of it --- */

static int set_up(struct dtls_config *c, struct dtls_endpoint *e, const struct dtls_options *o,
		  char *err, size_t err_len)
{
	mbedtls_ssl_config *ssl = &c->ssl;
	bool psk = e->callbacks.psk != NULL;

	if (mbedtls_ssl_config_defaults(ssl, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
					MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
		snprintf(err, err_len, "no memory");
		return -1;
	}
	if (suites_parse(o->suites, o->legacy_cbc, o->certificate_file != NULL, psk, c->suites, err,
			 err_len) != 0)
		return -1;
	mbedtls_ssl_conf_rng(ssl, dtls_config_random, NULL);
	mbedtls_ssl_conf_min_tls_version(ssl, MBEDTLS_SSL_VERSION_TLS1_2);
	mbedtls_ssl_conf_max_tls_version(ssl, MBEDTLS_SSL_VERSION_TLS1_2);
	mbedtls_ssl_conf_ciphersuites(ssl, c->suites);
	mbedtls_ssl_conf_groups(ssl, groups);
	mbedtls_ssl_conf_sig_algs(ssl, signatures);
	mbedtls_ssl_conf_cert_profile(ssl, dtls_certificate_profile());
	mbedtls_ssl_conf_dtls_anti_replay(ssl, MBEDTLS_SSL_ANTI_REPLAY_ENABLED);
	mbedtls_ssl_conf_encrypt_then_mac(ssl, MBEDTLS_SSL_ETM_ENABLED);
	mbedtls_ssl_conf_extended_master_secret(ssl, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
	mbedtls_ssl_conf_handshake_timeout(ssl, RETRANSMIT_MIN_MS, RETRANSMIT_MAX_MS);
	mbedtls_ssl_conf_dtls_cookies(ssl, no_cookie, cookie_was_checked, NULL);
	/* The length must be known for sessions that have one, also when no more are given out. */
	if (mbedtls_ssl_conf_cid(ssl, DTLS_CID_LEN, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE) != 0) {
		snprintf(err, err_len, "this Mbed TLS has no Connection IDs of %d bytes",
			 DTLS_CID_LEN);
		return -1;
	}
	c->connection_id = o->connection_id;
	if (psk)
		mbedtls_ssl_conf_psk_cb(ssl, dtls_handshake_psk, e);
	if (o->resumption && e->callbacks.resumed)
		mbedtls_ssl_conf_session_tickets_cb(ssl, tickets_write, tickets_parse, e);
	if (load_own(c, o, err, err_len) != 0)
		return -1;
	return e->callbacks.certificate ? load_client_ca(c, o, err, err_len) : 0;
}

struct dtls_config *dtls_config_new(struct dtls_endpoint *e, const struct dtls_options *o,
				    char *err, size_t err_len)
{
	struct dtls_config *c = calloc(1, sizeof(*c));

	if (!c) {
		snprintf(err, err_len, "no memory");
		return NULL;
	}
	c->references = 1;
	mbedtls_ssl_config_init(&c->ssl);
	mbedtls_x509_crt_init(&c->chain);
	mbedtls_x509_crt_init(&c->client_ca);
	mbedtls_pk_init(&c->key);
	if (set_up(c, e, o, err, err_len) == 0)
		return c;
	dtls_config_release(c);
	return NULL;
}

struct dtls_config *dtls_config_retain(struct dtls_config *c)
{
	c->references++;
	return c;
}

void dtls_config_release(struct dtls_config *c)
{
	if (!c || --c->references > 0)
		return;
	dtls_authorities_free(c);
	mbedtls_ssl_config_free(&c->ssl);
	mbedtls_x509_crt_free(&c->chain);
	mbedtls_x509_crt_free(&c->client_ca);
	mbedtls_pk_free(&c->key);
	free(c);
}
