# SPDX-License-Identifier: Apache-2.0
"""pki/fleet, killed. Shims in front of the programs that it starts kill it at each of them in turn: the
whole process group, or fleet alone while what it has started lives on. Whatever the moment, the next
command leaves no device without a row, no row without its files, and nothing half done."""

import contextlib
import fcntl
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.pki import FLEET, Credentials, Fleet, certificate_request, serial_text  # noqa: E402
from harness.postgres import fresh_database  # noqa: E402
from harness.shims import Shims  # noqa: E402

# Which of its psqls is that of the transaction: the first asks, the second registers authorities.
TRANSACTION = 3
NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"
PROGRAMS = ["fieldgate-cert", "psql", "mv", "rm", "sync", "mkdir"]


@pytest.fixture
def shims(tmp_path):
    (tmp_path / "shims").mkdir()
    return Shims(tmp_path / "shims", PROGRAMS)


def wait_for_orphans(fleet):
    """What a killed fleet has started holds the lock until it ends."""
    with open(fleet.dir / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def is_pair(directory, certificate="cert.pem"):
    key = serialization.load_pem_private_key((directory / "key.pem").read_bytes(), None)
    certificate = x509.load_pem_x509_certificate((directory / certificate).read_bytes())
    return key.public_key().public_numbers() == certificate.public_key().public_numbers()


def check_consistent(fleet, keys=()):
    """Devices on disk and valid credentials in the registry are the same, and each is usable. keys: of devices that
    keep theirs, by id. What was replaced is under old/, and may be valid still."""
    rows = {
        (id, bytes(fingerprint)): revoked
        for id, fingerprint, revoked in fleet.query(
            "select p.id, coalesce(c.fingerprint, ''), c.revoked_at is not null"
            " from fieldgate.principal p left join fieldgate.credential c on c.principal = p.id"
        )
    }
    here = set()
    for directory in [*(fleet.dir / "devices").iterdir(), *(fleet.dir / "old").glob("*@*")]:
        credentials = Credentials(directory.name.split("@")[0], directory)
        # A crash between the two renames of a replacement leaves an empty one beside the one of the next run.
        if directory.parent.name == "old" and not os.listdir(directory):
            continue
        if credentials.id in keys:
            assert os.listdir(directory) == ["cert.pem"]
            key = keys[credentials.id].public_key().public_numbers()
            assert credentials.certificate.public_key().public_numbers() == key
        else:
            assert sorted(os.listdir(directory)) == ["cert.pem", "key.pem"]
            assert is_pair(directory)
        here.add((credentials.id, credentials.fingerprint))
    assert here <= set(rows), "a device without a row"
    valid = {row for row, revoked in rows.items() if not revoked}
    assert valid <= here, "a row without its files"
    assert os.listdir(fleet.dir / "stage") == []
    return {id for id, _ in valid}


def fresh_ids(fleet, number):
    """Three ids for an add: two new ones, and one whose only certificate is revoked."""
    ids = [f"{kind}-{number}" for kind in ("back", "new", "other")]
    fleet.mint(ids[:1])
    fleet.query("update fieldgate.credential set revoked_at = now() where principal = %s", ids[:1])
    return ids


@pytest.mark.parametrize("how", ["kill", "orphan"])
def test_add_killed_anywhere_is_completed_or_undone(fleet, shims, how):
    shims.run(fleet, "add", *fresh_ids(fleet, 0))
    calls = shims.calls
    assert calls > 15
    outcomes = set()
    for number in range(1, calls + 1):
        ids = fresh_ids(fleet, number)
        result = shims.run(fleet, "add", *ids, at=number, do=how)
        assert result.returncode == -signal.SIGKILL, (number, result.stderr)
        wait_for_orphans(fleet)
        fleet.run("list")
        added = check_consistent(fleet) & set(ids)
        assert added in (set(), set(ids)), number
        outcomes.add(len(added))
    # Some were killed before the commit, some behind it.
    assert outcomes == {0, 3}
    fleet.run("add", *[f"{kind}-{n}" for n in range(calls + 1) for kind in ("back", "new", "other")])
    assert len(check_consistent(fleet)) == 3 * (calls + 1)


@pytest.mark.parametrize("how", ["kill", "orphan"])
def test_add_of_a_request_killed_anywhere_is_completed_or_undone(fleet, shims, how, tmp_path):
    fleet.add("first")  # so that each run looks through certificates
    keys = {}

    def add(number, **settings):
        keys[f"csr-{number}"] = ec.generate_private_key(ec.SECP256R1())
        (tmp_path / "csr").write_bytes(certificate_request(keys[f"csr-{number}"]))
        return shims.run(fleet, "add", f"csr-{number}", "--csr", tmp_path / "csr", **settings)

    add(0)
    calls = shims.calls
    outcomes = set()
    for number in range(1, calls + 1):
        assert add(number, at=number, do=how).returncode == -signal.SIGKILL
        wait_for_orphans(fleet)
        fleet.run("list")
        outcomes.add(f"csr-{number}" in check_consistent(fleet, keys))
    assert outcomes == {False, True}


@pytest.mark.parametrize("options", [[], ["--revoke-old"]], ids=["overlap", "revoke-old"])
@pytest.mark.parametrize("how", ["kill", "orphan"])
def test_renewal_killed_anywhere_is_completed_or_undone(fleet, shims, how, options):
    ids = ["dev-1", "dev-2"]
    fleet.add(*ids)

    def valid():
        return fleet.query(
            "select principal, count(*) from fieldgate.credential where revoked_at is null group by 1 order by 1"
        )

    shims.run(fleet, "renew", *ids, *options)
    calls = shims.calls
    before = {id: fleet.credentials(id).fingerprint for id in ids}
    renewed = set()
    for number in range(1, calls + 1):
        shims.run(fleet, "renew", *ids, *options, at=number, do=how)
        wait_for_orphans(fleet)
        fleet.run("list")
        assert check_consistent(fleet) == set(ids)
        now = {id: fleet.credentials(id).fingerprint for id in ids}
        changed = {now[id] != before[id] for id in ids}
        assert len(changed) == 1, number
        renewed |= changed
        before = now
        if options:
            assert valid() == [(id, 1) for id in ids], number
        else:
            assert len({count for _, count in valid()}) == 1, number
    assert renewed == {False, True}


def test_add_killed_at_random_moments(fleet):
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    environment = {**os.environ, "FLEET_DIR": str(fleet.dir), "FIELDGATE_DATABASE_URL": fleet.database_url}
    started = time.monotonic()
    fleet.add(*[f"first-{i}" for i in range(8)])
    usual = time.monotonic() - started
    for number in range(10):
        ids = [f"r{number}-{i}" for i in range(8)]
        process = subprocess.Popen(
            [FLEET, "add", *ids], env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.3, 1.1) * usual)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for_orphans(fleet)
        fleet.run("show", "first-0")
        assert check_consistent(fleet) & set(ids) in (set(), set(ids)), number


def killed_before_its_transaction(fleet, shims, *ids):
    """A stage with a manifest and no rows."""
    shims.run(fleet, "add", *ids, only="psql", at=TRANSACTION, do="kill")
    (stage,) = (fleet.dir / "stage").iterdir()
    assert (stage / "manifest").exists()
    return stage


def test_recovery_waits_for_a_transaction_that_is_still_committing(fleet, shims):
    stage = killed_before_its_transaction(fleet, shims, "dev-1")
    (_, line) = (stage / "manifest").read_text().splitlines()
    fingerprint = bytes.fromhex(line.split()[0])
    with contextlib.closing(fleet.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select pg_advisory_xact_lock(hashtextextended('fieldgate ' || %s, 0))", (stage.name,))
        cursor.execute("insert into fieldgate.principal (id) values ('dev-1')")
        cursor.execute(
            "insert into fieldgate.credential (kind, fingerprint, principal) values ('x509', %s, 'dev-1')",
            (fingerprint,),
        )
        process = subprocess.Popen(
            [FLEET, "list"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**os.environ, "FLEET_DIR": str(fleet.dir), "FIELDGATE_DATABASE_URL": fleet.database_url},
        )  # fmt: skip
        waiting = (
            "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            " and database = (select oid from pg_database where datname = current_database())"
        )
        deadline = time.monotonic() + 30
        while fleet.query(waiting) == [(0,)]:
            assert process.poll() is None, "fleet did not wait"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        cursor.execute("commit")
    assert process.wait(60) == 0
    assert check_consistent(fleet) == {"dev-1"}


def test_next_command_waits_for_a_psql_that_outlives_fleet(fleet, shims):
    """The transaction waits for another one; fleet is killed; a second fleet must not judge before psql
    has ended."""
    with contextlib.closing(fleet.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("begin; lock table fieldgate.credential in exclusive mode")
        # No pipes: run would wait until psql closes them.
        result = shims.run(fleet, "add", "dev-1", only="psql", at=TRANSACTION, do="orphan", pipes=False)
        assert result.returncode == -signal.SIGKILL
        with open(fleet.dir / ".lock", "a") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It only asks, and does not judge: the stage stays.
        fleet.run("list")
        assert len(os.listdir(fleet.dir / "stage")) == 1
        cursor.execute("rollback")
    assert "exists: dev-1" in fleet.run("add", "dev-1").stdout
    assert check_consistent(fleet) == {"dev-1"}


def test_commit_whose_answer_is_lost_counts(fleet, shims):
    result = shims.run(fleet, "add", "dev-1", "dev-2", only="psql", at=TRANSACTION, do="lie")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("added ") == 2
    assert check_consistent(fleet) == {"dev-1", "dev-2"}


def test_failed_transaction_leaves_nothing(fleet, shims):
    result = shims.run(fleet, "add", *fresh_ids(fleet, 0), only="psql", at=TRANSACTION, do="fail")
    assert result.returncode == 1 and "Nothing was added" in result.stderr and "added" not in result.stdout
    assert check_consistent(fleet) == set()


@pytest.mark.parametrize("committed", [False, True])
def test_database_gone_in_the_middle_is_settled_by_the_next_command(fleet, shims, committed):
    settings = {"at": TRANSACTION, "do": "lie", "from": TRANSACTION + 1} if committed else {"from": TRANSACTION}
    result = shims.run(fleet, "add", *fresh_ids(fleet, 0), only="psql", **settings)
    assert result.returncode == 1 and "next fleet command" in result.stderr
    assert len(os.listdir(fleet.dir / "stage")) == 1
    result = fleet.run("list")
    assert ("completed" if committed else "undone") in result.stderr
    assert len(check_consistent(fleet)) == (3 if committed else 0)


def test_stage_of_another_database_is_left_alone(fleet, shims):
    stage = killed_before_its_transaction(fleet, shims, "dev-1")
    with fresh_database() as other:
        url, fleet.database_url = fleet.database_url, other.url()
        for command in (["list"], ["add", "dev-2"]):
            result = fleet.run(*command)
            assert "warning" in result.stderr and str(stage) in result.stderr
            assert stage.exists()
        fleet.database_url = url
    assert "undone" in fleet.run("list").stderr
    assert not stage.exists()


def test_init_killed_anywhere_is_completed(shims, tmp_path):
    shims.run(Fleet(tmp_path / "whole", ""), "init")
    calls = shims.calls
    assert calls > 15
    for number in range(1, calls + 1):
        fleet = Fleet(tmp_path / str(number), "")
        assert shims.run(fleet, "init", at=number, do="kill").returncode == -signal.SIGKILL
        fleet.init()
        for name in ("root", "device-ca", "server-ca"):
            assert is_pair(fleet.dir / name)
        assert fleet.ca.read_bytes() == (fleet.dir / "root/cert.pem").read_bytes()
        assert fleet.device_ca_chain.read_bytes().endswith(fleet.ca.read_bytes())
        assert os.listdir(fleet.dir / "stage") == []


def test_server_renewal_killed_anywhere_leaves_a_pair(bare_authorities, shims, tmp_path):
    fleet = Fleet(shutil.copytree(bare_authorities, tmp_path / "pki"), NOWHERE)
    fleet.server("localhost")
    shims.run(fleet, "server", "localhost", "--renew")
    calls = shims.calls
    directory = fleet.dir / "servers" / "localhost"
    before = (directory / "chain.pem").read_bytes()
    renewed = 0
    for number in range(1, calls + 1):
        shims.run(fleet, "server", "localhost", "--renew", at=number, do="kill")
        for file in ("chain.pem", "cert.pem"):
            assert is_pair(directory, file)
        fleet.run("init")
        assert os.listdir(fleet.dir / "stage") == []
        chain = (directory / "chain.pem").read_bytes()
        assert chain.startswith((directory / "cert.pem").read_bytes())
        renewed += chain != before
        before = chain
    assert 0 < renewed < calls


def check_authorities(fleet):
    """Each CA's key is its own; the bundles are those of the directory; the registry has the device CAs that are
    accepted and says of those that are retired so. Names of all CAs, and of those that are retired."""
    assert os.listdir(fleet.dir / "stage") == []
    kinds = ("root", "device-ca", "server-ca")
    former = sorted((fleet.dir / "former").glob("*"))
    others = sorted((fleet.dir / "other-ca").glob("*"))
    for directory in [fleet.dir / kind for kind in kinds] + former:
        assert is_pair(directory), directory
    names, retired, device_cas = set(), set(), {}
    for directory in [fleet.dir / kind for kind in kinds] + former + others:
        serial = Credentials("", directory).certificate.serial_number
        name = f"{directory.name}-{serial_text(serial)[-8:]}" if directory.name in kinds else directory.name
        names.add(name)
        if (directory / "retired").exists():
            retired.add(name)
        if not name.startswith(("root-", "server-ca-")):
            device_cas[name] = Credentials("", directory).fingerprint, name in retired

    def in_force(kind):
        return [fleet.dir / kind, *(d for d in former if d.name.startswith(kind) and d.name not in retired)]

    def pem(directories):
        return b"".join((directory / "cert.pem").read_bytes() for directory in directories)

    accepted = in_force("device-ca") + [d for d in others if d.name not in retired]
    assert fleet.ca.read_bytes() == pem(in_force("root"))
    assert fleet.device_ca_chain.read_bytes() == pem(accepted + in_force("root"))
    rows = fleet.query("select name, fingerprint, retired_at is not null from fieldgate.authority")
    assert {name: (bytes(fingerprint), gone) for name, fingerprint, gone in rows} == device_cas
    return names, retired


def fresh_ca_command(fleet, command, scratch):
    """The words of a command that can be run now, as often as it is asked for."""
    if command == "add":
        maker = Fleet(scratch / f"maker-{time.monotonic_ns()}", "").init()
        return ["add", maker.device_ca_chain, "--enrol", "active"]
    if command == "retire":
        while True:
            for former in (fleet.dir / "former").glob("*"):
                if not (former / "retired").exists():
                    return ["retire", former.name]
            fleet.run("ca", "new", "device-ca")
    return command.split()


@pytest.mark.parametrize("command", ["new device-ca", "new server-ca", "new root", "add", "retire"])
def test_ca_killed_anywhere_is_completed_or_undone(fleet, shims, tmp_path, command):
    fleet.run("ca", "enrol", "device-ca", "pending")
    shims.run(fleet, "ca", *fresh_ca_command(fleet, command, tmp_path))
    calls = shims.calls
    assert calls > 10
    outcomes = set()
    for number in range(1, calls + 1):
        words = fresh_ca_command(fleet, command, tmp_path)
        before = check_authorities(fleet)
        result = shims.run(fleet, "ca", *words, at=number, do="kill" if number % 2 else "orphan")
        assert result.returncode == -signal.SIGKILL, (number, result.stderr)
        wait_for_orphans(fleet)
        fleet.run("ca", "list")
        after = check_authorities(fleet)
        made, retired = len(after[0]) - len(before[0]), len(after[1]) - len(before[1])
        assert (made, retired) in ((0, 0), (int(words[0] != "retire"), int(words[0] == "retire"))), number
        outcomes.add(made + retired)
    # Some were killed before it was decided, some behind it.
    assert outcomes == {0, 1}


def test_commands_without_a_registry_go_on_beside_an_undecided_ca(fleet, shims):
    fleet.run("ca", "enrol", "device-ca", "pending")
    shims.run(fleet, "ca", "new", "device-ca", only="psql", at=2, do="kill")
    (stage,) = (fleet.dir / "stage").iterdir()
    assert (stage / "manifest").exists()
    alone = Fleet(fleet.dir, "")
    alone.server("localhost")
    alone.init()
    assert stage.exists() and (fleet.dir / "device-ca").exists()
    fleet.run("ca", "list")
    check_authorities(fleet)


def test_ca_that_is_decided_is_completed_without_the_registry(fleet, shims):
    fleet.run("ca", "enrol", "device-ca", "pending")
    former = Credentials("", fleet.dir / "device-ca").fingerprint
    # The manifest gets its name, the former CA goes, the new one comes: the third.
    shims.run(fleet, "ca", "new", "device-ca", only="mv", at=3, do="kill")
    assert not (fleet.dir / "device-ca").exists()
    Fleet(fleet.dir, "").init()
    assert Credentials("", fleet.dir / "device-ca").fingerprint != former
    check_authorities(fleet)


def test_ca_whose_commit_is_not_seen_counts(fleet, shims):
    result = shims.run(fleet, "ca", "new", "device-ca", only="psql", at=2, do="lie")
    assert result.returncode == 0, result.stderr
    check_authorities(fleet)


def test_ca_whose_transaction_fails_leaves_nothing(fleet, shims):
    fleet.run("ca", "enrol", "device-ca", "pending")
    before = check_authorities(fleet)
    result = shims.run(fleet, "ca", "new", "device-ca", only="psql", at=2, do="fail")
    assert result.returncode == 1 and "Nothing was changed" in result.stderr
    assert check_authorities(fleet) == before
