/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One exchange at a time, in one buffer. The request stays there, as it was sent, until it is
 * answered: a retransmission is the same bytes, and the request for a block is made of the request
 * before it, in place. What is observed is kept as a short request of its own, from which a
 * notification longer than a block is fetched in the same way.
 */
#include "device-fw/core/coap_client.h"

#include <errno.h>
#include <string.h>

#define MAX_LATENCY_MS	 100000 /* RFC 7252 section 4.8.2 */
#define SEEN_UNIT_BITS	 10
#define SEEN_LIFETIME	 242	/* EXCHANGE_LIFETIME, 247 s, in units of 1024 ms, rounded up */
#define OBSERVE_FRESH_MS 128000 /* RFC 7641 section 3.4 */
#define OBSERVE_MASK	 0xffffffu
#define DEFAULT_MAX_AGE	 60
#define TOKEN_AT	 FG_COAP_HEADER
#define OPTIONS_AT	 (FG_COAP_HEADER + FG_COAP_TOKEN_LENGTH)
#define BLOCK_MORE	 8u /* RFC 7959 section 2.2: NUM, M, SZX */
#define BLOCK_SZX	 7u
#define BLOCK_VALUE_MAX	 3
#define NO_VALUE	 UINT32_MAX

enum {
	IDLE,
	SENT,	/* perhaps not yet: then `tries` is 0 */
	ACKED,	/* by an empty acknowledgement: the response comes separately */
	FAILED, /* it could not be sent; poll will tell */
};

const struct fg_coap_settings fg_coap_defaults = {
	.ack_timeout_ms = 2000,
	.max_retransmit = 4,
	.response_timeout_ms = 30000,
};

/* ---- What goes out */

static void transmit(struct fg_coap_client *c, int64_t now_ms)
{
	if (c->send(c->ctx, c->buffer, c->request_length, true) < 0) {
		c->state = FAILED;
		c->deadline_ms = now_ms;
		return;
	}
	c->tries++;
	c->deadline_ms = now_ms + c->timeout_ms;
	c->timeout_ms *= 2;
}

static void finish(struct fg_coap_client *c, enum fg_coap_outcome outcome)
{
	c->state = IDLE;
	c->handle(c->ctx, c->fetching ? FG_COAP_NOTIFICATION_LOST : outcome, NULL);
}

static void do_what_is_due(struct fg_coap_client *c, int64_t now_ms)
{
	if (now_ms < c->deadline_ms)
		return;
	if (c->state == FAILED) {
		finish(c, FG_COAP_NOT_SENT);
	} else if (c->state == SENT && c->tries <= c->settings->max_retransmit) {
		c->retransmissions += c->tries > 0;
		transmit(c, now_ms);
	} else {
		finish(c, FG_COAP_NO_ANSWER);
	}
}

/*
 * Message ids are taken in turn. When one half of them begins, the other ends: it begins again when
 * EXCHANGE_LIFETIME has passed since then (section 4.8.2, with PROCESSING_DELAY = ACK_TIMEOUT).
 */
static void take_message_id(struct fg_coap_client *c, int64_t now_ms)
{
	const struct fg_coap_settings *s = c->settings;
	uint32_t spans = (1u << s->max_retransmit) - 1;

	if ((++c->message_id & 0x7fff) == 0) {
		c->ids_from_ms +=
			2 * MAX_LATENCY_MS + s->ack_timeout_ms * (1 + spans + spans / 2 + 1);
		if (c->ids_from_ms < now_ms)
			c->ids_from_ms = now_ms;
	}
	c->deadline_ms = c->ids_from_ms > now_ms ? c->ids_from_ms : now_ms;
}

/* Sends what is in the buffer, but for its message id. */
static void begin(struct fg_coap_client *c, int64_t now_ms)
{
	uint32_t random, timeout_ms = c->settings->ack_timeout_ms;

	take_message_id(c, now_ms);
	c->buffer[2] = (uint8_t)(c->message_id >> 8);
	c->buffer[3] = (uint8_t)c->message_id;
	/* Between 1 and ACK_RANDOM_FACTOR, 1.5, times ACK_TIMEOUT. */
	c->random(c->ctx, &random, sizeof(random));
	c->timeout_ms = timeout_ms + (uint32_t)((uint64_t)(timeout_ms / 2 + 1) * random >> 32);
	c->tries = 0;
	c->state = SENT;
	if (now_ms >= c->deadline_ms)
		transmit(c, now_ms);
}

static void new_token(struct fg_coap_client *c)
{
	c->random(c->ctx, c->buffer + TOKEN_AT, FG_COAP_TOKEN_LENGTH);
}

/* An empty message. */
static void answer(const struct fg_coap_client *c, enum fg_coap_type type,
		   const struct fg_coap_message *m)
{
	uint8_t empty[FG_COAP_HEADER] = {(uint8_t)(1 << 6 | (unsigned)type << 4), FG_COAP_EMPTY,
					 (uint8_t)(m->id >> 8), (uint8_t)m->id};

	/* If it cannot be sent, the server asks again, or the next request tells. */
	(void)c->send(c->ctx, empty, sizeof(empty), c->state != IDLE);
}

static void reject(const struct fg_coap_client *c, const struct fg_coap_message *m)
{
	if (m->type == FG_COAP_CON)
		answer(c, FG_COAP_RST, m);
}

/* ---- Requests */

static void put_target(struct fg_coap_writer *w, const struct fg_coap_request *r)
{
	fg_coap_option_split(w, FG_COAP_OPTION_URI_PATH, r->path, '/');
	if (r->format >= 0)
		fg_coap_option_uint(w, FG_COAP_OPTION_CONTENT_FORMAT, (uint32_t)r->format);
	fg_coap_option_split(w, FG_COAP_OPTION_URI_QUERY, r->query, '&');
	if (r->accept >= 0)
		fg_coap_option_uint(w, FG_COAP_OPTION_ACCEPT, (uint32_t)r->accept);
}

static void start(struct fg_coap_client *c, bool fetching, int64_t now_ms)
{
	c->fetching = fetching;
	c->registering = c->restarted = false;
	c->body_length = 0;
	c->started_ms = now_ms;
	c->retransmissions_before = c->retransmissions;
}

/* The request is in the buffer, with a new token: what it makes of the observation. */
static int prepare_observation(struct fg_coap_client *c, const struct fg_coap_request *r)
{
	uint8_t kept[FG_COAP_OBSERVED_MAX];
	struct fg_coap_writer w;

	fg_coap_begin(&w, kept, sizeof(kept), FG_COAP_CON, FG_COAP_GET, 0, c->buffer + TOKEN_AT,
		      FG_COAP_TOKEN_LENGTH);
	put_target(&w, r);
	if (w.full)
		return -EMSGSIZE;
	if (c->observing && w.length == c->observed_length &&
	    memcmp(kept + OPTIONS_AT, c->observed + OPTIONS_AT, w.length - OPTIONS_AT) == 0) {
		memcpy(c->buffer + TOKEN_AT, c->observed + TOKEN_AT, FG_COAP_TOKEN_LENGTH);
		return 0;
	}
	c->observing = c->waits = false;
	memcpy(c->observed, kept, w.length);
	c->observed_length = (uint16_t)w.length;
	return 0;
}

int fg_coap_client_compose(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int (*write)(void *arg, uint8_t *out, size_t room), void *arg,
			   int64_t now_ms)
{
	struct fg_coap_writer w;
	uint8_t *out;
	size_t room;
	int length = 0;

	if (c->state != IDLE)
		return -EBUSY;
	new_token(c);
	fg_coap_begin(&w, c->buffer, FG_COAP_REQUEST_MAX, FG_COAP_CON, r->method, 0,
		      c->buffer + TOKEN_AT, FG_COAP_TOKEN_LENGTH);
	if (r->if_match_length > 0)
		fg_coap_option(&w, FG_COAP_OPTION_IF_MATCH, r->if_match, r->if_match_length);
	if (r->etag_length > 0)
		fg_coap_option(&w, FG_COAP_OPTION_ETAG, r->etag, r->etag_length);
	if (r->observe)
		fg_coap_option_uint(&w, FG_COAP_OPTION_OBSERVE, 0);
	put_target(&w, r);
	if (write) {
		out = fg_coap_payload_begin(&w, &room);
		length = write(arg, out, room);
		if (length < 0)
			return length;
		fg_coap_payload_end(&w, (size_t)length);
	} else {
		fg_coap_payload(&w, r->payload, r->length);
	}
	if (w.full || (r->observe && prepare_observation(c, r) < 0))
		return -EMSGSIZE;
	c->request_length = (uint16_t)w.length;
	start(c, false, now_ms);
	c->registering = r->observe;
	c->requests++;
	begin(c, now_ms);
	return 0;
}

int fg_coap_client_request(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int64_t now_ms)
{
	return fg_coap_client_compose(c, r, NULL, NULL, now_ms);
}

/*
 * Makes the request in the buffer the request for a block: without Observe (RFC 7959 section 2.6)
 * and payload, and with a token of its own, so that no late answer is taken for this one. False: it
 * is too long.
 */
static bool ask_block(struct fg_coap_client *c, uint32_t block, int64_t now_ms)
{
	struct fg_coap_message m;
	struct fg_coap_option o = {0};
	struct fg_coap_writer w;

	(void)fg_coap_parse(&m, c->buffer, c->request_length);
	new_token(c);
	fg_coap_begin(&w, c->buffer, FG_COAP_BUFFER - FG_COAP_BODY_MAX, FG_COAP_CON, m.code, 0,
		      c->buffer + TOKEN_AT, FG_COAP_TOKEN_LENGTH);
	/* Nothing is written beyond what was read: options are only left out. */
	while (fg_coap_next_option(&m, &o))
		if (o.number != FG_COAP_OPTION_OBSERVE &&
		    o.number != FG_COAP_OPTION_CONTENT_FORMAT && o.number != FG_COAP_OPTION_BLOCK2)
			fg_coap_option(&w, o.number, o.value, o.length);
	fg_coap_option_uint(&w, FG_COAP_OPTION_BLOCK2, block);
	c->request_length = (uint16_t)w.length;
	if (!w.full)
		begin(c, now_ms);
	return !w.full;
}

/* ---- Responses */

/* Its length is 0 if there is none. */
static struct fg_coap_option etag_of(const struct fg_coap_message *m)
{
	struct fg_coap_option etag;

	if (!fg_coap_find_option(m, FG_COAP_OPTION_ETAG, &etag) || etag.length > FG_COAP_ETAG_MAX)
		etag.length = 0;
	return etag;
}

static void deliver(struct fg_coap_client *c, enum fg_coap_outcome outcome,
		    const struct fg_coap_message *m, const uint8_t *payload, size_t length,
		    int64_t now_ms)
{
	struct fg_coap_option etag = etag_of(m);
	uint32_t format = fg_coap_find_uint(m, FG_COAP_OPTION_CONTENT_FORMAT, NO_VALUE);
	struct fg_coap_response r = {
		.code = m->code,
		.format = format <= UINT16_MAX ? (int)format : FG_COAP_FORMAT_NONE,
		.token = m->token,
		.token_length = m->token_length,
		.max_age_s = fg_coap_find_uint(m, FG_COAP_OPTION_MAX_AGE, DEFAULT_MAX_AGE),
		.payload = payload,
		.length = length,
		.observed = c->observing,
		.etag = etag.value,
		.etag_length = (uint8_t)etag.length,
	};

	if (outcome == FG_COAP_RESPONSE) {
		r.elapsed_ms = (uint32_t)(now_ms - c->started_ms);
		r.transmissions = (uint8_t)(1 + c->retransmissions - c->retransmissions_before);
	}
	c->handle(c->ctx, outcome, &r);
}

/* Is the ETag still that of the blocks before? */
static bool same_etag(struct fg_coap_client *c, const struct fg_coap_message *m)
{
	struct fg_coap_option etag = etag_of(m);

	if (c->body_length == 0) {
		c->etag_length = (uint8_t)etag.length;
		if (etag.length > 0)
			memcpy(c->etag, etag.value, etag.length);
	}
	return etag.length == c->etag_length &&
	       (etag.length == 0 || memcmp(c->etag, etag.value, etag.length) == 0);
}

static bool is_whole(const struct fg_coap_message *m, uint32_t block)
{
	/* An error's payload is for people: the first block of it does. */
	return block == NO_VALUE || m->code >> 5 != 2 || (block & ~BLOCK_SZX) == 0;
}

/* A response to what is under way, or the first block of a notification. */
static void take(struct fg_coap_client *c, const struct fg_coap_message *m, int64_t now_ms)
{
	enum fg_coap_outcome outcome = c->fetching ? FG_COAP_NOTIFICATION : FG_COAP_RESPONSE;
	uint32_t block = fg_coap_find_uint(m, FG_COAP_OPTION_BLOCK2, NO_VALUE);
	uint32_t szx = block & BLOCK_SZX, size = 16u << szx;
	uint8_t *body = c->buffer + FG_COAP_BUFFER - FG_COAP_BODY_MAX;

	if (is_whole(m, block)) {
		c->state = IDLE;
		if (c->fetching && m->code >> 5 != 2)
			finish(c, FG_COAP_NOTIFICATION_LOST);
		else
			deliver(c, outcome, m, m->payload, m->payload_length, now_ms);
		return;
	}
	if (!same_etag(c, m) && !c->restarted && c->buffer[1] == FG_COAP_GET) {
		c->restarted = true;
		c->body_length = 0;
		if (ask_block(c, szx, now_ms))
			return;
	}
	if (!same_etag(c, m) || szx == BLOCK_SZX || (block >> 4) * size != c->body_length ||
	    m->payload_length > (size_t)FG_COAP_BODY_MAX - c->body_length ||
	    (block & BLOCK_MORE && m->payload_length != size)) {
		finish(c, FG_COAP_UNREADABLE);
		return;
	}
	if (m->payload_length > 0)
		memcpy(body + c->body_length, m->payload, m->payload_length);
	c->body_length = (uint16_t)(c->body_length + m->payload_length);
	if (!(block & BLOCK_MORE)) {
		c->state = IDLE;
		deliver(c, outcome, m, body, c->body_length, now_ms);
	} else if (!ask_block(c, ((uint32_t)c->body_length >> szx & ~15u) | szx, now_ms)) {
		finish(c, FG_COAP_UNREADABLE);
	}
}

/* ---- Observation */

static uint32_t sequence_of(const struct fg_coap_message *m)
{
	return fg_coap_find_uint(m, FG_COAP_OPTION_OBSERVE, NO_VALUE);
}

/* RFC 7641 section 3.4. What ends the observation has no place in the order. */
static bool is_stale(const struct fg_coap_client *c, const struct fg_coap_message *m,
		     int64_t now_ms)
{
	uint32_t seq = sequence_of(m);

	return seq <= OBSERVE_MASK && now_ms - c->observe_at_ms <= OBSERVE_FRESH_MS &&
	       ((seq - c->observe_seq - 1) & OBSERVE_MASK) >= OBSERVE_MASK / 2;
}

static void note_sequence(struct fg_coap_client *c, const struct fg_coap_message *m, int64_t now_ms)
{
	uint32_t seq = sequence_of(m);

	c->observing = seq <= OBSERVE_MASK && m->code >> 5 == 2;
	c->observe_seq = seq;
	c->observe_at_ms = now_ms;
}

static void load_observed(struct fg_coap_client *c, int64_t now_ms)
{
	c->waits = false;
	memcpy(c->buffer, c->observed, c->observed_length);
	c->request_length = c->observed_length;
	start(c, true, now_ms);
}

static void take_notification(struct fg_coap_client *c, const struct fg_coap_message *m,
			      int64_t now_ms)
{
	if (is_stale(c, m, now_ms))
		return;
	note_sequence(c, m, now_ms);
	/* It is newer than what was, or will be, fetched. */
	if (c->fetching)
		c->state = IDLE;
	c->waits = false;
	if (is_whole(m, fg_coap_find_uint(m, FG_COAP_OPTION_BLOCK2, NO_VALUE))) {
		deliver(c, FG_COAP_NOTIFICATION, m, m->payload, m->payload_length, now_ms);
	} else if (c->state == IDLE) {
		load_observed(c, now_ms);
		take(c, m, now_ms);
	} else {
		c->waits = true;
	}
}

/* ---- What comes in */

static bool is_repeat(const struct fg_coap_client *c, uint16_t id, int64_t now_ms)
{
	uint32_t now = (uint32_t)(now_ms >> SEEN_UNIT_BITS);

	for (size_t i = 0; i < FG_COAP_SEEN; i++)
		if (c->seen[i] == id && now - c->seen_at[i] <= SEEN_LIFETIME)
			return true;
	return false;
}

static void remember(struct fg_coap_client *c, uint16_t id, int64_t now_ms)
{
	c->seen[c->seen_next] = id;
	c->seen_at[c->seen_next] = (uint32_t)(now_ms >> SEEN_UNIT_BITS);
	c->seen_next = (uint8_t)((c->seen_next + 1) % FG_COAP_SEEN);
}

/* RFC 7252 section 5.4.1: a critical option that we do not know, or know as another thing. Block1
 * is a hint of a server that takes no more than that (RFC 7959 section 2.9.3). */
static bool is_readable(const struct fg_coap_message *m)
{
	struct fg_coap_option o = {0};
	uint16_t before = 0;

	for (; fg_coap_next_option(m, &o); before = o.number)
		if (o.number & 1 &&
		    ((o.number != FG_COAP_OPTION_BLOCK2 && o.number != FG_COAP_OPTION_BLOCK1) ||
		     o.length > BLOCK_VALUE_MAX || o.number == before))
			return false;
	return true;
}

static bool has_token(const struct fg_coap_message *m, const uint8_t *message)
{
	return m->token_length == FG_COAP_TOKEN_LENGTH &&
	       memcmp(m->token, message + TOKEN_AT, FG_COAP_TOKEN_LENGTH) == 0;
}

static bool is_response(const struct fg_coap_message *m)
{
	unsigned class = m->code >> 5;

	return class == 2 || class == 4 || class == 5;
}

static void take_response(struct fg_coap_client *c, const struct fg_coap_message *m, int64_t now_ms)
{
	if (c->registering) {
		c->registering = false;
		note_sequence(c, m, now_ms);
	}
	take(c, m, now_ms);
}

/* Acknowledgement or Reset. What answers nothing of ours is ignored (section 4.2). */
static void take_answer(struct fg_coap_client *c, const struct fg_coap_message *m, int64_t now_ms)
{
	if ((c->state != SENT && c->state != ACKED) || m->id != c->message_id)
		return;
	if (m->code == FG_COAP_EMPTY) {
		if (m->type == FG_COAP_RST) {
			finish(c, FG_COAP_REFUSED);
		} else if (c->state == SENT) {
			c->state = ACKED;
			c->deadline_ms = now_ms + c->settings->response_timeout_ms;
		}
	} else if (m->type == FG_COAP_ACK && is_response(m) && has_token(m, c->buffer)) {
		if (is_readable(m))
			take_response(c, m, now_ms);
		else
			finish(c, FG_COAP_UNREADABLE);
	}
}

/* A message of the server itself, confirmable or not. */
static void take_message(struct fg_coap_client *c, const struct fg_coap_message *m, int64_t now_ms)
{
	bool ours = (c->state == SENT || c->state == ACKED) && has_token(m, c->buffer);
	bool notification = c->observing && has_token(m, c->observed);

	/* While an observation is renewed, an old notification may come late. */
	if (ours && notification && m->type == FG_COAP_NON && is_stale(c, m, now_ms))
		ours = false;
	if (!is_response(m) || !(ours || notification)) {
		/* Section 4.3 lets us ignore it, but an unwanted notification would come again. */
		if (m->type == FG_COAP_CON || sequence_of(m) != NO_VALUE)
			answer(c, FG_COAP_RST, m);
		return;
	}
	if (!is_readable(m)) {
		reject(c, m);
		c->observing = c->observing && !notification;
		if (ours)
			finish(c, FG_COAP_UNREADABLE);
		else
			c->handle(c->ctx, FG_COAP_NOTIFICATION_LOST, NULL);
		return;
	}
	if (m->type == FG_COAP_CON) {
		remember(c, m->id, now_ms);
		answer(c, FG_COAP_ACK, m);
	}
	if (ours)
		take_response(c, m, now_ms);
	else
		take_notification(c, m, now_ms);
}

void fg_coap_client_receive(struct fg_coap_client *c, const void *datagram, size_t length,
			    int64_t now_ms)
{
	struct fg_coap_message m;

	if (fg_coap_parse(&m, datagram, length) < 0) {
		reject(c, &m);
	} else if (m.type == FG_COAP_ACK || m.type == FG_COAP_RST) {
		take_answer(c, &m, now_ms);
	} else if (m.type == FG_COAP_CON && is_repeat(c, m.id, now_ms)) {
		c->repeats++;
		answer(c, FG_COAP_ACK, &m);
	} else {
		take_message(c, &m, now_ms);
	}
}

/* ---- Life */

int64_t fg_coap_client_poll(struct fg_coap_client *c, int64_t now_ms)
{
	if (c->state == IDLE && c->waits) {
		load_observed(c, now_ms);
		new_token(c);
		begin(c, now_ms);
	}
	if (c->state != IDLE)
		do_what_is_due(c, now_ms);
	if (c->state != IDLE)
		return c->deadline_ms;
	return c->waits ? now_ms : INT64_MAX;
}

bool fg_coap_client_busy(const struct fg_coap_client *c)
{
	return c->state != IDLE || c->waits;
}

void fg_coap_client_stop_observing(struct fg_coap_client *c)
{
	if (c->fetching)
		c->state = IDLE;
	c->observing = c->waits = false;
}

void fg_coap_client_reset(struct fg_coap_client *c)
{
	c->state = IDLE;
	fg_coap_client_stop_observing(c);
	memset(c->seen, 0xff, sizeof(c->seen)); /* none is that long */
}

void fg_coap_client_init(struct fg_coap_client *c)
{
	struct fg_coap_client fresh = {
		.settings = c->settings,
		.send = c->send,
		.random = c->random,
		.handle = c->handle,
		.ctx = c->ctx,
	};

	*c = fresh;
	c->random(c->ctx, &c->message_id, sizeof(c->message_id));
	fg_coap_client_reset(c);
}
