/* SPDX-License-Identifier: Apache-2.0 */
/* A CoAP client of the device's core between a test that plays the server, and one that plays the
 * application: what it has sent and what it was given is kept, in order. */
#ifndef FG_TESTS_COAP_WORLD_H
#define FG_TESTS_COAP_WORLD_H

#include "device-fw/core/coap_client.h"

#define WORLD_DATAGRAM 1280
#define WORLD_KEPT     256

struct world_given {
	enum fg_coap_outcome outcome;
	struct fg_coap_response response; /* token, etag and payload are copies */
	uint8_t token[FG_COAP_TOKEN_MAX], etag[FG_COAP_ETAG_MAX], payload[WORLD_DATAGRAM];
};

struct world {
	struct fg_coap_client client;
	int64_t now_ms;
	struct {
		uint8_t bytes[WORLD_DATAGRAM];
		size_t length;
		bool expects_answer;
	} sent[WORLD_KEPT];
	struct world_given given[WORLD_KEPT];
	size_t sent_count, given_count;
	int send_error;
	uint32_t random;			 /* what it begins with */
	const struct fg_coap_request *follow_up; /* begun from inside `handle`, once */
};

void world_open(struct world *w);
/* GET msg/c2d, and so on: no formats, no payload. */
struct fg_coap_request world_get(const char *path);
void world_request(struct world *w, const struct fg_coap_request *r);

/* What was sent last, or the i-th: it must be a message. */
struct fg_coap_message world_sent(const struct world *w, size_t i);
struct fg_coap_message world_last(const struct world *w);
const struct world_given *world_given(const struct world *w); /* the last */

/* Options: any that are set. */
struct world_reply {
	enum fg_coap_type type;
	uint8_t code;
	uint16_t id;
	const uint8_t *token; /* of 4 bytes; NULL: none */
	const char *etag;
	int64_t observe; /* -1: none */
	int64_t block;	 /* NUM << 4 | M << 3 | SZX; -1: none */
	uint16_t extra;	 /* an empty option of that number, above 27; 0: none */
	const void *payload;
	size_t length;
};

/* A piggybacked 2.05 to the last message that was sent. */
struct world_reply world_ack(const struct world *w, const char *text);
struct world_reply world_message(enum fg_coap_type type, uint16_t id, const uint8_t *token);
void world_deliver(struct world *w, const struct world_reply *r);
void world_bytes(struct world *w, const void *bytes, size_t length);
/* Moves the clock to when the client wants to be called, and calls it: the time that passed. */
int64_t world_wait(struct world *w);
void world_poll(struct world *w, int64_t passed_ms);

#endif
