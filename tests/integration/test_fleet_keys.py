# SPDX-License-Identifier: Apache-2.0
"""pki/fleet psk and jwt-key, and what list, show and revoke make of such credentials; fieldgate-secret,
which seals. What is sealed is opened by another implementation of AES-256-GCM."""

import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.pki import Fleet, device_certificate  # noqa: E402
from harness.postgres import fresh_database  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECRET = ROOT / "build" / os.environ.get("MODE", "release") / "tools" / "fieldgate-secret"
NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"


@pytest.fixture
def fleet(tmp_path):
    """A directory without CAs: neither command needs one."""
    with fresh_database() as database:
        fleet = Fleet(tmp_path / "pki", database.url())
        fleet.query = database.query
        yield fleet


def refused(result, status, *words):
    assert result.returncode == status, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr
    return result


def rows(fleet):
    return fleet.query(
        "select kind::text, fingerprint, principal, material, revoked_at is not null"
        " from fieldgate.credential order by kind, principal, fingerprint"
    )


def principals(fleet):
    return fleet.query("select id, kind::text, state::text, policy from fieldgate.principal order by id")


def sha256(data):
    return hashlib.sha256(data).digest()


def master_key(path):
    (line,) = [line for line in pathlib.Path(path).read_text().split("\n") if line and line[0] != "#"]
    return bytes.fromhex(line)


def unseal(key, sealed, kind, fingerprint, principal):
    """The secret in a row, as core/registry/secret.h has it."""
    sealed = bytes(sealed)
    assert sealed[0] == 1 and sealed[1:9] == sha256(key)[:8]
    context = kind.encode() + b"\0" + bytes(fingerprint) + principal.encode()
    return AESGCM(key).decrypt(sealed[9:21], sealed[21:], context)


def shown(result):
    """(identity, key) of fleet psk."""
    match = re.fullmatch(r"identity: (.*)\nkey: ([0-9a-f]{64})\n", result.stdout)
    assert match, result.stdout
    return match[1], bytes.fromhex(match[2])


def check_psk(fleet, result, id, identity, key_file=None):
    """The row of this identity holds the key that was shown."""
    text, key = shown(result)
    assert text == identity
    fingerprint = sha256(identity.encode())
    (row,) = [r for r in rows(fleet) if r[0] == "psk" and bytes(r[1]) == fingerprint]
    assert row[2] == id and not row[4]
    assert unseal(master_key(key_file or fleet.dir / "master.key"), row[3], "psk", fingerprint, id) == key
    return key


# --- psk ---


def test_psk_of_a_new_device_registers_it_without_certificate(fleet):
    result = fleet.run("psk", "dev-1")
    check_psk(fleet, result, "dev-1", "dev-1")
    assert principals(fleet) == [("dev-1", "device", "active", "device")]
    assert len(rows(fleet)) == 1
    assert stat.S_IMODE((fleet.dir / "master.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(fleet.dir.stat().st_mode) == 0o700
    assert "secrets.key_file" in result.stderr and "not shown again" in result.stderr


def test_psk_again_says_that_there_is_one_and_changes_nothing(fleet):
    _, key = shown(fleet.run("psk", "dev-1"))
    before = rows(fleet), (fleet.dir / "master.key").read_bytes()
    result = fleet.run("psk", "dev-1")
    assert "exists" in result.stdout and "--replace" in result.stdout
    assert key.hex() not in result.stdout + result.stderr
    assert (rows(fleet), (fleet.dir / "master.key").read_bytes()) == before


def test_psk_replace_makes_another_key_of_the_same_identity(fleet):
    first = check_psk(fleet, fleet.run("psk", "dev-1"), "dev-1", "dev-1")
    master = (fleet.dir / "master.key").read_bytes()
    assert check_psk(fleet, fleet.run("psk", "dev-1", "--replace"), "dev-1", "dev-1") != first
    assert len(rows(fleet)) == 1
    assert (fleet.dir / "master.key").read_bytes() == master


@pytest.mark.parametrize("identity", ["x", "nrf-351358811124772", "a b'c\"d;e\\f$(id)`id`%s|", "i" * 128, "-rf"])
def test_identities_that_careless_code_takes_for_something_else(fleet, identity):
    check_psk(fleet, fleet.run("psk", "dev-1", "--identity", identity), "dev-1", identity)


def test_a_device_may_have_several_identities(fleet):
    check_psk(fleet, fleet.run("psk", "dev-1"), "dev-1", "dev-1")
    check_psk(fleet, fleet.run("psk", "dev-1", "--identity", "second"), "dev-1", "second")
    check_psk(fleet, fleet.run("psk", "--", "-rf"), "-rf", "-rf")
    assert len(rows(fleet)) == 3


def test_an_identity_belongs_to_one_device(fleet):
    fleet.run("psk", "dev-1")
    before = rows(fleet)
    for options in ([], ["--replace"]):
        result = fleet.run("psk", "dev-2", "--identity", "dev-1", *options, check=False)
        refused(result, 1, "belongs to dev-1")
        assert result.stdout == ""
    assert rows(fleet) == before
    assert [row[0] for row in principals(fleet)] == ["dev-1"]


def test_psk_of_a_revoked_device_only_after_resume(fleet):
    first = check_psk(fleet, fleet.run("psk", "dev-1"), "dev-1", "dev-1")
    fleet.revoke("dev-1")
    refused(fleet.run("psk", "dev-1", check=False), 1, "fleet resume dev-1, then fleet psk dev-1")
    fleet.run("resume", "dev-1")
    assert rows(fleet)[0][4]  # resume alone does not bring the old key back
    assert check_psk(fleet, fleet.run("psk", "dev-1"), "dev-1", "dev-1") != first


def test_psk_changes_nothing_else_of_a_device(fleet):
    fleet.init()
    (device,) = fleet.add("dev-1", state="pending")
    fleet.run("psk", "dev-1")
    assert principals(fleet) == [("dev-1", "device", "pending", "device")]
    assert [row[0] for row in rows(fleet)] == ["psk", "x509"]
    assert fleet.add("dev-1") == [device]


def test_key_file_of_ones_own_needs_no_directory(fleet, tmp_path):
    file = tmp_path / "server.key"
    subprocess.run([SECRET, "make-key", file], check=True)
    result = fleet.run("psk", "dev-1", "--key-file", file)
    check_psk(fleet, result, "dev-1", "dev-1", file)
    assert not fleet.dir.exists()


def test_psk_without_a_good_master_key_registers_nothing(fleet, tmp_path):
    file = tmp_path / "server.key"
    refused(fleet.run("psk", "dev-1", "--key-file", file, check=False), 1, str(file), "No such file", "make-key")
    file.write_text("# nothing\n")
    file.chmod(0o600)
    refused(fleet.run("psk", "dev-1", "--key-file", file, check=False), 1, str(file), "no key in it")
    file.write_text("ab" * 32 + "\n")
    file.chmod(0o644)
    refused(fleet.run("psk", "dev-1", "--key-file", file, check=False), 1, str(file), "chmod 0600")
    assert principals(fleet) == [] and rows(fleet) == []


def test_no_key_is_shown_that_is_not_registered(fleet, tmp_path):
    fleet.query("revoke insert on fieldgate.credential from fieldgate_owner")
    result = refused(fleet.run("psk", "dev-1", check=False), 1, "no right to write", "No key was shown")
    assert result.stdout == ""
    assert principals(fleet) == []
    fleet.database_url = NOWHERE
    assert refused(fleet.run("psk", "dev-1", check=False), 1, "no connection").stdout == ""


def test_the_key_is_no_argument_and_in_no_message(fleet, tmp_path):
    (tmp_path / "bin").mkdir()
    programs = {name: shutil.which(name) for name in ("psql", "cat", "openssl", "sha256sum", "flock")}
    for name, program in {**programs, "fieldgate-secret": SECRET}.items():
        shim = tmp_path / "bin" / name
        shim.write_text(
            f'#!/bin/sh\n{{ printf "%s\\n" "$0" "$@"; env; }} >>{tmp_path}/arguments\nexec {program} "$@"\n'
        )
        shim.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "FIELDGATE_SECRET": str(tmp_path / "bin" / "fieldgate-secret"),
    }
    result = fleet.run("psk", "dev-1", env=environment)
    key = check_psk(fleet, result, "dev-1", "dev-1").hex()
    seen = (tmp_path / "arguments").read_text()
    assert f"{tmp_path}/bin/fieldgate-secret" in seen and f"{tmp_path}/bin/psql" in seen
    assert key not in seen + result.stderr
    assert master_key(fleet.dir / "master.key").hex() not in seen + result.stdout + result.stderr


def test_two_at_once_show_no_key_that_is_not_good(fleet):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: fleet.run("psk", "dev-1", check=False), range(4)))
    (winner,) = [result for result in results if "key: " in result.stdout]
    check_psk(fleet, winner, "dev-1", "dev-1")
    for result in results:
        if result is not winner:
            assert "exists" in result.stdout or "in this moment" in result.stderr, result.stderr


# --- jwt-key ---


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


def spki(key, encoding=serialization.Encoding.DER):
    return key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def compressed(key):
    """The same key with its point in the other form of SEC 1, which the registry does not take."""
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    return bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point


def certificate(key, encoding):
    return device_certificate(key, "somebody").public_bytes(encoding)


GOOD_FILES = {
    "PEM": lambda key: spki(key, serialization.Encoding.PEM),
    "PEM with CRLF": lambda key: spki(key, serialization.Encoding.PEM).replace(b"\n", b"\r\n"),
    "PEM behind words": lambda key: b"key of dev-1\n" + spki(key, serialization.Encoding.PEM),
    "DER": spki,
    "compressed point": compressed,
    "certificate, PEM": lambda key: certificate(key, serialization.Encoding.PEM),
    "certificate, DER": lambda key: certificate(key, serialization.Encoding.DER),
}


@pytest.mark.parametrize("form", GOOD_FILES)
def test_jwt_key_takes_public_keys_and_certificates(fleet, tmp_path, key, form):
    (tmp_path / "-key").write_bytes(GOOD_FILES[form](key))
    result = fleet.run("jwt-key", "dev-1", "-key", cwd=tmp_path)
    assert sha256(spki(key)).hex() in result.stdout
    ((kind, fingerprint, principal, material, revoked),) = rows(fleet)
    assert (kind, principal, revoked) == ("jwt", "dev-1", False)
    assert (bytes(material), bytes(fingerprint)) == (spki(key), sha256(spki(key)))
    assert principals(fleet) == [("dev-1", "device", "active", "device")]
    assert not fleet.dir.exists()


def private(key, encoding, form=serialization.PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(encoding, form, encryption or serialization.NoEncryption())


def request(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dev-1")])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
OTHER_CURVE = "not one of the curve P-256"
NO_KEY = "neither a public key nor a certificate"
BAD_FILES = {
    "private key": (lambda key: private(key, PEM), "holds a private key"),
    "private key, SEC 1": (
        lambda key: private(key, PEM, serialization.PrivateFormat.TraditionalOpenSSL), "holds a private key"
    ),
    "private key, DER": (lambda key: private(key, DER), "holds a private key"),
    "private key, encrypted": (
        lambda key: private(key, PEM, encryption=serialization.BestAvailableEncryption(b"x")),
        "holds a private key",
    ),
    "private key behind the public one": (lambda key: spki(key, PEM) + private(key, PEM), "holds a private key"),
    "P-384": (lambda key: spki(ec.generate_private_key(ec.SECP384R1()), PEM), OTHER_CURVE),
    "secp256k1": (lambda key: spki(ec.generate_private_key(ec.SECP256K1()), PEM), OTHER_CURVE),
    "brainpool": (lambda key: spki(ec.generate_private_key(ec.BrainpoolP256R1()), PEM), OTHER_CURVE),
    "RSA": (lambda key: spki(rsa.generate_private_key(65537, 2048), PEM), OTHER_CURVE),
    "Ed25519": (lambda key: spki(ed25519.Ed25519PrivateKey.generate(), PEM), OTHER_CURVE),
    "certificate of P-384": (lambda key: certificate(ec.generate_private_key(ec.SECP384R1()), PEM), OTHER_CURVE),
    "point not on the curve": (lambda key: spki(key)[:-1] + bytes([spki(key)[-1] ^ 1]), NO_KEY),
    "cut short": (lambda key: spki(key)[:-1], NO_KEY),
    "request": (request, NO_KEY),
    "words": (lambda key: b"hello\n", NO_KEY),
    "nothing": (lambda key: b"", NO_KEY),
    "too long": (lambda key: spki(key, PEM) + b"\n" * 65536, "longer than 64 KiB"),
}  # fmt: skip


@pytest.mark.parametrize("form", BAD_FILES)
def test_jwt_key_refuses_what_is_no_public_key_of_p_256(fleet, tmp_path, key, form):
    make, why = BAD_FILES[form]
    (tmp_path / "key").write_bytes(make(key))
    result = refused(fleet.run("jwt-key", "dev-1", tmp_path / "key", check=False), 1, why, str(tmp_path / "key"))
    assert "PRIVATE" not in result.stdout + result.stderr
    assert rows(fleet) == [] and principals(fleet) == []


def test_jwt_key_refuses_files_that_are_not_there(fleet, tmp_path):
    for path in (tmp_path / "none", tmp_path):
        refused(fleet.run("jwt-key", "dev-1", path, check=False), 1, "no file that can be read")


def key_file(tmp_path, key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / sha256(spki(key)).hex()
    path.write_bytes(spki(key, PEM))
    return path


def test_jwt_key_again_changes_nothing(fleet, tmp_path, key):
    file = key_file(tmp_path, key)
    fleet.run("jwt-key", "dev-1", file)
    before = rows(fleet)
    assert "exists" in fleet.run("jwt-key", "dev-1", file).stdout
    assert rows(fleet) == before


def test_a_key_belongs_to_one_device(fleet, tmp_path, key):
    file = key_file(tmp_path, key)
    fleet.run("jwt-key", "dev-1", file)
    refused(fleet.run("jwt-key", "dev-2", file, check=False), 1, "belongs to dev-1")
    assert [row[0] for row in principals(fleet)] == ["dev-1"]


def test_a_revoked_key_stays_revoked(fleet, tmp_path, key):
    file = key_file(tmp_path, key)
    fleet.run("jwt-key", "dev-1", file)
    fleet.revoke("dev-1")
    refused(fleet.run("jwt-key", "dev-1", file, check=False), 1, "fleet resume dev-1, then fleet jwt-key dev-1")
    fleet.run("resume", "dev-1")
    refused(fleet.run("jwt-key", "dev-1", file, check=False), 1, "is revoked, and stays so")
    assert [row[4] for row in rows(fleet)] == [True]
    fleet.run("jwt-key", "dev-1", key_file(tmp_path))
    assert sorted(row[4] for row in rows(fleet)) == [False, True]


def test_more_keys_than_the_server_tries_are_a_warning(fleet, tmp_path):
    results = [fleet.run("jwt-key", "dev-1", key_file(tmp_path)) for _ in range(5)]
    assert ["warning" in result.stderr for result in results] == [False] * 4 + [True]
    assert "--credential" in results[4].stderr


# --- list, show, revoke ---


def table(text):
    return {line.split()[0]: line.split()[1:] for line in text.strip().split("\n")[2:]}


def test_list_names_the_other_credentials(fleet, tmp_path):
    fleet.run("psk", "dev-1")
    fleet.run("psk", "dev-1", "--identity", "second")
    fleet.run("jwt-key", "dev-1", key_file(tmp_path))
    fleet.run("jwt-key", "dev-2", key_file(tmp_path))
    fleet.run("psk", "dev-3")
    fleet.revoke("dev-3")
    assert table(fleet.run("list").stdout) == {
        "dev-1": ["device", "active", "device", "-", "-", "jwt,psk", "no"],
        "dev-2": ["device", "active", "device", "-", "-", "jwt", "no"],
        "dev-3": ["device", "revoked", "device", "-", "-", "-", "no"],
    }


def test_show_names_identities_and_no_secret(fleet, tmp_path, key):
    fleet.run("psk", "dev-1")
    fleet.run("psk", "dev-1", "--identity", "second")
    fleet.run("jwt-key", "dev-1", key_file(tmp_path, key))
    text = fleet.run("show", "dev-1").stdout
    lines = {row[1].tobytes().hex(): row for row in rows(fleet)}
    assert len(lines) == 3
    for fingerprint, row in lines.items():
        (line,) = [line for line in text.split("\n") if fingerprint in line]
        assert line.split()[0] == row[0] and " valid " in line
        assert row[3].tobytes().hex() not in text
    assert "identity dev-1" in text and "another identity" in text
    assert master_key(fleet.dir / "master.key").hex() not in text


def test_revoke_takes_all_kinds(fleet, tmp_path):
    fleet.run("psk", "dev-1")
    fleet.run("jwt-key", "dev-1", key_file(tmp_path))
    assert "(2)" in fleet.run("revoke", "dev-1").stdout
    assert [row[4] for row in rows(fleet)] == [True, True]


def test_revoke_of_one_credential_leaves_the_device_and_the_others(fleet, tmp_path, key):
    fleet.run("psk", "dev-1")
    fleet.run("jwt-key", "dev-1", key_file(tmp_path, key))
    fleet.run("jwt-key", "dev-2", key_file(tmp_path))
    fingerprint = sha256(spki(key)).hex()
    version = fleet.query("select version from fieldgate.registry_version")
    options = ["--credential", fingerprint[:8].upper(), "--reason", "superseded"]
    result = fleet.run("revoke", "dev-1", *options)
    assert fingerprint in result.stdout and "within 5 s" in result.stdout
    assert fleet.query("select version from fieldgate.registry_version") > version
    revoked = "select encode(fingerprint, 'hex'), revocation_reason from fieldgate.credential where revoked_at is not null"
    assert fleet.query(revoked) == [(fingerprint, "superseded")]
    assert {row[2] for row in principals(fleet)} == {"active"}
    assert "before" in fleet.run("revoke", "dev-1", "--credential", fingerprint).stdout
    assert fleet.query(revoked) == [(fingerprint, "superseded")]


def test_revoke_of_one_credential_is_of_this_device_and_of_one(fleet, tmp_path, key):
    fleet.run("jwt-key", "dev-1", key_file(tmp_path, key))
    fleet.run("psk", "dev-2")
    fingerprint = sha256(spki(key)).hex()
    result = fleet.run("revoke", "dev-2", "--credential", fingerprint, check=False)
    refused(result, 1, "no credential whose fingerprint begins with")
    fleet.query(
        "insert into fieldgate.credential (kind, fingerprint, principal) values"
        f" ('x509_key', decode('{fingerprint}', 'hex'), 'dev-1')"
    )
    refused(fleet.run("revoke", "dev-1", "--credential", fingerprint, check=False), 1, "several credentials")
    assert not any(row[4] for row in rows(fleet))


# --- fieldgate-secret ---


def secret(*arguments, stdin=b""):
    return subprocess.run(
        [SECRET, *map(str, arguments)],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60,
    )


def test_seal_seals_what_comes_in(tmp_path):
    file = tmp_path / "key"
    assert secret("make-key", file).returncode == 0
    fingerprint = sha256(b"x")
    for length in (1, 16, 32, 64):
        plain = os.urandom(length)
        result = secret("seal", file, "psk", fingerprint.hex(), "dev-1", stdin=plain.hex().encode() + b"\n")
        assert result.returncode == 0 and result.stderr == b""
        sealed = bytes.fromhex(result.stdout.decode())
        assert unseal(master_key(file), sealed, "psk", fingerprint, "dev-1") == plain


def test_make_key_never_touches_what_is_there(tmp_path):
    file = tmp_path / "key"
    file.write_text("precious")
    result = secret("make-key", file)
    assert result.returncode == 1 and b"exists" in result.stderr
    assert file.read_text() == "precious" and list(tmp_path.iterdir()) == [file]
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert secret("make-key", tmp_path / "link").returncode == 1
    assert not (tmp_path / "elsewhere").exists()
    assert secret("make-key", tmp_path / "none" / "key").returncode == 1
    first, second = tmp_path / "first", tmp_path / "second"
    assert secret("make-key", first).returncode == secret("make-key", second).returncode == 0
    assert master_key(first) != master_key(second)
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


GOOD = ("psk", "00" * 32, "dev-1")


@pytest.mark.parametrize(
    "row,stdin,why",
    [
        (GOOD, b"", b"stdin"), (GOOD, b"\n", b"stdin"), (GOOD, b"0", b"stdin"), (GOOD, b"0g", b"stdin"),
        (GOOD, b"00 00", b"stdin"), (GOOD, b"00" * 65, b"stdin"), (GOOD, b"00" * 64 + b"\n\n", b"stdin"),
        (GOOD, b"00" * 1000, b"stdin"), (("pskx", *GOOD[1:]), b"00", b"no such kind"),
        (("psk", "00" * 31, "dev-1"), b"00", b"64 hexadecimal digits"),
        (("psk", "00" * 33, "dev-1"), b"00", b"64 hexadecimal digits"),
        (("psk", "0g" * 32, "dev-1"), b"00", b"64 hexadecimal digits"),
        ((*GOOD[:2], "a/b"), b"00", b"is no id"), ((*GOOD[:2], ""), b"00", b"is no id"),
    ],
)  # fmt: skip
def test_seal_refuses_what_it_cannot_seal(tmp_path, row, stdin, why):
    file = tmp_path / "key"
    secret("make-key", file)
    result = secret("seal", file, *row, stdin=stdin)
    assert result.returncode == 1 and result.stdout == b"" and why in result.stderr


@pytest.mark.parametrize("arguments", [[], ["make-key"], ["make-key", "a", "b"], ["seal", "f", *GOOD[:2]], ["x", "y"]])
def test_wrong_usage_of_fieldgate_secret_is_status_2(arguments):
    result = secret(*arguments)
    assert result.returncode == 2 and b"usage:" in result.stderr and result.stdout == b""
