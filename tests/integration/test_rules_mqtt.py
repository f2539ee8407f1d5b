# SPDX-License-Identifier: Apache-2.0
"""Rules over the real broker: what they republish, drop and chain, when they come into force, and what is left
of it when the broker is killed or the database is away."""

import json
import time

import pytest

from harness.mqtt import PUBACK, Will, eventually


def rule(stack, name, sql, *actions, error_action=None):
    stack.query(
        "insert into rule (name, sql, actions, error_action) values (%s, %s, %s, %s)",
        name,
        sql,
        json.dumps(actions),
        json.dumps(error_action) if error_action else None,
    )


def republish(topic, **options):
    return {"republish": {"topic": topic, "qos": 1, **options}}


@pytest.fixture
def world(stack):
    """Two devices that may publish everywhere, and a service that may hear everything."""
    stack.policy("free", ("publish", "#"), ("subscribe", "m/d/${device}/#"), ("receive", "m/d/${device}/#"))
    stack.policy("ear", ("subscribe", "#"), ("receive", "#"), ("publish", "#"))
    stack.devices("dev-1", "dev-2", policy="free")
    stack.devices("ear", service=True, policy="ear")
    return stack


def listening(stack, broker, *filters):
    ear = stack.connected(broker, "ear")
    ear.subscribe(*filters)
    return ear


def nothing_comes(client, seconds=0.7):
    with pytest.raises(TimeoutError):
        message = client.receive(timeout=seconds)
        pytest.fail(f"{message}")


def test_a_subset_of_the_fields_is_republished_to_another_topic(world):
    """The paper's second rule."""
    rule(
        world,
        "hot",
        "SELECT temperature, device() AS device FROM 'm/d/+/d2c' WHERE temperature > 30",
        republish("alarms/${topic(3)}"),
    )
    broker = world.started()
    ear = listening(world, broker, "alarms/#")
    device = world.connected(broker, "dev-1")
    device.publish("m/d/dev-1/d2c", b'{"temperature": 30, "battery": 1}')
    device.publish("m/d/dev-1/d2c", b'{"temperature": 31.5, "battery": 2}')
    message = ear.receive()
    assert (message.topic, message.qos, message.retain) == ("alarms/dev-1", 1, False)
    assert json.loads(message.payload) == {"temperature": 31.5, "device": "dev-1"}
    nothing_comes(ear)
    world.stored(broker)
    assert world.value("select count(*) from telemetry where device = 'dev-1'") == 2


def test_a_rule_may_say_qos_retain_and_cbor(world):
    rule(
        world,
        "state",
        "SELECT temperature AS t FROM 'm/d/+/d2c'",
        {"republish": {"topic": "latest/${device()}", "qos": 0, "retain": True, "format": "cbor"}},
    )
    broker = world.started()
    listener = listening(world, broker, "latest/#")
    world.connected(broker, "dev-1").publish("m/d/dev-1/d2c", b'{"temperature": 1}')
    assert listener.receive().payload == b"\xa1\x61t\x01"
    listener.drop()
    late = listening(world, broker, "latest/#")
    message = late.receive()
    assert (message.payload, message.retain) == (b"\xa1\x61t\x01", True)


def test_a_dropped_message_is_republished_but_not_stored(world):
    rule(world, "noise", "SELECT * FROM 'm/d/+/d2c' WHERE debug", {"drop": {}}, republish("debug"))
    broker = world.started()
    ear = listening(world, broker, "debug")
    device = world.connected(broker, "dev-1")
    device.publish("m/d/dev-1/d2c", b'{"temperature": 1, "debug": true}')
    device.publish("m/d/dev-1/d2c", b'{"temperature": 2}')
    assert json.loads(ear.receive().payload) == {"temperature": 1, "debug": True}
    world.stored(broker)
    assert world.query("select temperature from telemetry where device = 'dev-1'") == [(2,)]


def test_rules_are_in_force_within_five_seconds_of_every_change(world):
    broker = world.started()
    ear = listening(world, broker, "a", "b")
    device = world.connected(broker, "dev-1")

    def comes(topic):
        device.publish("m/d/dev-1/d2c")
        try:
            return ear.receive(timeout=0.4).topic == topic
        except TimeoutError:
            return topic is None

    assert comes(None)
    rule(world, "x", "SELECT * FROM 'm/d/+/d2c'", republish("a"))
    eventually(lambda: comes("a"), 5, "the new rule")
    world.query("update rule set actions = %s where name = 'x'", json.dumps([republish("b")]))
    eventually(lambda: comes("b"), 5, "the changed rule")
    world.query("update rule set enabled = false where name = 'x'")
    eventually(lambda: comes(None), 5, "no rule any more")
    world.query("update rule set enabled = true where name = 'x'")
    eventually(lambda: comes("b"), 5, "the rule again")
    world.query("delete from rule")
    eventually(lambda: comes(None), 5, "no rule any more")


def test_a_rule_that_cannot_be_read_is_left_out_and_the_others_work(world):
    rule(world, "broken", "SELECT temperature FROM 'm/d/+/d2c' WHERE temperature >", republish("a"))
    rule(world, "unknown", "SELECT * FROM 'm/d/+/d2c'", {"explode": {}})
    rule(world, "good", "SELECT temperature FROM 'm/d/+/d2c'", republish("b"))
    broker = world.started()
    ear = listening(world, broker, "a", "b")
    world.connected(broker, "dev-1").publish("m/d/dev-1/d2c", b'{"temperature": 1}')
    assert ear.receive().topic == "b"
    nothing_comes(ear)
    broker.wait_log("event=rule_refused.*rule 'broken': line 1, column", count=1)
    broker.wait_log("event=rule_refused.*rule 'unknown'", count=1)


def test_a_chain_of_four_rules_ends_there(world):
    steps = [("m/d/+/d2c", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    for n, (source, target) in enumerate(steps):
        rule(world, f"r{n}", f"SELECT n + 1 AS n FROM '{source}'", republish(target))
    broker = world.started()
    ear = listening(world, broker, "a", "b", "c", "d", "e")
    world.connected(broker, "dev-1").publish("m/d/dev-1/d2c", b'{"n": 0}')
    came = [ear.receive() for _ in range(4)]
    assert [(m.topic, json.loads(m.payload)["n"]) for m in came] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    nothing_comes(ear)


def test_a_loop_is_cut_and_said_once(world):
    rule(world, "loop", "SELECT n + 1 AS n FROM 'ring'", republish("ring"))
    broker = world.started()
    ear = listening(world, broker, "ring")
    device = world.connected(broker, "dev-1")
    for _ in range(3):
        device.publish("ring", b'{"n": 0}')
        assert [json.loads(ear.receive().payload)["n"] for _ in range(5)] == [0, 1, 2, 3, 4]
    nothing_comes(ear)
    assert len(broker.log_lines("event=rule_cut")) == 1


def test_messages_and_wills_on_topics_of_nobody_reach_rules(world):
    rule(world, "weather", "SELECT *, topic(2) AS place FROM 'weather/+'", republish("seen"))
    broker = world.started()
    ear = listening(world, broker, "seen")
    world.connected(broker, "dev-1").publish("weather/oslo", b'{"rain": 1}')
    assert json.loads(ear.receive().payload) == {"rain": 1, "place": "oslo"}
    client = world.connected(broker, "dev-2", will=Will("weather/bergen", b'{"rain": 2}', 1))
    client.drop()
    assert json.loads(ear.receive().payload) == {"rain": 2, "place": "bergen"}
    world.stored(broker)
    assert world.value("select count(*) from dead_letter") == 0
    assert world.value("select count(*) from telemetry where device like 'dev%%'") == 0


def test_presence_of_devices_is_published_and_may_trigger_rules(world):
    rule(world, "gone", "SELECT device, reason FROM 'm/presence/+' WHERE NOT connected", republish("gone"))
    broker = world.started()
    ear = listening(world, broker, "m/presence/dev-1", "gone")
    device = world.connected(broker, "dev-1")
    said = json.loads(ear.receive().payload)
    assert (said["device"], said["connected"], said["source"], said["client_id"]) == ("dev-1", True, "mqtt", "dev-1")
    assert said["address"] == "127.0.0.1"
    assert said["at"].endswith("Z") and abs(time.time() - world.value(
        "select extract(epoch from %s::timestamptz)::float8", said["at"])) < 60
    device.disconnect()
    first, second = ear.receive(), ear.receive()
    assert (first.topic, first.retain, second.topic) == ("m/presence/dev-1", False, "gone")
    said = json.loads(first.payload)
    assert said["connected"] is False and said["reason"]
    assert json.loads(second.payload) == {"device": "dev-1", "reason": said["reason"]}


# --- Messages to devices ---


def waiting(stack, device):
    rows = stack.query("select payload from downlink where device = %s order by id", device)
    return [json.loads(bytes(payload)) for (payload,) in rows]


def test_what_rules_republish_to_devices_reaches_those_connected_and_waits_for_others(world):
    rule(world, "command", "SELECT n FROM 'm/d/dev-1/d2c'", republish("m/d/${to}/c2d"))
    rule(world, "seen", "SELECT n FROM 'm/d/+/c2d'", republish("seen"))
    broker = world.started()
    ear = listening(world, broker, "seen")
    device = world.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d")
    device.publish("m/d/dev-1/d2c", b'{"n": 1, "to": "dev-1"}')
    assert json.loads(device.receive().payload) == {"n": 1}
    device.publish("m/d/dev-1/d2c", b'{"n": 2, "to": "dev-2"}')
    eventually(lambda: waiting(world, "dev-2") == [{"n": 2}], 10, "the message for dev-2")
    assert waiting(world, "dev-1") == []
    # By the chain, and not once more when the broker takes it.
    assert [json.loads(ear.receive().payload)["n"] for _ in range(2)] == [1, 2]
    nothing_comes(ear)


def test_what_is_published_to_a_device_waits_only_if_it_is_not_connected(world):
    broker = world.started()
    device = world.connected(broker, "dev-1")
    device.subscribe("m/d/dev-1/c2d/#")
    # It has both protocols, and was last heard of over CoAP: the broker need not believe that.
    world.wait_rows("select 1 from presence where device = 'dev-1' and connected")
    world.query("update presence set source = 'coap' where device = 'dev-1'")
    ear = world.connected(broker, "ear")
    ear.publish("m/d/dev-1/c2d/x", b'{"n": 1}')
    assert device.receive().topic == "m/d/dev-1/c2d/x"
    ear.publish("m/d/dev-2/c2d", b'{"n": 2}')
    eventually(lambda: waiting(world, "dev-2") == [{"n": 2}], 10, "the message for dev-2")
    world.stored(broker)
    assert waiting(world, "dev-1") == []


def test_what_rules_republish_as_a_devices_message_is_not_stored(world):
    rule(world, "copy", "SELECT * FROM 'm/d/dev-1/d2c'", republish("m/d/dev-2/d2c"))
    broker = world.started()
    ear = listening(world, broker, "m/d/dev-2/d2c")
    world.connected(broker, "dev-1").publish("m/d/dev-1/d2c", b'{"temperature": 1}')
    assert json.loads(ear.receive().payload) == {"temperature": 1}
    world.stored(broker)
    assert world.query("select device from telemetry where device like 'dev%%'") == [("dev-1",)]


# --- What comes from Fieldgate itself ---


def test_what_a_service_relays_is_neither_stored_nor_run_through_rules_but_waits_for_devices(world):
    world.devices("fieldgate-coap", service=True, policy="bus")
    rule(world, "all", "SELECT * FROM 'm/d/+/d2c'", republish("seen"))
    rule(world, "other", "SELECT * FROM 'other'", republish("seen"))
    rule(world, "down", "SELECT * FROM 'm/d/+/c2d'", republish("seen"))
    broker = world.started()
    ear = listening(world, broker, "m/d/+/d2c", "seen")
    with world.connected(broker, "fieldgate-coap") as relaying:
        for topic in ("m/d/dev-1/d2c", "other", "m/d/dev-2/c2d"):
            assert relaying.publish(topic, b'{"temperature": 1}') == 0
    assert ear.receive().topic == "m/d/dev-1/d2c"
    # A device of the same topics is taken in as ever.
    world.connected(broker, "dev-1").publish("m/d/dev-1/d2c", b'{"temperature": 2}')
    assert [json.loads(ear.receive().payload)["temperature"] for _ in range(2)] == [2, 2]
    nothing_comes(ear)
    world.stored(broker)
    assert world.query("select temperature from telemetry where device = 'dev-1'") == [(2,)]
    assert waiting(world, "dev-2") == [{"temperature": 1}]


# --- Outages ---


def test_republishing_goes_on_while_the_database_is_away(world):
    rule(world, "copy", "SELECT n FROM 'm/d/+/d2c'", republish("copy"))
    broker = world.started()
    ear = listening(world, broker, "copy")
    device = world.connected(broker, "dev-1")
    device.publish("m/d/dev-1/d2c", b'{"n": 0}')
    assert json.loads(ear.receive().payload) == {"n": 0}
    world.stop_database()
    for n in range(1, 200):
        assert device.publish("m/d/dev-1/d2c", json.dumps({"n": n})) == 0
    assert [json.loads(ear.receive().payload)["n"] for _ in range(1, 200)] == list(range(1, 200))


def test_rules_are_known_to_a_broker_that_starts_without_the_database(world):
    rule(world, "copy", "SELECT n FROM 'm/d/+/d2c'", republish("copy"))
    broker = world.started()
    world.in_force(broker)
    world.stop_database()
    broker.restart()
    ear = listening(world, broker, "copy")
    world.connected(broker, "dev-1").publish("m/d/dev-1/d2c", b'{"n": 0}')
    assert json.loads(ear.receive().payload) == {"n": 0}


def test_a_killed_broker_republishes_all_that_it_acknowledged(world):
    """To a device that was never seen: what arrives there is in a table, and outlives the broker."""
    world.query("update setting set value = 100000 where name = 'downlink_max_waiting'")
    rule(world, "copy", "SELECT n FROM 'm/d/dev-1/d2c'", republish("m/d/dev-2/c2d"))
    broker = world.started()
    acknowledged, n = [], 0
    for round in range(5):
        device = world.connected(broker, "dev-1")
        sent = {}
        for _ in range(100):
            sent[device.send_publish("m/d/dev-1/d2c", json.dumps({"n": n}))] = n
            n += 1
        # The last of them are unanswered, or answered and neither published nor stored.
        for packet_id in list(sent)[: 40 + 10 * round]:
            device.read_ack(packet_id, PUBACK)
            acknowledged.append(sent[packet_id])
        broker.kill()
        device.drop()
        broker.start()
    device = world.connected(broker, "dev-1")
    assert device.publish("m/d/dev-1/d2c", json.dumps({"n": n})) == 0
    acknowledged.append(n)
    eventually(lambda: {"n": n} in waiting(world, "dev-2"), 20, "the last message")
    came = [row["n"] for row in waiting(world, "dev-2")]
    assert set(acknowledged) <= set(came)
    # In order, but for what was republished again after a kill.
    assert sum(after <= before for before, after in zip(came, came[1:])) <= 5


def test_many_messages_are_republished_in_order_and_none_is_lost(world):
    rule(world, "copy", "SELECT n FROM 'm/d/dev-1/d2c'", republish("copy"))
    broker = world.started(mosquitto=["max_queued_messages 0", "max_inflight_messages 0"])
    ear = listening(world, broker, "copy")
    device = world.connected(broker, "dev-1")
    for first in range(0, 10000, 500):
        ids = [device.send_publish("m/d/dev-1/d2c", json.dumps({"n": n})) for n in range(first, first + 500)]
        for packet_id in ids:
            device.read_ack(packet_id, PUBACK)
    assert [json.loads(ear.receive().payload)["n"] for _ in range(10000)] == list(range(10000))
    assert not broker.log_lines("event=relay_missed|event=republish_refused")
