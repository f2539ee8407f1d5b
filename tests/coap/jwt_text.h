/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Tokens as a device makes them, by OpenSSL alone: shares no code with the server. */
#ifndef FG_TEST_JWT_TEXT_H
#define FG_TEST_JWT_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#define JWT_TEXT_MAX 4096

struct jwt_text {
	char at[JWT_TEXT_MAX]; /* with a NUL behind it */
	size_t len;
};

/* A whole token, signed by ES256. */
void jwt_make(struct jwt_text *t, EVP_PKEY *key, const char *header, const char *claims);

/* Parts of one. jwt_append_encoded: as base64url; jwt_append_raw: r and s of `len` bytes each. */
void jwt_append(struct jwt_text *t, const void *bytes, size_t len);
void jwt_append_encoded(struct jwt_text *t, const void *bytes, size_t len);
void jwt_append_raw(struct jwt_text *t, const BIGNUM *r, const BIGNUM *s, int len);
ECDSA_SIG *jwt_sign(EVP_PKEY *key, const char *text, size_t len);

/* DER SubjectPublicKeyInfo, to be freed by OPENSSL_free. */
size_t jwt_public_key(EVP_PKEY *key, uint8_t **der);

#endif
