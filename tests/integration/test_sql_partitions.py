# SPDX-License-Identifier: Apache-2.0
"""Partitions: made for the times asked for, never overlapping, dropped when retention no longer keeps
them; and no more in the way of others than they must be."""

import contextlib
import pathlib
import random
import sys
import threading
from datetime import datetime, timedelta, timezone

import psycopg2.errors
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, fresh_database, query  # noqa: E402

NOW = datetime.now(timezone.utc)
WEEK = timedelta(days=7)


def days(n):
    return timedelta(days=n)


@pytest.fixture
def db():
    with fresh_database() as database:
        yield database


def ensure(db, first, last=None, table="telemetry"):
    return db.value("select ensure_partitions_for(%s, %s, %s)", (table, first, last or first), role=INGEST)


def ranges(db, table="telemetry"):
    return db.query("select lower, upper from partition_range where table_name = %s order by lower", (table,))


def maintain(db):
    with contextlib.closing(db.connect(INGEST, options="-c statement_timeout=30s")) as connection:
        return [line for (line,) in query(connection, "select * from maintain()")]


def setting(db, **values):
    for name, value in values.items():
        db.query("update setting set value = %s where name = %s", (value, name))


def insert(connection, ts, device="dev-1"):
    query(
        connection,
        "insert into telemetry (device, ts, seq, received_at, ts_source) values (%s, %s, 1, now(), 'device')",
        (device, ts),
    )


def assert_ordered(found):
    for (_, upper), (lower, _) in zip(found, found[1:]):
        assert upper <= lower


def test_a_new_database_has_partitions_for_now_and_ahead(db):
    for table in "telemetry", "dead_letter", "presence_event":
        found = ranges(db, table)
        assert found[0][0] <= NOW
        assert found[-1][1] > NOW + 2 * WEEK
        assert all(a[1] == b[0] for a, b in zip(found, found[1:]))


def test_late_and_future_rows_get_their_partitions(db):
    for ts in NOW - days(400), NOW - days(30), NOW + days(1):
        ensure(db, ts)
        with contextlib.closing(db.connect(INGEST)) as connection:
            insert(connection, ts)
    assert db.value("select count(*) from telemetry") == 3


def test_a_range_is_covered_without_gaps_and_only_once(db):
    made = ensure(db, NOW - days(400), NOW)
    assert made in (57, 58)
    found = ranges(db)
    assert found[0][0] <= NOW - days(400)
    assert all(a[1] == b[0] for a, b in zip(found, found[1:]))
    assert ensure(db, NOW - days(400), NOW) == 0


def test_ensure_partitions_is_for_telemetry(db):
    before = ranges(db, "dead_letter")
    moment = NOW - days(100)
    assert db.value("select ensure_partitions(%s, %s)", (moment, moment), role=INGEST) == 1
    assert ranges(db)[0][0] <= moment < ranges(db)[0][1]
    assert ranges(db, "dead_letter") == before


def test_partitions_are_weeks_and_named_after_their_monday(db):
    ensure(db, NOW - days(100))
    name, lower, upper = db.query(
        "select partition_name, lower, upper from partition_range where table_name = 'telemetry' order by lower"
    )[0]
    assert lower.weekday() == 0 and upper - lower == WEEK
    assert name == f"telemetry_{lower:%Y%m%d}"


def odd_session(db, zone="Pacific/Chatham", style="German"):
    connection = db.connect(INGEST)
    # As options they would be of no use: psycopg2 sets datestyle to ISO when it connects.
    query(connection, "select set_config('timezone', %s, false), set_config('datestyle', %s, false)", (zone, style))
    return contextlib.closing(connection)


def test_bounds_are_midnights_in_utc_whatever_the_session_says(db):
    with odd_session(db) as connection:
        query(connection, "select ensure_partitions(now() - interval '300 days', now() - interval '200 days')")
    for lower, upper in ranges(db):
        lower, upper = lower.astimezone(timezone.utc), upper.astimezone(timezone.utc)
        assert (lower.hour, lower.minute, lower.weekday()) == (0, 0, 0)
        assert upper - lower == WEEK


@pytest.mark.parametrize(
    "zone, style", [("Pacific/Chatham", "German"), ("Asia/Kolkata", "SQL, DMY"), ("Europe/Lisbon", "Postgres")]
)
def test_partition_range_says_the_same_in_every_session(db, zone, style):
    with odd_session(db, zone, style) as connection:
        rows = query(
            connection,
            "select extract(epoch from lower)::bigint from partition_range where table_name = 'telemetry' order by 1",
        )
    assert [e for (e,) in rows] == [int(lower.timestamp()) for lower, _ in ranges(db)]


def test_callers_at_the_same_time_make_each_partition_once(db):
    made, errors = [], []

    def call():
        try:
            made.append(ensure(db, NOW - days(350), NOW))
        except psycopg2.Error as e:
            errors.append(e)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert sum(made) == len([lower for lower, _ in ranges(db) if lower < NOW]) - 1
    assert_ordered(ranges(db))


def test_making_a_partition_waits_for_no_reader_or_writer(db):
    with contextlib.closing(db.connect(INGEST)) as busy, contextlib.closing(
        db.connect(INGEST, options="-c lock_timeout=2s")
    ) as other:
        busy.autocommit = False
        insert(busy, NOW)
        query(busy, "select ts from telemetry")
        query(other, "select ensure_partitions(now() - interval '100 days', now() - interval '100 days')")
        other.autocommit = False
        query(other, "select ensure_partitions(now() - interval '200 days', now() - interval '200 days')")
        insert(busy, NOW, "dev-2")
        other.commit()
        busy.commit()
    assert db.value("select count(*) from telemetry") == 2


@pytest.mark.parametrize(
    "first, last, why",
    [
        (NOW - days(1001), NOW, "no partition is made"),
        (NOW, NOW + days(31), "no partition is made"),
        ("-infinity", NOW, "no partition is made"),
        (NOW, "infinity", "no partition is made"),
        ("0044-03-15 BC", "1970-01-01", "no partition is made"),
    ],
)
def test_times_that_are_not_believed_are_refused(db, first, last, why):
    before = ranges(db)
    with pytest.raises(psycopg2.Error, match=why) as e:
        ensure(db, first, last)
    assert e.value.pgcode == "FG002"
    assert "partition_past_days" in e.value.diag.message_hint
    assert ranges(db) == before


def test_what_is_believed_is_a_setting(db):
    setting(db, partition_past_days=2000)
    assert ensure(db, NOW - days(1500)) == 1


def test_a_range_that_is_none_is_refused(db):
    for first, last in (NOW, NOW - days(1)), (None, NOW):
        with pytest.raises(psycopg2.errors.InvalidParameterValue):
            db.value("select ensure_partitions(%s, %s)", (first, last), role=INGEST)


@pytest.mark.parametrize("table", ["principal", "telemetry_latest", "pg_class", "x; drop table telemetry"])
def test_other_tables_have_no_partitions(db, table):
    with pytest.raises(psycopg2.errors.UndefinedTable):
        ensure(db, NOW, table=table)


def test_partition_days_may_change_at_any_time(db):
    random.seed(7)
    for width in 7, 1, 30, 3, 366, 2, 30:
        setting(db, partition_days=width)
        for _ in range(6):
            moment = NOW - timedelta(seconds=random.randrange(0, 990 * 86400))
            ensure(db, moment)
            assert_ordered(ranges(db))
            assert any(lower <= moment < upper for lower, upper in ranges(db))
        maintain(db)
        assert_ordered(ranges(db))
    ensure(db, NOW - days(990), NOW + days(29))
    found = ranges(db)
    assert all(a[1] == b[0] for a, b in zip(found, found[1:]))
    assert all(lower.astimezone(timezone.utc).hour == 0 for lower, _ in found)


def test_partitions_made_by_hand_are_respected(db):
    db.query("create table everything_before partition of telemetry for values from (minvalue) to ('2026-01-01 13:30+00')")
    assert ensure(db, datetime(2025, 6, 1, tzinfo=timezone.utc)) == 0
    if NOW < datetime(2028, 6, 1, tzinfo=timezone.utc):
        assert ensure(db, datetime(2026, 1, 1, 14, tzinfo=timezone.utc)) == 1
    assert_ordered(ranges(db))


# Retention


def test_what_is_wholly_older_than_retention_is_dropped_and_nothing_else(db):
    ensure(db, NOW - days(400), NOW)
    before = ranges(db)
    setting(db, retention_days=100)
    done = maintain(db)
    kept = ranges(db)
    assert kept == [(lower, upper) for lower, upper in before if upper > NOW - days(100)]
    assert len([line for line in done if line.startswith("dropped telemetry_")]) == len(before) - len(kept)
    assert maintain(db) == []


def test_each_table_has_its_own_retention(db):
    for table in "telemetry", "dead_letter", "presence_event":
        setting(db, dead_letter_days=0, presence_days=0)
        ensure(db, NOW - days(60), table=table)
    setting(db, dead_letter_days=30)
    maintain(db)
    assert ranges(db, "dead_letter")[0][0] > NOW - days(60)
    assert ranges(db, "telemetry")[0][0] <= NOW - days(60)
    assert ranges(db, "presence_event")[0][0] <= NOW - days(60)


def test_no_partition_is_made_that_would_be_dropped_at_once(db):
    setting(db, retention_days=100)
    for age in range(90, 125):
        try:
            ensure(db, NOW - days(age))
        except psycopg2.Error as e:
            assert e.pgcode == "FG002" and age > 100
            assert "100 days" in e.diag.message_detail
    assert not [line for line in maintain(db) if "dropped" in line]
    ensure(db, NOW - days(100))
    with pytest.raises(psycopg2.Error, match="no partition is made"):
        ensure(db, NOW - days(108))


def test_zero_keeps_everything(db):
    ensure(db, NOW - days(900))
    assert not [line for line in maintain(db) if "dropped" in line]
    assert ranges(db)[0][0] <= NOW - days(900)


def test_a_second_maintain_returns_at_once(db):
    with contextlib.closing(db.connect(INGEST)) as first:
        first.autocommit = False
        query(first, "select * from maintain()")
        assert maintain(db) == ["another session is at it"]
        first.commit()
    assert maintain(db) == []


def test_a_drop_gives_way_to_a_long_transaction_and_is_done_later(db):
    ensure(db, NOW - days(400))
    setting(db, retention_days=100)
    with contextlib.closing(db.connect(INGEST)) as reader:
        reader.autocommit = False
        query(reader, "select ts from telemetry")
        assert [line for line in maintain(db) if line.startswith("postponed: dropping")]
        with contextlib.closing(db.connect(INGEST, options="-c lock_timeout=1s")) as writer:
            insert(writer, NOW)
        reader.commit()
    assert [line for line in maintain(db) if line.startswith("dropped telemetry_")]


def test_maintain_makes_partitions_ahead_as_time_goes_by(db):
    last = ranges(db)[-1]
    name = db.value("select partition_name from partition_range where table_name = 'telemetry' and lower = %s", last[:1])
    db.query(f"drop table {name}")
    assert maintain(db) == ["made 1 partitions of telemetry"]
    assert ranges(db)[-1] == last


def test_old_sequence_numbers_are_forgotten_and_new_ones_kept(db):
    db.query(
        """insert into sequence_seen (device, seq, content, ts) values
        ('a', 1, 1, now() - interval '25 hours'), ('a', 2, 1, now() - interval '23 hours'), ('b', 1, 1, now())"""
    )
    assert maintain(db) == ["forgot 1 old sequence numbers"]
    assert db.query("select device, seq from sequence_seen order by 1, 2") == [("a", 2), ("b", 1)]


def test_latest_follows_the_columns_of_telemetry(db):
    db.query("alter table telemetry add column co2 real, add column \"Odd name\" text,"
             " add column warm boolean generated always as (temperature > 30) stored")
    assert sorted(maintain(db)) == ["added column Odd name to telemetry_latest", "added column co2 to telemetry_latest"]
    assert db.query(
        """select column_name, data_type from information_schema.columns where table_name = 'telemetry_latest'
        and column_name in ('co2', 'Odd name', 'warm', 'ts_source', 'subtopic') order by column_name collate "C" """
    ) == [("Odd name", "text"), ("co2", "real")]
    assert maintain(db) == []


def test_a_new_partition_has_the_columns_added_since(db):
    db.query("alter table telemetry add column co2 real not null default 400, drop column air_quality")
    ensure(db, NOW - days(200))
    with contextlib.closing(db.connect(INGEST)) as connection:
        insert(connection, NOW - days(200))
    assert db.query("select co2, longitude from telemetry") == [(400, None)]


def test_a_setting_out_of_its_range_is_refused(db):
    for name, value in ("partition_days", 0), ("retention_days", -1), ("partitions_ahead", 1000):
        with pytest.raises(psycopg2.errors.CheckViolation):
            setting(db, **{name: value})


def test_a_missing_setting_is_named(db):
    db.query("delete from setting where name = 'retention_days'")
    with pytest.raises(psycopg2.Error, match="retention_days is missing"):
        maintain(db)
