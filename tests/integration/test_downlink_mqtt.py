# SPDX-License-Identifier: Apache-2.0
"""Messages that wait in the table downlink, to devices that speak MQTT: docs/downlink.md as tests."""

import collections
import contextlib
import json
import threading
import time

import pytest

from harness.mqtt import V5, V311, Closed, eventually
from harness.postgres import query

WAIT_S = 30  # far more than anything here takes


def send(stack, device, *payloads, subtopic=None):
    for payload in payloads:
        stack.query(
            "insert into downlink (device, subtopic, payload) values (%s, %s, %s)", device, subtopic, str(payload).encode()
        )


def undelivered(stack, device="dev-1"):
    rows = stack.query(
        "select payload from downlink where device = %s and delivered_at is null order by id", device
    )
    return [bytes(payload).decode() for (payload,) in rows]


def wait_delivered(stack, timeout=WAIT_S):
    """Until every message is marked."""
    eventually(
        lambda: stack.value("select count(*) from downlink where delivered_at is null") == 0, timeout, "delivery"
    )


def nothing_more(client, seconds=1.0):
    """What came although nothing should; the plugin looks about ten times a second."""
    client.messages.clear()
    with pytest.raises(TimeoutError):
        message = client.receive(timeout=seconds)
        raise AssertionError(f"unexpected: {message}")


def texts(client, count, timeout=WAIT_S):
    return [client.receive(timeout).payload.decode() for _ in range(count)]


@contextlib.contextmanager
def monitor(stack, broker):
    """A service that sees what every device is sent."""
    stack.policy("monitor", ("subscribe", "m/d/+/c2d/#"), ("receive", "m/d/+/c2d/#"), ("publish", "m/d/+/c2d/#"))
    stack.devices("monitor", service=True, policy="monitor")
    stack.in_force(broker)
    with stack.connected(broker, "monitor") as client:
        assert client.subscribe("m/d/+/c2d/#") == 1
        yield client


class Listener:
    """A device that is connected whenever it can be, and keeps what it is sent."""

    def __init__(self, stack, broker, id, **options):
        self.client = stack.client(broker, id, timeout=5, **options)
        self.id, self.payloads, self.stopped = id, [], False
        self.connections = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped:
            try:
                self.client.accepted()
                self.client.subscribe(f"m/d/{self.id}/c2d/#")
                self.connections += 1
                while not self.stopped:
                    with contextlib.suppress(TimeoutError):
                        self.payloads.append(self.client.receive(timeout=0.2).payload.decode())
            except (Closed, OSError, AssertionError):
                self.client.drop()
                time.sleep(0.05)

    def stop(self):
        self.stopped = True
        self.thread.join(30)
        self.client.drop()


@contextlib.contextmanager
def listeners(stack, broker, *ids, **options):
    devices = [Listener(stack, broker, id, **options) for id in ids]
    try:
        eventually(lambda: all(d.connections for d in devices), WAIT_S, "the connection of all")
        yield devices
    finally:
        for device in devices:
            device.stopped = True
        for device in devices:
            device.stop()


# What is promised.


@pytest.mark.parametrize("version", [V311, V5])
def test_an_insert_reaches_a_connected_device(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    device = stack.connected(broker, "dev-1", version=version)
    device.subscribe("m/d/dev-1/c2d")
    stack.query("""insert into downlink (device, payload) values ('dev-1', '{"led": 1}')""")
    message = device.receive()
    assert (message.topic, json.loads(message.payload), message.qos, message.retain) == (
        "m/d/dev-1/c2d", {"led": 1}, 1, False,
    )  # fmt: skip
    wait_delivered(stack)
    assert stack.query("select delivered_over, delivered_at between created_at and now() from downlink") == [
        ("mqtt", True)
    ]


def test_topic_and_bytes_are_those_of_the_row(stack):
    stack.devices("dev-1")
    broker = stack.started()
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d/#")
    stack.query(r"insert into downlink (device, subtopic, payload) values ('dev-1', 'cfg/ä b', '\x00ff0a')")
    stack.query("insert into downlink (device, payload) values ('dev-1', '')")
    message = device.receive()
    assert (message.topic, message.payload) == ("m/d/dev-1/c2d/cfg/ä b", b"\x00\xff\n")
    message = device.receive()
    assert (message.topic, message.payload) == ("m/d/dev-1/c2d", b"")


def test_a_message_waits_until_the_device_has_connected_and_subscribed(stack):
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    send(stack, "dev-1", 1, 2)
    with stack.connected(broker, "dev-1") as device:
        device.ping()
        nothing_more(device)
        assert undelivered(stack) == ["1", "2"]
        device.subscribe("m/d/dev-1/c2d")
        assert texts(device, 2) == ["1", "2"]
        wait_delivered(stack)


def test_a_message_from_before_the_broker_was_started_is_delivered(stack):
    stack.devices("dev-1")
    send(stack, "dev-1", 1)
    broker = stack.started()
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d")
    assert texts(device, 1) == ["1"]


def test_messages_come_in_their_order(stack):
    stack.devices("dev-1")
    broker = stack.started()
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d/#")
    stack.query(
        "insert into downlink (device, subtopic, payload) select 'dev-1', case when mod(n, 3) = 0 then 'a' end,"
        " n::text::bytea from generate_series(1, 60) n"
    )
    assert texts(device, 60) == [str(n) for n in range(1, 61)]
    wait_delivered(stack)
    nothing_more(device)


def test_expired_messages_are_not_delivered(stack):
    stack.devices("dev-1")
    broker = stack.started()
    stack.query("insert into downlink (device, payload, expires_at) values ('dev-1', 'late', now())")
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d")
    send(stack, "dev-1", "in time")
    assert texts(device, 1) == ["in time"]
    nothing_more(device)
    assert undelivered(stack) == ["late"]


@pytest.mark.parametrize("version", [V311, V5])
def test_a_persistent_session_gets_each_once(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    options = {"version": version, "clean": False, "expiry": 3600 if version == V5 else None}
    with stack.connected(broker, "dev-1", **options) as device:
        device.subscribe("m/d/dev-1/c2d")
        device.disconnect()
    send(stack, "dev-1", 1, 2, 3)
    for n, expected in ((1, ["1", "2", "3"]), (2, ["4"]), (3, [])):
        if n == 2:
            send(stack, "dev-1", 4)
        device = stack.client(broker, "dev-1", **options)
        assert device.connect().session_present
        assert texts(device, len(expected)) == expected
        wait_delivered(stack)
        nothing_more(device)
        device.disconnect()


def test_a_device_that_subscribes_to_something_else_is_waited_for(stack):
    """Nobody is sent the message again and again meanwhile."""
    stack.devices("dev-1")
    broker = stack.started()
    with monitor(stack, broker) as seen:
        device = stack.connected(broker, "dev-1")
        device.subscribe("m/d/dev-1/state")
        send(stack, "dev-1", 1)
        assert texts(seen, 1) == ["1"]
        send(stack, "dev-1", 2)
        nothing_more(seen, 3)
        assert undelivered(stack) == ["1", "2"]
        assert len(broker.log_lines("event=downlink_not_taken")) == 1
        device.subscribe("m/d/dev-1/c2d")
        assert texts(device, 2) == ["1", "2"]
        assert texts(seen, 2) == ["1", "2"]
        wait_delivered(stack)


def test_what_expires_makes_room_for_what_is_behind_it(stack):
    stack.devices("dev-1")
    broker = stack.started()
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d/b")
    send(stack, "dev-1", "nobody's", subtopic="a")
    broker.wait_log("event=downlink_not_taken", timeout=WAIT_S)
    send(stack, "dev-1", "mine", subtopic="b")
    stack.query("update downlink set expires_at = now() where subtopic = 'a'")
    assert texts(device, 1) == ["mine"]


def test_a_device_may_not_receive_what_its_policy_forbids(stack):
    stack.policy("quiet", ("subscribe", "m/d/+/c2d/#"), ("receive", "m/d/+/c2d/open"))
    stack.devices("dev-1", policy="quiet")
    broker = stack.started()
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d/#")
    send(stack, "dev-1", "allowed", subtopic="open")
    assert texts(device, 1) == ["allowed"]
    send(stack, "dev-1", "forbidden", subtopic="closed")
    broker.wait_log("event=downlink_not_taken", timeout=WAIT_S)
    nothing_more(device)
    assert undelivered(stack) == ["forbidden"]


def test_a_device_that_may_receive_later_gets_what_was_forbidden(stack):
    stack.policy("quiet", ("subscribe", "m/d/+/c2d/#"))
    stack.devices("dev-1", policy="quiet")
    broker = stack.started()
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d/#")
    send(stack, "dev-1", "forbidden")
    broker.wait_log("event=downlink_not_taken", timeout=WAIT_S)
    stack.query("insert into policy_rule (policy, action, filter) values ('quiet', 'receive', 'm/d/+/c2d')")
    assert texts(device, 1) == ["forbidden"]


def test_a_suspended_device_gets_nothing_until_it_may_come_back(stack):
    stack.devices("dev-1")
    broker = stack.started()
    device = stack.connected(broker, "dev-1", clean=False)
    device.subscribe("m/d/dev-1/c2d")
    stack.set_state("dev-1", "suspended")
    send(stack, "dev-1", 1)
    device.wait_closed()
    assert device.messages == []
    stack.in_force(broker)
    assert undelivered(stack) == ["1"]
    stack.set_state("dev-1", "active")
    stack.in_force(broker)
    device = stack.connected(broker, "dev-1", clean=False)
    assert texts(device, 1) == ["1"]


def test_a_device_with_two_connections_is_sent_each_on_both(stack):
    stack.devices("dev-1")
    broker = stack.started(settings={"mqtt.client_id_suffix": "yes"})
    first, second = (stack.connected(broker, "dev-1", client_id=f"dev-1/{n}") for n in "ab")
    first.subscribe("m/d/dev-1/c2d")
    send(stack, "dev-1", 1)
    assert texts(first, 1) == ["1"]
    second.subscribe("m/d/dev-1/c2d")
    send(stack, "dev-1", 2)
    assert texts(first, 1) == texts(second, 1) == ["2"]


# Many.


def test_a_thousand_messages_for_two_hundred_devices(stack):
    ids = [f"dev-{n}" for n in range(200)]
    stack.devices(*ids)
    broker = stack.started()
    devices = {id: stack.connected(broker, id) for id in ids}
    for id, device in devices.items():
        device.subscribe(f"m/d/{id}/c2d")
    begun = time.monotonic()
    stack.query(
        "insert into downlink (device, payload) select id, (id || ' ' || n)::bytea"
        " from device, generate_series(1, 5) n where id ~ '^dev-'"
    )
    for id, device in devices.items():
        assert texts(device, 5) == [f"{id} {n}" for n in range(1, 6)]
    wait_delivered(stack)
    print(f"1,000 messages to 200 devices: {time.monotonic() - begun:.2f} s")
    for device in list(devices.values())[:5]:
        nothing_more(device, 0.2)


# Trouble.


def test_a_broker_that_is_stopped_repeats_nothing(stack):
    """Wherever it is stopped: what was delivered is marked before it ends."""
    stack.devices("dev-1")
    broker = stack.started()
    with listeners(stack, broker, "dev-1") as (device,):
        for round in range(4):
            before = device.connections
            send(stack, "dev-1", *range(10 * round, 10 * round + 10))
            eventually(lambda: len(device.payloads) > 10 * round + round * 2, WAIT_S, "messages")
            assert broker.stop() == 0
            broker.start()
            eventually(lambda: device.connections > before, WAIT_S, "the connection")
        wait_delivered(stack)
        eventually(lambda: len(device.payloads) >= 40, WAIT_S, "all messages")
        time.sleep(0.5)
        assert device.payloads == [str(n) for n in range(40)]


def test_a_broker_that_is_stopped_marks_what_many_devices_have(stack):
    """More than are under way to the database at a time."""
    ids = [f"dev-{n}" for n in range(120)]
    stack.devices(*ids)
    broker = stack.started()
    devices = {id: stack.connected(broker, id) for id in ids}
    for id, device in devices.items():
        device.subscribe(f"m/d/{id}/c2d", qos=0)
    stack.query("insert into downlink (device, payload) select id, '1' from device where id ~ '^dev-'")
    got = collections.Counter()
    got[ids[0]] += len(texts(devices[ids[0]], 1))
    assert broker.stop() == 0
    for id, device in devices.items():
        with contextlib.suppress(Closed, TimeoutError):
            while True:
                device.receive(timeout=5)
                got[id] += 1
        device.drop()
    broker.start()
    for id, device in devices.items():
        device.accepted()
        device.subscribe(f"m/d/{id}/c2d", qos=0)
    wait_delivered(stack)
    time.sleep(0.5)
    for id, device in devices.items():
        device.ping()
        got[id] += len(device.messages)
    assert got == {id: 1 for id in ids}


def test_a_broker_that_is_killed_loses_nothing_and_repeats_one_message_a_device_at_most(stack):
    ids = [f"dev-{n}" for n in range(6)]
    kills, count = 4, 40
    stack.devices(*ids)
    stack.query("update setting set value = 1000 where name = 'downlink_max_waiting'")
    broker = stack.started()
    with listeners(stack, broker, *ids) as devices:
        for round in range(kills):
            before = [device.connections for device in devices]
            stack.query(
                "insert into downlink (device, payload) select id, g.n::text::bytea from device,"
                " generate_series(%s::int, %s::int) g (n) where id ~ '^dev-' order by g.n",
                count * round,
                count * round + count - 1,
            )
            seen = sum(len(device.payloads) for device in devices)
            eventually(
                lambda: sum(len(device.payloads) for device in devices) > seen + 10 * (round + 1), WAIT_S, "messages"
            )
            broker.kill()
            broker.start()
            eventually(
                lambda: all(device.connections > n for device, n in zip(devices, before)), WAIT_S, "the connections"
            )
        wait_delivered(stack)
        everything = [str(n) for n in range(kills * count)]
        eventually(lambda: all(set(d.payloads) == set(everything) for d in devices), WAIT_S, "all messages")
        time.sleep(0.5)
    repeated = 0
    for device in devices:
        again = sum(n - 1 for n in collections.Counter(device.payloads).values())
        assert again <= kills, device.payloads
        repeated += again
        once = list(dict.fromkeys(device.payloads))
        assert once == everything, "in their order"
    print(f"repeated after {kills} kills: {repeated} of {len(everything) * len(ids)}")


def test_a_database_that_is_away_for_a_while(stack):
    """What was delivered meanwhile, and could not be marked, is not delivered again."""
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    with listeners(stack, broker, "dev-1", "dev-2") as devices:
        for round in range(3):
            with contextlib.closing(stack.postgres.connect(dbname=stack.database)) as connection:
                query(
                    connection,
                    "insert into downlink (device, payload) select id, g.n::text::bytea from device,"
                    " generate_series(%s::int, %s::int) g (n) where id ~ '^dev-' order by g.n",
                    (30 * round, 30 * round + 29),
                )
            eventually(lambda: all(len(d.payloads) > 30 * round + 5 for d in devices), WAIT_S, "messages")
            stack.stop_database("immediate")
            time.sleep(0.5)
            stack.start_database()
            eventually(lambda: all(len(d.payloads) >= 30 * round + 30 for d in devices), WAIT_S, "messages")
        wait_delivered(stack)
        time.sleep(0.5)
        for device in devices:
            assert device.payloads == [str(n) for n in range(90)]
            assert device.connections == 1


def test_broker_answers_while_messages_cannot_be_asked_for(stack):
    stack.devices("dev-1")
    broker = stack.started()
    device = stack.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d")
    send(stack, "dev-1", 1)
    texts(device, 1)
    wait_delivered(stack)
    with contextlib.closing(stack.postgres.connect(dbname=stack.database)) as connection:
        query(connection, "begin; lock table downlink")
        query(connection, "insert into downlink (device, payload) values ('dev-1', '2')")
        waits = [device.ping() for _ in range(50)]
        assert max(waits) < 2
        query(connection, "commit")
    assert texts(device, 1) == ["2"]
    stack.pause_database()
    waits = [device.ping() for _ in range(50)]
    assert max(waits) < 2
    stack.start_database()
    send(stack, "dev-1", 3)
    assert texts(device, 1) == ["3"]


# What is published to devices that are not connected here.


def publisher(stack, broker):
    stack.policy("backend", ("publish", "m/d/+/c2d/#"))
    stack.devices("backend", service=True, policy="backend")
    stack.in_force(broker)


def seen_over_coap(stack, *devices):
    for device in devices:
        stack.query(
            "insert into presence (device, source, client_id, connected, since, seq)"
            " values (%s, 'coap', 'dtls', false, now(), 1)",
            device,
        )


def test_a_publish_to_a_coap_or_unseen_device_waits_for_it(stack):
    stack.devices("coap-1", "new-1", "mqtt-1")
    broker = stack.started()
    publisher(stack, broker)
    seen_over_coap(stack, "coap-1")
    with stack.connected(broker, "mqtt-1"):
        pass
    stack.wait_rows("select 1 from presence where device = 'mqtt-1'")
    with stack.connected(broker, "backend") as backend:
        assert backend.publish("m/d/coap-1/c2d", b"1") == 0
        assert backend.publish("m/d/new-1/c2d/cfg", b"2") == 0
        assert backend.publish("m/d/mqtt-1/c2d", b"3") == 0
        assert backend.publish("m/d/nobody/c2d", b"4") == 0
    rows = stack.wait_rows("select device, subtopic, payload, source from downlink order by id", count=2)
    stack.stored(broker)
    assert len(stack.query("select 1 from downlink")) == 2
    assert [(d, s, bytes(p), f) for d, s, p, f in rows] == [
        ("coap-1", None, b"1", "mqtt"),
        ("new-1", "cfg", b"2", "mqtt"),
    ]
    with stack.connected(broker, "new-1") as device:
        device.subscribe("m/d/new-1/c2d/#")
        assert texts(device, 1) == ["2"]


def test_a_publish_to_a_coap_device_waits_once_whenever_the_broker_is_killed(stack):
    ids = ["coap-1", "coap-2", "new-1"]
    stack.devices(*ids, "noise")
    stack.query("update setting set value = 100000 where name = 'downlink_max_waiting'")
    broker = stack.started()
    publisher(stack, broker)
    seen_over_coap(stack, "coap-1", "coap-2")
    acknowledged, sent = set(), collections.Counter()
    number = 0
    for _ in range(3):
        backend, noise = stack.connected(broker, "backend"), stack.connected(broker, "noise")
        target = len(acknowledged) + 400
        killer = None
        with contextlib.suppress(Closed, OSError):
            while True:
                batch = list(range(number, number + 20))
                number += 20
                packets = {}
                for n in batch:
                    sent[n] += 1
                    packets[n] = backend.send_publish(f"m/d/{ids[n % 3]}/c2d", str(n))
                    noise.send_publish("m/d/noise/d2c", b'{"light": 1}', qos=0)
                for n, packet in packets.items():
                    backend.read_ack(packet, 4)
                    acknowledged.add(n)
                if killer is None and len(acknowledged) >= target:
                    killer = threading.Timer(0.01, broker.kill)
                    killer.start()
        assert killer is not None
        killer.join()
        backend.drop()
        noise.drop()
        broker.start()
    stack.stored(broker)
    counts = collections.Counter(
        int(bytes(payload)) for (payload,) in stack.query("select payload from downlink")
    )
    assert [n for n in acknowledged if counts[n] != 1] == []
    assert [n for n in counts if counts[n] > 1 or n not in sent] == []
    assert stack.query("select reason from dead_letter") == []
    for device in ids:
        numbers = [
            int(bytes(p)) for (p,) in stack.query("select payload from downlink where device = %s order by id", device)
        ]
        assert numbers == sorted(numbers)
