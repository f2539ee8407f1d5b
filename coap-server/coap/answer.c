/* SPDX-License-Identifier: Apache-2.0 */
/* From a handler's reply to bytes, and the ways that they can go. */
#include "coap-server/coap/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"

void reply_init(struct coap_reply *r, uint8_t code, const char *diagnostic)
{
	memset(r, 0, sizeof(*r));
	r->code = code;
	r->format = FG_COAP_FORMAT_NONE;
	r->max_age_s = -1;
	r->diagnostic = diagnostic;
}

/* --- Blocks --- */

void compose_block(const struct transfer *t, const struct block *want, struct answer *a)
{
	size_t offset = block_offset(want), size = block_size(want);

	if (offset >= t->len) {
		static const char why[] = "there is no such block";

		a->code = FG_COAP_CODE(4, 0);
		a->payload = (const uint8_t *)why;
		a->payload_len = sizeof(why) - 1;
		return;
	}
	a->code = t->code;
	a->format = t->format;
	a->max_age_s = t->max_age_s;
	a->etag_len = t->etag_len;
	memcpy(a->etag, t->etag, t->etag_len);
	a->payload = t->body + offset;
	a->payload_len = t->len - offset < size ? t->len - offset : size;
	a->block2 = *want;
	a->block2.present = true;
	a->block2.more = offset + size < t->len;
	if (want->num == 0)
		a->size2 = (int64_t)t->len;
}

/* So that a device sees when the blocks that it collects are of two representations. */
static void make_etag(struct answer *a)
{
	static const struct hash_key fixed = {0x6669656c64676174, 0x652f636f61702f31};
	uint64_t h = hash_siphash(&fixed, a->payload, a->payload_len);

	a->etag_len = 4;
	memcpy(a->etag, &h, a->etag_len);
}

static struct transfer *store(struct coap_peer *p, uint64_t key, const struct answer *a, int *error)
{
	struct transfer *t = transfer_find(p, false, key);
	uint8_t *body;

	if (t == NULL)
		t = transfer_new(p, false, key, error);
	if (t == NULL)
		return NULL;
	body = malloc(a->payload_len);
	if (body == NULL) {
		transfer_free(t);
		*error = -ENOMEM;
		return NULL;
	}
	free(t->body);
	memcpy(body, a->payload, a->payload_len);
	t->body = body;
	t->len = t->room = a->payload_len;
	t->code = a->code;
	t->format = a->format;
	t->max_age_s = a->max_age_s;
	t->etag_len = a->etag_len;
	memcpy(t->etag, a->etag, a->etag_len);
	transfer_touch(t);
	return t;
}

static void refuse(struct answer *a, uint8_t code, const char *why)
{
	struct answer refused;

	answer_init(&refused, &a->id, code);
	if (code == FG_COAP_CODE(5, 3))
		refused.max_age_s = BUSY_MAX_AGE_S;
	refused.payload = (const uint8_t *)why;
	refused.payload_len = strlen(why);
	refused.block1 = a->block1;
	*a = refused;
}

/* The payload does not fit into one message, or a later block is wanted. What was stored for the
 * blocks before is of no use then: this is newer. */
static void compose_blocks(struct coap_peer *p, const struct origin *o, const struct block *want,
			   struct answer *a)
{
	struct transfer view = {.body = (uint8_t *)(uintptr_t)a->payload, .len = a->payload_len};
	struct answer whole;
	int error = 0;

	if (a->etag_len == 0)
		make_etag(a);
	whole = *a;
	view.code = a->code;
	view.format = a->format;
	view.max_age_s = a->max_age_s;
	view.etag_len = a->etag_len;
	memcpy(view.etag, a->etag, a->etag_len);
	compose_block(&view, want, a);
	if (!a->block2.more || store(p, o->key, &whole, &error) != NULL)
		return;
	/* Nobody asked for a notification: its blocks will be made again when they are. */
	if (o->notification)
		return;
	if (error == -ENOMEM)
		refuse(a, FG_COAP_CODE(5, 0), "out of memory");
	else
		refuse(a, FG_COAP_CODE(5, 3), "too many transfers");
}

void compose(struct coap_peer *p, const struct origin *o, const struct coap_reply *r,
	     struct answer *a)
{
	struct block want = o->block2;

	answer_init(a, &o->id, r->code == 0 ? FG_COAP_CODE(5, 0) : r->code);
	a->format = r->format;
	a->max_age_s = r->max_age_s;
	a->etag_len = (uint8_t)(r->etag_len <= FG_COAP_ETAG_MAX ? r->etag_len : 0);
	memcpy(a->etag, r->etag, a->etag_len);
	a->delivery = a->code < 0x80 ? r->delivery : 0;
	a->payload = r->payload;
	a->payload_len = r->payload_len;
	if (r->diagnostic != NULL) {
		a->format = FG_COAP_FORMAT_NONE;
		a->payload = (const uint8_t *)r->diagnostic;
		a->payload_len = strnlen(r->diagnostic, 256);
	}
	/* RFC 7959 section 2.3: the number and size of the block that this answers. */
	a->block1 = o->block1;
	if (!want.present) {
		want.num = 0;
		want.szx = o->block1.present ? o->block1.szx : BLOCK_SZX_MAX;
	}
	if (p != NULL && (a->payload_len > block_size(&want) || (want.num > 0 && a->code < 0x80)))
		compose_blocks(p, o, &want, a);
	else if (want.present && a->code < 0x80)
		a->block2 = (struct block){.present = true, .szx = want.szx};
}

/* --- Ways --- */

void answer_now(struct coap_server *s, uint64_t session_id, void *session, struct answer *a,
		bool keep)
{
	uint8_t bytes[MESSAGE_MAX];
	uint16_t request_mid = a->id.mid;
	bool confirmable = a->id.type == MESSAGE_CON;
	size_t len;

	if (confirmable)
		a->id.type = MESSAGE_ACK;
	else
		a->id.mid = next_mid(s, session_id);
	len = message_write(bytes, a);
	if (keep)
		dedup_put(s->dedup, session_id, request_mid, confirmable, clock_monotonic_us(),
			  bytes, confirmable ? len : 0);
	s->o.send(s->o.arg, session, bytes, len);
}

/* To a repeat the same is said: its answer comes, or has come, as a message of its own. */
void answer_empty(struct coap_server *s, uint64_t session_id, void *session,
		  const struct message_id *request)
{
	uint8_t bytes[MESSAGE_HEADER];
	bool confirmable = request->type == MESSAGE_CON;

	message_write_empty(bytes, MESSAGE_ACK, request->mid);
	dedup_put(s->dedup, session_id, request->mid, confirmable, clock_monotonic_us(), bytes,
		  confirmable ? sizeof(bytes) : 0);
	if (confirmable)
		s->o.send(s->o.arg, session, bytes, sizeof(bytes));
}

void answer_none(struct coap_server *s, uint64_t session_id, const struct message_id *request)
{
	dedup_put(s->dedup, session_id, request->mid, true, clock_monotonic_us(), NULL, 0);
}

void answer_held(struct coap_peer *p, struct answer *a, uint64_t ticket)
{
	struct coap_server *s = p->server;
	uint8_t bytes[MESSAGE_MAX];
	uint16_t request_mid = a->id.mid;
	bool confirmable = a->id.type == MESSAGE_CON;

	if (confirmable)
		a->id.type = MESSAGE_ACK;
	else
		a->id.mid = next_mid(s, p->id);

	struct outgoing *m = outgoing_new(p, bytes, message_write(bytes, a));

	if (m == NULL) /* as if it was lost: the device asks again */
		return;
	m->request_mid = request_mid;
	m->answers_once = true;
	held_add(m, ticket);
	if (!confirmable) {
		dedup_put(s->dedup, p->id, request_mid, false, clock_monotonic_us(), NULL, 0);
		return;
	}
	dedup_hold(s->dedup, p->id, request_mid, clock_monotonic_us(), m->data, m->len);
	if (s->o.keep != NULL)
		s->o.keep(s->o.arg, p->session);
}

void answer_late(struct coap_peer *p, struct answer *a, uint64_t ticket)
{
	struct coap_server *s = p->server;
	uint8_t bytes[MESSAGE_MAX];

	if (p->gone) /* by what was sent just before */
		return;
	a->id.mid = next_mid(s, p->id);

	size_t len = message_write(bytes, a);

	if (a->id.type == MESSAGE_NON && ticket == 0) {
		peer_send(p, bytes, len);
		return;
	}

	struct outgoing *m = outgoing_new(p, bytes, len);

	if (m == NULL) /* lost; the device's own timer brings it back */
		return;
	m->answers_once = a->id.type == MESSAGE_NON;
	m->delivery = a->delivery;
	m->in_part = answer_in_part(a);
	outgoing_count_late(m);
	if (ticket != 0)
		held_add(m, ticket);
	else
		outbox_add(m);
}
