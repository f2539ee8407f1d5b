# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: the broker asks again about every session it has, those without a connection included."""

import hashlib
import time

import pytest

from harness.mqtt import V5, V311, Client, Closed

DURABLE = [f"sleeper-{n:04}" for n in range(1000)]


def reload(broker):
    since = broker.log_position()
    broker.sighup()
    broker.wait_log("Reloading config", since)
    # One more round of the broker's loop, so that all of it is over.
    time.sleep(0.3)
    return since


def commander(stack, broker):
    stack.policy("commander", ("publish", "m/d/+/c2d"))
    stack.devices("commander", service=True, policy="commander")
    stack.in_force(broker)
    return stack.connected(broker, "commander", version=V5)


def make_durable(stack, broker, ids, version=None):
    """Sessions that outlive their connection, subscribed to their own commands; the clients are gone."""
    for n, id in enumerate(ids):
        client_version = version or (V5 if n % 2 else V311)
        client = stack.client(
            broker, id, version=client_version, clean=False, expiry=3600 if client_version == V5 else None
        )
        assert client.connect().code == 0
        assert client.subscribe(f"m/d/{id}/c2d") == 1
        client.disconnect()


def wake(stack, broker, id, n=0, version=None):
    version = version or (V5 if n % 2 else V311)
    client = stack.client(broker, id, version=version, clean=False, expiry=3600 if version == V5 else None)
    return client, client.connect()


def test_thousand_offline_sessions_with_queued_messages_survive(stack):
    stack.devices(*DURABLE)
    broker = stack.started()
    make_durable(stack, broker, DURABLE)
    sender = commander(stack, broker)
    for id in DURABLE:
        assert sender.publish(f"m/d/{id}/c2d", b"before " + id.encode()) == 0
    stack.set_state(DURABLE[7], "suspended")
    stack.in_force(broker)

    since = reload(broker)
    sender.ping()
    assert broker.log_lines("event=(connect_refused|session_closed)", since) == []
    assert broker.log_lines("not authorised", since) == []
    for id in DURABLE:
        assert sender.publish(f"m/d/{id}/c2d", b"after") == 0
    for n, id in enumerate(DURABLE):
        client, connack = wake(stack, broker, id, n)
        if id == DURABLE[7]:
            assert connack.code == 0x87
            continue
        assert connack.code == 0 and connack.session_present, id
        assert client.receive().payload == b"before " + id.encode()
        assert client.receive().payload == b"after"
        client.disconnect()
    # Nothing was added for the suspended one while it was; what it had waits until it may come back.
    stack.set_state(DURABLE[7], "active")
    stack.in_force(broker)
    client, connack = wake(stack, broker, DURABLE[7], 7)
    assert connack.session_present
    client.ping()
    assert [m.payload for m in client.messages] == [b"before " + DURABLE[7].encode()]


def test_sessions_restored_from_disk_survive(stack):
    """After a restart the broker has sessions that the plugin has never seen."""
    ids = DURABLE[:50]
    stack.devices(*ids)
    broker = stack.started()
    make_durable(stack, broker, ids)
    broker.restart()
    reload(broker)
    sender = commander(stack, broker)
    for n, id in enumerate(ids):
        assert sender.publish(f"m/d/{id}/c2d", b"x") == 0
        client, connack = wake(stack, broker, id, n)
        assert connack.session_present
        assert client.receive().payload == b"x"


def test_restored_sessions_survive_when_the_registry_is_not_there(stack):
    """With neither database nor copy nobody can be judged: then nobody is thrown out."""
    ids = DURABLE[:10]
    stack.devices(*ids)
    broker = stack.started()
    make_durable(stack, broker, ids)
    broker.stop()
    (broker.state_dir / "mqtt" / "registry.snapshot").unlink()
    stack.stop_database()
    broker.start(wait_registry=False)
    reload(broker)
    stack.start_database()

    stack.in_force(broker, timeout=15)
    for n, id in enumerate(ids):
        assert wake(stack, broker, id, n)[1].session_present


def test_live_connections_stay(stack):
    ids = DURABLE[:100]
    stack.devices(*ids)
    broker = stack.started()
    clients = [stack.connected(broker, id, version=V5 if n % 2 else V311) for n, id in enumerate(ids)]
    for _ in range(3):
        reload(broker)
    for id, client in zip(ids, clients):
        client.ping()
        assert client.publish(f"m/d/{id}/d2c", b'{"temperature": 1}') in (0, 0x10)
    assert stack.value("select count(*) from presence_event where event = 'disconnected'") == 0


def test_suspended_live_connection_is_closed(stack):
    """Here at the latest; the registry's change closes it without SIGHUP as well."""
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    client, other = stack.connected(broker, "dev-1"), stack.connected(broker, "dev-2")
    stack.set_state("dev-1", "suspended")
    broker.sighup()
    client.wait_closed(5)
    assert len(broker.wait_log("event=session_closed device=dev-1")) == 1
    other.ping()


def test_expired_sessions_end_quietly_after_reload(stack):
    """Were offline sessions refused, Mosquitto 2.0.11 would die of it when they expire."""
    ids = DURABLE[:20]
    stack.devices(*ids)
    broker = stack.started()
    for id in ids:
        client = stack.client(broker, id, version=V5, clean=False, expiry=10)
        assert client.connect().code == 0
        client.subscribe(f"m/d/{id}/c2d")
        client.disconnect()
    stack.query("update principal set state = 'suspended'")
    stack.in_force(broker)
    since = reload(broker)
    broker.wait_log("Expiring client", since, count=len(ids), timeout=40)
    assert broker.running()
    # Whatever is wrong with that list shows when it is walked again.
    stack.in_force(broker)
    time.sleep(2)
    stack.in_force(broker)


def test_reload_is_no_way_in_without_certificate(stack):
    """Connections that come while the broker reloads are judged as always."""
    stack.devices("dev-1", *DURABLE[:200])
    broker = stack.started(plain=True, settings={"mqtt.token_auth": "all"})
    make_durable(stack, broker, ["dev-1", *DURABLE[:200]])
    # Their CONNECTs are in the broker's sockets when it wakes up for the signal, and behind it.
    for _ in range(5):
        intruders = [
            Client(broker.plain_port, "dev-1", username="dev-1", clean=False).open() for _ in range(10)
        ]
        for n, client in enumerate(intruders):
            if n == 5:
                broker.sighup()
            client.send_connect()
        for client in intruders:
            try:
                assert client.read_connack().code == 5
            except Closed:
                pass
            client.drop()


@pytest.mark.parametrize("websocket", [False, True])
def test_token_connections_survive(stack, websocket):
    stack.query("insert into principal (id, kind, policy) values ('backend', 'service', 'none')")
    stack.query(
        "insert into credential (kind, fingerprint, principal) values ('token', %s, 'backend')",
        hashlib.sha256(b"backend\0t0ken").digest(),
    )
    broker = stack.started(
        plain=True, websockets=websocket, settings={"mqtt.token_auth": "services"}
    )
    port = broker.websockets_port if websocket else broker.plain_port
    with Client(
        port, "backend", username="backend", password="t0ken", websocket=websocket
    ) as client:
        client.accepted()
        reload(broker)
        client.ping()
    stack.stored(broker)
    events = "select event from presence_event where device = 'backend' order by at, seq"
    assert stack.query(events) == [("connected",), ("disconnected",)]


@pytest.mark.parametrize("version", [V311, V5])
def test_connections_after_a_reload_are_judged_as_always(stack, version):
    stack.devices("dev-1")
    forged = stack.fleet.forge("cn_only", "dev-1")
    broker = stack.started()
    reload(broker)
    assert stack.client(broker, "dev-1", forged, version=version).connect().code == {V311: 5, V5: 0x87}[version]
    assert stack.client(broker, "dev-1", version=version).connect().code == 0
