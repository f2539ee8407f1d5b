# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet ca list: what is in the directory and what is in the registry, one line a CA.

ca_list() {
	(($# == 0)) || usage_error "ca list takes no '$1'"
	local directory line width=4
	CA_LINES=()
	declare -gA CA_REGISTERED=()
	if [[ -n ${FIELDGATE_DATABASE_URL:-} ]]; then
		require_database
		recover_if_idle
		ca_list_read_registry
	else
		note "no database was given: this is what the directory knows"
	fi
	for directory in root device-ca server-ca 'former/*' 'other-ca/*'; do
		ca_list_directory "$directory"
	done
	ca_list_registry_only
	((${#CA_LINES[@]} > 0)) || die "there are no CAs in $FLEET_DIR: run fleet init first, or say with --dir" \
		"where they are"
	for line in "${CA_LINES[@]}"; do
		line=${line%%|*}
		((${#line} <= width)) || width=${#line}
	done
	for line in 'name|kind|state|valid until|key|enrolment|policy|credentials' "${CA_LINES[@]}"; do
		IFS='|' read -ra line <<<"$line"
		printf "%-${width}s  %-9s  %-10s  %-11s  %-14s  %-9s  %-10s  %s\n" "${line[@]}"
	done
}

# Rows by fingerprint; how many credentials of no known issuer there are is not a CA's.
ca_list_read_registry() {
	local answer fingerprint rest
	answer=$(query_rows <<'SQL'
select encode(a.fingerprint, 'hex'), a.name, case when a.retired_at is null then '' else 'retired' end,
	to_char(a.not_after at time zone 'UTC', 'YYYY-MM-DD'), a.enrolment, a.policy,
	(select count(*) from fieldgate.credential c where c.issuer = a.fingerprint and c.revoked_at is null
		and coalesce(c.not_after, 'infinity') > now())
	from fieldgate.authority a order by a.created_at, a.name;
SQL
	)
	[[ -n $answer ]] || return 0
	while IFS='|' read -r fingerprint rest; do
		CA_REGISTERED[$fingerprint]=$rest
	done <<<"$answer"
}

ca_list_directory() { # DIRECTORY-OR-PATTERN
	local place directory key state registered there kind enrolment=- policy=- credentials=-
	# shellcheck disable=SC2231 # a pattern
	for place in "$FLEET_DIR"/$1; do
		[[ -e $place/cert.pem ]] || continue
		directory=${place#"$FLEET_DIR/"}
		read_authority "$directory"
		key=$(authority_key "$directory")
		case $directory in
		former/*) state=former kind=${AUTHORITY_NAME%-*} ;;
		other-ca/*) state=accepted kind=other key=- ;;
		*) state=signs kind=$1 ;;
		esac
		[[ ! -e $place/retired ]] || state=retired
		registered=${CA_REGISTERED[$AUTHORITY_FINGERPRINT]:-}
		if [[ -n $registered ]]; then
			IFS='|' read -r _ there _ enrolment policy credentials <<<"$registered"
			ca_list_compare "$state" "$there"
			unset "CA_REGISTERED[$AUTHORITY_FINGERPRINT]"
		fi
		CA_LINES+=("$AUTHORITY_NAME|$kind|$state|${AUTHORITY_NOT_AFTER%%[ T]*}|$key|$enrolment|$policy|$credentials")
		enrolment=- policy=- credentials=-
	done
}

# Of the CA that was read last: a registry from a backup, or a copy of a directory, may not know that it is retired.
ca_list_compare() { # STATE STATE-IN-REGISTRY
	if [[ $1 == retired && $2 != retired ]]; then
		warn "$AUTHORITY_NAME is retired in $FLEET_DIR and in force in the registry, which may be from a backup:" \
			"fleet ca retire $AUTHORITY_NAME"
	elif [[ $1 != retired && $2 == retired ]]; then
		warn "$AUTHORITY_NAME is retired in the registry and not in $FLEET_DIR, which may be an old copy: take the one" \
			"where it was retired"
	fi
}

# Those of another directory that works with the same registry.
ca_list_registry_only() {
	local fingerprint name state until enrolment policy credentials lines=()
	for fingerprint in "${!CA_REGISTERED[@]}"; do
		IFS='|' read -r name state until enrolment policy credentials <<<"${CA_REGISTERED[$fingerprint]}"
		lines+=("$name|elsewhere|${state:-accepted}|$until|-|$enrolment|$policy|$credentials")
	done
	((${#lines[@]} == 0)) || mapfile -t -O ${#CA_LINES[@]} CA_LINES < <(printf '%s\n' "${lines[@]}" | sort)
}
