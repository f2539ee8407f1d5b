/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/settings.h"

#define LINE_MAX_BYTES 4096

static int fail(char *err, size_t err_len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(char *err, size_t err_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_len, fmt, ap);
	va_end(ap);
	return -1;
}

static int choice_index(const char *choices, const char *value)
{
	size_t len = strlen(value);
	int index = 0;

	for (const char *p = choices; p; index++) {
		const char *end = strchr(p, '|');
		size_t n = end ? (size_t)(end - p) : strlen(p);

		if (n == len && memcmp(p, value, n) == 0)
			return index;
		p = end ? end + 1 : NULL;
	}
	return -1;
}

static int parse_number(const struct setting *s, const char *value, int64_t *out)
{
	char *end;
	long long n;

	if (!isdigit((unsigned char)*value))
		return -1;
	errno = 0;
	n = strtoll(value, &end, 10);
	if (errno || *end || n < s->min || n > s->max)
		return -1;
	*out = n;
	return 0;
}

/* Store value in its field. where: "file:line", or how else a reader finds it. */
static int assign(struct config *c, const struct setting *s, const char *value, const char *where,
		  char *err, size_t err_len)
{
	void *field = (char *)c + s->offset;
	int index;

	switch (s->type) {
	case SETTING_TEXT:
		if (!*value)
			return fail(err, err_len, "%s: %s is empty", where, s->name);
		*(char **)field = strdup(value);
		return *(char **)field ? 0 : fail(err, err_len, "out of memory");
	case SETTING_NUMBER:
		if (parse_number(s, value, field) == 0)
			return 0;
		return fail(err, err_len,
			    "%s: %s = %s: expected a whole number from %" PRId64 " to %" PRId64,
			    where, s->name, value, s->min, s->max);
	case SETTING_CHOICE:
		index = choice_index(s->choices, value);
		if (index < 0)
			return fail(err, err_len, "%s: %s = %s: expected one of %s", where, s->name,
				    value, s->choices);
		*(int64_t *)field = index;
		return 0;
	}
	return -1;
}

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return s;
}

static const struct setting *find_setting(const char *name)
{
	for (size_t i = 0; i < setting_count; i++)
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

/*
 * How much of a name that we do not know may be repeated: a line that lacks its `=` has its value
 * in front of the first one in it, and that may be a URL with a password.
 */
static int name_len(const char *name)
{
	return (int)strspn(name, "abcdefghijklmnopqrstuvwxyz_.");
}

static int take_line(struct config *c, char *line, const char *where, bool *seen, char *err,
		     size_t err_len)
{
	char *name = trim(line), *equals, *value;
	const struct setting *s;

	if (!*name || *name == '#')
		return 0;
	equals = strchr(name, '=');
	if (!equals)
		return fail(err, err_len, "%s: expected `name = value`", where);
	*equals = '\0';
	value = trim(equals + 1);
	name = trim(name);
	s = find_setting(name);
	if (!s)
		return fail(err, err_len, "%s: there is no setting %.*s%s; README.md lists them",
			    where, name_len(name), name, name[name_len(name)] ? "..." : "");
	if (seen[s - settings])
		return fail(err, err_len, "%s: %s is set twice", where, name);
	seen[s - settings] = true;
	return assign(c, s, value, where, err, err_len);
}

static int read_file(struct config *c, FILE *in, const char *path, bool *seen, char *err,
		     size_t err_len)
{
	char line[LINE_MAX_BYTES], where[512];

	for (unsigned number = 1; fgets(line, sizeof(line), in); number++) {
		snprintf(where, sizeof(where), "%s:%u", path, number);
		if (!strchr(line, '\n') && !feof(in))
			return fail(err, err_len,
				    "%s: the line is longer than %d bytes or holds a NUL", where,
				    LINE_MAX_BYTES - 2);
		if (take_line(c, line, where, seen, err, err_len) != 0)
			return -1;
	}
	if (ferror(in))
		return fail(err, err_len, "%s: cannot read: %s", path, strerror(errno));
	return 0;
}

static int use_defaults(struct config *c, const char *path, const bool *seen, char *err,
			size_t err_len)
{
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *s = &settings[i];

		if (seen[i])
			continue;
		if (s->optional)
			continue;
		if (!s->fallback)
			return fail(err, err_len, "%s: %s is not set, and has no default", path,
				    s->name);
		if (assign(c, s, s->fallback, "default", err, err_len) != 0)
			return -1;
	}
	if (c->journal_segment_bytes * 2 > c->journal_max_bytes)
		return fail(err, err_len,
			    "%s: journal.max_bytes must be at least twice journal.segment_bytes",
			    path);
	return 0;
}

int config_load(struct config *c, const char *path, char *err, size_t err_len)
{
	bool seen[SETTINGS_MAX] = {false};
	FILE *in;
	int rc;

	memset(c, 0, sizeof(*c));
	in = fopen(path, "re");
	if (!in)
		return fail(err, err_len, "%s: cannot open: %s", path, strerror(errno));
	rc = read_file(c, in, path, seen, err, err_len);
	fclose(in);
	if (rc == 0)
		rc = use_defaults(c, path, seen, err, err_len);
	if (rc != 0)
		config_free(c);
	return rc;
}

void config_free(struct config *c)
{
	for (size_t i = 0; i < setting_count; i++)
		if (settings[i].type == SETTING_TEXT) {
			char **field = (char **)(void *)((char *)c + settings[i].offset);

			free(*field);
			*field = NULL;
		}
}

void config_print_markdown(FILE *out)
{
	fputs("| setting | default | range | meaning |\n| --- | --- | --- | --- |\n", out);
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *s = &settings[i];

		fprintf(out, "| `%s` | %s | ", s->name,
			s->optional   ? "not set"
			: s->fallback ? s->fallback
				      : "required");
		if (s->type == SETTING_NUMBER)
			fprintf(out, "%" PRId64 " to %" PRId64, s->min, s->max);
		for (const char *p = s->choices; p && *p; p++)
			fputs(*p == '|' ? ", " : (char[]){*p, '\0'}, out);
		fprintf(out, " | %s |\n", s->help);
	}
}
