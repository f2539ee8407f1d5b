# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet jwt-key: the public key of a device that proves itself by JSON Web Tokens. Its private key stays
# where it was made, in the modem at best: this command takes none.

readonly JWT_KEY_TRIED=4 # KEYS_MAX of coap-server/auth/jwt.c
# DER SubjectPublicKeyInfo of P-256, named curve, uncompressed point: all of it but x and y.
readonly JWT_KEY_HEAD=3059301306072a8648ce3d020106082a8648ce3d03010703420004

jwt_key_help() {
	cat <<'HELP'
usage: fleet jwt-key DEVICE FILE

Register the public key with which a device signs its JSON Web Tokens (ES256), for CoAP: POST auth/jwt. FILE
is a public key or a certificate, PEM or DER; the key must be of the curve P-256. A device that is not
registered yet is registered, without a certificate. A device may have several keys, so that one can be
replaced: register the new one, change the device, then fleet revoke DEVICE --credential FINGERPRINT.

The token's `sub` must be DEVICE.

example: fleet jwt-key tracker-1 tracker-1.pub.pem
HELP
}

jwt_key_main() {
	case ${1:-} in
	--) shift ;;
	-*) usage_error "jwt-key knows no option '$1' (an id that begins with - goes behind --)" ;;
	esac
	(($# == 2)) || usage_error "jwt-key needs a DEVICE and a FILE"
	check_id "$1"
	require_openssl
	jwt_key_read "$2"
	require_database
	jwt_key_register "$1"
}

# The key in FILE, in hexadecimal, to JWT_KEY, its SHA-256 to JWT_KEY_FINGERPRINT.
jwt_key_read() { # FILE
	local file=$1 pem
	[[ $file != -* ]] || file=./$file
	[[ -f $file && -r $file ]] || die "$file is no file that can be read"
	(($(wc -c <"$file") <= 65536)) || die "$file is longer than 64 KiB: is it the right file?"
	if grep -qa 'PRIVATE KEY' "$file" || openssl pkey -in "$file" -passin pass: -noout 2>/dev/null; then
		die "$file holds a private key, which nobody but the device should have, and which is not" \
			"needed here. Its public key: openssl pkey -in $file -pubout -out public.pem"
	fi
	pem=$(openssl pkey -pubin -in "$file" -pubout 2>/dev/null) ||
		pem=$(openssl x509 -in "$file" -noout -pubkey 2>/dev/null) ||
		die "$file is neither a public key nor a certificate (PEM or DER)"
	openssl pkey -pubin -pubcheck -noout <<<"$pem" >/dev/null 2>&1 ||
		die "the key in $file is broken: openssl pkey -pubin -pubcheck says more"
	JWT_KEY=$(jwt_key_der "$pem" | od -An -v -tx1 | tr -d ' \n') || JWT_KEY=''
	[[ $JWT_KEY == "$JWT_KEY_HEAD"* && ${#JWT_KEY} == 182 ]] ||
		die "the key in $file is not one of the curve P-256 (prime256v1), which ES256 needs"
	JWT_KEY_FINGERPRINT=$(jwt_key_der "$pem" | sha256sum)
	JWT_KEY_FINGERPRINT=${JWT_KEY_FINGERPRINT%% *}
}

# In the one form that the server takes. What is no key of an elliptic curve has no such forms.
jwt_key_der() { # PEM
	openssl pkey -pubin -outform DER -ec_param_enc named_curve -ec_conv_form uncompressed \
		<<<"$1" 2>/dev/null
}

jwt_key_register() { # ID
	local written keys
	read_credential "$1" jwt "$JWT_KEY_FINGERPRINT"
	[[ -z $CREDENTIAL_OWNER || $CREDENTIAL_OWNER == "$1" ]] ||
		die "this key belongs to $CREDENTIAL_OWNER: each device has a key of its own"
	[[ $CREDENTIAL_REVOKED != yes ]] ||
		die "this key of $1 is revoked, and stays so: make a new one in the device"
	if [[ $CREDENTIAL_REVOKED == no ]]; then
		say "exists: key $JWT_KEY_FINGERPRINT of $1"
		return
	fi
	written=$(write_credential "$1" jwt "$JWT_KEY_FINGERPRINT" "$JWT_KEY" no)
	((written == 1)) || die "somebody else has registered this key in this moment: fleet jwt-key again"
	say "added key $JWT_KEY_FINGERPRINT of $1"
	keys=$(query_rows "id=$1" <<<"select count(*) from fieldgate.credential
		where principal = :'id' and kind = 'jwt' and revoked_at is null;")
	((keys <= JWT_KEY_TRIED)) ||
		warn "$1 has $keys keys, and the server tries $JWT_KEY_TRIED of them at most: revoke those that" \
			"are replaced with fleet revoke $1 --credential FINGERPRINT"
}
