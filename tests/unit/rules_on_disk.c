/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/rules_on_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void rules_on_disk_save(const char *path, const struct rule_row *rows, size_t count)
{
	struct snapshot_builder *b = snapshot_builder_new();
	const struct snapshot *s;
	char err[512];

	assert_non_null(b);
	for (size_t i = 0; i < count; i++) {
		const struct snapshot_rule r = {.name = rows[i].name,
						.revision = 1,
						.sql = rows[i].sql,
						.actions = rows[i].actions};

		if (snapshot_add_rule(b, &r, err, sizeof(err)) != 0)
			fail_msg("%s", err);
	}
	s = snapshot_build(b, 1);
	assert_non_null(s);
	assert_int_equal(snapshot_save(s, path), 0);
	snapshot_release(s);
}

struct registry *rules_on_disk_open(const char *path)
{
	const struct registry_options o = {.database_url = "postgresql:///x?host=/nonexistent",
					   .connect_timeout_s = 1,
					   .statement_timeout_s = 1,
					   .poll_ms = 60000,
					   .snapshot_path = path};
	struct registry *r;
	char err[512];

	if (registry_open(&r, &o, err, sizeof(err)) != 0)
		fail_msg("%s", err);
	return r;
}
