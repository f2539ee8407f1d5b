# SPDX-License-Identifier: Apache-2.0
"""Credentials that end while their device is connected, or between two connections that TLS joins."""

import datetime
import hashlib
import ssl
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harness.mqtt import Client, Closed
from harness.pki import Credentials, validity

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def short_lived(stack, id, seconds):
    """A device with a certificate that is good for so long."""
    credentials = Credentials(id, stack.directory / "short" / id)
    stack.fleet._issue(
        credentials, id, start=now() - datetime.timedelta(1), end=now() + datetime.timedelta(seconds=seconds)
    )
    stack.fleet.register(credentials)
    stack.credentials[id] = credentials
    return credentials.certificate


def closed_for_it(stack, broker, id):
    (line,) = broker.wait_log("event=session_closed")
    assert f" device={id} " in line and "its credential has expired since it connected" in line
    stack.wait_rows(
        "select 1 from presence_event where device = %s and event = 'disconnected' and reason = %s",
        id, "its credential expired",
    )


def test_connection_ends_with_its_certificate(stack):
    short_lived(stack, "dev-1", 6)
    stack.devices("dev-2")
    broker = stack.started()
    other = stack.connected(broker, "dev-2")
    start = time.monotonic()
    client = stack.connected(broker, "dev-1")
    assert client.publish("m/d/dev-1/d2c") == 0
    client.wait_closed(timeout=15)
    assert time.monotonic() - start > 3
    closed_for_it(stack, broker, "dev-1")
    with pytest.raises(Closed):
        stack.client(broker, "dev-1").connect()
    broker.wait_log("event=tls_refused.*it expired on")
    assert other.publish("m/d/dev-2/d2c") == 0


def test_connection_ends_when_the_registry_says_so(stack):
    stack.devices("dev-1")
    stack.query("update credential set not_after = now() + interval '5 seconds'")
    broker = stack.started()
    stack.connected(broker, "dev-1").wait_closed(timeout=15)
    closed_for_it(stack, broker, "dev-1")
    assert stack.client(broker, "dev-1").connect().code == 5
    assert "its certificate has expired, on " in broker.wait_log("event=connect_refused")[0]


def resumed(stack, broker, id, version):
    """Connect, and once more in the same TLS session: that socket, and the context."""
    context = stack.tls(id, version=version)
    with Client(broker.port, id, context).accepted() as first:
        first.ping()  # The tickets of TLS 1.3 have come.
        return context, first.socket.session


def connect_resumed(broker, id, context, session):
    client = Client(broker.port, id)
    plain = client.open().socket
    client.socket = context.wrap_socket(plain, session=session)
    assert client.socket.session_reused
    return client


@pytest.mark.parametrize("version", VERSIONS, ids=["tls1.2", "tls1.3"])
@pytest.mark.parametrize("by", ["certificate", "key"])
def test_resumed_session_of_an_expired_certificate_is_refused(stack, version, by):
    certificate = short_lived(stack, "dev-1", 6)
    if by == "key":
        stack.query("update credential set kind = 'x509_key', not_before = null, not_after = null, fingerprint = %s",
                    key_fingerprint(certificate))
    broker = stack.started()
    context, session = resumed(stack, broker, "dev-1", version)
    with connect_resumed(broker, "dev-1", context, session) as again:
        assert again.connect().code == 0
    while now() <= validity(certificate)[1]:
        time.sleep(0.2)
    with connect_resumed(broker, "dev-1", context, session) as late:
        assert late.connect().code == 5
    (line,) = broker.wait_log("event=connect_refused")
    assert " device=dev-1 " in line and "its certificate has expired" in line


@pytest.mark.parametrize("version", VERSIONS, ids=["tls1.2", "tls1.3"])
def test_resumed_session_of_a_revoked_certificate_is_refused(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    context, session = resumed(stack, broker, "dev-1", version)
    stack.query("update credential set revoked_at = now()")
    stack.in_force(broker)
    with connect_resumed(broker, "dev-1", context, session) as late:
        assert late.connect().code == 5
    assert "this certificate is revoked" in broker.wait_log("event=connect_refused device=dev-1")[0]


def key_fingerprint(certificate):
    return hashlib.sha256(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()
