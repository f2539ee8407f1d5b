/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cloud asks of a device: a CBOR map, from msg/c2d, from the topic m/d/<device>/c2d, or
 * from state (the delta: what is desired and not reported so). Members that are not known are
 * ignored, one with a wrong type or a value out of range, or that is there twice, makes the whole
 * map refused, so that nothing is half done. Examples: tests/vectors/commands/.
 *
 * Arrays and maps may be nested to FG_CBOR_MAX_DEPTH, the command's map counted. In JSON, a name
 * with an escape in it is none that is known.
 */
#ifndef FG_DEVICE_COMMAND_H
#define FG_DEVICE_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FG_INTERVAL_MIN_S 1
#define FG_INTERVAL_MAX_S 604800 /* a week */

enum {
	FG_COMMAND_INTERVAL = 1 << 0, /* "interval" (s): measure and send so often */
	FG_COMMAND_READ = 1 << 1,     /* "read": true: measure and send now */
	FG_COMMAND_REBOOT = 1 << 2,   /* "reboot": true */
	FG_COMMAND_ID = 1 << 3,	      /* "id": a number, not INT32_MIN; the same
					 one is carried out once */
};

struct fg_command {
	unsigned present; /* FG_COMMAND_... */
	int32_t interval_s;
	int32_t id;
};

/* The bytes are CBOR, or the same as JSON text, as `insert into downlink` is mostly used. 0, or
 * -EBADMSG: neither, or a member that cannot be. */
int fg_command_decode(struct fg_command *out, const void *payload, size_t length);

#endif
