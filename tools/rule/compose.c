/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From options to a document. --qos, --retain and --format belong to the --republish or
 * --error-republish before them, --column to the --store before it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tools/rule/rule.h"

struct composing {
	json_t *document, *actions, *error_action;
	json_t *republish, *columns; /* of the last one: what options are added to */
	json_t *store;
	bool actions_given, single_given;
};

/* Takes over the value. */
static void set(json_t *object, const char *key, json_t *value)
{
	if (!value || json_object_set_new(object, key, value) != 0)
		exit(complain(EXIT_FAILED, "'%s' is no UTF-8, or memory ran out", key));
}

/* {kind: {}} behind the other actions; the inner object. */
static json_t *add_action(struct composing *c, const char *kind)
{
	json_t *item = json_object(), *inner = json_object();

	set(item, kind, inner);
	if (json_array_append_new(c->actions, item) != 0)
		exit(complain(EXIT_FAILED, "out of memory"));
	c->single_given = true;
	return inner;
}

static json_t *parse(const char *option, const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

	if (!value)
		exit(complain(EXIT_USAGE, "%s is not JSON: line %d, column %d: %s", option,
			      error.line, error.column, error.text));
	return value;
}

static int take_sql(struct composing *c, const char *value)
{
	set(c->document, "sql", json_string(value));
	return 0;
}

static int take_file(struct composing *c, const char *value)
{
	size_t len;
	char *text = read_all(value, RULE_TEXT_MAX, &len);

	if (!text)
		return EXIT_FAILED;
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = '\0';
	set(c->document, "sql", json_stringn(text, len));
	free(text);
	return 0;
}

static int take_name(struct composing *c, const char *value)
{
	set(c->document, "name", json_string(value));
	return 0;
}

static int take_republish(struct composing *c, const char *value)
{
	c->republish = add_action(c, "republish");
	set(c->republish, "topic", json_string(value));
	return 0;
}

static int take_error_republish(struct composing *c, const char *value)
{
	c->error_action = json_object();
	c->republish = json_object();
	set(c->republish, "topic", json_string(value));
	set(c->error_action, "republish", c->republish);
	set(c->document, "error_action", c->error_action);
	return 0;
}

static int take_qos(struct composing *c, const char *value)
{
	if (!c->republish)
		return complain(EXIT_USAGE, "--qos belongs behind a --republish");
	if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
		return complain(EXIT_USAGE, "--qos needs 0 or 1, not '%s'", value);
	set(c->republish, "qos", json_integer(value[0] - '0'));
	return 0;
}

static int take_retain(struct composing *c, const char *value)
{
	(void)value;
	if (!c->republish)
		return complain(EXIT_USAGE, "--retain belongs behind a --republish");
	set(c->republish, "retain", json_true());
	return 0;
}

static int take_format(struct composing *c, const char *value)
{
	if (!c->republish)
		return complain(EXIT_USAGE, "--format belongs behind a --republish");
	if (strcmp(value, "json") != 0 && strcmp(value, "cbor") != 0)
		return complain(EXIT_USAGE, "--format needs json or cbor, not '%s'", value);
	set(c->republish, "format", json_string(value));
	return 0;
}

static int take_store(struct composing *c, const char *value)
{
	c->store = add_action(c, "store");
	c->columns = NULL;
	set(c->store, "table", json_string(value));
	return 0;
}

static int take_column(struct composing *c, const char *value)
{
	const char *equals = strchr(value, '=');
	char *column;

	if (!c->store)
		return complain(EXIT_USAGE, "--column belongs behind a --store");
	if (!equals || equals == value || !equals[1])
		return complain(EXIT_USAGE, "--column needs COLUMN=MEMBER, not '%s'", value);
	if (!c->columns) {
		c->columns = json_object();
		set(c->store, "columns", c->columns);
	}
	column = strndup(value, (size_t)(equals - value));
	if (!column)
		return complain(EXIT_FAILED, "out of memory");
	if (json_object_get(c->columns, column)) {
		complain(EXIT_USAGE, "the column '%s' is given twice", column);
		free(column);
		return EXIT_USAGE;
	}
	set(c->columns, column, json_string(equals + 1));
	free(column);
	return 0;
}

static int take_drop(struct composing *c, const char *value)
{
	(void)value;
	add_action(c, "drop");
	return 0;
}

static int take_actions(struct composing *c, const char *value)
{
	json_decref(c->actions);
	c->actions = parse("--actions", value);
	c->actions_given = true;
	return 0;
}

static int take_error_action(struct composing *c, const char *value)
{
	set(c->document, "error_action", parse("--error-action", value));
	return 0;
}

static const struct {
	const char *name;
	bool has_value;
	int (*take)(struct composing *c, const char *value);
} options[] = {
	{"--name", true, take_name},
	{"--sql", true, take_sql},
	{"--file", true, take_file},
	{"--republish", true, take_republish},
	{"--qos", true, take_qos},
	{"--retain", false, take_retain},
	{"--format", true, take_format},
	{"--store", true, take_store},
	{"--column", true, take_column},
	{"--drop", false, take_drop},
	{"--error-republish", true, take_error_republish},
	{"--actions", true, take_actions},
	{"--error-action", true, take_error_action},
};

#define OPTION_COUNT (sizeof(options) / sizeof(*options))

static int take_option(struct composing *c, char ***argv)
{
	const char *name = *(*argv)++;

	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const char *value = NULL;

		if (strcmp(options[i].name, name) != 0)
			continue;
		if (options[i].has_value && !(value = *(*argv)++))
			return complain(EXIT_USAGE, "%s needs a value", name);
		return options[i].take(c, value);
	}
	return complain(EXIT_USAGE, "there is no option '%s'", name);
}

/* The rule as it will be loaded: what is wrong with it is told by the same code. */
static int judge(const char *text)
{
	const struct rule_set *set;
	int rc = read_rules(text, &set);

	if (rc != 0)
		return rc;
	if (rule_set_at(set, 0)->problem)
		rc = complain(EXIT_FAILED, "%s", rule_set_at(set, 0)->problem);
	rule_set_release(set);
	return rc;
}

static int finish(struct composing *c)
{
	char *text;
	int rc;

	if (!json_object_get(c->document, "sql"))
		return complain(EXIT_USAGE, "a rule needs --sql TEXT or --file FILE");
	if (c->actions_given && c->single_given)
		return complain(EXIT_USAGE, "--actions has all actions: no others beside it");
	set(c->document, "actions", json_incref(c->actions));
	text = json_dumps(c->document, JSON_COMPACT);
	if (!text)
		return complain(EXIT_FAILED, "out of memory");
	rc = judge(text);
	if (rc == 0)
		puts(text);
	free(text);
	return rc;
}

int compose_main(int argc, char **argv)
{
	struct composing c = {.document = json_object(), .actions = json_array()};
	int rc = 0;

	(void)argc;
	set(c.document, "name", json_string("test"));
	argv++;
	while (*argv && rc == 0)
		rc = take_option(&c, &argv);
	if (rc == 0)
		rc = finish(&c);
	json_decref(c.actions);
	json_decref(c.document);
	return rc;
}
