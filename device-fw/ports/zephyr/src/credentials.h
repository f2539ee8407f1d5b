/* SPDX-License-Identifier: Apache-2.0 */
/* Are the keys in the modem that a connection needs? Asked before it is tried: the modem's own
 * error for a missing one, after a minute, is that the connection was refused. */
#ifndef FIELDGATE_CREDENTIALS_H
#define FIELDGATE_CREDENTIALS_H

#include "profile.h"

/*
 * The tags to connect with: the current one, and the next CA's if it has one. Their number, or
 * -ENOENT: something is missing; what, and how to provision it, is logged. -EIO: the modem does not
 * answer.
 */
int credentials_check(const struct profile *p, uint32_t *tags);

#endif
