/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/totals.h"

void totals_latency(struct totals *t, uint32_t ms)
{
	t->latencies[ms < TOTALS_LATENCY_MAX_MS ? ms : TOTALS_LATENCY_MAX_MS]++;
}

uint32_t totals_percentile(const struct totals *t, double share)
{
	uint64_t all = 0, passed = 0, rank;

	for (uint32_t ms = 0; ms <= TOTALS_LATENCY_MAX_MS; ms++)
		all += t->latencies[ms];
	if (all == 0)
		return 0;
	rank = (uint64_t)(share * (double)(all - 1));
	for (uint32_t ms = 0; ms <= TOTALS_LATENCY_MAX_MS; ms++) {
		passed += t->latencies[ms];
		if (passed > rank)
			return ms;
	}
	return TOTALS_LATENCY_MAX_MS;
}
