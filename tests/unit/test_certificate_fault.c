/* SPDX-License-Identifier: Apache-2.0 */
/* A small fleet's CAs, and certificates that are bad in one way each: what is said about them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "core/registry/certificate_fault.h"
#include "tests/unit/x509_fixture.h"

static struct x509_ca root, device_ca, server_ca, namesake, stranger;

static int make_fleet(void **state)
{
	(void)state;
	root = x509_make_ca(
		&(struct x509_profile){.cn = "root", .constraints = "CA:TRUE,pathlen:1"});
	device_ca = x509_make_ca(&(struct x509_profile){.cn = "device CA",
							.by = &root,
							.constraints = "CA:TRUE,pathlen:0",
							.eku = "clientAuth"});
	server_ca = x509_make_ca(&(struct x509_profile){.cn = "server CA",
							.by = &root,
							.constraints = "CA:TRUE,pathlen:0",
							.eku = "serverAuth"});
	namesake = x509_make_ca(&(struct x509_profile){
		.cn = "device CA", .constraints = "CA:TRUE,pathlen:0", .eku = "clientAuth"});
	stranger = x509_make_ca(&(struct x509_profile){.cn = "stranger", .constraints = "CA:TRUE"});
	return 0;
}

static int drop_fleet(void **state)
{
	struct x509_ca *all[] = {&root, &device_ca, &server_ca, &namesake, &stranger};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		x509_free_ca(all[i]);
	return 0;
}

/* What is wrong with x, which is freed, when root and device CA are trusted and the server CA and
 * `sent` are known. */
static size_t faults_of(struct certificate_finding out[CERTIFICATE_FAULTS_MAX], X509 *x,
			enum certificate_purpose purpose, X509 *sent)
{
	struct certificate_der trusted[] = {x509_der(root.x), x509_der(device_ca.x)};
	struct certificate_der others[] = {x509_der(server_ca.x),
					   x509_der(sent ? sent : server_ca.x)};
	struct certificate_der leaf = x509_der(x);
	const struct certificate_issuers issuers = {trusted, 2, others, 2};
	size_t n = certificate_faults(out, leaf.der, leaf.len, purpose, X509_NOW, &issuers);

	assert_int_equal(ERR_peek_error(), 0);
	for (size_t i = 0; i < 2; i++) {
		OPENSSL_free((void *)trusted[i].der);
		OPENSSL_free((void *)others[i].der);
	}
	OPENSSL_free((void *)leaf.der);
	X509_free(x);
	return n;
}

static void expect_one(X509 *x, enum certificate_purpose purpose, X509 *sent,
		       enum certificate_fault fault, const char *text)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];
	size_t n = faults_of(all, x, purpose, sent);

	if (n != 1 || all[0].fault != fault)
		fail_msg("%zu faults, the first %s: %s", n,
			 n ? certificate_fault_name(all[0].fault) : "-", n ? all[0].text : "-");
	if (!strstr(all[0].text, text))
		fail_msg("no '%s' in: %s", text, all[0].text);
}

static void expect_device(const struct x509_profile *p, enum certificate_fault fault,
			  const char *text)
{
	struct x509_profile mine = *p;

	mine.cn = mine.cn ? mine.cn : "dev-1";
	expect_one(x509_make(&mine), CERTIFICATE_DEVICE, NULL, fault, text);
}

static void test_good_ones_have_no_fault(void **state)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];

	(void)state;
	assert_int_equal(faults_of(all,
				   x509_make(&(struct x509_profile){
					   .cn = "dev-1", .by = &device_ca, .eku = "clientAuth"}),
				   CERTIFICATE_DEVICE, NULL),
			 0);
	assert_int_equal(
		faults_of(all, x509_make(&(struct x509_profile){.cn = "dev-1", .by = &device_ca}),
			  CERTIFICATE_DEVICE, NULL),
		0);
	assert_int_equal(faults_of(all,
				   x509_make(&(struct x509_profile){.cn = "broker.example.com",
								    .by = &server_ca,
								    .eku = "serverAuth"}),
				   CERTIFICATE_SERVER, NULL),
			 0);
	X509_up_ref(device_ca.x);
	assert_int_equal(faults_of(all, device_ca.x, CERTIFICATE_AUTHORITY, NULL), 0);
	X509_up_ref(root.x);
	assert_int_equal(faults_of(all, root.x, CERTIFICATE_AUTHORITY, NULL), 0);
}

static void test_dates(void **state)
{
	(void)state;
	expect_device(&(struct x509_profile){.by = &device_ca, .until = -20 * DAY},
		      CERTIFICATE_EXPIRED,
		      "it expired on 2026-09-01T14:13:20Z; issue a new one with `pki/fleet renew "
		      "dev-1`");
	expect_device(&(struct x509_profile){.by = &device_ca, .from = 10 * DAY},
		      CERTIFICATE_NOT_YET_VALID, "it is not valid before 2026-10-01T14:13:20Z");
}

static void test_last_second_is_still_good(void **state)
{
	struct certificate_finding found;
	X509 *x = x509_make(&(struct x509_profile){.cn = "dev-1", .by = &device_ca});
	struct certificate_der der = x509_der(x);

	(void)state;
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, X509_NOW + 365 * DAY, NULL);
	assert_int_equal(found.fault, CERTIFICATE_GOOD);
	assert_string_equal(found.text, "");
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, X509_NOW + 365 * DAY + 1,
			  NULL);
	assert_int_equal(found.fault, CERTIFICATE_EXPIRED);
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, X509_NOW - 365 * DAY, NULL);
	assert_int_equal(found.fault, CERTIFICATE_GOOD);
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, X509_NOW - 365 * DAY - 1,
			  NULL);
	assert_int_equal(found.fault, CERTIFICATE_NOT_YET_VALID);
	OPENSSL_free((void *)der.der);
	X509_free(x);
}

static void test_who_signed_it(void **state)
{
	struct x509_ca leaf = {x509_make(&(struct x509_profile){.cn = "dev-2", .by = &device_ca}),
			       x509_leaf_key()};

	(void)state;
	expect_device(&(struct x509_profile){.by = NULL}, CERTIFICATE_SELF_SIGNED,
		      "self-signed (CN=dev-1)");
	expect_device(&(struct x509_profile){.by = &stranger}, CERTIFICATE_UNKNOWN_ISSUER,
		      "the issuer is CN=stranger;");
	expect_device(&(struct x509_profile){.by = &namesake}, CERTIFICATE_BAD_SIGNATURE,
		      "it was not signed by the key of the trusted CN=device CA");
	expect_device(&(struct x509_profile){.by = &server_ca}, CERTIFICATE_BAD_ISSUER,
		      "signed by CN=server CA, whose extended key usage does not let it sign "
		      "devices");
	expect_one(x509_make(&(struct x509_profile){.cn = "dev-1", .by = &leaf}),
		   CERTIFICATE_DEVICE, leaf.x, CERTIFICATE_BAD_ISSUER,
		   "signed by CN=dev-2, which is not a CA");
	X509_free(leaf.x);
}

/* What a peer sends is known, and trusted no more than before. */
static void test_sent_cas_complete_a_chain_and_end_none(void **state)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];
	struct x509_ca second =
		x509_make_ca(&(struct x509_profile){.cn = "second device CA",
						    .by = &root,
						    .constraints = "CA:TRUE,pathlen:0",
						    .eku = "clientAuth"});
	struct x509_ca third = x509_make_ca(&(struct x509_profile){
		.cn = "third", .by = &second, .constraints = "CA:TRUE", .eku = "clientAuth"});

	(void)state;
	assert_int_equal(faults_of(all,
				   x509_make(&(struct x509_profile){.cn = "dev-1", .by = &second}),
				   CERTIFICATE_DEVICE, second.x),
			 0);
	expect_one(x509_make(&(struct x509_profile){.cn = "dev-1", .by = &second}),
		   CERTIFICATE_DEVICE, NULL, CERTIFICATE_UNKNOWN_ISSUER,
		   "the issuer is CN=second device CA");
	expect_one(x509_make(&(struct x509_profile){.cn = "dev-1", .by = &stranger}),
		   CERTIFICATE_DEVICE, stranger.x, CERTIFICATE_UNKNOWN_ISSUER,
		   "known up to its root");
	expect_one(x509_make(&(struct x509_profile){.cn = "dev-1", .by = &third}),
		   CERTIFICATE_DEVICE, third.x, CERTIFICATE_UNKNOWN_ISSUER,
		   "the issuer is CN=second device CA");
	x509_free_ca(&second);
	x509_free_ca(&third);
}

static void test_path_length(void **state)
{
	struct x509_ca below = x509_make_ca(&(struct x509_profile){
		.cn = "below", .by = &device_ca, .constraints = "CA:TRUE", .eku = "clientAuth"});

	(void)state;
	expect_one(x509_make(&(struct x509_profile){.cn = "dev-1", .by = &below}),
		   CERTIFICATE_DEVICE, below.x, CERTIFICATE_BAD_ISSUER,
		   "CN=device CA, above it, allows 0 CAs");
	expect_one(below.x, CERTIFICATE_AUTHORITY, NULL, CERTIFICATE_BAD_ISSUER, "allows 0 CAs");
	EVP_PKEY_free(below.key);
}

static void test_issuer_out_of_date(void **state)
{
	struct x509_ca old = x509_make_ca(&(struct x509_profile){
		.cn = "old CA", .by = &root, .constraints = "CA:TRUE,pathlen:0", .until = -DAY});

	(void)state;
	expect_one(x509_make(&(struct x509_profile){.cn = "dev-1", .by = &old}), CERTIFICATE_DEVICE,
		   old.x, CERTIFICATE_ISSUER_EXPIRED,
		   "CN=old CA, which signed it, expired on 2026-09-20");
	x509_free_ca(&old);
}

static void test_role_and_usage(void **state)
{
	(void)state;
	expect_device(&(struct x509_profile){.by = &device_ca,
					     .constraints = "CA:TRUE",
					     .usage = "digitalSignature"},
		      CERTIFICATE_IS_CA, "it is a CA certificate");
	expect_device(&(struct x509_profile){.by = &device_ca, .eku = "serverAuth"},
		      CERTIFICATE_WRONG_USAGE,
		      "its extended key usage is serverAuth, not clientAuth");
	expect_device(&(struct x509_profile){.by = &device_ca, .eku = "codeSigning"},
		      CERTIFICATE_WRONG_USAGE, "is something else, not clientAuth");
	expect_device(&(struct x509_profile){.by = &device_ca, .usage = "keyAgreement"},
		      CERTIFICATE_WRONG_USAGE, "does not allow digital signatures");
	expect_one(x509_make(&(struct x509_profile){.cn = "x", .by = &root}), CERTIFICATE_AUTHORITY,
		   NULL, CERTIFICATE_NOT_A_CA, "not a CA");
	expect_one(x509_make(&(struct x509_profile){
			   .cn = "x", .by = &root, .constraints = "CA:TRUE", .usage = "cRLSign"}),
		   CERTIFICATE_AUTHORITY, NULL, CERTIFICATE_WRONG_USAGE, "does not let it sign");
}

static void test_key_and_signature(void **state)
{
	EVP_PKEY *rsa = EVP_RSA_gen(2048), *p384 = EVP_EC_gen("P-384");

	(void)state;
	expect_device(&(struct x509_profile){.by = &device_ca, .key = rsa}, CERTIFICATE_WRONG_KEY,
		      "not P-256 but rsaEncryption with 2048 bits");
	expect_device(&(struct x509_profile){.by = &device_ca, .key = p384}, CERTIFICATE_WRONG_KEY,
		      "on another curve with 384 bits");
	expect_device(&(struct x509_profile){.by = &device_ca, .md = EVP_sha1()},
		      CERTIFICATE_WEAK_SIGNATURE, "ecdsa-with-SHA1");
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(p384);
}

static void test_most_telling_comes_first(void **state)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];
	EVP_PKEY *p384 = EVP_EC_gen("P-384");
	size_t n = faults_of(all,
			     x509_make(&(struct x509_profile){.cn = "dev-1",
							      .by = &stranger,
							      .constraints = "CA:TRUE",
							      .eku = "serverAuth",
							      .key = p384,
							      .until = -DAY}),
			     CERTIFICATE_DEVICE, NULL);

	(void)state;
	assert_int_equal(n, 5);
	assert_int_equal(all[0].fault, CERTIFICATE_UNKNOWN_ISSUER);
	assert_int_equal(all[1].fault, CERTIFICATE_IS_CA);
	assert_int_equal(all[2].fault, CERTIFICATE_WRONG_USAGE);
	assert_int_equal(all[3].fault, CERTIFICATE_WRONG_KEY);
	assert_int_equal(all[4].fault, CERTIFICATE_EXPIRED);
	EVP_PKEY_free(p384);
}

/* Whatever it is: every prefix of a certificate, and each of its bytes changed. Some of these are
 * certificates still; none may harm. */
static void test_damaged_ones(void **state)
{
	struct certificate_finding found;
	X509 *x = x509_make(
		&(struct x509_profile){.cn = "dev-1", .by = &device_ca, .eku = "clientAuth"});
	struct certificate_der good = x509_der(x), ca = x509_der(device_ca.x);
	const struct certificate_issuers issuers = {&ca, 1, &good, 1};
	unsigned char *bytes = calloc(1, good.len + 1);

	(void)state;
	for (size_t len = 0; len < good.len; len++) {
		certificate_fault(&found, good.der, len, CERTIFICATE_DEVICE, X509_NOW, &issuers);
		assert_int_equal(found.fault, CERTIFICATE_UNREADABLE);
	}
	memcpy(bytes, good.der, good.len);
	bytes[good.len] = 0;
	certificate_fault(&found, bytes, good.len + 1, CERTIFICATE_DEVICE, X509_NOW, &issuers);
	assert_int_equal(found.fault, CERTIFICATE_UNREADABLE);
	for (size_t i = 0; i < good.len; i++) {
		bytes[i] ^= 0xff;
		certificate_fault(&found, bytes, good.len, CERTIFICATE_DEVICE, X509_NOW, &issuers);
		assert_int_not_equal(found.fault, CERTIFICATE_GOOD);
		assert_true(*found.text);
		bytes[i] ^= 0xff;
	}
	free(bytes);
	OPENSSL_free((void *)good.der);
	OPENSSL_free((void *)ca.der);
	X509_free(x);
}

static void test_names_of_strangers_are_cut_and_escaped(void **state)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];
	struct x509_ca odd = x509_make_ca(&(struct x509_profile){
		.cn = "a\nb\x1b[31m" /* 62 more */
		      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		.constraints = "CA:TRUE"});

	(void)state;
	faults_of(all, x509_make(&(struct x509_profile){.cn = "x;rm -rf", .by = &odd}),
		  CERTIFICATE_DEVICE, NULL);
	for (const char *c = all[0].text; *c; c++)
		assert_true((unsigned char)*c >= ' ');
	assert_true(strlen(all[0].text) < CERTIFICATE_FAULT_TEXT_MAX - 1);
	faults_of(all, x509_make(&(struct x509_profile){.cn = "x;rm -rf", .by = NULL}),
		  CERTIFICATE_DEVICE, NULL);
	assert_non_null(strstr(all[0].text, "`pki/fleet add DEVICE`"));
	x509_free_ca(&odd);
}

static void test_every_fault_has_its_word(void **state)
{
	(void)state;
	for (int f = CERTIFICATE_GOOD; f <= CERTIFICATE_WEAK_SIGNATURE; f++)
		assert_non_null(certificate_fault_name((enum certificate_fault)f));
	assert_string_equal(certificate_fault_name(CERTIFICATE_EXPIRED), "expired");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_ones_have_no_fault),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_last_second_is_still_good),
		cmocka_unit_test(test_who_signed_it),
		cmocka_unit_test(test_sent_cas_complete_a_chain_and_end_none),
		cmocka_unit_test(test_path_length),
		cmocka_unit_test(test_issuer_out_of_date),
		cmocka_unit_test(test_role_and_usage),
		cmocka_unit_test(test_key_and_signature),
		cmocka_unit_test(test_most_telling_comes_first),
		cmocka_unit_test(test_damaged_ones),
		cmocka_unit_test(test_names_of_strangers_are_cut_and_escaped),
		cmocka_unit_test(test_every_fault_has_its_word),
	};

	return cmocka_run_group_tests(tests, make_fleet, drop_fleet);
}
