# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL cluster for tests, made by bin/dev-postgres. The database `fieldgate` of a cluster is
migrated once and then only copied: a test that wants a database of its own has it in a fraction of a
second. PG_BIN in the environment chooses the server's programs."""

import atexit
import contextlib
import functools
import itertools
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.parse

import psycopg2

from .ports import free_port

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEV_POSTGRES = REPOSITORY / "bin" / "dev-postgres"
MIGRATE = REPOSITORY / "sql" / "migrate"

OWNER, INGEST, READER, SUPERUSER = (
    "fieldgate_owner",
    "fieldgate_ingest",
    "fieldgate_reader",
    "postgres",
)


def run(*command, **options):
    """Run a program; its output is in the error when it fails."""
    result = subprocess.run(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    if result.returncode:
        raise RuntimeError(f"{command} failed ({result.returncode}):\n{result.stdout}{result.stderr}")
    return result.stdout


class Postgres:
    """A cluster in `dir`, which is made when it is not there; not started yet."""

    def __init__(self, dir, port=None):
        self.dir = pathlib.Path(dir)
        self.port = port or free_port()
        self._numbers = itertools.count(1)
        run(DEV_POSTGRES, "init", self.dir, self.port)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop("immediate")

    def start(self):
        run(DEV_POSTGRES, "start", self.dir)

    def stop(self, mode="fast"):
        """fast: as an operator would; immediate: no shutdown checkpoint, recovery at the next start."""
        self.resume()
        run(DEV_POSTGRES, "stop", self.dir, mode)

    def running(self):
        return subprocess.run(
            [DEV_POSTGRES, "status", self.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).returncode == 0

    def kill(self):
        """SIGKILL all processes of the server, and wait until they are gone."""
        pids = self._stop_all()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while any(_alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {pids} survive SIGKILL")
            time.sleep(0.01)
        # Where process 1 does not reap orphans at once (a container), they stay as zombies, which
        # PostgreSQL takes for a running server. They are dead: so are their locks.
        data = self.dir / "data"
        for lock in [data / "postmaster.pid", *data.glob(".s.PGSQL.*.lock")]:
            lock.unlink(missing_ok=True)

    def pause(self):
        """SIGSTOP all processes: connections stay open and nobody answers."""
        self._stop_all()

    def resume(self):
        for pid in self._pids():
            _signal(pid, signal.SIGCONT)

    def url(self, role=OWNER, dbname="fieldgate"):
        return (
            f"postgresql://{role}@127.0.0.1:{self.port}/{dbname}"
            f"?passfile={urllib.parse.quote(str(self.dir.resolve() / 'passfile'))}"
        )

    def connect(self, role=OWNER, dbname="fieldgate", **options):
        """A connection in autocommit mode; close it, or use `with contextlib.closing(...)`."""
        connection = psycopg2.connect(self.url(role, dbname), **options)
        connection.autocommit = True
        return connection

    def query(self, sql, parameters=None, role=OWNER, dbname="fieldgate"):
        """The rows as a list of tuples; [] for a statement that returns none."""
        with contextlib.closing(self.connect(role, dbname)) as connection:
            return query(connection, sql, parameters)

    def value(self, sql, parameters=None, role=OWNER, dbname="fieldgate"):
        """The one value of the one row."""
        ((value,),) = self.query(sql, parameters, role, dbname)
        return value

    def new_database(self):
        """A migrated database of its own: its name. No connection to `fieldgate` may be open."""
        name = f"t{os.getpid()}_{next(self._numbers)}"
        with contextlib.closing(self.connect(SUPERUSER, "postgres")) as connection:
            query(connection, f"create database {name} template fieldgate")
            # Settings of a database are not copied with it.
            query(connection, f"alter database {name} set search_path = fieldgate, public")
        return name

    def drop_database(self, name):
        with contextlib.closing(self.connect(SUPERUSER, "postgres")) as connection:
            query(connection, f"drop database if exists {name} with (force)")

    @contextlib.contextmanager
    def database(self):
        """A new database for the length of a `with` block: its name."""
        name = self.new_database()
        try:
            yield name
        finally:
            self.drop_database(name)

    @contextlib.contextmanager
    def empty_database(self):
        """A new database without a schema: its name."""
        name = f"t{os.getpid()}_{next(self._numbers)}"
        self.query(f"create database {name}", role=SUPERUSER, dbname="postgres")
        try:
            yield name
        finally:
            self.drop_database(name)

    def _postmaster(self):
        try:
            return int((self.dir / "data" / "postmaster.pid").read_text().split("\n")[0])
        except (FileNotFoundError, ValueError):
            return None

    def _pids(self):
        """The postmaster first, then its children."""
        postmaster = self._postmaster()
        # The file may be stale, and its number somebody else's by now.
        if postmaster is None or _directory(postmaster) != self.dir.resolve() / "data":
            return []
        return [postmaster] + _children(postmaster)

    def _stop_all(self):
        # The postmaster stops first, so that it makes no more children.
        pids = self._pids()[:1]
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        pids = self._pids()
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        return pids


class Database:
    """One database of a cluster, so that a test need not name it again and again."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    def url(self, role=OWNER):
        return self.cluster.url(role, self.name)

    def connect(self, role=OWNER, **options):
        return self.cluster.connect(role, self.name, **options)

    def query(self, sql, parameters=None, role=OWNER):
        return self.cluster.query(sql, parameters, role, self.name)

    def value(self, sql, parameters=None, role=OWNER):
        return self.cluster.value(sql, parameters, role, self.name)


@functools.cache
def shared():
    """A running cluster for all tests of this process that only need databases of their own."""
    directory = tempfile.mkdtemp(prefix="fieldgate_pg_")
    os.chmod(directory, 0o711)
    # However this process ends, its end of the pipe closes, and the janitor tidies up.
    janitor = subprocess.Popen(
        ["sh", "-c", 'cat >/dev/null; "$1" stop "$2/pg" immediate; rm -rf "$2"', "janitor", DEV_POSTGRES, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    atexit.register(janitor.communicate)
    cluster = Postgres(pathlib.Path(directory) / "pg")
    cluster.start()
    return cluster


@contextlib.contextmanager
def fresh_database():
    """A migrated database in the shared cluster, for the length of a `with` block."""
    with shared().database() as name:
        yield Database(shared(), name)


def query(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def _signal(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _stat(pid):
    """(state, parent) or None when there is no such process."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])


def _alive(pid):
    stat = _stat(pid)
    return stat is not None and stat[0] != "Z"


def _directory(pid):
    try:
        return pathlib.Path(os.readlink(f"/proc/{pid}/cwd"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def _children(parent):
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if (_stat(pid) or ("", 0))[1] == parent]
