# SPDX-License-Identifier: Apache-2.0
"""Chains of certificates over CoAP: the server's, as long as a modem takes it and renewed while sessions go on;
those of devices, whole or completed by the registry's authorities."""

import re
import secrets
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from harness.coap_client import ClientError
from harness.mqtt import eventually
from harness.pki import Credentials, device_certificate, from_now, validity, write

CHAIN_MAX = 4096
FLIGHT_MAX = 1232 # IPv6's least MTU without headers

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def server_certificate(coap, name="server"):
    """Of the fleet's server CA, for localhost, with another serial and key than the one in use."""
    made = Credentials("localhost", coap.directory / name)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = device_certificate(
        key, "localhost", authority=coap.fleet.authority("server-ca"), uri=False,
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
    )
    write(made, certificate, key)
    return made


def append(credentials, certificate):
    with open(credentials.cert, "ab") as file:
        file.write(certificate.public_bytes(PEM))


def s_client(coap, *options):
    """What openssl s_client says of the handshake; it must be complete, with a certificate that it trusts."""
    result = subprocess.run(
        ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{coap.server.port}", "-showcerts",
         "-CAfile", coap.fleet.ca, "-verify_return_error", "-verify_hostname", "localhost", *options],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, text=True,
    )
    assert "Verify return code: 0 (ok)" in result.stdout, result.stdout + result.stderr
    return result.stdout


def shown(output):
    """The certificates in it."""
    found = re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", output, re.S)
    return [x509.load_pem_x509_certificate(text.encode()) for text in found]


def length(certificates):
    return sum(len(c.public_bytes(DER)) for c in certificates)


def long_chain(coap):
    """Just under 4 kB."""
    made = server_certificate(coap, "long")
    authority, _ = coap.fleet.authority("server-ca")
    chain = [made.certificate, authority]
    append(made, authority)
    while length([*chain, authority]) < CHAIN_MAX:
        chain.append(authority)
        append(made, authority)
    assert CHAIN_MAX - 700 < length(chain) < CHAIN_MAX
    return made, chain


@pytest.mark.parametrize("options", [(), ("-mtu", "1400"), ("-mtu", "300")], ids=["", "mtu 1400", "mtu 300"])
def test_a_server_chain_of_4_kb_reaches_openssl(coap, options):
    made, chain = long_chain(coap)
    coap.started({"coap.certificate_file": made.cert, "coap.key_file": made.key})
    assert length(shown(s_client(coap, *options))) == length(chain)


def test_a_server_chain_of_4_kb_reaches_a_device_in_small_datagrams(coap):
    made, _ = long_chain(coap)
    coap.started({"coap.certificate_file": made.cert, "coap.key_file": made.key})
    coap.devices("dev-1")
    key = coap.jwt_key("dev-2")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    flights = [len(d.bytes) for d in device.received()]
    assert sum(flights) > CHAIN_MAX - 700 and max(flights) <= FLIGHT_MAX
    bad = coap.device(key)
    bad.impair(4, sent={"drop": 0.2}, received={"drop": 0.2, "reorder": 0.2, "delay_ms": 30})
    bad.handshake()


def test_a_server_chain_that_is_too_long_is_refused_at_start(coap):
    made, _ = long_chain(coap)
    for _ in range(2):
        append(made, coap.fleet.authority("server-ca")[0])
    with pytest.raises(RuntimeError, match="more than this build can send"):
        coap.started({"coap.certificate_file": made.cert, "coap.key_file": made.key})


def test_a_renewed_server_certificate_is_for_new_handshakes_and_sessions_go_on(coap):
    server = coap.started()
    coap.devices("dev-1", "dev-2")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    begun = coap.device("dev-2")
    begun.stop_handshake_after(4)
    before = shown(s_client(coap))[0]
    made = server_certificate(coap)
    append(made, coap.fleet.authority("server-ca")[0])
    since = server.log_position()
    server.configure({"coap.certificate_file": made.cert, "coap.key_file": made.key})
    server.sighup()
    server.wait_log("event=reloaded", since)
    after = shown(s_client(coap))[0]
    assert before.serial_number != after.serial_number == made.certificate.serial_number
    # Who had begun with the old one ends with it.
    begun.handshake(go_on=True)
    assert begun.telemetry(1).code == "2.01"
    assert device.telemetry(2).code == "2.01"
    assert not server.log_lines("event=session_closed", since)
    assert coap.connected("dev-1").telemetry(3).code == "2.01"


def test_a_renewed_certificate_in_the_same_files(coap):
    """As fleet renews it: the settings stay, the files change."""
    made = server_certificate(coap)
    append(made, coap.fleet.authority("server-ca")[0])
    server = coap.started({"coap.certificate_file": made.cert, "coap.key_file": made.key})
    before = shown(s_client(coap))[0]
    server_certificate(coap)
    append(made, coap.fleet.authority("server-ca")[0])
    assert shown(s_client(coap))[0].serial_number == before.serial_number
    since = server.log_position()
    server.sighup()
    server.wait_log("event=reloaded", since)
    assert shown(s_client(coap))[0].serial_number == made.certificate.serial_number != before.serial_number


# --- Of devices ---


def root_only(coap):
    """Trust the root alone: the chain between is the device's affair, or the registry's."""
    return coap.started({"coap.client_ca_file": coap.fleet.dir / "root" / "cert.pem"})


def refused(coap, credentials, words):
    since = coap.server.log_position()
    device = coap.device(credentials)
    with pytest.raises(ClientError):
        device.handshake(timeout_ms=5000)
    device.forget()
    (line,) = coap.server.wait_log("event=handshake_refused", since)
    assert words in line


def test_a_device_that_sends_its_chain_needs_only_the_root_to_be_trusted(coap):
    root_only(coap)
    device = coap.devices("dev-1")["dev-1"]
    append(device, coap.fleet.authority("device-ca")[0])
    coap.in_force()
    assert coap.connected(device).telemetry(1).code == "2.01"
    assert coap.connected(device, mtu=300).telemetry(2).code == "2.01"


def new_authority(coap, name, signer, start=0, days=3650):
    """A device CA, as fleet makes the next one: (certificate, key)."""
    certificate, signer_key = signer
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(certificate.subject)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(128) or 1)
        .not_valid_before(from_now(start))
        .not_valid_after(from_now(start + days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
        )
    )
    return builder.sign(signer_key, hashes.SHA256()), key


def issue(coap, authority, id):
    """A device of that CA, registered, which sends its own certificate alone."""
    made = Credentials(id, coap.directory / "devices" / id)
    key = ec.generate_private_key(ec.SECP256R1())
    write(made, device_certificate(key, id, authority=authority), key)
    coap.fleet.register(made)
    return made


def enter(coap, name, certificate):
    """A row of the table authority."""
    coap.query(
        "insert into authority (fingerprint, name, certificate, not_before, not_after) values (%s, %s, %s, %s, %s)",
        certificate.fingerprint(hashes.SHA256()), name, certificate.public_bytes(DER), *validity(certificate),
    )


def test_a_new_device_ca_is_accepted_without_a_reload(coap):
    """Rollover: the CA is registered, its devices send their own certificates alone, and the root is trusted."""
    server = root_only(coap)
    authority = new_authority(coap, "Device CA 2", coap.fleet.authority("root"))
    device = issue(coap, authority, "dev-1")
    coap.in_force()
    refused(coap, device, "it is signed by no CA of this fleet: the issuer is CN=Device CA 2")
    enter(coap, "device-ca-2", authority[0])
    eventually(lambda: accepted(coap, device), 5, "a device of the new CA")
    # The old one's go on, and after SIGHUP all do.
    old = coap.devices("dev-2")["dev-2"]
    enter(coap, "device-ca-1", coap.fleet.authority("device-ca")[0])
    coap.in_force()
    assert accepted(coap, old) and accepted(coap, device)
    since = server.log_position()
    server.sighup()
    server.wait_log("event=reloaded", since)
    assert accepted(coap, old) and accepted(coap, device)
    server.restart()
    assert accepted(coap, old) and accepted(coap, device)
    coap.query("delete from authority where name = 'device-ca-2'")
    eventually(lambda: not accepted(coap, device), 5, "the end of the new CA")
    assert accepted(coap, old)
    assert not server.log_lines("event=authority_ignored")


def accepted(coap, credentials):
    device = coap.device(credentials)
    try:
        device.handshake(timeout_ms=3000)
        return device.telemetry(1).code == "2.01"
    except ClientError:
        return False
    finally:
        device.close()
        device.forget()


def test_who_can_write_into_the_registry_makes_no_ca(coap):
    """What ends at no CA of the file is not believed, whatever the table says."""
    server = root_only(coap)
    device_ca = coap.fleet.authority("device-ca")
    root_key = ec.generate_private_key(ec.SECP256R1())
    forgeries = {
        "a root of its own": new_authority(coap, "Root of a thief", (device_ca[0], device_ca[1])),
        # Of the root's name, with another key.
        "the root's name": new_authority(coap, "CA of a thief", (coap.fleet.authority("root")[0], root_key)),
    }
    devices = []
    for number, (name, authority) in enumerate(forgeries.items()):
        enter(coap, f"forged-{number}", authority[0])
        devices.append(issue(coap, authority, f"dev-{number}"))
    coap.in_force()
    for number in range(len(devices)):
        server.wait_log(f'event=authority_ignored msg="forged-{number}: it is not signed by a CA of coap.client_ca')
    for device in devices:
        assert not accepted(coap, device)


def test_an_authority_is_good_only_as_long_as_its_own_certificate(coap):
    root_only(coap)
    authority = new_authority(coap, "Device CA 3", coap.fleet.authority("root"), start=-20, days=10)
    device = issue(coap, authority, "dev-1")
    enter(coap, "device-ca-3", authority[0])
    coap.in_force()
    refused(coap, device, "Device CA 3, which signed it, expired on ")
