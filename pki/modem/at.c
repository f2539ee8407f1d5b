/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A modem echoes while it is still being written to, and a port holds a few KiB only: so each turn
 * of the one loop writes what fits and reads what is there. Lines are taken whole; those of the
 * command that was sent are its echo.
 */
#include "pki/modem/at.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "core/base/clock.h"

#define CME		"+CME ERROR: "
#define ATTENTION_TRIES 8
#define ATTENTION_US	(1 * US_PER_S)
#define QUIET_MS	250
#define QUIET_TRIES	40 /* a modem that never is quiet is heard all the same */
#define READ_SIZE	512

int at_open(struct at *a, int fd)
{
	*a = (struct at){fd,
			 calloc(1, AT_COMMAND_MAX),
			 calloc(1, AT_ANSWER_MAX),
			 calloc(1, AT_ANSWER_MAX),
			 0,
			 0,
			 false};
	if (a->command && a->line && a->answer)
		return 0;
	at_close(a);
	return -ENOMEM;
}

static void wipe(char *text, size_t size)
{
	if (text)
		OPENSSL_cleanse(text, size);
	free(text);
}

void at_close(struct at *a)
{
	wipe(a->command, AT_COMMAND_MAX);
	wipe(a->line, AT_ANSWER_MAX);
	wipe(a->answer, AT_ANSWER_MAX);
	*a = (struct at){.fd = -1};
}

/* Is this line one of those that were sent? A credential is several. */
static bool is_echo(const struct at *a, const char *line)
{
	size_t len = strlen(line);

	for (const char *at = a->command; *at;) {
		size_t n = strcspn(at, "\r\n");

		if (n == len && memcmp(at, line, n) == 0)
			return true;
		at += n;
		at += strspn(at, "\r\n");
	}
	return false;
}

long at_number(const char *text, const char **end)
{
	char *after;
	long n;

	errno = 0;
	n = strtol(text, &after, 10);
	if (end)
		*end = after;
	return after == text || errno != 0 || n < 0 ? -1 : n;
}

static void keep(struct at *a, const char *line)
{
	size_t len = strlen(line);

	if (a->answer_len + len + 2 > AT_ANSWER_MAX) {
		a->too_long = true;
		return;
	}
	memcpy(a->answer + a->answer_len, line, len);
	a->answer_len += len;
	a->answer[a->answer_len++] = '\n';
	a->answer[a->answer_len] = '\0';
}

/* Does this line end the answer? */
static bool is_final(const char *line, enum at_result *result, int *code)
{
	if (strcmp(line, "OK") == 0) {
		*result = AT_OK;
		return true;
	}
	*result = AT_REFUSED;
	*code = AT_NO_CODE;
	if (strncmp(line, CME, strlen(CME)) == 0)
		*code = (int)at_number(line + strlen(CME), NULL);
	else if (strcmp(line, "ERROR") != 0)
		return false;
	return true;
}

/* Take bytes that were read. True: the answer has ended, with what is in result. */
static bool take(struct at *a, const char *bytes, size_t len, bool (*wanted)(const char *line),
		 enum at_result *result, int *code)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != '\r' && bytes[i] != '\n') {
			if (a->line_len + 1 < AT_ANSWER_MAX)
				a->line[a->line_len++] = bytes[i];
			else
				a->too_long = true;
			continue;
		}
		a->line[a->line_len] = '\0';
		if (a->line_len == 0)
			continue;
		a->line_len = 0;
		if (is_echo(a, a->line))
			continue;
		if (is_final(a->line, result, code))
			return true;
		if (wanted && wanted(a->line))
			keep(a, a->line);
	}
	return false;
}

/* Write what fits of the rest, and read what is there: AT_OK with *done when the answer has ended.
 */
static enum at_result turn(struct at *a, size_t *sent, size_t len, int wait_ms,
			   bool (*wanted)(const char *line), bool *done, int *code)
{
	struct pollfd p = {a->fd, (short)(POLLIN | (*sent < len ? POLLOUT : 0)), 0};
	enum at_result result = AT_OK;
	char bytes[READ_SIZE];
	ssize_t n;

	*done = false;
	if (poll(&p, 1, wait_ms) < 0)
		return errno == EINTR ? AT_OK : AT_GONE;
	if (p.revents & POLLOUT) {
		n = write(a->fd, a->command + *sent, len - *sent);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return AT_GONE;
		*sent += n > 0 ? (size_t)n : 0;
	}
	if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
		n = read(a->fd, bytes, sizeof(bytes));
		/* A terminal without bytes would block; it reads 0 when the other end is gone. */
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return AT_GONE;
		*done = n > 0 && take(a, bytes, (size_t)n, wanted, &result, code);
		OPENSSL_cleanse(bytes, sizeof(bytes));
	}
	return result;
}

enum at_result at_command(struct at *a, const char *command, size_t len, int64_t timeout_us,
			  bool (*wanted)(const char *line), int *code)
{
	int64_t deadline = clock_monotonic_us() + timeout_us;
	size_t sent = 0;

	if (len + sizeof("\r\n") > AT_COMMAND_MAX)
		return AT_TOO_LONG;
	memmove(a->command, command, len);
	memcpy(a->command + len, "\r\n", sizeof("\r\n"));
	len += 2;
	a->line_len = a->answer_len = 0;
	a->answer[0] = '\0';
	a->too_long = false;
	for (;;) {
		int64_t left = deadline - clock_monotonic_us();
		enum at_result result;
		bool done;

		if (left <= 0)
			return AT_SILENT;
		result = turn(a, &sent, len, (int)(left / US_PER_MS) + 1, wanted, &done, code);
		if (done && a->too_long)
			return AT_TOO_LONG;
		if (done || result == AT_GONE)
			return result;
	}
}

/* Answers that come late, until nothing does: none of them is that of the next command. */
static void forget_answers(const struct at *a)
{
	struct pollfd p = {a->fd, POLLIN, 0};
	char bytes[READ_SIZE];

	for (int i = 0; i < QUIET_TRIES && poll(&p, 1, QUIET_MS) > 0; i++)
		if (read(a->fd, bytes, sizeof(bytes)) <= 0)
			return;
}

/*
 * A program that was killed may have left the modem in the middle of a command, even of a
 * credential between quotes, which swallows what comes: so when AT finds no answer, the quotes are
 * closed, in a way that makes the command one that no modem takes. Nothing is sent before AT that
 * would end a command that was cut short: a part of a number is another number.
 */
enum at_result at_attention(struct at *a)
{
	static const char close_quotes[] = "\",0,0,0,0,0";
	enum at_result result = AT_SILENT;
	int code;

	for (int i = 0; i < ATTENTION_TRIES; i++) {
		result = at_command(a, "AT", 2, ATTENTION_US, NULL, &code);
		if (result == AT_GONE || (result == AT_OK && i == 0))
			return result;
		/* After a refusal or silence, this OK may be that of an earlier AT. */
		forget_answers(a);
		if (result == AT_OK)
			return at_command(a, "AT", 2, ATTENTION_US, NULL, &code);
		if (result == AT_SILENT)
			at_command(a, close_quotes, sizeof(close_quotes) - 1, ATTENTION_US / 4,
				   NULL, &code);
	}
	return result;
}

static const struct {
	int code;
	const char *words;
} codes[] = {
	/* 3GPP TS 27.007 section 9.2 */
	{3, "it does not allow this now"},
	{4, "its firmware does not know this command; AT%KEYGEN came with modem firmware 1.3"},
	{50, "it takes the command for wrong"},
	{51, "this command is disabled in its firmware"},
	/* nRF91 AT Commands, %CMNG and %KEYGEN */
	{513, "nothing there (513)"},
	{514, "no access: the tag is not for applications (514); choose another one with --tag"},
	{515, "its memory for credentials is full (515): AT%CMNG=1 lists what is there, AT%CMNG=3 "
	      "deletes"},
	{518, "it is active (518): it takes credentials only when it is offline. The application "
	      "on the board "
	      "has switched it on again; stop that, or flash the AT client, and run this again"},
	{519, "there is something in this tag already (519)"},
	{528, "its power-off warning is active (528): charge the battery, or give it more voltage, "
	      "and run this "
	      "again"},
};

const char *at_explain(enum at_result result, int code)
{
	switch (result) {
	case AT_OK:
		return "OK";
	case AT_SILENT:
		return "no answer. Is this the port of the modem (boards have several), is the "
		       "speed right "
		       "(--baud), and does its firmware take AT commands?";
	case AT_GONE:
		return "the port is gone: was the board unplugged, or has it been reset? Run this "
		       "again";
	case AT_TOO_LONG:
		return "an answer or a command is longer than any of a modem should be";
	case AT_REFUSED:
		break;
	}
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		if (codes[i].code == code)
			return codes[i].words;
	return "it answers ERROR and does not say why";
}
