/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a message: is it a repeat, is it a request, may this session ask for it, does it have
 * a resource, is its body whole; then its handler, and what becomes of the reply.
 */
#include "coap-server/coap/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Opening and closing --- */

int coap_server_open(struct coap_server **out, const struct coap_server_options *o)
{
	struct coap_server *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->o = *o;
	link_init(&s->peers);
	link_init(&s->exchanges);
	link_init(&s->held);
	link_init(&s->transfers);
	link_init(&s->due);
	s->dedup = dedup_new(o->dedup_bytes, o->dedup_per_session);
	s->route_late = calloc(o->route_count + 1, sizeof(bool));
	s->mids = malloc(MID_COUNTERS * sizeof(*s->mids));
	if (s->dedup == NULL || s->route_late == NULL || s->mids == NULL ||
	    well_known_init(s) != 0) {
		coap_server_close(s);
		return -ENOMEM;
	}
	random_bytes(s->mids, MID_COUNTERS * sizeof(*s->mids));
	*out = s;
	return 0;
}

/* The callers' pointers to peers are not touched: their sessions may be gone before. */
void coap_server_close(struct coap_server *s)
{
	if (s == NULL)
		return;
	while (!list_empty(&s->peers)) {
		struct coap_peer *p = LINK_OWNER(s->peers.next, struct coap_peer, of_server);

		coap_server_forget(s, &p);
	}
	while (!list_empty(&s->exchanges))
		exchange_free(LINK_OWNER(s->exchanges.next, struct coap_exchange, of_server));
	dedup_free(s->dedup);
	free(s->route_late);
	free(s->mids);
	free(s->links);
	free(s->spare_peer);
	free(s->spare_exchange);
	free(s->spare_outgoing);
	free(s->timers);
	free(s->observed);
	free(s);
}

/* --- A request --- */

struct receiving { /* whom the message is from */
	struct coap_server *s;
	struct coap_peer **home;
	uint64_t id;
	void *session;
};

static void answer_reply(struct receiving *r, const struct coap_reply *reply, bool keep)
{
	struct origin o = {.id = r->s->in.id};
	struct answer a;

	compose(NULL, &o, reply, &a);
	answer_now(r->s, r->id, r->session, &a, keep);
}

static void answer_error(struct receiving *r, uint8_t code, const char *why)
{
	struct coap_reply reply;

	reply_init(&reply, code, why);
	answer_reply(r, &reply, true);
}

/* Nothing was done, and that may change: a repeat is a new attempt. */
static void answer_busy(struct receiving *r, const char *why)
{
	struct coap_reply reply;

	reply_init(&reply, FG_COAP_CODE(5, 3), why);
	reply.max_age_s = BUSY_MAX_AGE_S;
	answer_reply(r, &reply, false);
}

static bool admitted(struct receiving *r)
{
	struct coap_server *s = r->s;
	const struct message *m = &s->in;
	struct coap_reply reply;

	reply_init(&reply, FG_COAP_CODE(4, 1), NULL);
	if (s->o.admit == NULL ||
	    s->o.admit(s->o.arg, r->session, m->code, m->path_impossible ? "" : m->path, &reply))
		return true;
	s->stats.refused++;
	answer_reply(r, &reply, false);
	return false;
}

/* What no resource is asked about. True: it is answered. */
static bool refused_by_itself(struct receiving *r)
{
	const struct message *m = &r->s->in;

	if (m->bad_option != 0) {
		char why[64];

		/* RFC 7252 section 5.4.1: a NON with such an option is not answered. */
		if (m->id.type == MESSAGE_NON)
			return true;
		snprintf(why, sizeof(why), "option %u is not understood here", m->bad_option);
		answer_error(r, FG_COAP_CODE(4, 2), why);
	} else if (m->proxy) {
		answer_error(r, FG_COAP_CODE(5, 5), "this is no proxy");
	} else if (m->bad_request != NULL) {
		answer_error(r, FG_COAP_CODE(4, 0), m->bad_request);
	} else if (m->block_reserved) {
		answer_error(r, FG_COAP_CODE(4, 0), "block size 7 is reserved");
	} else if (m->path_impossible) {
		answer_error(r, FG_COAP_CODE(4, 4), NULL);
	} else {
		return false;
	}
	return true;
}

static void answer_too_large(struct receiving *r)
{
	struct answer a;

	answer_init(&a, &r->s->in.id, FG_COAP_CODE(4, 13));
	a.size1 = (int64_t)r->s->o.max_body;
	a.block1 = r->s->in.block1;
	answer_now(r->s, r->id, r->session, &a, true);
}

static bool is_safe(unsigned method)
{
	return method == FG_COAP_GET || method == FG_COAP_DELETE;
}

/* A block of a body: true when it is whole now, or was never in blocks. */
static bool body_complete(struct receiving *r, struct transfer **whole)
{
	struct coap_server *s = r->s;
	struct message *m = &s->in;
	struct block *b = &m->block1;
	struct answer a;
	const char *why;

	*whole = NULL;
	if (b->present && b->more && m->call.payload_len != block_size(b)) {
		answer_error(r, FG_COAP_CODE(4, 0), "a block is shorter or longer than it says");
		return false;
	}
	if (b->present && m->call.payload_len > block_size(b)) {
		answer_error(r, FG_COAP_CODE(4, 0), "a block is longer than it says");
		return false;
	}
	if (!body_fits(s, m)) {
		answer_too_large(r);
		return false;
	}
	if (!b->present || (b->num == 0 && !b->more))
		return true;
	if (is_safe(m->code)) {
		answer_error(r, FG_COAP_CODE(4, 0), "this method has no body");
		return false;
	}

	struct coap_peer *p = peer_get(s, r->home, r->id, r->session);

	if (p == NULL) {
		answer_busy(r, "out of memory");
		return false;
	}
	peer_use(p);
	answer_init(&a, &m->id, upload_block(p, m, whole, &why));
	if (*whole != NULL) {
		m->call.payload = (*whole)->body;
		m->call.payload_len = (*whole)->len;
		p->busy--; /* it has the transfer still */
		return true;
	}
	a.block1 = *b;
	if (a.code >= 0x80) {
		a.payload = (const uint8_t *)why;
		a.payload_len = strlen(why);
		if (a.code == FG_COAP_CODE(5, 3))
			a.max_age_s = BUSY_MAX_AGE_S;
	}
	answer_now(s, r->id, r->session, &a, a.code < FG_COAP_CODE(5, 0));
	peer_settle(p);
	return false;
}

/* A later block of an answer that is stored. True: it is answered. */
static bool stored_block(struct receiving *r)
{
	struct coap_server *s = r->s;
	const struct message *m = &s->in;
	struct coap_peer *p = *r->home;
	struct transfer *t;
	struct answer a;

	if (!m->block2.present || m->block2.num == 0)
		return false;
	t = p == NULL ? NULL : transfer_find(p, false, transfer_key(m, false));
	if (t == NULL) {
		/* To GET again is allowed, and the ETag says whether it is the same still. */
		if (m->code == FG_COAP_GET)
			return false;
		answer_error(r, FG_COAP_CODE(4, 8), "the answer is not kept any more");
		return true;
	}
	peer_use(p);
	transfer_touch(t);
	answer_init(&a, &m->id, 0);
	compose_block(t, &m->block2, &a);
	/* The transfer goes only when the bytes are written, and before `send` can end the
	 * session. */
	answer_now(s, r->id, r->session, &a, true);
	if (!p->gone && !a.block2.more && a.code < 0x80 &&
	    (t = transfer_find(p, false, transfer_key(m, false))) != NULL)
		transfer_free(t);
	peer_settle(p);
	return true;
}

/* --- The handler --- */

static void observe_outcome(struct coap_peer *p, struct coap_exchange *e,
			    const struct coap_reply *reply, struct answer *a)
{
	struct observation *ob = e->candidate;

	if (ob == NULL)
		return;
	e->candidate = NULL;
	if (reply->observe_key == NULL || reply->hold != 0 || a->code >= 0x80) {
		/* What this token observed before ends as well: this took its place. */
		struct observation *same = observation_find(p, ob->token, ob->token_len);

		free(ob);
		if (same != NULL)
			observation_remove(same);
		return;
	}
	if (observation_install(p, ob, reply->observe_key)) {
		a->observe = true;
		a->observe_number = observation_number(ob);
	}
}

static void answer_first(struct coap_peer *p, struct coap_exchange *e,
			 const struct coap_reply *reply)
{
	struct answer a;

	compose(p, &e->origin, reply, &a);
	observe_outcome(p, e, reply, &a);
	if (reply->hold != 0)
		answer_held(p, &a, reply->hold);
	else
		answer_now(p->server, p->id, p->session, &a, true);
}

void coap_server_answer(struct coap_server *s, struct coap_exchange *e,
			const struct coap_reply *reply)
{
	struct coap_peer *p = e->peer;
	struct observation *ob = e->observation;
	struct answer a;

	if (s->calling == e)
		s->calling = NULL;
	s->stats.answers_late++;
	if (p == NULL) {
		exchange_free(e);
		return;
	}
	peer_use(p);
	if (e->origin.notification) {
		if (ob != NULL) {
			ob->exchange = NULL;
			if (ob->again) {
				ob->again = false;
				link_remove(&ob->due);
				list_append(&s->due, &ob->due);
			}
			observation_answer(ob, &e->origin, reply);
		}
	} else {
		compose(p, &e->origin, reply, &a);
		observe_outcome(p, e, reply, &a);
		answer_late(p, &a, reply->hold);
	}
	exchange_free(e);
	peer_settle(p);
}

/* All memory that the reply may need is there before the handler acts. */
static struct coap_exchange *prepare(struct receiving *r, struct coap_peer *p,
				     const struct coap_route *route)
{
	struct coap_server *s = r->s;
	bool late = route != &s->well_known && s->route_late[route - s->o.routes];
	struct coap_exchange *e;

	if (p->pending >= PEER_PENDING_MAX || (late && s->late >= s->o.max_exchanges)) {
		answer_busy(r, "too many requests wait for their answers");
		return NULL;
	}
	e = outgoing_spare(s) ? exchange_new(s) : NULL;
	if (e == NULL) {
		answer_busy(r, "out of memory");
		return NULL;
	}
	exchange_attach(e, p);
	e->origin = (struct origin){.id = s->in.id,
				    .block1 = s->in.block1,
				    .block2 = s->in.block2,
				    .method = s->in.code,
				    .key = transfer_key(&s->in, false)};
	return e;
}

static void observe_request(struct coap_peer *p, struct coap_exchange *e,
			    const struct coap_route *route)
{
	struct message *m = &p->server->in;
	struct observation *ob;

	if (m->code != FG_COAP_GET || !route->observable || m->observe < 0 || m->block2.num > 0)
		return;
	if (m->observe == 0) {
		e->candidate = observation_new(m, route);
		m->call.observe = e->candidate != NULL;
	} else if (m->observe == 1) {
		ob = observation_find(p, m->id.token, m->id.token_len);
		if (ob != NULL)
			observation_remove(ob);
	}
}

static void run(struct receiving *r, struct coap_peer *p, const struct coap_route *route,
		const char *rest)
{
	struct coap_server *s = r->s;
	struct coap_exchange *e = prepare(r, p, route);
	struct message_id id = s->in.id;
	struct coap_reply reply;
	enum coap_done done;

	if (e == NULL)
		return;
	observe_request(p, e, route);
	reply_init(&reply, 0, NULL);
	s->in.call.rest = rest;
	s->in.call.session = r->session;
	s->calling = e;
	done = route->handler(s->o.arg, &s->in.call, &reply, e);
	if (done == COAP_LATER) {
		s->calling = NULL;
		if (route != &s->well_known)
			s->route_late[route - s->o.routes] = true;
		if (!p->gone)
			answer_empty(s, r->id, r->session, &id);
		return;
	}
	if (s->calling != e) /* answered already, against the contract */
		return;
	s->calling = NULL;
	if (!p->gone)
		answer_first(p, e, &reply);
	exchange_free(e);
}

static void serve(struct receiving *r, const struct coap_route *route, const char *rest)
{
	struct transfer *whole;
	struct coap_peer *p;

	if (!body_complete(r, &whole))
		return;
	if (whole == NULL && stored_block(r))
		return;
	p = peer_get(r->s, r->home, r->id, r->session);
	if (p == NULL) {
		answer_busy(r, "out of memory");
		return;
	}
	peer_use(p);
	if (whole != NULL) {
		link_remove(&whole->of_peer); /* it is ours now, also if the session ends */
		run(r, p, route, rest);
		transfer_free(whole);
	} else {
		run(r, p, route, rest);
	}
	peer_settle(p);
}

static void request(struct receiving *r)
{
	struct coap_server *s = r->s;
	const struct coap_route *route;
	const char *rest;

	s->stats.requests++;
	if (!admitted(r) || refused_by_itself(r))
		return;
	route = route_find(s, s->in.path, &rest);
	/* RFC 7252 section 5.8: also for a method that nobody knows */
	if (s->in.code > FG_COAP_IPATCH ||
	    (route != NULL && (route->methods & FG_COAP_METHOD(s->in.code)) == 0))
		answer_error(r, FG_COAP_CODE(4, 5), NULL);
	else if (route == NULL)
		answer_error(r, FG_COAP_CODE(4, 4), NULL);
	else
		serve(r, route, rest);
}

/* --- Messages --- */

static void reject(struct receiving *r, enum message_type type, uint16_t mid)
{
	uint8_t bytes[MESSAGE_HEADER];

	if (type != MESSAGE_CON)
		return;
	message_write_empty(bytes, MESSAGE_RST, mid);
	r->s->o.send(r->s->o.arg, r->session, bytes, sizeof(bytes));
}

static void malformed(struct receiving *r)
{
	r->s->stats.malformed++;
	reject(r, r->s->in.id.type, r->s->in.id.mid);
}

static void acknowledged(struct receiving *r, void (*how)(struct coap_peer *p, uint16_t mid))
{
	struct coap_peer *p = *r->home;

	if (p == NULL)
		return;
	peer_use(p);
	how(p, r->s->in.id.mid);
	peer_settle(p);
}

static void empty(struct receiving *r)
{
	switch (r->s->in.id.type) {
	case MESSAGE_CON: /* a ping: RFC 7252 section 4.3 */
		reject(r, MESSAGE_CON, r->s->in.id.mid);
		break;
	case MESSAGE_ACK:
		acknowledged(r, outbox_acknowledged);
		break;
	case MESSAGE_RST:
		acknowledged(r, outbox_reset);
		break;
	case MESSAGE_NON:
		r->s->stats.malformed++;
		break;
	}
}

static bool is_request(const uint8_t *data, size_t len)
{
	return len >= MESSAGE_HEADER && data[0] >> 6 == 1 && (data[0] >> 4 & 3) <= MESSAGE_NON &&
	       data[1] != 0 && data[1] < 0x20;
}

/*
 * RFC 7252 section 4.5: a message is known by its endpoint and message ID alone. What else it holds
 * is not compared: a device that uses an ID again too early gets the answer of the first.
 */
static bool repeated(struct receiving *r, const uint8_t *data, size_t len)
{
	struct coap_server *s = r->s;
	const uint8_t *answer;
	size_t answer_len;
	uint8_t bytes[MESSAGE_MAX];
	enum dedup_state state = dedup_find(s->dedup, r->id, message_mid(data),
					    clock_monotonic_us(), &answer, &answer_len);

	(void)len;
	if (state == DEDUP_NONE)
		return false;
	s->stats.repeats++;
	if (state == DEDUP_ANSWERED) {
		memcpy(bytes, answer, answer_len);
		s->o.send(s->o.arg, r->session, bytes, answer_len);
	}
	return true;
}

void coap_server_receive(struct coap_server *s, struct coap_peer **peer, uint64_t session_id,
			 void *session, const uint8_t *data, size_t len)
{
	struct receiving r = {s, peer, session_id, session};

	if (is_request(data, len) && repeated(&r, data, len))
		return;
	switch (message_read(&s->in, data, len)) {
	case MESSAGE_READ_NOTHING:
		s->stats.malformed++;
		return;
	case MESSAGE_READ_ERROR:
		malformed(&r);
		return;
	case MESSAGE_READ_OK:
		break;
	}
	if (s->in.code == 0)
		empty(&r);
	else if (is_request(data, len))
		request(&r);
	else /* a response, to one who asks nothing; or a class that there is not */
		malformed(&r);
}

int64_t coap_server_tick(struct coap_server *s)
{
	int64_t now_us = clock_monotonic_us();
	int64_t next = transfers_expire(s, now_us);
	int64_t notify = observe_tick(s, now_us);
	int64_t retransmit = outbox_tick(s, now_us);

	if (notify < next)
		next = notify;
	return retransmit < next ? retransmit : next;
}

/* --- What survives --- */

#define NOTE_VERSION 1u

struct note {
	uint8_t version;
	uint8_t mid[2];
	uint8_t answered_s[4]; /* wall clock: the other one begins anew with the machine */
	uint8_t answer[];
};

static void put_be32(uint8_t *out, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t get_be32(const uint8_t *in)
{
	return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

size_t coap_peer_save(const struct coap_server *s, uint64_t session_id, uint8_t *note,
		      size_t note_max)
{
	struct note n = {.version = NOTE_VERSION};
	const uint8_t *answer;
	size_t len;
	uint16_t mid;
	int64_t age_us;

	if (dedup_last(s->dedup, session_id, clock_monotonic_us(), &mid, &age_us, &answer, &len) ==
		    DEDUP_NONE ||
	    sizeof(n) + len > note_max)
		return 0;
	n.mid[0] = (uint8_t)(mid >> 8);
	n.mid[1] = (uint8_t)mid;
	put_be32(n.answered_s, (uint32_t)((clock_realtime_us() - age_us) / US_PER_S));
	memcpy(note, &n, sizeof(n));
	memcpy(note + sizeof(n), answer, len);
	return sizeof(n) + len;
}

void coap_peer_load(struct coap_server *s, uint64_t session_id, const uint8_t *note,
		    size_t note_len)
{
	struct note n;
	int64_t age_us;

	if (note_len < sizeof(n) + MESSAGE_HEADER || note_len > sizeof(n) + MESSAGE_MAX)
		return;
	memcpy(&n, note, sizeof(n));
	age_us = clock_realtime_us() - (int64_t)get_be32(n.answered_s) * US_PER_S;
	if (n.version != NOTE_VERSION || age_us > EXCHANGE_LIFETIME_US)
		return;
	if (age_us < 0) /* the clock was set back */
		age_us = 0;
	dedup_put(s->dedup, session_id, (uint16_t)(n.mid[0] << 8 | n.mid[1]), true,
		  clock_monotonic_us() - age_us, note + sizeof(n), note_len - sizeof(n));
}

void coap_server_stats(const struct coap_server *s, struct coap_server_stats *out)
{
	*out = s->stats;
	out->dedup_entries = dedup_entries(s->dedup);
	out->dedup_bytes = dedup_bytes(s->dedup);
}
