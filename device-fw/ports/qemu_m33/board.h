/* SPDX-License-Identifier: Apache-2.0 */
/* What the core takes from this board, but for the DTLS connection (port.h). */
#ifndef FG_QEMU_M33_BOARD_H
#define FG_QEMU_M33_BOARD_H

#include "device-fw/core/agent.h"

/* What was begun and is to be told to the agent from the loop. */
struct board {
	bool attached, connected, reboot; /* told: once */
	bool resumed, asleep;
};

extern struct board board;
extern const struct fg_port board_port;

/* Before the agent: formats what is to survive a reset, if nothing did. */
void board_start(void);

/* What has happened, by semihosting: in the image for tests only. */
void board_note(void *ctx, const struct fg_note *note);

#endif
