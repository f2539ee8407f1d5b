/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A coap_server without sockets, on a clock that the test moves: what it sends to each session is
 * kept, and handlers do what the test says. All routes have the same handler.
 *
 *	msg	POST PUT			 state	GET, observable
 *	store/	GET PUT DELETE FETCH, observable
 */
#ifndef FG_TEST_COAP_FIXTURE_H
#define FG_TEST_COAP_FIXTURE_H

#include "coap-server/coap/server.h"
#include "tests/coap/coap_bytes.h"

#define FIXTURE_SENT_MAX 512 /* messages of a session that are kept; of a small one 4 */

struct sent {
	uint8_t data[2048];
	size_t len;
};

struct session {
	struct fixture *f;
	struct coap_peer *peer;
	uint64_t id;
	struct sent *sent; /* a ring */
	size_t sent_max;
	size_t sent_count; /* in all */
	size_t taken;
	bool unreachable; /* `send` fails */
};

struct fixture {
	struct coap_server *server;
	struct session *a, *b;

	bool admit;
	unsigned admit_asked;

	/* What the handler does. */
	enum coap_done done;
	struct coap_reply reply;
	void (*in_handler)(struct fixture *f, const struct coap_call *call);

	/* What it saw. */
	unsigned called, notified;
	struct coap_call last;
	char path[256], rest[256], query[1024];
	uint8_t *payload;
	size_t payload_len;
	struct coap_exchange *exchange[64]; /* of COAP_LATER */
	size_t exchanges;

	/* What `delivered` said last, and how often; a test may do more in it. */
	unsigned delivered;
	int64_t delivery;
	enum coap_delivery how;
	struct session *delivered_to;
	void (*in_delivered)(struct fixture *f);
};

/* The options that fixture_new uses; a test may change them before. With an arg of its own it also
 * has its own routes, and nothing of what the fixture is told below. */
extern struct coap_server_options fixture_options;
void fixture_defaults(void);

struct fixture *fixture_new(void);
void fixture_free(struct fixture *f);

struct session *session_new(struct fixture *f, uint64_t id);
struct session *session_new_small(struct fixture *f, uint64_t id);
void session_end(struct session *s); /* and free */

void fixture_pass(int64_t us); /* the clock goes on */
int64_t fixture_now(void);
/* To each deadline of coap_server_tick in turn, `us` on in all. */
void fixture_run(struct fixture *f, int64_t us);

void deliver(struct session *s, const struct coap_bytes *b);

/* The next message that was sent to it and not looked at yet; NULL: none. */
const struct sent *take(struct session *s);
struct coap_seen expect(struct session *s);
void expect_nothing(struct session *s);

/* A request without anything else, and its answer. */
void send_request(struct session *s, unsigned type, unsigned code, uint16_t mid, const char *token,
		  const char *path, const char *payload);
void send_empty(struct session *s, unsigned type, uint16_t mid);

void reply_with(struct fixture *f, uint8_t code, const char *payload);

struct coap_server_stats stats_of(const struct fixture *f);

#endif
