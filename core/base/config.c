/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"

#define LINE_MAX_BYTES 4096

enum setting_type {
	SETTING_TEXT,
	SETTING_NUMBER,
	SETTING_CHOICE, /* value is the index of the word in choices */
};

struct setting {
	const char *name;
	enum setting_type type;
	size_t offset;
	const char *fallback; /* NULL: required */
	int64_t min, max;
	const char *choices; /* words separated by '|' */
	const char *help;
};

#define TEXT(name, field, fallback, help)                                                          \
	{                                                                                          \
		name, SETTING_TEXT, offsetof(struct config, field), fallback, 0, 0, NULL, help     \
	}
#define NUMBER(name, field, fallback, min, max, help)                                              \
	{                                                                                          \
		name, SETTING_NUMBER, offsetof(struct config, field), fallback, min, max, NULL,    \
			help                                                                       \
	}
#define CHOICE(name, field, fallback, choices, help)                                               \
	{                                                                                          \
		name, SETTING_CHOICE, offsetof(struct config, field), fallback, 0, 0, choices,     \
			help                                                                       \
	}

#define KIB INT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

/* clang-format off */
static const struct setting settings[] = {
	TEXT("database.url", database_url, NULL,
	     "PostgreSQL as a libpq connection string or URI. Keep the password out of it: use `passfile=`."),
	NUMBER("database.connect_timeout_s", database_connect_timeout_s, "5", 1, 300,
	       "How long one attempt to reach the database may take before the next."),
	NUMBER("database.timeout_s", database_timeout_s, "60", 1, 3600,
	       "A database that takes a statement and stays silent this long is given up and connected to again."),
	TEXT("state.dir", state_dir, NULL,
	     "Directory of the journal and of the registry's copy on disk; one per process, on a real disk, mode 0700."),
	NUMBER("registry.poll_ms", registry_poll_ms, "2000", 100, 5000,
	       "How often the database is asked whether devices, credentials or policies changed, should a notification be lost."),
	CHOICE("journal.durability", journal_durability, "default", "default|write|fsync",
	       "When a message may be acknowledged: `write` survives the death of the process (fsync follows), `fsync` survives the loss of power. `default` is `write` for MQTT and `fsync` for CoAP."),
	NUMBER("journal.max_bytes", journal_max_bytes, "1073741824", MIB, 1024 * GIB,
	       "Bound of the journal. When it is full, messages are refused and devices keep them."),
	NUMBER("journal.segment_bytes", journal_segment_bytes, "16777216", 64 * KIB, GIB,
	       "Size of one file of the journal; space is given back a file at a time."),
	NUMBER("journal.sync_interval_ms", journal_sync_interval_ms, "50", 1, 10000,
	       "With durability `write`: the longest time that an acknowledged message waits for fsync."),
	NUMBER("payload.max_bytes", payload_max_bytes, "131072", 64, 16 * MIB,
	       "A longer payload is not decoded: it goes to `dead_letter`."),
	NUMBER("payload.max_depth", payload_max_depth, "8", 1, 64,
	       "A payload nested deeper goes to `dead_letter`."),
	NUMBER("payload.max_readings", payload_max_readings, "256", 1, 1600,
	       "A message with more readings goes to `dead_letter`."),
	NUMBER("store.batch_rows", store_batch_rows, "2000", 1, 50000,
	       "Most messages that one transaction stores."),
	NUMBER("store.batch_delay_ms", store_batch_delay_ms, "5", 0, 10000,
	       "How long the writer lets a batch grow before it sends it; more saves database CPU, less shows rows sooner."),
	NUMBER("store.max_past_days", store_max_past_days, "400", 1, 36500,
	       "A device's time older than this is not believed: the time of receipt is used and `ts_source` says so."),
	NUMBER("store.max_future_days", store_max_future_days, "1", 0, 36500,
	       "The same for a time ahead of the server's."),
	NUMBER("store.status_interval_s", store_status_interval_s, "60", 1, 86400,
	       "How often a line with backlog, lag and counters is logged."),
	NUMBER("mqtt.max_keepalive_s", mqtt_max_keepalive_s, "1200", 0, 65535,
	       "Largest keepalive a device may ask for; keepalive 0 is then refused too. 0 switches the cap off. Nordic's client asks for 1200."),
	CHOICE("mqtt.client_id_suffix", mqtt_client_id_suffix, "no", "no|yes",
	       "`yes`: a client id may be the device id followed by `/` or `:` and anything, so that one device can hold several connections."),
	CHOICE("mqtt.refused_publish", mqtt_refused_publish, "disconnect", "disconnect|ignore",
	       "What an MQTT 3.1.1 client gets for a publish that its policy forbids: that protocol has no negative answer, so either its connection is closed or it is told a lie. MQTT 5 clients get reason 0x87 in any case."),
	CHOICE("mqtt.token_auth", mqtt_token_auth, "off", "off|services|all",
	       "Who may log in with user name and token instead of a certificate, on listeners that do not require one."),
	CHOICE("log.level", log_level, "info", "debug|info|warn|error",
	       "Least important line that is logged."),
};
/* clang-format on */

#define SETTING_COUNT (sizeof(settings) / sizeof(*settings))

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
	for (size_t i = 0; i < SETTING_COUNT; i++)
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
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		const struct setting *s = &settings[i];

		if (seen[i])
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
	bool seen[SETTING_COUNT] = {false};
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
	for (size_t i = 0; i < SETTING_COUNT; i++)
		if (settings[i].type == SETTING_TEXT) {
			char **field = (char **)(void *)((char *)c + settings[i].offset);

			free(*field);
			*field = NULL;
		}
}

void config_print_markdown(FILE *out)
{
	fputs("| setting | default | range | meaning |\n| --- | --- | --- | --- |\n", out);
	for (size_t i = 0; i < SETTING_COUNT; i++) {
		const struct setting *s = &settings[i];

		fprintf(out, "| `%s` | %s | ", s->name, s->fallback ? s->fallback : "required");
		if (s->type == SETTING_NUMBER)
			fprintf(out, "%" PRId64 " to %" PRId64, s->min, s->max);
		for (const char *p = s->choices; p && *p; p++)
			fputs(*p == '|' ? ", " : (char[]){*p, '\0'}, out);
		fprintf(out, " | %s |\n", s->help);
	}
}
