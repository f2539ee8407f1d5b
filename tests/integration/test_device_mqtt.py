# SPDX-License-Identifier: Apache-2.0
"""The firmware's core, as fieldgate-device, against Mosquitto with the plugin: what it measures becomes rows, once and
with its own times, whatever happens to the device, the broker or the database."""

import contextlib
import json
import secrets
import time

import pytest
from harness.coap import make_psk, register
from harness.device import SimulatedDevice
from harness.mqtt import eventually
from harness.pki import Fleet

METRICS = ("temperature", "humidity", "pressure", "air_quality", "light", "battery", "rsrp")
PSK_SUITES = "PSK-AES128-CCM8:PSK-AES128-GCM-SHA256:@SECLEVEL=0"


class Devices:
    """Devices of a Stack; they are killed when the test ends."""

    def __init__(self, stack):
        self.stack, self.made = stack, []
        self.master_key = secrets.token_bytes(32)
        self.key_file = stack.directory / "master.key"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(self.master_key.hex() + "\n")

    def credentials(self, kind="certificate", id="dev-1"):
        if kind == "certificate":
            return self.stack.devices(id)[id]
        made = make_psk(id, length=32)
        with contextlib.closing(self.stack.postgres.connect(dbname=self.stack.database)) as connection:
            register(connection, [made], self.master_key)
        return made

    def make(self, broker, credentials, kind="certificate", **options):
        port = broker.psk_port if kind == "psk" else broker.port
        options = {"ca": self.stack.fleet.ca, **options}
        device = SimulatedDevice(self.stack.directory / f"device{len(self.made)}", "mqtt", port, credentials, **options)
        self.made.append(device)
        return device

    def started(self, kind="certificate", **options):
        """A device that is let in, and its broker."""
        credentials = self.credentials(kind)
        broker = self.stack.started(psk=PSK_SUITES, settings={"secrets.key_file": self.key_file})
        return self.make(broker, credentials, kind, **options).start().running(), broker

    def close(self):
        for device in self.made:
            device.kill()


@pytest.fixture
def devices(stack):
    made = Devices(stack)
    yield made
    made.close()


KINDS = pytest.mark.parametrize("kind", ["certificate", "psk"])


def seqs(stack, device="dev-1"):
    return [seq for (seq,) in stack.query("select seq from telemetry where device = %s order by seq", device)]


def stored_once(stack, device, timeout=30):
    """Everything that was taken was acknowledged and is a row, and no number twice."""
    device.wait(lambda: device.acknowledged() == device.taken(), 60, "that all is acknowledged")
    expected = sorted(device.acknowledged())
    eventually(lambda: len(seqs(stack)) >= len(expected), timeout, "the rows")
    assert seqs(stack) == expected


@KINDS
def test_telemetry_becomes_rows(stack, devices, kind):
    before = time.time()
    device, _ = devices.started(kind)
    device.read(2)
    device.all_acknowledged(3)
    stored_once(stack, device)
    rows = stack.query(
        f"select {', '.join(METRICS)}, ts_source::text, extract(epoch from ts)::float, extra from telemetry order by seq"
    )
    for *values, source, ts, extra in rows:
        row = dict(zip(METRICS, values, strict=True))
        assert 10 < row["temperature"] < 35 and 20 < row["humidity"] < 80 and 950 < row["pressure"] < 1050, row
        assert 3 < row["battery"] < 4.3 and -120 < row["rsrp"] < -60 and 0 < row["light"] < 1000, row
        assert source == "device" and before - 1 < ts < time.time() + 1
        assert extra["uptime"] >= 0 and extra["cell"] > 0


def test_get_is_for_coap(stack, devices):
    device, _ = devices.started()
    device.send("button 1")
    assert "CoAP" in device.take("error", command="button")["text"]


def test_a_device_that_ends_says_farewell(stack, devices):
    device, broker = devices.started()
    device.all_acknowledged(1)
    assert device.quit()["acknowledged"] == 1 and device.status_code == 0
    broker.wait_log("Client dev-1 disconnected")


def test_readings_taken_offline_arrive_later_with_their_own_times(stack, devices):
    device, _ = devices.started()
    device.all_acknowledged(1)
    device.command("offline")
    device.take("state", state="attaching")
    taken = []
    for _ in range(3):
        time.sleep(0.3)
        taken.append(time.time())
        device.read()
    device.take("recorded", seq=4)
    assert device.acknowledged() == {1}
    device.command("online")
    stored_once(stack, device)
    times = stack.query("select extract(epoch from ts)::float from telemetry where seq > 1 order by seq")
    assert all(abs(ts - expected) < 0.25 for (ts,), expected in zip(times, taken, strict=True)), (times, taken)


def test_a_killed_device_goes_on_where_it_was(stack, devices, tmp_path):
    device, _ = devices.started(state=tmp_path / "state")
    device.all_acknowledged(1)
    device.command("offline")
    device.read(5)
    device.take("recorded", seq=6)
    device.kill()
    device.start().running().read()
    stored_once(stack, device)


def test_kills_at_any_moment_lose_and_repeat_nothing(stack, devices, tmp_path):
    device, _ = devices.started(state=tmp_path / "state")
    for turn in range(8):
        for _ in range(10):
            device.send("read")
        time.sleep(0.02 * turn)
        device.kill()
        device.start()
    device.running().read()
    # At the moment of a kill a reading may be marked as acknowledged in the flash before anything says so.
    device.wait(lambda: device.status()["waiting"] == 0, 60, "that nothing waits")
    wanted = device.taken() | device.acknowledged()
    eventually(lambda: set(seqs(stack)) >= wanted, 30, "the rows")
    assert len(seqs(stack)) == len(set(seqs(stack)))


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_a_broker_that_goes_is_survived(stack, devices, how):
    device, broker = devices.started()
    for _ in range(3):
        if how == "kill":
            broker.kill()
        else:
            broker.stop()
        device.read(3)
        broker.start()
        device.running(timeout=60)
        device.read(2)
    stored_once(stack, device)


def test_a_stopped_database_is_survived(stack, devices):
    device, _ = devices.started()
    device.all_acknowledged(1)
    stack.stop_database()
    device.read(5)
    device.all_acknowledged(6)
    stack.start_database()
    stored_once(stack, device)


def test_a_silent_network_is_noticed(stack, devices):
    """Nobody says that the connection is gone: the missing answer to a ping does."""
    device, _ = devices.started(keepalive=1, run_ms=5000)
    device.all_acknowledged(1)
    device.command("cut")
    device.read(2)
    device.take("state", state="backing off", timeout=90)
    device.command("online")
    device.running(timeout=90)
    stored_once(stack, device)


# --- What the cloud asks ---


def send(stack, payload):
    stack.query("insert into downlink (device, payload) values ('dev-1', %s)", json.dumps(payload))


def test_commands_are_carried_out_once(stack, devices):
    device, _ = devices.started()
    device.all_acknowledged(1)
    send(stack, {"interval": 604000, "id": 1})
    send(stack, {"read": True, "id": 2})
    send(stack, {"read": True, "id": 2})
    device.take("command", interval=604000, id=1)
    device.take("command", read=True, id=2)
    eventually(
        lambda: stack.value("select count(*) from downlink where delivered_at is null") == 0, 30, "that all is delivered"
    )
    device.all_acknowledged(2)
    send(stack, {"interval": 604001, "id": 3})
    device.take("command", interval=604001, id=3)
    assert device.acknowledged() == {1, 2} and device.status()["interval"] == 604001
    stored_once(stack, device)


def test_a_reboot_is_carried_out_once_and_keeps_what_is_stored(stack, devices):
    device, _ = devices.started()
    device.all_acknowledged(1)
    boot = device.status()["boot"]
    send(stack, {"interval": 604001, "id": 1})
    device.take("command", interval=604001)
    send(stack, {"reboot": True, "id": 2})
    device.take("command", reboot=True)
    device.running()
    device.all_acknowledged(2)  # the one at the start
    send(stack, {"interval": 604002, "id": 3})
    assert device.take("command")["id"] == 3
    status = device.status()
    assert (status["boot"], status["interval"]) == (boot + 1, 604002)
    stored_once(stack, device)


# --- Refusals ---


def test_a_server_of_another_authority_is_refused(stack, devices, tmp_path_factory):
    other = Fleet(tmp_path_factory.mktemp("other"), "").init()
    credentials = devices.credentials()
    broker = stack.started()
    device = devices.make(broker, credentials, ca=other.ca).start()
    fault = device.take("disconnected")
    assert fault["error"] == "EACCES" and fault["reason"], fault
    assert device.matching("connected") == []


@pytest.mark.parametrize("how", ["suspended", "revoked"])
def test_a_device_that_is_not_let_in_does_not_hammer(stack, devices, how):
    device, broker = devices.started(backoff_max_ms=60000, refused_min_ms=60000)
    device.all_acknowledged(1)
    if how == "suspended":
        stack.set_state("dev-1", "suspended")
    else:
        stack.query("update credential set revoked_at = now() where principal = 'dev-1'")
    stack.in_force(broker)
    device.read()
    device.take("fault", error="EACCES")
    device.take("state", state="backing off")
    since = broker.log_position()
    time.sleep(3)
    assert device.status()["state"] == "backing off" and device.status()["waiting"] >= 1
    assert not broker.log_lines("dev-1", since)
