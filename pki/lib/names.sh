# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What may be a name. Everything that becomes part of a path, a certificate or a row passes here first.

# The alphabet is the one of the domain fieldgate.principal_id. '.' and '..' are in it, but no
# directory can have these names.
is_id() {
	[[ $1 =~ ^[A-Za-z0-9_.:-]{1,64}$ && $1 != . && $1 != .. ]]
}

check_id() {
	[[ $1 =~ ^[A-Za-z0-9_.:-]{1,64}$ ]] ||
		usage_error "'${1//[^[:print:]]/?}' cannot be an id: 1 to 64 letters, digits and _ . : - are"
	[[ $1 != . && $1 != .. ]] ||
		usage_error "'$1' cannot be an id: its files could not have a directory of that name"
}

is_policy_name() {
	[[ $1 =~ ^[A-Za-z0-9_.:-]{1,64}$ ]]
}

check_policy_name() {
	is_policy_name "$1" ||
		usage_error "'${1//[^[:print:]]/?}' cannot be a policy: 1 to 64 letters, digits and _ . : - are"
}

# One line of printable ASCII without spaces: it goes into a file, and to a PKCS#11 module. A PIN in an argument could be
# read by everybody on the machine.
check_key_uri() { # OPTION URI
	[[ $2 =~ ^pkcs11:[!-~]{1,1000}$ ]] || usage_error "$1 needs a pkcs11: URI (RFC 7512)"
	[[ $2 != *pin-value=* ]] || usage_error "$1 must not hold a PIN: arguments can be read by everybody on this" \
		"machine. Name a file that holds it with pin-source=, or with FLEET_PIN_FILE"
}

is_days() {
	[[ $1 =~ ^[1-9][0-9]{0,4}$ ]]
}

check_days() {
	is_days "$1" || usage_error "--days needs a number of days from 1 to 99999, not '$1'"
}

check_new_state() { # WHERE-FROM STATE
	[[ $2 == pending || $2 == active ]] || usage_error "$1 is pending or active, not '$2'"
}

# Ids become one argument of psql, which may have 128 KiB.
readonly ASK_MAX=1000

check_number_of_ids() { # COMMAND NUMBER
	(($2 <= ASK_MAX)) || usage_error "$1 takes at most $ASK_MAX devices in one call:" \
		"xargs -n $ASK_MAX fleet $1 -- <FILE takes any number"
}

# The ids that a command was given, checked, each once, to IDS.
take_ids() { # COMMAND ID...
	local -A seen=()
	local command=$1 id
	shift
	(($# > 0)) || usage_error "$command needs a DEVICE"
	check_number_of_ids "$command" $#
	IDS=()
	for id; do
		check_id "$id"
		[[ -n ${seen[$id]:-} ]] || IDS+=("$id")
		seen[$id]=yes
	done
}

check_state() {
	[[ $1 =~ ^(pending|active|suspended|revoked)$ ]] ||
		usage_error "'$1' is no state: pending, active, suspended and revoked are"
}

# The SAN entry for a server's name: IP for what looks like an address, else DNS.
server_san() {
	local name=$1 octet='(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'
	local label='[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?'

	if [[ $name =~ ^$octet(\.$octet){3}$ ]]; then
		printf 'IP:%s' "$name"
	elif [[ $name == *:* && $name =~ ^[0-9A-Fa-f:.]{2,45}$ ]]; then
		printf 'IP:%s' "$name"
	elif [[ ${#name} -le 253 && $name =~ ^($label\.)*$label$ && ! $name =~ (^|\.)[0-9]+$ ]]; then
		printf 'DNS:%s' "$name"
	else
		usage_error "'${name//[^[:print:]]/?}' is neither a host name nor an address"
	fi
}
