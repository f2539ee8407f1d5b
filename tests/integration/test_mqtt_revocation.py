# SPDX-License-Identifier: Apache-2.0
"""What changes in SQL is in force within 5 seconds, for live connections too."""

import socket
import ssl
import time

import pytest

from harness.mqtt import V5, V311, Client, Closed, Will, eventually
from harness.pki import serial_text

WITHIN_S = 5


def wait_closed_in_time(client, since):
    code = client.wait_closed(timeout=WITHIN_S)
    assert time.monotonic() - since < WITHIN_S
    return code


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("state", ["suspended", "revoked", "pending"])
def test_live_connection_is_closed_when_the_state_changes(stack, version, state):
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=version)
    bystander = stack.connected(broker, "dev-2", version=version)
    start = time.monotonic()
    stack.set_state("dev-1", state)
    code = wait_closed_in_time(client, start)
    if version == V5:
        assert code == 0x98  # Administrative action
    (line,) = broker.wait_log("event=session_closed device=dev-1")
    assert "client dev-1" in line and state in line
    bystander.ping()
    assert client.connect().code == {V311: 5, V5: 0x87}[version]
    (reason,) = stack.wait_rows(
        "select reason from presence_event where device = 'dev-1' and event = 'disconnected'"
    )[0]
    assert state in reason
    stack.set_state("dev-1", "active")
    eventually(lambda: stack.client(broker, "dev-1").connect().code == 0, WITHIN_S, "acceptance")


def test_live_connection_is_closed_when_its_certificate_is_revoked(stack):
    old = stack.devices("dev-1")["dev-1"]
    new = stack.fleet.forge("cn_only", "dev-1")
    stack.fleet.register(new, "dev-1")
    broker = stack.started(settings={"mqtt.client_id_suffix": "yes"})
    with_old = stack.client(broker, "dev-1", old, client_id="dev-1/old").accepted()
    with_new = stack.client(broker, "dev-1", new, client_id="dev-1/new").accepted()
    start = time.monotonic()
    stack.query("update credential set revoked_at = now() where fingerprint = %s", old.fingerprint)
    wait_closed_in_time(with_old, start)
    broker.wait_log("event=session_closed device=dev-1 .*client dev-1/old")
    assert with_new.publish("m/d/dev-1/d2c") == 0


def test_fleet_revoke_closes_the_live_connection(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    start = time.monotonic()
    stack.fleet.revoke("dev-1")
    wait_closed_in_time(client, start)


def test_live_connection_is_closed_when_the_device_is_deleted(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    start = time.monotonic()
    stack.query("delete from principal where id = 'dev-1'")
    wait_closed_in_time(client, start)
    broker.wait_log("event=session_closed device=dev-1 .*not registered any more")


def test_all_connections_of_a_suspended_fleet_are_closed(stack):
    ids = [f"dev-{n}" for n in range(100)]
    stack.devices(*ids)
    broker = stack.started()
    clients = [stack.connected(broker, id) for id in ids]
    start = time.monotonic()
    stack.query("update principal set state = 'suspended'")
    for client in clients:
        wait_closed_in_time(client, start)
    assert len(broker.wait_log("event=session_closed", count=100)) == 100


def test_will_of_a_suspended_device_is_not_published(stack):
    stack.devices("dev-1")
    stack.policy("ear", ("subscribe", "m/d/#"), ("receive", "m/d/#"))
    stack.devices("ear", service=True, policy="ear")
    broker = stack.started()
    ear = stack.connected(broker, "ear")
    assert ear.subscribe("m/d/#") == 1
    will = Will("m/d/dev-1/d2c", b'{"temperature": -1}')
    client = stack.connected(broker, "dev-1", will=will)
    stack.set_state("dev-1", "suspended")
    client.wait_closed(WITHIN_S)
    stack.wait_rows("select 1 from presence_event where device = 'dev-1' and event = 'disconnected'")
    ear.ping()
    assert ear.messages == []
    assert stack.value("select count(*) from telemetry") == 0


def test_new_device_is_accepted_within_5_seconds(stack):
    stack.devices("dev-1")
    broker = stack.started()
    stack.connected(broker, "dev-1")
    stack.devices("dev-2")
    eventually(lambda: stack.client(broker, "dev-2").connect().code == 0, WITHIN_S, "acceptance")


def test_new_device_is_accepted_within_5_seconds_when_notifications_are_lost(stack):
    stack.devices("dev-1")
    broker = stack.started(settings={"registry.poll_ms": 1000})
    stack.connected(broker, "dev-1")
    stack.query("create or replace function fieldgate.registry_changed() returns trigger language plpgsql"
                " security definer set search_path = fieldgate, pg_temp as $$ begin"
                " update registry_version set version = version + 1; return null; end $$")
    stack.devices("dev-2")
    eventually(lambda: stack.client(broker, "dev-2").connect().code == 0, WITHIN_S, "acceptance")


def test_subscription_ends_with_the_right(stack):
    """A durable subscription outlives the right to it in the broker: each delivery is checked."""
    stack.devices("dev-1")
    stack.policy("tool", ("publish", "#"), ("subscribe", "a/#"), ("receive", "a/#"))
    stack.devices("tool", "tool-2", service=True, policy="tool")
    broker = stack.started()
    receiver = stack.connected(broker, "tool")
    sender = stack.connected(broker, "tool-2", version=V5)
    assert receiver.subscribe("a/#") == 1
    sender.publish("a/1", b"1")
    assert receiver.receive().payload == b"1"
    stack.query("delete from policy_rule where policy = 'tool' and action <> 'publish'")

    def withheld():
        sender.publish("a/1", b"2")
        receiver.messages.clear()
        sender.publish("a/2", b"3")
        receiver.ping()
        return receiver.messages == []

    eventually(withheld, WITHIN_S, "the end of deliveries")


@pytest.mark.parametrize("version", [V311, V5])
def test_suspended_device_finds_its_session_again(stack, version):
    stack.devices("dev-1")
    stack.policy("tool", ("publish", "#"))
    stack.devices("tool", service=True, policy="tool")
    broker = stack.started()
    durable = {"version": version, "clean": False, "expiry": 3600 if version == V5 else None}
    client = stack.connected(broker, "dev-1", **durable)
    assert client.subscribe("m/d/dev-1/c2d") == 1
    stack.set_state("dev-1", "suspended")
    client.wait_closed(WITHIN_S)
    stack.set_state("dev-1", "active")
    stack.in_force(broker)
    stack.connected(broker, "tool").publish("m/d/dev-1/c2d", b"welcome back")
    client = stack.client(broker, "dev-1", **durable)
    assert client.connect().session_present
    assert client.receive().payload == b"welcome back"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_closed_connection_does_not_come_back_by_session_resumption(stack, version):
    """A resumed session shows the broker no certificate on the wire; the credential counts all the same."""
    stack.devices("dev-1")
    broker = stack.started()
    context = stack.tls("dev-1", version=version)
    client = Client(broker.port, "dev-1", context).accepted()
    session = client.socket.session
    client.disconnect()

    def resumed():
        again = Client(broker.port, "dev-1", context)
        plain = socket.create_connection(("127.0.0.1", broker.port), 10)
        again.socket = context.wrap_socket(plain, session=session)
        assert again.socket.session_reused
        with again:
            return again.connect().code

    assert resumed() == 0
    stack.query("update credential set revoked_at = now()")
    eventually(lambda: resumed() == 5, WITHIN_S, "the refusal")


def test_fleet_revoke_of_a_serial_number_closes_what_that_certificate_has_opened(stack):
    """Over both protocols it is the registry that counts; test_coap_revocation.py has the other."""
    old = stack.devices("dev-1")["dev-1"]
    new = stack.fleet.forge("cn_only", "dev-1")
    stack.fleet.register(new, "dev-1")
    broker = stack.started(settings={"mqtt.client_id_suffix": "yes"})
    with_old = stack.client(broker, "dev-1", old, client_id="dev-1/old").accepted()
    with_new = stack.client(broker, "dev-1", new, client_id="dev-1/new").accepted()
    serial = serial_text(old.certificate.serial_number)
    stack.fleet.run("revoke", serial.upper(), "--reason", "keyCompromise")
    wait_closed_in_time(with_old, time.monotonic())
    assert with_new.publish("m/d/dev-1/d2c") == 0


def test_publish_right_after_the_change_is_refused_or_cut(stack):
    """Between the swap of the registry and the kick there is at most one TICK; policy holds in it too."""
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=V5)
    stack.set_state("dev-1", "suspended")
    deadline = time.monotonic() + WITHIN_S
    with pytest.raises(Closed):
        while time.monotonic() < deadline:
            assert client.publish("m/d/dev-1/d2c") in (0, 0x10, 0x87)
