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
comment on column credential.created_at is 'When it was registered; of a psk, when its key was made: a later one closes what the former key has opened';
comment on column credential.issuer is 'The authority that signed the certificate; null when that is not known, or for other kinds';
-- RFC 5280 section 4.1.2.2: an issuer gives each number once.
create unique index credential_serial on credential (issuer, serial) where issuer is not null;

-- Whoever deletes a device takes its credentials away with it. A revocation must outlive that: else the device, which
-- still holds its certificate, would be enrolled as new.
create table revoked_certificate (
	kind credential_kind not null check (kind in ('x509', 'x509_key')),
	fingerprint bytea not null check (length(fingerprint) = 32),
	principal text not null,
	issuer bytea,
	serial text,
	not_after timestamptz,
	revoked_at timestamptz not null,
	revocation_reason text,
	primary key (kind, fingerprint)
);
comment on table revoked_certificate is 'Revoked certificates whose rows in credential were deleted: nobody is enrolled by them';
comment on column revoked_certificate.kind is 'x509 or x509_key';
comment on column revoked_certificate.fingerprint is 'As credential.fingerprint';
comment on column revoked_certificate.principal is 'Whose it was';
comment on column revoked_certificate.issuer is 'As credential.issuer';
comment on column revoked_certificate.serial is 'As credential.serial';
comment on column revoked_certificate.not_after is 'As credential.not_after';
comment on column revoked_certificate.revoked_at is 'Since when; of a principal that was suspended or revoked as a whole, when it was deleted';
comment on column revoked_certificate.revocation_reason is 'As credential.revocation_reason';
create index revoked_certificate_serial on revoked_certificate (serial);

create function keep_revoked() returns trigger language plpgsql security definer
	set search_path = fieldgate, pg_temp
as $$
begin
	if tg_table_name = 'credential' then
		if old.revoked_at is not null and old.kind in ('x509', 'x509_key') then
			insert into revoked_certificate
				values (old.kind, old.fingerprint, old.principal, old.issuer, old.serial, old.not_after,
					old.revoked_at, old.revocation_reason)
				on conflict do nothing;
		end if;
	elsif old.state in ('suspended', 'revoked') then
		insert into revoked_certificate
			select c.kind, c.fingerprint, c.principal, c.issuer, c.serial, c.not_after, coalesce(c.revoked_at, now()),
				c.revocation_reason
			from credential c
			where c.principal = old.id and c.kind in ('x509', 'x509_key')
			on conflict do nothing;
	end if;
	return old;
end
$$;
comment on function keep_revoked() is 'What is revoked stays so when its rows are deleted';
revoke execute on function keep_revoked() from public;

create trigger keep_revoked before delete on credential for each row execute function keep_revoked();
create trigger keep_revoked before delete on principal for each row execute function keep_revoked();
create trigger registry_changed after insert or update or delete or truncate on revoked_certificate
	for each statement execute function registry_changed();

-- Set-based, so that a thousand devices in the first minute of a fleet are one change of the registry and not a
-- thousand. Whoever is there already stays as he is: a certificate is never added to somebody by his name.
create function enrol(p_authority bytea[], p_id text[], p_fingerprint bytea[], p_serial text[],
	p_not_before timestamptz[], p_not_after timestamptz[], p_note text[])
	returns table (id text, state principal_state)
	language plpgsql security definer set search_path = fieldgate, pg_temp
	-- Who calls it also takes over revocations, and must not wait long for whoever has a transaction open.
	set lock_timeout = '1s'
as $$
#variable_conflict use_column
begin
	return query
	with asked as (
		select u.id, u.fingerprint, u.serial, u.not_before, u.not_after, u.note,
			a.fingerprint as authority, a.enrolment, a.policy,
			-- Of what is twice in one call, the first.
			row_number() over (partition by u.id order by u.place) as of_id,
			row_number() over (partition by u.fingerprint order by u.place) as of_fingerprint,
			row_number() over (partition by u.authority, u.serial order by u.place) as of_serial
		from unnest(p_authority, p_id, p_fingerprint, p_serial, p_not_before, p_not_after, p_note)
			with ordinality as u(authority, id, fingerprint, serial, not_before, not_after, note, place)
			join authority a on a.fingerprint = u.authority
		where a.enrolment <> 'off' and a.retired_at is null and u.serial ~ '^([0-9a-f]{2}){1,20}$'
			and not exists (select from credential c where c.kind = 'x509' and c.fingerprint = u.fingerprint)
			and not exists (select from credential c where c.issuer = u.authority and c.serial = u.serial)
			and not exists (select from revoked_certificate r
				where r.kind = 'x509' and r.fingerprint = u.fingerprint)
			-- A signature by ECDSA has two forms, and with it a certificate two fingerprints; its number is signed.
			and not exists (select from revoked_certificate r
				where r.serial = u.serial and (r.issuer = u.authority or r.issuer is null))
	), new_principal as (
		insert into principal (id, kind, state, policy, note)
		select id, 'device', enrolment::text::principal_state, policy, left(note, 200) from asked
		where of_id = 1 and of_fingerprint = 1 and of_serial = 1
		order by id
		on conflict do nothing
		returning id, state
	), new_credential as (
		insert into credential (kind, fingerprint, principal, serial, not_before, not_after, issuer)
		select 'x509', asked.fingerprint, asked.id, asked.serial, asked.not_before, asked.not_after, asked.authority
		from asked join new_principal on new_principal.id = asked.id
		where of_id = 1 and of_fingerprint = 1 and of_serial = 1
		returning principal
	)
	select n.id::text, n.state from new_principal n;
end
$$;
comment on function enrol is 'The servers register devices whose certificates are of an authority that enrols. Returns those that are new; who was there already, and what an authority does not enrol, is left out';
revoke execute on function enrol from public;

grant usage on type enrolment to fieldgate_ingest, fieldgate_reader;
grant select on authority to fieldgate_ingest, fieldgate_reader;
grant select on revoked_certificate to fieldgate_ingest, fieldgate_reader;
grant select (issuer) on credential to fieldgate_reader;
grant execute on function enrol to fieldgate_ingest;

-- Which rows still need which master key, without opening any.
alter table credential add column sealed_by bytea
	generated always as (case when kind = 'psk' then substring(material from 2 for 8) end) stored;
comment on column credential.sealed_by is 'psk: the key id in material, the first 8 bytes of the SHA-256 of the master key that opens it; no secret. Otherwise null';
grant select (sealed_by) on credential to fieldgate_reader;
