/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker as the bus of core/relay. The relay's thread puts copies into a queue of bounded size;
 * the broker's thread, the only one that may call the broker, publishes them in its callbacks, a
 * bounded number each time. Settled is what the broker was handed.
 */
#ifndef FG_PLUGIN_BUS_H
#define FG_PLUGIN_BUS_H

#include <stdbool.h>

#include "core/relay/bus.h"

struct plugin;
struct plugin_bus;

#define PLUGIN_BUS_MESSAGES_MAX 4096		  /* waiting for the broker's thread */
#define PLUGIN_BUS_BYTES_MAX	(8 * 1024 * 1024) /* theirs; one that is larger waits alone */

/* NULL without memory or file descriptors. */
struct plugin_bus *plugin_bus_open(void);
void plugin_bus_close(struct plugin_bus *b); /* NULL is allowed */

const struct bus *plugin_bus_of(struct plugin_bus *b);

/* Does anything wait? Costs nothing. */
bool plugin_bus_waits(const struct plugin_bus *b);

/*
 * Publish some of what waits: `budget` small messages, or so many fewer large ones. What is
 * published to a device waits for it in the journal first, if it is not connected here. Broker's
 * thread.
 */
void plugin_bus_drain(struct plugin *p, int budget);

#endif
