# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Keys and certificates, by fieldgate-cert (pki/cert), which makes all that one command needs in one start.
# Private keys stay in files.

find_cert_tool() {
	CERT_TOOL=$(find_tool fieldgate-cert pki "makes keys and certificates")
}

# Run fieldgate-cert with this stdin and stdout. What it complains of ends the command in fleet's own words.
run_cert() { # ARGUMENT...
	local complaints line errors=() status=0
	{ complaints=$("$CERT_TOOL" "$@" 2>&1 >&3) || status=$?; } 3>&1
	while IFS= read -r line; do
		line=${line#fieldgate-cert: }
		case $line in
		'') ;;
		'warning: '*) warn "${line#warning: }" ;;
		*) errors+=("$line") ;;
		esac
	done <<<"$complaints"
	((status == 0)) || die "${errors[*]:-fieldgate-cert $1 failed (status $status)}"
}

# Keys and certificates for the jobs on stdin, lines of `job`: what came of each is a line of the array
# ISSUED. The signer is the directory of a CA, or --self.
issue() { # PROFILE SIGNER DAYS [OPTION...]
	local profile=$1 signer=(--ca "$2") days=$3 answer
	[[ $2 != --self ]] || signer=(--self)
	shift 3
	answer=$(run_cert issue --profile "$profile" "${signer[@]}" --days "$days" "$@")
	# shellcheck disable=SC2034 # the commands read it
	mapfile -t ISSUED <<<"$answer"
}

job() { # NAME SAN|- KEY CERTIFICATE-FILE
	printf '%s\t%s\t%s\t%s\n' "$@"
}

# The columns of such a line: fingerprints and serial in hexadecimal, times as 2026-01-02T03:04:05Z.
# CERT_ISSUER is the fingerprint of the CA's certificate, or - when that was not given.
parse_certificate() { # LINE
	IFS=$'\t' read -r CERT_NAME CERT_SERIAL CERT_FINGERPRINT CERT_NOT_BEFORE CERT_NOT_AFTER \
		CERT_KEY_FINGERPRINT CERT_ISSUER <<<"$1"
	[[ $CERT_ISSUER =~ ^([0-9a-f]{64}|-)$ ]] ||
		die "fieldgate-cert's description of a certificate is not understood: $1"
}
export CERT_NAME CERT_SERIAL CERT_FINGERPRINT CERT_NOT_BEFORE CERT_NOT_AFTER CERT_KEY_FINGERPRINT CERT_ISSUER

read_certificate() { # CERTIFICATE-FILE [CA-DIRECTORY]
	local line issuer=()
	[[ -z ${2:-} ]] || issuer=(--issuer "$2/cert.pem")
	line=$(run_cert show "${issuer[@]}" "$1")
	parse_certificate "$line"
}

# What is known of the requests on stdin, lines csr:FILE or text:REQUEST, to the array REQUEST_KEYS: the fingerprint
# of the key, or -, a tab and why it is no good.
read_requests() {
	local answer
	answer=$(run_cert requests)
	mapfile -t REQUEST_KEYS <<<"$answer"
}
export REQUEST_KEYS KEY_OWNER KEY_OF

# Whose certificate in the directory is for which key, to KEY_OWNER, by the fingerprint of the key, and to KEY_OF, by the
# owner. One that cannot be read belongs to nobody.
declare -A KEY_OWNER=() KEY_OF=()
read_key_owners() {
	local file files=() answer name key count
	KEY_OWNER=() KEY_OF=()
	for file in "$FLEET_DIR"/{devices,services}/*/cert.pem; do
		[[ ! -e $file ]] || files+=("$file")
	done
	while ((${#files[@]} > 0)); do
		answer=$("$CERT_TOOL" show "${files[@]:0:ASK_MAX}" 2>/dev/null) || true
		count=0
		while IFS=$'\t' read -r name _ _ _ _ key _; do
			[[ -n $key ]] || continue
			KEY_OWNER[$key]=$name KEY_OF[$name]=$key
			count=$((count + 1))
		done <<<"$answer"
		# fieldgate-cert ends at the first that it cannot read: that one is left out.
		((count == ASK_MAX)) || count=$((count + 1))
		files=("${files[@]:count}")
	done
}

# Does the certificate that was read last end within so many days?
certificate_ends_within() { # DAYS
	local end
	end=$(date -d "$CERT_NOT_AFTER" +%s)
	((end - $(date +%s) < $1 * 86400))
}

# Are the key and the certificate of this directory a pair?
is_pair() { # DIRECTORY
	local pins
	pins=$("$CERT_TOOL" pin "$1/key.pem" "$1/cert.pem" 2>/dev/null) || return 1
	[[ ${pins%%$'\n'*} == "${pins##*$'\n'}" ]]
}

# Is it a certificate of this fleet that is valid now, for this purpose (device, server, ca)?
is_valid() { # CERTIFICATE-FILE CA-DIRECTORY PURPOSE
	"$CERT_TOOL" verify --purpose "$3" --trust "$FLEET_DIR/ca.pem" --trust "$2/cert.pem" -- "$1" >/dev/null 2>&1
}

require_ca() { # NAME
	local file
	for file in root/cert.pem "$1/cert.pem"; do
		[[ -r $FLEET_DIR/$file ]] ||
			die "$FLEET_DIR/$file is not there: run fleet init first, or say with --dir where it is"
	done
}

# Base64 of the SHA-256 of the public key (DER SubjectPublicKeyInfo) of a certificate or of a private key.
public_key_pin() { # FILE
	run_cert pin "$1"
}
