# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet init: the root, the device CA, the server CA. Each is a directory that appears whole; a second run
# makes what is missing and touches nothing that is there.

init_help() {
	cat <<'HELP'
usage: fleet init [--name NAME] [--passphrase] [--root-key URI] [--device-ca-key URI] [--server-ca-key URI]

Make the root (20 years), the device CA and the server CA. Run again, it says what exists and makes only
what is missing. Needs no database.

  --name NAME   stands in the certificates of the CAs (Fieldgate): letters, digits, space and _ . -
  --passphrase  encrypt the keys that are files. One passphrase for all of them, asked for at the terminal, or taken
                from FLEET_PASSPHRASE or the first line of the file FLEET_PASSPHRASE_FILE
  --root-key URI, --device-ca-key URI, --server-ca-key URI
                the key of this CA is in hardware: pkcs11:... (RFC 7512), P-256, made there before (pkcs11-tool
                --keypairgen --key-type EC:prime256v1 --label LABEL --id ID, each with an id of its own). Its PIN:
                pin-source in the URI, FLEET_PIN, the first line of the file FLEET_PIN_FILE, or the terminal

example: fleet --dir /srv/fleet-pki init --name 'Harbour buoys'
HELP
}

init_main() {
	local name=Fieldgate name_of_key
	local -A keys=()
	INIT_MADE=no INIT_ENCRYPT=no
	while (($# > 0)); do
		case $1 in
		--name)
			need_value "$@"
			name=$2
			shift
			;;
		--passphrase) INIT_ENCRYPT=yes ;;
		--root-key | --device-ca-key | --server-ca-key)
			need_value "$@"
			check_key_uri "$1" "$2"
			name_of_key=${1#--}
			keys[${name_of_key%-key}]=$2
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
	[[ $INIT_ENCRYPT == no ]] || init_ask_passphrase "${!keys[@]}"
	init_authority root "$name" "${keys[root]:-}"
	init_authority device-ca "$name" "${keys[device-ca]:-}"
	init_authority server-ca "$name" "${keys[server-ca]:-}"
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

# Once for all of the keys: each of them is made, and opened, by a program of its own, which would ask.
init_ask_passphrase() { # KIND-OF-KEY-IN-HARDWARE...
	local kind wanted=no again
	for kind in root device-ca server-ca; do
		[[ -e $FLEET_DIR/$kind || " $* " == *" $kind "* ]] || wanted=yes
	done
	[[ $wanted == yes && -z ${FLEET_PASSPHRASE:-}${FLEET_PASSPHRASE_FILE:-} ]] || return 0
	[[ -t 0 ]] || die "there is no terminal to ask for a passphrase: name a file that holds it with" \
		"FLEET_PASSPHRASE_FILE, or set FLEET_PASSPHRASE"
	IFS= read -rsp 'New passphrase for the keys of the CAs: ' FLEET_PASSPHRASE && printf '\n' >&2
	IFS= read -rsp 'The same again: ' again && printf '\n' >&2
	[[ $FLEET_PASSPHRASE == "$again" ]] || die "the two are not the same"
	[[ -n $again ]] || die "a passphrase is needed"
	export FLEET_PASSPHRASE
}

init_authority() { # DIRECTORY NAME KEY-URI
	local place=$FLEET_DIR/$1

	if [[ -e $place ]]; then
		init_check_authority "$1"
		read_certificate "$place/cert.pem"
		say "exists: $place: $CERT_NAME, valid until $CERT_NOT_AFTER"
		return
	fi
	[[ $1 != root || ! -e $FLEET_DIR/device-ca && ! -e $FLEET_DIR/server-ca ]] ||
		die "$place is gone, but there are CAs that it has signed: put root/cert.pem back from your backup"

	make_authority "$1" "$2" "$3" "$INIT_ENCRYPT"
	sync -- "$STAGE/$1"/* "$STAGE/$1"
	move_into_place "$STAGE/$1" "$place"
	INIT_MADE=yes
	say "made: $place"
}

init_check_authority() { # DIRECTORY
	local faults roots=("$FLEET_DIR"/former/root-*/cert.pem)
	[[ -e ${roots[0]} ]] || roots=()
	[[ -r $FLEET_DIR/$1/cert.pem ]] || die "$FLEET_DIR/$1 has no cert.pem: put it back from your backup"
	cat -- "$FLEET_DIR/root/cert.pem" "${roots[@]}" >"$STAGE/roots.pem"
	faults=$("$CERT_TOOL" verify --purpose ca --trust "$STAGE/roots.pem" -- "$FLEET_DIR/$1/cert.pem" 2>&1) ||
		die "$FLEET_DIR/$1/cert.pem is not signed by $FLEET_DIR/root/cert.pem, or not good:" \
			"${faults#"$FLEET_DIR/$1/cert.pem: "}"
}

init_advice() {
	cat <<ADVICE

Keep safe:
  $FLEET_DIR/$(init_key_file root)
      signs new CAs and nothing else. $(init_root_advice)
      The other commands do not need it.
  $FLEET_DIR/$(init_key_file device-ca), $FLEET_DIR/$(init_key_file server-ca)
      who has them can make devices and servers that the fleet trusts. Back them up encrypted.
Hand out:
  $FLEET_DIR/ca.pem                  to devices: what they trust
  $FLEET_DIR/device-ca-chain.pem     to the broker: its cafile
ADVICE
}

init_key_file() { # DIRECTORY
	if [[ -e $FLEET_DIR/$1/key.uri ]]; then
		printf '%s/key.uri (the key itself is in the token)' "$1"
	else
		printf '%s/key.pem' "$1"
	fi
}

init_root_advice() {
	if [[ -e $FLEET_DIR/root/key.uri ]]; then
		printf 'Keep the token offline, and know how to restore its key.'
	else
		printf 'Move it to a medium that you keep offline, with a copy elsewhere.'
	fi
}
