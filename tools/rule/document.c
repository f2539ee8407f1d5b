/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tools/rule/rule.h"

/* Add the rule of one document. */
static int add_rule(struct snapshot_builder *b, const json_t *document)
{
	const char *name = json_string_value(json_object_get(document, "name"));
	const char *sql = json_string_value(json_object_get(document, "sql"));
	const json_t *error_action = json_object_get(document, "error_action");
	char *actions = json_dumps(json_object_get(document, "actions"), JSON_ENCODE_ANY);
	char *on_error = NULL, err[256];
	int rc = EXIT_FAILED;

	if (error_action && !json_is_null(error_action))
		on_error = json_dumps(error_action, JSON_ENCODE_ANY);
	if (!name || !sql || !actions) {
		complain(EXIT_FAILED, "a rule needs the members name, sql and actions");
		goto out;
	}
	rc = snapshot_add_rule(
		b,
		&(struct snapshot_rule){
			.name = name,
			.revision = json_integer_value(json_object_get(document, "revision")),
			.sql = sql,
			.actions = actions,
			.error_action = on_error,
		},
		err, sizeof(err));
	if (rc != 0)
		rc = complain(EXIT_FAILED, "%s", err);
out:
	free(actions);
	free(on_error);
	return rc;
}

static int add_all(struct snapshot_builder *b, const json_t *documents)
{
	int rc = 0;

	if (json_is_object(documents))
		return add_rule(b, documents);
	if (!json_is_array(documents))
		return complain(EXIT_FAILED, "expected a rule, or an array of rules, as JSON");
	for (size_t i = 0; i < json_array_size(documents) && rc == 0; i++)
		rc = add_rule(b, json_array_get(documents, i));
	return rc;
}

int read_rules(const char *json, const struct rule_set **out)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *snapshot = NULL;
	json_error_t error;
	json_t *documents = json_loads(json, JSON_DECODE_ANY, &error);
	int rc;

	if (!documents)
		rc = complain(EXIT_FAILED, "rules are expected as JSON: line %d, column %d: %s",
			      error.line, error.column, error.text);
	else
		rc = b ? add_all(b, documents) : complain(EXIT_FAILED, "out of memory");
	json_decref(documents);
	if (rc != 0) {
		snapshot_builder_free(b);
		return rc;
	}
	snapshot = snapshot_build(b, 0);
	if (!snapshot || rule_set_make(out, snapshot, NULL) != 0)
		rc = complain(EXIT_FAILED, "out of memory");
	snapshot_release(snapshot);
	return rc;
}

const struct rule *rule_named(const struct rule_set *s, const char *name)
{
	for (size_t i = 0; i < rule_set_count(s); i++)
		if (strcmp(rule_set_at(s, i)->name, name) == 0)
			return rule_set_at(s, i);
	return NULL;
}

static char *read_stream(FILE *f, const char *path, size_t max, size_t *len)
{
	char *data = malloc(max + 2);

	if (!data) {
		complain(EXIT_FAILED, "out of memory");
		return NULL;
	}
	*len = fread(data, 1, max + 1, f);
	if (!ferror(f) && *len <= max) {
		data[*len] = '\0';
		return data;
	}
	if (ferror(f))
		complain(EXIT_FAILED, "%s: %s", path, strerror(errno));
	else
		complain(EXIT_FAILED, "%s: more than %zu bytes", path, max);
	free(data);
	return NULL;
}

char *read_all(const char *path, size_t max, size_t *len)
{
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *f = is_stdin ? stdin : fopen(path, "rb");
	char *data;

	if (!f) {
		complain(EXIT_FAILED, "%s: %s", path, strerror(errno));
		return NULL;
	}
	data = read_stream(f, is_stdin ? "stdin" : path, max, len);
	if (!is_stdin)
		fclose(f);
	return data;
}
