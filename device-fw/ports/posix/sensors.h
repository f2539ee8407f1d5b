/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sensors of a Thingy:91, without the Thingy:91: values that wander slowly around what such a
 * board says on a desk. The same seed gives the same values, reading by reading.
 */
#ifndef FG_DEVICE_SENSORS_H
#define FG_DEVICE_SENSORS_H

#include "device-fw/core/reading.h"

/* temperature humidity pressure air_quality light battery rsrp uptime retransmissions cell */
#define SENSORS_MAX	  10
#define SENSORS_WANDERING 7

struct sensors {
	uint64_t random;
	uint32_t cell;
	int32_t away[SENSORS_WANDERING]; /* from the middle, in the sensor's last digit */
};

/* What the board knows of itself. */
struct sensors_self {
	int64_t uptime_s;
	uint32_t retransmissions;
};

void sensors_begin(struct sensors *s, uint64_t seed);
/* The first `max` of them: how many that are. */
size_t sensors_read(struct sensors *s, const struct sensors_self *self, struct fg_reading *out,
		    size_t max);

#endif
