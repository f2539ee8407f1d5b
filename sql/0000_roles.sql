-- SPDX-License-Identifier: Apache-2.0
-- The roles, the schema and the list of applied migrations. The one migration that runs as whoever
-- connects, because it makes the role that all others run as. Roles belong to the whole cluster: they may
-- be there already, made for another database.

do $$
declare
	v_role text;
	v_purpose text;
begin
	for v_role, v_purpose in values
		('fieldgate_owner', 'Owns the schema fieldgate and all in it; administers devices, credentials, policies and settings'),
		('fieldgate_ingest', 'The Fieldgate processes: read the registry, write what devices report'),
		('fieldgate_reader', 'People and dashboards: read everything but secrets')
	loop
		continue when exists (select from pg_roles where rolname = v_role);
		begin
			execute format('create role %I nologin', v_role);
			execute format('comment on role %I is %L', v_role, v_purpose);
		exception when duplicate_object or unique_violation then
			null; -- made at this moment for another database of the cluster
		end;
	end loop;

	-- A superuser needs no membership. Since PostgreSQL 16 a role's maker may grant it to itself, but
	-- may not act as it before that.
	if not pg_has_role('fieldgate_owner', 'usage') then
		execute format('grant fieldgate_owner to %I', current_user);
	end if;

	execute format('grant connect on database %I to fieldgate_owner, fieldgate_ingest, fieldgate_reader',
		current_database());
	execute format('alter database %I set search_path = fieldgate, public', current_database());
end
$$;

create schema if not exists fieldgate authorization fieldgate_owner;
set local role fieldgate_owner;
comment on schema fieldgate is 'Fieldgate: the registry of devices, and what they reported';

create table fieldgate.schema_migration (
	version integer primary key,
	name text not null unique,
	sha256 text not null,
	applied_at timestamptz not null default now()
);
comment on table fieldgate.schema_migration is 'The migrations that sql/migrate has applied to this database';
comment on column fieldgate.schema_migration.version is 'The number that the file''s name begins with';
comment on column fieldgate.schema_migration.name is 'The file''s name';
comment on column fieldgate.schema_migration.sha256 is 'Of the file, as it was applied: it must not change any more';
comment on column fieldgate.schema_migration.applied_at is 'When it was applied';

-- Functions can be executed by everybody unless this is said before they are made.
alter default privileges for role fieldgate_owner revoke execute on functions from public;
alter default privileges for role fieldgate_owner revoke usage on types from public;
