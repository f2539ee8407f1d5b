/* SPDX-License-Identifier: Apache-2.0 */
#include "console.h"

#include <string.h>
#include <strings.h>

#define BACKSPACE '\b'
#define DELETE	  0x7f
#define COMMAS	  3 /* of AT%CMNG=0,TAG,TYPE,CONTENT */

void console_init(struct console *c)
{
	console_clear(c);
	c->echo = true;
}

void console_clear(struct console *c)
{
	memset(c->line, 0, sizeof(c->line));
	c->length = 0;
	c->quoted = c->spoilt = false;
}

static bool is_at(const struct console *c)
{
	return c->length >= 2 && strncasecmp(c->line, "AT", 2) == 0;
}

/* May everything that is in the line be shown? */
static bool is_public(const struct console *c)
{
	int commas = 0;

	if (c->spoilt)
		return false;
	for (size_t i = 0; is_at(c) && i < c->length; i++) {
		commas += c->line[i] == ',';
		if (c->line[i] == '"' || commas == COMMAS)
			return false;
	}
	return true;
}

static void show(const struct console *c, const char *text, void (*echo)(const char *text))
{
	if (c->echo)
		echo(text);
}

static void rub_out(struct console *c, void (*echo)(const char *text))
{
	if (c->length == 0)
		return;
	if (is_public(c))
		show(c, "\b \b", echo);
	c->length--;
	if (c->line[c->length] == '"' && is_at(c))
		c->quoted = !c->quoted;
	c->line[c->length] = '\0';
}

static enum console_event end(struct console *c, void (*echo)(const char *text))
{
	if (c->length == 0 && !c->spoilt)
		return CONSOLE_MORE;
	show(c, "\r\n", echo);
	if (c->spoilt)
		return CONSOLE_SPOILT;
	return is_at(c) ? CONSOLE_AT : CONSOLE_COMMAND;
}

enum console_event console_take(struct console *c, char byte, void (*echo)(const char *text))
{
	if ((byte == '\r' || byte == '\n') && !c->quoted)
		return end(c, echo);
	if (byte == BACKSPACE || byte == DELETE) {
		rub_out(c, echo);
		return CONSOLE_MORE;
	}
	/* Quotes are counted even when there is no room: the line must end where it ends. */
	if (byte == '"' && is_at(c))
		c->quoted = !c->quoted;
	if (c->length == CONSOLE_LINE_MAX || byte == '\0') {
		c->spoilt = true;
		return CONSOLE_MORE;
	}
	c->line[c->length++] = byte;
	if (is_public(c))
		show(c, (const char[]){byte, '\0'}, echo);
	return CONSOLE_MORE;
}

bool console_set_echo(struct console *c)
{
	if (c->length != 4 || strncasecmp(c->line, "ATE", 3) != 0 ||
	    (c->line[3] != '0' && c->line[3] != '1'))
		return false;
	c->echo = c->line[3] == '1';
	return true;
}

void console_split(char *line, char *words[CONSOLE_WORDS])
{
	for (int i = 0; i < CONSOLE_WORDS; i++) {
		line += strspn(line, " \t");
		words[i] = *line != '\0' ? line : NULL;
		if (i == CONSOLE_WORDS - 1)
			break;
		line += strcspn(line, " \t");
		if (*line != '\0')
			*line++ = '\0';
	}
}
