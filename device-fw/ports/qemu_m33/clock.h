/* SPDX-License-Identifier: Apache-2.0 */
/* Uptime. It is asked for often enough: the counter goes round in 37 hours. */
#ifndef FG_QEMU_M33_CLOCK_H
#define FG_QEMU_M33_CLOCK_H

#include <stdint.h>

void clock_start(void);
int64_t clock_ms(void); /* since clock_start */
/* Until something is pending, a tick at the latest. */
void clock_wait(void);

#endif
