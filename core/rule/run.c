/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message through a set of rules, depth first: what a rule republishes is run before the next
 * rule is. Each rule begins with the arena as it found it, so that one that needs all of it fails
 * alone.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/registry/topic.h"
#include "core/rule/set_internal.h"

#define WHAT_MAX 128

struct run {
	const struct rule_set *set; /* NULL: nothing is triggered */
	struct arena *arena;
	const struct rule_visitor *visitor;
	unsigned fires;
	size_t work; /* that may still be done for it */
};

struct message {
	struct run *run;
	const struct rule_input *in;
	unsigned depth;
};

static void run_message(const struct message *m);

/* --- What is counted and said --- */

static void add_one(_Atomic uint64_t *n)
{
	atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

static void show(const struct message *m, struct rule_sight s)
{
	const struct rule_visitor *v = m->run->visitor;

	s.depth = m->depth;
	s.in = m->in;
	if (v->seen)
		v->seen(v->arg, &s);
}

static void count_match(const struct message *m, const struct rule *r)
{
	if (!m->run->visitor->counts)
		return;
	add_one(&r->counters->matched);
	atomic_store_explicit(&r->counters->matched_at_us, clock_realtime_us(),
			      memory_order_relaxed);
}

static void cut(const struct message *m, const struct rule *r, const char *why)
{
	show(m, (struct rule_sight){.rule = r, .outcome = RULE_CUT, .why = why});
	if (!m->run->visitor->counts)
		return;
	add_one(&r->counters->cut);
	if (!atomic_exchange(&r->counters->cut_said, true))
		log_warn(
			"rule_cut", m->in->device,
			"rule '%s' was not run for a message on '%.200s': %s; do rules trigger one "
			"another in a loop? From here on this is only counted",
			r->name, m->in->topic, why);
}

/* The reasons that statements and templates give begin with "rule 'hot': ", as those of the parser:
 * here the rule is known. */
static const char *without_name(const struct rule *r, const char *why)
{
	static const char begin[] = "rule '";
	size_t len = strlen(r->name);
	const char *p = why + strlen(begin);

	if (strncmp(why, begin, strlen(begin)) != 0 || strncmp(p, r->name, len) != 0 ||
	    p[len] != '\'')
		return why;
	p += len + 1;
	return p + strspn(p, ":, ");
}

static void count_failure(const struct message *m, const struct rule *r, const char *what,
			  const char *why)
{
	char text[RULE_WHY_MAX], note[RATE_LIMIT_NOTE_MAX];
	uint64_t suppressed;

	snprintf(text, sizeof(text), "%s: %s", what, why);
	rule_counters_fail(r->counters, text, clock_realtime_us());
	if (rule_counters_may_say(r->counters, &suppressed))
		log_warn("rule_failed", m->in->device, "rule '%s', a message on '%.200s': %s%s",
			 r->name, m->in->topic, text, rate_limit_note(note, suppressed));
}

/* count: whoever runs the message too does not find this failure. */
static void note_failure(const struct message *m, const struct rule *r, bool count,
			 const struct rule_failure *f)
{
	char what[WHAT_MAX];

	snprintf(what, sizeof(what), "%s%s%.100s", f->action, f->object ? " " : "",
		 f->object ? f->object : "");
	show(m,
	     (struct rule_sight){.rule = r, .outcome = RULE_FAILED, .what = what, .why = f->why});
	if (count)
		count_failure(m, r, what, f->why);
}

/* --- Actions --- */

/* A republished message must be one that the broker takes. */
static int check_topic(const char *topic, char *why, size_t why_len)
{
	const char *problem = NULL;

	if (!topic_name_valid(topic))
		problem = "is not a topic to publish to: it is empty, too long or holds a "
			  "wildcard, + or #";
	else if (topic[0] == '$')
		problem = "begins with '$': such topics are the broker's own";
	else if (filter_tree_levels(topic) > RULE_LEVELS_MAX)
		problem = "has too many levels";
	if (!problem)
		return 0;
	snprintf(why, why_len, "'%.100s' %s", topic, problem);
	return -EBADMSG;
}

static int prepare_republish(const struct message *m, struct rule_firing *f, char *why,
			     size_t why_len)
{
	struct arena *a = m->run->arena;
	int rc =
		rule_template_render(f->action->republish.topic, m->in, a, &f->topic, why, why_len);

	if (rc != 0) {
		f->topic = NULL;
		return rc;
	}
	rc = check_topic(f->topic, why, why_len);
	if (rc == 0)
		rc = rule_format_value(f->selected, f->action->republish.format, a, &f->payload,
				       &f->payload_len);
	if (rc == -ENOMEM)
		snprintf(why, why_len, "what SELECT gave is too large to publish");
	return rc;
}

static void run_republished(const struct message *m, const struct rule_firing *f)
{
	const struct rule_input in = {
		.topic = f->topic,
		.device = m->in->device,
		.payload = f->selected,
		.raw = f->payload,
		.raw_len = f->payload_len,
		.received_at_us = m->in->received_at_us,
		.work = m->in->work,
	};

	run_message(&(struct message){m->run, &in, m->depth + 1});
}

static const char *object_of(const struct rule_firing *f, char *text, size_t len)
{
	const struct rule_action *a = f->action;

	if (a->kind != RULE_STORE)
		return f->topic;
	snprintf(text, len, "%s.%s", a->store.schema ? a->store.schema : "public", a->store.table);
	return text;
}

static void fail(const struct message *m, const struct rule *r, bool count,
		 struct rule_failure failure, bool by_error_action);

static void fire(const struct message *m, const struct rule *r, const struct rule_action *action,
		 const struct value *selected, bool is_error_action)
{
	struct rule_firing f = {
		.rule = r,
		.action = action,
		.is_error_action = is_error_action,
		.depth = m->depth,
		.in = m->in,
		.selected = selected,
	};
	const struct rule_visitor *v = m->run->visitor;
	char why[RULE_WHY_MAX] = "", object[160];
	bool prepared;
	int rc = 0;

	if (m->run->fires >= RULE_FIRES_MAX) {
		cut(m, r, "it and what came of it has had as many actions as a message may");
		return;
	}
	m->run->fires++;
	if (action->kind == RULE_REPUBLISH)
		rc = prepare_republish(m, &f, why, sizeof(why));
	prepared = rc == 0;
	if (prepared)
		rc = v->fired(v->arg, &f, why, sizeof(why));
	if (rc != 0)
		fail(m, r, prepared || v->counts,
		     (struct rule_failure){
			     .action = action->kind == RULE_REPUBLISH ? "republish" : "store",
			     .object = object_of(&f, object, sizeof(object)),
			     .why = *why ? without_name(r, why) : strerror(-rc),
		     },
		     is_error_action);
	else if (action->kind == RULE_REPUBLISH && m->run->set)
		run_republished(m, &f);
}

/* by_error_action: what failed was to say what had failed. That is counted, and that is all. */
static void fail(const struct message *m, const struct rule *r, bool count,
		 struct rule_failure failure, bool by_error_action)
{
	struct arena_mark mark = arena_mark(m->run->arena);
	struct value report;

	note_failure(m, r, count, &failure);
	for (size_t i = 0; i < r->error_actions.count && !by_error_action; i++) {
		if (rule_report(&report, r, m->in, &failure, m->run->arena) == 0) {
			fire(m, r, &r->error_actions.items[i], &report, true);
		} else {
			failure.why = "no room for the report to the error action";
			note_failure(m, r, m->run->visitor->counts, &failure);
		}
		arena_rewind(m->run->arena, mark);
	}
}

/* --- Rules --- */

static void fire_all(const struct message *m, const struct rule *r, const struct value *selected)
{
	struct arena_mark mark = arena_mark(m->run->arena);

	for (size_t i = 0; i < r->actions.count; i++) {
		const struct rule_action *action = &r->actions.items[i];

		if (action->kind == RULE_DROP && m->depth > 0)
			continue;
		fire(m, r, action, selected, false);
		arena_rewind(m->run->arena, mark);
	}
}

static bool run_rule(void *arg, uint32_t number)
{
	const struct message *m = arg;
	const struct rule *r = &m->run->set->rules[number];
	struct arena_mark mark = arena_mark(m->run->arena);
	char why[RULE_WHY_MAX] = "";
	struct value selected;
	int rc;

	if (m->depth >= RULE_CHAIN_MAX) {
		cut(m, r, "rules have republished it as many times as they may");
		return true;
	}
	if (m->run->fires >= RULE_FIRES_MAX) {
		cut(m, r, "other rules have had as many actions as a message may");
		return true;
	}
	if (m->run->work == 0) {
		cut(m, r, "other rules have done as much work as they may for a message");
		return true;
	}
	rc = rule_evaluate(r->statement, m->in, m->run->arena, &selected, why, sizeof(why));
	if (rc == 1) {
		show(m, (struct rule_sight){
				.rule = r, .outcome = RULE_MATCHED, .selected = &selected});
		count_match(m, r);
		fire_all(m, r, &selected);
	} else if (rc == 0) {
		show(m, (struct rule_sight){.rule = r, .outcome = RULE_NOT_HELD});
	} else {
		arena_rewind(m->run->arena, mark);
		fail(m, r, m->run->visitor->counts,
		     (struct rule_failure){
			     .action = "sql",
			     .why = *why ? without_name(r, why) : strerror(-rc),
		     },
		     false);
	}
	arena_rewind(m->run->arena, mark);
	return true;
}

static void run_message(const struct message *m)
{
	filter_tree_match(&m->run->set->tree, m->in->topic, run_rule, (void *)m, NULL);
}

void rule_set_run(const struct rule_set *s, const struct rule_input *in, struct arena *a,
		  const struct rule_visitor *v)
{
	struct run run = {.set = s, .arena = a, .visitor = v, .work = RULE_WORK_MAX};
	struct rule_input message = *in;

	message.work = &run.work;
	run_message(&(struct message){&run, &message, 0});
}

void rule_failed_later(const struct rule *r, const struct rule_input *in, const char *what_failed,
		       const char *why, struct arena *a, const struct rule_visitor *v)
{
	static const char republish[] = "republish", store[] = "store";
	struct run run = {.arena = a, .visitor = v, .work = RULE_WORK_MAX};
	struct rule_input message = *in;
	const char *object = strchr(what_failed, ' ');
	bool republished = strncmp(what_failed, republish, strlen(republish)) == 0;

	message.work = &run.work;
	fail(&(struct message){&run, &message, 0}, r, true,
	     (struct rule_failure){
		     .action = republished ? republish : store,
		     .object = object ? object + 1 : what_failed,
		     .why = why,
	     },
	     false);
}

/* --- drop --- */

struct dropping {
	const struct rule_set *set;
	const struct rule_input *in;
	struct arena *arena;
};

static bool has_drop(const struct rule *r)
{
	for (size_t i = 0; i < r->actions.count; i++)
		if (r->actions.items[i].kind == RULE_DROP)
			return true;
	return false;
}

/* Goes on as long as none drops it. */
static bool keeps(void *arg, uint32_t number)
{
	const struct dropping *d = arg;
	const struct rule *r = &d->set->rules[number];
	struct arena_mark mark = arena_mark(d->arena);
	char why[RULE_WHY_MAX];
	bool drops;

	if (!has_drop(r))
		return true;
	drops = rule_holds(r->statement, d->in, d->arena, why, sizeof(why)) == 1;
	arena_rewind(d->arena, mark);
	return !drops;
}

bool rule_set_drops(const struct rule_set *s, const struct rule_input *in, struct arena *a)
{
	size_t work = RULE_WORK_MAX;
	struct rule_input message = *in;
	struct dropping d = {s, &message, a};

	message.work = &work;
	return s->has[RULE_DROP] && !filter_tree_match(&s->tree, in->topic, keeps, &d, NULL);
}
