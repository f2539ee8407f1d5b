/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/config: each kind of mistake is an error that says what, where and what is expected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/config.h"
#include "core/base/log.h"

#define REQUIRED "database.url = host=/tmp\nstate.dir = /var/lib/fieldgate\n"

static char path[] = "/tmp/fieldgate-test-config-XXXXXX";
static struct config config;
static char error[1024];

/* Load a file of this content. The result of config_load; the message is in `error`, without the
 * path. */
static int load_bytes(const char *content, size_t len)
{
	FILE *out = fopen(path, "w");
	int rc;

	assert_non_null(out);
	assert_int_equal(fwrite(content, 1, len, out), len);
	assert_int_equal(fclose(out), 0);
	error[0] = '\0';
	rc = config_load(&config, path, error, sizeof(error));
	if (strncmp(error, path, strlen(path)) == 0)
		memmove(error, error + strlen(path), strlen(error + strlen(path)) + 1);
	return rc;
}

static int load(const char *content)
{
	return load_bytes(content, strlen(content));
}

static void assert_refused(const char *content, const char *message)
{
	assert_int_equal(load(content), -1);
	assert_string_equal(error, message);
	assert_null(config.database_url);
	assert_null(config.state_dir);
}

static void test_required_settings_alone_give_the_defaults(void **state)
{
	(void)state;
	assert_int_equal(load(REQUIRED), 0);
	assert_string_equal(config.database_url, "host=/tmp");
	assert_string_equal(config.state_dir, "/var/lib/fieldgate");
	assert_int_equal(config.database_connect_timeout_s, 5);
	assert_int_equal(config.registry_poll_ms, 2000);
	assert_int_equal(config.journal_durability, DURABILITY_DEFAULT);
	assert_int_equal(config.journal_max_bytes, 1024 * 1024 * 1024);
	assert_int_equal(config.payload_max_bytes, 128 * 1024);
	assert_int_equal(config.payload_max_depth, 8);
	assert_int_equal(config.payload_max_readings, 256);
	assert_int_equal(config.store_max_past_days, 400);
	assert_int_equal(config.store_max_future_days, 1);
	assert_int_equal(config.mqtt_max_keepalive_s, 1200);
	assert_int_equal(config.mqtt_client_id_suffix, 0);
	assert_int_equal(config.mqtt_refused_publish, REFUSED_PUBLISH_DISCONNECT);
	assert_int_equal(config.mqtt_token_auth, TOKEN_AUTH_OFF);
	assert_int_equal(config.log_level, LOG_LEVEL_INFO);
	config_free(&config);
}

/* The words of a choice stand in config.c, their numbers in enums: they must stay in step. */
static void test_each_word_of_a_choice_has_its_number(void **state)
{
	static const struct {
		const char *line;
		size_t offset;
		int64_t value;
	} cases[] = {
		{"journal.durability = write", offsetof(struct config, journal_durability),
		 DURABILITY_WRITE},
		{"journal.durability = fsync", offsetof(struct config, journal_durability),
		 DURABILITY_FSYNC},
		{"mqtt.client_id_suffix = yes", offsetof(struct config, mqtt_client_id_suffix), 1},
		{"mqtt.refused_publish = ignore", offsetof(struct config, mqtt_refused_publish),
		 REFUSED_PUBLISH_IGNORE},
		{"mqtt.token_auth = services", offsetof(struct config, mqtt_token_auth),
		 TOKEN_AUTH_SERVICES},
		{"mqtt.token_auth = all", offsetof(struct config, mqtt_token_auth), TOKEN_AUTH_ALL},
		{"log.level = debug", offsetof(struct config, log_level), LOG_LEVEL_DEBUG},
		{"log.level = warn", offsetof(struct config, log_level), LOG_LEVEL_WARN},
		{"log.level = error", offsetof(struct config, log_level), LOG_LEVEL_ERROR},
	};
	char content[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(content, sizeof(content), REQUIRED "%s\n", cases[i].line);
		assert_int_equal(load(content), 0);
		assert_int_equal(*(int64_t *)(void *)((char *)&config + cases[i].offset),
				 cases[i].value);
		config_free(&config);
	}
}

static void test_space_comments_and_line_ends_do_not_matter(void **state)
{
	(void)state;
	assert_int_equal(load("# a comment\r\n\r\n  \t# another = one\r\n"
			      "\tdatabase.url=host=/tmp dbname=x#y  \r\n"
			      "state.dir = /a b\r\n"
			      "registry.poll_ms\t=\t100"),
			 0);
	assert_string_equal(config.database_url, "host=/tmp dbname=x#y");
	assert_string_equal(config.state_dir, "/a b");
	assert_int_equal(config.registry_poll_ms, 100);
	config_free(&config);
}

static void test_missing_file_is_refused(void **state)
{
	(void)state;
	assert_int_equal(config_load(&config, "/nowhere/fieldgate.conf", error, sizeof(error)), -1);
	assert_string_equal(error,
			    "/nowhere/fieldgate.conf: cannot open: No such file or directory");
}

static void test_directory_is_refused(void **state)
{
	(void)state;
	assert_int_equal(config_load(&config, "/tmp", error, sizeof(error)), -1);
	assert_string_equal(error, "/tmp: cannot read: Is a directory");
}

static void test_line_without_equals_sign_is_refused(void **state)
{
	(void)state;
	assert_refused(REQUIRED "# three\nlog.level info\n", ":4: expected `name = value`");
}

static void test_unknown_setting_is_refused(void **state)
{
	(void)state;
	assert_refused(REQUIRED "log.levle = info\n",
		       ":3: there is no setting log.levle; README.md lists them");
	/* What stands before the first `=` need not be a name. */
	assert_refused(REQUIRED "database.url: postgresql://u:secret@h/d?sslmode=require\n",
		       ":3: there is no setting database.url...; README.md lists them");
}

static void test_setting_given_twice_is_refused(void **state)
{
	(void)state;
	assert_refused(REQUIRED "state.dir = /elsewhere\n", ":3: state.dir is set twice");
}

static void test_missing_required_setting_is_refused(void **state)
{
	(void)state;
	assert_refused("state.dir = /x\n", ": database.url is not set, and has no default");
	assert_refused("database.url = x\n", ": state.dir is not set, and has no default");
}

static void test_empty_text_is_refused(void **state)
{
	(void)state;
	assert_refused("database.url = x\nstate.dir = \n", ":2: state.dir is empty");
}

static void test_numbers_that_are_none_are_refused(void **state)
{
	static const char *const bad[] = {"",	  "x",	"1x", "1.5", "1e3",
					  "0x10", "+1", "-1", "1 2", "1M"};
	char content[256], expected[256];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(content, sizeof(content), REQUIRED "store.batch_rows = %s\n", bad[i]);
		snprintf(expected, sizeof(expected),
			 ":3: store.batch_rows = %s: expected a whole number from 1 to 50000",
			 bad[i]);
		assert_refused(content, expected);
	}
}

static void test_range_is_inclusive_and_nothing_beyond_it(void **state)
{
	(void)state;
	assert_int_equal(load(REQUIRED "store.batch_rows = 1\n"), 0);
	config_free(&config);
	assert_int_equal(load(REQUIRED "store.batch_rows = 50000\n"), 0);
	assert_int_equal(config.store_batch_rows, 50000);
	config_free(&config);
	assert_refused(REQUIRED "store.batch_rows = 0\n",
		       ":3: store.batch_rows = 0: expected a whole number from 1 to 50000");
	assert_refused(REQUIRED "store.batch_rows = 50001\n",
		       ":3: store.batch_rows = 50001: expected a whole number from 1 to 50000");
	assert_refused(
		REQUIRED "store.batch_rows = 99999999999999999999\n",
		":3: store.batch_rows = 99999999999999999999: expected a whole number from 1 "
		"to 50000");
}

static void test_words_that_are_no_choice_are_refused(void **state)
{
	static const char *const bad[] = {"", "full", "Write", "writ", "write|fsync"};
	char content[256], expected[256];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(content, sizeof(content), REQUIRED "journal.durability = %s\n", bad[i]);
		snprintf(expected, sizeof(expected),
			 ":3: journal.durability = %s: expected one of default|write|fsync",
			 bad[i]);
		assert_refused(content, expected);
	}
}

static void test_journal_must_hold_two_segments(void **state)
{
	(void)state;
	assert_refused(REQUIRED "journal.max_bytes = 1048576\njournal.segment_bytes = 524289\n",
		       ": journal.max_bytes must be at least twice journal.segment_bytes");
	assert_int_equal(
		load(REQUIRED "journal.max_bytes = 1048576\njournal.segment_bytes = 524288\n"), 0);
	config_free(&config);
}

static void test_overlong_line_is_refused(void **state)
{
	char content[8192];

	(void)state;
	memset(content, ' ', sizeof(content));
	content[4094] = '\n';
	memcpy(content + 4095, REQUIRED, sizeof(REQUIRED));
	assert_int_equal(load(content), 0);
	config_free(&config);
	content[4094] = ' ';
	content[4095] = '\n';
	memcpy(content + 4096, REQUIRED, sizeof(REQUIRED));
	assert_refused(content, ":1: the line is longer than 4094 bytes or holds a NUL");
}

static void test_nul_byte_is_refused(void **state)
{
	static const char content[] = "database.url = x\nstate.dir = /a\0b\n";

	(void)state;
	assert_int_equal(load_bytes(content, sizeof(content) - 1), -1);
	assert_string_equal(error, ":2: the line is longer than 4094 bytes or holds a NUL");
}

static void test_message_fits_a_small_buffer(void **state)
{
	char small[8];

	(void)state;
	assert_int_equal(config_load(&config, "/nowhere/fieldgate.conf", small, sizeof(small)), -1);
	assert_string_equal(small, "/nowher");
}

static void test_markdown_has_a_row_for_each_setting(void **state)
{
	char *text = NULL;
	size_t len = 0, rows = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	config_print_markdown(out);
	assert_int_equal(fclose(out), 0);
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		rows++;
	assert_ptr_equal(strstr(text, "| setting | default | range | meaning |\n| --- |"), text);
	assert_non_null(strstr(text, "\n| `state.dir` | required |  | "));
	assert_non_null(strstr(text, "\n| `store.batch_rows` | 2000 | 1 to 50000 | "));
	assert_non_null(strstr(text, "\n| `log.level` | info | debug, info, warn, error | "));
	/* Every field of struct config but one pointer each is 8 bytes: one row a field, two of a
	 * head. */
	assert_int_equal(rows, sizeof(struct config) / 8 + 2);
	free(text);
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_required_settings_alone_give_the_defaults),
		cmocka_unit_test(test_each_word_of_a_choice_has_its_number),
		cmocka_unit_test(test_space_comments_and_line_ends_do_not_matter),
		cmocka_unit_test(test_missing_file_is_refused),
		cmocka_unit_test(test_directory_is_refused),
		cmocka_unit_test(test_line_without_equals_sign_is_refused),
		cmocka_unit_test(test_unknown_setting_is_refused),
		cmocka_unit_test(test_setting_given_twice_is_refused),
		cmocka_unit_test(test_missing_required_setting_is_refused),
		cmocka_unit_test(test_empty_text_is_refused),
		cmocka_unit_test(test_numbers_that_are_none_are_refused),
		cmocka_unit_test(test_range_is_inclusive_and_nothing_beyond_it),
		cmocka_unit_test(test_words_that_are_no_choice_are_refused),
		cmocka_unit_test(test_journal_must_hold_two_segments),
		cmocka_unit_test(test_overlong_line_is_refused),
		cmocka_unit_test(test_nul_byte_is_refused),
		cmocka_unit_test(test_message_fits_a_small_buffer),
		cmocka_unit_test(test_markdown_has_a_row_for_each_setting),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
