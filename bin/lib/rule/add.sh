# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fieldgate rule add: a row, after everything was looked at that can be known before a message comes.

rule_add_help() {
	cat <<'HELP'
usage: fieldgate rule add NAME --sql TEXT|--file FILE [ACTION]... [--disabled] [--replace] [--grant]

Make a rule. It is refused if it cannot be parsed, or if its tables do not exist, do not have its columns or
cannot be written by the processes, which are fieldgate_ingest. In force within 5 s.

  --sql TEXT              SELECT ... FROM 'topic filter' [WHERE ...]: docs/rules.md
  --file FILE             the same from a file (- is stdin)

Actions, any number of them (none: matches are counted):
  --republish TOPIC       publish what SELECT gives; ${...} in TOPIC is an expression: 'alarms/${device()}'
    [--qos 0|1] [--retain] [--format json|cbor]
                          of the --republish before it (0, not retained, json)
  --store TABLE           insert what SELECT gives: TABLE or SCHEMA.TABLE, as it is written in the database
    [--column COLUMN=MEMBER]...
                          what goes where; without, each member goes to the column of its name
  --drop                  do not store the message itself in telemetry
  --error-republish TOPIC publish a report when the rule or one of its actions fails (--qos ... belong to it)
  --actions JSON          all actions at once, as in the column rule.actions
  --error-action JSON     as in the column rule.error_action

  --description TEXT      for people
  --disabled              not in force until fieldgate rule enable
  --replace               if there is a rule of this name, change it
  --grant                 give fieldgate_ingest the rights that it needs for --store

example: fieldgate rule add hot --sql "SELECT temp FROM 'm/d/+/d2c' WHERE temp > 60" --store public.hot --grant
HELP
}

rule_add_main() {
	local name='' replace=no enabled=true description='' grant=() options=()
	while (($# > 0)); do
		case $1 in
		--replace) replace=yes ;;
		--disabled) enabled=false ;;
		--grant) grant=(--grant) ;;
		--description)
			need_value "$@"
			description=$2
			shift
			;;
		--retain | --drop) options+=("$1") ;;
		--sql | --file | --republish | --qos | --format | --store | --column | --error-republish | --actions | \
			--error-action)
			need_value "$@"
			options+=("$1" "$2")
			shift
			;;
		--)
			shift
			[[ $# == 1 && -z $name ]] || usage_error "rule add needs one NAME"
			name=$1
			;;
		-*) usage_error "rule add knows no option '$1' (a name that begins with - goes behind --)" ;;
		*)
			[[ -z $name ]] || usage_error "rule add needs one NAME"
			name=$1
			;;
		esac
		shift
	done
	[[ -n $name ]] || usage_error "rule add needs a NAME"
	check_rule_name "$name"
	find_rule_tool
	rule_add "$name" "$enabled" "$replace" "$description"
}

# The arrays are the caller's.
rule_add() { # NAME ENABLED REPLACE DESCRIPTION
	local document written known
	document=$(rule_tool compose --name "$1" "${options[@]}")
	require_database
	known=$(query_rows "name=$1" <<<"select 1 from fieldgate.rule where name = :'name';")
	[[ -z $known || $3 == yes ]] ||
		die "there is a rule $1 already, and it is left as it is: --replace changes it"
	check_rule "$document" "${grant[@]}"
	written=$(write_rule "$document" "$2" "$3" "$4")
	[[ -n $written ]] || die "somebody else has made a rule $1 in this moment: --replace changes it"
	if [[ $2 == true ]]; then
		say "$1 is $written, and in force within 5 s: fieldgate rule show $1"
	else
		say "$1 is $written, and not in force before fieldgate rule enable $1"
	fi
}

write_rule() { # DOCUMENT ENABLED REPLACE DESCRIPTION
	query_rows "document=$1" "enabled=$2" "replace=$3" "description=$4" <<'SQL'
with written as (
	insert into fieldgate.rule as r (name, sql, actions, error_action, enabled, description)
	select d.name, d.sql, d.actions, nullif(d.error_action, 'null'), :'enabled'::boolean, :'description'
	from jsonb_to_record(:'document'::jsonb)
		as d (name text, sql text, actions jsonb, error_action jsonb)
	on conflict (name) do update set sql = excluded.sql, actions = excluded.actions,
		error_action = excluded.error_action, enabled = excluded.enabled,
		description = coalesce(nullif(excluded.description, ''), r.description)
		where :'replace' = 'yes'
	returning xmax = 0 as is_new)
select case when is_new then 'added' else 'changed' end from written;
SQL
}
