# SPDX-License-Identifier: Apache-2.0
"""bin/dev-postgres: as root and as an ordinary user, in awkward places, twice, on a taken port."""

import os
import pathlib
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

import psycopg2
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.ports import free_port  # noqa: E402
from harness.postgres import DEV_POSTGRES, MIGRATE, Postgres  # noqa: E402


def dev_postgres(*arguments, check=True, **options):
    return subprocess.run(
        [DEV_POSTGRES, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=check,
        **options,
    )


@pytest.fixture
def place():
    """A directory that everybody may pass."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="dev_pg_"))
    path.chmod(0o755)
    yield path
    for data in path.glob("**/data"):
        dev_postgres("stop", data.parent, "immediate", check=False)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def made():
    """A cluster that was made once, and was never started."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="dev_pg_"))
    path.chmod(0o755)
    Postgres(path / "pg")
    yield path / "pg"
    shutil.rmtree(path)


@pytest.fixture
def pg(place, made):
    """A copy of it, on a port of its own: not started."""
    subprocess.run(["cp", "-a", made, place / "pg"], check=True)
    return Postgres(place / "pg")


def test_its_settings_are_safe_and_its_text_utf8(pg):
    with pg:
        settings = dict(
            pg.query(
                """select name, setting from pg_settings where name in ('fsync', 'full_page_writes',
                'synchronous_commit', 'data_checksums', 'server_encoding', 'lc_collate', 'listen_addresses',
                'password_encryption')"""
            )
        )
        settings.pop("lc_collate", None)  # a property of the database since PostgreSQL 16
        assert settings == {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "listen_addresses": "127.0.0.1",
            "password_encryption": "scram-sha-256",
        }
        assert pg.value("select datcollate from pg_database where datname = 'fieldgate'") == "C"


def test_nobody_connects_without_a_password(pg):
    with pg:
        for role in "postgres", "fieldgate_owner", "fieldgate_ingest", "fieldgate_reader":
            pg.query("select 1", role=role)
            with pytest.raises(psycopg2.OperationalError, match="password"):
                psycopg2.connect(host="127.0.0.1", port=pg.port, user=role, dbname="fieldgate", passfile="/dev/null")


def test_passwords_are_in_a_file_of_the_callers_only(pg):
    mode = os.stat(pg.dir / "passfile")
    assert stat.S_IMODE(mode.st_mode) == 0o600
    assert mode.st_uid == os.getuid()
    lines = (pg.dir / "passfile").read_text().splitlines()
    passwords = [line.rpartition(":")[2] for line in lines]
    assert len(set(passwords)) == 4 and min(map(len, passwords)) == 48
    kept = [p for p in pg.dir.rglob("*") if p.is_file() and p.name != "passfile"]
    for password in passwords:
        assert not [p for p in kept if password.encode() in p.read_bytes()]


def test_init_twice_keeps_everything(pg):
    before = (pg.dir / "passfile").read_text()
    with pg:
        pg.query("insert into device (id) values ('x')")
        dev_postgres("init", pg.dir, pg.port)
    dev_postgres("init", pg.dir, pg.port)
    assert (pg.dir / "passfile").read_text() == before
    with pg:
        assert pg.query("select id from device") == [("x",)]


def test_init_completes_what_was_cut_short(pg):
    passwords = (pg.dir / "passfile").read_text().splitlines(keepends=True)
    (pg.dir / "passfile").write_text("".join(passwords[:2]))
    dev_postgres("init", pg.dir, pg.port)
    with pg:
        assert pg.value("select 1", role="fieldgate_reader") == 1
    shutil.rmtree(pg.dir / "data")
    (pg.dir / "data").mkdir()
    dev_postgres("init", pg.dir, pg.port)
    with pg:
        assert pg.query("select * from device") == []


def copy_of_the_code(place):
    code = place / "code"
    (code / "bin").mkdir(parents=True)
    shutil.copy(DEV_POSTGRES, code / "bin")
    shutil.copytree(MIGRATE.parent, code / "sql")
    return code


def test_a_failed_init_leaves_nothing_running(place):
    code = copy_of_the_code(place)
    (code / "sql" / "8000_bad.sql").write_text("nonsense;")
    command = [code / "bin" / "dev-postgres", "init", place / "pg", str(free_port())]
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert result.returncode != 0 and "8000_bad.sql:1" in result.stderr
    assert dev_postgres("status", place / "pg", check=False).returncode == 3


def test_init_moves_it_to_another_port(pg):
    with Postgres(pg.dir, free_port()) as pg:
        assert pg.value("show port") == str(pg.port)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for another user")
def test_links_that_the_server_user_made_are_not_followed_as_root(place):
    victim = place / "victim"
    victim.write_text("untouched")
    dev_postgres("init", place / "pg", free_port())
    for name in "fieldgate.conf", "postgresql.conf":
        path = place / "pg" / "data" / name
        path.unlink()
        path.symlink_to(victim)
    assert dev_postgres("init", place / "pg", free_port(), check=False).returncode != 0
    assert victim.read_text() == "untouched" and victim.stat().st_uid == 0


def test_start_and_stop_twice_do_no_harm(pg):
    assert dev_postgres("status", pg.dir, check=False).returncode == 3
    pg.stop()
    pg.start()
    pg.start()
    assert dev_postgres("status", pg.dir).stdout == f"running on 127.0.0.1:{pg.port}\n"
    pg.stop("immediate")
    pg.stop("immediate")
    assert not pg.running()


def test_url_names_role_and_database(pg):
    start = f"127.0.0.1:{pg.port}"
    end = f"passfile={pg.dir}/passfile\n"
    assert dev_postgres("url", pg.dir).stdout == f"postgresql://fieldgate_owner@{start}/fieldgate?{end}"
    assert dev_postgres("url", pg.dir, "postgres", "x").stdout == f"postgresql://postgres@{start}/x?{end}"


def test_it_starts_again_after_a_kill(pg):
    with pg:
        pg.query("insert into device (id) values ('x')")
        pg.kill()
        assert not pg.running()
        pg.start()
        assert pg.query("select id from device") == [("x",)]


def test_a_taken_port_is_one_clear_message(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = dev_postgres("init", place / "pg", port, check=False)
        assert result.returncode != 0
        assert result.stderr.splitlines() == [
            f"dev-postgres: port {port} is in use by another program; stop that, or choose another port"
        ]


def test_a_directory_with_a_long_and_odd_name(place):
    directory = place / ("long " * 20) / "it's 100% ü?&#"
    with Postgres(directory) as pg:
        url = dev_postgres("url", pg.dir).stdout.strip()
        text = subprocess.check_output(["psql", "-XAtd", url, "-c", "select 'works'"], text=True)
        assert text == "works\n"
        assert subprocess.run([MIGRATE, "--database", url]).returncode == 0


def test_below_a_directory_that_the_server_user_may_not_pass(place):
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with Postgres(closed / "run" / "pg") as pg:
        assert pg.value("select 1") == 1
        pg.kill()
        pg.start()
        assert pg.value("select 1") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_as_an_ordinary_user(place):
    nobody = pwd.getpwnam("nobody")
    home = place / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    code = copy_of_the_code(place)

    def run(*arguments):
        command = ["runuser", "-u", "nobody", "--", code / "bin" / "dev-postgres", *map(str, arguments)]
        return subprocess.check_output(command, text=True, cwd="/")

    run("init", home / "pg", free_port())
    run("start", home / "pg")
    try:
        assert (home / "pg" / "data").stat().st_uid == nobody.pw_uid
        url = run("url", home / "pg", "fieldgate_reader").strip()
        command = ["runuser", "-u", "nobody", "--", "psql", "-XAtd", url, "-c", "select count(*) from telemetry"]
        assert subprocess.check_output(command, text=True, cwd="/") == "0\n"
    finally:
        run("stop", home / "pg")


@pytest.mark.parametrize("arguments", [[], ["init"], ["init", "/x"], ["init", "/x", "0"], ["fly", "/x"], ["start", "/x"]])
def test_wrong_arguments_are_refused(arguments):
    result = dev_postgres(*arguments, check=False)
    assert result.returncode != 0 and result.stderr


def test_help():
    assert "Usage" in dev_postgres("--help").stdout
