# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet add: devices with key, certificate and rows, all of them or none (lib/provision.sh). Or one device with a
# credential that is no certificate: what fleet psk and fleet jwt-key do.

readonly ADD_DEFAULT_DAYS=3650

add_help() {
	cat <<'HELP'
usage: fleet add DEVICE... [--service] [--policy NAME] [--state pending|active] [--days N]
       fleet add DEVICE --csr FILE [...]
       fleet add DEVICE --psk
       fleet add DEVICE --jwt-key FILE

Make key and certificate of each device and register it: all of them or none. A device that is registered
with a valid certificate stays as it is. A valid certificate in the directory that the registry does not
know (after it was lost, say) is registered again. At most 1000 in one call; many in one call are faster, and
fleet batch takes a list.

  --csr FILE     certificate for the key of a request: PEM, DER, or what a modem answers to AT%KEYGEN; - for
                 stdin. The key stays in the device; of the request only the key counts
  --psk          no certificate but a pre-shared key: as fleet psk DEVICE
  --jwt-key FILE no certificate but the public key of its tokens: as fleet jwt-key DEVICE FILE
  --service      not devices but services: a dashboard, a backend. Kept under services/
  --policy NAME  what they may do (device; for services: none)
  --state STATE  active, or pending: registered, but not let in before fleet approve
  --days N       valid for N days (3650)

Made: devices/DEVICE/key.pem and cert.pem; with --csr cert.pem alone. The key is the device's secret: remove it
here once it is in the device. An id that begins with - goes behind --.

example: fleet add tracker-1 tracker-2 --policy device
HELP
}

add_main() {
	local ids=()
	PROVISION_KIND=device ADD_POLICY='' ADD_STATE='' ADD_DAYS='' ADD_REQUEST='' ADD_OTHER='' ADD_JWT_KEY=''
	while (($# > 0)); do
		case $1 in
		--service) PROVISION_KIND=service ;;
		--csr)
			need_value "$@"
			ADD_REQUEST=$2
			shift
			;;
		--psk) ADD_OTHER+=psk ;;
		--jwt-key)
			need_value "$@"
			ADD_OTHER+=jwt ADD_JWT_KEY=$2
			shift
			;;
		--policy)
			need_value "$@"
			check_policy_name "$2"
			ADD_POLICY=$2
			shift
			;;
		--state)
			need_value "$@"
			check_new_state --state "$2"
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
	take_ids add "${ids[@]}"
	set -- "${IDS[@]}"
	if [[ -n $ADD_OTHER ]]; then
		add_other "$@"
		return
	fi
	[[ -z $ADD_REQUEST || $# == 1 ]] || usage_error "--csr is the request of one DEVICE; fleet batch takes a list"

	find_cert_tool
	require_database
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	require_ca device-ca
	new_stage add
	[[ -z $ADD_REQUEST ]] || provision_take_request "$ADD_REQUEST" "$1"
	add_all "$@"
}

# One credential that is no certificate; the commands of these names do it.
add_other() { # ID
	(($# == 1)) || usage_error "--psk and --jwt-key are for one DEVICE"
	[[ $ADD_OTHER == psk || $ADD_OTHER == jwt ]] ||
		usage_error "add takes one of --csr, --psk and --jwt-key at a time: run it again for another credential"
	[[ -z $ADD_REQUEST$ADD_DAYS && $PROVISION_KIND == device ]] ||
		usage_error "--psk and --jwt-key go with --policy and --state only"
	credential_for "$ADD_POLICY" "$ADD_STATE"
	case $ADD_OTHER in
	psk) psk_main -- "$1" ;;
	jwt) jwt_key_main -- "$1" "$ADD_JWT_KEY" ;;
	esac
}

add_all() { # ID...
	local id wanted=() pending=no
	provision_ask "$@"
	for id; do
		want "$id" "${ADD_DAYS:-$ADD_DEFAULT_DAYS}" "${ADD_STATE:-active}" "$ADD_POLICY" ''
		provision_judge "$id"
		[[ -z $PROVISION_FAULT ]] || die "$PROVISION_FAULT"
		if [[ -n ${KNOWN_UNTIL[$id]:-} ]]; then
			say "exists: $id, ${KNOWN_STATE[$id]}, certificate valid until ${KNOWN_UNTIL[$id]%T*}"
			add_compare_request "$id"
		else
			wanted+=("$id")
		fi
	done
	((${#wanted[@]} > 0)) || return 0
	provision "${wanted[@]}"
	for id in "${wanted[@]}"; do
		say "added $id: $FLEET_DIR/${PROVISION_KIND}s/$id/, valid until ${PROVISIONED_UNTIL[$id]}"
		[[ ${KNOWN_STATE[$id]:-$ADD_STATE} != pending ]] || pending=yes
	done
	if [[ $pending == yes ]]; then
		note "pending devices are not let in: fleet approve DEVICE when they may be"
	elif [[ $PROVISION_KIND == service && ${ADD_POLICY:-none} == none ]]; then
		note "the policy none lets a service in, but allows it nothing: give it one of its own"
	fi
}

# A request for a device that has a certificate changes nothing. Is it at least of the same key?
add_compare_request() { # ID
	local file=$FLEET_DIR/${PROVISION_KIND}s/$1/cert.pem
	[[ -n ${WANTED_KEY[$1]:-} && -r $file ]] || return 0
	read_certificate "$file"
	[[ $CERT_KEY_FINGERPRINT == "${WANTED_KEY[$1]}" ]] ||
		warn "the request is of another key than that certificate: fleet renew $1 --csr $ADD_REQUEST" \
			"makes one for it"
}

add_recover() { # STAGE
	local registered
	registered=$(provision_settle "$1")
	[[ -e $1 ]] || note "an interrupted command was $( ((registered > 0)) && printf completed || printf undone)"
}
