/* SPDX-License-Identifier: Apache-2.0 */
/* A small fleet's CAs, and certificates that are bad in one way each: what is said about them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "core/registry/certificate_fault.h"

#define DAY 86400
#define NOW INT64_C(1790000000) /* 2026-09-21T14:13:20Z */

struct identity_of_ca {
	X509 *x;
	EVP_PKEY *key;
};

struct profile {
	const char *cn;
	const struct identity_of_ca *by; /* NULL: itself */
	const char *constraints;	 /* "CA:TRUE,pathlen:0"; NULL: CA:FALSE */
	const char *eku;		 /* NULL: none */
	const char *usage;		 /* NULL: as its constraints ask for */
	EVP_PKEY *key;			 /* NULL: a P-256 key */
	const EVP_MD *md;		 /* NULL: SHA-256 */
	int64_t from, until;		 /* relative to NOW; 0: a year before and after */
};

static EVP_PKEY *leaf_key;
static struct identity_of_ca root, device_ca, server_ca, namesake, stranger;

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

static X509 *make(const struct profile *p)
{
	static long serial;
	X509 *x = X509_new();
	EVP_PKEY *key = p->key ? p->key : leaf_key;

	assert_non_null(x);
	assert_true(X509_set_version(x, 2));
	assert_true(ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial));
	assert_non_null(
		ASN1_TIME_set(X509_getm_notBefore(x), NOW + (p->from ? p->from : -365 * DAY)));
	assert_non_null(
		ASN1_TIME_set(X509_getm_notAfter(x), NOW + (p->until ? p->until : 365 * DAY)));
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

static struct identity_of_ca make_ca(const struct profile *p)
{
	struct profile mine = *p;
	struct identity_of_ca ca;

	ca.key = mine.key = EVP_EC_gen("P-256");
	ca.x = make(&mine);
	return ca;
}

static int make_fleet(void **state)
{
	(void)state;
	leaf_key = EVP_EC_gen("P-256");
	root = make_ca(&(struct profile){.cn = "root", .constraints = "CA:TRUE,pathlen:1"});
	device_ca = make_ca(&(struct profile){.cn = "device CA",
					      .by = &root,
					      .constraints = "CA:TRUE,pathlen:0",
					      .eku = "clientAuth"});
	server_ca = make_ca(&(struct profile){.cn = "server CA",
					      .by = &root,
					      .constraints = "CA:TRUE,pathlen:0",
					      .eku = "serverAuth"});
	namesake = make_ca(&(struct profile){
		.cn = "device CA", .constraints = "CA:TRUE,pathlen:0", .eku = "clientAuth"});
	stranger = make_ca(&(struct profile){.cn = "stranger", .constraints = "CA:TRUE"});
	return 0;
}

static int drop_fleet(void **state)
{
	struct identity_of_ca *all[] = {&root, &device_ca, &server_ca, &namesake, &stranger};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		X509_free(all[i]->x);
		EVP_PKEY_free(all[i]->key);
	}
	EVP_PKEY_free(leaf_key);
	return 0;
}

static struct certificate_der der_of(X509 *x)
{
	unsigned char *der = NULL;
	int len = i2d_X509(x, &der);

	assert_true(len > 0);
	return (struct certificate_der){der, (size_t)len};
}

/* What is wrong with x, which is freed, when root and device CA are trusted and the server CA and
 * `sent` are known. */
static size_t faults_of(struct certificate_finding out[CERTIFICATE_FAULTS_MAX], X509 *x,
			enum certificate_purpose purpose, X509 *sent)
{
	struct certificate_der trusted[] = {der_of(root.x), der_of(device_ca.x)};
	struct certificate_der others[] = {der_of(server_ca.x), der_of(sent ? sent : server_ca.x)};
	struct certificate_der leaf = der_of(x);
	const struct certificate_issuers issuers = {trusted, 2, others, 2};
	size_t n = certificate_faults(out, leaf.der, leaf.len, purpose, NOW, &issuers);

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

static void expect_device(const struct profile *p, enum certificate_fault fault, const char *text)
{
	struct profile mine = *p;

	mine.cn = mine.cn ? mine.cn : "dev-1";
	expect_one(make(&mine), CERTIFICATE_DEVICE, NULL, fault, text);
}

static void test_good_ones_have_no_fault(void **state)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];

	(void)state;
	assert_int_equal(faults_of(all,
				   make(&(struct profile){
					   .cn = "dev-1", .by = &device_ca, .eku = "clientAuth"}),
				   CERTIFICATE_DEVICE, NULL),
			 0);
	assert_int_equal(faults_of(all, make(&(struct profile){.cn = "dev-1", .by = &device_ca}),
				   CERTIFICATE_DEVICE, NULL),
			 0);
	assert_int_equal(faults_of(all,
				   make(&(struct profile){.cn = "broker.example.com",
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
	expect_device(&(struct profile){.by = &device_ca, .until = -20 * DAY}, CERTIFICATE_EXPIRED,
		      "it expired on 2026-09-01T14:13:20Z; issue a new one with `pki/fleet renew "
		      "dev-1`");
	expect_device(&(struct profile){.by = &device_ca, .from = 10 * DAY},
		      CERTIFICATE_NOT_YET_VALID, "it is not valid before 2026-10-01T14:13:20Z");
}

static void test_last_second_is_still_good(void **state)
{
	struct certificate_finding found;
	X509 *x = make(&(struct profile){.cn = "dev-1", .by = &device_ca});
	struct certificate_der der = der_of(x);

	(void)state;
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, NOW + 365 * DAY, NULL);
	assert_int_equal(found.fault, CERTIFICATE_GOOD);
	assert_string_equal(found.text, "");
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, NOW + 365 * DAY + 1, NULL);
	assert_int_equal(found.fault, CERTIFICATE_EXPIRED);
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, NOW - 365 * DAY, NULL);
	assert_int_equal(found.fault, CERTIFICATE_GOOD);
	certificate_fault(&found, der.der, der.len, CERTIFICATE_DEVICE, NOW - 365 * DAY - 1, NULL);
	assert_int_equal(found.fault, CERTIFICATE_NOT_YET_VALID);
	OPENSSL_free((void *)der.der);
	X509_free(x);
}

static void test_who_signed_it(void **state)
{
	struct identity_of_ca leaf = {make(&(struct profile){.cn = "dev-2", .by = &device_ca}),
				      leaf_key};

	(void)state;
	expect_device(&(struct profile){.by = NULL}, CERTIFICATE_SELF_SIGNED,
		      "self-signed (CN=dev-1)");
	expect_device(&(struct profile){.by = &stranger}, CERTIFICATE_UNKNOWN_ISSUER,
		      "the issuer is CN=stranger;");
	expect_device(&(struct profile){.by = &namesake}, CERTIFICATE_BAD_SIGNATURE,
		      "it was not signed by the key of the trusted CN=device CA");
	expect_device(&(struct profile){.by = &server_ca}, CERTIFICATE_BAD_ISSUER,
		      "signed by CN=server CA, whose extended key usage does not let it sign "
		      "devices");
	expect_one(make(&(struct profile){.cn = "dev-1", .by = &leaf}), CERTIFICATE_DEVICE, leaf.x,
		   CERTIFICATE_BAD_ISSUER, "signed by CN=dev-2, which is not a CA");
	X509_free(leaf.x);
}

/* What a peer sends is known, and trusted no more than before. */
static void test_sent_cas_complete_a_chain_and_end_none(void **state)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];
	struct identity_of_ca second = make_ca(&(struct profile){.cn = "second device CA",
								 .by = &root,
								 .constraints = "CA:TRUE,pathlen:0",
								 .eku = "clientAuth"});
	struct identity_of_ca third = make_ca(&(struct profile){
		.cn = "third", .by = &second, .constraints = "CA:TRUE", .eku = "clientAuth"});

	(void)state;
	assert_int_equal(faults_of(all, make(&(struct profile){.cn = "dev-1", .by = &second}),
				   CERTIFICATE_DEVICE, second.x),
			 0);
	expect_one(make(&(struct profile){.cn = "dev-1", .by = &second}), CERTIFICATE_DEVICE, NULL,
		   CERTIFICATE_UNKNOWN_ISSUER, "the issuer is CN=second device CA");
	expect_one(make(&(struct profile){.cn = "dev-1", .by = &stranger}), CERTIFICATE_DEVICE,
		   stranger.x, CERTIFICATE_UNKNOWN_ISSUER, "known up to its root");
	expect_one(make(&(struct profile){.cn = "dev-1", .by = &third}), CERTIFICATE_DEVICE,
		   third.x, CERTIFICATE_UNKNOWN_ISSUER, "the issuer is CN=second device CA");
	X509_free(second.x);
	EVP_PKEY_free(second.key);
	X509_free(third.x);
	EVP_PKEY_free(third.key);
}

static void test_path_length(void **state)
{
	struct identity_of_ca below = make_ca(&(struct profile){
		.cn = "below", .by = &device_ca, .constraints = "CA:TRUE", .eku = "clientAuth"});

	(void)state;
	expect_one(make(&(struct profile){.cn = "dev-1", .by = &below}), CERTIFICATE_DEVICE,
		   below.x, CERTIFICATE_BAD_ISSUER, "CN=device CA, above it, allows 0 CAs");
	expect_one(below.x, CERTIFICATE_AUTHORITY, NULL, CERTIFICATE_BAD_ISSUER, "allows 0 CAs");
	EVP_PKEY_free(below.key);
}

static void test_issuer_out_of_date(void **state)
{
	struct identity_of_ca old = make_ca(&(struct profile){
		.cn = "old CA", .by = &root, .constraints = "CA:TRUE,pathlen:0", .until = -DAY});

	(void)state;
	expect_one(make(&(struct profile){.cn = "dev-1", .by = &old}), CERTIFICATE_DEVICE, old.x,
		   CERTIFICATE_ISSUER_EXPIRED, "CN=old CA, which signed it, expired on 2026-09-20");
	X509_free(old.x);
	EVP_PKEY_free(old.key);
}

static void test_role_and_usage(void **state)
{
	(void)state;
	expect_device(&(struct profile){.by = &device_ca,
					.constraints = "CA:TRUE",
					.usage = "digitalSignature"},
		      CERTIFICATE_IS_CA, "it is a CA certificate");
	expect_device(&(struct profile){.by = &device_ca, .eku = "serverAuth"},
		      CERTIFICATE_WRONG_USAGE,
		      "its extended key usage is serverAuth, not clientAuth");
	expect_device(&(struct profile){.by = &device_ca, .eku = "codeSigning"},
		      CERTIFICATE_WRONG_USAGE, "is something else, not clientAuth");
	expect_device(&(struct profile){.by = &device_ca, .usage = "keyAgreement"},
		      CERTIFICATE_WRONG_USAGE, "does not allow digital signatures");
	expect_one(make(&(struct profile){.cn = "x", .by = &root}), CERTIFICATE_AUTHORITY, NULL,
		   CERTIFICATE_NOT_A_CA, "not a CA");
	expect_one(make(&(struct profile){
			   .cn = "x", .by = &root, .constraints = "CA:TRUE", .usage = "cRLSign"}),
		   CERTIFICATE_AUTHORITY, NULL, CERTIFICATE_WRONG_USAGE, "does not let it sign");
}

static void test_key_and_signature(void **state)
{
	EVP_PKEY *rsa = EVP_RSA_gen(2048), *p384 = EVP_EC_gen("P-384");

	(void)state;
	expect_device(&(struct profile){.by = &device_ca, .key = rsa}, CERTIFICATE_WRONG_KEY,
		      "not P-256 but rsaEncryption with 2048 bits");
	expect_device(&(struct profile){.by = &device_ca, .key = p384}, CERTIFICATE_WRONG_KEY,
		      "on another curve with 384 bits");
	expect_device(&(struct profile){.by = &device_ca, .md = EVP_sha1()},
		      CERTIFICATE_WEAK_SIGNATURE, "ecdsa-with-SHA1");
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(p384);
}

static void test_most_telling_comes_first(void **state)
{
	struct certificate_finding all[CERTIFICATE_FAULTS_MAX];
	EVP_PKEY *p384 = EVP_EC_gen("P-384");
	size_t n = faults_of(all,
			     make(&(struct profile){.cn = "dev-1",
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
	X509 *x = make(&(struct profile){.cn = "dev-1", .by = &device_ca, .eku = "clientAuth"});
	struct certificate_der good = der_of(x), ca = der_of(device_ca.x);
	const struct certificate_issuers issuers = {&ca, 1, &good, 1};
	unsigned char *bytes = malloc(good.len + 1);

	(void)state;
	for (size_t len = 0; len < good.len; len++) {
		certificate_fault(&found, good.der, len, CERTIFICATE_DEVICE, NOW, &issuers);
		assert_int_equal(found.fault, CERTIFICATE_UNREADABLE);
	}
	memcpy(bytes, good.der, good.len);
	bytes[good.len] = 0;
	certificate_fault(&found, bytes, good.len + 1, CERTIFICATE_DEVICE, NOW, &issuers);
	assert_int_equal(found.fault, CERTIFICATE_UNREADABLE);
	for (size_t i = 0; i < good.len; i++) {
		bytes[i] ^= 0xff;
		certificate_fault(&found, bytes, good.len, CERTIFICATE_DEVICE, NOW, &issuers);
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
	struct identity_of_ca odd = make_ca(
		&(struct profile){.cn = "a\nb\x1b[31m" /* 62 more */
					"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
				  .constraints = "CA:TRUE"});

	(void)state;
	faults_of(all, make(&(struct profile){.cn = "x;rm -rf", .by = &odd}), CERTIFICATE_DEVICE,
		  NULL);
	for (const char *c = all[0].text; *c; c++)
		assert_true((unsigned char)*c >= ' ');
	assert_true(strlen(all[0].text) < CERTIFICATE_FAULT_TEXT_MAX - 1);
	faults_of(all, make(&(struct profile){.cn = "x;rm -rf", .by = NULL}), CERTIFICATE_DEVICE,
		  NULL);
	assert_non_null(strstr(all[0].text, "`pki/fleet add DEVICE`"));
	X509_free(odd.x);
	EVP_PKEY_free(odd.key);
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
