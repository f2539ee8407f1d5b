/* SPDX-License-Identifier: Apache-2.0 */
#include "core/store/row.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/payload/content_format.h"
#include "core/store/pgtext.h"
#include "core/store/place.h"

#define DEVICE_PREFIX	"m/d/"
#define TELEMETRY_LEVEL "d2c"
#define DOWNLINK_LEVEL	"c2d"

#define REASON_MAX 400

#define DERIVED_SEQ (UINT64_C(1) << 63)

static const struct decode_limits presence_limits = {
	.max_bytes = 256 * 1024, .max_depth = 2, .max_readings = 16};

/* What is decided about a sample before any of it goes into the batch. */
struct moment {
	int64_t ts_us, seq, content;
	uint8_t ts_source;
	bool own_time; /* ts is the device's */
	bool once;
	int64_t device_us; /* TS_SOURCE_OUT_OF_RANGE: what it said */
};

void row_forget_guesses(struct row_context *c)
{
	for (size_t i = 0; i < ROW_GUESSES; i++)
		c->guess[i] = -1;
}

/* ---- keys ---- */

static uint64_t hash_content(const struct journal_record *r)
{
	struct hash_key key = ROW_HASH_KEY;

	key.k0 = hash_siphash(&key, r->topic, r->topic_len);
	return hash_siphash(&key, r->payload, r->payload_len);
}

static uint64_t hash_position(const struct row_context *c, struct journal_position at)
{
	const struct hash_key key = ROW_HASH_KEY;
	unsigned char buf[32];
	uint64_t le[2] = {htole64(at.segment), htole64(at.offset)};

	memcpy(buf, c->journal_id, 16);
	memcpy(buf + 16, le, sizeof(le));
	return hash_siphash(&key, buf, sizeof(buf));
}

static int64_t derived_seq(uint64_t hash, size_t index)
{
	return (int64_t)((hash + index) | DERIVED_SEQ);
}

/* Ordered like the journal: of two events of one microsecond the later one has the larger number.
 */
static int64_t position_seq(struct journal_position at)
{
	return (int64_t)((at.segment << 32 | (at.offset & UINT32_MAX)) & ~DERIVED_SEQ);
}

/* ---- the time ---- */

static int64_t add_saturated(int64_t a, int64_t b)
{
	int64_t sum;

	if (!__builtin_add_overflow(a, b, &sum))
		return sum;
	return b < 0 ? INT64_MIN : INT64_MAX;
}

static void decide_time(const struct row_context *c, const struct sample *s, int64_t received_us,
			struct moment *m)
{
	int64_t said;

	m->ts_us = received_us;
	m->ts_source = TS_SOURCE_RECEIPT;
	m->own_time = false;
	if (s->time == SAMPLE_TIME_RECEIPT)
		return;
	said = s->time == SAMPLE_TIME_DEVICE ? s->ts_us : add_saturated(received_us, s->ts_us);
	if (said < add_saturated(received_us, -c->max_past_us) ||
	    said > add_saturated(received_us, c->max_future_us)) {
		m->ts_source = TS_SOURCE_OUT_OF_RANGE;
		m->device_us = said;
		return;
	}
	m->ts_us = said;
	if (s->time == SAMPLE_TIME_DEVICE) {
		m->ts_source = TS_SOURCE_DEVICE;
		m->own_time = true;
	}
}

/* Has an earlier sample of the message this key? A device that numbers messages, not samples. */
static bool key_is_taken(const struct moment *moments, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (moments[i].seq == moments[index].seq &&
		    moments[i].ts_us == moments[index].ts_us)
			return true;
	return false;
}

static struct moment *decide_moments(struct row_context *c, const struct journal_record *r,
				     struct journal_position at, const struct payload *p)
{
	struct moment *moments = arena_alloc(&c->arena, p->sample_count * sizeof(*moments));
	uint64_t content = 0, position = 0;

	for (size_t i = 0; moments && i < p->sample_count; i++) {
		const struct sample *s = &p->samples[i];
		struct moment *m = &moments[i];

		decide_time(c, s, r->received_at_us, m);
		m->once = s->has_seq && !m->own_time;
		if (!content && (s->has_seq || m->own_time))
			content = hash_content(r);
		m->content = (int64_t)(content + i);
		if (s->has_seq) {
			m->seq = s->seq;
			if (key_is_taken(moments, i))
				m->seq = derived_seq(content, i);
		} else if (m->own_time) {
			m->seq = derived_seq(content, i);
		} else {
			if (!position)
				position = hash_position(c, at);
			m->seq = derived_seq(position, i);
		}
	}
	return moments;
}

/* ---- rows ---- */

static int add_sample(struct row_context *c, const struct journal_record *r, uint32_t device,
		      const struct sample *s, const struct moment *m, unsigned char *placed,
		      struct span subtopic, bool has_subtopic)
{
	struct batch *b = c->batch;
	struct batch_row *row = batch_add_row(b);
	const int64_t *device_us = m->ts_source == TS_SOURCE_OUT_OF_RANGE ? &m->device_us : NULL;
	uint64_t keys = 0;

	if (!row)
		return -ENOMEM;
	row->ts_us = m->ts_us;
	row->seq = m->seq;
	row->received_at_us = r->received_at_us;
	row->content = m->content;
	row->device = device;
	row->ts_source = m->ts_source;
	row->once = m->once;
	row->has_subtopic = has_subtopic;
	row->subtopic = subtopic;
	if (place_sample(c, s, placed) || device_us) {
		row->extra = place_extra(&b->heap, s, placed, device_us);
		row->latest_extra = place_latest_extra(&b->heap, s, placed, &keys);
	}
	return batch_row_done(b, keys);
}

/* ---- records ---- */

static bool has_partition(struct row_context *c, enum partitioned_table table, int64_t us)
{
	if (partitions_cover(c->partitions, table, us))
		return true;
	c->needed_table = table;
	c->needed_us = us;
	return false;
}

/* Text that came from the network, made fit for a text column. */
static struct span put_text(struct batch *b, const void *data, size_t len)
{
	size_t at = b->heap.len;

	pgtext_put_utf8(&b->heap, data, len);
	return b->heap.failed ? (struct span){0, 0} : bytes_since(&b->heap, at);
}

static int64_t dead_letter_time(const struct row_context *c, const struct journal_record *r)
{
	return c->dead_letter_now ? clock_realtime_us() + c->server_ahead_us : r->received_at_us;
}

static int take_dead_letter(struct row_context *c, const struct journal_record *r,
			    struct journal_position at, const char *reason)
{
	struct batch *b = c->batch;
	int64_t received_us = dead_letter_time(c, r);
	struct batch_dead_letter *d;

	if (!has_partition(c, PARTITIONED_DEAD_LETTER, received_us))
		return ROW_NEEDS_PARTITION;
	d = batch_add_dead_letter(b);
	if (!d)
		return -ENOMEM;
	*d = (struct batch_dead_letter){
		.received_at_us = received_us,
		.seq = derived_seq(hash_position(c, at), 0),
		.device = put_text(b, r->device, r->device_len),
		.topic = put_text(b, r->topic, r->topic_len),
		.reason = put_text(b, reason, strlen(reason)),
		.payload = batch_text(b, r->payload, r->payload_len),
	};
	return b->heap.failed ? -ENOMEM : ROW_TAKEN;
}

static bool skip(const char **p, size_t *len, const void *what, size_t n)
{
	if (*len < n || memcmp(*p, what, n) != 0)
		return false;
	*p += n;
	*len -= n;
	return true;
}

/* m/d/<device>/<level>[/<subtopic>] */
struct device_topic {
	const char *device, *subtopic; /* subtopic NULL: none */
	size_t device_len, subtopic_len;
};

static bool parse_topic(const struct journal_record *r, const char *level, struct device_topic *t)
{
	const char *p = r->topic, *slash;
	size_t left = r->topic_len;

	if (!skip(&p, &left, DEVICE_PREFIX, strlen(DEVICE_PREFIX)))
		return false;
	slash = memchr(p, '/', left);
	if (!slash)
		return false;
	*t = (struct device_topic){.device = p, .device_len = (size_t)(slash - p)};
	left -= (size_t)(slash + 1 - p);
	p = slash + 1;
	if (!skip(&p, &left, level, strlen(level)))
		return false;
	if (left == 0)
		return true;
	if (*p != '/')
		return false;
	t->subtopic = p + 1;
	t->subtopic_len = left - 1;
	return true;
}

/* ROW_TAKEN if every sample has its partition. */
static int check_partitions(struct row_context *c, const struct moment *moments, size_t n,
			    const char **too_old)
{
	for (size_t i = 0; i < n; i++) {
		if (has_partition(c, PARTITIONED_TELEMETRY, moments[i].ts_us))
			continue;
		if (!c->too_old_reason || moments[i].ts_us >= c->too_old_us)
			return ROW_NEEDS_PARTITION;
		*too_old = c->too_old_reason;
		return ROW_TAKEN;
	}
	return ROW_TAKEN;
}

static int take_samples(struct row_context *c, const struct journal_record *r,
			const struct payload *p, const struct moment *moments,
			const struct device_topic *topic)
{
	struct batch *b = c->batch;
	int64_t device = latest_device(&b->latest, &b->heap, r->device, r->device_len);
	struct span text = {0, 0};
	int rc = device < 0 ? (int)device : 0;

	if (topic->subtopic)
		text = put_text(b, topic->subtopic, topic->subtopic_len);
	b->repeated += (text.len + r->device_len) * p->sample_count;
	for (size_t i = 0; i < p->sample_count && rc == 0; i++) {
		const struct sample *s = &p->samples[i];
		unsigned char *placed = arena_alloc(&c->arena, s->reading_count);

		rc = placed ? add_sample(c, r, (uint32_t)device, s, &moments[i], placed, text,
					 topic->subtopic != NULL)
			    : -ENOMEM;
	}
	return rc == 0 ? ROW_TAKEN : rc;
}

/* --- rules --- */

/* The rules in force, if any of them drops. */
static const struct rule_set *dropping_set(struct row_context *c)
{
	uint64_t generation;

	if (!c->rules)
		return NULL;
	generation = rules_generation(c->rules);
	if (!c->set || generation != c->set_generation) {
		rule_set_release(c->set);
		c->set = rules_acquire(c->rules);
		c->set_generation = generation;
	}
	return rule_set_has(c->set, RULE_DROP) ? c->set : NULL;
}

static bool set_drops(struct row_context *c, const struct rule_set *set,
		      const struct journal_record *r, const struct value *payload)
{
	struct rule_input in = {.payload = payload,
				.raw = r->payload,
				.raw_len = r->payload_len,
				.received_at_us = r->received_at_us};

	in.topic = arena_strndup(&c->arena, r->topic, r->topic_len);
	in.device = arena_strndup(&c->arena, r->device, r->device_len);
	return in.topic && in.device && rule_set_drops(set, &in, &c->arena);
}

/* payload: NULL when it could not be decoded. What cannot be judged is kept. */
static bool is_dropped(struct row_context *c, const struct journal_record *r,
		       const struct value *payload)
{
	const struct rule_set *set = dropping_set(c);
	struct arena_mark before = arena_mark(&c->arena);
	bool drops = set && set_drops(c, set, r, payload);

	arena_rewind(&c->arena, before);
	return drops;
}

static int take_telemetry(struct row_context *c, const struct journal_record *r,
			  struct journal_position at)
{
	char reason[REASON_MAX] = "cannot be decoded";
	const char *too_old = NULL;
	struct device_topic topic;
	struct payload p;
	struct value tree;
	struct moment *moments;
	int rc;

	if (!parse_topic(r, TELEMETRY_LEVEL, &topic))
		return take_dead_letter(c, r, at, "the topic is not m/d/<device>/d2c");
	rc = payload_parse(&c->arena, (enum payload_format)r->format, r->payload, r->payload_len,
			   &c->limits, &tree, reason, sizeof(reason));
	if (is_dropped(c, r, rc == 0 ? &tree : NULL)) {
		c->batch->dropped++;
		return ROW_TAKEN;
	}
	if (rc == 0)
		rc = payload_interpret(&c->arena, (enum payload_format)r->format, &tree, &c->limits,
				       &p, reason, sizeof(reason));
	if (rc != 0)
		return take_dead_letter(c, r, at, reason);
	moments = decide_moments(c, r, at, &p);
	if (!moments)
		return take_dead_letter(c, r, at, "too much memory needed");
	rc = check_partitions(c, moments, p.sample_count, &too_old);
	if (rc != ROW_TAKEN)
		return rc;
	if (too_old)
		return take_dead_letter(c, r, at, too_old);
	return take_samples(c, r, &p, moments, &topic);
}

/* What the publisher said, if the protocol has a word for it; else it is looked at when the device
 * fetches it. */
static int content_format(uint8_t format)
{
	switch (format) {
	case PAYLOAD_JSON:
		return CONTENT_FORMAT_JSON;
	case PAYLOAD_CBOR:
		return CONTENT_FORMAT_CBOR;
	case PAYLOAD_SENML_JSON:
		return CONTENT_FORMAT_SENML_JSON;
	case PAYLOAD_SENML_CBOR:
		return CONTENT_FORMAT_SENML_CBOR;
	default:
		return CONTENT_FORMAT_NONE;
	}
}

/* The partition is for the database, which makes a dead letter of what may not wait. */
static int take_downlink(struct row_context *c, const struct journal_record *r,
			 struct journal_position at)
{
	struct batch *b = c->batch;
	struct batch_downlink *d;
	struct device_topic topic;

	if (!parse_topic(r, DOWNLINK_LEVEL, &topic))
		return take_dead_letter(c, r, at, "the topic is not m/d/<device>/c2d");
	if (!has_partition(c, PARTITIONED_DEAD_LETTER, dead_letter_time(c, r)))
		return ROW_NEEDS_PARTITION;
	d = batch_add_downlink(b);
	if (!d)
		return -ENOMEM;
	*d = (struct batch_downlink){
		.received_at_us = dead_letter_time(c, r),
		.seq = derived_seq(hash_position(c, at), 0),
		.format = content_format(r->format),
		.device = put_text(b, topic.device, topic.device_len),
		.topic = put_text(b, r->topic, r->topic_len),
		.payload = batch_text(b, r->payload, r->payload_len),
		.has_subtopic = topic.subtopic != NULL,
	};
	if (topic.subtopic)
		d->subtopic = put_text(b, topic.subtopic, topic.subtopic_len);
	return b->heap.failed ? -ENOMEM : ROW_TAKEN;
}

static struct span put_member(struct batch *b, const struct value *map, const char *name,
			      bool *there)
{
	const struct value *v = value_get(map, name);

	*there = v && v->type == VALUE_TEXT;
	return *there ? put_text(b, v->u.text.data, v->u.text.len) : (struct span){0, 0};
}

static bool text_is(const struct value *v, const char *s)
{
	return v && v->type == VALUE_TEXT && v->u.text.len == strlen(s) &&
	       memcmp(v->u.text.data, s, v->u.text.len) == 0;
}

static int take_started(struct row_context *c, const struct journal_record *r,
			struct journal_position at, const struct value *v)
{
	struct batch *b = c->batch;
	bool there;

	b->started = (struct batch_started){.happened = true,
					    .at_us = r->received_at_us,
					    .seq = position_seq(at),
					    .source = put_member(b, v, "source", &there)};
	return b->heap.failed ? -ENOMEM : ROW_LAST;
}

static int take_presence(struct row_context *c, const struct journal_record *r,
			 struct journal_position at)
{
	char reason[REASON_MAX] = "";
	struct batch *b = c->batch;
	struct batch_presence *p;
	const struct value *event;
	struct value v;
	bool there;

	if (json_decode(&c->arena, r->payload, r->payload_len, &presence_limits, &v, reason,
			sizeof(reason)) != 0)
		return take_dead_letter(c, r, at, reason);
	event = v.type == VALUE_MAP ? value_get(&v, "event") : NULL;
	if (!text_is(event, "connected") && !text_is(event, "disconnected") &&
	    !text_is(event, "started"))
		return take_dead_letter(c, r, at, "not an event of presence");
	if (!has_partition(c, PARTITIONED_PRESENCE_EVENT, r->received_at_us))
		return ROW_NEEDS_PARTITION;
	if (text_is(event, "started"))
		return take_started(c, r, at, &v);
	p = batch_add_presence(b);
	if (!p)
		return -ENOMEM;
	*p = (struct batch_presence){.at_us = r->received_at_us,
				     .seq = position_seq(at),
				     .connected = text_is(event, "connected"),
				     .device = put_text(b, r->device, r->device_len)};
	p->source = put_member(b, &v, "source", &there);
	p->client_id = put_member(b, &v, "client_id", &there);
	p->reason = put_member(b, &v, "reason", &p->has_reason);
	p->address = put_member(b, &v, "address", &p->has_address);
	return b->heap.failed ? -ENOMEM : ROW_TAKEN;
}

int row_take(struct row_context *c, const struct journal_record *r, struct journal_position at,
	     const struct row_refusal *refusal)
{
	arena_reset(&c->arena);
	c->dead_letter_now = refusal && refusal->now;
	if (refusal && refusal->reason)
		return take_dead_letter(c, r, at, refusal->reason);
	switch (r->kind) {
	case JOURNAL_TELEMETRY:
		return take_telemetry(c, r, at);
	case JOURNAL_PRESENCE:
		return take_presence(c, r, at);
	case JOURNAL_DOWNLINK:
	case JOURNAL_DOWNLINK_RELAYED:
		return take_downlink(c, r, at);
	case JOURNAL_MESSAGE:
		return ROW_TAKEN; /* for rules only */
	default:
		return take_dead_letter(c, r, at, "a record of unknown kind");
	}
}
