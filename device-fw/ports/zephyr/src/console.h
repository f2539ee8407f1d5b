/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of the provisioning shell, byte by byte: what is a command, what is echoed, which of
 * them are the modem's. Pure; known to the tests on Linux, where `fleet modem` speaks to it.
 */
#ifndef FIELDGATE_CONSOLE_H
#define FIELDGATE_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

/* A credential of 4 KiB, the longest that %CMNG takes, and the words around it. */
#define CONSOLE_LINE_MAX 4224

struct console {
	char line[CONSOLE_LINE_MAX + 1];
	size_t length;
	bool quoted; /* an AT command, between quotes: a line end is a part of it */
	bool spoilt; /* too long, or with a NUL: bytes of it were lost */
	bool echo;   /* ATE1, which is what it begins with */
};

enum console_event {
	CONSOLE_MORE,
	CONSOLE_AT,	 /* line is for the modem */
	CONSOLE_COMMAND, /* line is for the shell */
	CONSOLE_SPOILT,	 /* a line has ended that cannot be used */
};

void console_init(struct console *c);

/*
 * A line ends with CR, LF or both; empty lines are none. `echo` is called with what is to be shown,
 * which is never what may be a secret: of an AT command nothing behind the first quote or the third
 * comma (%CMNG=0,TAG,TYPE,CONTENT). After any event but CONSOLE_MORE line is whole, ends with NUL,
 * and stays until console_clear.
 */
enum console_event console_take(struct console *c, char byte, void (*echo)(const char *text));

/* Wipes the line, for the next one. */
void console_clear(struct console *c);

/* ATE0 and ATE1, which the shell answers itself: the modem has no echo. */
bool console_set_echo(struct console *c);

#define CONSOLE_WORDS 3

/* Splits a command in place: two words and the rest. Those that are not there are NULL. */
void console_split(char *line, char *words[CONSOLE_WORDS]);

#endif
