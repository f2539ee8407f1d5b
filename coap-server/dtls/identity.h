/* SPDX-License-Identifier: Apache-2.0 */
/* Who the peer of a DTLS session has proven to be. It belongs to the session, never to an address.
 */
#ifndef FG_DTLS_IDENTITY_H
#define FG_DTLS_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/registry/identify.h"

struct dtls_identity {
	char id[PRINCIPAL_ID_MAX + 1];	      /* "" as long as nothing was proven */
	uint8_t kind;			      /* enum credential_kind */
	uint8_t fingerprint[FINGERPRINT_LEN]; /* of the credential that proved it */
	uint8_t zero[2];
	uint32_t edition; /* of that credential: see struct credential */
	uint32_t ends_s;  /* second of clock_monotonic_us when that credential expires; 0: never */
};

static inline bool dtls_identity_proven(const struct dtls_identity *i)
{
	return i->id[0] != '\0';
}

/* From what the registry has found just now, and not refused. */
void dtls_identity_set(struct dtls_identity *out, const struct identity *found);

/* It ends in so many seconds from now, unless it does before. INT64_MAX: no limit. */
void dtls_identity_limit(struct dtls_identity *i, int64_t valid_for_s);

/*
 * Has the credential expired since it was let in? The deadline was fixed by the wall clock then,
 * and is waited for by the machine's monotonic clock, which goes on over a restart of the process:
 * a wall clock that jumps ends nothing.
 */
bool dtls_identity_expired(const struct dtls_identity *i);

#endif
