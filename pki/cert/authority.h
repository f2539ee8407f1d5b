/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A certificate authority, as a directory: cert.pem, and its key in key.pem or, when it is in a
 * token, its URI in key.uri.
 */
#ifndef FG_PKI_CERT_AUTHORITY_H
#define FG_PKI_CERT_AUTHORITY_H

#include <openssl/evp.h>
#include <openssl/x509.h>

struct authority {
	const char *dir;
	X509 *cert;
	EVP_PKEY *key;
};

/*
 * Open it to sign with: the key is there and is that of the certificate, which is a CA's, P-256,
 * and valid now. 0, or EXIT_FAILED after a complaint. authority_close in any case; dir must live as
 * long.
 */
int authority_open(struct authority *a, const char *dir);
void authority_close(struct authority *a);

/* The first certificate of a PEM or DER file, for X509_free; NULL after a complaint. */
X509 *certificate_load(const char *path);

/* All of them in their order, at least one; NULL after a complaint. For sk_X509_pop_free. */
STACK_OF(X509) * certificates_load(const char *path);

#endif
