/* SPDX-License-Identifier: Apache-2.0 */
/* Replies that may go when a ticket has come: their message is durable then. */
#include "coap-server/coap/internal.h"

#include <string.h>

/* Tickets come in order, so nearly always the place is the end. */
void held_add(struct outgoing *m, uint64_t ticket)
{
	struct coap_server *s = m->peer->server;
	struct link *before = s->held.prev;

	m->ticket = ticket;
	while (before != &s->held &&
	       LINK_OWNER(before, struct outgoing, by_ticket)->ticket > ticket)
		before = before->prev;
	list_append(before->next, &m->by_ticket);
	list_append(&m->peer->held, &m->of_peer);
	if (!m->late)
		m->peer->pending++;
	s->stats.held++;
}

static void take(struct outgoing *m)
{
	link_remove(&m->by_ticket);
	link_remove(&m->of_peer);
	if (!m->late)
		m->peer->pending--;
	m->peer->server->stats.held--;
}

void held_remove(struct outgoing *m)
{
	take(m);
	outgoing_free(m);
}

/* What was to be answered did not become durable. The same type, message ID and token. */
static void make_unavailable(struct outgoing *m)
{
	struct answer a;
	struct message message;
	uint8_t bytes[MESSAGE_MAX];

	if (message_read(&message, m->data, m->len) != MESSAGE_READ_OK)
		return; /* never: we wrote it */
	answer_init(&a, &message.id, FG_COAP_CODE(5, 3));
	a.max_age_s = 1;

	size_t len = message_write(bytes, &a);

	/* A header, a token and one option fit into SPARE_BYTES, the least room there is. */
	memcpy(m->data, bytes, len);
	m->len = (uint16_t)len;
}

/*
 * After 5.03 the request counts as not answered, so both a repeat and the same request in a new
 * message are run. What the first left in the journal may be stored all the same: a device whose
 * messages have a time or a sequence number has one row then.
 */
static void release_one(struct outgoing *m, bool ok)
{
	struct coap_peer *p = m->peer;
	struct coap_server *s = p->server;
	bool confirmable = (m->data[0] >> 4 & 3) == MESSAGE_ACK;

	take(m);
	if (!ok)
		make_unavailable(m);
	if (!m->answers_once) {
		outbox_add(m);
		return;
	}
	if (!m->late) {
		int64_t now_us = clock_monotonic_us();

		if (!ok)
			dedup_drop(s->dedup, p->id, m->request_mid, now_us);
		else if (confirmable)
			dedup_put(s->dedup, p->id, m->request_mid, true, now_us, m->data, m->len);
	}
	peer_send(p, m->data, m->len);
	outgoing_free(m);
}

void coap_server_release(struct coap_server *s, uint64_t ticket, bool ok)
{
	while (!list_empty(&s->held)) {
		struct outgoing *m = LINK_OWNER(s->held.next, struct outgoing, by_ticket);
		struct coap_peer *p = m->peer;

		if (m->ticket > ticket)
			return;
		peer_use(p);
		release_one(m, ok);
		peer_settle(p);
	}
}
