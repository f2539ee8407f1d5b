/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for tests: good ones, and bad in as many ways as a profile has fields. Everything
 * here asserts. */
#ifndef FG_TESTS_X509_FIXTURE_H
#define FG_TESTS_X509_FIXTURE_H

#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "core/registry/certificate_fault.h"

#define DAY	 86400
#define X509_NOW INT64_C(1790000000) /* 2026-09-21T14:13:20Z */

struct x509_ca {
	X509 *x;
	EVP_PKEY *key;
};

struct x509_profile {
	const char *cn;
	const struct x509_ca *by; /* NULL: itself */
	const char *constraints;  /* "CA:TRUE,pathlen:0"; NULL: CA:FALSE */
	const char *eku;	  /* NULL: none */
	const char *usage;	  /* NULL: as its constraints ask for */
	EVP_PKEY *key;		  /* NULL: x509_leaf_key */
	const EVP_MD *md;	  /* NULL: SHA-256 */
	int64_t from, until;	  /* relative to X509_NOW; 0: a year before and after */
	const char *serial;	  /* hexadecimal; NULL: one that was not used before */
};

/* A P-256 key, the same for all that have none of their own. Not the caller's to free. */
EVP_PKEY *x509_leaf_key(void);

X509 *x509_make(const struct x509_profile *p);
/* With a key of its own. */
struct x509_ca x509_make_ca(const struct x509_profile *p);
void x509_free_ca(struct x509_ca *ca);

/* OPENSSL_free it. */
struct certificate_der x509_der(X509 *x);

#endif
