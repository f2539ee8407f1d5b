/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-shared keys: from an identity to the key that its row holds sealed, or to a refusal. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "core/registry/psk.h"

#define MASTER "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define OTHER  "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\n"

static const struct snapshot *fleet;
static struct secret_keys *master, *other;
static uint8_t secret[64];
static char err[512];

static struct secret_keys *load(const char *content)
{
	char path[] = "/tmp/fieldgate-test-psk-XXXXXX";
	int fd = mkstemp(path);
	struct secret_keys *k;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
	if (secret_keys_load(&k, path, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	unlink(path);
	return k;
}

static void add_device(struct snapshot_builder *b, const char *id, enum principal_state state)
{
	assert_int_equal(
		snapshot_add_principal(b, id, PRINCIPAL_DEVICE, state, "device", err, sizeof(err)),
		0);
}

static void fingerprint_of(uint8_t out[FINGERPRINT_LEN], const char *identity)
{
	assert_true(EVP_Digest(identity, strlen(identity), out, NULL, EVP_sha256(), NULL));
}

static void add_row(struct snapshot_builder *b, const char *id, const char *identity, bool revoked,
		    const void *material, size_t len)
{
	uint8_t fingerprint[FINGERPRINT_LEN];

	fingerprint_of(fingerprint, identity);
	assert_int_equal(snapshot_add_credential(b, CREDENTIAL_PSK, fingerprint, id, revoked,
						 material, len, err, sizeof(err)),
			 0);
}

/* A row as pki/fleet makes it, or one that was sealed for another identity or principal. */
static void add_sealed(struct snapshot_builder *b, const char *id, const char *identity, size_t len,
		       bool revoked, const char *sealed_id, const char *sealed_identity,
		       enum credential_kind kind)
{
	uint8_t sealed[SECRET_OVERHEAD + SECRET_MAX], context[SECRET_CONTEXT_MAX];
	uint8_t fingerprint[FINGERPRINT_LEN];
	size_t context_len;

	fingerprint_of(fingerprint, sealed_identity);
	context_len = secret_context(context, kind, fingerprint, sealed_id);
	assert_int_equal(secret_seal(master, secret, len, context, context_len, sealed), 0);
	add_row(b, id, identity, revoked, sealed, SECRET_OVERHEAD + len);
}

static void add_good(struct snapshot_builder *b, const char *id, const char *identity, size_t len,
		     bool revoked)
{
	add_sealed(b, id, identity, len, revoked, id, identity, CREDENTIAL_PSK);
}

#define ID_128                                                                                     \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                         \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int make_fleet(void **state)
{
	struct snapshot_builder *b = snapshot_builder_new();

	(void)state;
	master = load(MASTER);
	other = load(OTHER);
	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)(0x80 + i);
	assert_int_equal(snapshot_add_policy(b, "device", err, sizeof(err)), 0);
	add_device(b, "dev-1", PRINCIPAL_ACTIVE);
	add_good(b, "dev-1", "dev-1", 32, false);
	add_good(b, "dev-1", "nrf-351358811124772", 16, false);
	add_good(b, "dev-1", ID_128, 64, false);
	add_good(b, "dev-1", "old", 32, true);
	add_good(b, "dev-1", "short", 15, false);
	add_row(b, "dev-1", "null", false, NULL, 0);
	add_row(b, "dev-1", "plain", false, secret, 32);
	add_sealed(b, "dev-1", "of-dev-2", 32, false, "dev-2", "of-dev-2", CREDENTIAL_PSK);
	add_sealed(b, "dev-1", "copied", 32, false, "dev-1", "dev-1", CREDENTIAL_PSK);
	add_sealed(b, "dev-1", "token", 32, false, "dev-1", "token", CREDENTIAL_TOKEN);
	add_device(b, "dev-p", PRINCIPAL_PENDING);
	add_good(b, "dev-p", "dev-p", 32, false);
	add_device(b, "dev-s", PRINCIPAL_SUSPENDED);
	add_good(b, "dev-s", "dev-s", 32, false);
	add_device(b, "dev-r", PRINCIPAL_REVOKED);
	add_good(b, "dev-r", "dev-r", 32, true);
	fleet = snapshot_build(b, 1);
	return fleet ? 0 : -1;
}

static int drop_fleet(void **state)
{
	(void)state;
	snapshot_release(fleet);
	secret_keys_free(master);
	secret_keys_free(other);
	return 0;
}

static void find(struct identity *who, const struct secret_keys *keys, const void *identity,
		 size_t len, uint8_t key[64], size_t *key_len)
{
	memset(who, 0xa5, sizeof(*who));
	memset(key, 0, 64);
	psk_find(who, fleet, keys, identity, len, key, key_len);
	assert_int_equal(ERR_peek_error(), 0);
}

static void test_registered_identity_gives_its_key(void **state)
{
	static const struct {
		const char *identity;
		size_t len;
	} lines[] = {{"dev-1", 32}, {"nrf-351358811124772", 16}, {ID_128, 64}};
	struct identity who;
	uint8_t key[64];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		find(&who, master, lines[i].identity, strlen(lines[i].identity), key, &len);
		if (who.refusal != REFUSAL_NONE)
			fail_msg("%s: %s", lines[i].identity, who.why);
		assert_string_equal(who.principal->id, "dev-1");
		assert_int_equal(who.credential->kind, CREDENTIAL_PSK);
		assert_int_equal(len, lines[i].len);
		assert_memory_equal(key, secret, len);
	}
}

static const struct {
	const char *identity;
	size_t len; /* 0: that of the text */
	enum refusal refusal;
	const char *device;
	const char *why;
} refused[] = {
	{"dev-2", 0, REFUSAL_UNKNOWN, NULL, "the PSK identity 'dev-2' is not registered"},
	{"DEV-1", 0, REFUSAL_UNKNOWN, NULL, "is not registered"},
	{"dev-1", 6, REFUSAL_UNKNOWN, NULL, "is not registered"},
	{"dev-1", 4, REFUSAL_UNKNOWN, NULL, "is not registered"},
	{ID_128 "0", 0, REFUSAL_UNKNOWN, NULL, "has 129 bytes; 1 to 128"},
	{"old", 0, REFUSAL_CREDENTIAL_REVOKED, "dev-1", "this pre-shared key is revoked"},
	{"short", 0, REFUSAL_UNKNOWN, "dev-1", "has 15 bytes, fewer than 16"},
	{"null", 0, REFUSAL_UNKNOWN, "dev-1", "does not open: the row is damaged"},
	{"plain", 0, REFUSAL_UNKNOWN, "dev-1", "does not open: the row is damaged"},
	{"of-dev-2", 0, REFUSAL_UNKNOWN, "dev-1", "sealed for another principal or identity"},
	{"copied", 0, REFUSAL_UNKNOWN, "dev-1", "sealed for another principal or identity"},
	{"token", 0, REFUSAL_UNKNOWN, "dev-1", "sealed for another principal or identity"},
	{"dev-p", 0, REFUSAL_PENDING, "dev-p", "pending: registered but not let in yet"},
	{"dev-s", 0, REFUSAL_SUSPENDED, "dev-s", "suspended; to let it in again"},
	{"dev-r", 0, REFUSAL_REVOKED, "dev-r", "revoked, which is meant to be for good"},
};

static void expect_no_key(const uint8_t key[64], size_t len)
{
	static const uint8_t nothing[64];

	assert_int_equal(len, 0);
	assert_memory_equal(key, nothing, sizeof(nothing));
}

static void test_refused_identities_get_no_key_and_the_log_says_why(void **state)
{
	struct identity who;
	uint8_t key[64];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		const char *identity = refused[i].identity;

		find(&who, master, identity, refused[i].len ? refused[i].len : strlen(identity),
		     key, &len);
		if (!strstr(who.why, refused[i].why))
			fail_msg("'%s' is not in '%s'", refused[i].why, who.why);
		assert_int_equal(who.refusal, refused[i].refusal);
		if (refused[i].device)
			assert_string_equal(who.principal->id, refused[i].device);
		else
			assert_null(who.principal);
		expect_no_key(key, len);
	}
}

static void test_empty_identity_is_refused(void **state)
{
	struct identity who;
	uint8_t key[64];
	size_t len;

	(void)state;
	find(&who, master, "", 0, key, &len);
	assert_int_equal(who.refusal, REFUSAL_UNKNOWN);
	assert_non_null(strstr(who.why, "has 0 bytes"));
	expect_no_key(key, len);
}

static void test_missing_master_key_is_said(void **state)
{
	const struct secret_keys *without[] = {NULL, other};
	struct identity who;
	uint8_t key[64];
	size_t len;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		find(&who, without[i], "dev-1", 5, key, &len);
		assert_int_equal(who.refusal, REFUSAL_UNKNOWN);
		assert_string_equal(who.principal->id, "dev-1");
		assert_non_null(strstr(who.why, "is not in secrets.key_file"));
		expect_no_key(key, len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registered_identity_gives_its_key),
		cmocka_unit_test(test_refused_identities_get_no_key_and_the_log_says_why),
		cmocka_unit_test(test_empty_identity_is_refused),
		cmocka_unit_test(test_missing_master_key_is_said),
	};

	return cmocka_run_group_tests(tests, make_fleet, drop_fleet);
}
