/* SPDX-License-Identifier: Apache-2.0 */
#include "core/relay/presence.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"

#define PRESENCE_PREFIX	   "m/presence/"
#define PRESENCE_MEMBERS   7
#define PRESENCE_BYTES_MAX (256 * 1024)
#define AT_MAX		   40

static const struct decode_limits limits = {
	.max_bytes = PRESENCE_BYTES_MAX, .max_depth = 2, .max_readings = 16};

struct parts {
	struct value map;
	struct member members[PRESENCE_MEMBERS];
	char at[AT_MAX];
};

static struct value text_value(const char *s)
{
	return (struct value){.type = VALUE_TEXT, .u.text = {s, strlen(s)}};
}

static void add(struct parts *p, const char *key, struct value v)
{
	p->members[p->map.u.map.count++] =
		(struct member){.key = key, .key_len = strlen(key), .value = v};
}

static void add_member(struct parts *p, const struct value *said, const char *key)
{
	const struct value *v = value_get(said, key);

	if (v)
		add(p, key, *v);
}

/* RFC 3339, in milliseconds. */
static void print_time(char text[AT_MAX], int64_t us)
{
	time_t s = (time_t)(us / US_PER_S);
	char date[24];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, AT_MAX, "%s.%03dZ", date, (int)(us % US_PER_S / US_PER_MS));
}

static bool text_is(const struct value *v, const char *s)
{
	return v && v->type == VALUE_TEXT && v->u.text.len == strlen(s) &&
	       memcmp(v->u.text.data, s, v->u.text.len) == 0;
}

/* core/pipeline wrote the record; what it says of the whole process is nobody's presence. */
static bool read_record(struct value *said, bool *connected, const struct journal_record *r,
			struct arena *a)
{
	const struct value *event;
	char reason[256];

	if (r->device_len == 0 ||
	    json_decode(a, r->payload, r->payload_len, &limits, said, reason, sizeof(reason)) != 0)
		return false;
	event = said->type == VALUE_MAP ? value_get(said, "event") : NULL;
	*connected = text_is(event, "connected");
	return *connected || text_is(event, "disconnected");
}

bool presence_message(struct rule_input *out, const struct journal_record *r, const char *source,
		      struct arena *a)
{
	const size_t prefix = strlen(PRESENCE_PREFIX);
	struct parts *p = arena_alloc(a, sizeof(*p));
	char *device = arena_strndup(a, r->device, r->device_len);
	char *topic = arena_alloc(a, prefix + r->device_len + 1);
	struct value said;
	bool connected;

	if (!p || !device || !topic || !read_record(&said, &connected, r, a))
		return false;
	p->map = (struct value){.type = VALUE_MAP, .u.map = {.members = p->members}};
	print_time(p->at, r->received_at_us);
	add(p, "device", text_value(device));
	add(p, "connected", (struct value){.type = VALUE_BOOL, .u.boolean = connected});
	add(p, "source", text_value(source));
	add_member(p, &said, "client_id");
	add(p, "at", text_value(p->at));
	add_member(p, &said, "reason");
	add_member(p, &said, "address");
	memcpy(topic, PRESENCE_PREFIX, prefix);
	memcpy(topic + prefix, device, r->device_len + 1);
	*out = (struct rule_input){.topic = topic,
				   .device = device,
				   .payload = &p->map,
				   .received_at_us = r->received_at_us};
	out->raw = value_print_json(a, &p->map, &out->raw_len);
	return out->raw;
}
