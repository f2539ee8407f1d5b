/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static void stderr_sink(enum log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	fprintf(stderr, "%s\n", line);
}

static log_sink_fn *current_sink = stderr_sink;
static void *current_sink_arg;
static _Atomic int minimum_level = LOG_LEVEL_INFO;

void log_set_sink(log_sink_fn *sink, void *arg)
{
	current_sink = sink ? sink : stderr_sink;
	current_sink_arg = arg;
}

void log_set_level(enum log_level level)
{
	minimum_level = (int)level;
}

int log_level_parse(const char *name)
{
	for (int i = 0; i < (int)(sizeof(level_names) / sizeof(*level_names)); i++)
		if (strcmp(name, level_names[i]) == 0)
			return i;
	return -1;
}

struct line {
	char text[LOG_LINE_MAX];
	size_t used;
};

static void put(struct line *l, const char *s, size_t len)
{
	if (len > sizeof(l->text) - 1 - l->used)
		len = sizeof(l->text) - 1 - l->used;
	memcpy(l->text + l->used, s, len);
	l->used += len;
}

/*
 * The length of the well-formed UTF-8 character at s, 0 for anything else. The controls U+0080 to
 * U+009F count as something else: a terminal may act on them.
 */
static size_t printable_utf8(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return p[0] >= 0x20 && p[0] != 0x7f;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (p[0] == 0xc2 || p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < len; i++, low = 0x80, high = 0xbf)
		if (p[i] < low || p[i] > high)
			return 0;
	return len;
}

static void put_escaped(struct line *l, const char *s)
{
	while (*s && l->used + 5 < sizeof(l->text)) {
		size_t len = printable_utf8(s);
		char hex[5];

		if (*s == '"' || *s == '\\') {
			put(l, "\\", 1);
			put(l, s, 1);
		} else if (len > 0) {
			put(l, s, len);
		} else {
			snprintf(hex, sizeof(hex), "\\x%02x", (unsigned char)*s);
			put(l, hex, 4);
		}
		s += len ? len : 1;
	}
}

/* A value may stand without quotes when it holds none of logfmt's own characters. */
static bool is_bare(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (*s <= ' ' || *s >= 0x7f || *s == '"' || *s == '=' || *s == '\\')
			return false;
	return true;
}

static void put_field(struct line *l, const char *name, const char *value, bool quoted)
{
	if (l->used > 0)
		put(l, " ", 1);
	put(l, name, strlen(name));
	put(l, "=", 1);
	if (!quoted && is_bare(value)) {
		put(l, value, strlen(value));
		return;
	}
	put(l, "\"", 1);
	put_escaped(l, value);
	put(l, "\"", 1);
}

void log_event(enum log_level level, const char *event, const char *device, const char *fmt, ...)
{
	struct line l = {.used = 0};
	char message[LOG_LINE_MAX];
	va_list ap;

	if ((int)level < minimum_level)
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);

	put_field(&l, "level", level_names[level], false);
	put_field(&l, "event", event, false);
	if (device)
		put_field(&l, "device", device, false);
	put_field(&l, "msg", message, true);
	l.text[l.used] = '\0';
	current_sink(level, l.text, current_sink_arg);
}
