/* SPDX-License-Identifier: Apache-2.0 */
#include "device-fw/core/reading.h"

#include <errno.h>

/* Labels of nRF Cloud's CoAP messages. */
enum { NRFCLOUD_APP_ID = 1, NRFCLOUD_DATA = 2, NRFCLOUD_TIME = 3 };

/* RFC 8428 section 6, table 4. */
enum {
	SENML_BASE_NAME = -2,
	SENML_BASE_TIME = -3,
	SENML_NAME = 0,
	SENML_UNIT = 1,
	SENML_VALUE = 2,
	SENML_STRING = 3,
	SENML_BOOL = 4
};

static void write_value(struct fg_cbor_writer *w, const struct fg_reading *r,
			void (*decimal)(struct fg_cbor_writer *, const struct fg_reading *))
{
	switch (r->type) {
	case FG_READING_DECIMAL:
		decimal(w, r);
		break;
	case FG_READING_BOOL:
		fg_cbor_bool(w, r->boolean);
		break;
	case FG_READING_TEXT:
		fg_cbor_string(w, r->text);
		break;
	}
}

static void short_decimal(struct fg_cbor_writer *w, const struct fg_reading *r)
{
	fg_cbor_decimal(w, r->mantissa, r->decimals);
}

/* For servers that are not ours. */
static void exact_decimal(struct fg_cbor_writer *w, const struct fg_reading *r)
{
	fg_cbor_decimal_exact(w, r->mantissa, r->decimals);
}

int fg_readings_encode(const struct fg_reading *readings, size_t count, void *out, size_t size)
{
	struct fg_cbor_writer w;

	fg_cbor_begin(&w, out, size);
	for (size_t i = 0; i < count; i++) {
		fg_cbor_string(&w, readings[i].name);
		write_value(&w, &readings[i], short_decimal);
	}
	return w.full ? -EMSGSIZE : (int)w.length;
}

void fg_record_write(struct fg_cbor_writer *w, const struct fg_record *record)
{
	bool timed = record->time_ms != 0;

	fg_cbor_map(w, (size_t)record->pair_count + 1 + timed);
	if (timed) {
		fg_cbor_string(w, "ts");
		fg_cbor_int(w, record->time_ms);
	}
	fg_cbor_string(w, "seq");
	fg_cbor_uint(w, record->seq);
	fg_cbor_raw(w, record->pairs, record->length);
}

void fg_nrfcloud_write(struct fg_cbor_writer *w, const char *app_id,
		       const struct fg_reading *reading, int64_t time_ms)
{
	bool timed = time_ms != 0;

	fg_cbor_map(w, (size_t)2 + timed);
	fg_cbor_uint(w, NRFCLOUD_APP_ID);
	fg_cbor_string(w, app_id);
	fg_cbor_uint(w, NRFCLOUD_DATA);
	write_value(w, reading, exact_decimal);
	if (timed) {
		fg_cbor_uint(w, NRFCLOUD_TIME);
		fg_cbor_int(w, time_ms);
	}
}

static void write_base(struct fg_cbor_writer *w, const char *base_name, int64_t time_ms)
{
	if (base_name) {
		fg_cbor_int(w, SENML_BASE_NAME);
		fg_cbor_string(w, base_name);
	}
	if (time_ms != 0) {
		fg_cbor_int(w, SENML_BASE_TIME);
		fg_cbor_decimal_exact(w, time_ms, 3);
	}
}

static void write_senml_record(struct fg_cbor_writer *w, const struct fg_reading *r)
{
	static const uint8_t labels[] = {[FG_READING_DECIMAL] = SENML_VALUE,
					 [FG_READING_BOOL] = SENML_BOOL,
					 [FG_READING_TEXT] = SENML_STRING};

	fg_cbor_int(w, SENML_NAME);
	fg_cbor_string(w, r->name);
	if (r->unit) {
		fg_cbor_int(w, SENML_UNIT);
		fg_cbor_string(w, r->unit);
	}
	fg_cbor_int(w, labels[r->type]);
	write_value(w, r, exact_decimal);
}

void fg_senml_write(struct fg_cbor_writer *w, const char *base_name, int64_t time_ms,
		    const struct fg_reading *readings, size_t count)
{
	size_t base = (size_t)(base_name != NULL) + (time_ms != 0);

	fg_cbor_array(w, count);
	for (size_t i = 0; i < count; i++) {
		fg_cbor_map(w, base + 2 + (readings[i].unit != NULL));
		if (i == 0)
			write_base(w, base_name, time_ms);
		base = 0;
		write_senml_record(w, &readings[i]);
	}
}
