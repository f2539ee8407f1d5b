# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fieldgate rule rm: a rule and its counters.

rule_rm_help() {
	cat <<'HELP'
usage: fieldgate rule rm NAME

Remove a rule, and its counters. What it has stored and published stays.

example: fieldgate rule rm hot
HELP
}

rule_rm_main() {
	local removed
	take_rule_name "$@"
	require_database
	removed=$(query_rows "name=$RULE_NAME" \
		<<<"delete from fieldgate.rule where name = :'name' returning name;")
	[[ -n $removed ]] || die "there is no rule '$RULE_NAME': fieldgate rule list shows which are"
	say "$RULE_NAME is removed. No process runs it any more within 5 s"
}
