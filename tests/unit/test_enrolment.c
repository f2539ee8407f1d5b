/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificates enrol a device, and which do not; the devices that a snapshot is given after
 * it was built; and the queue of those who wait for the database. Without a database. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "core/base/clock.h"
#include "core/registry/enrolment.h"
#include "tests/unit/x509_fixture.h"

static struct x509_ca root, active_ca, pending_ca, off_ca, retired_ca, server_ca, namesake, old_ca;
static const struct snapshot *snapshot;
static char err[256];

static int64_t fixed_clock(void)
{
	return X509_NOW * US_PER_S;
}

static void fingerprint_of(uint8_t out[FINGERPRINT_LEN], const struct certificate_der *der)
{
	assert_true(EVP_Digest(der->der, der->len, out, NULL, EVP_sha256(), NULL));
}

static void ca_fingerprint(uint8_t out[FINGERPRINT_LEN], const struct x509_ca *ca)
{
	struct certificate_der der = x509_der(ca->x);

	fingerprint_of(out, &der);
	OPENSSL_free((void *)der.der);
}

static int add_authority(struct snapshot_builder *b, const char *name, const struct x509_ca *ca,
			 enum enrolment_mode mode)
{
	struct certificate_der der = x509_der(ca->x);
	uint8_t fingerprint[FINGERPRINT_LEN];
	int rc;

	fingerprint_of(fingerprint, &der);
	rc = snapshot_add_authority(b, name, fingerprint, der.der, der.len, mode, "device", err,
				    sizeof(err));
	OPENSSL_free((void *)der.der);
	return rc;
}

static struct snapshot_builder *new_builder(void)
{
	struct snapshot_builder *b = snapshot_builder_new();

	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	return b;
}

static struct snapshot_builder *with_authorities(void)
{
	struct snapshot_builder *b = new_builder();

	assert_int_equal(add_authority(b, "active-ca", &active_ca, ENROLMENT_ACTIVE), 0);
	assert_int_equal(add_authority(b, "pending-ca", &pending_ca, ENROLMENT_PENDING), 0);
	assert_int_equal(add_authority(b, "off-ca", &off_ca, ENROLMENT_OFF), 0);
	assert_int_equal(add_authority(b, "server-ca", &server_ca, ENROLMENT_ACTIVE), 0);
	assert_int_equal(add_authority(b, "old-ca", &old_ca, ENROLMENT_ACTIVE), 0);
	return b;
}

#define DEVICE_CA .by = &root, .constraints = "CA:TRUE,pathlen:0"

static int make_fleet(void **state)
{
	(void)state;
	clock_override(fixed_clock, NULL);
	root = x509_make_ca(&(struct x509_profile){.cn = "root", .constraints = "CA:TRUE"});
	active_ca = x509_make_ca(&(struct x509_profile){.cn = "active", DEVICE_CA});
	pending_ca = x509_make_ca(&(struct x509_profile){.cn = "pending", DEVICE_CA});
	off_ca = x509_make_ca(&(struct x509_profile){.cn = "off", DEVICE_CA});
	retired_ca = x509_make_ca(&(struct x509_profile){.cn = "retired", DEVICE_CA});
	server_ca = x509_make_ca(
		&(struct x509_profile){.cn = "server", .eku = "serverAuth", DEVICE_CA});
	namesake = x509_make_ca(&(struct x509_profile){.cn = "active", DEVICE_CA});
	old_ca = x509_make_ca(&(struct x509_profile){.cn = "old", .until = -DAY, DEVICE_CA});
	snapshot = snapshot_build(with_authorities(), 1);
	return 0;
}

static int drop_fleet(void **state)
{
	struct x509_ca *all[] = {&root,	      &active_ca, &pending_ca, &off_ca,
				 &retired_ca, &server_ca, &namesake,   &old_ca};

	(void)state;
	snapshot_release(snapshot);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		x509_free_ca(all[i]);
	return 0;
}

/* --- The certificate --- */

static unsigned asked;

static bool always(void *arg, const uint8_t *authority)
{
	(void)authority;
	asked++;
	return arg == NULL;
}

/* Judge this certificate, whose name is dev-1. no_turns: not NULL when there is none left. */
static void judge(struct identity *out, struct enrolment *e, const struct x509_profile *p,
		  const struct snapshot *s, void *no_turns)
{
	struct x509_profile mine = *p;
	struct certificate cert;
	struct certificate_der der;
	struct enrolment_peer peer;
	X509 *x;

	mine.cn = "dev-1";
	x = x509_make(&mine);
	der = x509_der(x);
	assert_int_equal(certificate_read(&cert, der.der, der.len, err, sizeof(err)), 0);
	peer = (struct enrolment_peer){&cert, der.der, der.len, "192.0.2.1"};
	asked = 0;
	memset(out, 0xa5, sizeof(*out));
	memset(e, 0xa5, sizeof(*e));
	enrolment_judge(out, s, &peer, e, always, no_turns);
	assert_int_equal(ERR_peek_error(), 0);
	OPENSSL_free((void *)der.der);
	X509_free(x);
}

static void expect(const struct x509_profile *p, enum refusal refusal, unsigned verified,
		   const char *why)
{
	struct identity who;
	struct enrolment e;

	judge(&who, &e, p, snapshot, NULL);
	if (who.refusal != refusal || !strstr(who.why, why))
		fail_msg("%d: %s", (int)who.refusal, who.why);
	assert_int_equal(asked, verified);
}

static void test_a_good_one_is_taken_as_it_is(void **state)
{
	struct identity who;
	struct enrolment e;
	uint8_t ca[FINGERPRINT_LEN];

	(void)state;
	judge(&who, &e,
	      &(struct x509_profile){.by = &active_ca, .eku = "clientAuth", .serial = "0A00FF"},
	      snapshot, NULL);
	assert_string_equal(who.why, "");
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_string_equal(e.id, "dev-1");
	assert_string_equal(e.serial, "0a00ff");
	assert_int_equal(e.not_before, X509_NOW - 365 * DAY);
	assert_int_equal(e.not_after, X509_NOW + 365 * DAY);
	assert_int_equal(e.mode, ENROLMENT_ACTIVE);
	assert_string_equal(e.authority_name, "active-ca");
	assert_string_equal(e.from, "192.0.2.1");
	ca_fingerprint(ca, &active_ca);
	assert_memory_equal(e.authority, ca, FINGERPRINT_LEN);
	judge(&who, &e, &(struct x509_profile){.by = &pending_ca}, snapshot, NULL);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_int_equal(e.mode, ENROLMENT_PENDING);
}

static void test_each_fault_is_refused_in_its_own_words(void **state)
{
	EVP_PKEY *p384 = EVP_EC_gen("P-384");

	(void)state;
	expect(&(struct x509_profile){.by = &active_ca, .key = p384}, REFUSAL_UNKNOWN, 0,
	       "not enrolled: its key is not P-256");
	expect(&(struct x509_profile){.by = &active_ca, .eku = "serverAuth"}, REFUSAL_UNKNOWN, 0,
	       "not enrolled: its extended key usage is serverAuth");
	expect(&(struct x509_profile){.by = &active_ca, .constraints = "CA:TRUE"}, REFUSAL_UNKNOWN,
	       0, "not enrolled: it is a CA certificate");
	expect(&(struct x509_profile){.by = &active_ca, .until = -DAY}, REFUSAL_UNKNOWN, 0,
	       "not enrolled: it expired on 2026-09-20");
	expect(&(struct x509_profile){.by = &active_ca, .from = DAY}, REFUSAL_UNKNOWN, 0,
	       "not enrolled: it is not valid before 2026-09-22");
	expect(&(struct x509_profile){.by = &active_ca, .md = EVP_sha1()}, REFUSAL_UNKNOWN, 0,
	       "not enrolled: it is signed with ecdsa-with-SHA1");
	expect(&(struct x509_profile){.by = &active_ca, .serial = "0"}, REFUSAL_UNKNOWN, 0,
	       "its serial number is not a positive one");
	expect(&(struct x509_profile){.by = &active_ca, .serial = "-1"}, REFUSAL_UNKNOWN, 0,
	       "its serial number is not a positive one");
	expect(&(struct x509_profile){.by = &active_ca,
				      .serial = "01000000000000000000000000000000000000000A"},
	       REFUSAL_UNKNOWN, 0, "its serial number is not a positive one");
	EVP_PKEY_free(p384);
}

static void test_who_signed_it_decides(void **state)
{
	(void)state;
	expect(&(struct x509_profile){.by = &off_ca}, REFUSAL_UNKNOWN, 0,
	       "enrolment by its CA off-ca is off");
	expect(&(struct x509_profile){.by = &retired_ca}, REFUSAL_UNKNOWN, 0,
	       "its CA (CN=retired) is not in fieldgate.authority, or is retired");
	expect(&(struct x509_profile){.by = NULL}, REFUSAL_UNKNOWN, 0, "its CA (CN=dev-1)");
	/* These claim an authority, so a signature is looked at. */
	expect(&(struct x509_profile){.by = &namesake}, REFUSAL_UNKNOWN, 1, "it was not signed by");
	expect(&(struct x509_profile){.by = &server_ca}, REFUSAL_UNKNOWN, 1,
	       "whose extended key usage does not let it sign devices");
	expect(&(struct x509_profile){.by = &old_ca}, REFUSAL_UNKNOWN, 1, "expired on 2026-09-20");
}

static void test_no_signature_is_verified_without_a_turn(void **state)
{
	struct identity who;
	struct enrolment e;

	(void)state;
	judge(&who, &e, &(struct x509_profile){.by = &active_ca}, snapshot, &asked);
	assert_int_equal(who.refusal, REFUSAL_NOT_NOW);
	assert_non_null(strstr(who.why, "registry.enrolments_per_minute"));
}

/* Two generations with one name: the one that signed it counts, whichever comes first. */
static void test_authorities_of_the_same_name(void **state)
{
	struct snapshot_builder *b = new_builder();
	const struct snapshot *s;
	struct identity who;
	struct enrolment e;

	(void)state;
	assert_int_equal(add_authority(b, "other", &namesake, ENROLMENT_PENDING), 0);
	assert_int_equal(add_authority(b, "active-ca", &active_ca, ENROLMENT_ACTIVE), 0);
	s = snapshot_build(b, 1);
	judge(&who, &e, &(struct x509_profile){.by = &active_ca}, s, NULL);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_string_equal(e.authority_name, "active-ca");
	judge(&who, &e, &(struct x509_profile){.by = &namesake}, s, NULL);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_string_equal(e.authority_name, "other");
	snapshot_release(s);
}

static void expect_revoked(enum credential_kind kind, const uint8_t *fingerprint,
			   const uint8_t *issuer, const char *serial, int refusal,
			   const struct enrolment_peer *peer)
{
	struct snapshot_builder *b = with_authorities();
	const struct snapshot *s;
	struct identity who;
	struct enrolment e;

	assert_int_equal(
		snapshot_add_revoked(b, kind, fingerprint, issuer, serial, err, sizeof(err)), 0);
	s = snapshot_build(b, 1);
	asked = 0;
	enrolment_judge(&who, s, peer, &e, always, NULL);
	assert_int_equal(who.refusal, refusal);
	assert_int_equal(asked, refusal == REFUSAL_NONE);
	snapshot_release(s);
}

static void test_revoked_before_it_was_deleted(void **state)
{
	X509 *x = x509_make(&(struct x509_profile){.cn = "dev-1", .by = &active_ca});
	struct certificate_der der = x509_der(x);
	struct certificate cert;
	struct enrolment_peer peer = {&cert, der.der, der.len, ""};

	(void)state;
	assert_int_equal(certificate_read(&cert, der.der, der.len, err, sizeof(err)), 0);
	expect_revoked(CREDENTIAL_X509, cert.fingerprint, NULL, NULL, REFUSAL_CREDENTIAL_REVOKED,
		       &peer);
	expect_revoked(CREDENTIAL_X509_KEY, cert.key_fingerprint, NULL, NULL,
		       REFUSAL_CREDENTIAL_REVOKED, &peer);
	expect_revoked(CREDENTIAL_X509_KEY, cert.fingerprint, NULL, "", REFUSAL_NONE, &peer);
	OPENSSL_free((void *)der.der);
	X509_free(x);
}

/* Anybody can do this to his own certificate: (r, s) becomes (r, n - s), which the same key has
 * signed (SEC 1 section 4.1.4). */
static void change_signature(X509 *x)
{
	BIGNUM *order = NULL, *other = BN_new();
	const ASN1_BIT_STRING *signature;
	const BIGNUM *r, *s;
	unsigned char *out = NULL;
	const unsigned char *in;
	ECDSA_SIG *sig;
	int len;

	X509_get0_signature(&signature, NULL, x);
	in = ASN1_STRING_get0_data(signature);
	sig = d2i_ECDSA_SIG(NULL, &in, ASN1_STRING_length(signature));
	assert_non_null(sig);
	assert_true(BN_hex2bn(&order, "FFFFFFFF00000000FFFFFFFFFFFFFFFF"
				      "BCE6FAADA7179E84F3B9CAC2FC632551"));
	ECDSA_SIG_get0(sig, &r, &s);
	assert_true(BN_sub(other, order, s));
	assert_true(ECDSA_SIG_set0(sig, BN_dup(r), other));
	len = i2d_ECDSA_SIG(sig, &out);
	assert_true(ASN1_STRING_set((ASN1_BIT_STRING *)signature, out, len));
	OPENSSL_free(out);
	ECDSA_SIG_free(sig);
	BN_free(order);
}

static void test_another_form_of_a_revoked_certificate(void **state)
{
	X509 *x = x509_make(
		&(struct x509_profile){.cn = "dev-1", .by = &active_ca, .serial = "0A0B"});
	struct certificate_der der = x509_der(x), changed;
	uint8_t issuer[FINGERPRINT_LEN], other[FINGERPRINT_LEN] = {1};
	struct certificate cert, before;
	struct enrolment_peer peer;

	(void)state;
	ca_fingerprint(issuer, &active_ca);
	assert_int_equal(certificate_read(&before, der.der, der.len, err, sizeof(err)), 0);
	change_signature(x);
	changed = x509_der(x);
	assert_int_equal(certificate_read(&cert, changed.der, changed.len, err, sizeof(err)), 0);
	assert_memory_not_equal(cert.fingerprint, before.fingerprint, FINGERPRINT_LEN);
	peer = (struct enrolment_peer){&cert, changed.der, changed.len, ""};
	expect_revoked(CREDENTIAL_X509, before.fingerprint, NULL, NULL, REFUSAL_NONE, &peer);
	expect_revoked(CREDENTIAL_X509, before.fingerprint, issuer, "0a0b",
		       REFUSAL_CREDENTIAL_REVOKED, &peer);
	expect_revoked(CREDENTIAL_X509, before.fingerprint, NULL, "0a0b",
		       REFUSAL_CREDENTIAL_REVOKED, &peer);
	expect_revoked(CREDENTIAL_X509, before.fingerprint, other, "0a0b", REFUSAL_NONE, &peer);
	expect_revoked(CREDENTIAL_X509, before.fingerprint, issuer, "0a0c", REFUSAL_NONE, &peer);
	OPENSSL_free((void *)der.der);
	OPENSSL_free((void *)changed.der);
	X509_free(x);
}

/* --- The snapshot --- */

static void test_rows_of_authorities_that_are_none(void **state)
{
	struct snapshot_builder *b = new_builder();
	struct x509_ca leaf = {x509_make(&(struct x509_profile){.cn = "dev-1", .by = &root}), NULL};
	uint8_t fingerprint[FINGERPRINT_LEN] = {1};
	struct certificate_der der = x509_der(root.x);

	(void)state;
	assert_int_equal(add_authority(b, "leaf", &leaf, ENROLMENT_ACTIVE), -EINVAL);
	assert_string_equal(err, "its certificate is not that of a CA");
	assert_int_equal(snapshot_add_authority(b, "x", fingerprint, der.der, der.len,
						ENROLMENT_ACTIVE, "device", err, sizeof(err)),
			 -EINVAL);
	assert_string_equal(err, "the fingerprint is not that of its certificate");
	assert_int_equal(snapshot_add_authority(b, "x", fingerprint, "x", 1, ENROLMENT_ACTIVE,
						"device", err, sizeof(err)),
			 -EINVAL);
	assert_int_equal(snapshot_add_authority(b, "x", fingerprint, der.der, der.len,
						ENROLMENT_ACTIVE, "nobody's", err, sizeof(err)),
			 -EINVAL);
	assert_string_equal(err, "there is no policy 'nobody's'");
	assert_int_equal(add_authority(b, "root", &root, ENROLMENT_ACTIVE), 0);
	assert_int_equal(add_authority(b, "again", &root, ENROLMENT_ACTIVE), -EEXIST);
	OPENSSL_free((void *)der.der);
	x509_free_ca(&leaf);
	snapshot_builder_free(b);
}

static const struct policy *device_policy(const struct snapshot *s)
{
	return snapshot_authority_at(s, 0)->policy;
}

static void test_an_enrolled_device_is_found_like_any_other(void **state)
{
	const uint8_t fingerprint[FINGERPRINT_LEN] = {7};
	const struct snapshot *s = snapshot_build(with_authorities(), 1);
	const struct principal *p;
	const struct credential *c;
	struct identity who;

	(void)state;
	assert_int_equal(snapshot_enrol(s, "new", fingerprint, -1, INT64_MAX, device_policy(s)), 0);
	p = snapshot_principal(s, "new");
	c = snapshot_credential(s, CREDENTIAL_X509, fingerprint);
	assert_string_equal(p->id, "new");
	assert_int_equal(p->kind, PRINCIPAL_DEVICE);
	assert_int_equal(p->state, PRINCIPAL_ACTIVE);
	assert_string_equal(p->policy->name, "device");
	assert_ptr_equal(c->principal, p);
	assert_int_equal(c->not_before, -1);
	assert_int_equal(snapshot_credential_count(s, p), 1);
	assert_ptr_equal(snapshot_credential_next(s, p, CREDENTIAL_X509, NULL), c);
	assert_null(snapshot_credential_next(s, p, CREDENTIAL_X509, c));
	assert_null(snapshot_credential_next(s, p, CREDENTIAL_PSK, NULL));
	assert_null(snapshot_credential(s, CREDENTIAL_X509_KEY, fingerprint));
	assert_null(snapshot_principal(s, "ne"));
	identify_again(&who, s, "new", CREDENTIAL_X509, fingerprint, 0);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_int_equal(snapshot_principal_count(s), 0);
	snapshot_release(s);
}

static void test_nobody_is_enrolled_over_somebody(void **state)
{
	const uint8_t one[FINGERPRINT_LEN] = {1}, two[FINGERPRINT_LEN] = {2};
	struct snapshot_builder *b = with_authorities();
	const struct snapshot *s;

	(void)state;
	assert_int_equal(snapshot_add_principal(b, "dev-1", PRINCIPAL_DEVICE, PRINCIPAL_SUSPENDED,
						"device", err, sizeof(err)),
			 0);
	assert_int_equal(snapshot_add_credential(b, CREDENTIAL_X509, one, "dev-1", false, NULL, 0,
						 err, sizeof(err)),
			 0);
	s = snapshot_build(b, 1);
	assert_int_equal(snapshot_enrol(s, "dev-1", two, 0, 1, device_policy(s)), -EEXIST);
	assert_int_equal(snapshot_enrol(s, "dev-2", one, 0, 1, device_policy(s)), -EEXIST);
	assert_int_equal(snapshot_enrol(s, "dev-2", two, 0, 1, device_policy(s)), 0);
	assert_int_equal(snapshot_enrol(s, "dev-2", two, 0, 1, device_policy(s)), -EEXIST);
	assert_int_equal(snapshot_principal(s, "dev-1")->state, PRINCIPAL_SUSPENDED);
	snapshot_release(s);
}

#define MANY 1000

static void number_fingerprint(uint8_t out[FINGERPRINT_LEN], int n)
{
	memset(out, 0, FINGERPRINT_LEN);
	memcpy(out, &n, sizeof(n));
}

/* Until the last one is there: whoever is found is found whole, and what was found stays. */
static void *read_often(void *arg)
{
	const struct snapshot *s = arg;
	uint8_t fingerprint[FINGERPRINT_LEN];
	char id[16];

	for (int n = 0; n < MANY;) {
		const struct principal *p;
		const struct credential *c;

		snprintf(id, sizeof(id), "new-%d", n);
		p = snapshot_principal(s, id);
		if (!p)
			continue;
		number_fingerprint(fingerprint, n);
		c = snapshot_credential(s, CREDENTIAL_X509, fingerprint);
		if (!c || c->principal != p || strcmp(p->id, id) != 0 || c->not_after != n ||
		    strcmp(p->policy->name, "device") != 0)
			return "not whole";
		n++;
	}
	return NULL;
}

/* MODE=tsan sees it fail without release and acquire. */
static void test_readers_need_no_lock(void **state)
{
	const struct snapshot *s = snapshot_build(with_authorities(), 1);
	uint8_t fingerprint[FINGERPRINT_LEN];
	pthread_t threads[2];
	char id[16];

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_often, (void *)s), 0);
	for (int n = 0; n < MANY; n++) {
		snprintf(id, sizeof(id), "new-%d", n);
		number_fingerprint(fingerprint, n);
		assert_int_equal(snapshot_enrol(s, id, fingerprint, 0, n, device_policy(s)), 0);
	}
	for (int i = 0; i < 2; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	snapshot_release(s);
}

/* --- The queue --- */

static struct enrolment request(const char *id, int n, const struct x509_ca *ca,
				enum enrolment_mode mode)
{
	struct enrolment e = {.mode = mode, .not_after = INT64_MAX, .serial = "01"};

	snprintf(e.id, sizeof(e.id), "%s", id);
	number_fingerprint(e.fingerprint, n);
	ca_fingerprint(e.authority, ca);
	return e;
}

static bool readable(const struct enrolment_queue *q)
{
	struct pollfd fd = {.fd = enrolment_queue_fd(q), .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

static void test_the_queue_is_bounded_and_knows_who_waits(void **state)
{
	struct enrolment_queue *q = enrolment_queue_new(2, 0);
	struct enrolment one = request("one", 1, &active_ca, ENROLMENT_ACTIVE);
	struct enrolment two = request("two", 2, &pending_ca, ENROLMENT_PENDING);
	struct enrolment namesake_of_one = request("one", 3, &active_ca, ENROLMENT_ACTIVE);
	struct enrolment three = request("three", 3, &active_ca, ENROLMENT_ACTIVE);

	(void)state;
	assert_false(readable(q));
	assert_int_equal(enrolment_queue_find(q, one.fingerprint), ENROLMENT_OFF);
	assert_int_equal(enrolment_queue_add(q, &one), 0);
	assert_true(readable(q));
	assert_int_equal(enrolment_queue_add(q, &one), 0);
	assert_int_equal(enrolment_queue_add(q, &namesake_of_one), -EEXIST);
	assert_int_equal(enrolment_queue_add(q, &two), 0);
	assert_int_equal(enrolment_queue_add(q, &three), -ENOSPC);
	assert_int_equal(enrolment_queue_find(q, one.fingerprint), ENROLMENT_ACTIVE);
	assert_int_equal(enrolment_queue_find(q, two.fingerprint), ENROLMENT_PENDING);
	assert_false(enrolment_queue_sent(q));
	enrolment_queue_free(q);
}

static int64_t minute_us;

static int64_t slow_clock(void)
{
	return minute_us;
}

static void test_turns_are_counted_by_authority_and_minute(void **state)
{
	struct enrolment_queue *q = enrolment_queue_new(1, 2);
	uint8_t one[FINGERPRINT_LEN] = {1}, two[FINGERPRINT_LEN] = {2};

	(void)state;
	clock_override(fixed_clock, slow_clock);
	minute_us = 5;
	assert_true(enrolment_queue_turn(q, one));
	assert_true(enrolment_queue_turn(q, one));
	assert_false(enrolment_queue_turn(q, one));
	assert_true(enrolment_queue_turn(q, two));
	minute_us += 60 * US_PER_S - 1;
	assert_false(enrolment_queue_turn(q, one));
	minute_us += 1;
	assert_true(enrolment_queue_turn(q, one));
	/* More authorities than are counted: a new one always has its turns. */
	for (int n = 10; n < 200; n++) {
		uint8_t many[FINGERPRINT_LEN];

		number_fingerprint(many, n);
		assert_true(enrolment_queue_turn(q, many));
		assert_true(enrolment_queue_turn(q, many));
		assert_false(enrolment_queue_turn(q, many));
	}
	clock_override(fixed_clock, NULL);
	enrolment_queue_free(q);
	q = enrolment_queue_new(1, 0);
	for (int n = 0; n < 10000; n++)
		assert_true(enrolment_queue_turn(q, one));
	enrolment_queue_free(q);
}

static void test_who_waits_is_taken_along_unless_the_new_snapshot_says_otherwise(void **state)
{
	struct enrolment_queue *q = enrolment_queue_new(10, 0);
	struct enrolment stays = request("stays", 1, &active_ca, ENROLMENT_ACTIVE);
	struct enrolment pending = request("pending", 2, &pending_ca, ENROLMENT_PENDING);
	struct enrolment no_longer = request("no-longer", 3, &off_ca, ENROLMENT_ACTIVE);
	struct enrolment retired = request("retired", 4, &retired_ca, ENROLMENT_ACTIVE);
	struct enrolment taken = request("taken", 5, &active_ca, ENROLMENT_ACTIVE);
	struct enrolment revoked = request("revoked", 6, &active_ca, ENROLMENT_ACTIVE);
	struct enrolment set_back = request("set-back", 7, &pending_ca, ENROLMENT_ACTIVE);
	struct enrolment key_revoked = request("key-revoked", 8, &active_ca, ENROLMENT_ACTIVE);
	struct enrolment changed = request("changed", 9, &active_ca, ENROLMENT_ACTIVE);
	struct enrolment *all[] = {&stays,   &pending,	&no_longer,   &retired, &taken,
				   &revoked, &set_back, &key_revoked, &changed};
	struct snapshot_builder *b = with_authorities();
	const struct snapshot *s;

	(void)state;
	key_revoked.key_fingerprint[0] = 1;
	changed.key_fingerprint[0] = 2;
	snprintf(changed.serial, sizeof(changed.serial), "0a0b");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		assert_int_equal(enrolment_queue_add(q, all[i]), 0);
	assert_int_equal(snapshot_add_principal(b, "taken", PRINCIPAL_DEVICE, PRINCIPAL_ACTIVE,
						"device", err, sizeof(err)),
			 0);
	assert_int_equal(snapshot_add_revoked(b, CREDENTIAL_X509, revoked.fingerprint, NULL, NULL,
					      err, sizeof(err)),
			 0);
	assert_int_equal(snapshot_add_revoked(b, CREDENTIAL_X509_KEY, key_revoked.key_fingerprint,
					      NULL, NULL, err, sizeof(err)),
			 0);
	assert_int_equal(snapshot_add_revoked(b, CREDENTIAL_X509, changed.key_fingerprint,
					      changed.authority, changed.serial, err, sizeof(err)),
			 0);
	s = snapshot_build(b, 2);
	/* A load that began before they were sent answers for none of them. */
	enrolment_queue_load_begins(q);
	enrolment_queue_carry(q, s);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		bool found = snapshot_credential(s, CREDENTIAL_X509, all[i]->fingerprint) != NULL;

		if (found != (all[i] == &stays))
			fail_msg("%s", all[i]->id);
		assert_int_equal(enrolment_queue_find(q, all[i]->fingerprint), all[i]->mode);
	}
	snapshot_release(s);
	enrolment_queue_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_good_one_is_taken_as_it_is),
		cmocka_unit_test(test_each_fault_is_refused_in_its_own_words),
		cmocka_unit_test(test_who_signed_it_decides),
		cmocka_unit_test(test_no_signature_is_verified_without_a_turn),
		cmocka_unit_test(test_authorities_of_the_same_name),
		cmocka_unit_test(test_revoked_before_it_was_deleted),
		cmocka_unit_test(test_another_form_of_a_revoked_certificate),
		cmocka_unit_test(test_rows_of_authorities_that_are_none),
		cmocka_unit_test(test_an_enrolled_device_is_found_like_any_other),
		cmocka_unit_test(test_nobody_is_enrolled_over_somebody),
		cmocka_unit_test(test_readers_need_no_lock),
		cmocka_unit_test(test_the_queue_is_bounded_and_knows_who_waits),
		cmocka_unit_test(test_turns_are_counted_by_authority_and_minute),
		cmocka_unit_test(
			test_who_waits_is_taken_along_unless_the_new_snapshot_says_otherwise),
	};

	return cmocka_run_group_tests(tests, make_fleet, drop_fleet);
}
