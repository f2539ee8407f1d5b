/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/arena: the limit holds whatever is asked for, and memory does not pile up over resets.
 */
#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

#include "core/base/arena.h"

#define CHUNK 1024
#define LIMIT 8192

static void test_nothing_is_allocated_before_the_first_request(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	assert_null(a.first);
	arena_free(&a);
}

static void test_memory_is_aligned_for_any_type(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	for (size_t size = 0; size < 40; size++)
		assert_int_equal((uintptr_t)arena_alloc(&a, size) % alignof(max_align_t), 0);
	arena_free(&a);
}

static void test_allocations_do_not_overlap(void **state)
{
	unsigned char *part[24];
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	for (size_t i = 0; i < 24; i++) {
		part[i] = arena_alloc(&a, 200);
		assert_non_null(part[i]);
		memset(part[i], (int)i, 200);
	}
	for (size_t i = 0; i < 24; i++)
		for (size_t k = 0; k < 200; k++)
			assert_int_equal(part[i][k], i);
	arena_free(&a);
}

static void test_limit_is_reached_exactly_and_not_passed(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	assert_non_null(arena_alloc(&a, LIMIT - 16));
	assert_non_null(arena_alloc(&a, 16));
	assert_null(arena_alloc(&a, 1));
	assert_null(arena_alloc(&a, 0));
	arena_free(&a);
}

static void test_sizes_near_the_end_of_size_t_are_refused(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, SIZE_MAX);
	for (size_t below = 0; below < 64; below++)
		assert_null(arena_alloc(&a, SIZE_MAX - below));
	assert_null(arena_strndup(&a, "x", SIZE_MAX));
	arena_free(&a);
}

static void test_strndup_copies_and_terminates(void **state)
{
	struct arena a;
	char *copy;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	copy = arena_strndup(&a, "dev-1/d2c", 5);
	assert_string_equal(copy, "dev-1");
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	arena_free(&a);
}

static void test_reset_gives_the_whole_limit_back(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	for (int round = 0; round < 3; round++) {
		assert_non_null(arena_alloc(&a, LIMIT));
		assert_null(arena_alloc(&a, 1));
		arena_reset(&a);
	}
	arena_free(&a);
}

static void test_chunks_are_used_again_after_reset(void **state)
{
	struct arena a;
	void *before[6];

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	for (int i = 0; i < 6; i++)
		before[i] = arena_alloc(&a, 1000);
	arena_reset(&a);
	for (int i = 0; i < 6; i++)
		assert_ptr_equal(arena_alloc(&a, 1000), before[i]);
	arena_free(&a);
}

static void test_rewinding_keeps_what_was_there_before(void **state)
{
	struct arena_mark mark;
	struct arena a;
	char *before, *again;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	before = arena_strndup(&a, "before", 6);
	mark = arena_mark(&a);
	again = arena_alloc(&a, 100);
	for (int i = 0; i < 100; i++) {
		/* The rest of the first chunk, two more, and one of its own. */
		for (int k = 0; k < 20; k++)
			assert_non_null(memset(arena_alloc(&a, 100), 'x', 100));
		assert_non_null(memset(arena_alloc(&a, 3 * CHUNK), 'x', 3 * CHUNK));
		arena_rewind(&a, mark);
		assert_string_equal(before, "before");
		assert_ptr_equal(arena_alloc(&a, 100), again);
	}
	arena_rewind(&a, mark);
	assert_non_null(arena_alloc(&a, LIMIT - 16));
	assert_null(arena_alloc(&a, 1));
	arena_free(&a);
}

static void test_rewinding_to_the_beginning_is_a_reset(void **state)
{
	struct arena_mark mark;
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	mark = arena_mark(&a);
	assert_non_null(arena_alloc(&a, LIMIT));
	arena_rewind(&a, mark);
	assert_non_null(arena_alloc(&a, LIMIT));
	arena_free(&a);
}

static void test_rewinding_gives_large_allocations_back(void **state)
{
	struct arena_mark mark;
	size_t before;
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, 100 * LIMIT);
	assert_non_null(arena_alloc(&a, 1));
	mark = arena_mark(&a);
	before = mallinfo2().uordblks;
	for (size_t size = CHUNK + 1; size < 50 * CHUNK; size += CHUNK) {
		assert_non_null(arena_alloc(&a, size));
		arena_rewind(&a, mark);
	}
	assert_int_equal(mallinfo2().uordblks, before);
	arena_free(&a);
}

/* What a peer can do that sends ever longer messages: each request just fits no chunk kept so far.
 */
static void test_growing_requests_do_not_pile_memory_up(void **state)
{
	const size_t limit = 4 * 1024 * 1024;
	struct arena a;
	size_t before;

	(void)state;
	arena_init(&a, CHUNK, limit);
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	for (size_t size = CHUNK; size <= 400 * CHUNK; size += CHUNK) {
		assert_non_null(arena_alloc(&a, size));
		arena_reset(&a);
	}
	assert_in_range(mallinfo2().uordblks + mallinfo2().hblkhd - before, 0, 2 * limit);
	arena_free(&a);
}

static void test_free_leaves_an_arena_that_can_be_used_again(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, CHUNK, LIMIT);
	assert_non_null(arena_alloc(&a, LIMIT));
	arena_free(&a);
	assert_non_null(arena_alloc(&a, LIMIT));
	arena_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_allocated_before_the_first_request),
		cmocka_unit_test(test_memory_is_aligned_for_any_type),
		cmocka_unit_test(test_allocations_do_not_overlap),
		cmocka_unit_test(test_limit_is_reached_exactly_and_not_passed),
		cmocka_unit_test(test_sizes_near_the_end_of_size_t_are_refused),
		cmocka_unit_test(test_strndup_copies_and_terminates),
		cmocka_unit_test(test_reset_gives_the_whole_limit_back),
		cmocka_unit_test(test_chunks_are_used_again_after_reset),
		cmocka_unit_test(test_rewinding_keeps_what_was_there_before),
		cmocka_unit_test(test_rewinding_to_the_beginning_is_a_reset),
		cmocka_unit_test(test_rewinding_gives_large_allocations_back),
		cmocka_unit_test(test_growing_requests_do_not_pile_memory_up),
		cmocka_unit_test(test_free_leaves_an_arena_that_can_be_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
