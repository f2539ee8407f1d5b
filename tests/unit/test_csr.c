/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests in each form that people and modems have them in, and what is none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "pki/cert/attestation.h"
#include "pki/cert/csr.h"
#include "pki/cert/spki.h"

#define ROOM 16384

struct text {
	char data[ROOM];
	size_t len;
};

static EVP_PKEY *key;
static struct text der; /* a good request for key */
static char err[256];

/* --- Making requests --- */

static X509_REQ *new_request(EVP_PKEY *k, const EVP_MD *md)
{
	X509_REQ *r = X509_REQ_new();

	assert_non_null(r);
	assert_true(X509_REQ_set_version(r, 0));
	assert_true(X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(r), "CN", MBSTRING_ASC,
					       (const unsigned char *)"somebody", -1, -1, 0));
	assert_true(X509_REQ_set_pubkey(r, k));
	assert_true(X509_REQ_sign(r, k, md) > 0);
	return r;
}

static void put_der(struct text *out, X509_REQ *r)
{
	unsigned char *p = (unsigned char *)out->data;
	int len = i2d_X509_REQ(r, NULL);

	assert_in_range(len, 1, ROOM - 1);
	assert_int_equal(i2d_X509_REQ(r, &p), len);
	out->len = (size_t)len;
	X509_REQ_free(r);
}

static void put(struct text *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *out, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out->data + out->len, ROOM - out->len, fmt, ap);
	va_end(ap);
	assert_in_range(n, 0, ROOM - out->len - 1);
	out->len += (size_t)n;
}

static void put_base64url(struct text *out, const void *data, size_t len)
{
	char text[ROOM];
	int n = EVP_EncodeBlock((unsigned char *)text, data, (int)len);

	while (n > 0 && text[n - 1] == '=')
		n--;
	for (int i = 0; i < n; i++) {
		char c = text[i];

		put(out, "%c", c == '+' ? '-' : c == '/' ? '_' : c);
	}
}

/* As an nRF91 modem makes it; the signature is not looked at. */
static void put_cose(struct text *out, const struct text *of)
{
	static const unsigned char head[] = {0xd2, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa1, 0x04, 0x41,
					     0x21, 0x58, 0x4b, 0xd9, 0xd9, 0xf7, 0x85, 0x09, 0x50},
				   tag[] = {0x41, 0x11, 0x58, 0x20}, nonce[] = {0x50},
				   signature[] = {0x58, 0x40};
	unsigned char *p = (unsigned char *)out->data;

	p = mempcpy(p, head, sizeof(head));
	memset(p, 0x75, ATTESTATION_UUID_LEN);
	p = mempcpy(p + ATTESTATION_UUID_LEN, tag, sizeof(tag));
	assert_true(EVP_Digest(of->data, of->len, p, NULL, EVP_sha256(), NULL));
	p = mempcpy(p + ATTESTATION_DIGEST_LEN, nonce, sizeof(nonce));
	memset(p, 0x6e, 16);
	p = mempcpy(p + 16, signature, sizeof(signature));
	memset(p, 0x73, 64);
	out->len = (size_t)(p + 64 - (unsigned char *)out->data);
}

static void put_answer(struct text *out, const struct text *request, const struct text *cose)
{
	put_base64url(out, request->data, request->len);
	put(out, ".");
	put_base64url(out, cose->data, cose->len);
}

static void put_pem(struct text *out, const char *name, const struct text *request)
{
	BIO *mem = BIO_new(BIO_s_mem());
	char *data;
	long len;

	assert_true(PEM_write_bio(mem, name, "", (const unsigned char *)request->data,
				  (long)request->len));
	len = BIO_get_mem_data(mem, &data);
	put(out, "%.*s", (int)len, data);
	BIO_free(mem);
}

static int setup(void **state)
{
	(void)state;
	key = EVP_EC_gen("P-256");
	assert_non_null(key);
	put_der(&der, new_request(key, EVP_sha256()));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	EVP_PKEY_free(key);
	return 0;
}

/* --- Reading them --- */

static void assert_good(const struct text *t)
{
	EVP_PKEY *got = NULL;

	if (csr_read(&got, t->data, t->len, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	assert_int_equal(EVP_PKEY_eq(got, key), 1);
	assert_int_equal(ERR_peek_error(), 0);
	EVP_PKEY_free(got);
}

static void assert_refused(const struct text *t, int code, const char *words)
{
	EVP_PKEY *got = NULL;

	assert_int_equal(csr_read(&got, t->data, t->len, err, sizeof(err)), code);
	assert_null(got);
	if (!strstr(err, words))
		fail_msg("'%s' is not in: %s", words, err);
	assert_int_equal(ERR_peek_error(), 0);
}

static void test_der_and_pem(void **state)
{
	static struct text pem, old, crlf;

	(void)state;
	assert_good(&der);
	put_pem(&pem, "CERTIFICATE REQUEST", &der);
	assert_good(&pem);
	put(&old, "Some words before\n");
	put_pem(&old, "NEW CERTIFICATE REQUEST", &der);
	assert_good(&old);
	for (size_t i = 0; i < pem.len; i++)
		put(&crlf, pem.data[i] == '\n' ? "\r\n" : "%c", pem.data[i]);
	assert_good(&crlf);
}

static void test_answer_of_a_modem_in_every_dress(void **state)
{
	static struct text cose, plain, printed, session, padded;

	(void)state;
	put_cose(&cose, &der);
	put_answer(&plain, &der, &cose);
	assert_good(&plain);
	put(&printed, "%%KEYGEN: \"%s\"\r\n", plain.data);
	assert_good(&printed);
	put(&session, "AT%%KEYGEN=16842753,2,0\r\n%%KEYGEN: \"%s\"\r\n\r\nOK\r\n", plain.data);
	assert_good(&session);
	put(&padded, "  %s\n", plain.data);
	assert_good(&padded);
}

/* As in modem firmware 1.3: the algorithm of the signature has a NULL for a parameter. */
static void test_null_behind_the_algorithm(void **state)
{
	static struct text t;
	X509_REQ *r = new_request(key, EVP_sha256());
	X509_ALGOR *algorithm;

	(void)state;
	X509_REQ_get0_signature(r, NULL, (const X509_ALGOR **)&algorithm);
	assert_true(
		X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_ecdsa_with_SHA256), V_ASN1_NULL, NULL));
	put_der(&t, r);
	assert_int_equal(t.len - der.len <= 4, 1);
	assert_good(&t);
}

static void test_attestation_without_payload(void **state)
{
	static struct text cose, t;
	const unsigned char head[] = {0xd2, 0x84, 0x40, 0xa0, 0xf6, 0x58, 0x40};

	(void)state;
	memcpy(cose.data, head, sizeof(head));
	cose.len = sizeof(head) + 64;
	put_answer(&t, &der, &cose);
	assert_good(&t);
}

static void test_every_truncation_is_refused(void **state)
{
	static struct text cose, answer, pem, t;

	(void)state;
	put_cose(&cose, &der);
	put_answer(&answer, &der, &cose);
	put_pem(&pem, "CERTIFICATE REQUEST", &der);
	/* Of PEM the last line may miss its end. */
	pem.len -= 8;
	for (int i = 0; i < 3; i++) {
		const struct text *whole = i == 0 ? &der : i == 1 ? &answer : &pem;

		for (size_t len = 0; len < whole->len; len++) {
			t = *whole;
			t.len = len;
			assert_refused(&t, -EBADMSG, "");
			assert_true(strlen(err) > 0);
		}
	}
}

static void test_every_flipped_bit_is_noticed(void **state)
{
	static struct text t;

	(void)state;
	for (size_t bit = 0; bit < der.len * 8; bit++) {
		EVP_PKEY *got = NULL;

		t = der;
		t.data[bit / 8] = (char)(t.data[bit / 8] ^ 1 << bit % 8);
		assert_int_not_equal(csr_read(&got, t.data, t.len, err, sizeof(err)), 0);
		assert_null(got);
	}
}

static void test_what_is_missing_or_behind_is_said(void **state)
{
	static struct text cose, other, half, two, t;

	(void)state;
	put_base64url(&half, der.data, der.len);
	assert_refused(&half, -EBADMSG, "second half");
	put(&half, ".");
	assert_refused(&half, -EBADMSG, "behind the dot");

	put_der(&other, new_request(key, EVP_sha256()));
	put_cose(&cose, &other);
	put_answer(&two, &der, &cose);
	assert_refused(&two, -EINVAL, "halves of two answers");

	t = der;
	t.data[t.len++] = 0;
	assert_refused(&t, -EBADMSG, "bytes behind");
	put_cose(&cose, &der);
	cose.data[cose.len++] = 0;
	t.len = 0;
	put_answer(&t, &der, &cose);
	assert_refused(&t, -EBADMSG, "bytes behind its end");
}

static void test_attestations_that_are_none(void **state)
{
	static struct text cose, t;
	static const struct {
		size_t at;
		unsigned char byte;
		const char *words;
	} changes[] = {
		{0, 0xd1, "COSE_Sign1"},       {1, 0x83, "COSE_Sign1"},
		{3, 0xa2, "headers"},	       {6, 0x81, "headers"},
		{10, 0x78, "no payload"},      {15, 0x84, "modem's message"},
		{16, 0x08, "modem's message"}, {17, 0x4f, "modem's message"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		put_cose(&cose, &der);
		cose.data[changes[i].at] = (char)changes[i].byte;
		t.len = 0;
		put_answer(&t, &der, &cose);
		assert_refused(&t, -EBADMSG, changes[i].words);
	}
}

static void refuse_key(EVP_PKEY *other)
{
	static struct text t;

	put_der(&t, new_request(other, EVP_sha256()));
	assert_refused(&t, -EINVAL, "P-256");
	EVP_PKEY_free(other);
}

static void test_keys_of_other_kinds(void **state)
{
	EVP_PKEY *compressed = EVP_EC_gen("P-256");

	(void)state;
	refuse_key(EVP_EC_gen("P-384"));
	refuse_key(EVP_EC_gen("secp256k1"));
	refuse_key(EVP_RSA_gen(2048));
	assert_true(EVP_PKEY_set_utf8_string_param(compressed, "point-format", "compressed"));
	refuse_key(compressed);
}

static void test_bad_signatures(void **state)
{
	static struct text t;
	EVP_PKEY *other = EVP_EC_gen("P-256");
	X509_REQ *r = new_request(other, EVP_sha256());

	(void)state;
	/* Somebody else's key, without having it. */
	assert_true(X509_REQ_set_pubkey(r, key));
	put_der(&t, r);
	assert_refused(&t, -EINVAL, "own signature is bad");
	put_der(&t, new_request(key, EVP_sha1()));
	assert_refused(&t, -EINVAL, "signed with");
	put_der(&t, new_request(key, EVP_sha384()));
	assert_good(&t);
	EVP_PKEY_free(other);
}

static void test_other_files_are_named(void **state)
{
	static struct text private, certificate, empty, words, large;
	BIO *mem = BIO_new(BIO_s_mem());
	char *data;
	long len;

	(void)state;
	assert_true(PEM_write_bio_PKCS8PrivateKey(mem, key, NULL, NULL, 0, NULL, NULL));
	len = BIO_get_mem_data(mem, &data);
	put(&private, "%.*s", (int)len, data);
	BIO_free(mem);
	assert_refused(&private, -EBADMSG, "private key");
	put_pem(&certificate, "CERTIFICATE", &der);
	assert_refused(&certificate, -EBADMSG, "holds a CERTIFICATE");
	put(&empty, " \r\n");
	assert_refused(&empty, -EBADMSG, "empty");
	put(&words, "ERROR\r\n");
	assert_refused(&words, -EBADMSG, "neither");
	memset(large.data, 'A', ROOM);
	large.len = ROOM + 1;
	assert_refused(&large, -EBADMSG, "16384");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_der_and_pem),
		cmocka_unit_test(test_answer_of_a_modem_in_every_dress),
		cmocka_unit_test(test_null_behind_the_algorithm),
		cmocka_unit_test(test_attestation_without_payload),
		cmocka_unit_test(test_every_truncation_is_refused),
		cmocka_unit_test(test_every_flipped_bit_is_noticed),
		cmocka_unit_test(test_what_is_missing_or_behind_is_said),
		cmocka_unit_test(test_attestations_that_are_none),
		cmocka_unit_test(test_keys_of_other_kinds),
		cmocka_unit_test(test_bad_signatures),
		cmocka_unit_test(test_other_files_are_named),
	};

	return cmocka_run_group_tests_name("csr", tests, setup, teardown);
}
