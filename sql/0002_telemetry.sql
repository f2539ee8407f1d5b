-- SPDX-License-Identifier: Apache-2.0
-- Where messages end. Every per-device table has device in its primary key, and the writer's path has no
-- trigger and no sequence, so that the tables can be distributed by device.

create type ts_source as enum ('device', 'receipt', 'out_of_range');
comment on type ts_source is 'Where a row''s ts comes from: the device; the time of receipt, because the device gave none; the time of receipt, because the device''s was implausible (it is kept in extra.device_ts)';

-- The order of the columns is that in which they pack: those of eight bytes, the name, those of four.
create table telemetry (
	ts timestamptz not null,
	received_at timestamptz not null,
	seq bigint not null,
	device text not null,
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
-- A few kilobytes find the last hour of the whole fleet.
create index telemetry_ts on telemetry using brin (ts) with (autosummarize = on);
comment on table telemetry is 'One row a message (or a moment of a bulk message): one column for each metric that the fleet uses, extra for the rest. Add a column, and its readings go there from the next batch';
comment on column telemetry.device is 'Who reported it';
comment on column telemetry.ts is 'When it was measured; where that comes from is in ts_source';
comment on column telemetry.seq is 'Tells rows of a device with equal ts apart, and is the same when a message comes again: made of the message, never of a counter of the database';
comment on column telemetry.received_at is 'When Fieldgate received it';
comment on column telemetry.ts_source is 'Where ts comes from';
comment on column telemetry.temperature is 'Degrees Celsius';
comment on column telemetry.humidity is 'Relative humidity in percent';
comment on column telemetry.pressure is 'Air pressure, in the unit that the device reports';
comment on column telemetry.air_quality is 'Air quality index, as the device reports it';
comment on column telemetry.light is 'Illuminance, in the unit that the device reports';
comment on column telemetry.battery is 'Battery, in the unit that the device reports';
comment on column telemetry.rsrp is 'Reference signal received power in dBm';
comment on column telemetry.altitude is 'Metres above the reference of the device';
comment on column telemetry.accuracy is 'Uncertainty of the position in metres';
comment on column telemetry.speed is 'Metres per second';
comment on column telemetry.heading is 'Degrees from true north';
comment on column telemetry.latitude is 'Degrees north';
comment on column telemetry.longitude is 'Degrees east';
comment on column telemetry.subtopic is 'What follows m/d/<device>/d2c/ in the topic; null when nothing does';
comment on column telemetry.extra is 'Readings that have no column: name -> value';

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
comment on column telemetry_latest.device is 'Whose';
comment on column telemetry_latest.ts is 'Newest time of its telemetry';
comment on column telemetry_latest.seq is 'seq of that row of telemetry';
comment on column telemetry_latest.received_at is 'When that row was received';
comment on column telemetry_latest.temperature is 'Last known value; see telemetry.temperature';
comment on column telemetry_latest.humidity is 'Last known value; see telemetry.humidity';
comment on column telemetry_latest.pressure is 'Last known value; see telemetry.pressure';
comment on column telemetry_latest.air_quality is 'Last known value; see telemetry.air_quality';
comment on column telemetry_latest.light is 'Last known value; see telemetry.light';
comment on column telemetry_latest.battery is 'Last known value; see telemetry.battery';
comment on column telemetry_latest.rsrp is 'Last known value; see telemetry.rsrp';
comment on column telemetry_latest.altitude is 'Last known value; see telemetry.altitude';
comment on column telemetry_latest.accuracy is 'Last known value; see telemetry.accuracy';
comment on column telemetry_latest.speed is 'Last known value; see telemetry.speed';
comment on column telemetry_latest.heading is 'Last known value; see telemetry.heading';
comment on column telemetry_latest.latitude is 'Last known value; see telemetry.latitude';
comment on column telemetry_latest.longitude is 'Last known value; see telemetry.longitude';
comment on column telemetry_latest.extra is 'Last known value of each reading that has no column';

create table sequence_seen (
	device text not null,
	seq bigint not null,
	content bigint not null,
	ts timestamptz not null,
	primary key (device, seq, content)
);
-- In the order of time, or nearly: a few kilobytes find what is to be pruned.
create index sequence_seen_ts on sequence_seen using brin (ts) with (autosummarize = on);
comment on table sequence_seen is 'Messages that carried a sequence number but no time, so that a repeat is known as one; pruned by maintain()';
comment on column sequence_seen.device is 'Who sent it';
comment on column sequence_seen.seq is 'The sequence number that the message carried';
comment on column sequence_seen.content is 'Hash of the message: a device that restarts counts from the beginning, with other content';
comment on column sequence_seen.ts is 'The ts that its row got, when it came first';

create table dead_letter (
	device text not null,
	received_at timestamptz not null,
	seq bigint not null,
	topic text not null,
	reason text not null,
	payload bytea not null,
	primary key (device, received_at, seq)
) partition by range (received_at);
-- The dead letters of an hour, of all devices, without reading a partition whole.
create index dead_letter_received_at on dead_letter using brin (received_at) with (autosummarize = on);
comment on table dead_letter is 'Messages that could not be decoded or stored, as they came, with the reason';
comment on column dead_letter.device is 'Who sent it';
comment on column dead_letter.received_at is 'When it came';
comment on column dead_letter.seq is 'Tells those of one moment apart';
comment on column dead_letter.topic is 'The topic it was published to';
comment on column dead_letter.reason is 'Why it was not stored, and what to do';
comment on column dead_letter.payload is 'The message, byte for byte';

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
comment on column presence_event.device is 'Who';
comment on column presence_event.at is 'When';
comment on column presence_event.seq is 'Tells those of one moment apart';
comment on column presence_event.source is 'mqtt or coap';
comment on column presence_event.client_id is 'The protocols own name of the connection';
comment on column presence_event.event is 'connected or disconnected';
comment on column presence_event.reason is 'Why it was disconnected';
comment on column presence_event.address is 'The peers network address, if known';

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
comment on column presence.device is 'Who';
comment on column presence.source is 'mqtt or coap';
comment on column presence.client_id is 'The protocols own name of the connection';
comment on column presence.connected is 'Is it connected now';
comment on column presence.since is 'Since when';
comment on column presence.seq is 'seq of the presence_event that said so';
comment on column presence.reason is 'Why it was disconnected';
comment on column presence.address is 'The peers network address, if known';

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
comment on column ingest.journal is 'The journals id, drawn when its directory was made';
comment on column ingest.source is 'The process that it belongs to: mqtt or coap';
comment on column ingest.segment is 'Everything before this position is in the tables: segment';
comment on column ingest."offset" is 'and byte in it';
comment on column ingest.messages is 'Messages taken from it, ever';
comment on column ingest.row_count is 'Rows of telemetry made of them, repeats included';
comment on column ingest.dead_letters is 'Messages that went to dead_letter instead';
comment on column ingest.backlog_bytes is 'Bytes behind the position, at the last report';
comment on column ingest.lag is 'Age of the oldest message behind the position, at the last report';
comment on column ingest.updated_at is 'When it was last moved or reported';

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
