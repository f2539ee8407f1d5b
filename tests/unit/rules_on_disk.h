/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for tests without a database: in a registry that has nothing but its copy on disk. */
#ifndef FG_TESTS_RULES_ON_DISK_H
#define FG_TESTS_RULES_ON_DISK_H

#include <stddef.h>

#include "core/registry/registry.h"

struct rule_row {
	const char *name, *sql, *actions;
};

#define ROWS(...)	 ((const struct rule_row[]){__VA_ARGS__})
#define REPUBLISH(topic) "[{\"republish\": {\"topic\": \"" topic "\", \"qos\": 1}}]"
#define DROP		 "[{\"drop\": {}}]"

/* Write the copy. Both assert. */
void rules_on_disk_save(const char *path, const struct rule_row *rows, size_t count);

struct registry *rules_on_disk_open(const char *path);

#endif
