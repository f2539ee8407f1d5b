/* SPDX-License-Identifier: Apache-2.0 */
/* Mbed TLS is built as the endpoint needs it: two contexts in this process shake hands with
 * DTLS 1.2, a cookie and Connection IDs over queues of datagrams, with a certificate and with a
 * PSK; the session can be saved, loaded into another context, and goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mbedtls/ecp.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ciphersuites.h>
#include <mbedtls/ssl_cookie.h>
#include <mbedtls/x509_crt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

enum {
	DATAGRAM_MAX = 2048,
	QUEUE_LEN = 16,
	RECORD_HEADER_LEN = 11, /* RFC 6347, section 4.1, up to the CID */
	RECORD_TLS12_CID = 25,	/* RFC 9146, section 4 */
	CID_LEN = 8
};

struct datagram {
	unsigned char bytes[DATAGRAM_MAX];
	size_t len;
};

struct queue {
	struct datagram datagram[QUEUE_LEN];
	unsigned in, out;
};

struct peer {
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	struct queue *sends, *receives;
	unsigned char cid[CID_LEN];
	bool timer_runs;
};

struct pair {
	struct queue to_server, to_client;
	struct peer server, client;
	mbedtls_ssl_cookie_ctx cookie;
	mbedtls_pk_context key;
	mbedtls_x509_crt certificate;
	int cookies_asked;
};

static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
				  MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
static const unsigned char psk[] = "sixteen bytes...", identity[] = "device-1";

static int rng(void *arg, unsigned char *out, size_t len)
{
	(void)arg;
	random_bytes(out, len);
	return 0;
}

static int send_datagram(void *arg, const unsigned char *bytes, size_t len)
{
	struct queue *q = ((struct peer *)arg)->sends;
	struct datagram *d = &q->datagram[q->in % QUEUE_LEN];

	if (len > sizeof(d->bytes) || q->in - q->out == QUEUE_LEN)
		return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
	memcpy(d->bytes, bytes, len);
	d->len = len;
	q->in++;
	return (int)len;
}

static int receive_datagram(void *arg, unsigned char *bytes, size_t size)
{
	struct queue *q = ((struct peer *)arg)->receives;
	struct datagram *d = &q->datagram[q->out % QUEUE_LEN];

	if (q->in == q->out)
		return MBEDTLS_ERR_SSL_WANT_READ;
	if (d->len > size)
		return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
	memcpy(bytes, d->bytes, d->len);
	q->out++;
	return (int)d->len;
}

/* Nothing is lost here, so no timer ever expires. */
static void set_timer(void *arg, uint32_t intermediate_ms, uint32_t final_ms)
{
	(void)intermediate_ms;
	((struct peer *)arg)->timer_runs = final_ms != 0;
}

static int get_timer(void *arg)
{
	return ((struct peer *)arg)->timer_runs ? 0 : -1;
}

static void attach(struct peer *p, mbedtls_ssl_context *ssl)
{
	mbedtls_ssl_set_bio(ssl, p, send_datagram, receive_datagram, NULL);
	mbedtls_ssl_set_timer_cb(ssl, p, set_timer, get_timer);
}

static void configure(struct peer *p, int endpoint, const int *suites)
{
	assert_int_equal(mbedtls_ssl_config_defaults(&p->conf, endpoint,
						     MBEDTLS_SSL_TRANSPORT_DATAGRAM,
						     MBEDTLS_SSL_PRESET_DEFAULT),
			 0);
	mbedtls_ssl_conf_rng(&p->conf, rng, NULL);
	mbedtls_ssl_conf_groups(&p->conf, groups);
	mbedtls_ssl_conf_ciphersuites(&p->conf, suites);
	assert_int_equal(mbedtls_ssl_conf_cid(&p->conf, CID_LEN, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE),
			 0);
}

static void start(struct peer *p)
{
	assert_int_equal(mbedtls_ssl_setup(&p->ssl, &p->conf), 0);
	attach(p, &p->ssl);
	random_bytes(p->cid, sizeof(p->cid));
	assert_int_equal(mbedtls_ssl_set_cid(&p->ssl, MBEDTLS_SSL_CID_ENABLED, p->cid, CID_LEN), 0);
}

/* A key of P-256 and a certificate for server.test that it signed itself. */
static void make_certificate(struct pair *pair)
{
	unsigned char der[1024], serial = 1;
	mbedtls_x509write_cert cert;
	int len;

	assert_int_equal(mbedtls_pk_setup(&pair->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)),
			 0);
	assert_int_equal(
		mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pair->key), rng, NULL),
		0);
	mbedtls_x509write_crt_init(&cert);
	mbedtls_x509write_crt_set_md_alg(&cert, MBEDTLS_MD_SHA256);
	mbedtls_x509write_crt_set_subject_key(&cert, &pair->key);
	mbedtls_x509write_crt_set_issuer_key(&cert, &pair->key);
	assert_int_equal(mbedtls_x509write_crt_set_subject_name(&cert, "CN=server.test"), 0);
	assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&cert, "CN=server.test"), 0);
	assert_int_equal(mbedtls_x509write_crt_set_serial_raw(&cert, &serial, 1), 0);
	assert_int_equal(
		mbedtls_x509write_crt_set_validity(&cert, "20200101000000", "20991231235959"), 0);
	/* Written at the end of the buffer. */
	len = mbedtls_x509write_crt_der(&cert, der, sizeof(der), rng, NULL);
	assert_true(len > 0);
	mbedtls_x509write_crt_free(&cert);
	assert_int_equal(mbedtls_x509_crt_parse_der(&pair->certificate,
						    der + sizeof(der) - (size_t)len, (size_t)len),
			 0);
}

static struct pair *pair_new(const int *suites)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	assert_non_null(pair);
	mbedtls_ssl_init(&pair->server.ssl);
	mbedtls_ssl_init(&pair->client.ssl);
	mbedtls_ssl_config_init(&pair->server.conf);
	mbedtls_ssl_config_init(&pair->client.conf);
	mbedtls_ssl_cookie_init(&pair->cookie);
	mbedtls_pk_init(&pair->key);
	mbedtls_x509_crt_init(&pair->certificate);
	pair->server.sends = pair->client.receives = &pair->to_client;
	pair->client.sends = pair->server.receives = &pair->to_server;
	configure(&pair->server, MBEDTLS_SSL_IS_SERVER, suites);
	configure(&pair->client, MBEDTLS_SSL_IS_CLIENT, suites);
	assert_int_equal(mbedtls_ssl_cookie_setup(&pair->cookie, rng, NULL), 0);
	mbedtls_ssl_conf_dtls_cookies(&pair->server.conf, mbedtls_ssl_cookie_write,
				      mbedtls_ssl_cookie_check, &pair->cookie);
	return pair;
}

static void pair_free(struct pair *pair)
{
	mbedtls_ssl_free(&pair->server.ssl);
	mbedtls_ssl_free(&pair->client.ssl);
	mbedtls_ssl_config_free(&pair->server.conf);
	mbedtls_ssl_config_free(&pair->client.conf);
	mbedtls_ssl_cookie_free(&pair->cookie);
	mbedtls_pk_free(&pair->key);
	mbedtls_x509_crt_free(&pair->certificate);
	free(pair);
}

/* The server forgets the hello that it answered with a cookie. */
static int server_step(struct pair *pair)
{
	mbedtls_ssl_context *ssl = &pair->server.ssl;
	int ret;

	ret = mbedtls_ssl_handshake(ssl);
	if (ret != MBEDTLS_ERR_SSL_HELLO_VERIFY_REQUIRED)
		return ret;
	pair->cookies_asked++;
	assert_int_equal(mbedtls_ssl_session_reset(ssl), 0);
	assert_int_equal(mbedtls_ssl_set_client_transport_id(ssl, (const unsigned char *)"x", 1),
			 0);
	return mbedtls_ssl_set_cid(ssl, MBEDTLS_SSL_CID_ENABLED, pair->server.cid, CID_LEN) == 0
		       ? MBEDTLS_ERR_SSL_WANT_READ
		       : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static void shake_hands(struct pair *pair)
{
	int client = MBEDTLS_ERR_SSL_WANT_READ, server = client;

	start(&pair->server);
	start(&pair->client);
	assert_int_equal(mbedtls_ssl_set_hostname(&pair->client.ssl, "server.test"), 0);
	assert_int_equal(mbedtls_ssl_set_client_transport_id(&pair->server.ssl,
							     (const unsigned char *)"x", 1),
			 0);
	for (int i = 0; i < 10 && (client != 0 || server != 0); i++) {
		if (client != 0)
			client = mbedtls_ssl_handshake(&pair->client.ssl);
		assert_true(client == 0 || client == MBEDTLS_ERR_SSL_WANT_READ);
		if (server != 0)
			server = server_step(pair);
		assert_true(server == 0 || server == MBEDTLS_ERR_SSL_WANT_READ);
	}
	assert_int_equal(client, 0);
	assert_int_equal(server, 0);
	assert_int_equal(pair->cookies_asked, 1);
}

/* One message from a to b, as one record that shows b's CID in clear and nothing else of it. */
static void check_message(struct peer *a, mbedtls_ssl_context *a_ssl, struct peer *b,
			  mbedtls_ssl_context *b_ssl)
{
	static const unsigned char message[] = "message";
	unsigned char received[64];
	const struct datagram *d = &a->sends->datagram[a->sends->in % QUEUE_LEN];

	assert_int_equal(mbedtls_ssl_write(a_ssl, message, sizeof(message)), sizeof(message));
	assert_int_equal(d->bytes[0], RECORD_TLS12_CID);
	assert_memory_equal(d->bytes + RECORD_HEADER_LEN, b->cid, CID_LEN);
	assert_null(memmem(d->bytes, d->len, message, sizeof(message)));
	assert_int_equal(mbedtls_ssl_read(b_ssl, received, sizeof(received)), sizeof(message));
	assert_memory_equal(received, message, sizeof(message));
}

static void check_session(struct pair *pair, const char *suite)
{
	struct peer *server = &pair->server, *client = &pair->client;

	assert_string_equal(mbedtls_ssl_get_version(&server->ssl), "DTLSv1.2");
	assert_string_equal(mbedtls_ssl_get_ciphersuite(&server->ssl), suite);
	check_message(client, &client->ssl, server, &server->ssl);
	check_message(server, &server->ssl, client, &client->ssl);
}

/* Saving takes the session out of its context; the records go on where they were. */
static void check_parking(struct pair *pair)
{
	struct peer *server = &pair->server, *client = &pair->client;
	unsigned char blob[512];
	mbedtls_ssl_context woken;
	size_t len;

	assert_int_equal(mbedtls_ssl_context_save(&server->ssl, blob, sizeof(blob), &len), 0);
	mbedtls_ssl_init(&woken);
	assert_int_equal(mbedtls_ssl_setup(&woken, &server->conf), 0);
	attach(server, &woken);
	assert_int_equal(mbedtls_ssl_context_load(&woken, blob, len), 0);
	check_message(client, &client->ssl, server, &woken);
	check_message(server, &woken, client, &client->ssl);
	mbedtls_ssl_free(&woken);
}

static void test_a_certificate_handshake_with_cid(void **state)
{
	static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 0};
	struct pair *pair = pair_new(suites);

	(void)state;
	make_certificate(pair);
	assert_int_equal(
		mbedtls_ssl_conf_own_cert(&pair->server.conf, &pair->certificate, &pair->key), 0);
	mbedtls_ssl_conf_ca_chain(&pair->client.conf, &pair->certificate, NULL);
	mbedtls_ssl_conf_authmode(&pair->client.conf, MBEDTLS_SSL_VERIFY_REQUIRED);
	shake_hands(pair);
	check_session(pair, "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256");
	check_parking(pair);
	pair_free(pair);
}

static void test_a_psk_handshake_with_cid(void **state)
{
	static const int suites[] = {MBEDTLS_TLS_PSK_WITH_AES_128_CCM_8, 0};
	struct pair *pair = pair_new(suites);

	(void)state;
	assert_int_equal(mbedtls_ssl_conf_psk(&pair->server.conf, psk, 16, identity, 8), 0);
	assert_int_equal(mbedtls_ssl_conf_psk(&pair->client.conf, psk, 16, identity, 8), 0);
	shake_hands(pair);
	check_session(pair, "TLS-PSK-WITH-AES-128-CCM-8");
	check_parking(pair);
	pair_free(pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_certificate_handshake_with_cid),
		cmocka_unit_test(test_a_psk_handshake_with_cid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
