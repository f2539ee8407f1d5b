/* SPDX-License-Identifier: Apache-2.0 */
#include "thingy52.h"

#include <errno.h>

#define COMPOUNDS    THINGY52_CHARACTERISTICS /* index of the value */
#define PRESSURE_MAX 2000		      /* hPa */

static const uint8_t lengths[THINGY52_CHARACTERISTICS] = {
	[THINGY52_TEMPERATURE] = 2,
	[THINGY52_PRESSURE] = 5,
	[THINGY52_HUMIDITY] = 1,
	[THINGY52_AIR_QUALITY] = 4,
};

static const struct fg_reading readings[THINGY52_VALUES] = {
	[THINGY52_TEMPERATURE] = {.name = "temperature", .unit = "Cel", .decimals = 2},
	[THINGY52_PRESSURE] = {.name = "pressure", .unit = "hPa", .decimals = 2},
	[THINGY52_HUMIDITY] = {.name = "humidity", .unit = "%RH"},
	[THINGY52_AIR_QUALITY] = {.name = "air_quality", .unit = "ppm"},
	[COMPOUNDS] = {.name = "tvoc", .unit = "ppb"},
};

static uint32_t read_le(const uint8_t *bytes, size_t length)
{
	uint32_t value = 0;

	while (length-- > 0)
		value = value << 8 | bytes[length];
	return value;
}

/* Below zero its firmware makes the hundredths of a negative float, and what comes out is the
 * compiler's: either 0, or a negative number in eight bits. */
static int hundredths(uint8_t byte)
{
	return byte <= 99 ? byte : byte >= 256 - 99 ? byte - 256 : INT16_MAX;
}

static int decode(enum thingy52_characteristic characteristic, const uint8_t *b, int32_t *out)
{
	uint32_t whole;
	int part = 0;

	switch (characteristic) {
	case THINGY52_TEMPERATURE:
		part = hundredths(b[1]);
		*out = (b[0] < 128 ? b[0] : b[0] - 256) * 100 + part;
		return part == INT16_MAX ? -EBADMSG : 0;
	case THINGY52_PRESSURE:
		whole = read_le(b, 4);
		if (whole == 0 || whole > PRESSURE_MAX || b[4] > 99)
			return -EBADMSG;
		*out = (int32_t)whole * 100 + b[4];
		return 0;
	case THINGY52_HUMIDITY:
		*out = b[0];
		return b[0] > 100 ? -EBADMSG : 0;
	default: /* 0: its sensor still warms up */
		*out = (int32_t)read_le(b, 2);
		return *out == 0 ? -EBADMSG : 0;
	}
}

static void keep(struct thingy52_value *v, int32_t mantissa, int64_t now_ms)
{
	*v = (struct thingy52_value){mantissa, now_ms, true};
}

int thingy52_take(struct thingy52 *t, enum thingy52_characteristic characteristic,
		  const void *bytes, size_t length, int64_t now_ms)
{
	int32_t mantissa;

	if (characteristic >= THINGY52_CHARACTERISTICS || length != lengths[characteristic] ||
	    decode(characteristic, bytes, &mantissa) != 0)
		return -EBADMSG;
	keep(&t->values[characteristic], mantissa, now_ms);
	if (characteristic == THINGY52_AIR_QUALITY)
		keep(&t->values[COMPOUNDS], (int32_t)read_le((const uint8_t *)bytes + 2, 2),
		     now_ms);
	return 0;
}

size_t thingy52_read(const struct thingy52 *t, int64_t now_ms, int64_t age_ms,
		     struct fg_reading *out, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < THINGY52_VALUES && n < max; i++) {
		const struct thingy52_value *v = &t->values[i];

		if (!v->known || now_ms - v->at_ms > age_ms)
			continue;
		out[n] = readings[i];
		out[n++].mantissa = v->mantissa;
	}
	return n;
}
