/* SPDX-License-Identifier: Apache-2.0 */
/* coap-server/crypto: Mbed TLS with our hooks gives the answers that others published, and the same
 * answers as Mbed TLS without them. The same tests run with Mbed TLS's own code in place of the
 * hooks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mbedtls/ecdh.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/deps/p256_calls.h"

static const struct p256_calls *const tested = &p256_calls, *const plain = &reference_calls;

static const char order_hex[] = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/* A line of tests/vectors/: words, the last of them followed by a comment. */
struct line {
	char text[2048];
	char *word[4];
	const char *comment;
	int words;
};

static bool next_line(FILE *file, struct line *line)
{
	char *save = NULL, *hash;

	do {
		if (fgets(line->text, sizeof(line->text), file) == NULL)
			return false;
	} while (line->text[0] == '#');
	hash = strchr(line->text, '#');
	line->comment = hash ? hash + 1 : "";
	if (hash)
		*hash = '\0';
	line->words = 0;
	for (char *w = strtok_r(line->text, " \n", &save); w && line->words < 4;
	     w = strtok_r(NULL, " \n", &save))
		line->word[line->words++] = w;
	return true;
}

static size_t from_hex(const char *hex, unsigned char *out, size_t size)
{
	size_t len = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;

	assert_true(len <= size);
	for (size_t i = 0; i < len; i++) {
		char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		out[i] = (unsigned char)strtoul(pair, NULL, 16);
	}
	return len;
}

/* The bytes of a big-endian number plus a small one. */
static void add_small(unsigned char number[32], unsigned small)
{
	for (int i = 31; i >= 0; i--) {
		small += number[i];
		number[i] = (unsigned char)small;
		small >>= 8;
	}
}

static void test_published_signatures_are_judged_as_published(void **state)
{
	FILE *file = fopen("tests/vectors/ecdsa_p256.txt", "r");
	unsigned char point[64], message[512], hash[32], sig[128];
	struct line line;
	int valid = 0, invalid = 0;

	(void)state;
	assert_non_null(file);
	while (next_line(file, &line)) {
		size_t len;
		int ret;

		if (strcmp(line.word[0], "key") == 0) {
			assert_int_equal(from_hex(line.word[1], point, sizeof(point)), 64);
			continue;
		}
		assert_int_equal(line.words, 3);
		len = from_hex(line.word[1], message, sizeof(message));
		assert_int_equal(tested->sha256(message, len, hash), 0);
		len = from_hex(line.word[2], sig, sizeof(sig));
		ret = tested->verify(point, hash, sizeof(hash), sig, len);
		if (strcmp(line.word[0], "valid") == 0 ? ret != 0
						       : ret != MBEDTLS_ERR_ECP_VERIFY_FAILED)
			fail_msg("%s returned %d:%s", line.word[0], ret, line.comment);
		valid += ret == 0;
		invalid += ret != 0;
	}
	fclose(file);
	assert_int_equal(valid, 175);
	assert_int_equal(invalid, 77);
}

static void test_published_shared_secrets_come_out_as_published(void **state)
{
	FILE *file = fopen("tests/vectors/ecdh_p256.txt", "r");
	unsigned char d[32], point[65], expected[32], z[32];
	struct line line;
	int valid = 0, invalid = 0;

	(void)state;
	assert_non_null(file);
	while (next_line(file, &line)) {
		size_t len;
		int ret;

		assert_int_equal(line.words, 4);
		assert_int_equal(from_hex(line.word[1], d, sizeof(d)), 32);
		len = from_hex(line.word[2], point, sizeof(point));
		ret = tested->shared(d, point, len, z);
		if (strcmp(line.word[0], "valid") == 0) {
			from_hex(line.word[3], expected, sizeof(expected));
			if (ret != 0 || memcmp(z, expected, 32) != 0)
				fail_msg("returned %d:%s", ret, line.comment);
			valid++;
		} else {
			if (ret == 0 || ret != plain->shared(d, point, len, z))
				fail_msg("returned %d:%s", ret, line.comment);
			invalid++;
		}
	}
	fclose(file);
	assert_int_equal(valid, 153);
	assert_int_equal(invalid, 24);
}

/* FIPS 180-4's examples, then every length that can end a block differently. */
static void test_sha256_is_sha256(void **state)
{
	static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	unsigned char hash[32], expected[32], message[300];

	(void)state;
	from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", expected, 32);
	assert_int_equal(tested->sha256((const unsigned char *)"abc", 3, hash), 0);
	assert_memory_equal(hash, expected, 32);
	from_hex("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", expected, 32);
	assert_int_equal(tested->sha256((const unsigned char *)two_blocks, 56, hash), 0);
	assert_memory_equal(hash, expected, 32);
	random_bytes(message, sizeof(message));
	for (size_t len = 0; len <= sizeof(message); len++) {
		assert_int_equal(tested->sha256(message, len, hash), 0);
		assert_int_equal(plain->sha256(message, len, expected), 0);
		assert_memory_equal(hash, expected, 32);
	}
}

static void check_signature(const struct p256_calls *signer, const struct p256_calls *verifier,
			    const unsigned char d[32], const unsigned char point[64], size_t len)
{
	unsigned char hash[64], sig[64], bad[64], bit;

	random_bytes(hash, sizeof(hash));
	random_bytes(&bit, 1);
	assert_int_equal(signer->sign(d, hash, len, sig), 0);
	assert_int_equal(verifier->verify(point, hash, len, sig, 64), 0);
	memcpy(bad, sig, 64);
	bad[bit / 4] ^= (unsigned char)(1u << (bit % 8));
	assert_int_equal(verifier->verify(point, hash, len, bad, 64),
			 MBEDTLS_ERR_ECP_VERIFY_FAILED);
	hash[bit % (len < 32 ? len : 32)] ^= 0x10;
	assert_int_equal(verifier->verify(point, hash, len, sig, 64),
			 MBEDTLS_ERR_ECP_VERIFY_FAILED);
}

/* A hash longer than the order counts by its first 32 bytes, a shorter one as it is (FIPS
 * 186-5, 6.4). */
static void test_each_build_verifies_what_the_other_signed(void **state)
{
	static const size_t hash_len[] = {20, 28, 32, 48, 64};
	unsigned char d[2][32], point[2][64];

	(void)state;
	assert_int_equal(tested->generate(d[0], point[0]), 0);
	assert_int_equal(plain->generate(d[1], point[1]), 0);
	for (int i = 0; i < 40; i++) {
		/* Another key at every other call: the key kept from the call before must not sign.
		 */
		int key = i % 2;

		check_signature(tested, plain, d[key], point[key], hash_len[i % 5]);
		check_signature(plain, tested, d[key], point[key], hash_len[i % 5]);
	}
}

static void test_both_builds_agree_on_shared_secrets(void **state)
{
	unsigned char d[2][32], point[2][65] = {{4}, {4}}, z[3][32];

	(void)state;
	for (int i = 0; i < 25; i++) {
		assert_int_equal(tested->generate(d[0], point[0] + 1), 0);
		assert_int_equal(plain->generate(d[1], point[1] + 1), 0);
		assert_int_equal(tested->shared(d[0], point[1], 65, z[0]), 0);
		assert_int_equal(tested->shared(d[1], point[0], 65, z[1]), 0);
		assert_int_equal(plain->shared(d[1], point[0], 65, z[2]), 0);
		assert_memory_equal(z[0], z[1], 32);
		assert_memory_equal(z[0], z[2], 32);
	}
}

static void test_two_signatures_of_one_hash_differ(void **state)
{
	unsigned char d[32], point[64], hash[32] = {0}, sig[2][64];

	(void)state;
	assert_int_equal(tested->generate(d, point), 0);
	assert_int_equal(tested->sign(d, hash, sizeof(hash), sig[0]), 0);
	assert_int_equal(tested->sign(d, hash, sizeof(hash), sig[1]), 0);
	assert_memory_not_equal(sig[0], sig[1], 32);
	assert_int_equal(tested->verify(point, hash, sizeof(hash), sig[0], 64), 0);
}

static void test_private_keys_outside_the_order_are_refused(void **state)
{
	unsigned char d[32] = {0}, own[32], point[65] = {4}, hash[32] = {1}, sig[64], z[32];

	(void)state;
	assert_int_equal(tested->generate(own, point + 1), 0);
	assert_int_equal(tested->sign(d, hash, 32, sig), MBEDTLS_ERR_ECP_INVALID_KEY);
	assert_int_equal(tested->shared(d, point, 65, z), MBEDTLS_ERR_ECP_INVALID_KEY);
	from_hex(order_hex, d, sizeof(d));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(tested->sign(d, hash, 32, sig), MBEDTLS_ERR_ECP_INVALID_KEY);
		assert_int_equal(tested->shared(d, point, 65, z), MBEDTLS_ERR_ECP_INVALID_KEY);
		add_small(d, 1);
	}
	from_hex(order_hex, d, sizeof(d));
	d[31]--;
	assert_int_equal(tested->sign(d, hash, 32, sig), 0);
	assert_int_equal(tested->shared(d, point, 65, z), 0);
	/* (n - 1) Q = -Q: the same X. */
	assert_memory_equal(z, point + 1, 32);
}

/* Whether Mbed TLS's parser or the hook refuses: both must, the hook is not always behind the
 * parser. */
static void test_public_keys_that_are_no_points_are_refused(void **state)
{
	unsigned char d[32], point[65] = {4}, bad[65], hash[32] = {1}, sig[64], z[32], infinity = 0;

	(void)state;
	assert_int_equal(tested->generate(d, point + 1), 0);
	assert_int_equal(tested->sign(d, hash, 32, sig), 0);
	assert_int_not_equal(tested->shared(d, &infinity, 1, z), 0);
	memcpy(bad, point, sizeof(bad));
	bad[64] ^= 1;
	assert_int_not_equal(tested->shared(d, bad, 65, z), 0);
	assert_int_not_equal(tested->verify(bad + 1, hash, 32, sig, 64), 0);
	memset(bad + 1, 0xff, 64);
	assert_int_not_equal(tested->shared(d, bad, 65, z), 0);
	assert_int_not_equal(tested->verify(bad + 1, hash, 32, sig, 64), 0);
	assert_int_equal(tested->verify(point + 1, hash, 32, sig, 64), 0);
}

static int no_random(void *arg, unsigned char *out, size_t len)
{
	(void)arg;
	(void)out;
	(void)len;
	return -0x4242;
}

static void test_infinity_negative_numbers_and_lack_of_randomness_are_refused(void **state)
{
	unsigned char hash[32] = {[31] = 1};
	mbedtls_ecp_group group;
	mbedtls_ecp_point point;
	mbedtls_mpi d, r, s;

	(void)state;
	mbedtls_ecp_group_init(&group);
	mbedtls_ecp_point_init(&point);
	mbedtls_mpi_init(&d);
	mbedtls_mpi_init(&r);
	mbedtls_mpi_init(&s);
	assert_int_equal(mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1), 0);
	assert_int_equal(mbedtls_ecdh_gen_public(&group, &d, &point, no_random, NULL), -0x4242);
	assert_int_equal(mbedtls_mpi_lset(&d, 3), 0);
	assert_int_equal(mbedtls_mpi_lset(&r, 1), 0);
	assert_int_equal(mbedtls_mpi_lset(&s, 1), 0);
	assert_int_equal(mbedtls_ecp_set_zero(&point), 0);
	assert_int_not_equal(mbedtls_ecdh_compute_shared(&group, &r, &point, &d, no_random, NULL),
			     0);
	/* With infinity for a key anybody can sign: the hash 1 by r = X of the generator, s = 1. */
	assert_int_equal(mbedtls_mpi_copy(&r, &group.G.MBEDTLS_PRIVATE(X)), 0);
	assert_int_not_equal(mbedtls_ecdsa_verify(&group, hash, 32, &point, &r, &s), 0);
	assert_int_equal(mbedtls_ecp_copy(&point, &group.G), 0);
	assert_int_equal(mbedtls_mpi_lset(&r, -1), 0);
	assert_int_equal(mbedtls_ecdsa_verify(&group, hash, 32, &point, &r, &s),
			 MBEDTLS_ERR_ECP_VERIFY_FAILED);
	mbedtls_ecp_group_free(&group);
	mbedtls_ecp_point_free(&point);
	mbedtls_mpi_free(&d);
	mbedtls_mpi_free(&r);
	mbedtls_mpi_free(&s);
}

#ifdef MBEDTLS_ECDSA_VERIFY_ALT
static void test_other_curves_are_not_available(void **state)
{
	unsigned char hash[48] = {1};
	mbedtls_ecp_group group;
	mbedtls_mpi d, r, s;

	(void)state;
	mbedtls_ecp_group_init(&group);
	mbedtls_mpi_init(&d);
	mbedtls_mpi_init(&r);
	mbedtls_mpi_init(&s);
	assert_int_equal(mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP384R1), 0);
	assert_int_equal(mbedtls_mpi_lset(&d, 3), 0);
	assert_int_equal(mbedtls_ecdsa_sign(&group, &r, &s, &d, hash, 48, no_random, NULL),
			 MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE);
	assert_int_equal(mbedtls_ecdsa_verify(&group, hash, 48, &group.G, &d, &d),
			 MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE);
	assert_int_equal(mbedtls_ecdh_compute_shared(&group, &r, &group.G, &d, no_random, NULL),
			 MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE);
	mbedtls_ecp_group_free(&group);
	mbedtls_mpi_free(&d);
	mbedtls_mpi_free(&r);
	mbedtls_mpi_free(&s);
}
#endif

/* The errors of OpenSSL are a list of the thread's: someone else's stay, ours do not come to it. */
static void test_openssl_errors_are_left_as_they_were(void **state)
{
	unsigned char d[32], point[65] = {4}, hash[32] = {1}, sig[64] = {1}, z[32];

	(void)state;
	assert_int_equal(tested->generate(d, point + 1), 0);
	point[64] ^= 1;
	ERR_clear_error();
	for (int i = 0; i < 2; i++) {
		unsigned long before = ERR_peek_last_error();

		assert_int_not_equal(tested->shared(d, point, 65, z), 0);
		assert_int_not_equal(tested->verify(point + 1, hash, 32, sig, 64), 0);
		assert_int_equal(tested->sign(d, hash, 32, sig), 0);
		assert_true(ERR_peek_last_error() == before);
		ERR_raise(ERR_LIB_USER, 7);
	}
	ERR_clear_error();
}

static void *sign_and_verify(void *arg)
{
	unsigned char d[32], point[64], hash[32] = {1}, sig[64];
	int *failed = arg;

	for (int i = 0; i < 20; i++)
		*failed |= tested->generate(d, point) != 0 ||
			   tested->sign(d, hash, sizeof(hash), sig) != 0 ||
			   tested->verify(point, hash, sizeof(hash), sig, 64) != 0;
	return NULL;
}

/* Under the address sanitizer this shows also that a thread leaves nothing behind. */
static void test_threads_do_not_disturb_each_other(void **state)
{
	pthread_t thread[4];
	int failed[4] = {0};

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, sign_and_verify, &failed[i]), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_int_equal(failed[i], 0);
	}
}

/* OpenSSL's memory, of which the nth piece asked for by this thread is not given. */
static __thread long long pieces_left = -1;

static bool give(void)
{
	if (pieces_left < 0)
		return true;
	if (pieces_left == 0)
		return false;
	pieces_left--;
	return true;
}

static void *limited_malloc(size_t len, const char *file, int line)
{
	(void)file;
	(void)line;
	return give() ? malloc(len) : NULL;
}

static void *limited_realloc(void *p, size_t len, const char *file, int line)
{
	(void)file;
	(void)line;
	return give() ? realloc(p, len) : NULL;
}

static void limited_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	free(p);
}

enum operation { SHARED, GENERATE, VERIFY, VERIFY_FORGED, SIGN_WITH_OTHER, SIGN, OPERATIONS };

struct starved {
	unsigned char d[32], other_d[32], point[65], hash[32], forged_hash[32], sig[64];
	/* How many pieces each operation needed to succeed. */
	int needed[OPERATIONS];
	bool wrong;
};

static int operate(struct starved *s, enum operation operation)
{
	unsigned char sig[64] = {0}, z[32], d[32], point[64];
	int ret;

	switch (operation) {
	case SHARED:
		return tested->shared(s->d, s->point, 65, z);
	case GENERATE:
		return tested->generate(d, point);
	case VERIFY:
		return tested->verify(s->point + 1, s->hash, 32, s->sig, 64);
	case VERIFY_FORGED:
		ret = tested->verify(s->point + 1, s->forged_hash, 32, s->sig, 64);
		s->wrong |= ret == 0;
		return ret == MBEDTLS_ERR_ECP_VERIFY_FAILED ? 0 : ret;
	case SIGN_WITH_OTHER:
		return tested->sign(s->other_d, s->hash, 32, sig);
	default:
		ret = tested->sign(s->d, s->hash, 32, sig);
		s->wrong |= ret == 0 && plain->verify(s->point + 1, s->hash, 32, sig, 64) != 0;
		return ret;
	}
}

/* In a thread of its own, so that the state kept by thread is made under the shortage too. */
static void *starve(void *arg)
{
	struct starved *s = arg;

	for (int i = 0; i < OPERATIONS; i++) {
		int n = 0, ret;

		do {
			pieces_left = n;
			ret = operate(s, (enum operation)i);
			pieces_left = -1;
		} while (ret != 0 && ++n < 2000);
		s->needed[i] = n;
	}
	return NULL;
}

static void test_lack_of_memory_is_an_error(void **state)
{
	struct starved s = {.point = {4}, .forged_hash = {1}};
	unsigned char other[64];
	pthread_t thread;

	(void)state;
	assert_int_equal(plain->generate(s.other_d, other), 0);
	assert_int_equal(plain->generate(s.d, s.point + 1), 0);
	assert_int_equal(plain->sign(s.d, s.hash, 32, s.sig), 0);
	assert_int_equal(pthread_create(&thread, NULL, starve, &s), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(s.wrong);
#ifdef MBEDTLS_ECDSA_SIGN_ALT
	assert_in_range(s.needed[SHARED], 5, 1999);
	assert_in_range(s.needed[VERIFY], 5, 1999);
	assert_in_range(s.needed[SIGN_WITH_OTHER], 5, 1999);
	assert_in_range(s.needed[SIGN], 5, 1999);
#endif
	assert_true(ERR_peek_error() == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_published_signatures_are_judged_as_published),
		cmocka_unit_test(test_published_shared_secrets_come_out_as_published),
		cmocka_unit_test(test_sha256_is_sha256),
		cmocka_unit_test(test_each_build_verifies_what_the_other_signed),
		cmocka_unit_test(test_both_builds_agree_on_shared_secrets),
		cmocka_unit_test(test_two_signatures_of_one_hash_differ),
		cmocka_unit_test(test_private_keys_outside_the_order_are_refused),
		cmocka_unit_test(test_public_keys_that_are_no_points_are_refused),
		cmocka_unit_test(test_infinity_negative_numbers_and_lack_of_randomness_are_refused),
#ifdef MBEDTLS_ECDSA_VERIFY_ALT
		cmocka_unit_test(test_other_curves_are_not_available),
#endif
		cmocka_unit_test(test_openssl_errors_are_left_as_they_were),
		cmocka_unit_test(test_threads_do_not_disturb_each_other),
		cmocka_unit_test(test_lack_of_memory_is_an_error),
	};

	/* OpenSSL takes other allocators only before it allocates for the first time. */
	if (CRYPTO_set_mem_functions(limited_malloc, limited_realloc, limited_free) != 1)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
