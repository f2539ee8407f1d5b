/* SPDX-License-Identifier: Apache-2.0 */
/* Between device.c, which is the device's life, and device_port.c, which is its world as the core
 * sees it (port.h). */
#ifndef FG_DEVICE_DEVICE_INTERNAL_H
#define FG_DEVICE_DEVICE_INTERNAL_H

#include "device-fw/ports/posix/device.h"

extern const struct fg_port device_port; /* but for its flash */

/* After everything that the agent is told. */
void device_poll(struct device *d);
void device_attached(void *arg); /* for the timer `attach` */
struct link *device_make_link(struct device *d);
/* Those that the flash has are known by their numbers. 0 or -ENOMEM. */
int device_find_waiting(struct device *d);

#endif
