/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which readings of a device wait. An acknowledgement says the first and the last of its readings;
 * numbers between them need not all be there, as one is given up when power fails in the middle of
 * a write. What is said to be acknowledged (--acked) must be exact, so it is asked here.
 */
#ifndef FG_DEVICE_SEQUENCES_H
#define FG_DEVICE_SEQUENCES_H

#include <stddef.h>
#include <stdint.h>

struct sequences { /* zeroed: none */
	uint32_t *numbers;
	size_t first, end, room;
};

void sequences_free(struct sequences *s);
/* Above all that are there. 0 or -ENOMEM. */
int sequences_add(struct sequences *s, uint32_t number);
/* Takes out those up to `last`, of which the `count` newest are acknowledged and the others were
 * overwritten: how many are acknowledged, and where they are until the next call. */
size_t sequences_take(struct sequences *s, uint32_t last, size_t count, const uint32_t **numbers);

#endif
