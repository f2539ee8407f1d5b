# SPDX-License-Identifier: Apache-2.0
"""Keys of CAs that are not plain files: behind a passphrase, in a token, or away."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import softhsm
from harness.pki import FLEET, Fleet
from harness.postgres import fresh_database

SECRET = "correct horse 4711"
KINDS = ("root", "device-ca", "server-ca")


@pytest.fixture
def fleet(tmp_path):
    with fresh_database() as database:
        fleet = Fleet(tmp_path / "pki", database.url())
        fleet.query = database.query
        yield fleet


class Token:
    """One token; `env` is what programs need that use it, `pin_file` holds its PIN."""

    pin = "4711-hush"

    def __init__(self, directory):
        self.hsm = softhsm.SoftHsm(directory)
        self.hsm.token("fleet", self.pin)
        self.env = self.hsm.env
        self.pin_file = directory / "pin"
        self.pin_file.write_text(f"{self.pin}\n")
        self.pin_file.chmod(0o600)

    def make_key(self, name, kind="EC:prime256v1"):
        """Its URI, without the PIN."""
        self.hsm.make_key("fleet", self.pin, name, kind)
        return softhsm.uri("fleet", name)


@pytest.fixture
def token(tmp_path):
    return Token(tmp_path / "token")


def refused(result, *words):
    assert result.returncode == 1, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr
    return result


def certificate(fleet, place):
    return x509.load_pem_x509_certificate((fleet.dir / place / "cert.pem").read_bytes())


def works(fleet, id, **options):
    """Everything that a CA is for."""
    fleet.run("add", id, **options)
    fleet.run("server", f"{id}.example.com", **options)
    for leaf, ca, purpose in (
        (f"devices/{id}", "device-ca", "sslclient"),
        (f"servers/{id}.example.com", "server-ca", "sslserver"),
    ):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", fleet.ca, "-untrusted"]
        subprocess.run([*command, fleet.dir / ca / "cert.pem", fleet.dir / leaf / "cert.pem"], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip


def written(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# --- A passphrase ---


def test_keys_behind_a_passphrase_are_opened_by_it_and_by_no_other(fleet):
    env = {"FLEET_PASSPHRASE": SECRET}
    fleet.run("init", "--passphrase", env=env)
    for kind in KINDS:
        text = (fleet.dir / kind / "key.pem").read_bytes()
        assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        key = serialization.load_pem_private_key(text, SECRET.encode())
        assert key.public_key().public_numbers() == certificate(fleet, kind).public_key().public_numbers()
    works(fleet, "dev-1", env=env)
    before = written(fleet.dir)
    for env, words in (({"FLEET_PASSPHRASE": "wrong wrong"}, "does not open"), ({}, "FLEET_PASSPHRASE")):
        refused(fleet.run("add", "dev-2", check=False, env=env, start_new_session=True), words)
        refused(fleet.run("ca", "new", "device-ca", check=False, env=env, start_new_session=True), words)
    assert written(fleet.dir).keys() == before.keys()
    # What needs no key of a CA asks for nothing.
    fleet.run("ca", "list")
    fleet.run("anchors")
    fleet.revoke("dev-1")


def test_next_generation_is_behind_the_passphrase_too(fleet, tmp_path):
    file = tmp_path / "passphrase"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    env = {"FLEET_PASSPHRASE_FILE": str(file)}
    fleet.run("init", "--passphrase", env=env)
    for kind in KINDS:
        fleet.run("ca", "new", kind, env=env)
        assert b"ENCRYPTED" in (fleet.dir / kind / "key.pem").read_bytes()
    works(fleet, "dev-1", env=env)
    assert not [path for path, content in written(fleet.dir).items() if SECRET.encode() in content]


def test_passphrase_that_is_short_or_cannot_be_asked_for_makes_nothing(fleet):
    for env in ({"FLEET_PASSPHRASE": "short"}, {}):
        refused(fleet.run("init", "--passphrase", check=False, env=env), "passphrase")
        assert not (fleet.dir / "root").exists()


def at_terminal(fleet, arguments, answers):
    """Run fleet with a terminal and answer its questions: status, what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(FLEET_DIR=str(fleet.dir), FIELDGATE_DATABASE_URL=fleet.database_url)
        os.execv(FLEET, [str(FLEET), *arguments])
    shown, deadline = b"", time.monotonic() + 60
    answers = list(answers)
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        shown += data
        if answers and re.search(rb"(: )$", shown):
            os.write(terminal, answers.pop(0).encode() + b"\n")
            shown += b"\n"
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_passphrase_is_asked_for_twice_and_not_shown(fleet):
    status, shown = at_terminal(fleet, ["init", "--passphrase"], [SECRET, SECRET + "!"])
    assert status == 1 and "not the same" in shown and not (fleet.dir / "root").exists()
    status, shown = at_terminal(fleet, ["init", "--passphrase"], [SECRET, SECRET])
    assert status == 0, shown
    assert shown.count("New passphrase for") == 1 and SECRET not in shown
    serialization.load_pem_private_key((fleet.dir / "server-ca/key.pem").read_bytes(), SECRET.encode())
    status, shown = at_terminal(fleet, ["add", "dev-1"], [SECRET])
    assert status == 0 and SECRET not in shown, shown


# --- Hardware ---


def init_in_token(fleet, token, **options):
    uris = {kind: token.make_key(kind) for kind in KINDS}
    arguments = [word for kind, uri in uris.items() for word in (f"--{kind}-key", uri)]
    return fleet.run("init", *arguments, env={**token.env, "FLEET_PIN_FILE": str(token.pin_file)}, **options)


def test_keys_in_a_token_sign_and_are_on_no_disk(fleet, token):
    said = init_in_token(fleet, token).stdout
    assert "token" in said
    env = {**token.env, "FLEET_PIN_FILE": str(token.pin_file)}
    for kind in KINDS:
        assert sorted(os.listdir(fleet.dir / kind)) == ["cert.pem", "key.uri"]
        assert (fleet.dir / kind / "key.uri").read_text() == softhsm.uri("fleet", kind) + "\n"
    works(fleet, "dev-1", env=env)
    works(fleet, "dev-2", env={**token.env, "FLEET_PIN": token.pin})
    rows = [re.split(r"  +", line)[4] for line in fleet.run("ca", "list").stdout.splitlines()[1:]]
    assert rows == ["PKCS#11"] * 3
    allowed = ("devices/", "servers/")
    for path, content in written(fleet.dir).items():
        assert token.pin.encode() not in content
        assert b"PRIVATE KEY" not in content or str(path.relative_to(fleet.dir)).startswith(allowed), path


def test_token_that_does_not_open_is_refused_with_its_reason(fleet, token):
    init_in_token(fleet, token)
    before = written(fleet.dir)
    for env, words in (
        ({**token.env, "FLEET_PIN": "wrong-pin"}, "PIN"),
        (token.env, "PIN"),
        ({**token.env, "FLEET_PIN": token.pin, "SOFTHSM2_CONF": "/nonexistent"}, "pkcs11:token=fleet"),
    ):
        refused(fleet.run("add", "dev-1", check=False, env=env, start_new_session=True), words)
    assert written(fleet.dir) == before


def test_next_generation_is_in_the_token_or_named(fleet, token):
    init_in_token(fleet, token)
    env = {**token.env, "FLEET_PIN_FILE": str(token.pin_file)}
    refused(fleet.run("ca", "new", "device-ca", check=False, env=env), "hardware", "--key")
    uri = token.make_key("device-ca-2027")
    fleet.run("ca", "new", "device-ca", "--key", uri, env=env)
    assert (fleet.dir / "device-ca/key.uri").read_text() == f"{uri}\n"
    works(fleet, "dev-1", env=env)
    (former,) = (fleet.dir / "former").iterdir()
    assert (former / "key.uri").read_text() == softhsm.uri("fleet", "device-ca") + "\n"


def test_key_of_another_kind_is_refused(fleet, token):
    env = {**token.env, "FLEET_PIN": token.pin}
    uri = token.make_key("other", kind="EC:secp384r1")
    refused(fleet.run("init", "--root-key", uri, check=False, env=env), "P-256")
    refused(fleet.run("init", "--root-key", softhsm.uri("fleet", "none"), check=False, env=env), "object=none")
    assert not (fleet.dir / "root").exists()


def test_keys_that_a_token_takes_for_each_other_are_refused(fleet, token):
    """Without ids of their own, the public half of the first is found for all."""
    for name in ("root", "device-ca"):
        token.hsm.run(
            "pkcs11-tool", "--module", softhsm.MODULE, "--token-label", "fleet", "--login", "--pin", token.pin,
            "--keypairgen", "--key-type", "EC:prime256v1", "--label", name,
        )  # fmt: skip
    env = {**token.env, "FLEET_PIN": token.pin}
    keys = ["--root-key", softhsm.uri("fleet", "root"), "--device-ca-key", softhsm.uri("fleet", "device-ca")]
    refused(fleet.run("init", *keys, check=False, env=env), "give each its own", "--id")


def test_root_in_hardware_and_the_others_in_files(fleet, token):
    env = {**token.env, "FLEET_PIN": token.pin}
    fleet.run("init", "--root-key", token.make_key("root"), env=env)
    # The token is away: only new CAs need it.
    works(fleet, "dev-1")
    fleet.run("ca", "enrol", "device-ca", "off")
    fleet.run("anchors")
    refused(fleet.run("ca", "new", "server-ca", check=False, start_new_session=True), "root/key.uri")
    fleet.run("ca", "new", "server-ca", env=env)


@pytest.mark.parametrize(
    "uri", ["", "root.pem", "pkcs11:", "pkcs11:a b", "pkcs11:a\nb", "pkcs11:object=a?pin-value=1", "pkcs11:" + "x" * 1001]
)
def test_what_is_no_uri_is_wrong_usage(tmp_path, uri):
    fleet = Fleet(tmp_path / "pki", "")
    for command in (["init", "--root-key"], ["ca", "new", "root", "--key"]):
        result = fleet.run(*command, uri, check=False)
        assert result.returncode == 2, result.stderr
    assert not fleet.dir.exists()


def test_root_key_away_stops_nothing_but_new_cas(fleet):
    fleet.init()
    shutil.move(fleet.dir / "root/key.pem", fleet.dir.parent / "root.pem")
    works(fleet, "dev-1")
    refused(fleet.run("ca", "new", "device-ca", check=False), "root/key.pem")
    shutil.move(fleet.dir.parent / "root.pem", fleet.dir / "root/key.pem")
    fleet.run("ca", "new", "device-ca")
    works(fleet, "dev-2")


def test_key_of_another_ca_is_noticed(fleet):
    fleet.init()
    shutil.copy(fleet.dir / "server-ca/key.pem", fleet.dir / "device-ca/key.pem")
    refused(fleet.run("add", "dev-1", check=False), "is not the key of")
    assert isinstance(certificate(fleet, "root").public_key().curve, ec.SECP256R1)
