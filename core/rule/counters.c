/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of a rule, shared by the sets that have the rule and by the threads that run them.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/payload/text.h"
#include "core/rule/set_internal.h"

#define SAY_INTERVAL_US (60 * US_PER_S)

struct rule_counters *rule_counters_new(void)
{
	struct rule_counters *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	pthread_mutex_init(&c->lock, NULL);
	atomic_store(&c->references, 1);
	return c;
}

struct rule_counters *rule_counters_retain(struct rule_counters *c)
{
	atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
	return c;
}

void rule_counters_release(struct rule_counters *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void rule_counters_fail(struct rule_counters *c, const char *why, int64_t now_us)
{
	pthread_mutex_lock(&c->lock);
	/* It ends in PostgreSQL, and may quote what a device sent, or be cut within a character. */
	text_reason(c->last_error, sizeof(c->last_error), 0, "%s", why);
	pthread_mutex_unlock(&c->lock);
	atomic_store_explicit(&c->failed_at_us, now_us, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->errors, 1, memory_order_relaxed);
}

void rule_counters_last_error(struct rule_counters *c, char why[RULE_WHY_MAX])
{
	pthread_mutex_lock(&c->lock);
	memcpy(why, c->last_error, RULE_WHY_MAX);
	pthread_mutex_unlock(&c->lock);
}

bool rule_counters_may_say(struct rule_counters *c, uint64_t *suppressed)
{
	bool may;

	pthread_mutex_lock(&c->lock);
	may = rate_limit_pass(&c->said, SAY_INTERVAL_US, suppressed);
	pthread_mutex_unlock(&c->lock);
	return may;
}
