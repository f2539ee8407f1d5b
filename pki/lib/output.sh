# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What a person reads. Results go to stdout; errors and warnings to stderr, coloured only on a terminal.

paint() { # COLOUR TEXT
	if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
		printf '\033[%sm%s\033[0m' "$1" "$2"
	else
		printf '%s' "$2"
	fi
}

say() {
	printf '%s\n' "$*"
}

note() {
	printf 'fleet: %s\n' "$*" >&2
}

warn() {
	printf '%s %s\n' "$(paint 33 'fleet: warning:')" "$*" >&2
}

# What went wrong, where, and what to do about it. In a command substitution it ends only that: callers
# assign on a line of its own, so that `set -e` ends the rest.
die() {
	printf '%s %s\n' "$(paint 31 'fleet: error:')" "$*" >&2
	exit 1
}

usage_error() {
	printf '%s %s\n' "$(paint 31 'fleet:')" "$*" >&2
	printf 'Usage: fleet %s--help\n' "${FLEET_COMMAND:+$FLEET_COMMAND }" >&2
	exit 2
}
