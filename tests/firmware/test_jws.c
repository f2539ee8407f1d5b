/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JWTs and public keys as the Zephyr port writes them (device-fw/ports/zephyr/src: jws.c,
 * encode.c), read and verified by OpenSSL.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "device-fw/ports/zephyr/src/encode.h"
#include "device-fw/ports/zephyr/src/jws.h"

#define DEVICE "nrf-352656100000000"

static size_t encode(enum encode_alphabet alphabet, const char *bytes, size_t length, char *out)
{
	int n = encode_base64(out, 64, alphabet, bytes, length);

	assert_true(n >= 0);
	out[n] = '\0';
	return (size_t)n;
}

/* RFC 4648 section 10 */
static void test_base64_is_that_of_the_rfc(void **state)
{
	static const char *const vectors[] = {"",	  "Zg==",     "Zm8=",	 "Zm9v",
					      "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
	char out[65];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
		size_t padding = strcspn(vectors[i], "=");

		encode(ENCODE_BASE64, "foobar", i, out);
		assert_string_equal(out, vectors[i]);
		assert_int_equal(encode(ENCODE_BASE64URL, "foobar", i, out), padding);
		assert_memory_equal(out, vectors[i], padding);
	}
	encode(ENCODE_BASE64, "\xfb\xff\xfe", 3, out);
	assert_string_equal(out, "+//+");
	encode(ENCODE_BASE64URL, "\xfb\xff\xfe", 3, out);
	assert_string_equal(out, "-__-");
}

static void test_what_does_not_fit_is_refused(void **state)
{
	char out[512];
	int whole = jws_begin(out, sizeof(out), DEVICE, 1700000000, 600);
	static const uint8_t signature[JWS_SIGNATURE_LENGTH];

	(void)state;
	assert_true(whole > 0);
	for (size_t size = 0; size < (size_t)whole; size++)
		assert_int_equal(jws_begin(out, size, DEVICE, 1700000000, 600), -EMSGSIZE);
	assert_int_equal(jws_begin(out, (size_t)whole, DEVICE, 1700000000, 600), whole);
	for (size_t size = (size_t)whole; size < (size_t)whole + 87; size++)
		assert_int_equal(jws_end(out, size, (size_t)whole, signature), -EMSGSIZE);
	assert_int_equal(jws_end(out, (size_t)whole + 87, (size_t)whole, signature), whole + 87);
	memset(out, 'x', 200);
	out[200] = '\0';
	assert_int_equal(jws_begin(out + 256, 256, out, 1700000000, 600), -EMSGSIZE);
}

/* ---- what OpenSSL makes of it */

static EVP_PKEY *public_from_pem(EVP_PKEY *key)
{
	uint8_t point[ENCODE_POINT_LENGTH];
	char pem[ENCODE_PEM_SIZE];
	size_t length;
	BIO *bio;
	EVP_PKEY *result;

	assert_int_equal(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point,
							 sizeof(point), &length),
			 1);
	assert_int_equal(length, sizeof(point));
	encode_public_key(pem, point);
	assert_int_equal(strlen(pem) + 1, ENCODE_PEM_SIZE);
	bio = BIO_new_mem_buf(pem, -1);
	result = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
	BIO_free(bio);
	assert_non_null(result);
	return result;
}

/* r || s, as psa_sign_message gives it. */
static void sign(EVP_PKEY *key, const char *text, size_t length, uint8_t out[JWS_SIGNATURE_LENGTH])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t der[128];
	const uint8_t *at = der;
	size_t n = sizeof(der);
	ECDSA_SIG *signature;

	assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), 1);
	assert_int_equal(EVP_DigestSign(context, der, &n, (const uint8_t *)text, length), 1);
	signature = d2i_ECDSA_SIG(NULL, &at, (long)n);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(signature), out, 32), 32);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(signature), out + 32, 32), 32);
	ECDSA_SIG_free(signature);
	EVP_MD_CTX_free(context);
}

/* One part of a token, padded as OpenSSL's decoder wants it. */
static size_t decode(const char *part, size_t length, uint8_t *out)
{
	char padded[256];
	int n;

	for (size_t i = 0; i < length; i++)
		padded[i] = part[i] == '-' ? '+' : part[i] == '_' ? '/' : part[i];
	memset(padded + length, '=', 4);
	n = EVP_DecodeBlock(out, (uint8_t *)padded, (int)((length + 3) / 4 * 4));
	assert_true(n >= 0);
	return (size_t)n - (4 - length % 4) % 4;
}

static bool verifies(EVP_PKEY *key, const char *text, size_t length, const uint8_t *signature)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	ECDSA_SIG *both = ECDSA_SIG_new();
	uint8_t *der = NULL;
	int n, rc;

	ECDSA_SIG_set0(both, BN_bin2bn(signature, 32, NULL), BN_bin2bn(signature + 32, 32, NULL));
	n = i2d_ECDSA_SIG(both, &der);
	assert_int_equal(EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key), 1);
	rc = EVP_DigestVerify(context, der, (size_t)n, (const uint8_t *)text, length);
	OPENSSL_free(der);
	ECDSA_SIG_free(both);
	EVP_MD_CTX_free(context);
	return rc == 1;
}

static void test_a_token_is_verified_with_the_key_that_is_printed(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256"), *public = public_from_pem(key);
	uint8_t signature[JWS_SIGNATURE_LENGTH], bytes[256];
	char token[512], *dot;
	int at = jws_begin(token, sizeof(token), DEVICE, 1700000000, 600), length;
	size_t n;

	(void)state;
	assert_true(at > 0);
	sign(key, token, (size_t)at, signature);
	length = jws_end(token, sizeof(token), (size_t)at, signature);
	assert_int_equal(length, at + 1 + 86);
	token[length] = 0;
	assert_null(strpbrk(token, "+/="));

	dot = memchr(token, '.', (size_t)at);
	n = decode(token, (size_t)(dot - token), bytes);
	assert_int_equal(n, 27);
	assert_memory_equal(bytes, "{\"alg\":\"ES256\",\"typ\":\"JWT\"}", n);
	n = decode(dot + 1, (size_t)(token + at - dot - 1), bytes);
	bytes[n] = '\0';
	assert_string_equal((char *)bytes,
			    "{\"sub\":\"" DEVICE "\",\"iat\":1700000000,\"exp\":1700000600}");
	assert_int_equal(decode(token + at + 1, 86, bytes), 64);
	assert_true(verifies(public, token, (size_t)at, bytes));
	assert_false(verifies(public, token, (size_t)at - 1, bytes));
	EVP_PKEY_free(key);
	EVP_PKEY_free(public);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64_is_that_of_the_rfc),
		cmocka_unit_test(test_what_does_not_fit_is_refused),
		cmocka_unit_test(test_a_token_is_verified_with_the_key_that_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
