# SPDX-License-Identifier: Apache-2.0
"""The views for people: what they say, and that they stay cheap."""

import contextlib
import pathlib
import sys

import psycopg2.errors
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, READER, fresh_database, query  # noqa: E402

JOURNAL = "7d3f6c1e-0000-4000-8000-00000000000"


@pytest.fixture
def db():
    with fresh_database() as database:
        yield database


# device


def test_a_device_is_inserted_by_its_id(db):
    db.query("insert into device (id) values ('x')")
    assert db.query("select id, kind, state, policy from principal") == [("x", "device", "active", "device")]
    db.query("update device set state = 'suspended' where id = 'x'")
    assert db.value("select state from principal") == "suspended"
    db.query("delete from device where id = 'x'")
    assert db.query("select * from principal") == []


def test_a_change_through_device_moves_the_registry_version(db):
    before = db.value("select version from registry_version")
    db.query("insert into device (id) values ('x')")
    assert db.value("select version from registry_version") > before


def test_services_are_not_devices(db):
    db.query("insert into principal (id, kind, policy) values ('grafana', 'service', 'none')")
    assert db.query("select * from device") == []
    assert db.query("select * from device_status") == []
    db.query("delete from device")
    assert db.value("select count(*) from principal") == 1


@pytest.mark.parametrize("device", ["", "a/b", "a+", "#", "ä", "x" * 65, "a b", "a\n"])
def test_a_bad_device_id_is_refused(db, device):
    with pytest.raises(psycopg2.errors.CheckViolation):
        db.query("insert into device (id) values (%s)", (device,))


# device_status


def status(db, device="x"):
    columns = "state, connected, source, last_message is not null, credentials, nearest_expiry is not null"
    ((*row,),) = db.query(f"select {columns} from device_status where device = %s", (device,), role=READER)
    return tuple(row)


def test_a_device_that_was_never_heard_of(db):
    db.query("insert into device (id) values ('x')")
    assert status(db) == ("active", False, None, False, 0, False)


def test_a_device_is_connected_when_any_of_its_connections_is(db):
    db.query("insert into device (id) values ('x')")
    db.query(
        """insert into presence (device, source, client_id, connected, since, seq) values
        ('x', 'coap', 'x', true, now() - interval '1 hour', 1), ('x', 'mqtt', 'x', false, now(), 1)"""
    )
    assert status(db)[:3] == ("active", True, "coap")
    db.query("update presence set connected = false, since = now() - interval '1 min' where source = 'coap'")
    assert status(db)[:3] == ("active", False, "mqtt")


def test_revoked_credentials_do_not_count(db):
    db.query("insert into device (id) values ('x')")
    db.query(
        """insert into credential (kind, fingerprint, principal, not_after, revoked_at) values
        ('x509', sha256('1'), 'x', now() + interval '90 days', null),
        ('x509', sha256('2'), 'x', now() + interval '60 days', null),
        ('x509', sha256('3'), 'x', now() + interval '10 days', now())"""
    )
    assert status(db)[4:] == (2, True)
    assert db.value("select nearest_expiry - now() > interval '59 days' from device_status")


def test_last_message_is_of_the_newest_telemetry(db):
    db.query("insert into device (id) values ('x')")
    db.query("insert into telemetry_latest (device, ts, seq, received_at) values ('x', '2026-01-02 03:04Z', 1, now())")
    assert db.value("select last_message = '2026-01-02 03:04Z' from device_status")


# fieldgate_status


def source(db, lag="0", age="0"):
    db.query(
        """insert into ingest (journal, source, segment, "offset", messages, row_count, dead_letters, backlog_bytes,
            lag, updated_at) values (gen_random_uuid(), 'mqtt', 1, 2, 10, 9, 1, 300, %s, now() - %s::interval)""",
        (lag, age),
    )


@pytest.mark.parametrize(
    "lag, age, state",
    [
        ("0", "0", "ok"),
        ("29 s", "0", "ok"),
        ("31 s", "0", "behind"),
        ("0", "290 s", "ok"),
        ("0", "301 s", "silent"),
        ("1 hour", "1 hour", "silent"),
        ("0", "-1 hour", "ok"),
    ],
)
def test_state_of_a_source(db, lag, age, state):
    source(db, lag, age)
    assert db.query("select source, state, backlog_bytes, messages, rows, dead_letters from fieldgate_status") == [
        ("mqtt", state, 300, 10, 9, 1)
    ]


def test_thresholds_are_settings(db):
    source(db, "20 s", "60 s")
    assert db.value("select state from fieldgate_status", role=READER) == "ok"
    db.query("update setting set value = 10 where name = 'status_behind_s'")
    assert db.value("select state from fieldgate_status", role=READER) == "behind"
    db.query("update setting set value = 50 where name = 'status_silent_s'")
    assert db.value("select state from fieldgate_status", role=READER) == "silent"


def test_seconds_since_the_last_report(db):
    source(db, age="100 s")
    assert db.value("select seconds_since from fieldgate_status") in range(100, 110)


# The position of a journal


def test_a_position_moves_only_from_where_it_is(db):
    db.query(f"insert into ingest (journal, source, segment, \"offset\") values ('{JOURNAL}1', 'mqtt', 1, 0)")
    move = f"select journal_advance('{JOURNAL}1', 1, 0, 2, 64, 3, 4, 1, 10, '1 s')"
    db.query(move, role=INGEST)
    assert db.query('select segment, "offset", messages, row_count, dead_letters from ingest') == [(2, 64, 3, 4, 1)]
    with pytest.raises(psycopg2.Error) as e:
        db.query(move, role=INGEST)
    assert e.value.pgcode == "FG001"
    with pytest.raises(psycopg2.Error) as e:
        db.query(move.replace(f"{JOURNAL}1", f"{JOURNAL}2"), role=INGEST)
    assert e.value.pgcode == "FG001"


# The others


def test_dead_letters_are_summed_up_over_a_day(db):
    db.query(
        """insert into dead_letter (device, received_at, seq, topic, reason, payload) values
        ('x', now(), 1, 't', 'JSON: line 1', ''), ('x', now(), 2, 't', 'JSON: line 1', ''),
        ('y', now(), 1, 't', 'CBOR: truncated', '')"""
    )
    db.query("select ensure_partitions_for('dead_letter', now() - interval '2 days', now())")
    db.query(
        """insert into dead_letter (device, received_at, seq, topic, reason, payload) values
        ('x', now() - interval '25 hours', 1, 't', 'JSON: line 1', '')"""
    )
    assert db.query("select device, reason, messages from dead_letter_summary", role=READER) == [
        ("x", "JSON: line 1", 2),
        ("y", "CBOR: truncated", 1),
    ]


def test_dead_letter_summary_leaves_old_partitions_alone(db):
    db.query("update setting set value = 0 where name = 'dead_letter_days'")
    db.query("select ensure_partitions_for('dead_letter', now() - interval '300 days', now())")
    text = "\n".join(line for (line,) in db.query("explain select * from dead_letter_summary"))
    assert "Subplans Removed: 4" in text or text.count("on dead_letter_") <= 5


def test_credentials_that_expire_soon(db):
    db.query("insert into device (id) values ('x')")
    db.query(
        """insert into credential (kind, fingerprint, principal, not_after, revoked_at) values
        ('x509', sha256('1'), 'x', now() + interval '29 days', null),
        ('x509', sha256('2'), 'x', now() + interval '31 days', null),
        ('x509', sha256('3'), 'x', now() - interval '1 day', null),
        ('x509', sha256('4'), 'x', now() + interval '1 day', now()),
        ('psk', sha256('5'), 'x', null, null)"""
    )
    assert db.query("select principal, remaining < '0' from credential_expiring", role=READER) == [
        ("x", True),
        ("x", False),
    ]


def test_storage_counts_partitions_and_bytes(db):
    rows = dict(
        (table, (partitions, size))
        for table, partitions, size in db.query("select table_name, partitions, bytes from storage", role=READER)
    )
    assert set(rows) == {"telemetry", "dead_letter", "presence_event"}
    assert rows["telemetry"][0] == 3 and rows["telemetry"][1] > 0


@pytest.mark.parametrize(
    "view", ["device", "device_status", "fieldgate_status", "credential_expiring", "storage", "partition_range"]
)
def test_no_view_reads_telemetry(db, view):
    assert not [line for (line,) in db.query(f"explain select * from {view}") if " on telemetry_2" in line]


def test_the_status_of_one_device_reads_by_key(db):
    db.query("insert into device (id) select 'dev-' || n from generate_series(1, 20000) n")
    db.query(
        "insert into telemetry_latest (device, ts, seq, received_at) select id, now(), 0, now() from device;"
        "insert into presence (device, source, client_id, connected, since, seq)"
        " select id, 'mqtt', id, true, now(), 0 from device;"
        "insert into credential (kind, fingerprint, principal) select 'x509', sha256(id::bytea), id from device;"
        "insert into downlink (device, payload) select id, '' from device"
    )
    db.query("analyze")
    with contextlib.closing(db.connect(READER)) as connection:
        text = "\n".join(
            line for (line,) in query(connection, "explain select * from device_status where device = 'dev-77'")
        )
    assert "Seq Scan" not in text
    assert "credential_principal" in text and "telemetry_latest_pkey" in text and "presence_pkey" in text
    assert "downlink_" in text
