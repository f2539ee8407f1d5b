# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet renew: another certificate beside the one that a device has. Both are good until the old one ends or is
# revoked, so that a device may take the new one over when it can.

renew_help() {
	cat <<'HELP'
usage: fleet renew DEVICE... [--csr FILE] [--days N] [--new-key] [--revoke-old]

Make a new certificate for each device (or service), all of them or none. The old one stays good until it ends,
so that a device that is asleep is not locked out; once the new one is in the device, revoke the old one by its
serial number. At most 1000 in one call.

  --csr FILE    for the key of a request, as fleet add --csr: for one DEVICE whose key is not here
  --days N      valid for N days (3650)
  --new-key     make a key here even where there is none: where it was removed because it is in the device
  --revoke-old  the certificates that it had are revoked in the same moment, as superseded

Made: devices/DEVICE/key.pem and cert.pem; with --csr cert.pem alone. What was there is under old/.

example: fleet renew tracker-1 tracker-2 --days 400
HELP
}

renew_main() {
	local ids=() id request='' days=$ADD_DEFAULT_DAYS new_key=no
	while (($# > 0)); do
		case $1 in
		--csr)
			need_value "$@"
			request=$2
			shift
			;;
		--days)
			need_value "$@"
			check_days "$2"
			days=$2
			shift
			;;
		--new-key) new_key=yes ;;
		--revoke-old) PROVISION_REVOKE_OLD=yes ;;
		--)
			shift
			ids+=("$@")
			break
			;;
		-*) usage_error "renew knows no option '$1' (an id that begins with - goes behind --)" ;;
		*) ids+=("$1") ;;
		esac
		shift
	done
	take_ids renew "${ids[@]}"
	set -- "${IDS[@]}"
	[[ -z $request || $# == 1 ]] || usage_error "--csr is the request of one DEVICE"
	[[ -z $request || $new_key == no ]] || usage_error "either --csr or --new-key"

	find_cert_tool
	require_database
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	require_ca device-ca
	new_stage add
	[[ -z $request ]] || provision_take_request "$request" "$1"
	provision_ask "$@"
	for id; do
		want "$id" "$days" '' '' ''
		renew_judge "$id" "$new_key"
	done
	renew_old "$@"
	provision "$@"
	renew_say "$@"
}

renew_judge() { # ID NEW-KEY
	[[ -n ${KNOWN_KIND[$1]:-} ]] ||
		die "there is no '$1' in the registry at $DB_URL: fleet add makes one. Nothing was renewed"
	[[ ${KNOWN_STATE[$1]} != revoked ]] ||
		die "$1 is revoked. To take it back: fleet resume $1, then fleet add $1. Nothing was renewed"
	provision_place "$1"
	[[ -n ${WANTED_REQUEST[$1]:-} || $2 == yes || -e $FLEET_DIR/$PLACE/key.pem ]] ||
		die "the key of $1 is not here: give --csr FILE if it is in the device, or --new-key to make another one." \
			"Nothing was renewed"
}

# The certificates that they have, to RENEW_OLD: by id, lines of serial number and end.
renew_old() { # ID...
	local answer id serial
	declare -gA RENEW_OLD=()
	answer=$(query_rows "ids=$(IFS=, && printf '%s' "$*")" <<'SQL'
select principal, serial || ' ' || to_char(not_after at time zone 'UTC', 'YYYY-MM-DD') from fieldgate.credential
	where kind = 'x509' and revoked_at is null and not_after > now()
		and principal = any (string_to_array(:'ids', ','))
	order by not_after desc;
SQL
	)
	while IFS='|' read -r id serial; do
		[[ -z $serial ]] || RENEW_OLD[$id]+=$serial$'\n'
	done <<<"$answer"
}

renew_say() { # ID...
	local id serial until
	for id; do
		provision_place "$id"
		say "renewed $id: $FLEET_DIR/$PLACE/, valid until ${PROVISIONED_UNTIL[$id]}"
		while read -r serial until; do
			if [[ -z $serial ]]; then
				continue
			elif [[ $PROVISION_REVOKE_OLD == yes ]]; then
				say "    $serial is revoked"
			else
				say "    $serial stays good until $until; when the new one is in the device:" \
					"fleet revoke $serial --reason superseded"
			fi
		done <<<"${RENEW_OLD[$id]:-}"
	done
}
