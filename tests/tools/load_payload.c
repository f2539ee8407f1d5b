/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/tools/load_payload.h"

#include <stdio.h>
#include <string.h>

static const char *const names[] = {"temperature", "humidity", "pressure", "battery",
				    "rsrp",	   "light",    "altitude", "air_quality"};

#define NAME_COUNT (sizeof(names) / sizeof(*names))

static double start_value(size_t metric, unsigned device_number)
{
	static const double base[NAME_COUNT] = {21.25, 45.5, 1013.25, 3.75, -95, 320.5, 180.25, 42};

	return base[metric] + device_number % 7;
}

static void append(struct load_payload *p, const void *bytes, size_t len)
{
	memcpy(p->bytes + p->len, bytes, len);
	p->len += len;
}

static void append_be(struct load_payload *p, unsigned char head, uint64_t v, size_t bytes)
{
	append(p, &head, 1);
	for (size_t i = bytes; i-- > 0;) {
		unsigned char b = (unsigned char)(v >> (8 * i));

		append(p, &b, 1);
	}
}

static void append_cbor_text(struct load_payload *p, const char *s)
{
	unsigned char head =
		(unsigned char)(0x60 + strlen(s)); /* RFC 8949 section 3: shorter than 24 */

	append(p, &head, 1);
	append(p, s, strlen(s));
}

static void init_cbor(struct load_payload *p, unsigned device_number)
{
	unsigned char map = (unsigned char)(0xa0 + NAME_COUNT + 2);

	append(p, &map, 1);
	append_cbor_text(p, "ts");
	p->ts_at = p->len + 1;
	append_be(p, 0x1b, 0, 8);
	append_cbor_text(p, "seq");
	p->seq_at = p->len + 1;
	append_be(p, 0x1a, 0, 4);
	for (size_t i = 0; i < NAME_COUNT; i++) {
		float f = (float)start_value(i, device_number);
		uint32_t bits;

		memcpy(&bits, &f, sizeof(bits));
		append_cbor_text(p, names[i]);
		if (i == 0)
			p->value_at = p->len + 1;
		append_be(p, 0xfa, bits, 4);
	}
}

static void init_json(struct load_payload *p, unsigned device_number)
{
	char *at = p->bytes;
	char *end = p->bytes + sizeof(p->bytes);

	at += snprintf(at, (size_t)(end - at), "{\"ts\":1000000000000,\"seq\":%lld",
		       (long long)LOAD_SEQ_FIRST);
	p->ts_at = strlen("{\"ts\":");
	p->seq_at = (size_t)(at - p->bytes) - 10;
	for (size_t i = 0; i < NAME_COUNT; i++) {
		at += snprintf(at, (size_t)(end - at), ",\"%s\":%.2f", names[i],
			       start_value(i, device_number));
		if (i == 0)
			p->value_at = (size_t)(at - p->bytes) - 2;
	}
	at += snprintf(at, (size_t)(end - at), "}");
	p->len = (size_t)(at - p->bytes);
}

void load_payload_init(struct load_payload *p, bool cbor, unsigned device_number)
{
	memset(p, 0, sizeof(*p));
	p->cbor = cbor;
	if (cbor)
		init_cbor(p, device_number);
	else
		init_json(p, device_number);
}

static void put_digits(char *at, int64_t v, size_t digits)
{
	for (size_t i = digits; i-- > 0; v /= 10)
		at[i] = (char)('0' + v % 10);
}

static void put_be(char *at, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (char)(v >> (8 * (bytes - 1 - i)));
}

size_t load_payload_write(const struct load_payload *p, int64_t ts_ms, int64_t seq, char *out)
{
	memcpy(out, p->bytes, p->len);
	if (p->cbor) {
		float f = 20.0F + (float)(seq % 100) / 8;
		uint32_t bits;

		memcpy(&bits, &f, sizeof(bits));
		put_be(out + p->ts_at, (uint64_t)ts_ms, 8);
		put_be(out + p->seq_at, (uint64_t)seq, 4);
		put_be(out + p->value_at, bits, 4);
	} else {
		put_digits(out + p->ts_at, ts_ms, 13);
		put_digits(out + p->seq_at, seq, 10);
		put_digits(out + p->value_at, seq % 100, 2);
	}
	return p->len;
}
