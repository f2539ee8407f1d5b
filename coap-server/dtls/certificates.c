/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's certificate: who may have signed it, is it good, and what is said when it is not.
 *
 * Trusted are the CAs of coap.client_ca_file and nobody else. The registry's authorities are there
 * to complete the chain of a device that sends its own certificate alone. They stand in the list of
 * trusted CAs, because that is the only place where Mbed TLS looks besides the peer's own chain;
 * but each handshake follows an authority to a CA of the file before it believes it, as if the
 * device had sent it. So whoever can write into the registry can make no CA, and what has expired
 * meanwhile, or is not valid by a clock that has jumped, is so in that moment.
 */
#include <mbedtls/error.h>
#include <mbedtls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

enum {
	/* Of one name at most so many are tried for each certificate. */
	AUTHORITIES_MAX = 64,
	TRUSTED_TOLD = 2 * AUTHORITIES_MAX,
};

static const mbedtls_x509_crt_profile profile = {
	.allowed_mds = MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256) |
		       MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA384) |
		       MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA512),
	.allowed_pks =
		MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA),
	.allowed_curves = MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1),
	.rsa_min_bitlen = 0,
};

const mbedtls_x509_crt_profile *dtls_certificate_profile(void)
{
	return &profile;
}

/* Only P-256 has code here (coap-server/crypto/p256.c): another curve would end the handshake with
 * an error that explains nothing. */
bool dtls_key_is_p256(const mbedtls_pk_context *pk)
{
	return mbedtls_pk_get_type(pk) == MBEDTLS_PK_ECKEY &&
	       mbedtls_ecp_keypair_get_group_id(mbedtls_pk_ec(*pk)) == MBEDTLS_ECP_DP_SECP256R1;
}

int64_t dtls_certificate_left_s(const mbedtls_x509_crt *crt)
{
	const mbedtls_x509_time *end = &crt->valid_to;
	struct tm tm = {
		.tm_year = end->year - 1900,
		.tm_mon = end->mon - 1,
		.tm_mday = end->day,
		.tm_hour = end->hour,
		.tm_min = end->min,
		.tm_sec = end->sec,
	};

	return (int64_t)timegm(&tm) - clock_realtime_us() / US_PER_S;
}

/* --- Authorities --- */

static mbedtls_x509_crt *last_of_file(struct dtls_config *c)
{
	mbedtls_x509_crt *last = &c->client_ca;

	while (last->next && last->next != c->authorities)
		last = last->next;
	return last;
}

/* below: how many CAs stand between the one that is followed and the device. Mbed TLS counts from
 * where it was told to begin (RFC 5280 section 4.2.1.9). */
static int check_path_length(void *p, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
	int below = *(const int *)p, max = crt->MBEDTLS_PRIVATE(max_pathlen); /* 0: any; else + 1 */

	if (depth > 0 && max > 0 && max - 1 < below + depth)
		*flags |= MBEDTLS_X509_BADCERT_NOT_TRUSTED;
	return 0;
}

/* Does it chain to a CA of the file? Mbed TLS's flags. */
static uint32_t follow(struct dtls_config *c, mbedtls_x509_crt *authority, int below)
{
	mbedtls_x509_crt *last = last_of_file(c);
	uint32_t flags = 0;

	last->next = NULL;
	mbedtls_x509_crt_verify_with_profile(authority, &c->client_ca, NULL, &profile, NULL, &flags,
					     check_path_length, &below);
	last->next = c->authorities;
	return flags;
}

static bool same(const mbedtls_x509_crt *a, const mbedtls_x509_crt *b)
{
	return a->raw.len == b->raw.len && memcmp(a->raw.p, b->raw.p, a->raw.len) == 0;
}

static bool is_in(const mbedtls_x509_crt *list, const mbedtls_x509_crt *crt)
{
	for (; list; list = list->next)
		if (same(list, crt))
			return true;
	return false;
}

static void free_list(mbedtls_x509_crt *list)
{
	if (!list)
		return;
	mbedtls_x509_crt_free(list);
	free(list);
}

void dtls_authorities_free(struct dtls_config *c)
{
	if (c->authorities)
		last_of_file(c)->next = NULL;
	free_list(c->authorities);
	c->authorities = NULL;
}

/* NULL: good. Dates are not looked at here: the clock may be wrong just now. */
static const char *refuse_authority(struct dtls_config *c, mbedtls_x509_crt *crt)
{
	const uint32_t dates = MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE;

	if (!dtls_key_is_p256(&crt->pk))
		return "its key is not P-256";
	if (!mbedtls_x509_crt_get_ca_istrue(crt))
		return "it is no CA";
	if (follow(c, crt, 0) & ~dates)
		return "it is not signed by a CA of coap.client_ca_file";
	return NULL;
}

/* One that is to be used, alone; NULL: why says what is wrong, or is NULL as it is there already.
 */
static mbedtls_x509_crt *read_authority(struct dtls_config *c, const struct certificate_der *der,
					const char **why)
{
	mbedtls_x509_crt *crt = calloc(1, sizeof(*crt));

	*why = "out of memory";
	if (!crt)
		return NULL;
	mbedtls_x509_crt_init(crt);
	*why = "it cannot be read";
	if (mbedtls_x509_crt_parse_der(crt, der->der, der->len) == 0) {
		*why = is_in(&c->client_ca, crt) ? NULL : refuse_authority(c, crt);
		if (!*why && !is_in(&c->client_ca, crt))
			return crt;
	}
	free_list(crt);
	return NULL;
}

void dtls_set_authorities(struct dtls_endpoint *e, const struct certificate_der *list, size_t count,
			  void (*ignored)(void *arg, size_t i, const char *why), void *arg)
{
	struct dtls_config *c = e->config;
	mbedtls_x509_crt *all = NULL, **end = &all;
	size_t used = 0;

	dtls_authorities_free(c);
	if (!c->client_ca.raw.p)
		return;
	for (size_t i = 0; i < count; i++) {
		const char *why = "there are too many: of the others, retire and delete some";
		mbedtls_x509_crt *crt =
			used < AUTHORITIES_MAX ? read_authority(c, &list[i], &why) : NULL;

		if (crt) {
			*end = crt;
			end = &crt->next;
			used++;
		} else if (why) {
			ignored(arg, i, why);
		}
	}
	last_of_file(c)->next = all;
	c->authorities = all;
}

/* --- Is it good? --- */

static bool is_authority(const struct dtls_config *c, const mbedtls_x509_crt *crt)
{
	for (const mbedtls_x509_crt *a = c->authorities; a; a = a->next)
		if (a == crt)
			return true;
	return false;
}

/* The client's own and what it sent behind it, for when its key has signed, and for the log. */
static int keep(struct handshake *h, const mbedtls_x509_crt *chain)
{
	size_t len = 0;

	free(h->certificate);
	h->chain_count = 0;
	for (const mbedtls_x509_crt *c = chain; c && h->chain_count < CHAIN_MAX; c = c->next) {
		h->chain_len[h->chain_count++] = c->raw.len;
		len += c->raw.len;
	}
	h->certificate = malloc(len);
	if (!h->certificate)
		return MBEDTLS_ERR_X509_ALLOC_FAILED;
	len = 0;
	for (size_t i = 0; i < h->chain_count; i++, chain = chain->next) {
		memcpy(h->certificate + len, chain->raw.p, chain->raw.len);
		len += chain->raw.len;
	}
	return 0;
}

/* From the root down; depth 0 is the peer's own. Nothing is refused here: see
 * dtls_certificate_check. */
int dtls_certificate_verify(void *p, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
	struct context *c = p;
	struct handshake *h = c->handshake;

	if (depth > 0) {
		if (is_authority(c->config, crt))
			*flags |= follow(c->config, crt, depth - 1);
		if (!dtls_key_is_p256(&crt->pk))
			h->failure = "its certificate was issued by a key that is not P-256";
		return 0;
	}
	/* Mbed TLS does not mind. A CA's key that is used as a device's is no CA's key any more. */
	if (mbedtls_x509_crt_get_ca_istrue(crt))
		*flags |= MBEDTLS_X509_BADCERT_KEY_USAGE;
	h->certificate_left_s = dtls_certificate_left_s(crt);
	return keep(h, crt);
}

static uint8_t alert_for(uint32_t flags)
{
	if (flags & MBEDTLS_X509_BADCERT_REVOKED)
		return MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED;
	if (flags & (MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE))
		return MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED;
	if (flags & (MBEDTLS_X509_BADCERT_BAD_KEY | MBEDTLS_X509_BADCERT_BAD_PK |
		     MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE))
		return MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT;
	return MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA;
}

/* In the words that both protocols have; Mbed TLS's own where those find nothing. */
static void explain(struct context *c, uint32_t flags)
{
	const struct handshake *h = c->handshake;
	char *why = c->endpoint->why;
	const size_t size = sizeof(c->endpoint->why);
	struct certificate_der trusted[TRUSTED_TOLD], others[CHAIN_MAX];
	struct certificate_issuers issuers = {.trusted = trusted, .others = others};
	struct certificate_finding found;
	const uint8_t *at = h->certificate + h->chain_len[0];
	int len;

	for (const mbedtls_x509_crt *ca = &c->config->client_ca;
	     ca && issuers.trusted_count < TRUSTED_TOLD; ca = ca->next)
		trusted[issuers.trusted_count++] = (struct certificate_der){ca->raw.p, ca->raw.len};
	for (size_t i = 1; i < h->chain_count; at += h->chain_len[i++])
		others[issuers.other_count++] = (struct certificate_der){at, h->chain_len[i]};
	certificate_fault(&found, h->certificate, h->chain_len[0], CERTIFICATE_DEVICE,
			  clock_realtime_us() / US_PER_S, &issuers);
	if (found.fault != CERTIFICATE_GOOD) {
		snprintf(why, size, "its certificate: %s", found.text);
		return;
	}
	len = mbedtls_x509_crt_verify_info(why, size, "", flags);
	for (int i = 0; i < len; i++)
		if (why[i] == '\n')
			why[i] = i + 1 < len ? ';' : '\0';
	if (len <= 0)
		snprintf(why, size, "its certificate does not verify");
}

/*
 * The configuration says that a client's certificate is optional, so Mbed TLS goes on whatever
 * became of its verification. One that was shown must be good; its owner is asked for only when its
 * key has signed this handshake.
 */
int dtls_certificate_check(struct context *c)
{
	struct dtls_endpoint *e = c->endpoint;
	struct handshake *h = c->handshake;
	uint32_t flags;
	int ret;

	if (!h->certificate)
		return 0;
	flags = mbedtls_ssl_get_verify_result(&c->ssl);
	if (flags != 0) {
		if (!h->failure) {
			explain(c, flags);
			h->failure = e->why;
		}
		mbedtls_ssl_send_alert_message(&c->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
					       alert_for(flags));
		return MBEDTLS_ERR_X509_CERT_VERIFY_FAILED;
	}
	if (c->ssl.MBEDTLS_PRIVATE(state) <= MBEDTLS_SSL_CERTIFICATE_VERIFY)
		return 0;
	ret = e->callbacks.certificate(e->callbacks.arg, &c->session->address, h->certificate,
				       h->chain_len[0], &h->who);
	free(h->certificate);
	h->certificate = NULL;
	if (ret == 0) {
		/* The registry may know only its key. */
		dtls_identity_limit(&h->who, h->certificate_left_s);
		return 0;
	}
	h->told = true;
	mbedtls_ssl_send_alert_message(&c->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
				       MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED);
	return MBEDTLS_ERR_X509_CERT_VERIFY_FAILED;
}
