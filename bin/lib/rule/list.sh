# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fieldgate rule list: all rules, one line each.

rule_list_help() {
	cat <<'HELP'
usage: fieldgate rule list

One line for every rule: whether it is in force, how many messages it matched, how often it or one of its
actions failed, how often it was not run because rules triggered one another too deep, and when it matched and
failed last.

example: fieldgate rule list
HELP
}

rule_list_main() {
	(($# == 0)) || usage_error "rule list takes no '$1'"
	require_database
	query -P border=0 -P footer=off -P null=- <<'SQL'
select name,
	case when not enabled then 'disabled' when problem is not null then 'refused'
		when in_force then 'in force' else 'not read yet' end as state,
	matched, errors, cut, date_trunc('second', last_match) as "last match",
	date_trunc('second', last_error_at) as "last error"
	from fieldgate.rule_status order by name collate "C";
SQL
}
