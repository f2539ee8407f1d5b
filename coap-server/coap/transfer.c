/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies in blocks (RFC 7959). Memory grows with the bytes that have come, never with what a Size1
 * promises. Blocks of an upload are taken in order: a device sends the next one when it has the
 * answer to the last (NSTART 1), so one out of order is late or its transfer is lost.
 */
#include "coap-server/coap/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

#define STRANGERS_SHARE 8 /* one in so many of max_transfers_all */

/* What makes two requests parts of one transfer: RFC 7959 section 2.5, RFC 9175 section 3.3. A hash
 * with a random key: nobody can choose two that collide. */
uint64_t transfer_key(const struct message *m, bool upload)
{
	uint8_t text[FG_COAP_PATH_MAX + QUERY_MAX + 2 + 16];
	size_t path_len = strlen(m->path), query_len = strlen(m->query), n = 0;

	text[n++] = m->code;
	text[n++] = (uint8_t)(m->call.accept >> 8);
	text[n++] = (uint8_t)m->call.accept;
	text[n++] = m->call.accept == FG_COAP_FORMAT_NONE;
	if (upload) {
		text[n++] = m->request_tag_len;
		memcpy(text + n, m->request_tag, REQUEST_TAG_MAX);
		n += REQUEST_TAG_MAX;
	}
	memcpy(text + n, m->path, path_len + 1);
	n += path_len + 1;
	memcpy(text + n, m->query, query_len);
	n += query_len;
	return hash_siphash(hash_table_key(), text, n);
}

struct transfer *transfer_find(struct coap_peer *p, bool upload, uint64_t key)
{
	for (struct link *l = p->transfers.next; l != &p->transfers; l = l->next) {
		struct transfer *t = LINK_OWNER(l, struct transfer, of_peer);

		if (t->upload == upload && t->key == key)
			return t;
	}
	return NULL;
}

static struct link *list_of(const struct transfer *t)
{
	struct coap_server *s = t->peer->server;

	return t->stranger ? &s->stranger_transfers : &s->transfers;
}

void transfer_touch(struct transfer *t)
{
	t->used_us = clock_monotonic_us();
	link_remove(&t->by_use);
	list_append(list_of(t), &t->by_use);
}

static size_t *direction_count(struct coap_server *s, bool upload)
{
	return upload ? &s->uploads : &s->downloads;
}

void transfer_free(struct transfer *t)
{
	struct coap_server *s = t->peer->server;

	link_remove(&t->of_peer);
	link_remove(&t->by_use);
	--*direction_count(s, t->upload);
	s->strangers -= t->stranger;
	s->stats.transfers--;
	free(t->body);
	free(t);
}

/* One that was abandoned must not keep a device from beginning another, so the session's own oldest
 * goes. What it loses is asked for again: 4.08, or the handler once more. */
static void make_room(struct coap_peer *p, bool upload, size_t max)
{
	struct transfer *oldest = NULL;
	size_t n = 0;

	for (struct link *l = p->transfers.next; l != &p->transfers; l = l->next) {
		struct transfer *t = LINK_OWNER(l, struct transfer, of_peer);

		if (t->upload != upload)
			continue;
		n++;
		if (oldest == NULL || t->used_us < oldest->used_us)
			oldest = t;
	}
	if (oldest != NULL && n >= max)
		transfer_free(oldest);
}

/* The first of a list by use goes, and with it its session's peer if that was all it had. */
static void drop_first(struct link *list)
{
	struct transfer *t = LINK_OWNER(list_take(list), struct transfer, by_use);
	struct coap_peer *p = t->peer;

	peer_use(p);
	transfer_free(t);
	peer_settle(p);
}

static void make_room_of_strangers(struct coap_server *s)
{
	/* One whose handler is running is not in the list. */
	if (!list_empty(&s->stranger_transfers) &&
	    s->strangers >= s->o.max_transfers_all / STRANGERS_SHARE)
		drop_first(&s->stranger_transfers);
}

struct transfer *transfer_new(struct coap_peer *p, bool upload, uint64_t key, int *error)
{
	struct coap_server *s = p->server;
	bool stranger = !session_known(s, p->session);

	*error = -EBUSY;
	if (s->o.max_transfers == 0)
		return NULL;
	make_room(p, upload, stranger ? 1 : s->o.max_transfers);
	if (stranger)
		make_room_of_strangers(s);
	if (s->stats.transfers >= s->o.max_transfers_all)
		return NULL;

	struct transfer *t = calloc(1, sizeof(*t));

	*error = -ENOMEM;
	if (t == NULL)
		return NULL;
	t->peer = p;
	t->upload = upload;
	t->stranger = stranger;
	t->key = key;
	t->max_age_s = -1;
	t->used_us = clock_monotonic_us();
	list_append(&p->transfers, &t->of_peer);
	list_append(list_of(t), &t->by_use);
	s->strangers += stranger;
	++*direction_count(s, upload);
	s->stats.transfers++;
	return t;
}

static int64_t expire(struct link *list, int64_t now_us)
{
	while (!list_empty(list)) {
		const struct transfer *t = LINK_OWNER(list->next, struct transfer, by_use);

		if (now_us - t->used_us < EXCHANGE_LIFETIME_US)
			return t->used_us + EXCHANGE_LIFETIME_US;
		drop_first(list);
	}
	return INT64_MAX;
}

int64_t transfers_expire(struct coap_server *s, int64_t now_us)
{
	int64_t known = expire(&s->transfers, now_us);
	int64_t strangers = expire(&s->stranger_transfers, now_us);

	return known < strangers ? known : strangers;
}

/* --- Up --- */

bool body_fits(const struct coap_server *s, const struct message *m)
{
	size_t end = m->call.payload_len;

	if (m->block1.present)
		end += block_offset(&m->block1) + (m->block1.more ? 1 : 0);
	if (m->has_size1 && m->block1.present && m->size1 > s->o.max_body)
		return false;
	return end <= s->o.max_body;
}

static int grow(const struct coap_server *s, struct transfer *t, size_t need)
{
	size_t room = t->room == 0 ? 1024 : t->room;

	if (need <= t->room)
		return 0;
	while (room < need)
		room *= 2;
	if (room > s->o.max_body)
		room = s->o.max_body;

	uint8_t *body = realloc(t->body, room);

	if (body == NULL)
		return -ENOMEM;
	t->body = body;
	t->room = room;
	return 0;
}

static bool same_again(const struct transfer *t, size_t offset, const struct message *m)
{
	size_t len = m->call.payload_len;

	return offset + len <= t->len && memcmp(t->body + offset, m->call.payload, len) == 0;
}

static uint8_t incomplete(struct transfer *t, const char **why, const char *reason)
{
	if (t != NULL)
		transfer_free(t);
	*why = reason;
	return FG_COAP_CODE(4, 8);
}

static struct transfer *begin(struct coap_peer *p, uint64_t key, const struct message *m,
			      uint8_t *code)
{
	int error;
	struct transfer *t = transfer_new(p, true, key, &error);

	*code = error == -EBUSY ? FG_COAP_CODE(5, 3) : FG_COAP_CODE(5, 0);
	if (t != NULL)
		t->format = m->call.format;
	return t;
}

uint8_t upload_block(struct coap_peer *p, const struct message *m, struct transfer **whole,
		     const char **why)
{
	const struct block *b = &m->block1;
	size_t offset = block_offset(b), len = m->call.payload_len;
	uint64_t key = transfer_key(m, true);
	struct transfer *t = transfer_find(p, true, key);
	uint8_t code;

	*why = NULL;
	if (t != NULL && b->num == 0 && (t->format != m->call.format || !same_again(t, 0, m))) {
		t->len = 0; /* the device begins anew */
		t->format = m->call.format;
	}
	if (t == NULL) {
		if (b->num != 0)
			return incomplete(NULL, why, "block 0 is missing");
		t = begin(p, key, m, &code);
		if (t == NULL) {
			*why = "too many transfers";
			return code;
		}
	}
	if (t->format != m->call.format)
		return incomplete(t, why, "the Content-Format has changed");
	if (offset > t->len)
		return incomplete(t, why, "a block before this one is missing");
	/* Of a block that is there already, the same again is harmless; something else means that
	 * parts of two bodies would be mixed. */
	if (offset < t->len && !same_again(t, offset, m))
		return incomplete(t, why, "this block came before with other content");
	if (offset == t->len) {
		if (grow(p->server, t, offset + len) != 0) {
			transfer_free(t);
			*why = "out of memory";
			return FG_COAP_CODE(5, 0);
		}
		if (len > 0)
			memcpy(t->body + offset, m->call.payload, len);
		t->len = offset + len;
	}
	transfer_touch(t);
	if (b->more)
		return FG_COAP_CODE(2, 31);
	t->len = offset + len;
	*whole = t;
	return 0;
}
