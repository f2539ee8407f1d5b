/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the journal to rows: each record is run through the rules, and what they store is put into
 * the lane's batch. What else they do is the relay's, save the error action of a rule whose row
 * could not be made or was refused: of that nobody else knows.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/payload/payload.h"
#include "core/relay/presence.h"
#include "core/sink/internal.h"

/* A batch ends with the record that brings it to one of these. */
#define ROWS_MOST    1000
#define BYTES_MOST   (4 * 1024 * 1024)
#define RECORDS_MOST 20000
#define FILL_US	     (20 * US_PER_MS) /* rows do not wait longer for others */

#define CALM 8 /* batches that were small enough, before a larger one is tried */

#define JOURNAL_RETRY_US US_PER_S

int sink_lane_open(struct sink_lane *l, struct journal *j, const char *key,
		   struct journal_position from)
{
	int rc;

	*l = (struct sink_lane){.committed = from, .read_to = from, .row_limit = ROWS_MOST};
	sink_batch_init(&l->batch);
	if (key) {
		l->key = strdup(key);
		if (!l->key)
			return -ENOMEM;
	}
	rc = journal_reader_open(&l->reader, j);
	if (rc != 0) {
		free(l->key);
		*l = (struct sink_lane){0};
		return rc;
	}
	journal_keep(l->reader, from);
	journal_seek(l->reader, from);
	return 0;
}

void sink_lane_close(struct sink_lane *l)
{
	journal_reader_close(l->reader);
	sink_batch_free(&l->batch);
	free(l->key);
	*l = (struct sink_lane){0};
}

void sink_lane_rewind(struct sink_lane *l)
{
	sink_batch_clear(&l->batch);
	l->filled = false;
	l->drained = false;
	l->read_to = l->committed;
	journal_seek(l->reader, l->committed);
}

static void publish(struct sink *s, const struct sink_batch *b)
{
	uint64_t suppressed;
	char note[RATE_LIMIT_NOTE_MAX];

	for (const struct sink_publication *p = b->first; p; p = p->next) {
		int rc = s->o.relay ? relay_publish(s->o.relay, &p->message) : -ENOTCONN;

		if (rc != 0 && rate_limit_pass(&s->unpublished, US_PER_S * 10, &suppressed))
			log_warn("sink_unpublished", NULL,
				 "the error action of a rule could not be published on '%.200s': "
				 "%s%s",
				 p->message.topic,
				 rc == -ENOTCONN ? "there is no connection to a broker"
						 : strerror(-rc),
				 rate_limit_note(note, suppressed));
	}
}

static uint64_t stored_rows(const struct sink *s, const struct sink_lane *l)
{
	uint64_t rows = 0;

	for (size_t i = 0; i < l->batch.group_count; i++) {
		const struct sink_group *g = &l->batch.groups[i];

		if (l->key || g->late || !s->targets.waiting[g->table])
			rows += g->count;
	}
	return rows - (rows < l->batch.refused ? rows : l->batch.refused);
}

void sink_lane_arrived(struct sink *s, struct sink_lane *l, struct journal_position to)
{
	atomic_fetch_add(&s->rows, stored_rows(s, l));
	atomic_fetch_add(&s->refused, l->batch.refused);
	publish(s, &l->batch);
	sink_batch_clear(&l->batch);
	l->committed = to;
	journal_keep(l->reader, to);
	l->filled = false;
	l->sent = false;
	l->ended = l->ending;
	l->looked = false;
	l->timeouts = 0;
	l->backoff_us = 0;
	if (!l->key)
		s->failures = 0;
	l->advance_at_us = clock_monotonic_us() + US_PER_S;
	if (l->row_limit < ROWS_MOST && ++l->calm % CALM == 0)
		l->row_limit = l->row_limit * 2 < ROWS_MOST ? l->row_limit * 2 : ROWS_MOST;
}

/* ---- one record ---- */

/* Of a rule that just failed here, so that its error action, which is fired next, is known as ours
 * to publish. */
static int failed(struct sink *s, const struct rule_firing *f, int rc)
{
	if (!f->is_error_action)
		s->failed = f->rule;
	return rc;
}

static int fired_republish(struct sink *s, const struct rule_firing *f, char *why, size_t why_len)
{
	if (!f->is_error_action || f->rule != s->failed)
		return 0;
	s->failed = NULL;
	if (sink_batch_publish(&s->running->batch, f) == 0)
		return 0;
	snprintf(why, why_len, "out of memory");
	return -ENOMEM;
}

/* Is this table's row the running lane's to store? */
static bool is_ours(const struct sink *s, size_t table)
{
	const char *key = s->running->key;

	return key ? strcmp(key, s->targets.tables[table].quoted) == 0 : !s->targets.waiting[table];
}

static int fired(void *arg, const struct rule_firing *f, char *why, size_t why_len)
{
	struct sink *s = arg;
	const struct sink_target *target;
	int rc;

	if (f->action->kind == RULE_REPUBLISH)
		return fired_republish(s, f, why, why_len);
	if (f->action->kind != RULE_STORE)
		return 0;
	target = sink_targets_find(&s->targets, f->action);
	if (!target || (!is_ours(s, target->table) && !s->late))
		return 0;
	if (target->problem) {
		snprintf(why, why_len, "%s", target->problem);
		return failed(s, f, -EINVAL);
	}
	rc = sink_batch_add(&s->running->batch, &s->targets, target, f, s->format, s->late,
			    &s->arena, why, why_len);
	return rc == 0 ? 0 : failed(s, f, rc);
}

static const struct value *decode(struct sink *s, const struct rule_input *in, uint8_t format,
				  struct value *v)
{
	char reason[RULE_WHY_MAX];

	if (payload_parse(&s->arena, (enum payload_format)format, in->raw, in->raw_len,
			  &s->o.limits, v, reason, sizeof(reason)) != 0)
		return NULL;
	return v;
}

/* False: no rule wants it. */
static bool read_message(struct sink *s, const struct journal_record *r, struct rule_input *in,
			 struct value *v)
{
	*in = (struct rule_input){
		.topic = arena_strndup(&s->arena, r->topic, r->topic_len),
		.raw = r->payload,
		.raw_len = r->payload_len,
		.received_at_us = r->received_at_us,
	};
	if (!in->topic || !rule_set_wants(s->set, in->topic))
		return false;
	if (r->device_len > 0)
		in->device = arena_strndup(&s->arena, r->device, r->device_len);
	in->payload = decode(s, in, r->format, v);
	return true;
}

/* As the relay does, so that a rule means the same for both. */
static bool read_input(struct sink *s, const struct journal_record *r, struct rule_input *in,
		       struct value *v)
{
	switch (r->kind) {
	case JOURNAL_TELEMETRY:
	case JOURNAL_MESSAGE:
	case JOURNAL_DOWNLINK:
		s->format = r->format;
		return read_message(s, r, in, v);
	case JOURNAL_PRESENCE:
		s->format = PAYLOAD_JSON;
		return presence_message(in, r, s->o.source, &s->arena) &&
		       rule_set_wants(s->set, in->topic);
	default:
		return false;
	}
}

static void run_record(struct sink *s, struct sink_lane *l, const struct journal_record *r)
{
	const struct rule_visitor visitor = {.arg = s, .fired = fired};
	struct rule_input in;
	struct value v;

	arena_reset(&s->arena);
	if (!read_input(s, r, &in, &v))
		return;
	s->running = l;
	s->failed = NULL;
	s->late = false;
	sink_batch_next_record(&l->batch);
	rule_set_run(s->set, &in, &s->arena, &visitor);
}

/* ---- a batch ---- */

static bool is_full(const struct sink_lane *l, unsigned records, int64_t begun_us)
{
	const struct sink_batch *b = &l->batch;

	return b->rows >= l->row_limit || b->bytes >= BYTES_MOST || records >= RECORDS_MOST ||
	       clock_monotonic_us() - begun_us >= FILL_US;
}

static void count_missed(struct sink *s, struct sink_lane *l)
{
	uint64_t missed = journal_missed(l->reader), since = missed - l->missed;

	if (since == 0)
		return;
	l->missed = missed;
	atomic_fetch_add(&s->missed, since);
	log_error(
		"sink_missed", NULL,
		"messages left the journal before rules stored rows of them%s%s: what is kept for "
		"rules is bounded by journal.follower_max_bytes; telemetry is not affected",
		l->key ? ", in the table " : "", l->key ? l->key : "");
}

/* A lane of a table goes as far as the main lane. */
static bool has_caught_up(const struct sink *s, const struct sink_lane *l)
{
	return l->key && journal_position_compare(l->read_to, s->main.committed) >= 0;
}

/* What the main lane has read ahead it has read without this lane's rows. */
bool sink_lane_may_end(const struct sink *s, const struct sink_lane *l)
{
	return has_caught_up(s, l) && !s->main.filled &&
	       journal_position_compare(s->main.read_to, s->main.committed) == 0;
}

bool sink_lane_has_work(const struct sink *s, const struct sink_lane *l)
{
	return l->filled || !has_caught_up(s, l) || sink_lane_may_end(s, l);
}

/* 1: there is one. When there is none, the next append wakes whoever sleeps on the main lane. */
static int read_record(struct sink_lane *l, struct journal_record *r, struct journal_position *next)
{
	int rc = journal_read(l->reader, r, next);

	if (rc != 0 || l->key)
		return rc;
	journal_arm(l->reader);
	return journal_read(l->reader, r, next);
}

void sink_lane_fill(struct sink *s, struct sink_lane *l)
{
	int64_t begun_us = clock_monotonic_us();
	struct journal_position next;
	struct journal_record r;
	int rc = 1;

	l->drained = false;
	for (unsigned records = 0; !has_caught_up(s, l) && !is_full(l, records, begun_us);
	     records++) {
		rc = read_record(l, &r, &next);
		if (rc != 1)
			break;
		run_record(s, l, &r);
		l->read_to = next;
	}
	count_missed(s, l);
	if (rc < 0)
		l->retry_at_us = clock_monotonic_us() + JOURNAL_RETRY_US;
	l->drained = rc <= 0 || has_caught_up(s, l);
	/* What the main lane has done and this one cannot find is gone. */
	if (rc == 0 && l->key && !has_caught_up(s, l))
		l->read_to = s->main.committed;
	l->filled = true;
}

void sink_lane_refuse(struct sink *s, struct sink_lane *l, struct sink_row *row, const char *why)
{
	const struct rule_visitor visitor = {.arg = s, .fired = fired};
	const struct sink_target *t = row->target;
	char what[200];
	struct rule_input in;
	struct value v;

	row->refused = true;
	l->batch.refused++;
	if (row->is_report) {
		rule_counters_fail(t->rule->counters, why, clock_realtime_us());
		return;
	}
	arena_reset(&s->arena);
	in = row->message->in;
	in.payload = decode(s, &in, row->message->format, &v);
	s->running = l;
	s->failed = t->rule;
	s->late = true;
	snprintf(what, sizeof(what), "store %s", s->targets.tables[t->table].said);
	rule_failed_later(t->rule, &in, what, why, &s->arena, &visitor);
	s->late = false;
}
