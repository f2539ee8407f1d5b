-- SPDX-License-Identifier: Apache-2.0
-- The registry: who may connect, with what, and what they may do. PostgreSQL is the truth; every process
-- holds a snapshot of it and reads it again when registry_version moves.

create type principal_kind as enum ('device', 'service');
create type principal_state as enum ('pending', 'active', 'suspended', 'revoked');
create type credential_kind as enum ('x509', 'x509_key', 'jwt', 'psk', 'token');
create type policy_effect as enum ('allow', 'deny');
create type policy_action as enum ('publish', 'subscribe', 'receive');

comment on type principal_kind is 'A device of the fleet, or a service: a dashboard, a backend';
comment on type principal_state is 'Only active principals are let in';
comment on type credential_kind is 'What a principal proves itself with; see credential.fingerprint';
comment on type policy_effect is 'deny wins over allow; nothing is allowed unless a rule allows it';
comment on type policy_action is 'publish a topic, subscribe to a filter, receive a topic';

create domain principal_id as text
	check (value ~ '^[A-Za-z0-9_.:-]{1,64}$');
comment on domain principal_id is 'Letters, digits and _ . : - only, at most 64: it stands in topics and certificates';

create table policy (
	name text primary key check (name ~ '^[A-Za-z0-9_.:-]{1,64}$'),
	description text not null default ''
);
comment on table policy is 'Named sets of rights';
comment on column policy.name is 'Referred to by principal.policy';
comment on column policy.description is 'For people';

create table policy_rule (
	policy text not null references policy (name) on delete cascade on update cascade,
	effect policy_effect not null default 'allow',
	action policy_action not null,
	filter text not null check (length(filter) between 1 and 1024),
	primary key (policy, action, filter, effect)
);
comment on table policy_rule is 'The rights of each policy';
comment on column policy_rule.policy is 'The policy that the right belongs to';
comment on column policy_rule.effect is 'allow or deny; deny wins';
comment on column policy_rule.action is 'publish, subscribe or receive';
comment on column policy_rule.filter is 'MQTT topic filter; ${device} stands for the principal''s id';

insert into policy (name, description) values
	('device', 'Built in: a device publishes its own d2c topics and receives its own c2d topics'),
	('none', 'Built in: no rights at all');
insert into policy_rule (policy, effect, action, filter) values
	('device', 'allow', 'publish', 'm/d/${device}/d2c'),
	('device', 'allow', 'publish', 'm/d/${device}/d2c/#'),
	('device', 'allow', 'subscribe', 'm/d/${device}/c2d'),
	('device', 'allow', 'subscribe', 'm/d/${device}/c2d/#'),
	('device', 'allow', 'receive', 'm/d/${device}/c2d'),
	('device', 'allow', 'receive', 'm/d/${device}/c2d/#');

create table principal (
	id principal_id primary key,
	kind principal_kind not null default 'device',
	state principal_state not null default 'active',
	policy text not null default 'device' references policy (name) on update cascade,
	note text not null default '',
	created_at timestamptz not null default now(),
	check (kind = 'device' or policy <> 'device')
);
comment on table principal is 'Everybody who may connect: devices and services';
comment on column principal.id is 'Device id: in topics m/d/<id>/..., in the certificate''s common name, in telemetry.device';
comment on column principal.kind is 'device or service';
comment on column principal.state is 'pending, active, suspended or revoked; a change is in force within 5 seconds';
comment on column principal.policy is 'What it may do';
comment on column principal.note is 'For people';
comment on column principal.created_at is 'When the row was made';

create table credential (
	kind credential_kind not null,
	fingerprint bytea not null check (length(fingerprint) = 32),
	principal principal_id not null references principal (id) on delete cascade on update cascade,
	material bytea,
	serial text,
	not_before timestamptz,
	not_after timestamptz,
	created_at timestamptz not null default now(),
	revoked_at timestamptz,
	revocation_reason text,
	primary key (kind, fingerprint)
);
create index credential_principal on credential (principal);
create index credential_expiry on credential (not_after) where revoked_at is null;
comment on table credential is 'What principals prove themselves with; one principal may have several';
comment on column credential.kind is 'x509, x509_key, jwt, psk or token';
comment on column credential.fingerprint is 'SHA-256 of: the DER certificate (x509); the DER public key (x509_key, jwt); the PSK identity (psk); id, a zero byte and the token (token)';
comment on column credential.principal is 'Whose it is';
comment on column credential.material is 'jwt: the DER public key; psk: the encrypted key; otherwise null';
comment on column credential.serial is 'The certificate''s serial number in hexadecimal';
comment on column credential.not_before is 'Start of the certificate''s validity';
comment on column credential.not_after is 'End of the certificate''s validity';
comment on column credential.created_at is 'When it was registered';
comment on column credential.revoked_at is 'Null as long as it is accepted';
comment on column credential.revocation_reason is 'As in RFC 5280 section 5.3.1';

create table registry_version (
	only_row boolean primary key default true check (only_row),
	version bigint not null
);
insert into registry_version (version) values (1);
comment on table registry_version is 'One row; its number moves with every change of principals, credentials or policies';
comment on column registry_version.only_row is 'Keeps it at one row';
comment on column registry_version.version is 'Compared by every process at least every 5 seconds';

create function registry_changed() returns trigger language plpgsql security definer
	set search_path = fieldgate, pg_temp
as $$
begin
	update registry_version set version = version + 1;
	notify fieldgate_registry;
	return null;
end
$$;
comment on function registry_changed() is 'Moves registry_version and wakes the processes; the notification is only a hint';

create trigger registry_changed after insert or update or delete or truncate on policy
	for each statement execute function registry_changed();
create trigger registry_changed after insert or update or delete or truncate on policy_rule
	for each statement execute function registry_changed();
create trigger registry_changed after insert or update or delete or truncate on principal
	for each statement execute function registry_changed();
create trigger registry_changed after insert or update or delete or truncate on credential
	for each statement execute function registry_changed();
