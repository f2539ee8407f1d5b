/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set in force. Two locks: `lock` is held for the exchange of a pointer only; `building` by the
 * one thread that compiles, and nobody waits for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/rule/set_internal.h"

#define RETRY_US US_PER_S /* after memory ran out */

struct rules {
	struct registry *registry;

	pthread_mutex_t lock;
	const struct rule_set *set; /* under lock */

	pthread_mutex_t building;
	int64_t retry_us;	/* under building: of clock_monotonic_us; not before */
	_Atomic uint64_t seen;	/* the registry's generation that the set is of */
	_Atomic uint64_t built; /* sets, so far */
	_Atomic bool ready;	/* one of them is of a registry that has been loaded */
};

static void put(struct rules *r, const struct rule_set *fresh)
{
	const struct rule_set *old;

	pthread_mutex_lock(&r->lock);
	old = r->set;
	r->set = fresh;
	pthread_mutex_unlock(&r->lock);
	atomic_fetch_add(&r->built, 1);
	rule_set_release(old);
}

/* `building` is held, so nobody else changes r->set. */
static int build(struct rules *r)
{
	const struct snapshot *snapshot = registry_acquire(r->registry);
	const struct rule_set *fresh;
	int rc = 0;

	if (snapshot_rule_count(snapshot) != r->set->count ||
	    rule_set_digest(snapshot) != r->set->digest) {
		rc = rule_set_make(&fresh, snapshot, r->set);
		if (rc == 0)
			put(r, fresh);
	}
	snapshot_release(snapshot);
	return rc;
}

static void follow(struct rules *r)
{
	/* Before the snapshot is taken: one that comes in between is seen the next time. */
	uint64_t generation = registry_generation(r->registry);
	bool loaded = registry_ready(r->registry);
	int64_t now = clock_monotonic_us();

	if (now < r->retry_us)
		return;
	if (build(r) != 0) {
		log_error("rules_not_compiled", NULL,
			  "out of memory; the rules known so far stay in force, and it is tried "
			  "again");
		r->retry_us = now + RETRY_US;
		return;
	}
	atomic_store_explicit(&r->seen, generation, memory_order_relaxed);
	if (loaded)
		atomic_store(&r->ready, true);
}

const struct rule_set *rules_acquire(struct rules *r)
{
	const struct rule_set *s;

	if (atomic_load_explicit(&r->seen, memory_order_relaxed) !=
		    registry_generation(r->registry) &&
	    pthread_mutex_trylock(&r->building) == 0) {
		follow(r);
		pthread_mutex_unlock(&r->building);
	}
	pthread_mutex_lock(&r->lock);
	s = rule_set_retain(r->set);
	pthread_mutex_unlock(&r->lock);
	return s;
}

bool rules_ready(struct rules *r)
{
	if (atomic_load(&r->ready))
		return true;
	if (!registry_ready(r->registry))
		return false;
	/* The generation moves just before the registry is ready: it may have been seen already. */
	atomic_store_explicit(&r->seen, UINT64_MAX, memory_order_relaxed);
	rule_set_release(rules_acquire(r));
	return atomic_load(&r->ready);
}

/* Also moves when a set was built that somebody had asked for too early. */
uint64_t rules_generation(struct rules *r)
{
	return registry_generation(r->registry) +
	       atomic_load_explicit(&r->built, memory_order_relaxed);
}

static const struct rule_set *no_rules(void)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *empty = b ? snapshot_build(b, 0) : NULL;
	const struct rule_set *s = NULL;

	if (empty && rule_set_make(&s, empty, NULL) != 0)
		s = NULL;
	snapshot_release(empty);
	return s;
}

int rules_open(struct rules **out, struct registry *registry)
{
	struct rules *r = calloc(1, sizeof(*r));

	*out = NULL;
	if (!r)
		return -ENOMEM;
	r->registry = registry;
	r->set = no_rules();
	if (!r->set) {
		free(r);
		return -ENOMEM;
	}
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->building, NULL);
	atomic_store(&r->seen, UINT64_MAX);
	/* What the copy on disk has is in force before anybody can ask at the same time: who comes
	 * while another compiles gets the set before, and that would be none. */
	(void)rules_ready(r);
	*out = r;
	return 0;
}

void rules_close(struct rules *r)
{
	if (!r)
		return;
	rule_set_release(r->set);
	pthread_mutex_destroy(&r->building);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
