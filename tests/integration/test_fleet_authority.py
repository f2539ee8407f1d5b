# SPDX-License-Identifier: Apache-2.0
"""fleet ca, fleet anchors and the keys of servers: what they make, say and refuse. What brokers and devices make of
it is in test_authority_rollover.py, interruptions are in test_fleet_crash.py."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.pki import DAY, Fleet, from_now, serial_text, validity
from harness.postgres import fresh_database

NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory in which fleet init has run; tests copy it."""
    directory = tmp_path_factory.mktemp("authorities") / "pki"
    Fleet(directory, NOWHERE).run("init", "--name", "Harbour buoys")
    return directory


@pytest.fixture
def fleet(made, tmp_path):
    with fresh_database() as database:
        fleet = Fleet(shutil.copytree(made, tmp_path / "pki"), database.url())
        fleet.query = database.query
        yield fleet


@pytest.fixture
def alone(made, tmp_path):
    """Without a database."""
    return Fleet(shutil.copytree(made, tmp_path / "pki"), "")


def refused(result, *words):
    assert result.returncode == 1, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr
    return result


def name_of(fleet, kind):
    return f"{kind}-{serial_text(certificate(fleet, kind).serial_number)[-8:]}"


def certificate(fleet, place):
    return x509.load_pem_x509_certificate((fleet.dir / place / "cert.pem").read_bytes())


def pem(fleet, *places):
    return b"".join((fleet.dir / place / "cert.pem").read_bytes() for place in places)


def listed(fleet):
    """fleet ca list as {name: {column: value}}."""
    head, *lines = fleet.run("ca", "list").stdout.splitlines()
    columns = re.split(r"  +", head.strip())
    rows = [dict(zip(columns, re.split(r"  +", line.strip()))) for line in lines]
    return {row["name"]: row for row in rows}


def authorities(fleet):
    return {
        name: (enrolment, policy, retired)
        for name, enrolment, policy, retired in fleet.query(
            "select name, enrolment::text, policy, retired_at is not null from fieldgate.authority"
        )
    }


def snapshot(directory):
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
        if path.name not in (".lock", "stage")
    }


def new(fleet, kind, *options):
    """The name of the CA that has signed up to now."""
    former = name_of(fleet, kind)
    fleet.run("ca", "new", kind, *options)
    return former


def strictly(fleet, purpose, leaf, *untrusted, trusted=None):
    """None, or what a strict verifier says that trusts ca.pem."""
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", trusted or fleet.ca]
    for place in untrusted:
        command += ["-untrusted", fleet.dir / place / "cert.pem"]
    result = subprocess.run([*command, leaf], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return None if result.returncode == 0 else result.stderr


# --- list, enrol ---


def test_list_shows_directory_and_registry(fleet):
    rows = listed(fleet)
    assert set(rows) == {name_of(fleet, kind) for kind in ("root", "device-ca", "server-ca")}
    root = rows[name_of(fleet, "root")]
    assert (root["kind"], root["state"], root["key"]) == ("root", "signs", "file")
    assert root["valid until"] == validity(certificate(fleet, "root"))[1].strftime("%Y-%m-%d")
    assert rows[name_of(fleet, "device-ca")]["enrolment"] == "-"
    fleet.add("dev-1", "dev-2", "dev-3")
    fleet.revoke("dev-3")
    device_ca = listed(fleet)[name_of(fleet, "device-ca")]
    assert (device_ca["enrolment"], device_ca["policy"], device_ca["credentials"]) == ("pending", "device", "2")


def test_list_shows_where_keys_are(fleet):
    (fleet.dir / "root/key.pem").unlink()
    assert listed(fleet)[name_of(fleet, "root")]["key"] == "not here"
    key = fleet.dir / "server-ca/key.pem"
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", key, "-out", f"{key}.new", "-passout", "pass:x"], check=True)
    shutil.move(f"{key}.new", key)
    assert listed(fleet)[name_of(fleet, "server-ca")]["key"] == "encrypted file"


def test_list_works_without_a_registry_and_with_a_foreign_one(fleet, tmp_path):
    alone = Fleet(fleet.dir, "")
    assert set(listed(alone)) == set(listed(fleet))
    assert "no database was given" in alone.run("ca", "list").stderr
    fleet.run("ca", "enrol", "device-ca", "off")
    other = Fleet(tmp_path / "other", fleet.database_url).init()
    assert listed(other)[name_of(fleet, "device-ca")]["kind"] == "elsewhere"
    empty = Fleet(tmp_path / "empty", "")
    refused(empty.run("ca", "list", check=False), "no CAs", "fleet init")


def test_enrol_changes_the_registry_only(fleet):
    name = name_of(fleet, "device-ca")
    fleet.query("insert into fieldgate.policy (name) values ('visitor')")
    before = snapshot(fleet.dir)
    said = fleet.run("ca", "enrol", name, "active", "--policy", "visitor").stdout
    assert "active" in said and "visitor" in said and authorities(fleet) == {name: ("active", "visitor", False)}
    assert "fleet approve" in fleet.run("ca", "enrol", "device-ca", "pending").stdout
    assert authorities(fleet) == {name: ("pending", "visitor", False)}
    fleet.run("ca", "enrol", name, "off")
    assert authorities(fleet) == {name: ("off", "visitor", False)}
    assert snapshot(fleet.dir) == before


def test_enrol_refuses_what_is_not_there(fleet):
    refused(fleet.run("ca", "enrol", "nobody", "active", check=False), "no device CA 'nobody'", "fleet ca list")
    refused(fleet.run("ca", "enrol", name_of(fleet, "root"), "active", check=False), "no device CA")
    refused(fleet.run("ca", "enrol", "device-ca", "off", "--policy", "nothing", check=False), "no policy 'nothing'")
    assert authorities(fleet) == {name_of(fleet, "device-ca"): ("pending", "device", False)}


# --- new ---


def test_new_device_ca_signs_and_the_former_is_accepted(fleet):
    (old,) = fleet.add("old-1")
    fleet.query("insert into fieldgate.policy (name) values ('visitor')")
    fleet.run("ca", "enrol", "device-ca", "off", "--policy", "visitor")
    key = (fleet.dir / "device-ca/key.pem").read_bytes()
    result = fleet.run("ca", "new", "device-ca")
    (former,) = (fleet.dir / "former").iterdir()
    current = name_of(fleet, "device-ca")
    assert former.name.startswith("device-ca-") and former.name != current and current in result.stdout
    assert "no restart" in result.stdout
    assert (former / "key.pem").read_bytes() == key != (fleet.dir / "device-ca/key.pem").read_bytes()
    # A generation enrols as the one before it did, from its first moment.
    assert authorities(fleet) == {name: ("off", "visitor", False) for name in (former.name, current)}
    (young,) = fleet.add("new-1")
    place = f"former/{former.name}"
    assert young.certificate.issuer == certificate(fleet, "device-ca").subject != certificate(fleet, place).subject
    assert fleet.device_ca_chain.read_bytes() == pem(fleet, "device-ca", place, "root")
    assert fleet.ca.read_bytes() == pem(fleet, "root")
    assert strictly(fleet, "sslclient", old.cert, place) is strictly(fleet, "sslclient", young.cert, "device-ca") is None
    rows = listed(fleet)
    assert (rows[former.name]["state"], rows[current]["state"]) == ("former", "signs")
    assert (rows[former.name]["credentials"], rows[current]["credentials"]) == ("1", "1")


def test_new_ca_is_of_the_same_fleet_and_profile(fleet):
    before = certificate(fleet, "device-ca")
    former = new(fleet, "device-ca")
    after = certificate(fleet, "device-ca")
    (name,) = after.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == f"Harbour buoys device CA {name_of(fleet, 'device-ca')[-8:]}"
    assert after.issuer == certificate(fleet, "root").subject and after.serial_number != before.serial_number

    def shape(c):
        own = (x509.SubjectKeyIdentifier,)
        return [(e.oid, e.critical, None if isinstance(e.value, own) else e.value) for e in c.extensions]

    assert shape(before) == shape(after)
    assert (fleet.dir / "former" / former / "key.pem").stat().st_mode & 0o777 == 0o600


def test_generations_follow_each_other(fleet):
    names = [new(fleet, "device-ca") for _ in range(3)] + [name_of(fleet, "device-ca")]
    assert len(set(names)) == 4 and set(authorities(fleet)) == set(names)
    assert fleet.device_ca_chain.read_text().count("BEGIN CERTIFICATE") == 5


def test_new_server_ca_needs_no_registry_and_no_change_in_devices(alone):
    server = alone.server("localhost")
    before, ca = server.certificate, alone.ca.read_bytes()
    former = new(alone, "server-ca")
    assert alone.ca.read_bytes() == ca
    # The server has its certificate until somebody renews it, and that is enough.
    assert server.certificate == before
    alone.server("localhost")
    assert server.certificate.issuer == certificate(alone, "server-ca").subject
    assert (server.directory / "chain.pem").read_bytes() == pem(alone, "servers/localhost", "server-ca")
    assert strictly(alone, "sslserver", server.cert, "server-ca") is None
    assert (alone.dir / "former" / former / "cert.pem").exists()


def test_new_root_is_trusted_beside_the_former_one(fleet):
    server = fleet.server("localhost")
    (old,) = fleet.add("old-1")
    former_root = f"former/{new(fleet, 'root')}"
    assert fleet.ca.read_bytes() == pem(fleet, "root", former_root)
    assert fleet.device_ca_chain.read_bytes() == pem(fleet, "device-ca", "root", former_root)
    # What was signed by the former root goes on, and is not made again.
    assert fleet.run("server", "localhost").stdout.startswith("exists: ")
    assert fleet.run("init").stdout.count("exists: ") == 3
    assert strictly(fleet, "sslserver", server.cert, "server-ca") is None
    former_server_ca = f"former/{new(fleet, 'server-ca')}"
    former_device_ca = f"former/{new(fleet, 'device-ca')}"
    fleet.server("localhost")
    (young,) = fleet.add("new-1")
    for leaf, purpose, issuer in (
        (server, "sslserver", "server-ca"),
        (old, "sslclient", former_device_ca),
        (young, "sslclient", "device-ca"),
    ):
        assert strictly(fleet, purpose, leaf.cert, issuer) is None
    assert strictly(fleet, "sslserver", server.cert, "server-ca", trusted=fleet.dir / former_root / "cert.pem")
    assert fleet.ca.read_bytes() == pem(fleet, "root", former_root)
    assert (fleet.dir / former_server_ca).exists()


def test_new_needs_the_key_of_the_root_and_nothing_else_does(fleet):
    key = fleet.dir / "root/key.pem"
    key.rename(fleet.dir.parent / "away.pem")
    before = snapshot(fleet.dir)
    for kind in ("device-ca", "server-ca"):
        refused(fleet.run("ca", "new", kind, check=False), "root/key.pem is needed")
    assert snapshot(fleet.dir) == before and authorities(fleet) == {}
    fleet.run("ca", "enrol", "device-ca", "pending")
    fleet.server("localhost")
    fleet.add("dev-1")
    fleet.run("anchors")
    # A root signs itself.
    new(fleet, "root")


def test_new_of_nothing_is_refused(tmp_path):
    fleet = Fleet(tmp_path / "pki", "")
    refused(fleet.run("ca", "new", "root", check=False), "fleet init")
    (tmp_path / "pki").mkdir()
    refused(fleet.run("ca", "new", "root", check=False), "fleet init")


def test_new_device_ca_does_nothing_without_the_registry(made, tmp_path):
    fleet = Fleet(shutil.copytree(made, tmp_path / "pki"), NOWHERE)
    before = snapshot(fleet.dir)
    refused(fleet.run("ca", "new", "device-ca", check=False), "no connection")
    assert snapshot(fleet.dir) == before


# --- retire ---


def test_what_signs_now_is_not_retired(fleet):
    before = snapshot(fleet.dir)
    for kind in ("root", "device-ca", "server-ca"):
        for name in (kind, name_of(fleet, kind)):
            refused(fleet.run("ca", "retire", name, "--force", check=False), "signs now", f"fleet ca new {kind}")
    refused(fleet.run("ca", "retire", "device-ca-00000000", check=False), "no device CA")
    refused(fleet.run("ca", "retire", "root-00000000", check=False), "fleet ca list")
    assert snapshot(fleet.dir) == before


def test_retire_revokes_what_hangs_on_a_device_ca_only_when_forced(fleet):
    fleet.add("old-1", "old-2", "gone-1")
    fleet.revoke("gone-1")
    former = new(fleet, "device-ca")
    fleet.add("new-1")
    before = snapshot(fleet.dir)
    refused(fleet.run("ca", "retire", former, check=False), "2 credentials", "fleet renew", "--force")
    assert snapshot(fleet.dir) == before and not authorities(fleet)[former][2]
    revoked = "select principal, revocation_reason from fieldgate.credential where revoked_at is not null order by 1"
    assert fleet.query(revoked) == [("gone-1", "unspecified")]

    said = fleet.run("ca", "retire", former, "--force").stdout
    assert "revoked: 2" in said and "device-ca-chain.pem" in said
    assert fleet.query(revoked) == [("gone-1", "unspecified"), ("old-1", "superseded"), ("old-2", "superseded")]
    assert authorities(fleet) == {former: ("pending", "device", True), name_of(fleet, "device-ca"): ("pending", "device", False)}
    assert fleet.device_ca_chain.read_bytes() == pem(fleet, "device-ca", "root")
    assert listed(fleet)[former]["state"] == "retired"
    refused(fleet.run("ca", "enrol", former, "active", check=False), "is retired")
    # Again is no error, and neither registers it anew.
    fleet.run("ca", "retire", former)
    fleet.add("new-2")
    assert authorities(fleet)[former][2]


def test_retire_without_anything_on_it_needs_no_force(fleet):
    former = new(fleet, "device-ca")
    assert "is retired" in fleet.run("ca", "retire", former).stdout
    assert authorities(fleet)[former][2]


def test_server_ca_with_servers_is_retired_only_when_forced(alone):
    alone.server("localhost")
    former = new(alone, "server-ca")
    refused(alone.run("ca", "retire", former, check=False), "localhost", "--renew", "--force")
    alone.server("localhost")
    assert "is retired" in alone.run("ca", "retire", former).stdout
    assert "retired before" in alone.run("ca", "retire", former).stdout
    forced = new(alone, "server-ca")
    alone.run("ca", "retire", forced, "--force")
    assert {listed(alone)[name]["state"] for name in (former, forced)} == {"retired"}


def test_root_is_retired_when_nothing_in_force_is_under_it(fleet):
    former = new(fleet, "root")
    for kind in ("device-ca", "server-ca"):
        refused(fleet.run("ca", "retire", former, "--force", check=False), name_of(fleet, kind), "in force")
        under = new(fleet, kind)
        refused(fleet.run("ca", "retire", former, check=False), under)
        fleet.run("ca", "retire", under)
    fleet.run("ca", "retire", former)
    assert fleet.ca.read_bytes() == pem(fleet, "root")
    assert fleet.device_ca_chain.read_bytes() == pem(fleet, "device-ca", "root")
    fleet.run("init")
    assert fleet.ca.read_bytes() == pem(fleet, "root")


# --- add ---


class Maker:
    """Somebody else's CAs, some of them bad: a root, and below it a CA."""

    def __init__(self, directory):
        self.directory = directory
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self.make(self.root_key, "Maker root", None)

    def make(self, key, name, issuer, *, ca=True, sign=True, start=None, end=None, signer=None):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False)  # fmt: skip
        start = start or from_now(-1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end or start + 1000 * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not sign, key_cert_sign=sign, crl_sign=sign, **usage), critical=True
            )
            .sign(signer or (self.root_key if issuer else key), hashes.SHA256())
        )

    def ca(self, curve=None, **changes):
        key = ec.generate_private_key(curve or ec.SECP256R1())
        return self.make(key, "Maker CA", self.root, **changes)

    def file(self, *certificates, more=b""):
        path = self.directory / "maker.pem"
        path.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates) + more)
        return path


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path)


def test_add_takes_the_ca_of_somebody_else(fleet, maker):
    ca = maker.ca()
    result = fleet.run("ca", "add", maker.file(ca, maker.root), "--name", "modem-maker", "--enrol", "active")
    assert "modem-maker" in result.stdout and "restarted" in result.stdout
    assert authorities(fleet) == {"modem-maker": ("active", "device", False)}
    ((stored, not_after),) = fleet.query("select certificate, not_after from fieldgate.authority")
    assert bytes(stored) == ca.public_bytes(serialization.Encoding.DER) and not_after == validity(ca)[1]
    assert fleet.device_ca_chain.read_bytes() == pem(fleet, "device-ca", "other-ca/modem-maker", "root")
    assert fleet.ca.read_bytes() == pem(fleet, "root")
    row = listed(fleet)["modem-maker"]
    assert (row["kind"], row["state"], row["enrolment"]) == ("other", "accepted", "active")
    # Again changes nothing; a new CA of ours enrols as ours did and not as this one.
    assert "exists: modem-maker" in fleet.run("ca", "add", maker.file(ca, maker.root), "--enrol", "off").stdout
    new(fleet, "device-ca")
    assert {enrolment for name, (enrolment, _, _) in authorities(fleet).items() if name != "modem-maker"} == {"pending"}
    fleet.run("ca", "retire", "modem-maker")
    assert fleet.device_ca_chain.read_text().count("BEGIN CERTIFICATE") == 3


def test_add_gives_a_name_and_takes_a_root_alone(fleet, maker):
    fleet.run("ca", "add", maker.file(maker.root))
    ((name, (enrolment, policy, _)),) = authorities(fleet).items()
    assert name == f"other-ca-{maker.root.fingerprint(hashes.SHA256()).hex()[:8]}"
    assert (enrolment, policy) == ("pending", "device")


BAD_CAS = {
    "not a CA": (lambda m: m.file(m.ca(ca=False, sign=False), m.root), "not that of a CA"),
    "may not sign": (lambda m: m.file(m.ca(sign=False), m.root), "keyCertSign"),
    "P-384": (lambda m: m.file(m.ca(curve=ec.SECP384R1()), m.root), "P-256"),
    "expired": (lambda m: m.file(m.ca(start=from_now(-9), end=from_now(-1)), m.root), "expired"),
    "not yet": (lambda m: m.file(m.ca(start=from_now(9)), m.root), "not valid before"),
    "no root": (lambda m: m.file(m.ca()), "does not end in a root"),
    "bad signature": (
        lambda m: m.file(m.ca(signer=ec.generate_private_key(ec.SECP256R1())), m.root), "does not end in a root",
    ),
    "private key": (
        lambda m: m.file(m.ca(), m.root, more=b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"),
        "private key",
    ),
    "DER": (lambda m: write(m.directory / "x.der", m.root.public_bytes(serialization.Encoding.DER)), "PEM"),
    "nothing": (lambda m: write(m.directory / "x.pem", b""), "no certificate"),
    "no file": (lambda m: m.directory / "none.pem", "there is no"),
}  # fmt: skip


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("fault", BAD_CAS)
def test_add_refuses_a_bad_ca_with_its_reason(fleet, maker, fault):
    make, words = BAD_CAS[fault]
    before = snapshot(fleet.dir)
    refused(fleet.run("ca", "add", make(maker), check=False), words)
    assert snapshot(fleet.dir) == before and authorities(fleet) == {}


def test_add_refuses_a_taken_name_and_an_unknown_policy(fleet, maker):
    fleet.run("ca", "add", maker.file(maker.root), "--name", "maker")
    before = authorities(fleet)
    file = maker.file(maker.ca(), maker.root)
    refused(fleet.run("ca", "add", file, "--name", "maker", check=False), "another CA has the name")
    refused(fleet.run("ca", "add", file, "--policy", "nothing", check=False), "no policy 'nothing'")
    assert authorities(fleet) == before


# --- server ---


def key_pin(path):
    data = path.read_bytes()
    if b"PRIVATE KEY" in data:
        key = serialization.load_pem_private_key(data, None).public_key()
    else:
        key = x509.load_pem_x509_certificate(data).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def test_next_key_is_there_before_it_is_used(alone):
    server = alone.server("localhost")
    following = server.directory / "next-key.pem"
    pins = [key_pin(server.key), key_pin(following)]
    alone.run("server", "localhost", "--renew")
    assert [key_pin(server.key), key_pin(following)] == pins
    for _ in range(2):
        alone.run("server", "localhost", "--new-key")
        assert key_pin(server.key) == key_pin(server.cert) == pins[-1]
        assert key_pin(following) not in pins
        pins.append(key_pin(following))
    assert following.stat().st_mode & 0o777 == 0o600


def test_server_of_former_times_gets_its_next_key(alone):
    server = alone.server("localhost")
    (server.directory / "next-key.pem").unlink()
    before = snapshot(server.directory)
    assert alone.run("server", "localhost").stdout.startswith("exists: ")
    after = snapshot(server.directory)
    assert {path.name for path in after.keys() - before.keys()} == {"next-key.pem"}
    assert all(after[path] == content for path, content in before.items())


def test_chain_that_no_modem_takes_is_refused(alone):
    names = [f"{'x' * 60}.{n}.{'y' * 60}.example.com" for n in range(25)]
    refused(alone.run("server", "localhost", *names, check=False), "4096", "fewer")
    assert not (alone.dir / "servers/localhost").exists()
    alone.run("server", "localhost", *names[:10])
    ders = [certificate(alone, place).public_bytes(serialization.Encoding.DER) for place in ("servers/localhost", "server-ca")]
    assert sum(map(len, ders)) < 4096


# --- anchors ---


@pytest.fixture
def rolled(alone):
    """A fleet with a former root and a former server CA, two servers, and a root that is retired."""
    alone.server("localhost")
    retired = new(alone, "root")
    former = new(alone, "server-ca")
    alone.server("localhost")
    # Nothing hangs on the retired one but the device CA, which goes.
    shutil.rmtree(alone.dir / "device-ca")
    alone.run("init")
    alone.run("ca", "retire", former)
    alone.run("ca", "retire", retired)
    alone.former_root = new(alone, "root")
    alone.former_server_ca = new(alone, "server-ca")
    alone.server("localhost")
    alone.server("broker.example.com")
    (alone.dir / "root/key.pem").unlink()
    return alone


def roots_of(fleet):
    return [certificate(fleet, "root"), certificate(fleet, f"former/{fleet.former_root}")]


def load_all(text):
    found = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", text, re.S)
    return [x509.load_pem_x509_certificate(pem.encode()) for pem in found]


def expected_pins(fleet):
    pins = {
        ("root", name_of(fleet, "root"), "signs"): "root/cert.pem",
        ("root", fleet.former_root, "former"): f"former/{fleet.former_root}/cert.pem",
        ("server-ca", name_of(fleet, "server-ca"), "signs"): "server-ca/cert.pem",
        ("server-ca", fleet.former_server_ca, "former"): f"former/{fleet.former_server_ca}/cert.pem",
    }
    for server in ("localhost", "broker.example.com"):
        pins["server", server, "current"] = f"servers/{server}/cert.pem"
        pins["server", server, "next"] = f"servers/{server}/next-key.pem"
    return {key: key_pin(fleet.dir / path) for key, path in pins.items()}


def test_anchors_are_the_roots_in_force(rolled):
    before = snapshot(rolled.dir)
    text = rolled.run("anchors").stdout
    assert load_all(text) == roots_of(rolled)
    assert f"# {name_of(rolled, 'root')}, which signs now" in text and f"# {rolled.former_root}, the former" in text
    # Ready for a verifier, comments and all.
    (rolled.dir.parent / "anchors.pem").write_text(text)
    leaf = rolled.dir / "servers/localhost/cert.pem"
    assert strictly(rolled, "sslserver", leaf, "server-ca", trusted=rolled.dir.parent / "anchors.pem") is None
    assert snapshot(rolled.dir) == before


def test_anchors_for_a_modem_are_one_command(rolled):
    for options, tag in (([], "16842753"), (["--tag", "42"], "42")):
        text = rolled.run("anchors", "--format", "at", *options).stdout
        match = re.fullmatch(r'AT%CMNG=0,(\d+),0,"([^"]*)"\n', text)
        assert match and match[1] == tag and "\r" not in text
        assert load_all(match[2]) == roots_of(rolled)
        assert re.fullmatch(r"(-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END CERTIFICATE-----\n?)+", match[2])


def test_anchors_for_firmware_compile(rolled, tmp_path):
    (tmp_path / "anchors.h").write_text(rolled.run("anchors", "--format", "c").stdout)
    (tmp_path / "print.c").write_text(
        '#include <stdio.h>\n#include "anchors.h"\n'
        "static const char *const pins[] = { FIELDGATE_PINS };\n"
        "int main(void)\n{\n\tfputs(FIELDGATE_ANCHORS_PEM, stdout);\n"
        "\tfor (size_t i = 0; i < sizeof(pins) / sizeof(*pins); i++)\n\t\tputs(pins[i]);\n}\n"
    )
    subprocess.run(
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "print", tmp_path / "print.c"], check=True
    )
    text = subprocess.run([tmp_path / "print"], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert load_all(text) == roots_of(rolled)
    pins = text[text.rindex("-----END CERTIFICATE-----\n") :].splitlines()[1:]
    assert sorted(pins) == sorted(expected_pins(rolled).values())


def test_anchors_for_programs_are_json(rolled):
    answer = json.loads(rolled.run("anchors", "--format", "json").stdout)
    assert [load_all(root["certificate"])[0] for root in answer["roots"]] == roots_of(rolled)
    assert [root["state"] for root in answer["roots"]] == ["signs", "former"]
    pins = {(pin["kind"], pin["name"], pin["state"]): pin["sha256"] for pin in answer["pins"]}
    assert pins == expected_pins(rolled)


def test_anchors_of_nothing_are_refused(tmp_path):
    refused(Fleet(tmp_path, "").run("anchors", check=False), "fleet init")
