/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of jwt.c's work: a key (jwt_key.c), the claims (jwt_claims.c). */
#ifndef FG_AUTH_JWT_INTERNAL_H
#define FG_AUTH_JWT_INTERNAL_H

#include <jansson.h>

#include "coap-server/auth/jwt.h"

#define JWT_SIGNATURE_LEN 64 /* r and s, RFC 7518 section 3.4 */

/*
 * Did the key of this credential sign the token, whose header says ES256? signature: that of
 * the token, decoded. 0; -EKEYREJECTED: no; -EINVAL: it is no key that can be used, *problem
 * (static) says why; -ENOMEM.
 */
int jwt_key_verify(const struct credential *c, const char *token,
		   const uint8_t signature[JWT_SIGNATURE_LEN], const char **problem);

/* Judge dates and audience. Refuses in who, which is an accepted identity, or leaves it. */
void jwt_claims_judge(struct identity *who, const json_t *claims, const struct jwt_rules *rules,
		      int64_t now_s);

#endif
