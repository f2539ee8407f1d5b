# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# fleet list: everybody in the registry, one line each.

list_help() {
	cat <<'HELP'
usage: fleet list [--state pending|active|suspended|revoked]

One line for everybody in the registry: kind, state, policy, the day on which the last valid certificate
ends and the authority that signed it, the other credentials that are not revoked, and whether it is connected
now. Those that wait for fleet approve are --state pending.

example: fleet list --state suspended
HELP
}

list_main() {
	local state=''
	while (($# > 0)); do
		case $1 in
		--state)
			need_value "$@"
			check_state "$2"
			state=$2
			shift
			;;
		*) usage_error "list takes no '$1'" ;;
		esac
		shift
	done
	require_database
	recover_if_idle
	query -P border=0 -P footer=off "state=$state" <<'SQL'
select p.id, p.kind, p.state, p.policy,
	coalesce(
		(select case when max(c.not_after) <= now() then 'expired '
			when min(c.not_before) > now() then 'not yet ' else '' end
			|| to_char(max(c.not_after) at time zone 'UTC', 'YYYY-MM-DD')
			from fieldgate.credential c
			where c.principal = p.id and c.kind = 'x509' and c.revoked_at is null),
		'-') as certificate,
	coalesce(
		(select a.name from fieldgate.credential c join fieldgate.authority a on a.fingerprint = c.issuer
			where c.principal = p.id and c.kind = 'x509' and c.revoked_at is null
			order by c.not_after desc limit 1),
		'-') as issuer,
	coalesce(
		(select string_agg(distinct c.kind::text, ',') from fieldgate.credential c
			where c.principal = p.id and c.kind <> 'x509' and c.revoked_at is null),
		'-') as other,
	case when exists (select from fieldgate.presence s where s.device = p.id and s.connected)
		then 'yes' else 'no' end as connected
	from fieldgate.principal p
	where :'state' = '' or p.state::text = :'state'
	order by p.id collate "C";
SQL
}
