/* SPDX-License-Identifier: Apache-2.0 */
/* The heap of the bare device, compiled for this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device-fw/ports/qemu_m33/heap.h"

#define BLOCKS 16
#define HEAD   4

static void test_what_is_freed_can_be_had_again_as_one(void **state)
{
	uint8_t *a = fg_heap_calloc(1, 1000), *b = fg_heap_calloc(10, 100),
		*c = fg_heap_calloc(1, 1000);

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(c);
	assert_null(fg_heap_calloc(1, 1000));
	fg_heap_free(b);
	fg_heap_free(a);
	fg_heap_free(c);
	fg_heap_free(NULL);
	a = fg_heap_calloc(1, HEAP_SIZE - HEAD);
	assert_non_null(a);
	assert_null(fg_heap_calloc(1, 1));
	fg_heap_free(a);
}

static void test_sizes_that_overflow_are_refused(void **state)
{
	(void)state;
	assert_null(fg_heap_calloc(SIZE_MAX / 2, 3));
	assert_null(fg_heap_calloc(3, SIZE_MAX / 2));
	assert_null(fg_heap_calloc(1, HEAP_SIZE));
	assert_null(fg_heap_calloc(1, SIZE_MAX - 2));
}

static void test_blocks_are_zeroed_aligned_and_apart(void **state)
{
	uint8_t *blocks[BLOCKS] = {NULL};
	size_t sizes[BLOCKS] = {0};
	unsigned made = 0;

	(void)state;
	srand(1);
	for (int round = 0; round < 200000; round++) {
		unsigned i = (unsigned)rand() % BLOCKS;

		if (blocks[i]) {
			for (size_t at = 0; at < sizes[i]; at++)
				assert_int_equal(blocks[i][at], i + 1);
			fg_heap_free(blocks[i]);
			blocks[i] = NULL;
			continue;
		}
		sizes[i] = (size_t)rand() % 700;
		blocks[i] = fg_heap_calloc(1, sizes[i]);
		if (!blocks[i])
			continue;
		made++;
		assert_int_equal((uintptr_t)blocks[i] % 8, 0);
		for (size_t at = 0; at < sizes[i]; at++)
			assert_int_equal(blocks[i][at], 0);
		memset(blocks[i], (int)i + 1, sizes[i]);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		fg_heap_free(blocks[i]);
	assert_true(made > 50000);
	assert_non_null(fg_heap_calloc(1, HEAP_SIZE - HEAD));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_freed_can_be_had_again_as_one),
		cmocka_unit_test(test_sizes_that_overflow_are_refused),
		cmocka_unit_test(test_blocks_are_zeroed_aligned_and_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
