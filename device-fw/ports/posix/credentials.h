/* SPDX-License-Identifier: Apache-2.0 */
/* How a device proves who it is, read from files. */
#ifndef FG_DEVICE_CREDENTIALS_H
#define FG_DEVICE_CREDENTIALS_H

#include "device-fw/ports/posix/jwt.h"
#include "device-fw/ports/posix/link.h"
#include "device-fw/ports/posix/options.h"

struct credentials {
	char *id;
	enum fg_credential kind;
	struct link_identity *identity; /* NULL: nothing is shown in the handshake */
	struct jwt_key *jwt;		/* NULL: none */
};

/* Those of one device, or of a fleet: how many, or 0 and one line in `error`. They are freed
 * together. */
size_t credentials_read(const struct options *o, struct credentials **out, char *error,
			size_t size);
void credentials_free(struct credentials *c, size_t count);

#endif
