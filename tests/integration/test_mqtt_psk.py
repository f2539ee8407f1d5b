# SPDX-License-Identifier: Apache-2.0
"""Devices that have a pre-shared key and no certificate, over MQTT. What must never be: that somebody is let in
who has not finished a handshake with that key himself."""

import contextlib
import re
import secrets
import subprocess

import pytest

from harness.coap import make_psk, register
from harness.mqtt import Client, Closed
from harness.psk import PskClient, SplitKeyExchange

AEAD = "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:ECDHE-PSK-CHACHA20-POLY1305:@SECLEVEL=0"
CBC = AEAD + ":PSK-AES128-CBC-SHA256:PSK-AES128-CBC-SHA"


class Psks:
    """Brokers with a listener for pre-shared keys, and keys of devices."""

    def __init__(self, stack):
        self.stack = stack
        self.master_key = secrets.token_bytes(32)
        self.file = stack.directory / "master.key"
        self.file.touch(mode=0o600)
        self.file.write_text(self.master_key.hex() + "\n")

    def broker(self, psk=AEAD, settings=None, **options):
        settings = {"secrets.key_file": self.file, **(settings or {})}
        return self.stack.started(psk=psk, settings=settings, **options)

    def keys(self, *ids, **options):
        made = [make_psk(id, length=32) for id in ids]
        with contextlib.closing(self.stack.postgres.connect(dbname=self.stack.database)) as connection:
            register(connection, made, self.master_key, **options)
        return made[0] if len(made) == 1 else made

    def client(self, broker, psk, *options, client_id=None, port=None, **arguments):
        client = PskClient(port or broker.psk_port, client_id or psk.id, psk, *options, **arguments)
        self.stack.cleanup.callback(client.drop)
        return client


@pytest.fixture
def psks(stack):
    return Psks(stack)


def wrong(psk):
    return make_psk(psk.id, psk.identity, key=secrets.token_bytes(32))


@pytest.mark.parametrize(
    "suite", ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-CBC-SHA256"]
)
def test_device_with_a_pre_shared_key_is_let_in(psks, suite):
    psk = psks.keys("dev-1")
    broker = psks.broker(CBC)
    with psks.client(broker, psk, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0").accepted() as client:
        assert client.publish("m/d/dev-1/d2c", b'{"temperature": 7}') == 0
        assert client.subscribe("m/d/dev-1/c2d") == 1
        assert client.subscribe("m/d/dev-2/c2d") == 0x80
    psks.stack.wait_rows("select 1 from telemetry where device = 'dev-1' and temperature = 7")


def test_mosquitto_pub(psks):
    psk = psks.keys("dev-1")
    broker = psks.broker()
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", broker.psk_port, "-i", "dev-1", "-q", "1"]
    command += ["--psk-identity", psk.identity.decode(), "--psk", psk.key.hex(), "--tls-version", "tlsv1.2"]
    command += ["-t", "m/d/dev-1/d2c", "-m", '{"temperature": 8}']
    subprocess.run(list(map(str, command)), check=True, timeout=30)
    psks.stack.wait_rows("select 1 from telemetry where device = 'dev-1' and temperature = 8")


def test_suites_that_are_not_asked_for_and_tls_13_are_refused(psks):
    psk = psks.keys("dev-1")
    broker = psks.broker()
    with pytest.raises(Closed):
        psks.client(broker, psk, "-tls1_2", "-cipher", "PSK-AES128-CBC-SHA256").connect()
    (line,) = broker.wait_log("event=tls_refused")
    assert "offers no cipher suite" in line
    with pytest.raises(Closed):
        psks.client(broker, psk, "-tls1_3").connect()
    assert "no version of TLS" in broker.wait_log("event=tls_refused", count=2)[1]


def test_wrong_key_and_unknown_identity_look_the_same_from_outside(psks):
    psk = psks.keys("dev-1")
    broker = psks.broker()
    said = []
    for other in wrong(psk), make_psk("dev-9"):
        client = psks.client(broker, other, client_id="dev-1")
        connection = client.open().socket
        with pytest.raises(Closed):
            client.connect()
        said.append(re.findall("alert (.*?):", connection.said))
    assert said[0] == said[1] and len(said[0]) == 1, said
    wrong_key, unknown = broker.wait_log("event=tls_refused", count=2)
    assert "wrong pre-shared key for the identity 'psk-dev-1'" in wrong_key and "device=" not in wrong_key
    assert "the PSK identity 'psk-dev-9' is not registered" in unknown


@pytest.mark.parametrize("state", ["pending", "suspended", "revoked"])
def test_device_that_is_not_active_is_refused(psks, state):
    psk = psks.keys("dev-1", state=state)
    broker = psks.broker()
    with pytest.raises(Closed):
        psks.client(broker, psk).connect()
    (line,) = broker.wait_log("event=tls_refused")
    assert " device=dev-1 " in line and state in line


def test_client_id_of_another_device_is_refused(psks):
    psk, _ = psks.keys("dev-1", "dev-2")
    broker = psks.broker()
    assert psks.client(broker, psk, client_id="dev-2").connect().code == 5
    (line,) = broker.wait_log("event=connect_refused")
    assert " device=dev-1 " in line and "the client id must be dev-1" in line


def test_asking_for_a_key_is_no_proof(psks):
    """Handshakes with a known identity and a wrong key; then others connect without any, in the memory that the
    broker has used for the first, and while such handshakes are under way."""
    psk = psks.keys("dev-1")
    broker = psks.broker(plain=True)
    for _ in range(20):
        with pytest.raises(Closed):
            psks.client(broker, wrong(psk)).connect()
        with Client(broker.plain_port, "dev-1", username="dev-1", password="x") as anonymous:
            assert anonymous.connect().code == 5
        with Client(broker.plain_port, "dev-1") as anonymous:
            assert anonymous.connect().code == 5
    assert all("no certificate" in line for line in broker.wait_log("event=connect_refused"))
    with SplitKeyExchange(broker.psk_port) as relay:
        psks.client(broker, wrong(psk), port=relay.port).open()
        assert relay.held.wait(10)
        with Client(broker.plain_port, "dev-1") as anonymous:
            assert anonymous.connect().code == 5
    # The key itself still opens.
    psks.client(broker, psk).accepted()


def test_proof_ends_with_its_connection(psks):
    psk = psks.keys("dev-1")
    broker = psks.broker(plain=True)
    for _ in range(20):
        psks.client(broker, psk).accepted().drop()
        with Client(broker.plain_port, "dev-1") as anonymous:
            assert anonymous.connect().code == 5


def test_key_exchanges_in_two_pieces_belong_to_their_own_connections(psks):
    """Between the pieces of one, another handshake goes on: neither is taken for the other."""
    one, two = psks.keys("dev-1", "dev-2")
    broker = psks.broker()
    with SplitKeyExchange(broker.psk_port) as first, SplitKeyExchange(broker.psk_port) as second:
        slow = psks.client(broker, one, port=first.port).open()
        assert first.held.wait(10)
        fast = psks.client(broker, two, port=second.port).open()
        assert second.held.wait(10)
        first.go.set()
        assert slow.connect().code == 0
        second.go.set()
        assert fast.connect().code == 0
        assert slow.publish("m/d/dev-1/d2c") == 0
        assert fast.publish("m/d/dev-2/d2c") == 0
        with pytest.raises(Closed):
            slow.publish("m/d/dev-2/d2c")


def test_client_that_resumes_gets_full_handshakes(psks):
    psk = psks.keys("dev-1")
    broker = psks.broker()
    printed = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{broker.psk_port}", "-tls1_2", "-psk_identity",
         psk.identity.decode(), "-psk", psk.key.hex(), "-reconnect"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    ).stdout
    assert printed.count("New, TLSv1.2") == 6 and "Reused" not in printed
    assert "TLS session ticket:" not in printed


def test_reload_keeps_it_and_revocation_closes_it(psks):
    stack = psks.stack
    psk = psks.keys("dev-1")
    broker = psks.broker()
    client = psks.client(broker, psk).accepted()
    since = broker.log_position()
    broker.sighup()
    broker.wait_log("Reloading config", since)
    assert client.publish("m/d/dev-1/d2c") == 0
    stack.query("update credential set revoked_at = now() where kind = 'psk'")
    client.wait_closed(timeout=10)
    with pytest.raises(Closed):
        psks.client(broker, psk).connect()
    assert "this pre-shared key is revoked" in broker.wait_log("event=tls_refused")[-1]


def test_key_that_was_replaced_between_handshake_and_connect(psks):
    stack = psks.stack
    psk = psks.keys("dev-1")
    broker = psks.broker()
    other = wrong(psk)
    with SplitKeyExchange(broker.psk_port) as relay:
        relay.go.set()
        early = psks.client(broker, psk, port=relay.port).open()
        assert relay.done.wait(10)
        stack.query("update credential set material = %s where kind = 'psk'", other.row(psks.master_key)[3])
        stack.in_force(broker)
        assert early.connect().code == 5
        (line,) = broker.wait_log("event=connect_refused.*has been replaced or removed")
        assert " device=dev-1 " in line
    psks.client(broker, other).accepted()


def test_a_connection_of_a_key_that_was_replaced_is_closed(psks):
    """The identity is the same, and so is the row: who has the former key must go."""
    stack = psks.stack
    psk = psks.keys("dev-1")
    broker = psks.broker()
    client = psks.client(broker, psk).accepted()
    other = wrong(psk)
    stack.query("update credential set material = %s, created_at = now() where kind = 'psk'",
                other.row(psks.master_key)[3])
    client.wait_closed(timeout=5)
    assert "has been replaced" in broker.wait_log("event=session_closed device=dev-1")[0]
    psks.client(broker, other).accepted()


def test_a_connection_outlives_another_master_key(psks):
    """fleet rekey writes the same key again."""
    stack = psks.stack
    psk = psks.keys("dev-1")
    broker = psks.broker()
    client = psks.client(broker, psk).accepted()
    stack.query("update credential set material = %s where kind = 'psk'", psk.row(psks.master_key)[3])
    stack.in_force(broker)
    assert client.publish("m/d/dev-1/d2c") == 0


def test_without_a_master_key_it_is_refused_and_a_reload_mends_it(psks):
    psk = psks.keys("dev-1")
    text = psks.file.read_text()
    psks.file.write_text("")
    broker = psks.broker()
    with pytest.raises(Closed):
        psks.client(broker, psk).connect()
    (line,) = broker.wait_log("event=psk_unusable")
    assert str(psks.file) in line and "SIGHUP" in line
    psks.file.write_text(text)
    since = broker.log_position()
    broker.sighup()
    broker.wait_log("Reloading config", since)
    psks.client(broker, psk).accepted()


def test_master_keys_that_cannot_be_read_any_more_stay_in_force(psks):
    psk = psks.keys("dev-1")
    broker = psks.broker()
    psks.client(broker, psk).accepted()
    psks.file.write_text("")
    since = broker.log_position()
    broker.sighup()
    broker.wait_log("Reloading config", since)
    psks.client(broker, psk, client_id="dev-1").accepted()
    (line,) = broker.wait_log("event=psk_unusable")
    assert "the former master keys stay in force" in line
