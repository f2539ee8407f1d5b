/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as CBOR that a device reads: nothing is read behind the end, a walk ends, what the walk
 * accepts libcbor accepts too, and what is written again from the items reads the same.
 * Seeds: tests/fuzz/fuzz_device_cbor_seeds.py DIRECTORY.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cbor.h>

#include "device-fw/core/cbor.h"

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void check_item(const struct fg_cbor_item *item, const uint8_t *data, size_t size)
{
	int32_t number;

	CHECK(item->type <= FG_CBOR_BREAK);
	if (item->type == FG_CBOR_BYTES || item->type == FG_CBOR_TEXT) {
		CHECK(item->data >= data && item->data <= data + size);
		CHECK(item->value <= (size_t)(data + size - item->data));
	}
	if (fg_cbor_as_int(item, &number) == 0)
		CHECK(item->type <= FG_CBOR_NEGINT);
	fg_cbor_is_text(item, "interval");
}

static void write_again(struct fg_cbor_writer *w, const struct fg_cbor_item *item)
{
	switch (item->type) {
	case FG_CBOR_UINT:
		fg_cbor_uint(w, item->value);
		break;
	case FG_CBOR_NEGINT:
		if (item->value <= INT64_MAX)
			fg_cbor_int(w, -1 - (int64_t)item->value);
		break;
	case FG_CBOR_BYTES:
		fg_cbor_bytes(w, item->data, (size_t)item->value);
		break;
	case FG_CBOR_TEXT:
		fg_cbor_text(w, (const char *)item->data, (size_t)item->value);
		break;
	default:
		break;
	}
}

/* A string or an integer, written and read again. */
static void check_written(const struct fg_cbor_item *item)
{
	static uint8_t buffer[16384];
	struct fg_cbor_writer w;
	struct fg_cbor_reader r;
	struct fg_cbor_item again;

	fg_cbor_begin(&w, buffer, sizeof(buffer));
	write_again(&w, item);
	CHECK(!w.full);
	if (w.length == 0)
		return;
	fg_cbor_read(&r, buffer, w.length);
	CHECK(fg_cbor_next(&r, &again) == 0);
	CHECK(r.at == r.end);
	CHECK(again.type == item->type && again.value == item->value);
	if (item->type >= FG_CBOR_BYTES)
		CHECK(memcmp(again.data, item->data, (size_t)item->value) == 0);
}

static void check_libcbor(const uint8_t *data, size_t length)
{
	struct cbor_load_result result;
	cbor_item_t *item = cbor_load(data, length, &result);

	/* Simple values without a name are no error of the message, but libcbor has none. */
	if (!item) {
		CHECK(result.error.code == CBOR_ERR_MALFORMATED ||
		      result.error.code == CBOR_ERR_SYNTAXERROR);
		return;
	}
	CHECK(result.read == length);
	cbor_decref(&item);
}

static bool has_simple(const struct fg_cbor_item *item)
{
	return item->type == FG_CBOR_SIMPLE && (item->value < 20 || item->value > 23);
}

static size_t walk_over(const uint8_t *data, size_t size)
{
	struct fg_cbor_walk walk = {.next = fg_cbor_walk_next};
	struct fg_cbor_item item;
	bool odd = false;
	size_t used;

	fg_cbor_read(&walk.in, data, size);
	do {
		if (fg_cbor_step(&walk, &item))
			return 0;
		CHECK(walk.depth <= FG_CBOR_MAX_DEPTH);
		check_item(&item, data, size);
		check_written(&item);
		odd = odd || has_simple(&item);
	} while (walk.depth > 0);
	used = (size_t)(walk.in.at - data);
	CHECK(used > 0 && used <= size);
	if (!odd)
		check_libcbor(data, used);
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fg_cbor_reader r;
	struct fg_cbor_item item;

	fg_cbor_read(&r, data, size);
	while (fg_cbor_next(&r, &item) == 0)
		check_item(&item, data, size);
	CHECK(r.at >= data && r.at <= data + size);
	walk_over(data, size);
	return 0;
}
