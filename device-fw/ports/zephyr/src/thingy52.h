/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a Thingy:52 says about its surroundings, in the characteristics of its environment service
 * (UUIDs EF68xxxx-9B35-4933-9B10-52FFA9740042). Pure; known to the tests on Linux. No lock: it is
 * the caller's.
 */
#ifndef FIELDGATE_THINGY52_H
#define FIELDGATE_THINGY52_H

#include "device-fw/core/reading.h"

#define THINGY52_ADVERTISED  0x0100 /* the service that it advertises */
#define THINGY52_ENVIRONMENT 0x0200

/* Their UUIDs are 0x0201 and so on, in this order. */
enum thingy52_characteristic {
	THINGY52_TEMPERATURE, /* int8 degrees Celsius, uint8 hundredths */
	THINGY52_PRESSURE,    /* int32 hPa, uint8 hundredths; little endian */
	THINGY52_HUMIDITY,    /* uint8 percent */
	THINGY52_AIR_QUALITY, /* uint16 CO2 equivalent (ppm), uint16 volatile compounds (ppb) */
	THINGY52_CHARACTERISTICS,
};

#define THINGY52_UUID(characteristic) (THINGY52_ENVIRONMENT + 1 + (characteristic))
#define THINGY52_VALUES		      (THINGY52_CHARACTERISTICS + 1)

struct thingy52 {
	struct thingy52_value {
		int32_t mantissa;
		int64_t at_ms;
		bool known;
	} values[THINGY52_VALUES]; /* the second one of air quality is the last */
};

/* The newest of a characteristic. -EBADMSG: it has not this length, or no such value can be. */
int thingy52_take(struct thingy52 *t, enum thingy52_characteristic characteristic,
		  const void *bytes, size_t length, int64_t now_ms);
/* What is not older than age_ms: how many of at most `max`. */
size_t thingy52_read(const struct thingy52 *t, int64_t now_ms, int64_t age_ms,
		     struct fg_reading *out, size_t max);

#endif
