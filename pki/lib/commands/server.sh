# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet server: key and certificate of a broker. Renewing keeps the key and replaces the certificate files
# by rename: whatever moment a broker reads them at, key and certificate fit each other.

readonly SERVER_DAYS=825 SERVER_RENEW_DAYS=30

server_help() {
	cat <<'HELP'
usage: fleet server NAME... [--days N] [--renew] [--new-key]

Make key and certificate of a server that devices reach by these names or addresses; the first gives the
directory its name. Run again, it renews when the names are others or less than 30 days are left, and
otherwise says what exists. Reload the broker after a renewal (SIGHUP). Needs no database.

  --days N    valid for N days (825)
  --renew     renew now; the key stays the same
  --new-key   renew now with a new key

Made: servers/NAME/key.pem, cert.pem, and chain.pem (certificate and server CA: the broker's certfile).

example: fleet server broker.example.com 192.0.2.7
HELP
}

server_main() {
	local names=() name sans=() days=$SERVER_DAYS renew=no new_key=no place
	while (($# > 0)); do
		case $1 in
		--days)
			need_value "$@"
			check_days "$2"
			days=$2
			shift
			;;
		--renew) renew=yes ;;
		--new-key) renew=yes new_key=yes ;;
		--)
			shift
			names+=("$@")
			break
			;;
		-*) usage_error "server knows no option '$1'" ;;
		*) names+=("$1") ;;
		esac
		shift
	done
	((${#names[@]} > 0)) || usage_error "server needs a NAME"
	for name in "${names[@],,}"; do
		name=$(server_san "$name")
		[[ " ${sans[*]} " == *" $name "* ]] || sans+=("$name")
	done
	name=${names[0],,}
	((${#name} <= 64)) || usage_error "a common name has at most 64 characters: put a shorter name first"

	require_openssl
	lock_directory
	recover_stages init server
	require_ca server-ca
	new_stage server
	place=$FLEET_DIR/servers/$name
	server_make "$name" "$(IFS=, && printf '%s' "${sans[*]}")" "$days" "$place" "$new_key"
	if [[ $renew == no ]] && server_is_good "$place"; then
		read_certificate "$place/cert.pem"
		say "exists: $place, valid until $CERT_NOT_AFTER"
		return
	fi
	complete_stage "servers/$name"
	server_recover "$STAGE"
	say "made: $place/{key,cert,chain}.pem for ${sans[*]}, valid until $CERT_NOT_AFTER"
}

# All files of the server in the stage; the key only when it is a new one.
server_make() { # NAME SAN DAYS PLACE NEW-KEY
	local days ca=$FLEET_DIR/server-ca
	days=$(days_within_ca "$ca" "$3")
	if [[ $5 == no && -r $4/key.pem ]]; then
		run_openssl "make a request with $4/key.pem" req -new -config "$PROFILES" \
			-key "$4/key.pem" -subj /CN=request -out "$STAGE/request.pem"
	else
		make_request "$STAGE/key.pem" "$STAGE/request.pem"
	fi
	make_serials 1
	sign_request "$STAGE/request.pem" "$STAGE/cert.pem" server "/CN=$1" "$days" "${SERIALS[0]}" \
		"$ca" "$2"
	rm -- "$STAGE/request.pem"
	cat -- "$STAGE/cert.pem" "$ca/cert.pem" >"$STAGE/chain.pem"
}

# Is the certificate that is there as good as the one in the stage?
server_is_good() { # PLACE
	[[ ! -e $STAGE/key.pem && -r $1/cert.pem && -r $1/chain.pem ]] || return 1
	is_pair "$1" && is_valid "$1/cert.pem" "$FLEET_DIR/server-ca" sslserver &&
		openssl x509 -in "$1/cert.pem" -noout -checkend $((SERVER_RENEW_DAYS * 86400)) >/dev/null &&
		[[ $(server_names "$1/cert.pem") == "$(server_names "$STAGE/cert.pem")" ]]
}

server_names() { # CERTIFICATE-FILE
	openssl x509 -in "$1" -noout -ext subjectAltName
}

# The manifest holds the place. File by file, so that a server that is there is never away.
server_recover() { # STAGE
	local place file
	if [[ -e $1/manifest ]]; then
		place=$FLEET_DIR/$(<"$1/manifest")
		mkdir -p -- "$place"
		require_same_filesystem "$1" "$place"
		for file in key.pem chain.pem cert.pem; do
			[[ ! -e $1/$file ]] || mv -f -- "$1/$file" "$place/$file"
		done
		sync -- "$place" "$FLEET_DIR/servers"
	fi
	rm -rf -- "$1"
}
