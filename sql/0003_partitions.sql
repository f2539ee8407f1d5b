-- SPDX-License-Identifier: Apache-2.0
-- Settings of the database, and the one mechanism that makes partitions and drops them again. Bounds are
-- midnights in UTC, whatever the session's time zone; a range is widened or cut so that it fits between
-- the partitions there are, so partition_days may be changed at any time.

create table setting (
	name text primary key check (name ~ '^[a-z][a-z0-9_]*$'),
	value integer not null,
	minimum integer not null,
	maximum integer not null,
	description text not null,
	check (value between minimum and maximum)
);
comment on table setting is 'Settings of the database, in force at once: update setting set value = 365 where name = ''retention_days''';
comment on column setting.name is 'What is set; its unit is in the name';
comment on column setting.value is 'The value in force';
comment on column setting.minimum is 'Smallest value allowed';
comment on column setting.maximum is 'Largest value allowed';
comment on column setting.description is 'What it does, and why one would change it';

insert into setting (name, value, minimum, maximum, description) values
	('partition_days', 7, 1, 366,
	 'Days in one partition made from now on (7: Monday to Sunday). More when years are kept: a query that names no time is planned over all partitions, in some milliseconds when there are 150'),
	('partitions_ahead', 2, 1, 52,
	 'How many partitions maintain() makes ahead of now, so that no writer has to'),
	('retention_days', 0, 0, 36500,
	 'telemetry: partitions that ended longer ago are dropped; 0 keeps everything'),
	('dead_letter_days', 90, 0, 36500, 'The same for dead_letter'),
	('presence_days', 90, 0, 36500, 'The same for presence_event'),
	('sequence_window_days', 1, 1, 366,
	 'How long a message with a sequence number but no time is remembered in sequence_seen, to know its repeat'),
	('partition_past_days', 1000, 1, 36500,
	 'No partition is made for a time longer ago. At least the processes'' store.max_past_days'),
	('partition_future_days', 30, 1, 36500,
	 'No partition is made for a time further ahead. At least the processes'' store.max_future_days'),
	('status_behind_s', 30, 1, 86400,
	 'fieldgate_status calls a source behind when its messages wait longer than this'),
	('status_silent_s', 300, 1, 86400,
	 'fieldgate_status calls a source silent when it has not reported for longer than this');

create function setting_value(p_name text) returns integer
	language plpgsql stable set search_path = fieldgate, pg_temp
as $$
declare
	v_value integer;
begin
	select value into v_value from setting where name = p_name;
	if not found then
		raise exception 'setting % is missing', p_name
			using errcode = 'FG003', hint = 'Insert it again as in sql/0003_partitions.sql';
	end if;
	return v_value;
end
$$;
comment on function setting_value is 'The value of a setting; FG003 when there is none of that name';

-- pg_get_expr prints bounds in the session's zone and style, and not every style can be read back:
-- so both happen under fixed ones.
create function partition_bounds() returns table (table_name text, partition_name text,
	lower timestamptz, upper timestamptz)
	language sql stable
	set search_path = fieldgate, pg_temp set timezone = 'UTC' set datestyle = 'ISO'
as $$
	select parent.relname, part.relname,
		case bound[1] when 'MINVALUE' then '-infinity' else trim(bound[1], '''') end::timestamptz,
		case bound[2] when 'MAXVALUE' then 'infinity' else trim(bound[2], '''') end::timestamptz
	from pg_partitioned_table
	join pg_class parent on parent.oid = partrelid
	join pg_inherits on inhparent = parent.oid
	join pg_class part on part.oid = inhrelid
	cross join regexp_match(pg_get_expr(part.relpartbound, part.oid),
		'FROM \((.+)\) TO \((.+)\)') bound
	where parent.relnamespace = 'fieldgate'::regnamespace
		and partstrat = 'r' and bound is not null and not inhdetachpending
$$;
comment on function partition_bounds is 'Behind the view partition_range';

create view partition_range as
	select table_name, partition_name, lower, upper from partition_bounds() order by table_name, lower;
comment on view partition_range is 'Which partitions there are, for which times: lower <= time < upper';
comment on column partition_range.table_name is 'The partitioned table';
comment on column partition_range.partition_name is 'The partition';
comment on column partition_range.lower is 'First moment in it';
comment on column partition_range.upper is 'First moment behind it';

-- First moment of the period, of those partition_days long since Monday 1970-01-05, that holds p_moment.
create function partition_period_start(p_moment timestamptz) returns timestamptz
	language plpgsql stable set search_path = fieldgate, pg_temp
as $$
declare
	v_days constant integer := setting_value('partition_days');
	v_day constant bigint := floor(extract(epoch from p_moment) / 86400);
begin
	return to_timestamp((floor((v_day - 4)::numeric / v_days) * v_days + 4) * 86400);
end
$$;
comment on function partition_period_start is 'Where a partition for this moment begins, if no other is in its way';

create function retention_days_of(p_table text) returns integer
	language plpgsql stable set search_path = fieldgate, pg_temp
as $$
begin
	case p_table
		when 'telemetry' then return setting_value('retention_days');
		when 'dead_letter' then return setting_value('dead_letter_days');
		when 'presence_event' then return setting_value('presence_days');
		else raise exception '% is not a partitioned table of Fieldgate', p_table
			using errcode = 'undefined_table',
			hint = 'There are telemetry, dead_letter and presence_event';
	end case;
end
$$;
comment on function retention_days_of is 'For how many days a partitioned table keeps its rows; 0: for ever';

create function make_partition(p_table text, p_moment timestamptz) returns timestamptz
	language plpgsql set search_path = fieldgate, pg_temp
as $$
declare
	v_bound constant text := 'YYYY-MM-DD HH24:MI:SS.US"+00"';
	v_lower timestamptz := partition_period_start(p_moment);
	v_upper timestamptz := v_lower + make_interval(hours => 24 * setting_value('partition_days'));
	v_base text;
	v_name text;
begin
	select greatest(v_lower, max(upper) filter (where upper <= p_moment)),
		least(v_upper, min(lower) filter (where lower > p_moment))
	into v_lower, v_upper from partition_range where table_name = p_table;

	v_name := p_table || '_' || to_char(v_lower at time zone 'UTC', 'YYYYMMDD');
	if v_lower <> date_trunc('day', v_lower, 'UTC') then
		v_name := v_name || to_char(v_lower at time zone 'UTC', '_HH24MISSUS');
	end if;
	-- Whoever detached a partition to keep it elsewhere has left its name in use.
	v_base := v_name;
	for v_number in 2 .. 1000 loop
		exit when to_regclass(quote_ident(v_name)) is null;
		v_name := v_base || '_' || v_number;
	end loop;
	-- Not `partition of`: that would lock all readers and writers of the table out for a moment.
	execute format('create table %I (like %I including defaults including constraints including generated '
		'including storage including compression including statistics)', v_name, p_table);
	execute format('alter table %I attach partition %I for values from (%L) to (%L)', p_table, v_name,
		to_char(v_lower at time zone 'UTC', v_bound), to_char(v_upper at time zone 'UTC', v_bound));
	execute format('comment on table %I is %L', v_name, format('%s from %s to %s, UTC', p_table,
		v_lower at time zone 'UTC', v_upper at time zone 'UTC'));
	return v_upper;
end
$$;
comment on function make_partition is 'Make the partition that holds a moment, and return where it ends. The caller has the lock';

create function make_partitions(p_table text, p_from timestamptz, p_to timestamptz) returns integer
	language plpgsql set search_path = fieldgate, pg_temp
as $$
declare
	v_moment timestamptz := p_from;
	v_upper timestamptz;
	v_locked boolean := false;
	v_made integer := 0;
begin
	while v_moment <= p_to loop
		select upper into v_upper from partition_range
		where table_name = p_table and lower <= v_moment and v_moment < upper;
		if not found then
			if not v_locked then
				perform pg_advisory_xact_lock(1178026324, 2);
				v_locked := true;
				continue; -- look again: whoever had the lock may have made it
			end if;
			v_upper := make_partition(p_table, v_moment);
			v_made := v_made + 1;
		end if;
		v_moment := v_upper;
	end loop;
	return v_made;
end
$$;
comment on function make_partitions is 'Make what is missing so that every moment from p_from to p_to has its partition; returns how many were made';

create function ensure_partitions_for(p_table text, p_from timestamptz, p_to timestamptz) returns integer
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_retention constant integer := retention_days_of(p_table);
	v_oldest constant timestamptz := now() - make_interval(days => setting_value('partition_past_days'));
	v_newest constant timestamptz := now() + make_interval(days => setting_value('partition_future_days'));
begin
	if p_from is null or p_to is null or p_from > p_to then
		raise exception 'no range of time: % to %', p_from, p_to
			using errcode = 'invalid_parameter_value', hint = 'Give the oldest time, then the newest';
	end if;
	if p_from < v_oldest or p_to > v_newest then
		raise exception '%: no partition is made for % to %', p_table, p_from, p_to
			using errcode = 'FG002',
			detail = format('Times from %s to %s are believed', v_oldest, v_newest),
			hint = 'If they are right, raise partition_past_days or partition_future_days in fieldgate.setting';
	end if;
	-- As in maintain(): a partition that it would drop at once is not made.
	if v_retention > 0 and partition_period_start(p_from)
		+ make_interval(hours => 24 * setting_value('partition_days'))
		<= now() - make_interval(days => v_retention) then
		raise exception '%: no partition is made for %', p_table, p_from
			using errcode = 'FG002',
			detail = format('Rows are kept for %s days', v_retention),
			hint = 'The time is older than fieldgate.setting keeps rows of this table';
	end if;
	return make_partitions(p_table, p_from, p_to);
end
$$;
comment on function ensure_partitions_for is 'Make the partitions of a table in which the times from p_from to p_to, both included, can be stored; returns how many were made. Fails with FG002 for times that are not believed or not kept. Call it in a transaction of its own: two that make partitions wait for each other';

create function ensure_partitions(p_from timestamptz, p_to timestamptz) returns integer
	language sql security definer set search_path = fieldgate, pg_temp
as $$
	select ensure_partitions_for('telemetry', p_from, p_to)
$$;
comment on function ensure_partitions is 'ensure_partitions_for(''telemetry'', p_from, p_to)';

create function add_latest_columns() returns setof text
	language plpgsql set search_path = fieldgate, pg_temp
as $$
declare
	v_column record;
begin
	for v_column in
		select attname, format_type(atttypid, atttypmod) as type_name
		from pg_attribute
		where attrelid = 'telemetry'::regclass and attnum > 0 and not attisdropped
			and attgenerated = '' and attname not in ('ts_source', 'subtopic')
			and attname not in (select attname from pg_attribute
				where attrelid = 'telemetry_latest'::regclass and not attisdropped)
		order by attnum
	loop
		execute format('alter table telemetry_latest add column %I %s', v_column.attname, v_column.type_name);
		execute format('comment on column telemetry_latest.%I is %L', v_column.attname,
			'Last known value; see telemetry.' || v_column.attname);
		return next format('added column %s to telemetry_latest', v_column.attname);
	end loop;
end
$$;
comment on function add_latest_columns is 'Give telemetry_latest the metrics that telemetry has and it lacks';

create function drop_old_partitions() returns setof text
	language plpgsql set search_path = fieldgate, pg_temp
as $$
declare
	v_part record;
begin
	for v_part in
		select partition_name from partition_range
		where table_name in ('telemetry', 'dead_letter', 'presence_event')
			and retention_days_of(table_name) > 0
			and upper <= now() - make_interval(days => retention_days_of(table_name))
		order by upper
	loop
		execute format('drop table %I', v_part.partition_name);
		return next format('dropped %s', v_part.partition_name);
	end loop;
end
$$;
comment on function drop_old_partitions is 'Drop what retention does not keep';

-- What locks readers out (a column, a drop) comes last, so that it is held only until the commit, and gives
-- up when it does not get its lock soon: while it waits, everybody else waits behind it.
create function maintain() returns setof text
	language plpgsql security definer set search_path = fieldgate, pg_temp set lock_timeout = '300ms'
as $$
declare
	v_table text;
	v_count bigint;
	v_waiting interval;
begin
	if not pg_try_advisory_xact_lock(1178026324, 3) then
		return next 'another session is at it';
		return;
	end if;

	-- Messages that wait in a journal may repeat what was stored before them: while they wait (for
	-- a week at most, the process may be gone for good), the window is longer.
	select least(coalesce(max(now() - updated_at + lag), '0'), '7 days') into v_waiting
	from ingest where backlog_bytes > 0;
	-- Bounded, so that it ends within the processes' database.timeout_s; the next call goes on.
	delete from sequence_seen where ctid = any (array(
		select ctid from sequence_seen
		where ts < now() - v_waiting - make_interval(days => setting_value('sequence_window_days'))
		limit 2000000));
	get diagnostics v_count = row_count;
	if v_count > 0 then
		return next format('forgot %s old sequence numbers', v_count);
	end if;

	foreach v_table in array array['telemetry', 'dead_letter', 'presence_event'] loop
		begin
			v_count := make_partitions(v_table, now(), now() + make_interval(
				days => setting_value('partitions_ahead') * setting_value('partition_days')));
			if v_count > 0 then
				return next format('made %s partitions of %s', v_count, v_table);
			end if;
		exception when lock_not_available then
			return next format('postponed: partitions of %s; the table is locked', v_table);
		end;
	end loop;

	begin
		return query select * from add_latest_columns();
	exception when lock_not_available then
		return next 'postponed: columns of telemetry_latest; the table is in use';
	end;
	begin
		return query select * from drop_old_partitions();
	exception when lock_not_available then
		return next 'postponed: dropping old partitions; a long transaction uses them';
	end;
end
$$;
comment on function maintain is 'Call it every few minutes: makes partitions ahead, drops what retention does not keep, forgets old sequence numbers, gives telemetry_latest new metrics. Returns a line for each thing done; when another session is at it, it does nothing';
