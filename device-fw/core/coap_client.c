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

#define MAX_LATENCY_MS	  100000 /* RFC 7252 section 4.8.2 */
#define UNIT_BITS	  10	 /* of times that need not be exact: 1024 ms */
#define SEEN_LIFETIME	  242	 /* EXCHANGE_LIFETIME, 247 s, in units, rounded up */
#define OBSERVE_FRESH	  125	 /* 128 s (RFC 7641 section 3.4) in units */
#define OBSERVE_MASK	  0xffffffu
#define OBSERVE_HALF	  0x800000u
#define DEFAULT_MAX_AGE_S 60
#define TOKEN_AT	  FG_COAP_HEADER
#define OPTIONS_AT	  (FG_COAP_HEADER + FG_COAP_TOKEN_LENGTH)
#define BODY_AT		  (FG_COAP_BUFFER - FG_COAP_BODY_MAX)
#define BLOCK_MORE	  8u /* RFC 7959 section 2.2: NUM, M, SZX */
#define BLOCK_SZX	  7u
#define BLOCK_SZX_BITS	  4
#define BLOCK_SZX_MAX	  6
#define BLOCK_VALUE_MAX	  3
#define NONE		  UINT32_MAX

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

static uint32_t now_in_units(const struct fg_coap_client *c)
{
	return (uint32_t)(c->now_ms >> UNIT_BITS);
}

/* ---- What goes out */

static void transmit(struct fg_coap_client *c)
{
	c->deadline_ms = c->now_ms;
	if (c->send(c->ctx, c->buffer, c->request_length, true) < 0) {
		c->state = FAILED;
		return;
	}
	c->tries++;
	c->deadline_ms += c->timeout_ms;
	c->timeout_ms *= 2;
}

static void finish(struct fg_coap_client *c, enum fg_coap_outcome outcome)
{
	c->state = IDLE;
	c->handle(c->ctx, c->fetching ? FG_COAP_NOTIFICATION_LOST : outcome, NULL);
}

/*
 * Message ids are taken in turn. When one half of them begins, the other ends: it begins again when
 * EXCHANGE_LIFETIME has passed since then (section 4.8.2, with PROCESSING_DELAY = ACK_TIMEOUT).
 */
static void take_message_id(struct fg_coap_client *c)
{
	uint32_t lifetime_ms =
		2 * MAX_LATENCY_MS +
		(c->settings->ack_timeout_ms * (3u << c->settings->max_retransmit)) / 2;

	c->deadline_ms = c->now_ms;
	if ((++c->message_id & 0x7fff) == 0) {
		c->ids_from_ms += lifetime_ms;
		if (c->ids_from_ms < c->now_ms)
			c->ids_from_ms = c->now_ms;
	}
	if (c->deadline_ms < c->ids_from_ms)
		c->deadline_ms = c->ids_from_ms;
}

/* Sends what is in the buffer, but for its message id. */
static void begin(struct fg_coap_client *c)
{
	uint32_t random, timeout_ms = c->settings->ack_timeout_ms;

	take_message_id(c);
	c->buffer[2] = (uint8_t)(c->message_id >> 8);
	c->buffer[3] = (uint8_t)c->message_id;
	/* Between 1 and ACK_RANDOM_FACTOR, 1.5, times ACK_TIMEOUT. */
	c->random(c->ctx, &random, sizeof(random));
	c->timeout_ms = timeout_ms + (uint32_t)((uint64_t)(timeout_ms / 2 + 1) * random >> 32);
	c->tries = 0;
	c->state = SENT;
	if (c->now_ms >= c->deadline_ms)
		transmit(c);
}

static void new_token(struct fg_coap_client *c)
{
	c->random(c->ctx, c->buffer + TOKEN_AT, FG_COAP_TOKEN_LENGTH);
}

/* An empty message. If it cannot be sent, the server asks again, or the next request tells. */
static void answer(const struct fg_coap_client *c, enum fg_coap_type type,
		   const struct fg_coap_message *m)
{
	uint8_t empty[FG_COAP_HEADER];
	struct fg_coap_writer w;

	fg_coap_begin(&w, empty, sizeof(empty), type, FG_COAP_EMPTY, m->id, NULL, 0);
	(void)c->send(c->ctx, empty, sizeof(empty), c->state != IDLE);
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
	if (FG_COAP_BLOCK_SZX < BLOCK_SZX_MAX && r->method == FG_COAP_GET)
		fg_coap_option_uint(w, FG_COAP_OPTION_BLOCK2, FG_COAP_BLOCK_SZX);
}

static void start(struct fg_coap_client *c, size_t length, bool registering, bool fetching)
{
	c->request_length = (uint16_t)length;
	c->registering = registering;
	c->fetching = fetching;
	c->restarted = false;
	c->body_length = 0;
	c->started_ms = (uint32_t)c->now_ms;
	c->retransmissions_before = c->retransmissions;
}

/* The request to observe is in the buffer: keeps what it is for, or takes the token of what is
 * observed if that is the same. False: too long. */
static bool keep_observed(struct fg_coap_client *c, const struct fg_coap_request *r)
{
	uint8_t kept[FG_COAP_OBSERVED_MAX];
	struct fg_coap_writer w;

	fg_coap_begin(&w, kept, sizeof(kept), FG_COAP_CON, FG_COAP_GET, 0, c->buffer + TOKEN_AT,
		      FG_COAP_TOKEN_LENGTH);
	put_target(&w, r);
	if (w.full)
		return false;
	if (c->observing && w.length == c->observed_length &&
	    memcmp(kept + OPTIONS_AT, c->observed + OPTIONS_AT, w.length - OPTIONS_AT) == 0) {
		memcpy(c->buffer + TOKEN_AT, c->observed + TOKEN_AT, FG_COAP_TOKEN_LENGTH);
		return true;
	}
	fg_coap_client_stop_observing(c);
	memcpy(c->observed, kept, w.length);
	c->observed_length = (uint16_t)w.length;
	return true;
}

int fg_coap_client_compose(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int (*write)(void *arg, uint8_t *out, size_t room), void *arg,
			   int64_t now_ms)
{
	struct fg_coap_writer w;
	uint8_t *out;
	size_t room;
	int length;

	if (c->state != IDLE)
		return -EBUSY;
	c->now_ms = now_ms;
	new_token(c);
	fg_coap_begin(&w, c->buffer, FG_COAP_REQUEST_MAX, FG_COAP_CON, r->method, 0,
		      c->buffer + TOKEN_AT, FG_COAP_TOKEN_LENGTH);
	if (r->if_match_length > 0)
		fg_coap_option(&w, FG_COAP_OPTION_IF_MATCH, r->if_match, r->if_match_length);
	if (r->etag_length > 0)
		fg_coap_option(&w, FG_COAP_OPTION_ETAG, r->etag, r->etag_length);
	if (r->observe)
		fg_coap_option(&w, FG_COAP_OPTION_OBSERVE, NULL, 0);
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
	if (w.full || (r->observe && !keep_observed(c, r)))
		return -EMSGSIZE;
	start(c, w.length, r->observe, false);
	c->requests++;
	begin(c);
	return 0;
}

int fg_coap_client_request(struct fg_coap_client *c, const struct fg_coap_request *r,
			   int64_t now_ms)
{
	return fg_coap_client_compose(c, r, NULL, NULL, now_ms);
}

/*
 * Makes the request in the buffer the request for a block: without Observe (RFC 7959 section 2.6)
 * and payload, and with a token of its own, so that no late answer is taken for this one.
 */
static void ask_block(struct fg_coap_client *c, uint32_t block)
{
	struct fg_coap_message m;
	struct fg_coap_option o = {0};
	struct fg_coap_writer w;

	(void)fg_coap_parse(&m, c->buffer, c->request_length);
	new_token(c);
	fg_coap_begin(&w, c->buffer, BODY_AT, FG_COAP_CON, m.code, 0, c->buffer + TOKEN_AT,
		      FG_COAP_TOKEN_LENGTH);
	/* Options are only left out, so nothing is written beyond what was read. */
	while (fg_coap_next_option(&m, &o))
		if (o.number != FG_COAP_OPTION_OBSERVE &&
		    o.number != FG_COAP_OPTION_CONTENT_FORMAT && o.number != FG_COAP_OPTION_BLOCK2)
			fg_coap_option(&w, o.number, o.value, o.length);
	fg_coap_option_uint(&w, FG_COAP_OPTION_BLOCK2, block);
	c->request_length = (uint16_t)w.length;
	if (w.full)
		finish(c, FG_COAP_UNREADABLE);
	else
		begin(c);
}

/* ---- Responses */

/* A message of the server, with what its options say; zeroed first. */
struct incoming {
	struct fg_coap_message m;
	struct fg_coap_response r;
	uint32_t observe, block; /* NONE: it has no such option */
	bool readable;
};

/*
 * RFC 7252 section 5.4: a critical option that we do not know, or that is too long or there twice,
 * makes the message unreadable; others are as if they were not there. Block1 is a hint of a server
 * that takes no more than that (RFC 7959 section 2.9.3).
 */
static void read_options(struct incoming *in)
{
	struct fg_coap_option o = {0};

	in->readable = true;
	in->observe = in->block = NONE;
	in->r.code = in->m.code;
	in->r.format = FG_COAP_FORMAT_NONE;
	in->r.token = in->r.etag = in->m.token;
	in->r.token_length = in->m.token_length;
	in->r.max_age_s = DEFAULT_MAX_AGE_S;
	in->r.payload = in->m.payload;
	in->r.length = in->m.payload_length;
	in->r.transmissions = 1;
	while (fg_coap_next_option(&in->m, &o)) {
		uint32_t value = fg_coap_option_number(&o);

		if (o.number == FG_COAP_OPTION_BLOCK2 && o.length <= BLOCK_VALUE_MAX &&
		    in->block == NONE) {
			in->block = value;
		} else if (o.number & 1 && o.number != FG_COAP_OPTION_BLOCK1) {
			in->readable = false;
		} else if (o.number == FG_COAP_OPTION_ETAG && o.length <= FG_COAP_ETAG_MAX) {
			in->r.etag = o.value;
			in->r.etag_length = (uint8_t)o.length;
		} else if (o.number == FG_COAP_OPTION_OBSERVE && value <= OBSERVE_MASK) {
			in->observe = value;
		} else if (o.number == FG_COAP_OPTION_CONTENT_FORMAT && value <= UINT16_MAX) {
			in->r.format = (int)value;
		} else if (o.number == FG_COAP_OPTION_MAX_AGE && o.length <= sizeof(value)) {
			in->r.max_age_s = value;
		}
	}
}

static bool is_success(const struct incoming *in)
{
	return in->m.code >> 5 == 2;
}

/* An error's payload is for people: its first block does. */
static bool is_whole(const struct incoming *in)
{
	return in->block == NONE || !is_success(in) || (in->block & ~BLOCK_SZX) == 0;
}

static void deliver(struct fg_coap_client *c, enum fg_coap_outcome outcome, struct incoming *in)
{
	in->r.observed = c->observing;
	c->handle(c->ctx, outcome, &in->r);
}

static void deliver_response(struct fg_coap_client *c, struct incoming *in)
{
	if (c->fetching && !is_success(in)) {
		finish(c, FG_COAP_NOTIFICATION_LOST);
		return;
	}
	in->r.elapsed_ms = (uint32_t)c->now_ms - c->started_ms;
	in->r.transmissions = (uint8_t)(1 + c->retransmissions - c->retransmissions_before);
	deliver(c, c->fetching ? FG_COAP_NOTIFICATION : FG_COAP_RESPONSE, in);
}

static bool is_next_block(const struct fg_coap_client *c, const struct incoming *in)
{
	uint32_t szx = in->block & BLOCK_SZX, size = 1u << (szx + BLOCK_SZX_BITS);

	return szx != BLOCK_SZX && (in->block >> 4) * size == c->body_length &&
	       in->r.length <= (size_t)FG_COAP_BODY_MAX - c->body_length &&
	       (in->r.length == size || !(in->block & BLOCK_MORE));
}

/* A response to what is under way, or the first block of a notification. */
static void take_response(struct fg_coap_client *c, struct incoming *in)
{
	uint32_t szx = in->block & BLOCK_SZX;
	uint8_t *body = c->buffer + BODY_AT;

	c->state = IDLE;
	if (is_whole(in)) {
		deliver_response(c, in);
		return;
	}
	if (c->body_length == 0) {
		c->etag_length = in->r.etag_length;
		memcpy(c->etag, in->r.etag, in->r.etag_length);
	}
	if (c->etag_length != in->r.etag_length ||
	    memcmp(c->etag, in->r.etag, in->r.etag_length) != 0) {
		/* It has changed meanwhile. */
		if (c->restarted || c->buffer[1] != FG_COAP_GET) {
			finish(c, FG_COAP_UNREADABLE);
			return;
		}
		c->restarted = true;
		c->body_length = 0;
		ask_block(c, szx);
		return;
	}
	if (!is_next_block(c, in)) {
		finish(c, FG_COAP_UNREADABLE);
		return;
	}
	memcpy(body + c->body_length, in->r.payload, in->r.length);
	c->body_length = (uint16_t)(c->body_length + in->r.length);
	if (in->block & BLOCK_MORE) {
		ask_block(c, (uint32_t)c->body_length >> szx | szx);
		return;
	}
	in->r.payload = body;
	in->r.length = c->body_length;
	deliver_response(c, in);
}

/* ---- Observation */

/* RFC 7641 section 3.4: is it older than the last one, by `least` or more? What ends the
 * observation has no place in the order. */
static bool is_older(const struct fg_coap_client *c, const struct incoming *in, uint32_t least)
{
	uint32_t by = (c->observe_seq - in->observe) & OBSERVE_MASK;

	return in->observe != NONE && now_in_units(c) - c->observe_at <= OBSERVE_FRESH &&
	       by >= least && by <= OBSERVE_HALF;
}

static void note_observation(struct fg_coap_client *c, const struct incoming *in)
{
	/* The answer to a renewal may have been overtaken by a notification. */
	if (!c->observing || !is_older(c, in, 1)) {
		c->observe_seq = in->observe;
		c->observe_at = now_in_units(c);
	}
	c->observing = in->observe != NONE && is_success(in);
}

static void load_observed(struct fg_coap_client *c)
{
	c->waits = false;
	memcpy(c->buffer, c->observed, c->observed_length);
	start(c, c->observed_length, false, true);
}

static void take_notification(struct fg_coap_client *c, struct incoming *in)
{
	/* It is newer than what was, or will be, fetched. */
	if (c->fetching)
		c->state = IDLE;
	c->waits = c->state != IDLE && !is_whole(in);
	if (is_whole(in)) {
		deliver(c, FG_COAP_NOTIFICATION, in);
	} else if (!c->waits) {
		load_observed(c);
		take_response(c, in);
	}
}

/* ---- What comes in */

/* Have we had this confirmable message? */
static bool is_repeat(const struct fg_coap_client *c, uint16_t id)
{
	for (size_t i = 0; i < FG_COAP_SEEN; i++)
		if (c->seen[i] == id && now_in_units(c) - c->seen_at[i] <= SEEN_LIFETIME)
			return true;
	return false;
}

static void remember(struct fg_coap_client *c, uint16_t id)
{
	c->seen[c->seen_next] = id;
	c->seen_at[c->seen_next] = now_in_units(c);
	c->seen_next = (uint8_t)((c->seen_next + 1) % FG_COAP_SEEN);
}

static bool is_waiting(const struct fg_coap_client *c)
{
	return c->state == SENT || c->state == ACKED;
}

static bool has_token(const struct fg_coap_message *m, const uint8_t *message)
{
	return m->token_length == FG_COAP_TOKEN_LENGTH &&
	       memcmp(m->token, message + TOKEN_AT, FG_COAP_TOKEN_LENGTH) == 0;
}

/* A response: to the request, or a notification. */
static void take(struct fg_coap_client *c, struct incoming *in, bool ours)
{
	if (!in->readable) {
		if (in->m.type == FG_COAP_CON)
			answer(c, FG_COAP_RST, &in->m);
		if (ours) {
			finish(c, FG_COAP_UNREADABLE);
		} else {
			c->observing = false;
			c->handle(c->ctx, FG_COAP_NOTIFICATION_LOST, NULL);
		}
		return;
	}
	if (in->m.type == FG_COAP_CON) {
		remember(c, in->m.id);
		answer(c, FG_COAP_ACK, &in->m);
	}
	if (!ours && is_older(c, in, 0))
		return;
	if (!ours || c->registering)
		note_observation(c, in);
	c->registering = c->registering && !ours;
	if (ours)
		take_response(c, in);
	else
		take_notification(c, in);
}

static bool is_response(const struct fg_coap_message *m)
{
	return 1 << (m->code >> 5) & (1 << 2 | 1 << 4 | 1 << 5);
}

/* A message that is not a mere acknowledgement, or a response in an acknowledgement. */
static void take_message(struct fg_coap_client *c, struct incoming *in)
{
	enum fg_coap_type type = in->m.type;
	bool ours = is_waiting(c) && has_token(&in->m, c->buffer);
	bool notification = type != FG_COAP_ACK && c->observing && has_token(&in->m, c->observed);

	read_options(in);
	/* While an observation is renewed, an older notification may come late. */
	if (notification && type == FG_COAP_NON && is_older(c, in, 1))
		ours = false;
	if (is_response(&in->m) && (ours || notification))
		take(c, in, ours);
	/* Section 4.3 lets us ignore what is not confirmable; but unwanted notifications would not
	 * end. */
	else if (type == FG_COAP_CON || (type == FG_COAP_NON && in->observe != NONE))
		answer(c, FG_COAP_RST, &in->m);
}

/* Acknowledgement or Reset of our message. */
static void take_acknowledgement(struct fg_coap_client *c, struct incoming *in)
{
	if (in->m.code != FG_COAP_EMPTY) {
		if (in->m.type == FG_COAP_ACK)
			take_message(c, in);
	} else if (in->m.type == FG_COAP_RST) {
		finish(c, FG_COAP_REFUSED);
	} else if (c->state == SENT) {
		c->state = ACKED;
		c->deadline_ms = c->now_ms + c->settings->response_timeout_ms;
	}
}

void fg_coap_client_receive(struct fg_coap_client *c, const void *datagram, size_t length,
			    int64_t now_ms)
{
	struct incoming in = {0};
	const struct fg_coap_message *m = &in.m;
	bool malformed = fg_coap_parse(&in.m, datagram, length) < 0;

	c->now_ms = now_ms;
	if (m->type == FG_COAP_CON) {
		if (malformed) {
			answer(c, FG_COAP_RST, m);
		} else if (is_repeat(c, m->id)) {
			c->repeats++;
			answer(c, FG_COAP_ACK, m);
		} else {
			take_message(c, &in);
		}
	} else if (!malformed) {
		/* Section 4.2: what acknowledges nothing of ours, or makes no sense, is ignored. */
		if (m->type == FG_COAP_NON)
			take_message(c, &in);
		else if (is_waiting(c) && m->id == c->message_id)
			take_acknowledgement(c, &in);
	}
}

/* ---- Life */

int64_t fg_coap_client_poll(struct fg_coap_client *c, int64_t now_ms)
{
	c->now_ms = now_ms;
	if (c->state == IDLE && c->waits) {
		load_observed(c);
		new_token(c);
		begin(c);
	} else if (c->state != IDLE && now_ms >= c->deadline_ms) {
		if (c->state == SENT && c->tries <= c->settings->max_retransmit) {
			c->retransmissions += c->tries > 0;
			transmit(c);
		} else {
			finish(c, c->state == FAILED ? FG_COAP_NOT_SENT : FG_COAP_NO_ANSWER);
		}
	}
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
	fg_coap_client_stop_observing(c);
	c->state = IDLE;
	memset(c->seen, 0xff, sizeof(c->seen)); /* no message id is that long */
}

void fg_coap_client_init(struct fg_coap_client *c)
{
	size_t own = offsetof(struct fg_coap_client, state);

	memset((uint8_t *)c + own, 0, sizeof(*c) - own);
	c->random(c->ctx, &c->message_id, sizeof(c->message_id));
	c->ids_from_ms = INT64_MIN / 2; /* none has been used */
	fg_coap_client_reset(c);
}
