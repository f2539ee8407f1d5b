# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet modem: a modem makes its own key, and is given a certificate for it and what it is to trust; or it is given a
# pre-shared key. fieldgate-modem talks to it, one step a call. From before the first deletion to the end there
# is a file modem/DEVICE: as long as it is there, nobody knows what is in the modem, and a further run
# starts from the beginning, with a new key. README.md goes through the steps.

readonly MODEM_TAG=16842753 MODEM_TAG_MAX=2147483647 MODEM_CONTENT_MAX=4096

modem_help() {
	cat <<'HELP'
usage: fleet modem PORT DEVICE [--tag N] [--policy NAME] [--days N] [--keep] [--baud N]
       fleet modem PORT DEVICE --psk [--identity TEXT] [--key-file FILE] [--tag N] [--policy NAME] [--baud N]

Provision the nRF91 modem at a serial port, by AT commands: it makes a key that never leaves it, and gets a
certificate for that key, and the CAs that it is to trust; the device is registered. What was in the tag is
deleted, and the certificates that the device had are revoked: their key is gone. The board must take AT
commands (Nordic's at_client or Serial LTE Modem), and the modem stays offline. Interrupted, run it again.

  --tag N          the security tag that the firmware uses (16842753, Nordic's usual one)
  --policy NAME    what the device may do (device)
  --days N         certificate valid for N days (3650)
  --keep           the certificates that the device had stay valid: their keys are in another tag
  --psk            no certificate but a pre-shared key, for CoAP: nobody sees it, and it is sealed in the
                   registry as with fleet psk, which also explains --identity and --key-file
  --baud N         speed of the port (115200)

example: fleet modem /dev/ttyACM0 tracker-1
HELP
}

modem_main() {
	local arguments=() psk=no
	MODEM_TAG_USED=$MODEM_TAG MODEM_BAUD=115200 MODEM_POLICY='' MODEM_DAYS='' MODEM_KEEP=no MODEM_IDENTITY=''
	MODEM_KEY_FILE=''
	while (($# > 0)); do
		case $1 in
		--psk) psk=yes ;;
		--keep) MODEM_KEEP=yes ;;
		--tag | --baud | --policy | --days | --identity | --key-file)
			need_value "$@"
			modem_option "$1" "$2"
			shift
			;;
		--)
			shift
			arguments+=("$@")
			break
			;;
		-*) usage_error "modem knows no option '$1' (an id that begins with - goes behind --)" ;;
		*) arguments+=("$1") ;;
		esac
		shift
	done
	((${#arguments[@]} == 2)) || usage_error "modem needs a PORT and a DEVICE"
	MODEM_PORT=${arguments[0]} MODEM_ID=${arguments[1]} MODEM_UNFINISHED=no
	check_id "$MODEM_ID"
	if [[ $psk == yes ]]; then
		[[ -z $MODEM_DAYS && $MODEM_KEEP == no ]] || usage_error "--days and --keep are for certificates"
	else
		[[ -z $MODEM_IDENTITY$MODEM_KEY_FILE ]] || usage_error "--identity and --key-file go with --psk"
	fi

	require_database
	MODEM_TOOL=$(find_tool fieldgate-modem pki "talks to modems")
	if [[ $psk == yes ]]; then
		modem_psk
	else
		modem_certificate
	fi
	say "The modem stays offline: reset the board, or AT+CFUN=1"
}

modem_option() { # OPTION VALUE
	case $1 in
	--tag)
		[[ $2 =~ ^(0|[1-9][0-9]{0,9})$ && $2 -le $MODEM_TAG_MAX ]] ||
			usage_error "--tag needs a number from 0 to $MODEM_TAG_MAX, not '$2'"
		MODEM_TAG_USED=$2
		;;
	--baud)
		[[ $2 =~ ^[1-9][0-9]{3,6}$ ]] || usage_error "--baud needs a number such as 115200, not '$2'"
		MODEM_BAUD=$2
		;;
	--policy)
		check_policy_name "$2"
		MODEM_POLICY=$2
		;;
	--days)
		check_days "$2"
		MODEM_DAYS=$2
		;;
	--identity)
		check_identity "$2"
		MODEM_IDENTITY=$2
		;;
	--key-file) MODEM_KEY_FILE=$2 ;;
	esac
}

# --- certificate ---

modem_certificate() {
	local answer
	find_cert_tool
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	require_ca device-ca
	modem_check_bundle
	provision_ask "$MODEM_ID"
	modem_want ''
	provision_judge "$MODEM_ID"
	[[ -z $PROVISION_FAULT ]] || die "$PROVISION_FAULT"

	modem_take_offline
	new_stage add
	trap modem_abandon EXIT
	modem_begin
	modem_do delete "$MODEM_TAG_USED" 0 1 2
	modem_do keygen "$MODEM_TAG_USED" >"$STAGE/keygen"
	provision_take_request "$STAGE/keygen" "$MODEM_ID"
	modem_want "modem with IMEI ${MODEM_IMEI:-unknown}"
	# shellcheck disable=SC2034 # provision reads it
	[[ $MODEM_KEEP == yes ]] || PROVISION_REVOKE_OLD=yes
	provision "$MODEM_ID"

	modem_do write "$MODEM_TAG_USED" 0 <"$FLEET_DIR/ca.pem"
	modem_do write "$MODEM_TAG_USED" 1 <"$FLEET_DIR/devices/$MODEM_ID/cert.pem"
	answer=$(modem_do list "$MODEM_TAG_USED" | cut -f1 | sort -n | paste -sd,)
	[[ ,$answer, == *,0,1,2,* ]] || die "the modem lists the types $answer in tag $MODEM_TAG_USED, and not" \
		"CA (0), certificate (1) and private key (2): run this again"
	modem_end
	say "provisioned $MODEM_ID: certificate ${PROVISIONED_SERIAL[$MODEM_ID]}, valid until" \
		"${PROVISIONED_UNTIL[$MODEM_ID]}, in tag $MODEM_TAG_USED. Its key was made in the modem and is nowhere else"
}

modem_want() { # NOTE
	want "$MODEM_ID" "${MODEM_DAYS:-$ADD_DEFAULT_DAYS}" active "$MODEM_POLICY" "$1"
}

# Before anything is deleted: what a modem would not take.
modem_check_bundle() {
	local file=$FLEET_DIR/ca.pem
	[[ -r $file ]] || die "$file is not there, which the modem is to trust: run fleet init"
	(($(stat -Lc %s -- "$file") <= MODEM_CONTENT_MAX)) || die "$file is longer than the $MODEM_CONTENT_MAX" \
		"bytes that a modem takes: remove the roots that no server needs any more"
}

# --- pre-shared key ---

# The key goes through pipes only, and from here to fieldgate-secret and to the modem. Which of the registry and the modem
# is written first is of no consequence: between the two the device cannot connect, and modem/DEVICE says so.
modem_psk() {
	local identity=${MODEM_IDENTITY:-$MODEM_ID} fingerprint key sealed written
	require_openssl
	find_secret_tool
	psk_key_file "$MODEM_KEY_FILE"
	mkdir -p -- "$FLEET_DIR"
	[[ -n ${FLEET_LOCK:-} ]] || lock_directory
	fingerprint=$(printf %s "$identity" | sha256sum)
	fingerprint=${fingerprint%% *}
	credential_for "$MODEM_POLICY" ''
	read_credential "$MODEM_ID" psk "$fingerprint"
	[[ -z $CREDENTIAL_OWNER || $CREDENTIAL_OWNER == "$MODEM_ID" ]] ||
		die "the identity '$identity' belongs to $CREDENTIAL_OWNER: choose another one with --identity"
	key=$(openssl rand -hex 32) || die "openssl could not make a key"
	sealed=$(printf %s "$key" |
		"$SECRET_TOOL" seal "$MASTER_KEY_FILE" psk "$fingerprint" "$MODEM_ID" 2>&1) ||
		die "the key could not be sealed: ${sealed#fieldgate-secret: }"

	modem_take_offline
	trap modem_abandon EXIT
	modem_begin
	modem_do delete "$MODEM_TAG_USED" 3 4
	printf %s "$identity" | modem_do write "$MODEM_TAG_USED" 4
	printf %s "$key" | modem_do write "$MODEM_TAG_USED" 3
	written=$(write_credential "$MODEM_ID" psk "$fingerprint" "$sealed" yes)
	((written == 1)) ||
		die "somebody else has registered the identity '$identity' in this moment: run this again"
	modem_end
	say "provisioned $MODEM_ID: a pre-shared key for the identity $identity, in tag $MODEM_TAG_USED." \
		"It is in the modem and, sealed, in the registry"
}

# --- the modem ---

# One step of fieldgate-modem, whose output goes to stdout; what fails ends the command.
modem_do() { # ARGUMENT...
	local errors status=0
	{ errors=$("$MODEM_TOOL" --baud "$MODEM_BAUD" "$MODEM_PORT" "$@" 2>&1 >&3) || status=$?; } 3>&1
	((status == 0)) || die "${errors#fieldgate-modem: }"
	[[ -z $errors ]] || warn "$errors"
}

# Is there a modem? Until here nothing of it has changed.
modem_take_offline() {
	local answer what value firmware='' imei='' mode=''
	answer=$(modem_do check)
	while IFS=$'\t' read -r what value; do
		case $what in
		firmware) firmware=$value ;;
		imei) imei=$value ;;
		mode) mode=$value ;;
		esac
	done <<<"$answer"
	say "modem at $MODEM_PORT: $firmware, IMEI ${imei:-unknown}$([[ $mode != 1 ]] || printf ', online: it goes offline now')"
	MODEM_IMEI=$imei
	modem_do offline
	modem_check_owner
}

# Is it that of another device, whose key would be gone? A modem lists the SHA-256 of what it was given: of the file of a
# certificate, and of an identity, which is the fingerprint of its pre-shared key.
modem_check_owner() {
	local answer type sha file certificate='' identity='' owner
	answer=$(modem_do list "$MODEM_TAG_USED")
	while IFS=$TAB read -r type sha; do
		[[ $sha =~ ^[0-9A-Fa-f]{64}$ ]] || continue
		case $type in
		1) certificate=${sha,,} ;;
		4) identity=${sha,,} ;;
		esac
	done <<<"$answer"
	if [[ -n $certificate ]]; then
		file=$(modem_find_file "$certificate")
		certificate=
		if [[ -n $file ]]; then
			[[ -n ${CERT_TOOL:-} ]] || find_cert_tool
			read_certificate "$file"
			certificate=$CERT_FINGERPRINT
		fi
	fi
	owner=$(query_rows "id=$MODEM_ID" "certificate=$certificate" "identity=$identity" <<'SQL'
select min(c.principal) from fieldgate.credential c join fieldgate.principal p on p.id = c.principal
	where c.principal <> :'id' and c.revoked_at is null and p.state <> 'revoked'
		and (c.kind = 'x509' and c.fingerprint = decode(:'certificate', 'hex')
			or c.kind = 'psk' and c.fingerprint = decode(:'identity', 'hex'));
SQL
	)
	[[ -z $owner ]] || die "the modem at $MODEM_PORT has in tag $MODEM_TAG_USED what $owner connects with, and has kept it:" \
		"is this the right port? If it is to be $MODEM_ID from now on: fleet revoke $owner first, or another --tag"
}

# The certificate in the directory whose file has this SHA-256.
modem_find_file() { # SHA256
	printf '%s\0' "$FLEET_DIR"/devices/*/cert.pem | xargs -0 sha256sum -- 2>/dev/null |
		sed -n "s/^$1  //p" || true
}

# From here on the device cannot connect before modem_end.
modem_begin() {
	mkdir -p -- "$FLEET_DIR/modem"
	[[ ! -e $FLEET_DIR/modem/$MODEM_ID ]] ||
		note "an earlier run for $MODEM_ID was interrupted: it is done again, with a new key"
	printf 'IMEI %s, tag %s, at %s\n' "${MODEM_IMEI:-unknown}" "$MODEM_TAG_USED" "$MODEM_PORT" \
		>"$FLEET_DIR/modem/$MODEM_ID"
	sync -- "$FLEET_DIR/modem/$MODEM_ID" "$FLEET_DIR/modem" "$FLEET_DIR"
	MODEM_UNFINISHED=yes
}

modem_end() {
	rm -f -- "$FLEET_DIR/modem/$MODEM_ID"
	MODEM_UNFINISHED=no
}

# On every exit.
modem_abandon() {
	abandon_stage
	[[ $MODEM_UNFINISHED == no ]] ||
		note "$MODEM_ID is not provisioned and cannot connect: run fleet modem again"
}

# For commands that only ask: which devices were left in the middle?
modem_tell_unfinished() {
	local file
	for file in "$FLEET_DIR"/modem/*; do
		[[ ! -f $file ]] || warn "${file##*/} cannot connect: fleet modem was interrupted ($(<"$file"))," \
			"and the key of its certificate may be gone. Run it again"
	done
}
