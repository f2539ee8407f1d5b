/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of prefixes; the longest that fits decides. Codes: PostgreSQL's appendix A, and
 * Fieldgate's own FG001 (journal_advance), FG002 (ensure_partitions_for: no partition for such a
 * time).
 */
#include "core/store/sqlstate.h"

#include <stddef.h>
#include <string.h>

struct rule {
	const char *prefix;
	enum sqlstate_class class;
};

/* clang-format off */
static const struct rule rules[] = {
	{"08", SQLSTATE_SYSTEM},    /* connection exception */
	{"0A000", SQLSTATE_SCHEMA}, /* a cached plan that does not fit any more, among others */
	{"21", SQLSTATE_ROW},       /* cardinality violation */
	{"22", SQLSTATE_ROW},       /* data exception */
	{"23", SQLSTATE_ROW},       /* integrity constraint violation; no partition for a row */
	{"25", SQLSTATE_SYSTEM},    /* transaction state; read-only: a standby */
	{"26", SQLSTATE_SYSTEM},    /* a prepared statement is gone */
	{"28", SQLSTATE_SYSTEM},    /* authorization */
	{"38", SQLSTATE_ROW},       /* external routine */
	{"39", SQLSTATE_ROW},
	{"3D", SQLSTATE_SYSTEM},    /* no such database */
	{"3F", SQLSTATE_SYSTEM},    /* no such schema: not migrated yet */
	{"40", SQLSTATE_SYSTEM},    /* serialization failure, deadlock */
	{"42", SQLSTATE_SCHEMA},    /* undefined column or table, datatype mismatch */
	{"42501", SQLSTATE_SYSTEM}, /* insufficient privilege */
	{"42P05", SQLSTATE_SYSTEM}, /* a prepared statement of somebody else's has this name */
	{"44", SQLSTATE_ROW},       /* with check option */
	{"53", SQLSTATE_SYSTEM},    /* disk full, too many connections */
	{"54", SQLSTATE_ROW},       /* program limit: an index row too large */
	{"55", SQLSTATE_SYSTEM},    /* lock not available */
	{"57", SQLSTATE_SYSTEM},    /* shutdown, statement timeout */
	{"58", SQLSTATE_SYSTEM},    /* I/O error */
	{"F0", SQLSTATE_SYSTEM},    /* configuration file */
	{"FG001", SQLSTATE_POSITION},
	{"FG002", SQLSTATE_ROW},
	{"FG003", SQLSTATE_SYSTEM}, /* a setting is missing */
	{"HV", SQLSTATE_SYSTEM},    /* foreign data wrapper */
	{"P0", SQLSTATE_ROW},       /* raise exception in a trigger */
};
/* clang-format on */

enum sqlstate_class sqlstate_class(const char *sqlstate)
{
	enum sqlstate_class found = SQLSTATE_UNKNOWN;
	size_t longest = 0;

	if (!sqlstate)
		return SQLSTATE_SYSTEM;
	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++) {
		size_t len = strlen(rules[i].prefix);

		if (len > longest && strncmp(sqlstate, rules[i].prefix, len) == 0) {
			longest = len;
			found = rules[i].class;
		}
	}
	return found;
}
