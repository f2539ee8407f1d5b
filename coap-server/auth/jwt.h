/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device proves itself by a JSON Web Token (RFC 7519) signed with its own P-256 key: ES256
 * (RFC 7518 section 3.4) and nothing else. The key is one that the registry has for the token's
 * `sub`; what the token says of keys (kid, jku, jwk, x5u, x5c) is not read. Pure function of the
 * snapshot: any thread.
 */
#ifndef FG_AUTH_JWT_H
#define FG_AUTH_JWT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/registry/identify.h"

#define JWT_MAX 1024 /* bytes */

struct jwt_rules {
	int64_t leeway_s;	/* for exp, nbf and iat */
	int64_t max_lifetime_s; /* longest exp - iat; 0: any */
	bool accept_clockless;	/* neither exp nor iat: a modem without network time (see README) */
	const char *audience;	/* NULL: `aud`, if present, is refused only when it is malformed */
};

/*
 * who: as identify_* fill it; who->refusal REFUSAL_NONE means accepted, then who->credential is the
 * key that signed. Otherwise who->why is the precise reason, for the log and never for the peer.
 * now_s: seconds since 1970.
 */
void jwt_authenticate(struct identity *who, const struct snapshot *s, const struct jwt_rules *rules,
		      const void *token, size_t len, int64_t now_s);

#endif
