# SPDX-License-Identifier: Apache-2.0
"""pki/fleet when the disk is full, when files change while they are looked at, when something revoked is to come back,
and when there are more devices than an argument holds. Interruptions are in test_fleet_crash.py."""

import fcntl
import os
import re
import resource
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from harness.modem import PRIVATE_KEY, PSK, SimulatedModem
from harness.pki import CERT, FLEET, Fleet, certificate_request


@pytest.fixture
def alone(bare_authorities, tmp_path):
    """Without a database."""
    return Fleet(shutil.copytree(bare_authorities, tmp_path / "pki"), "")


def program(directory, name, text):
    """A program of this name in front of the real one; the environment that makes it be found."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/bash\n{text}\n")
    (directory / name).chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}", "FIELDGATE_CERT": str(CERT)}


# --- the disk ---


@pytest.mark.parametrize("failing", ["cat", "sync"])
def test_full_disk_never_cuts_what_devices_are_to_trust(alone, tmp_path, failing):
    """Once a new root is decided, its stage is completed with `set -e` off."""
    before = alone.ca.read_bytes(), alone.device_ca_chain.read_bytes()
    # cat writes half and fails, as with ENOSPC; sync says that what was written did not reach the disk.
    half = {
        "cat": f"""if [[ $* == *former/root-* ]]; then {shutil.which('cat')} "$@" | head -c 700; exit 1; fi""",
        "sync": """if [[ ${!#} == */ca.pem ]]; then echo 'sync: error syncing: No space left on device' >&2; exit 1; fi""",
    }
    env = program(tmp_path / "bin", failing, f'{half[failing]}\nexec {shutil.which(failing)} "$@"')
    result = alone.run("ca", "new", "root", check=False, env=env)
    assert result.returncode == 1, result.stdout + result.stderr
    assert (alone.ca.read_bytes(), alone.device_ca_chain.read_bytes()) == before
    assert "made" not in result.stdout

    assert "completed" in alone.run("ca", "list").stderr + alone.run("server", "broker").stderr
    roots = [*alone.dir.glob("root/cert.pem"), *alone.dir.glob("former/root-*/cert.pem")]
    assert len(roots) == 2
    assert alone.ca.read_bytes() == b"".join(path.read_bytes() for path in roots)


# --- what was revoked ---


@pytest.mark.parametrize("how", ["add", "batch"])
@pytest.mark.parametrize("state", ["revoked", "suspended"])
def test_revoked_certificate_does_not_come_back_when_its_rows_are_deleted(fleet, tmp_path, state, how):
    """The directory still holds it, and a certificate that the registry does not know is registered again."""
    (old,) = fleet.add("dev-1")
    fingerprint = old.fingerprint
    if state == "revoked":
        fleet.run("revoke", "dev-1", "--reason", "keyCompromise")
    else:
        fleet.run("suspend", "dev-1")
    fleet.query("delete from fieldgate.principal where id = 'dev-1'")
    if how == "add":
        fleet.run("add", "dev-1")
    else:
        (tmp_path / "list.csv").write_text("id\ndev-1\n")
        fleet.run("batch", tmp_path / "list.csv")
    assert fleet.credentials("dev-1").fingerprint != fingerprint
    rows = fleet.query("select fingerprint from fieldgate.credential where principal = 'dev-1'")
    assert [bytes(row[0]) for row in rows] == [fleet.credentials("dev-1").fingerprint]


# --- requests ---


def write_request(path, key):
    path.write_bytes(certificate_request(key))
    return path


@pytest.mark.parametrize("how", ["add", "renew", "batch"])
def test_key_of_another_device_is_not_signed_for(fleet, tmp_path, how):
    """A request that was sent twice, by mistake or to be two devices."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = write_request(tmp_path / "one.csr", key)
    fleet.run("add", "dev-1", "--csr", request)
    fleet.add("dev-3")
    arguments = {"add": ["add", "dev-2", "--csr", request], "renew": ["renew", "dev-3", "--csr", request]}
    if how == "batch":
        (tmp_path / "list.csv").write_text("id,csr\ndev-4,\ndev-2,one.csr\n")
        arguments[how] = ["batch", tmp_path / "list.csv"]
    result = fleet.run(*arguments[how], check=False)
    assert result.returncode == 1
    assert "key of dev-1" in result.stderr
    if how == "batch":
        assert f"{tmp_path}/list.csv:3: " in result.stderr
    assert fleet.query("select count(*) from fieldgate.credential")[0][0] == 2
    # The same key for the same device is no fault.
    fleet.run("renew", "dev-1", "--csr", request)


def test_request_that_changes_while_a_list_is_worked_on_is_not_signed(fleet, tmp_path):
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    one, other = (write_request(tmp_path / f"{n}.csr", key) for n, key in enumerate(keys))
    (tmp_path / "list.csv").write_text("id,csr\ndev-1,0.csr\n")
    env = program(
        tmp_path / "bin", "fieldgate-cert", f'{CERT} "$@" || exit\n[[ $1 != requests ]] || cp {other} {one}'
    )
    env["FIELDGATE_CERT"] = f"{tmp_path}/bin/fieldgate-cert"
    result = fleet.run("batch", tmp_path / "list.csv", check=False, env=env)
    assert result.returncode == 1
    assert "has changed" in result.stderr
    assert fleet.query("select count(*) from fieldgate.principal") == [(0,)]
    assert not list((fleet.dir / "stage").iterdir())


# --- many ---


def test_more_devices_than_an_argument_holds_are_approved(fleet):
    fleet.add("dev-1")
    name = fleet.query("select name from fieldgate.authority")[0][0]
    fleet.query(
        "insert into fieldgate.principal (id, state)"
        " select 'd-' || n || repeat('x', 50), 'pending' from generate_series(1, 3000) n"
    )
    fleet.query(
        "insert into fieldgate.credential (kind, fingerprint, principal, serial, issuer)"
        " select 'x509', sha256(id::text::bytea), id, substr(md5(id), 1, 32), (select fingerprint from fieldgate.authority)"
        " from fieldgate.principal where state = 'pending'"
    )
    result = fleet.run("approve", "--all-of", name)
    assert fleet.query("select count(*) from fieldgate.principal where state = 'pending'") == [(0,)]
    assert result.stdout.count("approved d-") == 3000


def test_example_of_expiring_renews_as_many_as_there_are(fleet, tmp_path):
    ids = [f"dev-{n}" for n in range(1001)]
    (tmp_path / "list.csv").write_text("id,days\n" + "".join(f"{id},5\n" for id in ids))
    fleet.run("batch", tmp_path / "list.csv")
    example = re.search(r"^example: (.*)$", fleet.run("expiring", "--help").stdout, re.MULTILINE)[1]
    assert " | " in example
    environment = {
        **os.environ, "PATH": f"{FLEET.parent}:{os.environ['PATH']}", "FLEET_DIR": str(fleet.dir),
        "FIELDGATE_DATABASE_URL": fleet.database_url, "FIELDGATE_CERT": str(CERT),
    }
    result = subprocess.run(["bash", "-o", "pipefail", "-c", example], env=environment, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert fleet.run("expiring", "--ids").stdout == ""


def test_days_that_no_list_can_have_are_wrong_usage(fleet):
    result = fleet.run("crl", "--days", "9999", check=False)
    assert result.returncode == 2
    assert "--days" in result.stderr and "fieldgate-cert" not in result.stderr
    assert not (fleet.dir / "crl").exists()


# --- keys ---


def allow_cores():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="nothing may leave a core here")
def test_no_program_of_fleet_leaves_a_core(alone, tmp_path):
    """A core of fieldgate-cert would hold the key of a CA."""
    env = program(tmp_path / "bin", "fieldgate-cert", f'ulimit -c >>{tmp_path}/limits\nexec {CERT} "$@"')
    env["FIELDGATE_CERT"] = f"{tmp_path}/bin/fieldgate-cert"
    alone.run("server", "broker", env=env, preexec_fn=allow_cores)
    assert set((tmp_path / "limits").read_text().split()) == {"0"}


def test_psk_is_in_no_trace_of_the_shell(fleet):
    """Whoever looks for a fault with bash -x, or has SHELLOPTS=xtrace in the environment."""
    result = fleet.run("psk", "dev-1", env={"SHELLOPTS": "xtrace"})
    key = result.stdout.split("key: ")[1].strip()
    assert "set -euo pipefail" in result.stderr  # it was a trace
    assert key not in result.stderr


@pytest.mark.parametrize("how", ["--new-key", "--renew"])
def test_server_key_whose_pin_nobody_knows_is_said(alone, how):
    """A server of former times has no next key; one whose key was moved away is renewed with another one."""
    alone.run("server", "broker")
    place = alone.dir / "servers" / "broker"
    (place / "next-key.pem").unlink()
    if how == "--renew":
        (place / "key.pem").unlink()
    result = alone.run("server", "broker", how)
    assert "pin" in result.stderr and "fleet anchors" in result.stderr
    # With the next key of before there is nothing to say.
    assert "pin" not in alone.run("server", "broker", "--new-key").stderr


@pytest.mark.parametrize("command", ["psk", "new", "rekey"])
def test_master_key_is_not_changed_while_another_command_seals(fleet, command):
    """Else two keys that come at once lose one of them, or a key is said to be free that a row is about to need."""
    fleet.run("psk", "dev-1")
    arguments = {
        "psk": ["psk", "dev-2", "--key-file", fleet.dir / "master.key"], "new": ["rekey", "--new"], "rekey": ["rekey"],
    }[command]
    with open(fleet.dir / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = {**os.environ, "FLEET_DIR": fleet.dir, "FIELDGATE_DATABASE_URL": fleet.database_url}
        running = subprocess.Popen([FLEET, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
        try:
            assert "waiting for another fleet command" in running.stderr.readline()
            assert running.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            running.communicate(timeout=60)
            assert running.returncode == 0
        finally:
            running.kill()


# --- copies and backups ---


def test_copy_of_a_directory_does_not_sign_with_a_retired_authority(fleet, tmp_path):
    """Another machine has made a new device CA and retired the former one, which here still signs."""
    fleet.add("dev-1")
    copy = Fleet(shutil.copytree(fleet.dir, tmp_path / "copy"), fleet.database_url)
    name = fleet.query("select name from fieldgate.authority")[0][0]
    fleet.run("ca", "new", "device-ca")
    fleet.run("ca", "retire", name, "--force")
    (tmp_path / "list.csv").write_text("id\ndev-2\n")
    for command in (["add", "dev-2"], ["renew", "dev-1"], ["batch", tmp_path / "list.csv"]):
        result = copy.run(*command, check=False)
        assert result.returncode == 1
        assert name in result.stderr and "retired" in result.stderr
    assert fleet.query("select id from fieldgate.principal") == [("dev-1",)]
    assert f"{name} is retired in the registry" in copy.run("ca", "list").stderr
    assert fleet.run("ca", "list").stderr == ""


def test_authority_that_a_restored_registry_has_in_force_again_is_named(fleet):
    fleet.add("dev-1")
    name = fleet.query("select name from fieldgate.authority")[0][0]
    fleet.run("ca", "new", "device-ca")
    fleet.run("ca", "retire", name, "--force")
    fleet.query("update fieldgate.authority set retired_at = null")
    assert f"fleet ca retire {name}" in fleet.run("ca", "list").stderr
    fleet.run("ca", "retire", name)
    assert fleet.query("select retired_at is null from fieldgate.authority where name = %s", (name,)) == [(False,)]
    assert fleet.run("ca", "list").stderr == ""


# --- advice that is followed ---


@pytest.mark.parametrize("how", ["--renew", "--new-key"])
def test_renewal_as_it_is_advised_keeps_the_names_of_a_server(alone, how):
    """fleet ca new, verify and README say fleet server NAME --renew."""
    alone.run("server", "broker.example.com", "192.0.2.7", "2001:db8::7", "b.example.com")
    before = names(alone)
    assert "renewed" not in alone.run("server", "broker.example.com", how).stderr
    assert names(alone) == before
    assert len(before) == 4
    # Other names are those that are given.
    alone.run("server", "broker.example.com", "192.0.2.8", how)
    assert names(alone) == ["broker.example.com", "192.0.2.8"]
    alone.run("server", "broker.example.com")
    assert names(alone) == ["broker.example.com"]


def names(fleet):
    certificate = x509.load_pem_x509_certificate((fleet.dir / "servers/broker.example.com/cert.pem").read_bytes())
    return [str(n.value) for n in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_revocation_is_not_held_up_by_what_cannot_be_completed(fleet, tmp_path):
    """The disk is full, and an interrupted add waits for its files to be moved: a key is out all the same."""
    fleet.add("dev-1")
    env = program(tmp_path / "bin", "mv", f"""[[ $* != *" -t "* && $* != "-t "* ]] || exit 1\nexec {shutil.which('mv')} "$@\"""")
    assert "Not finished" in fleet.run("add", "dev-2", check=False, env=env).stderr
    for command in (["revoke", "dev-1"], ["suspend", "dev-2"]):
        result = fleet.run(*command, env=env)
        assert "could not be completed" in result.stderr
    assert fleet.query("select id, state::text from fieldgate.principal order by id") == [
        ("dev-1", "revoked"), ("dev-2", "suspended"),
    ]
    # What makes something wants it completed first, and then it is.
    assert fleet.run("add", "dev-3", check=False, env=env).returncode == 1
    fleet.run("add", "dev-3")
    assert fleet.credentials("dev-2").key.exists()


def test_expiring_names_servers_and_authorities_too(fleet):
    fleet.run("server", "broker", "--days", "20")
    short = ["issue", "--profile", "server-ca", "--ca", fleet.dir / "root", "--days", "15"]
    (fleet.dir / "server-ca/cert.pem").unlink()
    job = f"/O=x/CN=x\t-\tkey:{fleet.dir}/server-ca/key.pem\t{fleet.dir}/server-ca/cert.pem\n"
    subprocess.run([CERT, *short], input=job, text=True, check=True, stdout=subprocess.PIPE)
    result = fleet.run("expiring")
    assert "fleet server broker --renew" in result.stderr
    assert "fleet ca new server-ca" in result.stderr
    assert "fleet ca new root" not in result.stderr
    result = fleet.run("expiring", "--days", "10")
    assert result.stderr == ""


def test_request_of_another_key_is_not_said_to_exist(fleet, tmp_path):
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    for n, key in enumerate(keys):
        write_request(tmp_path / f"{n}.csr", key)
    fleet.run("add", "dev-1", "--csr", tmp_path / "0.csr")
    (tmp_path / "list.csv").write_text("id,csr\ndev-1,1.csr\ndev-2,\n")
    result = fleet.run("batch", tmp_path / "list.csv", check=False)
    assert result.returncode == 1
    assert "added 1, existed 0, failed 1" in result.stdout
    assert "another key" in result.stderr and "fleet renew dev-1 --csr" in result.stderr


def held(modem):
    return {kind: modem.content(kind) for kind in modem.types() if kind not in (PRIVATE_KEY, PSK)}, modem.types()


@pytest.mark.parametrize("psk", [[], ["--psk"]])
def test_modem_of_another_device_is_left_alone(fleet, tmp_path, psk):
    """Two boards on a desk, and the wrong port."""
    with SimulatedModem(tmp_path) as modem:
        fleet.run("modem", modem.port, "dev-1", *psk)
        before = held(modem)
        result = fleet.run("modem", modem.port, "dev-2", *psk, check=False)
        assert result.returncode == 1
        assert "dev-1" in result.stderr and "right port" in result.stderr
        assert held(modem) == before
        assert fleet.query("select id from fieldgate.principal") == [("dev-1",)]
        fleet.run("modem", modem.port, "dev-1", *psk)
        # A device that is gone gives its modem to another.
        fleet.run("revoke", "dev-1")
        fleet.run("modem", modem.port, "dev-2", *psk)
