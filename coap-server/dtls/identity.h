/* SPDX-License-Identifier: Apache-2.0 */
/* Who the peer of a DTLS session has proven to be. It belongs to the session, never to an address.
 */
#ifndef FG_DTLS_IDENTITY_H
#define FG_DTLS_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/registry/snapshot.h"

struct dtls_identity {
	char id[PRINCIPAL_ID_MAX + 1];	      /* "" as long as nothing was proven */
	uint8_t kind;			      /* enum credential_kind */
	uint8_t fingerprint[FINGERPRINT_LEN]; /* of the credential that proved it */
};

static inline bool dtls_identity_proven(const struct dtls_identity *i)
{
	return i->id[0] != '\0';
}

#endif
