/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys in a token (a smart card, an HSM), named by a pkcs11: URI (RFC 7512). Of its query
 * module-path, pin-value and pin-source are understood; without module-path it is the module that
 * PKCS11_MODULE_PATH names, or p11-kit's.
 */
#ifndef FG_PKI_CERT_TOKEN_H
#define FG_PKI_CERT_TOKEN_H

#include <openssl/evp.h>

/*
 * The private key: signing with it asks the token. path is the file that the URI was in, for
 * complaints. For EVP_PKEY_free; NULL after a complaint.
 */
EVP_PKEY *token_key(const char *path, const char *uri);

#endif
