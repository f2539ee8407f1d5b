/* SPDX-License-Identifier: Apache-2.0 */
/* A request, between the file that sends and times it (request.c) and the one that knows its blocks
 * (exchange.c). */
#ifndef FG_TESTS_REQUEST_INTERNAL_H
#define FG_TESTS_REQUEST_INTERNAL_H

#include "tests/coap-client/device.h"

#define NO_OBSERVE (-1)

struct request {
	struct request *next;
	struct device *device;
	json_int_t id;
	bool is_ping;
	bool observed;	/* the server has agreed to tell of changes */
	bool observing; /* and has answered; now notifications come */
	enum message_type type;
	uint8_t method;
	uint8_t token[MESSAGE_TOKEN_MAX];
	size_t token_len;
	struct message_option options[MESSAGE_OPTIONS_MAX]; /* values are ours */
	size_t option_count;
	int observe;
	uint8_t *body; /* that goes up */
	size_t body_len, sent;
	bool blocks;	/* it goes in blocks */
	unsigned szx;	/* block size is 16 << szx (RFC 7959 section 2.2) */
	bool ask_small; /* ask for responses in blocks of that size too */
	bool fetching;	/* the blocks of the response */
	bool whole;	/* fetch all of them */
	uint8_t *got;
	size_t got_len;
	uint8_t etag[8]; /* of the first block */
	size_t etag_len;

	uint16_t mid;
	int chosen_mid; /* of the first message, or -1 */
	uint8_t wire[TLS_RECORD_MAX];
	size_t wire_len;
	uint8_t first_wire[TLS_RECORD_MAX];
	size_t first_wire_len;
	bool retransmit, acknowledged, separate, write_failed;
	unsigned max_retransmit, tries;
	int64_t ack_timeout_us, interval_us, next_us, begun_us, end_us;
	unsigned messages, transmissions, retransmissions;
};

struct request *request_new(struct device *d, json_t *in, json_int_t id);
struct request *request_parse(struct device *d, json_t *in, json_int_t id, char *err,
			      size_t err_len);
void request_free(struct request *q);

/* The next message into wire. 0, or -1: it does not fit a record. */
int request_encode(struct request *q);
int request_send_next(struct request *q);
void request_transmit(struct request *q);

/* A response, which may be a block of one, or a notification. q may be gone afterwards. */
void request_response(struct request *q, const struct message *m);

/* What happened to it, for its answer. */
json_t *request_report(const struct request *q);
json_t *request_describe(const struct message *m);

#endif
