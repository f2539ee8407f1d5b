# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fieldgate rule show: all that is known of one rule.

rule_show_help() {
	cat <<'HELP'
usage: fieldgate rule show NAME

The rule, whether it is in force and if not why not, and what became of it.

example: fieldgate rule show hot
HELP
}

rule_show_main() {
	take_rule_name "$@"
	require_database
	read_rule "$RULE_NAME"
	query -P border=0 -P footer=off -P null=- "name=$RULE_NAME" <<'SQL'
\pset tuples_only on
\x on
select r.name, nullif(r.description, '') as description,
	case when not r.enabled then 'disabled' when r.problem is not null then 'refused' when s.in_force
		then 'in force' else 'no process has read it yet' end as state,
	r.problem, s.matched, s.errors, s.cut, s.last_match as "last match", s.last_error_at as "last error",
	s.last_error as "why", r.created_at as created
	from fieldgate.rule r join fieldgate.rule_status s using (name) where r.name = :'name';
\x off
\echo Statement
\pset format unaligned
select sql from fieldgate.rule where name = :'name';
\echo
\echo Actions
select jsonb_pretty(actions) from fieldgate.rule where name = :'name';
\echo
\echo Error action
select coalesce(jsonb_pretty(error_action), 'none') from fieldgate.rule where name = :'name';
SQL
}
