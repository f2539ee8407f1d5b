/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device on Linux: the core's agent, and everything that it takes from outside (port.h). All
 * devices of a process share a world, and are in its loop's thread.
 */
#ifndef FG_DEVICE_DEVICE_H
#define FG_DEVICE_DEVICE_H

#include "device-fw/core/agent.h"
#include "device-fw/ports/posix/credentials.h"
#include "device-fw/ports/posix/link.h"
#include "device-fw/ports/posix/loop.h"
#include "device-fw/ports/posix/options.h"
#include "device-fw/ports/posix/output.h"
#include "device-fw/ports/posix/sensors.h"
#include "device-fw/ports/posix/sequences.h"
#include "device-fw/ports/posix/storage.h"
#include "device-fw/ports/posix/totals.h"

struct device;

struct world {
	const struct options *options;
	struct loop *loop;
	struct link_trust *trust; /* NULL: pre-shared keys only */
	struct link_impairment impairment;
	struct output output;
	struct totals totals;
	struct fg_flash_geometry flash;
	struct fg_port port;
	void *owner;			  /* whoever runs it all */
	void (*interrupted)(void *owner); /* by SIGINT or SIGTERM */
	/* It has done what it was started for: --count readings are acknowledged, or measuring was
	 * stopped and nothing waits. Called once; device_stop is allowed. */
	void (*settled)(struct world *w, struct device *d);
	void (*connected)(struct world *w, struct device *d); /* for the first time; may be NULL */
};

struct device {
	struct world *world;
	void *owner; /* whoever has made it, for its own use */
	const struct credentials *credentials;
	struct fg_config config;
	struct fg_agent agent;
	struct link *link;
	struct storage *storage;
	struct sensors sensors;
	struct sequences waiting; /* of the backlog */
	struct loop_timer poll, attach, restart;
	int64_t boot_us;
	int64_t wall_offset_us; /* wall clock less CLOCK_MONOTONIC, if it knows the time */
	bool clock_known;
	bool offline, attach_wanted, measuring, settled, was_connected;
	uint32_t measured;
	uint64_t handshakes, resumed; /* since the start, over reboots */

	/* what a person asked for, until it is answered */
	bool asking;
	char path[128];
	void *payload;
};

/* Of the options: flash, port and network. The rest of it, the caller sets. */
void device_prepare_world(struct world *w);

/* NULL, and one line for a person in `error`. Not started. `index` tells devices' sensors apart. */
struct device *device_new(struct world *w, const struct credentials *c, uint32_t index, char *error,
			  size_t size);
void device_free(struct device *d);
void device_start(struct device *d);
void device_stop(struct device *d); /* with a farewell */

/* ---- what a person, or a profile, asks for: 0 or a negative errno */
int device_get(struct device *d, const char *path);
int device_put(struct device *d, const char *path, int format, const void *payload, size_t length);
void device_read(struct device *d);
int device_set_interval(struct device *d, long interval_s);
int device_rebind(struct device *d);
/* The modem notices that the network is gone, or back. */
void device_set_offline(struct device *d, bool offline);
/* What the clock is ahead by; known false: it does not know the time. */
void device_set_clock(struct device *d, bool known, double ahead_s);
/* Soon: memory is lost, and the connection without a farewell; what is stored is not. */
void device_reboot(struct device *d);
void device_stop_measuring(struct device *d);

int64_t device_wall_ms(const struct device *d); /* 0: not known */
uint32_t device_retransmissions(const struct device *d);

#endif
