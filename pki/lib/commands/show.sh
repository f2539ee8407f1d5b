# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet show: all that is known of one device.

show_help() {
	cat <<'HELP'
usage: fleet show DEVICE

State, credentials, rights, when it was last seen, and where its files are. The fingerprint is the SHA-256 of
the certificate (x509), of the public key (x509_key, jwt) or of the identity (psk); a secret is never shown.

example: fleet show tracker-1
HELP
}

show_main() {
	[[ ${1:-} != -- ]] || shift
	(($# == 1)) || usage_error "show needs one DEVICE"
	check_id "$1"
	require_database
	recover_if_idle
	require_principal "$1"
	query -P border=0 -P footer=off -P null=- "id=$1" <<'SQL'
\pset tuples_only on
\x on
select p.id, p.kind, p.state, p.policy, nullif(p.note, '') as note, p.created_at as created,
	(select case when bool_or(connected) then 'connected since ' || max(since) filter (where connected)
		else 'disconnected since ' || max(since) || coalesce(': ' || max(reason), '') end
		from fieldgate.presence where device = p.id) as connection,
	(select max(received_at) from fieldgate.telemetry_latest where device = p.id) as telemetry
	from fieldgate.principal p where p.id = :'id';
\x off
\pset tuples_only off
\echo Credentials
select kind,
	case when kind = 'psk' and c.fingerprint = sha256(convert_to(principal, 'UTF8')) then 'identity ' || principal
		when kind = 'psk' then 'another identity' else serial end as serial,
	a.name as issuer, c.not_before, c.not_after, c.created_at as registered,
	case when revoked_at is not null
		then 'revoked ' || revoked_at || coalesce(': ' || revocation_reason, '')
		when c.not_after <= now() then 'expired' when c.not_before > now() then 'not valid yet'
		else 'valid' end as state,
	encode(c.fingerprint, 'hex') as fingerprint
	from fieldgate.credential c left join fieldgate.authority a on a.fingerprint = c.issuer
	where c.principal = :'id' order by c.created_at, c.fingerprint;
\echo Rights
select r.effect, r.action, r.filter
	from fieldgate.principal p join fieldgate.policy_rule r on r.policy = p.policy
	where p.id = :'id' order by r.effect desc, r.action, r.filter;
SQL
	show_files "$1"
}

show_files() { # ID
	local file found=no
	say Files
	for file in "$FLEET_DIR"/{devices,services}/"$1"/*; do
		[[ -f $file ]] || continue
		found=yes
		say "$file"
	done
	[[ $found == yes ]] || say "none under $FLEET_DIR"
}
