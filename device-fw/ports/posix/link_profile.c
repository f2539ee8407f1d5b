/* SPDX-License-Identifier: Apache-2.0 */
#include <mbedtls/ssl_ciphersuites.h>
#include <stdlib.h>

#include "device-fw/ports/posix/link_trust.h"

/* Of what an nRF9160 offers, what the server shall take; first for modem firmware from 1.3.1 on. */
static const int certificate_suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 0};
static const int certificate_suites_cbc[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, 0};
static const int psk_suites[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8, 0};
static const int psk_suites_cbc[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CBC_SHA256, 0};
static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
				  MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

static const int *suites_of(const struct link_config *c)
{
	if (c->identity && c->identity->is_psk)
		return c->only_cbc ? psk_suites_cbc : psk_suites;
	return c->only_cbc ? certificate_suites_cbc : certificate_suites;
}

static int take_identity(mbedtls_ssl_config *config, const struct link_identity *i)
{
	if (!i)
		return 0;
	if (i->is_psk)
		return mbedtls_ssl_conf_psk(config, i->psk, i->psk_length, i->psk_identity,
					    i->psk_identity_length);
	/* Mbed TLS only reads them, but says so nowhere. */
	return mbedtls_ssl_conf_own_cert(config, (mbedtls_x509_crt *)&i->certificates,
					 (mbedtls_pk_context *)&i->key);
}

static int configure(struct link_profile *p, const struct link_config *c)
{
	mbedtls_ssl_config *config = &p->config;
	int r = mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT,
					    p->datagrams ? MBEDTLS_SSL_TRANSPORT_DATAGRAM
							 : MBEDTLS_SSL_TRANSPORT_STREAM,
					    MBEDTLS_SSL_PRESET_DEFAULT);

	if (r != 0)
		return r;
	mbedtls_ssl_conf_min_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
	mbedtls_ssl_conf_max_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
	mbedtls_ssl_conf_rng(config, link_random, NULL);
	mbedtls_ssl_conf_groups(config, groups);
	mbedtls_ssl_conf_ciphersuites(config, suites_of(c));
	mbedtls_ssl_conf_authmode(config, MBEDTLS_SSL_VERIFY_REQUIRED);
	if (c->trust)
		mbedtls_ssl_conf_ca_chain(config, (mbedtls_x509_crt *)&c->trust->certificates,
					  NULL);
	if (p->datagrams)
		mbedtls_ssl_conf_handshake_timeout(config, p->min_ms, p->max_ms);
	/* Its own has no bytes: one socket is one connection. The server's is what counts. */
	if (p->datagrams && p->connection_id)
		r = mbedtls_ssl_conf_cid(config, 0, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE);
	return r == 0 ? take_identity(config, c->identity) : r;
}

static bool fits(const struct link_profile *p, const struct link_profile *wanted)
{
	return p->trust == wanted->trust && p->datagrams == wanted->datagrams &&
	       p->connection_id == wanted->connection_id && p->only_cbc == wanted->only_cbc &&
	       p->min_ms == wanted->min_ms && p->max_ms == wanted->max_ms;
}

struct link_profile *link_profile_get(const struct link_config *c, bool datagrams, int *error)
{
	struct link_profile wanted = {
		.list = c->identity ? c->identity->profiles : c->trust->profiles,
		.trust = c->trust,
		.datagrams = datagrams,
		.connection_id = c->connection_id,
		.only_cbc = c->only_cbc,
		.min_ms = c->handshake_min_ms,
		.max_ms = c->handshake_max_ms,
	};
	struct link_profile *p = *wanted.list;

	while (p && !fits(p, &wanted))
		p = p->next;
	if (p) {
		p->users++;
		return p;
	}
	p = malloc(sizeof(*p));
	if (!p) {
		*error = MBEDTLS_ERR_SSL_ALLOC_FAILED;
		return NULL;
	}
	*p = wanted;
	mbedtls_ssl_config_init(&p->config);
	*error = configure(p, c);
	if (*error != 0) {
		mbedtls_ssl_config_free(&p->config);
		free(p);
		return NULL;
	}
	p->users = 1;
	p->next = *p->list;
	*p->list = p;
	return p;
}

void link_profile_put(struct link_profile *p)
{
	struct link_profile **at;

	if (!p || --p->users > 0)
		return;
	for (at = p->list; *at != p; at = &(*at)->next)
		;
	*at = p->next;
	mbedtls_ssl_config_free(&p->config);
	free(p);
}
