# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL away, silent or slow: the broker knows its devices and answers all the while."""

import statistics

import pytest

from harness.mqtt import V5, V311, Closed, eventually


def test_broker_restarted_without_database_accepts_its_devices(stack):
    stack.devices("dev-1", "dev-2")
    stack.set_state("dev-2", "suspended")
    broker = stack.started()
    stack.connected(broker, "dev-1")
    broker.stop()
    stack.stop_database()
    broker.start()
    client = stack.connected(broker, "dev-1")
    assert client.publish("m/d/dev-1/d2c", b'{"temperature": 4}') == 0
    assert stack.client(broker, "dev-2").connect().code == 5
    stack.start_database()
    assert stack.wait_rows("select temperature from telemetry where device = 'dev-1'") == [(4,)]


def test_broker_killed_and_restarted_without_database_accepts_its_devices(stack):
    stack.devices("dev-1")
    broker = stack.started()
    stack.connected(broker, "dev-1")
    broker.kill()
    stack.stop_database("immediate")
    broker.start()
    stack.connected(broker, "dev-1")


@pytest.mark.parametrize("version", [V311, V5])
def test_first_start_without_database_tells_devices_to_try_again(stack, version):
    stack.devices("dev-1")
    stack.stop_database()
    broker = stack.started(wait_registry=False)
    for _ in range(20):
        # The socket closes without "not authorised", which a device would take for final. (Mosquitto 2.1
        # has an answer for MQTT 5: 0x88, server unavailable.)
        try:
            assert stack.client(broker, "dev-1", version=version).connect().code == 0x88
        except Closed:
            pass
    assert 1 <= len(broker.log_lines("event=connect_delayed")) <= 5
    assert broker.log_lines("event=connect_refused") == []
    stack.start_database()

    def accepted():
        try:
            return stack.client(broker, "dev-1", version=version).connect().code == 0
        except Closed:
            return False

    eventually(accepted, 15, "acceptance")


@pytest.mark.parametrize("how", ["pause", "stop"])
def test_broker_answers_all_the_while(stack, how):
    """Acknowledgements, new connections, pings, subscriptions and refusals go on without the database."""
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    if how == "pause":
        stack.pause_database()
    else:
        stack.stop_database()
    waits = []
    for n in range(300):
        payload = b'{"temperature": 1, "seq": %d}' % n
        assert client.publish("m/d/dev-1/d2c", payload) == 0
        waits.append(client.ping())
        if n % 50 == 0:
            with stack.client(broker, "dev-2", version=V5) as other:
                other.accepted()
                assert other.subscribe("m/d/dev-2/c2d") == 1
                assert other.publish("m/d/dev-1/d2c") == 0x87
    # A broker that waits for the database waits for its timeouts, which are seconds.
    assert statistics.median(waits) < 0.5 and max(waits) < 2, max(waits)
    stack.start_database()
    stack.wait_rows("select 1 from telemetry where device = 'dev-1'", count=300, timeout=30)
    assert stack.value("select count(*) from telemetry where device = 'dev-1'") == 300


def test_broker_stops_without_database(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    stack.pause_database()
    assert client.publish("m/d/dev-1/d2c", b'{"temperature": 5}') == 0
    assert broker.stop(timeout=15) == 0
    stack.start_database()
    broker.start()
    assert stack.wait_rows("select temperature from telemetry where device = 'dev-1'") == [(5,)]
