# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet expiring: the credentials that end soon, or have ended without another in their place.

readonly EXPIRING_DAYS=30

expiring_help() {
	cat <<'HELP'
usage: fleet expiring [--days N] [--ids]

The credentials that end within N days, the next first, and whether their device has another one already that
is valid for longer. One that has ended is shown for as long as its device has no other. Revoked devices and
credentials are left out.

  --days N   how far to look ahead (30)
  --ids      only the ids of the devices without a newer credential, one a line, for xargs

Of the directory, if it is here: servers and CAs that end within N days are warned of.

example: fleet expiring --days 60 --ids | xargs -r -n 1000 fleet renew --
HELP
}

expiring_main() {
	local days=$EXPIRING_DAYS ids=no
	while (($# > 0)); do
		case $1 in
		--days)
			need_value "$@"
			check_days "$2"
			days=$2
			shift
			;;
		--ids) ids=yes ;;
		*) usage_error "expiring takes no '$1'" ;;
		esac
		shift
	done
	require_database
	recover_if_idle
	expiring_directory "$days"
	if [[ $ids == yes ]]; then
		expiring_query "select device from ending where not newer group by device order by device collate \"C\"" |
			query_rows "days=$days"
	else
		expiring_query "select device, kind, coalesce(serial, '-') as serial,
			to_char(not_after at time zone 'UTC', 'YYYY-MM-DD HH24:MI\"Z\"') as not_after,
			case when not_after <= now() then 'ended'
				when not_after < now() + interval '2 days'
					then floor(extract(epoch from not_after - now()) / 3600) || ' h'
				else floor(extract(epoch from not_after - now()) / 86400) || ' days' end as remaining,
			case when newer then 'yes' else 'no' end as newer
			from ending order by not_after, device collate \"C\"" |
			query -P border=0 -P footer=off "days=$days"
	fi
}

# What the registry does not know.
expiring_directory() { # DAYS
	local kind place
	[[ -r $FLEET_DIR/root/cert.pem ]] || return 0
	find_cert_tool
	for place in "$FLEET_DIR"/servers/*; do
		[[ -r $place/cert.pem ]] || continue
		read_certificate "$place/cert.pem"
		! certificate_ends_within "$1" || warn "the server ${place##*/} has a certificate until $CERT_NOT_AFTER:" \
			"fleet server ${place##*/} --renew"
	done
	for kind in root device-ca server-ca; do
		[[ -r $FLEET_DIR/$kind/cert.pem ]] || continue
		read_certificate "$FLEET_DIR/$kind/cert.pem"
		! certificate_ends_within "$1" || warn "the $kind ends on $CERT_NOT_AFTER, and what it has signed ends with" \
			"it: fleet ca new $kind"
	done
}

# newer: another of the same kind is valid beyond the days asked for.
expiring_query() { # SELECT
	cat <<SQL
with valid as (
	select c.principal as device, c.kind, c.fingerprint, c.serial, c.not_after
	from fieldgate.credential c join fieldgate.principal p on p.id = c.principal
	where c.revoked_at is null and p.state <> 'revoked'
), ending as (
	select v.*, n.newer from valid v, lateral (
		select exists (select from valid w where w.device = v.device and w.kind = v.kind
			and w.fingerprint <> v.fingerprint
			and coalesce(w.not_after, 'infinity') > now() + make_interval(days => :'days'::int)) as newer) n
	where v.not_after <= now() + make_interval(days => :'days'::int) and (v.not_after > now() or not n.newer)
)
$1;
SQL
}
