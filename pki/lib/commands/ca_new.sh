# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet ca new: the next generation of a CA. A device CA is in the registry before it signs, so the registry
# decides; of the others nobody but the directory knows.

ca_new() {
	local kind='' key='' directories database=- staged errors=''
	while (($# > 0)); do
		case $1 in
		--key)
			need_value "$@"
			check_key_uri "$1" "$2"
			key=$2
			shift
			;;
		-*) usage_error "ca new knows no option '$1'" ;;
		*)
			[[ -z $kind ]] || usage_error "ca new needs one of device-ca, server-ca and root"
			kind=$1
			;;
		esac
		shift
	done
	[[ $kind =~ ^(device-ca|server-ca|root)$ ]] || usage_error "ca new needs one of device-ca, server-ca and root"

	[[ $kind != device-ca ]] || require_database
	lock_directory
	recover_stages init server ca
	[[ -e $FLEET_DIR/$kind/cert.pem ]] ||
		die "there is no $FLEET_DIR/$kind to be succeeded: run fleet init first, or say with --dir where it is"
	new_stage ca
	if [[ $kind == device-ca ]]; then
		database=$(ca_database)
	fi
	staged=${STAGE#"$FLEET_DIR/"}/$kind
	make_authority "$kind" "$(authority_organisation "$kind")" "$key"
	read_authority "$staged"
	complete_stage "$database" "$AUTHORITY_FINGERPRINT" "new $kind"
	if [[ $kind == device-ca ]]; then
		mapfile -t directories < <(device_authorities)
		errors=$(insert_authorities "${STAGE##*/}" '' '' "${directories[@]}" "$staged" 2>&1) || true
	fi
	ca_finish "${errors#fleet: error: }"
	read_authority "$kind"
	say "made: $FLEET_DIR/$kind, $AUTHORITY_NAME, valid until $AUTHORITY_NOT_AFTER"
	"ca_new_${kind/-/_}_advice"
}

ca_new_device_ca_advice() {
	say "It signs from now on; devices of the former one are accepted as before. Servers that trust its root hear" \
		"of it from the registry within 5 s, and need no restart"
	[[ $(wc -l < <(authorities_in_force root)) == 1 ]] || ca_advise_servers
}

ca_new_server_ca_advice() {
	say "Servers get certificates of it with fleet server NAME --renew, which devices accept that trust" \
		"the root in $FLEET_DIR/root; fleet server reads which names"
}

ca_new_root_advice() {
	say "It signs CAs from now on. Before a server has a certificate under it, devices must trust it:"
	say "give them $FLEET_DIR/ca.pem, which holds the former root too (fleet anchors)"
	ca_advise_servers
	say "Keep $FLEET_DIR/root/key.pem offline, as before"
}
