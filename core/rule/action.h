/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rule does with a message that it matches: the columns `actions` and `error_action` of the
 * table rule, parsed once. docs/rules.md describes them:
 *
 *     [{"republish": {"topic": "alarms/${device()}", "qos": 1, "retain": false, "format": "json"}},
 *      {"store": {"table": "public.alarm", "columns": {"device": "device", "degrees": "t"}}},
 *      {"drop": {}}]
 */
#ifndef FG_RULE_ACTION_H
#define FG_RULE_ACTION_H

#include <stdbool.h>
#include <stddef.h>

#include "core/rule/statement.h"

#define RULE_ACTIONS_MAX 10
#define RULE_COLUMNS_MAX 200

enum rule_action_kind {
	RULE_REPUBLISH,
	RULE_STORE,
	RULE_DROP, /* the message is not stored in telemetry */
};

enum rule_format {
	RULE_FORMAT_JSON,
	RULE_FORMAT_CBOR,
};

struct rule_column {
	char *column;
	char *member; /* of what SELECT gave; dots go into maps */
};

struct rule_action {
	enum rule_action_kind kind;
	struct {
		struct rule_template *topic;
		int qos; /* 0 or 1 */
		bool retain;
		enum rule_format format;
	} republish;
	struct {
		char *schema; /* NULL: not given, "public" is meant */
		char *table;
		struct rule_column *columns; /* by name of the column */
		size_t column_count;	     /* 0: each member goes to the column of its name */
	} store;
};

struct rule_actions {
	struct rule_action *items;
	size_t count;
};

/* The column `actions`: a JSON array of at most RULE_ACTIONS_MAX objects. 0; -EINVAL with what is
 * wrong and where in err: `rule 'hot', actions[0].republish.topic: ...`; -ENOMEM. */
int rule_actions_parse(struct rule_actions *out, const char *name, const char *json, char *err,
		       size_t err_len);

/* The column `error_action`: one such object, republish or store; NULL or "": none. */
int rule_error_action_parse(struct rule_actions *out, const char *name, const char *json, char *err,
			    size_t err_len);

void rule_actions_free(struct rule_actions *a);

/* What SELECT gave, in the format of the action. In the arena; -ENOMEM. */
int rule_format_value(const struct value *v, enum rule_format format, struct arena *a,
		      const void **data, size_t *len);

/* What goes into a column, of what SELECT gave: the member of that name, or, of `a.b`, b in the map
 * a. NULL: there is none. */
const struct value *rule_column_value(const struct value *selected, const char *member);

#endif
