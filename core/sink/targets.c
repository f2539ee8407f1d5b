/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/sink/internal.h"

static size_t count_stores(const struct rule_actions *a)
{
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++)
		n += a->items[i].kind == RULE_STORE;
	return n;
}

/* The index of the action's table, which is added if it is new. Tables are few, rules may be
 * many. 0 or -ENOMEM. */
static int find_table(struct sink_targets *t, const struct rule_action *a, size_t *index)
{
	for (*index = 0; *index < t->table_count; ++*index)
		if (sink_table_is(&t->tables[*index], a))
			return 0;
	if (sink_table_init(&t->tables[t->table_count], a) != 0)
		return -ENOMEM;
	t->table_count++;
	return 0;
}

static int add_actions(struct sink_targets *t, const struct rule *r, const struct rule_actions *a)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < a->count; i++) {
		struct sink_target *target = &t->items[t->count];

		if (a->items[i].kind != RULE_STORE)
			continue;
		*target = (struct sink_target){.action = &a->items[i], .rule = r};
		rc = find_table(t, target->action, &target->table);
		t->count += rc == 0;
	}
	return rc;
}

static int by_action(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct sink_target *)a)->action;
	uintptr_t y = (uintptr_t)((const struct sink_target *)b)->action;

	return x < y ? -1 : x > y;
}

int sink_targets_build(struct sink_targets *t, const struct rule_set *set)
{
	size_t count = 0;
	int rc = 0;

	*t = (struct sink_targets){0};
	for (size_t i = 0; i < rule_set_count(set); i++)
		count += count_stores(&rule_set_at(set, i)->actions) +
			 count_stores(&rule_set_at(set, i)->error_actions);
	if (count == 0)
		return 0;
	t->items = calloc(count, sizeof(*t->items));
	t->tables = calloc(count, sizeof(*t->tables));
	t->waiting = calloc(count, sizeof(*t->waiting));
	if (!t->items || !t->tables || !t->waiting)
		rc = -ENOMEM;
	for (size_t i = 0; rc == 0 && i < rule_set_count(set); i++) {
		const struct rule *r = rule_set_at(set, i);

		rc = add_actions(t, r, &r->actions);
		if (rc == 0)
			rc = add_actions(t, r, &r->error_actions);
	}
	if (rc != 0)
		sink_targets_free(t);
	else
		qsort(t->items, t->count, sizeof(*t->items), by_action);
	return rc;
}

void sink_targets_free(struct sink_targets *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->items[i].problem);
	for (size_t i = 0; i < t->table_count; i++)
		sink_table_free(&t->tables[i]);
	free(t->items);
	free(t->tables);
	free(t->waiting);
	*t = (struct sink_targets){0};
}

const struct sink_target *sink_targets_find(const struct sink_targets *t,
					    const struct rule_action *action)
{
	const struct sink_target key = {.action = action};

	return t->count == 0 ? NULL
			     : bsearch(&key, t->items, t->count, sizeof(*t->items), by_action);
}

static const char *problem_among(const struct sink_targets *t, const struct rule_actions *a)
{
	for (size_t i = 0; i < a->count; i++) {
		const struct sink_target *target = sink_targets_find(t, &a->items[i]);

		if (target && target->problem)
			return target->problem;
	}
	return NULL;
}

const char *sink_targets_problem(const struct sink_targets *t, const struct rule *r)
{
	const char *problem = problem_among(t, &r->actions);

	return problem ? problem : problem_among(t, &r->error_actions);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static int judge(struct sink_targets *t, bool *changed)
{
	char why[RULE_WHY_MAX];

	for (size_t i = 0; i < t->count; i++) {
		struct sink_target *target = &t->items[i];
		char *problem = NULL;

		if (sink_check_action(&t->tables[target->table], target->rule, target->action, why,
				      sizeof(why)) != 0) {
			problem = strdup(why);
			if (!problem)
				return -ENOMEM;
		}
		*changed |= !same_text(problem, target->problem);
		free(target->problem);
		target->problem = problem;
	}
	return 0;
}

int sink_targets_load(struct sink_targets *t, PGconn *c, int stop_fd, int timeout_s, bool *changed,
		      char *err, size_t err_len)
{
	int rc = sink_tables_load(c, stop_fd, timeout_s, NULL, t->tables, t->table_count, err,
				  err_len);

	*changed = !t->loaded;
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < t->table_count; i++)
		*changed |= t->tables[i].changed;
	rc = judge(t, changed);
	if (rc != 0)
		snprintf(err, err_len, "out of memory");
	else
		t->loaded = true;
	return rc;
}
