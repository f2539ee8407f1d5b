/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's message layer of CoAP (RFC 7252 section 4), without input and output of its own: it
 * is given datagrams and the time, and gives datagrams. One confirmable request is under way at a
 * time (NSTART 1, section 4.7); responses longer than a block are fetched block by block (RFC 7959)
 * and given whole; one resource may be observed (RFC 7641). What the server sends twice is answered
 * twice and given once.
 *
 * A structure belongs to one thread. Functions call `send` and `handle` before they return, and
 * `handle` may begin the next request.
 */
#ifndef FG_DEVICE_COAP_CLIENT_H
#define FG_DEVICE_COAP_CLIENT_H

#include "device-fw/core/coap_message.h"

#ifndef FG_COAP_REQUEST_MAX
#define FG_COAP_REQUEST_MAX                                                                        \
	1152 /* bytes of a request, kept until it is answered; a JWT needs 1000 */
#endif
#ifndef FG_COAP_BODY_MAX
#define FG_COAP_BODY_MAX 512 /* bytes of a response that comes in several blocks */
#endif
#define FG_COAP_TOKEN_LENGTH 4
#define FG_COAP_ETAG_MAX     8
#define FG_COAP_SEEN	     4 /* message ids of the server that are remembered */

enum fg_coap_outcome {
	FG_COAP_RESPONSE,     /* to the request */
	FG_COAP_NOTIFICATION, /* of what is observed; the request may have been long ago */
	FG_COAP_NO_ANSWER,  /* not acknowledged after all retransmissions, or no response came after
			       it was */
	FG_COAP_REFUSED,    /* Reset: the server knows nothing of it */
	FG_COAP_UNREADABLE, /* a critical option, blocks out of order, or a body longer than
			       FG_COAP_BODY_MAX */
	FG_COAP_NOT_SENT,   /* send failed; the session is of no use */
};

struct fg_coap_response {
	uint8_t code;
	int format; /* FG_COAP_FORMAT_NONE: none */
	const uint8_t *token;
	uint8_t token_length;
	const uint8_t *etag;
	uint8_t etag_length;	/* 0: none */
	uint32_t max_age_s;	/* 60 if it is not there (RFC 7252 section 5.10.5) */
	const uint8_t *payload; /* the whole body, until `handle` returns */
	size_t length;
	uint32_t elapsed_ms; /* since the first transmission */
	uint8_t transmissions;
};

struct fg_coap_request {
	uint8_t method;
	const char *path;   /* "msg/d2c" */
	const char *query;  /* "a=1&b", or NULL */
	int format, accept; /* FG_COAP_FORMAT_NONE: no such option */
	const uint8_t *etag, *if_match;
	uint8_t etag_length, if_match_length; /* 0: no such option */
	bool observe;			      /* GET only */
	const void *payload;
	size_t length;
};

struct fg_coap_settings {
	uint32_t ack_timeout_ms; /* ACK_TIMEOUT, RFC 7252 section 4.8: 2000; for LTE-M with PSM more
				  */
	uint8_t max_retransmit;	 /* MAX_RETRANSMIT: 4 */
	uint32_t response_timeout_ms; /* after an empty acknowledgement: 30000 */
};

extern const struct fg_coap_settings fg_coap_defaults;

struct fg_coap_client {
	const struct fg_coap_settings *settings;
	/* 0 or a negative errno. `more`: we expect an answer (for release assistance). */
	int (*send)(void *ctx, const void *datagram, size_t length, bool expects_answer);
	void (*random)(void *ctx, void *out, size_t length);
	/* `r` is NULL unless it is a response or a notification. */
	void (*handle)(void *ctx, enum fg_coap_outcome outcome, const struct fg_coap_response *r);
	void *ctx;

	/* counters since fg_coap_client_init */
	uint32_t requests, retransmissions, repeats;

	/* the rest is its own */
	int64_t started_ms, deadline_ms;
	uint32_t timeout_ms;
	uint32_t observe_seq;
	int64_t observe_at_ms;
	uint32_t block_number;
	uint16_t message_id, next_id;
	uint16_t seen[FG_COAP_SEEN];
	uint16_t request_length, body_length;
	uint8_t token[FG_COAP_TOKEN_LENGTH], observe_token[FG_COAP_TOKEN_LENGTH];
	uint8_t etag[FG_COAP_ETAG_MAX], etag_length;
	uint8_t state, transmissions, seen_count, seen_next, block_szx;
	bool observing;
	uint8_t request[FG_COAP_REQUEST_MAX];
	uint8_t body[FG_COAP_BODY_MAX];
};

/* The functions, ctx and settings are set by the caller before; message ids begin at random. */
void fg_coap_client_init(struct fg_coap_client *c);
/* 0; -EBUSY: one is under way; -EMSGSIZE: longer than FG_COAP_REQUEST_MAX. Whatever happens to it
 * otherwise, `handle` is called once for it. */
int fg_coap_client_request(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int64_t now_ms);
/* The same with a payload that is written by `write` into the request itself: its length, or a
 * negative errno, which is returned. */
int fg_coap_client_compose(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int (*write)(void *arg, uint8_t *out, size_t room), void *arg,
			   int64_t now_ms);
bool fg_coap_client_busy(const struct fg_coap_client *c);
/* Must the radio stay on for it? True while a request is under way. */
void fg_coap_client_receive(struct fg_coap_client *c, const void *datagram, size_t length,
			    int64_t now_ms);
/* Does what is due, and says when it wants to be called again: INT64_MAX for "not for itself". */
int64_t fg_coap_client_poll(struct fg_coap_client *c, int64_t now_ms);
/* Forgets the request that is under way and the observation, without a word to anybody: the session
 * is a new one. */
void fg_coap_client_reset(struct fg_coap_client *c);
/* No more notifications are wanted: the next one is answered with Reset. */
void fg_coap_client_stop_observing(struct fg_coap_client *c);

#endif
