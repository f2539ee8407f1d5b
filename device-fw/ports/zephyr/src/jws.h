/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JWT (RFC 7519) in the compact form of RFC 7515, ES256, around a signature that somebody else
 * makes. Pure; known to the tests on Linux.
 */
#ifndef FIELDGATE_JWS_H
#define FIELDGATE_JWS_H

#include <stddef.h>
#include <stdint.h>

#define JWS_SIGNATURE_LENGTH 64 /* r || s (RFC 7518 section 3.4) */

/*
 * Header and claims, which is what is to be signed: {"sub": device, "iat": now, "exp": iat + life},
 * seconds since 1970. The number of characters, without a NUL; -EMSGSIZE: they do not fit. `device`
 * has only characters that JSON takes as they are (FG_DEVICE_ID_MAX of them at most).
 */
int jws_begin(char *out, size_t size, const char *device, uint32_t now_s, uint32_t life_s);
/* Appends the signature to the `at` characters of jws_begin. As jws_begin. */
int jws_end(char *out, size_t size, size_t at, const uint8_t signature[JWS_SIGNATURE_LENGTH]);

#endif
