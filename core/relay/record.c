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

#include "core/payload/payload.h"
#include "core/relay/internal.h"
#include "core/relay/presence.h"

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
static void run_rules(struct relay *r, const struct rule_input *in, enum payload_format format)
{
	const struct rule_visitor v = {.arg = r, .fired = fired, .counts = true};
	struct rule_input seen = *in;
	struct value tree;
	char reason[256];

	if (!rule_set_wants(r->set, in->topic))
		return;
	if (!in->payload && payload_parse(&r->arena, format, in->raw, in->raw_len, &r->o.limits,
					  &tree, reason, sizeof(reason)) == 0)
		seen.payload = &tree;
	rule_set_run(r->set, &seen, &r->arena, &v);
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

static void take_presence(struct relay *r, const struct journal_record *record)
{
	struct rule_input in;

	if (presence_message(&in, record, r->o.source, &r->arena) &&
	    send_as_it_came(r, &in) != -ECANCELED)
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
