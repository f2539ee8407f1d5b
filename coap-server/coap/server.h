/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CoAP (RFC 7252) on top of DTLS sessions; README.md beside this file says how a message travels,
 * and what libcoap does of it. Messages come in as the plaintext of records, answers leave through
 * `send`; nothing here sees an address or a socket. Handlers see requests whose body is whole
 * (RFC 7959) and are called once for each confirmable or non-confirmable message, however often it
 * is sent (RFC 7252 section 4.5): a repeat gets the first answer again.
 *
 * One thread. Callbacks may call any function here but coap_server_close,
 * coap_server_receive and coap_server_tick; also coap_server_forget, for any session.
 */
#ifndef FG_COAP_SERVER_H
#define FG_COAP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FG_COAP_GET = 1, /* RFC 7252 section 12.1.1, RFC 8132 section 6 */
	FG_COAP_POST = 2,
	FG_COAP_PUT = 3,
	FG_COAP_DELETE = 4,
	FG_COAP_FETCH = 5,
	FG_COAP_PATCH = 6,
	FG_COAP_IPATCH = 7,
};

#define FG_COAP_METHOD(m)	    (1u << (m))
#define FG_COAP_CODE(class, detail) ((uint8_t)((class) << 5 | (detail)))
#define FG_COAP_FORMAT_NONE	    (-1)

/* Content-Formats, RFC 7252 section 12.3, RFC 7396, RFC 8428 section 12.2, RFC 9254 */
enum {
	FG_COAP_TEXT = 0,
	FG_COAP_LINK_FORMAT = 40,
	FG_COAP_OCTET_STREAM = 42,
	FG_COAP_JSON = 50,
	FG_COAP_MERGE_PATCH_JSON = 52,
	FG_COAP_CBOR = 60,
	FG_COAP_SENML_JSON = 110,
	FG_COAP_SENML_CBOR = 112,
};

#define FG_COAP_ETAG_MAX 8
#define FG_COAP_PATH_MAX 255

struct coap_server;
struct coap_peer;     /* what the server keeps for a session; see coap_server_receive */
struct coap_exchange; /* a request that is answered later */

struct coap_call {	  /* a request; everything is valid until the handler returns */
	void *session;	  /* the caller's, as given to coap_server_receive */
	unsigned method;  /* FG_COAP_GET ... */
	const char *path; /* segments joined by '/', without one in front; NUL-terminated. A segment
			     that holds '/', a NUL or is "." or ".." never gets here (4.04). */
	const char *rest; /* of a subtree route: what follows its path and '/'; else "" */
	const char *query; /* joined by '&'; "" if none */
	int format;	   /* Content-Format, or FG_COAP_FORMAT_NONE */
	int accept;	   /* Accept, or FG_COAP_FORMAT_NONE */
	const uint8_t *payload;
	size_t payload_len;
	uint8_t etag[FG_COAP_ETAG_MAX]; /* the first ETag of a GET; If-Match of others */
	size_t etag_len;
	bool if_match, if_none_match;
	bool observe; /* GET that asks to be told of changes (RFC 7641), of an observable route */
	bool notification; /* nobody asked now: the answer is for an observer */
	/* Then: the `delivery` of this observation that the device acknowledged last; 0: none, or
	 * an answer other than COAP_NOT_NOW has come since it was in a call. */
	int64_t acknowledged;
};

enum coap_tell { /* the answer to a call with `notification`; of others it says nothing */
		 COAP_TELL,
		 COAP_NOTHING, /* nothing is sent, what was not acknowledged yet is taken back, and
				  the observation goes on */
		 COAP_NOT_NOW, /* likewise, but what is under way stays so, and the handler is
				  called again soon (COAP_NOT_NOW_US) */
};

#define COAP_NOT_NOW_US 5000000

enum coap_delivery {
	COAP_ACKNOWLEDGED,
	COAP_REJECTED,	/* reset: the device does not know what it is for (RFC 7641 section 3.6) */
	COAP_TIMED_OUT, /* it has said nothing */
};

struct coap_reply {
	uint8_t code;	     /* FG_COAP_CODE(2, 5) */
	int format;	     /* FG_COAP_FORMAT_NONE: no Content-Format */
	const void *payload; /* copied when the handler returns */
	size_t payload_len;
	const char *diagnostic; /* instead of payload: text for a person (RFC 7252 section 5.5.2) */
	int64_t max_age_s;	/* below 0: no Max-Age */
	uint8_t etag[FG_COAP_ETAG_MAX];
	size_t etag_len;
	const char *observe_key; /* accept the observation under this name; NULL: do not observe.
				    Not together with hold. */
	uint64_t hold;		 /* not 0: send it when coap_server_release comes to this ticket */
	enum coap_tell tell;
	/* Not 0: a number for what this reply, a success, brings to the device; `delivered` says
	 * what became of it. The answer to a registration is a message of its own then, because a
	 * device acknowledges no other. What an observation has brought and is not acknowledged
	 * yet, or was acknowledged last, is not sent for it again. */
	int64_t delivery;
};

enum coap_done {
	COAP_DONE,  /* the reply is filled */
	COAP_LATER, /* coap_server_answer brings it */
};

/* e: only for COAP_LATER, valid until it is answered. Not NULL. */
typedef enum coap_done coap_handler(void *arg, const struct coap_call *call,
				    struct coap_reply *reply, struct coap_exchange *e);

struct coap_route {
	const char *path; /* "msg/d2c" */
	bool subtree;	  /* also everything below, with `rest`; "store" itself is then not it */
	unsigned methods; /* FG_COAP_METHOD bits; others are answered 4.05 */
	coap_handler *handler;
	const char
		*attributes; /* for .well-known/core (RFC 6690): `rt="fg.telemetry";ct="50 60"` */
	bool observable;
};

struct coap_server_options {
	const struct coap_route *routes;
	size_t route_count;
	void *arg; /* of handlers and of the callbacks here */

	/*
	 * Asked for every request message before anything is kept for it, so for each block of a
	 * block-wise transfer too, known path or not. false: reply, which must be filled, is the
	 * answer.
	 */
	bool (*admit)(void *arg, void *session, unsigned method, const char *path,
		      struct coap_reply *reply);

	/*
	 * Has the device of this session proven who it is? What those make the server keep who have
	 * not takes nothing from the others: of answers to GET nothing is kept, so a repeat is one
	 * more request to admit; of transfers one for each session, and an eighth of
	 * max_transfers_all for all of them, in which the one least recently used makes room.
	 * NULL: all have.
	 */
	bool (*known)(void *arg, void *session);

	/* One record for this session. 0 or -errno (then it is as if lost). */
	int (*send)(void *arg, void *session, const uint8_t *data, size_t len);

	/* A request was run and its answer is held: coap_peer_save has it now, so that a crash
	 * before it is sent does not have the request run again. May be NULL; must not end the
	 * session. */
	void (*keep)(void *arg, void *session);

	/* A confirmable message of ours that held all of a reply with `delivery` has come to its
	 * end; nothing is said of one whose session ended before. Not of an answer that travelled
	 * with the acknowledgement, nor of a part (RFC 7959): of these nobody can tell whether the
	 * device has got them. May be NULL. */
	void (*delivered)(void *arg, void *session, int64_t delivery, enum coap_delivery how);

	/* How long the acknowledgement of a request that is put off (COAP_LATER) waits for its
	 * answer, to travel with it: that spares the device two datagrams. Less than ACK_TIMEOUT,
	 * 2 s (RFC 7252 sections 4.8 and 5.2.2). 0: it goes at once. */
	int64_t acknowledge_after_us;

	size_t max_body;      /* bytes of a request put together from blocks; more is 4.13 */
	size_t max_transfers; /* of one session at a time, each direction; its oldest makes room */
	size_t max_transfers_all; /* of all sessions together; beyond it 5.03 */
	size_t max_exchanges; /* to be answered later, or so answered and not acknowledged yet, all
				 together; beyond it 5.03, Max-Age 5, from routes that put off */
	size_t max_observations;  /* of one session */
	size_t max_observers;	  /* of one key, all sessions together; 0: any number. Its oldest
				     observation makes room, as that of a session which its device
				     has forgotten may stay for days */
	size_t dedup_per_session; /* answers kept for repeats, the last ones of each session */
	size_t dedup_bytes;	  /* and in all; the oldest go first */
};

struct coap_server_stats {
	uint64_t requests, repeats, malformed, refused, notifications, retransmissions,
		answers_late;
	size_t peers, exchanges, held, observations, transfers, dedup_entries, dedup_bytes;
};

/* 0 or -ENOMEM. Strings and routes must outlive it. */
int coap_server_open(struct coap_server **out, const struct coap_server_options *o);

/* Frees all, also peers that were not forgotten and exchanges that were not answered. */
void coap_server_close(struct coap_server *s);

/*
 * The plaintext of one record. *peer is kept by the server: NULL at first, NULL again whenever
 * nothing needs to be remembered; the caller keeps the pointer with the session, at the same place
 * in memory (dtls_user), and calls coap_server_forget before the session is gone. session_id: of
 * dtls_session_id.
 */
void coap_server_receive(struct coap_server *s, struct coap_peer **peer, uint64_t session_id,
			 void *session, const uint8_t *data, size_t len);
void coap_server_forget(struct coap_server *s, struct coap_peer **peer);

/*
 * Answer what was put off with COAP_LATER. A session that has ended meanwhile is fine. Within
 * acknowledge_after_us the answer travels with the acknowledgement. After that one went empty, so
 * the answer is a message of its own, and is retransmitted until the device acknowledges it
 * (RFC 7252 section 5.2.2).
 */
void coap_server_answer(struct coap_server *s, struct coap_exchange *e,
			const struct coap_reply *reply);

/* Whose request it is; NULL: that session has ended. */
void *coap_exchange_session(const struct coap_exchange *e);

/*
 * Replies held up to and including this ticket may go; with ok false each is replaced by 5.03 with
 * Max-Age 1. Repeats of a request whose reply is held are not answered meanwhile.
 */
void coap_server_release(struct coap_server *s, uint64_t ticket, bool ok);

/* What is observed under this key has changed: every observer's handler is called (notification
 * set) by the next coap_server_tick and its answer sent, confirmable. Several calls before that are
 * one. */
void coap_server_changed(struct coap_server *s, const char *observe_key);

/* The same for every key: changes may have been missed. */
void coap_server_changed_all(struct coap_server *s);

/* Notifications, retransmissions and timeouts. Returns when (microseconds of clock_monotonic_us) it
 * must be called again, INT64_MAX: never. Any other call here can make that earlier: call it after
 * them, once for many; it costs nothing when nothing is due. */
int64_t coap_server_tick(struct coap_server *s);

/*
 * The last answered exchange of a session as a few bytes that survive with it
 * (dtls_session_set_note), and back: so a request whose answer was lost in a crash is still not run
 * twice. save gives the length, 0 if nothing fits; `send` may call it: the answer that it is given
 * is then the last. An answer that was held comes back as one that may be seen: by then it must be
 * durable. They need no peer, as answers are kept by session_id alone.
 */
size_t coap_peer_save(const struct coap_server *s, uint64_t session_id, uint8_t *note,
		      size_t note_max);
void coap_peer_load(struct coap_server *s, uint64_t session_id, const uint8_t *note,
		    size_t note_len);

void coap_server_stats(const struct coap_server *s, struct coap_server_stats *out);

#endif
