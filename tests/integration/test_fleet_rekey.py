# SPDX-License-Identifier: Apache-2.0
"""Master keys of pre-shared keys: fleet rekey, FIELDGATE_MASTER_KEY, the batch mode of fieldgate-secret, and
servers that serve meanwhile. What is sealed is opened by another implementation of AES-256-GCM."""

import contextlib
import hashlib
import os
import pathlib
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time

import psycopg2
import psycopg2.extras
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.coap_client import ClientError  # noqa: E402
from harness.mqtt import eventually  # noqa: E402
from harness.pki import FLEET, Fleet  # noqa: E402
from harness.postgres import READER, fresh_database  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECRET = ROOT / "build" / os.environ.get("MODE", "release") / "tools" / "fieldgate-secret"
CHUNK = 500  # rows of one transaction of fleet rekey


@pytest.fixture
def fleet(tmp_path):
    with fresh_database() as database:
        fleet = Fleet(tmp_path / "pki", database.url())
        fleet.dir.mkdir()
        fleet.query = database.query
        yield fleet


def sha256(data):
    return hashlib.sha256(data).digest()


def key_id(key):
    return sha256(key)[:8]


def key_file(fleet, *keys):
    """The fleet's master.key with these lines."""
    path = fleet.dir / "master.key"
    path.touch(0o600)
    path.write_text("".join(f"{key.hex()}\n" for key in keys))
    return path


def keys_of(path):
    return [bytes.fromhex(line) for line in path.read_text().split("\n") if line and line[0] != "#"]


def context(id):
    return b"psk\0" + sha256(id.encode()) + id.encode()


def seal(key, id, plain):
    nonce = secrets.token_bytes(12)
    return b"\1" + key_id(key) + nonce + AESGCM(key).encrypt(nonce, plain, context(id))


def unseal(key, id, sealed):
    assert sealed[:9] == b"\1" + key_id(key)
    return AESGCM(key).decrypt(sealed[9:21], sealed[21:], context(id))


def insert(fleet, key, count, prefix="dev"):
    """Devices with a pre-shared key: the keys, by id."""
    plain = {f"{prefix}-{n}": secrets.token_bytes(32) for n in range(count)}
    with contextlib.closing(psycopg2.connect(fleet.database_url)) as connection, connection:
        with connection.cursor() as cursor:
            psycopg2.extras.execute_values(
                cursor, "insert into fieldgate.principal (id) values %s", [(id,) for id in plain]
            )
            psycopg2.extras.execute_values(
                cursor,
                "insert into fieldgate.credential (kind, fingerprint, principal, material) values %s",
                [("psk", sha256(id.encode()), id, seal(key, id, plain[id])) for id in plain],
            )
    return plain


def rows(fleet):
    """(sealed_by, material) by id."""
    answer = fleet.query("select principal, sealed_by, material from fieldgate.credential where kind = 'psk'")
    return {id: (bytes(by), bytes(material)) for id, by, material in answer}


def check(fleet, key, plain):
    """Every row holds its key, sealed with this master key."""
    found = rows(fleet)
    assert set(found) == set(plain)
    for id, (by, material) in found.items():
        assert by == key_id(key)
        assert unseal(key, id, material) == plain[id]


def test_every_row_moves_to_the_first_key_and_the_old_one_is_said_to_be_free(fleet):
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    plain = insert(fleet, old, 2 * CHUNK + 3)
    key_file(fleet, new, old)
    result = fleet.run("rekey")
    check(fleet, new, plain)
    assert f"sealed {2 * CHUNK + 3} keys with the master key {key_id(new).hex()}" in result.stdout
    assert f"master key 2 ({key_id(old).hex()}) is not needed any more" in result.stderr
    before = rows(fleet)
    assert "sealed 0 keys" in fleet.run("rekey").stdout
    assert rows(fleet) == before


def test_the_owner_sees_in_the_row_which_master_key_it_needs(fleet):
    fleet.run("psk", "dev-1")
    ((by, material),) = rows(fleet).values()
    (master,) = keys_of(fleet.dir / "master.key")
    assert by == key_id(master) == material[1:9]
    ((seen,),) = fleet.query("select sealed_by from fieldgate.credential", role=READER)
    assert bytes(seen) == by


def test_dry_run_counts_and_changes_nothing(fleet):
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    insert(fleet, old, 3)
    insert(fleet, new, 2, "new")
    file = key_file(fleet, new, old)
    before = rows(fleet), file.read_bytes()
    result = fleet.run("rekey", "--dry-run")
    assert f"master key 1 of {file} ({key_id(new).hex()}): 2 keys" in result.stdout
    assert f"master key 2 of {file} ({key_id(old).hex()}): 3 keys" in result.stdout
    assert "not needed" not in result.stderr
    assert (rows(fleet), file.read_bytes()) == before


def test_new_puts_a_key_in_front_and_touches_no_row(fleet, tmp_path):
    fleet.run("psk", "dev-1")
    file = fleet.dir / "master.key"
    before, (old,) = rows(fleet), keys_of(file)
    words = [line for line in file.read_text().split("\n") if line[:1] == "#"]
    link = tmp_path / "link"
    link.symlink_to(file)
    result = fleet.run("rekey", "--new", "--key-file", link)
    assert "SIGHUP" in result.stdout
    new, second = keys_of(file)
    assert second == old and new != old
    assert [line for line in file.read_text().split("\n") if line[:1] == "#"] == words
    assert link.is_symlink() and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in fleet.dir.iterdir() if path.name[0] != ".") == ["master.key"]
    assert rows(fleet) == before
    for key in (old, new):
        assert key.hex() not in result.stdout + result.stderr


def test_a_key_file_that_is_full_or_bad_stays_as_it_is(fleet):
    file = key_file(fleet, *(secrets.token_bytes(32) for _ in range(32)))
    for words in ("more than 32 keys", "no master key"):
        before = file.read_bytes()
        result = fleet.run("rekey", "--new", check=False)
        assert result.returncode == 1 and words in result.stderr
        assert file.read_bytes() == before
        assert [path for path in fleet.dir.iterdir() if path.name.startswith("master.key.")] == []
        file.write_text("not a key\n")


def test_rows_that_cannot_be_opened_stay_and_are_named(fleet):
    old, new, lost = (secrets.token_bytes(32) for _ in range(3))
    plain = insert(fleet, old, 3)
    insert(fleet, lost, 1, "lost")
    insert(fleet, old, 1, "moved")
    stolen = seal(old, "dev-0", b"x" * 32)
    fleet.query("update fieldgate.credential set material = %s where principal = 'moved-0'", (stolen,))
    before = rows(fleet)
    file = key_file(fleet, new, old)
    result = fleet.run("rekey", check=False)
    assert result.returncode == 1
    assert "lost-0: it is sealed with a master key that is not given" in result.stderr
    assert "moved-0: it is damaged, or was sealed for another row" in result.stderr
    after = rows(fleet)
    for id in ("lost-0", "moved-0"):
        assert after[id] == before[id]
    for id in plain:
        assert unseal(new, id, after[id][1]) == plain[id]
    key_file(fleet, new, old, lost)
    fleet.query("delete from fieldgate.principal where id = 'moved-0'")
    assert "sealed 1 keys" in fleet.run("rekey").stdout
    key_file(fleet, new)
    insert(fleet, lost, 1, "again")
    result = fleet.run("rekey", "--dry-run")
    assert f"{key_id(lost).hex()} is not in {file}: 1 keys are sealed with it" in result.stderr


def test_a_key_that_is_replaced_meanwhile_is_not_overwritten(fleet):
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    plain = insert(fleet, old, 2)
    key_file(fleet, new, old)
    other = secrets.token_bytes(32)
    with contextlib.closing(psycopg2.connect(fleet.database_url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute(
                "update fieldgate.credential set material = %s where principal = 'dev-0'",
                (seal(new, "dev-0", other),),
            )
        rekey = threading.Thread(target=fleet.run, args=("rekey",))
        rekey.start()
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        eventually(lambda: fleet.query(waits) != [(0,)], 20, "rekey that waits for the row")
        connection.commit()
        rekey.join()
    check(fleet, new, {**plain, "dev-0": other})


def test_a_rekey_that_is_killed_is_run_again(fleet):
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    plain = insert(fleet, old, 4 * CHUNK)
    key_file(fleet, new, old)
    sealed_anew = "select count(*) from fieldgate.credential where sealed_by = %s"
    seen = set()
    environment = {**os.environ, "FLEET_DIR": str(fleet.dir), "FIELDGATE_DATABASE_URL": fleet.database_url}
    for wanted in range(1, 4):
        process = subprocess.Popen(
            [FLEET, "rekey"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None:
            ((count,),) = fleet.query(sealed_anew, (key_id(new),))
            if count >= wanted * CHUNK:
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        ((count,),) = fleet.query(sealed_anew, (key_id(new),))
        assert count % CHUNK == 0
        seen.add(count)
    assert len(seen) > 1
    fleet.run("rekey")
    check(fleet, new, plain)


def test_master_keys_in_the_environment(fleet):
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    result = fleet.run("psk", "dev-1", env={"FIELDGATE_MASTER_KEY": old.hex()})
    plain = bytes.fromhex(result.stdout.split("key: ")[1])
    assert not (fleet.dir / "master.key").exists()
    check(fleet, old, {"dev-1": plain})
    environment = {"FIELDGATE_MASTER_KEY": f"{new.hex()},{old.hex()}"}
    assert "sealed 1 keys" in fleet.run("rekey", env=environment).stdout
    check(fleet, new, {"dev-1": plain})
    result = fleet.run("rekey", "--new", env=environment, check=False)
    assert result.returncode == 1 and "FIELDGATE_MASTER_KEY" in result.stderr
    result = fleet.run("rekey", check=False, env={"FIELDGATE_MASTER_KEY": "no key"})
    assert result.returncode == 1 and "key 1 is no master key" in result.stderr
    assert "there is no" in fleet.run("rekey", check=False).stderr


def test_reseal_gives_no_plain_key_away(tmp_path):
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    file = tmp_path / "keys"
    file.touch(0o600)
    file.write_text(f"{new.hex()}\n{old.hex()}\n")
    plain = secrets.token_bytes(32)
    sealed = seal(old, "dev-1", plain)
    fingerprint = sha256(b"dev-1").hex()
    line = f"{fingerprint}\tdev-1\t{sealed.hex()}\n{fingerprint}\tdev-1\t{seal(new, 'dev-1', plain).hex()}\n"
    result = subprocess.run([SECRET, "reseal", file, "psk"], input=line.encode(), capture_output=True, check=True)
    first, second, third, fourth = result.stdout.decode().rstrip("\n").split("\t")
    assert (first, second, bytes.fromhex(third)) == (fingerprint, "dev-1", sealed)
    assert unseal(new, "dev-1", bytes.fromhex(fourth)) == plain
    assert plain.hex().encode() not in result.stdout + result.stderr
    for bad in ("x\n", f"{fingerprint}\n", f"{fingerprint}\ta/b\t{sealed.hex()}\n", f"{fingerprint}\tdev-1\tzz\n"):
        result = subprocess.run([SECRET, "reseal", file, "psk"], input=bad.encode(), capture_output=True)
        assert result.returncode == 3 and result.stdout == b"" and b"fieldgate-secret: " in result.stderr
    with pytest.raises(InvalidTag):
        unseal(new, "dev-2", bytes.fromhex(fourth))


# --- servers that serve meanwhile ---


def handshakes_work(coap, key):
    device = coap.device(key)
    try:
        device.handshake(timeout_ms=5000)
    finally:
        device.close()
        device.forget()


def test_devices_connect_at_every_moment_of_a_rotation(coap):
    server = coap.started()
    key = coap.psk("dev-1")
    coap.in_force()
    fleet = Fleet(coap.directory / "pki", coap.fleet.database_url)
    fleet.dir.mkdir()
    file = key_file(fleet, coap.master_key)
    count = 0

    def sighup(content):
        server.secrets_file.write_text(content)
        since = server.log_position()
        server.sighup()
        server.wait_log("event=reloaded", since)

    def serve_for(seconds):
        nonlocal count
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handshakes_work(coap, key)
            count += 1

    fleet.run("rekey", "--new")
    sighup(file.read_text())
    serve_for(0.5)
    fleet.run("rekey")
    serve_for(6)  # the new rows are in force within 5 s
    new, _ = keys_of(file)
    sighup(f"{new.hex()}\n")
    serve_for(0.5)
    assert count > 20


def test_a_server_that_was_not_given_the_new_key_first_says_so(coap):
    server = coap.started()
    key = coap.psk("dev-1")
    coap.in_force()
    handshakes_work(coap, key)
    fleet = Fleet(coap.directory / "pki", coap.fleet.database_url)
    fleet.dir.mkdir()
    file = key_file(fleet, coap.master_key)
    fleet.run("rekey", "--new")
    fleet.run("rekey")

    def is_refused():
        try:
            handshakes_work(coap, key)
        except ClientError:
            return True
        return False

    eventually(is_refused, 8, "the refusal")
    eventually(lambda: server.log_lines("secrets.key_file"), 5, "the reason")
    server.secrets_file.write_text(file.read_text())
    since = server.log_position()
    server.sighup()
    server.wait_log("event=reloaded", since)
    handshakes_work(coap, key)


def test_a_server_takes_its_master_key_from_the_environment(coap, monkeypatch):
    key = coap.psk("dev-1")
    monkeypatch.setenv("FIELDGATE_MASTER_KEY", f"{secrets.token_hex(32)} {coap.master_key.hex()}")
    coap.started({"secrets.key_file": None})
    handshakes_work(coap, key)
