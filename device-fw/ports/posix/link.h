/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device's connection, as the modem would have it: DTLS 1.2 with Connection ID over UDP, or
 * TLS 1.2 over TCP, by Mbed TLS; nothing blocks (but name resolution, which is done once for each
 * host). Belongs to the loop's thread.
 */
#ifndef FG_DEVICE_LINK_H
#define FG_DEVICE_LINK_H

#include "device-fw/core/agent.h"
#include "device-fw/ports/posix/loop.h"

/* CAs, or certificate, key and PSK: read once, shared by any number of links, which it outlives. */
struct link_trust;
struct link_identity;

/* NULL, and one line that names the file and what is wrong in `error`. PEM files. */
struct link_trust *link_trust_read(const char *ca_file, char *error, size_t size);
struct link_identity *link_identity_certificate(const char *certificate_file, const char *key_file,
						char *error, size_t size);
struct link_identity *link_identity_psk(const void *identity, size_t identity_length,
					const void *key, size_t key_length, char *error,
					size_t size);
void link_trust_free(struct link_trust *t);
void link_identity_free(struct link_identity *i);

/* What happens to datagrams (DTLS) in each direction; probabilities 0 to 1. */
struct link_impairment {
	double loss, duplicate;
	int32_t delay_ms, jitter_ms;
};

struct link_config {
	struct loop *loop;
	const struct link_trust *trust; /* verification is always required, with the host's name */
	const struct link_identity *identity;	     /* NULL: anonymous (JWT later) */
	const struct link_impairment *impairment;    /* NULL: none */
	bool connection_id;			     /* offer RFC 9146 */
	uint32_t handshake_min_ms, handshake_max_ms; /* retransmission of flights: 1000, 60000 */
	/* None of them is called from inside link_open, link_send, link_close. */
	void (*connected)(void *ctx, const struct fg_connection *connection);
	/* A negative errno, as fg_agent_disconnected; `reason` in words, for a person. */
	void (*disconnected)(void *ctx, int error, const char *reason);
	void (*received)(void *ctx, const void *bytes, size_t length);
	void *ctx;
};

struct link_counters {
	uint64_t handshakes, resumed, failed, sent, received, bytes_sent, bytes_received, dropped;
};

struct link; /* memory: small while it is closed or kept; a DTLS context when it is open */

struct link *link_new(const struct link_config *config);
void link_free(struct link *l);
/* As fg_port.open, .send, .close. A kept DTLS connection has its socket closed, and its context
 * saved (mbedtls_ssl_context_save) as the modem does; opened again it comes from another port. A
 * kept TLS connection stays open. */
int link_open(struct link *l, const struct fg_target *target, bool resume);
int link_send(struct link *l, const void *bytes, size_t length);
void link_close(struct link *l, bool keep);
/* A new local port, as a NAT that has forgotten us: DTLS only. 0 or -errno. */
int link_rebind(struct link *l);
/* The network is gone, or back: nothing goes in or out, nobody is told. */
void link_set_cut(struct link *l, bool cut);
const struct link_counters *link_counters(const struct link *l);

#endif
