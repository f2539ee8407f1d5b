/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed secrets: opened by whom they were sealed for, with the master key, and by nobody else. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/registry/secret.h"

#define KEY_1 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_2 "2222222222222222222222222222222222222222222222222222222222222222"

static char dir[] = "/tmp/fieldgate-test-secret-XXXXXX";
static char path[64];
static char err[512];
static const char context[] = "dev-1";

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/master.key", dir);
	return 0;
}

static int drop_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void write_file(const void *content, size_t len, mode_t mode)
{
	int fd;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, len), (ssize_t)len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static struct secret_keys *keys_of(const char *content)
{
	struct secret_keys *k = NULL;

	write_file(content, strlen(content), 0600);
	if (secret_keys_load(&k, path, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return k;
}

static size_t unhex(const char *hex, uint8_t *out)
{
	size_t n = 0;

	for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (uint8_t)byte;
	return n;
}

static size_t seal(const struct secret_keys *k, const void *secret, size_t len, uint8_t *sealed)
{
	assert_int_equal(secret_seal(k, secret, len, context, strlen(context), sealed), 0);
	return SECRET_OVERHEAD + len;
}

static int open_it(const struct secret_keys *k, const uint8_t *sealed, size_t len, uint8_t *out,
		   size_t *out_len)
{
	return secret_open(k, sealed, len, context, strlen(context), out, out_len);
}

static void test_every_length_comes_back(void **state)
{
	struct secret_keys *k = keys_of(KEY_1 "\n");
	uint8_t secret[SECRET_MAX + 1], sealed[SECRET_OVERHEAD + SECRET_MAX + 1], out[SECRET_MAX];
	size_t len;

	(void)state;
	memset(secret, 0x5a, sizeof(secret));
	for (size_t n = 1; n <= SECRET_MAX; n++) {
		secret[n - 1] = (uint8_t)n;
		assert_int_equal(open_it(k, sealed, seal(k, secret, n, sealed), out, &len), 0);
		assert_int_equal(len, n);
		assert_memory_equal(out, secret, n);
	}
	assert_int_equal(secret_seal(k, secret, 0, "", 0, sealed), -EINVAL);
	assert_int_equal(secret_seal(k, secret, SECRET_MAX + 1, "", 0, sealed), -EINVAL);
	secret_keys_free(k);
}

/* Made by another implementation of AES-256-GCM (Python's cryptography). */
static void test_the_format_is_the_one_that_is_documented(void **state)
{
	struct secret_keys *k = keys_of(KEY_1 "\n");
	uint8_t fingerprint[64], sealed[128], out[SECRET_MAX], bound[SECRET_CONTEXT_MAX];
	uint8_t secret[64];
	size_t len, n, bound_len;

	(void)state;
	n = unhex("01630dcd2966c43366404142434445464748494a4b42180c80829921a4656dbd9d37c9bdf4"
		  "fa6a7263af4b3ec36694ba4eb0925020",
		  sealed);
	unhex("387a9a621a6b5d04eff7f30d06348f833982c0bf898ad0abc6696708e7a9a6af", fingerprint);
	unhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", secret);
	bound_len = secret_context(bound, CREDENTIAL_PSK, fingerprint, "tracker-1");
	assert_int_equal(bound_len, 4 + 32 + 9);
	assert_memory_equal(bound, "psk", 4);
	assert_memory_equal(bound + 4, fingerprint, 32);
	assert_memory_equal(bound + 36, "tracker-1", 9);
	assert_int_equal(secret_open(k, sealed, n, bound, bound_len, out, &len), 0);
	assert_int_equal(len, 16);
	assert_memory_equal(out, secret, 16);
	secret_keys_free(k);
}

static void test_longest_context_fits(void **state)
{
	char id[PRINCIPAL_ID_MAX + 1];
	uint8_t fingerprint[FINGERPRINT_LEN] = {0}, bound[SECRET_CONTEXT_MAX];

	(void)state;
	memset(id, 'x', PRINCIPAL_ID_MAX);
	id[PRINCIPAL_ID_MAX] = '\0';
	for (int kind = CREDENTIAL_X509; kind <= CREDENTIAL_TOKEN; kind++)
		assert_true(secret_context(bound, (enum credential_kind)kind, fingerprint, id) <=
			    SECRET_CONTEXT_MAX);
}

static void test_no_bit_can_be_changed_and_no_byte_is_spare(void **state)
{
	struct secret_keys *k = keys_of(KEY_1 "\n");
	uint8_t sealed[SECRET_OVERHEAD + 17], out[SECRET_MAX], secret[17] = "0123456789abcdef";
	size_t n, len;

	(void)state;
	n = seal(k, secret, sizeof(secret), sealed);
	for (size_t bit = 0; bit < 8 * n; bit++) {
		int expected = bit / 8 >= 1 && bit / 8 < 9 ? -ENOKEY : -EBADMSG;

		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (open_it(k, sealed, n, out, &len) != expected || len != 0)
			fail_msg("bit %zu", bit);
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t shorter = 0; shorter < n; shorter++)
		assert_int_equal(open_it(k, sealed, shorter, out, &len), -EBADMSG);
	assert_int_equal(open_it(k, sealed, n, out, &len), 0);
	secret_keys_free(k);
}

static void test_another_rows_secret_does_not_open(void **state)
{
	struct secret_keys *k = keys_of(KEY_1 "\n");
	uint8_t sealed[SECRET_OVERHEAD + 4], out[SECRET_MAX];
	size_t n = seal(k, "abcd", 4, sealed), len;

	(void)state;
	memset(out, 0xee, sizeof(out));
	assert_int_equal(secret_open(k, sealed, n, "dev-2", 5, out, &len), -EBADMSG);
	assert_int_equal(secret_open(k, sealed, n, context, 4, out, &len), -EBADMSG);
	assert_int_equal(secret_open(k, sealed, n, "", 0, out, &len), -EBADMSG);
	assert_memory_not_equal(out, "abcd", 4);
	secret_keys_free(k);
}

static void test_a_secret_is_never_sealed_the_same_way_twice(void **state)
{
	struct secret_keys *k = keys_of(KEY_1 "\n");
	uint8_t one[SECRET_OVERHEAD + 4], two[SECRET_OVERHEAD + 4];

	(void)state;
	seal(k, "abcd", 4, one);
	seal(k, "abcd", 4, two);
	assert_memory_equal(one, two, 9);
	assert_memory_not_equal(one + 9, two + 9, 12);
	assert_memory_not_equal(one + 21, two + 21, 4);
	secret_keys_free(k);
}

static void test_master_keys_are_replaced_row_by_row(void **state)
{
	struct secret_keys *first = keys_of(KEY_1 "\n"), *both = keys_of(KEY_2 "\n" KEY_1 "\n"),
			   *second = keys_of(KEY_2 "\n");
	uint8_t old[SECRET_OVERHEAD + 4], new[SECRET_OVERHEAD + 4], out[SECRET_MAX];
	size_t n = seal(first, "abcd", 4, old), len;

	(void)state;
	seal(both, "abcd", 4, new);
	assert_int_equal(open_it(both, old, n, out, &len), 0);
	assert_int_equal(open_it(both, new, n, out, &len), 0);
	assert_int_equal(open_it(second, new, n, out, &len), 0);
	assert_int_equal(open_it(second, old, n, out, &len), -ENOKEY);
	assert_int_equal(open_it(first, new, n, out, &len), -ENOKEY);
	secret_keys_free(first);
	secret_keys_free(both);
	secret_keys_free(second);
}

static void test_without_master_keys_nothing_is_sealed_or_opened(void **state)
{
	struct secret_keys *k = keys_of(KEY_1 "\n");
	uint8_t sealed[SECRET_OVERHEAD + 4], out[SECRET_MAX];
	size_t n = seal(k, "abcd", 4, sealed), len;

	(void)state;
	assert_int_equal(secret_seal(NULL, "abcd", 4, "", 0, sealed), -ENOKEY);
	assert_int_equal(secret_open(NULL, sealed, n, context, 5, out, &len), -ENOKEY);
	secret_keys_free(k);
	secret_keys_free(NULL);
}

static void test_key_files_as_people_write_them(void **state)
{
	static const char *const files[] = {
		KEY_1,
		KEY_1 "\n",
		"# made 2026-01-01\n\n" KEY_1 "\r\n# the old one\n\t " KEY_2 " \n",
		"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F\n",
	};
	uint8_t sealed[SECRET_OVERHEAD + 4], out[SECRET_MAX];
	struct secret_keys *k = keys_of(KEY_1);
	size_t n = seal(k, "abcd", 4, sealed), len;

	(void)state;
	secret_keys_free(k);
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		k = keys_of(files[i]);
		assert_int_equal(open_it(k, sealed, n, out, &len), 0);
		secret_keys_free(k);
	}
}

#define SHORT "00112233445566778899aabbccddeeff00112233445566778899aabbccddee"

static const struct {
	const char *content;
	size_t len;
	mode_t mode;
	const char *why;
} bad_files[] = {
	{"", 0, 0600, "there is no key in it"},
	{"# only words\n\n", 14, 0600, "there is no key in it"},
	{SHORT "\n", 63, 0600, "line 1 is no master key"},
	{KEY_1 "\n" SHORT "zz\n", 130, 0600, "line 2 is no master key"},
	{KEY_1 "0\n", 66, 0600, "line 1 is no master key"},
	{KEY_1 " # first\n", 73, 0600, "line 1 is no master key"},
	{KEY_1 "\0\n", 66, 0600, "line 1 is no master key"},
	{KEY_1 "\n", 65, 0604, "others can read or change it (mode 0604)"},
	{KEY_1 "\n", 65, 0602, "others can read or change it (mode 0602)"},
	{KEY_1 "\n", 65, 0620, "others can read or change it (mode 0620)"},
	{KEY_1 "\n", 65, 0644, "others can read or change it (mode 0644)"},
};

static void refused(const char *why)
{
	struct secret_keys *k = (struct secret_keys *)err;

	memset(err, 0, sizeof(err));
	assert_int_equal(secret_keys_load(&k, path, err, sizeof(err)), -1);
	assert_null(k);
	if (!strstr(err, why) || !strstr(err, path))
		fail_msg("'%s' is not in '%s'", why, err);
	/* A line that is no key may be most of one. */
	assert_null(strstr(err, "00112233"));
	assert_null(strstr(err, "00010203"));
}

static void test_bad_key_files_are_refused_with_what_and_where(void **state)
{
	char many[33 * 65 + 1] = "";

	(void)state;
	for (size_t i = 0; i < sizeof(bad_files) / sizeof(*bad_files); i++) {
		write_file(bad_files[i].content, bad_files[i].len, bad_files[i].mode);
		refused(bad_files[i].why);
	}
	for (size_t i = 0; i < 33; i++)
		memcpy(many + i * 65, KEY_2 "\n", 66);
	write_file(many, strlen(many), 0600);
	refused("line 33: more than 32 keys");
	unlink(path);
	refused("No such file or directory");
	assert_int_equal(mkdir(path, 0700), 0);
	refused("is no regular file");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	refused("is no regular file");
}

static void test_a_group_may_read_what_is_roots(void **state)
{
	struct secret_keys *k = NULL;

	(void)state;
	write_file(KEY_1, strlen(KEY_1), 0640);
	if (geteuid() != 0) {
		refused("others can read or change it");
		return;
	}
	assert_int_equal(secret_keys_load(&k, path, err, sizeof(err)), 0);
	secret_keys_free(k);
	assert_int_equal(chown(path, 65534, 65534), 0);
	refused("others can read or change it");
}

/* --- the environment --- */

static struct secret_keys *keys_of_variable(const char *content)
{
	struct secret_keys *k = NULL;

	setenv(SECRET_KEYS_VARIABLE, content, 1);
	if (secret_keys_open(&k, NULL, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	unsetenv(SECRET_KEYS_VARIABLE);
	return k;
}

static void test_master_keys_come_from_the_environment_when_no_file_is_named(void **state)
{
	static const char *const contents[] = {
		KEY_1,		 KEY_1 "," KEY_2, " " KEY_1 " , " KEY_2 "\n", KEY_1 "\n" KEY_2 "\n",
		KEY_1 " " KEY_2,
	};
	struct secret_keys *k = keys_of(KEY_1);
	uint8_t sealed[SECRET_OVERHEAD + 4], out[SECRET_MAX];
	size_t n = seal(k, "abcd", 4, sealed), len;

	(void)state;
	secret_keys_free(k);
	for (size_t i = 0; i < sizeof(contents) / sizeof(*contents); i++) {
		k = keys_of_variable(contents[i]);
		assert_int_equal(secret_keys_count(k), i == 0 ? 1 : 2);
		assert_int_equal(open_it(k, sealed, n, out, &len), 0);
		assert_memory_equal(secret_key_id(k, 0), sealed + 1, SECRET_KEY_ID_LEN);
		secret_keys_free(k);
	}
}

static void test_a_file_that_is_named_counts_and_not_the_environment(void **state)
{
	struct secret_keys *file = keys_of(KEY_1), *k;

	(void)state;
	setenv(SECRET_KEYS_VARIABLE, KEY_2, 1);
	assert_true(secret_keys_given(NULL) && secret_keys_given(path));
	assert_int_equal(secret_keys_open(&k, path, err, sizeof(err)), 0);
	assert_int_equal(secret_keys_count(k), 1);
	assert_memory_equal(secret_key_id(k, 0), secret_key_id(file, 0), SECRET_KEY_ID_LEN);
	secret_keys_free(k);
	unlink(path);
	assert_int_equal(secret_keys_open(&k, path, err, sizeof(err)), -1);
	assert_null(k);
	secret_keys_free(file);
	unsetenv(SECRET_KEYS_VARIABLE);
}

static void test_an_environment_without_keys_is_none_and_a_bad_one_is_said(void **state)
{
	static const char *const nothing[] = {"", " ", ",\n"};
	struct secret_keys *k = (struct secret_keys *)err;

	(void)state;
	unsetenv(SECRET_KEYS_VARIABLE);
	assert_false(secret_keys_given(NULL));
	assert_int_equal(secret_keys_open(&k, NULL, err, sizeof(err)), 0);
	assert_null(k);
	for (size_t i = 0; i < sizeof(nothing) / sizeof(*nothing); i++)
		assert_null(keys_of_variable(nothing[i]));
	setenv(SECRET_KEYS_VARIABLE, KEY_1 "," SHORT, 1);
	assert_int_equal(secret_keys_open(&k, NULL, err, sizeof(err)), -1);
	assert_null(k);
	if (!strstr(err, SECRET_KEYS_VARIABLE ": key 2 is no master key"))
		fail_msg("%s", err);
	assert_null(strstr(err, "00112233"));
	unsetenv(SECRET_KEYS_VARIABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_length_comes_back),
		cmocka_unit_test(test_the_format_is_the_one_that_is_documented),
		cmocka_unit_test(test_longest_context_fits),
		cmocka_unit_test(test_no_bit_can_be_changed_and_no_byte_is_spare),
		cmocka_unit_test(test_another_rows_secret_does_not_open),
		cmocka_unit_test(test_a_secret_is_never_sealed_the_same_way_twice),
		cmocka_unit_test(test_master_keys_are_replaced_row_by_row),
		cmocka_unit_test(test_without_master_keys_nothing_is_sealed_or_opened),
		cmocka_unit_test(test_key_files_as_people_write_them),
		cmocka_unit_test(test_bad_key_files_are_refused_with_what_and_where),
		cmocka_unit_test(test_a_group_may_read_what_is_roots),
		cmocka_unit_test(test_master_keys_come_from_the_environment_when_no_file_is_named),
		cmocka_unit_test(test_a_file_that_is_named_counts_and_not_the_environment),
		cmocka_unit_test(test_an_environment_without_keys_is_none_and_a_bad_one_is_said),
	};

	return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
