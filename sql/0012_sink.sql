-- SPDX-License-Identifier: Apache-2.0
-- What the sinks keep: how far each has stored what rules store, and the counters of rules.

create table sink_position (
	journal uuid not null,
	target text not null default '',
	source text not null,
	segment bigint not null,
	"offset" bigint not null,
	updated_at timestamptz not null default clock_timestamp(),
	primary key (journal, target)
);
comment on table sink_position is 'How far each journal has been run through the rules'' actions `store`; moved in the transaction that inserts the rows';
comment on column sink_position.journal is 'The journal''s id, drawn when it was made';
comment on column sink_position.target is 'Empty: all tables but those that have a row of their own here, because they were locked or too slow and stay behind';
comment on column sink_position.source is 'The process whose journal it is: mqtt, coap, coap-1';
comment on column sink_position.segment is 'Everything before this place has been done';
comment on column sink_position."offset" is 'Bytes from the segment''s start';
comment on column sink_position.updated_at is 'When it moved last';

create function sink_advance(p_journal uuid, p_target text, p_segment bigint, p_offset bigint,
	p_new_segment bigint, p_new_offset bigint) returns void
	language plpgsql set search_path = fieldgate, pg_temp
as $$
begin
	update sink_position set segment = p_new_segment, "offset" = p_new_offset,
		updated_at = clock_timestamp()
	where journal = p_journal and target = p_target and segment = p_segment and "offset" = p_offset;
	if not found then
		raise exception 'the sink of journal % is not at position %/%', p_journal, p_segment, p_offset
			using errcode = 'FG001',
			hint = 'Another writer moved it, or the last commit did succeed: read the position again';
	end if;
end
$$;
comment on function sink_advance is 'Move a position from one place to the next, or fail with FG001 when it is not there';

create table rule_counter (
	rule text not null references rule (name) on delete cascade on update cascade,
	source text not null,
	matched bigint not null default 0,
	errors bigint not null default 0,
	cut bigint not null default 0,
	matched_at timestamptz,
	failed_at timestamptz,
	last_error text,
	primary key (rule, source)
);
comment on table rule_counter is 'What became of each rule in each process since the rule was made; the processes add to it';
comment on column rule_counter.rule is 'The rule''s name';
comment on column rule_counter.source is 'The process: mqtt, coap, coap-1';
comment on column rule_counter.matched is 'Messages that it matched';
comment on column rule_counter.errors is 'Evaluations and actions that failed';
comment on column rule_counter.cut is 'Times that it was not run, because rules that trigger one another had gone deep enough';
comment on column rule_counter.matched_at is 'When it matched last';
comment on column rule_counter.failed_at is 'When it failed last';
comment on column rule_counter.last_error is 'Why it failed last';

-- A rule that is being deleted is waited for, and then passed over: so its counters never fail.
create function rule_count(p_source text, p_counts jsonb) returns void
	language sql security definer set search_path = fieldgate, pg_temp
as $$
	insert into rule_counter as c (rule, source, matched, errors, cut, matched_at, failed_at, last_error)
	select r.name, p_source, n.matched, n.errors, n.cut, n.matched_at, n.failed_at, n.last_error
	from jsonb_to_recordset(p_counts) as n (rule text, matched bigint, errors bigint, cut bigint,
		matched_at timestamptz, failed_at timestamptz, last_error text)
	join rule r on r.name = n.rule
	order by r.name
	for key share of r
	on conflict (rule, source) do update set
		matched = c.matched + excluded.matched, errors = c.errors + excluded.errors,
		cut = c.cut + excluded.cut, matched_at = greatest(c.matched_at, excluded.matched_at),
		failed_at = greatest(c.failed_at, excluded.failed_at),
		last_error = case when excluded.failed_at < c.failed_at then c.last_error
			else coalesce(excluded.last_error, c.last_error) end
$$;
comment on function rule_count is 'Add what happened to rules in one process: an array of {"rule", "matched", "errors", "cut", "matched_at", "failed_at", "last_error"}';

create view rule_status as
	select r.name, r.enabled, r.enabled and r.judged_at is not null and r.problem is null as in_force,
		r.problem, coalesce(c.matched, 0) as matched, coalesce(c.errors, 0) as errors,
		coalesce(c.cut, 0) as cut, c.last_match, c.last_error_at, c.last_error
	from rule r
	left join lateral (
		select sum(matched)::bigint as matched, sum(errors)::bigint as errors, sum(cut)::bigint as cut,
			max(matched_at) as last_match, max(failed_at) as last_error_at,
			(array_agg(last_error order by failed_at desc) filter (where failed_at is not null))[1]
				as last_error
		from rule_counter where rule = r.name
	) c on true
	order by r.name;
comment on view rule_status is 'Which rules are in force, if not why not, and what became of them in all processes together';
comment on column rule_status.name is 'The rule''s name';
comment on column rule_status.enabled is 'False: as if it were not there';
comment on column rule_status.in_force is 'A process has read it and found nothing wrong';
comment on column rule_status.problem is 'Why it is not in force';
comment on column rule_status.matched is 'Messages that it matched';
comment on column rule_status.errors is 'Evaluations and actions that failed';
comment on column rule_status.cut is 'Times that it was not run, because rules that trigger one another had gone deep enough';
comment on column rule_status.last_match is 'When it matched last';
comment on column rule_status.last_error_at is 'When it failed last';
comment on column rule_status.last_error is 'Why it failed last';

grant select on sink_position, rule_counter, rule_status to fieldgate_ingest, fieldgate_reader;
grant insert, update, delete on sink_position to fieldgate_ingest;
grant execute on function sink_advance(uuid, text, bigint, bigint, bigint, bigint),
	rule_count(text, jsonb) to fieldgate_ingest;
