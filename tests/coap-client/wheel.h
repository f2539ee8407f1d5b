/* SPDX-License-Identifier: Apache-2.0 */
/* Timers of many sessions: a wheel of lists, exact to WHEEL_STEP_US, whose costs do not grow with
 * their number. */
#ifndef FG_TESTS_WHEEL_H
#define FG_TESTS_WHEEL_H

#include <stdint.h>

#define WHEEL_STEP_US INT64_C(5000)

struct timer { /* all zero: does not run */
	struct timer *next, **at;
	void (*expired)(struct timer *t); /* may set any timer, and free this one */
	int64_t due_us;
};

/* Set anew, or with INT64_MAX not at all. */
void timer_set(struct timer *t, int64_t due_us);

/* Call expired for all that are due. Nothing is due before `now_us` of the first call. */
void wheel_turn(int64_t now_us);

#endif
