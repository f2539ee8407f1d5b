# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet suspend: out for now. The credentials stay as they are.

suspend_help() {
	cat <<'HELP'
usage: fleet suspend DEVICE

Lock a device out until fleet resume: it is refused, and its live connections and sessions are closed within
5 s. Its credentials stay good.

example: fleet suspend tracker-1
HELP
}

suspend_main() {
	[[ ${1:-} != -- ]] || shift
	(($# == 1)) || usage_error "suspend needs one DEVICE"
	check_id "$1"
	require_database
	recover_if_idle
	require_principal "$1"
	case $PRINCIPAL_STATE in
	revoked) die "$1 is revoked, which is more than suspended: nothing was changed" ;;
	suspended) say "$1 was suspended before" && return ;;
	esac
	set_principal_state "$1" suspended
	say "$1 is suspended. Live connections and sessions are closed within 5 s"
}
