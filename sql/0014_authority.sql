-- SPDX-License-Identifier: Apache-2.0
-- The certificate authorities that sign this fleet's devices, who signed which credential, and what becomes of a
-- device that shows a certificate of theirs before anybody has registered it.

create type enrolment as enum ('off', 'pending', 'active');
comment on type enrolment is 'What an unknown device with a certificate of this authority becomes: nothing, pending (registered, not let in) or active';

create table authority (
	fingerprint bytea primary key check (length(fingerprint) = 32),
	name text not null unique check (name ~ '^[A-Za-z0-9_.:@-]{1,64}$'),
	certificate bytea not null check (length(certificate) between 1 and 8192),
	enrolment enrolment not null default 'pending',
	policy text not null default 'device' references policy (name) on update cascade,
	not_before timestamptz not null,
	not_after timestamptz not null,
	created_at timestamptz not null default now(),
	retired_at timestamptz
);
comment on table authority is 'CAs that sign device certificates. The servers trust what their file of CAs says; with this table they complete chains to it, and enrol';
comment on column authority.fingerprint is 'SHA-256 of the DER certificate';
comment on column authority.name is 'What fleet ca calls it';
comment on column authority.certificate is 'DER';
comment on column authority.enrolment is 'What becomes of a device that shows a certificate of it and is not in principal: off, pending or active';
comment on column authority.policy is 'The policy of the devices that are enrolled';
comment on column authority.not_before is 'Start of its validity';
comment on column authority.not_after is 'End of its validity';
comment on column authority.created_at is 'When it was registered';
comment on column authority.retired_at is 'Since when it signs nothing and enrols nobody any more; null as long as it does. What it has signed before is revoked by itself, if it is to be';

create trigger registry_changed after insert or update or delete or truncate on authority
	for each statement execute function registry_changed();
comment on table registry_version is 'One row; its number moves with every change of principals, credentials, policies, authorities or rules';

alter table credential add column issuer bytea references authority (fingerprint);
comment on column credential.issuer is 'The authority that signed the certificate; null when that is not known, or for other kinds';
-- RFC 5280 section 4.1.2.2: an issuer gives each number once.
create unique index credential_serial on credential (issuer, serial) where issuer is not null;

-- Set-based, so that a thousand devices in the first minute of a fleet are one change of the registry and not a
-- thousand. Whoever is there already stays as he is: a certificate is never added to somebody by his name.
create function enrol(p_authority bytea[], p_id text[], p_fingerprint bytea[], p_serial text[],
	p_not_before timestamptz[], p_not_after timestamptz[], p_note text[])
	returns table (id text, state principal_state)
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
#variable_conflict use_column
begin
	return query
	with asked as (
		-- Of one name twice in one call, the first.
		select distinct on (u.id) u.id, u.fingerprint, u.serial, u.not_before, u.not_after, u.note,
			a.fingerprint as authority, a.enrolment, a.policy
		from unnest(p_authority, p_id, p_fingerprint, p_serial, p_not_before, p_not_after, p_note)
			with ordinality as u(authority, id, fingerprint, serial, not_before, not_after, note, place)
			join authority a on a.fingerprint = u.authority
		where a.enrolment <> 'off' and a.retired_at is null
			and not exists (select from credential c where c.kind = 'x509' and c.fingerprint = u.fingerprint)
			and not exists (select from credential c where c.issuer = u.authority and c.serial = u.serial)
		order by u.id, u.place
	), new_principal as (
		insert into principal (id, kind, state, policy, note)
		select id, 'device', enrolment::text::principal_state, policy, left(note, 200) from asked
		order by id
		on conflict do nothing
		returning id, state
	), new_credential as (
		insert into credential (kind, fingerprint, principal, serial, not_before, not_after, issuer)
		select 'x509', asked.fingerprint, asked.id, asked.serial, asked.not_before, asked.not_after, asked.authority
		from asked join new_principal on new_principal.id = asked.id
		returning principal
	)
	select n.id::text, n.state from new_principal n;
end
$$;
comment on function enrol is 'The servers register devices whose certificates are of an authority that enrols. Returns those that are new; who was there already, and what an authority does not enrol, is left out';
revoke execute on function enrol from public;

grant usage on type enrolment to fieldgate_ingest, fieldgate_reader;
grant select on authority to fieldgate_ingest, fieldgate_reader;
grant select (issuer) on credential to fieldgate_reader;
grant execute on function enrol to fieldgate_ingest;

-- Which rows still need which master key, without opening any.
alter table credential add column sealed_by bytea
	generated always as (case when kind = 'psk' then substring(material from 2 for 8) end) stored;
comment on column credential.sealed_by is 'psk: the key id in material, the first 8 bytes of the SHA-256 of the master key that opens it; no secret. Otherwise null';
grant select (sealed_by) on credential to fieldgate_reader;
