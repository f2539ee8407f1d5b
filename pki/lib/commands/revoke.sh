# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet revoke: the device and all its credentials, in the registry. Nothing on disk changes: brokers read
# the registry, not a list of revoked certificates.

revoke_help() {
	cat <<'HELP'
usage: fleet revoke DEVICE [--reason REASON]

Lock a device out for good: it and all its credentials are refused, and its live connections are closed
within 5 s by the broker's plugin. Revoking again changes nothing.

  --reason REASON  unspecified (default), keyCompromise, affiliationChanged, superseded,
                   cessationOfOperation or privilegeWithdrawn (RFC 5280 section 5.3.1)

example: fleet revoke tracker-1 --reason keyCompromise
HELP
}

revoke_main() {
	local id='' reason=unspecified certificates
	while (($# > 0)); do
		case $1 in
		--reason)
			need_value "$@"
			reason=$2
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
			"Live connections are closed within 5 s by the broker's plugin"
	fi
}
