# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# How devices and services come to certificates and rows: what add, batch and renew have in common. The transaction
# in the registry decides: keys and certificates are whole on disk, in a stage, before it, and get their place after
# it. The transaction holds an advisory lock of the stage's name, so whoever asks later whether it was committed, and
# takes that lock first, gets the final answer. README.md goes through the crashes.

readonly TAB=$'\t'

# What is wanted, by id. An empty policy is the usual one, that of the built-in device or none. A request is a file,
# and WANTED_KEY the fingerprint of its key; both are empty for a key that is made here.
declare -A WANTED_REQUEST=() WANTED_KEY=() WANTED_DAYS=() WANTED_STATE=() WANTED_POLICY=() WANTED_NOTE=()
# What the registry knows, by id. KNOWN_UNTIL is the end of the last valid certificate, KNOWN_SERIAL its serial number.
# KNOWN_REVOKED are fingerprints of revoked certificates whose rows were deleted.
declare -A KNOWN_KIND=() KNOWN_STATE=() KNOWN_POLICY=() KNOWN_UNTIL=() KNOWN_SERIAL=() KNOWN_POLICIES=() KNOWN_REVOKED=()
# What was made, by id.
declare -A PROVISIONED_UNTIL=() PROVISIONED_SERIAL=()
PROVISION_KIND=device PROVISION_REVOKE_OLD=no
export PROVISION_FAULT='' KNOWN_UNTIL KNOWN_SERIAL PROVISIONED_SERIAL # the commands read them

want() { # ID DAYS STATE POLICY NOTE
	WANTED_DAYS[$1]=$2 WANTED_STATE[$1]=$3 WANTED_POLICY[$1]=$4 WANTED_NOTE[$1]=$5
}

want_request() { # ID FILE KEY-FINGERPRINT
	WANTED_REQUEST[$1]=$2 WANTED_KEY[$1]=$3
}

# What does the registry say of these? At most 1000, their ids are one argument. A device CA that is retired there, from
# another copy of this directory, signs nothing more: no server would accept it.
provision_ask() { # ID...
	local answer what id rest
	KNOWN_KIND=() KNOWN_STATE=() KNOWN_POLICY=() KNOWN_UNTIL=() KNOWN_SERIAL=() KNOWN_POLICIES=() KNOWN_REVOKED=()
	read_authority device-ca
	answer=$(query_rows "ids=$(IFS=, && printf '%s' "$*")" "authority=$AUTHORITY_FINGERPRINT" <<'SQL'
select 'retired', name from fieldgate.authority
	where fingerprint = decode(:'authority', 'hex') and retired_at is not null;
select 'database', system_identifier || '/' || d.oid
	from pg_control_system(), pg_database d where d.datname = current_database();
select 'policy', name from fieldgate.policy;
select 'revoked', encode(fingerprint, 'hex') from fieldgate.revoked_certificate
	where kind = 'x509' and principal = any (string_to_array(:'ids', ','));
select 'principal', p.id, p.kind, p.state, p.policy,
	case when count(c.*) > 0 then coalesce(
		to_char(max(coalesce(c.not_after, 'infinity')) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'infinity')
	end, (array_agg(c.serial order by c.not_after desc nulls last))[1]
	from fieldgate.principal p left join fieldgate.credential c on c.principal = p.id
		and c.kind in ('x509', 'x509_key') and c.revoked_at is null
		and coalesce(c.not_after, 'infinity') > now()
	where p.id = any (string_to_array(:'ids', ',')) group by p.id;
SQL
	)
	while IFS='|' read -r what id rest; do
		case $what in
		database) PROVISION_DATABASE=$id ;;
		retired) die "$id, which signs here, is retired in the registry: $FLEET_DIR is an old copy. Take the one" \
			"where it was retired (fleet ca list)" ;;
		policy) KNOWN_POLICIES[$id]=yes ;;
		revoked) KNOWN_REVOKED[$id]=yes ;;
		principal)
			IFS='|' read -r "KNOWN_KIND[$id]" "KNOWN_STATE[$id]" "KNOWN_POLICY[$id]" "KNOWN_UNTIL[$id]" \
				"KNOWN_SERIAL[$id]" <<<"$rest"
			;;
		esac
	done <<<"$answer"
}

# Why this id cannot have what is wanted, in words, to PROVISION_FAULT; empty when it can. A revoked one cannot,
# but that may have come to pass since somebody asked for it: it is told apart by KNOWN_STATE.
provision_judge() { # ID
	local policy=${WANTED_POLICY[$1]:-}
	PROVISION_FAULT=
	if [[ -z ${KNOWN_KIND[$1]:-} ]]; then
		[[ -z $policy || -n ${KNOWN_POLICIES[$policy]:-} ]] ||
			PROVISION_FAULT="there is no policy '$policy' in the registry: insert it into fieldgate.policy, \
its rules into fieldgate.policy_rule"
	elif [[ ${KNOWN_KIND[$1]} != "$PROVISION_KIND" ]]; then
		PROVISION_FAULT="$1 is a ${KNOWN_KIND[$1]} already, it cannot be a $PROVISION_KIND too: choose another id"
	elif [[ ${KNOWN_STATE[$1]} == revoked ]]; then
		PROVISION_FAULT="$1 is revoked. To take it back: fleet resume $1, then fleet add $1"
	elif [[ -n $policy && ${KNOWN_POLICY[$1]} != "$policy" ]]; then
		PROVISION_FAULT="$1 exists with policy '${KNOWN_POLICY[$1]}', not '$policy': update fieldgate.principal to change it"
	fi
}

# Certificates and rows for these, all of them or none, in the stage that the caller has made. What the registry
# knows of them is known (provision_ask). With PROVISION_REVOKE_OLD yes the same transaction
# revokes the certificates that they had.
provision() { # ID...
	local errors registered status=0
	provision_make "$@"
	register_authorities
	complete_stage "$PROVISION_DATABASE" "${PROVISION_MANIFEST[@]}"
	errors=$(provision_transaction "$STAGE" 2>&1) || status=$?
	# Whatever psql says: the registry knows. A connection can be lost behind the commit.
	((status == 0)) || errors=$(explain_database_error "$status" "$errors")
	registered=$(provision_settle "$STAGE") || die "${errors:+$errors. }Not finished: the next fleet" \
		"command finds out whether the devices are registered, and completes or removes them"
	((registered > 0)) || die "$errors. Nothing was added"
}

# Keys and certificates into the stage, what is to be registered into PROVISION_MANIFEST and PROVISION_ROWS.
provision_make() { # ID...
	local id days key directories=()
	local -A jobs=()
	PROVISIONED_UNTIL=() PROVISIONED_SERIAL=() PROVISION_MANIFEST=() PROVISION_ROWS=()
	for id; do
		provision_place "$id"
		if [[ -z ${KNOWN_KIND[$id]:-} ]] && provision_is_here "$id"; then
			note "$id has a valid certificate here that the registry does not know: it is registered again"
			provision_enter "$id"
			continue
		fi
		directories+=("$STAGE/$PLACE")
		key=new:$STAGE/$PLACE/key.pem
		[[ -z ${WANTED_REQUEST[$id]:-} ]] || key=csr:${WANTED_REQUEST[$id]}
		printf -v key '%s\t%s\t%s\t%s\n' "$id" "URI:urn:fieldgate:device:$id" "$key" "$STAGE/$PLACE/cert.pem"
		jobs[${WANTED_DAYS[$id]}]+=$key
	done
	((${#directories[@]} == 0)) || mkdir -p -- "${directories[@]}"
	for days in "${!jobs[@]}"; do
		printf %s "${jobs[$days]}" >"$STAGE/jobs"
		issue device "$FLEET_DIR/device-ca" "$days" <"$STAGE/jobs"
		for key in "${ISSUED[@]}"; do
			parse_certificate "$key"
			[[ ${WANTED_KEY[$CERT_NAME]:-$CERT_KEY_FINGERPRINT} == "$CERT_KEY_FINGERPRINT" ]] ||
				die "the request of $CERT_NAME has changed while it was worked on: see who writes to it, and run this again"
			provision_enter "$CERT_NAME"
		done
	done
	rm -f -- "$STAGE/jobs"
}

# Where its files are, below --dir and in a stage, to PLACE.
provision_place() { # ID
	PLACE=${KNOWN_KIND[$1]:-$PROVISION_KIND}s/$1
}

# The certificate that was read last is to be registered for this one.
provision_enter() { # ID
	local row
	provision_place "$1"
	printf -v row 'x509\t\\\\x%s\t%s\t%s\t%s\t%s\t\\\\x%s' "$CERT_FINGERPRINT" "$1" "$CERT_SERIAL" \
		"$CERT_NOT_BEFORE" "$CERT_NOT_AFTER" "$CERT_ISSUER"
	PROVISION_ROWS+=("$row")
	PROVISION_MANIFEST+=("$CERT_FINGERPRINT $PLACE")
	PROVISIONED_SERIAL[$1]=$CERT_SERIAL PROVISIONED_UNTIL[$1]=$CERT_NOT_AFTER
}

# Is there a certificate of it already, valid and not revoked, of one of our CAs, and for the key of the request, if
# there is one?
provision_is_here() { # ID
	local file=$FLEET_DIR/$PLACE/cert.pem authority
	[[ -r $file ]] || return 1
	while IFS= read -r authority; do
		is_valid "$file" "$FLEET_DIR/$authority" device || continue
		read_certificate "$file" "$FLEET_DIR/$authority"
		[[ -z ${KNOWN_REVOKED[$CERT_FINGERPRINT]:-} && $CERT_NAME == "$1" &&
			${WANTED_KEY[$1]:-$CERT_KEY_FINGERPRINT} == "$CERT_KEY_FINGERPRINT" ]]
		return
	done < <(authorities_in_force device-ca)
	return 1
}

# The request of --csr, a file or - for stdin, for this one: into the stage, where it stays as it is while it is
# looked at.
provision_take_request() { # FILE ID
	local file=$STAGE/request name=$1 owner
	if [[ $1 == - ]]; then
		name=stdin
		cat >"$file"
	else
		cat -- "$1" >"$file" || die "the request $1 cannot be read"
	fi
	read_requests <<<"csr:$file"
	[[ ${REQUEST_KEYS[0]} != -* ]] || die "$name is no request that can be signed: ${REQUEST_KEYS[0]#*"$TAB"}"
	read_key_owners
	owner=${KEY_OWNER[${REQUEST_KEYS[0]}]:-$2}
	[[ $owner == "$2" ]] || die "$name is a request for the key of $owner: each device has a key of its own"
	want_request "$2" "$file" "${REQUEST_KEYS[0]}"
}

# The commit is a line of its own behind everything: a script that is cut short commits nothing.
provision_transaction() { # STAGE
	local revoke=''
	[[ $PROVISION_REVOKE_OLD == no ]] || revoke=$(IFS=, && printf '%s' "${!PROVISIONED_UNTIL[*]}")
	provision_transaction_script | run_psql "stage=${1##*/}" "revoke=$revoke"
}

provision_transaction_script() {
	local id note usual=device
	[[ $PROVISION_KIND == device ]] || usual=none
	cat <<'SQL'
begin;
select pg_advisory_xact_lock(hashtextextended('fieldgate ' || :'stage', 0)) \g /dev/null
update fieldgate.credential set revoked_at = now(), revocation_reason = 'superseded'
	where kind = 'x509' and revoked_at is null and :'revoke' <> '' and principal = any (string_to_array(:'revoke', ','));
copy fieldgate.principal (id, kind, state, policy, note) from stdin;
SQL
	for id in "${!PROVISIONED_UNTIL[@]}"; do
		[[ -z ${KNOWN_KIND[$id]:-} ]] || continue
		note=${WANTED_NOTE[$id]:-} note=${note//\\/\\\\}
		note=${note//$'\n'/\\n} note=${note//$'\r'/\\r}
		printf '%s\t%s\t%s\t%s\t%s\n' "$id" "$PROVISION_KIND" "${WANTED_STATE[$id]:-active}" \
			"${WANTED_POLICY[$id]:-$usual}" "${note//$TAB/\\t}"
	done
	cat <<'SQL'
\.
copy fieldgate.credential (kind, fingerprint, principal, serial, not_before, not_after, issuer) from stdin;
SQL
	printf '%s\n' "${PROVISION_ROWS[@]}" '\.' 'commit;'
}

# Ask the registry which certificates of the stage it knows; give these their place and remove the others.
# How many it knows goes to stdout. A stage of another database stays. It is called where `set -e` is
# off, too: every step that must not fail says so.
provision_settle() { # STAGE
	local staged=$1 manifest known fingerprint place registered=0 places=()
	if [[ -e $staged/manifest ]]; then
		mapfile -t manifest <"$staged/manifest"
		known=$(printf '%s\n' "${manifest[@]:1}" | cut -d' ' -f1 | provision_ask_fingerprints "${staged##*/}") || exit 1
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
		((${#places[@]} == 0)) || provision_move "$staged" "${places[@]}" || exit 1
	fi
	rm -rf -- "$staged" || exit 1
	printf '%s' "$registered"
}

# The registry's identity, and those of the fingerprints on stdin that it knows.
provision_ask_fingerprints() { # STAGE-NAME
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

# Directories that are new get their place with one rename each and one start of mv.
provision_move() { # STAGE PLACE...
	local staged=$1 parent place new
	shift
	for parent in devices services; do
		new=()
		for place; do
			[[ $place == "$parent"/* ]] || continue
			if [[ -e $FLEET_DIR/$place ]]; then
				move_into_place "$staged/$place" "$FLEET_DIR/$place" || return
			else
				new+=("$staged/$place")
			fi
		done
		if ((${#new[@]} > 0)); then
			mkdir -p -- "$FLEET_DIR/$parent" || return
			require_same_filesystem "$staged" "$FLEET_DIR/$parent"
			mv -t "$FLEET_DIR/$parent" -- "${new[@]}" || return
		fi
		[[ ! -d $FLEET_DIR/$parent ]] || sync -- "$FLEET_DIR/$parent" || return
	done
}
