/* SPDX-License-Identifier: Apache-2.0 */
/* CBOR of the device's core: what it writes is held against the machine's own floating point. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "device-fw/core/cbor.h"

static struct fg_cbor_writer writer(void)
{
	static uint8_t buffer[128];
	struct fg_cbor_writer w;

	fg_cbor_begin(&w, buffer, sizeof(buffer));
	return w;
}

static void assert_written(const struct fg_cbor_writer *w, const char *hex)
{
	char text[2 * 128 + 1] = "";

	assert_false(w->full);
	for (size_t i = 0; i < w->length; i++)
		snprintf(text + 2 * i, 3, "%02x", w->buffer[i]);
	assert_string_equal(text, hex);
}

/* RFC 8949, appendix A. */
static void test_integers_take_the_shortest_head(void **state)
{
	static const struct {
		int64_t value;
		const char *hex;
	} examples[] = {
		{0, "00"},
		{1, "01"},
		{23, "17"},
		{24, "1818"},
		{255, "18ff"},
		{256, "190100"},
		{1000, "1903e8"},
		{65535, "19ffff"},
		{65536, "1a00010000"},
		{1000000, "1a000f4240"},
		{4294967295, "1affffffff"},
		{4294967296, "1b0000000100000000"},
		{1000000000000, "1b000000e8d4a51000"},
		{-1, "20"},
		{-24, "37"},
		{-25, "3818"},
		{-100, "3863"},
		{-1000, "3903e7"},
		{INT64_MAX, "1b7fffffffffffffff"},
		{INT64_MIN, "3b7fffffffffffffff"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct fg_cbor_writer w = writer();

		fg_cbor_int(&w, examples[i].value);
		assert_written(&w, examples[i].hex);
	}
}

static void test_largest_unsigned_integer(void **state)
{
	struct fg_cbor_writer w = writer();

	(void)state;
	fg_cbor_uint(&w, UINT64_MAX);
	assert_written(&w, "1bffffffffffffffff");
}

static void test_strings_maps_and_simple_values(void **state)
{
	struct fg_cbor_writer w = writer();

	(void)state;
	fg_cbor_map(&w, 2);
	fg_cbor_string(&w, "a");
	fg_cbor_array(&w, 4);
	fg_cbor_bool(&w, true);
	fg_cbor_bool(&w, false);
	fg_cbor_null(&w);
	fg_cbor_bytes(&w, "\x01\x02", 2);
	fg_cbor_text(&w, "bcd", 1);
	fg_cbor_raw(&w, "\x07", 1);
	assert_written(&w, "a2616184f5f4f64201026162"
			   "07");
}

static void test_what_does_not_fit_is_left_out_with_all_that_follows(void **state)
{
	uint8_t buffer[8];
	struct fg_cbor_writer w;

	(void)state;
	memset(buffer, 0xee, sizeof(buffer));
	fg_cbor_begin(&w, buffer, 6);
	fg_cbor_string(&w, "abc");
	fg_cbor_uint(&w, 1000);
	assert_true(w.full);
	fg_cbor_uint(&w, 1);
	assert_int_equal(w.length, 4);
	assert_memory_equal(buffer,
			    "\x63"
			    "abc\xee\xee\xee\xee",
			    8);
}

/* Each kind of item into each room that is too small for it. */
static void test_nothing_is_written_beyond_the_end(void **state)
{
	static const size_t lengths[] = {9, 9, 5, 5, 1, 1, 5, 9};

	(void)state;
	for (size_t kind = 0; kind < sizeof(lengths) / sizeof(lengths[0]); kind++) {
		for (size_t size = 0; size <= lengths[kind]; size++) {
			uint8_t *buffer = malloc(size ? size : 1);
			struct fg_cbor_writer w;

			assert_non_null(buffer);
			fg_cbor_begin(&w, buffer, size);
			switch (kind) {
			case 0:
				fg_cbor_uint(&w, UINT64_MAX);
				break;
			case 1:
				fg_cbor_decimal(&w, 63421125, 6);
				break;
			case 2:
				fg_cbor_decimal(&w, 2153, 2);
				break;
			case 3:
				fg_cbor_string(&w, "abcd");
				break;
			case 4:
				fg_cbor_null(&w);
				break;
			case 5:
				fg_cbor_string(&w, "");
				break;
			case 6:
				fg_cbor_raw(&w, "abcde", 5);
				break;
			default:
				fg_cbor_bytes(&w, "abcdefgh", 8);
				break;
			}
			assert_int_equal(w.full, size < lengths[kind]);
			assert_int_equal(w.length, w.full ? 0 : size);
			free(buffer);
		}
	}
}

/* ---- decimals */

static double half_value(uint16_t bits)
{
	int exponent = bits >> 10 & 0x1f;
	double m = bits & 0x3ff;

	assert_in_range(exponent, 1, 30); /* subnormal and infinite ones are not written */
	m = ldexp(1024 + m, exponent - 25);
	return bits & 0x8000 ? -m : m;
}

/* A number as it was written: an integer or a float of `width` bytes. */
struct number {
	unsigned width; /* 0: an integer */
	int64_t integer;
	double value;
};

static struct number written_number(const struct fg_cbor_writer *w)
{
	struct number n = {.width = 0};
	struct fg_cbor_reader r;
	struct fg_cbor_item item;
	uint32_t bits;
	float f;

	fg_cbor_read(&r, w->buffer, w->length);
	assert_int_equal(fg_cbor_next(&r, &item), 0);
	assert_ptr_equal(r.at, r.end);
	if (item.type != FG_CBOR_FLOAT) {
		assert_true(item.type <= FG_CBOR_NEGINT);
		n.integer =
			item.type == FG_CBOR_UINT ? (int64_t)item.value : -1 - (int64_t)item.value;
		n.value = (double)n.integer;
		return n;
	}
	n.width = item.width;
	if (item.width == 2) {
		n.value = half_value((uint16_t)item.value);
	} else if (item.width == 4) {
		bits = (uint32_t)item.value;
		memcpy(&f, &bits, sizeof(f));
		n.value = (double)f;
	} else {
		memcpy(&n.value, &item.value, sizeof(n.value));
	}
	return n;
}

static bool fits_half(double x)
{
	int exponent;
	double m = frexp(x, &exponent);

	return exponent <= 16 && exponent >= -13 && ldexp(m, 11) == floor(ldexp(m, 11));
}

/* Does single precision give back these digits? The shortest decimal that reads as the same single
 * is looked for as printf and strtof do it. */
static bool single_has_digits(double x, const char *decimal)
{
	float f = strtof(decimal, NULL);
	char text[32];

	for (int digits = 1; digits <= 9; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, (double)f);
		if (strtof(text, NULL) == f)
			return strtod(text, NULL) == x;
	}
	return false;
}

/* Are single precision's numbers near x closer to each other than decimals of so many places? */
static bool single_tells_apart(double x, int32_t mantissa, unsigned decimals)
{
	float f = fabsf((float)x), below = nextafterf(f, 0);

	for (; decimals > 0 && mantissa % 10 == 0; decimals--)
		mantissa /= 10;
	return (double)(f - below) * pow(10, decimals) < 0.999999 &&
	       (double)(nextafterf(f, INFINITY) - f) * pow(10, decimals) < 0.999999;
}

static void print_decimal(char *text, size_t size, int64_t mantissa, unsigned decimals)
{
	snprintf(text, size, "%" PRId64 "e-%u", mantissa, decimals);
}

static uint64_t widths[9];

static void check_decimal(int32_t mantissa, uint8_t decimals)
{
	struct fg_cbor_writer w = writer();
	struct number n;
	char text[32];
	double x;

	print_decimal(text, sizeof(text), mantissa, decimals);
	x = strtod(text, NULL);
	fg_cbor_decimal(&w, mantissa, decimals);
	n = written_number(&w);
	widths[n.width]++;
	if (x == floor(x)) {
		assert_int_equal(n.width, 0);
		assert_true((double)n.integer == x);
		return;
	}
	if (fits_half(x)) {
		assert_int_equal(n.width, 2);
		assert_true(n.value == x);
	} else if (n.width == 4) {
		if (n.value != x &&
		    (n.value != (double)strtof(text, NULL) || !single_has_digits(x, text)))
			fail_msg("%s as single: %.17g", text, n.value);
	} else {
		if (n.width != 8 || n.value != x)
			fail_msg("%s as double: %.17g", text, n.value);
		if ((double)(float)x == x || single_tells_apart(x, mantissa, decimals))
			fail_msg("%s would do in single precision", text);
	}
}

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void test_decimal_is_a_float_that_reads_back_as_these_digits(void **state)
{
	(void)state;
	memset(widths, 0, sizeof(widths));
	for (int i = 0; i < 3000000; i++) {
		uint64_t r = next_random();
		uint32_t mantissa = (uint32_t)r >> (r >> 32) % 32;
		int32_t value = (int32_t)(mantissa & INT32_MAX);

		check_decimal(r >> 63 ? -value : value, (uint8_t)((r >> 40) % 10));
	}
	print_message("integers %" PRIu64 ", half %" PRIu64 ", single %" PRIu64 ", double %" PRIu64
		      "\n",
		      widths[0], widths[2], widths[4], widths[8]);
	assert_true(widths[0] > 1000 && widths[2] > 1000 && widths[4] > 1000 && widths[8] > 1000);
}

/* The brackets of single precision: 8388607 is the last mantissa that always fits. */
static void test_decimal_with_up_to_six_digits_is_never_a_double(void **state)
{
	(void)state;
	for (uint8_t decimals = 1; decimals <= 9; decimals++) {
		for (int32_t mantissa = 1; mantissa < 1000000; mantissa += decimals < 4 ? 1 : 7) {
			struct fg_cbor_writer w = writer();

			fg_cbor_decimal(&w, mantissa, decimals);
			assert_true(w.length <= 5);
		}
		for (int32_t mantissa = 8388608 - 5000; mantissa < 8388608; mantissa++) {
			struct fg_cbor_writer w = writer();

			fg_cbor_decimal(&w, mantissa, decimals);
			assert_true(w.length <= 5);
			check_decimal(mantissa, decimals);
		}
	}
}

static void test_decimal_around_powers_of_two_and_of_ten(void **state)
{
	(void)state;
	for (int64_t power = 1; power <= INT32_MAX; power *= 2)
		for (int64_t m = power - 50; m <= power + 50; m++)
			for (uint8_t decimals = 0; decimals <= 9; decimals++)
				if (m <= INT32_MAX && m >= INT32_MIN)
					check_decimal((int32_t)m, decimals);
	for (int64_t power = 1; power <= INT32_MAX; power *= 10)
		for (int64_t m = power - 50; m <= power + 50; m++)
			for (uint8_t decimals = 0; decimals <= 9; decimals++)
				if (m <= INT32_MAX && m >= INT32_MIN)
					check_decimal((int32_t)m, decimals);
	for (uint8_t decimals = 0; decimals <= 9; decimals++) {
		check_decimal(INT32_MAX, decimals);
		check_decimal(INT32_MIN, decimals);
		check_decimal(INT32_MIN + 1, decimals);
	}
}

/* Each number that half precision holds exactly with up to nine places. */
static void test_decimal_that_half_precision_holds_is_a_half(void **state)
{
	int64_t scale = 1;
	unsigned seen = 0;

	(void)state;
	for (uint8_t decimals = 1; decimals <= 9; decimals++) {
		scale *= 5; /* k / 2^d is k * 5^d / 10^d */
		for (int64_t k = 1; k <= 65536 && k * scale <= INT32_MAX; k += 2) {
			check_decimal((int32_t)(k * scale), decimals);
			seen++;
		}
	}
	assert_true(seen > 100000);
}

static void test_decimal_examples(void **state)
{
	static const struct {
		int32_t mantissa;
		uint8_t decimals;
		const char *hex;
	} examples[] = {
		{2150, 2, "f94d60"},
		{-2150, 2, "f9cd60"},
		{2153, 2, "fa41ac3d71"},
		{101325, 2, "fa447d5000"},
		{2100, 2, "15"},
		{-2100, 2, "34"},
		{0, 9, "00"},
		{1, 1, "fa3dcccccd"},
		{63421125, 6, "fb404fb5e76c8b4396"},
		{INT32_MIN, 9, "fbc0012e0be826d695"},
		{5, 1, "f93800"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct fg_cbor_writer w = writer();

		fg_cbor_decimal(&w, examples[i].mantissa, examples[i].decimals);
		assert_written(&w, examples[i].hex);
	}
}

static void test_more_decimals_than_may_be_end_with_some_number(void **state)
{
	(void)state;
	for (unsigned decimals = 10; decimals < 256; decimals++) {
		for (int32_t mantissa = 1; mantissa < 100000000; mantissa *= 7) {
			struct fg_cbor_writer w = writer();

			fg_cbor_decimal(&w, mantissa, (uint8_t)decimals);
			assert_in_range(w.length, 1, 9);
		}
	}
}

static void test_exact_decimal_has_the_value_of_the_double(void **state)
{
	(void)state;
	memset(widths, 0, sizeof(widths));
	for (int i = 0; i < 1000000; i++) {
		uint64_t r = next_random();
		int64_t mantissa = (int64_t)((next_random() >> 11) >> r % 53);
		uint8_t decimals = (uint8_t)((r >> 40) % 10);
		struct fg_cbor_writer w = writer();
		struct number n;
		char text[48];
		double x;

		if (r >> 63)
			mantissa = -mantissa;
		print_decimal(text, sizeof(text), mantissa, decimals);
		x = strtod(text, NULL);
		fg_cbor_decimal_exact(&w, mantissa, decimals);
		n = written_number(&w);
		widths[n.width]++;
		if (n.value != x || (n.width == 8 && (double)(float)x == x))
			fail_msg("%s: %.17g in %u bytes", text, n.value, n.width);
	}
	assert_true(widths[2] > 0 && widths[4] > 0 && widths[8] > 100000);
}

/* ---- reading */

static int next_of(const char *bytes, size_t length, struct fg_cbor_item *item, size_t *used)
{
	uint8_t *copy = malloc(length ? length : 1); /* so that a read behind the end shows */
	struct fg_cbor_reader r;
	int rc;

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	fg_cbor_read(&r, copy, length);
	rc = fg_cbor_next(&r, item);
	*used = (size_t)(r.at - copy);
	free(copy);
	return rc;
}

static void test_items_are_read_with_their_heads(void **state)
{
	static const struct {
		const char *bytes;
		size_t length, used;
		enum fg_cbor_type type;
		uint64_t value;
		uint8_t width;
	} examples[] = {
		{"\x00", 1, 1, FG_CBOR_UINT, 0, 0},
		{"\x18\x01", 2, 2, FG_CBOR_UINT, 1, 0}, /* longer than it need be: well-formed */
		{"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", 9, 9, FG_CBOR_UINT, UINT64_MAX, 0},
		{"\x39\x03\xe7", 3, 3, FG_CBOR_NEGINT, 999, 0},
		{"\x42\x01\x02\x03", 4, 3, FG_CBOR_BYTES, 2, 0},
		{"\x61"
		 "a",
		 2, 2, FG_CBOR_TEXT, 1, 0},
		{"\x82\x01\x02", 3, 1, FG_CBOR_ARRAY, 2, 0},
		{"\x9f\xff", 2, 1, FG_CBOR_ARRAY, FG_CBOR_INDEFINITE, 0},
		{"\xbf\xff", 2, 1, FG_CBOR_MAP, FG_CBOR_INDEFINITE, 0},
		{"\xa0", 1, 1, FG_CBOR_MAP, 0, 0},
		{"\xd9\xd9\xf7\x01", 4, 3, FG_CBOR_TAG, 55799, 0},
		{"\xf5", 1, 1, FG_CBOR_SIMPLE, 21, 0},
		{"\xf8\x20", 2, 2, FG_CBOR_SIMPLE, 32, 0},
		{"\xf9\x4d\x60", 3, 3, FG_CBOR_FLOAT, 0x4d60, 2},
		{"\xfa\x41\xac\x3d\x71", 5, 5, FG_CBOR_FLOAT, 0x41ac3d71, 4},
		{"\xff", 1, 1, FG_CBOR_BREAK, FG_CBOR_INDEFINITE, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct fg_cbor_item item;
		size_t used;

		assert_int_equal(next_of(examples[i].bytes, examples[i].length, &item, &used), 0);
		assert_int_equal(item.type, examples[i].type);
		assert_int_equal(used, examples[i].used);
		assert_true(item.value == examples[i].value);
		if (item.type == FG_CBOR_FLOAT)
			assert_int_equal(item.width, examples[i].width);
		for (size_t cut = 0; cut < used; cut++) {
			assert_int_equal(next_of(examples[i].bytes, cut, &item, &used), -EBADMSG);
			assert_int_equal(used, 0);
			used = examples[i].used;
		}
	}
}

/* Walks over one whole item. */
static int walk_over(const char *bytes, size_t length, size_t *used)
{
	uint8_t *copy = malloc(length ? length : 1);
	struct fg_cbor_walk walk = {.next = fg_cbor_walk_next};
	struct fg_cbor_item item;
	int rc;

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	fg_cbor_read(&walk.in, copy, length);
	do {
		rc = fg_cbor_step(&walk, &item);
		assert_true(walk.depth <= FG_CBOR_MAX_DEPTH);
	} while (rc == 0 && walk.depth > 0);
	*used = (size_t)(walk.in.at - copy);
	free(copy);
	return rc;
}

#define BYTES(s) (s), sizeof(s) - 1

static void test_what_is_not_well_formed_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} examples[] = {
		{BYTES("\x1c")},
		{BYTES("\x1f")},
		{BYTES("\x3f")},
		{BYTES("\xdf\x01")},
		{BYTES("\x5f\x41\x01\xff")}, /* indefinite strings: not taken */
		{BYTES("\x7f\x61\x61\xff")},
		{BYTES("\x5b\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
		{BYTES("\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
		{BYTES("\xbb\x80\x00\x00\x00\x00\x00\x00\x00\x01\x01")},
		{BYTES("\xf8\x14")},
		{BYTES("\xfc")},
		{BYTES("\xff")},
		{BYTES("\x81")},
		{BYTES("\x81\xff")},
		{BYTES("\x82\x01\xff")},
		{BYTES("\xa1\x01")},
		{BYTES("\xa1\x01\xff")},
		{BYTES("\xbf\x01\xff")},
		{BYTES("\xbf\x01\x02\x03\xff")},
		{BYTES("\x9f\x01")},
		{BYTES("\x9f\xc1\xff")},
		{BYTES("\xc1")},
		{BYTES("\xc1\xff")},
		{BYTES("\x81\x81\x81\x81\x81\x81\x81\x81\x81\x01")},
		{BYTES("\x81\x81\x81\x81\x81\x81\x81\x81\x80")},
		{BYTES("\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\xff\xff\xff\xff\xff\xff\xff\xff\xff")},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		size_t used;

		if (walk_over(examples[i].bytes, examples[i].length, &used) != -EBADMSG)
			fail_msg("example %zu is passed over", i);
	}
}

static void test_one_item_is_passed_over_whole(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} examples[] = {
		{BYTES("\x01")},
		{BYTES("\x63"
		       "abc")},
		{BYTES("\x80")},
		{BYTES("\x82\x01\x02")},
		{BYTES("\xa2\x01\x02\x03\x82\x04\x05")},
		{BYTES("\x9f\xff")},
		{BYTES("\x9f\x01\x9f\xff\x02\xff")},
		{BYTES("\xbf\x01\x02\x03\xa0\xff")},
		{BYTES("\xbf\x9f\xff\xbf\xff\xff")},
		{BYTES("\xa1\x9f\x01\xff\x02")},
		{BYTES("\xc1\xd8\x20\x82\x01\xc1\x02")},
		{BYTES("\x82\xc1\x01\x80")},
		{BYTES("\x81\x81\x81\x81\x81\x81\x81\x81\x01")},
		{BYTES("\x81\x81\x81\x81\x81\x81\x81\x80")},
		{BYTES("\xfb\x00\x00\x00\x00\x00\x00\x00\x00")},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		char longer[64];
		size_t used;

		for (size_t cut = 0; cut < examples[i].length; cut++)
			assert_int_equal(walk_over(examples[i].bytes, cut, &used), -EBADMSG);
		memcpy(longer, examples[i].bytes, examples[i].length);
		longer[examples[i].length] = '\x01';
		if (walk_over(longer, examples[i].length + 1, &used) || used != examples[i].length)
			fail_msg("example %zu", i);
	}
}

static void test_integers_are_taken_if_they_fit(void **state)
{
	static const struct {
		struct fg_cbor_item item;
		int rc;
		int32_t value;
	} examples[] = {
		{{.type = FG_CBOR_UINT, .value = 0}, 0, 0},
		{{.type = FG_CBOR_UINT, .value = INT32_MAX}, 0, INT32_MAX},
		{{.type = FG_CBOR_UINT, .value = UINT64_C(1) << 31}, -ERANGE, 7},
		{{.type = FG_CBOR_UINT, .value = UINT64_C(1) << 32}, -ERANGE, 7},
		{{.type = FG_CBOR_NEGINT, .value = 0}, 0, -1},
		{{.type = FG_CBOR_NEGINT, .value = INT32_MAX}, 0, INT32_MIN},
		{{.type = FG_CBOR_NEGINT, .value = UINT64_C(1) << 31}, -ERANGE, 7},
		{{.type = FG_CBOR_TAG, .value = 1}, -ERANGE, 7},
		{{.type = FG_CBOR_FLOAT, .width = 2, .value = 1}, -ERANGE, 7},
		{{.type = FG_CBOR_SIMPLE, .value = 21}, -ERANGE, 7},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		int32_t value = 7;

		assert_int_equal(fg_cbor_as_int(&examples[i].item, &value), examples[i].rc);
		assert_int_equal(value, examples[i].value);
	}
}

static void test_text_is_compared_whole(void **state)
{
	struct fg_cbor_item item = {
		.type = FG_CBOR_TEXT, .value = 2, .data = (const uint8_t *)"id"};

	(void)state;
	assert_true(fg_cbor_is_text(&item, "id"));
	assert_false(fg_cbor_is_text(&item, "i"));
	assert_false(fg_cbor_is_text(&item, "idx"));
	assert_false(fg_cbor_is_text(&item, "ix"));
	item.type = FG_CBOR_BYTES;
	assert_false(fg_cbor_is_text(&item, "id"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers_take_the_shortest_head),
		cmocka_unit_test(test_largest_unsigned_integer),
		cmocka_unit_test(test_strings_maps_and_simple_values),
		cmocka_unit_test(test_what_does_not_fit_is_left_out_with_all_that_follows),
		cmocka_unit_test(test_nothing_is_written_beyond_the_end),
		cmocka_unit_test(test_decimal_examples),
		cmocka_unit_test(test_decimal_is_a_float_that_reads_back_as_these_digits),
		cmocka_unit_test(test_decimal_with_up_to_six_digits_is_never_a_double),
		cmocka_unit_test(test_decimal_around_powers_of_two_and_of_ten),
		cmocka_unit_test(test_decimal_that_half_precision_holds_is_a_half),
		cmocka_unit_test(test_more_decimals_than_may_be_end_with_some_number),
		cmocka_unit_test(test_exact_decimal_has_the_value_of_the_double),
		cmocka_unit_test(test_items_are_read_with_their_heads),
		cmocka_unit_test(test_what_is_not_well_formed_is_refused),
		cmocka_unit_test(test_one_item_is_passed_over_whole),
		cmocka_unit_test(test_integers_are_taken_if_they_fit),
		cmocka_unit_test(test_text_is_compared_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
