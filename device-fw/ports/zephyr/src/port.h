/* SPDX-License-Identifier: Apache-2.0 */
/* The core's port (device-fw/core/port.h) for an nRF9160: where each of its functions goes. */
#ifndef FIELDGATE_PORT_H
#define FIELDGATE_PORT_H

#include "device-fw/core/agent.h"

/* The port's ctx: what its functions need to know. */
struct port_context {
	const struct fg_agent *agent; /* for its counters */
	const char *device;
	uint32_t security_tag;
};

/* Once, after storage_init. */
const struct fg_port *port_init(void);

#endif
