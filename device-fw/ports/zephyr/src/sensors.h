/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this board can measure of the world around it: one sensors_*.c for each source, chosen by
 * Kconfig. What the modem knows (battery, signal, cell) is not here but in lte.h.
 */
#ifndef FIELDGATE_SENSORS_H
#define FIELDGATE_SENSORS_H

#include "device-fw/core/reading.h"

/* Once, before the first sensors_read, from the agent's thread. A negative errno: a sensor does not
 * answer; sensors_read then leaves out what it would have said. */
int sensors_init(void);

/*
 * The agent's thread, at each reading: how many of at most `max` were written. It may take as long
 * as a sensor needs for one sample, but no longer than SENSORS_READ_MAX_MS. Names, units and texts
 * are constant. A source that reports by itself (a Thingy:52 over BLE) keeps the newest of each
 * value under its own lock, and gives what is not older than its Kconfig says. Names are those of
 * the telemetry table: temperature (degrees Celsius), humidity (percent), pressure (hPa),
 * air_quality, light (lx), altitude; any other name goes to extra.
 */
#define SENSORS_READ_MAX_MS 2000

size_t sensors_read(struct fg_reading *out, size_t max);

#endif
