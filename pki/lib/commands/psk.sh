# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet psk: a pre-shared key for DTLS. It is shown once, on stdout; in the registry it is sealed with the
# master key that the CoAP server has. It is never an argument of a program, which everybody could read.

psk_help() {
	cat <<'HELP'
usage: fleet psk DEVICE [--identity TEXT] [--key-file FILE] [--replace]

Make a pre-shared key (32 random bytes) for a device, over CoAP or MQTT, register it, and show it:
this once. A device that is not registered yet is registered, without a certificate. Run again, it says that
there is one.

  --identity TEXT  what the device calls itself in the handshake (DEVICE): 1 to 128 characters of ASCII
  --key-file FILE  master key that seals it (FIELDGATE_MASTER_KEY when that is set, else
                   FLEET_DIR/master.key, which is made when it is not there). The servers need the
                   same one: secrets.key_file
  --replace        another key for the same identity; the one that the device has is no good any more, and
                   connections and sessions that it opened are closed within 5 s

Shown: two lines, `identity: TEXT` and `key: HEX`. Into an nRF9160 with the modem offline:
  AT%CMNG=0,TAG,4,"TEXT" and AT%CMNG=0,TAG,3,"HEX"

example: fleet psk tracker-1
HELP
}

psk_main() {
	local id='' identity='' key_file='' replace=no
	while (($# > 0)); do
		case $1 in
		--identity)
			need_value "$@"
			identity=$2
			shift
			;;
		--key-file)
			need_value "$@"
			key_file=$2
			shift
			;;
		--replace) replace=yes ;;
		--)
			shift
			[[ $# == 1 && -z $id ]] || usage_error "psk needs one DEVICE"
			id=$1
			;;
		-*) usage_error "psk knows no option '$1' (an id that begins with - goes behind --)" ;;
		*)
			[[ -z $id ]] || usage_error "psk needs one DEVICE"
			id=$1
			;;
		esac
		shift
	done
	[[ -n $id ]] || usage_error "psk needs a DEVICE"
	check_id "$id"
	identity=${identity:-$id}
	check_identity "$identity"

	require_openssl
	require_database
	find_secret_tool
	psk_make "$id" "$identity" "$replace" "$key_file"
}

check_identity() {
	[[ $1 =~ ^[[:print:]]{1,128}$ ]] ||
		usage_error "--identity needs 1 to 128 printable characters of ASCII"
}

psk_make() { # ID IDENTITY REPLACE KEY-FILE
	local id=$1 identity=$2 replace=$3 key_file=$4 fingerprint key sealed written
	fingerprint=$(printf %s "$identity" | sha256sum)
	fingerprint=${fingerprint%% *}
	read_credential "$id" psk "$fingerprint"
	[[ -z $CREDENTIAL_OWNER || $CREDENTIAL_OWNER == "$id" ]] ||
		die "the identity '$identity' belongs to $CREDENTIAL_OWNER: choose another one with --identity"
	if [[ $CREDENTIAL_REVOKED == no && $replace == no ]]; then
		say "exists: a key of $id for the identity $identity. It was shown when it was made;" \
			"--replace makes another one"
		return
	fi
	[[ $CREDENTIAL_REVOKED != yes ]] || replace=yes

	psk_key_file "$key_file"
	key=$(openssl rand -hex 32) || die "openssl could not make a key"
	sealed=$(printf %s "$key" |
		"$SECRET_TOOL" seal "$MASTER_KEY_FILE" psk "$fingerprint" "$id" 2>&1) ||
		die "the key could not be sealed: ${sealed#fieldgate-secret: }"
	written=$(write_credential "$id" psk "$fingerprint" "$sealed" "$replace") ||
		die "No key was shown. Should fleet psk say now that there is one, --replace makes another"
	((written == 1)) ||
		die "somebody else has registered the identity '$identity' in this moment: fleet psk again"
	note "added a pre-shared key of $id. It is not shown again: put it into the device now"
	say "identity: $identity"
	say "key: $key"
}

# Where the master keys are, as fieldgate-secret wants it, to MASTER_KEY_FILE: - is FIELDGATE_MASTER_KEY.
master_key_file() { # KEY-FILE
	MASTER_KEY_FILE=${1:-$FLEET_DIR/master.key}
	[[ -n $1 || -z ${FIELDGATE_MASTER_KEY:-} ]] || MASTER_KEY_FILE=-
}

# Nobody changes master keys between here and the row that is sealed with one: fleet rekey says which are not needed
# any more. A key file of one's own may be used without a directory.
lock_master_keys() {
	[[ ! -w $FLEET_DIR ]] || lock_directory
}

# Where they are, as master_key_file says; the one of this directory is made when it is not there.
psk_key_file() { # KEY-FILE
	local file=$FLEET_DIR/master.key
	master_key_file "$1"
	[[ -n $1 || $MASTER_KEY_FILE == - ]] || mkdir -p -- "$FLEET_DIR"
	lock_master_keys
	[[ -z $1 && $MASTER_KEY_FILE != - ]] || return 0
	[[ ! -e $file ]] || return 0
	"$SECRET_TOOL" make-key "$file" || die "$file could not be made"
	note "made $file, which seals pre-shared keys: the CoAP server needs it as secrets.key_file." \
		"Without it they are lost, so keep a copy elsewhere"
}

find_secret_tool() {
	SECRET_TOOL=$(find_tool fieldgate-secret tools "seals keys")
}
