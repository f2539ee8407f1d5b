/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/x509_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/x509v3.h>

static EVP_PKEY *leaf_key;

static void free_leaf_key(void)
{
	EVP_PKEY_free(leaf_key);
}

EVP_PKEY *x509_leaf_key(void)
{
	if (!leaf_key) {
		leaf_key = EVP_EC_gen("P-256");
		assert_non_null(leaf_key);
		atexit(free_leaf_key);
	}
	return leaf_key;
}

static void add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e;

	if (!value)
		return;
	e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	assert_non_null(e);
	assert_true(X509_add_ext(x, e, -1));
	X509_EXTENSION_free(e);
}

X509 *x509_make(const struct x509_profile *p)
{
	static unsigned long serial;
	char number[24];
	BIGNUM *bn = NULL;
	X509 *x = X509_new();
	EVP_PKEY *key = p->key ? p->key : x509_leaf_key();

	assert_non_null(x);
	assert_true(X509_set_version(x, 2));
	snprintf(number, sizeof(number), "%lX", ++serial);
	assert_true(BN_hex2bn(&bn, p->serial ? p->serial : number));
	assert_non_null(BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)));
	BN_free(bn);
	assert_non_null(
		ASN1_TIME_set(X509_getm_notBefore(x), X509_NOW + (p->from ? p->from : -365 * DAY)));
	assert_non_null(
		ASN1_TIME_set(X509_getm_notAfter(x), X509_NOW + (p->until ? p->until : 365 * DAY)));
	assert_true(X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName,
					       MBSTRING_UTF8, (const unsigned char *)p->cn, -1, -1,
					       0));
	assert_true(X509_set_issuer_name(x, X509_get_subject_name(p->by ? p->by->x : x)));
	assert_true(X509_set_pubkey(x, key));
	add_extension(x, NID_basic_constraints, p->constraints ? p->constraints : "CA:FALSE");
	add_extension(x, NID_key_usage,
		      p->usage	       ? p->usage
		      : p->constraints ? "keyCertSign,cRLSign"
				       : "digitalSignature");
	add_extension(x, NID_ext_key_usage, p->eku);
	assert_true(X509_sign(x, p->by ? p->by->key : key, p->md ? p->md : EVP_sha256()) > 0);
	return x;
}

struct x509_ca x509_make_ca(const struct x509_profile *p)
{
	struct x509_profile mine = *p;
	struct x509_ca ca;

	ca.key = mine.key = EVP_EC_gen("P-256");
	ca.x = x509_make(&mine);
	return ca;
}

void x509_free_ca(struct x509_ca *ca)
{
	X509_free(ca->x);
	EVP_PKEY_free(ca->key);
}

struct certificate_der x509_der(X509 *x)
{
	unsigned char *der = NULL;
	int len = i2d_X509(x, &der);

	assert_true(len > 0);
	return (struct certificate_der){der, (size_t)len};
}
