/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines that somebody outside can cause are limited here: the first is written, and then one
 * per interval, with the number of those that were not.
 */
#ifndef FG_BASE_RATE_LIMIT_H
#define FG_BASE_RATE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct rate_limit {
	int64_t last_us; /* when the interval began */
	unsigned passed; /* in it */
	uint64_t suppressed;
};

/* May a line be written now? If so, *suppressed is how many were not since the last. */
bool rate_limit_pass(struct rate_limit *l, int64_t interval_us, uint64_t *suppressed);

/* The same, but `burst` of them in an interval are written. */
bool rate_limit_pass_burst(struct rate_limit *l, int64_t interval_us, unsigned burst,
			   uint64_t *suppressed);

/* For the end of that line: how many were suppressed, "" when none were. Returns text. */
#define RATE_LIMIT_NOTE_MAX 64
const char *rate_limit_note(char text[RATE_LIMIT_NOTE_MAX], uint64_t suppressed);

/* One limit for each principal (or address, while that is all one knows of somebody), over
 * reconnects, in fixed memory: two principals that fall into the same slot share it while it is in
 * use. */
#define REFUSAL_SLOTS 1024

struct refusal_limits {
	struct rate_limit slot[REFUSAL_SLOTS];
};

struct rate_limit *refusal_limit(struct refusal_limits *l, const char *principal_id);

#endif
