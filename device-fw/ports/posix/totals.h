/* SPDX-License-Identifier: Apache-2.0 */
/* What all devices of the process have done, for the last line. */
#ifndef FG_DEVICE_TOTALS_H
#define FG_DEVICE_TOTALS_H

#include <stdint.h>

#define TOTALS_LATENCY_MAX_MS 65535 /* longer ones count as this */

struct totals {
	uint64_t recorded, not_recorded; /* readings taken; those for which there was no room */
	uint64_t acknowledged, refused;	 /* readings */
	uint64_t messages;		 /* with one or more readings, that were acknowledged */
	uint64_t transmissions;		 /* of these messages */
	uint64_t handshakes, resumed, faults, commands, reboots;
	uint32_t latencies[TOTALS_LATENCY_MAX_MS + 1]; /* messages by milliseconds */
};

void totals_latency(struct totals *t, uint32_t ms);
/* The latency that `share` (0 to 1) of the messages did not exceed. 0 without messages. */
uint32_t totals_percentile(const struct totals *t, double share);

#endif
