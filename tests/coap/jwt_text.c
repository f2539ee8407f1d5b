/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/coap/jwt_text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

void jwt_append(struct jwt_text *t, const void *bytes, size_t len)
{
	assert_true(t->len + len < JWT_TEXT_MAX);
	memcpy(t->at + t->len, bytes, len);
	t->len += len;
	t->at[t->len] = '\0';
}

void jwt_append_encoded(struct jwt_text *t, const void *bytes, size_t len)
{
	char *encoded = t->at + t->len;

	assert_true(t->len + 4 * len / 3 + 4 < JWT_TEXT_MAX);
	EVP_EncodeBlock((unsigned char *)encoded, bytes, (int)len);
	encoded[strcspn(encoded, "=")] = '\0';
	for (char *p = encoded; *p; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	t->len = strlen(t->at);
}

ECDSA_SIG *jwt_sign(EVP_PKEY *key, const char *text, size_t len)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	uint8_t der[256];
	const uint8_t *p = der;
	size_t der_len = sizeof(der);
	ECDSA_SIG *s;

	assert_true(EVP_DigestSignInit(c, NULL, EVP_sha256(), NULL, key));
	assert_true(EVP_DigestSign(c, der, &der_len, (const uint8_t *)text, len));
	EVP_MD_CTX_free(c);
	s = d2i_ECDSA_SIG(NULL, &p, (long)der_len);
	assert_non_null(s);
	return s;
}

void jwt_append_raw(struct jwt_text *t, const BIGNUM *r, const BIGNUM *s, int len)
{
	uint8_t raw[2 * 66];

	assert_int_equal(BN_bn2binpad(r, raw, len), len);
	assert_int_equal(BN_bn2binpad(s, raw + len, len), len);
	jwt_append_encoded(t, raw, (size_t)len * 2);
}

void jwt_make(struct jwt_text *t, EVP_PKEY *key, const char *header, const char *claims)
{
	ECDSA_SIG *s;

	t->len = 0;
	jwt_append_encoded(t, header, strlen(header));
	jwt_append(t, ".", 1);
	jwt_append_encoded(t, claims, strlen(claims));
	s = jwt_sign(key, t->at, t->len);
	jwt_append(t, ".", 1);
	jwt_append_raw(t, ECDSA_SIG_get0_r(s), ECDSA_SIG_get0_s(s), 32);
	ECDSA_SIG_free(s);
}

size_t jwt_public_key(EVP_PKEY *key, uint8_t **der)
{
	int len;

	*der = NULL;
	len = i2d_PUBKEY(key, der);
	assert_true(len > 0);
	return (size_t)len;
}
