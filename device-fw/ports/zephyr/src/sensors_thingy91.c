/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sensors on a Thingy:91: BME680 (temperature, humidity, pressure, gas) and BH1749 (light). A
 * reading is every hour or so: both are made to measure now, and sleep in between.
 */
#include "sensors.h"

#include <errno.h>

#include <zephyr/drivers/i2c.h>
#include <zephyr/drivers/sensor.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

LOG_MODULE_DECLARE(fieldgate, CONFIG_FIELDGATE_LOG_LEVEL);

/* BME680: 197 ms of heating and 50 ms for the rest; BH1749: 120 ms, twice. */
#define MEASURING_MS 300

/* BH1749NUC data sheet. The driver leaves it measuring for ever, which takes 190 uA. */
#define BH1749_MODE_CONTROL2 0x42
#define BH1749_RGB_EN	     BIT(4)

struct channel {
	enum sensor_channel channel;
	struct fg_reading reading; /* without the value */
	uint8_t shift;		   /* decimals that the driver's unit is larger by */
};

static const struct channel climate[] = {
	{SENSOR_CHAN_AMBIENT_TEMP, {.name = "temperature", .unit = "Cel", .decimals = 2}, 0},
	{SENSOR_CHAN_HUMIDITY, {.name = "humidity", .unit = "%RH", .decimals = 2}, 0},
	{SENSOR_CHAN_PRESS, {.name = "pressure", .unit = "hPa", .decimals = 2}, 1}, /* in kPa */
	{SENSOR_CHAN_GAS_RES, {.name = "gas_resistance", .unit = "Ohm"}, 0},
};

/* Counts; the green one sees as the eye does, and is no lux: the cover of the case is in between.
 */
static const struct channel colours[] = {
	{SENSOR_CHAN_GREEN, {.name = "light", .unit = "count"}, 0},
	{SENSOR_CHAN_RED, {.name = "light_red", .unit = "count"}, 0},
	{SENSOR_CHAN_BLUE, {.name = "light_blue", .unit = "count"}, 0},
	{SENSOR_CHAN_IR, {.name = "light_ir", .unit = "count"}, 0},
};

struct source {
	const struct device *device;
	const char *name;
	const struct channel *channels;
	size_t count;
	bool failed; /* was said */
};

enum { CLIMATE, LIGHT };

static struct source sources[] = {
	[CLIMATE] = {DEVICE_DT_GET(DT_NODELABEL(bme680)), "BME680", climate, ARRAY_SIZE(climate)},
	[LIGHT] = {DEVICE_DT_GET(DT_NODELABEL(bh1749)), "BH1749", colours, ARRAY_SIZE(colours)},
};

static const struct i2c_dt_spec light_bus = I2C_DT_SPEC_GET(DT_NODELABEL(bh1749));

static int set_light(bool on)
{
	return i2c_reg_update_byte_dt(&light_bus, BH1749_MODE_CONTROL2, BH1749_RGB_EN,
				      on ? BH1749_RGB_EN : 0);
}

/* Once, until it works again. */
static void say(struct source *s, int rc)
{
	if (rc != 0 && !s->failed)
		LOG_ERR("%s does not answer (%d): its values are left out", s->name, rc);
	s->failed = rc != 0;
}

/* val1 + val2 / 10^6 with `decimals` more digits. */
static int32_t scale(const struct sensor_value *value, unsigned decimals)
{
	int32_t whole = value->val1, part = value->val2, divisor = 1000000;

	for (unsigned i = 0; i < decimals; i++) {
		whole *= 10;
		divisor /= 10;
	}
	part += part < 0 ? -divisor / 2 : divisor / 2;
	return whole + part / divisor;
}

static int read_channel(const struct source *s, const struct channel *c, struct fg_reading *out)
{
	struct sensor_value value;
	int rc = sensor_channel_get(s->device, c->channel, &value);

	if (rc != 0)
		return rc;
	*out = c->reading;
	out->mantissa = scale(&value, c->reading.decimals + c->shift);
	return 0;
}

static size_t read_source(struct source *s, struct fg_reading *out, size_t max)
{
	int rc = device_is_ready(s->device) ? sensor_sample_fetch(s->device) : -ENODEV;
	size_t n = 0;

	for (size_t i = 0; i < s->count && n < max && rc == 0; i++) {
		rc = read_channel(s, &s->channels[i], &out[n]);
		n += rc == 0;
	}
	say(s, rc);
	return n;
}

int sensors_init(void)
{
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		if (!device_is_ready(sources[i].device))
			rc = -ENODEV;
	return rc;
}

/* What the BME680's driver fetches is the measurement that its last fetch has begun: the first one
 * here is from an hour ago, and begins the one that is wanted. */
size_t sensors_read(struct fg_reading *out, size_t max)
{
	size_t n;

	if (device_is_ready(sources[CLIMATE].device))
		sensor_sample_fetch(sources[CLIMATE].device);
	set_light(true);
	k_msleep(MEASURING_MS);
	n = read_source(&sources[CLIMATE], out, max);
	n += read_source(&sources[LIGHT], out + n, max - n);
	set_light(false);
	return n;
}
