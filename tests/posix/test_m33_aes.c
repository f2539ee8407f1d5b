/* SPDX-License-Identifier: Apache-2.0 */
/* The AES of the bare device, compiled for this machine, against Mbed TLS's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The library's have the same names. */
#define mbedtls_aes_setkey_enc	     small_setkey_enc
#define mbedtls_internal_aes_encrypt small_encrypt
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "device-fw/ports/qemu_m33/aes.c"
#undef mbedtls_aes_setkey_enc
#undef mbedtls_internal_aes_encrypt

int mbedtls_aes_setkey_enc(mbedtls_aes_context *ctx, const unsigned char *key, unsigned bits);

static void test_example_of_fips_197_appendix_c(void **state)
{
	static const uint8_t expected[BLOCK] = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30,
						0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};
	mbedtls_aes_context ctx = {0};
	uint8_t key[BLOCK], text[BLOCK];

	(void)state;
	for (unsigned i = 0; i < BLOCK; i++) {
		key[i] = (uint8_t)i;
		text[i] = (uint8_t)(i << 4 | i);
	}
	assert_int_equal(small_setkey_enc(&ctx, key, 128), 0);
	assert_int_equal(small_encrypt(&ctx, text, text), 0);
	assert_memory_equal(text, expected, BLOCK);
}

static void test_random_blocks_as_the_library_makes_them(void **state)
{
	uint8_t key[BLOCK], text[BLOCK], ours[BLOCK], theirs[BLOCK];

	(void)state;
	srand(1);
	for (int round = 0; round < 20000; round++) {
		mbedtls_aes_context small = {0}, library;

		for (unsigned i = 0; i < BLOCK; i++) {
			key[i] = (uint8_t)rand();
			text[i] = (uint8_t)rand();
		}
		mbedtls_aes_init(&library);
		assert_int_equal(mbedtls_aes_setkey_enc(&library, key, 128), 0);
		assert_int_equal(mbedtls_aes_crypt_ecb(&library, MBEDTLS_AES_ENCRYPT, text, theirs),
				 0);
		mbedtls_aes_free(&library);
		assert_int_equal(small_setkey_enc(&small, key, 128), 0);
		assert_int_equal(small_encrypt(&small, text, ours), 0);
		assert_memory_equal(ours, theirs, BLOCK);
	}
}

static void test_other_lengths_of_keys_are_refused(void **state)
{
	mbedtls_aes_context ctx = {0};
	uint8_t key[32] = {0};

	(void)state;
	assert_int_equal(small_setkey_enc(&ctx, key, 256), MBEDTLS_ERR_AES_INVALID_KEY_LENGTH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example_of_fips_197_appendix_c),
		cmocka_unit_test(test_random_blocks_as_the_library_makes_them),
		cmocka_unit_test(test_other_lengths_of_keys_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
