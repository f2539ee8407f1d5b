# SPDX-License-Identifier: Apache-2.0
"""What is published becomes rows: every QoS, wills, retained messages, both versions of MQTT."""

import time

import pytest

from harness.mqtt import PUBREC, V5, V311, Closed, Will, eventually

ROWS = "select temperature, subtopic from telemetry where device = 'dev-1' order by received_at, seq"


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_message_becomes_one_row(stack, version, qos, retain):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=version)
    assert client.publish("m/d/dev-1/d2c/env", b'{"temperature": 3}', qos, retain) in (0, 0x10, None)
    client.ping()
    stack.stored(broker)
    assert stack.query(ROWS) == [(3, "env")]


def test_other_topics_become_no_rows(stack):
    stack.policy("free", ("publish", "#"))
    stack.devices("dev-1", policy="free")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    for topic in ("m/d/dev-1", "m/d/dev-1/c2d", "m/d/dev-1/d2cx", "a/m/d/dev-1/d2c", "m/d/a b/d2c"):
        assert client.publish(topic) == 0
    stack.stored(broker)
    assert stack.value("select count(*) from telemetry where device not like 'canary%%'") == 0
    assert stack.value("select count(*) from dead_letter") == 0


@pytest.mark.parametrize("version", [V311, V5])
def test_what_cannot_be_decoded_is_acknowledged_and_kept(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=version)
    assert client.publish("m/d/dev-1/d2c", b"\xff\xfe nonsense") in (0, 0x10)
    assert client.publish("m/d/dev-1/d2c", b"") in (0, 0x10)
    rows = stack.wait_rows("select device, topic, payload from dead_letter order by seq", count=2)
    assert {bytes(row[2]) for row in rows} == {b"\xff\xfe nonsense", b""}


def test_empty_retained_message_is_an_order_to_the_broker(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    assert client.publish("m/d/dev-1/d2c", b'{"temperature": 1}', retain=True) == 0
    assert client.publish("m/d/dev-1/d2c", b"", retain=True) == 0
    stack.stored(broker)
    assert stack.query(ROWS) == [(1, None)]
    assert stack.value("select count(*) from dead_letter") == 0


def test_delivery_of_a_retained_message_is_no_second_row(stack):
    """With check_retain_source the broker asks for the publisher's right at each delivery."""
    stack.policy("ear", ("subscribe", "m/d/+/d2c"), ("receive", "m/d/+/d2c"))
    stack.devices("ear", service=True, policy="ear")
    stack.devices("dev-1")
    broker = stack.started(mosquitto=["check_retain_source true"])
    with stack.connected(broker, "dev-1") as client:
        assert client.publish("m/d/dev-1/d2c", b'{"temperature": 1}', retain=True) == 0
    for _ in range(3):
        with stack.connected(broker, "ear") as ear:
            ear.subscribe("m/d/+/d2c")
            assert ear.receive().retain
    broker.restart()
    with stack.connected(broker, "ear") as ear:
        ear.subscribe("m/d/+/d2c")
        assert ear.receive().retain
    stack.stored(broker)
    assert stack.query(ROWS) == [(1, None)]


def test_retained_message_of_a_suspended_device_is_withheld(stack):
    stack.policy("ear", ("subscribe", "m/d/+/d2c"), ("receive", "m/d/+/d2c"))
    stack.devices("ear", service=True, policy="ear")
    stack.devices("dev-1")
    broker = stack.started(mosquitto=["check_retain_source true"])
    with stack.connected(broker, "dev-1") as client:
        assert client.publish("m/d/dev-1/d2c", b'{"temperature": 1}', retain=True) == 0
    stack.set_state("dev-1", "suspended")
    stack.in_force(broker)
    with stack.connected(broker, "ear") as ear:
        ear.subscribe("m/d/+/d2c")
        ear.ping()
        assert ear.messages == []


# --- QoS 2 ---


def test_qos_2_repeat_with_its_own_time_or_number_is_one_row(stack):
    """MESSAGE comes before the broker recognises a repeat: what the key makes of it decides."""
    stack.devices("dev-1")
    broker = stack.started()
    now = int(time.time())
    for dup in (False, True, True):
        with stack.connected(broker, "dev-1", clean=False) as client:
            for packet_id, payload in (
                (1, b'{"temperature": 1, "seq": 17}'),
                (2, b'{"temperature": 2, "ts": %d}' % now),
            ):
                client.send_publish("m/d/dev-1/d2c", payload, 2, packet_id=packet_id, dup=dup)
                assert client.read_ack(packet_id, PUBREC) == 0
    stack.stored(broker)
    assert sorted(stack.query("select temperature from telemetry where device = 'dev-1'")) == [(1,), (2,)]
    # The plugin was asked three times for each (by 2.0.21 five times), and could not know.
    assert stack.value("select row_count from ingest") in (7, 11)


# --- Wills ---


def will_case(stack, broker, **options):
    client = stack.connected(broker, "dev-1", **options)
    client.ping()
    return client


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_will_becomes_one_row(stack, version, qos, retain):
    stack.devices("dev-1")
    broker = stack.started()
    will = Will("m/d/dev-1/d2c/status", b'{"temperature": -1}', qos, retain)
    will_case(stack, broker, version=version, will=will).drop()
    stack.wait_rows(ROWS)
    stack.stored(broker)
    assert stack.query(ROWS) == [(-1, "status")]


def test_will_is_one_row_and_one_message_when_somebody_listens(stack):
    stack.policy("ear", ("subscribe", "#"), ("receive", "#"))
    stack.devices("ear", "ear-2", service=True, policy="ear")
    stack.devices("dev-1")
    broker = stack.started()
    ears = [stack.connected(broker, id) for id in ("ear", "ear-2")]
    for ear in ears:
        ear.subscribe("m/d/#")
    will_case(stack, broker, will=Will("m/d/dev-1/d2c", b'{"temperature": -1}', 1)).drop()
    for ear in ears:
        assert ear.receive().payload == b'{"temperature": -1}'
    stack.stored(broker)
    assert stack.query(ROWS) == [(-1, None)]


def test_will_after_publishes_is_one_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = will_case(stack, broker, will=Will("m/d/dev-1/d2c", b'{"temperature": -1}'))
    for n in range(5):
        client.publish("m/d/dev-1/d2c", b'{"temperature": %d}' % n)
    client.drop()
    stack.wait_rows(ROWS, count=6)
    stack.stored(broker)
    assert [row[0] for row in stack.query(ROWS)] == [0, 1, 2, 3, 4, -1]


def test_will_after_goodbye_is_no_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    will_case(stack, broker, will=Will("m/d/dev-1/d2c", b'{"temperature": -1}')).disconnect()
    stack.stored(broker)
    assert stack.query(ROWS) == []


def test_forbidden_will_is_no_row_and_a_line(stack):
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    will_case(stack, broker, will=Will("m/d/dev-2/d2c", b'{"temperature": -1}')).drop()
    broker.wait_log("event=will_refused device=dev-1 .*may not publish to m/d/dev-2/d2c")
    stack.stored(broker)
    assert stack.value("select count(*) from telemetry where device not like 'canary%%'") == 0


def test_delayed_will_becomes_one_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    will = Will("m/d/dev-1/d2c", b'{"temperature": -1}', delay=1)
    will_case(stack, broker, version=V5, will=will, expiry=60, clean=False).drop()
    stack.wait_rows(ROWS)
    stack.stored(broker)
    assert stack.query(ROWS) == [(-1, None)]


def test_delayed_will_of_a_device_that_came_back_is_no_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    will = Will("m/d/dev-1/d2c", b'{"temperature": -1}', delay=2)
    will_case(stack, broker, version=V5, will=will, expiry=60, clean=False).drop()
    with stack.connected(broker, "dev-1", version=V5, expiry=60, clean=False):
        time.sleep(3.5)
        stack.stored(broker)
    assert stack.query(ROWS) == []


def test_wills_of_a_stopping_broker_become_rows(stack):
    """The broker publishes them without a DISCONNECT event."""
    ids = [f"dev-{n}" for n in range(5)]
    stack.devices(*ids)
    broker = stack.started()
    for id in ids:
        stack.connected(broker, id, will=Will(f"m/d/{id}/d2c", b'{"temperature": -2}')).ping()
    broker.stop()
    broker.start()
    stack.wait_rows("select 1 from telemetry", count=5)
    stack.stored(broker)
    assert stack.value("select count(*) from telemetry where temperature = -2") == 5


def test_keepalive_will_becomes_one_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = will_case(stack, broker, keepalive=1, will=Will("m/d/dev-1/d2c", b'{"temperature": -1}'))
    client.wait_closed(30)
    stack.stored(broker)
    assert stack.query(ROWS) == [(-1, None)]


# --- The journal refuses ---


def test_message_too_long_for_the_journal_is_told_from_one_that_is_kept(stack):
    stack.devices("dev-1")
    small = {"journal.max_bytes": 1 << 20, "journal.segment_bytes": 1 << 16}
    broker = stack.started(settings=small, mosquitto=["max_packet_size 700000"])
    for length, line in ((600_000, "event=publish_not_stored .*set max_packet_size"), (800_000, "oversize packet")):
        client = stack.connected(broker, "dev-1")
        with pytest.raises(Closed):
            client.publish("m/d/dev-1/d2c", b"x" * length)
        broker.wait_log(line)


@pytest.mark.parametrize("version", [V311, V5])
def test_full_journal_closes_the_connection_without_acknowledgement(stack, version):
    stack.devices("dev-1")
    broker = stack.started(settings={"journal.max_bytes": 1 << 20, "journal.segment_bytes": 1 << 16})
    client = stack.connected(broker, "dev-1", version=version)
    stack.stop_database()
    acknowledged = 0
    with pytest.raises(Closed):
        for n in range(200):
            client.publish("m/d/dev-1/d2c", b'{"temperature": %d, "x": "%s"}' % (n, b"y" * 10000))
            acknowledged += 1
    assert acknowledged > 50
    broker.wait_log("event=publish_not_stored device=dev-1 .*the journal is full")

    # QoS 0 was promised nothing: the connection stays.
    client.accepted()
    client.publish("m/d/dev-1/d2c", b'{"x": "%s"}' % (b"y" * 10000), qos=0)
    client.ping()
    broker.wait_log("event=message_lost device=dev-1")

    stack.start_database()

    def accepts():
        try:
            if client.socket is None:
                client.accepted()
            return client.publish("m/d/dev-1/d2c", b'{"temperature": 1000}') in (0, 0x10)
        except Closed:
            return False

    eventually(accepts, 30, "room in the journal")
    stack.wait_rows("select 1 from telemetry where temperature = 1000", timeout=30)
    assert stack.value("select count(*) from telemetry where temperature < 1000") == acknowledged
