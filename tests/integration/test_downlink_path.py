# SPDX-License-Identifier: Apache-2.0
"""What a service publishes over MQTT to m/d/<device>/c2d reaches a device that speaks CoAP: through the broker's
plugin, its journal, the store, the table downlink, a notification of PostgreSQL, and fieldgate-coap. Any of these
processes may be killed in between."""

import contextlib
import statistics
import time

import pytest
from harness import mqtt
from harness.coap_client import JSON
from harness.mqtt import eventually
from test_downlink_coap import HINT, Listener, assert_nothing, ready, told, wait_delivered, waiting


class Sender:
    """A service that sends commands, each until the broker has acknowledged it."""

    def __init__(self, coap, broker):
        self.coap, self.broker, self.client = coap, broker, None

    def connect(self, timeout=20):
        deadline = time.monotonic() + timeout
        while True:
            self.close()
            with contextlib.suppress(mqtt.Closed, OSError):
                self.client = mqtt.Client(self.broker.port, "commander", self.coap.tls("commander"))
                if self.client.connect().code == 0:
                    return
            assert time.monotonic() < deadline, "the broker does not let it in"
            time.sleep(0.1)

    def send(self, payload, subtopic=None, device="dev-1"):
        topic = f"m/d/{device}/c2d" + (f"/{subtopic}" if subtopic else "")
        assert self.client.publish(topic, payload) == 0

    def close(self):
        if self.client:
            self.client.drop()


@pytest.fixture
def path(coap):
    """(coap, broker, sender, device): the device is connected to the CoAP server and known to have been there."""
    coap.policy("commands", ("publish", "m/d/+/c2d"), ("publish", "m/d/+/c2d/#"))
    coap.devices("commander", service=True, policy="commands")
    broker = coap.broker()
    broker.start()
    device = ready(coap, "dev-1")
    assert device.telemetry(0).code == "2.01"
    coap.wait_rows("select 1 from presence where device = 'dev-1' and connected")
    sender = Sender(coap, broker)
    sender.connect()
    yield coap, broker, sender, device
    sender.close()


def test_a_command_reaches_a_device_that_observes_and_how_long_it_takes(path):
    coap, _, sender, device = path
    assert_nothing(device.observe("msg/c2d"))
    took = []
    for i in range(200):
        began = time.monotonic()
        sender.send(str(i).encode())
        assert told(device)[0] == str(i).encode()
        took.append((time.monotonic() - began) * 1000)
    print(f"publish to device, ms: median {statistics.median(took):.1f}, p95 {sorted(took)[190]:.1f}, longest {max(took):.1f}")
    wait_delivered(coap)
    assert device.notification(timeout=1) is None


def test_a_sleeping_device_finds_what_was_published_meanwhile(path):
    coap, _, sender, device = path
    sent, got = [], []
    for wake in range(4):
        for i in range(wake):
            sent.append(("c2d/led" if i % 2 else "c2d", f'{{"n":{wake}{i}}}'))
            sender.send(sent[-1][1].encode(), "led" if i % 2 else None)
        time.sleep(3)
        answer = device.telemetry(wake + 1)
        assert answer.payload == (HINT if wake else b"")
        if not wake:
            continue
        answer = device.get("msg/c2d", query="envelope", accept=JSON)
        while answer.etag:
            got.append((answer.json["topic"], answer.json["payload"]))
            answer = device.get("msg/c2d", query="envelope", accept=JSON, etag=answer.etag)
    assert got == [(topic, {"n": int(text[5:-1])}) for topic, text in sent]
    wait_delivered(coap)


@pytest.mark.parametrize("victim", ["broker", "fieldgate-coap", "postgresql"])
def test_killed_processes_lose_nothing_and_what_comes_twice_has_its_etag(path, victim):
    coap, broker, sender, device = path
    server = coap.server
    listener = Listener(device)
    listener.register()
    sent = []

    def send(count):
        for _ in range(count):
            sent.append(f"{len(sent)}".encode())
            sender.send(sent[-1])

    send(5)
    if victim == "broker":
        # What is in its journal only.
        broker.kill()
        broker.start()
        sender.connect()
    elif victim == "fieldgate-coap":
        server.kill()
        send(5)
        server.start()
        coap.documents_ready(device)
    else:
        coap.stop_database("immediate")
        send(5)
        coap.start_database()
    send(5)
    listener.listen(lambda: len(listener.got) == len(sent), 60, patience=1)
    wait_delivered(coap, timeout=30)
    assert listener.got == sent
    assert len(listener.repeats) <= 1
    assert device.notification(timeout=1) is None
    assert waiting(coap) == []
    eventually(lambda: device.telemetry(99).payload == b"", 5, "the end of the hint")
