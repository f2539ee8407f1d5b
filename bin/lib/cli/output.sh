# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What a person reads, shared by the commands of Fieldgate: PROGRAM is the one that runs, PROGRAM_COMMAND its
# command, once that is known. Results go to stdout; errors and warnings to stderr, coloured only on a terminal.

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
	printf '%s: %s\n' "$PROGRAM" "$*" >&2
}

warn() {
	printf '%s %s\n' "$(paint 33 "$PROGRAM: warning:")" "$*" >&2
}

# What went wrong, where, and what to do about it. In a command substitution it ends only that: callers
# assign on a line of its own, so that `set -e` ends the rest.
die() {
	printf '%s %s\n' "$(paint 31 "$PROGRAM: error:")" "$*" >&2
	exit 1
}

usage_error() {
	printf '%s %s\n' "$(paint 31 "$PROGRAM:")" "$*" >&2
	printf 'Usage: %s %s--help\n' "$PROGRAM" "${PROGRAM_COMMAND:+$PROGRAM_COMMAND }" >&2
	exit 2
}

# For an option with a value: need_value "$@"; value=$2; shift
need_value() {
	[[ $# -ge 2 && -n $2 ]] || usage_error "$1 needs a value"
}
