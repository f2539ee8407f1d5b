# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fieldgate rule test: a message through a rule, and what would come of it.

rule_test_help() {
	cat <<'HELP'
usage: fieldgate rule test NAME --topic TOPIC [--device DEVICE] FILE
       fieldgate rule test --sql TEXT|--file RULE-FILE [ACTION]... --topic TOPIC [--device DEVICE] FILE

What a rule would do with the message in FILE (JSON or CBOR; - is stdin): whether it matches and if not why not,
what SELECT gives, what is republished and stored, and which rules that triggers. Nothing is published or stored.
NAME is tried with all rules that are enabled, itself even when it is not. A rule that is not in the database is
given as for fieldgate rule add, and tried alone; this needs no database.

  --topic TOPIC    the topic that the message was published to
  --device DEVICE  whose message it is (the device in TOPIC, if it is m/d/DEVICE/...)

example: echo '{"temp": 61}' | fieldgate rule test hot --topic m/d/tracker-1/d2c -
HELP
}

rule_test_main() {
	local topic='' options=() trial=() arguments=() given=no rules
	while (($# > 0)); do
		case $1 in
		--topic | --device)
			need_value "$@"
			trial+=("$1" "$2")
			[[ $1 != --topic ]] || topic=$2
			shift
			;;
		--retain | --drop) options+=("$1") ;;
		--sql | --file | --republish | --qos | --format | --store | --column | --error-republish | --actions | \
			--error-action)
			need_value "$@"
			options+=("$1" "$2")
			[[ $1 != --sql && $1 != --file ]] || given=yes
			shift
			;;
		--)
			shift
			arguments+=("$@")
			break
			;;
		-?*) usage_error "rule test knows no option '$1'" ;;
		*) arguments+=("$1") ;;
		esac
		shift
	done
	[[ -n $topic ]] || usage_error "rule test needs a --topic"
	find_rule_tool
	if [[ $given == yes ]]; then
		((${#arguments[@]} == 1)) || usage_error "rule test --sql needs one FILE, and no NAME"
		rules=$(rule_tool compose --name test "${options[@]}")
		arguments=(test "${arguments[@]}")
	else
		((${#arguments[@]} == 2)) || usage_error "rule test needs a NAME and a FILE, or --sql and a FILE"
		((${#options[@]} == 0)) || usage_error "rule test NAME takes no ${options[0]}: the rule has its actions"
		check_rule_name "${arguments[0]}"
		require_database
		read_rule "${arguments[0]}"
		rules=$(read_rules_with "${arguments[0]}")
	fi
	[[ ${arguments[1]} == - || ${arguments[1]} != -* ]] || arguments[1]=./${arguments[1]}
	rule_tool test --rules <(printf '%s' "$rules") --name "${arguments[0]}" "${trial[@]}" "${arguments[1]}"
}

# All rules that are enabled, and this one, as an array of documents.
read_rules_with() { # NAME
	query_rows "name=$1" <<'SQL'
select jsonb_agg(jsonb_build_object('name', name, 'sql', sql, 'actions', actions, 'error_action', error_action))
	from fieldgate.rule where enabled or name = :'name';
SQL
}
