/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a request: may this session ask for it, is it understood, does it have a resource, is
 * its body whole; then its handler, and what becomes of the reply.
 */
#include "coap-server/coap/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Is an answer kept for repeats? Those to what a stranger GETs are not: they would fill the ring,
 * which is everybody's, and a repeat is answered without asking `admit`.
 */
static bool is_kept(const struct coap_server *s, void *session, unsigned method)
{
	return method != FG_COAP_GET || session_known(s, session);
}

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
	answer_reply(r, &reply, is_kept(r->s, r->session, r->s->in.code));
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
	answer_now(s, r->id, r->session, &a, is_kept(s, r->session, m->code));
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
	if (p->gone)
		return;
	if (reply->hold != 0) {
		answer_held(p, &a, reply->hold);
	} else if (a.observe && a.delivery != 0 && !answer_in_part(&a) &&
		   a.id.type == MESSAGE_CON) {
		answer_empty(p->server, p->id, p->session, &a.id);
		answer_late(p, &a, 0);
	} else {
		answer_now(p->server, p->id, p->session, &a,
			   is_kept(p->server, p->session, e->origin.method));
	}
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
	} else if (!list_empty(&e->unacknowledged)) {
		answer_first(p, e, reply);
	} else {
		compose(p, &e->origin, reply, &a);
		observe_outcome(p, e, reply, &a);
		answer_late(p, &a, reply->hold);
	}
	exchange_free(e);
	peer_settle(p);
}

static void put_off(struct receiving *r, struct coap_exchange *e)
{
	struct coap_server *s = r->s;

	if (s->o.acknowledge_after_us == 0 || e->origin.id.type != MESSAGE_CON) {
		answer_empty(s, r->id, r->session, &e->origin.id);
		return;
	}
	answer_none(s, r->id, &e->origin.id);
	e->acknowledge_us = clock_monotonic_us() + s->o.acknowledge_after_us;
	list_append(&s->unacknowledged, &e->unacknowledged);
}

int64_t requests_acknowledge(struct coap_server *s, int64_t now_us)
{
	while (!list_empty(&s->unacknowledged)) {
		struct coap_exchange *e =
			LINK_OWNER(s->unacknowledged.next, struct coap_exchange, unacknowledged);
		struct coap_peer *p = e->peer;

		if (e->acknowledge_us > now_us)
			return e->acknowledge_us;
		link_remove(&e->unacknowledged);
		peer_use(p);
		answer_empty(s, p->id, p->session, &e->origin.id);
		peer_settle(p);
	}
	return INT64_MAX;
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
	/* What a request for a later block has is the ETag of what is being collected: it asks for
	 * no validation, and means nothing to a handler. */
	if (s->in.code == FG_COAP_GET && s->in.block2.num > 0)
		s->in.call.etag_len = 0;
	reply_init(&reply, 0, NULL);
	s->in.call.rest = rest;
	s->in.call.session = r->session;
	s->calling = e;
	done = route->handler(s->o.arg, &s->in.call, &reply, e);
	if (done == COAP_LATER) {
		bool waits = s->calling == e; /* else it was answered before it was put off */

		s->calling = NULL;
		if (route != &s->well_known)
			s->route_late[route - s->o.routes] = true;
		if (!p->gone && waits)
			put_off(r, e);
		else if (!p->gone)
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
		/* It is ours now, also if the session ends, or the answer needs room for blocks. */
		link_remove(&whole->of_peer);
		link_remove(&whole->by_use);
		run(r, p, route, rest);
		transfer_free(whole);
	} else {
		run(r, p, route, rest);
	}
	peer_settle(p);
}

void request(struct receiving *r)
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
