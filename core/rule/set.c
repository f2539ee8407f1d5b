/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set is made in one go, and from then on only its count of references changes. A rule that is
 * refused is in it too, with its problem and nothing else, so that somebody can report it.
 */
#include "core/rule/set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/payload/text.h"
#include "core/rule/set_internal.h"

#define ARENA_CHUNK (16 * 1024)

/* --- Making --- */

static uint64_t hash_text(const char *text)
{
	return text ? hash_siphash(hash_table_key(), text, strlen(text)) : 0;
}

uint64_t rule_set_digest(const struct snapshot *snapshot)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < snapshot_rule_count(snapshot); i++) {
		const struct snapshot_rule *row = snapshot_rule_at(snapshot, i);
		const uint64_t parts[] = {hash_text(row->name), (uint64_t)row->revision,
					  hash_text(row->sql), hash_text(row->actions),
					  hash_text(row->error_action)};

		sum += hash_siphash(hash_table_key(), parts, sizeof(parts));
	}
	return sum;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct rule *)a)->name, ((const struct rule *)b)->name);
}

static const struct rule *find(const struct rule_set *s, const char *name)
{
	const struct rule key = {.name = name};

	if (!s || s->count == 0)
		return NULL;
	return bsearch(&key, s->rules, s->count, sizeof(*s->rules), by_name);
}

/* Everything of a row that can be refused: 0, -ENOMEM, or another -errno with the problem. */
static int compile(struct rule *r, const struct snapshot_rule *row, char *problem,
		   size_t problem_len)
{
	int rc = rule_parse(&r->statement, row->name, row->sql, strlen(row->sql), problem,
			    problem_len);

	if (rc == 0 && filter_tree_levels(rule_filter(r->statement)) > RULE_LEVELS_MAX) {
		snprintf(problem, problem_len,
			 "rule '%s': the topic filter behind FROM has more than %d levels, which "
			 "no topic has",
			 row->name, RULE_LEVELS_MAX);
		return -EINVAL;
	}
	if (rc == 0)
		rc = rule_actions_parse(&r->actions, row->name, row->actions, problem, problem_len);
	if (rc == 0)
		rc = rule_error_action_parse(&r->error_actions, row->name, row->error_action,
					     problem, problem_len);
	return rc;
}

static void clear(struct rule *r)
{
	rule_free(r->statement);
	rule_actions_free(&r->actions);
	rule_actions_free(&r->error_actions);
	r->statement = NULL;
}

/* Problems end in PostgreSQL, which takes UTF-8 only; they quote the rule, and may cut it. */
static int set_problem(struct rule_set *s, struct rule *r, const char *text)
{
	char problem[2 * RULE_WHY_MAX];

	clear(r);
	text_reason(problem, sizeof(problem), 0, "%s", text);
	r->problem = arena_strndup(&s->arena, problem, strlen(problem));
	return r->problem ? 0 : -ENOMEM;
}

static int take_counters(struct rule *r, const struct rule *before)
{
	r->counters = before ? rule_counters_retain(before->counters) : rule_counters_new();
	if (!r->counters)
		return -ENOMEM;
	if (before && before->revision != r->revision)
		atomic_store(&r->counters->cut_said, false);
	return 0;
}

static int add_rule(struct rule_set *s, const struct snapshot_rule *row,
		    const struct rule_set *earlier)
{
	char problem[2 * RULE_WHY_MAX] = "";
	const struct rule *before = find(earlier, row->name);
	struct rule *r = &s->rules[s->count++];
	int rc;

	r->name = arena_strndup(&s->arena, row->name, strlen(row->name));
	r->revision = row->revision;
	if (!r->name || take_counters(r, before) != 0)
		return -ENOMEM;
	rc = compile(r, row, problem, sizeof(problem));
	if (rc != 0 && rc != -ENOMEM)
		rc = set_problem(s, r, problem);
	if (rc != 0)
		return rc;
	if (r->problem && (!before || before->revision != r->revision || !before->problem ||
			   strcmp(before->problem, r->problem) != 0))
		log_warn("rule_refused", NULL,
			 "%s; the rule is not in force until its row is mended", r->problem);
	return 0;
}

static void note_kinds(struct rule_set *s, const struct rule_actions *a)
{
	for (size_t i = 0; i < a->count; i++)
		s->has[a->items[i].kind] = true;
}

static int make_tree(struct rule_set *s)
{
	int rc = 0;

	for (size_t i = 0; i < s->count && rc == 0; i++) {
		const struct rule *r = &s->rules[i];

		if (r->problem)
			continue;
		note_kinds(s, &r->actions);
		note_kinds(s, &r->error_actions);
		rc = filter_tree_add(&s->tree, rule_filter(r->statement), (uint32_t)i);
	}
	return rc;
}

static void set_free(struct rule_set *s)
{
	for (size_t i = 0; i < s->count; i++) {
		clear(&s->rules[i]);
		rule_counters_release(s->rules[i].counters);
	}
	filter_tree_free(&s->tree);
	free(s->rules);
	arena_free(&s->arena);
	free(s);
}

int rule_set_make(const struct rule_set **out, const struct snapshot *snapshot,
		  const struct rule_set *before)
{
	size_t count = snapshot_rule_count(snapshot);
	struct rule_set *s = calloc(1, sizeof(*s));
	int rc = 0;

	*out = NULL;
	if (!s)
		return -ENOMEM;
	atomic_store(&s->references, 1);
	arena_init(&s->arena, ARENA_CHUNK, SIZE_MAX);
	s->digest = rule_set_digest(snapshot);
	s->rules = calloc(count ? count : 1, sizeof(*s->rules));
	if (!s->rules)
		rc = -ENOMEM;
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = add_rule(s, snapshot_rule_at(snapshot, i), before);
	if (rc == 0) {
		qsort(s->rules, s->count, sizeof(*s->rules), by_name);
		rc = make_tree(s);
	}
	if (rc != 0) {
		set_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

/* --- Asking --- */

size_t rule_set_count(const struct rule_set *s)
{
	return s->count;
}

const struct rule *rule_set_at(const struct rule_set *s, size_t i)
{
	return &s->rules[i];
}

bool rule_set_has(const struct rule_set *s, enum rule_action_kind kind)
{
	return s->has[kind];
}

static bool stop(void *arg, uint32_t number)
{
	(void)arg, (void)number;
	return false;
}

bool rule_set_wants(const struct rule_set *s, const char *topic)
{
	return !filter_tree_match(&s->tree, topic, stop, NULL, NULL);
}

const struct rule_set *rule_set_retain(const struct rule_set *s)
{
	atomic_fetch_add_explicit(&((struct rule_set *)s)->references, 1, memory_order_relaxed);
	return s;
}

void rule_set_release(const struct rule_set *s)
{
	struct rule_set *mine = (struct rule_set *)s;

	if (mine && atomic_fetch_sub_explicit(&mine->references, 1, memory_order_acq_rel) == 1)
		set_free(mine);
}
