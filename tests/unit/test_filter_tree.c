/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of topic filters: it finds what topic_matches finds, and does not become slower with the
 * number of filters. Steps are counted, not time.
 *
 * LINK: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/registry/topic.h"
#include "core/rule/filter_tree.h"

/* --- Memory: counted, and refused when asked to --- */

static size_t allocations;
static long refuse_after = -1; /* allocations from now; -1: never */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t count, size_t size);

static bool refused(void)
{
	allocations++;
	return refuse_after >= 0 && refuse_after-- == 0;
}

void *__wrap_malloc(size_t size)
{
	return refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return refused() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t count, size_t size)
{
	return refused() ? NULL : __real_reallocarray(p, count, size);
}

/* --- What matched --- */

#define NUMBERS 64

struct seen {
	uint32_t numbers[NUMBERS];
	size_t count;
};

static bool note(void *arg, uint32_t number)
{
	struct seen *s = arg;

	assert_true(s->count < NUMBERS);
	s->numbers[s->count++] = number;
	return true;
}

static bool contains(const struct seen *s, uint32_t number)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->numbers[i] == number)
			return true;
	return false;
}

static bool matches(const char *filter, const char *topic)
{
	struct filter_tree t = {0};
	struct seen seen = {0};

	assert_int_equal(filter_tree_add(&t, filter, 7), 0);
	assert_true(filter_tree_match(&t, topic, note, &seen, NULL));
	filter_tree_free(&t);
	assert_true(seen.count < 2);
	return seen.count == 1;
}

static void test_levels_and_wildcards_of_mqtt(void **state)
{
	(void)state;
	assert_true(matches("a/b/c", "a/b/c"));
	assert_false(matches("a/b/c", "a/b"));
	assert_false(matches("a/b", "a/b/c"));
	assert_true(matches("a/+/c", "a/b/c"));
	assert_true(matches("a/+", "a/"));
	assert_false(matches("a/+", "a"));
	assert_false(matches("+", "a/b"));
	assert_true(matches("+/+", "/a"));
	assert_true(matches("a/#", "a"));
	assert_true(matches("a/#", "a/"));
	assert_true(matches("a/#", "a/b/c"));
	assert_false(matches("a/#", "b"));
	assert_true(matches("#", "a/b"));
	assert_true(matches("#", "/"));
	assert_true(matches("/", "/"));
	assert_false(matches("/", "a"));
	assert_true(matches("a//b", "a//b"));
	assert_false(matches("a//b", "a/b"));
	assert_false(matches("A", "a"));
	assert_true(matches("+a/#b/c+", "+a/#b/c+"));
}

static void test_wildcards_do_not_match_the_brokers_own_topics(void **state)
{
	(void)state;
	assert_false(matches("#", "$SYS/broker/uptime"));
	assert_false(matches("+/broker/uptime", "$SYS/broker/uptime"));
	assert_true(matches("$SYS/#", "$SYS/broker/uptime"));
	assert_true(matches("$SYS/+/uptime", "$SYS/broker/uptime"));
	assert_true(matches("a/+", "a/$b"));
}

static void test_equal_filters_are_visited_in_the_order_of_adding(void **state)
{
	struct filter_tree t = {0};
	struct seen seen = {0};

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(filter_tree_add(&t, "a/+", i), 0);
	assert_true(filter_tree_match(&t, "a/b", note, &seen, NULL));
	assert_int_equal(seen.count, 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(seen.numbers[i], i);
	filter_tree_free(&t);
}

static bool third_ends(void *arg, uint32_t number)
{
	(void)number;
	return ++*(size_t *)arg < 3;
}

static void test_a_visit_can_be_the_last(void **state)
{
	static const char *const filters[] = {"a/b", "#", "a/+", "+/b", "a/#", "a/b"};
	struct filter_tree t = {0};
	size_t visits = 0;

	(void)state;
	assert_true(filter_tree_match(&t, "a/b", third_ends, &visits, NULL));
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(filter_tree_add(&t, filters[i], i), 0);
	assert_false(filter_tree_match(&t, "a/b", third_ends, &visits, NULL));
	assert_int_equal(visits, 3);
	filter_tree_free(&t);
}

/* --- Against topic_matches --- */

static uint32_t random_state = 1;

static uint32_t draw(uint32_t below)
{
	random_state = random_state * 1664525 + 1013904223;
	return (random_state >> 16) % below;
}

/* Few letters and levels, so that many match. */
static void draw_topic(char *out, bool filter)
{
	static const char *const levels[] = {"a", "b", "", "$a", "ab", "+"};
	uint32_t n = 1 + draw(4);

	*out = '\0';
	for (uint32_t i = 0; i < n; i++) {
		if (filter && i + 1 == n && draw(4) == 0) {
			strcat(out, "#");
			break;
		}
		strcat(out, levels[draw(filter ? 6 : 5)]);
		if (i + 1 < n)
			strcat(out, "/");
	}
	if (!*out)
		strcpy(out, "a");
}

static void check_round(void)
{
	char filters[NUMBERS][64], topic[64];
	struct filter_tree t = {0};

	for (uint32_t i = 0; i < NUMBERS; i++) {
		draw_topic(filters[i], true);
		assert_true(topic_filter_valid(filters[i]));
		assert_int_equal(filter_tree_add(&t, filters[i], i), 0);
	}
	for (int k = 0; k < 50; k++) {
		struct seen seen = {0};
		size_t expected = 0;

		draw_topic(topic, false);
		filter_tree_match(&t, topic, note, &seen, NULL);
		for (uint32_t i = 0; i < NUMBERS; i++) {
			bool should = topic_matches(filters[i], NULL, topic);

			expected += should;
			if (contains(&seen, i) != should)
				fail_msg("'%s' and '%s'", filters[i], topic);
		}
		assert_int_equal(seen.count, expected);
	}
	filter_tree_free(&t);
}

static void test_it_finds_what_topic_matches_finds(void **state)
{
	(void)state;
	for (int i = 0; i < 300; i++)
		check_round();
}

/* --- Cost --- */

static size_t steps_for(const struct filter_tree *t, const char *topic, size_t *matched)
{
	struct seen seen = {0};
	size_t steps = 0;

	filter_tree_match(t, topic, note, &seen, &steps);
	*matched = seen.count;
	return steps;
}

static void add_others(struct filter_tree *t, char (*filters)[64], uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		snprintf(filters[i], sizeof(filters[i]), i % 2 ? "m/d/dev-%u/d2c" : "plant/%u/+/#",
			 i);
		assert_int_equal(filter_tree_add(t, filters[i], 1000 + i), 0);
	}
}

static void test_a_thousand_filters_of_other_topics_cost_no_steps(void **state)
{
	static char filters[1000][64];
	struct filter_tree t = {0};
	size_t alone, among, matched;

	(void)state;
	assert_int_equal(filter_tree_add(&t, "m/d/+/d2c", 0), 0);
	assert_int_equal(filter_tree_add(&t, "m/#", 1), 0);
	alone = steps_for(&t, "m/d/nrf-1/d2c", &matched);
	assert_int_equal(matched, 2);
	add_others(&t, filters, 1000);
	among = steps_for(&t, "m/d/nrf-1/d2c", &matched);
	assert_int_equal(matched, 2);
	print_message("steps: %zu alone, %zu among 1000 others\n", alone, among);
	/* Four levels, '+', two matches, and where two filters meet in a slot of the hash table. */
	assert_in_range(alone, 7, 12);
	assert_in_range(among, 7, 12);
	filter_tree_free(&t);
}

static void test_every_node_is_visited_once_at_most(void **state)
{
	char filters[1024][64];
	struct filter_tree t = {0};
	size_t matched;

	(void)state;
	/* All ten levels are 'a' or '+': each of these filters is a way through the tree. */
	for (uint32_t i = 0; i < 1024; i++) {
		for (int k = 0; k < 10; k++) {
			filters[i][2 * k] = i >> k & 1 ? '+' : 'a';
			filters[i][2 * k + 1] = k < 9 ? '/' : '\0';
		}
		assert_int_equal(filter_tree_add(&t, filters[i], i), 0);
	}
	/* Nine levels: as far as it gets, and nothing is found. 2^10 - 1 nodes, two looks each. */
	assert_in_range(steps_for(&t, "a/a/a/a/a/a/a/a/a", &matched), 1022, 3 * 1022);
	assert_int_equal(matched, 0);
	filter_tree_free(&t);
}

static void test_a_long_topic_ends_where_the_tree_does(void **state)
{
	static char topic[TOPIC_MAX_BYTES + 1];
	struct filter_tree t = {0};
	size_t matched;

	(void)state;
	memset(topic, '/', TOPIC_MAX_BYTES);
	assert_int_equal(filter_tree_add(&t, "+/+/+", 0), 0);
	assert_in_range(steps_for(&t, topic, &matched), 3, 7);
	assert_int_equal(matched, 0);
	assert_int_equal(filter_tree_levels(topic), TOPIC_MAX_BYTES + 1);
	filter_tree_free(&t);
}

static void test_matching_allocates_nothing(void **state)
{
	static char filters[1000][64];
	struct filter_tree t = {0};
	size_t before, matched;

	(void)state;
	add_others(&t, filters, 1000);
	before = allocations;
	assert_true(before > 0);
	steps_for(&t, "m/d/dev-501/d2c", &matched);
	assert_int_equal(matched, 1);
	assert_int_equal(allocations, before);
	filter_tree_free(&t);
}

static void test_it_grows_or_says_so(void **state)
{
	static char filters[100][64];
	bool done = false;

	(void)state;
	for (long n = 0; !done; n++) {
		struct filter_tree t = {0};
		struct seen seen = {0};
		uint32_t i;
		int rc = 0;

		assert_true(n < 1000);
		refuse_after = n;
		for (i = 0; i < 100 && rc == 0; i++) {
			snprintf(filters[i], sizeof(filters[i]), "a/%u/+", i);
			rc = filter_tree_add(&t, filters[i], i);
		}
		done = refuse_after >= 0;
		refuse_after = -1;
		assert_int_equal(rc, done ? 0 : -ENOMEM);
		/* What was added before is found all the same. */
		filter_tree_match(&t, "a/0/x", note, &seen, NULL);
		assert_int_equal(seen.count, i > 1 || rc == 0);
		filter_tree_free(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels_and_wildcards_of_mqtt),
		cmocka_unit_test(test_wildcards_do_not_match_the_brokers_own_topics),
		cmocka_unit_test(test_equal_filters_are_visited_in_the_order_of_adding),
		cmocka_unit_test(test_a_visit_can_be_the_last),
		cmocka_unit_test(test_it_finds_what_topic_matches_finds),
		cmocka_unit_test(test_a_thousand_filters_of_other_topics_cost_no_steps),
		cmocka_unit_test(test_every_node_is_visited_once_at_most),
		cmocka_unit_test(test_a_long_topic_ends_where_the_tree_does),
		cmocka_unit_test(test_matching_allocates_nothing),
		cmocka_unit_test(test_it_grows_or_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
