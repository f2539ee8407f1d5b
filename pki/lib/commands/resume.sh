# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet resume: let in again what was suspended, pending, or even revoked. Revoked credentials stay so.

resume_help() {
	cat <<'HELP'
usage: fleet resume DEVICE

Let a pending, suspended or revoked device in (again). Revoked credentials stay revoked: after a revoke, fleet
add DEVICE makes a new certificate, fleet psk and fleet jwt-key register new keys.

example: fleet resume tracker-1
HELP
}

resume_main() {
	[[ ${1:-} != -- ]] || shift
	(($# == 1)) || usage_error "resume needs one DEVICE"
	check_id "$1"
	require_database
	recover_if_idle
	require_principal "$1"
	case $PRINCIPAL_STATE in
	active) say "$1 was active before" && return ;;
	esac
	set_principal_state "$1" active
	say "$1 is active: it may connect within 5 s"
	if [[ $PRINCIPAL_STATE == revoked ]]; then
		note "its credentials stay revoked: fleet add $1 makes a new certificate; see also fleet psk, jwt-key"
	fi
}
