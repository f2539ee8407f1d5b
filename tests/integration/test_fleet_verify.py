# SPDX-License-Identifier: Apache-2.0
"""fleet verify, and fieldgate-cert's verify and crl: every fault of a certificate has its own line, with the file, what
is wrong and what to do; a good certificate has none."""

import datetime
import pathlib
import re
import secrets
import shutil
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.pki import CERT, DAY, FORGERIES, OTHER_DEVICE, Fleet, from_now, serial_text, validity  # noqa: E402
from harness.postgres import fresh_database  # noqa: E402

NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    fleet = Fleet(tmp_path_factory.mktemp("authorities") / "pki", "").init()
    fleet.server("localhost", "127.0.0.1")
    return fleet.dir


@pytest.fixture
def fleet(authorities, tmp_path):
    """Without a registry."""
    return Fleet(shutil.copytree(authorities, tmp_path / "pki"), "")


@pytest.fixture
def registered(authorities, tmp_path):
    """With one."""
    with fresh_database() as database:
        fleet = Fleet(shutil.copytree(authorities, tmp_path / "pki"), database.url())
        fleet.query = database.query
        yield fleet


def faults(fleet, file, *arguments):
    """What `fleet verify` says of the file, without its name; that it is all that it says; [] when it is good."""
    result = fleet.run("verify", *(arguments or [file]), check=False)
    lines = result.stdout.splitlines()
    assert lines and all(line.startswith(f"{file}: ") for line in lines), result.stdout + result.stderr
    texts = [line.removeprefix(f"{file}: ") for line in lines]
    if texts[0].startswith("good: "):
        assert len(texts) == 1 and result.returncode == 0
        return []
    assert result.returncode == 1 and "certificates are not good" in result.stderr
    for text in texts:
        # What is wrong; what to do.
        assert re.search(r"\S; \w+", text), text
    return texts


def has(texts, *words):
    assert any(all(word in text for word in words) for text in texts), texts


def test_everything_that_fleet_makes_is_good(registered):
    registered.add("dev-1", "dev-2")
    registered.add("grafana", service=True)
    registered.run("ca", "new", "server-ca")
    registered.server("other.example", "::1")
    registered.run("ca", "new", "device-ca")
    registered.add("dev-3")
    registered.mint(["dev-4"])
    result = registered.run("verify", "--all")
    lines = result.stdout.splitlines()
    assert all(": good: " in line for line in lines)
    assert len(lines) == 3 + 2 + 2 + 5
    for kind in ("good: CA /O=Fieldgate/CN=", "good: device dev-3, ", "good: server localhost, "):
        assert any(kind in line for line in lines)
    registered.run("verify", "server", "localhost", "other.example")
    registered.run("verify", "dev-1", "grafana")


FAULTS = {
    "other_ca": ["another CA of the same name"],
    "stranger_ca": ["signed by no CA of this fleet"],
    "self_signed": ["self-signed"],
    "expired": ["expired on"],
    "not_yet_valid": ["not valid before"],
    "wrong_eku": ["extended key usage is serverAuth"],
    "ca_as_leaf": ["CA certificate"],
    "device_ca_itself": ["CA certificate"],
    "server_ca": ["extended key usage is serverAuth"],
    "server_ca_client_eku": ["server CA"],
    "other_name": [OTHER_DEVICE, "not of dev-1"],
    "no_cn": ["no common name"],
    "no_name": ["neither a common name nor a URI"],
    "two_cns": ["several common names"],
    "cn_only": ["alternative name is not one URI"],
    "cn_and_san_disagree": ["common name is dev-1", OTHER_DEVICE],
    "bad_id": ["not a device id"],
    "rsa": ["not P-256"],
    "p384": ["not P-256"],
}


@pytest.mark.parametrize("kind", [kind for kind in FORGERIES if kind != "other_key"])
def test_each_forged_certificate_has_its_fault(fleet, kind):
    bad = fleet.forge(kind, "dev-1", directory=fleet.dir / "devices")
    has(faults(fleet, bad.cert, "dev-1"), *FAULTS[kind])


# --- what a TLS library does not mind ---


def certificate(fleet, id="dev-1", authority="device-ca", *, eku=(ExtendedKeyUsageOID.CLIENT_AUTH,), serial=None,
                days=30, algorithm=None, usage=("digital_signature",), uris=None, without=(), akid=None,
                critical=True, names=None):  # fmt: skip
    """A device's certificate as fleet makes it, with the differences that are asked for; its file."""
    issuer, signer = fleet.authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    flags = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        False,
    ) | dict.fromkeys(usage, True)  # fmt: skip
    names = names or [x509.UniformResourceIdentifier(f"urn:fieldgate:device:{uri}") for uri in uris or [id]]
    extensions = {
        "basicConstraints": (x509.BasicConstraints(ca=False, path_length=None), critical),
        "keyUsage": (x509.KeyUsage(**flags), critical),
        "extendedKeyUsage": (x509.ExtendedKeyUsage(eku), False),
        "subjectAltName": (x509.SubjectAlternativeName(names), False),
        "subjectKeyIdentifier": (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        "authorityKeyIdentifier": (
            akid or x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False),
    }  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, id)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(serial or secrets.randbits(127) | 1 << 127)
        .not_valid_before(from_now(-1))
        .not_valid_after(from_now(days))
    )
    for name, (value, is_critical) in extensions.items():
        if name not in without:
            builder = builder.add_extension(value, critical=is_critical)
    made = builder.sign(signer, algorithm or hashes.SHA256())
    directory = fleet.dir / "devices" / id
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return directory / "cert.pem"


def test_the_same_without_a_difference_is_good(fleet):
    assert faults(fleet, certificate(fleet)) == []


OTHER_KEY = x509.AuthorityKeyIdentifier(b"\1" * 20, None, None)
UNUSUAL = {
    "two_purposes": ({"eku": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]}, "2 extended key"),
    "no_purpose": ({"without": ["extendedKeyUsage"]}, "0 extended key"),
    "counted_serial": ({"serial": 4711}, "13 bits only"),
    "long_serial": ({"serial": 1 << 158}, None),
    "sha384": ({"algorithm": hashes.SHA384()}, "ecdsa-with-SHA384"),
    "more_usages": ({"usage": ["digital_signature", "key_agreement"]}, "digitalSignature alone"),
    "no_usage": ({"without": ["keyUsage"]}, "no keyUsage"),
    "no_constraints": ({"without": ["basicConstraints"]}, "no basicConstraints"),
    "not_critical": ({"critical": False}, "keyUsage is not marked critical"),
    "no_skid": ({"without": ["subjectKeyIdentifier"]}, "no subject key identifier"),
    "no_akid": ({"without": ["authorityKeyIdentifier"]}, "no authority key identifier"),
    "other_akid": ({"akid": OTHER_KEY}, "authority key identifier is not the key"),
    "two_uris": ({"uris": ["dev-1", "dev-2"]}, "several names urn:fieldgate"),
    "host_name": ({"names": [x509.DNSName("dev-1")]}, "alternative name is not one URI"),
    "longer_than_its_ca": ({"days": 9000}, "longer than its CA"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_each_deviation_from_the_profile_is_a_fault(fleet, kind):
    changes, words = UNUSUAL[kind]
    found = faults(fleet, certificate(fleet, **changes))
    if words:
        has(found, words)
    else:
        assert found == []


def authority_with(fleet, path_length):
    """The certificate of the device CA, with this path length."""
    genuine, key = fleet.authority("device-ca")
    root, signer = fleet.authority("root")
    builder = (
        x509.CertificateBuilder().subject_name(genuine.subject).issuer_name(root.subject)
        .public_key(genuine.public_key()).serial_number(genuine.serial_number)
        .not_valid_before(validity(genuine)[0]).not_valid_after(validity(genuine)[1])
    )  # fmt: skip
    for extension in genuine.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints):
            value = x509.BasicConstraints(True, path_length)
        builder = builder.add_extension(value, extension.critical)
    file = fleet.dir / "device-ca" / "cert.pem"
    file.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize("path_length", [None, 1])
def test_a_ca_that_may_make_cas_is_a_fault(fleet, path_length):
    has(faults(fleet, authority_with(fleet, path_length)), "more CAs")


# --- servers ---


def test_a_server_is_verified_for_the_name_that_clients_use(fleet):
    chain, _ = fleet.server_files("localhost")
    assert faults(fleet, chain, "server", "localhost") == []
    shutil.copytree(fleet.dir / "servers/localhost", fleet.dir / "servers/other.example")
    moved = fleet.dir / "servers/other.example/chain.pem"
    has(faults(fleet, moved, "server", "other.example"), "not that of other.example", "DNS:localhost,IP:127.0.0.1")


def test_the_order_of_a_servers_chain_counts(fleet):
    chain, _ = fleet.server_files("localhost")
    ca, root = ((fleet.dir / name / "cert.pem").read_text() for name in ("server-ca", "root"))
    leaf = (fleet.dir / "servers/localhost/cert.pem").read_text()
    chain.write_text(leaf + root + ca)
    has(faults(fleet, chain, "server", "localhost"), "does not follow")
    # A chain that no modem takes.
    chain.write_text(leaf + ca + root * 8)
    has(faults(fleet, chain, "server", "localhost"), "bytes, and a modem takes less than 4096")


# --- revocation, the registry ---


def crl(fleet, text, number=1, days=7, authority="device-ca", check=True):
    (fleet.dir / "crl").mkdir(exist_ok=True)
    return subprocess.run(
        [CERT, "crl", "--ca", fleet.dir / authority, "--days", str(days), "--number", str(number),
         "--out", fleet.dir / "crl" / f"{authority}.pem"],
        input=text, text=True, check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip


def test_crl_is_as_rfc_5280_has_it_and_verify_believes_it(fleet):
    good, bad = certificate(fleet, "good"), certificate(fleet, "bad")
    serial = serial_text(x509.load_pem_x509_certificate(bad.read_bytes()).serial_number)
    other = "0f" * 16
    crl(fleet, f"{serial}\t2026-01-31T12:00:00Z\tkeyCompromise\n{other}\t2026-02-01 00:00:00.5+00\tunspecified\n", 41)
    has(faults(fleet, bad), "revoked on 2026-01-31T12:00:00Z")
    assert faults(fleet, good) == []

    made = x509.load_pem_x509_crl((fleet.dir / "crl/device-ca.pem").read_bytes())
    ca, _ = fleet.authority("device-ca")
    assert made.issuer == ca.subject and made.is_signature_valid(ca.public_key())
    assert isinstance(made.signature_hash_algorithm, hashes.SHA256)
    assert made.next_update - made.last_update == 7 * DAY
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 41
    akid = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    skid = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert akid.key_identifier == skid.digest
    entry = made.get_revoked_certificate_by_serial_number(int(serial, 16))
    assert entry.revocation_date == datetime.datetime(2026, 1, 31, 12)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise
    # RFC 5280 section 5.3.1: no reason rather than `unspecified`.
    assert len(made.get_revoked_certificate_by_serial_number(int(other, 16)).extensions) == 0
    result = subprocess.run(
        ["openssl", "verify", "-crl_check", "-CAfile", fleet.ca, "-untrusted", fleet.dir / "device-ca/cert.pem",
         "-CRLfile", fleet.dir / "crl/device-ca.pem", bad],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "certificate revoked" in result.stderr


def test_an_empty_crl_is_written_and_replaced(fleet):
    crl(fleet, "", 1)
    crl(fleet, "", 2)
    assert [path.name for path in (fleet.dir / "crl").iterdir()] == ["device-ca.pem"]
    assert faults(fleet, certificate(fleet)) == []


def test_a_crl_of_another_key_is_not_believed(fleet):
    file = certificate(fleet)
    crl(fleet, "")
    genuine = (fleet.dir / "crl/device-ca.pem").read_bytes()
    ca, _ = fleet.authority("device-ca")
    forged = (
        x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
        .last_update(from_now(-1)).next_update(from_now(1))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )  # fmt: skip
    (fleet.dir / "crl/device-ca.pem").write_bytes(forged.public_bytes(serialization.Encoding.PEM))
    has(faults(fleet, file), "revocation list", "not signed by it")
    (fleet.dir / "crl/device-ca.pem").write_bytes(genuine)
    assert faults(fleet, file) == []


@pytest.mark.parametrize("line", ["xy\t2026-01-31T12:00:00Z\n", "01\t2026-01-31\n", "01\tyesterday\n", "01\n",
                                  "01\t2026-01-31T12:00:00Z\tboredom\n", "01\t2026-01-31T12:00:00+01\n",
                                  "01" * 21 + "\t2026-01-31T12:00:00Z\n"])  # fmt: skip
def test_bad_lines_make_no_crl(fleet, line):
    result = crl(fleet, line, check=False)
    assert result.returncode == 1 and "stdin, line 1" in result.stderr
    assert list((fleet.dir / "crl").iterdir()) == []


def test_the_registry_is_asked(registered):
    good, revoked, locked = registered.add("good", "revoked", "locked")
    stray = certificate(registered, "stray")
    fingerprint = revoked.fingerprint.hex()
    registered.run("revoke", "revoked", "--credential", fingerprint, "--reason", "keyCompromise")
    registered.query("update fieldgate.principal set state = 'revoked' where id = 'locked'")
    has(faults(registered, revoked.cert, "revoked"), "revoked on", "keyCompromise", "registry")
    has(faults(registered, locked.cert, "locked"), "its owner locked is revoked")
    has(faults(registered, stray, "stray"), "the registry does not know it")
    has(faults(registered, stray), "the registry does not know it")
    assert faults(registered, good.cert, "good") == []
    result = registered.run("verify", "--all", check=False)
    assert "3 of 8 certificates are not good" in result.stderr
    registered.database_url = ""
    assert faults(registered, revoked.cert, "revoked") == []


def test_a_certificate_in_the_directory_of_another_is_a_fault(registered):
    registered.add("dev-1", "dev-2")
    shutil.copy(registered.dir / "devices/dev-1/cert.pem", registered.dir / "devices/dev-2/cert.pem")
    result = registered.run("verify", "--all", check=False)
    assert result.returncode == 1
    has(result.stdout.splitlines(), "devices/dev-2/cert.pem: it is that of another device, dev-1")


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nMIIB\n", b"\x30\x03\x02\x01\x00"])
def test_what_is_no_certificate_is_said(fleet, content):
    file = fleet.dir / "x.pem"
    file.write_bytes(content)
    good = certificate(fleet)
    result = fleet.run("verify", good, file, check=False)
    assert result.returncode == 1
    assert f"{good}: good: " in result.stdout and f"{file} " in result.stdout


def test_unknown_names_and_wrong_usage(fleet):
    for arguments, status in ((["nobody"], 1), (["server", "nobody"], 1), (["server"], 2), ([], 2), (["--all", "x"], 2)):
        assert fleet.run("verify", *arguments, check=False).returncode == status
