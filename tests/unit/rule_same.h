/* SPDX-License-Identifier: Apache-2.0 */
/* Are two parsed statements the same, but for the places in their texts? For tests. */
#ifndef FG_TESTS_RULE_SAME_H
#define FG_TESTS_RULE_SAME_H

#include <stdbool.h>

#include "core/rule/ast.h"

bool rule_same_node(const struct rule_node *a, const struct rule_node *b); /* NULL is allowed */
bool rule_same_statement(const struct rule_statement *a, const struct rule_statement *b);

#endif
