/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All rules that are in force, compiled: an immutable set, counted by references, that any number
 * of threads run messages through. Finding the rules of a topic costs by the topic's length and the
 * rules that match, not by the number of rules: their filters are one tree of levels.
 *
 * A rule's counters outlive the set: the next set has the same ones for a rule of the same name.
 */
#ifndef FG_RULE_SET_H
#define FG_RULE_SET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/rate_limit.h"
#include "core/registry/registry.h"
#include "core/rule/action.h"
#include "core/rule/statement.h"

#define RULE_CHAIN_MAX 4 /* rules that trigger one another: the depth of a republished message */
#define RULE_FIRES_MAX                                                                             \
	1000 /* of one message, chains included; beyond, the rest is cut and counted */

struct rule_counters { /* since the rule was first loaded; relaxed atomics */
	_Atomic uint64_t matched, errors, cut;
	_Atomic int64_t matched_at_us, failed_at_us;
	_Atomic bool cut_said; /* "logged once" */

	/* Of counters.c. */
	_Atomic size_t references;
	pthread_mutex_t lock;
	char last_error[RULE_WHY_MAX];
	struct rate_limit said;
};

/* Count an error, and keep its text. */
void rule_counters_fail(struct rule_counters *c, const char *why, int64_t now_us);

/* The text of a rule's last error; "" when there was none. */
void rule_counters_last_error(struct rule_counters *c, char why[RULE_WHY_MAX]);

struct rule {
	const char *name;
	int64_t revision;    /* of the row */
	const char *problem; /* NULL, or why it is not in force: then the rest is empty */
	struct rule_statement *statement; /* NULL with a problem */
	struct rule_actions actions, error_actions;
	struct rule_counters *counters;
};

struct rule_set;

/*
 * Compile the rules of a snapshot. Counters, and which problems were logged already, are those of
 * the set before (NULL: none), which is not changed. 0 or -ENOMEM. For rules_acquire, and for who
 * has no registry.
 */
int rule_set_make(const struct rule_set **out, const struct snapshot *snapshot,
		  const struct rule_set *before);

/* Enabled rules, refused ones (problem) included, by name. */
size_t rule_set_count(const struct rule_set *s);
const struct rule *rule_set_at(const struct rule_set *s, size_t i);

/* Has any rule in force an action of this kind (error actions included)? */
bool rule_set_has(const struct rule_set *s, enum rule_action_kind kind);

/* Does any rule in force begin with a topic filter that matches? Allocates nothing. */
bool rule_set_wants(const struct rule_set *s, const char *topic);

const struct rule_set *rule_set_retain(const struct rule_set *s);
void rule_set_release(const struct rule_set *s); /* NULL is allowed */

/* --- Running a message through it --- */

struct rule_firing { /* valid until the callback returns */
	const struct rule *rule;
	const struct rule_action *action;
	bool is_error_action;
	unsigned depth; /* 0: the message itself; else republished so many times */
	const struct rule_input *in;
	const struct value
		*selected;   /* what SELECT gave; of an error action the report of the error */
	const char *topic;   /* republish: rendered, a valid topic name that is not below $SYS */
	const void *payload; /* republish: encoded */
	size_t payload_len;
};

enum rule_outcome {
	RULE_MATCHED,
	RULE_NOT_HELD, /* WHERE is false or undefined */
	RULE_FAILED,   /* the rule, or one of its actions: `what` */
	RULE_CUT,
};

struct rule_sight { /* valid until the callback returns */
	const struct rule *rule;
	enum rule_outcome outcome;
	unsigned depth;
	const struct rule_input *in;
	const struct value *selected; /* of a match; else NULL */
	const char *what, *why;	      /* of a failure: "sql", "republish a/b"; why: of a cut, too */
};

struct rule_visitor {
	void *arg;
	/* An action of a rule that matched. 0, or -errno with the reason in why: the action failed,
	 * which is counted, and the rule's error action is fired in its place. What could not be
	 * republished triggers no rules. `drop` is fired for the message itself only. */
	int (*fired)(void *arg, const struct rule_firing *f, char *why, size_t why_len);
	/* Count matches, errors and cuts, and say errors: true for one of those who run the message
	 * only, the relay. */
	bool counts;

	/* What comes of each rule whose topic filter matches, before its actions are fired: for a
	 * person who tries rules. NULL: nobody wants to know. */
	void (*seen)(void *arg, const struct rule_sight *s);
};

/*
 * Run a message, and what is republished of it, to a depth of RULE_CHAIN_MAX: four rules may
 * trigger one another, and what the fourth republishes triggers none. The rules that then are not
 * run count a cut. A failing rule stops nothing: it is counted, its error action fired, and the
 * next rule runs. Errors are logged, for each rule at most now and then.
 *
 * What was in the arena stays; what a rule needed of it is given back when the rule is through.
 *
 * Without v->counts, only what the visitor itself refused is counted and logged, for the one who
 * counts finds the rest.
 */
void rule_set_run(const struct rule_set *s, const struct rule_input *in, struct arena *a,
		  const struct rule_visitor *v);

/* Does a rule with the action `drop` match the message itself? An evaluation that fails keeps the
 * message. */
bool rule_set_drops(const struct rule_set *s, const struct rule_input *in, struct arena *a);

/* An action failed after it was fired, as the database says of a store: count it, and fire the
 * rule's error action. what_failed: the kind of action and its object, as "store public.alarm". */
void rule_failed_later(const struct rule *r, const struct rule_input *in, const char *what_failed,
		       const char *why, struct arena *a, const struct rule_visitor *v);

/* --- The set in force: follows a registry --- */

struct rules;

/* 0 or -errno. The registry must outlive it. */
int rules_open(struct rules **out, struct registry *registry);
void rules_close(struct rules *r); /* NULL is allowed */

/* The set as of now, with a reference for the caller. Compiled here when the rules of the registry
 * have changed (not for other changes), so it costs nothing otherwise; while one thread compiles,
 * others get the set before. Never NULL. Any thread. Rules that are refused are logged once. */
const struct rule_set *rules_acquire(struct rules *r);

/* Have the rules been read, from the database or the copy on disk, and compiled? Before that the
 * set is empty: who may not let a message pass by waits. Compiles, if that is all that is missing.
 * Any thread. */
bool rules_ready(struct rules *r);

/* Moves when rules_acquire may give another set: read it before, and ask again when it has moved. A
 * relaxed atomic read. Any thread. */
uint64_t rules_generation(struct rules *r);

#endif
