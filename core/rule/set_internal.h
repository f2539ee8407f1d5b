/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a set of rules: made by set.c, run by run.c. */
#ifndef FG_RULE_SET_INTERNAL_H
#define FG_RULE_SET_INTERNAL_H

#include "core/base/arena.h"
#include "core/rule/set.h"
#include "core/rule/filter_tree.h"

#define RULE_KINDS (RULE_DROP + 1)

struct rule_set {
	_Atomic size_t references;
	struct arena arena; /* names and problems */
	struct rule *rules; /* by name */
	size_t count;
	struct filter_tree tree; /* of those in force; numbers are indices of rules */
	bool has[RULE_KINDS];
	uint64_t digest; /* of the rows that it was made of, in any order */
};

/* set.c: what a snapshot's rules are told apart by, beside their number. */
uint64_t rule_set_digest(const struct snapshot *snapshot);

/* counters.c */
struct rule_counters *rule_counters_new(void); /* with one reference; NULL without memory */
struct rule_counters *rule_counters_retain(struct rule_counters *c);
void rule_counters_release(struct rule_counters *c); /* NULL is allowed */

/* May a line about an error of the rule be written now? */
bool rule_counters_may_say(struct rule_counters *c, uint64_t *suppressed);

struct rule_failure {
	const char *action; /* "sql", "republish", "store" */
	const char *object; /* topic, table; NULL: none, or not known */
	const char *why;
};

/* report.c: what an error action publishes or stores, in the arena; -ENOMEM. */
int rule_report(struct value *out, const struct rule *r, const struct rule_input *in,
		const struct rule_failure *failure, struct arena *a);

#endif
