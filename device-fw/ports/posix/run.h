/* SPDX-License-Identifier: Apache-2.0 */
/* What a process of this program does from its first event to its last: the exit status. */
#ifndef FG_DEVICE_RUN_H
#define FG_DEVICE_RUN_H

#include "device-fw/ports/posix/device.h"

int run_one(struct world *w, const struct credentials *c);
int run_fleet(struct world *w, const struct credentials *c, size_t count);

#endif
