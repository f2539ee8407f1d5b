/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message through rules, told to a person. Of a set of rules only what comes of the one that is
 * asked about is told: all that is fired between its turn and that of the next rule of the message
 * itself, for what it republishes is run in between.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/payload/payload.h"
#include "core/registry/topic.h"
#include "core/rule/evaluation.h"
#include "tools/rule/rule.h"

#define PAYLOAD_MAX (16 * 1024 * 1024)
#define RULES_MAX   (64 * 1024 * 1024)
#define ARENA_CHUNK (64 * 1024)
#define ARENA_LIMIT (256 * 1024 * 1024)
#define INDENT	    4

/* The defaults of the settings payload.*. */
static const struct decode_limits limits = {131072, 8, 256};

struct trial {
	const char *rules_path, *name, *topic, *device, *payload_path;
	const struct rule *rule; /* the one that is asked about */
	bool its_turn, seen;
	struct arena arena; /* for what is told */
	char from_topic[256];
};

/* --- Telling --- */

__attribute__((format(printf, 2, 3))) static void tell(unsigned depth, const char *fmt, ...)
{
	va_list ap;

	printf("%*s", (int)(INDENT * depth), "");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static const char *as_json(struct trial *t, const struct value *v)
{
	size_t len;
	const char *text = value_print_json(&t->arena, v, &len);

	return text ? text : "(too large to show)";
}

/* Why WHERE does not hold. */
static const char *where_is(struct trial *t, const struct rule_sight *s)
{
	char why[RULE_WHY_MAX];
	struct rule_evaluation e = {
		.in = s->in,
		.arena = &t->arena,
		.name = s->rule->name,
		.why = why,
		.why_len = sizeof(why),
	};
	struct rule_result r;

	if (rule_eval(&e, s->rule->statement->where, &r) != 0 || !r.defined)
		return "WHERE is undefined: does it read a member that the message does not have, "
		       "or that is of another type?";
	if (r.value.type == VALUE_BOOL)
		return "WHERE is false";
	return "WHERE is neither true nor false";
}

static void seen(void *arg, const struct rule_sight *s)
{
	struct trial *t = arg;

	if (s->depth == 0)
		t->its_turn = s->rule == t->rule;
	t->seen |= t->its_turn;
	if (!t->its_turn)
		return;
	switch (s->outcome) {
	case RULE_MATCHED:
		tell(s->depth, "rule %s matches", s->rule->name);
		tell(s->depth, "  SELECT gives %s", as_json(t, s->selected));
		break;
	case RULE_NOT_HELD:
		tell(s->depth, "rule %s does not match: %s", s->rule->name, where_is(t, s));
		break;
	case RULE_FAILED:
		tell(s->depth, "%srule %s fails: %s: %s", strcmp(s->what, "sql") == 0 ? "" : "  ",
		     s->rule->name, s->what, s->why);
		break;
	case RULE_CUT:
		tell(s->depth, "rule %s is not run any more: %s", s->rule->name, s->why);
		break;
	}
	arena_reset(&t->arena);
}

static void tell_bytes(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
	putchar('\n');
}

static void tell_republish(const struct rule_firing *f)
{
	const struct rule_action *a = f->action;
	bool cbor = a->republish.format == RULE_FORMAT_CBOR;

	printf("%*s  %srepublish to %s (QoS %d%s, %s): ", (int)(INDENT * f->depth), "",
	       f->is_error_action ? "error action: " : "", f->topic, a->republish.qos,
	       a->republish.retain ? ", retained" : "", cbor ? "CBOR" : "JSON");
	if (cbor)
		tell_bytes(f->payload, f->payload_len);
	else
		printf("%.*s\n", (int)f->payload_len, (const char *)f->payload);
}

static void tell_column(struct trial *t, unsigned depth, const char *column, size_t len,
			const struct value *v)
{
	if (v)
		tell(depth, "    %.*s = %s", (int)len, column, as_json(t, v));
	else
		tell(depth, "    %.*s: the message has none, so its default or null", (int)len,
		     column);
}

static void tell_store(struct trial *t, const struct rule_firing *f)
{
	const struct rule_action *a = f->action;
	const struct value *map = f->selected;

	tell(f->depth, "  %sstore into %s.%s", f->is_error_action ? "error action: " : "",
	     a->store.schema ? a->store.schema : "public", a->store.table);
	for (size_t i = 0; i < a->store.column_count; i++) {
		const struct rule_column *c = &a->store.columns[i];

		tell_column(t, f->depth, c->column, strlen(c->column),
			    rule_column_value(map, c->member));
	}
	for (size_t i = 0; a->store.column_count == 0 && i < map->u.map.count; i++) {
		char label[RULE_LABEL_MAX];
		struct rule_text name = rule_member_name(&map->u.map.members[i], label);

		tell_column(t, f->depth, name.data, name.len, &map->u.map.members[i].value);
	}
}

static int fired(void *arg, const struct rule_firing *f, char *why, size_t why_len)
{
	struct trial *t = arg;

	(void)why;
	(void)why_len;
	if (!t->its_turn)
		return 0;
	if (f->action->kind == RULE_REPUBLISH)
		tell_republish(f);
	else if (f->action->kind == RULE_STORE)
		tell_store(t, f);
	else
		tell(f->depth, "  drop: the message is not stored in telemetry");
	arena_reset(&t->arena);
	return 0;
}

/* --- Running --- */

static int run(struct trial *t, const struct rule_set *set, const char *payload, size_t len)
{
	const struct rule_visitor v = {.arg = t, .fired = fired, .seen = seen};
	struct rule_input in = {
		.topic = t->topic,
		.device = t->device,
		.raw = payload,
		.raw_len = len,
		.received_at_us = clock_realtime_us(),
	};
	struct arena a;
	struct value tree;
	char why[256];

	arena_init(&a, ARENA_CHUNK, ARENA_LIMIT);
	arena_init(&t->arena, ARENA_CHUNK, ARENA_LIMIT);
	if (payload_parse(&a, PAYLOAD_AUTO, payload, len, &limits, &tree, why, sizeof(why)) == 0)
		in.payload = &tree;
	else
		printf("the payload cannot be decoded, so every path in it is undefined: %s\n",
		       why);
	rule_set_run(set, &in, &a, &v);
	if (!t->seen)
		printf("rule %s does not match: its topic filter is '%s'\n", t->rule->name,
		       rule_filter(t->rule->statement));
	arena_free(&t->arena);
	arena_free(&a);
	return 0;
}

static int run_file(struct trial *t, const struct rule_set *set)
{
	size_t len;
	char *payload;
	int rc;

	t->rule = rule_named(set, t->name);
	if (!t->rule)
		return complain(EXIT_FAILED, "there is no rule '%s'", t->name);
	if (t->rule->problem)
		return complain(EXIT_FAILED, "%s", t->rule->problem);
	payload = read_all(t->payload_path, PAYLOAD_MAX, &len);
	if (!payload)
		return EXIT_FAILED;
	rc = run(t, set, payload, len);
	free(payload);
	return rc;
}

/* Whose message it is, if the topic is one of a device: m/d/<device>/... */
static void take_device(struct trial *t)
{
	static const char begin[] = "m/d/";
	const char *from = t->topic + strlen(begin);
	size_t len;

	if (t->device || strncmp(t->topic, begin, strlen(begin)) != 0)
		return;
	len = strcspn(from, "/");
	if (from[len] != '/' || !principal_id_valid(from, len))
		return;
	snprintf(t->from_topic, sizeof(t->from_topic), "%.*s", (int)len, from);
	t->device = t->from_topic;
}

static int take_options(struct trial *t, char **argv)
{
	const struct {
		const char *name;
		const char **value;
	} options[] = {{"--rules", &t->rules_path},
		       {"--name", &t->name},
		       {"--topic", &t->topic},
		       {"--device", &t->device}};

	for (; *argv; argv++) {
		bool known = false;

		for (size_t i = 0; i < sizeof(options) / sizeof(*options) && !known; i++) {
			if (strcmp(*argv, options[i].name) != 0)
				continue;
			if (!argv[1])
				return complain(EXIT_USAGE, "%s needs a value", *argv);
			*options[i].value = *++argv;
			known = true;
		}
		if (known)
			continue;
		if (**argv == '-' && (*argv)[1])
			return complain(EXIT_USAGE, "there is no option '%s'", *argv);
		if (t->payload_path)
			return complain(EXIT_USAGE, "one FILE with a payload is enough");
		t->payload_path = *argv;
	}
	return 0;
}

int test_main(int argc, char **argv)
{
	struct trial t = {.name = "test"};
	const struct rule_set *set;
	char *json;
	size_t len;
	int rc = take_options(&t, argv + 1);

	(void)argc;
	if (rc != 0)
		return rc;
	if (!t.rules_path || !t.topic || !t.payload_path)
		return complain(EXIT_USAGE, "a --topic TOPIC and a FILE with a payload are needed");
	if (!topic_name_valid(t.topic))
		return complain(EXIT_USAGE, "'%s' is not a topic to publish to", t.topic);
	if (t.device && !principal_id_valid(t.device, strlen(t.device)))
		return complain(EXIT_USAGE, "'%s' is not a device's id", t.device);
	take_device(&t);
	json = read_all(t.rules_path, RULES_MAX, &len);
	if (!json)
		return EXIT_FAILED;
	rc = read_rules(json, &set);
	free(json);
	if (rc != 0)
		return rc;
	rc = run_file(&t, set);
	rule_set_release(set);
	return rc;
}
