# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet revoke: the device and all its credentials, or one of them, in the registry. Nothing on disk changes: brokers
# read the registry, not a list of revoked certificates. That is for others.

revoke_help() {
	cat <<'HELP'
usage: fleet revoke DEVICE|SERIAL [--reason REASON] [--credential FINGERPRINT] [--crl]

Lock a device out for good: it and all its credentials are refused, and its live connections and sessions
are closed within 5 s. Or, by the serial number of a certificate, that certificate alone: its device stays
active. Revoking again changes nothing.

  SERIAL           hexadecimal, as fleet show prints it or in upper case or with colons. A device of that name
                   comes first
  --credential FINGERPRINT
                   only this credential of the device, which stays active: the fingerprint that fleet show
                   prints, or 8 or more of its first digits
  --reason REASON  unspecified (default), keyCompromise, affiliationChanged, superseded,
                   cessationOfOperation or privilegeWithdrawn (RFC 5280 section 5.3.1)
  --crl            write the lists for third parties too: fleet crl

example: fleet revoke tracker-1 --reason keyCompromise
HELP
}

revoke_main() {
	local id='' reason=unspecified credential='' crl=no
	while (($# > 0)); do
		case $1 in
		--reason)
			need_value "$@"
			reason=$2
			shift
			;;
		--credential)
			need_value "$@"
			credential=${2,,}
			[[ $credential =~ ^[0-9a-f]{8,64}$ ]] ||
				usage_error "--credential needs 8 to 64 hexadecimal digits, as fleet show prints them"
			shift
			;;
		--crl) crl=yes ;;
		--)
			shift
			[[ $# == 1 && -z $id ]] || usage_error "revoke needs one DEVICE"
			id=$1
			;;
		-*) usage_error "revoke knows no option '$1'" ;;
		*)
			[[ -z $id ]] || usage_error "revoke needs one DEVICE"
			id=$1
			;;
		esac
		shift
	done
	[[ -n $id ]] || usage_error "revoke needs a DEVICE"
	check_id "$id"
	case $reason in
	unspecified | keyCompromise | affiliationChanged | superseded | cessationOfOperation | \
		privilegeWithdrawn) ;;
	*) usage_error "'$reason' is no reason: fleet revoke --help lists them" ;;
	esac

	require_database
	recover_if_idle
	revoke_find "$id"
	if [[ -n $credential ]]; then
		revoke_credential "$id" "$credential" "$reason"
	elif [[ -n $REVOKE_SERIAL ]]; then
		revoke_serial "$REVOKE_SERIAL" "$reason"
	else
		revoke_device "$id" "$reason"
	fi
	if [[ $crl == yes ]]; then
		crl_write_all "$CRL_DAYS"
	elif [[ -e $FLEET_DIR/device-ca/cert.pem ]]; then
		note "third parties know it from a list: fleet crl, or --crl here, writes it"
	fi
}

# Is it a device? Its state to PRINCIPAL_STATE. Or else the serial number of a certificate, to REVOKE_SERIAL?
revoke_find() { # DEVICE-OR-SERIAL
	local answer serial=${1//:/} certificates
	REVOKE_SERIAL='' serial=${serial,,}
	[[ $serial =~ ^0*([1-9a-f][0-9a-f]{0,39})$ ]] && serial=${BASH_REMATCH[1]} || serial=
	answer=$(query_rows "id=$1" "serial=$serial" <<'SQL'
select (select state from fieldgate.principal where id = :'id'),
	(select count(*) from fieldgate.credential where kind = 'x509' and ltrim(serial, '0') = :'serial');
SQL
	)
	IFS='|' read -r PRINCIPAL_STATE certificates <<<"$answer"
	if [[ -n $PRINCIPAL_STATE ]]; then
		((certificates == 0)) || note "$1 is a device, and the serial number of a certificate too: the device is meant"
	elif ((certificates > 0)); then
		REVOKE_SERIAL=$serial
	elif [[ -n $serial ]]; then
		die "there is no '$1' in the registry at $DB_URL, neither a device nor the serial number of a certificate:" \
			"fleet list shows who is"
	else
		require_principal "$1"
	fi
}

revoke_device() { # ID REASON
	local certificates
	certificates=$(query_rows "id=$1" "reason=$2" <<'SQL'
begin;
update fieldgate.principal set state = 'revoked' where id = :'id' and state <> 'revoked';
with revoked as (
	update fieldgate.credential set revoked_at = now(), revocation_reason = :'reason'
	where principal = :'id' and revoked_at is null returning 1)
select count(*) from revoked;
commit;
SQL
	)
	if [[ $PRINCIPAL_STATE == revoked && $certificates == 0 ]]; then
		say "$1 was revoked before"
	else
		say "$1 is revoked, and its credentials ($certificates): $2." \
			"Live connections and sessions are closed within 5 s"
	fi
}

# Two authorities may have given the same number: then it does not say which certificate is meant.
revoke_serial() { # SERIAL REASON
	local found id fingerprint serial
	found=$(query_rows "serial=$1" <<'SQL'
select principal, encode(fingerprint, 'hex'), serial from fieldgate.credential
	where kind = 'x509' and ltrim(serial, '0') = :'serial';
SQL
	)
	[[ $found != *$'\n'* ]] || die "several certificates have the serial number $1, say which with fleet revoke" \
		"DEVICE --credential FINGERPRINT: ${found//$'\n'/, }"
	IFS='|' read -r id fingerprint serial <<<"$found"
	note "$serial is a certificate of $id, which stays as it is"
	revoke_credential "$id" "$fingerprint" "$2"
}

# The prefix must mean one credential of this device: then only those that the update finds are revoked.
revoke_credential() { # ID FINGERPRINT-PREFIX REASON
	local found fingerprint kind revoked
	found=$(query_rows "id=$1" "prefix=$2" <<'SQL'
select encode(fingerprint, 'hex'), kind, revoked_at is not null from fieldgate.credential
	where principal = :'id' and starts_with(encode(fingerprint, 'hex'), :'prefix');
SQL
	)
	[[ -n $found ]] || die "$1 has no credential whose fingerprint begins with $2: fleet show $1 lists them"
	[[ $found != *$'\n'* ]] || die "$1 has several credentials that begin with $2: give more digits"
	IFS='|' read -r fingerprint kind revoked <<<"$found"
	if [[ $revoked == t ]]; then
		say "$kind $fingerprint of $1 was revoked before"
		return
	fi
	query_rows "fingerprint=$fingerprint" "kind=$kind" "reason=$3" <<'SQL'
update fieldgate.credential set revoked_at = now(), revocation_reason = :'reason'
	where kind::text = :'kind' and fingerprint = decode(:'fingerprint', 'hex') and revoked_at is null;
SQL
	say "$kind $fingerprint of $1 is revoked: $3. Connections and sessions that it opened are closed within 5 s"
}
