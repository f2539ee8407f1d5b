/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of a coap_server behind a network that loses, doubles and reorders what both sides send.
 * Each client has one confirmable request under way, and knows CoAP from RFC 7252 sections 4.2 and
 * 5.2: retransmission, separate answers, repeats of these.
 */
#ifndef FG_TEST_COAP_LOSSY_H
#define FG_TEST_COAP_LOSSY_H

#include "tests/coap/coap_fixture.h"

#define NET_PENDING_MAX 1024
#define NET_CLIENTS_MAX 8

struct client {
	struct session *session;
	char token[5];
	struct coap_bytes request;
	uint16_t mid;
	bool waiting, acknowledged;
	int age; /* steps since it was sent last */
	struct sent answer;
	bool answered;
	bool given_up; /* acknowledged, but its answer was lost again and again */
};

struct net {
	struct fixture *f;
	unsigned seed;
	unsigned loss, doubling; /* in 100 */
	unsigned delay;		 /* steps at most */
	uint16_t next_mid;
	struct client *clients[NET_CLIENTS_MAX];
	size_t client_count;
	struct {
		struct session *session;
		bool up;
		unsigned due;
		struct coap_bytes bytes;
	} pending[NET_PENDING_MAX];
	size_t pending_count;
	unsigned step;
};

struct net *net_new(struct fixture *f, unsigned seed);
void net_free(struct net *n);
void net_add(struct net *n, struct client *c, struct session *s, const char *token);

/* Begin a request: client_begin, options and payload into c->request, client_send. */
void client_begin(struct net *n, struct client *c, unsigned code);
void client_send(struct net *n, struct client *c);

/* A second goes by. */
void net_step(struct net *n);

#endif
