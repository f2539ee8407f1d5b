# SPDX-License-Identifier: Apache-2.0
"""What a client may publish, subscribe to and receive: the broker's own answers, in both versions of MQTT."""

import random

import pytest

from harness.mqtt import V5, V31, V311, Closed, Message, eventually

FLEET = [f"dev-{n:04}" for n in range(1000)]
DENIED = {V311: 0x80, V5: 0x87}
NOT_AUTHORISED = 0x87
NO_SUBSCRIBERS = 0x10  # MQTT 5: a success

FOREIGN_FILTERS = (
    "#",
    "+/#",
    "m/#",
    "m/d/#",
    "m/d/+/d2c",
    "m/d/+/c2d",
    "m/d/+/c2d/#",
    "m/+/{own}/c2d",
    "m/d/{own}/#",
    "m/d/{own}/+",
    "m/d/{own}/d2c",
    "m/d/{other}/c2d",
    "m/d/{other}/c2d/#",
    "$SYS/#",
    "$SYS/broker/version",
    "$share/group/#",
    "$share/group/m/d/+/c2d",
    "$share/group/m/d/{other}/c2d",
)

FOREIGN_TOPICS = (
    "m/d/{other}/d2c",
    "m/d/{other}/d2c/x",
    "m/d/{other}/c2d",
    "m/d/{own}/c2d",
    "m/d/{own}",
    "m/d/{own}/d2cx",
    "m/d//d2c",
    "/m/d/{own}/d2c",
    "M/D/{own}/D2C",
    "{own}",
    "$SYS/broker/version",
    "$CONTROL/dynamic-security/v1",
    "$other/{own}",
)


def assert_publish_is_refused(client, topic):
    """MQTT 5: reason 0x87. MQTT 3.1.1 has no such answer: the connection is closed, without PUBACK."""
    if client.version == V5:
        assert client.publish(topic) == NOT_AUTHORISED, topic
        return
    client.send_publish(topic, b"1")
    with pytest.raises(Closed):
        client.ping()
    client.accepted()


def assert_may_use_its_own_topics(client, id):
    assert client.publish(f"m/d/{id}/d2c", b'{"temperature": 1}') in (0, NO_SUBSCRIBERS)
    assert client.publish(f"m/d/{id}/d2c/sub/topic", b'{"temperature": 2}') in (0, NO_SUBSCRIBERS)
    assert client.subscribe(f"m/d/{id}/c2d", f"m/d/{id}/c2d/#", f"m/d/{id}/c2d/+/x") == [1, 1, 1]


def test_thousand_devices_each_have_their_own_topics_only(stack):
    stack.devices(*FLEET)
    broker = stack.started()
    clients = {
        id: stack.client(broker, id, version=V5 if n % 2 else V311) for n, id in enumerate(FLEET)
    }
    for client in clients.values():
        client.accepted()
    # All of them at the same time: nobody was dropped for another.
    for client in clients.values():
        client.ping()

    rng = random.Random(1)
    for id, client in clients.items():
        assert_may_use_its_own_topics(client, id)
        for other in rng.sample([o for o in FLEET if o != id], 3):
            assert client.subscribe(f"m/d/{other}/c2d") == DENIED[client.version]
            if client.version == V5:
                assert client.publish(f"m/d/{other}/d2c") == NOT_AUTHORISED
        foreign = [f.format(own=id, other=other) for f in FOREIGN_FILTERS]
        assert client.subscribe(*foreign) == [DENIED[client.version]] * len(foreign)
    # In MQTT 3.1.1 a forbidden publish ends the connection: every tenth device shows it.
    for id in FLEET[::20]:
        assert_publish_is_refused(clients[id], f"m/d/{rng.choice(FLEET[1::2])}/d2c")

    # Nothing of what was refused went anywhere: only the two messages of each device are stored.
    stack.wait_rows("select device from telemetry", count=2 * len(FLEET), timeout=30)
    assert stack.value("select count(*) from telemetry") == 2 * len(FLEET)
    assert stack.value("select count(distinct device) from telemetry") == len(FLEET)


def test_all_999_other_devices_topics_are_refused_in_mqtt_5(stack):
    stack.devices(*FLEET)
    broker = stack.started()
    client = stack.connected(broker, FLEET[500], version=V5)
    others = [id for id in FLEET if id != FLEET[500]]
    codes = client.publish_all([f"m/d/{id}/d2c" for id in others])
    assert set(codes.values()) == {NOT_AUTHORISED} and len(codes) == 999
    for first in range(0, 999, 100):
        part = others[first : first + 100]
        assert set(client.subscribe(*[f"m/d/{id}/c2d" for id in part])) == {0x87}
    assert client.publish(f"m/d/{FLEET[500]}/d2c", b'{"temperature": 3}') in (0, NO_SUBSCRIBERS)
    assert stack.wait_rows("select device, temperature from telemetry") == [(FLEET[500], 3)]


def test_all_999_other_devices_topics_are_refused_in_mqtt_311(stack):
    stack.devices(*FLEET)
    broker = stack.started()
    client = stack.connected(broker, FLEET[500])
    others = [id for id in FLEET if id != FLEET[500]]
    for first in range(0, 999, 100):
        part = others[first : first + 100]
        assert set(client.subscribe(*[f"m/d/{id}/c2d" for id in part])) == {0x80}
    for id in others:
        assert_publish_is_refused(client, f"m/d/{id}/d2c")
    assert client.publish(f"m/d/{FLEET[500]}/d2c", b'{"temperature": 3}') == 0
    assert stack.wait_rows("select device, temperature from telemetry") == [(FLEET[500], 3)]


@pytest.mark.parametrize("version", [V311, V5])
def test_forbidden_topics_are_refused(stack, version):
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=version)
    for topic in FOREIGN_TOPICS:
        if version == V311 and topic.startswith("$SYS"):
            # The broker answers this itself, before it asks, and MQTT 3.1.1 gets a plain PUBACK.
            continue
        assert_publish_is_refused(client, topic.format(own="dev-1", other="dev-2"))


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("topic", ["m/d/+/d2c", "m/d/#", "#", "m/d/dev-1/d2c/+", "+"])
def test_wildcard_in_a_published_topic_ends_the_connection(stack, version, topic):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=version)
    client.send_publish(topic, b"1")
    with pytest.raises(Closed):
        client.ping()


def test_nobody_hears_sys_without_the_right_to(stack):
    stack.devices("dev-1")
    stack.policy("sys", ("publish", "#"), ("subscribe", "#"), ("receive", "#"), ("subscribe", "$SYS/#"))
    stack.devices("watcher", service=True, policy="sys")
    broker = stack.started()
    watcher = stack.connected(broker, "watcher")
    # May subscribe, but not receive: the check at delivery is another one.
    assert watcher.subscribe("$SYS/#") == 1
    watcher.ping()
    assert watcher.messages == []
    # A publish to $SYS never arrives, whatever MQTT 3.1.1's PUBACK says.
    assert stack.connected(broker, "dev-1").publish("$SYS/broker/version", b"x") == 0
    watcher.ping()
    assert watcher.messages == []


def test_ignored_publish_is_acknowledged_but_goes_nowhere(stack):
    stack.devices("dev-1", "dev-2")
    broker = stack.started(settings={"mqtt.refused_publish": "ignore"})
    client = stack.connected(broker, "dev-1")
    receiver = stack.connected(broker, "dev-2")
    assert receiver.subscribe("m/d/dev-2/c2d") == 1
    assert client.publish("m/d/dev-2/c2d", b"1") == 0
    assert client.publish("m/d/dev-2/d2c", b'{"temperature": 1}') == 0
    assert client.publish("m/d/dev-1/d2c", b'{"temperature": 2}') == 0
    assert stack.wait_rows("select device, temperature from telemetry") == [("dev-1", 2)]
    receiver.ping()
    assert receiver.messages == []
    broker.wait_log("event=publish_refused device=dev-1 .*may not publish to m/d/dev-2/c2d")


def test_forbidden_qos_0_publish_ends_the_connection_too(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    client.publish("m/d/dev-2/d2c", b"1", qos=0)
    client.wait_closed()
    broker.wait_log("event=publish_refused device=dev-1 .*m/d/dev-2/d2c: no rule allows it in policy device")


def test_refusals_do_not_flood_the_log(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=V5)
    client.publish_all(["m/d/dev-2/d2c"] * 500)
    # Over reconnects as well.
    for _ in range(5):
        with stack.connected(broker, "dev-1", version=V5) as again:
            again.publish_all(["m/d/dev-2/d2c"] * 10)
    assert len(broker.log_lines("event=publish_refused")) <= 2


def test_forbidden_subscribe_ends_an_mqtt_31_connection(stack):
    """That version has no negative SUBACK: the broker would say that it was granted."""
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=V31)
    assert client.subscribe("m/d/dev-1/c2d") == 1
    with pytest.raises(Closed):
        client.subscribe("m/d/dev-2/c2d")
    broker.wait_log("event=subscribe_refused device=dev-1 .*MQTT 3.1 cannot be told")
    stack.wait_rows("select 1 from presence where not connected and reason = 'it subscribed to what it may not'")


@pytest.mark.parametrize("version", [V311, V5])
def test_device_has_a_hundred_subscriptions_at_most(stack, version):
    """Each costs the broker memory, and its policy allows any number of filters."""
    stack.policy("reader", ("subscribe", "m/d/#"))
    stack.devices("dev-1")
    stack.devices("backend", service=True, policy="reader")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=version)
    codes = client.subscribe(*[f"m/d/dev-1/c2d/{n}" for n in range(101)])
    assert codes == [1] * 100 + [DENIED[version]]
    broker.wait_log("event=subscribe_refused device=dev-1 .*may have 100 subscriptions")
    client.unsubscribe("m/d/dev-1/c2d/7")
    service = stack.connected(broker, "backend", version=version)
    assert service.subscribe(*[f"m/d/dev-{n}/d2c" for n in range(200)]) == [1] * 200


def test_service_reads_the_fleet_and_commands_it(stack):
    stack.devices("dev-1", "dev-2")
    stack.policy(
        "dashboard",
        ("subscribe", "m/d/+/d2c/#"),
        ("receive", "m/d/+/d2c/#"),
        ("publish", "m/d/+/c2d"),
        ("receive", "m/d/dev-2/d2c/#", "deny"),
    )
    stack.devices("dashboard", service=True, policy="dashboard")
    broker = stack.started()
    dashboard = stack.connected(broker, "dashboard", version=V5)
    assert dashboard.subscribe("m/d/+/d2c/#") == 1
    assert dashboard.subscribe("$share/group/m/d/+/d2c/#") == 1
    assert dashboard.subscribe("m/d/+/c2d") == 0x87
    assert dashboard.subscribe("m/#") == 0x87
    dashboard.unsubscribe("$share/group/m/d/+/d2c/#")
    one, two = stack.connected(broker, "dev-1"), stack.connected(broker, "dev-2")
    assert one.subscribe("m/d/dev-1/c2d") == 1
    assert two.publish("m/d/dev-2/d2c", b'{"temperature": 2}') == 0
    assert one.publish("m/d/dev-1/d2c", b'{"temperature": 1}') == 0
    # dev-2's message came first, and was withheld.
    assert dashboard.receive() == Message("m/d/dev-1/d2c", b'{"temperature": 1}', 1, False)
    assert dashboard.publish("m/d/dev-1/c2d", b"reboot") == 0
    assert one.receive().payload == b"reboot"
    assert dashboard.publish("m/d/dev-1/d2c", b'{"temperature": 99}') == NOT_AUTHORISED


def test_change_of_a_policy_is_in_force_within_5_seconds(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1", version=V5)
    assert client.publish("m/d/dev-1/up") == NOT_AUTHORISED
    stack.query(
        "insert into policy_rule (policy, action, filter) values ('device', 'publish', 'm/d/${device}/up')"
    )
    eventually(lambda: client.publish("m/d/dev-1/up") != NOT_AUTHORISED, 5, "the new right")
    stack.query("delete from policy_rule where filter = 'm/d/${device}/up'")
    eventually(lambda: client.publish("m/d/dev-1/up") == NOT_AUTHORISED, 5, "its removal")
