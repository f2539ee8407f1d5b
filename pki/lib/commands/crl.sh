# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet crl: lists of revoked certificates for third parties. Our servers read the registry, and no list.

readonly CRL_DAYS=30 CRL_DAYS_MAX=3650

crl_help() {
	cat <<'HELP'
usage: fleet crl [--days N]

Write crl/CA.pem for each device CA whose key is here: the certificates of it that the registry says are
revoked, with the reason (RFC 5280 section 5). For others that check certificates of these devices; the servers
of this fleet need no list. A list is valid for N days: write it again before, and after each revocation. A
certificate stays on it for N days after it has ended.

  --days N   when the next list is due (30)

Made: crl/CA.pem, where CA is the authority's name; it is replaced whole, and its number only grows.

example: fleet crl --days 7
HELP
}

crl_main() {
	local days=$CRL_DAYS
	while (($# > 0)); do
		case $1 in
		--days)
			need_value "$@"
			check_days "$2"
			(($2 <= CRL_DAYS_MAX)) || usage_error "--days is $CRL_DAYS_MAX at most: who reads a list waits so long for news"
			days=$2
			shift
			;;
		*) usage_error "crl takes no '$1'" ;;
		esac
		shift
	done
	require_openssl
	require_database
	crl_write_all "$days"
}

crl_write_all() { # DAYS
	local authority written=0 unknown
	find_cert_tool
	lock_directory
	recover_stages "${FLEET_STAGES[@]}"
	new_stage crl
	for authority in "$FLEET_DIR"/device-ca "$FLEET_DIR"/former/device-ca-*; do
		[[ -r $authority/key.pem || -r $authority/key.uri ]] || continue
		crl_write "${authority#"$FLEET_DIR/"}" "$1"
		written=$((written + 1))
	done
	((written > 0)) || die "there is no key of a device CA in $FLEET_DIR: without one no list can be signed"
	unknown=$(query_rows <<<"select count(*) from fieldgate.credential
		where kind = 'x509' and revoked_at is not null and not_after > now() and issuer is null;")
	((unknown == 0)) || warn "$unknown revoked certificates are on no list, for the registry does not know" \
		"which authority has signed them"
}

# Nothing of a stage of this command counts.
crl_recover() { # STAGE
	rm -rf -- "$1"
}

crl_write() { # DIRECTORY DAYS
	local name number place entries
	read_authority "$1"
	name=$AUTHORITY_NAME place=$FLEET_DIR/crl/$AUTHORITY_NAME.pem
	number=$(crl_next_number "$place")
	entries=$(query -At -P "fieldsep=$TAB" "issuer=$AUTHORITY_FINGERPRINT" "days=$2" <<'SQL'
select distinct on (serial) serial, to_char(revoked_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
	coalesce(revocation_reason, 'unspecified')
	from (
		select issuer, serial, not_after, revoked_at, revocation_reason from fieldgate.credential
		union all select issuer, serial, not_after, revoked_at, revocation_reason from fieldgate.revoked_certificate) r
	where issuer = decode(:'issuer', 'hex') and revoked_at is not null and serial is not null
		and coalesce(not_after, 'infinity') > now() - make_interval(days => :'days'::int)
	order by serial, revoked_at;
SQL
	)
	printf '%s' "${entries:+$entries$'\n'}" |
		run_cert crl --ca "$FLEET_DIR/$1" --days "$2" --number "$number" --out "$STAGE/$name.pem"
	mkdir -p -- "$FLEET_DIR/crl"
	sync -- "$STAGE/$name.pem"
	mv -f -- "$STAGE/$name.pem" "$place"
	sync -- "$FLEET_DIR/crl"
	number=$(printf '%s' "$entries" | grep -c '' || true)
	say "made: $place, $number revoked, the next within $2 days"
}

# RFC 5280 section 5.2.3: it grows with every list. The clock is a number that grows even where the last list was
# lost.
crl_next_number() { # CRL-FILE
	local last=0 now
	now=$(date +%s)
	if [[ -r $1 ]]; then
		last=$(openssl crl -in "$1" -noout -crlnumber) || die "$1 is no list: remove it, and run fleet crl again"
		last=${last#*=} last=$((16#${last#0x}))
	fi
	printf '%s' $((now > last ? now : last + 1))
}
