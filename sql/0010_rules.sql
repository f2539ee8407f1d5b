-- SPDX-License-Identifier: Apache-2.0
-- Rules: what is done with messages beside storing them. They are a part of the registry: every process reads
-- them with its snapshot and compiles them. PostgreSQL checks their shape only; whether a statement can be parsed
-- the processes say, in the column problem.

alter type policy_action add value 'relay';
comment on type policy_action is 'publish a topic, subscribe to a filter, receive a topic; relay: what is published to a topic comes from Fieldgate itself, and is not taken in again';
comment on column policy_rule.action is 'publish, subscribe, receive or relay';

create table rule (
	name text primary key
		constraint "rule.name: 1 to 64 of A-Z a-z 0-9 _ . : -"
			check (name ~ '^[A-Za-z0-9_.:-]{1,64}$'),
	sql text not null
		constraint "rule.sql: 1 to 8192 bytes" check (octet_length(sql) between 1 and 8192),
	actions jsonb not null default '[]'
		constraint "rule.actions: an array of at most 10 objects" check (
			case when jsonb_typeof(actions) = 'array' then jsonb_array_length(actions) <= 10
				and not jsonb_path_exists(actions, 'strict $[*] ? (@.type() != "object")')
				else false end)
		constraint "rule.actions: at most 65535 bytes" check (octet_length(actions::text) <= 65535),
	error_action jsonb
		constraint "rule.error_action: null or an object" check (jsonb_typeof(error_action) = 'object')
		constraint "rule.error_action: at most 65535 bytes"
			check (octet_length(error_action::text) <= 65535),
	enabled boolean not null default true,
	description text not null default '',
	revision bigint not null default 0,
	problem text,
	judged_at timestamptz,
	created_at timestamptz not null default now()
);
comment on table rule is 'Rules, in force in all processes within 5 seconds. Columns revision, problem and judged_at are kept by Fieldgate';
comment on column rule.name is 'Its name in messages and counters: letters, digits and _ . : - only, at most 64';
comment on column rule.sql is 'SELECT ... FROM ''topic filter'' [WHERE ...]: docs/rules.md is the grammar';
comment on column rule.actions is 'What is done when it matches: an array of {"republish": {...}}, {"store": {...}} and {"drop": {}}';
comment on column rule.error_action is 'What is done when one of its actions, or the rule itself, fails: {"republish": {...}} or {"store": {...}}; null: nothing';
comment on column rule.enabled is 'False: as if it were not there';
comment on column rule.description is 'For people';
comment on column rule.revision is 'Greater after every change of name, sql, actions, error_action or enabled, also when it was deleted in between';
comment on column rule.problem is 'Why this revision is not in force; null with judged_at set: it is';
comment on column rule.judged_at is 'When a process first said so; null: none has read this revision yet';
comment on column rule.created_at is 'When the row was made';

create function rule_revision() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
begin
	if tg_op = 'UPDATE' then
		if (new.name, new.sql, new.actions, new.error_action, new.enabled)
			is not distinct from (old.name, old.sql, old.actions, old.error_action, old.enabled) then
			new.revision := old.revision;
			return new;
		end if;
		new.revision := next_version(old.revision);
	else
		new.revision := next_version(0);
	end if;
	new.problem := null;
	new.judged_at := null;
	return new;
end
$$;
comment on function rule_revision is 'Moves rule.revision with what the processes must read again, and forgets the verdict on the revision before';
create trigger rule_revision before insert or update on rule
	for each row execute function rule_revision();

-- A verdict, or another description, is nothing that the processes must read: only a new revision is.
create function rule_updated() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
begin
	if exists (select name, revision from rule_after except select name, revision from rule_before) then
		update registry_version set version = version + 1;
		notify fieldgate_registry;
	end if;
	return null;
end
$$;
comment on function rule_updated is 'As registry_changed, for updates that make a new revision of a rule';
create trigger registry_changed after insert or delete or truncate on rule
	for each statement execute function registry_changed();
create trigger rule_updated after update on rule
	referencing old table as rule_before new table as rule_after
	for each statement execute function rule_updated();
comment on table registry_version is 'One row; its number moves with every change of principals, credentials, policies or rules';

create function rule_judged(p_name text, p_revision bigint, p_problem text) returns boolean
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
begin
	update rule set problem = left(p_problem, 1000), judged_at = clock_timestamp()
		where name = p_name and revision = p_revision
			and (judged_at is null or problem is distinct from left(p_problem, 1000));
	return found;
end
$$;
comment on function rule_judged is 'A process says of a rule that it read whether it is in force (null), or why not. False, and nothing is written, when that was said before or the rule is another by now';

grant select on rule to fieldgate_ingest, fieldgate_reader;
grant execute on function rule_judged to fieldgate_ingest;
