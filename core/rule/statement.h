/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule language: `SELECT <list> FROM '<topic filter>' [WHERE <condition>]`, in the shape of AWS
 * IoT SQL. docs/rules.md is the grammar, with an example for each construct. A statement is parsed
 * once, when it is loaded; then any number of threads evaluate it, each with an arena of its own.
 * Nothing here knows threads, databases or networks.
 */
#ifndef FG_RULE_STATEMENT_H
#define FG_RULE_STATEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/payload/value.h"

#define RULE_NAME_MAX	    64	 /* [A-Za-z0-9_.:-], as the ids of principals */
#define RULE_TEXT_MAX	    8192 /* bytes of a statement */
#define RULE_DEPTH_MAX	    32	 /* nesting of expressions */
#define RULE_NODES_MAX	    1000 /* of all expressions of a statement */
#define RULE_FIELDS_MAX	    100
#define RULE_RESULT_MAX	    (256 * 1024) /* bytes of one text that an expression makes */
#define RULE_LIKE_STEPS_MAX 4000000	 /* of one LIKE whose pattern has a `_` behind a `%` */
#define RULE_WORK_MAX	    (32 * 1024 * 1024) /* of all rules for one message: rule_input.work */
#define RULE_WHY_MAX	    300

struct rule_statement;
struct rule_template;

struct rule_input { /* one message */
	const char *topic;
	const char *device;	     /* whose message it is; NULL: nobody's */
	const struct value *payload; /* NULL: it could not be decoded */
	const void *raw;	     /* the payload as it came */
	size_t raw_len;
	int64_t received_at_us;

	/* What rules may still do for this message: bytes of text that they look at or make, steps
	 * of LIKE, and a little for each statement. Who can send long messages must not be able to
	 * keep the rules busy for others'. NULL: no bound. */
	size_t *work;
};

/*
 * 0 and *out, for rule_free; -EINVAL with what is wrong and where in err: `rule 'hot': line 1,
 * column 37: expected a value after '>'`; -ENOMEM. text need not end with NUL.
 */
int rule_parse(struct rule_statement **out, const char *name, const char *text, size_t len,
	       char *err, size_t err_len);
void rule_free(struct rule_statement *s); /* NULL is allowed */

/* The statement in its one canonical form: parsed again it is the same. For free(); NULL without
 * memory. */
char *rule_print(const struct rule_statement *s);

/* A valid topic filter. */
const char *rule_filter(const struct rule_statement *s);

/*
 * Does WHERE hold, and what does SELECT give? The topic is taken as matching. 1: *out is a map; 0:
 * no; -EBADMSG, -E2BIG or -ENOMEM (the arena's limit) with the reason in why. A WHERE that is
 * undefined does not hold. Fields that are undefined are left out. Everything is the arena's, and
 * may point into the input.
 */
int rule_evaluate(const struct rule_statement *s, const struct rule_input *in, struct arena *a,
		  struct value *out, char *why, size_t why_len);

/* WHERE alone: 1, 0 or -errno as above. */
int rule_holds(const struct rule_statement *s, const struct rule_input *in, struct arena *a,
	       char *why, size_t why_len);

/* --- Templates: text with `${<expression>}` in it, for topics. `$${` is a plain `${`. --- */

/* As rule_parse: `rule 'hot', republish.topic: column 12: ...`; where is "republish.topic". */
int rule_template_parse(struct rule_template **out, const char *name, const char *where,
			const char *text, char *err, size_t err_len);
void rule_template_free(struct rule_template *t);

/* Filled in from the message, not from what SELECT gave. 0 and a NUL-terminated text in the arena;
 * -EBADMSG when an expression is undefined, null, an array or a map; -E2BIG, -ENOMEM. */
int rule_template_render(const struct rule_template *t, const struct rule_input *in,
			 struct arena *a, const char **out, char *why, size_t why_len);

#endif
