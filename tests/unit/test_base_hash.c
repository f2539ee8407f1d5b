/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/hash: SipHash-2-4 as its authors publish it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/hash.h"

/* The authors' test: key 00 01 .. 0f, message 00 01 02 .. of each length. */
static const struct hash_key reference_key = {
	UINT64_C(0x0706050403020100),
	UINT64_C(0x0f0e0d0c0b0a0908),
};

static uint64_t reference_hash(size_t len)
{
	unsigned char message[64];

	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (unsigned char)i;
	return hash_siphash(&reference_key, message, len);
}

/* Aumasson, Bernstein: SipHash, appendix A. */
static void test_the_papers_vector(void **state)
{
	(void)state;
	assert_true(reference_hash(15) == UINT64_C(0xa129ca6149be45e5));
}

/* vectors.h of the reference implementation, vectors_sip64, read as little-endian numbers. */
static void test_the_reference_implementations_vectors(void **state)
{
	static const uint64_t expected[] = {
		UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd),
		UINT64_C(0x0d6c8009d9a94f5a), UINT64_C(0x85676696d7fb7e2d),
		UINT64_C(0xcf2794e0277187b7), UINT64_C(0x18765564cd99a68d),
		UINT64_C(0xcbc9466e58fee3ce), UINT64_C(0xab0200f58b01d137),
		UINT64_C(0x93f5f5799a932462),
	};

	(void)state;
	for (size_t len = 0; len < sizeof(expected) / sizeof(*expected); len++)
		assert_true(reference_hash(len) == expected[len]);
	assert_true(reference_hash(63) == UINT64_C(0x958a324ceb064572));
}

static void test_nothing_is_hashed_without_reading_it(void **state)
{
	(void)state;
	assert_true(hash_siphash(&reference_key, NULL, 0) == reference_hash(0));
}

static void test_bytes_behind_the_length_do_not_count(void **state)
{
	(void)state;
	assert_true(hash_siphash(&reference_key, "dev-1x", 5) ==
		    hash_siphash(&reference_key, "dev-1y", 5));
	assert_true(hash_siphash(&reference_key, "dev-1x", 6) !=
		    hash_siphash(&reference_key, "dev-1y", 6));
}

static void test_table_key_is_drawn_once_and_is_not_zero(void **state)
{
	struct hash_key first = *hash_table_key();

	(void)state;
	assert_true(first.k0 != 0 || first.k1 != 0);
	assert_memory_equal(&first, hash_table_key(), sizeof(first));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_papers_vector),
		cmocka_unit_test(test_the_reference_implementations_vectors),
		cmocka_unit_test(test_nothing_is_hashed_without_reading_it),
		cmocka_unit_test(test_bytes_behind_the_length_do_not_count),
		cmocka_unit_test(test_table_key_is_drawn_once_and_is_not_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
