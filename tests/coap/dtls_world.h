/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DTLS endpoint under test, clients beside it, and the network between them, all in this process
 * and on a clock that only the test moves. Every record that the endpoint sends is checked: no
 * number goes to one client twice, also not by an endpoint that was started again.
 */
#ifndef FG_TESTS_DTLS_WORLD_H
#define FG_TESTS_DTLS_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coap-server/dtls/endpoint.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "tests/coap/dtls_peer.h"

#define WORLD_CLIENTS	   512
#define WORLD_KEPT	   64
#define WORLD_PSK_IDENTITY "device-psk"
#define WORLD_PSK	   "sixteen bytes..."

struct world;
struct world_client;

enum world_kind {
	WORLD_CERTIFICATE, /* the server shows its certificate, the client nothing */
	WORLD_PSK_CLIENT,
	WORLD_CLIENT_CERTIFICATE,
};

struct world_datagram {
	size_t len;
	uint8_t bytes[DTLS_PEER_DATAGRAM_MAX];
};

struct world_client {
	struct world *world;
	struct dtls_peer *peer;
	struct dtls_peer_options options;
	struct address address;			/* the endpoint sees it here */
	struct world_datagram kept[WORLD_KEPT]; /* what it sent, a ring */
	size_t sent, received;
	bool mute;	     /* what it sends is kept only */
	bool shares_address; /* with the session of another: numbers are not checked */
	uint64_t *numbers;   /* of records of epoch 1 that it was sent */
	size_t number_count, number_size;
};

struct world {
	struct dtls_options options;
	struct dtls_callbacks callbacks;
	struct dtls_endpoint *endpoint;
	struct world_client *client[WORLD_CLIENTS];
	size_t client_count;
	uint16_t next_port;

	/* The network. NULL: everything arrives. to_server; false: lost. */
	bool (*passes)(struct world *w, struct world_client *c, bool to_server, const uint8_t *data,
		       size_t len);
	void *arg;
	size_t unaddressed; /* datagrams of the endpoint to where no client is */
	size_t out_count, out_bytes, out_longest;
	struct world_datagram out_last;

	/* What the endpoint said. */
	struct dtls_session *opened, *spoke; /* the last ones; NULL when they have ended */
	size_t opened_count, closed_count, data_count;
	char reason[128]; /* of the last one closed */
	char text[DTLS_PLAINTEXT_MAX * 2 + 1];
	bool echo; /* answer with the same; default */
	bool refuse_psk, refuse_certificate, refuse_resumed;
	int64_t valid_for_s; /* of what proves who they are; for ever by default */
	size_t resumed_asked, certificate_asked;
	struct dtls_identity resumed_who;
	void (*on_data)(struct world *w, struct dtls_session *s); /* instead of echo */
};

/* For cmocka. *state is a struct world with default options, not open. */
int world_setup(void **state);
int world_teardown(void **state);

void world_open(struct world *w); /* fails the test if it cannot be opened */
void world_stats(const struct world *w, struct dtls_stats *out);

/*
 * As if the process was killed at this instruction: what the endpoint has in memory is forgotten,
 * what is in its slots stays as it is. (Its memory is given back when the test ends, and by then it
 * can say nothing any more.)
 */
void world_crash(struct world *w);

/* The clock alone. */
void world_wait_clock(int64_t us);

/* The clock, and then dtls_tick and the timers of clients that shake hands. */
void world_wait(struct world *w, int64_t us);
int64_t world_now_us(void);

/* A file of the tests' keys: "ca.pem", "server.pem", "server.key", "device.pem" (CN device-crt),
 * "device.key", "stranger.pem" and .key (another CA's), "p384.pem" and .key, "long.pem" (a
 * chain of 1.5 kB) and .key, and more: see world_pki.c. */
const char *world_file(const char *name);

struct world_client *world_client(struct world *w, enum world_kind kind, bool connection_id);
void world_client_options(const struct world *w, enum world_kind kind, bool connection_id,
			  struct dtls_peer_options *o);
struct world_client *world_client_with(struct world *w, const struct dtls_peer_options *o);
void world_client_free(struct world_client *c);

/* The same device's next attempt from the same address: another peer. */
void world_client_again(struct world_client *c);

/* Another address from now on. */
void world_client_move(struct world_client *c);

/* Until it is complete (0), fails, or this makes no progress (MBEDTLS_ERR_SSL_WANT_READ). */
int world_handshake(struct world_client *c);
/* The same, with time: `rounds` times up to a second. */
int world_handshake_for(struct world_client *c, unsigned rounds);

/* Must succeed. world_connect: a client whose handshake is done. */
struct world_client *world_connect(struct world *w, enum world_kind kind, bool connection_id);
void world_say(struct world_client *c, const char *text);
/* The next message that it got, or "" if none. Valid until the next call. */
const char *world_heard(struct world_client *c);
/* Says it, and checks that it is answered with the same. */
void world_check_echo(struct world_client *c, const char *text);

/* Give the endpoint a datagram. */
void world_inject(struct world *w, const struct address *from, const uint8_t *data, size_t len);
/* What the client sent last (0), the one before (1) ... */
const struct world_datagram *world_sent(const struct world_client *c, size_t ago);

struct address world_address(uint16_t port);

#endif
