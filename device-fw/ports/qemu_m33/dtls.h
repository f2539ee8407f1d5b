/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one DTLS connection of the board: DTLS 1.2, a pre-shared key, AES-128-CCM-8, Connection ID
 * (RFC 9146). Nothing waits: dtls_poll goes on with what is under way. Keeping a connection while
 * the radio sleeps is doing nothing with it: its state stays in memory.
 */
#ifndef FG_QEMU_M33_DTLS_H
#define FG_QEMU_M33_DTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dtls_credentials {
	const uint8_t *seed; /* for the generator of random numbers; as good as the key */
	const uint8_t *identity, *key;
	size_t seed_length, identity_length, key_length;
};

/* Once; credentials are copied. 0, or -ENOMEM. */
int dtls_start(const struct dtls_credentials *credentials);
void dtls_random(void *ctx, void *out, size_t length);

/* Begins a handshake. 0, or -ENOMEM. */
int dtls_open(void);
bool dtls_has_connection_id(void);
int dtls_send(const void *bytes, size_t length);
void dtls_close(void); /* with a farewell, if there was a connection */

enum dtls_event {
	DTLS_NOTHING,
	DTLS_CONNECTED, /* the handshake is over */
	DTLS_RECEIVED,	/* *length bytes in uart_frame */
	DTLS_REFUSED,	/* by the peer, with an alert */
	DTLS_FAILED,	/* no handshake, or the connection has ended */
};

/* *length is that of the datagram in uart_frame, or 0, and then that of what was received. To be
 * called until it says NOTHING. */
enum dtls_event dtls_poll(size_t *length);

#endif
