/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the same telemetry of a Thingy:91 takes in bytes: as JSON in the messages of nRF Cloud's
 * devices, one for each sensor, and in the forms that the device's core writes. Payloads only: each
 * message has CoAP's and DTLS's, or MQTT's and TLS's, bytes on top, so what needs fewer messages
 * saves more than is printed here.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device-fw/core/reading.h"

#define TIME_MS INT64_C(1763695200123)
#define SEQ	1042

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct fg_reading readings[] = {
	{.name = "temperature", .unit = "Cel", .mantissa = 2153, .decimals = 2},
	{.name = "humidity", .unit = "%RH", .mantissa = 4521, .decimals = 2},
	{.name = "pressure", .unit = "hPa", .mantissa = 101325, .decimals = 2},
	{.name = "air_quality", .mantissa = 52},
	{.name = "light", .unit = "lx", .mantissa = 320},
	{.name = "battery", .unit = "V", .mantissa = 3912, .decimals = 3},
	{.name = "rsrp", .unit = "dBm", .mantissa = -97},
	{.name = "cell", .mantissa = 26307841},
	{.name = "uptime", .unit = "s", .mantissa = 86400},
	{.name = "retransmissions", .mantissa = 3},
};

/* nRF Cloud's names of the same. */
static const char *const app_ids[] = {"TEMP",	"HUMID",	  "AIR_PRESS", "AIR_QUAL",
				      "LIGHT",	"BATTERY",	  "RSRP",      "CELL",
				      "UPTIME", "RETRANSMISSIONS"};

struct text {
	char bytes[4096];
	size_t length;
};

static void __attribute__((format(printf, 2, 3))) print(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->bytes + t->length, sizeof(t->bytes) - t->length, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(t->bytes) - t->length)
		abort();
	t->length += (size_t)n;
}

/* In as few digits as JSON allows. */
static void print_number(struct text *t, const struct fg_reading *r)
{
	double scale = 1;

	for (unsigned i = 0; i < r->decimals; i++)
		scale *= 10;
	print(t, "%.9g", r->mantissa / scale);
}

static size_t nrfcloud_json(void)
{
	struct text t = {.length = 0};

	for (size_t i = 0; i < COUNT(readings); i++) {
		print(&t, "{\"appId\":\"%s\",\"messageType\":\"DATA\",\"data\":", app_ids[i]);
		print_number(&t, &readings[i]);
		print(&t, ",\"ts\":%" PRId64 "}", TIME_MS);
	}
	return t.length;
}

static size_t flat_json(void)
{
	struct text t = {.length = 0};

	print(&t, "{\"ts\":%" PRId64 ",\"seq\":%d", TIME_MS, SEQ);
	for (size_t i = 0; i < COUNT(readings); i++) {
		print(&t, ",\"%s\":", readings[i].name);
		print_number(&t, &readings[i]);
	}
	print(&t, "}");
	return t.length;
}

static size_t senml_json(void)
{
	struct text t = {.length = 0};

	print(&t, "[");
	for (size_t i = 0; i < COUNT(readings); i++) {
		print(&t, "%s{", i ? "," : "");
		if (i == 0)
			print(&t, "\"bt\":%.3f,", (double)TIME_MS / 1000);
		print(&t, "\"n\":\"%s\",", readings[i].name);
		if (readings[i].unit)
			print(&t, "\"u\":\"%s\",", readings[i].unit);
		print(&t, "\"v\":");
		print_number(&t, &readings[i]);
		print(&t, "}");
	}
	print(&t, "]");
	return t.length;
}

static uint8_t buffer[4096];

static struct fg_cbor_writer writer(void)
{
	struct fg_cbor_writer w;

	fg_cbor_begin(&w, buffer, sizeof(buffer));
	return w;
}

static size_t written(const struct fg_cbor_writer *w)
{
	if (w->full)
		abort();
	return w->length;
}

static size_t nrfcloud_cbor(void)
{
	struct fg_cbor_writer w = writer();

	for (size_t i = 0; i < COUNT(readings); i++)
		fg_nrfcloud_write(&w, app_ids[i], &readings[i], TIME_MS);
	return written(&w);
}

static size_t senml_cbor(void)
{
	struct fg_cbor_writer w = writer();

	fg_senml_write(&w, NULL, TIME_MS, readings, COUNT(readings));
	return written(&w);
}

static size_t our_cbor(void)
{
	struct fg_cbor_writer w = writer();
	uint8_t pairs[512];
	struct fg_record record = {
		.seq = SEQ, .time_ms = TIME_MS, .pair_count = COUNT(readings), .pairs = pairs};
	int length = fg_readings_encode(readings, COUNT(readings), pairs, sizeof(pairs));

	if (length < 0)
		abort();
	record.length = (size_t)length;
	fg_record_write(&w, &record);
	return written(&w);
}

int main(void)
{
	const struct {
		const char *what;
		size_t messages, bytes;
	} forms[] = {
		{"JSON of nRF Cloud's devices", COUNT(readings), nrfcloud_json()},
		{"CBOR of nRF Cloud's devices", COUNT(readings), nrfcloud_cbor()},
		{"SenML in JSON, with units", 1, senml_json()},
		{"SenML in CBOR, with units", 1, senml_cbor()},
		{"JSON, one map", 1, flat_json()},
		{"CBOR, one map: what the device sends", 1, our_cbor()},
	};
	const size_t ours = COUNT(forms) - 1, flat = ours - 1;

	printf("%zu readings of a Thingy:91 with a time, payload only\n", COUNT(readings));
	printf("%-38s %8s %6s  %s\n", "", "messages", "bytes", "less than the first");
	for (size_t i = 0; i < COUNT(forms); i++)
		printf("%-38s %8zu %6zu  %4.0f %%\n", forms[i].what, forms[i].messages,
		       forms[i].bytes, 100 - 100 * (double)forms[i].bytes / (double)forms[0].bytes);
	printf("CBOR is %.0f %% less than the same map in JSON\n",
	       100 - 100 * (double)forms[ours].bytes / (double)forms[flat].bytes);
	printf("metric fw.cbor_saves %.3g ratio\n",
	       1 - (double)forms[ours].bytes / (double)forms[0].bytes);
	printf("metric fw.cbor_bytes %zu bytes\n", forms[ours].bytes);
	return 0;
}
