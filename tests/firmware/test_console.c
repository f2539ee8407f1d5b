/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of the provisioning shell (device-fw/ports/zephyr/src/console.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device-fw/ports/zephyr/src/console.h"

static struct console console;
static char shown[2 * CONSOLE_LINE_MAX];

static void echo(const char *text)
{
	assert_true(strlen(shown) + strlen(text) < sizeof(shown));
	strcat(shown, text);
}

static int setup(void **state)
{
	(void)state;
	console_init(&console);
	shown[0] = '\0';
	return 0;
}

/* Bytes up to the first event that is one. Returns it, and in *rest what comes behind. */
static enum console_event feed(const char *bytes, size_t length, const char **rest)
{
	enum console_event event = CONSOLE_MORE;
	size_t i = 0;

	while (i < length && event == CONSOLE_MORE)
		event = console_take(&console, bytes[i++], echo);
	if (rest)
		*rest = bytes + i;
	return event;
}

static enum console_event type(const char *text)
{
	const char *rest;
	enum console_event event = feed(text, strlen(text), &rest);

	assert_string_equal(rest, "");
	return event;
}

static void test_lines_end_with_cr_lf_or_both(void **state)
{
	static const char *const ends[] = {"\r", "\n"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(type("show"), CONSOLE_MORE);
		assert_int_equal(type(ends[i]), CONSOLE_COMMAND);
		assert_string_equal(console.line, "show");
		console_clear(&console);
		assert_int_equal(type("\n"), CONSOLE_MORE);
	}
	assert_int_equal(type("\r\n\r\n"), CONSOLE_MORE);
}

static void test_what_begins_with_at_is_for_the_modem(void **state)
{
	(void)state;
	assert_int_equal(type("AT\r"), CONSOLE_AT);
	console_clear(&console);
	assert_int_equal(type("at+cfun?\r"), CONSOLE_AT);
	assert_string_equal(console.line, "at+cfun?");
	console_clear(&console);
	assert_int_equal(type("A\r"), CONSOLE_COMMAND);
}

static void test_line_ends_between_quotes_belong_to_a_credential(void **state)
{
	static const char command[] = "AT%CMNG=0,16842753,0,\"-----BEGIN CERTIFICATE-----\n"
				      "MIIB\n-----END CERTIFICATE-----\n\"";

	(void)state;
	assert_int_equal(type(command), CONSOLE_MORE);
	assert_int_equal(type("\r"), CONSOLE_AT);
	assert_string_equal(console.line, command);
}

static void test_quotes_are_nothing_special_in_other_lines(void **state)
{
	(void)state;
	assert_int_equal(type("set host \"a\r"), CONSOLE_COMMAND);
	console_clear(&console);
	assert_int_equal(type("\",0,0,0,0,0\r"), CONSOLE_COMMAND);
}

/* What pki/modem/at.c does with a modem that somebody has left between quotes. */
static void test_a_command_that_was_cut_short_is_closed_by_the_next_program(void **state)
{
	(void)state;
	assert_int_equal(type("AT%CMNG=0,1,0,\"-----BEG"), CONSOLE_MORE);
	assert_int_equal(type("AT\r\n"), CONSOLE_MORE);
	assert_int_equal(type("\",0,0,0,0,0\r"), CONSOLE_AT);
	assert_string_equal(console.line, "AT%CMNG=0,1,0,\"-----BEGAT\r\n\",0,0,0,0,0");
	console_clear(&console);
	assert_int_equal(type("\nAT\r"), CONSOLE_AT);
	assert_string_equal(console.line, "AT");
}

static void test_no_content_is_echoed(void **state)
{
	(void)state;
	type("AT%CMNG=0,1,3,\"5ec4e7\"\r");
	assert_string_equal(shown, "AT%CMNG=0,1,3\r\n");
	setup(NULL);
	type("AT%CMNG=0,1,3,5ec4e7\r");
	assert_string_equal(shown, "AT%CMNG=0,1,3\r\n");
	setup(NULL);
	type("AT%X=\"5ec4e7\"\r");
	assert_string_equal(shown, "AT%X=\r\n");
	setup(NULL);
	/* Rubbed out, it does not come back. */
	type("AT%X=\"5ec\b\b\b\b\b=\r");
	assert_string_equal(shown, "AT%X=\b \b=\r\n");
}

static void test_echo_is_switched_off_and_on(void **state)
{
	(void)state;
	assert_int_equal(type("ATE0\r"), CONSOLE_AT);
	assert_true(console_set_echo(&console));
	console_clear(&console);
	shown[0] = '\0';
	type("ATE1\r");
	assert_string_equal(shown, "");
	assert_true(console_set_echo(&console));
	console_clear(&console);
	type("ATE2\r");
	assert_false(console_set_echo(&console));
	assert_string_equal(shown, "ATE2\r\n");
}

static void test_backspace_takes_back(void **state)
{
	(void)state;
	assert_int_equal(type("\b\x7fshoe\b\x7fow\r"), CONSOLE_COMMAND);
	assert_string_equal(console.line, "show");
	assert_string_equal(shown, "shoe\b \b\b \bow\r\n");
	console_clear(&console);
	/* A quote, too. */
	assert_int_equal(type("AT\"\b\r"), CONSOLE_AT);
	assert_string_equal(console.line, "AT");
}

static void test_a_line_that_is_too_long_ends_where_it_ends(void **state)
{
	static const char head[] = "AT%CMNG=0,1,0,\"";
	size_t room = CONSOLE_LINE_MAX - strlen(head) - 1;
	char *body = malloc(room + 1);

	(void)state;
	memset(body, '\n', room + 1);
	type(head);
	feed(body, room, NULL);
	assert_int_equal(type("\"\r"), CONSOLE_AT);
	assert_int_equal(strlen(console.line), CONSOLE_LINE_MAX);
	console_clear(&console);

	type(head);
	feed(body, room + 1, NULL);
	assert_int_equal(type("\"\r"), CONSOLE_SPOILT);
	console_clear(&console);
	assert_int_equal(type("AT\r"), CONSOLE_AT);
	free(body);
}

static void test_a_line_that_has_lost_bytes_is_not_used(void **state)
{
	const char *rest;

	(void)state;
	assert_int_equal(feed("AT%CFUN\0=4\r", 11, &rest), CONSOLE_SPOILT);
	console_clear(&console);
	assert_int_equal(feed("\0\r", 2, &rest), CONSOLE_SPOILT);
	console_clear(&console);
	assert_int_equal(type("show\r"), CONSOLE_COMMAND);
}

static void test_nothing_stays_of_a_line_that_is_done(void **state)
{
	static const struct console empty;

	(void)state;
	type("AT%CMNG=0,1,3,\"5ec4e7\"\r");
	console_clear(&console);
	assert_memory_equal(console.line, empty.line, sizeof(empty.line));
}

static void test_words(void **state)
{
	char line[] = "  set host  a b ", alone[] = "show", none[] = "  ";
	char *words[CONSOLE_WORDS];

	(void)state;
	console_split(line, words);
	assert_string_equal(words[0], "set");
	assert_string_equal(words[1], "host");
	assert_string_equal(words[2], "a b ");
	console_split(alone, words);
	assert_string_equal(words[0], "show");
	assert_null(words[1]);
	assert_null(words[2]);
	console_split(none, words);
	assert_null(words[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_lines_end_with_cr_lf_or_both, setup),
		cmocka_unit_test_setup(test_what_begins_with_at_is_for_the_modem, setup),
		cmocka_unit_test_setup(test_line_ends_between_quotes_belong_to_a_credential, setup),
		cmocka_unit_test_setup(test_quotes_are_nothing_special_in_other_lines, setup),
		cmocka_unit_test_setup(
			test_a_command_that_was_cut_short_is_closed_by_the_next_program, setup),
		cmocka_unit_test_setup(test_no_content_is_echoed, setup),
		cmocka_unit_test_setup(test_echo_is_switched_off_and_on, setup),
		cmocka_unit_test_setup(test_backspace_takes_back, setup),
		cmocka_unit_test_setup(test_a_line_that_is_too_long_ends_where_it_ends, setup),
		cmocka_unit_test_setup(test_a_line_that_has_lost_bytes_is_not_used, setup),
		cmocka_unit_test_setup(test_nothing_stays_of_a_line_that_is_done, setup),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
