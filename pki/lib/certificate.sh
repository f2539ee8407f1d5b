# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Keys and certificates, by openssl. A key is made together with a request, a certificate is made from a
# request; of a request only the key counts, never its subject or extensions. Private keys stay in files.

readonly PROFILES=$FLEET_HOME/lib/profiles.cnf
# openssl x509 reads the system's CAs at each start, which takes longer than all the rest.
export SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null
export FLEET_SAN='' # profiles.cnf reads it, and openssl reads all of that file each time

require_openssl() {
	command -v openssl >/dev/null || die "openssl is not installed: apt install openssl"
	[[ $(openssl version) == "OpenSSL "[3-9]* ]] ||
		die "openssl 3 or later is needed, this is: $(openssl version)"
}

# Run openssl quietly; what it says is shown only when it fails. Its stdout is left in OPENSSL_OUTPUT.
run_openssl() { # WHAT-FOR ARGUMENT...
	local purpose=$1
	shift
	OPENSSL_OUTPUT=$(openssl "$@" 2>"$STAGE/openssl.errors") ||
		die "openssl could not $purpose: $(<"$STAGE/openssl.errors")"
}

# A P-256 key and a request for it.
make_request() { # KEY-FILE REQUEST-FILE
	run_openssl "make the key $1" req -new -config "$PROFILES" -newkey ec \
		-pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve -nodes \
		-subj /CN=request -keyout "$1" -out "$2"
}

# COUNT random serial numbers of 128 bits into the array SERIALS, with one start of openssl.
make_serials() { # COUNT
	local i
	run_openssl "make serial numbers" rand -hex $((16 * $1))
	SERIALS=()
	for ((i = 0; i < $1; i++)); do
		SERIALS+=("${OPENSSL_OUTPUT:32*i:32}")
	done
}

# Write the certificate for a request, signed by a CA (its directory) or by itself (its key file), and
# leave what the registry wants to know of it in CERT_SERIAL, CERT_FINGERPRINT (both in hexadecimal),
# CERT_NOT_BEFORE and CERT_NOT_AFTER.
sign_request() { # REQUEST-FILE CERTIFICATE-FILE PROFILE SUBJECT DAYS SERIAL SIGNER [SAN]
	local request=$1 out=$2 profile=$3 subject=$4 days=$5 serial=$6 signer=$7 by
	if [[ -d $signer ]]; then
		by=(-CA "$signer/cert.pem" -CAkey "$signer/key.pem")
	else
		by=(-signkey "$signer")
	fi
	FLEET_SAN=${8:-} run_openssl "sign $out" x509 -req -in "$request" -subj "$subject" "${by[@]}" \
		-set_serial "0x$serial" -days "$days" -sha256 -extfile "$PROFILES" \
		-extensions "$profile" -serial -fingerprint -startdate -enddate -dateopt iso_8601
	parse_certificate
	printf '%s\n' "-----BEGIN CERTIFICATE-----${OPENSSL_OUTPUT#*-----BEGIN CERTIFICATE-----}" >"$out"
}

read_certificate() { # CERTIFICATE-FILE
	run_openssl "read $1" x509 -in "$1" -noout -sha256 -serial -fingerprint -startdate -enddate \
		-dateopt iso_8601
	parse_certificate
}

parse_certificate() {
	local line value
	CERT_SERIAL='' CERT_FINGERPRINT='' CERT_NOT_BEFORE='' CERT_NOT_AFTER=''
	while IFS= read -r line; do
		value=${line#*=}
		case $line in
		serial=*) CERT_SERIAL=${value,,} ;;
		sha256\ Fingerprint=*)
			value=${value//:/}
			CERT_FINGERPRINT=${value,,}
			;;
		notBefore=*) CERT_NOT_BEFORE=$value ;;
		notAfter=*) CERT_NOT_AFTER=$value ;;
		-----BEGIN*) break ;;
		esac
	done <<<"$OPENSSL_OUTPUT"
	[[ -n $CERT_SERIAL && $CERT_FINGERPRINT =~ ^[0-9a-f]{64}$ && -n $CERT_NOT_BEFORE &&
		-n $CERT_NOT_AFTER ]] || die "openssl's description of a certificate is not understood:" \
		"$OPENSSL_OUTPUT"
}

certificate_end() { # CERTIFICATE-FILE; seconds since 1970
	local end
	end=$(openssl x509 -in "$1" -noout -enddate) || die "$1 is not a certificate"
	date -d "${end#notAfter=}" +%s
}

# The days that a certificate may be valid for: what was asked for, but never longer than its CA.
days_within_ca() { # CA-DIRECTORY DAYS
	local end left
	end=$(certificate_end "$1/cert.pem")
	left=$(((end - $(date +%s)) / 86400))
	((left >= 1)) || die "$1/cert.pem ends within a day: it can sign nothing any more"
	if (($2 > left)); then
		warn "$1 is valid for $left days more, so this certificate is for $left days and not $2"
		printf '%s' "$left"
	else
		printf '%s' "$2"
	fi
}

# Are the key and the certificate of this directory a pair?
is_pair() { # DIRECTORY
	local of_key of_certificate
	of_key=$(openssl pkey -in "$1/key.pem" -pubout 2>/dev/null) || return 1
	of_certificate=$(openssl x509 -in "$1/cert.pem" -noout -pubkey 2>/dev/null) || return 1
	[[ $of_key == "$of_certificate" ]]
}

# Is it a certificate of this fleet that is valid now, for this purpose?
is_valid() { # CERTIFICATE-FILE CA-DIRECTORY PURPOSE
	openssl verify -x509_strict -purpose "$3" -trusted "$FLEET_DIR/ca.pem" \
		-untrusted "$2/cert.pem" -- "$1" >/dev/null 2>&1
}

require_ca() { # NAME
	local file
	for file in root/cert.pem "$1/cert.pem" "$1/key.pem"; do
		[[ -r $FLEET_DIR/$file ]] ||
			die "$FLEET_DIR/$file is not there: run fleet init first, or say with --dir where it is"
	done
}

# Base64 of the SHA-256 of the public key (DER SubjectPublicKeyInfo) of a certificate or of a private key.
public_key_pin() { # FILE
	local pin public
	if [[ $(<"$1") == *'PRIVATE KEY-----'* ]]; then
		public=$(openssl pkey -in "$1" -pubout 2>/dev/null)
	else
		public=$(openssl x509 -in "$1" -noout -pubkey 2>/dev/null)
	fi || die "$1 holds neither a certificate nor a key"
	pin=$(openssl pkey -pubin -outform DER <<<"$public" | openssl dgst -sha256 -binary | base64)
	printf '%s' "$pin"
}
