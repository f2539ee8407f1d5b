-- SPDX-License-Identifier: Apache-2.0
-- Messages that wait for a device, whichever protocol it speaks. Anybody who may insert a row sends one; the
-- processes can neither read nor change the table but by the functions below: so a process that was taken over
-- can do what it does for its devices, for every device (send, and mark as delivered, one message after the
-- other), but neither delete messages, nor read those that were delivered, nor change what was sent.

insert into setting (name, value, minimum, maximum, description) values
	('downlink_expire_s', 604800, 1, 315360000,
	 'downlink: how long a message waits for its device, unless its row says until when. Less for commands that are worth nothing tomorrow'),
	('downlink_max_waiting', 100, 1, 100000,
	 'downlink: messages that may wait for one device; more are refused. Two transactions at once do not see each other''s'),
	('downlink_max_bytes', 1800, 1, 1048576,
	 'downlink: bytes of one message; a longer one is refused. The TLS buffer of an nRF9160 has 2 KB, for topic and payload'),
	('downlink_keep_days', 7, 1, 36500,
	 'downlink: messages that were delivered, or expired, longer ago are deleted by maintain()');

create domain downlink_subtopic as text
	check (octet_length(value) <= 200 and value !~ '[+#\u0001-\u001f\u007f-\u009f]' and value !~ '(^|/)(/|$)');
comment on domain downlink_subtopic is 'Levels of a topic: at most 200 bytes, none empty, without + and # and control characters';

create table downlink (
	id bigint generated always as identity,
	device principal_id references principal (id) on delete cascade on update cascade,
	subtopic downlink_subtopic,
	payload bytea not null,
	format integer check (format between 0 and 65535),
	created_at timestamptz not null default now(),
	expires_at timestamptz not null,
	source text not null default 'sql',
	delivered_at timestamptz,
	delivered_over text,
	primary key (device, id)
);
-- What has expired does not stand between a device and its oldest message, however much that is.
create index downlink_undelivered on downlink (device, expires_at) where delivered_at is null;
create index downlink_done on downlink (least(delivered_at, expires_at));
comment on table downlink is 'Messages down to devices: insert into downlink (device, payload) values (''dev-1'', ''{"led": 1}''). A device gets them in the order of id';
comment on column downlink.id is 'Its number; grows';
comment on column downlink.device is 'Whom it is for';
comment on column downlink.subtopic is 'What follows m/d/<device>/c2d/ in the topic, msg/c2d/ in the path; null: nothing does';
comment on column downlink.payload is 'The message, byte for byte. A text with backslashes: convert_to(''...'', ''UTF8'')';
comment on column downlink.format is 'CoAP Content-Format of payload (0 text, 42 bytes, 50 JSON, 60 CBOR, ...); null: found by looking at it, when it is delivered over CoAP';
comment on column downlink.created_at is 'Since when it waits';
comment on column downlink.expires_at is 'Until when it waits: given, or setting downlink_expire_s from now';
comment on column downlink.source is 'Where it comes from: sql, or the process that it was published to: mqtt, coap, ...';
comment on column downlink.delivered_at is 'When it was delivered; null: not yet. What that means is in docs/downlink.md';
comment on column downlink.delivered_over is 'How: mqtt or coap';

-- ---- coming in ----

create function downlink_refusal(p_device text, p_bytes bigint) returns text
	language plpgsql set search_path = fieldgate, pg_temp
as $$
declare
	v_max_bytes constant integer := setting_value('downlink_max_bytes');
	v_max_waiting constant integer := setting_value('downlink_max_waiting');
	v_waiting bigint;
begin
	if p_bytes > v_max_bytes then
		return format('downlink: the message for %s has %s bytes; it may have %s: send less, or raise '
			'downlink_max_bytes in fieldgate.setting', p_device, p_bytes, v_max_bytes);
	end if;
	select count(*) into v_waiting from (
		select from downlink
		where device = p_device and delivered_at is null and expires_at > now()
		limit v_max_waiting) w;
	if v_waiting >= v_max_waiting then
		return format('downlink: %s messages wait for %s already: delete some, let them expire sooner, or raise '
			'downlink_max_waiting in fieldgate.setting', v_waiting, p_device);
	end if;
	return null;
end
$$;
-- Volatile: the rows of the statement under way count.
comment on function downlink_refusal is 'Why one message more of so many bytes may not wait for a device; null: it may';

create function downlink_check() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_refusal constant text := downlink_refusal(new.device, octet_length(new.payload));
begin
	if v_refusal is not null then
		raise exception '%', v_refusal using errcode = 'program_limit_exceeded';
	end if;
	new.expires_at := coalesce(new.expires_at,
		now() + make_interval(secs => setting_value('downlink_expire_s')));
	return new;
end
$$;
comment on function downlink_check() is 'Bounds of what waits for a device, whoever sends it; and until when it waits';

create trigger downlink_check before insert on downlink
	for each row execute function downlink_check();

create function downlink_notify() returns trigger
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
begin
	if tg_op = 'INSERT' then
		perform pg_notify('fieldgate_downlink', device) from (select distinct device from added) d;
	else
		perform pg_notify('fieldgate_downlink', new.device);
	end if;
	return null;
end
$$;
comment on function downlink_notify() is 'Tells the processes that a message waits for a device; its id is the payload';

create trigger downlink_notify after insert on downlink referencing new table as added
	for each statement execute function downlink_notify();
create trigger downlink_notify_again after update on downlink
	for each row when (new.delivered_at is null and (old.delivered_at is not null
		or new.expires_at > old.expires_at or new.device <> old.device))
	execute function downlink_notify();

-- ---- what the processes do ----

create type downlink_answer as (
	outcome document_outcome,
	why text,
	version bigint,
	format integer,
	payload bytea,
	name text,
	waiting bigint,
	created_at timestamptz,
	expires_at timestamptz
);
comment on type downlink_answer is 'As document_answer, of a message: version is its id, name its subtopic, waiting how many wait behind it';

create function downlink_done(p_device text, p_id bigint, p_over text) returns downlink_answer
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
begin
	update downlink set delivered_at = clock_timestamp(), delivered_over = p_over
	where device = p_device and id = p_id and delivered_at is null;
	if not found then
		perform from downlink where device = p_device and id = p_id;
	end if;
	return row(case when found then 'ok' else 'not_found' end::document_outcome, '', p_id, null, null, null, 0,
		null, null)::downlink_answer;
end
$$;
comment on function downlink_done is 'Mark a message of a device as delivered; ok also when it was already';

create function downlink_next(p_device text, p_subtopic text, p_done bigint, p_over text) returns downlink_answer
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v record;
begin
	if p_done is not null then
		perform downlink_done(p_device, p_done, p_over);
	end if;
	-- One statement: between two of them another process may deliver what the first has found. And not the
	-- primary key's order with a limit: that would go through all that is done.
	with w as materialized (
		select id, p_subtopic is null or coalesce(subtopic, '') = p_subtopic as wanted from downlink
		where device = p_device and delivered_at is null and expires_at > now())
	select c.everything, c.wanted, d.id, d.format, d.payload, d.subtopic, d.created_at, d.expires_at
	into v
	from (select count(*) as everything, count(*) filter (where wanted) as wanted, min(id) filter (where wanted) as id
		from w) c
	left join downlink d on d.device = p_device and d.id = c.id;
	if v.id is null then
		return row('not_found', '', 0, null, null, null, v.everything, null, null)::downlink_answer;
	end if;
	return row('ok', '', v.id, v.format, v.payload, v.subtopic, v.wanted - 1, v.created_at, v.expires_at)::downlink_answer;
end
$$;
comment on function downlink_next is 'The oldest message that waits for a device, after p_done (null: none) was marked as delivered. p_subtopic: of this one only, '''' for those without; null: any. not_found: none, and waiting says how many wait under another subtopic';

create function downlink_waiting() returns setof text
	language sql stable security definer set search_path = fieldgate, pg_temp
as $$
	select distinct device from downlink where delivered_at is null and expires_at > now()
$$;
comment on function downlink_waiting is 'The devices for which a message waits';

-- The store calls it in the transaction that moves the journal's position: nothing in here may fail because of
-- what a message is, nor wait for anybody.
create function downlink_enqueue(p_journal uuid, p_source text, p_device text[], p_subtopic text[], p_payload bytea[],
	p_format integer[], p_topic text[], p_received_at timestamptz[], p_seq bigint[]) returns bigint
	language plpgsql security definer set search_path = fieldgate, pg_temp
as $$
declare
	v_message record;
	v_last_source text;
	v_subtopic downlink_subtopic;
	v_reason text;
	v_refused bigint := 0;
begin
	for v_message in
		select * from unnest(p_device, p_subtopic, p_payload, p_format, p_topic, p_received_at, p_seq)
			as u (device, subtopic, payload, format, topic, received_at, seq)
	loop
		perform from principal where id = v_message.device and kind = 'device';
		continue when not found;
		select source into v_last_source from presence
		where device = v_message.device order by connected desc, since desc limit 1;
		continue when found and v_last_source not like 'coap%';

		v_reason := null;
		begin
			v_subtopic := v_message.subtopic;
		exception when check_violation then
			v_reason := 'downlink: the topic has an empty level, a wildcard or a control character, or is too long';
		end;
		-- Then the foreign key waits for nobody.
		perform from principal where id = v_message.device for key share skip locked;
		if not found then
			v_reason := 'downlink: the device is being deleted or renamed by somebody';
		end if;
		if v_reason is null then
			-- Asked once, by the trigger: others may insert between two questions.
			begin
				insert into downlink (device, subtopic, payload, format, source)
				values (v_message.device, v_subtopic, v_message.payload, v_message.format, p_source);
			exception when program_limit_exceeded then
				v_reason := sqlerrm;
			end;
		end if;
		if v_reason is not null then
			v_refused := v_refused + 1;
			insert into dead_letter (device, received_at, seq, topic, reason, payload)
			values (v_message.device, v_message.received_at, v_message.seq, v_message.topic, v_reason,
				v_message.payload)
			on conflict do nothing;
		end if;
	end loop;
	if v_refused > 0 then
		update ingest set dead_letters = dead_letters + v_refused where journal = p_journal;
	end if;
	return v_refused;
end
$$;
comment on function downlink_enqueue is 'Messages that were published to devices wait for those that were last seen over CoAP, or never; the others have them from the broker. What is refused goes to dead_letter; returns how many';

-- ---- for people ----

create or replace view device_status as
	select p.id as device, p.state, p.policy,
		coalesce(c.connected, false) as connected, c.source, c.since, c.reason,
		l.ts as last_message, k.credentials, k.nearest_expiry, w.waiting, w.waiting_since
	from principal p
	left join telemetry_latest l on l.device = p.id
	left join lateral (
		select connected, source, since, reason from presence
		where presence.device = p.id order by connected desc, since desc limit 1) c on true
	cross join lateral (
		select count(*) as credentials, min(not_after) as nearest_expiry from credential
		where principal = p.id and revoked_at is null) k
	cross join lateral (
		select count(*) as waiting, min(created_at) as waiting_since from downlink
		where downlink.device = p.id and delivered_at is null and expires_at > now()) w
	where p.kind = 'device';
comment on column device_status.waiting is 'How many messages wait for it in downlink';
comment on column device_status.waiting_since is 'Since when the oldest of them does';

create function forget_downlinks() returns bigint
	language plpgsql set search_path = fieldgate, pg_temp
as $$
declare
	v_count bigint;
begin
	-- Bounded, as in maintain().
	delete from downlink where ctid = any (array(
		select ctid from downlink
		where least(delivered_at, expires_at) < now() - make_interval(days => setting_value('downlink_keep_days'))
		limit 100000));
	get diagnostics v_count = row_count;
	return v_count;
end
$$;
comment on function forget_downlinks is 'Delete messages that were delivered or expired long ago; returns how many';

-- maintain() as it was is a part of it now.
alter function maintain() rename to maintain_storage;
revoke execute on function maintain_storage() from fieldgate_ingest;
comment on function maintain_storage is 'The part of maintain() that is about partitions, columns and old sequence numbers';

create function maintain() returns setof text
	language plpgsql security definer set search_path = fieldgate, pg_temp set lock_timeout = '300ms'
as $$
declare
	v_count bigint;
begin
	if not pg_try_advisory_xact_lock(1178026324, 3) then
		return next 'another session is at it';
		return;
	end if;
	v_count := forget_downlinks();
	if v_count > 0 then
		return next format('deleted %s old messages to devices', v_count);
	end if;
	return query select * from maintain_storage();
end
$$;
comment on function maintain is 'Call it every few minutes: makes partitions ahead, drops what retention does not keep, forgets old sequence numbers and messages to devices, gives telemetry_latest new metrics. Returns a line for each thing done; when another session is at it, it does nothing';

-- ---- rights ----

grant usage on type downlink_subtopic, downlink_answer to fieldgate_ingest, fieldgate_reader;
grant select on downlink to fieldgate_reader;
grant execute on function downlink_next(text, text, bigint, text), downlink_done(text, bigint, text),
	downlink_waiting(), maintain(),
	downlink_enqueue(uuid, text, text[], text[], bytea[], integer[], text[], timestamptz[], bigint[])
	to fieldgate_ingest;
