# SPDX-License-Identifier: Apache-2.0
"""CA keys that are not in plain files: in tokens (SoftHSM), and in files with a passphrase."""

import pathlib
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.pki import CERT, Fleet  # noqa: E402
from harness.postgres import fresh_database  # noqa: E402
from harness.softhsm import SoftHsm, uri  # noqa: E402

PINS = {"offline": "4711-root", "online": "0815-cas"}
PASSPHRASE = "correct horse battery"


@pytest.fixture
def hsm(tmp_path):
    """Two tokens: `offline` with a key `root`; `online` with keys `devices` and `servers`, and one that is P-384."""
    hsm = SoftHsm(tmp_path / "hsm")
    for label, pin in PINS.items():
        hsm.token(label, pin)
    hsm.make_key("offline", PINS["offline"], "root")
    hsm.make_key("online", PINS["online"], "devices")
    hsm.make_key("online", PINS["online"], "servers")
    hsm.make_key("online", PINS["online"], "p384", "EC:secp384r1")
    return hsm


@pytest.fixture
def fleet(tmp_path):
    with fresh_database() as database:
        fleet = Fleet(tmp_path / "pki", database.url())
        fleet.query = database.query
        yield fleet.init()


def pin_file(tmp_path, label):
    file = tmp_path / f"{label}.pin"
    file.touch(0o600)
    file.write_text(PINS[label] + "\n")
    return str(file)


def in_hardware(fleet, hsm, tmp_path):
    """Every CA of the fleet gets a successor in a token."""
    for kind, token, key in (("root", "offline", "root"), ("device-ca", "online", "devices"),
                             ("server-ca", "online", "servers")):  # fmt: skip
        name = uri(token, key, pin_source=f"file:{pin_file(tmp_path, token)}")
        fleet.run("ca", "new", kind, "--key", name, env=hsm.env)


def public_key(certificate):
    return certificate.public_key().public_numbers()


def private_keys(directory):
    """The public halves of all private keys in files below it."""
    found = []
    for file in pathlib.Path(directory).rglob("*"):
        if file.is_file() and b"PRIVATE KEY" in file.read_bytes():
            key = serialization.load_pem_private_key(file.read_bytes(), None)
            found.append(key.public_key().public_numbers())
    return found


def test_a_fleet_whose_ca_keys_are_in_tokens(fleet, hsm, tmp_path):
    in_hardware(fleet, hsm, tmp_path)
    devices = fleet_add(fleet, hsm, *[f"dev-{i}" for i in range(20)])
    fleet.run("server", "localhost", env=hsm.env)
    authority = x509.load_pem_x509_certificate((fleet.dir / "device-ca/cert.pem").read_bytes())
    for device in devices:
        assert device.certificate.issuer == authority.subject
    # Who verifies needs no token.
    result = fleet.run("verify", "--all")
    assert result.stdout.count(": good: device dev-") == 20
    assert subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", fleet.ca,
         "-untrusted", fleet.dir / "device-ca/cert.pem", devices[0].cert],
        stdout=subprocess.DEVNULL, check=False,
    ).returncode == 0  # fmt: skip
    # The keys are in the tokens and in no file.
    held = private_keys(tmp_path)
    assert len(held) >= 20
    for kind in ("root", "device-ca", "server-ca"):
        directory = fleet.dir / kind
        assert sorted(path.name for path in directory.iterdir()) == ["cert.pem", "key.uri"]
        assert public_key(x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())) not in held
    assert hsm.sensitive_keys("offline", PINS["offline"]) == ["root"]
    # No PIN is anywhere but in the files that are to hold it.
    for file in fleet.dir.rglob("*"):
        if file.is_file():
            assert not any(pin.encode() in file.read_bytes() for pin in PINS.values()), file


def fleet_add(fleet, hsm, *ids):
    fleet.run("add", *ids, env=hsm.env)
    return [fleet.credentials(id) for id in ids]


def crl(directory, env):
    return subprocess.run(
        [CERT, "crl", "--ca", directory, "--days", "7", "--number", "1", "--out", directory / "crl.pem"],
        input="", text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, env=env,
    )  # fmt: skip


def test_a_token_signs_revocation_lists(fleet, hsm, tmp_path):
    in_hardware(fleet, hsm, tmp_path)
    assert crl(fleet.dir / "device-ca", hsm.env).returncode == 0
    made = x509.load_pem_x509_crl((fleet.dir / "device-ca/crl.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((fleet.dir / "device-ca/cert.pem").read_bytes())
    assert made.is_signature_valid(authority.public_key())


# --- what can be wrong ---

WRONG = {
    "wrong PIN": (uri("online", "devices", pin_value="0000"), {}, ["the PIN is not that of"]),
    "short PIN": (uri("online", "devices", pin_value="00"), {}, ["too few or too many characters"]),
    "no PIN": (uri("online", "devices"), {}, ["no terminal to ask", "FLEET_PIN_FILE"]),
    "wrong PIN of the environment": (uri("online", "devices"), {"FLEET_PIN": "0000"}, ["the PIN is not that of"]),
    "no such token": (uri("nowhere", "devices", pin_value="0000"), {}, ["no token", "--list-slots"]),
    "no such key": (uri("online", "nothing", pin_value=PINS["online"]), {}, ["no private key", "--list-objects"]),
    "no such module": (uri("online", "devices", "/nonexistent.so", pin_value="0000"), {},
                       ["module", "/nonexistent.so", "module-path"]),
    "other key": (uri("online", "servers", pin_value=PINS["online"]), {}, ["is not the key of", "cert.pem"]),
    "other attribute": (uri("online", "devices", colour="red"), {}, ["'colour' is not understood"]),
    "no PIN file": (uri("online", "devices", pin_source="file:/nonexistent"), {}, ["/nonexistent"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_each_thing_that_can_be_wrong_is_said(fleet, hsm, tmp_path, kind):
    in_hardware(fleet, hsm, tmp_path)
    text, environment, words = WRONG[kind]
    (fleet.dir / "device-ca/key.uri").write_text(text + "\n")
    result = fleet.run("add", "dev-1", check=False, env={**hsm.env, **environment}, start_new_session=True)
    assert result.returncode == 1 and "added" not in result.stdout
    for word in words:
        assert word in result.stderr
    assert "0000" not in result.stderr and PINS["online"] not in result.stderr
    assert fleet.query("select count(*) from fieldgate.principal") == [(0,)]
    assert not (fleet.dir / "devices/dev-1").exists()
    # With what is right it works again: nothing was left behind.
    (fleet.dir / "device-ca/key.uri").write_text(uri("online", "devices") + "\n")
    fleet.run("add", "dev-1", env={**hsm.env, "FLEET_PIN": PINS["online"]})


def test_a_key_that_is_not_p256_becomes_no_ca(fleet, hsm, tmp_path):
    before = (fleet.dir / "server-ca/cert.pem").read_bytes()
    name = uri("online", "p384", pin_source=f"file:{pin_file(tmp_path, 'online')}")
    result = fleet.run("ca", "new", "server-ca", "--key", name, env=hsm.env, check=False)
    assert result.returncode == 1 and "a P-256 key" in result.stderr
    assert (fleet.dir / "server-ca/cert.pem").read_bytes() == before


def test_two_keys_of_one_ca_are_an_error(fleet):
    (fleet.dir / "device-ca/key.uri").write_text(uri("online", "devices") + "\n")
    result = fleet.run("add", "dev-1", check=False)
    assert result.returncode == 1 and "both key.pem and key.uri" in result.stderr


# --- passphrases ---


@pytest.fixture
def encrypted(fleet, tmp_path):
    """The key of the device CA has a passphrase."""
    plain = fleet.dir / "device-ca/key.pem"
    key = serialization.load_pem_private_key(plain.read_bytes(), None)
    plain.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSPHRASE.encode()),
        )
    )
    return fleet


def test_a_passphrase_opens_a_key(encrypted, tmp_path):
    result = encrypted.run("add", "dev-1", check=False, start_new_session=True)
    assert result.returncode == 1 and "FLEET_PASSPHRASE_FILE" in result.stderr
    result = encrypted.run("add", "dev-1", check=False, env={"FLEET_PASSPHRASE": "wrong wrong"})
    assert result.returncode == 1 and "the passphrase (FLEET_PASSPHRASE) does not open it" in result.stderr
    assert "wrong wrong" not in result.stderr
    encrypted.run("add", "dev-1", env={"FLEET_PASSPHRASE": PASSPHRASE})
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    file.chmod(0o644)
    result = encrypted.run("add", "dev-2", check=False, env={"FLEET_PASSPHRASE_FILE": str(file)})
    assert result.returncode == 1 and "chmod 0600" in result.stderr
    file.chmod(0o600)
    encrypted.run("add", "dev-2", env={"FLEET_PASSPHRASE_FILE": str(file)})


def test_a_new_ca_has_a_passphrase_when_the_former_one_had(encrypted):
    result = encrypted.run("ca", "new", "device-ca", env={"FLEET_PASSPHRASE": "short"}, check=False)
    assert result.returncode == 1 and "less than 8 characters" in result.stderr
    encrypted.run("ca", "new", "device-ca", env={"FLEET_PASSPHRASE": PASSPHRASE})
    pem = (encrypted.dir / "device-ca/key.pem").read_bytes()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    key = serialization.load_pem_private_key(pem, PASSPHRASE.encode())
    certificate = x509.load_pem_x509_certificate((encrypted.dir / "device-ca/cert.pem").read_bytes())
    assert key.public_key().public_numbers() == public_key(certificate)
