# SPDX-License-Identifier: Apache-2.0
"""fleet modem against a simulated modem: a device on a desk from its first command to its first message, with keys
that are nowhere but in the modem, and interrupted at every step."""

import contextlib
import hashlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.modem import CA, CERTIFICATE, IDENTITY, PRIVATE_KEY, PSK, TAG, SimulatedModem  # noqa: E402
from harness.mqtt import eventually  # noqa: E402
from harness.pki import BUILT, FLEET, MODEM, serial_text  # noqa: E402
from harness.postgres import OWNER  # noqa: E402
from harness.shims import Shims  # noqa: E402

NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"


@pytest.fixture
def modem(tmp_path):
    with SimulatedModem(tmp_path) as modem:
        yield modem


def rows(fleet, id="dev-1", kind="x509"):
    """(serial, revocation reason or None) of its credentials, the newest last."""
    return fleet.query(
        "select serial, revocation_reason from fieldgate.credential where principal = %s and kind::text = %s"
        " order by created_at",
        (id, kind),
    )


def valid(fleet, id="dev-1"):
    """The fingerprints of its certificates that are accepted."""
    answer = fleet.query(
        "select fingerprint from fieldgate.credential where principal = %s and kind = 'x509' and revoked_at is null",
        (id,),
    )
    return [bytes(fingerprint) for (fingerprint,) in answer]


def spki(certificate):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(serialization.Encoding.DER, form)


def check_provisioned(fleet, modem, id="dev-1", tag=TAG):
    """The modem has a key, the one valid certificate of the device is for it, and the modem has that and the CA."""
    assert modem.types(tag) == [CA, CERTIFICATE, PRIVATE_KEY]
    certificate = x509.load_pem_x509_certificate(modem.content(CERTIFICATE, tag).encode())
    assert spki(certificate) == modem.public_key(tag)
    assert valid(fleet, id) == [certificate.fingerprint(hashes.SHA256())]
    assert modem.content(CA, tag) == fleet.ca.read_text()
    for kind in (CA, CERTIFICATE):
        assert "\r" not in modem.content(kind, tag)
    assert fleet.credentials(id).certificate == certificate
    assert not fleet.credentials(id).key.exists()
    assert modem.state["mode"] == 4
    assert not (fleet.dir / "modem" / id).exists()
    assert list((fleet.dir / "stage").iterdir()) == []
    return certificate


def refused(result, *words, status=1):
    assert result.returncode == status, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr
    return result


# --- a device on the desk ---


def test_a_desk_device_connects_with_a_key_that_was_made_in_its_modem(stack, tmp_path):
    broker = stack.started()
    with SimulatedModem(tmp_path) as modem:
        result = stack.fleet.run("modem", modem.port, "dev-1")
        assert f"IMEI {modem.state['imei']}, online" in result.stdout
        assert "stays offline" in result.stdout
        stack.in_force(broker)
        assert modem.mqtt(broker.port, "dev-1", seq=7) == 0
        stack.wait_rows("select 1 from telemetry where device = 'dev-1' and seq = 7")


def test_a_modem_with_a_pre_shared_key_talks_coap(coap, tmp_path):
    server = coap.started()
    with SimulatedModem(tmp_path) as modem:
        arguments = ("modem", modem.port, "dev-1", "--psk", "--key-file", server.secrets_file)
        result = coap.fleet.run(*arguments)
        assert "key:" not in result.stdout
        assert modem.types() == [PSK, IDENTITY]
        coap.in_force()
        assert modem.coap(server.port, seq=7) == "2.01"
        coap.wait_rows("select 1 from telemetry where device = 'dev-1' and seq = 7")
        coap.fleet.run(*arguments)
        coap.in_force()
        assert modem.coap(server.port, seq=8) == "2.01"


def test_everything_is_as_it_should_be_afterwards(fleet, modem):
    result = fleet.run("modem", modem.port, "dev-1", "--days", 30)
    certificate = check_provisioned(fleet, modem)
    assert f"certificate {serial_text(certificate.serial_number)}" in result.stdout
    # The request says another name, which is ignored.
    assert [a.value for a in certificate.subject] == ["dev-1"]
    assert fleet.query("select id, state::text, policy from fieldgate.principal") == [("dev-1", "active", "device")]
    assert fleet.run("show", "dev-1").stderr == ""


def test_a_further_run_makes_another_key_and_revokes_what_the_old_one_had(fleet, modem):
    fleet.run("modem", modem.port, "dev-1")
    first = check_provisioned(fleet, modem)
    fleet.run("modem", modem.port, "dev-1")
    second = check_provisioned(fleet, modem)
    assert spki(first) != spki(second)
    assert rows(fleet) == [
        (serial_text(first.serial_number), "superseded"), (serial_text(second.serial_number), None)
    ]


def test_another_tag_with_keep_leaves_the_first_ones_certificate(fleet, modem):
    fleet.run("modem", modem.port, "dev-1")
    first = check_provisioned(fleet, modem)
    fleet.run("modem", modem.port, "dev-1", "--tag", 42, "--keep")
    second = x509.load_pem_x509_certificate(modem.content(CERTIFICATE, 42).encode())
    assert spki(second) == modem.public_key(42) != modem.public_key()
    assert set(valid(fleet)) == {c.fingerprint(hashes.SHA256()) for c in (first, second)}
    assert modem.types() == modem.types(42) == [CA, CERTIFICATE, PRIVATE_KEY]


def test_what_else_is_in_the_tag_and_in_others_stays(fleet, modem):
    fleet.run("modem", modem.port, "dev-1", "--psk")
    fleet.run("modem", modem.port, "dev-2", "--tag", 7)
    fleet.run("modem", modem.port, "dev-1")
    assert modem.types() == [CA, CERTIFICATE, PRIVATE_KEY, PSK, IDENTITY]
    check_provisioned(fleet, modem, "dev-2", 7)


def test_policy_and_identity(fleet, modem):
    fleet.query("insert into fieldgate.policy (name) values ('quiet')")
    fleet.run("modem", modem.port, "dev-1", "--policy", "quiet")
    assert fleet.query("select policy from fieldgate.principal") == [("quiet",)]
    fleet.run("modem", modem.port, "dev-2", "--psk", "--identity", "a name", "--tag", 9, "--policy", "quiet")
    assert modem.content(IDENTITY, 9) == "a name"
    ((fingerprint,),) = fleet.query("select fingerprint from fieldgate.credential where kind = 'psk'")
    assert bytes(fingerprint) == hashlib.sha256(b"a name").digest()


# --- nothing is deleted before it is sure ---


def provisioned_before(fleet, modem):
    fleet.run("modem", modem.port, "dev-1")
    check_provisioned(fleet, modem)
    return modem.public_key()


@pytest.mark.parametrize("psk", [[], ["--psk"]])
def test_who_cannot_be_provisioned_keeps_what_is_in_the_modem(fleet, modem, psk):
    key = provisioned_before(fleet, modem)
    fleet.run("add", "dev-9")
    fleet.revoke("dev-9")
    before = len(modem.state["commands"])
    cases = [
        ("a/b", 2, "cannot be an id"),
        ("dev-9", 1, "dev-9 is revoked"),
    ]
    for id, status, words in cases:
        refused(fleet.run("modem", modem.port, id, *psk, check=False), words, status=status)
    refused(fleet.run("modem", modem.port, "dev-1", *psk, "--policy", "none", check=False), "exists with policy")
    fleet.database_url = NOWHERE
    refused(fleet.run("modem", modem.port, "dev-1", *psk, check=False), "no connection")
    assert len(modem.state["commands"]) == before
    assert modem.public_key() == key


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("PORT",), ("PORT", "a", "b"), ("PORT", "a", "--tag", "-1"), ("PORT", "a", "--tag", 2**31),
        ("PORT", "a", "--identity", "x"), ("PORT", "a", "--psk", "--days", "3"), ("PORT", "a", "--psk", "--keep"),
        ("PORT", "a", "--baud", "fast"), ("PORT", "a", "--what"), ("PORT", "a", "--days", "x"),
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2(fleet, modem, arguments):
    arguments = [modem.port if argument == "PORT" else argument for argument in arguments]
    refused(fleet.run("modem", *arguments, check=False), "--help", status=2)
    assert modem.state["commands"] == []


def test_what_is_no_modem_is_left_alone(fleet, tmp_path):
    (tmp_path / "sim").mkdir()
    with SimulatedModem(tmp_path / "sim", firmware="SIM7600") as other:
        refused(fleet.run("modem", other.port, "dev-1", check=False), "names no firmware of an nRF91")
        assert "AT+CFUN=4" not in other.state["commands"]
    refused(fleet.run("modem", tmp_path / "none", "dev-1", check=False), "is the board plugged in?")
    assert fleet.query("select * from fieldgate.principal") == []


def test_an_application_that_goes_online_again_is_named(fleet, modem):
    key = provisioned_before(fleet, modem)
    modem.fault("CFUN=4", "active again")
    refused(fleet.run("modem", modem.port, "dev-1", check=False), "switched it on")
    assert modem.public_key() == key


# --- interrupted ---

# What stops it, and whether the device was left without a key that works.
STOPS = {
    "full": ("%CMNG=0", "error 515", "memory for credentials is full"),
    "active": ("%KEYGEN", "error 518", "it is active"),
    "low voltage": ("%CMNG=3", "error 528", "charge the battery"),
    "unplugged": ("%KEYGEN", "unplug after", "the port is gone"),
    "unplugged while writing": ("%CMNG=0,.*,1,", "unplug before", "the port is gone"),
    "not what was written": ("%CMNG=1,16842753$", "other digest", "SHA-256 differs"),
}


@pytest.mark.parametrize("stop", STOPS)
def test_what_stops_it_is_said_and_a_further_run_ends_well(fleet, modem, stop):
    provisioned_before(fleet, modem)
    at, fault, words = STOPS[stop]
    if stop == "not what was written":
        for _ in range(2):  # the lists before the deletion: is it another device's, and what is there
            modem.fault(at, "")
    modem.fault(at, fault)
    result = refused(fleet.run("modem", modem.port, "dev-1", check=False), words, "run fleet modem again")
    assert "cannot connect" in result.stderr
    assert "dev-1 cannot connect: fleet modem was interrupted" in fleet.run("show", "dev-1").stderr
    modem.plug()
    assert "was interrupted" in fleet.run("modem", modem.port, "dev-1").stderr
    check_provisioned(fleet, modem)
    assert "interrupted" not in fleet.run("show", "dev-1").stderr


AT_STEPS = [
    "CGMR", "CFUN=4", "%CMNG=1,", "%CMNG=3,.*,0$", "%CMNG=3,.*,1$", "%CMNG=3,.*,2$", "%KEYGEN", "%CMNG=0,.*,0,",
    "%CMNG=0,.*,1,",
]  # fmt: skip


def start(fleet, *arguments):
    environment = {
        **os.environ, "FLEET_DIR": str(fleet.dir), "FIELDGATE_DATABASE_URL": fleet.database_url,
        **{name.upper().replace("-", "_"): str(path) for name, path in BUILT.items()},
    }  # fmt: skip
    return subprocess.Popen(
        [FLEET, *map(str, arguments)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_nothing_is_lost_silently(fleet, modem):
    """Either the modem has the key of the one valid certificate, or fleet show says that it may not."""
    if "cannot connect" in fleet.run("show", "dev-1").stderr:
        return
    certificate = x509.load_pem_x509_certificate(modem.content(CERTIFICATE).encode())
    assert spki(certificate) == modem.public_key()
    assert valid(fleet) == [certificate.fingerprint(hashes.SHA256())]


@pytest.mark.parametrize("step", AT_STEPS)
def test_killed_while_the_modem_does_a_step(fleet, modem, step):
    provisioned_before(fleet, modem)
    modem.hold(step)
    process = start(fleet, "modem", modem.port, "dev-1")
    modem.wait_held()
    kill(process)
    modem.release()  # the modem has the command, and does it
    check_nothing_is_lost_silently(fleet, modem)
    fleet.run("modem", modem.port, "dev-1")
    check_provisioned(fleet, modem)


PROGRAMS = ["psql", "mv", "sync", "rm", "mkdir", "fieldgate-cert", "fieldgate-modem", "fieldgate-secret", "openssl"]


def test_killed_before_each_program_that_it_starts(fleet, modem, tmp_path):
    shims = Shims(tmp_path, PROGRAMS)
    provisioned_before(fleet, modem)
    shims.run(fleet, "modem", modem.port, "dev-1")
    calls = shims.calls
    assert calls > 15
    for number in range(1, calls + 1):
        assert shims.run(fleet, "modem", modem.port, "dev-1", at=number, do="kill", pipes=False).returncode != 0
        check_nothing_is_lost_silently(fleet, modem)
    fleet.run("modem", modem.port, "dev-1")
    check_provisioned(fleet, modem)
    serials = [serial for serial, _ in rows(fleet)]
    assert len(serials) == len(set(serials))


@pytest.mark.parametrize("step", ["CFUN=4", "%CMNG=3,.*,3$", "%CMNG=0,.*,4,", "%CMNG=0,.*,3,"])
def test_a_pre_shared_key_that_was_interrupted(fleet, modem, step):
    fleet.run("modem", modem.port, "dev-1", "--psk")
    modem.hold(step)
    process = start(fleet, "modem", modem.port, "dev-1", "--psk")
    modem.wait_held()
    kill(process)
    modem.release()
    assert ("cannot connect" in fleet.run("show", "dev-1").stderr) == (step != "CFUN=4")
    fleet.run("modem", modem.port, "dev-1", "--psk")
    assert modem.types() == [PSK, IDENTITY]
    assert "cannot connect" not in fleet.run("show", "dev-1").stderr


# --- no key anywhere ---


class Sampler:
    """What everybody could see of the processes of this machine, written to a file: arguments and environments."""

    def __init__(self, file):
        self.file = open(file, "wb")
        self.seen = set()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            for entry in os.listdir("/proc"):
                for name in ("cmdline", "environ") if entry.isdigit() else ():
                    with contextlib.suppress(OSError):
                        content = pathlib.Path(f"/proc/{entry}/{name}").read_bytes()
                        if content not in self.seen:
                            self.seen.add(content)
                            self.file.write(content + b"\n")
            time.sleep(0.001)

    def close(self):
        self.stop.set()
        self.thread.join()
        self.file.close()


# Whatever name it has: arguments and environment to a file, and on with the program of that name.
RECORDER = """#!/bin/bash
{ printf '%%s\\n' "$0" "$@"; /usr/bin/env; } >>%(file)s
name=${0##*/}
for directory in %(directories)s; do
	[[ ! -x $directory/$name ]] || exec "$directory/$name" "$@"
done
exit 127
"""


def recorders(directory, file):
    """A PATH on which every program of this machine, and of ours, writes down how it was started."""
    directory.mkdir()
    places = [*os.environ["PATH"].split(":"), *sorted({str(path.parent) for path in BUILT.values()})]
    recorder = directory / ".recorder"
    recorder.write_text(RECORDER % {"file": file, "directories": " ".join(places)})
    recorder.chmod(0o755)
    for name in {name for place in places if os.path.isdir(place) for name in os.listdir(place)}:
        (directory / name).symlink_to(recorder)
    return {
        "PATH": str(directory),
        **{name.upper().replace("-", "_"): str(directory / name) for name in BUILT},
    }


def test_no_key_is_in_any_file_log_argument_or_dump(coap, tmp_path):
    """Everything that a fleet and its servers write while devices are provisioned and talk, searched for each key in
    each form. What fleet psk shows is the one place where a key may be seen, and is not written down here."""
    broker = coap.broker()
    broker.start()
    server = coap.started()
    fleet, written = coap.fleet, tmp_path / "written"
    written.mkdir()
    environment = recorders(tmp_path / "bin", written / "arguments")
    output = open(written / "fleet.out", "w")
    sampler = Sampler(written / "processes")
    with SimulatedModem(written) as modem:
        for arguments in (
            ("modem", modem.port, "dev-1"),
            ("modem", modem.port, "dev-1", "--psk", "--key-file", server.secrets_file),
            ("modem", modem.port, "dev-1"),
            ("show", "dev-1"),
            ("list",),
        ):
            fleet.run(*arguments, env=environment, stdout=output, stderr=output)
        shown = fleet.run("psk", "dev-2", "--key-file", server.secrets_file, env=environment, stderr=output)
        key = re.search(r"key: ([0-9a-f]{64})", shown.stdout)[1].encode()
        for kind, content in ((IDENTITY, b"dev-2"), (PSK, key)):
            command = [MODEM, modem.port, "write", "7", str(kind)]
            subprocess.run(command, input=content, stdout=output, stderr=output, check=True)
        coap.in_force(server)
        eventually(lambda: modem.mqtt(broker.port, "dev-1", seq=2) == 0, 10, "the modem's connection")
        assert modem.coap(server.port) == modem.coap(server.port, tag=7) == "2.01"
        coap.wait_rows("select 1 from telemetry where device like 'dev-_'", count=3)
        sampler.close()
        output.close()
        url = coap.postgres.url(OWNER, coap.database)
        subprocess.run(["pg_dump", "-f", written / "dump.sql", url], check=True)
        places = (tmp_path, fleet.dir, server.sessions_dir, coap.postgres.dir)
        count, hits = modem.search(*places)
        assert hits == []
        assert count > 50
        # The same search finds every form of every key, in files of the same places.
        (written / "planted").mkdir()
        planted = modem.plant(written / "planted")
        _, hits = modem.search(*places)
        assert len({name for _, name in hits}) == planted > 50
        assert {pathlib.Path(file).parent.name for file, _ in hits} == {"planted"}
    for name in ("arguments", "processes", "dump.sql", "fleet.out"):
        assert (written / name).stat().st_size > 1000, name
    seen = (written / "arguments").read_text()
    for program in ("fieldgate-modem", "fieldgate-secret", "fieldgate-cert", "psql"):
        assert f"/{program}\n" in seen
