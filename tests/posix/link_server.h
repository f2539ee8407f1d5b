/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of Mbed TLS on the loop of the links that it serves: DTLS 1.2 with Connection IDs on a
 * UDP port, or TLS 1.2 on a TCP port, of 127.0.0.1. It gives back what it gets. Everything asserts.
 */
#ifndef FG_TESTS_LINK_SERVER_H
#define FG_TESTS_LINK_SERVER_H

#include "device-fw/ports/posix/loop.h"

struct link_server_options {
	bool stream;
	bool connection_id; /* takes and gives ones of 8 bytes */
	const char
		*certificate; /* name of link_pki.h: it and its key. NULL: pre-shared keys only */
	const char *devices;  /* name of the CA whose certificates devices must have; NULL: none */
	const char *psk;      /* of the device "psk-device" */
	int suite;	      /* of Mbed TLS; 0: any */
	bool tickets;
	bool sink; /* gives nothing back */
};

struct link_server;

struct link_server *link_server_new(struct loop *loop, const struct link_server_options *o);
void link_server_free(struct link_server *s);
uint16_t link_server_port(const struct link_server *s);

unsigned link_server_handshakes(const struct link_server *s);
unsigned link_server_sessions(const struct link_server *s); /* that are there now */
unsigned link_server_messages(const struct link_server *s);
size_t link_server_bytes(const struct link_server *s);	     /* of all messages */
unsigned link_server_farewells(const struct link_server *s); /* close_notify of a client */
uint16_t link_server_peer(const struct link_server *s); /* port that the last message came from */
/* Bytes to, and a close_notify for, who has sent the last message. */
void link_server_send(struct link_server *s, const void *bytes, size_t length);
void link_server_close_last(struct link_server *s);
void link_server_forget_all(struct link_server *s); /* sessions, without a word */
/* A datagram that is not the server's, from its port. */
void link_server_send_raw(struct link_server *s, const void *bytes, size_t length);

#endif
