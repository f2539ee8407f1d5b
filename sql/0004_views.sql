-- SPDX-License-Identifier: Apache-2.0
-- What a person wants to see. Each view is cheap at any size of telemetry: it reads small tables, single
-- rows by key, or a bounded stretch of time.

create view device as
	select id, state, policy, note, created_at from principal where kind = 'device'
	with check option;
comment on view device is 'The devices among the principals: insert into device (id) values (''dev-1'')';
comment on column device.id is 'Device id';
comment on column device.state is 'pending, active, suspended or revoked';
comment on column device.policy is 'What it may do';
comment on column device.note is 'For people';
comment on column device.created_at is 'When it was registered';

create view device_status as
	select p.id as device, p.state, p.policy,
		coalesce(c.connected, false) as connected, c.source, c.since, c.reason,
		l.ts as last_message, k.credentials, k.nearest_expiry
	from principal p
	left join telemetry_latest l on l.device = p.id
	left join lateral (
		select connected, source, since, reason from presence
		where presence.device = p.id order by connected desc, since desc limit 1) c on true
	cross join lateral (
		select count(*) as credentials, min(not_after) as nearest_expiry from credential
		where principal = p.id and revoked_at is null) k
	where p.kind = 'device';
comment on view device_status is 'One row a device: may it connect, is it connected, when was it last heard of';
comment on column device_status.device is 'Device id';
comment on column device_status.state is 'Only an active device is let in';
comment on column device_status.policy is 'What it may do';
comment on column device_status.connected is 'Has it a connection now, over whichever protocol';
comment on column device_status.source is 'Over what it is, or was last, connected: mqtt or coap';
comment on column device_status.since is 'Since when it has been connected, or disconnected';
comment on column device_status.reason is 'Why it was disconnected';
comment on column device_status.last_message is 'Time of its newest telemetry';
comment on column device_status.credentials is 'How many credentials it has that are not revoked';
comment on column device_status.nearest_expiry is 'When the first of them expires';

create view fieldgate_status as
	select source, state, backlog_bytes, lag, messages, row_count as rows, dead_letters, updated_at,
		extract(epoch from age)::bigint as seconds_since, journal
	from ingest
	cross join lateral (select greatest(clock_timestamp() - updated_at, '0') as age) a
	cross join lateral (select case
		when age > make_interval(secs => setting_value('status_silent_s')) then 'silent'
		when lag > make_interval(secs => setting_value('status_behind_s')) then 'behind'
		else 'ok' end as state) s;
comment on view fieldgate_status is 'How each process that stores messages is doing; one row a journal';
comment on column fieldgate_status.source is 'The process: mqtt or coap';
comment on column fieldgate_status.state is 'ok; behind: its messages wait longer than setting status_behind_s; silent: it has not reported for status_silent_s, although it does so when nothing comes in, too';
comment on column fieldgate_status.backlog_bytes is 'Bytes in its journal that were not stored yet, when it last reported';
comment on column fieldgate_status.lag is 'Age of the oldest message not stored yet, when it last reported';
comment on column fieldgate_status.messages is 'Messages taken from the journal, ever';
comment on column fieldgate_status.rows is 'Rows made of them, repeats included';
comment on column fieldgate_status.dead_letters is 'Messages that went to dead_letter instead';
comment on column fieldgate_status.updated_at is 'When it last reported';
comment on column fieldgate_status.seconds_since is 'How long ago that is';
comment on column fieldgate_status.journal is 'The journal''s id';

create view dead_letter_summary as
	select device, reason, count(*) as messages, min(received_at) as first, max(received_at) as last
	from dead_letter
	where received_at > now() - interval '1 day'
	group by device, reason
	order by messages desc;
comment on view dead_letter_summary is 'What could not be stored in the last 24 hours, by device and reason';
comment on column dead_letter_summary.device is 'Device id';
comment on column dead_letter_summary.reason is 'Why';
comment on column dead_letter_summary.messages is 'How many';
comment on column dead_letter_summary.first is 'The oldest of them';
comment on column dead_letter_summary.last is 'The newest of them';

create view credential_expiring as
	select principal, kind, encode(fingerprint, 'hex') as fingerprint, serial, not_after,
		not_after - now() as remaining
	from credential
	where revoked_at is null and not_after < now() + interval '30 days'
	order by not_after;
comment on view credential_expiring is 'Credentials in use that expire within 30 days, or have expired';
comment on column credential_expiring.principal is 'Whose it is';
comment on column credential_expiring.kind is 'x509, x509_key, jwt, psk or token';
comment on column credential_expiring.fingerprint is 'Its fingerprint in hexadecimal';
comment on column credential_expiring.serial is 'The certificate''s serial number in hexadecimal';
comment on column credential_expiring.not_after is 'When it expires';
comment on column credential_expiring.remaining is 'How long from now; negative when it has expired';

create view storage as
	select table_name, count(*) as partitions, min(lower) as oldest, max(upper) as newest,
		sum(greatest(reltuples, 0))::bigint as estimated_rows,
		sum(pg_total_relation_size(part.oid))::bigint as bytes
	from partition_range
	join pg_class part on part.relname = partition_name and part.relnamespace = 'fieldgate'::regnamespace
	group by table_name;
comment on view storage is 'What the partitioned tables take on disk, from the catalogue: no row is read';
comment on column storage.table_name is 'The partitioned table';
comment on column storage.partitions is 'How many partitions it has';
comment on column storage.oldest is 'Where the oldest begins';
comment on column storage.newest is 'Where the newest ends';
comment on column storage.estimated_rows is 'Rows, as of the last vacuum or analyze';
comment on column storage.bytes is 'With indexes and toast';
