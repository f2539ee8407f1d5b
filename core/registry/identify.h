/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is this? From what a peer has proven (possession of a certificate's key, of a token) to a
 * principal of the snapshot, or to a refusal with a text that says why and what to do. Both
 * protocols ask here. Pure functions of the snapshot: no database, no lock; any thread.
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
};

struct identity {
	enum refusal refusal;
	const struct principal *principal;   /* valid as long as the snapshot; NULL when unknown */
	const struct credential *credential; /* likewise */
	char why[512];			     /* for the log when refused: why, and what to do */
};

/* By fingerprint of the certificate, else of its public key; its name must be the principal's id.
 */
void identify_certificate(struct identity *out, const struct snapshot *s,
			  const struct certificate *cert);

/* By user name and token. Compares in constant time. */
void identify_token(struct identity *out, const struct snapshot *s, const char *id,
		    const char *token);

/* The state alone: for a live connection or session that was accepted before. `fingerprint` may be
 * NULL when only the principal counts. */
void identify_again(struct identity *out, const struct snapshot *s, const char *id,
		    enum credential_kind kind, const uint8_t *fingerprint);

/*
 * For those who look a credential up themselves (psk.h, coap-server/auth): out is filled as if by
 * them. identify_proven: the peer has proven to hold this credential; is it let in?
 * identify_refuse: it has not; principal: who it says it is, if that is known, else NULL.
 */
void identify_proven(struct identity *out, const struct snapshot *s, const struct credential *c);
void identify_refuse(struct identity *out, const struct principal *principal, enum refusal refusal,
		     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* What a person reads in presence_event.reason when a connection or session is ended for this. */
const char *refusal_reason(enum refusal refusal);

#endif
