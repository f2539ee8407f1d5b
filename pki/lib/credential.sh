# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Rows of fieldgate.credential that are not certificates. Each is one statement in one transaction, so a
# crash leaves all of it or nothing.

export CREDENTIAL_OWNER='' CREDENTIAL_REVOKED='' # the commands read them
CREDENTIAL_POLICY='' CREDENTIAL_STATE=''

# Policy and state of a device that is not there yet; empty for the usual ones.
credential_for() { # POLICY STATE
	CREDENTIAL_POLICY=$1 CREDENTIAL_STATE=$2
}

# What the registry knows of a device and of one credential: PRINCIPAL_STATE ('' for nobody), and
# CREDENTIAL_OWNER and CREDENTIAL_REVOKED ('' for a credential that is not there, else yes or no).
read_credential() { # ID KIND FINGERPRINT
	local answer what first second policy=''
	PRINCIPAL_STATE='' CREDENTIAL_OWNER='' CREDENTIAL_REVOKED=''
	answer=$(query_rows "id=$1" "kind=$2" "fingerprint=$3" <<'SQL'
select 'principal', state, policy from fieldgate.principal where id = :'id';
select 'credential', principal, case when revoked_at is null then 'no' else 'yes' end
	from fieldgate.credential where kind::text = :'kind' and fingerprint = decode(:'fingerprint', 'hex');
SQL
	)
	while IFS='|' read -r what first second; do
		case $what in
		principal) PRINCIPAL_STATE=$first policy=$second ;;
		credential) CREDENTIAL_OWNER=$first CREDENTIAL_REVOKED=$second ;;
		esac
	done <<<"$answer"
	[[ $PRINCIPAL_STATE != revoked ]] ||
		die "$1 is revoked. To take it back: fleet resume $1, then fleet $PROGRAM_COMMAND $1 again"
	[[ -z $CREDENTIAL_POLICY || -z $policy || $policy == "$CREDENTIAL_POLICY" ]] ||
		die "$1 exists with policy '$policy', not '$CREDENTIAL_POLICY': update fieldgate.principal to change it"
}

# Register it, and the device if it is new. With REPLACE yes a row of the same device that is there gets the
# new material and is good again. The number of rows that were written goes to stdout: 0 when somebody else
# was faster.
write_credential() { # ID KIND FINGERPRINT MATERIAL REPLACE
	query_rows "id=$1" "kind=$2" "fingerprint=$3" "material=$4" "replace=$5" \
		"state=${CREDENTIAL_STATE:-active}" "policy=${CREDENTIAL_POLICY:-device}" <<'SQL'
begin;
insert into fieldgate.principal (id, state, policy) values (:'id', :'state', :'policy') on conflict do nothing;
with written as (
	insert into fieldgate.credential as c (kind, fingerprint, principal, material)
	values (:'kind'::fieldgate.credential_kind, decode(:'fingerprint', 'hex'), :'id',
		decode(:'material', 'hex'))
	on conflict (kind, fingerprint) do update
		set material = excluded.material, created_at = now(), revoked_at = null, revocation_reason = null
		where c.principal = excluded.principal and :'replace' = 'yes'
	returning 1)
select count(*) from written;
commit;
SQL
}
