/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's end of one DTLS 1.2 session (RFC 6347, RFC 9146), by Mbed TLS, without a socket:
 * datagrams are fed, and leave through a callback. Records are fed one by one, so that each can be
 * counted, and every record number of the server is remembered (seen.h).
 */
#ifndef FG_TESTS_TLS_H
#define FG_TESTS_TLS_H

#include <mbedtls/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/coap-client/seen.h"

#define TLS_CID_MAX    16
#define TLS_SUITES_MAX 16
#define TLS_RECORD_MAX 2048 /* of plaintext */
#define TLS_HEADER_LEN 13   /* of a record, without Connection ID */

/* Our Connection IDs of tagged sessions: the tag, big-endian, and 4 random bytes. */
#define TLS_TAGGED_CID_LEN 8

/* How a client proves itself and what it offers. Shared by any number of sessions. */
struct tls_config {
	mbedtls_ssl_config conf;
	int suites[TLS_SUITES_MAX + 1];
	mbedtls_x509_crt *ca, *chain;
	mbedtls_pk_context *key;
	const char *host;
	bool cid;
	size_t cid_len;
	bool tagged;	 /* our Connection IDs begin with the session's tag */
	uint16_t mtu;	 /* 0: Mbed TLS's own idea */
	bool one_record; /* per datagram: flights are not packed */
};

struct tls_options {
	const uint8_t *psk; /* NULL: none */
	size_t psk_len;
	const char *identity;
	size_t identity_len;
	mbedtls_x509_crt *ca, *chain; /* NULL: none */
	mbedtls_pk_context *key;
	const char *host;   /* name in the server's certificate; NULL: any. Not copied. */
	const char *suites; /* names of Mbed TLS, separated by spaces; NULL: AEAD suites that fit */
	bool cid;
	size_t cid_len; /* of ours, which the server sends */
	bool tickets;
	uint16_t mtu;
	bool one_record;
	uint32_t retransmit_min_ms, retransmit_max_ms; /* of handshake flights; 0: 1 s, 60 s */
};

/* 0, or -1 with what is wrong in err. */
int tls_config_init(struct tls_config *c, const struct tls_options *o, char *err, size_t err_len);
void tls_config_free(struct tls_config *c);

/* Read PEM files; NULL when that fails. To be freed with mbedtls_*_free and free. */
mbedtls_x509_crt *tls_load_certificates(const char *path);
mbedtls_pk_context *tls_load_key(const char *path);

enum tls_state {
	TLS_IDLE,
	TLS_SHAKING,
	TLS_STOPPED, /* in the middle of a handshake, on purpose */
	TLS_OPEN,
	TLS_CLOSED,
};

struct tls;

struct tls_events {
	void (*send)(struct tls *t, const uint8_t *datagram, size_t len);
	void (*opened)(struct tls *t);
	void (*stopped)(struct tls *t);
	void (*failed)(struct tls *t, int error, int alert); /* alert: the peer's, or -1 */
	void (*data)(struct tls *t, const uint8_t *plaintext, size_t len);
	void (*closed)(struct tls *t, int error, int alert);
	void (*reused)(struct tls *t, uint64_t number);
};

struct tls {
	mbedtls_ssl_context ssl;
	const struct tls_config *config;
	const struct tls_events *events;
	void *owner;
	uint32_t tag;
	enum tls_state state;
	unsigned stop_after; /* flight, as RFC 6347 figure 1 counts them: 1, 3, 4 or 5; 0: never */
	bool hello_sent, cookie_sent, full_handshake;
	bool cid_negotiated;
	uint8_t cid[TLS_CID_MAX]; /* ours */
	uint8_t peer_cid[MBEDTLS_SSL_CID_OUT_LEN_MAX];
	size_t peer_cid_len;
	int64_t interval_us, final_us; /* of Mbed TLS's timer; final_us 0: it does not run */
	int64_t begun_us, opened_us;
	const uint8_t *in; /* the record that Mbed TLS may read now */
	size_t in_len;
	uint64_t last_number, last_digest; /* of the newest protected record of the handshake */
	struct seen seen;
	mbedtls_ssl_session saved; /* for resumption */
	bool has_saved;
	struct tls_counts {
		uint64_t records, authentic, rejected, repeated, reused;
	} counts;
};

void tls_init(struct tls *t, const struct tls_config *c, const struct tls_events *e, void *owner);
void tls_free(struct tls *t);

/* Begin a handshake, whatever was before; resume: offer what the last one left. 0, or Mbed TLS's
 * error. */
int tls_begin(struct tls *t, bool resume);

/* Go on with a handshake that was stopped. */
void tls_go_on(struct tls *t);

void tls_receive(struct tls *t, const uint8_t *datagram, size_t len);

/* When tls_tick is to be called; INT64_MAX: never. */
int64_t tls_deadline(const struct tls *t);
void tls_tick(struct tls *t, int64_t now_us);

/* One record. 0, or Mbed TLS's error. */
int tls_write(struct tls *t, const uint8_t *data, size_t len);

/* close_notify, if asked, and no more records. */
void tls_close(struct tls *t, bool notify);

#endif
