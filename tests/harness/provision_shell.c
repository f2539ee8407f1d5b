/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Zephyr port's provisioning shell on Linux, with its own lines (device-fw/ports/zephyr/src/
 * console.c) and what provision.c does with them, between two terminals: LINK, where a program such
 * as fieldgate-modem finds it, and MODEM, a simulated one. Says "ready" and runs until it is ended.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "device-fw/ports/zephyr/src/console.h"

#define ANSWER_MAX 8192 /* as in provision.c */

static int host, modem;
static struct console console;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, bytes, length);

		if (n <= 0)
			fail("write");
		bytes += n;
		length -= (size_t)n;
	}
}

static void print(const char *text)
{
	write_all(host, text, strlen(text));
}

static bool ends(const char *answer, size_t length)
{
	const char *line = answer;

	if (length < 2 || answer[length - 1] != '\n')
		return false;
	for (const char *at = answer; at + 1 < answer + length; at++)
		if (*at == '\n')
			line = at + 1;
	return strcmp(line, "OK\r\n") == 0 || strncmp(line, "ERROR", 5) == 0 ||
	       strncmp(line, "+CME ERROR", 10) == 0;
}

/* nrf_modem_at_cmd: the answer as it is, with the line that ends it. */
static void ask_modem(void)
{
	static char answer[ANSWER_MAX];
	size_t length = 0;

	if (console_set_echo(&console)) {
		print("OK\r\n");
		return;
	}
	write_all(modem, console.line, console.length);
	write_all(modem, "\r\n", 2);
	do {
		ssize_t n = read(modem, answer + length, sizeof(answer) - 1 - length);

		if (n <= 0)
			fail("modem");
		length += (size_t)n;
		answer[length] = '\0';
	} while (!ends(answer, length));
	print(answer);
}

static void handle(enum console_event event)
{
	if (event == CONSOLE_MORE)
		return;
	if (event == CONSOLE_AT)
		ask_modem();
	else
		print("ERROR\r\n");
	console_clear(&console);
}

static void make_raw(int fd)
{
	struct termios mode;

	if (tcgetattr(fd, &mode) != 0)
		fail("terminal");
	cfmakeraw(&mode);
	if (tcsetattr(fd, TCSANOW, &mode) != 0)
		fail("terminal");
}

/* Both ends stay open here: else the other program's end would hang up this one. */
static void open_host(const char *link)
{
	int end;

	host = posix_openpt(O_RDWR | O_NOCTTY);
	if (host < 0 || grantpt(host) != 0 || unlockpt(host) != 0)
		fail("pty");
	end = open(ptsname(host), O_RDWR | O_NOCTTY);
	if (end < 0)
		fail(ptsname(host));
	make_raw(end);
	if (symlink(ptsname(host), link) != 0)
		fail(link);
}

int main(int argc, char **argv)
{
	char byte;

	if (argc != 3) {
		fputs("usage: provision_shell LINK MODEM\n", stderr);
		return 2;
	}
	modem = open(argv[2], O_RDWR | O_NOCTTY);
	if (modem < 0)
		fail(argv[2]);
	open_host(argv[1]);
	console_init(&console);
	puts("ready");
	fflush(stdout);
	while (read(host, &byte, 1) == 1)
		handle(console_take(&console, byte, print));
	fail("terminal");
}
