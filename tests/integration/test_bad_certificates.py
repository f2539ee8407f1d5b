# SPDX-License-Identifier: Apache-2.0
"""Each bad certificate is refused over MQTT with its own reason in the log, under TLS 1.2 and 1.3. Most are
registered all the same: what is wrong with a certificate in itself does not become right by a row."""

import re
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness import mqtt
from harness.mqtt import Client, Closed
from harness.pki import OTHER_DEVICE, STRANGER_CA, Credentials, from_now, validity

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"

# What TLS refuses: kind -> what the log says.
BY_TLS = {
    "expired": rf"it expired on {DATE}; issue a new one with `pki/fleet renew dev-1`",
    "not_yet_valid": rf"it is not valid before {DATE}; set the clock",
    "other_ca": "was not signed by the key of the trusted .*CN=.*: it is of another CA of the same name",
    "stranger_ca": f"signed by no CA of this fleet: the issuer is CN={STRANGER_CA};.* cafile",
    "self_signed": r"it is self-signed \(CN=dev-1\).*`pki/fleet add dev-1`",
    "ca_as_leaf": "it is a CA certificate .*`pki/fleet renew dev-1`",
    "wrong_eku": "its extended key usage is serverAuth, not clientAuth",
    "rsa": "its key is not P-256 but rsaEncryption with 2048 bits",
    "p384": "its key is not P-256 but id-ecPublicKey on another curve with 384 bits",
    "server_ca": "is signed by .*, whose extended key usage does not let it sign devices",
    "server_ca_client_eku": "is signed by .*, whose extended key usage does not let it sign devices",
}


@pytest.fixture(params=VERSIONS, ids=["tls1.2", "tls1.3"])
def version(request):
    return request.param


def attempt(stack, broker, credentials, version, client_id="dev-1"):
    """Connect; how it ends: "closed", or the code of the CONNACK."""
    context = stack.tls(credentials, version=version)
    with Client(broker.port, client_id, context) as client:
        try:
            return client.connect().code
        except (Closed, ConnectionError, ssl.SSLError):
            return "closed"


@pytest.mark.parametrize("kind", BY_TLS)
def test_tls_refuses_with_the_reason(stack, version, kind):
    stack.devices("dev-2")
    forged = stack.fleet.forge(kind, "dev-1", stack.directory / "forged")
    stack.fleet.register(forged, "dev-1")
    broker = stack.started()
    assert attempt(stack, broker, forged, version) == "closed"
    (line,) = broker.wait_log("event=tls_")
    assert 'level=warn event=tls_refused msg="client from 127.0.0.1: the certificate of dev-1 is refused: ' in line
    assert re.search(BY_TLS[kind], line), line
    assert "device=" not in line  # nobody has shown a key yet
    # And the others are let in.
    assert attempt(stack, broker, "dev-2", version, "dev-2") == 0


def test_ca_itself_is_no_device(stack, version):
    forged = stack.fleet.forge("device_ca_itself", "dev-1", stack.directory / "forged")
    broker = stack.started()
    assert attempt(stack, broker, forged, version) == "closed"
    (line,) = broker.wait_log("event=tls_refused")
    assert "it is a CA certificate (basicConstraints CA:TRUE)" in line


def refused_by_registry(stack, broker, credentials, version, client_id="dev-1"):
    assert attempt(stack, broker, credentials, version, client_id) == 5
    (line,) = broker.wait_log("event=connect_refused")
    assert broker.log_lines("event=tls_") == []
    return line


def test_name_of_another_device(stack, version):
    stack.devices("dev-1", OTHER_DEVICE)
    forged = stack.fleet.forge("other_name", "dev-1", stack.directory / "forged")
    stack.fleet.register(forged, "dev-1")
    line = refused_by_registry(stack, stack.started(), forged, version)
    assert f"the certificate names {OTHER_DEVICE} but is registered for dev-1" in line


def test_same_name_and_another_key(stack, version):
    stack.devices("dev-1")
    forged = stack.fleet.forge("other_key", "dev-1", stack.directory / "forged")
    line = refused_by_registry(stack, stack.started(), forged, version)
    assert " device=dev-1 " in line
    assert "dev-1 is registered with another certificate: this one is not, and it has 1 other" in line


def test_revoked(stack, version):
    stack.devices("dev-1")
    stack.query("update credential set revoked_at = now()")
    line = refused_by_registry(stack, stack.started(), "dev-1", version)
    assert " device=dev-1 " in line and "this certificate is revoked" in line


def new_device_ca(under):
    """(certificate, key) of a CA of devices that the CA `under`, another such pair, has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer, signer = under
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "second device CA")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(from_now(-1))
        .not_valid_after(from_now(100))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return builder.sign(signer, hashes.SHA256()), key


def register_authority(stack, certificate):
    stack.query(
        "insert into authority (fingerprint, name, certificate, enrolment, not_before, not_after)"
        " values (%s, 'device-ca-2', %s, 'off', %s, %s)",
        certificate.fingerprint(hashes.SHA256()), certificate.public_bytes(serialization.Encoding.DER),
        *validity(certificate),
    )


def test_new_device_ca_under_the_root_needs_no_restart(stack, version):
    ca = new_device_ca(stack.fleet.authority("root"))
    device = Credentials("dev-1", stack.directory / "second" / "dev-1")
    stack.fleet._issue(device, "dev-1", authority=ca)
    stack.fleet.register(device)
    broker = stack.started()
    assert attempt(stack, broker, device, version) == "closed"
    (line,) = broker.wait_log("event=tls_refused")
    assert "signed by no CA of this fleet: the issuer is CN=second device CA" in line
    register_authority(stack, ca[0])
    stack.in_force(broker)
    assert attempt(stack, broker, device, version) == 0


def test_authority_of_the_registry_is_not_trusted_by_itself(stack, version):
    """Who can write the table cannot let in a CA that is under no root of the broker's cafile."""
    root = stack.fleet.authority("root")
    stranger = ec.generate_private_key(ec.SECP256R1())
    ca = new_device_ca((root[0], stranger))
    device = Credentials("dev-1", stack.directory / "second" / "dev-1")
    stack.fleet._issue(device, "dev-1", authority=ca)
    stack.fleet.register(device)
    register_authority(stack, ca[0])
    broker = stack.started()
    assert attempt(stack, broker, device, version) == "closed"
    (line,) = broker.wait_log("event=tls_refused")
    assert "its issuer CN=second device CA was not signed by the key of the trusted" in line


def test_no_certificate(stack, version):
    broker = stack.started()
    assert attempt(stack, broker, None, version) == "closed"
    (line,) = broker.wait_log("event=tls_refused")
    assert "client from 127.0.0.1: it shows no certificate; give it its certificate and key" in line


def test_device_that_does_not_trust_the_server(stack, version, tmp_path):
    stack.devices("dev-1")
    other = stack.fleet.forge("self_signed", "dev-1", tmp_path)
    broker = stack.started()
    credentials = stack.credentials["dev-1"]
    context = mqtt.tls_context(other.cert, (credentials.cert, credentials.key), version)
    with pytest.raises(Closed):
        Client(broker.port, "dev-1", context).connect()
    (line,) = broker.wait_log("event=tls_failed")
    assert "level=warn" in line
    assert "it does not trust this server (alert: unknown CA)" in line and "ca.pem" in line


def test_no_common_cipher_suite_or_version(stack):
    stack.devices("dev-1")
    broker = stack.started()
    old = stack.tls("dev-1", version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(Closed):
        Client(broker.port, "dev-1", old).connect()
    (line,) = broker.wait_log("event=tls_refused")
    assert "no version of TLS that this listener accepts" in line and "TLS 1.2 is the least" in line
    rsa = stack.tls("dev-1", version=ssl.TLSVersion.TLSv1_2)
    rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with pytest.raises(Closed):
        Client(broker.port, "dev-1", rsa).connect()
    line = broker.wait_log("event=tls_refused", count=2)[1]
    assert "offers no cipher suite" in line and "docs/tls.md" in line


def test_what_is_no_tls_is_no_warning(stack):
    broker = stack.started()
    with Client(broker.port, "dev-1") as plain:
        with pytest.raises(Closed):
            plain.connect()
    (line,) = broker.wait_log("event=tls_failed")
    assert "level=info" in line and "the handshake failed: wrong version number" in line


def test_a_flood_of_bad_certificates_is_ten_lines(stack):
    forged = stack.fleet.forge("expired", "dev-1", stack.directory / "forged")
    broker = stack.started()
    for _ in range(30):
        assert attempt(stack, broker, forged, ssl.TLSVersion.TLSv1_2) == "closed"
    assert len(broker.log_lines("event=tls_refused")) in range(10, 21)
