-- SPDX-License-Identifier: Apache-2.0
-- What a device keeps in the cloud: its state, as two documents (`desired` by its owner, `reported` by the
-- device), and small named values. Every operation of a device is one statement, a call of one of the functions
-- below; an owner uses desire() or plain SQL. Triggers keep the versions and tell the processes, so it does not
-- matter who changes what, nor how.

-- ---- documents ----

-- Qualified, since a function that calls itself cannot be bound when it is made.
create function merge_patch(target jsonb, patch jsonb) returns jsonb
	language plpgsql immutable parallel safe
as $$
begin
	if jsonb_typeof(patch) is distinct from 'object' then
		return patch;
	end if;
	if jsonb_typeof(target) is distinct from 'object' then
		target := '{}';
	end if;
	return (
		select coalesce(jsonb_object_agg(key, case
			when p.value is null then t.value
			when jsonb_typeof(p.value) = 'object' then fieldgate.merge_patch(t.value, p.value)
			else p.value end), '{}')
		from jsonb_each(target) t full join jsonb_each(patch) p using (key)
		where p.value is distinct from 'null');
end
$$;
comment on function merge_patch is 'JSON merge patch (RFC 7396): target with the members of patch; null removes a member, everything but objects is replaced whole';

-- The delta is itself a merge patch: applied to reported, it leaves nothing of the delta. Therefore a null that
-- is desired is met by a member that is not there.
create function delta(desired jsonb, reported jsonb) returns jsonb
	language plpgsql immutable parallel safe
as $$
begin
	if desired = reported then
		return '{}';
	end if;
	return (
		select coalesce(jsonb_object_agg(key, case when nested then d else d_value end), '{}')
		from (
			select key, desired_member.value as d_value, nested,
				case when nested then fieldgate.delta(desired_member.value, reported_member.value) end as d,
				coalesce(reported_member.value, 'null') as r_value
			from jsonb_each(desired) desired_member
			left join jsonb_each(reported) reported_member using (key)
			cross join lateral (select jsonb_typeof(desired_member.value) = 'object'
				and jsonb_typeof(reported_member.value) is not distinct from 'object' as nested) n) m
		where case when nested then d <> '{}' else d_value <> r_value end);
end
$$;
comment on function delta is 'What is desired and not reported so, member by member; arrays are compared whole, and what is only reported does not count';

create function nested_deeper(document jsonb, depth integer) returns boolean
	language sql immutable parallel safe
return pg_catalog.jsonb_path_exists(document, pg_catalog.format(
	'strict $.**{%s to last} ? (@.type() == "object" || @.type() == "array")', depth)::jsonpath);
comment on function nested_deeper is 'Are arrays and objects nested deeper than this? A bare number has depth 0';

-- Never the same number twice, also when a row is deleted and made again: a device may still know the old one.
create function next_version(previous bigint) returns bigint
	language sql volatile
return greatest(previous + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
comment on function next_version is 'A version greater than the previous one: microseconds since 1970, as a rule';

-- ---- tables ----

create domain document_name as text
	check (value ~ '^[A-Za-z0-9_.-]{1,64}$' and value not in ('.', '..'));
comment on domain document_name is 'Letters, digits and _ . - only, at most 64, and neither . nor ..: it is a part of a path';

create table device_state (
	device principal_id primary key references principal (id) on delete cascade on update cascade,
	desired jsonb not null default '{}' check (jsonb_typeof(desired) = 'object'),
	reported jsonb not null default '{}' check (jsonb_typeof(reported) = 'object'),
	desired_version bigint not null default 0,
	reported_version bigint not null default 0,
	desired_at timestamptz,
	reported_at timestamptz,
	desired_by text,
	reported_by text
);
comment on table device_state is 'The state of each device: what its owner wants of it, and what it says of itself. Columns but device, desired and reported are kept by a trigger';
comment on column device_state.device is 'Whose';
comment on column device_state.desired is 'As the owner wants it: a JSON object';
comment on column device_state.reported is 'As the device says it is: a JSON object';
comment on column device_state.desired_version is 'Greater after every real change of desired, also than reported_version; 0: never set';
comment on column device_state.reported_version is 'Greater after every real change of reported, also than desired_version; 0: never set';
comment on column device_state.desired_at is 'When desired last changed';
comment on column device_state.reported_at is 'When reported last changed';
comment on column device_state.desired_by is 'The database''s user who changed desired last; fieldgate_ingest is the device itself';
comment on column device_state.reported_by is 'The database''s user who changed reported last; fieldgate_ingest is the device itself';

create table device_value (
	device principal_id references principal (id) on delete cascade on update cascade,
	name document_name,
	format integer check (format between 0 and 65535),
	value bytea not null,
	version bigint not null default 0,
	updated_at timestamptz not null default now(),
	updated_by text not null default session_user,
	primary key (device, name)
);
comment on table device_value is 'Small values that devices keep here under names. Columns version, updated_at and updated_by are kept by a trigger';
comment on column device_value.device is 'Whose';
comment on column device_value.name is 'Its name: store/<name> for the device';
comment on column device_value.format is 'CoAP Content-Format of value (0 text, 42 bytes, 50 JSON, 60 CBOR, ...); null if the device gave none';
comment on column device_value.value is 'As the device sent it';
comment on column device_value.version is 'Greater after every real change, also when it was deleted in between';
comment on column device_value.updated_at is 'When it last changed';
comment on column device_value.updated_by is 'The database''s user who changed it last; fieldgate_ingest is the device itself';

-- ---- versions ----

create function device_state_version() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_before device_state;
	v_newest bigint;
begin
	if tg_op = 'UPDATE' then
		v_before := old;
	else
		v_before.desired := '{}';
		v_before.reported := '{}';
		v_before.desired_version := 0;
		v_before.reported_version := 0;
	end if;
	v_newest := greatest(v_before.desired_version, v_before.reported_version);
	new.desired_version := v_before.desired_version;
	new.desired_at := v_before.desired_at;
	new.desired_by := v_before.desired_by;
	new.reported_version := v_before.reported_version;
	new.reported_at := v_before.reported_at;
	new.reported_by := v_before.reported_by;
	if new.desired <> v_before.desired then
		v_newest := next_version(v_newest);
		new.desired_version := v_newest;
		new.desired_at := clock_timestamp();
		new.desired_by := session_user;
	end if;
	if new.reported <> v_before.reported then
		new.reported_version := next_version(v_newest);
		new.reported_at := clock_timestamp();
		new.reported_by := session_user;
	end if;
	return new;
end
$$;
comment on function device_state_version() is 'Keeps versions, times and users of device_state, whoever changes it';

create trigger device_state_version before insert or update on device_state
	for each row execute function device_state_version();

create function device_value_version() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
begin
	if tg_op = 'UPDATE' and new.value = old.value and new.format is not distinct from old.format then
		new.version := old.version;
		new.updated_at := old.updated_at;
		new.updated_by := old.updated_by;
	else
		new.version := next_version(case when tg_op = 'UPDATE' then old.version end);
		new.updated_at := clock_timestamp();
		new.updated_by := session_user;
	end if;
	return new;
end
$$;
comment on function device_value_version() is 'Keeps version, time and user of device_value, whoever changes it';

create trigger device_value_version before insert or update on device_value
	for each row execute function device_value_version();

-- ---- notifications ----

-- The payload, of at most 129 bytes: `device` (its state changed), `device/` (its state, but not what is to be
-- done: the delta), `device/name` (a value), or nothing (anything may have changed).

create function device_state_notify() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_before jsonb := '{}'; -- deltas
	v_after jsonb := '{}';
begin
	if tg_op = 'TRUNCATE' then
		notify fieldgate_document;
		return null;
	end if;
	if tg_op <> 'INSERT' then
		v_before := delta(old.desired, old.reported);
	end if;
	if tg_op <> 'DELETE' then
		v_after := delta(new.desired, new.reported);
	end if;
	if tg_op = 'UPDATE' and new.device = old.device then
		if new.desired_version <> old.desired_version or new.reported_version <> old.reported_version then
			perform pg_notify('fieldgate_document',
				new.device || case when v_before = v_after then '/' else '' end);
		end if;
		return null;
	end if;
	if tg_op <> 'INSERT' then
		perform pg_notify('fieldgate_document', old.device || case when v_before = '{}' then '/' else '' end);
	end if;
	if tg_op <> 'DELETE' then
		perform pg_notify('fieldgate_document', new.device || case when v_after = '{}' then '/' else '' end);
	end if;
	return null;
end
$$;
comment on function device_state_notify() is 'Tells the processes that a device''s state has changed';

create trigger device_state_notify after insert or update or delete on device_state
	for each row execute function device_state_notify();
create trigger device_state_truncate after truncate on device_state
	for each statement execute function device_state_notify();

create function device_value_notify() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
begin
	if tg_op = 'TRUNCATE' then
		notify fieldgate_document;
		return null;
	end if;
	if tg_op = 'UPDATE' and (new.device, new.name, new.version) = (old.device, old.name, old.version) then
		return null;
	end if;
	if tg_op <> 'INSERT' then
		perform pg_notify('fieldgate_document', old.device || '/' || old.name);
	end if;
	if tg_op <> 'DELETE' then
		perform pg_notify('fieldgate_document', new.device || '/' || new.name);
	end if;
	return null;
end
$$;
comment on function device_value_notify() is 'Tells the processes that a value has changed';

create trigger device_value_notify after insert or update or delete on device_value
	for each row execute function device_value_notify();
create trigger device_value_truncate after truncate on device_value
	for each statement execute function device_value_notify();

-- ---- what a device does ----

create type document_outcome as enum ('ok', 'created', 'not_found', 'bad', 'precondition', 'too_large');
comment on type document_outcome is 'How an operation on a document ended';

create type document_answer as (
	outcome document_outcome,
	why text,
	version bigint,
	format integer,
	payload bytea
);
comment on type document_answer is 'What an operation on a document gives: outcome, why for people, version of what was asked for, CoAP Content-Format, content';

create function answer(outcome document_outcome, why text default '', version bigint default 0,
	format integer default null, payload bytea default null) returns document_answer
	language sql immutable
return (outcome, why, version, format, payload);
comment on function answer is 'Makes a document_answer';

-- They are the only way in for the processes, which can neither read nor change the tables: so a process that
-- was taken over can touch one document after the other, if it knows their names, but not list them.

create type state_part as enum ('delta', 'desired', 'all');
comment on type state_part is 'What is read of a state: desired and not reported so; all that is desired; {"desired": ..., "reported": ...}';

create function state_get(p_device text, p_part state_part) returns document_answer
	language plpgsql stable security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_state device_state;
	v_desired jsonb;
	v_reported jsonb;
	v_part jsonb;
begin
	select * into v_state from device_state where device = p_device;
	v_desired := coalesce(v_state.desired, '{}');
	v_reported := coalesce(v_state.reported, '{}');
	case p_part
		when 'delta' then v_part := delta(v_desired, v_reported);
		when 'desired' then v_part := v_desired;
		when 'all' then v_part := jsonb_build_object('desired', v_desired, 'reported', v_reported);
	end case;
	return answer('ok', '', coalesce(greatest(v_state.desired_version, v_state.reported_version), 0), 50,
		case when v_part = '{}' then '' else convert_to(v_part::text, 'UTF8') end);
end
$$;
comment on function state_get is 'A part of the state of a device as JSON; nothing at all instead of {}. The version is that of the whole state';

-- p_if_exists: only if there is one (true) or none (false) yet; p_if_version: only if this is its version; null: any.

-- p_if_version and the version in the answer are those of the whole state, as in state_get.
create function state_change(p_device text, p_desired boolean, p_merge boolean, p_document text,
	p_if_exists boolean, p_if_version bigint, p_max_bytes bigint, p_max_depth integer) returns document_answer
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_document jsonb := p_document; -- not JSON: an error that says where
	v_before device_state;
	v_after device_state;
	v_version bigint;
begin
	if jsonb_typeof(v_document) <> 'object' then
		return answer('bad', 'the state is a JSON object, and so must be what changes it');
	end if;
	if nested_deeper(v_document, p_max_depth) then
		return answer('bad', format('nested deeper than %s', p_max_depth));
	end if;

	select * into v_before from device_state where device = p_device for update;
	if not found then -- the first at a time
		perform from principal where id = p_device for no key update;
		if not found then
			return answer('not_found', 'no such device');
		end if;
		select * into v_before from device_state where device = p_device for update;
	end if;
	v_version := coalesce(greatest(v_before.desired_version, v_before.reported_version), 0);
	if p_if_version <> v_version then
		return answer('precondition', 'the state has another version', v_version);
	end if;
	if p_if_exists <> (coalesce(case when p_desired then v_before.desired_version
			else v_before.reported_version end, 0) > 0) then
		return answer('precondition', 'it has ' || (case when p_if_exists then 'never' else 'already' end)
			|| ' been set', v_version);
	end if;

	if p_merge then
		v_document := merge_patch(case when p_desired then v_before.desired else v_before.reported end, v_document);
	end if;
	if octet_length(v_document::text) > p_max_bytes then
		return answer('too_large', format('the state would take %s bytes; it may have %s',
			octet_length(v_document::text), p_max_bytes), v_version);
	end if;

	if p_desired then
		insert into device_state (device, desired) values (p_device, v_document)
			on conflict (device) do update set desired = excluded.desired
			where device_state.desired <> excluded.desired
			returning * into v_after;
	else
		insert into device_state (device, reported) values (p_device, v_document)
			on conflict (device) do update set reported = excluded.reported
			where device_state.reported <> excluded.reported
			returning * into v_after;
	end if;
	return answer('ok', '', coalesce(greatest(v_after.desired_version, v_after.reported_version), v_version));
end
$$;
comment on function state_change is 'Replace, or (p_merge) patch, what is desired (p_desired) or reported of a device';

create function value_get(p_device text, p_name text) returns document_answer
	language plpgsql stable security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_value device_value;
begin
	select * into v_value from device_value where device = p_device and name = p_name;
	if not found then
		return answer('not_found');
	end if;
	return answer('ok', '', v_value.version, v_value.format, v_value.value);
end
$$;
comment on function value_get is 'A value of a device';

create function value_put(p_device text, p_name text, p_format integer, p_value bytea,
	p_if_exists boolean, p_if_version bigint, p_max_bytes bigint, p_max_values bigint) returns document_answer
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_name document_name := p_name;
	v_before device_value;
	v_after device_value;
	v_count bigint;
begin
	if octet_length(p_value) > p_max_bytes then
		return answer('too_large', format('the value has %s bytes; it may have %s', octet_length(p_value), p_max_bytes));
	end if;
	select * into v_before from device_value where device = p_device and name = v_name for update;
	if not found then -- one new name at a time: so the count is exact
		perform from principal where id = p_device for no key update;
		if not found then
			return answer('not_found', 'no such device');
		end if;
		select * into v_before from device_value where device = p_device and name = v_name for update;
	end if;
	if p_if_exists <> (v_before.version is not null) then
		return answer('precondition', case when p_if_exists then 'there is none' else 'there is one' end,
			coalesce(v_before.version, 0));
	end if;
	if p_if_version <> coalesce(v_before.version, 0) then
		return answer('precondition', 'it has another version', coalesce(v_before.version, 0));
	end if;
	if v_before.version is null then
		select count(*) into v_count from device_value where device = p_device;
		if v_count >= p_max_values then
			return answer('too_large', format('this device has %s values already; delete one', v_count));
		end if;
	end if;

	insert into device_value (device, name, format, value) values (p_device, v_name, p_format, p_value)
		on conflict (device, name) do update set format = excluded.format, value = excluded.value
		where (device_value.value, device_value.format) is distinct from (excluded.value, excluded.format)
		returning * into v_after;
	return answer(case when v_before.version is null then 'created' else 'ok' end::document_outcome, '',
		coalesce(v_after.version, v_before.version));
end
$$;
comment on function value_put is 'Make or replace a value of a device';

create function value_delete(p_device text, p_name text, p_if_exists boolean, p_if_version bigint)
	returns document_answer
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_version bigint;
begin
	select version into v_version from device_value where device = p_device and name = p_name for update;
	if p_if_version <> coalesce(v_version, 0) or p_if_exists <> (v_version is not null) then
		return answer('precondition', case when v_version is null then 'there is none'
			else 'it has another version' end, coalesce(v_version, 0));
	end if;
	if v_version is null then
		return answer('not_found');
	end if;
	delete from device_value where device = p_device and name = p_name;
	return answer('ok');
end
$$;
comment on function value_delete is 'Delete a value of a device';

-- ---- for people ----

create function desire(p_device text, p_patch jsonb) returns jsonb
	language sql set search_path = fieldgate, pg_temp
as $$
	insert into device_state as s (device, desired) values (p_device, merge_patch('{}', p_patch))
	on conflict (device) do update set desired = merge_patch(s.desired, p_patch)
	returning delta(desired, reported)
$$;
comment on function desire is 'Change what is desired of a device by a JSON merge patch, and see what it has still to do. For a whole fleet: select desire(id, ''{"interval": 60}'') from device';

create view device_shadow as
	select p.id as device, coalesce(desired, '{}') as desired, coalesce(reported, '{}') as reported,
		delta(coalesce(desired, '{}'), coalesce(reported, '{}')) as delta,
		desired_version, desired_at, desired_by, reported_version, reported_at, reported_by
	from principal p
	left join device_state s on s.device = p.id
	where p.kind = 'device' or s.device is not null;
comment on view device_shadow is 'One row a device: what is wanted of it, what it says it is, and what it has still to do';
comment on column device_shadow.device is 'Device id';
comment on column device_shadow.desired is 'As the owner wants it';
comment on column device_shadow.reported is 'As the device says it is';
comment on column device_shadow.delta is 'What is desired and not reported so; {} when the device has done it all';
comment on column device_shadow.desired_version is 'Greater after every change of desired';
comment on column device_shadow.desired_at is 'When desired last changed';
comment on column device_shadow.desired_by is 'The database''s user who changed desired last; fieldgate_ingest is the device itself';
comment on column device_shadow.reported_version is 'Greater after every change of reported';
comment on column device_shadow.reported_at is 'When reported last changed';
comment on column device_shadow.reported_by is 'The database''s user who changed reported last; fieldgate_ingest is the device itself';

-- ---- rights ----

grant usage on type document_name, state_part, document_outcome, document_answer to fieldgate_ingest, fieldgate_reader;
grant execute on function state_get(text, state_part),
	state_change(text, boolean, boolean, text, boolean, bigint, bigint, integer),
	value_get(text, text),
	value_put(text, text, integer, bytea, boolean, bigint, bigint, bigint),
	value_delete(text, text, boolean, bigint)
	to fieldgate_ingest;
grant select on device_state, device_value, device_shadow to fieldgate_reader;
grant execute on function merge_patch(jsonb, jsonb), delta(jsonb, jsonb) to fieldgate_reader;

-- What a device may do with its own: by topics, as with everything else.
insert into policy_rule (policy, effect, action, filter)
	select 'device', 'allow', action, 'm/d/${device}/' || filter
	from unnest('{publish,subscribe,receive}'::policy_action[]) action
	cross join unnest('{state,state/#,store/#}'::text[]) filter
	where exists (select from policy where name = 'device')
	on conflict do nothing;
update policy set description = 'Built in: a device publishes its own d2c topics, receives its own c2d topics, and uses its own state and store'
	where name = 'device' and description = 'Built in: a device publishes its own d2c topics and receives its own c2d topics';
