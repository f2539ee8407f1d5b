# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet anchors: what devices are to trust, in the words of who is to hear it. Everything follows from certificates,
# and from the public halves of the servers' keys.

# Nordic's default security tag, that of its cloud client.
readonly ANCHORS_TAG=16842753

anchors_help() {
	cat <<'HELP'
usage: fleet anchors [--format pem|at|c|json] [--tag TAG]

Print what devices are to trust: every root in force, so that a device accepts the servers of the former and of the
next one. Changes nothing, needs no database and no key of a CA.

  --format pem   the roots, with a line about each (default)
  --format at    the command that writes them into a modem of the nRF91 series: AT%CMNG, type 0. A modem must be
                 offline for it (AT+CFUN=4). Lines end with a line feed alone, as the modem wants them
  --format c     a header for firmware: the roots, and the pins
  --format json  the same for programs
  --tag TAG      the modem's security tag (16842753)

A pin is base64 of the SHA-256 of a public key (DER SubjectPublicKeyInfo, RFC 7469 section 2.4): of each server's key,
of the one that comes next (servers/NAME/next-key.pem), and of the CAs that sign servers. A device that pins holds
both pins of its server, so that the key can be replaced.

example: fleet anchors --format at >anchors.at
HELP
}

anchors_main() {
	local format=pem tag=$ANCHORS_TAG
	while (($# > 0)); do
		case $1 in
		--format)
			need_value "$@"
			format=$2
			shift
			;;
		--tag)
			need_value "$@"
			tag=$2
			shift
			;;
		*) usage_error "anchors takes no '$1'" ;;
		esac
		shift
	done
	[[ $format =~ ^(pem|at|c|json)$ ]] || usage_error "--format is pem, at, c or json, not '$format'"
	if [[ ! $tag =~ ^(0|[1-9][0-9]{0,9})$ ]] || ((tag > 2147483647)); then
		usage_error "--tag needs a number from 0 to 2147483647, not '$tag'"
	fi
	require_openssl
	find_cert_tool
	recover_if_idle init server ca
	anchors_collect
	"anchors_$format" "$tag"
}

# ANCHORS_ROOTS: DIRECTORY|NAME|signs or former|END; ANCHORS_PINS: server, server-ca or root|NAME|current, next, signs
# or former|PIN.
anchors_collect() {
	local kind directory state place name file
	ANCHORS_ROOTS=() ANCHORS_PINS=()
	for kind in root server-ca; do
		while IFS= read -r directory; do
			state=signs
			[[ $directory != former/* ]] || state=former
			read_authority "$directory"
			[[ $kind != root ]] || ANCHORS_ROOTS+=("$directory|$AUTHORITY_NAME|$state|$AUTHORITY_NOT_AFTER")
			ANCHORS_PINS+=("$kind|$AUTHORITY_NAME|$state|$(public_key_pin "$FLEET_DIR/$directory/cert.pem")")
		done < <(authorities_in_force "$kind")
	done
	((${#ANCHORS_ROOTS[@]} > 0)) ||
		die "there is no root in $FLEET_DIR: run fleet init first, or say with --dir where it is"
	for place in "$FLEET_DIR"/servers/*; do
		for state in current next; do
			file=$place/cert.pem
			[[ $state == current ]] || file=$place/next-key.pem
			[[ -e $file ]] || continue
			name=${place##*/}
			ANCHORS_PINS+=("server|$name|$state|$(public_key_pin "$file")")
		done
	done
}

# The first certificate of each root, nothing of what a file may say around it.
anchors_certificate() { # DIRECTORY
	openssl x509 -in "$FLEET_DIR/$1/cert.pem"
}

anchors_pem() {
	local root directory name state end
	for root in "${ANCHORS_ROOTS[@]}"; do
		IFS='|' read -r directory name state end <<<"$root"
		printf '# %s, %s, valid until %s\n' "$name" "$(anchors_words "$state")" "$end"
		anchors_certificate "$directory"
	done
}

anchors_words() { # STATE
	case $1 in
	signs) printf 'which signs now' ;;
	former) printf 'the former one, until no server has a certificate under it' ;;
	esac
}

anchors_at() { # TAG
	local root certificates=''
	for root in "${ANCHORS_ROOTS[@]}"; do
		certificates+=$(anchors_certificate "${root%%|*}")$'\n'
	done
	printf 'AT%%CMNG=0,%s,0,"%s"\n' "$1" "${certificates%$'\n'}"
}

anchors_c() {
	local root directory name state end line pin kind
	cat <<'HEADER'
/* Made by fleet anchors. What a device of this fleet is to trust. */
#ifndef FIELDGATE_ANCHORS_H
#define FIELDGATE_ANCHORS_H

HEADER
	for root in "${ANCHORS_ROOTS[@]}"; do
		IFS='|' read -r directory name state end <<<"$root"
		printf '/* %s, %s, valid until %s */\n' "$name" "$(anchors_words "$state")" "$end"
	done
	printf '#define FIELDGATE_ANCHORS_PEM'
	for root in "${ANCHORS_ROOTS[@]}"; do
		while IFS= read -r line; do
			printf ' \\\n\t"%s\\n"' "$line"
		done < <(anchors_certificate "${root%%|*}")
	done
	printf '\n\n/* Base64 of the SHA-256 of public keys (SubjectPublicKeyInfo). A server'\''s next key follows its current one. */\n'
	printf '#define FIELDGATE_PINS'
	for pin in "${ANCHORS_PINS[@]}"; do
		IFS='|' read -r kind name state line <<<"$pin"
		printf ' \\\n\t"%s", /* %s %s, %s */' "$line" "$kind" "$name" "$state"
	done
	printf '\n\n#endif\n'
}

# Names, dates and base64 need no escapes in JSON; of a PEM file the line ends do.
anchors_json() {
	local root pin directory name state end kind value comma='' certificate
	printf '{\n  "roots": ['
	for root in "${ANCHORS_ROOTS[@]}"; do
		IFS='|' read -r directory name state end <<<"$root"
		certificate=$(anchors_certificate "$directory")
		printf '%s\n    {"name": "%s", "state": "%s", "not_after": "%s", "certificate": "%s\\n"}' \
			"$comma" "$name" "$state" "$end" "${certificate//$'\n'/\\n}"
		comma=,
	done
	printf '\n  ],\n  "pins": ['
	comma=''
	for pin in "${ANCHORS_PINS[@]}"; do
		IFS='|' read -r kind name state value <<<"$pin"
		printf '%s\n    {"kind": "%s", "name": "%s", "state": "%s", "sha256": "%s"}' \
			"$comma" "$kind" "$name" "$state" "$value"
		comma=,
	done
	printf '\n  ]\n}\n'
}
