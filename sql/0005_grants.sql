-- SPDX-License-Identifier: Apache-2.0
-- Who may do what. Nobody but fieldgate_owner can change the registry or the settings, and nobody but it
-- and the processes can read credential.material.

grant usage on schema fieldgate to fieldgate_ingest, fieldgate_reader;
grant usage on type principal_kind, principal_state, credential_kind, policy_effect, policy_action,
	principal_id, ts_source to fieldgate_ingest, fieldgate_reader;

grant select on schema_migration, setting, policy, policy_rule, principal, registry_version,
	telemetry, telemetry_latest, sequence_seen, dead_letter, presence_event, presence, ingest,
	partition_range, device, device_status, fieldgate_status, dead_letter_summary,
	credential_expiring, storage
	to fieldgate_ingest, fieldgate_reader;
grant execute on function partition_bounds(), setting_value(text) to fieldgate_ingest, fieldgate_reader;

grant select on credential to fieldgate_ingest;
grant select (kind, fingerprint, principal, serial, not_before, not_after, created_at, revoked_at,
	revocation_reason) on credential to fieldgate_reader;

grant insert on telemetry, sequence_seen, dead_letter, presence_event to fieldgate_ingest;
grant insert, update on telemetry_latest, presence, ingest to fieldgate_ingest;
grant execute on function
	journal_advance(uuid, bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint, interval),
	ensure_partitions(timestamptz, timestamptz),
	ensure_partitions_for(text, timestamptz, timestamptz),
	maintain()
	to fieldgate_ingest;

-- The first partitions.
do 'begin perform fieldgate.maintain(); end';
