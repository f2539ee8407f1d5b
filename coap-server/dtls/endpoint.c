/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoint as a whole: beginning, end, time, and what callers ask of a session. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coap-server/dtls/internal.h"
#include "core/base/clock.h"
#include "core/base/log.h"

enum {
	/* Limits of idle and old sessions are looked at in so many steps, one a second: this is how
	 * late they may be. */
	SWEEP_STEPS = 16,
};

#define SWEEP_STEP_US US_PER_S

/* --- Beginning and end --- */

static char *copy(const char *s, bool *ok)
{
	char *c = s ? strdup(s) : NULL;

	if (s && !c)
		*ok = false;
	return c;
}

static void free_strings(struct dtls_options *o)
{
	free((char *)o->suites);
	free((char *)o->certificate_file);
	free((char *)o->key_file);
	free((char *)o->client_ca_file);
	free((char *)o->slots_path);
	free((char *)o->keylog_file);
	free((char *)o->keylog_device);
}

static int copy_options(struct dtls_options *to, const struct dtls_options *from)
{
	bool ok = true;

	*to = *from;
	to->suites = copy(from->suites, &ok);
	to->certificate_file = copy(from->certificate_file, &ok);
	to->key_file = copy(from->key_file, &ok);
	to->client_ca_file = copy(from->client_ca_file, &ok);
	to->slots_path = copy(from->slots_path, &ok);
	to->keylog_file = copy(from->keylog_file, &ok);
	to->keylog_device = copy(from->keylog_device, &ok);
	if (ok)
		return 0;
	free_strings(to);
	memset(to, 0, sizeof(*to));
	return -ENOMEM;
}

static int no_memory(char *err, size_t err_len)
{
	snprintf(err, err_len, "no memory for the DTLS endpoint");
	return -1;
}

static int open_slots(struct dtls_endpoint *e, char *err, size_t err_len)
{
	const struct dtls_options *o = &e->options;

	/* Never used twice, by any worker: a slots file lives as long as this clock runs, no second
	 * brings a million sessions, and sessions move from one worker to another. */
	e->next_id = (uint64_t)o->worker << ID_WORKER_SHIFT | (uint64_t)clock_monotonic_us();
	if (!o->slots_path)
		return 0;
	if (persist_self_test(err, err_len) != 0 ||
	    slots_open(&e->slots, o->slots_path, o->max_sessions, err, err_len) != 0)
		return -1;
	return persist_restore(e, err, err_len);
}

static int set_up(struct dtls_endpoint *e, char *err, size_t err_len)
{
	const struct dtls_options *o = &e->options;

	mbedtls_ssl_cookie_init(&e->cookie);
	if (mbedtls_ssl_cookie_setup(&e->cookie, dtls_config_random, NULL) != 0 ||
	    table_init(&e->cids, hash_cid) != 0 || table_init(&e->addresses, hash_address) != 0)
		return no_memory(err, err_len);
	e->tickets = tickets_new(o->ticket_lifetime_us);
	if (!e->tickets)
		return no_memory(err, err_len);
	if (o->keylog_file && o->keylog_device &&
	    keylog_open(&e->keylog, o->keylog_file, o->keylog_device, err, err_len) != 0)
		return -1;
	e->config = dtls_config_new(e, o, err, err_len);
	if (!e->config)
		return -1;
	return open_slots(e, err, err_len);
}

int dtls_open(struct dtls_endpoint **out, const struct dtls_options *o,
	      const struct dtls_callbacks *callbacks, char *err, size_t err_len)
{
	struct dtls_endpoint *e = calloc(1, sizeof(*e));

	*out = NULL;
	if (!e)
		return no_memory(err, err_len);
	dtls_list_init(&e->pool);
	dtls_list_init(&e->handshakes);
	dtls_list_init(&e->silent);
	dtls_list_init(&e->parkable);
	dtls_list_init(&e->stuck);
	e->callbacks = *callbacks;
	e->swept_us = clock_monotonic_us();
	if (copy_options(&e->options, o) != 0)
		no_memory(err, err_len);
	else if (set_up(e, err, err_len) == 0)
		*out = e;
	if (*out)
		return 0;
	dtls_close(e);
	return -1;
}

/* The slot of a session is always as new as the session: with one there is nothing to do. */
static void leave(struct dtls_session *s)
{
	bool notify = !s->slot;

	s->slot = 0; /* so it is not dropped */
	dtls_session_end(s, notify, "the server ends");
}

static void leave_all(struct dtls_endpoint *e)
{
	struct table_link *link;

	if (e->cids.segment_count == 0)
		return;
	e->callbacks.closed = NULL;
	for (size_t b = 0; b < table_buckets(&e->cids); b++)
		while ((link = table_bucket(&e->cids, b)) != NULL)
			leave(SESSION_OF(link, by_cid));
}

void dtls_close(struct dtls_endpoint *e)
{
	if (!e)
		return;
	leave_all(e);
	dtls_contexts_free(e);
	slots_close(e->slots);
	dtls_config_release(e->config);
	keylog_close(e->keylog);
	tickets_free(e->tickets);
	mbedtls_ssl_cookie_free(&e->cookie);
	table_free(&e->cids);
	table_free(&e->addresses);
	timers_free(&e->timers);
	free_strings(&e->options);
	explicit_bzero(e, sizeof(*e));
	free(e);
}

int dtls_reload(struct dtls_endpoint *e, const struct dtls_options *o, char *err, size_t err_len)
{
	struct dtls_config *c = dtls_config_new(e, o, err, err_len);

	if (!c)
		return -1;
	dtls_config_release(e->config);
	e->config = c;
	dtls_contexts_free(e); /* those of the pool know the old one */
	return 0;
}

/* --- Datagrams and time --- */

void endpoint_enter(struct dtls_endpoint *e)
{
	e->depth++;
}

void endpoint_leave(struct dtls_endpoint *e)
{
	if (--e->depth == 0)
		dtls_session_free_ended(e);
}

void dtls_receive(struct dtls_endpoint *e, const struct address *from, const uint8_t *data,
		  size_t len)
{
	endpoint_enter(e);
	dtls_dispatch(e, from, data, len);
	endpoint_leave(e);
}

static void run_timer(struct dtls_session *s, int64_t now_us)
{
	if (s->state == SESSION_HANDSHAKE)
		dtls_handshake_timer(s, now_us);
	else if (!s->active)
		dtls_session_end(s, true,
				 "no request came after the handshake "
				 "(coap.silent_timeout_s)");
	else
		dtls_session_end(s, true,
				 "it has not said who it is "
				 "(coap.authentication_timeout_s)");
}

static void check_age(void *arg, struct dtls_session *s)
{
	const struct dtls_options *o = &s->endpoint->options;
	int64_t now_us = *(int64_t *)arg;

	if (now_us - s->last_us >= (s->has_cid ? o->idle_us : o->idle_without_cid_us))
		dtls_session_end(s, false,
				 "it was silent for too long (coap.idle_days, "
				 "coap.idle_without_cid_s)");
	else if (now_us - s->opened_us >= o->lifetime_us)
		dtls_session_end(s, true, "its life is over (coap.lifetime_days)");
	else if (dtls_identity_expired(&s->identity))
		dtls_session_end(s, true, refusal_reason(REFUSAL_EXPIRED));
}

/* All sessions in SWEEP_STEPS steps; missed ones are made up for, but none twice. */
static void sweep(struct dtls_endpoint *e, int64_t now_us)
{
	int64_t steps = (now_us - e->swept_us) / SWEEP_STEP_US;
	size_t some = table_buckets(&e->cids) / SWEEP_STEPS + 1;

	if (steps <= 0)
		return;
	e->swept_us += steps * SWEEP_STEP_US;
	for (; steps > 0 && some > 0; steps--) {
		dtls_walk(e, &e->sweep_cursor, some, check_age, &now_us);
		if (steps > SWEEP_STEPS)
			steps = SWEEP_STEPS;
	}
}

int64_t dtls_tick(struct dtls_endpoint *e)
{
	int64_t now_us = clock_monotonic_us(), at_us = INT64_MAX, next_us = INT64_MAX;
	struct dtls_session *s;

	endpoint_enter(e);
	while ((s = timers_first(&e->timers, &at_us)) != NULL && at_us <= now_us)
		run_timer(s, now_us);
	sweep(e, now_us);
	dtls_contexts_trim(e, NULL);
	if (timers_first(&e->timers, &at_us))
		next_us = at_us;
	if (e->stats.sessions > 0 && e->swept_us + SWEEP_STEP_US < next_us)
		next_us = e->swept_us + SWEEP_STEP_US;
	endpoint_leave(e);
	return next_us;
}

/* A step ends before the bucket that would be too much, and visits one at least. */
static size_t visit_bucket(struct dtls_endpoint *e, size_t bucket,
			   void (*visit)(void *arg, struct dtls_session *s), void *arg)
{
	struct table_link *link = table_bucket(&e->cids, bucket), *next;
	size_t visited = 0;

	for (; link; link = next) {
		struct dtls_session *s = SESSION_OF(link, by_cid);

		next = link->next;
		if (s->state != SESSION_ESTABLISHED)
			continue;
		visit(arg, s);
		visited++;
		/* What ends takes others with it when it needs a context to say so. The next one is
		 * then in another list: once more from here, to those that are left. */
		if (next && SESSION_OF(next, by_cid)->state == SESSION_ENDED)
			next = table_bucket(&e->cids, bucket);
	}
	return visited;
}

void dtls_walk(struct dtls_endpoint *e, uint64_t *cursor, size_t count,
	       void (*visit)(void *arg, struct dtls_session *s), void *arg)
{
	size_t visited = 0, buckets = 4 * count + 16; /* those may be empty */

	endpoint_enter(e);
	while (visited < count && buckets-- > 0) {
		visited += visit_bucket(e, *cursor, visit, arg);
		if (++*cursor >= table_buckets(&e->cids)) {
			*cursor = 0;
			break;
		}
	}
	endpoint_leave(e);
}

/* --- A session --- */

int dtls_send(struct dtls_session *s, const uint8_t *data, size_t len)
{
	int ret;

	if (len > DTLS_PLAINTEXT_MAX)
		return -EMSGSIZE;
	if (s->state != SESSION_ESTABLISHED)
		return -ENOTCONN;
	ret = dtls_session_wake(s);
	if (ret == -EIO)
		dtls_session_end(s, false, "what was kept of it is damaged");
	if (ret != 0)
		return -ENOTCONN;
	ret = mbedtls_ssl_write(&s->context->ssl, data, len);
	if (ret == (int)len)
		return 0;
	dtls_session_end(s, false, "it has no record numbers left");
	return -ENOTCONN;
}

void dtls_end(struct dtls_session *s, bool notify, const char *reason)
{
	dtls_session_end(s, notify, reason);
}

uint64_t dtls_session_id(const struct dtls_session *s)
{
	return s->id;
}

const struct dtls_identity *dtls_session_identity(const struct dtls_session *s)
{
	return &s->identity;
}

int dtls_identify(struct dtls_session *s, const struct dtls_identity *who)
{
	if (dtls_identity_proven(&s->identity))
		return -EALREADY;
	s->identity = *who;
	slots_set_identity(s->endpoint->slots, s->slot, who);
	if (s->state == SESSION_ESTABLISHED) {
		dtls_session_set_timer(s);
		keylog_identified(s->endpoint->keylog, s);
	}
	return 0;
}

const struct address *dtls_session_address(const struct dtls_session *s)
{
	return &s->address;
}

bool dtls_session_has_cid(const struct dtls_session *s)
{
	return s->has_cid;
}

void *dtls_user(struct dtls_session *s)
{
	return s->user;
}

void dtls_session_set_note(struct dtls_session *s, const void *note, size_t len)
{
	if (len > DTLS_NOTE_MAX)
		return;
	if (s->slot) {
		slots_set_note(s->endpoint->slots, s->slot, note, len);
	} else if (s->kept) {
		memcpy(s->kept->note, note, len);
		s->kept->note_len = (uint8_t)len;
	}
}

size_t dtls_session_note(const struct dtls_session *s, uint8_t note[DTLS_NOTE_MAX])
{
	struct slot_content c;
	size_t len = 0;

	if (s->slot && slots_get(s->endpoint->slots, s->slot, &c)) {
		len = c.note_len;
		memcpy(note, c.note, len);
		explicit_bzero(&c, sizeof(c));
	} else if (!s->slot && s->kept) {
		len = s->kept->note_len;
		memcpy(note, s->kept->note, len);
	}
	return len;
}

void dtls_stats(const struct dtls_endpoint *e, struct dtls_stats *out)
{
	*out = e->stats;
}
