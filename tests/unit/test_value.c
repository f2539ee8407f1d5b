/* SPDX-License-Identifier: Apache-2.0 */
/* The tree that JSON and CBOR become: looking members up, printing, and its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>

#include "core/payload/key_map.h"
#include "core/payload/text.h"
#include "core/payload/value.h"

static const struct decode_limits limits = {
	.max_bytes = 131072, .max_depth = 8, .max_readings = 256};

struct fixture {
	struct arena arena;
	char reason[256];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	arena_init(&f->arena, 65536, 16u << 20);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	arena_free(&f->arena);
	free(f);
	return 0;
}

static struct value json(struct fixture *f, const char *text)
{
	struct value v;
	int rc = json_decode(&f->arena, text, strlen(text), &limits, &v, f->reason,
			     sizeof(f->reason));

	if (rc)
		fail_msg("%s", f->reason);
	return v;
}

static struct value cbor(struct fixture *f, const char *bytes, size_t len)
{
	struct value v;
	int rc = cbor_decode(&f->arena, bytes, len, &limits, &v, f->reason, sizeof(f->reason));

	if (rc)
		fail_msg("%s", f->reason);
	return v;
}

#define CBOR(f, bytes) cbor(f, bytes, sizeof(bytes) - 1)

static const char *print(struct fixture *f, struct value v)
{
	size_t len = 0;
	const char *s = value_print_json(&f->arena, &v, &len);

	assert_non_null(s);
	assert_int_equal(strlen(s), len);
	return s;
}

static struct value number(double x)
{
	return (struct value){.type = VALUE_NUMBER, .u.number = x};
}

static void test_member_is_found_by_its_whole_key(void **state)
{
	struct value v = json(*state, "{\"ab\":1,\"a\":2,\"abc\":3}");

	assert_int_equal(value_get(&v, "a")->u.integer, 2);
	assert_int_equal(value_get(&v, "abc")->u.integer, 3);
	assert_null(value_get(&v, "b"));
	assert_null(value_get(&v, ""));
}

static void test_label_and_key_are_told_apart(void **state)
{
	struct value v = CBOR(*state, "\xa3\x01\x0a\x20\x0b\x61\x61\x0c");

	assert_int_equal(value_get_label(&v, 1)->u.integer, 10);
	assert_int_equal(value_get_label(&v, -1)->u.integer, 11);
	assert_null(value_get_label(&v, 2));
	assert_null(value_get(&v, "1"));
	assert_int_equal(value_get(&v, "a")->u.integer, 12);
}

static void test_what_is_no_map_has_no_members(void **state)
{
	struct value v = json(*state, "[1]");

	assert_null(value_get(&v, "a"));
	assert_null(value_get_label(&v, 0));
}

static void test_members_keep_their_order(void **state)
{
	const char *text = "{\"z\":1,\"a\":{\"y\":[],\"b\":{}},\"m\":3}";

	assert_string_equal(print(*state, json(*state, text)), text);
}

static void test_text_is_escaped_when_printed(void **state)
{
	const char *text = "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f /\x7f\xc3\xa6\"";

	assert_string_equal(print(*state, json(*state, text)), text);
}

static void test_bytes_are_printed_as_base64url_without_padding(void **state)
{
	assert_string_equal(print(*state, CBOR(*state, "\x40")), "\"\"");
	assert_string_equal(print(*state, CBOR(*state, "\x41\xfb")), "\"-w\"");
	assert_string_equal(print(*state, CBOR(*state, "\x42\xff\xfe")), "\"__4\"");
	assert_string_equal(print(*state, CBOR(*state, "\x43\x00\x10\x83")), "\"ABCD\"");
}

static void test_labels_are_printed_as_decimal_keys(void **state)
{
	assert_string_equal(print(*state, CBOR(*state, "\xa2\x01\x02\x38\x63\xf5")),
			    "{\"1\":2,\"-100\":true}");
}

static void test_number_is_printed_short_and_stays_a_number(void **state)
{
	assert_string_equal(print(*state, number(0.1)), "0.1");
	assert_string_equal(print(*state, number(21.53)), "21.53");
	assert_string_equal(print(*state, number(5)), "5.0");
	assert_string_equal(print(*state, number(-0.0)), "-0.0");
	assert_string_equal(print(*state, number(1e22)), "1e22");
	assert_string_equal(print(*state, number(9007199254740993.0)), "9007199254740992.0");
}

static void test_number_reads_back_the_same(void **state)
{
	const double numbers[] = {1.0 / 3,
				  0.1 + 0.2,
				  5e-324,
				  2.2250738585072014e-308,
				  1.7976931348623157e308,
				  -1e-7,
				  123456789.123456789};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct value v = json(*state, print(*state, number(numbers[i])));

		assert_int_equal(v.type, VALUE_NUMBER);
		assert_true(v.u.number == numbers[i]);
	}
}

static void test_long_text_is_printed_whole(void **state)
{
	char text[5003];

	memset(text, 'x', sizeof(text));
	text[0] = '"';
	text[5001] = '"';
	text[5002] = '\0';
	assert_string_equal(print(*state, json(*state, text)), text);
}

static void check_encoded(struct fixture *f, struct value v, const char *bytes, size_t len)
{
	size_t n = 0;
	const uint8_t *encoded = value_encode_cbor(&f->arena, &v, &n);

	assert_non_null(encoded);
	assert_int_equal(n, len);
	assert_memory_equal(encoded, bytes, len);
}

#define ENCODED(f, v, bytes) check_encoded(f, v, bytes, sizeof(bytes) - 1)

/* As RFC 8949 appendix A has them. */
static void test_cbor_is_encoded_as_in_the_appendix(void **state)
{
	struct fixture *f = *state;

	ENCODED(f, json(f, "0"), "\x00");
	ENCODED(f, json(f, "23"), "\x17");
	ENCODED(f, json(f, "24"), "\x18\x18");
	ENCODED(f, json(f, "1000"), "\x19\x03\xe8");
	ENCODED(f, json(f, "1000000"), "\x1a\x00\x0f\x42\x40");
	ENCODED(f, json(f, "1000000000000"), "\x1b\x00\x00\x00\xe8\xd4\xa5\x10\x00");
	ENCODED(f, json(f, "-1"), "\x20");
	ENCODED(f, json(f, "-1000"), "\x39\x03\xe7");
	ENCODED(f, json(f, "-9223372036854775808"), "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff");
	ENCODED(f, number(100000.0), "\xfa\x47\xc3\x50\x00");
	ENCODED(f, number(1.1), "\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a");
	ENCODED(f, number(1.0e300), "\xfb\x7e\x37\xe4\x3c\x88\x00\x75\x9c");
	ENCODED(f, json(f, "[false,true,null]"), "\x83\xf4\xf5\xf6");
	ENCODED(f, json(f, "[]"), "\x80");
	ENCODED(f, json(f, "{}"), "\xa0");
	ENCODED(f, json(f, "\"\\u00fc\""), "\x62\xc3\xbc");
	ENCODED(f, json(f, "{\"a\":1,\"b\":[2,3]}"), "\xa2\x61\x61\x01\x61\x62\x82\x02\x03");
	ENCODED(f, CBOR(f, "\xa2\x01\x44\x01\x02\x03\x04\x20\x60"),
		"\xa2\x01\x44\x01\x02\x03\x04\x20\x60");
}

static void test_long_text_and_arrays_are_encoded_with_their_length(void **state)
{
	struct fixture *f = *state;
	char text[303], bytes[303] = "\x79\x01\x2c";

	memset(text, 'x', sizeof(text));
	text[0] = text[301] = '"';
	text[302] = '\0';
	memset(bytes + 3, 'x', 300);
	check_encoded(f, json(f, text), bytes, 303);
}

static void test_encoding_without_memory_gives_null(void **state)
{
	struct value v = json(*state, "[1,2]");
	struct arena small;
	size_t len;

	arena_init(&small, 256, 0);
	assert_null(value_encode_cbor(&small, &v, &len));
	arena_free(&small);
}

static void test_printing_without_memory_gives_null(void **state)
{
	struct value v =
		json(*state, "[\"0123456789012345678901234567890123456789\",0.5,1,{\"a\":1}]");
	struct value raw = CBOR(*state, "\x43\x00\x10\x83");
	struct arena small;
	size_t len;

	arena_init(&small, 256, 0);
	assert_null(value_print_json(&small, &v, &len));
	small.limit = 128;
	assert_non_null(value_print_json(&small, &v, &len));
	arena_reset(&small);
	assert_null(value_print_json(&small, &raw, &len));
	arena_free(&small);
}

static void test_printing_more_than_the_arena_holds_gives_null(void **state)
{
	char text[600];
	struct value v;
	struct arena small;
	size_t len;

	memset(text, '1', sizeof(text));
	text[0] = '"';
	text[598] = '"';
	text[599] = '\0';
	v = json(*state, text);
	arena_init(&small, 256, 512);
	assert_null(value_print_json(&small, &v, &len));
	arena_free(&small);
}

/* A limit is what may be; one more is what may not. */
static void check_limit(struct fixture *f, const char *text, const char *cbor_bytes,
			size_t cbor_len, struct decode_limits enough, struct decode_limits too_few)
{
	struct value v;

	assert_int_equal(json_decode(&f->arena, text, strlen(text), &enough, &v, f->reason,
				     sizeof(f->reason)),
			 0);
	assert_int_equal(json_decode(&f->arena, text, strlen(text), &too_few, &v, f->reason,
				     sizeof(f->reason)),
			 -EMSGSIZE);
	assert_int_equal(cbor_decode(&f->arena, cbor_bytes, cbor_len, &enough, &v, f->reason,
				     sizeof(f->reason)),
			 0);
	assert_int_equal(cbor_decode(&f->arena, cbor_bytes, cbor_len, &too_few, &v, f->reason,
				     sizeof(f->reason)),
			 -EMSGSIZE);
}

static void test_size_is_limited(void **state)
{
	check_limit(*state, "[1]", "\x81\x18\x64", 3, (struct decode_limits){3, 1, 1},
		    (struct decode_limits){2, 1, 1});
}

static void test_depth_is_limited_and_a_bare_value_has_none(void **state)
{
	check_limit(*state, "[{}]", "\x81\xa0", 2, (struct decode_limits){9, 2, 1},
		    (struct decode_limits){9, 1, 1});
	check_limit(*state, "[]", "\x80", 1, (struct decode_limits){9, 1, 1},
		    (struct decode_limits){9, 0, 1});
	assert_int_equal(json(*state, "1").type, VALUE_INTEGER);
}

static void test_items_are_limited(void **state)
{
	check_limit(*state, "[1,2]", "\x82\x01\x02", 3, (struct decode_limits){9, 1, 2},
		    (struct decode_limits){9, 1, 1});
	check_limit(*state, "[1,2]", "\x9f\x01\x02\xff", 4, (struct decode_limits){9, 1, 2},
		    (struct decode_limits){9, 1, 1});
	check_limit(*state, "{\"a\":1,\"b\":2}", "\xa2\x01\x01\x02\x02", 5,
		    (struct decode_limits){20, 1, 2}, (struct decode_limits){20, 1, 1});
	check_limit(*state, "{\"a\":1,\"b\":2}", "\xbf\x01\x01\x02\x02\xff", 6,
		    (struct decode_limits){20, 1, 2}, (struct decode_limits){20, 1, 1});
}

static void test_cbor_text_is_not_copied(void **state)
{
	const char bytes[] = "\x63"
			     "abc";
	struct value v = CBOR(*state, bytes);

	assert_ptr_equal(v.u.text.data, bytes + 1);
}

static void test_announced_items_claim_no_memory(void **state)
{
	struct fixture *f = *state;
	const struct decode_limits wide = {
		.max_bytes = 16u << 20, .max_depth = 8, .max_readings = 1600};
	struct value v;

	assert_int_equal(cbor_decode(&f->arena, "\x99\x06\x40\x01", 4, &wide, &v, f->reason,
				     sizeof(f->reason)),
			 -EBADMSG);
	assert_int_equal(f->arena.used, 0);
}

static void test_utf8_is_checked_as_rfc_3629_says(void **state)
{
	const char *good[] = {"",
			      "a",
			      "\xc2\x80",
			      "\xe0\xa0\x80",
			      "\xed\x9f\xbf",
			      "\xee\x80\x80",
			      "\xef\xbf\xbf",
			      "\xf0\x90\x80\x80",
			      "\xf4\x8f\xbf\xbf"};
	const char *bad[] = {"\x80",
			     "\xc1\xbf",
			     "\xc2",
			     "\xc2\x41",
			     "\xe0\x9f\xbf",
			     "\xed\xa0\x80",
			     "\xe1\x80",
			     "\xe1\x80\x41",
			     "\xf0\x8f\xbf\xbf",
			     "\xf4\x90\x80\x80",
			     "\xf5\x80\x80\x80",
			     "\xff"};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(text_is_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(text_is_valid(bad[i], strlen(bad[i])));
	assert_false(text_is_valid("a\0b", 3));
}

static void test_reason_is_printable_utf8_however_short(void **state)
{
	char reason[8];

	(void)state;
	assert_int_equal(text_reason(reason, sizeof(reason), -EBADMSG, "a\nb\x7f"), -EBADMSG);
	assert_string_equal(reason, "a?b?");
	text_reason(reason, sizeof(reason), -EBADMSG, "a\xff\xc3\xa6");
	assert_string_equal(reason, "a???");
	text_reason(reason, sizeof(reason), -EBADMSG, "12345\xc3\xa6");
	assert_string_equal(reason, "12345\xc3\xa6");
	text_reason(reason, sizeof(reason), -EBADMSG, "123456\xc3\xa6");
	assert_string_equal(reason, "123456");
	text_reason(reason, sizeof(reason), -EBADMSG, "12345\xe2\x82\xac");
	assert_string_equal(reason, "12345");
	assert_int_equal(text_reason(reason, 0, -ENOMEM, "x"), -ENOMEM);
}

/* The same questions to a list and to a table. */
static void check_key_map(struct fixture *f, size_t capacity)
{
	static char keys[1600][24];
	struct key_map m;
	size_t value;

	assert_int_equal(key_map_init(&m, &f->arena, capacity), 0);
	for (size_t i = 0; i < capacity; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		value = i;
		assert_true(key_map_put(&m, keys[i], strlen(keys[i]), &value));
	}
	for (size_t i = 0; i < capacity; i++) {
		value = SIZE_MAX;
		assert_false(key_map_put(&m, keys[i], strlen(keys[i]), &value));
		assert_int_equal(value, i);
	}
}

static void test_key_map_finds_every_key_among_few_and_many(void **state)
{
	check_key_map(*state, 1);
	check_key_map(*state, KEY_MAP_FEW);
	check_key_map(*state, KEY_MAP_FEW + 1);
	check_key_map(*state, 1600);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_member_is_found_by_its_whole_key),
		TEST(test_label_and_key_are_told_apart),
		TEST(test_what_is_no_map_has_no_members),
		TEST(test_members_keep_their_order),
		TEST(test_text_is_escaped_when_printed),
		TEST(test_bytes_are_printed_as_base64url_without_padding),
		TEST(test_labels_are_printed_as_decimal_keys),
		TEST(test_number_is_printed_short_and_stays_a_number),
		TEST(test_number_reads_back_the_same),
		TEST(test_long_text_is_printed_whole),
		TEST(test_cbor_is_encoded_as_in_the_appendix),
		TEST(test_long_text_and_arrays_are_encoded_with_their_length),
		TEST(test_encoding_without_memory_gives_null),
		TEST(test_printing_without_memory_gives_null),
		TEST(test_printing_more_than_the_arena_holds_gives_null),
		TEST(test_size_is_limited),
		TEST(test_depth_is_limited_and_a_bare_value_has_none),
		TEST(test_items_are_limited),
		TEST(test_cbor_text_is_not_copied),
		TEST(test_announced_items_claim_no_memory),
		TEST(test_utf8_is_checked_as_rfc_3629_says),
		TEST(test_reason_is_printable_utf8_however_short),
		TEST(test_key_map_finds_every_key_among_few_and_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
