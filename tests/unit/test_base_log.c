/* SPDX-License-Identifier: Apache-2.0 */
/* core/base/log: a line stays one line of logfmt, whatever a peer puts into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/log.h"

static char last_line[2 * LOG_LINE_MAX];
static enum log_level last_level;
static int line_count;

static void remember(enum log_level level, const char *line, void *arg)
{
	assert_ptr_equal(arg, &line_count);
	assert_true(strlen(line) < LOG_LINE_MAX);
	strcpy(last_line, line);
	last_level = level;
	line_count++;
}

static int take_lines(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	log_set_sink(remember, &line_count);
	last_line[0] = '\0';
	line_count = 0;
	return 0;
}

static int give_sink_back(void **state)
{
	(void)state;
	log_set_sink(NULL, NULL);
	log_set_level(LOG_LEVEL_INFO);
	return 0;
}

static void test_a_line_is_logfmt(void **state)
{
	(void)state;
	log_warn("connect_refused", "dev-1", "certificate %s is not registered", "ab12");
	assert_string_equal(last_line, "level=warn event=connect_refused device=dev-1 "
				       "msg=\"certificate ab12 is not registered\"");
	assert_int_equal(last_level, LOG_LEVEL_WARN);
}

static void test_no_device_means_no_device_field(void **state)
{
	(void)state;
	log_error("journal_full", NULL, "full");
	assert_string_equal(last_line, "level=error event=journal_full msg=\"full\"");
}

static void test_quotes_and_controls_in_the_message_are_escaped(void **state)
{
	(void)state;
	log_info("x", NULL, "%s", "a\"b\\c\nd\te\x1b[31m\x7f");
	assert_string_equal(last_line, "level=info event=x "
				       "msg=\"a\\\"b\\\\c\\x0ad\\x09e\\x1b[31m\\x7f\"");
}

static void test_a_forged_line_stays_inside_its_quotes(void **state)
{
	(void)state;
	log_info("x", "dev\nlevel=error event=forged", "\" device=dev-2 msg=\"");
	assert_string_equal(last_line, "level=info event=x "
				       "device=\"dev\\x0alevel=error event=forged\" "
				       "msg=\"\\\" device=dev-2 msg=\\\"\"");
}

static void test_utf8_passes_and_what_is_not_utf8_is_escaped(void **state)
{
	(void)state;
	log_info("x", NULL, "%s", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	assert_string_equal(last_line, "level=info event=x "
				       "msg=\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
	log_info("x", NULL, "%s", "\xff \xc3 \xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80 \xe2\x82");
	assert_string_equal(last_line, "level=info event=x "
				       "msg=\"\\xff \\xc3 \\xc0\\xaf \\xed\\xa0\\x80 "
				       "\\xf5\\x80\\x80\\x80 \\xe2\\x82\"");
}

/* U+009B begins an escape sequence in terminals that honour C1 controls. */
static void test_c1_controls_are_escaped(void **state)
{
	(void)state;
	log_info("x",
		 "\xc2\x9b"
		 "31m",
		 "\xc2\x9b"
		 "2J");
	assert_string_equal(last_line, "level=info event=x "
				       "device=\"\\xc2\\x9b31m\" msg=\"\\xc2\\x9b2J\"");
}

static void test_empty_device_is_quoted(void **state)
{
	(void)state;
	log_info("x", "", "y");
	assert_string_equal(last_line, "level=info event=x device=\"\" msg=\"y\"");
}

static void test_long_message_is_cut_and_its_quote_closed(void **state)
{
	char text[2000];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_info("x", NULL, "%s", text);
	assert_in_range(strlen(last_line), LOG_LINE_MAX - 8, LOG_LINE_MAX - 1);
	assert_string_equal(last_line + strlen(last_line) - 2, "a\"");
}

/* Escapes take several bytes: none may be cut in two, whatever stands before it. */
static void test_an_escape_at_the_cut_is_whole_or_absent(void **state)
{
	char text[LOG_LINE_MAX], *quote;

	(void)state;
	for (size_t lead = 0; lead < 8; lead++) {
		memset(text, '\x01', sizeof(text) - 1);
		memset(text, 'a', lead);
		text[sizeof(text) - 1] = '\0';
		log_info("x", NULL, "%s", text);
		quote = last_line + strlen(last_line) - 1;
		assert_string_equal(quote - 4, "\\x01\"");
	}
}

static void test_a_character_at_the_cut_is_whole_or_absent(void **state)
{
	char text[LOG_LINE_MAX], *quote;

	(void)state;
	for (size_t lead = 0; lead < 4; lead++) {
		memset(text, 'a', lead);
		for (size_t i = lead; i + 3 < sizeof(text); i += 3) {
			memcpy(text + i, "\xe2\x82\xac", 4);
		}
		log_info("x", NULL, "%s", text);
		quote = last_line + strlen(last_line) - 1;
		assert_string_equal(quote - 3, "\xe2\x82\xac\"");
	}
}

static void test_long_device_leaves_a_line_that_fits(void **state)
{
	char device[3000];

	(void)state;
	memset(device, 'd', sizeof(device));
	device[sizeof(device) - 1] = '\0';
	log_info("x", device, "y");
	device[10] = '\n';
	log_info("x", device, "y");
	assert_int_equal(line_count, 2);
}

static void test_lines_below_the_level_are_not_written(void **state)
{
	(void)state;
	log_debug("x", NULL, "not at info");
	assert_int_equal(line_count, 0);
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("x", NULL, "not at error");
	assert_int_equal(line_count, 0);
	log_error("x", NULL, "written");
	assert_int_equal(line_count, 1);
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("x", NULL, "written");
	assert_int_equal(line_count, 2);
}

static void test_level_names(void **state)
{
	(void)state;
	assert_int_equal(log_level_parse("debug"), LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("info"), LOG_LEVEL_INFO);
	assert_int_equal(log_level_parse("warn"), LOG_LEVEL_WARN);
	assert_int_equal(log_level_parse("error"), LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("warning"), -1);
	assert_int_equal(log_level_parse(""), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, take_lines, give_sink_back)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_line_is_logfmt),
		TEST(test_no_device_means_no_device_field),
		TEST(test_quotes_and_controls_in_the_message_are_escaped),
		TEST(test_a_forged_line_stays_inside_its_quotes),
		TEST(test_utf8_passes_and_what_is_not_utf8_is_escaped),
		TEST(test_c1_controls_are_escaped),
		TEST(test_empty_device_is_quoted),
		TEST(test_long_message_is_cut_and_its_quote_closed),
		TEST(test_an_escape_at_the_cut_is_whole_or_absent),
		TEST(test_a_character_at_the_cut_is_whole_or_absent),
		TEST(test_long_device_leaves_a_line_that_fits),
		TEST(test_lines_below_the_level_are_not_written),
		TEST(test_level_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
