/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one unit is told once: who it is and where its server is. Each value is Kconfig's
 * (CONFIG_FIELDGATE_...) until another is stored; nothing here is secret. A change is in force
 * after the next start.
 */
#ifndef FIELDGATE_PROFILE_H
#define FIELDGATE_PROFILE_H

#include "device-fw/core/config.h"

#define PROFILE_HOST_MAX  127 /* characters */
#define PROFILE_VALUE_MAX 128 /* bytes of any value as text, with the NUL */

struct profile {
	char device[FG_DEVICE_ID_MAX + 1]; /* empty: nrf-<IMEI> */
	char host[PROFILE_HOST_MAX + 1];
	uint16_t port;
	enum fg_transport transport;   /* "coap", "mqtt" */
	enum fg_credential credential; /* "certificate", "psk", "jwt" */
	uint32_t security_tag;	       /* of everything that is in force */
	uint32_t next_tag;	       /* of the next CA alone; 0: none */
	int32_t interval_s;
};

/* All values, from Kconfig and from storage. 0, or a negative errno of the storage; what could not
 * be read is Kconfig's. */
int profile_load(struct profile *p);
/* Checks and stores one value by name: device, host, port, transport, credential, tag, next_tag,
 * interval. NULL: forget it, Kconfig's is in force again. 0; -ENOENT: no such name; -EINVAL: not
 * such a value; -EIO, -ENOSPC. Any thread but not two at once. */
int profile_set(const char *name, const char *value);
/* Each name with its value as text, in a fixed order. */
void profile_each(const struct profile *p,
		  void (*each)(void *arg, const char *name, const char *value), void *arg);

#endif
