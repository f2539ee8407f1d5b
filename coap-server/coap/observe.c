/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who observes what (RFC 7641): observations under the key that the handler gave them, found by a
 * hash of it, so that a change costs what its own observers cost. A change only marks them; their
 * handlers run in the next tick, so many changes at once are one notification.
 */
#include "coap-server/coap/internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

/* --- Keys --- */

static struct observed **bucket_of(const struct coap_server *s, const char *name, size_t len)
{
	return &s->observed[hash_siphash(hash_table_key(), name, len) & s->observed_mask];
}

static struct observed *find_key(const struct coap_server *s, const char *name)
{
	size_t len = strlen(name);

	if (s->observed == NULL)
		return NULL;
	for (struct observed *k = *bucket_of(s, name, len); k != NULL; k = k->next)
		if (k->name_len == len && memcmp(k->name, name, len) == 0)
			return k;
	return NULL;
}

/* Without memory the table stays as it is, and chains get longer. */
static void grow_table(struct coap_server *s)
{
	size_t size = s->observed == NULL ? 64 : (s->observed_mask + 1) * 2;
	struct observed **old = s->observed, **table = calloc(size, sizeof(struct observed *));
	size_t old_size = old == NULL ? 0 : s->observed_mask + 1;

	if (table == NULL)
		return;
	s->observed = table;
	s->observed_mask = size - 1;
	for (size_t i = 0; i < old_size; i++) {
		while (old[i] != NULL) {
			struct observed *k = old[i], **bucket = bucket_of(s, k->name, k->name_len);

			old[i] = k->next;
			k->next = *bucket;
			*bucket = k;
		}
	}
	free(old);
}

static struct observed *get_key(struct coap_server *s, const char *name)
{
	struct observed *k = find_key(s, name);
	size_t len = strlen(name);

	if (k != NULL)
		return k;
	if (s->observed == NULL || s->observed_count > s->observed_mask)
		grow_table(s);
	if (s->observed == NULL)
		return NULL;
	k = malloc(sizeof(*k) + len);
	if (k == NULL)
		return NULL;
	link_init(&k->observations);
	k->count = 0;
	k->name_len = len;
	memcpy(k->name, name, len);

	struct observed **bucket = bucket_of(s, name, len);

	k->next = *bucket;
	*bucket = k;
	s->observed_count++;
	return k;
}

static void put_key(struct coap_server *s, struct observed *k)
{
	struct observed **at = bucket_of(s, k->name, k->name_len);

	if (!list_empty(&k->observations))
		return;
	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	s->observed_count--;
	free(k);
}

/* --- Observations --- */

/* Before its handler is asked, so that the answer can still say no. NULL: no memory. */
struct observation *observation_new(const struct message *m, const struct coap_route *route)
{
	size_t path_len = strlen(m->path), query_len = strlen(m->query);
	struct observation *ob = calloc(1, sizeof(*ob) + path_len + query_len + 2);

	if (ob == NULL)
		return NULL;
	link_init(&ob->of_peer);
	link_init(&ob->of_key);
	link_init(&ob->due);
	ob->route = route;
	ob->szx = m->block2.present ? m->block2.szx : BLOCK_SZX_MAX;
	ob->accept = m->call.accept;
	ob->transfer_key = transfer_key(m, false);
	ob->token_len = m->id.token_len;
	memcpy(ob->token, m->id.token, m->id.token_len);
	memcpy(ob->text, m->path, path_len + 1);
	memcpy(ob->text + path_len + 1, m->query, query_len + 1);
	ob->query = ob->text + path_len + 1;
	return ob;
}

struct observation *observation_find(struct coap_peer *p, const uint8_t *token, size_t len)
{
	for (struct link *l = p->observations.next; l != &p->observations; l = l->next) {
		struct observation *ob = LINK_OWNER(l, struct observation, of_peer);

		if (ob->token_len == len && memcmp(ob->token, token, len) == 0)
			return ob;
	}
	return NULL;
}

/* May end the session of what goes, as the next message of that is sent. */
static void make_room(struct coap_server *s, const char *key)
{
	struct observed *k = find_key(s, key);
	struct observation *oldest;
	struct coap_peer *p;

	if (s->o.max_observers == 0 || k == NULL || k->count < s->o.max_observers)
		return;
	oldest = LINK_OWNER(k->observations.next, struct observation, of_key);
	p = oldest->peer;
	peer_use(p);
	observation_remove(oldest);
	peer_settle(p);
}

bool observation_install(struct coap_peer *p, struct observation *ob, const char *key)
{
	struct coap_server *s = p->server;
	struct observation *same = observation_find(p, ob->token, ob->token_len);

	if (same != NULL) {
		ob->number = same->number;
		observation_remove(same);
	}
	make_room(s, key);
	/* To take one out may have sent the next message, and `send` may end the session. */
	ob->key = !p->gone && p->observation_count < s->o.max_observations ? get_key(s, key) : NULL;
	if (ob->key == NULL) {
		free(ob);
		return false;
	}
	ob->peer = p;
	list_append(&p->observations, &ob->of_peer);
	list_append(&ob->key->observations, &ob->of_key);
	ob->key->count++;
	p->observation_count++;
	s->stats.observations++;
	return true;
}

void observation_remove(struct observation *ob)
{
	struct coap_peer *p = ob->peer;
	struct coap_server *s = p->server;
	struct outgoing *m = ob->message;

	link_remove(&ob->of_peer);
	link_remove(&ob->of_key);
	ob->key->count--;
	link_remove(&ob->due);
	put_key(s, ob->key);
	p->observation_count--;
	s->stats.observations--;
	if (ob->exchange != NULL)
		ob->exchange->observation = NULL;
	free(ob);
	if (m != NULL) {
		m->observation = NULL;
		outbox_remove(m);
	}
}

/* RFC 7641 section 3.4: rising, also over a registration that was forgotten in between: so it is
 * the clock's milliseconds, and one more when those have not moved on. */
uint32_t observation_number(struct observation *ob)
{
	uint32_t now = (uint32_t)(clock_monotonic_us() / US_PER_MS) & 0xffffff;

	/* Is it newer, modulo 2^24? */
	if (ob->number == 0 || ((now - ob->number) & 0xffffff) - 1 < 0x7fffff)
		ob->number = now;
	else
		ob->number = (ob->number + 1) & 0xffffff;
	return ob->number;
}

/* --- Changes --- */

static void mark(struct coap_server *s, struct observed *k)
{
	for (struct link *l = k->observations.next; l != &k->observations; l = l->next) {
		struct observation *ob = LINK_OWNER(l, struct observation, of_key);

		link_remove(&ob->due);
		list_append(&s->due, &ob->due);
	}
}

void coap_server_changed(struct coap_server *s, const char *observe_key)
{
	struct observed *k = find_key(s, observe_key);

	if (k != NULL)
		mark(s, k);
}

void coap_server_changed_all(struct coap_server *s)
{
	for (size_t i = 0; s->observed != NULL && i <= s->observed_mask; i++)
		for (struct observed *k = s->observed[i]; k != NULL; k = k->next)
			mark(s, k);
}

static void send_notification(struct observation *ob, struct answer *a)
{
	struct coap_peer *p = ob->peer;
	uint8_t bytes[MESSAGE_MAX];

	a->id.type = MESSAGE_CON;
	a->id.mid = next_mid(p->server, p->id);

	struct outgoing *m = outgoing_new(p, bytes, message_write(bytes, a)), *old = ob->message;

	if (m == NULL) { /* later */
		link_remove(&ob->due);
		list_append(&p->server->due, &ob->due);
		p->server->due_not_before_us = clock_monotonic_us() + NOTIFY_RETRY_US;
		return;
	}
	p->server->stats.notifications++;
	m->observation = ob;
	m->delivery = a->delivery;
	m->in_part = answer_in_part(a);
	ob->message = m;
	if (old != NULL)
		outbox_replace(old, m);
	else
		outbox_add(m);
}

static void ask_later(struct observation *ob)
{
	struct coap_server *s = ob->peer->server;

	if (!list_empty(&ob->due)) /* it has changed meanwhile: it is asked before */
		return;
	ob->later_us = clock_monotonic_us() + COAP_NOT_NOW_US;
	list_append(&s->later, &ob->due);
}

/* RFC 7641 section 4.2: an answer that is no success is the last one. */
void observation_answer(struct observation *ob, const struct origin *o, const struct coap_reply *r)
{
	struct coap_peer *p = ob->peer;
	struct answer a;

	if (r->tell == COAP_NOT_NOW) {
		ask_later(ob);
		return;
	}
	/* The handler has it now: the same may be to be delivered once more. */
	if (ob->acknowledged == ob->told)
		ob->acknowledged = 0;
	if (r->tell == COAP_NOTHING) {
		if (ob->message != NULL)
			outbox_remove(ob->message);
		return;
	}
	if (r->delivery != 0 && (r->delivery == ob->acknowledged || outbox_brings(ob, r->delivery)))
		return;
	compose(p, o, r, &a);
	if (a.code < 0x80 && r->observe_key != NULL) {
		a.observe = true;
		a.observe_number = observation_number(ob);
		send_notification(ob, &a);
		return;
	}
	observation_remove(ob);
	p->server->stats.notifications++;
	a.id.type = MESSAGE_CON;
	answer_late(p, &a, 0);
}

static void call_handler(struct observation *ob, struct coap_exchange *e)
{
	struct coap_server *s = e->server;
	struct coap_peer *p = ob->peer;
	const struct coap_route *route = ob->route; /* the handler may end the session, and so ob */
	struct coap_call call = {
		.session = p->session,
		.method = FG_COAP_GET,
		.path = ob->text,
		.rest = "",
		.query = ob->query,
		.format = FG_COAP_FORMAT_NONE,
		.accept = ob->accept,
		.observe = true,
		.notification = true,
		.acknowledged = ob->acknowledged,
	};
	struct coap_reply reply;

	if (route->subtree)
		call.rest = ob->text + strlen(route->path) + 1;
	ob->told = ob->acknowledged;
	reply_init(&reply, 0, NULL);
	s->calling = e;
	if (route->handler(s->o.arg, &call, &reply, e) == COAP_LATER) {
		s->route_late[route - s->o.routes] = true;
		s->calling = NULL;
		return;
	}
	if (s->calling != e) /* answered already, against the contract */
		return;
	s->calling = NULL;
	/* It may have ended the session: then ob is gone, and e knows. */
	ob = e->observation;
	if (ob != NULL) {
		ob->exchange = NULL;
		observation_answer(ob, &e->origin, &reply);
	}
	exchange_free(e);
}

static bool notify(struct observation *ob)
{
	struct coap_peer *p = ob->peer;
	struct coap_server *s = p->server;

	if (ob->exchange != NULL) {
		ob->again = true;
		return true;
	}

	/* Half of them is for requests: somebody waits for those. */
	struct coap_exchange *e = s->late <= s->o.max_exchanges / 2 ? exchange_new(s) : NULL;

	if (e == NULL)
		return false;
	e->origin.notification = true;
	e->origin.method = FG_COAP_GET;
	e->origin.key = ob->transfer_key;
	e->origin.block2 = (struct block){.present = ob->szx != BLOCK_SZX_MAX, .szx = ob->szx};
	e->origin.id.token_len = ob->token_len;
	memcpy(e->origin.id.token, ob->token, ob->token_len);
	e->observation = ob;
	ob->exchange = e;
	exchange_attach(e, p);
	call_handler(ob, e);
	return true;
}

/* Everything in `from` goes to the end of `to`. */
static void move_all(struct link *to, struct link *from)
{
	while (!list_empty(from))
		list_append(to, list_take(from));
}

static int64_t later_next(const struct coap_server *s)
{
	return list_empty(&s->later) ? INT64_MAX
				     : LINK_OWNER(s->later.next, struct observation, due)->later_us;
}

int64_t observe_next(const struct coap_server *s, int64_t now_us)
{
	int64_t later = later_next(s);

	if (list_empty(&s->due))
		return later;
	if (s->due_not_before_us <= now_us)
		return now_us;
	return s->due_not_before_us < later ? s->due_not_before_us : later;
}

/* The handlers of what has changed until now; of what changes meanwhile, the next time. */
void observe_tick(struct coap_server *s, int64_t now_us)
{
	struct link batch;

	while (later_next(s) <= now_us)
		list_append(&s->due, list_take(&s->later));
	if (list_empty(&s->due) || s->due_not_before_us > now_us)
		return;
	link_init(&batch);
	move_all(&batch, &s->due);
	while (!list_empty(&batch)) {
		struct observation *ob = LINK_OWNER(batch.next, struct observation, due);
		struct coap_peer *p = ob->peer;
		bool done;

		peer_use(p);
		link_remove(&ob->due);
		done = notify(ob);
		if (!done)
			list_append(&s->due, &ob->due);
		peer_settle(p);
		if (!done) {
			move_all(&s->due, &batch);
			s->due_not_before_us = now_us + NOTIFY_RETRY_US;
		}
	}
}
