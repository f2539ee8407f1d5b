/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates made here by OpenSSL, some as no honest CA would make them, and what is read of
 * them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "core/registry/certificate.h"

static EVP_PKEY *key;
static struct certificate cert;
static char err[256];

static int make_key(void **state)
{
	(void)state;
	key = EVP_EC_gen("P-256");
	return key ? 0 : -1;
}

static int drop_key(void **state)
{
	(void)state;
	EVP_PKEY_free(key);
	return 0;
}

static X509 *new_certificate(void)
{
	X509 *x = X509_new();

	assert_non_null(x);
	assert_true(X509_set_version(x, 2));
	assert_true(ASN1_INTEGER_set(X509_get_serialNumber(x), 1));
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), 0));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 3600));
	assert_true(X509_set_pubkey(x, key));
	return x;
}

static void add_cn(X509 *x, int type, const char *cn, int len)
{
	assert_true(X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, type,
					       (const unsigned char *)cn, len, -1, 0));
}

static GENERAL_NAME *uri_name(const char *uri, int len)
{
	GENERAL_NAME *n = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	assert_true(ASN1_STRING_set(s, uri, len));
	GENERAL_NAME_set0_value(n, GEN_URI, s);
	return n;
}

/* One subject alternative name extension with these URIs, up to a NULL. */
static void add_uris(X509 *x, ...)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	const char *uri;
	va_list ap;

	va_start(ap, x);
	while ((uri = va_arg(ap, const char *)))
		sk_GENERAL_NAME_push(names, uri_name(uri, (int)strlen(uri)));
	va_end(ap);
	assert_true(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND));
	GENERAL_NAMES_free(names);
}

/* Sign, encode, free, and read with `behind` more bytes behind it. */
static int sign_and_read(X509 *x, size_t behind)
{
	unsigned char *der = NULL, *copy;
	int len, rc;

	assert_true(X509_sign(x, key, EVP_sha256()));
	len = i2d_X509(x, &der);
	assert_true(len > 0);
	X509_free(x);
	copy = calloc(1, (size_t)len + behind);
	assert_non_null(copy);
	memcpy(copy, der, (size_t)len);
	OPENSSL_free(der);
	err[0] = '\0';
	rc = certificate_read(&cert, copy, (size_t)len + behind, err, sizeof(err));
	free(copy);
	return rc;
}

static void test_common_name_is_the_name(void **state)
{
	X509 *x = new_certificate();

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	assert_int_equal(sign_and_read(x, 0), 0);
	assert_string_equal(cert.name, "dev-1");
}

static void test_fingerprints_are_those_of_openssl(void **state)
{
	unsigned char expected[EVP_MAX_MD_SIZE], *der = NULL;
	unsigned len;
	X509 *x = new_certificate();
	int der_len;

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	assert_true(X509_sign(x, key, EVP_sha256()));
	der_len = i2d_X509(x, &der);
	assert_int_equal(certificate_read(&cert, der, (size_t)der_len, err, sizeof(err)), 0);
	assert_true(X509_digest(x, EVP_sha256(), expected, &len));
	assert_memory_equal(cert.fingerprint, expected, FINGERPRINT_LEN);
	OPENSSL_free(der);
	der = NULL;
	der_len = i2d_PUBKEY(key, &der);
	assert_true(EVP_Digest(der, (size_t)der_len, expected, &len, EVP_sha256(), NULL));
	assert_memory_equal(cert.key_fingerprint, expected, FINGERPRINT_LEN);
	OPENSSL_free(der);
	X509_free(x);
}

static void test_uri_is_the_name(void **state)
{
	X509 *x = new_certificate();

	(void)state;
	add_uris(x, "https://example.com/", "urn:fieldgate:device:dev-1", NULL);
	assert_int_equal(sign_and_read(x, 0), 0);
	assert_string_equal(cert.name, "dev-1");
}

static void test_common_name_and_uri_must_agree(void **state)
{
	X509 *x = new_certificate();

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	add_uris(x, "urn:fieldgate:device:dev-1", NULL);
	assert_int_equal(sign_and_read(x, 0), 0);
	assert_string_equal(cert.name, "dev-1");

	x = new_certificate();
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	add_uris(x, "urn:fieldgate:device:dev-12", NULL);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
	assert_non_null(strstr(err, "common name is dev-1"));
	assert_non_null(strstr(err, "dev-12"));
}

static void test_certificate_without_a_name_is_refused(void **state)
{
	X509 *x = new_certificate();

	(void)state;
	add_uris(x, "urn:fieldgate:service:dev-1", "urn:fieldgate:devic", NULL);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
	assert_non_null(strstr(err, "neither"));
	assert_int_equal(sign_and_read(new_certificate(), 0), -EINVAL);
}

static void test_several_names_are_refused(void **state)
{
	X509 *x = new_certificate();

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
	assert_non_null(strstr(err, "several common names"));

	x = new_certificate();
	add_uris(x, "urn:fieldgate:device:dev-1", "urn:fieldgate:device:dev-2", NULL);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
	assert_non_null(strstr(err, "several names"));

	/* RFC 5280 section 4.2: an extension must not be there twice. */
	x = new_certificate();
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	add_uris(x, "urn:fieldgate:device:dev-1", NULL);
	add_uris(x, "urn:fieldgate:device:dev-2", NULL);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
}

static void test_nul_does_not_end_a_name(void **state)
{
	static const char uri[] = "urn:fieldgate:device:dev-1\0.example.com";
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	X509 *x = new_certificate();

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1\0.example.com", 18);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
	assert_non_null(strstr(err, "common name is not a device id"));

	x = new_certificate();
	sk_GENERAL_NAME_push(names, uri_name(uri, sizeof(uri) - 1));
	assert_true(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND));
	GENERAL_NAMES_free(names);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
	assert_non_null(strstr(err, "is not a device id"));
}

static void test_a_name_that_is_no_id_is_refused(void **state)
{
	static const char *const names[] = {"a b",    "a/b",	    "a+",    "#",
					    "dev\n1", "d\xc3\xa9v", " dev-1"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		X509 *x = new_certificate();

		add_cn(x, MBSTRING_UTF8, names[i], -1);
		if (sign_and_read(x, 0) != -EINVAL)
			fail_msg("name '%s' was taken", names[i]);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		X509 *x = new_certificate();
		char uri[64] = DEVICE_URN_PREFIX;

		add_uris(x, strcat(uri, names[i]), NULL);
		if (sign_and_read(x, 0) != -EINVAL)
			fail_msg("uri '%s' was taken", uri);
	}
}

static void test_name_of_64_bytes_is_the_longest(void **state)
{
	char uri[] = DEVICE_URN_PREFIX
		"0123456789012345678901234567890123456789012345678901234567890123";
	char long_uri[sizeof(uri) + 1];
	X509 *x = new_certificate();

	(void)state;
	add_uris(x, uri, NULL);
	assert_int_equal(sign_and_read(x, 0), 0);
	assert_int_equal(strlen(cert.name), PRINCIPAL_ID_MAX);
	strcpy(long_uri, uri);
	strcat(long_uri, "4");
	x = new_certificate();
	add_uris(x, long_uri, NULL);
	assert_int_equal(sign_and_read(x, 0), -EINVAL);
}

/* The CA decides how a name is encoded; two-byte characters are read as the characters they are. */
static void test_bmp_string_is_decoded(void **state)
{
	X509 *x = new_certificate();

	(void)state;
	add_cn(x, V_ASN1_BMPSTRING, "\0d\0e\0v", 6);
	assert_int_equal(sign_and_read(x, 0), 0);
	assert_string_equal(cert.name, "dev");
}

static void test_bytes_behind_the_certificate_are_refused(void **state)
{
	X509 *x = new_certificate();

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	assert_int_equal(sign_and_read(x, 1), -EBADMSG);
}

static void test_every_cut_is_refused_and_leaves_no_error_behind(void **state)
{
	X509 *x = new_certificate();
	unsigned char *der = NULL;
	int len;

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	assert_true(X509_sign(x, key, EVP_sha256()));
	len = i2d_X509(x, &der);
	for (int n = 0; n < len; n++) {
		unsigned char *cut = malloc(n ? (size_t)n : 1);

		assert_non_null(cut);
		memcpy(cut, der, (size_t)n);
		assert_int_equal(certificate_read(&cert, cut, (size_t)n, err, sizeof(err)),
				 -EBADMSG);
		free(cut);
	}
	/* SSL_get_error would read it as the failure of a connection. */
	assert_int_equal(ERR_peek_error(), 0);
	OPENSSL_free(der);
	X509_free(x);
}

static void test_no_flipped_byte_is_dangerous(void **state)
{
	X509 *x = new_certificate();
	unsigned char *der = NULL;
	int len;

	(void)state;
	add_cn(x, MBSTRING_ASC, "dev-1", -1);
	add_uris(x, "urn:fieldgate:device:dev-1", NULL);
	assert_true(X509_sign(x, key, EVP_sha256()));
	len = i2d_X509(x, &der);
	for (int n = 0; n < len; n++) {
		for (int bit = 0; bit < 8; bit++) {
			der[n] ^= (unsigned char)(1 << bit);
			if (certificate_read(&cert, der, (size_t)len, err, sizeof(err)) == 0)
				assert_true(principal_id_valid(cert.name, strlen(cert.name)));
			der[n] ^= (unsigned char)(1 << bit);
		}
	}
	OPENSSL_free(der);
	X509_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_common_name_is_the_name),
		cmocka_unit_test(test_fingerprints_are_those_of_openssl),
		cmocka_unit_test(test_uri_is_the_name),
		cmocka_unit_test(test_common_name_and_uri_must_agree),
		cmocka_unit_test(test_certificate_without_a_name_is_refused),
		cmocka_unit_test(test_several_names_are_refused),
		cmocka_unit_test(test_nul_does_not_end_a_name),
		cmocka_unit_test(test_a_name_that_is_no_id_is_refused),
		cmocka_unit_test(test_name_of_64_bytes_is_the_longest),
		cmocka_unit_test(test_bmp_string_is_decoded),
		cmocka_unit_test(test_bytes_behind_the_certificate_are_refused),
		cmocka_unit_test(test_every_cut_is_refused_and_leaves_no_error_behind),
		cmocka_unit_test(test_no_flipped_byte_is_dangerous),
	};

	return cmocka_run_group_tests(tests, make_key, drop_key);
}
