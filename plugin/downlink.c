/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does anybody take it? The broker publishes what a plugin hands it when its loop begins anew, and
 * asks ACL_CHECK for the right to receive of each session with a subscription that fits. So a
 * message counts as delivered when that question came for a connected session of the device and the
 * answer was yes; if it has not come by the TICK after the next, no subscription fits. Then the
 * message stays, with all behind it, and is not published again before the device subscribes to
 * something, or, if the answer was no, before the registry has changed. (Mosquitto 2.0 has no event
 * for the PUBACK.)
 *
 * Looked at are: devices of which the database says that a message was added, sessions that begin
 * or subscribe, and, for whatever was missed, all sessions in turn.
 */
#include "plugin/downlink.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/document/document.h"
#include "plugin/plugin.h"

#define BUCKETS		    1024
#define QUEUE_MAX	    256 /* questions under way, and so messages in one TICK */
#define WAIT_MAX_S	    10
#define PASS_INTERVAL_US    US_PER_MS /* 2.0 calls TICK with every turn of its loop */
#define SWEEP_INTERVAL_US   (100 * US_PER_MS)
#define SWEEP_BUCKETS	    512
#define SWEEP_HURRY_BUCKETS 4096
#define PAUSE_US	    US_PER_S	      /* the database has not answered */
#define AWAY_PAUSE_US	    (100 * US_PER_MS) /* and does not listen */
#define NOT_TAKEN_PAUSE_US  (10 * US_PER_S)   /* has it expired meanwhile? */
#define NOT_TAKEN_LOG_US    (10 * US_PER_S)
#define LAST_WAIT_MS	    5000
#define NONE		    (-1)
#define TOPIC_MAX	    512 /* sql/0011_downlink.sql allows less */

struct downlink_device {
	struct downlink_device *next; /* hash chain */
	TAILQ_ENTRY(downlink_device) list;
	struct downlink_list *in;
	int64_t published; /* id of the message, in the list of this name */
	uint64_t topic;	   /* its hash */
	unsigned passes;   /* since then */
	bool taken, refused;
	int64_t delivered; /* id of a message that is still to be marked, or NONE */
	char id[];
};

/* ---- devices ---- */

static uint64_t hash_text(const char *text)
{
	return hash_siphash(hash_table_key(), text, strlen(text));
}

static struct downlink_device **slot_of(const struct downlink *d, const char *id)
{
	struct downlink_device **at = &d->buckets[hash_text(id) % BUCKETS];

	while (*at && strcmp((*at)->id, id) != 0)
		at = &(*at)->next;
	return at;
}

static void move(struct downlink_device *e, struct downlink_list *to)
{
	if (e->in)
		TAILQ_REMOVE(e->in, e, list);
	e->in = to;
	TAILQ_INSERT_TAIL(to, e, list);
}

static void forget(struct downlink *d, struct downlink_device *e)
{
	struct downlink_device **slot = slot_of(d, e->id);

	*slot = e->next;
	TAILQ_REMOVE(e->in, e, list);
	free(e);
}

/* To be looked at. Without memory the sweep comes by again. */
static void want(struct downlink *d, const char *id)
{
	struct downlink_device **slot = slot_of(d, id), *e;
	size_t size = strlen(id) + 1;

	if (*slot)
		return;
	e = calloc(1, sizeof(*e) + size);
	if (!e)
		return;
	memcpy(e->id, id, size);
	e->delivered = NONE;
	*slot = e;
	move(e, &d->wanted);
}

/* ---- sessions ---- */

static bool may_take(const struct plugin *p, struct session *s)
{
	return s->state == SESSION_LIVE && !s->close_reason && session_principal(p, s) &&
	       mosquitto_client_sub_count(s->client) > 0;
}

/* Nor will it take it now: unless it was the registry that said no, and has changed. */
static bool took_it_not(const struct plugin *p, const struct session *s, int64_t id)
{
	return s->not_taken == id && (!s->not_allowed || s->not_allowed == p->generation);
}

/* A session that may take the message; id NONE: one that is worth a question. */
static struct session *find_taker(const struct plugin *p, const char *device, int64_t id)
{
	int64_t now_us = p->downlink.passed_us;

	for (struct session *s = sessions_live_of(&p->sessions, device); s;
	     s = sessions_next_of(s)) {
		bool refused_before = id == NONE ? s->not_taken && now_us < s->ask_again_us
						 : took_it_not(p, s, id);

		if (!refused_before && may_take(p, s))
			return s;
	}
	return NULL;
}

void downlink_session(struct plugin *p, struct session *s)
{
	s->not_taken = 0;
	if (documents_waiting(p->downlink.documents, s->principal_id))
		want(&p->downlink, s->principal_id);
}

static void sweep_bucket(struct plugin *p, size_t bucket)
{
	struct documents *docs = p->downlink.documents;
	struct session *s;

	for (s = p->sessions.by_client[bucket]; s; s = s->next_by_client)
		if (s->state == SESSION_LIVE && documents_waiting(docs, s->principal_id) &&
		    find_taker(p, s->principal_id, NONE))
			want(&p->downlink, s->principal_id);
}

static void sweep(struct plugin *p)
{
	struct downlink *d = &p->downlink;
	size_t n = d->hurry > 0 ? SWEEP_HURRY_BUCKETS : SWEEP_BUCKETS;

	if (d->hurry == 0 && d->passed_us - d->swept_us < SWEEP_INTERVAL_US)
		return;
	d->swept_us = d->passed_us;
	d->hurry -= d->hurry < n ? d->hurry : n;
	for (n = n <= p->sessions.mask ? n : p->sessions.mask + 1; n > 0; n--)
		sweep_bucket(p, d->sweep_at++ & p->sessions.mask);
}

/* ---- published ---- */

/* The device whose message that is, or NULL. */
static struct downlink_device *published_to(struct downlink *d, const struct session *s,
					    const char *topic)
{
	struct downlink_device *e;

	if (TAILQ_EMPTY(&d->published) || s->state != SESSION_LIVE)
		return NULL;
	e = *slot_of(d, s->principal_id);
	return e && e->in == &d->published && e->topic == hash_text(topic) ? e : NULL;
}

void downlink_taken(struct plugin *p, const struct session *s, const char *topic)
{
	struct downlink_device *e = published_to(&p->downlink, s, topic);

	if (e)
		e->taken = true;
}

void downlink_refused(struct plugin *p, const struct session *s, const char *topic)
{
	struct downlink_device *e = published_to(&p->downlink, s, topic);

	if (e)
		e->refused = true;
}

static void not_taken(struct plugin *p, struct downlink_device *e, const char *why)
{
	struct downlink *d = &p->downlink;
	char note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	for (struct session *s = sessions_live_of(&p->sessions, e->id); s;
	     s = sessions_next_of(s)) {
		s->not_taken = e->published;
		s->not_allowed = e->refused ? p->generation : 0;
		s->ask_again_us = d->passed_us + NOT_TAKEN_PAUSE_US;
	}
	if (rate_limit_pass(&d->not_taken, NOT_TAKEN_LOG_US, &suppressed))
		log_warn("downlink_not_taken", e->id,
			 "message %lld of table downlink %s; it waits, and those behind it, until "
			 "that has changed or it expires%s",
			 (long long)e->published, why, rate_limit_note(note, suppressed));
	forget(d, e);
}

static void settle(struct plugin *p)
{
	struct downlink *d = &p->downlink;
	struct downlink_device *e, *next;

	for (e = TAILQ_FIRST(&d->published); e; e = next) {
		next = TAILQ_NEXT(e, list);
		if (e->taken) {
			e->delivered = e->published;
			move(e, &d->wanted);
		} else if (++e->passes >= 2) {
			if (sessions_live_of(&p->sessions, e->id))
				not_taken(p, e,
					  e->refused ? "is not allowed by the policy of the device"
						     : "fits no subscription of the device");
			else
				forget(d, e);
		}
	}
}

static void publish(struct plugin *p, struct downlink_device *e, const struct document_answer *a)
{
	struct downlink *d = &p->downlink;
	char topic[TOPIC_MAX];
	int len;

	if (!find_taker(p, e->id, a->version)) {
		struct session *s = sessions_live_of(&p->sessions, e->id);

		for (; s; s = sessions_next_of(s))
			s->ask_again_us = d->passed_us + NOT_TAKEN_PAUSE_US;
		forget(d, e);
		return;
	}
	e->published = a->version;
	e->passes = 0;
	e->taken = e->refused = false;
	len = snprintf(topic, sizeof(topic), "m/d/%s/c2d%s%s", e->id, a->name ? "/" : "",
		       a->name ? a->name : "");
	if (len >= TOPIC_MAX || mosquitto_validate_utf8(topic, len) != MOSQ_ERR_SUCCESS ||
	    mosquitto_pub_topic_check(topic) != MOSQ_ERR_SUCCESS) {
		not_taken(p, e, "has a subtopic that MQTT does not allow");
		return;
	}
	e->topic = hash_text(topic);
	if (mosquitto_broker_publish_copy(NULL, topic, (int)a->payload_len, a->payload, 1, false,
					  NULL) != MOSQ_ERR_SUCCESS) {
		d->paused_until_us = d->passed_us + PAUSE_US;
		forget(d, e); /* out of memory: the sweep comes by again */
		return;
	}
	move(e, &d->published);
}

/* ---- questions and answers ---- */

static void unanswered(struct downlink *d, struct downlink_device *e, const char *why)
{
	d->paused_until_us = d->passed_us + PAUSE_US;
	log_debug("downlink_unanswered", e->id, "%s", why);
	if (e->delivered == NONE)
		forget(d, e);
	else
		move(e, &d->wanted); /* it must not be delivered twice for that */
}

static void answered(void *arg, const struct document_answer *a)
{
	struct plugin *p = arg;
	struct downlink *d = &p->downlink;
	struct downlink_device *e = *slot_of(d, a->request->device);

	if (!e || e->in != &d->asked)
		return;
	if (a->outcome == DOCUMENT_OK || a->outcome == DOCUMENT_NOT_FOUND)
		e->delivered = NONE;
	if (a->outcome == DOCUMENT_OK && a->request->operation == DOCUMENT_DOWNLINK_NEXT)
		publish(p, e, a);
	else if (e->delivered == NONE)
		forget(d, e);
	else
		unanswered(d, e, a->why);
}

static void changed(void *arg, const struct document_change *c)
{
	struct plugin *p = arg;

	if (c->what == DOCUMENT_CHANGED_ANY)
		p->downlink.hurry = p->sessions.mask + 1;
	else if (c->what == DOCUMENT_CHANGED_DOWNLINK && sessions_live_of(&p->sessions, c->device))
		want(&p->downlink, c->device);
}

static int ask(struct downlink *d, struct downlink_device *e, enum document_operation op)
{
	const struct document_request q = {
		.operation = op,
		.device = e->id,
		.over = "mqtt",
		.format = -1,
		.if_version = e->delivered,
	};
	int rc = documents_ask(d->documents, &q);

	if (rc == 0)
		move(e, &d->asked);
	return rc;
}

static void ask_wanted(struct plugin *p)
{
	struct downlink *d = &p->downlink;
	struct downlink_device *e, *next;
	int rc = 0;

	if (d->passed_us < d->paused_until_us)
		return;
	for (e = TAILQ_FIRST(&d->wanted); e && rc == 0; e = next) {
		next = TAILQ_NEXT(e, list);
		if (find_taker(p, e->id, NONE))
			rc = ask(d, e, DOCUMENT_DOWNLINK_NEXT);
		else if (e->delivered != NONE)
			rc = ask(d, e, DOCUMENT_DOWNLINK_DONE);
		else
			forget(d, e);
	}
	if (rc == -ENOTCONN)
		d->paused_until_us = d->passed_us + AWAY_PAUSE_US;
}

void downlink_tick(struct plugin *p)
{
	struct downlink *d = &p->downlink;
	int64_t now_us = clock_monotonic_us();

	if (now_us - d->passed_us < PASS_INTERVAL_US)
		return;
	d->passed_us = now_us;
	settle(p);
	documents_poll(d->documents, answered, changed, p);
	sweep(p);
	ask_wanted(p);
}

bool downlink_busy(const struct plugin *p)
{
	return !TAILQ_EMPTY(&p->downlink.asked) || !TAILQ_EMPTY(&p->downlink.published);
}

/* ---- beginning and end ---- */

int downlink_open(struct plugin *p, char *err, size_t err_len)
{
	const struct config *c = &p->config;
	struct downlink *d = &p->downlink;
	int64_t wait = c->database_timeout_s < WAIT_MAX_S ? c->database_timeout_s : WAIT_MAX_S;
	const struct document_options o = {
		.database_url = c->database_url,
		.connect_timeout_s = (int)c->database_connect_timeout_s,
		.statement_timeout_s = (int)wait,
		.max_queue = QUEUE_MAX,
		.max_bytes = (size_t)c->document_max_bytes,
		.max_values = (size_t)c->document_max_values,
	};

	TAILQ_INIT(&d->wanted);
	TAILQ_INIT(&d->published);
	TAILQ_INIT(&d->asked);
	d->buckets = calloc(BUCKETS, sizeof(struct downlink_device *));
	if (!d->buckets) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	return documents_open(&d->documents, &o, err, err_len);
}

static void ask_last(struct downlink *d)
{
	struct downlink_device *e, *next;

	for (e = TAILQ_FIRST(&d->wanted); e; e = next) {
		next = TAILQ_NEXT(e, list);
		if (e->delivered == NONE)
			forget(d, e);
		else if (ask(d, e, DOCUMENT_DOWNLINK_DONE) != 0)
			return;
	}
}

static void last_answer(void *arg, const struct document_answer *a)
{
	struct plugin *p = arg;
	struct downlink_device *e = *slot_of(&p->downlink, a->request->device);

	if (e)
		forget(&p->downlink, e);
}

static void ignore_change(void *arg, const struct document_change *c)
{
	(void)arg;
	(void)c;
}

/* What was delivered and is not marked would be delivered again. */
static void mark_last(struct plugin *p)
{
	struct downlink *d = &p->downlink;
	int64_t until_us = clock_monotonic_us() + LAST_WAIT_MS * US_PER_MS;
	int64_t left_us;

	settle(p);
	while (!TAILQ_EMPTY(&d->wanted) || !TAILQ_EMPTY(&d->asked)) {
		struct pollfd fd = {.fd = documents_fd(d->documents), .events = POLLIN};

		ask_last(d);
		left_us = until_us - clock_monotonic_us();
		if (left_us <= 0 || TAILQ_EMPTY(&d->asked) ||
		    poll(&fd, 1, (int)(left_us / US_PER_MS)) <= 0)
			return;
		documents_poll(d->documents, last_answer, ignore_change, p);
	}
}

void downlink_close(struct plugin *p)
{
	struct downlink *d = &p->downlink;
	struct downlink_device *e;

	if (!d->buckets)
		return;
	if (d->documents)
		mark_last(p);
	documents_close(d->documents);
	for (size_t i = 0; i < BUCKETS; i++) {
		while ((e = d->buckets[i])) {
			d->buckets[i] = e->next;
			free(e);
		}
	}
	free(d->buckets);
}
