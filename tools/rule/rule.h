/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-rule: what bin/fieldgate needs to know of rules. A rule is handed from one to the other
 * as a document, a JSON object with the members of a row of the table rule: name, sql, actions,
 * error_action (may be null or missing) and, if it is one, revision.
 *
 * Each command's exit status: 0 done; 1 failed, or the rule is refused, and stderr says why; 2
 * wrong usage.
 */
#ifndef FG_TOOLS_RULE_H
#define FG_TOOLS_RULE_H

#include "core/rule/set.h"

#define EXIT_FAILED 1
#define EXIT_USAGE  2

/* Print `fieldgate-rule: ...` to stderr, and return status. */
int complain(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The rules of a document, or of an array of them. 0, or an exit status after a complaint. */
int read_rules(const char *json, const struct rule_set **out);

/* The rule of this name, or NULL. */
const struct rule *rule_named(const struct rule_set *s, const char *name);

/* All of a file ("-" is stdin) for free(), with a NUL behind it; NULL after a complaint. */
char *read_all(const char *path, size_t max, size_t *len);

int compose_main(int argc, char **argv);
int check_main(int argc, char **argv);
int test_main(int argc, char **argv);

#endif
