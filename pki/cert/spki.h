/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Public keys as bytes: the DER SubjectPublicKeyInfo is what is compared, pinned and registered,
 * and tells whether a key is one of ours: P-256, named curve, uncompressed (RFC 5480 section 2).
 * Any thread.
 */
#ifndef FG_PKI_CERT_SPKI_H
#define FG_PKI_CERT_SPKI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

struct spki {
	unsigned char *der; /* spki_free */
	size_t len;
};

/* 0 or -ENOMEM. A key of a token is asked for its public half only. */
int spki_of_key(struct spki *out, const EVP_PKEY *key);
int spki_of_pubkey(struct spki *out, const X509_PUBKEY *key);
void spki_free(struct spki *s);

bool spki_is_p256(const struct spki *s);
bool spki_equal(const struct spki *a, const struct spki *b);

/* What a complaint about another key ends with. */
#define SPKI_WANTED "a P-256 key (prime256v1, named curve, uncompressed point) is needed"

#endif
