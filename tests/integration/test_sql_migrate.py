# SPDX-License-Identifier: Apache-2.0
"""sql/migrate: again, at the same time, with changed files, against a newer database."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import (  # noqa: E402
    MIGRATE,
    OWNER,
    READER,
    SUPERUSER,
    Database,
    Postgres,
    fresh_database,
    query,
    shared,
)

COUNT = len(list(MIGRATE.parent.glob("[0-9]*.sql")))
LAST = f"{COUNT - 1:04d}_"


@pytest.fixture
def empty():
    with shared().empty_database() as name:
        yield Database(shared(), name)


@pytest.fixture
def migrated():
    with fresh_database() as database:
        yield database


@pytest.fixture
def files(tmp_path):
    """A copy of sql/ in a directory whose name needs care."""
    return pathlib.Path(shutil.copytree(MIGRATE.parent, tmp_path / "it's \\ sql"))


def migrate(db, directory=MIGRATE.parent, role=SUPERUSER, url=None, **environment):
    return subprocess.run(
        [directory / "migrate", "--database", url or db.url(role)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def applied(db):
    return [v for (v,) in db.query("select version from fieldgate.schema_migration order by 1", role=SUPERUSER)]


def refuses(result, *words):
    assert result.returncode != 0
    for word in words:
        assert word in result.stderr


def test_an_empty_database_gets_everything(empty):
    result = migrate(empty)
    assert result.returncode == 0, result.stderr
    assert applied(empty) == list(range(COUNT))
    assert result.stdout.count("applied ") == COUNT
    assert result.stderr == ""
    assert empty.query("select * from telemetry", role=READER) == []


def test_the_url_may_come_from_the_environment(empty):
    subprocess.run(
        [MIGRATE], env={**os.environ, "FIELDGATE_DATABASE_URL": empty.url(SUPERUSER)}, check=True, capture_output=True
    )
    assert applied(empty) == list(range(COUNT))


def test_what_was_applied_is_recorded(migrated):
    name, sha256 = migrated.query("select name, sha256 from schema_migration where version = 1")[0]
    assert name == "0001_registry.sql"
    assert sha256 == subprocess.check_output(["sha256sum", MIGRATE.parent / name], text=True).split()[0]


def test_nothing_to_do_is_one_call_of_psql(migrated, tmp_path):
    (tmp_path / "psql").write_text(f'#!/bin/sh\necho call >>{tmp_path}/calls\nexec {shutil.which("psql")} "$@"\n')
    (tmp_path / "psql").chmod(0o755)
    before = applied(migrated)
    result = migrate(migrated, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 0
    assert "up to date" in result.stdout
    assert (tmp_path / "calls").read_text() == "call\n"
    assert applied(migrated) == before


def test_many_at_once_apply_everything_once(empty):
    processes = [
        subprocess.Popen([MIGRATE, "--database", empty.url(SUPERUSER)], stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    outputs = [p.communicate()[0] for p in processes]
    assert [p.returncode for p in processes] == [0] * 5
    assert sum(o.count("applied ") for o in outputs) == COUNT
    assert applied(empty) == list(range(COUNT))


def test_a_migration_waits_for_the_one_under_way(empty):
    with contextlib.closing(empty.connect(SUPERUSER)) as other:
        query(other, "select pg_advisory_lock(1178026324, 1)")
        process = subprocess.Popen([MIGRATE, "--database", empty.url(SUPERUSER)], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not query(other, "select 1 from pg_locks where locktype = 'advisory' and not granted"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        assert query(other, "select to_regnamespace('fieldgate')") == [(None,)]
        query(other, "select pg_advisory_unlock(1178026324, 1)")
        assert process.wait(60) == 0
    assert applied(empty) == list(range(COUNT))


def test_a_changed_file_is_refused_by_name(migrated, files):
    with open(files / "0002_telemetry.sql", "a") as f:
        f.write("\n")
    refuses(migrate(migrated, files), "0002_telemetry.sql was changed", "new migration")


def test_a_newer_database_is_refused(migrated, files):
    last = next(files.glob(LAST + "*.sql"))
    last.unlink()
    refuses(migrate(migrated, files), "newer", last.name)


def test_a_missing_file_is_refused(migrated, files):
    (files / "0001_registry.sql").unlink()
    refuses(migrate(migrated, files), "0001_registry.sql", "missing")


def test_two_files_with_one_number_are_refused(migrated, files):
    (files / "0002_other.sql").write_text("")
    refuses(migrate(migrated, files), "0002_other.sql", "same number")


def test_a_failed_migration_leaves_nothing_and_names_the_line(migrated, files):
    bad = files / "8000_bad.sql"
    bad.write_text("create table half ();\nselect 1 / 0;\n")
    refuses(migrate(migrated, files), "8000_bad.sql:2", "division by zero", "rolled back")
    assert migrated.value("select to_regclass('half')") is None
    assert applied(migrated) == list(range(COUNT))
    bad.write_text("create table half ();\n")
    assert migrate(migrated, files).returncode == 0
    assert applied(migrated)[-1] == 8000


def test_migrations_before_a_failed_one_stay(migrated, files):
    (files / "8000_good.sql").write_text("create table good ();")
    (files / "8001_bad.sql").write_text("nonsense;")
    refuses(migrate(migrated, files), "8001_bad.sql:1")
    assert applied(migrated)[-1] == 8000


def test_later_migrations_need_only_the_owner(migrated, files):
    (files / "8000_more.sql").write_text("create table more ();")
    result = migrate(migrated, files, role=OWNER)
    assert result.returncode == 0, result.stderr
    assert migrated.value("select pg_get_userbyid(relowner) from pg_class where relname = 'more'") == OWNER


def test_the_ingest_role_cannot_migrate(migrated, files):
    (files / "8000_more.sql").write_text("create table more ();")
    refuses(migrate(migrated, files, role="fieldgate_ingest"), "permission denied")


def test_createrole_and_owning_the_database_is_enough(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cluster")
    with Postgres(directory / "pg") as cluster:
        owner = "select datname from pg_database"
        assert cluster.query(owner, role=SUPERUSER, dbname="postgres")
        cluster.query("drop database fieldgate", role=SUPERUSER, dbname="postgres")
        cluster.query(
            """drop owned by fieldgate_owner, fieldgate_ingest, fieldgate_reader;
            drop role fieldgate_owner, fieldgate_ingest, fieldgate_reader;
            create role dba createrole login password 'dba'""",
            role=SUPERUSER,
            dbname="postgres",
        )
        cluster.query("create database theirs owner dba", role=SUPERUSER, dbname="postgres")
        url = f"postgresql://dba@127.0.0.1:{cluster.port}/theirs"
        result = migrate(None, url=url, PGPASSWORD="dba")
        assert result.returncode == 0, result.stderr
        assert "up to date" in migrate(None, url=url, PGPASSWORD="dba").stdout
        logins = "select rolname, rolcanlogin from pg_roles where rolname like 'fieldgate%' order by 1"
        assert cluster.query(logins, role=SUPERUSER, dbname="theirs") == [
            ("fieldgate_ingest", False),
            ("fieldgate_owner", False),
            ("fieldgate_reader", False),
        ]


def test_functions_of_others_in_the_schema_public_are_not_called(empty):
    """A database from before PostgreSQL 15 lets everybody make some, and a closer match would be taken."""
    empty.query(
        """create function public.format(text, text) returns text language plpgsql
            as 'begin raise exception ''intruder''; end';
        create function public.format(text, name) returns text language plpgsql
            as 'begin raise exception ''intruder''; end'""",
        role=SUPERUSER,
    )
    result = migrate(empty)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1/x",
        "postgres://u:secret@127.0.0.1/x",
        "postgresql://127.0.0.1/x?user=u&password=secret",
        "host=127.0.0.1 password=secret",
        "password = secret",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url):
    result = migrate(None, url=url)
    refuses(result, "contains a password")
    assert "secret" not in result.stderr


def test_no_database_is_a_clear_message():
    environment = {k: v for k, v in os.environ.items() if k != "FIELDGATE_DATABASE_URL"}
    result = subprocess.run([MIGRATE], env=environment, stderr=subprocess.PIPE, text=True)
    refuses(result, "FIELDGATE_DATABASE_URL")


def test_help_says_what_it_needs():
    text = subprocess.check_output([MIGRATE, "--help"], text=True)
    for word in "superuser", "createrole", "--database", "FIELDGATE_DATABASE_URL":
        assert word in text
