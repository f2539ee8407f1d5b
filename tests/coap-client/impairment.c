/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap-client/impairment.h"

/* Of nothing but zeros the generator would make nothing else. */
uint64_t impairment_seed(uint64_t seed)
{
	return (seed * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

/* xorshift64*, from 0 to below 1 */
static double next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (double)(*state * UINT64_C(0x2545f4914f6cdd1d) >> 11) / (double)(1ULL << 53);
}

bool impairment_happens(uint64_t *state, double p)
{
	return p > 0 && next(state) < p;
}

int64_t impairment_delay_us(uint64_t *state, const struct impairment *i)
{
	return (int64_t)(next(state) * (double)i->delay_us);
}
