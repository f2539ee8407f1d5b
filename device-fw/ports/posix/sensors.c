/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/ports/posix/sensors.h"

#define CELLS 4096

/* Middle, and how far a reading may be from the one before, in 10^-decimals of the unit. */
static const struct {
	const char *name, *unit; /* SenML's, RFC 8428 section 12.1, where it has one */
	int32_t middle, step;
	uint8_t decimals;
} wandering[SENSORS_WANDERING] = {
	{"temperature", "Cel", 2150, 8, 2}, {"humidity", "%RH", 480, 5, 1},
	{"pressure", NULL, 10132, 2, 1},    {"air_quality", NULL, 50, 3, 0},
	{"light", "lx", 320, 9, 0},	    {"battery", "V", 3920, 2, 3},
	{"rsrp", NULL, -93, 2, 0},
};

/* xorshift64* */
static uint32_t next_random(struct sensors *s)
{
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (uint32_t)(s->random * UINT64_C(2685821657736338717) >> 32);
}

void sensors_begin(struct sensors *s, uint64_t seed)
{
	*s = (struct sensors){.random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1};
	s->cell = 0x1a2d000 + next_random(s) % CELLS;
}

static struct fg_reading number(const char *name, const char *unit, int32_t mantissa,
				uint8_t decimals)
{
	return (struct fg_reading){.name = name,
				   .unit = unit,
				   .type = FG_READING_DECIMAL,
				   .decimals = decimals,
				   .mantissa = mantissa};
}

/* A random step, and a sixteenth of the way back to the middle. */
static int32_t wander(struct sensors *s, size_t i)
{
	const int32_t step = wandering[i].step;

	s->away[i] += (int32_t)(next_random(s) % (uint32_t)(2 * step + 1)) - step;
	s->away[i] -= s->away[i] / 16;
	return wandering[i].middle + s->away[i];
}

size_t sensors_read(struct sensors *s, const struct sensors_self *self, struct fg_reading *out,
		    size_t max)
{
	struct fg_reading all[SENSORS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < SENSORS_WANDERING; i++)
		all[n++] = number(wandering[i].name, wandering[i].unit, wander(s, i),
				  wandering[i].decimals);
	all[n++] = number("uptime", "s", (int32_t)self->uptime_s, 0);
	all[n++] = number("retransmissions", "count", (int32_t)self->retransmissions, 0);
	all[n++] = number("cell", NULL, (int32_t)s->cell, 0);
	if (n > max)
		n = max;
	for (size_t i = 0; i < n; i++)
		out[i] = all[i];
	return n;
}
