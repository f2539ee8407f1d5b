/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap/coap_lossy.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

#define RETRANSMIT_STEPS 8
#define GIVE_UP_STEPS	 200 /* longer than the server tries */

static unsigned draw(struct net *n, unsigned below)
{
	return below == 0 ? 0 : (unsigned)rand_r(&n->seed) % below;
}

struct net *net_new(struct fixture *f, unsigned seed)
{
	struct net *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	n->f = f;
	n->seed = seed;
	n->next_mid = 1;
	return n;
}

void net_free(struct net *n)
{
	free(n);
}

void net_add(struct net *n, struct client *c, struct session *s, const char *token)
{
	memset(c, 0, sizeof(*c));
	c->session = s;
	strcpy(c->token, token);
	assert_true(n->client_count < NET_CLIENTS_MAX);
	n->clients[n->client_count++] = c;
}

static void put(struct net *n, struct session *s, bool up, const void *data, size_t len)
{
	unsigned copies = 1;

	if (draw(n, 100) < n->loss)
		copies = 0;
	else if (draw(n, 100) < n->doubling)
		copies = 2;
	while (copies-- > 0) {
		assert_true(n->pending_count < NET_PENDING_MAX);
		n->pending[n->pending_count].session = s;
		n->pending[n->pending_count].up = up;
		n->pending[n->pending_count].due = n->step + 1 + draw(n, n->delay + 1);
		memcpy(n->pending[n->pending_count].bytes.data, data, len);
		n->pending[n->pending_count++].bytes.len = len;
	}
}

void client_begin(struct net *n, struct client *c, unsigned code)
{
	c->mid = n->next_mid++;
	c->answered = c->acknowledged = c->given_up = false;
	bytes_begin(&c->request, B_CON, code, c->mid, c->token);
}

void client_send(struct net *n, struct client *c)
{
	c->waiting = true;
	c->age = 0;
	put(n, c->session, true, c->request.data, c->request.len);
}

static void send_ack(struct net *n, struct session *s, uint16_t mid)
{
	struct coap_bytes b;

	bytes_begin(&b, B_ACK, 0, mid, "");
	put(n, s, true, b.data, b.len);
}

static void client_receive(struct net *n, struct session *s, const struct coap_bytes *b)
{
	struct coap_seen seen;

	assert_true(coap_see(&seen, b->data, b->len));
	if (seen.type == B_CON)
		send_ack(n, s, seen.mid);
	for (size_t i = 0; i < n->client_count; i++) {
		struct client *c = n->clients[i];

		if (c->session != s || !c->waiting)
			continue;
		if (seen.type == B_ACK && seen.mid != c->mid)
			continue;
		if (seen.type == B_ACK && seen.code == 0) {
			c->acknowledged = true;
			continue;
		}
		if (!seen_token(&seen, c->token) || seen.code == 0)
			continue;
		memcpy(c->answer.data, b->data, b->len);
		c->answer.len = b->len;
		c->waiting = false;
		c->answered = true;
	}
}

static void collect(struct net *n)
{
	for (size_t i = 0; i < n->client_count; i++) {
		const struct sent *m;

		while ((m = take(n->clients[i]->session)) != NULL)
			put(n, n->clients[i]->session, false, m->data, m->len);
	}
}

void net_step(struct net *n)
{
	n->step++;
	fixture_run(n->f, US_PER_S);
	collect(n);
	for (size_t i = 0; i < n->pending_count;) {
		struct session *s = n->pending[i].session;
		struct coap_bytes b = n->pending[i].bytes;
		bool up = n->pending[i].up;

		if (n->pending[i].due > n->step) {
			i++;
			continue;
		}
		n->pending[i] = n->pending[--n->pending_count];
		if (up)
			deliver(s, &b);
		else
			client_receive(n, s, &b);
	}
	collect(n);
	for (size_t i = 0; i < n->client_count; i++) {
		struct client *c = n->clients[i];

		if (!c->waiting)
			continue;
		c->age++;
		if (!c->acknowledged && c->age % RETRANSMIT_STEPS == 0) {
			put(n, c->session, true, c->request.data, c->request.len);
		} else if (c->acknowledged && c->age > GIVE_UP_STEPS) {
			c->waiting = false;
			c->given_up = true;
		}
	}
}
