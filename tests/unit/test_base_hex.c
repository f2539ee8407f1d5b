/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/hex.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/hex.h"

static void test_every_byte_there_and_back(void **state)
{
	uint8_t bytes[256], back[256];
	char text[HEX_SIZE(256)];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_ptr_equal(hex_print(text, bytes, sizeof(bytes)), text);
	assert_int_equal(strlen(text), 512);
	assert_memory_equal(text + 2 * 0x9a, "9a9b", 4);
	assert_true(hex_parse(back, text, 512));
	assert_memory_equal(back, bytes, sizeof(bytes));
}

static void test_either_case_and_nothing_else(void **state)
{
	static const char *const bad[] = {"a", "abc", "0g", "g0", " 0", "0 ", "0x", "-1", "\3770"};
	uint8_t out[2];

	(void)state;
	assert_true(hex_parse(out, "aBCd", 4));
	assert_memory_equal(out, "\xab\xcd", 2);
	assert_true(hex_parse(out, "", 0));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(hex_parse(out, bad[i], strlen(bad[i])));
}

static void test_nothing_is_an_empty_text(void **state)
{
	char text[HEX_SIZE(0)] = "x";

	(void)state;
	assert_string_equal(hex_print(text, NULL, 0), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_byte_there_and_back),
		cmocka_unit_test(test_either_case_and_nothing_else),
		cmocka_unit_test(test_nothing_is_an_empty_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
