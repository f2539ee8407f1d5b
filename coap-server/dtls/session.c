/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session: how it is found, what happens to it, how it ends. Nothing that is not authentic
 * changes it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/blob.h"
#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/log.h"

enum { EPOCH = 1 }; /* the only one that has keys: there is no renegotiation */

/* --- Tables --- */

/* The part after the worker's byte is random; what is looked up comes from anybody. */
uint64_t hash_cid(const struct table_link *link)
{
	return hash_siphash(hash_table_key(), SESSION_OF(link, by_cid)->cid, DTLS_CID_LEN);
}

uint64_t hash_address(const struct table_link *link)
{
	return hash_siphash(hash_table_key(), &SESSION_OF(link, by_address)->address,
			    sizeof(struct address));
}

struct dtls_session *dtls_session_by_cid(const struct dtls_endpoint *e, const uint8_t *cid)
{
	struct table_link *link =
		table_first(&e->cids, hash_siphash(hash_table_key(), cid, DTLS_CID_LEN));

	for (; link; link = link->next)
		if (memcmp(SESSION_OF(link, by_cid)->cid, cid, DTLS_CID_LEN) == 0)
			return SESSION_OF(link, by_cid);
	return NULL;
}

/* At most one of each state is found by an address. */
struct dtls_session *dtls_session_by_address(const struct dtls_endpoint *e, const struct address *a,
					     enum session_state state)
{
	struct table_link *link =
		table_first(&e->addresses, hash_siphash(hash_table_key(), a, sizeof(*a)));

	for (; link; link = link->next) {
		struct dtls_session *s = SESSION_OF(link, by_address);

		if (s->state == state && address_equal(&s->address, a))
			return s;
	}
	return NULL;
}

static void enter_address(struct dtls_session *s)
{
	table_insert(&s->endpoint->addresses, &s->by_address);
	s->in_address = true;
}

void dtls_session_leave_address(struct dtls_session *s)
{
	if (s->in_address)
		table_remove(&s->endpoint->addresses, &s->by_address);
	s->in_address = false;
}

/* --- Life --- */

static void draw_cid(const struct dtls_endpoint *e, uint8_t cid[DTLS_CID_LEN])
{
	do {
		random_bytes(cid, DTLS_CID_LEN);
		cid[0] = (uint8_t)e->options.worker;
	} while (dtls_session_by_cid(e, cid));
}

struct dtls_session *dtls_session_new(struct dtls_endpoint *e, const struct address *from)
{
	struct dtls_session *s = calloc(1, sizeof(*s) + e->options.user_size);

	if (!s)
		return NULL;
	s->endpoint = e;
	s->address = *from;
	if (timers_set(&e->timers, s, INT64_MAX) != 0) {
		free(s);
		return NULL;
	}
	draw_cid(e, s->cid);
	table_insert(&e->cids, &s->by_cid);
	enter_address(s);
	e->stats.handshaking++;
	return s;
}

struct dtls_session *dtls_session_restore(struct dtls_endpoint *e, const struct slot_content *c)
{
	struct dtls_session *s = calloc(1, sizeof(*s) + e->options.user_size);
	int64_t now_us = clock_monotonic_us();

	if (!s)
		return NULL;
	s->endpoint = e;
	s->state = SESSION_ESTABLISHED;
	s->id = c->id;
	s->opened_us = c->opened_us;
	s->last_us = c->last_us;
	s->has_cid = c->has_cid;
	s->active = s->parkable = true;
	s->identity = c->identity;
	s->address = c->address;
	memcpy(s->cid, c->cid, sizeof(s->cid));
	/* An anonymous one gets its time again: it may have been us who did not answer. */
	if (!dtls_identity_proven(&s->identity) &&
	    timers_set(&e->timers, s, now_us + e->options.anonymous_timeout_us) != 0) {
		free(s);
		return NULL;
	}
	table_insert(&e->cids, &s->by_cid);
	if (!s->has_cid)
		enter_address(s);
	e->stats.sessions++;
	e->stats.parked++;
	return s;
}

void dtls_session_end(struct dtls_session *s, bool notify, const char *reason)
{
	struct dtls_endpoint *e = s->endpoint;
	bool established = s->state == SESSION_ESTABLISHED;

	if (s->state == SESSION_ENDED)
		return;
	endpoint_enter(e);
	if (notify && established && dtls_session_wake(s) == 0)
		mbedtls_ssl_close_notify(&s->context->ssl);
	if (s->state == SESSION_ENDED) /* waking it has ended it for want of room */
		goto out;
	s->state = SESSION_ENDED;
	if (!established)
		e->stats.handshaking--;
	else if (s->context)
		e->stats.live--;
	else
		e->stats.parked--;
	e->stats.sessions -= established;
	e->stats.closed += established;
	table_remove(&e->cids, &s->by_cid);
	dtls_session_leave_address(s);
	timers_cancel(&e->timers, s);
	keylog_forget(e->keylog, s);
	if (s->slot)
		slots_drop(e->slots, s->slot);
	s->slot = 0;
	dtls_context_put(s->context);
	s->context = NULL;
	if (established && e->callbacks.closed)
		e->callbacks.closed(e->callbacks.arg, s, reason);
	s->by_cid.next = e->ended ? &e->ended->by_cid : NULL;
	e->ended = s;
out:
	endpoint_leave(e);
}

static void free_kept(struct kept *k)
{
	if (!k)
		return;
	explicit_bzero(k, sizeof(*k) + k->blob_len);
	free(k);
}

void dtls_session_free_ended(struct dtls_endpoint *e)
{
	while (e->ended) {
		struct dtls_session *s = e->ended;

		e->ended = s->by_cid.next ? SESSION_OF(s->by_cid.next, by_cid) : NULL;
		free_kept(s->kept);
		free(s);
	}
}

/* A client that repeats its Finished has not got ours: its time begins again, but not for ever. */
static int64_t silent_until(const struct dtls_session *s)
{
	const struct dtls_options *o = &s->endpoint->options;
	int64_t at_us = s->last_us + o->silent_timeout_us;
	int64_t last_us = s->opened_us + o->silent_timeout_us + o->handshake_timeout_us;

	return at_us < last_us ? at_us : last_us;
}

void dtls_session_set_timer(struct dtls_session *s)
{
	struct timers *t = &s->endpoint->timers;
	const struct dtls_options *o = &s->endpoint->options;

	if (!s->active)
		timers_set(t, s, silent_until(s));
	else if (!dtls_identity_proven(&s->identity))
		timers_set(t, s, s->opened_us + o->anonymous_timeout_us);
	else
		timers_cancel(t, s);
}

/* --- Records --- */

struct window {
	uint64_t top, bits;
};

/* Mbed TLS updates it for every record that it has authenticated and for no other, whatever is in
 * it: data, an alert, a repeated Finished, nothing. */
static struct window window_of(const struct context *c)
{
	return (struct window){.top = c->ssl.MBEDTLS_PRIVATE(in_window_top),
			       .bits = c->ssl.MBEDTLS_PRIVATE(in_window)};
}

static bool windows_equal(struct window a, struct window b)
{
	return a.top == b.top && a.bits == b.bits;
}

/*
 * RFC 9146 section 6: authentic, and newer than all before. Return routability is not asked for: a
 * device that writes another sender into its datagrams has the answers sent there, and they can be
 * 20 times as long as what it asks. So anybody could whom nobody knows; therefore a session without
 * identity stays with the host that has shaken hands, and only its port may change.
 */
static bool may_move(const struct dtls_session *s, const struct address *to)
{
	return s->has_cid && (dtls_identity_proven(&s->identity) ||
			      address_source(to) == address_source(&s->address));
}

static void follow(struct dtls_session *s, struct window before, const struct record *r,
		   const struct address *from)
{
	bool newer = before.bits == 0 || (r->number & RECORD_SEQUENCE_MASK) > before.top;

	if (!newer || address_equal(&s->address, from) || !may_move(s, from))
		return;
	dtls_session_leave_address(s);
	s->address = *from;
	s->endpoint->stats.moved++;
}

/* Its first application record: Mbed TLS has now let go of the handshake. */
static int activate(struct dtls_session *s)
{
	int rc;

	if (s->has_cid)
		dtls_session_leave_address(s);
	rc = dtls_session_activate(s);
	if (rc == 0)
		dtls_session_set_timer(s);
	return rc;
}

static void authentic(struct dtls_session *s, struct window before, const struct record *r,
		      const struct address *from)
{
	s->endpoint->stats.authentic++;
	s->last_us = clock_monotonic_us();
	follow(s, before, r, from);
	if (s->slot)
		slots_set_in(s->endpoint->slots, s->slot, r->number, &s->address, s->last_us);
	if (!s->active)
		dtls_session_set_timer(s);
}

/* --- What is not authentic --- */

enum forgery { FORGERY_OF_SOURCE = 1, FORGERY_OF_SESSION };

static uint64_t forgery_key(enum forgery kind, const struct dtls_session *s,
			    const struct address *from)
{
	uint64_t key[3] = {kind, address_source(from), kind == FORGERY_OF_SESSION ? s->id : 0};

	return hash_siphash(hash_table_key(), key, sizeof(key));
}

/*
 * Has this source forged so much that its records are dropped unread? One that comes from where its
 * session is now still passes, as long as that session itself is not what is forged: so whoever
 * forges behind a NAT hurts his neighbours only if their port changes in the same minute.
 */
static bool distrusted(const struct dtls_session *s, const struct address *from)
{
	const struct dtls_endpoint *e = s->endpoint;
	unsigned limit = e->options.forgeries_per_source;
	int64_t now_us = clock_monotonic_us();

	if (limit == 0 ||
	    limits_seen(&e->limits, forgery_key(FORGERY_OF_SOURCE, s, from), now_us) < limit)
		return false;
	return !address_equal(&s->address, from) ||
	       limits_seen(&e->limits, forgery_key(FORGERY_OF_SESSION, s, from), now_us) >= limit;
}

static void forged(struct dtls_session *s, const struct address *from)
{
	struct dtls_endpoint *e = s->endpoint;
	int64_t now_us = clock_monotonic_us();

	e->stats.dropped++;
	if (e->options.forgeries_per_source == 0)
		return;
	limits_count(&e->limits, forgery_key(FORGERY_OF_SOURCE, s, from), now_us);
	limits_count(&e->limits, forgery_key(FORGERY_OF_SESSION, s, from), now_us);
}

/* RFC 6347 section 4.1.2.6 */
static bool seen_before(struct window w, const struct record *r)
{
	uint64_t seq = r->number & RECORD_SEQUENCE_MASK;

	return seq <= w.top && (w.top - seq >= 64 || w.bits >> (w.top - seq) & 1);
}

/* The network repeats datagrams now and then, from where they came. */
static void replayed(struct dtls_session *s, const struct address *from)
{
	if (address_equal(&s->address, from))
		s->endpoint->stats.dropped++;
	else
		forged(s, from);
}

void dtls_session_record(struct dtls_session *s, const struct record *r, const struct address *from)
{
	struct dtls_endpoint *e = s->endpoint;
	struct window before;
	int ret;

	if (r->epoch != EPOCH) {
		e->stats.dropped++;
		return;
	}
	if (distrusted(s, from)) {
		e->stats.limited++;
		return;
	}
	ret = dtls_session_wake(s);
	if (ret == -EIO)
		dtls_session_end(s, false, "what was kept of it is damaged");
	if (ret != 0)
		return;
	before = window_of(s->context);
	if (seen_before(before, r)) {
		replayed(s, from);
		return;
	}
	s->context->in = r->bytes;
	s->context->in_len = r->len;
	ret = mbedtls_ssl_read(&s->context->ssl, e->plain, sizeof(e->plain));
	s->context->in = NULL;
	if (windows_equal(before, window_of(s->context))) {
		forged(s, from);
		return;
	}
	authentic(s, before, r, from);
	if (ret == MBEDTLS_ERR_SSL_WANT_READ)
		return;
	if (ret <= 0) {
		dtls_session_end(s, false,
				 ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY ? "closed by the peer"
				 : ret == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE
					 ? "alert from the peer"
					 : "protocol error");
		return;
	}
	if (!s->active && activate(s) != 0) {
		dtls_session_end(s, false, "no memory");
		return;
	}
	e->callbacks.data(e->callbacks.arg, s, e->plain, (size_t)ret);
	dtls_contexts_trim(e, NULL);
}
