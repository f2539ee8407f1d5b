/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/demo/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cbor.h>
#include <jansson.h>

struct metric {
	const char *name;
	double base, swing; /* a reading is base + swing * sin(...) */
};

static const struct metric metrics[METRIC_COUNT] = {
	{"temperature", 21.5, 1.5},	{"humidity", 48, 6},
	{"pressure", 1013.2, 0.8},	{"light", 320, 45},
	{"battery", 3.92, 0.02},	{"rsrp", -93, 4},
	{"latitude", 63.421, 0.000125}, {"longitude", 10.437, 0.000125},
};

int64_t now_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Three decimals are enough for a sensor, six for a position. */
void sample_measure(struct sample *s, int number)
{
	s->ts_ms = now_ms(CLOCK_REALTIME);
	for (int i = 0; i < METRIC_COUNT; i++) {
		double value = metrics[i].base + metrics[i].swing * sin(0.7 * number + i);

		s->values[i] = round(value * 1e6) / 1e6;
		if (metrics[i].swing > 0.001)
			s->values[i] = round(value * 1e3) / 1e3;
	}
}

unsigned char *sample_encode_json(const struct sample *s, size_t *len)
{
	json_t *map = json_object();
	char *text = NULL;
	int rc = json_object_set_new(map, "ts", json_integer(s->ts_ms));

	for (int i = 0; i < METRIC_COUNT; i++)
		rc |= json_object_set_new(map, metrics[i].name, json_real(s->values[i]));
	if (rc == 0)
		text = json_dumps(map, JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(map);
	*len = text ? strlen(text) : 0;
	return (unsigned char *)text;
}

/* Takes over the reference to value. */
static bool cbor_put(cbor_item_t *map, const char *name, cbor_item_t *value)
{
	cbor_item_t *key = cbor_build_string(name);
	bool ok = key && value && cbor_map_add(map, (struct cbor_pair){.key = key, .value = value});

	if (key)
		cbor_decref(&key);
	if (value)
		cbor_decref(&value);
	return ok;
}

unsigned char *sample_encode_cbor(const struct sample *s, size_t *len)
{
	cbor_item_t *map = cbor_new_definite_map(METRIC_COUNT + 1);
	unsigned char *bytes = NULL;
	size_t size = 0;
	bool ok;

	*len = 0;
	if (!map)
		return NULL;
	ok = cbor_put(map, "ts", cbor_build_uint64((uint64_t)s->ts_ms));
	for (int i = 0; i < METRIC_COUNT; i++)
		ok = ok && cbor_put(map, metrics[i].name, cbor_build_float8(s->values[i]));
	if (ok)
		*len = cbor_serialize_alloc(map, &bytes, &size);
	cbor_decref(&map);
	return bytes;
}
