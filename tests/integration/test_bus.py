# SPDX-License-Identifier: Apache-2.0
"""One bus: what CoAP devices post is seen by subscribers of the MQTT broker and stored once, whatever happens to
the broker and to fieldgate-coap. Real Mosquitto with the plugin, real fieldgate-coap, one database."""

import collections
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time

import cbor2
import pytest
from harness import mqtt
from harness.load import CoapLoad, acknowledged, load_line
from harness.ports import free_port

SERVICE = "fieldgate-coap"
LIMIT_S = 60


class Watcher:
    """A subscriber with a session that the broker keeps, on a thread of its own; it comes back after each loss of
    its connection, as a backend does."""

    def __init__(self, client, topic_filter):
        self.client, self.filter = client, topic_filter
        self.seen = []
        self.stopping = False
        self._connect()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _connect(self):
        self.client.accepted()
        self.client.subscribe(self.filter)

    def _run(self):
        while not self.stopping:
            try:
                self.seen.append(self.client.receive(timeout=0.5))
            except TimeoutError:
                continue
            except (mqtt.Closed, OSError, AttributeError):
                self._come_back()

    def _come_back(self):
        while not self.stopping:
            time.sleep(0.1)
            with contextlib.suppress(mqtt.Closed, OSError, TimeoutError, AssertionError):
                self.client.drop()
                self._connect()
                return

    def stop(self):
        self.stopping = True
        self.thread.join(LIMIT_S)
        self.client.drop()

    def payloads(self, topic):
        return [m.payload for m in list(self.seen) if m.topic == topic]

    def times(self):
        """How often each (device, seq) was seen on d2c."""
        found = collections.Counter()
        for m in list(self.seen):
            match = re.fullmatch("m/d/([^/]+)/d2c", m.topic)
            if match:
                said = json.loads(m.payload) if m.payload[:1] == b"{" else cbor2.loads(m.payload)
                found[match[1], said.get("seq")] += 1
        return found

    def wait(self, condition, what, timeout=LIMIT_S):
        return mqtt.eventually(condition, timeout, what)

    def wait_payload(self, topic, count=1):
        return self.wait(
            lambda: (lambda found: found if len(found) >= count else None)(self.payloads(topic)),
            f"{count} messages on {topic}, of {self.seen[-20:]}",
        )

    def wait_all(self, expected, timeout=LIMIT_S):
        """Each of these (device, seq) at least once."""
        deadline = time.monotonic() + timeout
        while set(expected) - set(self.times()) and time.monotonic() < deadline:
            time.sleep(0.1)
        missing = set(expected) - set(self.times())
        assert not missing, f"{len(missing)} of {len(expected)} were not published: {sorted(missing)[:10]}"


class World:
    """A broker with the plugin, the service of fieldgate-coap, and a watcher of everything."""

    def __init__(self, coap, **options):
        self.coap = coap
        (self.service,) = coap.devices(SERVICE, service=True, policy="bus").values()
        coap.policy("watch-all", ("subscribe", "#"), ("receive", "#"))
        coap.devices("watcher", service=True, policy="watch-all")
        self.broker = coap.broker(**options)
        self.watchers, self.markers = [], 0

    def bus(self, port=None):
        return {
            "bus.host": "localhost",
            "bus.port": port or self.broker.port,
            "bus.ca_file": self.coap.fleet.ca,
            "bus.certificate_file": self.service.cert,
            "bus.key_file": self.service.key,
        }

    def watcher(self, topic_filter="m/#"):
        self.watchers.append(Watcher(self.mqtt_client("watcher", clean=False), topic_filter))
        return self.watchers[-1]

    def start(self, settings=None):
        """The CoAP server."""
        return self.coap.started({**self.bus(), **(settings or {})})

    def load(self, devices, directory, **options):
        lines = [load_line(d) for d in devices]
        return CoapLoad(directory, self.coap.server.port, lines, ca=self.coap.fleet.ca, host="localhost", wait=True,
                        timestamp=True, **options)

    def stored_by_plugin(self):
        """Wait until the plugin has stored whatever it was to store up to now: its journal keeps the order."""
        self.markers += 1
        id = f"marker-{self.markers}"
        self.coap.devices(id)
        mqtt.eventually(lambda: self._publishes(id), LIMIT_S, "the acceptance of a new device")
        self.coap.wait_rows("select 1 from telemetry where device = %s", id)

    def _publishes(self, id):
        with contextlib.suppress(mqtt.Closed, AssertionError), self.mqtt_client(id).accepted() as client:
            return client.publish(f"m/d/{id}/d2c", b'{"seq": 1, "light": 0}') == 0
        return False

    def mqtt_client(self, id, **options):
        client = mqtt.Client(self.broker.port, id, self.coap.tls(id), **options)
        self.coap.cleanup.callback(client.drop)
        return client

    def close(self):
        for watcher in self.watchers:
            watcher.stop()


@pytest.fixture
def world(coap):
    made = []

    def make(start=True, **options):
        made.append(World(coap, **options))
        if start:
            made[-1].broker.start()
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(ProcessLookupError):
            if one.broker.running():
                os.kill(one.broker.pid, signal.SIGCONT)
        one.close()


def rows(coap, device):
    return coap.query("select count(*) from telemetry where device = %s", device)[0][0]


def bus_status(server, since=0):
    """The figures of the newest line coap_bus: a dict of texts."""
    lines = server.log_lines("event=coap_bus ", since)
    return dict(re.findall(r"(\w+)=([\w]+)", lines[-1].split('msg="')[1])) if lines else {}


def all_answered(figures):
    assert figures["unacknowledged"] == figures["refused"] == 0
    assert set(figures["codes"]) == {"2.01"}


# --- Every message ---


def test_a_post_is_seen_as_it_was_sent_and_stored_once(coap, world):
    w = world()
    watcher = w.watcher()
    coap.psk("dev-1")
    w.start()
    device = coap.connected("dev-1")
    payload = b'{"light": 17,   "text": "as it was sent"}'
    assert device.post("msg/d2c", payload, format=50).code == "2.01"
    assert watcher.wait_payload("m/d/dev-1/d2c") == [payload]
    cbor = b"\xa1\x65light\x12"
    assert device.post("msg/d2c", cbor, format=60).code == "2.01"
    assert watcher.wait_payload("m/d/dev-1/d2c", count=2) == [payload, cbor]
    assert device.post("msg/d2c/raw", b"\x00\xff", format=42).code == "2.01"
    assert watcher.wait_payload("m/d/dev-1/d2c/raw") == [cbor2.dumps(b"\x00\xff")]
    # What comes after them by the same ways is there as well: nothing is still on the way.
    w.stored_by_plugin()
    assert coap.query("select light, count(*) from telemetry where device = 'dev-1' group by 1 order by 1") == [
        (17, 1),
        (18, 1),
        (None, 1),
    ]
    assert coap.query("select count(*) from dead_letter") == [(0,)]


def test_what_another_service_publishes_is_stored_so_it_is_the_right_that_tells(coap, world):
    """The counterpart: without the right `relay` the plugin takes the message in."""
    w = world()
    watcher = w.watcher()
    coap.psk("dev-1")
    coap.policy("publish-all", ("publish", "#"))
    coap.query("update principal set policy = 'publish-all' where id = %s", SERVICE)
    w.stored_by_plugin()  # so it is in force
    w.start()
    device = coap.connected("dev-1")
    assert device.reading(1).code == "2.01"
    watcher.wait_payload("m/d/dev-1/d2c")
    coap.wait_readings("dev-1", [1, 1])


def test_without_a_bus_everything_is_stored_and_one_line_says_so(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    assert len(server.log_lines("event=bus_absent")) == 1
    assert coap.connected("dev-1").telemetry(1).code == "2.01"
    coap.wait_seqs("dev-1", [1])
    assert not server.log_lines("event=coap_bus ")


def test_telemetry_stays_off_the_bus_when_it_shall(coap, world):
    w = world()
    watcher = w.watcher()
    coap.psk("dev-1")
    w.start({"bus.telemetry": "no"})
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    device.close()
    watcher.wait_payload("m/presence/dev-1", count=2)
    assert not watcher.payloads("m/d/dev-1/d2c")
    coap.wait_seqs("dev-1", [1])


def test_presence_of_a_coap_device(coap, world):
    w = world()
    watcher = w.watcher()
    coap.psk("dev-1")
    w.start()
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    device.close()
    first, second = (json.loads(p) for p in watcher.wait_payload("m/presence/dev-1", count=2))
    assert (first["device"], first["connected"], first["source"]) == ("dev-1", True, "coap")
    assert (second["device"], second["connected"], second["source"]) == ("dev-1", False, "coap")


def test_a_rule_republishes_what_a_coap_device_posts(coap, world):
    """The paper's: a subset of the data to another topic."""
    w = world()
    watcher = w.watcher("#")
    coap.psk("dev-1")
    coap.query(
        "insert into rule (name, sql, actions) values ('hot', %s, %s)",
        "SELECT temperature AS t FROM 'm/d/+/d2c' WHERE temperature > 30",
        json.dumps([{"republish": {"topic": "alerts/${topic(3)}"}}]),
    )
    w.start()
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.post("msg/d2c", {"temperature": 20, "humidity": 40}).code == "2.01"
    assert device.post("msg/d2c", {"temperature": 31.5, "humidity": 41}).code == "2.01"
    (payload,) = watcher.wait_payload("alerts/dev-1")
    assert json.loads(payload) == {"t": 31.5}
    assert len(watcher.wait_payload("m/d/dev-1/d2c", count=2)) == 2


def test_two_workers_are_two_clients_of_one_service(coap, world):
    w = world()
    watcher = w.watcher()
    devices = coap.psk(*(f"dev-{i}" for i in range(16)))
    server = w.start({"coap.workers": 2})
    server.wait_log("event=bus_connected", count=2)
    names = {re.search(" as ([^ \"]+)", line)[1] for line in server.log_lines("event=bus_connected")}
    assert names == {SERVICE, f"{SERVICE}/coap-1"}
    workers = set()
    for key in devices:
        device = coap.connected(key)
        workers.add(device.peer_cid[:1])
        assert device.telemetry(1).code == "2.01"
    assert len(workers) == 2
    watcher.wait_all({(key.id, 1) for key in devices})
    coap.stored()
    assert [rows(coap, key.id) for key in devices] == [1] * len(devices)


# --- The broker's troubles ---


def test_a_broker_that_comes_later_gets_everything(coap, world):
    w = world(start=False)
    coap.psk("dev-1")
    server = w.start()
    device = coap.connected("dev-1")
    for seq in range(1, 101):
        assert device.telemetry(seq).code == "2.01"
    coap.wait_seqs("dev-1", range(1, 101))
    server.wait_log("event=bus_unreachable")
    # Its subscriber must be there before the bus: the broker starts on another port first.
    port, w.broker.port = w.broker.port, free_port()
    w.broker.configure()
    w.broker.start()
    w.watcher().stop()
    w.broker.stop()
    w.broker.port = port
    w.broker.configure()
    w.broker.start()
    w.watcher().wait_all({("dev-1", seq) for seq in range(1, 101)})
    coap.stored()
    assert rows(coap, "dev-1") == 100


@pytest.mark.parametrize("how", ["restart", "stop_and_continue"])
def test_a_broker_in_trouble_under_load_gets_everything_in_the_end(coap, world, tmp_path, how):
    """Its own acknowledgements hold over an orderly restart, so the subscriber sees every message."""
    w = world()
    watcher = w.watcher()
    devices = coap.psk(*(f"load-{i}" for i in range(20)))
    w.start()
    coap.in_force()
    with w.load(devices, tmp_path / "load", rate=300, seconds=9) as running:
        running.ready()
        running.go()
        for _ in range(2):
            time.sleep(1.5)
            if how == "restart":
                w.broker.stop()
                time.sleep(1)
                w.broker.start()
            else:
                os.kill(w.broker.pid, signal.SIGSTOP)
                time.sleep(1.5)
                os.kill(w.broker.pid, signal.SIGCONT)
        figures = running.wait()
    all_answered(figures)
    expected = acknowledged(tmp_path / "load" / "acked")
    watcher.wait_all(expected)
    coap.stored()
    assert coap.query("select count(*) from telemetry where device like 'load-%%'") == [(len(expected),)]


def test_a_killed_broker_gets_all_that_comes_after(coap, world, tmp_path):
    """What it has acknowledged and not passed on is gone with its memory; nothing else is."""
    w = world()
    w.watcher().stop()
    devices = coap.psk(*(f"load-{i}" for i in range(20)))
    server = w.start()
    coap.in_force()
    server.wait_log("event=bus_connected")
    with w.load(devices, tmp_path / "load", rate=300, seconds=6) as running:
        running.ready()
        running.go()
        time.sleep(2)
        w.broker.kill()
        server.wait_log("event=bus_disconnected")
        figures = running.wait()
    all_answered(figures)
    later = coap.psk("later")
    w.broker.start()
    watcher = w.watcher()
    coap.in_force()
    device = coap.connected(later)
    for seq in range(1, 51):
        assert device.telemetry(seq).code == "2.01"
    watcher.wait_all({("later", seq) for seq in range(1, 51)})
    coap.stored()
    expected = acknowledged(tmp_path / "load" / "acked")
    assert coap.query("select count(*) from telemetry where device like 'load-%%'") == [(len(expected),)]
    server.wait_log("event=coap_bus .*in_flight=0 ")
    assert int(bus_status(server)["refused"]) == 0


def test_a_listener_that_says_nothing_keeps_no_device_waiting(coap, world, tmp_path):
    w = world(start=False)
    devices = coap.psk(*(f"load-{i}" for i in range(20)))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = w.start(w.bus(silent.getsockname()[1]))
        coap.in_force()
        with w.load(devices, tmp_path / "load", rate=300, seconds=4) as running:
            running.ready()
            running.go()
            figures = running.wait()
        all_answered(figures)
        server.wait_log("takes the connection and does not answer", timeout=30)
        coap.stored()
        expected = acknowledged(tmp_path / "load" / "acked")
        assert coap.query("select count(*) from telemetry where device like 'load-%%'") == [(len(expected),)]
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10


def test_a_name_that_does_not_resolve_keeps_no_device_waiting(coap, world):
    w = world(start=False)
    coap.psk("dev-1")
    server = w.start({"bus.host": "no-such-broker.invalid"})
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    coap.wait_seqs("dev-1", [1])
    server.wait_log("event=bus_unreachable.*cannot find its address")


def test_a_broker_with_another_certificate_is_told_nothing(coap, world):
    w = world()
    watcher = w.watcher()
    coap.psk("dev-1")
    server = w.start({"bus.host": "127.0.0.2"})
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    server.wait_log("event=bus_unreachable.*127.0.0.2")
    coap.wait_seqs("dev-1", [1])
    assert not watcher.payloads("m/d/dev-1/d2c")


# --- The service's troubles ---


def test_a_revoked_service_is_refused_and_devices_are_served(coap, world):
    w = world()
    watcher = w.watcher()
    coap.psk("dev-1")
    server = w.start()
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    watcher.wait_all({("dev-1", 1)})
    coap.set_state(SERVICE, "revoked")
    server.wait_log("event=bus_disconnected", timeout=15)
    w.broker.wait_log(f"event=connect_refused device={SERVICE}", timeout=15)
    for seq in range(2, 52):
        assert device.telemetry(seq).code == "2.01"
    coap.wait_seqs("dev-1", range(1, 52))
    assert not {("dev-1", seq) for seq in range(2, 52)} & set(watcher.times())
    # And when it was a mistake, nothing is missing.
    coap.set_state(SERVICE, "active")
    watcher.wait_all({("dev-1", seq) for seq in range(1, 52)})


def test_what_the_policy_forbids_is_refused_counted_and_holds_nothing_up(coap, world):
    w = world()
    watcher = w.watcher()
    coap.psk("dev-1", "dev-2")
    coap.query("insert into policy_rule (policy, effect, action, filter) values ('bus', 'deny', 'publish', 'm/d/dev-1/#')")
    w.stored_by_plugin()  # so it is in force
    server = w.start()
    one, two = coap.connected("dev-1"), coap.connected("dev-2")
    for seq in range(1, 11):
        assert one.telemetry(seq).code == "2.01"
        assert two.telemetry(seq).code == "2.01"
    watcher.wait_all({("dev-2", seq) for seq in range(1, 11)})
    mqtt.eventually(lambda: bus_status(server).get("refused") == "10", LIMIT_S, "10 refused")
    assert server.log_lines("event=bus_publish_refused.*m/d/dev-1/d2c.*0x87")
    assert not watcher.payloads("m/d/dev-1/d2c")
    coap.wait_seqs("dev-1", range(1, 11))


def test_what_a_thief_of_the_certificate_left_retained_is_not_delivered(coap, world):
    """And he is not let in under a device's name, does not read, and nothing of his becomes a row."""
    w = world(mosquitto=["check_retain_source true"])
    coap.devices("dev-1")
    w.stored_by_plugin()
    with w.mqtt_client(SERVICE).accepted() as thief:
        assert thief.subscribe("m/d/#") == 0x80
        thief.publish("m/d/dev-1/d2c", b'{"light": 1}', retain=True)
    with w.mqtt_client("watcher").accepted() as client:
        client.subscribe("m/d/dev-1/#")
        assert client.receive().payload == b'{"light": 1}'
    as_device = mqtt.Client(w.broker.port, "dev-1", coap.tls(SERVICE))
    assert as_device.connect().code != 0
    as_device.drop()
    coap.set_state(SERVICE, "revoked")
    w.stored_by_plugin()
    with w.mqtt_client("watcher").accepted() as client:
        client.subscribe("m/d/dev-1/#")
        with pytest.raises(TimeoutError):
            client.receive(timeout=1)
    assert rows(coap, "dev-1") == 0


# --- fieldgate-coap's own troubles ---


@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_under_load_publishes_at_least_once_and_stores_exactly_once(coap, world, tmp_path, workers):
    w = world()
    watcher = w.watcher()
    devices = coap.psk(*(f"load-{i}" for i in range(20)))
    w.start({"coap.workers": workers})
    coap.in_force()
    with w.load(devices, tmp_path / "load", rate=300, seconds=8) as running:
        running.ready()
        running.go()
        for _ in range(2):
            time.sleep(2)
            coap.server.kill()
            coap.server.start()
        figures = running.wait()
    assert figures["unacknowledged"] == figures["refused"] == 0
    expected = acknowledged(tmp_path / "load" / "acked")
    watcher.wait_all(expected)
    coap.stored()
    assert coap.query("select device, seq, count(*) from telemetry group by 1, 2 having count(*) > 1") == []
    assert coap.query("select count(*) from telemetry where device like 'load-%%'") == [(len(expected),)]


def test_what_a_stopped_server_had_not_published_its_successor_publishes(coap, world):
    """Also when the successor has fewer workers: the journal of the others is brought to its end."""
    w = world()
    watcher = w.watcher()
    devices = coap.psk(*(f"dev-{i}" for i in range(16)))
    server = w.start({"coap.workers": 2})
    server.wait_log("event=bus_connected", count=2)
    os.kill(w.broker.pid, signal.SIGSTOP)
    for key in devices:
        assert coap.connected(key).telemetry(1).code == "2.01"
    assert server.stop() == 0
    os.kill(w.broker.pid, signal.SIGCONT)
    server.configure({"coap.workers": 1})
    server.start()
    watcher.wait_all({(key.id, 1) for key in devices})
    server.wait_log("event=journal_drained.*is stored and published", timeout=LIMIT_S)
    assert [rows(coap, key.id) for key in devices] == [1] * len(devices)
