# SPDX-License-Identifier: Apache-2.0
"""pki/fleet batch: what a list may look like and what is wrong with it; and a batch of a thousand that is killed
at ten moments, after which every device of it connects to a broker."""

import collections
import contextlib
import csv
import fcntl
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.broker import Broker  # noqa: E402
from harness.load import Load  # noqa: E402
from harness.pki import FLEET, Fleet, certificate_request, serial_text  # noqa: E402
from harness.postgres import INGEST, fresh_database  # noqa: E402

NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"
DEVICES, KILLS = 1000, 10


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    directory = tmp_path_factory.mktemp("authorities") / "pki"
    Fleet(directory, NOWHERE).init().server("localhost", "127.0.0.1")
    return directory


@pytest.fixture
def fleet(authorities, tmp_path):
    with fresh_database() as database:
        fleet = Fleet(shutil.copytree(authorities, tmp_path / "pki"), database.url())
        fleet.database = database
        fleet.query = database.query
        yield fleet


@pytest.fixture
def batch(fleet, tmp_path):
    """Run fleet batch with a list of this text (or bytes): its result."""

    def run(text, check=True):
        list_ = tmp_path / "list.csv"
        list_.write_bytes(text if isinstance(text, bytes) else text.encode())
        return fleet.run("batch", list_, check=check)

    return run


def results(tmp_path):
    with open(tmp_path / "list.csv.result.csv", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def principals(fleet):
    return fleet.query("select id, state::text, policy, note from fieldgate.principal order by id")


def public(key):
    return key.public_key().public_numbers()


# --- lists ---


def test_list_with_the_id_alone(fleet, batch, tmp_path):
    assert "added 2, existed 0, failed 0" in batch("id\ndev-1\ndev-2").stdout
    assert principals(fleet) == [("dev-1", "active", "device", ""), ("dev-2", "active", "device", "")]
    for id, row in results(tmp_path).items():
        made = fleet.credentials(id)
        assert row["serial"] == serial_text(made.certificate.serial_number) and row["outcome"] == "added"
        assert row["path"] == str(made.directory) and row["not_after"].endswith("Z")
    assert os.listdir(fleet.dir / "stage") == []


def test_every_column_in_any_order_and_every_form_of_field(fleet, batch, tmp_path):
    fleet.query("insert into fieldgate.policy (name) values ('reader')")
    keys = {id: ec.generate_private_key(ec.SECP256R1()) for id in ("file", "der", "keygen", "answer")}
    (tmp_path / "some files").mkdir()
    (tmp_path / "some files" / "a,b.csr").write_bytes(certificate_request(keys["file"]))
    (tmp_path / "der.csr").write_bytes(certificate_request(keys["der"], form="der"))
    keygen = {id: certificate_request(keys[id], form="keygen").decode().strip() for id in ("keygen", "answer")}
    note = 'a "quoted", word\nof two lines\tand a \\ tab'
    lines = [
        "note,csr,id,days,state,policy",
        '"' + note.replace('"', '""') + '",,plain,30,pending,reader',
        ',"some files/a,b.csr",file,,,',
        ",der.csr,der,,active,device",
        f',"{keygen["keygen"]}",keygen,,,',
        '"","%KEYGEN: ""' + keygen["answer"] + '""",answer,,,""',
        "",
        "last,,last,,,",
    ]
    # As a spreadsheet writes it: with a byte order mark, lines that end in CRLF, the last one in nothing.
    result = batch(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert "added 6," in result.stdout
    rows = {row[0]: row[1:] for row in principals(fleet)}
    assert rows["plain"] == ("pending", "reader", note) and rows["last"] == ("active", "device", "last")
    for id, key in keys.items():
        assert fleet.credentials(id).certificate.public_key().public_numbers() == public(key)
        assert os.listdir(fleet.credentials(id).directory) == ["cert.pem"]
    days = "select extract(epoch from not_after - now()) / 86400 from fieldgate.credential where principal = 'plain'"
    assert 29 < fleet.query(days)[0][0] < 31


def test_batch_again_makes_what_is_missing_and_leaves_the_rest(fleet, batch, tmp_path):
    batch("id\ndev-1\ndev-2\ngone")
    before = {id: fleet.credentials(id).fingerprint for id in ("dev-1", "dev-2")}
    fleet.revoke("gone")
    result = batch("id\ndev-1\ndev-2\ngone\ndev-3", check=False)
    assert result.returncode == 1 and "added 1, existed 2, failed 1" in result.stdout
    assert re.search(r"list.csv:4: gone failed: is revoked", result.stderr)
    assert {id: fleet.credentials(id).fingerprint for id in before} == before
    outcomes = {id: row["outcome"] for id, row in results(tmp_path).items()}
    assert outcomes == {"dev-1": "existed", "dev-2": "existed", "gone": "failed: is revoked", "dev-3": "added"}
    assert results(tmp_path)["dev-1"]["serial"] == serial_text(fleet.credentials("dev-1").certificate.serial_number)


def bad_requests(tmp_path):
    good = certificate_request(ec.generate_private_key(ec.SECP256R1()), form="der")
    (tmp_path / "good.csr").write_bytes(good)
    (tmp_path / "same.csr").write_bytes(good)
    (tmp_path / "tampered.csr").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (tmp_path / "p384.csr").write_bytes(certificate_request(ec.generate_private_key(ec.SECP384R1())))


def test_every_fault_is_said_with_its_line_before_anything_is_made(fleet, batch, tmp_path):
    bad_requests(tmp_path)
    fleet.add("grafana", service=True)
    fleet.add("known")
    before = principals(fleet)
    lines = [
        "id,csr,policy,state,note,days",
        "good,,,,,",  # 2
        "a b,,,,,",
        "good,,,,,",
        "days,,,,,0",
        "state,,,revoked,,",  # 6
        "policy,,a b,,,",
        "nopolicy,,nonsense,,,",
        "nofile,nothing.csr,,,,",
        '"two\nlines",,,,,',  # 10 and 11
        "short,,,,",  # 12
        "tampered,tampered.csr,,,,",
        "p384,p384.csr,,,,",
        "one,good.csr,,,,",  # 15
        "other,same.csr,,,,",
        "grafana,,,,,",
        "known,,none,,,",  # 18
        '"quote"x,,,,,',
        'quo"te,,,,,',
        'open,"x,,,,',  # 21
    ]
    result = batch("\n".join(lines), check=False)
    assert result.returncode == 1, result.stdout
    said = dict(re.findall(r"^.*/list\.csv:(\d+): (.*)$", result.stderr, re.M))
    expected = {
        3: "cannot be an id", 4: "line 2 already", 5: "1 to 99999", 6: "pending or active", 7: "cannot be a policy",
        8: "no policy 'nonsense'", 9: "no file that can be read", 10: "cannot be an id", 12: "5 fields",
        13: "signature", 14: "P-256", 16: "line 15", 17: "is a service already", 18: "policy 'device', not 'none'",
        19: "behind the", 20: "does not begin with one", 21: "is missing",
    }  # fmt: skip
    assert set(said) == {str(line) for line in expected}
    for line, words in expected.items():
        assert words in said[str(line)], (line, said[str(line)])
    assert f"{len(expected)} faults" in result.stderr and "nothing was added" in result.stderr
    assert principals(fleet) == before and not (fleet.dir / "devices" / "good").exists()
    assert not (tmp_path / "list.csv.result.csv").exists() and os.listdir(fleet.dir / "stage") == []


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is empty"),
        ("dev-1\ndev-2\n", "no column 'dev-1'"),
        ("id;csr\n", "separated by commas"),
        ("csr,note\n", "column id is missing"),
        ("id,note,id\n", "there twice"),
        ('"id\n', "is missing"),
        (b"id,note\ndev-1,\xe9t\xe9\n", "not UTF-8"),
    ],
)
def test_first_line_names_the_columns(fleet, batch, text, words):
    result = batch(text, check=False)
    assert result.returncode == 1 and words in result.stderr
    assert principals(fleet) == []


def test_list_without_a_device_is_no_error(fleet, batch, tmp_path):
    assert "added 0, existed 0, failed 0" in batch("id\n").stdout
    assert results(tmp_path) == {}


def test_database_that_is_away_leaves_nothing(fleet, batch, tmp_path):
    fleet.database_url = NOWHERE
    result = batch("id\ndev-1", check=False)
    assert result.returncode == 1 and "no connection to the database" in result.stderr
    assert list((fleet.dir / "devices").iterdir()) == []


def test_bar_on_a_terminal_only(fleet, batch, tmp_path):
    assert "\r" not in batch("id\n" + "".join(f"a-{i}\n" for i in range(3))).stderr
    (tmp_path / "list.csv").write_text("id\n" + "".join(f"b-{i}\n" for i in range(150)))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "FLEET_DIR": str(fleet.dir), "FIELDGATE_DATABASE_URL": fleet.database_url}
    subprocess.run(
        [FLEET, "batch", tmp_path / "list.csv"], stderr=theirs, stdout=subprocess.DEVNULL, env=environment,
        timeout=120, check=True,
    )  # fmt: skip
    os.close(theirs)
    said = os.read(ours, 10000).decode()
    os.close(ours)
    assert "\r[" in said and "100 of 150" in said and "150 of 150" in said and "#" * 30 in said


# --- a thousand, killed ---


class Killed:
    """A batch that is killed, whole process group, as soon as a condition holds."""

    def __init__(self, fleet, list_):
        self.fleet, self.list = fleet, list_
        self.connection = fleet.database.connect()

    def rows(self):
        with self.connection.cursor() as cursor:
            cursor.execute("select count(*) from fieldgate.credential")
            return cursor.fetchone()[0]

    def stage(self, pattern):
        return len(list((self.fleet.dir / "stage").glob(pattern)))

    def devices(self):
        return len(os.listdir(self.fleet.dir / "devices"))

    def committing(self):
        with self.connection.cursor() as cursor:
            cursor.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and granted"
                " and database = (select oid from pg_database where datname = current_database())"
            )
            return cursor.fetchone()[0] > 0

    def run(self, condition):
        """Was it killed in time?"""
        environment = {
            **os.environ, "FLEET_DIR": str(self.fleet.dir), "FIELDGATE_DATABASE_URL": self.fleet.database_url,
        }  # fmt: skip
        process = subprocess.Popen(
            [FLEET, "batch", self.list], env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while process.poll() is None and not condition():
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return process.returncode == -signal.SIGKILL

    def moments(self):
        """Conditions, each of which holds a little further on in the batch than the one before."""

        def staged(name, number, after):
            return lambda: self.rows() >= after and self.stage(f"add.*/devices/*/{name}") >= number

        return [
            # The list is read, nothing is made.
            lambda: self.stage("add.*") > 0,
            staged("key.pem", 30, 0),
            staged("cert.pem", 90, 0),
            # Whole in the stage, not committed; whatever the transaction makes of it.
            lambda: self.stage("add.*/manifest") > 0,
            lambda: self.committing() or self.rows() >= 100,
            # Committed, and not moved yet, or only half.
            lambda: self.rows() >= 200 and self.rows() > self.devices(),
            lambda: self.devices() >= 330,
            # Settled, in a later chunk.
            lambda: self.rows() >= 500 and self.stage("add.*/manifest") == 0,
            lambda: self.rows() >= 700 and self.committing(),
            # The last devices are made, and the results not written.
            lambda: self.rows() >= DEVICES,
        ]


def check_whole(fleet, keys):
    """No device without a row, no row without a usable credential, no number twice, nothing half done."""
    rows = fleet.query(
        "select p.id, c.fingerprint, c.serial, c.issuer is not null from fieldgate.principal p"
        " left join fieldgate.credential c on c.principal = p.id"
    )
    assert len(rows) == DEVICES and len({row[0] for row in rows}) == DEVICES
    assert len({row[2] for row in rows}) == DEVICES, "a serial number twice"
    assert all(row[3] for row in rows)
    here = {path.name for path in (fleet.dir / "devices").iterdir()}
    assert here == {row[0] for row in rows}
    for id, fingerprint, serial, _ in rows:
        made = fleet.credentials(id)
        assert made.fingerprint == bytes(fingerprint) and serial == serial_text(made.certificate.serial_number)
        assert made.certificate.public_key().public_numbers() == public(keys.get(id) or key_of(made))
        assert (id in keys) != made.key.exists()
    assert os.listdir(fleet.dir / "stage") == []
    assert not (fleet.dir / "old").exists()


def key_of(credentials):
    return serialization.load_pem_private_key(credentials.key.read_bytes(), None)


def write_key(credentials, key):
    """What is in the device itself: the test plays it."""
    credentials.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def test_thousand_devices_killed_at_ten_moments_are_all_there_and_connect(fleet, tmp_path):
    keys = {f"dev-{i:04d}": ec.generate_private_key(ec.SECP256R1()) for i in range(0, DEVICES, 10)}
    for id, key in keys.items():
        (tmp_path / f"{id}.csr").write_bytes(certificate_request(key))
    list_ = tmp_path / "list.csv"
    ids = [f"dev-{i:04d}" for i in range(DEVICES)]
    list_.write_text("id,csr\n" + "".join(f"{id},{id + '.csr' if id in keys else ''}\n" for id in ids))

    killed = Killed(fleet, list_)
    with contextlib.closing(killed.connection):
        moments = killed.moments()
        assert len(moments) == KILLS
        before = 0
        for number, condition in enumerate(moments):
            assert killed.run(condition), f"the batch ended before moment {number}"
            with open(fleet.dir / ".lock", "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
            assert killed.rows() >= before
            before = killed.rows()
            print(f"moment {number}: {before} rows, {killed.devices()} devices, stage {os.listdir(fleet.dir / 'stage')}")
    result = fleet.run("batch", list_)
    assert "failed 0" in result.stdout
    check_whole(fleet, keys)
    outcomes = collections.Counter(row["outcome"] for row in results(tmp_path).values())
    assert sum(outcomes.values()) == DEVICES and set(outcomes) <= {"added", "existed"}

    for id, key in keys.items():
        write_key(fleet.credentials(id), key)
    broker = Broker(tmp_path / "broker", fleet.database.url(INGEST), fleet)
    try:
        broker.start()
        load = Load(
            broker.port, connections=DEVICES, window=1, messages=1, prefix="dev-", seconds=60,
            credentials=fleet.dir / "devices", ca=fleet.ca, ack_log=tmp_path / "acked",
        )  # fmt: skip
        assert load.wait(300)["acked"] == DEVICES
        assert {line.split()[0] for line in open(tmp_path / "acked")} == set(ids)
    finally:
        broker.stop()
