/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions for which there is something to remember, and the exchanges among it. */
#include "coap-server/coap/internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

bool session_known(const struct coap_server *s, void *session)
{
	return s->o.known == NULL || s->o.known(s->o.arg, session);
}

static struct coap_peer *peer_memory(struct coap_server *s)
{
	struct coap_peer *p = s->spare_peer;

	s->spare_peer = NULL;
	return p != NULL ? p : malloc(sizeof(*p));
}

static void peer_free(struct coap_peer *p)
{
	struct coap_server *s = p->server;

	link_remove(&p->of_server);
	s->stats.peers--;
	if (s->spare_peer == NULL)
		s->spare_peer = p;
	else
		free(p);
}

struct coap_peer *peer_get(struct coap_server *s, struct coap_peer **home, uint64_t id,
			   void *session)
{
	struct coap_peer *p = *home;

	if (p == NULL) {
		if (outbox_reserve(s, s->stats.peers + 1) != 0)
			return NULL;
		p = peer_memory(s);
		if (p == NULL)
			return NULL;
		*p = (struct coap_peer){.server = s, .id = id};
		link_init(&p->exchanges);
		link_init(&p->observations);
		link_init(&p->held);
		link_init(&p->transfers);
		link_init(&p->queue);
		list_append(&s->peers, &p->of_server);
		s->stats.peers++;
		*home = p;
	}
	p->home = home;
	p->session = session;
	return p;
}

void peer_use(struct coap_peer *p)
{
	p->busy++;
}

static bool peer_empty(const struct coap_peer *p)
{
	return list_empty(&p->exchanges) && list_empty(&p->observations) && list_empty(&p->held) &&
	       list_empty(&p->transfers) && list_empty(&p->queue);
}

bool peer_settle(struct coap_peer *p)
{
	if (--p->busy > 0)
		return !p->gone;
	if (!p->gone && !peer_empty(p))
		return true;
	if (!p->gone)
		*p->home = NULL;
	peer_free(p);
	return false;
}

static void drop_exchanges(struct coap_peer *p)
{
	while (!list_empty(&p->exchanges)) {
		struct coap_exchange *e =
			LINK_OWNER(list_take(&p->exchanges), struct coap_exchange, of_peer);

		/* Whoever has it will still answer it. */
		link_remove(&e->unacknowledged);
		e->peer = NULL;
		e->observation = NULL;
	}
}

void coap_server_forget(struct coap_server *s, struct coap_peer **peer)
{
	struct coap_peer *p = *peer;

	(void)s;
	if (p == NULL)
		return;
	peer_use(p);
	*peer = NULL;
	p->gone = true;
	drop_exchanges(p);
	outbox_stop(p);
	while (!list_empty(&p->observations))
		observation_remove(
			LINK_OWNER(list_take(&p->observations), struct observation, of_peer));
	while (!list_empty(&p->held))
		held_remove(LINK_OWNER(list_take(&p->held), struct outgoing, of_peer));
	while (!list_empty(&p->transfers))
		transfer_free(LINK_OWNER(list_take(&p->transfers), struct transfer, of_peer));
	peer_settle(p);
}

int peer_send(struct coap_peer *p, const uint8_t *data, size_t len)
{
	struct coap_server *s = p->server;

	return p->gone ? -1 : s->o.send(s->o.arg, p->session, data, len);
}

/*
 * RFC 7252 section 4.4: a message ID is not used twice for an endpoint within EXCHANGE_LIFETIME.
 * Sessions share 4,096 counters, so that one that is not remembered has its own still: one comes
 * round after 65,536 messages of 1/4,096 of all sessions.
 */
uint16_t next_mid(struct coap_server *s, uint64_t session_id)
{
	uint64_t h = hash_siphash(hash_table_key(), &session_id, sizeof(session_id));

	return s->mids[h % MID_COUNTERS]++;
}

void *coap_exchange_session(const struct coap_exchange *e)
{
	return e->peer == NULL ? NULL : e->peer->session;
}

struct coap_exchange *exchange_new(struct coap_server *s)
{
	struct coap_exchange *e = s->spare_exchange;

	s->spare_exchange = NULL;
	if (e == NULL)
		e = malloc(sizeof(*e));
	if (e == NULL)
		return NULL;
	memset(e, 0, sizeof(*e));
	e->server = s;
	link_init(&e->of_peer);
	link_init(&e->unacknowledged);
	list_append(&s->exchanges, &e->of_server);
	s->late++;
	s->stats.exchanges++;
	return e;
}

void exchange_attach(struct coap_exchange *e, struct coap_peer *p)
{
	e->peer = p;
	p->pending++;
	list_append(&p->exchanges, &e->of_peer);
}

void exchange_free(struct coap_exchange *e)
{
	struct coap_server *s = e->server;

	if (e->peer != NULL)
		e->peer->pending--;
	link_remove(&e->of_peer);
	link_remove(&e->of_server);
	link_remove(&e->unacknowledged);
	free(e->candidate);
	s->late--;
	s->stats.exchanges--;
	if (s->spare_exchange == NULL)
		s->spare_exchange = e;
	else
		free(e);
}
