/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actions are read strictly: a member that nobody knows is an error, for a misspelt `retian` that
 * is passed over would be found by whoever misses the message. What is wrong is told with its place
 * in the column, as `actions[0].republish.topic`.
 */
#include "core/rule/action.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/payload/text.h"
#include "core/registry/topic.h"
#include "core/rule/evaluation.h"

#define PLACE_MAX      64
#define IDENTIFIER_MAX 63 /* NAMEDATALEN - 1 of PostgreSQL */
#define MEMBER_MAX     1024
#define TEXT_SHOWN     80

struct reading {
	const char *name; /* of the rule */
	char place[PLACE_MAX];
	char *err;
	size_t err_len;
};

static int bad(const struct reading *r, const char *member, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int bad(const struct reading *r, const char *member, const char *fmt, ...)
{
	char what[RULE_WHY_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	/* What was quoted may have been cut within a character, and the message is for a database.
	 */
	return text_reason(r->err, r->err_len, -EINVAL, "rule '%s', %s%s%s: %s", r->name, r->place,
			   *member ? "." : "", member, what);
}

static int no_memory(const struct reading *r)
{
	snprintf(r->err, r->err_len, "rule '%s': out of memory", r->name);
	return -ENOMEM;
}

static bool is_one_of(const char *word, const char *words)
{
	size_t len = strlen(word);

	for (const char *p = words; *p; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ",");

		if (n == len && memcmp(p, word, n) == 0)
			return true;
		p += n;
	}
	return false;
}

/* known: "topic, qos, retain" */
static int check_members(const struct reading *r, json_t *object, const char *known)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value) if (!is_one_of(key, known)) return bad(
		r, "", "it has no member '%.*s'; known are: %s", TEXT_SHOWN, key, known);
	return 0;
}

/* --- republish --- */

/* What can be said of the text before a message is there. */
static int check_topic_text(const struct reading *r, const char *text)
{
	if (!*text)
		return bad(r, "topic", "it is empty");
	if (text[0] == '$' && text[1] != '{')
		return bad(r, "topic", "topics that begin with '$' are the broker's own");
	if (!strstr(text, "${") && !topic_name_valid(text))
		return bad(r, "topic",
			   "'%.*s' is not a topic to publish to: it holds a wildcard, + or #, or "
			   "is too long",
			   TEXT_SHOWN, text);
	return 0;
}

static int read_topic(const struct reading *r, json_t *object, struct rule_action *out)
{
	const json_t *topic = json_object_get(object, "topic");
	char where[PLACE_MAX + sizeof(".topic")];
	int rc;

	if (!topic)
		return bad(r, "topic",
			   "it is missing: the topic to publish to, such as "
			   "'alarms/${device()}'");
	if (!json_is_string(topic))
		return bad(r, "topic", "expected a text, such as 'alarms/${device()}'");
	rc = check_topic_text(r, json_string_value(topic));
	if (rc != 0)
		return rc;
	snprintf(where, sizeof(where), "%s.topic", r->place);
	return rule_template_parse(&out->republish.topic, r->name, where, json_string_value(topic),
				   r->err, r->err_len);
}

static int read_republish(const struct reading *r, json_t *object, struct rule_action *out)
{
	const json_t *qos = json_object_get(object, "qos");
	const json_t *retain = json_object_get(object, "retain");
	const json_t *format = json_object_get(object, "format");
	const char *format_name = format ? json_string_value(format) : "json";
	int rc = check_members(r, object, "topic, qos, retain, format");

	if (rc != 0)
		return rc;
	if (qos &&
	    (!json_is_integer(qos) || json_integer_value(qos) < 0 || json_integer_value(qos) > 1))
		return bad(r, "qos", "expected 0 or 1");
	if (retain && !json_is_boolean(retain))
		return bad(r, "retain", "expected true or false");
	if (!format_name || !is_one_of(format_name, "json, cbor"))
		return bad(r, "format", "expected \"json\" or \"cbor\"");
	out->kind = RULE_REPUBLISH;
	out->republish.qos = (int)json_integer_value(qos);
	out->republish.retain = json_is_true(retain);
	out->republish.format = format_name[0] == 'c' ? RULE_FORMAT_CBOR : RULE_FORMAT_JSON;
	return read_topic(r, object, out);
}

/* --- store --- */

static int check_identifier(const struct reading *r, const char *member, const char *text,
			    size_t len)
{
	if (len == 0)
		return bad(r, member, "a name is empty");
	if (len > IDENTIFIER_MAX)
		return bad(r, member,
			   "'%.*s...' has more than %d bytes: PostgreSQL has no such name",
			   IDENTIFIER_MAX, text, IDENTIFIER_MAX);
	return 0;
}

static int read_table(const struct reading *r, json_t *object, struct rule_action *out)
{
	const char *name = json_string_value(json_object_get(object, "table"));
	const char *dot, *table;
	int rc;

	if (!name)
		return bad(r, "table", "expected the name of a table, such as \"public.alarm\"");
	dot = strchr(name, '.');
	table = dot ? dot + 1 : name;
	if (strchr(table, '.'))
		return bad(r, "table", "'%.*s' has more than one dot: expected schema.table",
			   TEXT_SHOWN, name);
	rc = check_identifier(r, "table", table, strlen(table));
	if (rc == 0 && dot)
		rc = check_identifier(r, "table", name, (size_t)(dot - name));
	if (rc != 0)
		return rc;
	out->store.table = strdup(table);
	if (dot)
		out->store.schema = strndup(name, (size_t)(dot - name));
	return out->store.table && (!dot || out->store.schema) ? 0 : no_memory(r);
}

static int read_column(const struct reading *r, const char *column, const json_t *member,
		       struct rule_column *out)
{
	const char *path = json_string_value(member);
	int rc = check_identifier(r, "columns", column, strlen(column));

	if (rc != 0)
		return rc;
	if (!path || !*path)
		return bad(r, "columns",
			   "column '%s': expected the name of a member of what SELECT gives",
			   column);
	if (strlen(path) > MEMBER_MAX)
		return bad(r, "columns", "column '%s': its member has more than %d bytes", column,
			   MEMBER_MAX);
	out->column = strdup(column);
	out->member = strdup(path);
	return out->column && out->member ? 0 : no_memory(r);
}

static int by_column(const void *a, const void *b)
{
	return strcmp(((const struct rule_column *)a)->column,
		      ((const struct rule_column *)b)->column);
}

static int read_columns(const struct reading *r, json_t *object, struct rule_action *out)
{
	json_t *columns = json_object_get(object, "columns"), *member;
	const char *column;

	if (!columns)
		return 0;
	if (!json_is_object(columns) || json_object_size(columns) == 0)
		return bad(r, "columns",
			   "expected {\"column\": \"member\", ...}; without it each member goes to "
			   "the column of its name");
	if (json_object_size(columns) > RULE_COLUMNS_MAX)
		return bad(r, "columns", "they are more than %d", RULE_COLUMNS_MAX);
	out->store.columns = calloc(json_object_size(columns), sizeof(*out->store.columns));
	if (!out->store.columns)
		return no_memory(r);
	json_object_foreach(columns, column, member)
	{
		int rc = read_column(r, column, member,
				     &out->store.columns[out->store.column_count++]);

		if (rc != 0)
			return rc;
	}
	qsort(out->store.columns, out->store.column_count, sizeof(*out->store.columns), by_column);
	return 0;
}

static int read_store(const struct reading *r, json_t *object, struct rule_action *out)
{
	int rc = check_members(r, object, "table, columns");

	out->kind = RULE_STORE;
	if (rc == 0)
		rc = read_table(r, object, out);
	return rc == 0 ? read_columns(r, object, out) : rc;
}

/* --- drop --- */

static int read_drop(const struct reading *r, json_t *object, struct rule_action *out)
{
	out->kind = RULE_DROP;
	return json_object_size(object) == 0 ? 0 : bad(r, "", "expected {}");
}

/* --- All of them --- */

static const struct {
	const char *name;
	int (*read)(const struct reading *r, json_t *object, struct rule_action *out);
	bool of_errors; /* may be an error action */
} kinds[] = {
	[RULE_REPUBLISH] = {"republish", read_republish, true},
	[RULE_STORE] = {"store", read_store, true},
	[RULE_DROP] = {"drop", read_drop, false},
};

#define KIND_COUNT (sizeof(kinds) / sizeof(*kinds))

/* r->place is that of the item. */
static int read_action(struct reading *r, json_t *item, bool of_errors, struct rule_action *out)
{
	const char *expected = of_errors ? "expected {\"republish\": {...}} or {\"store\": {...}}"
					 : "expected {\"republish\": {...}}, {\"store\": {...}} or "
					   "{\"drop\": {}}";
	const char *key = json_object_iter_key(json_object_iter(item));
	size_t len = strlen(r->place);

	if (json_object_size(item) != 1)
		return bad(r, "", "%s", expected);
	for (size_t i = 0; i < KIND_COUNT; i++) {
		json_t *object = json_object_get(item, kinds[i].name);

		if (!object || (of_errors && !kinds[i].of_errors))
			continue;
		snprintf(r->place + len, sizeof(r->place) - len, ".%s", kinds[i].name);
		if (!json_is_object(object))
			return bad(r, "", "expected {...}");
		return kinds[i].read(r, object, out);
	}
	return bad(r, "", "there is no action '%.*s' here: %s", TEXT_SHOWN, key, expected);
}

static int parse_json(const struct reading *r, const char *text, json_t **out)
{
	json_error_t error;

	*out = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (*out)
		return 0;
	if (json_error_code(&error) == json_error_out_of_memory)
		return no_memory(r);
	return bad(r, "", "not JSON: line %d, column %d: %s", error.line, error.column, error.text);
}

static int read_array(struct reading *r, const json_t *array, struct rule_actions *out)
{
	if (!json_is_array(array))
		return bad(r, "", "expected an array of actions, [] if there are none");
	if (json_array_size(array) > RULE_ACTIONS_MAX)
		return bad(r, "", "they are more than %d", RULE_ACTIONS_MAX);
	if (json_array_size(array) == 0)
		return 0;
	out->items = calloc(json_array_size(array), sizeof(*out->items));
	if (!out->items)
		return no_memory(r);
	while (out->count < json_array_size(array)) {
		size_t i = out->count++;
		int rc;

		snprintf(r->place, sizeof(r->place), "actions[%zu]", i);
		rc = read_action(r, json_array_get(array, i), false, &out->items[i]);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int rule_actions_parse(struct rule_actions *out, const char *name, const char *json, char *err,
		       size_t err_len)
{
	struct reading r = {.name = name, .place = "actions", .err = err, .err_len = err_len};
	json_t *array;
	int rc;

	*out = (struct rule_actions){0};
	rc = parse_json(&r, json, &array);
	if (rc != 0)
		return rc;
	rc = read_array(&r, array, out);
	json_decref(array);
	if (rc != 0)
		rule_actions_free(out);
	return rc;
}

int rule_error_action_parse(struct rule_actions *out, const char *name, const char *json, char *err,
			    size_t err_len)
{
	struct reading r = {.name = name, .place = "error_action", .err = err, .err_len = err_len};
	json_t *item;
	int rc;

	*out = (struct rule_actions){0};
	if (!json || !*json)
		return 0;
	rc = parse_json(&r, json, &item);
	if (rc != 0)
		return rc;
	out->items = calloc(1, sizeof(*out->items));
	out->count = 1;
	rc = out->items ? read_action(&r, item, true, out->items) : no_memory(&r);
	json_decref(item);
	if (rc != 0)
		rule_actions_free(out);
	return rc;
}

void rule_actions_free(struct rule_actions *a)
{
	for (size_t i = 0; a->items && i < a->count; i++) {
		struct rule_action *action = &a->items[i];

		rule_template_free(action->republish.topic);
		free(action->store.schema);
		free(action->store.table);
		for (size_t k = 0; k < action->store.column_count; k++) {
			free(action->store.columns[k].column);
			free(action->store.columns[k].member);
		}
		free(action->store.columns);
	}
	free(a->items);
	*a = (struct rule_actions){0};
}

int rule_format_value(const struct value *v, enum rule_format format, struct arena *a,
		      const void **data, size_t *len)
{
	*data = format == RULE_FORMAT_CBOR ? (const void *)value_encode_cbor(a, v, len)
					   : (const void *)value_print_json(a, v, len);
	return *data ? 0 : -ENOMEM;
}

const struct value *rule_column_value(const struct value *selected, const char *member)
{
	const struct value *v = rule_member(selected, member, strlen(member));

	for (const char *dot = strchr(member, '.'); !v && dot; dot = strchr(dot + 1, '.')) {
		const struct value *inner = rule_member(selected, member, (size_t)(dot - member));

		if (inner)
			v = rule_column_value(inner, dot + 1);
	}
	return v;
}
