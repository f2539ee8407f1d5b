/* SPDX-License-Identifier: Apache-2.0 */
/* Between tls.c (OpenSSL's callbacks), tls_refusal.c (words) and tls_psk.c (pre-shared keys). */
#ifndef FG_PLUGIN_TLS_INTERNAL_H
#define FG_PLUGIN_TLS_INTERNAL_H

#include <sys/queue.h>

#include <openssl/ssl.h>

#include "core/base/rate_limit.h"
#include "plugin/plugin.h"
#include "plugin/tls.h"

struct secret_keys;

/* A connection to one of the broker's TLS listeners; hangs on its SSL, and ends with it. */
struct tls_peer {
	SSL *ssl;
	LIST_ENTRY(tls_peer) list; /* of those that are in one of these two states */
	bool shaking_hands;
	bool proven;
	bool said; /* why it is refused: once is enough */

	/* A key was asked for. With a client: the handshake is that client's, and is a proof when
	 * it is done; without one: nobody has the key that was given. */
	bool asked;
	const struct mosquitto *client;
	uint8_t fingerprint[FINGERPRINT_LEN]; /* of the credential */
	uint64_t material;		      /* hash of its sealed key, as it was then */
	char *identity;
};

LIST_HEAD(tls_peers, tls_peer);

struct tls {
	struct plugin *plugin; /* NULL: closed */
	int context_index;     /* of our new-function for SSL_CTX; -1: none */
	int peer_index;	       /* of the struct tls_peer in an SSL */
	struct tls_peers handshakes;
	struct tls_peer *last; /* whose handshake went on last; NULL when it is gone */

	/* Authorities of the registry, for chains; as of this generation. */
	STACK_OF(X509) * authorities;
	uint64_t generation;

	struct secret_keys *keys;
	bool keys_tried;
	struct refusal_limits refused;
};

extern struct tls tls; /* OpenSSL's callbacks have no other way to it; broker's thread */

/* --- tls_refusal.c --- */

/* "127.0.0.1"; "?" when it is not known. Returns text. */
#define TLS_ADDRESS_MAX 64
const char *tls_address(char text[TLS_ADDRESS_MAX], const SSL *ssl);

/* OpenSSL, or we, refuse the certificate of this peer. */
void tls_say_certificate(struct tls_peer *peer, X509_STORE_CTX *chain);

/* The handshake ends with this alert (as OpenSSL's info callback has it), by us or by the peer. */
void tls_say_alert(struct tls_peer *peer, bool from_peer, int alert);

/* The handshake ends without one. */
void tls_say_broken(struct tls_peer *peer);

/* The key of this identity was not given to the peer. */
void tls_say_psk(struct tls_peer *peer, const char *device, const char *why);

/* --- tls_psk.c --- */

/* A handshake is done. */
void tls_psk_done(struct tls_peer *peer);

void tls_psk_close(void);

#endif
