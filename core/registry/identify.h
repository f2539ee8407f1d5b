/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is this? From what a peer has proven (possession of a certificate's key, of a token) to a
 * principal of the snapshot, or to a refusal with a text that says why and what to do. Both
 * protocols ask here. Functions of the snapshot and of the clock: no database, no lock; any thread.
 *
 * There are two questions. May this one begin: a connection, a session, one that is resumed? Then
 * the dates of the credential count, by the wall clock. May this one stay, when the registry has
 * changed? Then they do not: who has been let in is closed when valid_for_s has passed by a clock
 * that never jumps, so that a wall clock that does closes nobody.
 */
#ifndef FG_REGISTRY_IDENTIFY_H
#define FG_REGISTRY_IDENTIFY_H

#include <stddef.h>
#include <stdint.h>

#include "core/registry/certificate.h"
#include "core/registry/snapshot.h"

enum refusal {
	REFUSAL_NONE,
	REFUSAL_UNKNOWN, /* no such credential */
	REFUSAL_NAME,	 /* the certificate names another principal than it is registered for */
	REFUSAL_CREDENTIAL_REVOKED, /* this credential is, the principal may have others */
	REFUSAL_PENDING,
	REFUSAL_SUSPENDED,
	REFUSAL_REVOKED,
	REFUSAL_EXPIRED, /* the credential, by its dates */
	REFUSAL_NOT_YET_VALID,
	REFUSAL_NOT_NOW, /* cannot be decided yet: to be told to try again */
};

struct identity {
	enum refusal refusal;
	const struct principal *principal;   /* valid as long as the snapshot; NULL when unknown */
	const struct credential *credential; /* likewise */
	int64_t valid_for_s; /* how long the credential is good from now on, at least 0; INT64_MAX:
				for ever, or no credential */
	char why[512];	     /* for the log when refused: why, and what to do */
};

/* --- May it begin? --- */

/* By fingerprint of the certificate, else of its public key; its name must be the principal's id.
 */
void identify_certificate(struct identity *out, const struct snapshot *s,
			  const struct certificate *cert);

/* By user name and token. Compares in constant time. */
void identify_token(struct identity *out, const struct snapshot *s, const char *id,
		    const char *token);

/* Who has proven to hold this credential before, and shows now that it is the same peer: TLS
 * resumption. */
void identify_resumed(struct identity *out, const struct snapshot *s, const char *id,
		      enum credential_kind kind, const uint8_t *fingerprint, uint32_t edition);

/*
 * For those who look a credential up themselves (psk.h, coap-server/auth): out is filled as if by
 * them. identify_proven: the peer has proven to hold this credential; is it let in?
 * identify_refuse: it has not; principal: who it says it is, if that is known, else NULL.
 */
void identify_proven(struct identity *out, const struct snapshot *s, const struct credential *c);
void identify_refuse(struct identity *out, const struct principal *principal, enum refusal refusal,
		     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* --- May it stay? --- */

/* A live connection or session. Dates do not count. `fingerprint` may be NULL when only the
 * principal counts. edition: the credential's when it was proven. */
void identify_again(struct identity *out, const struct snapshot *s, const char *id,
		    enum credential_kind kind, const uint8_t *fingerprint, uint32_t edition);

/* What a person reads in presence_event.reason when a connection or session is ended for this. */
const char *refusal_reason(enum refusal refusal);

#endif
