/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of rules: statements that are evaluated for a payload given as JSON or CBOR. */
#ifndef FG_TESTS_RULE_FIXTURE_H
#define FG_TESTS_RULE_FIXTURE_H

#include "core/rule/statement.h"

struct rule_fixture {
	struct arena payload; /* reset by each payload_... */
	struct arena arena;   /* of an evaluation; reset by each */
	struct arena printed; /* what the last one gave */
	struct value value;
	struct rule_input in;
	char why[RULE_WHY_MAX];
};

int rule_fixture_set_up(void **state);
int rule_fixture_tear_down(void **state);

/* The message from now on: m/d/dev-1/d2c, at 2026-03-01T12:34:56.789Z. */
void rule_fixture_json(struct rule_fixture *f, const char *text);
void rule_fixture_cbor(struct rule_fixture *f, const void *data, size_t len);
void rule_fixture_raw(struct rule_fixture *f, const void *data, size_t len);

/* What the statement gives, as JSON; "no" when WHERE does not hold; else "error: " and the reason.
 * Valid until the next one. */
const char *rule_fixture_run(struct rule_fixture *f, const char *statement);

/* The value of one expression, as JSON; "undefined". */
const char *rule_fixture_value(struct rule_fixture *f, const char *expression);

#endif
