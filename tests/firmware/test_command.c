/* SPDX-License-Identifier: Apache-2.0 */
/* Commands from the cloud, in CBOR and JSON: tests/vectors/commands/, and that both forms agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include <errno.h>
#include <inttypes.h>

#include "device-fw/core/cbor.h"
#include "device-fw/core/command.h"

/* From a copy of exactly that size, so that a read behind it shows. */
static int decode(struct fg_command *c, const void *bytes, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	memset(c, 0xee, sizeof(*c));
	rc = fg_command_decode(c, copy, length);
	free(copy);
	assert_true(rc == 0 || rc == -EBADMSG);
	if (rc)
		assert_int_equal(c->present, 0);
	return rc;
}

static void assert_refused(const void *bytes, size_t length)
{
	struct fg_command c;

	assert_int_equal(decode(&c, bytes, length), -EBADMSG);
}

static size_t unhex(const char *hex, uint8_t *out, size_t size)
{
	size_t length = strlen(hex) / 2;

	assert_true(length <= size);
	for (size_t i = 0; i < length; i++) {
		char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		out[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return length;
}

static int32_t number_of(json_t *vector, const char *member)
{
	json_t *n = json_object_get(vector, member);

	assert_true(json_is_integer(n));
	return (int32_t)json_integer_value(n);
}

static void check_command(const struct fg_command *c, json_t *want)
{
	unsigned present = 0;

	if (json_object_get(want, "interval")) {
		present |= FG_COMMAND_INTERVAL;
		assert_int_equal(c->interval_s, number_of(want, "interval"));
	}
	if (json_object_get(want, "id")) {
		present |= FG_COMMAND_ID;
		assert_int_equal(c->id, number_of(want, "id"));
	}
	if (json_object_get(want, "read"))
		present |= FG_COMMAND_READ;
	if (json_object_get(want, "reboot"))
		present |= FG_COMMAND_REBOOT;
	assert_int_equal(c->present, present);
}

static void check_vector(json_t *vector)
{
	json_t *want = json_object_get(vector, "command"), *text = json_object_get(vector, "text");
	uint8_t bytes[1024];
	size_t length =
		unhex(json_string_value(json_object_get(vector, "hex")), bytes, sizeof(bytes));
	struct fg_command c;
	int rc;

	print_message("        %s\n", json_string_value(json_object_get(vector, "name")));
	if (text) {
		assert_int_equal(json_string_length(text), length);
		assert_memory_equal(json_string_value(text), bytes, length);
	}
	rc = decode(&c, bytes, length);
	assert_int_equal(rc, want ? 0 : -EBADMSG);
	if (want)
		check_command(&c, want);
	/* Nothing that is cut short is a command; JSON's white space may be missing. */
	while (length > 0 && bytes[length - 1] <= ' ' && text)
		length--;
	for (size_t cut = 0; want && cut < length; cut++)
		assert_refused(bytes, cut);
}

static void check_file(const char *path)
{
	json_error_t e;
	json_t *vectors = json_load_file(path, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);

	if (!vectors)
		fail_msg("%s, line %d: %s", path, e.line, e.text);
	assert_true(json_array_size(vectors) > 20);
	for (size_t i = 0; i < json_array_size(vectors); i++)
		check_vector(json_array_get(vectors, i));
	json_decref(vectors);
}

static void test_vectors(void **state)
{
	(void)state;
	check_file("tests/vectors/commands/accepted.json");
	check_file("tests/vectors/commands/refused.json");
}

/* ---- the same command in both forms */

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint32_t below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32) % n;
}

struct forms {
	struct fg_cbor_writer cbor;
	char json[4096];
	size_t json_length;
};

static void __attribute__((format(printf, 2, 3))) print(struct forms *f, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(f->json + f->json_length, sizeof(f->json) - f->json_length, format, args);
	va_end(args);
	assert_in_range(n, 0, sizeof(f->json) - f->json_length - 1);
	f->json_length += (size_t)n;
}

static void print_space(struct forms *f)
{
	static const char *const spaces[] = {"", "", "", " ", "\n\t", "\r\n  "};

	print(f, "%s", spaces[below(6)]);
}

static void write_byte(struct forms *f, uint8_t byte)
{
	fg_cbor_raw(&f->cbor, &byte, 1);
}

static void write_integer(struct forms *f)
{
	static const int64_t values[] = {0,	     1,		 -1,	     60,
					 604800,     604801,	 INT32_MAX,  (int64_t)INT32_MAX + 1,
					 INT32_MIN,  INT64_MAX,	 -604800,    (int64_t)INT32_MIN - 1,
					 4294967296, 4294967356, 42949672960};
	int64_t value = below(2) ? values[below(15)] : (int64_t)below(1000000);

	fg_cbor_int(&f->cbor, value);
	print(f, "%" PRId64, value);
}

static void write_value(struct forms *f, unsigned depth);

static void write_key(struct forms *f)
{
	static const char *const keys[] = {"interval", "read", "reboot", "id",	 "a",
					   "interva",  "",     "ids",	 "read2"};
	const char *key = keys[below(9)];

	fg_cbor_string(&f->cbor, key);
	print(f, "\"%s\"", key);
}

/* Of definite or indefinite length. */
static void write_container(struct forms *f, unsigned depth, bool map)
{
	unsigned count = below(4);
	bool indefinite = below(2);

	if (indefinite)
		write_byte(f, map ? 0xbf : 0x9f);
	else if (map)
		fg_cbor_map(&f->cbor, count);
	else
		fg_cbor_array(&f->cbor, count);
	print(f, "%s", map ? "{" : "[");
	for (unsigned i = 0; i < count; i++) {
		print(f, "%s", i ? "," : "");
		print_space(f);
		if (map) {
			write_key(f);
			print_space(f);
			print(f, ":");
			print_space(f);
		}
		write_value(f, depth + 1);
		print_space(f);
	}
	print_space(f);
	print(f, "%s", map ? "}" : "]");
	if (indefinite)
		write_byte(f, 0xff);
}

static void write_value(struct forms *f, unsigned depth)
{
	static const char *const words[] = {"false", "true", "null"};
	uint32_t kind = below(depth < 11 ? 10 : 6), which = below(3);

	switch (kind) {
	case 0:
	case 1:
		write_byte(f, (uint8_t)(0xf4 + which));
		print(f, "%s", words[which]);
		break;
	case 2:
		fg_cbor_raw(&f->cbor, "\xf9\x53\x80", 3);
		print(f, "%s", which == 0 ? "60.0" : which == 1 ? "6e1" : "600E-1");
		break;
	case 3:
		fg_cbor_string(&f->cbor, "x\"\\{[,:]}");
		print(f, "\"x\\\"\\\\{[,:]}\"");
		break;
	case 4:
	case 5:
		write_integer(f);
		break;
	default:
		/* Deep rather than wide. */
		write_container(f, depth, which > 0);
		break;
	}
}

static void write_member(struct forms *f)
{
	write_key(f);
	print_space(f);
	print(f, ":");
	print_space(f);
	if (below(3) == 0) {
		write_value(f, 1);
	} else if (below(2)) {
		bool value = below(2);

		fg_cbor_bool(&f->cbor, value);
		print(f, "%s", value ? "true" : "false");
	} else {
		write_integer(f);
	}
	print_space(f);
}

static void write_command(struct forms *f, void *buffer, size_t size)
{
	unsigned count = below(4);
	bool indefinite = below(2);

	fg_cbor_begin(&f->cbor, buffer, size);
	f->json_length = 0;
	if (indefinite)
		write_byte(f, 0xbf);
	else
		fg_cbor_map(&f->cbor, count);
	print_space(f);
	print(f, "{");
	for (unsigned i = 0; i < count; i++) {
		print(f, "%s", i ? "," : "");
		print_space(f);
		write_member(f);
	}
	print(f, "}");
	print_space(f);
	if (indefinite)
		write_byte(f, 0xff);
	assert_false(f->cbor.full);
}

static void test_cbor_and_json_say_the_same(void **state)
{
	static struct forms f;
	static uint8_t buffer[4096];
	unsigned accepted = 0, refused = 0;

	(void)state;
	for (int i = 0; i < 300000; i++) {
		struct fg_command a, b;
		int rc;

		write_command(&f, buffer, sizeof(buffer));
		rc = decode(&a, buffer, f.cbor.length);
		if (decode(&b, f.json, f.json_length) != rc)
			fail_msg("CBOR gives %d, JSON not: %s", rc, f.json);
		if (rc) {
			refused++;
			continue;
		}
		accepted++;
		assert_int_equal(a.present, b.present);
		assert_int_equal(a.interval_s, b.interval_s);
		assert_int_equal(a.id, b.id);
	}
	assert_true(accepted > 50000 && refused > 50000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_cbor_and_json_say_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
