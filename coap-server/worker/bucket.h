/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token bucket in one number, by the generic cell rate algorithm (ITU-T I.371): `due` is when all
 * that was let through so far would have been, one each interval. 0 is a full bucket.
 */
#ifndef FG_WORKER_BUCKET_H
#define FG_WORKER_BUCKET_H

#include <stdint.h>

struct bucket {
	int64_t due_us;
};

/* 0: let it through; else how many microseconds must pass before the next may. */
static inline int64_t bucket_take(struct bucket *b, int64_t now_us, int64_t interval_us,
				  int64_t burst)
{
	int64_t due = b->due_us > now_us ? b->due_us : now_us;
	int64_t early = due - now_us - (burst - 1) * interval_us;

	if (early > 0)
		return early;
	b->due_us = due + interval_us;
	return 0;
}

#endif
