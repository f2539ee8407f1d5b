# SPDX-License-Identifier: Apache-2.0
"""Who is connected, since when, and why not any more: rows of presence_event and presence."""

import re

import pytest

from harness.mqtt import V5, V311, Closed, Will

EVENTS = (
    "select event, client_id, source, reason, address from presence_event where device = %s order by at, seq"
)


def test_connect_and_disconnect_are_rows(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    assert stack.wait_rows(EVENTS, "dev-1") == [("connected", "dev-1", "mqtt", None, "127.0.0.1")]
    assert stack.wait_rows("select connected from presence where device = 'dev-1'") == [(True,)]
    client.disconnect()
    event, client_id, source, reason, address = stack.wait_rows(EVENTS, "dev-1", count=2)[1]
    assert (event, client_id, source, address) == ("disconnected", "dev-1", "mqtt", "127.0.0.1")
    assert re.search("goodbye|was closed", reason)
    stack.wait_rows("select 1 from presence where device = 'dev-1' and not connected and reason = %s", reason)


def test_lost_connection_is_a_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    stack.connected(broker, "dev-1").drop()
    assert stack.wait_rows(EVENTS, "dev-1", count=2)[1][0] == "disconnected"


@pytest.mark.parametrize("version", [V311, V5])
def test_each_connection_is_two_rows(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    durable = {"version": version, "clean": False, "expiry": 3600 if version == V5 else None}
    for options in ({}, {}, durable, durable):
        stack.connected(broker, "dev-1", **options).disconnect()
    stack.stored(broker)
    assert [row[0] for row in stack.query(EVENTS, "dev-1")] == ["connected", "disconnected"] * 4


def test_exceeded_keepalive_is_a_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", keepalive=1)
    client.wait_closed(30)
    assert stack.wait_rows(EVENTS, "dev-1", count=2)[1][0] == "disconnected"


def test_reason_says_what_we_did(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    client.send_publish("m/d/dev-2/d2c", b"1")
    client.wait_closed()
    assert stack.wait_rows(EVENTS, "dev-1", count=2)[1][3] == "it published what its policy forbids"


def test_refused_connections_are_no_rows(stack):
    stack.devices("dev-1", state="suspended")
    stack.devices("dev-2")
    broker = stack.started()
    assert stack.client(broker, "dev-1").connect().code == 5
    assert stack.client(broker, "dev-2", client_id="dev-1").connect().code == 5
    stack.connected(broker, "dev-2")
    stack.wait_rows(EVENTS, "dev-2")
    assert stack.query(EVENTS, "dev-1") == []


def test_stopped_broker_leaves_nobody_connected(stack):
    stack.devices("dev-1")
    broker = stack.started()
    stack.connected(broker, "dev-1")
    stack.wait_rows(EVENTS, "dev-1")
    broker.stop()
    broker.start()
    assert stack.wait_rows(EVENTS, "dev-1", count=2)[1][3] == "the broker was stopped"
    assert stack.value("select connected from presence where device = 'dev-1'") is False


def test_killed_broker_leaves_nobody_connected(stack):
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    stack.connected(broker, "dev-1")
    stack.connected(broker, "dev-2")
    stack.wait_rows("select 1 from presence where connected", count=2)
    broker.kill()
    broker.start()
    stack.wait_rows("select 1 from presence where not connected", count=2)
    stack.connected(broker, "dev-1")
    stack.wait_rows("select 1 from presence where device = 'dev-1' and connected")


def test_each_client_id_of_a_device_has_its_row(stack):
    stack.devices("dev-1")
    broker = stack.started(settings={"mqtt.client_id_suffix": "yes"})
    clients = [stack.client(broker, "dev-1", client_id=f"dev-1/{n}").accepted() for n in range(3)]
    clients[1].disconnect()
    rows = stack.wait_rows(
        "select client_id, connected from presence where device = 'dev-1' and (connected or reason is not null)"
        " order by 1",
        count=3,
    )
    stack.wait_rows("select 1 from presence where client_id = 'dev-1/1' and not connected")
    assert [row[0] for row in rows] == ["dev-1/0", "dev-1/1", "dev-1/2"]


def test_sockets_without_connect_are_no_rows(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.client(broker, "dev-1")
    client.open()
    client.drop()
    client = stack.client(broker, "dev-1")
    client.open()
    client.send(3, 0, b"\0\1a")
    try:
        client.wait_closed()
    except Closed:
        pass
    stack.connected(broker, "dev-1")
    assert len(stack.wait_rows(EVENTS, "dev-1")) == 1


def test_take_over_with_a_will_keeps_the_device_connected(stack):
    stack.devices("dev-1")
    broker = stack.started()
    will = Will("m/d/dev-1/d2c", b'{"temperature": -5}')
    first = stack.connected(broker, "dev-1", will=will)
    second = stack.connected(broker, "dev-1")
    first.wait_closed()
    second.ping()
    assert [row[0] for row in stack.wait_rows(EVENTS, "dev-1", count=3)] == [
        "connected",
        "disconnected",
        "connected",
    ]
    # The broker publishes the will of the connection that was taken over: once.
    stack.wait_rows("select 1 from telemetry where device = 'dev-1' and temperature = -5")
    second.publish("m/d/dev-1/d2c", b'{"temperature": 1}')
    stack.wait_rows("select 1 from telemetry where temperature = 1")
    assert stack.value("select count(*) from telemetry where temperature = -5") == 1
