/* SPDX-License-Identifier: Apache-2.0 */
/* A JWT (RFC 7519, ES256) that says who the device is, signed by the modem or in the secure world.
 */
#ifndef FIELDGATE_JWT_H
#define FIELDGATE_JWT_H

#include <stddef.h>
#include <stdint.h>

/* `device` is the claim sub. As fg_port.jwt. */
int jwt_make(const char *device, uint32_t security_tag, int64_t wall_ms, char *out, size_t size);

#endif
