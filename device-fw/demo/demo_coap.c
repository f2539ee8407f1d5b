/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo device over CoAP: DTLS 1.2 with Connection ID (RFC 9146) and the device's certificate,
 * then one confirmable POST (RFC 7252) for each message, and believes only what the server has
 * acknowledged. What a device does about sleep, lost sessions and blocks is not here.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/timing.h>
#include <psa/crypto.h>

#include "device-fw/demo/sample.h"

#define HANDSHAKE_MIN_MS 1000
#define HANDSHAKE_MAX_MS 8000
#define ACK_TIMEOUT_MS	 2000 /* RFC 7252 section 4.8, without the random factor */
#define MAX_RETRANSMIT	 4
#define MESSAGE_MAX	 1024

#define COAP_CON     0
#define COAP_ACK     2
#define COAP_POST    2
#define COAP_CREATED 0x41 /* 2.01 */
#define COAP_JSON    50
#define COAP_CBOR    60

static const int suites[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 0};

struct options {
	const char *id, *host, *port, *ca, *certificate, *key;
	int count;
};

struct device {
	mbedtls_net_context net;
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	mbedtls_timing_delay_context timer;
	mbedtls_x509_crt ca, certificate;
	mbedtls_pk_context key;
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context random;
	uint16_t message_id;
};

static int give_up(const char *what, int rc)
{
	char text[128];

	mbedtls_strerror(rc, text, sizeof(text));
	fprintf(stderr, "%s: %s\n", what, text);
	return -1;
}

static void device_init(struct device *d)
{
	mbedtls_net_init(&d->net);
	mbedtls_ssl_init(&d->ssl);
	mbedtls_ssl_config_init(&d->conf);
	mbedtls_x509_crt_init(&d->ca);
	mbedtls_x509_crt_init(&d->certificate);
	mbedtls_pk_init(&d->key);
	mbedtls_entropy_init(&d->entropy);
	mbedtls_ctr_drbg_init(&d->random);
}

static void device_free(struct device *d)
{
	mbedtls_ssl_free(&d->ssl);
	mbedtls_ssl_config_free(&d->conf);
	mbedtls_pk_free(&d->key);
	mbedtls_x509_crt_free(&d->certificate);
	mbedtls_x509_crt_free(&d->ca);
	mbedtls_ctr_drbg_free(&d->random);
	mbedtls_entropy_free(&d->entropy);
	mbedtls_net_free(&d->net);
}

static int load_credentials(struct device *d, const struct options *o)
{
	int rc = mbedtls_ctr_drbg_seed(&d->random, mbedtls_entropy_func, &d->entropy, NULL, 0);

	if (rc != 0)
		return give_up("no random numbers", rc);
	rc = mbedtls_x509_crt_parse_file(&d->ca, o->ca);
	if (rc != 0)
		return give_up(o->ca, rc);
	rc = mbedtls_x509_crt_parse_file(&d->certificate, o->certificate);
	if (rc != 0)
		return give_up(o->certificate, rc);
	rc = mbedtls_pk_parse_keyfile(&d->key, o->key, NULL, mbedtls_ctr_drbg_random, &d->random);
	return rc == 0 ? 0 : give_up(o->key, rc);
}

static int configure(struct device *d, const struct options *o)
{
	int rc = mbedtls_ssl_config_defaults(&d->conf, MBEDTLS_SSL_IS_CLIENT,
					     MBEDTLS_SSL_TRANSPORT_DATAGRAM,
					     MBEDTLS_SSL_PRESET_DEFAULT);

	mbedtls_ssl_conf_rng(&d->conf, mbedtls_ctr_drbg_random, &d->random);
	mbedtls_ssl_conf_ciphersuites(&d->conf, suites);
	mbedtls_ssl_conf_ca_chain(&d->conf, &d->ca, NULL);
	mbedtls_ssl_conf_handshake_timeout(&d->conf, HANDSHAKE_MIN_MS, HANDSHAKE_MAX_MS);
	if (rc == 0)
		rc = mbedtls_ssl_conf_own_cert(&d->conf, &d->certificate, &d->key);
	/* It needs no Connection ID itself (length 0), but will send the server's. */
	if (rc == 0)
		rc = mbedtls_ssl_conf_cid(&d->conf, 0, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE);
	if (rc == 0)
		rc = mbedtls_ssl_setup(&d->ssl, &d->conf);
	if (rc == 0)
		rc = mbedtls_ssl_set_hostname(&d->ssl, o->host);
	if (rc == 0)
		rc = mbedtls_ssl_set_cid(&d->ssl, MBEDTLS_SSL_CID_ENABLED, NULL, 0);
	mbedtls_ssl_set_timer_cb(&d->ssl, &d->timer, mbedtls_timing_set_delay,
				 mbedtls_timing_get_delay);
	return rc == 0 ? 0 : give_up("cannot set up DTLS", rc);
}

static int connect_device(struct device *d, const struct options *o)
{
	int with_cid = 0, rc;

	rc = mbedtls_net_connect(&d->net, o->host, o->port, MBEDTLS_NET_PROTO_UDP);
	if (rc != 0)
		return give_up(o->host, rc);
	mbedtls_ssl_set_bio(&d->ssl, &d->net, mbedtls_net_send, NULL, mbedtls_net_recv_timeout);
	do {
		rc = mbedtls_ssl_handshake(&d->ssl);
	} while (rc == MBEDTLS_ERR_SSL_WANT_READ || rc == MBEDTLS_ERR_SSL_WANT_WRITE);
	if (rc != 0)
		return give_up("the handshake failed; the server's log says why", rc);
	mbedtls_ssl_get_peer_cid(&d->ssl, &with_cid, NULL, NULL);
	printf("%s is connected to %s:%s by %s, %s Connection ID, and posts to msg/d2c\n", o->id,
	       o->host, o->port, mbedtls_ssl_get_ciphersuite(&d->ssl),
	       with_cid == MBEDTLS_SSL_CID_ENABLED ? "with" : "without");
	return 0;
}

/* RFC 7252 section 3: header, Uri-Path "msg" and "d2c", Content-Format, payload. 0 if it does not
 * fit. */
static size_t write_post(uint8_t *out, uint16_t id, uint8_t format, const void *payload, size_t len)
{
	const uint8_t head[] = {0x40 | COAP_CON << 4,
				COAP_POST,
				(uint8_t)(id >> 8),
				(uint8_t)id,
				0xb3, /* option 11, 3 bytes */
				'm',
				's',
				'g',
				0x03,
				'd',
				'2',
				'c',
				0x11, /* option 12, 1 byte */
				format,
				0xff};

	if (sizeof(head) + len > MESSAGE_MAX)
		return 0;
	memcpy(out, head, sizeof(head));
	memcpy(out + sizeof(head), payload, len);
	return sizeof(head) + len;
}

/* The code of the acknowledgement of this message, -1: none came in time. Without a token there is
 * nothing else to tell answers by. */
static int read_answer(struct device *d, uint16_t id, int64_t until_ms)
{
	uint8_t in[MESSAGE_MAX];
	int64_t left;
	int n;

	while ((left = until_ms - now_ms(CLOCK_MONOTONIC)) > 0) {
		mbedtls_ssl_conf_read_timeout(&d->conf, (uint32_t)left);
		n = mbedtls_ssl_read(&d->ssl, in, sizeof(in));
		if (n >= 4 && (in[0] >> 4 & 3) == COAP_ACK && (in[2] << 8 | in[3]) == id)
			return in[1];
		if (n < 0 && n != MBEDTLS_ERR_SSL_TIMEOUT && n != MBEDTLS_ERR_SSL_WANT_READ) {
			give_up("the session has ended", n);
			return -1;
		}
	}
	return -1;
}

static int post_and_wait(struct device *d, uint8_t format, const void *payload, size_t len)
{
	uint8_t out[MESSAGE_MAX];
	uint16_t id = d->message_id++;
	size_t size = write_post(out, id, format, payload, len);
	int64_t timeout = ACK_TIMEOUT_MS;
	int code = -1, rc = 0;

	for (int i = 0; code < 0 && rc >= 0 && size > 0 && i <= MAX_RETRANSMIT; i++) {
		rc = mbedtls_ssl_write(&d->ssl, out, size);
		if (rc > 0)
			code = read_answer(d, id, now_ms(CLOCK_MONOTONIC) + timeout);
		timeout *= 2;
	}
	if (code == COAP_CREATED)
		return 0;
	if (code < 0)
		fprintf(stderr, "a message was not acknowledged\n");
	else
		fprintf(stderr, "the server answers %d.%02d\n", code >> 5, code & 31);
	return -1;
}

static int send_sample(struct device *d, int number)
{
	bool as_json = number % 2 == 0;
	struct sample sample;
	unsigned char *payload;
	size_t len;
	int rc;

	sample_measure(&sample, number);
	payload = as_json ? sample_encode_json(&sample, &len) : sample_encode_cbor(&sample, &len);
	if (!payload) {
		fprintf(stderr, "out of memory\n");
		return -1;
	}
	rc = post_and_wait(d, as_json ? COAP_JSON : COAP_CBOR, payload, len);
	free(payload);
	if (rc == 0)
		printf("acknowledged: %d readings as %zu bytes of %s, ts %" PRId64 "\n",
		       METRIC_COUNT, len, as_json ? "JSON" : "CBOR", sample.ts_ms);
	return rc;
}

static int run(const struct options *o)
{
	struct device d = {.message_id = (uint16_t)now_ms(CLOCK_REALTIME)};
	int rc;

	device_init(&d);
	rc = load_credentials(&d, o);
	if (rc == 0)
		rc = configure(&d, o);
	if (rc == 0)
		rc = connect_device(&d, o);
	for (int i = 0; rc == 0 && i < o->count; i++)
		rc = send_sample(&d, i);
	if (rc == 0)
		mbedtls_ssl_close_notify(&d.ssl);
	device_free(&d);
	return rc;
}

static int usage(FILE *out)
{
	fputs("usage: demo-coap --id ID --host NAME --port N --ca FILE --cert FILE --key FILE"
	      " [--count N]\n\n"
	      "Posts N messages (default 2) of eight readings and waits for each answer.\n",
	      out);
	return out == stdout ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{"id", required_argument, NULL, 'i'},	 {"host", required_argument, NULL, 'h'},
		{"port", required_argument, NULL, 'p'},	 {"ca", required_argument, NULL, 'a'},
		{"cert", required_argument, NULL, 'c'},	 {"key", required_argument, NULL, 'k'},
		{"count", required_argument, NULL, 'n'}, {NULL, 0, NULL, 0},
	};
	const char *count = "2";
	int option;

	*o = (struct options){.host = "localhost", .port = "5684"};
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		const char **text = option == 'i'   ? &o->id
				    : option == 'h' ? &o->host
				    : option == 'p' ? &o->port
				    : option == 'a' ? &o->ca
				    : option == 'c' ? &o->certificate
				    : option == 'k' ? &o->key
				    : option == 'n' ? &count
						    : NULL;

		if (!text)
			return -1;
		*text = optarg;
	}
	o->count = (int)strtol(count, NULL, 10);
	return o->id && o->ca && o->certificate && o->key && o->count > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options o;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(stdout);
	if (parse_options(&o, argc, argv) != 0)
		return usage(stderr);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (psa_crypto_init() != PSA_SUCCESS) {
		fprintf(stderr, "no random numbers\n");
		return EXIT_FAILURE;
	}
	return run(&o) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
