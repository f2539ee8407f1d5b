/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON Web Tokens as a modem makes them (AT%JWT): ES256 (RFC 7518 section 3.4), with sub, iat and
 * exp. A key may be shared by any number of devices of the loop's thread.
 */
#ifndef FG_DEVICE_JWT_H
#define FG_DEVICE_JWT_H

#include <stddef.h>
#include <stdint.h>

#define JWT_LIFETIME_S 600

struct jwt_key;

/* NULL, and one line that names the file and what is wrong in `error`. A P-256 key, PEM. */
struct jwt_key *jwt_key_read(const char *file, char *error, size_t size);
void jwt_key_free(struct jwt_key *k);
/* Its length, -EMSGSIZE or -EIO. `subject` needs no escaping in JSON. */
int jwt_make(struct jwt_key *k, const char *subject, int64_t now_s, char *out, size_t size);

#endif
