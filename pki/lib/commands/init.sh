# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet init: the root, the device CA, the server CA. Each is a directory that appears whole; a second run
# makes what is missing and touches nothing that is there.

init_help() {
	cat <<'HELP'
usage: fleet init [--name NAME]

Make the root (20 years), the device CA and the server CA. Run again, it says what exists and makes only
what is missing. Needs no database.

  --name NAME   stands in the certificates of the CAs (Fieldgate): letters, digits, space and _ . -

example: fleet --dir /srv/fleet-pki init --name 'Harbour buoys'
HELP
}

init_main() {
	local name=Fieldgate
	INIT_MADE=no
	while (($# > 0)); do
		case $1 in
		--name)
			need_value "$@"
			name=$2
			shift
			;;
		*) usage_error "init takes no '$1'" ;;
		esac
		shift
	done
	[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9_.\ -]{0,39}$ ]] ||
		usage_error "--name must be 1 to 40 letters, digits, spaces and _ . -"

	find_cert_tool
	mkdir -p -- "$FLEET_DIR"
	lock_directory
	recover_stages init server ca
	new_stage init
	init_authority root "$name"
	init_authority device-ca "$name"
	init_authority server-ca "$name"
	write_bundles "$STAGE"
	((${#BUNDLES_CHANGED[@]} == 0)) || printf 'made: %s\n' "${BUNDLES_CHANGED[@]}"
	mkdir -p -- "$FLEET_DIR"/{devices,services,servers}
	sync -- "$FLEET_DIR"
	[[ $INIT_MADE == no ]] || init_advice
}

# A stage of init holds nothing that anybody has seen.
init_recover() { # STAGE
	rm -rf -- "$1"
}

init_authority() { # DIRECTORY NAME
	local place=$FLEET_DIR/$1

	if [[ -e $place ]]; then
		init_check_authority "$1"
		read_certificate "$place/cert.pem"
		say "exists: $place: $CERT_NAME, valid until $CERT_NOT_AFTER"
		return
	fi
	[[ $1 != root || ! -e $FLEET_DIR/device-ca && ! -e $FLEET_DIR/server-ca ]] ||
		die "$place is gone, but there are CAs that it has signed: put root/cert.pem back from your backup"

	make_authority "$1" "$2"
	sync -- "$STAGE/$1"/* "$STAGE/$1"
	move_into_place "$STAGE/$1" "$place"
	INIT_MADE=yes
	say "made: $place"
}

init_check_authority() { # DIRECTORY
	local faults
	[[ -r $FLEET_DIR/$1/cert.pem ]] || die "$FLEET_DIR/$1 has no cert.pem: put it back from your backup"
	cat -- "$FLEET_DIR/root/cert.pem" "$FLEET_DIR"/former/root-*/cert.pem >"$STAGE/roots.pem" 2>/dev/null || true
	faults=$("$CERT_TOOL" verify --purpose ca --trust "$STAGE/roots.pem" -- "$FLEET_DIR/$1/cert.pem" 2>&1) ||
		die "$FLEET_DIR/$1/cert.pem is not signed by $FLEET_DIR/root/cert.pem, or not good:" \
			"${faults#"$FLEET_DIR/$1/cert.pem: "}"
}

init_advice() {
	cat <<ADVICE

Keep safe:
  $FLEET_DIR/root/key.pem
      signs new CAs and nothing else. Move it to a medium that you keep offline, with a copy elsewhere;
      the other commands do not need it.
  $FLEET_DIR/device-ca/key.pem, $FLEET_DIR/server-ca/key.pem
      who has them can make devices and servers that the fleet trusts. Back them up encrypted.
Hand out:
  $FLEET_DIR/ca.pem                  to devices: what they trust
  $FLEET_DIR/device-ca-chain.pem     to the broker: its cafile
ADVICE
}
