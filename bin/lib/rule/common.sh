# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the commands for rules share. What a rule means and whether it fits its tables, fieldgate-rule says, with
# the code that runs rules; between it and these commands a rule is a JSON document with the members of its row.

export RULE_NAME='' RULE_DOCUMENT='' RULE_ENABLED='' # the commands read them

# The alphabet is the one of the column rule.name.
check_rule_name() {
	[[ $1 =~ ^[A-Za-z0-9_.:-]{1,64}$ ]] ||
		usage_error "'${1//[^[:print:]]/?}' cannot be a rule: 1 to 64 letters, digits and _ . : - are"
}

# The one NAME of a command that takes nothing else, to RULE_NAME.
take_rule_name() { # ARGUMENT...
	[[ ${1:-} != -- ]] || shift
	(($# == 1)) || usage_error "$PROGRAM_COMMAND needs one NAME"
	check_rule_name "$1"
	RULE_NAME=$1
}

# fieldgate-rule to RULE_TOOL: what was built here, or what is installed.
find_rule_tool() {
	local file
	for file in "${FIELDGATE_RULE:-}" "$FIELDGATE_HOME/../build/release/tools/fieldgate-rule" \
		"$(command -v fieldgate-rule || true)"; do
		[[ -n $file && -x $file ]] || continue
		RULE_TOOL=$file
		return
	done
	die "fieldgate-rule is not there, which reads rules: build it with make, or say with" \
		"FIELDGATE_RULE where it is"
}

# Run it; what it complains of ends the command.
rule_tool() { # ARGUMENT...
	local errors status=0
	{ errors=$("$RULE_TOOL" "$@" 2>&1 >&3) || status=$?; } 3>&1
	errors=${errors#fieldgate-rule: }
	case $status in
	0) ;;
	2) usage_error "$errors" ;;
	*) die "${errors:-fieldgate-rule ended with status $status}" ;;
	esac
}

# The document of a rule to RULE_DOCUMENT, and whether it is enabled (t or f) to RULE_ENABLED.
read_rule() { # NAME
	local answer
	answer=$(query_rows "name=$1" <<'SQL'
select enabled, jsonb_build_object('name', name, 'sql', sql, 'actions', actions, 'error_action', error_action)
	from fieldgate.rule where name = :'name';
SQL
	)
	[[ -n $answer ]] || die "there is no rule '$1': fieldgate rule list shows which are"
	RULE_ENABLED=${answer%%|*}
	RULE_DOCUMENT=${answer#*|}
}

# Refuse a rule that does not fit its tables; with --grant, give the processes the rights that are missing.
check_rule() { # DOCUMENT [--grant]
	local granted document=$1
	shift
	granted=$(rule_tool check "$@" <<<"$document")
	[[ -z $granted ]] || note "ran: ${granted//$'\n'/ }"
}
