# SPDX-License-Identifier: Apache-2.0
"""CAs and servers' certificates are replaced while a broker and a CoAP server run: who is accepted when, what stays
connected, and what devices must trust."""

import shutil
import socket
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from harness import mqtt
from harness.coap_client import ClientError
from harness.mqtt import Closed, eventually
from harness.pki import Credentials, serial_text

WITHIN_S = 5


@pytest.fixture
def authorities(authorities, tmp_path):
    """A directory of this test's own: it changes its CAs."""
    return shutil.copytree(authorities, tmp_path / "pki")


def new(fleet, kind):
    """Another CA of this kind signs; the name of the former one."""
    serial = Credentials(kind, fleet.dir / kind).certificate.serial_number
    fleet.run("ca", "new", kind)
    return f"{kind}-{serial_text(serial)[-8:]}"


def server_of(fleet):
    return Credentials("localhost", fleet.dir / "servers/localhost")


def copy(fleet, name):
    """ca.pem as it is now, as a device keeps it."""
    return shutil.copy(fleet.ca, fleet.dir.parent / f"{name}.pem")


# --- MQTT ---


def attempt(stack, broker, credentials, trusted=None):
    """A client with its CONNACK's code; Closed when TLS refuses, on either side."""
    tls = mqtt.tls_context(trusted or stack.fleet.ca, (credentials.cert, credentials.key))
    client = mqtt.Client(broker.port, credentials.id, tls)
    stack.cleanup.callback(client.drop)
    return client.connect().code


def accepts(stack, broker, credentials):
    try:
        return attempt(stack, broker, credentials) == 0
    except Closed:
        return False


def test_the_fault_of_a_certificate_is_told_however_many_authorities_there_are(stack):
    """None of them but the first is in the file that the broker has read."""
    broker = stack.started()
    for _ in range(10):
        new(stack.fleet, "device-ca")
    stack.in_force(broker)
    expired = stack.fleet.forge("expired", "dev-1", stack.directory / "expired")
    with pytest.raises(Closed):
        attempt(stack, broker, expired)
    (line,) = broker.wait_log("event=tls_refused .*dev-1")
    assert "it expired on" in line


def shown_by_broker(broker, credentials, trusted):
    """Its certificate; ssl.SSLCertVerificationError when `trusted` does not do for it."""
    context = mqtt.tls_context(trusted, (credentials.cert, credentials.key))
    with socket.create_connection(("127.0.0.1", broker.port), 10) as plain:
        with context.wrap_socket(plain) as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(True))


def reload_broker(broker):
    since = broker.log_position()
    broker.sighup()
    broker.wait_log("Reloading config", since)


def test_broker_accepts_devices_of_the_former_and_the_new_device_ca(stack):
    fleet = stack.fleet
    (old,) = fleet.add("old-1")
    broker = stack.started()
    live = {"old-1": stack.client(broker, "old-1", old).accepted()}
    name = new(fleet, "device-ca")
    (young,) = fleet.add("new-1")
    # The broker hears of the new one from the registry; nobody restarts it, or touches its files.
    eventually(lambda: accepts(stack, broker, young), WITHIN_S, "the acceptance of a new CA's device")
    live["new-1"] = stack.client(broker, "new-1", young).accepted()
    live["old-1"].ping()
    assert fleet.run("ca", "retire", name, check=False).returncode == 1
    for client in live.values():
        client.ping()

    fleet.run("ca", "retire", name, "--force")
    # The registry says so, before anybody touches the broker.
    live["old-1"].wait_closed(WITHIN_S)
    live["new-1"].ping()
    eventually(lambda: not accepts(stack, broker, old), WITHIN_S, "the refusal of a retired CA's device")
    broker.restart()
    assert accepts(stack, broker, young)
    # Now in TLS already.
    with pytest.raises(Closed):
        attempt(stack, broker, old)


def test_device_with_both_roots_accepts_a_broker_of_either(stack):
    fleet = stack.fleet
    (device,) = fleet.add("dev-1")
    broker = stack.started()
    before = copy(fleet, "before")
    live = stack.client(broker, "dev-1", device, client_id="dev-1").accepted()
    new(fleet, "root")
    both = copy(fleet, "both")
    new(fleet, "server-ca")
    first = shown_by_broker(broker, device, both)
    assert first == shown_by_broker(broker, device, before) == server_of(fleet).certificate

    fleet.server("localhost", "127.0.0.1")
    reload_broker(broker)
    eventually(lambda: shown_by_broker(broker, device, both) != first, WITHIN_S, "the new certificate")
    assert shown_by_broker(broker, device, both) == server_of(fleet).certificate
    with pytest.raises(ssl.SSLCertVerificationError):
        shown_by_broker(broker, device, before)
    live.ping()
    assert attempt(stack, broker, device, both) == 0


@pytest.mark.parametrize("how", ["--renew", "--new-key"])
def test_broker_shows_a_renewed_certificate_after_sighup_and_closes_nothing(stack, how):
    fleet = stack.fleet
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    live = stack.connected(broker, "dev-1")
    device = stack.credentials["dev-2"]
    before = shown_by_broker(broker, device, fleet.ca)
    following = fleet.run("anchors", "--format", "json").stdout
    fleet.run("server", "localhost", "127.0.0.1", how)
    # Files alone change nothing.
    assert shown_by_broker(broker, device, fleet.ca) == before
    reload_broker(broker)
    eventually(lambda: shown_by_broker(broker, device, fleet.ca) != before, WITHIN_S, "the new certificate")
    after = shown_by_broker(broker, device, fleet.ca)
    assert after == server_of(fleet).certificate and after.serial_number != before.serial_number
    assert (pin(after) == pin(before)) == (how == "--renew")
    assert pin(after) in following
    assert live.publish("m/d/dev-1/d2c", b'{"light": 1}') == 0
    assert stack.connected(broker, "dev-2").publish("m/d/dev-2/d2c", b'{"light": 2}') == 0
    assert not broker.log_lines("event=session_closed")


def pin(certificate):
    return subprocess.run(
        "openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64",
        shell=True, check=True, input=certificate.public_bytes(Encoding.PEM), stdout=subprocess.PIPE,
    ).stdout.decode().strip()  # fmt: skip


# --- CoAP ---


def reload_coap(server):
    since = server.log_position()
    server.sighup()
    server.wait_log("event=reloaded", since)


def shakes_hands(coap, credentials, **options):
    device = coap.device(credentials, **options)
    try:
        device.handshake(timeout_ms=5000)
        return True
    except ClientError:
        return False
    finally:
        device.forget()


def shown_by_coap(server, trusted):
    """Its certificate, as openssl sees it; None when `trusted` does not do for it."""
    command = ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{server.port}", "-CAfile", trusted]
    command += ["-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost"]
    result = subprocess.run(command, input=b"", stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    if b"Verify return code: 0 (ok)" not in result.stdout:
        assert b"verify error" in result.stderr, result.stderr
        return None
    return x509.load_pem_x509_certificate(result.stdout)


def test_coap_accepts_devices_of_the_former_and_the_new_device_ca(coap):
    fleet = coap.fleet
    (old,) = fleet.add("old-1")
    server = coap.started()
    live = coap.connected(old)
    assert live.telemetry(1).code == "2.01"
    name = new(fleet, "device-ca")
    (young,) = fleet.add("new-1")
    # The server hears of the new one from the registry.
    coap.in_force()
    assert live.telemetry(2).code == "2.01"
    assert coap.connected(young).telemetry(1).code == "2.01"
    assert coap.connected(old).telemetry(3).code == "2.01"

    fleet.run("ca", "retire", name, "--force")
    assert live.closed(WITHIN_S) is not None
    eventually(lambda: not shakes_hands(coap, old), WITHIN_S, "the refusal of a retired CA's device")
    reload_coap(server)
    assert not shakes_hands(coap, old)
    assert coap.connected(young).telemetry(2).code == "2.01"


def test_device_with_both_roots_accepts_a_coap_server_of_either(coap):
    fleet = coap.fleet
    coap.jwt_key("dev-1")
    server = coap.started()
    before = copy(fleet, "before")
    live = coap.connected("dev-1")
    new(fleet, "root")
    both = copy(fleet, "both")
    new(fleet, "server-ca")
    assert shakes_hands(coap, "dev-1", ca=before) and shakes_hands(coap, "dev-1", ca=both)
    fleet.server("localhost", "127.0.0.1")
    reload_coap(server)
    assert shakes_hands(coap, "dev-1", ca=both)
    assert not shakes_hands(coap, "dev-1", ca=before)
    assert live.telemetry(1).code == "2.01"


def test_coap_workers_show_a_certificate_for_the_next_key_after_sighup_and_close_nothing(coap):
    fleet = coap.fleet
    coap.jwt_key("dev-1")
    coap.psk("dev-2")
    server = coap.started({"coap.workers": 2})
    live = [coap.connected("dev-1"), coap.connected("dev-2")]
    before = shown_by_coap(server, fleet.ca)
    assert before == server_of(fleet).certificate
    fleet.run("server", "localhost", "127.0.0.1", "--new-key")
    assert shown_by_coap(server, fleet.ca) == before
    reload_coap(server)
    server.wait_log("event=reloaded", count=2)
    after = [shown_by_coap(server, fleet.ca) for _ in range(8)]
    assert set(after) == {server_of(fleet).certificate} != {before}
    assert [device.telemetry(1).code for device in live] == ["2.01", "2.01"]
    assert coap.connected("dev-1").telemetry(2).code == "2.01"
