/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

#include <nrf_modem_at.h>

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

#define S_PER_DAY	 86400
#define CHECK_UNKNOWN_MS (10 * 1000)
#define CHECK_KNOWN_MS	 (6 * 3600 * 1000)
/* A modem that nobody has told the time begins in 2015 or 1970. */
#define EARLIEST_PLAUSIBLE 2023

static int64_t boot_wall_ms; /* what uptime 0 was; 0: not known */
static int64_t check_at_ms;

struct civil {
	unsigned year, month, day, hour, minute, second;
};

/* Days since 1970-01-01 in the proleptic Gregorian calendar, years counted from March. */
static int32_t days_of(const struct civil *c)
{
	uint32_t y = c->year - (c->month <= 2);
	uint32_t day_of_year = (153 * (c->month + (c->month > 2 ? -3 : 9)) + 2) / 5 + c->day - 1;

	return (int32_t)(365 * y + y / 4 - y / 100 + y / 400 + day_of_year) - 719468;
}

static void civil_of(uint32_t seconds, struct civil *c)
{
	uint32_t z = seconds / S_PER_DAY + 719468, in_day = seconds % S_PER_DAY;
	uint32_t era = z / 146097, in_era = z % 146097;
	uint32_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	uint32_t in_year = in_era - (365 * y + y / 4 - y / 100);
	uint32_t m = (5 * in_year + 2) / 153;

	c->day = in_year - (153 * m + 2) / 5 + 1;
	c->month = m < 10 ? m + 3 : m - 9;
	c->year = era * 400 + y + (c->month <= 2);
	c->hour = in_day / 3600;
	c->minute = in_day / 60 % 60;
	c->second = in_day % 60;
}

void clock_check(void)
{
	int64_t now_ms = k_uptime_get(), wall_ms;
	struct civil c;
	int n;

	check_at_ms = now_ms + (boot_wall_ms == 0 ? CHECK_UNKNOWN_MS : CHECK_KNOWN_MS);
	/* UTC; the quarters of an hour behind it say where the device is. It refuses as long as it
	 * knows nothing. */
	n = nrf_modem_at_scanf("AT+CCLK?", "+CCLK: \"%2u/%2u/%2u,%2u:%2u:%2u", &c.year, &c.month,
			       &c.day, &c.hour, &c.minute, &c.second);
	c.year += 2000;
	if (n != 6 || c.year < EARLIEST_PLAUSIBLE)
		return;
	wall_ms = ((int64_t)days_of(&c) * S_PER_DAY + c.hour * 3600 + c.minute * 60 + c.second) *
		  MSEC_PER_SEC;
	if (boot_wall_ms == 0)
		LOG_INF("The network's time: %04u-%02u-%02u %02u:%02u:%02u UTC", c.year, c.month,
			c.day, c.hour, c.minute, c.second);
	boot_wall_ms = wall_ms - now_ms;
}

int64_t clock_wall_ms(void)
{
	int64_t now_ms = k_uptime_get();

	if (now_ms >= check_at_ms)
		clock_check();
	return boot_wall_ms == 0 ? 0 : boot_wall_ms + now_ms;
}

void clock_set_wall_ms(int64_t wall_ms)
{
	struct civil c;

	civil_of((uint32_t)(wall_ms / MSEC_PER_SEC), &c);
	boot_wall_ms = wall_ms - k_uptime_get();
	if (nrf_modem_at_printf("AT+CCLK=\"%02u/%02u/%02u,%02u:%02u:%02u+00\"", c.year % 100,
				c.month, c.day, c.hour, c.minute, c.second) != 0)
		LOG_WRN("The modem does not take the server's time: its JWTs will have none");
}
