/* SPDX-License-Identifier: Apache-2.0 */
/* What a message is: a repeat, a request, or a word about one of ours; and the timers. */
#include "coap-server/coap/internal.h"

#include <errno.h>
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
	link_init(&s->unacknowledged);
	link_init(&s->held);
	link_init(&s->transfers);
	link_init(&s->stranger_transfers);
	link_init(&s->due);
	link_init(&s->later);
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
		struct coap_peer *p = LINK_OWNER(list_take(&s->peers), struct coap_peer, of_server);

		coap_server_forget(s, &p);
	}
	while (!list_empty(&s->exchanges))
		exchange_free(
			LINK_OWNER(list_take(&s->exchanges), struct coap_exchange, of_server));
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

/* An answer has its request's token (RFC 7252 section 5.3.1); an acknowledgement alone has none. */
static bool is_answer_to(const uint8_t *data, size_t len, const uint8_t *answer, size_t answer_len)
{
	size_t token_len = data[0] & 15;

	if (answer_len < MESSAGE_HEADER || answer[1] == 0)
		return true;
	return (answer[0] & 15u) == token_len && len >= MESSAGE_HEADER + token_len &&
	       answer_len >= MESSAGE_HEADER + token_len &&
	       memcmp(data + MESSAGE_HEADER, answer + MESSAGE_HEADER, token_len) == 0;
}

/*
 * RFC 7252 section 4.5: a message is known by its endpoint and message ID. One with another token
 * than the answer that is kept is another request all the same, of a device that uses an ID again
 * too early (after a reset, say, with its session restored): it must not be told that it was done.
 */
static bool repeated(struct receiving *r, const uint8_t *data, size_t len)
{
	struct coap_server *s = r->s;
	const uint8_t *answer;
	size_t answer_len;
	uint8_t bytes[MESSAGE_MAX];
	enum dedup_state state = dedup_find(s->dedup, r->id, message_mid(data),
					    clock_monotonic_us(), &answer, &answer_len);

	if (state == DEDUP_NONE)
		return false;
	if (state == DEDUP_ANSWERED && !is_answer_to(data, len, answer, answer_len))
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

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t coap_server_tick(struct coap_server *s)
{
	int64_t now_us = clock_monotonic_us();
	int64_t next;

	/* Each of these can give the next one something to wait for. */
	observe_tick(s, now_us);
	next = outbox_tick(s, now_us);
	next = earlier(next, requests_acknowledge(s, now_us));
	next = earlier(next, transfers_expire(s, now_us));
	return earlier(next, observe_next(s, now_us));
}

void coap_server_stats(const struct coap_server *s, struct coap_server_stats *out)
{
	*out = s->stats;
	out->dedup_entries = dedup_entries(s->dedup);
	out->dedup_bytes = dedup_bytes(s->dedup);
}
