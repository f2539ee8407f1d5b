# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet revoke: the device and all its credentials, in the registry. Nothing on disk changes: brokers read
# the registry, not a list of revoked certificates.

revoke_help() {
	cat <<'HELP'
usage: fleet revoke DEVICE [--reason REASON] [--credential FINGERPRINT]

Lock a device out for good: it and all its credentials are refused, and its live connections and sessions
are closed within 5 s. Revoking again changes nothing.

  --credential FINGERPRINT
                   only this credential of the device, which stays active: the fingerprint that fleet show
                   prints, or 8 or more of its first digits
  --reason REASON  unspecified (default), keyCompromise, affiliationChanged, superseded,
                   cessationOfOperation or privilegeWithdrawn (RFC 5280 section 5.3.1)

example: fleet revoke tracker-1 --reason keyCompromise
HELP
}

revoke_main() {
	local id='' reason=unspecified credential='' certificates
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
	require_principal "$id"
	if [[ -n $credential ]]; then
		revoke_credential "$id" "$credential" "$reason"
		return
	fi
	certificates=$(query_rows "id=$id" "reason=$reason" <<'SQL'
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
		say "$id was revoked before"
	else
		say "$id is revoked, and its credentials ($certificates): $reason." \
			"Live connections and sessions are closed within 5 s"
	fi
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
