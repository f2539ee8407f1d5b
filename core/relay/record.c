/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a record becomes. A device's message goes to the bus as it came, if it did not come by the
 * broker; presence as a message of our own; and rules see both. The payload is decoded only when a
 * rule wants its topic.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"
#include "core/relay/internal.h"

#define PRESENCE_PREFIX	   "m/presence/"
#define PRESENCE_MEMBERS   7
#define PRESENCE_BYTES_MAX (256 * 1024)

static const struct decode_limits presence_limits = {
	.max_bytes = PRESENCE_BYTES_MAX, .max_depth = 2, .max_readings = 16};

/* --- Rules --- */

static int fired(void *arg, const struct rule_firing *f, char *why, size_t why_len)
{
	struct relay *r = arg;
	int rc;

	if (f->action->kind != RULE_REPUBLISH)
		return 0;
	rc = relay_send(r, &(struct bus_message){
				   .topic = f->topic,
				   .payload = f->payload,
				   .payload_len = f->payload_len,
				   .qos = f->action->republish.qos,
				   .retain = f->action->republish.retain,
			   });
	if (rc == -ECANCELED)
		return 0; /* that is no failure of the rule: it is run again by the next start */
	if (rc == -ENOTCONN)
		snprintf(why, why_len, "no bus is configured (bus.host)");
	else if (rc != 0)
		snprintf(why, why_len, "the broker does not take it: %s", strerror(-rc));
	return rc;
}

static void renew_set(struct relay *r)
{
	uint64_t generation = rules_generation(r->rules);

	if (r->set && generation == r->generation)
		return;
	rule_set_release(r->set);
	r->set = rules_acquire(r->rules);
	r->generation = generation;
}

/* in->payload: NULL when it is still to be decoded. */
static void run_rules(struct relay *r, struct rule_input *in, enum payload_format format)
{
	const struct rule_visitor v = {.arg = r, .fired = fired, .counts = true};
	struct value tree;
	char reason[256];

	if (!rule_set_wants(r->set, in->topic))
		return;
	if (!in->payload && payload_parse(&r->arena, format, in->raw, in->raw_len, &r->o.limits,
					  &tree, reason, sizeof(reason)) == 0)
		in->payload = &tree;
	rule_set_run(r->set, in, &r->arena, &v);
}

/* --- Messages --- */

static char *terminated(struct relay *r, const char *s, size_t len)
{
	return arena_strndup(&r->arena, s, len);
}

static int send_as_it_came(struct relay *r, const struct rule_input *in)
{
	return relay_send(r, &(struct bus_message){.topic = in->topic,
						   .payload = in->raw,
						   .payload_len = in->raw_len,
						   .qos = 1});
}

static void take_message(struct relay *r, const struct journal_record *record)
{
	struct rule_input in = {
		.topic = r->topic,
		.device = record->device_len > 0 ? terminated(r, record->device, record->device_len)
						 : NULL,
		.raw = record->payload,
		.raw_len = record->payload_len,
		.received_at_us = record->received_at_us,
	};

	memcpy(r->topic, record->topic, record->topic_len);
	r->topic[record->topic_len] = '\0';
	if (record->kind == JOURNAL_TELEMETRY && r->o.telemetry &&
	    send_as_it_came(r, &in) == -ECANCELED)
		return;
	run_rules(r, &in, (enum payload_format)record->format);
}

/* --- Presence --- */

static struct value text_value(const char *s)
{
	return (struct value){.type = VALUE_TEXT, .u.text = {s, strlen(s)}};
}

static void add(struct value *map, const char *key, const struct value *v)
{
	if (v)
		map->u.map.members[map->u.map.count++] =
			(struct member){.key = key, .key_len = strlen(key), .value = *v};
}

/* RFC 3339, in milliseconds. */
static void print_time(char *text, size_t len, int64_t us)
{
	time_t s = (time_t)(us / US_PER_S);
	char date[32];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, len, "%s.%03dZ", date, (int)(us % US_PER_S / US_PER_MS));
}

static bool text_is(const struct value *v, const char *s)
{
	return v && v->type == VALUE_TEXT && v->u.text.len == strlen(s) &&
	       memcmp(v->u.text.data, s, v->u.text.len) == 0;
}

/* core/pipeline wrote the record; what it says of the whole process is nobody's presence. */
static void take_presence(struct relay *r, const struct journal_record *record)
{
	char reason[256], at[40], *device = terminated(r, record->device, record->device_len);
	struct member members[PRESENCE_MEMBERS];
	struct value said, out = {.type = VALUE_MAP, .u.map = {.members = members}}, v;
	const struct value *event;
	struct rule_input in = {.topic = r->topic,
				.device = device,
				.payload = &out,
				.received_at_us = record->received_at_us};

	if (!device || record->device_len == 0 ||
	    json_decode(&r->arena, record->payload, record->payload_len, &presence_limits, &said,
			reason, sizeof(reason)) != 0)
		return;
	event = said.type == VALUE_MAP ? value_get(&said, "event") : NULL;
	if (!text_is(event, "connected") && !text_is(event, "disconnected"))
		return;
	print_time(at, sizeof(at), record->received_at_us);
	add(&out, "device", (v = text_value(device), &v));
	add(&out, "connected",
	    (v = (struct value){.type = VALUE_BOOL, .u.boolean = text_is(event, "connected")}, &v));
	add(&out, "source", (v = text_value(r->o.source), &v));
	add(&out, "client_id", value_get(&said, "client_id"));
	add(&out, "at", (v = text_value(at), &v));
	add(&out, "reason", value_get(&said, "reason"));
	add(&out, "address", value_get(&said, "address"));
	snprintf(r->topic, sizeof(r->topic), PRESENCE_PREFIX "%s", device);
	in.raw = value_print_json(&r->arena, &out, &in.raw_len);
	if (in.raw && send_as_it_came(r, &in) != -ECANCELED)
		run_rules(r, &in, PAYLOAD_JSON);
}

int relay_record(struct relay *r, const struct journal_record *record)
{
	arena_reset(&r->arena);
	renew_set(r);
	switch (record->kind) {
	case JOURNAL_PRESENCE:
		take_presence(r, record);
		break;
	case JOURNAL_TELEMETRY:
	case JOURNAL_MESSAGE:
	case JOURNAL_DOWNLINK:
		take_message(r, record);
		break;
	default: /* JOURNAL_DOWNLINK_RELAYED; of a later version */
		break;
	}
	return r->cut_short ? -ECANCELED : 0;
}
