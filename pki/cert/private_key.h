/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private keys: PKCS #8 in PEM files, plain or with a passphrase, or keys in a token, of which a
 * file holds the pkcs11: URI (RFC 7512).
 */
#ifndef FG_PKI_CERT_PRIVATE_KEY_H
#define FG_PKI_CERT_PRIVATE_KEY_H

#include <stdbool.h>

#include <openssl/evp.h>

/* For EVP_PKEY_free; NULL after a complaint. */
EVP_PKEY *private_key_read(const char *path);

/* A new P-256 key in a new file, mode 0600, encrypted when `encrypt`. As private_key_read. */
EVP_PKEY *private_key_new(const char *path, bool encrypt);

#endif
