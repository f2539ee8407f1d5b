/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of coap-server/coap share. server.c says what a message is; request.c is the
 * way of a request, answer.c that of its answer; peer.c, transfer.c, outbox.c, held.c and observe.c
 * each own one kind of thing that is remembered for a session.
 */
#ifndef FG_COAP_INTERNAL_H
#define FG_COAP_INTERNAL_H

#include "coap-server/coap/dedup.h"
#include "coap-server/coap/glue.h"
#include "coap-server/coap/list.h"
#include "coap-server/coap/server.h"
#include "core/base/clock.h"

/* Requests of one session whose answers are put off, held or not acknowledged yet. RFC 7252 section
 * 4.7 lets a device have one (NSTART); more than these are answered 5.03. */
#define PEER_PENDING_MAX 64

#define EXCHANGE_LIFETIME_US (247 * US_PER_S) /* RFC 7252 section 4.8.2 */
#define BUSY_MAX_AGE_S	     5
#define NOTIFY_RETRY_US	     (100 * US_PER_MS)
#define MID_COUNTERS	     4096
#define SPARE_BYTES	     128

struct observation;
struct observed;

/* All that is remembered for a session, while there is something: see peer_settle. */
struct coap_peer {
	struct coap_server *server;
	struct link of_server;
	struct coap_peer **home; /* the caller's pointer to this */
	void *session;
	uint64_t id;
	unsigned busy; /* somebody down the stack uses it */
	bool gone;     /* coap_server_forget came meanwhile */

	struct link exchanges;
	struct link observations;
	struct link held;
	struct link transfers;
	struct link queue; /* of confirmable messages; the first is under way (NSTART 1) */
	size_t observation_count;
	size_t pending;

	/* Of the first message in the queue (RFC 7252 section 4.2). */
	size_t heap_index; /* from 1; 0: no timer */
	int64_t due_us;
	int64_t timeout_us;
	unsigned tries;
};

/* What the answer to a request depends on besides the reply. */
struct origin {
	struct message_id id;
	struct block block1, block2; /* of the request */
	unsigned method;
	uint64_t key; /* of the representation: see transfer_key */
	bool notification;
};

struct coap_exchange {
	struct coap_server *server;
	struct coap_peer *peer; /* NULL: its session is gone */
	struct link of_server;
	struct link of_peer;
	struct link unacknowledged; /* in the server's list: nothing was said to the device yet */
	int64_t acknowledge_us;
	struct origin origin;
	struct observation *candidate;	 /* a registration, not yet accepted */
	struct observation *observation; /* it is for a notification to this one */
};

/* A message of ours that is kept until it may go (held) or has arrived (queue). */
struct outgoing {
	struct link of_peer;
	struct link by_ticket;
	struct coap_peer *peer;
	struct observation *observation; /* whose notification it is; NULL: an answer */
	uint64_t ticket;
	uint16_t request_mid;
	uint16_t old_mid;     /* of the notification that this one took the place of */
	bool has_old_mid;     /* that one was sent */
	bool sent;	      /* at least once */
	bool answers_once;    /* held: piggybacked or NON; it is sent and not queued */
	bool late;	      /* counted in server->late */
	bool in_part;	      /* its acknowledgement does not say that the device has all of it */
	int64_t delivery;     /* of the reply; 0: none, or it was told */
	int64_t old_delivery; /* of that with old_mid */
	uint16_t room;	      /* bytes of data */
	uint16_t len;
	uint8_t data[];
};

/* A body in blocks (RFC 7959), on its way up or down. */
struct transfer {
	struct link of_peer;
	struct link by_use; /* of all, the least recently used first */
	struct coap_peer *peer;
	uint64_t key;
	int64_t used_us;
	bool upload;
	bool stranger; /* of a session that was not known when it began */
	uint8_t *body;
	size_t len, room;

	int format;
	/* down only */
	uint8_t code;
	uint8_t etag_len;
	uint8_t etag[FG_COAP_ETAG_MAX];
	int64_t max_age_s;
};

struct observation {
	struct link of_peer;
	struct link of_key;
	struct link due; /* its handler is to be called: in the server's list `due`, or `later` */
	struct coap_peer *peer;
	struct observed *key;
	const struct coap_route *route;
	struct outgoing *message;	/* the notification that is not acknowledged yet */
	struct coap_exchange *exchange; /* its handler has put the answer off */
	bool again;			/* and it has changed meanwhile */
	int64_t later_us;		/* in the server's list `later` */
	int64_t acknowledged, told;	/* see coap_call; as the handler was told the last time */
	uint8_t szx;
	uint8_t token_len;
	uint8_t token[MESSAGE_TOKEN_MAX];
	uint32_t number;
	int accept;
	uint64_t transfer_key;
	const char *query; /* in text */
	char text[];	   /* path, query */
};

struct observed { /* a key that somebody observes */
	struct observed *next;
	struct link observations; /* the oldest first */
	size_t count;
	size_t name_len;
	char name[];
};

struct coap_server {
	struct coap_server_options o;
	struct coap_server_stats stats;
	struct dedup *dedup;
	struct message in; /* the message that is being handled */
	bool *route_late;  /* of each route: has it ever put off an answer? */
	size_t late;	   /* exchanges, and their answers until they are acknowledged */
	uint16_t *mids;	   /* next message ID, by a hash of the session */
	struct coap_peer *spare_peer;
	struct coap_exchange *spare_exchange;
	struct outgoing *spare_outgoing;
	struct coap_exchange *calling; /* of the handler that is running, until it is answered */

	struct link peers, exchanges;
	struct link unacknowledged; /* by time */
	struct link held;	    /* by ticket */
	struct link transfers, stranger_transfers;
	size_t uploads, downloads, strangers;

	struct coap_peer **timers; /* a heap by due_us; [0] is not used */
	size_t timer_count, timer_room;

	struct observed **observed;
	size_t observed_count, observed_mask;
	struct link due;
	int64_t due_not_before_us;
	struct link later; /* by time */

	char *links; /* room for .well-known/core */
	size_t links_room;
	struct coap_route well_known;
};

/* --- request.c --- */

struct receiving { /* whom the message is from */
	struct coap_server *s;
	struct coap_peer **home;
	uint64_t id;
	void *session;
};

/* server->in is a request that is no repeat. */
void request(struct receiving *r);

/* Acknowledge what has waited for its answer long enough. When it has something to do next. */
int64_t requests_acknowledge(struct coap_server *s, int64_t now_us);

/* --- peer.c --- */

bool session_known(const struct coap_server *s, void *session);

/* The peer behind *home, or a new one; NULL: no memory. */
struct coap_peer *peer_get(struct coap_server *s, struct coap_peer **home, uint64_t id,
			   void *session);

/* Between these it stays, whatever the callbacks do. settle frees it when nothing is left of it;
 * false: it is not there any more. */
void peer_use(struct coap_peer *p);
bool peer_settle(struct coap_peer *p);

uint16_t next_mid(struct coap_server *s, uint64_t session_id);

/* As the callback; counts nothing. */
int peer_send(struct coap_peer *p, const uint8_t *data, size_t len);

/* The same memory is used again: a request that leaves no trace costs no allocation. NULL: none. */
struct coap_exchange *exchange_new(struct coap_server *s);
void exchange_attach(struct coap_exchange *e, struct coap_peer *p);
void exchange_free(struct coap_exchange *e);

/* --- route.c --- */

/* NULL: there is none. *rest: see coap_call. */
const struct coap_route *route_find(const struct coap_server *s, const char *path,
				    const char **rest);
int well_known_init(struct coap_server *s);
coap_handler well_known_get;

/* --- transfer.c --- */

uint64_t transfer_key(const struct message *m, bool upload);
struct transfer *transfer_find(struct coap_peer *p, bool upload, uint64_t key);
/* NULL and -ENOMEM, or -EBUSY: max_transfers_all. The session's own oldest makes room for it. */
struct transfer *transfer_new(struct coap_peer *p, bool upload, uint64_t key, int *error);
void transfer_free(struct transfer *t);
void transfer_touch(struct transfer *t);
int64_t transfers_expire(struct coap_server *s, int64_t now_us);

/* One block of an upload: the code of its answer (2.31, 4.08, 4.13, 5.03), or 0: *whole is the
 * body, to be freed by the caller. */
uint8_t upload_block(struct coap_peer *p, const struct message *m, struct transfer **whole,
		     const char **why);

/* Does it fit into max_body, as far as this message tells? */
bool body_fits(const struct coap_server *s, const struct message *m);

/* --- answer.c --- */

/* Fills a, and stores what goes in blocks. p NULL: nothing may be kept. a->payload points into what
 * r has, or what is stored. */
void compose(struct coap_peer *p, const struct origin *o, const struct coap_reply *r,
	     struct answer *a);
/* This block of what is stored. */
void compose_block(const struct transfer *t, const struct block *want, struct answer *a);

void reply_init(struct coap_reply *r, uint8_t code, const char *diagnostic);

/* The first answer to a request, piggybacked or NON; keep: for its repeats. */
void answer_now(struct coap_server *s, uint64_t session_id, void *session, struct answer *a,
		bool keep);
void answer_empty(struct coap_server *s, uint64_t session_id, void *session,
		  const struct message_id *request);
/* Nothing yet; repeats of it are not run meanwhile. */
void answer_none(struct coap_server *s, uint64_t session_id, const struct message_id *request);
/* Likewise, when the ticket comes. */
void answer_held(struct coap_peer *p, struct answer *a, uint64_t ticket);
/* As a message of its own; ticket 0: at once. */
void answer_late(struct coap_peer *p, struct answer *a, uint64_t ticket);

/* --- outbox.c --- */

struct outgoing *outgoing_new(struct coap_peer *p, const uint8_t *data, size_t len);
void outgoing_free(struct outgoing *m);
bool outgoing_spare(struct coap_server *s);
void outgoing_count_late(struct outgoing *m);

int outbox_reserve(struct coap_server *s, size_t peers);
void outbox_add(struct outgoing *m);
void outbox_replace(struct outgoing *old, struct outgoing *m);
void outbox_remove(struct outgoing *m);
/* Is this under way for the observation, or waits to be? */
bool outbox_brings(const struct observation *ob, int64_t delivery);
void outbox_acknowledged(struct coap_peer *p, uint16_t mid);
void outbox_reset(struct coap_peer *p, uint16_t mid);
void outbox_stop(struct coap_peer *p);
int64_t outbox_tick(struct coap_server *s, int64_t now_us);

/* --- held.c --- */

void held_add(struct outgoing *m, uint64_t ticket);
void held_remove(struct outgoing *m);

/* --- observe.c --- */

struct observation *observation_new(const struct message *m, const struct coap_route *route);
/* Accepted: it takes the place of what this token observed. False, and it is freed: there is no
 * room. */
bool observation_install(struct coap_peer *p, struct observation *ob, const char *key);
void observation_remove(struct observation *ob);
struct observation *observation_find(struct coap_peer *p, const uint8_t *token, size_t len);
uint32_t observation_number(struct observation *ob);
/* The handler has answered for it. */
void observation_answer(struct observation *ob, const struct origin *o, const struct coap_reply *r);
void observe_tick(struct coap_server *s, int64_t now_us);
/* When it has something to do. */
int64_t observe_next(const struct coap_server *s, int64_t now_us);

#endif
