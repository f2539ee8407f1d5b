/* SPDX-License-Identifier: Apache-2.0 */
/* What a Thingy:52 says (device-fw/ports/zephyr/src/thingy52.c). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device-fw/ports/zephyr/src/thingy52.h"

#define AGE_MS 60000

#define TAKE(t, characteristic, now_ms, ...)                                                       \
	thingy52_take(t, characteristic, (const uint8_t[]){__VA_ARGS__},                           \
		      sizeof((uint8_t[]){__VA_ARGS__}), now_ms)

static const struct fg_reading *find(const struct fg_reading *readings, size_t count,
				     const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(readings[i].name, name) == 0)
			return &readings[i];
	return NULL;
}

static int32_t temperature(uint8_t whole, uint8_t hundredths)
{
	struct thingy52 t = {0};
	struct fg_reading r;

	assert_int_equal(TAKE(&t, THINGY52_TEMPERATURE, 0, whole, hundredths), 0);
	assert_int_equal(thingy52_read(&t, 0, AGE_MS, &r, 1), 1);
	assert_int_equal(r.decimals, 2);
	return r.mantissa;
}

static void test_every_characteristic_becomes_its_reading(void **state)
{
	struct thingy52 t = {0};
	struct fg_reading readings[8];
	size_t n;

	(void)state;
	assert_int_equal(TAKE(&t, THINGY52_TEMPERATURE, 0, 23, 45), 0);
	assert_int_equal(TAKE(&t, THINGY52_PRESSURE, 0, 0xf5, 3, 0, 0, 7), 0);
	assert_int_equal(TAKE(&t, THINGY52_HUMIDITY, 0, 41), 0);
	assert_int_equal(TAKE(&t, THINGY52_AIR_QUALITY, 0, 0x90, 1, 12, 0), 0);
	n = thingy52_read(&t, 1000, AGE_MS, readings, 8);
	assert_int_equal(n, 5);
	assert_int_equal(find(readings, n, "temperature")->mantissa, 2345);
	assert_int_equal(find(readings, n, "pressure")->mantissa, 101307);
	assert_int_equal(find(readings, n, "humidity")->mantissa, 41);
	assert_int_equal(find(readings, n, "air_quality")->mantissa, 400);
	assert_int_equal(find(readings, n, "tvoc")->mantissa, 12);
}

static void test_below_zero(void **state)
{
	(void)state;
	assert_int_equal(temperature(0, 0), 0);
	assert_int_equal(temperature((uint8_t)-5, 0), -500);
	assert_int_equal(temperature((uint8_t)-5, (uint8_t)-25), -525);
	assert_int_equal(temperature(0, (uint8_t)-99), -99);
	assert_int_equal(temperature((uint8_t)-128, 0), -12800);
}

static void test_what_cannot_be_is_refused(void **state)
{
	struct thingy52 t = {0};
	struct fg_reading r;

	(void)state;
	assert_int_equal(TAKE(&t, THINGY52_TEMPERATURE, 0, 23), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_TEMPERATURE, 0, 23, 0, 0), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_TEMPERATURE, 0, 23, 100), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_TEMPERATURE, 0, 23, 156), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_PRESSURE, 0, 0xf5, 3, 0, 0), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_PRESSURE, 0, 0xf5, 3, 0, 0x80, 7), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_PRESSURE, 0, 0, 0, 0, 0, 7), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_PRESSURE, 0, 0xf5, 3, 0, 0, 100), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_HUMIDITY, 0, 101), -EBADMSG);
	assert_int_equal(TAKE(&t, THINGY52_AIR_QUALITY, 0, 0, 0, 0, 0), -EBADMSG);
	assert_int_equal(thingy52_take(&t, THINGY52_CHARACTERISTICS, "1", 1, 0), -EBADMSG);
	assert_int_equal(thingy52_take(&t, THINGY52_HUMIDITY, "", 0, 0), -EBADMSG);
	assert_int_equal(thingy52_read(&t, 0, AGE_MS, &r, 1), 0);
}

static void test_what_is_too_old_is_left_out(void **state)
{
	struct thingy52 t = {0};
	struct fg_reading readings[8];

	(void)state;
	TAKE(&t, THINGY52_TEMPERATURE, 1000, 23, 0);
	TAKE(&t, THINGY52_HUMIDITY, 2000, 41);
	assert_int_equal(thingy52_read(&t, 1000 + AGE_MS, AGE_MS, readings, 8), 2);
	assert_int_equal(thingy52_read(&t, 1001 + AGE_MS, AGE_MS, readings, 8), 1);
	assert_string_equal(readings[0].name, "humidity");
	TAKE(&t, THINGY52_TEMPERATURE, 1001 + AGE_MS, 24, 0);
	assert_int_equal(thingy52_read(&t, 1001 + AGE_MS, AGE_MS, readings, 8), 2);
	assert_int_equal(readings[0].mantissa, 2400);
}

static void test_no_more_than_there_is_room_for(void **state)
{
	struct thingy52 t = {0};
	struct fg_reading readings[2] = {0};

	(void)state;
	TAKE(&t, THINGY52_TEMPERATURE, 0, 23, 0);
	TAKE(&t, THINGY52_AIR_QUALITY, 0, 0x90, 1, 12, 0);
	assert_int_equal(thingy52_read(&t, 0, AGE_MS, readings, 1), 1);
	assert_null(readings[1].name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_characteristic_becomes_its_reading),
		cmocka_unit_test(test_below_zero),
		cmocka_unit_test(test_what_cannot_be_is_refused),
		cmocka_unit_test(test_what_is_too_old_is_left_out),
		cmocka_unit_test(test_no_more_than_there_is_room_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
