/* SPDX-License-Identifier: Apache-2.0 */
/* A template as a list of parts: made by template_parse.c, filled in by template.c. */
#ifndef FG_RULE_TEMPLATE_H
#define FG_RULE_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/arena.h"
#include "core/rule/ast.h"

struct rule_part {
	const char *text; /* as it is; when there is no expression */
	size_t len;
	struct rule_node *expression; /* NULL: text */
	bool from_payload;	      /* its text may be what the sender wrote */
};

struct rule_template {
	struct arena arena; /* of all that follows, and of nothing made per message */
	char *name;	    /* of the rule, for messages */
	char *where;	    /* "republish.topic" */
	struct rule_part *parts;
	size_t count;
};

#endif
