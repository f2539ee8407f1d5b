/* SPDX-License-Identifier: Apache-2.0 */
/* A bad network by a seeded generator: the same seed gives the same losses. */
#ifndef FG_TESTS_IMPAIRMENT_H
#define FG_TESTS_IMPAIRMENT_H

#include <stdbool.h>
#include <stdint.h>

struct impairment { /* probabilities */
	double drop, duplicate, reorder;
	int64_t delay_us; /* longest, of what is reordered */
};

uint64_t impairment_seed(uint64_t seed);

bool impairment_happens(uint64_t *state, double p);
int64_t impairment_delay_us(uint64_t *state, const struct impairment *i);

#endif
