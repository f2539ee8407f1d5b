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

static void put_escaped(struct line *l, const char *s)
{
	for (; *s && l->used + 5 < sizeof(l->text); s++) {
		unsigned char c = (unsigned char)*s;
		char hex[5];

		if (c == '"' || c == '\\') {
			put(l, "\\", 1);
			put(l, s, 1);
		} else if (c < 0x20 || c == 0x7f) {
			snprintf(hex, sizeof(hex), "\\x%02x", c);
			put(l, hex, 4);
		} else {
			put(l, s, 1);
		}
	}
}

/* A value may stand without quotes when it holds none of logfmt's own characters. */
static bool is_bare(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
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
