/* SPDX-License-Identifier: Apache-2.0 */
/* What a person types at the one device: lines on standard input. `help` lists them. */
#ifndef FG_DEVICE_COMMANDS_H
#define FG_DEVICE_COMMANDS_H

#include "device-fw/ports/posix/device.h"

#define COMMAND_LINE_MAX 4096

struct commands {
	struct device *device;
	struct loop_fd input;
	void (*quit)(void *arg); /* `quit`, or the end of the input */
	void *arg;
	size_t length;
	char line[COMMAND_LINE_MAX];
};

/* Of the zeroed structure whose device, quit and arg are set. 0, or -errno: of an input that cannot
 * be waited for, such as a file. */
int commands_begin(struct commands *c);
void commands_end(struct commands *c);

#endif
