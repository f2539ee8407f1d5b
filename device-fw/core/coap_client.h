/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's message layer of CoAP (RFC 7252 section 4), without input and output of its own: it
 * is given datagrams and the time, and gives datagrams. One confirmable request is under way at a
 * time (NSTART 1, section 4.7); responses longer than a block are fetched block by block (RFC 7959)
 * and given whole; one resource may be observed (RFC 7641). What the server sends twice is answered
 * twice and given once.
 *
 * A structure belongs to one thread. `handle` is called from fg_coap_client_receive and
 * fg_coap_client_poll, as the last thing that they do, and never from the functions that begin a
 * request: so it may begin the next one. Call fg_coap_client_poll after each other call.
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
#ifndef FG_COAP_BLOCK_SZX
#define FG_COAP_BLOCK_SZX                                                                          \
	6 /* GET: the longest block we have room for is 2^(4 + this); below 6, 1,024 bytes, the    \
	     server is told (RFC 7959 section 2.4) */
#endif
#ifndef FG_COAP_OBSERVED_MAX
#define FG_COAP_OBSERVED_MAX 48 /* bytes of a request for what is observed, without ETag */
#endif
#define FG_COAP_TOKEN_LENGTH 4
#define FG_COAP_ETAG_MAX     8
#define FG_COAP_SEEN	     4 /* message ids of the server that are remembered */

/* A request for a block has no payload: it leaves room for the body that is put together. */
#define FG_COAP_BLOCK_REQUEST_MAX 256
#define FG_COAP_BUFFER                                                                             \
	(FG_COAP_REQUEST_MAX > FG_COAP_BLOCK_REQUEST_MAX + FG_COAP_BODY_MAX                        \
		 ? FG_COAP_REQUEST_MAX                                                             \
		 : FG_COAP_BLOCK_REQUEST_MAX + FG_COAP_BODY_MAX)

enum fg_coap_outcome {
	FG_COAP_RESPONSE,     /* to the request */
	FG_COAP_NOTIFICATION, /* of what is observed; the request may have been long ago */
	FG_COAP_NO_ANSWER,  /* not acknowledged after all retransmissions, or no response came after
			       it was */
	FG_COAP_REFUSED,    /* Reset: the server knows nothing of it */
	FG_COAP_UNREADABLE, /* a critical option, blocks out of order, or a body longer than
			       FG_COAP_BODY_MAX */
	FG_COAP_NOT_SENT,   /* send failed; the session is of no use */
	FG_COAP_NOTIFICATION_LOST, /* what is observed has changed, and is one of the four above:
				      ask for it, with `observe` */
};

struct fg_coap_response {
	uint8_t code;
	int format;			       /* FG_COAP_FORMAT_NONE: none */
	const uint8_t *token, *etag, *payload; /* never NULL */
	uint8_t token_length;
	uint8_t etag_length; /* 0: none */
	bool observed;	     /* changes of it will be told; false in a notification: no more */
	uint32_t max_age_s;  /* 60 if it is not there (RFC 7252 section 5.10.5) */
	size_t length; /* of the payload: the whole body, until `handle` returns or begins a request
			*/
	uint32_t elapsed_ms;   /* since the request was begun; of a notification: what it took to
				  fetch it */
	uint8_t transmissions; /* 1, and the retransmissions (of requests for blocks, too) */
};

struct fg_coap_request {
	uint8_t method;
	const char *path;   /* "msg/d2c" */
	const char *query;  /* "a=1&b", or NULL */
	int format, accept; /* FG_COAP_FORMAT_NONE: no such option */
	const uint8_t *etag, *if_match;
	uint8_t etag_length, if_match_length; /* 0: no such option */
	bool observe; /* GET only. It ends the observation of another resource; of the same, it
			 renews it under its token (RFC 7641 section 3.3.1) */
	const void *payload;
	size_t length;
};

struct fg_coap_settings {
	uint32_t ack_timeout_ms;      /* ACK_TIMEOUT, RFC 7252 section 4.8: 2000; for LTE-M with PSM
					 more, up to 60000 */
	uint8_t max_retransmit;	      /* MAX_RETRANSMIT: 4, up to 8 */
	uint32_t response_timeout_ms; /* after an empty acknowledgement: 30000 */
};

extern const struct fg_coap_settings fg_coap_defaults;

struct fg_coap_client {
	const struct fg_coap_settings *settings;
	/* 0 or a negative errno. expects_answer: a request is under way (for release assistance).
	 */
	int (*send)(void *ctx, const void *datagram, size_t length, bool expects_answer);
	void (*random)(void *ctx, void *out, size_t length);
	/* `r` is NULL unless it is a response or a notification. */
	void (*handle)(void *ctx, enum fg_coap_outcome outcome, const struct fg_coap_response *r);
	void *ctx;

	/* Its own, but for the counters below. Bytes are first: nearest to the structure's
	 * beginning, they take the shortest instructions. */
	uint8_t state, tries, seen_next, etag_length;
	bool registering; /* the request has Observe */
	bool observing;
	bool fetching; /* what is under way is for a notification */
	bool waits;    /* a long notification is to be fetched */
	bool restarted;
	uint16_t message_id;
	uint16_t request_length, body_length, observed_length;
	uint32_t timeout_ms, started_ms;  /* lower bits of the time */
	uint32_t observe_seq, observe_at; /* in units of 1024 ms, like seen_at */
	uint32_t retransmissions_before;

	/* counters since fg_coap_client_init */
	uint32_t requests, retransmissions, repeats;

	int64_t now_ms; /* when it was called last */
	int64_t deadline_ms;
	int64_t ids_from_ms; /* when the message ids that are taken now may be used */
	uint32_t seen[FG_COAP_SEEN], seen_at[FG_COAP_SEEN];
	uint8_t etag[FG_COAP_ETAG_MAX];		/* of the body */
	uint8_t observed[FG_COAP_OBSERVED_MAX]; /* a message: its token, and the target's options */
	uint8_t buffer[FG_COAP_BUFFER];		/* the request, and the body at the end */
};

/* The functions, ctx and settings are set by the caller before; message ids begin at random. */
void fg_coap_client_init(struct fg_coap_client *c);
/*
 * 0; -EBUSY: one is under way, perhaps for a notification; -EMSGSIZE: longer than
 * FG_COAP_REQUEST_MAX. Whatever happens to it otherwise, `handle` is called once for it. It is sent
 * at once, unless the message ids have run out: none is used twice within EXCHANGE_LIFETIME
 * (section 4.4), which 130 requests a second bear for ever.
 */
int fg_coap_client_request(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int64_t now_ms);
/* The same with a payload that is written by `write` into the request itself: its length, or a
 * negative errno, which is returned. */
int fg_coap_client_compose(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int (*write)(void *arg, uint8_t *out, size_t room), void *arg,
			   int64_t now_ms);
/* Must the radio stay on for it? True while a request is under way, or a notification is to be
 * fetched. */
bool fg_coap_client_busy(const struct fg_coap_client *c);
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
