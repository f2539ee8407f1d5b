-- SPDX-License-Identifier: Apache-2.0
-- Where messages end. Every per-device table has device in its primary key, and the writer's path has no
-- trigger and no sequence, so that the tables can be distributed by device.

create type ts_source as enum ('device', 'receipt', 'out_of_range');
comment on type ts_source is 'Where a row''s ts comes from: the device; the time of receipt, because the device gave none; the time of receipt, because the device''s was implausible (it is kept in extra.device_ts)';

create table telemetry (
	device text not null,
	ts timestamptz not null,
	seq bigint not null,
	received_at timestamptz not null,
	ts_source ts_source not null,
	temperature real,
	humidity real,
	pressure real,
	air_quality real,
	light real,
	battery real,
	rsrp real,
	altitude real,
	accuracy real,
	speed real,
	heading real,
	latitude double precision,
	longitude double precision,
	subtopic text,
	extra jsonb,
	primary key (device, ts, seq)
) partition by range (ts);
comment on table telemetry is 'One row a message (or a moment of a bulk message): one column for each metric that the fleet uses, extra for the rest. Add a column, and its readings go there from the next batch';

create table telemetry_latest (
	device text primary key,
	ts timestamptz not null,
	seq bigint not null,
	received_at timestamptz not null,
	temperature real,
	humidity real,
	pressure real,
	air_quality real,
	light real,
	battery real,
	rsrp real,
	altitude real,
	accuracy real,
	speed real,
	heading real,
	latitude double precision,
	longitude double precision,
	extra jsonb
) with (fillfactor = 50);
comment on table telemetry_latest is 'One row a device: its newest time and the last known value of each metric. Late data fills what is unknown and never overwrites';

create table sequence_seen (
	device text not null,
	seq bigint not null,
	content bigint not null,
	ts timestamptz not null,
	primary key (device, seq, content)
);
comment on table sequence_seen is 'Messages that carried a sequence number but no time, so that a repeat is known as one; pruned by maintain()';

create table dead_letter (
	device text not null,
	received_at timestamptz not null,
	seq bigint not null,
	topic text not null,
	reason text not null,
	payload bytea not null,
	primary key (device, received_at, seq)
) partition by range (received_at);
comment on table dead_letter is 'Messages that could not be decoded or stored, as they came, with the reason';

create table presence_event (
	device text not null,
	at timestamptz not null,
	seq bigint not null,
	source text not null,
	client_id text not null,
	event text not null check (event in ('connected', 'disconnected')),
	reason text,
	address text,
	primary key (device, at, seq)
) partition by range (at);
comment on table presence_event is 'Connects and disconnects as they happened';

create table presence (
	device text not null,
	source text not null,
	client_id text not null,
	connected boolean not null,
	since timestamptz not null,
	seq bigint not null,
	reason text,
	address text,
	primary key (device, source, client_id)
) with (fillfactor = 70);
comment on table presence is 'Who is connected now, and since when; or why not any more';

create table ingest (
	journal uuid primary key,
	source text not null,
	segment bigint not null,
	"offset" bigint not null,
	messages bigint not null default 0,
	row_count bigint not null default 0,
	dead_letters bigint not null default 0,
	backlog_bytes bigint not null default 0,
	lag interval not null default '0',
	updated_at timestamptz not null default now()
) with (fillfactor = 50);
comment on table ingest is 'One row a journal: up to where its messages are in the tables. Moved in the transaction that writes the rows';

create function journal_advance(p_journal uuid, p_segment bigint, p_offset bigint,
	p_new_segment bigint, p_new_offset bigint, p_messages bigint, p_rows bigint,
	p_dead_letters bigint, p_backlog_bytes bigint, p_lag interval) returns void
	language plpgsql
as $$
begin
	update fieldgate.ingest set segment = p_new_segment, "offset" = p_new_offset,
		messages = messages + p_messages, row_count = row_count + p_rows,
		dead_letters = dead_letters + p_dead_letters, backlog_bytes = p_backlog_bytes,
		lag = p_lag, updated_at = clock_timestamp()
	where journal = p_journal and segment = p_segment and "offset" = p_offset;
	if not found then
		raise exception 'journal % is not at position %/%', p_journal, p_segment, p_offset
			using errcode = 'FG001',
			hint = 'Another writer moved it, or the last commit did succeed: read the position again';
	end if;
end
$$;
comment on function journal_advance is 'Move a journal''s committed position from one place to the next, or fail with FG001 when it is not there';
