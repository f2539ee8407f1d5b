/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Confirmable messages of ours (RFC 7252 section 4.2): one under way for each session (NSTART 1,
 * section 4.7), the others behind it. The sessions that have one under way are in a heap by when
 * it is due, so an acknowledgement costs the same however many wait.
 */
#include "coap-server/coap/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* RFC 7252 section 4.8 */
#define ACK_TIMEOUT_US	     (2 * US_PER_S)
#define ACK_RANDOM_FACTOR_US US_PER_S /* above ACK_TIMEOUT at most: a factor of 1.5 */
#define MAX_RETRANSMIT	     4

/* --- Heap --- */

static void heap_set(struct coap_server *s, size_t i, struct coap_peer *p)
{
	s->timers[i] = p;
	p->heap_index = i;
}

static void heap_up(struct coap_server *s, size_t i)
{
	struct coap_peer *p = s->timers[i];

	for (; i > 1 && s->timers[i / 2]->due_us > p->due_us; i /= 2)
		heap_set(s, i, s->timers[i / 2]);
	heap_set(s, i, p);
}

static void heap_down(struct coap_server *s, size_t i)
{
	struct coap_peer *p = s->timers[i];

	for (size_t child; (child = 2 * i) <= s->timer_count; i = child) {
		if (child < s->timer_count &&
		    s->timers[child + 1]->due_us < s->timers[child]->due_us)
			child++;
		if (s->timers[child]->due_us >= p->due_us)
			break;
		heap_set(s, i, s->timers[child]);
	}
	heap_set(s, i, p);
}

/* Room for so many sessions, so that none is without its timer for want of memory. */
int outbox_reserve(struct coap_server *s, size_t peers)
{
	size_t room = s->timer_room == 0 ? 64 : s->timer_room;

	if (peers + 1 <= s->timer_room)
		return 0;
	while (room < peers + 1)
		room *= 2;

	struct coap_peer **timers = realloc(s->timers, room * sizeof(struct coap_peer *));

	if (timers == NULL)
		return -ENOMEM;
	s->timers = timers;
	s->timer_room = room;
	return 0;
}

static void timer_stop(struct coap_peer *p)
{
	struct coap_server *s = p->server;
	size_t i = p->heap_index;

	if (i == 0)
		return;
	p->heap_index = 0;

	struct coap_peer *last = s->timers[s->timer_count--];

	if (last == p)
		return;
	heap_set(s, i, last);
	heap_up(s, i);
	heap_down(s, last->heap_index);
}

static void timer_start(struct coap_peer *p, int64_t due_us)
{
	struct coap_server *s = p->server;

	timer_stop(p);
	p->due_us = due_us;
	heap_set(s, ++s->timer_count, p);
	heap_up(s, s->timer_count);
}

/* --- Messages --- */

/* Of SPARE_BYTES, there before a handler runs: what it has done can then be answered. */
bool outgoing_spare(struct coap_server *s)
{
	if (s->spare_outgoing == NULL) {
		s->spare_outgoing = malloc(sizeof(struct outgoing) + SPARE_BYTES);
		if (s->spare_outgoing != NULL)
			s->spare_outgoing->room = SPARE_BYTES;
	}
	return s->spare_outgoing != NULL;
}

struct outgoing *outgoing_new(struct coap_peer *p, const uint8_t *data, size_t len)
{
	struct coap_server *s = p->server;
	struct outgoing *m;
	size_t room = len < SPARE_BYTES ? SPARE_BYTES : len;

	if (room == SPARE_BYTES && s->spare_outgoing != NULL) {
		m = s->spare_outgoing;
		s->spare_outgoing = NULL;
	} else {
		m = malloc(sizeof(*m) + room);
	}
	if (m == NULL)
		return NULL;
	memset(m, 0, sizeof(*m));
	link_init(&m->of_peer);
	link_init(&m->by_ticket);
	m->peer = p;
	m->room = (uint16_t)room;
	m->len = (uint16_t)len;
	memcpy(m->data, data, len);
	return m;
}

void outgoing_count_late(struct outgoing *m)
{
	m->late = true;
	m->peer->server->late++;
	m->peer->pending++;
}

void outgoing_free(struct outgoing *m)
{
	struct coap_server *s = m->peer->server;

	if (m->late) {
		s->late--;
		m->peer->pending--;
	}
	if (m->observation != NULL)
		m->observation->message = NULL;
	link_remove(&m->of_peer);
	link_remove(&m->by_ticket);
	if (s->spare_outgoing == NULL && m->room == SPARE_BYTES)
		s->spare_outgoing = m;
	else
		free(m);
}

/* --- Queue --- */

static struct outgoing *under_way(const struct coap_peer *p)
{
	return list_empty(&p->queue) ? NULL : LINK_OWNER(p->queue.next, struct outgoing, of_peer);
}

/* May end the session. */
static void transmit(struct coap_peer *p, struct outgoing *m)
{
	m->sent = true;
	timer_start(p, clock_monotonic_us() + p->timeout_us);
	/* A failure is a loss: the timer runs. */
	peer_send(p, m->data, m->len);
}

static void begin_next(struct coap_peer *p)
{
	struct outgoing *m = under_way(p);
	uint32_t random;

	if (m == NULL) {
		timer_stop(p);
		return;
	}
	random_bytes(&random, sizeof(random));
	p->tries = 0;
	p->timeout_us = ACK_TIMEOUT_US + (int64_t)(random % (ACK_RANDOM_FACTOR_US + 1));
	transmit(p, m);
}

void outbox_add(struct outgoing *m)
{
	struct coap_peer *p = m->peer;
	bool first = list_empty(&p->queue);

	list_append(&p->queue, &m->of_peer);
	if (first)
		begin_next(p);
}

/* RFC 7641 section 4.5.2: a newer notification takes the place of one that is not acknowledged, and
 * its count of attempts with it. It goes out at once if that one was not sent yet or is
 * acknowledged, else when that one would have been sent again. */
void outbox_replace(struct outgoing *old, struct outgoing *m)
{
	if (old->sent) {
		m->has_old_mid = true;
		m->old_mid = message_mid(old->data);
		m->old_delivery = old->in_part ? 0 : old->delivery;
	} else {
		m->has_old_mid = old->has_old_mid;
		m->old_mid = old->old_mid;
		m->old_delivery = old->old_delivery;
	}
	m->sent = false;
	old->observation = NULL;
	m->of_peer.prev = old->of_peer.prev;
	m->of_peer.next = old->of_peer.next;
	m->of_peer.prev->next = &m->of_peer;
	m->of_peer.next->prev = &m->of_peer;
	link_init(&old->of_peer);
	outgoing_free(old);
}

void outbox_remove(struct outgoing *m)
{
	struct coap_peer *p = m->peer;
	bool first = under_way(p) == m;

	outgoing_free(m);
	if (first)
		begin_next(p);
}

void outbox_stop(struct coap_peer *p)
{
	timer_stop(p);
	while (!list_empty(&p->queue))
		outgoing_free(LINK_OWNER(list_take(&p->queue), struct outgoing, of_peer));
}

/* --- The end of a message --- */

static bool is_of(const struct outgoing *m, uint16_t mid)
{
	return m->sent && message_mid(m->data) == mid;
}

static bool was_of(const struct outgoing *m, uint16_t mid)
{
	return m->has_old_mid && m->old_mid == mid;
}

static bool has_token_of(const struct outgoing *m, const struct observation *ob)
{
	return (m->data[0] & 15) == ob->token_len &&
	       memcmp(m->data + MESSAGE_HEADER, ob->token, ob->token_len) == 0;
}

bool outbox_brings(const struct observation *ob, int64_t delivery)
{
	for (struct link *l = ob->peer->queue.next; l != &ob->peer->queue; l = l->next) {
		const struct outgoing *m = LINK_OWNER(l, struct outgoing, of_peer);

		if (m->delivery == delivery && has_token_of(m, ob))
			return true;
	}
	return false;
}

/* Whatever is to be done about the message comes after this, and looks again what there is: the
 * callback may have ended the session, or have given the message a successor. */
static void tell(struct coap_peer *p, const struct outgoing *m, int64_t delivery,
		 enum coap_delivery how)
{
	struct coap_server *s = p->server;
	/* By its token: the answer to the registration counts as well. */
	struct observation *ob = observation_find(p, m->data + MESSAGE_HEADER, m->data[0] & 15);

	if (delivery == 0)
		return;
	if (how == COAP_ACKNOWLEDGED && ob != NULL)
		ob->acknowledged = delivery;
	if (s->o.delivered != NULL)
		s->o.delivered(s->o.arg, p->session, delivery, how);
}

void outbox_acknowledged(struct coap_peer *p, uint16_t mid)
{
	struct outgoing *m = under_way(p);

	if (m != NULL && is_of(m, mid) && !m->in_part)
		tell(p, m, m->delivery, COAP_ACKNOWLEDGED);
	else if (m != NULL && was_of(m, mid))
		tell(p, m, m->old_delivery, COAP_ACKNOWLEDGED);
	m = under_way(p);
	if (m == NULL)
		return;
	if (is_of(m, mid)) {
		outbox_remove(m);
	} else if (was_of(m, mid)) {
		m->has_old_mid = false;
		if (!m->sent)
			begin_next(p);
	}
}

static void give_up(struct coap_peer *p)
{
	struct outgoing *m = under_way(p);

	if (m == NULL)
		return;
	if (m->observation != NULL)
		observation_remove(m->observation); /* and its message with it */
	else
		outbox_remove(m);
}

void outbox_reset(struct coap_peer *p, uint16_t mid)
{
	struct outgoing *m = under_way(p);

	if (m == NULL || !(is_of(m, mid) || was_of(m, mid)))
		return;
	tell(p, m, m->delivery, COAP_REJECTED);
	m = under_way(p);
	if (m != NULL && (is_of(m, mid) || was_of(m, mid)))
		give_up(p);
}

static void retransmit(struct coap_peer *p)
{
	struct outgoing *m = under_way(p);

	if (p->tries >= MAX_RETRANSMIT) {
		tell(p, m, m->delivery, COAP_TIMED_OUT);
		if (p->tries >= MAX_RETRANSMIT)
			give_up(p);
		return;
	}
	p->tries++;
	p->timeout_us *= 2;
	p->server->stats.retransmissions++;
	transmit(p, m);
}

int64_t outbox_tick(struct coap_server *s, int64_t now_us)
{
	while (s->timer_count > 0 && s->timers[1]->due_us <= now_us) {
		struct coap_peer *p = s->timers[1];

		peer_use(p);
		retransmit(p);
		peer_settle(p);
	}
	return s->timer_count > 0 ? s->timers[1]->due_us : INT64_MAX;
}
