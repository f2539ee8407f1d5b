/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/tls.h"

#include <mbedtls/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

static const char psk_suites[] =
	"TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256 TLS-PSK-WITH-AES-128-CCM-8 "
	"TLS-PSK-WITH-AES-128-GCM-SHA256";
static const char certificate_suites[] = "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256 "
					 "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8";

/* The only curve of the build with the hooks of coap-server/crypto. */
static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, 0};

static int random_for_mbedtls(void *arg, unsigned char *out, size_t len)
{
	(void)arg;
	random_bytes(out, len);
	return 0;
}

static int take_suites(struct tls_config *c, const char *names, char *err, size_t err_len)
{
	char copy[1024], *rest = copy;
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", names);
	for (char *name; (name = strtok_r(rest, " ", &rest));) {
		int id = mbedtls_ssl_get_ciphersuite_id(name);

		if (id == 0 || n == TLS_SUITES_MAX) {
			snprintf(err, err_len, "suite %s: not known to Mbed TLS, or too many",
				 name);
			return -1;
		}
		c->suites[n++] = id;
	}
	c->suites[n] = 0;
	mbedtls_ssl_conf_ciphersuites(&c->conf, c->suites);
	return 0;
}

static int failed(int error, const char *what, char *err, size_t err_len)
{
	char text[128];

	mbedtls_strerror(error, text, sizeof(text));
	snprintf(err, err_len, "%s: %s", what, text);
	return -1;
}

static int take_credentials(struct tls_config *c, const struct tls_options *o, char *err,
			    size_t err_len)
{
	int r = 0;

	if (o->psk)
		r = mbedtls_ssl_conf_psk(&c->conf, o->psk, o->psk_len,
					 (const unsigned char *)o->identity, o->identity_len);
	if (r != 0)
		return failed(r, "psk", err, err_len);
	if (o->ca)
		mbedtls_ssl_conf_ca_chain(&c->conf, o->ca, NULL);
	if (o->chain)
		r = mbedtls_ssl_conf_own_cert(&c->conf, o->chain, o->key);
	return r == 0 ? 0 : failed(r, "certificate", err, err_len);
}

int tls_config_init(struct tls_config *c, const struct tls_options *o, char *err, size_t err_len)
{
	uint32_t min_ms = o->retransmit_min_ms ? o->retransmit_min_ms : 1000;
	uint32_t max_ms = o->retransmit_max_ms ? o->retransmit_max_ms : 60000;
	int r;

	*c = (struct tls_config){
		.ca = o->ca,
		.chain = o->chain,
		.key = o->key,
		.host = o->host,
		.cid = o->cid,
		.cid_len = o->cid_len,
		.mtu = o->mtu,
		.one_record = o->one_record,
	};
	mbedtls_ssl_config_init(&c->conf);
	r = mbedtls_ssl_config_defaults(&c->conf, MBEDTLS_SSL_IS_CLIENT,
					MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT);
	if (r == 0 && o->cid)
		r = mbedtls_ssl_conf_cid(&c->conf, o->cid_len, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE);
	if (r != 0) {
		failed(r, "configuration", err, err_len);
		goto bad;
	}
	mbedtls_ssl_conf_rng(&c->conf, random_for_mbedtls, NULL);
	mbedtls_ssl_conf_groups(&c->conf, groups);
	mbedtls_ssl_conf_handshake_timeout(&c->conf, min_ms, max_ms);
	mbedtls_ssl_conf_session_tickets(&c->conf, o->tickets
							   ? MBEDTLS_SSL_SESSION_TICKETS_ENABLED
							   : MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
	if (take_suites(c,
			o->suites ? o->suites
			: o->psk  ? psk_suites
				  : certificate_suites,
			err, err_len) != 0 ||
	    take_credentials(c, o, err, err_len) != 0)
		goto bad;
	return 0;
bad:
	mbedtls_ssl_config_free(&c->conf);
	return -1;
}

void tls_config_free(struct tls_config *c)
{
	mbedtls_ssl_config_free(&c->conf);
}

mbedtls_x509_crt *tls_load_certificates(const char *path)
{
	mbedtls_x509_crt *c = malloc(sizeof(*c));

	if (!c)
		return NULL;
	mbedtls_x509_crt_init(c);
	if (mbedtls_x509_crt_parse_file(c, path) == 0)
		return c;
	mbedtls_x509_crt_free(c);
	free(c);
	return NULL;
}

mbedtls_pk_context *tls_load_key(const char *path)
{
	mbedtls_pk_context *k = malloc(sizeof(*k));

	if (!k)
		return NULL;
	mbedtls_pk_init(k);
	if (mbedtls_pk_parse_keyfile(k, path, NULL, random_for_mbedtls, NULL) == 0)
		return k;
	mbedtls_pk_free(k);
	free(k);
	return NULL;
}
