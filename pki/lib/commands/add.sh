# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet add: devices with key, certificate and rows, all of them or none. The transaction in the registry
# decides: keys and certificates are whole on disk, in a stage, before it, and get their place after it.
# The transaction holds an advisory lock of the stage's name, so whoever asks later whether it was
# committed, and takes that lock first, gets the final answer. README.md goes through the crashes.

readonly ADD_MAX=1000 ADD_DEFAULT_DAYS=3650

add_help() {
	cat <<'HELP'
usage: fleet add DEVICE... [--service] [--policy NAME] [--state pending|active] [--days N]

Make key and certificate of each device and register it: all of them or none. A device that is registered
with a valid certificate stays as it is. A valid certificate in the directory that the registry does not
know (after it was lost, say) is registered again. At most 1000 in one call; many in one call are faster.

  --service      not devices but services: a dashboard, a backend. Kept under services/
  --policy NAME  what they may do (device; for services: none)
  --state STATE  active, or pending: registered, but not let in before fleet resume
  --days N       valid for N days (3650)

Made: devices/DEVICE/key.pem and cert.pem. The key is the device's secret: remove it here once it is in the
device. An id that begins with - goes behind --.

example: fleet add tracker-1 tracker-2 --policy device
HELP
}

add_main() {
	local -A seen=()
	local ids=() id
	ADD_KIND=device ADD_POLICY='' ADD_STATE=active ADD_DAYS=$ADD_DEFAULT_DAYS
	while (($# > 0)); do
		case $1 in
		--service) ADD_KIND=service ;;
		--policy)
			need_value "$@"
			check_policy_name "$2"
			ADD_POLICY=$2
			shift
			;;
		--state)
			need_value "$@"
			[[ $2 == pending || $2 == active ]] || usage_error "--state is pending or active, not '$2'"
			ADD_STATE=$2
			shift
			;;
		--days)
			need_value "$@"
			check_days "$2"
			ADD_DAYS=$2
			shift
			;;
		--)
			shift
			ids+=("$@")
			break
			;;
		-*) usage_error "add knows no option '$1' (an id that begins with - goes behind --)" ;;
		*) ids+=("$1") ;;
		esac
		shift
	done
	((${#ids[@]} > 0)) || usage_error "add needs a DEVICE"
	((${#ids[@]} <= ADD_MAX)) || usage_error "add takes at most $ADD_MAX devices in one call:" \
		"xargs -n $ADD_MAX fleet add <FILE takes any number"
	set --
	for id in "${ids[@]}"; do
		check_id "$id"
		[[ -n ${seen[$id]:-} ]] || set -- "$@" "$id"
		seen[$id]=yes
	done

	find_cert_tool
	require_database
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	require_ca device-ca
	new_stage add
	add_all "$@"
}

add_all() { # ID...
	local id errors registered status=0
	ADD_PLACE=${ADD_KIND}s
	add_sort "$@"
	((${#ADD_TODO[@]} > 0)) || return 0
	add_make
	complete_stage "$ADD_DATABASE" "${ADD_MANIFEST[@]}"
	errors=$(add_transaction "$STAGE" 2>&1) || status=$?
	# Whatever psql says: the registry knows. A connection can be lost behind the commit.
	((status == 0)) || errors=$(explain_database_error "$status" "$errors")
	registered=$(add_settle "$STAGE") || die "${errors:+$errors. }Not finished: the next fleet" \
		"command finds out whether the devices are registered, and completes or removes them"
	((registered > 0)) || die "$errors. Nothing was added"
	for id in "${ADD_TODO[@]}"; do
		say "added $id: $FLEET_DIR/$ADD_PLACE/$id/, valid until ${ADD_UNTIL[$id]}"
	done
	if [[ $ADD_STATE == pending ]]; then
		note "pending devices are not let in: fleet resume DEVICE when they may be"
	elif [[ $ADD_KIND == service && $ADD_POLICY == none ]]; then
		note "the policy none lets a service in, but allows it nothing: give it one of its own"
	fi
}

# What is there already? ADD_TODO: those that need a certificate; ADD_NEW: those without a row.
add_sort() { # ID...
	local -A row=()
	local answer id what rest kind state policy until
	ADD_TODO=()
	declare -gA ADD_NEW=()
	answer=$(query_rows "ids=$(IFS=, && printf '%s' "$*")" <<'SQL'
select 'database', system_identifier || '/' || d.oid
	from pg_control_system(), pg_database d where d.datname = current_database();
select 'policy', name from fieldgate.policy;
select 'principal', p.id, p.kind, p.state, p.policy,
	to_char(max(coalesce(c.not_after, 'infinity')) at time zone 'UTC', 'YYYY-MM-DD')
	from fieldgate.principal p left join fieldgate.credential c on c.principal = p.id
		and c.kind in ('x509', 'x509_key') and c.revoked_at is null
		and coalesce(c.not_after, 'infinity') > now()
	where p.id = any (string_to_array(:'ids', ',')) group by p.id;
SQL
	)
	while IFS='|' read -r what id rest; do
		case $what in
		database) ADD_DATABASE=$id ;;
		policy) row["policy $id"]=yes ;;
		principal) row[$id]=$rest ;;
		esac
	done <<<"$answer"

	for id; do
		if [[ -n ${row[$id]:-} ]]; then
			IFS='|' read -r kind state policy until <<<"${row[$id]}"
			add_check_existing "$id" "$kind" "$state" "$policy"
			if [[ -n $until ]]; then
				say "exists: $id, $state, certificate valid until $until"
				continue
			fi
		else
			ADD_NEW[$id]=yes
		fi
		ADD_TODO+=("$id")
	done
	if [[ -z $ADD_POLICY ]]; then
		ADD_POLICY=none
		[[ $ADD_KIND == service ]] || ADD_POLICY=device
	fi
	[[ ${#ADD_NEW[@]} == 0 || -n ${row["policy $ADD_POLICY"]:-} ]] ||
		die "there is no policy '$ADD_POLICY' in the registry: insert it into fieldgate.policy," \
			"its rules into fieldgate.policy_rule"
}

add_check_existing() { # ID KIND STATE POLICY
	[[ $2 == "$ADD_KIND" ]] || die "$1 is a $2 already, it cannot be a $ADD_KIND too: choose another id"
	[[ $3 != revoked ]] || die "$1 is revoked. To take it back: fleet resume $1, then fleet add $1"
	[[ -z $ADD_POLICY || $4 == "$ADD_POLICY" ]] ||
		die "$1 exists with policy '$4', not '$ADD_POLICY': update fieldgate.principal to change it"
}

# Keys and certificates into the stage, what is to be registered into ADD_MANIFEST and ADD_ROWS.
add_make() {
	local id line directory kept=() new=() ca=$FLEET_DIR/device-ca
	ADD_MANIFEST=() ADD_ROWS=()
	declare -gA ADD_UNTIL=()
	for id in "${ADD_TODO[@]}"; do
		if [[ -n ${ADD_NEW[$id]:-} ]] && add_certificate_is_good "$id"; then
			note "$id has a valid certificate here that the registry does not know: it is registered again"
			kept+=("$id")
		else
			new+=("$id")
		fi
	done
	for id in "${kept[@]}"; do
		read_certificate "$FLEET_DIR/$ADD_PLACE/$id/cert.pem" "$ca"
		add_plan_row "$id"
	done
	((${#new[@]} > 0)) || return 0
	directory=$STAGE/$ADD_PLACE
	mkdir -- "$directory" "${new[@]/#/$directory/}"
	for id in "${new[@]}"; do
		job "$id" "URI:urn:fieldgate:device:$id" "new:$directory/$id/key.pem" "$directory/$id/cert.pem"
	done >"$STAGE/jobs"
	issue device "$ca" "$ADD_DAYS" <"$STAGE/jobs"
	rm -- "$STAGE/jobs"
	for line in "${ISSUED[@]}"; do
		parse_certificate "$line"
		add_plan_row "$CERT_NAME"
	done
}

# What is to be registered for the certificate that was read last.
add_plan_row() { # ID
	local row
	ADD_UNTIL[$1]=$CERT_NOT_AFTER
	ADD_MANIFEST+=("$CERT_FINGERPRINT $ADD_PLACE/$1")
	printf -v row 'x509\t\\\\x%s\t%s\t%s\t%s\t%s' "$CERT_FINGERPRINT" "$1" "$CERT_SERIAL" \
		"$CERT_NOT_BEFORE" "$CERT_NOT_AFTER"
	ADD_ROWS+=("$row")
}

add_certificate_is_good() { # ID
	local file=$FLEET_DIR/$ADD_PLACE/$1/cert.pem
	[[ -r $file ]] && is_valid "$file" "$FLEET_DIR/device-ca" device || return 1
	read_certificate "$file"
	[[ $CERT_NAME == "$1" ]]
}

# The commit is a line of its own behind everything: a script that is cut short commits nothing.
add_transaction() { # STAGE
	add_transaction_script | run_psql "stage=${1##*/}"
}

add_transaction_script() {
	local id
	cat <<'SQL'
begin;
select pg_advisory_xact_lock(hashtextextended('fieldgate ' || :'stage', 0)) \g /dev/null
copy fieldgate.principal (id, kind, state, policy) from stdin;
SQL
	for id in "${!ADD_NEW[@]}"; do
		printf '%s\t%s\t%s\t%s\n' "$id" "$ADD_KIND" "$ADD_STATE" "$ADD_POLICY"
	done
	cat <<'SQL'
\.
copy fieldgate.credential (kind, fingerprint, principal, serial, not_before, not_after) from stdin;
SQL
	printf '%s\n' "${ADD_ROWS[@]}" '\.' 'commit;'
}

add_recover() { # STAGE
	local registered
	registered=$(add_settle "$1")
	[[ -e $1 ]] || note "an interrupted add was $( ((registered > 0)) && printf completed || printf undone)"
}

# Ask the registry which certificates of the stage it knows; give these their place and remove the others.
# How many it knows goes to stdout. A stage of another database stays. It is called where `set -e` is
# off, too: every step that must not fail says so.
add_settle() { # STAGE
	local staged=$1 manifest known fingerprint place registered=0 places=()
	if [[ -e $staged/manifest ]]; then
		mapfile -t manifest <"$staged/manifest"
		known=$(printf '%s\n' "${manifest[@]:1}" | cut -d' ' -f1 | add_ask "${staged##*/}") || exit 1
		if [[ ${known%%$'\n'*} != "${manifest[0]}" ]]; then
			warn "$staged is what an add with another database has left: run fleet with that" \
				"database, or remove it if that database is gone"
			return 0
		fi
		for place in "${manifest[@]:1}"; do
			fingerprint=${place%% *} place=${place#* }
			[[ $'\n'$known$'\n' == *$'\n'$fingerprint$'\n'* ]] || continue
			registered=$((registered + 1))
			[[ ! -d $staged/$place ]] || places+=("$place")
		done
		((${#places[@]} == 0)) || add_move "$staged" "${places[@]}" || exit 1
	fi
	rm -rf -- "$staged" || exit 1
	printf '%s' "$registered"
}

# The registry's identity, and those of the fingerprints on stdin that it knows.
add_ask() { # STAGE-NAME
	query_rows "stage=$1" "fingerprints=$(paste -sd,)" <<'SQL'
begin;
select pg_advisory_xact_lock(hashtextextended('fieldgate ' || :'stage', 0)) \g /dev/null
select system_identifier || '/' || d.oid
	from pg_control_system(), pg_database d where d.datname = current_database();
select encode(fingerprint, 'hex') from fieldgate.credential where kind = 'x509' and fingerprint in
	(select decode(f, 'hex') from unnest(string_to_array(:'fingerprints', ',')) f);
commit;
SQL
}

# The plain case, many new directories, with one rename each and one start of mv.
add_move() { # STAGE PLACE...
	local staged=$1 place parent=${2%%/*} plain=()
	shift
	mkdir -p -- "$FLEET_DIR/$parent" || return
	require_same_filesystem "$staged" "$FLEET_DIR/$parent"
	for place; do
		if [[ -e $FLEET_DIR/$place ]]; then
			move_into_place "$staged/$place" "$FLEET_DIR/$place" || return
		else
			plain+=("$staged/$place")
		fi
	done
	((${#plain[@]} == 0)) || mv -t "$FLEET_DIR/$parent" -- "${plain[@]}" || return
	sync -- "$FLEET_DIR/$parent"
}
