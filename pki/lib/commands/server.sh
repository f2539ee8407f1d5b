# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet server: key and certificate of a broker. Renewing keeps the key and replaces the certificate files
# by rename: whatever moment a broker reads them at, key and certificate fit each other. The next key is made
# ahead, for who pins it before it is used.

# nRF9160 takes 4 kB of a server's certificates in all.
readonly SERVER_DAYS=825 SERVER_RENEW_DAYS=30 SERVER_CHAIN_MAX=4096

server_help() {
	cat <<'HELP'
usage: fleet server NAME... [--days N] [--renew] [--new-key]

Make key and certificate of a server that devices reach by these names or addresses; the first gives the
directory its name. Run again, it renews when the names are others or less than 30 days are left, and
otherwise says what exists. Reload the broker after a renewal (SIGHUP). Needs no database.

  --days N    valid for N days (825)
  --renew     renew now; the key stays the same, and so do the names when only the first is given
  --new-key   the same with the next key, and make another next one

Made: servers/NAME/key.pem, cert.pem, and chain.pem (certificate and server CA: the broker's certfile); and
next-key.pem, the key that --new-key will use. Devices that pin the server's key pin both (fleet anchors), so
that a key can be replaced, in a hurry too. Who may get at key.pem should not get at next-key.pem: leave it here.

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

	find_cert_tool
	lock_directory
	recover_stages init server ca
	require_ca server-ca
	new_stage server
	place=$FLEET_DIR/servers/$name
	if [[ $renew == yes && ${#names[@]} == 1 && -r $place/cert.pem ]]; then
		IFS=, read -r -a sans <<<"$(run_cert names "$place/cert.pem")"
	fi
	server_make "$name" "$(IFS=, && printf '%s' "${sans[*]}")" "$days" "$place" "$new_key"
	if [[ $renew == no ]] && server_is_good "$place"; then
		server_add_next_key "$name"
		say "exists: $place, valid until $CERT_NOT_AFTER"
		return
	fi
	server_check_chain
	parse_certificate "${ISSUED[0]}"
	complete_stage "servers/$name"
	server_recover "$STAGE"
	say "made: $place/{key,cert,chain}.pem for ${sans[*]}, valid until $CERT_NOT_AFTER"
}

# All files of the server in the stage; the keys only when they are new ones. Who pins its key hears of a change that
# was not asked for, or could not be announced.
server_make() { # NAME SAN DAYS PLACE NEW-KEY
	local key ca=$FLEET_DIR/server-ca
	if [[ $5 == no && -r $4/key.pem ]]; then
		key=key:$4/key.pem
	elif [[ -r $4/next-key.pem ]]; then
		cp -- "$4/next-key.pem" "$STAGE/key.pem"
		key=key:$STAGE/key.pem
		[[ $5 == yes || ! -e $4/cert.pem ]] || warn "$4/key.pem is not here: the certificate is for the next key," \
			"whose pin only those devices have that were given both (fleet anchors)"
	else
		key=new:$STAGE/key.pem
		[[ ! -e $4/cert.pem ]] || warn "$4 had no next key: this is one whose pin no device has. Give those that" \
			"pin the new pins (fleet anchors) before the server reads it"
	fi
	job "$1" "$2" "$key" "$STAGE/cert.pem" >"$STAGE/jobs"
	issue server "$ca" "$3" <"$STAGE/jobs"
	rm -- "$STAGE/jobs"
	if [[ -e $STAGE/key.pem || ! -r $4/next-key.pem ]]; then
		run_cert key "$STAGE/next-key.pem"
	fi
	cat -- "$STAGE/cert.pem" "$ca/cert.pem" >"$STAGE/chain.pem"
}

# For a server that was made before there were next keys: that key alone.
server_add_next_key() { # NAME
	[[ -e $STAGE/next-key.pem ]] || return 0
	rm -- "$STAGE/cert.pem" "$STAGE/chain.pem"
	complete_stage "servers/$1"
	server_recover "$STAGE"
}

# As it is in a handshake: DER, with three bytes of length before each (RFC 8446 section 4.4.2).
server_check_chain() {
	local file size=0
	for file in "$STAGE/cert.pem" "$FLEET_DIR/server-ca/cert.pem"; do
		size=$((size + 3 + $(openssl x509 -in "$file" -outform DER | wc -c)))
	done
	((size < SERVER_CHAIN_MAX)) || die "server certificate and server CA have $size bytes together, and a" \
		"device's modem takes less than $SERVER_CHAIN_MAX: give fewer or shorter names"
}

# Is the certificate that is there as good as the one in the stage?
server_is_good() { # PLACE
	[[ ! -e $STAGE/key.pem && -r $1/cert.pem && -r $1/chain.pem ]] || return 1
	is_pair "$1" && is_valid "$1/cert.pem" "$FLEET_DIR/server-ca" server || return 1
	read_certificate "$1/cert.pem"
	! certificate_ends_within "$SERVER_RENEW_DAYS" &&
		[[ $("$CERT_TOOL" names "$1/cert.pem") == "$("$CERT_TOOL" names "$STAGE/cert.pem")" ]]
}

# The manifest holds the place. File by file, so that a server that is there is never away.
server_recover() { # STAGE
	local place file
	if [[ -e $1/manifest ]]; then
		place=$FLEET_DIR/$(<"$1/manifest")
		mkdir -p -- "$place"
		require_same_filesystem "$1" "$place"
		for file in key.pem chain.pem cert.pem next-key.pem; do
			[[ ! -e $1/$file ]] || mv -f -- "$1/$file" "$place/$file"
		done
		sync -- "$place" "$FLEET_DIR/servers"
	fi
	rm -rf -- "$1"
}
