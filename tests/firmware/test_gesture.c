/* SPDX-License-Identifier: Apache-2.0 */
/* What buttons mean (device-fw/ports/zephyr/src/gesture.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device-fw/ports/zephyr/src/gesture.h"

#define NONE (-1)

/* The state changes to each of `states` after `step_ms`; what was meant with the last one. */
static int press(unsigned buttons, int64_t step_ms, const uint32_t *states, size_t count)
{
	struct gesture g = {0};
	enum button_press meant;
	int64_t now_ms = 1000;

	for (size_t i = 0; i < count; i++, now_ms += step_ms) {
		bool ended = gesture_step(&g, states[i], buttons, now_ms, &meant);

		if (i + 1 < count)
			assert_false(ended);
		else
			return ended ? (int)meant : NONE;
	}
	return NONE;
}

#define PRESS(buttons, step_ms, ...)                                                               \
	press(buttons, step_ms, (const uint32_t[]){__VA_ARGS__},                                   \
	      sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void test_button_1_is_get_when_it_is_released(void **state)
{
	(void)state;
	assert_int_equal(PRESS(2, 50, 1, 0), BUTTON_PRESS_GET);
	assert_int_equal(PRESS(2, 5000, 1, 0), BUTTON_PRESS_GET);
}

static void test_both_are_put_in_whatever_order(void **state)
{
	(void)state;
	assert_int_equal(PRESS(2, 50, 3, 0), BUTTON_PRESS_PUT);
	assert_int_equal(PRESS(2, 50, 1, 3, 2, 0), BUTTON_PRESS_PUT);
	assert_int_equal(PRESS(2, 50, 2, 3, 1, 0), BUTTON_PRESS_PUT);
	/* One after the other without a moment in which none is down. */
	assert_int_equal(PRESS(2, 50, 1, 3, 1, 0), BUTTON_PRESS_PUT);
}

static void test_button_2_is_publish(void **state)
{
	(void)state;
	assert_int_equal(PRESS(2, 50, 2, 0), BUTTON_PRESS_PUBLISH);
}

static void test_switches_behind_the_buttons_count_for_nothing(void **state)
{
	(void)state;
	assert_int_equal(PRESS(2, 50, 4, 0), NONE);
	assert_int_equal(PRESS(2, 50, 4, 5, 4), BUTTON_PRESS_GET);
	assert_int_equal(PRESS(2, 50, 12, 15, 12), BUTTON_PRESS_PUT);
}

static void test_one_button_is_get_and_held_it_is_put(void **state)
{
	(void)state;
	assert_int_equal(PRESS(1, GESTURE_HELD_MS - 1, 1, 0), BUTTON_PRESS_GET);
	assert_int_equal(PRESS(1, GESTURE_HELD_MS, 1, 0), BUTTON_PRESS_PUT);
}

static void test_each_press_is_one(void **state)
{
	struct gesture g = {0};
	enum button_press meant;

	(void)state;
	assert_false(gesture_step(&g, 0, 2, 0, &meant));
	for (int i = 0; i < 3; i++) {
		assert_false(gesture_step(&g, 1, 2, i * 100, &meant));
		assert_true(gesture_step(&g, 0, 2, i * 100 + 50, &meant));
		assert_false(gesture_step(&g, 0, 2, i * 100 + 60, &meant));
	}
	/* What was held long before does not make the next press long. */
	assert_false(gesture_step(&g, 1, 1, 100000, &meant));
	assert_true(gesture_step(&g, 0, 1, 100100, &meant));
	assert_int_equal(meant, BUTTON_PRESS_GET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_button_1_is_get_when_it_is_released),
		cmocka_unit_test(test_both_are_put_in_whatever_order),
		cmocka_unit_test(test_button_2_is_publish),
		cmocka_unit_test(test_switches_behind_the_buttons_count_for_nothing),
		cmocka_unit_test(test_one_button_is_get_and_held_it_is_put),
		cmocka_unit_test(test_each_press_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
