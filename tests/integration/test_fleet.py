# SPDX-License-Identifier: Apache-2.0
"""pki/fleet: what each command does, says and refuses, and what its certificates are worth to OpenSSL and
to Mosquitto. Interruptions are in test_fleet_crash.py."""

import concurrent.futures
import os
import pathlib
import pty
import re
import shutil
import ssl
import stat
import subprocess
import sys
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.pki import FLEET, FORGERIES, Credentials, Fleet, serial_text, validity  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.postgres import SUPERUSER, shared  # noqa: E402

COMMANDS = [
    "init", "ca", "server", "anchors", "add", "batch", "renew", "psk", "jwt-key", "list", "show", "expiring", "approve",
    "revoke", "suspend", "resume", "crl", "verify",
]  # fmt: skip
NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"


def refused(result, status, *words):
    assert result.returncode == status, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr
    return result


def snapshot(directory):
    """Every path with its content, for `nothing has changed`."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in pathlib.Path(directory).rglob("*")
        if path.name not in (".lock", "stage")
    }


def rows(fleet):
    return fleet.query(
        "select p.id, p.kind::text, p.state::text, p.policy, c.serial, c.fingerprint, c.not_before,"
        " c.not_after from fieldgate.principal p left join fieldgate.credential c on c.principal = p.id"
        " order by p.id, c.not_before, c.fingerprint"
    )


def verify(fleet, purpose, certificate, untrusted=None):
    """As a strict verifier that trusts the root: None, or what is wrong."""
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", fleet.ca]
    command += ["-untrusted", untrusted] if untrusted else []
    result = subprocess.run([*command, certificate], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return None if result.returncode == 0 else result.stderr


# --- help and wrong usage ---


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", ["help {}", "{} --help", "{} -h", "{} something --help"])
def test_every_command_has_help_with_an_example(command, form, tmp_path):
    result = Fleet(tmp_path / "none", "").run(*form.format(command).split())
    assert f"usage: fleet {command}" in result.stdout
    assert re.search(rf"^example: fleet .*\b{command}\b", result.stdout, re.M)
    assert result.stderr == ""
    assert not (tmp_path / "none").exists()


def test_help_lists_every_command(tmp_path):
    for arguments in (["--help"], ["-h"], ["help"]):
        text = Fleet(tmp_path, "").run(*arguments).stdout
        assert all(re.search(rf"^  {command} ", text, re.M) for command in COMMANDS)
        assert "example:" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["nonsense"], ["--dir"], ["--dir", "", "list"], ["help", "nonsense"], ["[a-z]*"], ["fleet"],
        ["init", "x"], ["init", "--name"], ["init", "--name", "a/b"], ["init", "--name", "x" * 41],
        ["ca"], ["ca", "nonsense"], ["ca", "list", "x"], ["ca", "new"], ["ca", "new", "x"],
        ["ca", "new", "root", "root"], ["ca", "new", "root", "--nonsense"], ["ca", "enrol"], ["ca", "enrol", "x"],
        ["ca", "enrol", "x", "on"], ["ca", "enrol", "a b", "off"], ["ca", "enrol", "x", "off", "--policy", "a/b"],
        ["ca", "retire"], ["ca", "retire", "../x"], ["ca", "retire", "a", "b"], ["ca", "add"], ["ca", "add", "a", "b"],
        ["ca", "add", "x", "--name", ".."], ["ca", "add", "x", "--name", "device-ca-1"],
        ["ca", "add", "x", "--enrol", "yes"], ["ca", "add", "x", "--policy", "a b"],
        ["anchors", "x"], ["anchors", "--format", "x"], ["anchors", "--tag", "-1"], ["anchors", "--tag", "2147483648"],
        ["server"], ["server", "--nonsense", "x"], ["server", "x", "--days", "0"],
        ["server", "x", "--days", "1e3"], ["server", "x", "--days"],
        ["add"], ["add", "--nonsense", "x"], ["add", "x", "--state", "revoked"], ["add", "x", "--policy"],
        ["add", "x", "--policy", "a b"], ["add", "x", "--days", "-1"], ["add", *["x"] * 1001],
        ["list", "x"], ["list", "--state", "gone"],
        ["show"], ["show", "a", "b"], ["revoke"], ["revoke", "a", "b"], ["revoke", "a", "--", "b"],
        ["revoke", "a", "--reason", "boredom"], ["suspend"], ["suspend", "a", "b"], ["resume"],
        ["revoke", "a", "--credential"], ["revoke", "a", "--credential", "0123456"],
        ["revoke", "a", "--credential", "0123456x"], ["psk"], ["psk", "a", "b"], ["psk", "a", "--nonsense"],
        ["psk", "a", "--identity"], ["psk", "a", "--identity", "x" * 129], ["psk", "a", "--identity", "a\tb"],
        ["psk", "a", "--identity", "\u00e9"], ["psk", "a", "--key-file"], ["jwt-key"], ["jwt-key", "a"],
        ["jwt-key", "a", "b", "c"], ["jwt-key", "--nonsense", "b"],
        ["add", "a", "b", "--csr", "x"], ["add", "a", "--csr"], ["add", "a", "--psk", "--csr", "x"],
        ["add", "a", "--psk", "--jwt-key", "x"], ["add", "a", "b", "--psk"], ["add", "a", "--psk", "--service"],
        ["add", "a", "--psk", "--days", "1"], ["add", "a", "--jwt-key"],
        ["batch"], ["batch", "a", "b"], ["renew"], ["renew", "--nonsense"], ["renew", "a", "--days", "0"],
        ["renew", "a", "b", "--csr", "x"], ["renew", "a", "--csr", "x", "--new-key"], ["renew", *["x"] * 1001],
        ["expiring", "a"], ["expiring", "--days", "x"], ["approve"], ["approve", "a", "--all-of", "b"],
        ["approve", "--nonsense"], ["crl", "a"], ["crl", "--days", "0"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30] or "nothing",
)  # fmt: skip
def test_wrong_usage_is_status_2_and_changes_nothing(arguments, tmp_path):
    result = Fleet(tmp_path / "none", NOWHERE).run(*arguments, check=False)
    refused(result, 2, "sage: fleet")
    assert not (tmp_path / "none").exists()


BAD_IDS = [
    "", ".", "..", "../x", "a/b", "a b", "a+", "#", "$x", "a\n", "\na", "é", "a'b", 'a"b', "a;b", "a,b",
    "a|b", "a\tb", "a\\b", "$(id)", "`id`", "%s", "*", "x" * 65,
]  # fmt: skip


@pytest.mark.parametrize("id", BAD_IDS, ids=[ascii(id) for id in BAD_IDS])
def test_bad_ids_are_refused_by_every_command(id, tmp_path):
    fleet = Fleet(tmp_path / "none", NOWHERE)
    for command in ("add", "psk", "jwt-key", "show", "renew", "approve", "revoke", "suspend", "resume"):
        result = fleet.run(command, "--", id, *(["x.pem"] if command == "jwt-key" else []), check=False)
        # These take an empty argument for none at all.
        none = not id and command in ("revoke", "psk")
        refused(result, 2, "needs a DEVICE" if none else "cannot be an id")
        assert "\n\n" not in result.stderr
    assert not (tmp_path / "none").exists()


# Ids that are ids, and that careless code takes for something else.
ODD_IDS = ["-rf", "--help", "...", ".hidden", "a:b", "_", "0", "-", "x" * 64, "a.b-c_d:e", "null", "C:"]


def test_odd_but_legal_ids_live_a_whole_life(fleet):
    fleet.add(*ODD_IDS)
    assert [row[0] for row in rows(fleet)] == sorted(ODD_IDS)
    for id in ODD_IDS:
        credentials = fleet.credentials(id)
        assert names_of(credentials.certificate) == ([id], [f"urn:fieldgate:device:{id}"])
        assert str(credentials.cert) in fleet.run("show", "--", id).stdout
        fleet.run("suspend", "--", id)
        fleet.run("resume", "--", id)
        fleet.revoke(id)
    assert {row[2] for row in rows(fleet)} == {"revoked"}


# --- certificates ---


def names_of(certificate):
    names = [a.value for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names, [str(name.value) for name in san]


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def days_of(certificate):
    start, end = validity(certificate)
    return (end - start).total_seconds() / 86400


def check_common_profile(certificate):
    assert certificate.version == x509.Version.v3
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert certificate.serial_number.bit_length() <= 128
    assert extension(certificate, x509.BasicConstraints).critical
    assert extension(certificate, x509.KeyUsage).critical
    expected = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    assert extension(certificate, x509.SubjectKeyIdentifier).value == expected


def check_leaf(certificate, authority, usage):
    check_common_profile(certificate)
    assert extension(certificate, x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    key_usage = extension(certificate, x509.KeyUsage).value
    assert key_usage.digital_signature
    assert not any(
        getattr(key_usage, name)
        for name in (
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign",
        )
    )  # fmt: skip
    assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [usage]
    expected = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    assert extension(certificate, x509.AuthorityKeyIdentifier).value == expected


def load(path):
    return x509.load_pem_x509_certificate(pathlib.Path(path).read_bytes())


def test_authorities_have_the_profile_of_rfc_5280(fleet):
    root = load(fleet.dir / "root" / "cert.pem")
    check_common_profile(root)
    assert extension(root, x509.BasicConstraints).value == x509.BasicConstraints(True, 1)
    assert days_of(root) == 7305
    assert verify(fleet, "any", fleet.dir / "root" / "cert.pem") is None
    for name, usage in (
        ("device-ca", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("server-ca", ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        authority = load(fleet.dir / name / "cert.pem")
        check_common_profile(authority)
        assert extension(authority, x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
        key_usage = extension(authority, x509.KeyUsage).value
        assert key_usage.key_cert_sign and key_usage.crl_sign and not key_usage.digital_signature
        assert list(extension(authority, x509.ExtendedKeyUsage).value) == [usage]
        assert validity(authority)[1] < validity(root)[1]
        assert authority.issuer == root.subject != authority.subject
        assert verify(fleet, "any", fleet.dir / name / "cert.pem") is None


def test_bundles_hold_what_their_readers_need(fleet):
    def pem(name):
        return (fleet.dir / name / "cert.pem").read_bytes()

    assert fleet.ca.read_bytes() == pem("root")
    assert fleet.device_ca_chain.read_bytes() == pem("device-ca") + pem("root")
    fleet.server("localhost")
    chain, _ = fleet.server_files("localhost")
    assert chain.read_bytes() == (fleet.dir / "servers/localhost/cert.pem").read_bytes() + pem("server-ca")
    assert len(ssl.PEM_cert_to_DER_cert(pem("server-ca").decode())) + len(
        ssl.PEM_cert_to_DER_cert((fleet.dir / "servers/localhost/cert.pem").read_text())
    ) < 4096  # what a modem takes


def test_device_certificate_verifies_strictly_and_only_as_a_client(fleet):
    (device,) = fleet.add("dev-1")
    authority = fleet.dir / "device-ca" / "cert.pem"
    check_leaf(device.certificate, load(authority), ExtendedKeyUsageOID.CLIENT_AUTH)
    assert names_of(device.certificate) == (["dev-1"], ["urn:fieldgate:device:dev-1"])
    assert device.cert.read_text().count("BEGIN CERTIFICATE") == 1
    assert days_of(device.certificate) == 3650
    assert verify(fleet, "sslclient", device.cert, authority) is None
    assert "unsuitable certificate purpose" in verify(fleet, "sslserver", device.cert, authority)


def test_server_certificate_verifies_strictly_and_only_as_a_server(fleet):
    server = fleet.server("Broker.Example.com", "localhost", "192.0.2.7", "2001:db8::7", "my_broker")
    server = Credentials("broker", fleet.dir / "servers" / "broker.example.com")
    authority = fleet.dir / "server-ca" / "cert.pem"
    check_leaf(server.certificate, load(authority), ExtendedKeyUsageOID.SERVER_AUTH)
    assert names_of(server.certificate) == (
        ["broker.example.com"],
        ["broker.example.com", "localhost", "192.0.2.7", "2001:db8::7", "my_broker"],
    )
    assert days_of(server.certificate) == 825
    assert verify(fleet, "sslserver", server.cert, authority) is None
    assert "unsuitable certificate purpose" in verify(fleet, "sslclient", server.cert, authority)


def test_minted_certificate_and_rows_are_as_those_of_fleet_add(fleet):
    (added,) = fleet.add("added")
    (minted,) = fleet.mint(["minted"])

    def shape(credentials):
        c = credentials.certificate
        return [(e.oid, e.critical) for e in c.extensions], c.issuer, days_of(c), c.subject.rdns[0].__class__

    assert shape(added) == shape(minted)
    check_leaf(minted.certificate, load(fleet.dir / "device-ca/cert.pem"), ExtendedKeyUsageOID.CLIENT_AUTH)
    assert verify(fleet, "sslclient", minted.cert, fleet.dir / "device-ca/cert.pem") is None
    for row, credentials in zip(rows(fleet), (added, minted)):
        assert row[1:6] == (
            "device", "active", "device", serial_text(credentials.certificate.serial_number),
            memory(row[5], credentials.fingerprint),
        )  # fmt: skip
        assert row[6:] == validity(credentials.certificate)


def memory(value, expected):
    """psycopg2 gives bytea as a memoryview."""
    assert bytes(value) == expected
    return value


def test_serial_numbers_are_random_in_all_their_bits(fleet):
    serials = [c.certificate.serial_number for c in fleet.add(*[f"d{i}" for i in range(40)])]
    assert len(set(serials)) == 40
    # Each bit is 0 somewhere and 1 somewhere: wrong once in 2^32 runs.
    ones, zeros = 0, 0
    for serial in serials:
        ones, zeros = ones | serial, zeros | ~serial
    assert ones == 2**128 - 1 and zeros & (2**128 - 1) == 2**128 - 1


@pytest.mark.parametrize("name", ["", "-x.y", "a..b", "a/b", "..", "*.example.com", "a b", "1.2.3.999",
                                  "a,DNS:b", "x" * 64, "b\n", "é.example", "a.7", "1::2::3"])  # fmt: skip
def test_bad_server_names_are_refused(fleet, name):
    before = snapshot(fleet.dir)
    result = fleet.run("server", "--", name, check=False)
    # That an address is none, only openssl knows.
    assert result.returncode == (1 if name == "1::2::3" else 2), result.stderr
    assert snapshot(fleet.dir) == before


def test_certificates_do_not_outlive_their_ca(fleet):
    result = fleet.run("server", "localhost", "--days", "9000")
    assert "warning" in result.stderr
    server = Credentials("localhost", fleet.dir / "servers" / "localhost")
    assert validity(server.certificate)[1] <= validity(load(fleet.dir / "server-ca/cert.pem"))[1]


# --- init ---


def test_second_init_says_what_exists_and_changes_nothing(fleet):
    before = snapshot(fleet.dir)
    result = fleet.run("init", "--name", "Another")
    assert result.stdout.count("exists: ") == 3
    assert "made" not in result.stdout and "Another" not in result.stdout
    assert snapshot(fleet.dir) == before


def test_init_says_what_to_keep_safe(tmp_path):
    result = Fleet(tmp_path / "pki", "").run("init", "--name", "Harbour buoys")
    assert "Keep safe" in result.stdout and "root/key.pem" in result.stdout
    said = Fleet(tmp_path / "pki", "").run("init").stdout
    assert "O=Harbour buoys" in said.replace(" = ", "=")  # OpenSSL 3.0 and 3.5 space it differently


def test_everything_but_init_works_with_the_root_key_away(fleet):
    (fleet.dir / "root" / "key.pem").unlink()
    fleet.run("init")
    fleet.server("localhost")
    fleet.add("dev-1")
    shutil.rmtree(fleet.dir / "server-ca")
    refused(fleet.run("init", check=False), 1, "root/key.pem is needed")
    assert not (fleet.dir / "server-ca").exists()


def test_init_never_makes_a_second_root_for_what_the_first_has_signed(fleet):
    shutil.rmtree(fleet.dir / "root")
    refused(fleet.run("init", check=False), 1, "put root/cert.pem back")
    assert not (fleet.dir / "root").exists()


def test_init_notices_a_ca_of_another_root(fleet, tmp_path):
    other = Fleet(tmp_path / "other", "").init()
    shutil.rmtree(fleet.dir / "device-ca")
    shutil.copytree(other.dir / "device-ca", fleet.dir / "device-ca")
    refused(fleet.run("init", check=False), 1, "device-ca/cert.pem is not signed by")


# --- server ---


def test_server_again_changes_nothing(fleet):
    fleet.server("localhost", "127.0.0.1", "::1")
    before = snapshot(fleet.dir)
    result = fleet.run("server", "localhost", "127.0.0.1", "::1", "localhost")
    assert result.stdout.startswith("exists: ")
    assert snapshot(fleet.dir) == before


@pytest.mark.parametrize(
    "first, again, new_key",
    [
        (["localhost"], ["localhost", "--renew"], False),
        (["localhost"], ["localhost", "--new-key"], True),
        (["localhost"], ["localhost", "127.0.0.1"], False),
        (["localhost", "--days", "29"], ["localhost"], False),
    ],
    ids=["renew", "new-key", "other names", "soon over"],
)
def test_server_is_renewed(fleet, first, again, new_key):
    fleet.run("server", *first)
    directory = fleet.dir / "servers" / "localhost"
    before = snapshot(directory)
    assert fleet.run("server", *again).stdout.startswith("made: ")
    after = snapshot(directory)
    assert before[directory / "cert.pem"] != after[directory / "cert.pem"]
    assert (before[directory / "key.pem"] != after[directory / "key.pem"]) == new_key
    assert pair(directory)
    assert verify(fleet, "sslserver", directory / "cert.pem", directory / "chain.pem") is None


def pair(directory):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    chain = directory / "chain.pem"
    try:
        context.load_cert_chain(chain if chain.exists() else directory / "cert.pem", directory / "key.pem")
    except ssl.SSLError:
        return False
    return True


# --- add ---


def test_add_makes_key_certificate_and_rows(fleet):
    result = fleet.run("add", "dev-1", "dev-2", "dev-1")
    assert result.stdout.count("added ") == 2
    assert len(rows(fleet)) == 2
    for row in rows(fleet):
        credentials = fleet.credentials(row[0])
        assert row[1:4] == ("device", "active", "device")
        assert row[4] == serial_text(credentials.certificate.serial_number)
        assert bytes(row[5]) == credentials.fingerprint
        assert row[6:] == validity(credentials.certificate)
        assert pair(credentials.directory)
    assert os.listdir(fleet.dir / "stage") == []


def test_add_again_says_so_and_changes_nothing(fleet):
    fleet.add("dev-1")
    before, rows_before = snapshot(fleet.dir), rows(fleet)
    result = fleet.run("add", "dev-1", "--state", "pending")
    assert result.stdout.startswith("exists: dev-1, active, certificate valid until ")
    assert (snapshot(fleet.dir), rows(fleet)) == (before, rows_before)


def test_add_options(fleet):
    fleet.query("insert into fieldgate.policy (name) values ('reader')")
    fleet.add("dev-1", state="pending", days=30)
    (service,) = fleet.add("grafana", service=True, policy="reader")
    fleet.add("idle", service=True)
    assert [row[:4] for row in rows(fleet)] == [
        ("dev-1", "device", "pending", "device"),
        ("grafana", "service", "active", "reader"),
        ("idle", "service", "active", "none"),
    ]
    assert days_of(fleet.credentials("dev-1").certificate) == 30
    assert service.directory == fleet.dir / "services" / "grafana"
    assert verify(fleet, "sslclient", service.cert, fleet.dir / "device-ca/cert.pem") is None


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["new", "known", "--service"], ["known is a device already"]),
        (["new", "known", "--policy", "none"], ["policy 'device', not 'none'"]),
        (["new", "gone"], ["gone is revoked", "fleet resume gone"]),
        (["new", "--policy", "nonsense"], ["no policy 'nonsense'"]),
        (["new", "--service", "--policy", "device"], ["refused", "check constraint", "Nothing was added"]),
    ],
)
def test_add_is_all_or_nothing(fleet, arguments, words):
    fleet.add("known", "gone")
    fleet.revoke("gone")
    before, rows_before = snapshot(fleet.dir), rows(fleet)
    refused(fleet.run("add", *arguments, check=False), 1, *words)
    assert (snapshot(fleet.dir), rows(fleet)) == (before, rows_before)
    assert os.listdir(fleet.dir / "stage") == []


@pytest.mark.parametrize("why", ["revoked", "expired"])
def test_add_gives_a_new_certificate_to_who_has_no_valid_one(fleet, why):
    (device,) = fleet.add("dev-1")
    old = device.cert.read_bytes(), device.key.read_bytes()
    if why == "revoked":
        fleet.revoke("dev-1")
        fleet.run("resume", "dev-1")
    else:
        fleet.query("update fieldgate.credential set not_after = now() - interval '1 second'")
    assert "added dev-1" in fleet.run("add", "dev-1").stdout
    assert (device.cert.read_bytes(), device.key.read_bytes()) != old
    assert {bytes(row[5]) for row in rows(fleet)} > {device.fingerprint}
    assert len(rows(fleet)) == 2
    (aside,) = (fleet.dir / "old").iterdir()
    assert ((aside / "cert.pem").read_bytes(), (aside / "key.pem").read_bytes()) == old


def test_add_registers_certificates_again_that_the_registry_has_lost(fleet):
    devices = fleet.add("dev-1", "dev-2")
    before, rows_before = snapshot(fleet.dir), rows(fleet)
    devices[1].key.unlink()  # it is in the device
    fleet.query("delete from fieldgate.principal")
    result = fleet.run("add", "dev-1", "dev-2")
    assert result.stderr.count("registered again") == 2
    assert rows(fleet) == rows_before
    devices[1].key.write_bytes(before[devices[1].key])
    assert snapshot(fleet.dir) == before


@pytest.mark.parametrize("kind", ["other_ca", "expired", "wrong_eku", "other_name"])
def test_add_does_not_register_a_bad_certificate_that_lies_there(fleet, kind):
    bad = fleet.forge(kind, "dev-1", directory=fleet.dir / "devices").fingerprint
    fleet.run("add", "dev-1")
    assert fleet.credentials("dev-1").fingerprint != bad
    assert [bytes(row[5]) for row in rows(fleet)] == [fleet.credentials("dev-1").fingerprint]
    assert len(list((fleet.dir / "old").iterdir())) == 1


def test_add_without_database_leaves_nothing_behind(fleet):
    before = snapshot(fleet.dir)
    fleet.database_url = NOWHERE
    result = fleet.run("add", "dev-1", check=False)
    refused(result, 1, "no connection to the database", "127.0.0.1:1")
    assert snapshot(fleet.dir) == before and os.listdir(fleet.dir / "stage") == []


def test_database_without_registry_is_a_clear_error(fleet):
    fleet.database_url = shared().url(dbname="postgres")
    for command in (["add", "dev-1"], ["list"]):
        refused(fleet.run(*command, check=False), 1, "has no registry", "sql/migrate")


def test_role_without_rights_is_a_clear_error(fleet):
    fleet.database_url = fleet.database_url.replace("fieldgate_owner", "fieldgate_reader")
    refused(fleet.run("add", "dev-1", check=False), 1, "permission denied", "fieldgate_owner")
    assert not (fleet.dir / "devices" / "dev-1").exists()


@pytest.mark.parametrize("command", [["add", "dev-1"], ["server", "localhost"]])
def test_without_init_is_a_clear_error(fleet, tmp_path, command):
    fleet.dir = tmp_path / "empty"
    refused(fleet.run(*command, check=False), 1, "fleet init", str(fleet.dir))
    assert not fleet.dir.exists()


def test_adds_at_once_wait_for_each_other(fleet):
    def add(number):
        return fleet.run("add", "shared", *[f"{number}-{i}" for i in range(5)])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(add, range(4)))
    assert sum("added shared" in result.stdout for result in results) == 1
    assert len(rows(fleet)) == 21
    for row in rows(fleet):
        assert bytes(row[5]) == fleet.credentials(row[0]).fingerprint


def test_same_device_from_two_directories_is_added_once(fleet, bare_authorities, tmp_path):
    other = Fleet(shutil.copytree(bare_authorities, tmp_path / "other"), fleet.database_url)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda f: f.run("add", "dev-1", check=False), (fleet, other)))
    assert len(rows(fleet)) == 1
    winners = [f for f in (fleet, other) if (f.dir / "devices" / "dev-1").exists()]
    assert len(winners) == 1
    assert bytes(rows(fleet)[0][5]) == winners[0].credentials("dev-1").fingerprint
    # The other was too late before the transaction, or in it.
    assert all(r.returncode == 0 or "Nothing was added" in r.stderr for r in results)


def test_files_are_for_their_owner_only(fleet):
    fleet.server("localhost")
    fleet.add("dev-1")
    fleet.revoke("dev-1")
    fleet.run("resume", "dev-1")
    fleet.add("dev-1")
    shutil.rmtree(fleet.dir / "server-ca")
    fleet.run("init", preexec_fn=lambda: os.umask(0))
    for path in [fleet.dir, *fleet.dir.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_keys_are_never_printed(fleet):
    result = [fleet.run("server", "localhost"), fleet.run("add", "dev-1"), fleet.run("show", "dev-1")]
    result.append(Fleet(fleet.dir.parent / "second", "").run("init"))
    assert all("PRIVATE KEY" not in r.stdout + r.stderr for r in result)


# --- list, show, revoke, suspend, resume ---


def table(text):
    """{first column: line}, without the two lines of the head."""
    return {line.split()[0]: line.split()[1:] for line in text.strip().split("\n")[2:]}


def test_list(fleet):
    assert table(fleet.run("list").stdout) == {}
    devices = fleet.add("dev-1", "dev-2", "dev-3")
    fleet.add("grafana", service=True)
    fleet.query("insert into fieldgate.principal (id) values ('bare')")
    fleet.run("suspend", "dev-2")
    fleet.revoke("dev-3")
    fleet.query(
        "insert into fieldgate.presence (device, source, client_id, connected, since, seq)"
        " values ('dev-1', 'mqtt', 'dev-1', true, now(), 1), ('dev-2', 'mqtt', 'x', false, now(), 2)"
    )
    end = validity(devices[0].certificate)[1].strftime("%Y-%m-%d")
    text = fleet.run("list").stdout
    columns = ["id", "kind", "state", "policy", "certificate", "issuer", "other", "connected"]
    assert text.split("\n")[0].split() == columns
    issuer = fleet.query("select name from fieldgate.authority")[0][0]
    assert table(text) == {
        "bare": ["device", "active", "device", "-", "-", "-", "no"],
        "dev-1": ["device", "active", "device", end, issuer, "-", "yes"],
        "dev-2": ["device", "suspended", "device", end, issuer, "-", "no"],
        "dev-3": ["device", "revoked", "device", "-", "-", "-", "no"],
        "grafana": ["service", "active", "none", end, issuer, "-", "no"],
    }
    assert list(table(fleet.run("list", "--state", "suspended").stdout)) == ["dev-2"]
    fleet.query("update fieldgate.credential set not_after = '2020-02-03Z' where principal = 'dev-1'")
    assert table(fleet.run("list").stdout)["dev-1"][3:5] == ["expired", "2020-02-03"]


def test_list_works_without_a_directory(fleet, tmp_path):
    fleet.add("dev-1")
    fleet.dir = tmp_path / "none"
    assert list(table(fleet.run("list").stdout)) == ["dev-1"]
    assert not fleet.dir.exists()


def test_show(fleet):
    (device,) = fleet.add("dev-1")
    fleet.revoke("dev-1")
    fleet.run("resume", "dev-1")
    old = device.fingerprint.hex()
    (device,) = fleet.add("dev-1")
    fleet.query(
        "insert into fieldgate.presence (device, source, client_id, connected, since, seq) values"
        " ('dev-1', 'mqtt', 'dev-1', true, '2031-02-03 04:05:06Z', 1)"
    )
    text = fleet.run("show", "dev-1", env={"PGTZ": "UTC"}).stdout
    assert re.search(r"^state +active$", text, re.M) and re.search(r"^policy +device$", text, re.M)
    assert "connected since 2031-02-03 04:05:06+00" in text
    (line,) = [line for line in text.split("\n") if old in line]
    assert ": unspecified" in line and " revoked " in line
    (line,) = [line for line in text.split("\n") if device.fingerprint.hex() in line]
    serial = serial_text(device.certificate.serial_number)
    start, end = (moment.strftime("%Y-%m-%d %H:%M:%S+00") for moment in validity(device.certificate))
    assert line.split()[:1] == ["x509"] and all(word in line for word in (serial, start, end, " valid "))
    assert re.search(r"^allow +publish +m/d/\$\{device\}/d2c/#$", text, re.M)
    assert f"\n{device.cert}\n{device.key}\n" in text


@pytest.mark.parametrize("command", ["show", "revoke", "suspend", "resume"])
def test_unknown_device_is_an_error(fleet, command):
    refused(fleet.run(command, "ghost", check=False), 1, "no 'ghost' in the registry")


def test_revoke(fleet):
    fleet.add("dev-1", "dev-2")
    version = fleet.query("select version from fieldgate.registry_version")
    result = fleet.run("revoke", "dev-1", "--reason", "keyCompromise")
    assert "within 5 s" in result.stdout
    assert fleet.query("select version from fieldgate.registry_version") > version

    def state():
        return fleet.query(
            "select p.id, p.state::text, c.revoked_at, c.revocation_reason from fieldgate.principal p"
            " join fieldgate.credential c on c.principal = p.id order by p.id"
        )

    first = state()
    assert first[0][:2] == ("dev-1", "revoked") and first[0][3] == "keyCompromise" and first[0][2]
    assert first[1] == ("dev-2", "active", None, None)
    assert "before" in fleet.run("revoke", "dev-1", "--reason", "superseded").stdout
    assert state() == first


def test_suspend_and_resume(fleet):
    fleet.add("dev-1")
    fleet.add("dev-2", state="pending")

    def states():
        return [row[2] for row in rows(fleet)]

    fleet.run("suspend", "dev-1")
    fleet.run("resume", "dev-2")
    assert states() == ["suspended", "active"]
    assert "before" in fleet.run("suspend", "dev-1").stdout
    fleet.run("resume", "dev-1")
    assert states() == ["active", "active"]
    assert "before" in fleet.run("resume", "dev-1").stdout
    fleet.revoke("dev-1")
    refused(fleet.run("suspend", "dev-1", check=False), 1, "is revoked")
    assert states() == ["revoked", "active"]


# --- passwords, terminals ---


@pytest.fixture
def role_with_password(fleet):
    """Its URL without the password, which is p@ss/w:r%d\\ "x."""
    role = f"fleet_{os.getpid()}"
    fleet.query(
        f"create role {role} login in role fieldgate_owner password 'p@ss/w:r%d\\ \"x'", role=SUPERUSER
    )
    yield re.sub(r"\?.*", "", fleet.database_url).replace("fieldgate_owner", role)
    fleet.query(f"drop role {role}", role=SUPERUSER)


def test_password_of_the_url_reaches_the_database_but_no_argument(fleet, role_with_password, tmp_path):
    fleet.database_url = role_with_password.replace("@", ":p%40ss%2Fw%3Ar%25d%5C%20%22x@")
    (tmp_path / "bin").mkdir()
    for program in ("psql", "cat", "openssl"):
        shim = tmp_path / "bin" / program
        shim.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" >>{tmp_path}/arguments\n'
            f'exec {shutil.which(program)} "$@"\n'
        )
        shim.chmod(0o755)
    result = fleet.run("add", "dev-1", env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    seen = (tmp_path / "arguments").read_text() + result.stdout + result.stderr
    assert role_with_password in seen and "ss/w" not in seen and "ss%2Fw" not in seen


def test_passwords_where_arguments_or_messages_would_show_them_are_refused(fleet, role_with_password):
    with_password = role_with_password.replace("@", ":secret@")
    refused(fleet.run("--database", with_password, "list", check=False), 2, "password")
    fleet.database_url = role_with_password + "?password=secret"
    assert "secret" not in refused(fleet.run("list", check=False), 2, "password").stderr
    fleet.database_url = with_password
    assert "secret" not in refused(fleet.run("list", check=False), 1, "authentication failed").stderr


def test_password_of_a_connection_string_is_refused_however_it_is_spaced(fleet):
    string = "host=127.0.0.1 password = secret"
    assert "secret" not in refused(fleet.run("--database", string, "list", check=False), 2, "password").stderr
    fleet.database_url = string
    assert "secret" not in refused(fleet.run("list", check=False), 2, "password").stderr


def test_functions_of_others_in_the_schema_public_are_not_called(fleet):
    """A database from before PostgreSQL 15 lets everybody make some, and a closer match would be taken."""
    fleet.query(
        """create function public.hashtextextended(text, int) returns bigint language plpgsql
            as 'begin raise exception ''intruder''; end'""",
        role=SUPERUSER,
    )
    fleet.add("dev-1")
    fleet.run("list")


def test_colours_only_on_a_terminal(fleet):
    assert "\033" not in fleet.run("add", check=False).stderr
    for environment, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        subprocess.run([FLEET, "add"], stderr=theirs, env={**os.environ, **environment}, timeout=60)
        os.close(theirs)
        assert (b"\033[31m" in os.read(ours, 1000)) == expected
        os.close(ours)


# --- what Mosquitto makes of them ---


@pytest.fixture
def broker(fleet, tmp_path):
    """Mosquitto as a deployment has it, but without plugin: its port."""
    fleet.server("localhost")
    chain, key = fleet.server_files("localhost")
    port = free_port()
    (tmp_path / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nrequire_certificate true\nuser root\n"
        f"cafile {fleet.device_ca_chain}\ncertfile {chain}\nkeyfile {key}\n"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with open(tmp_path / "mosquitto.log", "wb") as log:
        process = subprocess.Popen(
            [program, "-c", tmp_path / "mosquitto.conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while "running" not in (tmp_path / "mosquitto.log").read_text():
            assert process.poll() is None, (tmp_path / "mosquitto.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def publish(fleet, port, cert=None, key=None):
    command = ["mosquitto_pub", "-h", "localhost", "-p", port, "--cafile", fleet.ca, "-q", "1"]
    command += ["-t", "t", "-m", "x"] + (["--cert", cert, "--key", key] if cert else [])
    return subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


def test_mosquitto_lets_devices_and_services_in_and_nobody_else(fleet, broker):
    for credentials in (*fleet.add("dev-1"), *fleet.add("grafana", service=True), *fleet.mint(["minted"])):
        result = publish(fleet, broker, credentials.cert, credentials.key)
        assert result.returncode == 0, result.stdout
    chain, key = fleet.server_files("localhost")
    assert publish(fleet, broker, chain, key).returncode != 0
    assert publish(fleet, broker).returncode != 0
    # The broker without plugin accepts whoever the device CA has signed as a client, whatever the name.
    good = {"other_key", "other_name", "no_cn", "no_name", "two_cns", "cn_only", "cn_and_san_disagree", "bad_id", "rsa", "p384"}
    for kind in FORGERIES:
        bad = fleet.forge(kind, "dev-1")
        result = publish(fleet, broker, bad.cert, bad.key)
        assert (result.returncode == 0) == (kind in good), (kind, result.stdout)
