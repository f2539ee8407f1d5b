/* SPDX-License-Identifier: Apache-2.0 */
/* The hardware's watchdog, fed by the agent's thread and nobody else: whatever stops that thread,
 * a reset ends it. */
#ifndef FIELDGATE_WATCHDOG_H
#define FIELDGATE_WATCHDOG_H

#include <zephyr/sys_clock.h>

/* The longest the agent's thread may wait for events. */
#define WATCHDOG_WAIT_MS (CONFIG_FIELDGATE_WATCHDOG_S * MSEC_PER_SEC / 3)

/* It cannot be stopped any more, but by a debugger. 0, or a negative errno of the driver. */
int watchdog_start(void);
void watchdog_feed(void);

#endif
