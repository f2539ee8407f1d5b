/* SPDX-License-Identifier: Apache-2.0 */
/* Who is let in, and for every refusal: which one it is and what the operator is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "core/base/clock.h"
#include "core/registry/identify.h"

static const struct snapshot *snapshot;
static char err[256];

/* Fingerprints of this fleet are one repeated byte. */
enum {
	CERT_DEV_1 = 1,
	CERT_DEV_1_REVOKED,
	CERT_PENDING,
	CERT_SUSPENDED,
	CERT_SUSPENDED_REVOKED,
	CERT_REVOKED,
	KEY_DEV_2,
	CERT_DEV_2_REVOKED,
	CERT_LONG,
	CERT_UNKNOWN,
	KEY_UNKNOWN,
	JWT_DEV_1,
	JWT_DEV_1_REVOKED,
	JWT_SUSPENDED,
	PSK_DEV_1_REVOKED,
	CERT_DATED,
	JWT_DATED,
	PSK_DATED,
	CERT_DATED_REVOKED,
};

/* The dates of the dated ones: 2026-01-01T00:00:00Z to 2026-01-31T00:00:00Z. */
#define BEGINS INT64_C(1767225600)
#define ENDS   INT64_C(1769817600)

#define LONG_ID "long-5678901234567890123456789012345678901234567890123456789.end"

static void add_principal(struct snapshot_builder *b, const char *id, enum principal_state state)
{
	assert_int_equal(
		snapshot_add_principal(b, id, PRINCIPAL_DEVICE, state, "device", err, sizeof(err)),
		0);
}

static void add_credential(struct snapshot_builder *b, enum credential_kind kind, int n,
			   const char *id, bool revoked)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	memset(fingerprint, n, sizeof(fingerprint));
	assert_int_equal(snapshot_add_credential(b, kind, fingerprint, id, revoked, NULL, 0, err,
						 sizeof(err)),
			 0);
}

static void add_dated(struct snapshot_builder *b, enum credential_kind kind, int n, bool revoked)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	add_credential(b, kind, n, "dev-d", revoked);
	memset(fingerprint, n, sizeof(fingerprint));
	assert_int_equal(
		snapshot_limit_credential(b, kind, fingerprint, BEGINS, ENDS, err, sizeof(err)), 0);
}

static void add_token(struct snapshot_builder *b, const char *made_for, const char *token,
		      const char *registered_for, bool revoked)
{
	uint8_t fingerprint[FINGERPRINT_LEN];
	char both[128];
	size_t n = strlen(made_for) + 1;

	memcpy(both, made_for, n);
	memcpy(both + n, token, strlen(token));
	assert_true(EVP_Digest(both, n + strlen(token), fingerprint, NULL, EVP_sha256(), NULL));
	assert_int_equal(snapshot_add_credential(b, CREDENTIAL_TOKEN, fingerprint, registered_for,
						 revoked, NULL, 0, err, sizeof(err)),
			 0);
}

static int make_fleet(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();
	uint8_t fingerprint[FINGERPRINT_LEN];

	(void)state;
	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	add_principal(b, "dev-1", PRINCIPAL_ACTIVE);
	add_principal(b, "dev-2", PRINCIPAL_ACTIVE);
	add_principal(b, "dev-p", PRINCIPAL_PENDING);
	add_principal(b, "dev-s", PRINCIPAL_SUSPENDED);
	add_principal(b, "dev-r", PRINCIPAL_REVOKED);
	add_principal(b, "backend", PRINCIPAL_ACTIVE);
	add_principal(b, LONG_ID, PRINCIPAL_ACTIVE);
	add_credential(b, CREDENTIAL_X509, CERT_DEV_1, "dev-1", false);
	add_credential(b, CREDENTIAL_X509, CERT_DEV_1_REVOKED, "dev-1", true);
	add_credential(b, CREDENTIAL_X509, CERT_PENDING, "dev-p", false);
	add_credential(b, CREDENTIAL_X509, CERT_SUSPENDED, "dev-s", false);
	add_credential(b, CREDENTIAL_X509, CERT_SUSPENDED_REVOKED, "dev-s", true);
	add_credential(b, CREDENTIAL_X509, CERT_REVOKED, "dev-r", true);
	add_credential(b, CREDENTIAL_X509_KEY, KEY_DEV_2, "dev-2", false);
	add_credential(b, CREDENTIAL_X509, CERT_DEV_2_REVOKED, "dev-2", true);
	add_credential(b, CREDENTIAL_X509, CERT_LONG, LONG_ID, true);
	add_token(b, "backend", "secret", "backend", false);
	add_token(b, "backend", "old", "backend", true);
	add_token(b, "dev-s", "secret", "dev-s", false);
	add_token(b, "dev-2", "moved", "dev-p", false);
	add_principal(b, "dev-j", PRINCIPAL_ACTIVE);
	add_credential(b, CREDENTIAL_JWT, JWT_DEV_1, "dev-j", false);
	add_credential(b, CREDENTIAL_JWT, JWT_DEV_1_REVOKED, "dev-j", true);
	add_credential(b, CREDENTIAL_PSK, PSK_DEV_1_REVOKED, "dev-j", true);
	add_credential(b, CREDENTIAL_JWT, JWT_SUSPENDED, "dev-s", true);
	add_principal(b, "dev-d", PRINCIPAL_ACTIVE);
	add_dated(b, CREDENTIAL_X509, CERT_DATED, false);
	add_dated(b, CREDENTIAL_JWT, JWT_DATED, false);
	add_dated(b, CREDENTIAL_PSK, PSK_DATED, false);
	add_dated(b, CREDENTIAL_X509, CERT_DATED_REVOKED, true);
	memset(fingerprint, PSK_DATED, sizeof(fingerprint));
	assert_int_equal(
		snapshot_mark_credential(b, CREDENTIAL_PSK, fingerprint, 7, err, sizeof(err)), 0);
	snapshot = snapshot_build(b, 1);
	return snapshot ? 0 : -1;
}

static int drop_fleet(void **state)
{
	(void)state;
	snapshot_release(snapshot);
	return 0;
}

static void identify(struct identity *who, int fingerprint, int key, const char *name)
{
	struct certificate cert;

	memset(cert.fingerprint, fingerprint, sizeof(cert.fingerprint));
	memset(cert.key_fingerprint, key, sizeof(cert.key_fingerprint));
	strcpy(cert.name, name);
	memset(who, 0xa5, sizeof(*who));
	identify_certificate(who, snapshot, &cert);
}

static void test_registered_certificate_is_its_device(void **state)
{
	struct identity who;

	(void)state;
	identify(&who, CERT_DEV_1, KEY_UNKNOWN, "dev-1");
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_string_equal(who.principal->id, "dev-1");
	assert_int_equal(who.credential->kind, CREDENTIAL_X509);
	assert_string_equal(who.why, "");
}

static void test_registered_key_is_its_device(void **state)
{
	struct identity who;

	(void)state;
	identify(&who, CERT_UNKNOWN, KEY_DEV_2, "dev-2");
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_string_equal(who.principal->id, "dev-2");
	assert_int_equal(who.credential->kind, CREDENTIAL_X509_KEY);
}

struct refused {
	int fingerprint, key;
	const char *name;
	enum refusal refusal;
	const char *principal; /* NULL: unknown */
	const char *why;
};

static const struct refused certificates[] = {
	{CERT_UNKNOWN, KEY_UNKNOWN, "dev-9", REFUSAL_UNKNOWN, NULL,
	 "not registered: neither the certificate nor a principal dev-9; if it is yours, issue a "
	 "certificate with `pki/fleet add dev-9` (this one has SHA-256 "
	 "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a)"},
	{CERT_UNKNOWN, KEY_UNKNOWN, "dev-1", REFUSAL_UNKNOWN, "dev-1",
	 "dev-1 is registered with another certificate: this one is not, and it has 1 other "
	 "credential(s); was the key replaced? register it with: insert into fieldgate.credential "
	 "(kind, fingerprint, principal) values "
	 "('x509', decode('0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', "
	 "'hex'), 'dev-1')"},
	{CERT_UNKNOWN, KEY_UNKNOWN, LONG_ID, REFUSAL_UNKNOWN, LONG_ID,
	 LONG_ID
	 " is registered with another certificate: this one is not, and it has 0 other "
	 "credential(s); was the key replaced? register it with: insert into fieldgate.credential "
	 "(kind, fingerprint, principal) values "
	 "('x509', decode('0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', "
	 "'hex'), '" LONG_ID "')"},
	/* A key registered as such does not count as a certificate, nor the other way round. */
	{KEY_DEV_2, CERT_DEV_1, "dev-9", REFUSAL_UNKNOWN, NULL,
	 "not registered: neither the certificate nor a principal dev-9; if it is yours, issue a "
	 "certificate with `pki/fleet add dev-9` (this one has SHA-256 "
	 "0707070707070707070707070707070707070707070707070707070707070707)"},
	{CERT_DEV_1, KEY_UNKNOWN, "dev-2", REFUSAL_NAME, "dev-1",
	 "the certificate names dev-2 but is registered for dev-1; issue a new one with "
	 "`pki/fleet add dev-1`"},
	{CERT_UNKNOWN, KEY_DEV_2, "dev-1", REFUSAL_NAME, "dev-2",
	 "the certificate names dev-1 but is registered for dev-2; issue a new one with "
	 "`pki/fleet add dev-2`"},
	{CERT_SUSPENDED, KEY_UNKNOWN, "dev-1", REFUSAL_NAME, "dev-s",
	 "the certificate names dev-1 but is registered for dev-s; issue a new one with "
	 "`pki/fleet add dev-s`"},
	{CERT_DEV_1_REVOKED, KEY_UNKNOWN, "dev-1", REFUSAL_CREDENTIAL_REVOKED, "dev-1",
	 "this certificate is revoked; dev-1 itself is active and has 1 other credential(s): use "
	 "one of them, or issue a new one with `pki/fleet add dev-1`"},
	/* The certificate is asked for first: its revocation is not undone by its key. */
	{CERT_DEV_2_REVOKED, KEY_DEV_2, "dev-2", REFUSAL_CREDENTIAL_REVOKED, "dev-2",
	 "this certificate is revoked; dev-2 itself is active and has 1 other credential(s): use "
	 "one of them, or issue a new one with `pki/fleet add dev-2`"},
	{CERT_PENDING, KEY_UNKNOWN, "dev-p", REFUSAL_PENDING, "dev-p",
	 "pending: registered but not let in yet; to let it in: `pki/fleet approve dev-p`"},
	{CERT_SUSPENDED, KEY_UNKNOWN, "dev-s", REFUSAL_SUSPENDED, "dev-s",
	 "suspended; to let it in again: `pki/fleet resume dev-s`"},
	{CERT_SUSPENDED_REVOKED, KEY_UNKNOWN, "dev-s", REFUSAL_SUSPENDED, "dev-s",
	 "suspended; to let it in again: `pki/fleet resume dev-s`"},
	{CERT_REVOKED, KEY_UNKNOWN, "dev-r", REFUSAL_REVOKED, "dev-r",
	 "revoked, which is meant to be for good: find out who still uses its key; if it was a "
	 "mistake: `pki/fleet resume dev-r`"},
};

static void check(const struct identity *who, enum refusal refusal, const char *principal,
		  const char *why)
{
	assert_string_equal(who->why, why);
	assert_int_equal(who->refusal, refusal);
	if (principal)
		assert_string_equal(who->principal->id, principal);
	else
		assert_null(who->principal);
}

static void test_refused_certificates(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(certificates) / sizeof(*certificates); i++) {
		const struct refused *r = &certificates[i];
		struct identity who;

		identify(&who, r->fingerprint, r->key, r->name);
		check(&who, r->refusal, r->principal, r->why);
	}
}

static void test_tokens(void **state)
{
	struct identity who;
	char long_token[2000];

	(void)state;
	identify_token(&who, snapshot, "backend", "secret");
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_string_equal(who.principal->id, "backend");

	identify_token(&who, snapshot, "backend", "wrong");
	check(&who, REFUSAL_UNKNOWN, "backend",
	      "wrong token; backend has 1 credential(s): was the token replaced? its row in "
	      "fieldgate.credential has kind 'token'");
	identify_token(&who, snapshot, "backend", "");
	assert_int_equal(who.refusal, REFUSAL_UNKNOWN);
	memset(long_token, 'x', sizeof(long_token) - 1);
	long_token[sizeof(long_token) - 1] = '\0';
	identify_token(&who, snapshot, "backend", long_token);
	assert_int_equal(who.refusal, REFUSAL_UNKNOWN);

	/* The token belongs to the name it was made for: the two are not just run together. */
	identify_token(&who, snapshot, "backen", "dsecret");
	check(&who, REFUSAL_UNKNOWN, NULL,
	      "the user name is no principal: register it in fieldgate.principal, and its token in "
	      "fieldgate.credential");
	identify_token(&who, snapshot, "dev-1", "secret");
	assert_int_equal(who.refusal, REFUSAL_UNKNOWN);
	identify_token(&who, snapshot, "no/id", "secret");
	assert_int_equal(who.refusal, REFUSAL_UNKNOWN);

	identify_token(&who, snapshot, "backend", "old");
	check(&who, REFUSAL_CREDENTIAL_REVOKED, "backend",
	      "this credential is revoked; backend itself is active and has 1 other credential(s): "
	      "use "
	      "one of them, or register a new one in fieldgate.credential");
	identify_token(&who, snapshot, "dev-s", "secret");
	assert_int_equal(who.refusal, REFUSAL_SUSPENDED);
	identify_token(&who, snapshot, "dev-2", "moved");
	check(&who, REFUSAL_NAME, "dev-p",
	      "the token was made for dev-2 but is registered for dev-p; correct "
	      "fieldgate.credential.principal");
}

static void again(struct identity *who, const char *id, enum credential_kind kind, int n)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	memset(fingerprint, n, sizeof(fingerprint));
	memset(who, 0xa5, sizeof(*who));
	identify_again(who, snapshot, id, kind, n ? fingerprint : NULL, 0);
}

static void test_live_connections(void **state)
{
	struct identity who;

	(void)state;
	again(&who, "dev-1", CREDENTIAL_X509, CERT_DEV_1);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_string_equal(who.principal->id, "dev-1");
	again(&who, "dev-1", CREDENTIAL_X509, 0);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	again(&who, "dev-2", CREDENTIAL_X509_KEY, KEY_DEV_2);
	assert_int_equal(who.refusal, REFUSAL_NONE);

	again(&who, "dev-9", CREDENTIAL_X509, CERT_DEV_1);
	check(&who, REFUSAL_UNKNOWN, NULL,
	      "not registered any more; to let it in again: `pki/fleet add dev-9`");
	again(&who, "dev-1", CREDENTIAL_X509, CERT_UNKNOWN);
	check(&who, REFUSAL_UNKNOWN, "dev-1",
	      "its credential is not registered any more; dev-1 has 1 other(s)");
	again(&who, "dev-1", CREDENTIAL_PSK, CERT_DEV_1);
	assert_int_equal(who.refusal, REFUSAL_UNKNOWN);
	again(&who, "dev-2", CREDENTIAL_X509, CERT_DEV_1);
	assert_int_equal(who.refusal, REFUSAL_NAME);
	assert_string_equal(who.why,
			    "its credential is now registered for dev-1, no longer for dev-2");
	again(&who, "dev-1", CREDENTIAL_X509, CERT_DEV_1_REVOKED);
	assert_int_equal(who.refusal, REFUSAL_CREDENTIAL_REVOKED);
	again(&who, "dev-s", CREDENTIAL_X509, 0);
	assert_int_equal(who.refusal, REFUSAL_SUSPENDED);
	again(&who, "dev-s", CREDENTIAL_X509, CERT_SUSPENDED);
	assert_int_equal(who.refusal, REFUSAL_SUSPENDED);
	again(&who, "dev-p", CREDENTIAL_X509, CERT_PENDING);
	assert_int_equal(who.refusal, REFUSAL_PENDING);
	again(&who, "dev-r", CREDENTIAL_X509, 0);
	assert_int_equal(who.refusal, REFUSAL_REVOKED);
}

static void proven(struct identity *who, enum credential_kind kind, int n)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	memset(fingerprint, n, sizeof(fingerprint));
	memset(who, 0xa5, sizeof(*who));
	identify_proven(who, snapshot, snapshot_credential(snapshot, kind, fingerprint));
}

static void test_credentials_proven_elsewhere(void **state)
{
	struct identity who;

	(void)state;
	proven(&who, CREDENTIAL_JWT, JWT_DEV_1);
	check(&who, REFUSAL_NONE, "dev-j", "");
	assert_int_equal(who.credential->kind, CREDENTIAL_JWT);
	proven(&who, CREDENTIAL_JWT, JWT_DEV_1_REVOKED);
	check(&who, REFUSAL_CREDENTIAL_REVOKED, "dev-j",
	      "the key of this JWT is revoked; dev-j itself is active and has 1 other "
	      "credential(s): use one of them, or register a new key with `pki/fleet jwt-key dev-j "
	      "FILE`");
	proven(&who, CREDENTIAL_PSK, PSK_DEV_1_REVOKED);
	check(&who, REFUSAL_CREDENTIAL_REVOKED, "dev-j",
	      "this pre-shared key is revoked; dev-j itself is active and has 1 other "
	      "credential(s): use one of them, or make a new one with `pki/fleet psk dev-j`");
	proven(&who, CREDENTIAL_JWT, JWT_SUSPENDED);
	assert_int_equal(who.refusal, REFUSAL_SUSPENDED);
}

static void test_refusals_of_others_leave_nothing_of_before(void **state)
{
	struct identity who;

	(void)state;
	memset(&who, 0xa5, sizeof(who));
	identify_refuse(&who, NULL, REFUSAL_UNKNOWN, "%s no. %d", "reason", 1);
	check(&who, REFUSAL_UNKNOWN, NULL, "reason no. 1");
	assert_null(who.credential);
}

/* --- Dates --- */

static int64_t wall_clock_us;

static int64_t wall_clock(void)
{
	return wall_clock_us;
}

static void it_is(int64_t second)
{
	wall_clock_us = second * US_PER_S + 999999;
	clock_override(wall_clock, NULL);
}

static int real_clock(void **state)
{
	(void)state;
	clock_override(NULL, NULL);
	return 0;
}

static void resumed(struct identity *who, int n)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	memset(fingerprint, n, sizeof(fingerprint));
	memset(who, 0xa5, sizeof(*who));
	identify_resumed(who, snapshot, "dev-d", CREDENTIAL_X509, fingerprint, 0);
}

static void test_what_begins_is_judged_by_the_dates(void **state)
{
	static const char early[] = "its credential is not valid before 2026-01-01T00:00:00Z; is "
				    "the clock of this machine right?";
	static const char late[] = "its certificate has expired, on 2026-01-31T00:00:00Z; issue a "
				   "new one with `pki/fleet renew dev-d`";
	struct identity who;

	(void)state;
	it_is(BEGINS - 1);
	identify(&who, CERT_DATED, KEY_UNKNOWN, "dev-d");
	check(&who, REFUSAL_NOT_YET_VALID, "dev-d", early);
	resumed(&who, CERT_DATED);
	check(&who, REFUSAL_NOT_YET_VALID, "dev-d", early);
	it_is(BEGINS);
	identify(&who, CERT_DATED, KEY_UNKNOWN, "dev-d");
	check(&who, REFUSAL_NONE, "dev-d", "");
	/* RFC 5280 section 4.1.2.5: through notAfter, inclusive. */
	it_is(ENDS);
	identify(&who, CERT_DATED, KEY_UNKNOWN, "dev-d");
	check(&who, REFUSAL_NONE, "dev-d", "");
	resumed(&who, CERT_DATED);
	check(&who, REFUSAL_NONE, "dev-d", "");
	it_is(ENDS + 1);
	identify(&who, CERT_DATED, KEY_UNKNOWN, "dev-d");
	check(&who, REFUSAL_EXPIRED, "dev-d", late);
	resumed(&who, CERT_DATED);
	check(&who, REFUSAL_EXPIRED, "dev-d", late);
}

static void test_every_kind_has_dates(void **state)
{
	struct identity who;

	(void)state;
	it_is(ENDS + 1);
	proven(&who, CREDENTIAL_JWT, JWT_DATED);
	check(&who, REFUSAL_EXPIRED, "dev-d",
	      "the key of its JWT has expired, on 2026-01-31T00:00:00Z; register a new one with "
	      "`pki/fleet jwt-key dev-d FILE`");
	proven(&who, CREDENTIAL_PSK, PSK_DATED);
	check(&who, REFUSAL_EXPIRED, "dev-d",
	      "its pre-shared key has expired, on 2026-01-31T00:00:00Z; make a new one with "
	      "`pki/fleet psk dev-d`");
	proven(&who, CREDENTIAL_JWT, JWT_DEV_1);
	assert_int_equal(who.refusal, REFUSAL_NONE);
}

static void test_a_revoked_credential_is_revoked_whatever_its_dates(void **state)
{
	struct identity who;

	(void)state;
	it_is(ENDS + 1);
	identify(&who, CERT_DATED_REVOKED, KEY_UNKNOWN, "dev-d");
	assert_int_equal(who.refusal, REFUSAL_CREDENTIAL_REVOKED);
}

static void test_what_stays_is_not_judged_by_the_wall_clock(void **state)
{
	struct identity who;

	(void)state;
	it_is(BEGINS - 1);
	again(&who, "dev-d", CREDENTIAL_X509, CERT_DATED);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	it_is(ENDS + 1);
	again(&who, "dev-d", CREDENTIAL_X509, CERT_DATED);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	assert_int_equal(who.valid_for_s, 0);
}

static void test_how_long_it_is_valid(void **state)
{
	struct identity who;

	(void)state;
	it_is(ENDS - 60);
	identify(&who, CERT_DATED, KEY_UNKNOWN, "dev-d");
	assert_int_equal(who.valid_for_s, 60);
	again(&who, "dev-d", CREDENTIAL_X509, CERT_DATED);
	assert_int_equal(who.valid_for_s, 60);
	again(&who, "dev-d", CREDENTIAL_X509, 0);
	assert_int_equal(who.valid_for_s, INT64_MAX);
	identify(&who, CERT_DEV_1, KEY_UNKNOWN, "dev-1");
	assert_int_equal(who.valid_for_s, INT64_MAX);
}

/* The fingerprint is that of the identity, and says nothing of the key. */
static void test_a_replaced_key_ends_what_the_former_one_has_opened(void **state)
{
	static const char replaced[] = "its pre-shared key has been replaced since it has proven "
				       "to hold it; give it the new one, if it does not have that: "
				       "`pki/fleet psk dev-d --replace`";
	uint8_t psk[FINGERPRINT_LEN];
	struct identity who;

	(void)state;
	it_is(BEGINS);
	memset(psk, PSK_DATED, sizeof(psk));
	identify_again(&who, snapshot, "dev-d", CREDENTIAL_PSK, psk, 7);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	identify_resumed(&who, snapshot, "dev-d", CREDENTIAL_PSK, psk, 7);
	assert_int_equal(who.refusal, REFUSAL_NONE);
	identify_again(&who, snapshot, "dev-d", CREDENTIAL_PSK, psk, 6);
	check(&who, REFUSAL_CREDENTIAL_REVOKED, "dev-d", replaced);
	identify_resumed(&who, snapshot, "dev-d", CREDENTIAL_PSK, psk, 6);
	check(&who, REFUSAL_CREDENTIAL_REVOKED, "dev-d", replaced);
	/* By a copy on disk of an earlier release nobody can tell. */
	identify_again(&who, snapshot, "dev-d", CREDENTIAL_PSK, psk, 0);
	assert_int_equal(who.refusal, REFUSAL_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registered_certificate_is_its_device),
		cmocka_unit_test(test_registered_key_is_its_device),
		cmocka_unit_test(test_refused_certificates),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_live_connections),
		cmocka_unit_test(test_credentials_proven_elsewhere),
		cmocka_unit_test(test_refusals_of_others_leave_nothing_of_before),
		cmocka_unit_test_teardown(test_what_begins_is_judged_by_the_dates, real_clock),
		cmocka_unit_test_teardown(test_every_kind_has_dates, real_clock),
		cmocka_unit_test_teardown(test_a_revoked_credential_is_revoked_whatever_its_dates,
					  real_clock),
		cmocka_unit_test_teardown(test_what_stays_is_not_judged_by_the_wall_clock,
					  real_clock),
		cmocka_unit_test_teardown(test_how_long_it_is_valid, real_clock),
		cmocka_unit_test_teardown(test_a_replaced_key_ends_what_the_former_one_has_opened,
					  real_clock),
	};

	return cmocka_run_group_tests(tests, make_fleet, drop_fleet);
}
