# SPDX-License-Identifier: Apache-2.0
"""What must be true of every object of the schema, asked of the catalogue."""

import contextlib
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import fresh_database, query  # noqa: E402

PER_DEVICE = {
    "telemetry",
    "telemetry_latest",
    "sequence_seen",
    "dead_letter",
    "presence_event",
    "presence",
    "device_state",
    "device_value",
    "downlink",
}


@pytest.fixture(scope="module")
def db():
    with fresh_database() as database:
        yield database


def names(db, sql):
    return [name for (name,) in db.query(sql)]


def test_every_table_and_view_has_a_comment(db):
    assert not names(
        db,
        """select relname from pg_class where relnamespace = 'fieldgate'::regnamespace
        and relkind in ('r', 'p', 'v', 'm', 'f') and obj_description(oid, 'pg_class') is null""",
    )


def test_every_column_has_a_comment(db):
    assert not names(
        db,
        """select relname || '.' || attname from pg_attribute join pg_class c on c.oid = attrelid
        where relnamespace = 'fieldgate'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
        and not relispartition and attnum > 0 and not attisdropped
        and col_description(attrelid, attnum) is null""",
    )


def test_every_function_has_a_comment(db):
    assert not names(
        db,
        """select proname from pg_proc where pronamespace = 'fieldgate'::regnamespace
        and obj_description(oid, 'pg_proc') is null""",
    )


def test_every_type_has_a_comment(db):
    assert not names(
        db,
        """select typname from pg_type where typnamespace = 'fieldgate'::regnamespace
        and typtype in ('e', 'd', 'r') and obj_description(oid, 'pg_type') is null""",
    )


def test_schema_and_roles_have_comments(db):
    assert db.value("select obj_description('fieldgate'::regnamespace, 'pg_namespace')")
    assert not names(
        db,
        """select rolname from pg_roles where rolname like 'fieldgate%'
        and shobj_description(oid, 'pg_authid') is null""",
    )


def test_everything_belongs_to_the_owner(db):
    assert not names(
        db,
        """select relname from pg_class where relnamespace = 'fieldgate'::regnamespace
        and relowner <> 'fieldgate_owner'::regrole
        union select proname from pg_proc where pronamespace = 'fieldgate'::regnamespace
        and proowner <> 'fieldgate_owner'::regrole""",
    )


# Distributable by device.


def test_tables_with_a_device_are_those_known(db):
    assert PER_DEVICE == set(
        names(
            db,
            """select relname from pg_class join pg_attribute on attrelid = pg_class.oid
            where relnamespace = 'fieldgate'::regnamespace and relkind in ('r', 'p')
            and not relispartition and attname = 'device' and not attisdropped""",
        )
    )


def test_device_is_in_every_unique_key_of_per_device_tables(db):
    keys = db.query(
        """select relname, bool_and(exists (select from pg_attribute where attrelid = relid
                and attnum = any (indkey) and attname = 'device')), bool_or(indisprimary)
        from (select indrelid as relid, indkey, indisprimary from pg_index where indisunique) i
        join pg_class on pg_class.oid = relid
        where relname = any (%s) and relnamespace = 'fieldgate'::regnamespace group by relname""",
        (list(PER_DEVICE),),
    )
    assert sorted(keys) == sorted((table, True, True) for table in PER_DEVICE)


def test_no_trigger_and_no_foreign_key_on_the_path_of_the_writer(db):
    assert not names(
        db,
        """select tgrelid::regclass::text || ': ' || tgname from pg_trigger
        where tgrelid::regclass::text ~ '^(fieldgate[.])?(telemetry|sequence|dead_|presence|ingest)'""",
    )


def test_no_sequence_but_that_of_downlink(db):
    """It orders what is sent to a device. Telemetry and what else a device sends have none."""
    assert names(
        db, "select relname from pg_class where relnamespace = 'fieldgate'::regnamespace and relkind = 'S'"
    ) == ["downlink_id_seq"]


# Safe to call.


def test_security_definer_functions_pin_their_search_path(db):
    assert not names(
        db,
        """select proname from pg_proc where pronamespace = 'fieldgate'::regnamespace and prosecdef
        and not coalesce(proconfig, '{}') @> array['search_path=fieldgate, pg_temp']""",
    )


def test_nothing_is_granted_to_everybody(db):
    assert not names(
        db,
        """select proname from pg_proc where pronamespace = 'fieldgate'::regnamespace
            and exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner)))
                where grantee = 0)
        union select relname from pg_class where relnamespace = 'fieldgate'::regnamespace
            and exists (select from aclexplode(relacl) where grantee = 0)
        union select nspname from pg_namespace where nspname = 'fieldgate'
            and exists (select from aclexplode(nspacl) where grantee = 0)""",
    )


# Fast by design, whatever the size: the plan says so.


@pytest.fixture(scope="module")
def filled(db):
    db.query(
        """insert into telemetry (device, ts, seq, received_at, ts_source, temperature)
        select 'dev-' || d, t, 0, t, 'device', 20
        from generate_series(1, 50) d, generate_series(now(), now() + interval '10 days', '20 minutes') t
        order by t"""
    )
    db.query("vacuum analyze telemetry")
    return db


def plan(db, sql):
    return "\n".join(line for (line,) in db.query("explain (costs off) " + sql))


def test_latest_of_a_device_reads_the_key_backwards(filled):
    text = plan(filled, "select ts, temperature from telemetry where device = 'dev-7' order by ts desc limit 10")
    assert "Index Scan Backward using telemetry_" in text
    assert "Sort" not in text


def test_a_day_of_a_device_reads_one_partition_by_key(filled):
    text = plan(
        filled,
        """select * from telemetry where device = 'dev-7'
        and ts >= date_trunc('day', now(), 'UTC') and ts < date_trunc('day', now(), 'UTC') + interval '1 day'""",
    )
    assert "(device = 'dev-7'::text) AND (ts >=" in text
    assert "Subplans Removed: 2" in text


def test_an_hour_of_the_fleet_uses_brin(filled):
    hour = "date_trunc('week', now(), 'UTC') + interval '9 days'"
    sql = f"select count(*) from telemetry where ts >= {hour} and ts < {hour} + interval '1 hour'"
    # A partition of this size is read as fast whole, or by its key: ask what could be done.
    options = "-c enable_seqscan=off -c enable_indexscan=off -c enable_indexonlyscan=off"
    with contextlib.closing(filled.connect(options=options)) as connection:
        text = "\n".join(line for (line,) in query(connection, "explain (costs off) " + sql))
    assert "_ts_idx" in text
