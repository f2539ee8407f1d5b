# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fieldgate rule enable and disable.

rule_enable_help() {
	cat <<'HELP'
usage: fieldgate rule enable NAME [--grant]

Put a rule into force. It is looked at as by fieldgate rule add, and refused if it cannot work.

  --grant   give fieldgate_ingest the rights that it needs for the rule's tables

example: fieldgate rule enable hot
HELP
}

rule_enable_main() {
	local argument grant=() rest=()
	for argument; do
		if [[ $argument == --grant ]]; then
			grant=(--grant)
		else
			rest+=("$argument")
		fi
	done
	take_rule_name "${rest[@]}"
	find_rule_tool
	require_database
	read_rule "$RULE_NAME"
	check_rule "$RULE_DOCUMENT" "${grant[@]}"
	[[ $RULE_ENABLED == f ]] || { say "$RULE_NAME was enabled before" && return; }
	set_rule_enabled "$RULE_NAME" true
	say "$RULE_NAME is enabled, and in force within 5 s: fieldgate rule show $RULE_NAME"
}

rule_disable_help() {
	cat <<'HELP'
usage: fieldgate rule disable NAME

As if the rule were not there, until fieldgate rule enable. Its counters stay.

example: fieldgate rule disable hot
HELP
}

rule_disable_main() {
	take_rule_name "$@"
	require_database
	read_rule "$RULE_NAME"
	[[ $RULE_ENABLED == t ]] || { say "$RULE_NAME was disabled before" && return; }
	set_rule_enabled "$RULE_NAME" false
	say "$RULE_NAME is disabled. No process runs it any more within 5 s"
}

set_rule_enabled() { # NAME ENABLED
	query_rows "name=$1" "enabled=$2" \
		<<<"update fieldgate.rule set enabled = :'enabled'::boolean where name = :'name';"
}
