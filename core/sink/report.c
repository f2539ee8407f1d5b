/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the database is told about rules: verdicts when they change, and what was counted since the
 * last time. Counters begin with the process and are added to what the table has; what could not be
 * told stays to be told, also of a rule that is in no set any more.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/payload/text.h"
#include "core/sink/internal.h"

struct counts {
	uint64_t matched, errors, cut;
};

struct sink_entry {
	char *name;
	const struct rule *rule; /* NULL: not in the set */

	bool told; /* the verdict on this revision */
	int64_t revision;
	char *problem;

	const struct rule_counters *counters; /* the `seen` are of these */
	struct counts seen, untold;
	int64_t matched_at_us, failed_at_us;
	char last_error[RULE_WHY_MAX];
};

static void entry_free(struct sink_entry *e)
{
	free(e->name);
	free(e->problem);
}

void sink_report_free(struct sink *s)
{
	for (size_t i = 0; i < s->entry_count; i++)
		entry_free(&s->entries[i]);
	free(s->entries);
	s->entries = NULL;
	s->entry_count = 0;
}

void sink_report_forget(struct sink *s)
{
	for (size_t i = 0; i < s->entry_count; i++)
		s->entries[i].told = false;
	s->verdicts_due = true;
}

/* ---- counting ---- */

static uint64_t since(uint64_t *seen, uint64_t now)
{
	uint64_t more = now - *seen;

	*seen = now;
	return more;
}

/* More of a counter is read after less of what it goes with: what is missed now comes next time. */
static void collect(struct sink_entry *e)
{
	struct rule_counters *c = e->rule ? e->rule->counters : NULL;
	struct counts now;

	if (!c)
		return;
	now = (struct counts){
		atomic_load_explicit(&c->matched, memory_order_relaxed),
		atomic_load_explicit(&c->errors, memory_order_relaxed),
		atomic_load_explicit(&c->cut, memory_order_relaxed),
	};
	if (c != e->counters || now.matched < e->seen.matched || now.errors < e->seen.errors ||
	    now.cut < e->seen.cut)
		e->seen = (struct counts){0};
	e->counters = c;
	if (now.errors != e->seen.errors)
		rule_counters_last_error(c, e->last_error);
	e->untold.matched += since(&e->seen.matched, now.matched);
	e->untold.errors += since(&e->seen.errors, now.errors);
	e->untold.cut += since(&e->seen.cut, now.cut);
	e->matched_at_us = atomic_load_explicit(&c->matched_at_us, memory_order_relaxed);
	e->failed_at_us = atomic_load_explicit(&c->failed_at_us, memory_order_relaxed);
}

static bool has_untold(const struct sink_entry *e)
{
	return e->untold.matched > 0 || e->untold.errors > 0 || e->untold.cut > 0;
}

bool sink_report_pending(struct sink *s)
{
	bool pending = false;

	for (size_t i = 0; i < s->entry_count; i++) {
		collect(&s->entries[i]);
		pending |= has_untold(&s->entries[i]);
	}
	return pending;
}

/* ---- from set to set: both are sorted by name ---- */

static bool take_new(struct sink_entry *e, const struct rule *r)
{
	*e = (struct sink_entry){.name = strdup(r->name), .rule = r, .revision = r->revision};
	return e->name;
}

/* One that was there before. */
static void take_old(struct sink_entry *e, struct sink_entry *old, const struct rule *r)
{
	*e = *old;
	e->rule = r;
	if (r && e->revision != r->revision) {
		e->revision = r->revision;
		e->told = false;
	}
	*old = (struct sink_entry){0};
}

static int order(const struct sink *s, size_t i, const struct rule_set *next, size_t k)
{
	if (i == s->entry_count)
		return 1;
	if (k == rule_set_count(next))
		return -1;
	return strcmp(s->entries[i].name, rule_set_at(next, k)->name);
}

int sink_report_follow(struct sink *s, const struct rule_set *next)
{
	size_t most = s->entry_count + rule_set_count(next), count = 0, i = 0, k = 0;
	struct sink_entry *fresh = calloc(most ? most : 1, sizeof(*fresh));

	if (!fresh)
		return -ENOMEM;
	(void)sink_report_pending(s);
	while (i < s->entry_count || k < rule_set_count(next)) {
		int o = order(s, i, next, k);

		if (o == 0)
			take_old(&fresh[count++], &s->entries[i++], rule_set_at(next, k++));
		else if (o < 0 && has_untold(&s->entries[i]))
			take_old(&fresh[count++], &s->entries[i++], NULL);
		else if (o < 0)
			i++;
		else if (take_new(&fresh[count], rule_set_at(next, k++)))
			count++;
	}
	sink_report_free(s);
	s->entries = fresh;
	s->entry_count = count;
	s->verdicts_due = true;
	return 0;
}

/* ---- telling ---- */

/* Messages are cut to a length, perhaps in the middle of a character. */
static json_t *json_words(const char *text)
{
	char clean[1024];

	if (!text)
		return json_null();
	if (text_is_valid(text, strlen(text)))
		return json_string(text);
	text_reason(clean, sizeof(clean), 0, "%s", text);
	return json_string(clean);
}

static json_t *json_moment(int64_t us)
{
	char text[64];
	time_t seconds = (time_t)(us / US_PER_S);
	struct tm tm;
	size_t n;

	if (us <= 0 || !gmtime_r(&seconds, &tm))
		return json_null();
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%06" PRId64 "Z", us % US_PER_S);
	return json_string(text);
}

/* Send a list of what is to be told. It is given up here. */
static int tell(struct sink *s, const char *sql, json_t *list, const char *source,
		struct dberror *e)
{
	char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
	int rc;

	json_decref(list);
	if (!text) {
		dberror_system(e, "out of memory");
		return -EIO;
	}
	rc = sink_query(s, sql, source ? 2 : 1, (const char *const[]){text, source}, NULL, e);
	free(text);
	return rc;
}

static const char *problem_of(const struct sink *s, const struct rule *r)
{
	return r->problem ? r->problem : sink_targets_problem(&s->targets, r);
}

static bool is_told(const struct sink_entry *e, const char *problem)
{
	if (!e->rule)
		return true;
	if (!e->told || !problem != !e->problem)
		return false;
	return !problem || strcmp(problem, e->problem) == 0;
}

static json_t *verdicts(const struct sink *s)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < s->entry_count; i++) {
		const struct sink_entry *e = &s->entries[i];
		const char *problem = e->rule ? problem_of(s, e->rule) : NULL;

		if (is_told(e, problem))
			continue;
		if (json_array_append_new(list, json_pack("{s:s, s:I, s:o}", "name", e->name,
							  "revision", (json_int_t)e->revision,
							  "problem", json_words(problem))) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Without memory it is told again. */
static void remember_verdicts(struct sink *s)
{
	for (size_t i = 0; i < s->entry_count; i++) {
		struct sink_entry *e = &s->entries[i];
		const char *problem = e->rule ? problem_of(s, e->rule) : NULL;

		if (is_told(e, problem))
			continue;
		free(e->problem);
		e->problem = problem ? strdup(problem) : NULL;
		e->told = !problem || e->problem;
	}
}

int sink_report_verdicts(struct sink *s, struct dberror *e)
{
	json_t *list = verdicts(s);
	int rc = 0;

	if (list && json_array_size(list) == 0)
		json_decref(list);
	else
		rc = tell(s,
			  "select fieldgate.rule_judged(v.name, v.revision, v.problem)"
			  " from jsonb_to_recordset($1::jsonb)"
			  " as v (name text, revision bigint, problem text)",
			  list, NULL, e);
	if (rc == 0) {
		remember_verdicts(s);
		s->verdicts_due = false;
	}
	return rc;
}

static json_t *counts(const struct sink *s)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < s->entry_count; i++) {
		const struct sink_entry *e = &s->entries[i];

		if (!has_untold(e))
			continue;
		if (json_array_append_new(
			    list, json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o}", "rule", e->name,
					    "matched", (json_int_t)e->untold.matched, "errors",
					    (json_int_t)e->untold.errors, "cut",
					    (json_int_t)e->untold.cut, "matched_at",
					    json_moment(e->matched_at_us), "failed_at",
					    json_moment(e->failed_at_us), "last_error",
					    json_words(*e->last_error ? e->last_error : NULL))) !=
		    0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Those that are in no set any more have said their last. */
static void forget_counts(struct sink *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->entry_count; i++) {
		s->entries[i].untold = (struct counts){0};
		if (s->entries[i].rule)
			s->entries[kept++] = s->entries[i];
		else
			entry_free(&s->entries[i]);
	}
	s->entry_count = kept;
}

int sink_report_counters(struct sink *s, struct dberror *e)
{
	int rc;

	if (!sink_report_pending(s))
		return 0;
	rc = tell(s, "select fieldgate.rule_count($2, $1::jsonb)", counts(s), s->o.source, e);
	if (rc == 0)
		forget_counts(s);
	return rc;
}
