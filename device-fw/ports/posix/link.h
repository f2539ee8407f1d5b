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

/* What happens to datagrams (DTLS) in each direction; probabilities 0 to 1. Each is late by
 * delay_ms and up to jitter_ms more. */
struct link_impairment {
	double loss, duplicate;
	int32_t delay_ms, jitter_ms;
	uint64_t seed; /* the same seed, the same chances, for links made in the same order */
};

struct link_config {
	struct loop *loop;
	const struct link_trust *trust; /* verification is always required, with the host's name */
	const struct link_identity *identity;	  /* NULL: anonymous (JWT later) */
	const struct link_impairment *impairment; /* NULL: none */
	bool connection_id;			  /* offer RFC 9146 */
	bool only_cbc; /* suites of old modem firmware; such a DTLS connection cannot be kept */
	uint32_t handshake_min_ms, handshake_max_ms; /* retransmission of flights: 1000, 60000 */
	/* None of them is called from inside link_open, link_send, link_close. */
	void (*connected)(void *ctx, const struct fg_connection *connection);
	/* A negative errno, as fg_agent_disconnected; `reason` in words, for a person. */
	void (*disconnected)(void *ctx, int error, const char *reason);
	void (*received)(void *ctx, const void *bytes, size_t length);
	void *ctx;
};

struct link_counters {
	uint64_t handshakes, resumed; /* done; of these, abbreviated */
	uint64_t failed;	      /* handshakes and attempts to connect */
	/* Datagrams, lost ones too; or link_send and `received` of a stream. Bytes are those on the
	 * socket. */
	uint64_t sent, received, bytes_sent, bytes_received;
	uint64_t dropped; /* datagrams, by the impairment, the cut or the system */
};

struct link; /* memory: small while it is closed or kept; a DTLS context when it is open */

/* NULL: out of memory, or there are neither CAs nor a pre-shared key. What `config` points to
 * outlives the link. */
struct link *link_new(const struct link_config *config);
void link_free(struct link *l);
/* As fg_port.open, .send, .close. A kept DTLS connection has its socket closed, and its context
 * saved (mbedtls_ssl_context_save) as the modem does; opened again it comes from another port.
 * Without Connection ID it cannot be kept, and is closed; the next handshake is an abbreviated one
 * where the server can do it. A kept TLS connection stays open; what comes in the meantime waits.
 */
int link_open(struct link *l, const struct fg_target *target, bool resume);
/* -ENOTCONN; -EMSGSIZE: does not fit in a datagram; -ENOBUFS: the stream is stuck; another -errno:
 * `disconnected` follows. */
int link_send(struct link *l, const void *bytes, size_t length);
void link_close(struct link *l, bool keep);
/* A new local port, as a NAT that has forgotten us: DTLS only. 0 or -errno. */
int link_rebind(struct link *l);
/* The network is gone, or back: nothing goes in or out, nobody is told, the peer least of all. */
void link_set_cut(struct link *l, bool cut);
const struct link_counters *link_counters(const struct link *l);

#endif
