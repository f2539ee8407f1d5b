/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/rate_limit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"

bool rate_limit_pass_burst(struct rate_limit *l, int64_t interval_us, unsigned burst,
			   uint64_t *suppressed)
{
	int64_t now_us = clock_monotonic_us();

	if (l->last_us == 0 || now_us - l->last_us >= interval_us) {
		l->last_us = now_us;
		l->passed = 0;
	}
	if (l->passed >= burst) {
		l->suppressed++;
		return false;
	}
	l->passed++;
	*suppressed = l->suppressed;
	l->suppressed = 0;
	return true;
}

bool rate_limit_pass(struct rate_limit *l, int64_t interval_us, uint64_t *suppressed)
{
	return rate_limit_pass_burst(l, interval_us, 1, suppressed);
}

const char *rate_limit_note(char text[RATE_LIMIT_NOTE_MAX], uint64_t suppressed)
{
	text[0] = '\0';
	if (suppressed > 0)
		snprintf(text, RATE_LIMIT_NOTE_MAX, " (%" PRIu64 " more since the last such line)",
			 suppressed);
	return text;
}

struct rate_limit *refusal_limit(struct refusal_limits *l, const char *principal_id)
{
	uint64_t who = hash_siphash(hash_table_key(), principal_id, strlen(principal_id));

	return &l->slot[who % REFUSAL_SLOTS];
}
