# SPDX-License-Identifier: Apache-2.0
"""What each role may do, and above all what it may not."""

import contextlib
import pathlib
import sys

import psycopg2.errors
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, OWNER, READER, fresh_database, query  # noqa: E402

JOURNAL = "7d3f6c1e-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def db():
    with fresh_database() as database:
        database.query(
            """insert into device (id) values ('dev-1');
            insert into credential (kind, fingerprint, principal, material)
                values ('psk', sha256('dev-1'), 'dev-1', 'secret')"""
        )
        yield database


WRITES_OF_REGISTRY = [
    "insert into principal (id) values ('intruder')",
    "insert into device (id) values ('intruder')",
    "update principal set state = 'active'",
    "update device set policy = 'device'",
    "delete from principal",
    "truncate principal cascade",
    "insert into credential (kind, fingerprint, principal) values ('x509', sha256('x'), 'dev-1')",
    "update credential set revoked_at = null",
    "delete from credential",
    "insert into policy (name) values ('all')",
    "update policy set description = ''",
    "insert into policy_rule (policy, action, filter) values ('device', 'publish', '#')",
    "update policy_rule set filter = '#'",
    "delete from policy_rule",
    "update registry_version set version = 0",
    "insert into authority (fingerprint, name, certificate, not_before, not_after)"
    " values (sha256('x'), 'mine', 'x', now(), now())",
    "update authority set enrolment = 'active'",
    "delete from authority",
    "insert into revoked_certificate (kind, fingerprint, principal, revoked_at)"
    " values ('x509', sha256('x'), 'dev-1', now())",
    "delete from revoked_certificate",
    "truncate revoked_certificate",
    "insert into rule (name, sql) values ('mine', 'select 1')",
    "update rule set enabled = false",
    "update rule set problem = null",
    "delete from rule",
    "truncate rule",
    "update setting set value = 1 where name = 'retention_days'",
    "insert into setting values ('x', 1, 1, 1, '')",
    "delete from schema_migration",
]
WRITES_OF_HISTORY = [
    "update telemetry set temperature = 0",
    "delete from telemetry",
    "truncate telemetry",
    "delete from telemetry_latest",
    "update dead_letter set reason = ''",
    "delete from dead_letter",
    "update presence_event set event = 'connected'",
    "delete from presence_event",
    "delete from presence",
    "delete from sequence_seen",
    "delete from ingest",
]
CHANGES_OF_SCHEMA = [
    "create table fieldgate.mine ()",
    "create function fieldgate.mine() returns int language sql return 1",
    "alter table telemetry add column mine int",
    "drop table telemetry",
    "drop view device",
    "alter role fieldgate_ingest createrole",
    "set role fieldgate_owner",
    "select make_partitions('telemetry', now(), now())",
    "select make_partition('telemetry', now())",
    "select add_latest_columns()",
    "select drop_old_partitions()",
    "select registry_changed()",
    "select rule_revision()",
    "select rule_updated()",
    "select next_version(0)",
    "select desire('dev-1', '{}')",
    "select forget_downlinks()",
    "select downlink_refusal('dev-1', 1)",
]
DOCUMENTS = [
    "insert into device_state (device, desired) values ('dev-1', '{}')",
    "update device_state set desired = '{}'",
    "delete from device_state",
    "truncate device_state",
    "insert into device_value (device, name, value) values ('dev-1', 'x', '')",
    "update device_value set value = ''",
    "delete from device_value",
    "truncate device_value",
    "insert into downlink (device, payload) values ('dev-1', '')",
    "update downlink set delivered_at = null",
    "delete from downlink",
    "truncate downlink",
]
SECRETS_AND_HISTORY = [
    "select temperature from telemetry",
    "select payload from dead_letter",
    "select address from presence_event",
    "select * from device_status",
    "select * from credential_expiring",
    "select * from device_state",
    "select device from device_value",
    "select * from device_shadow",
    "select payload from downlink",
]
WRITES_OF_INGEST = [
    "insert into telemetry (device, ts, seq, received_at, ts_source)"
    " values ('dev-1', now(), 1, now(), 'device') on conflict do nothing",
    "insert into telemetry_latest (device, ts, seq, received_at) values ('dev-1', now(), 1, now())"
    " on conflict (device) do update set ts = excluded.ts where telemetry_latest.ts < excluded.ts",
    "insert into sequence_seen (device, seq, content, ts) values ('dev-1', 1, 1, now())"
    " on conflict do nothing returning device",
    "insert into dead_letter (device, received_at, seq, topic, reason, payload)"
    " values ('dev-1', now(), 1, 't', 'r', '') on conflict do nothing",
    "insert into presence_event (device, at, seq, source, client_id, event)"
    " values ('dev-1', now(), 1, 'mqtt', 'dev-1', 'connected') on conflict do nothing",
    "insert into presence (device, source, client_id, connected, since, seq)"
    " values ('dev-1', 'mqtt', 'dev-1', true, now(), 1)"
    " on conflict (device, source, client_id) do update set connected = excluded.connected",
    "update presence set connected = false, reason = 'restart' where source = 'mqtt'",
    f"insert into ingest (journal, source, segment, \"offset\") values ('{JOURNAL}', 'mqtt', 0, 0)"
    " on conflict do nothing",
    f"select journal_advance('{JOURNAL}', 0, 0, 0, 100, 1, 1, 0, 0, '0')",
    "select ensure_partitions(now(), now())",
    "select ensure_partitions_for('dead_letter', now(), now())",
    "select * from maintain()",
    "select state_get('dev-1', 'all')",
    "select state_change('dev-1', true, true, '{\"a\": 1}', null, null, 1000, 16)",
    "select value_put('dev-1', 'x', 0, 'value', null, null, 1000, 16)",
    "select value_get('dev-1', 'x')",
    "select value_delete('dev-1', 'x', null, null)",
    "select rule_judged('hot', 1, null)",
    "select downlink_next('dev-1', null, 1, 'coap')",
    "select downlink_done('dev-1', 1, 'mqtt')",
    "select * from downlink_waiting()",
    f"select downlink_enqueue('{JOURNAL}', 'mqtt', '{{dev-1}}', '{{a}}', '{{x}}', '{{null}}',"
    " '{m/d/dev-1/c2d/a}', array[now()], '{1}')",
]


@pytest.mark.parametrize(
    "sql", WRITES_OF_REGISTRY + WRITES_OF_HISTORY + CHANGES_OF_SCHEMA + DOCUMENTS + SECRETS_AND_HISTORY
)
def test_ingest_may_not(db, sql):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        db.query(sql, role=INGEST)


@pytest.mark.parametrize(
    "sql",
    WRITES_OF_REGISTRY
    + WRITES_OF_HISTORY
    + CHANGES_OF_SCHEMA
    + DOCUMENTS
    + WRITES_OF_INGEST
    + ["select material from credential", "select fingerprint from credential", "select * from credential"],
)
def test_reader_may_not(db, sql):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        db.query(sql, role=READER)


def test_ingest_may_do_what_the_store_does(db):
    for sql in WRITES_OF_INGEST:
        db.query(sql, role=INGEST)


def test_ingest_reads_the_registry_and_listens(db):
    with contextlib.closing(db.connect(INGEST)) as connection:
        query(connection, "listen fieldgate_registry")
        version = query(connection, "select version from registry_version")
        assert query(connection, "select convert_from(material, 'UTF8') from credential") == [("secret",)]
        assert query(connection, "select id, kind, state, policy from principal") == [
            ("dev-1", "device", "active", "device")
        ]
        db.query("insert into device (id) values ('dev-2')")
        assert query(connection, "select version from registry_version") > version
        connection.poll()
        assert [n.channel for n in connection.notifies] == ["fieldgate_registry"]


def test_fingerprints_of_tokens_are_not_shown(db):
    """A weak token could be guessed from it."""
    db.query(
        """insert into credential (kind, fingerprint, principal, not_after)
            values ('token', sha256('token'), 'dev-1', now()), ('x509', sha256('x509'), 'dev-1', now())"""
    )
    shown = db.query("select kind, fingerprint from credential_expiring order by kind", role=READER)
    assert [(kind, bool(fingerprint)) for kind, fingerprint in shown] == [("x509", True), ("token", False)]


def test_partitions_cannot_be_reached_past_their_table(db):
    part = db.value("select partition_name from partition_range where table_name = 'telemetry' limit 1")
    for role in INGEST, READER:
        for sql in f"select * from {part}", f"delete from {part}", f"drop table {part}":
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                db.query(sql, role=role)


def test_reader_reads_every_table_and_view(db):
    relations = db.query(
        """select relname, string_agg(quote_ident(attname), ', ') from pg_class
        join pg_attribute on attrelid = pg_class.oid
        where relnamespace = 'fieldgate'::regnamespace and relkind in ('r', 'p', 'v')
        and not relispartition and attnum > 0 and not attisdropped
        and not (relname = 'credential' and attname in ('material', 'fingerprint')) group by relname"""
    )
    assert len(relations) > 15
    for relation, columns in relations:
        db.query(f"select {columns} from {relation}", role=READER)


def test_roles_are_not_powerful(db):
    assert db.query(
        """select rolname from pg_roles where rolname = any (%s)
        and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)""",
        ([OWNER, INGEST, READER],),
    ) == []
    assert db.query(
        "select * from pg_auth_members where member in ('fieldgate_ingest'::regrole, 'fieldgate_reader'::regrole)"
    ) == []


def test_temporary_objects_do_not_deceive_maintain(db):
    """A caller's own table or function of the same name must not be found before the schema's."""
    with contextlib.closing(db.connect(INGEST)) as connection:
        query(connection, "select ensure_partitions(now() - interval '400 days', now() - interval '400 days')")
        query(connection, "create temp table setting (name text, value int)")
        query(connection, "insert into setting select name, 1 from fieldgate.setting")
        query(
            connection,
            "create function pg_temp.setting_value(text) returns int language sql return 1",
        )
        query(connection, "set search_path = pg_temp, fieldgate")
        done = query(connection, "select * from fieldgate.maintain()")
        assert not [line for (line,) in done if "dropped" in line]


def test_reader_compares_documents(db):
    assert db.query("""select merge_patch('{"a": 1}', '{"a": null}'), delta('{"a": 1}', '{}')""", role=READER) == [
        ({}, {"a": 1})
    ]


def test_select_from_telemetry_simply_works(db):
    db.query("select ts, temperature from telemetry where device = 'dev-1' order by ts desc limit 10", role=READER)
