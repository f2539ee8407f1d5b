# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet approve: let in devices that wait for it, because the servers have enrolled them by their certificate or
# because fleet add --state pending has registered them.

approve_help() {
	cat <<'HELP'
usage: fleet approve DEVICE...
       fleet approve --all-of CA

Let pending devices in, all of them or none. A device that is active stays so; one that is suspended or revoked
is an error: that was somebody's decision, and fleet resume takes it back.

  --all-of CA  every pending device with a valid certificate of this authority, as fleet show names it

Said of each: the authority that signed its certificate, and what was noted when it was enrolled. At most 1000
in one call.

example: fleet approve tracker-1 tracker-2
HELP
}

approve_main() {
	local authority='' ids=() id
	while (($# > 0)); do
		case $1 in
		--all-of)
			need_value "$@"
			authority=$2
			shift
			;;
		--)
			shift
			ids+=("$@")
			break
			;;
		-*) usage_error "approve knows no option '$1' (an id that begins with - goes behind --)" ;;
		*) ids+=("$1") ;;
		esac
		shift
	done
	if [[ -n $authority ]]; then
		((${#ids[@]} == 0)) || usage_error "approve takes either DEVICEs or --all-of CA"
	else
		((${#ids[@]} > 0)) || usage_error "approve needs a DEVICE, or --all-of CA"
	fi
	check_number_of_ids approve "${#ids[@]}"
	for id in "${ids[@]}"; do
		check_id "$id"
	done
	require_database
	recover_if_idle
	if [[ -n $authority ]]; then
		approve_all_of "$authority"
	else
		approve_each "${ids[@]}"
	fi
}

approve_each() { # ID...
	local answer id state by note
	local -A known=()
	answer=$(query_rows "ids=$(IFS=, && printf '%s' "$*")" <<SQL
select p.id, p.state, $APPROVE_WHO from fieldgate.principal p where p.id = any (string_to_array(:'ids', ','));
SQL
	)
	while IFS='|' read -r id state by note; do
		[[ -z $id ]] || known[$id]=$state
	done <<<"$answer"
	for id; do
		case ${known[$id]:-} in
		'') die "there is no '$id' in the registry at $DB_URL: nobody was approved" ;;
		suspended | revoked)
			die "$id is ${known[$id]}, not pending: fleet resume $id takes that back. Nobody was approved"
			;;
		esac
	done
	approve_rows "$answer"
}

# Rows with their state at the time of asking: of those that wait, only those that still wait are let in.
approve_rows() { # ANSWER
	local id state by note answer how
	local -A let_in=()
	answer=$(approve_script "$1" | query_rows)
	while IFS= read -r id; do
		[[ -z $id ]] || let_in[$id]=yes
	done <<<"$answer"
	while IFS='|' read -r id state by note; do
		if [[ $state != pending ]]; then
			say "$id is active already"
		elif [[ -n ${let_in[$id]:-} ]]; then
			how=${by:+certificate of $by}
			say "approved $id: ${how:-registered without a certificate}${note:+, $note}"
		else
			warn "$id was changed by somebody else in this moment: fleet show $id"
		fi
	done <<<"$1"
	((${#let_in[@]} == 0)) || note "who was approved may connect within 5 s"
}

# Those of an authority may be more than an argument holds.
approve_script() { # ANSWER
	local id state
	cat <<'SQL'
begin;
create temporary table waiting (id text) on commit drop;
copy waiting from stdin;
SQL
	while IFS='|' read -r id state _; do
		[[ $state != pending ]] || printf '%s\n' "$id"
	done <<<"$1"
	cat <<'SQL'
\.
update fieldgate.principal p set state = 'active' from waiting
	where p.id = waiting.id and p.state = 'pending' returning p.id;
commit;
SQL
}

approve_all_of() { # AUTHORITY
	local answer
	answer=$(query_rows "authority=$1" <<SQL
select 'authority', count(*) from fieldgate.authority where name = :'authority';
select p.id, p.state, $APPROVE_WHO from fieldgate.principal p
	where p.state = 'pending' and exists (
		select from fieldgate.credential c join fieldgate.authority a on a.fingerprint = c.issuer
		where c.principal = p.id and a.name = :'authority' and c.revoked_at is null)
	order by p.id collate "C";
SQL
	)
	[[ ${answer%%$'\n'*} == 'authority|1' ]] ||
		die "there is no authority '$1' in the registry at $DB_URL: select name from fieldgate.authority"
	if [[ $answer != *$'\n'* ]]; then
		say "no device of $1 is pending"
		return
	fi
	approve_rows "${answer#*$'\n'}"
}

# SQL: the authorities that have signed its valid certificates, and its note as one line; the columns of a
# principal p.
readonly APPROVE_WHO="
	(select string_agg(distinct a.name, ', ') from fieldgate.credential c
		join fieldgate.authority a on a.fingerprint = c.issuer
		where c.principal = p.id and c.revoked_at is null),
	regexp_replace(p.note, '[[:cntrl:]]+', ' ', 'g')"
