# SPDX-License-Identifier: Apache-2.0
"""The firmware's core, as fieldgate-device, against fieldgate-coap: what it measures becomes rows, once and with its own
times, whatever happens to the device, the network, the server or the database."""

import json
import re
import time

import pytest
from harness.device import SimulatedDevice
from harness.mqtt import eventually
from harness.pki import Fleet

METRICS = ("temperature", "humidity", "pressure", "air_quality", "light", "battery", "rsrp")
KINDS = pytest.mark.parametrize("kind", ["certificate", "psk", "jwt"])


class Devices:
    """Devices of a CoapStack; they are killed when the test ends."""

    def __init__(self, coap):
        self.coap, self.made = coap, []

    def credentials(self, kind, id="dev-1"):
        if kind == "certificate":
            return self.coap.devices(id)[id]
        return self.coap.psk(id) if kind == "psk" else self.coap.jwt_key(id)

    def make(self, credentials, **options):
        directory = self.coap.directory / f"device{len(self.made)}"
        options = {"ca": self.coap.fleet.ca, **options}
        device = SimulatedDevice(directory, "coap", self.coap.server.port, credentials, **options)
        self.made.append(device)
        return device

    def started(self, kind="psk", settings=None, **options):
        """A server, and a device that is let in."""
        self.coap.started(settings)
        credentials = self.credentials(kind)
        self.coap.in_force()
        return self.make(credentials, **options).start().running()

    def close(self):
        for device in self.made:
            device.kill()


@pytest.fixture
def devices(coap):
    made = Devices(coap)
    yield made
    made.close()


def handshakes(coap):
    return len(coap.server.log_lines("event=session_opened"))


def stored_once(coap, device, timeout=30):
    """Everything that was acknowledged is a row, and no number twice; all that was taken was acknowledged."""
    acked = device.acknowledged()
    assert acked == device.taken()
    coap.wait_seqs(device.id, sorted(acked), timeout)


@KINDS
def test_telemetry_becomes_rows(coap, devices, kind):
    before = time.time()
    device = devices.started(kind)
    device.read(2)
    device.all_acknowledged(3)
    coap.wait_seqs("dev-1", [1, 2, 3])
    rows = coap.query(
        f"select {', '.join(METRICS)}, ts_source::text, extract(epoch from ts)::float, extra from telemetry order by seq"
    )
    for *values, source, ts, extra in rows:
        row = dict(zip(METRICS, values, strict=True))
        assert 10 < row["temperature"] < 35 and 20 < row["humidity"] < 80 and 950 < row["pressure"] < 1050, row
        assert 3 < row["battery"] < 4.3 and -120 < row["rsrp"] < -60 and 0 < row["light"] < 1000, row
        assert 0 <= row["air_quality"] < 200, row
        assert source == "device" and before - 1 < ts < time.time() + 1
        assert extra["uptime"] >= 0 and extra["retransmissions"] == 0 and extra["cell"] > 0


def test_the_same_seed_measures_the_same(coap, devices):
    device = devices.started(seed=7)
    device.read(4)
    device.all_acknowledged(5)
    other = devices.make(devices.credentials("psk", "dev-2"), seed=7)
    coap.in_force()
    other.start().running().read(4)
    other.all_acknowledged(5)
    coap.wait_seqs("dev-1", range(1, 6))
    coap.wait_seqs("dev-2", range(1, 6))
    first, second = (
        coap.query(f"select {', '.join(METRICS)} from telemetry where device = %s order by seq", id)
        for id in ("dev-1", "dev-2")
    )
    assert first == second and len(set(first)) > 1


def test_get_and_put_answer_as_in_the_paper(coap, devices):
    device = devices.started()
    coap.query("""select desire('dev-1', '{"interval": 604799, "led": "on"}')""")
    answer = eventually(lambda: (lambda a: a if a["code"] == "0x45" else None)(device.ask("button 1")), 15, "2.05")
    assert json.loads(answer["payload"])["led"] == "on" and re.fullmatch("([0-9a-f]{2}){1,8}", answer["token"])
    assert device.ask("button 1+2")["code"] == "0x44"
    assert device.ask('put msg/d2c 50 {"door": 3}')["code"] == "0x44"
    assert device.ask("put store/note hello")["code"] == "0x41"
    answer = device.ask("get store/note")
    assert (answer["code"], answer["payload"]) == ("0x45", "hello")
    assert device.ask("get store/nothing")["code"] == "0x84"
    rows = coap.wait_rows("select extra from telemetry where extra ?| '{button,door}' order by received_at", count=2)
    assert rows == [({"button": 3},), ({"door": 3},)]


def test_people_see_the_line_of_the_paper(coap, devices):
    device = devices.started()
    device.kill()
    device.arguments.remove("--json")
    process = device.start().process
    process.stdin.write(b"button 1\n")
    text = b""

    def answered():
        nonlocal text
        text += process.stdout.read(65536) or b""
        return re.search(rb"^CoAP response: Code 0x45, Token 0x[0-9a-f]+, Payload: ", text, re.M)

    eventually(answered, 30, "the line")


# --- Sessions ---


@KINDS
def test_the_session_survives_a_changed_port(coap, devices, kind):
    device = devices.started(kind)
    assert device.status()["handshakes"] == 1
    for _ in range(3):
        device.command("rebind")
        device.read()
    device.all_acknowledged(4)
    status = device.status()
    assert (status["handshakes"], status["resumed"]) == (1, 0)
    stored_once(coap, device)


@KINDS
def test_a_sleeping_device_resumes_without_a_handshake(coap, devices, kind):
    device = devices.started(kind, sleep=True)
    device.take("state", state="sleeping")
    for _ in range(3):
        device.read()
        device.take("connected", resumed=True)
        device.take("state", state="sleeping")
    status = device.status()
    assert (status["handshakes"], status["resumed"]) == (1, 3)
    device.all_acknowledged(4)
    stored_once(coap, device)


def test_a_device_that_sleeps_wakes_up_to_a_restarted_server(coap, devices):
    """The server keeps sessions over its restart, so there is no handshake then either."""
    device = devices.started("jwt", sleep=True)
    device.take("state", state="sleeping")
    coap.server.restart()
    device.read()
    device.take("state", state="sleeping")
    assert device.status()["handshakes"] == 1
    stored_once(coap, device)


def test_a_server_without_its_sessions_is_proven_to_again(coap, devices):
    device = devices.started("jwt", ack_timeout_ms=100, max_retransmit=2)
    device.all_acknowledged(1)
    coap.server.stop()
    for file in coap.server.sessions_dir.rglob("*"):
        if file.is_file():
            file.unlink()
    coap.server.start()
    device.read()
    device.all_acknowledged(2)
    assert device.status()["handshakes"] == 2
    stored_once(coap, device)


def test_unauthenticated_leads_to_a_new_authentication(coap, devices):
    """A request after the end of its credential, and before the server has looked for sessions to end, is 4.01."""
    coap.started()
    key = devices.credentials("jwt")
    coap.query("update credential set not_after = now() + interval '5 s' where principal = 'dev-1'")
    coap.in_force()
    device = devices.make(key).start().running()

    def refused():
        device.read()
        return device.matching("fault", code="4.01")

    eventually(refused, 20, "4.01")
    coap.query("update credential set not_after = null where principal = 'dev-1'")
    device.take("fault", code="4.01")
    device.running(timeout=60)
    device.wait(lambda: device.acknowledged() == device.taken(), 30, "that all is acknowledged")
    stored_once(coap, device)


def test_a_revoked_device_does_not_hammer(coap, devices):
    device = devices.started("psk", backoff_max_ms=60000, refused_min_ms=60000)
    device.all_acknowledged(1)
    coap.query("update credential set revoked_at = now() where principal = 'dev-1'")
    coap.in_force()
    device.read()
    device.take("disconnected", error="EACCES")
    device.take("state", state="backing off")
    since = coap.server.log_position()
    sent = device.status()["sent"]
    time.sleep(3)
    assert device.status()["sent"] == sent
    assert device.status()["state"] == "backing off" and device.status()["waiting"] >= 1
    assert not coap.server.log_lines("dev-1", since)


# --- A server that is not ours ---


def test_a_server_of_another_name_is_refused(coap, devices):
    coap.started()
    device = devices.make(devices.credentials("certificate"), host="127.0.0.2")
    coap.in_force()
    fault = device.start().take("disconnected")
    assert fault["error"] == "EACCES" and "does not match" in fault["reason"], fault
    assert device.matching("connected") == []


def test_a_server_of_another_authority_is_refused(coap, devices, tmp_path_factory):
    coap.started()
    other = Fleet(tmp_path_factory.mktemp("other"), "").init()
    device = devices.make(devices.credentials("jwt"), ca=other.ca)
    coap.in_force()
    fault = device.start().take("disconnected")
    assert fault["error"] == "EACCES" and fault["reason"], fault
    assert coap.seqs("dev-1") == []


# --- Nothing is lost, nothing comes twice ---


def test_readings_taken_offline_arrive_later_with_their_own_times(coap, devices):
    device = devices.started()
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
    device.all_acknowledged(4)
    assert device.status()["lost"] == 0
    stored_once(coap, device)
    times = coap.query("select extract(epoch from ts)::float from telemetry where seq > 1 order by seq")
    assert all(abs(ts - expected) < 0.25 for (ts,), expected in zip(times, taken, strict=True)), (times, taken)


def test_a_killed_device_goes_on_where_it_was(coap, devices, tmp_path):
    device = devices.started(state=tmp_path / "state")
    device.all_acknowledged(1)
    device.command("offline")
    device.read(5)
    device.take("recorded", seq=6)
    times = time.time()
    device.kill()
    device.start().running()
    device.read()
    device.wait(lambda: device.acknowledged() >= {2, 3, 4, 5, 6}, 30, "the readings of before")
    device.wait(lambda: device.acknowledged() == device.taken(), 30, "those of after")
    stored_once(coap, device)
    old = coap.query("select extract(epoch from ts)::float, seq from telemetry where seq <= 6")
    assert all(ts <= times + 0.1 for ts, _ in old)


def test_kills_at_any_moment_lose_and_repeat_nothing(coap, devices, tmp_path):
    device = devices.started(state=tmp_path / "state", loss=0.2, ack_timeout_ms=50)
    for turn in range(8):
        for _ in range(10):
            device.send("read")
        time.sleep(0.02 * turn)
        device.kill()
        device.start()
    device.running()
    device.read()
    # At the moment of a kill a reading may be in the flash, or marked as acknowledged there, before anything says so.
    device.wait(lambda: device.status()["waiting"] == 0, 60, "that nothing waits")
    coap.stored()
    seqs = coap.seqs("dev-1")
    assert len(seqs) == len(set(seqs)) and set(seqs) >= device.taken() | device.acknowledged()
    numbers = [line.split()[1] for line in device.recorded.read_text().splitlines()]
    assert len(numbers) == len(set(numbers)), "a number was used for two readings"


def test_lost_acknowledgements_double_nothing(coap, devices):
    device = devices.started(loss=0.4, duplicate=0.2, delay=5, delay_jitter=20, ack_timeout_ms=60, max_retransmit=10)
    device.read(30)
    device.all_acknowledged(31, timeout=120)
    assert device.status()["retransmissions"] > 0
    stored_once(coap, device)


def test_a_killed_server_is_survived(coap, devices):
    # Patience for half a minute: a server that starts slowly costs no handshake.
    device = devices.started(interval=1, ack_timeout_ms=1000)
    for _ in range(3):
        coap.server.kill()
        device.read(3)
        coap.server.start()
        device.read(2)
    device.wait(lambda: device.acknowledged() >= device.taken() and len(device.taken()) >= 16, 60, "that all is acknowledged")
    device.command("interval 604800")
    device.wait(lambda: device.acknowledged() == device.taken(), 60, "the last ones")
    assert device.status()["handshakes"] == 1
    stored_once(coap, device)


def test_a_stopped_database_is_survived(coap, devices):
    device = devices.started()
    device.all_acknowledged(1)
    coap.stop_database()
    device.read(5)
    device.all_acknowledged(6)
    coap.start_database()
    stored_once(coap, device)


# --- What the cloud asks ---


def send(coap, payload, device="dev-1"):
    coap.query("insert into downlink (device, payload) values (%s, %s)", device, json.dumps(payload))


def wait_delivered(coap):
    eventually(
        lambda: coap.query("select distinct delivered_over from downlink") == [("coap",)], 30, "that all is delivered"
    )


def reader(coap):
    key = coap.psk("reader")
    coap.in_force()
    return coap.connected(key)


@pytest.mark.parametrize("observe", [True, False])
def test_commands_are_carried_out_once(coap, devices, observe):
    device = devices.started(observe=observe)
    device.all_acknowledged(1)
    coap.documents_ready(reader(coap))
    send(coap, {"interval": 604000, "id": 1})
    send(coap, {"read": True, "id": 2})
    send(coap, {"read": True, "id": 2})
    if not observe:
        device.read()  # the answer says that something waits
    device.take("command", interval=604000, id=1)
    device.take("command", read=True, id=2)
    wait_delivered(coap)
    device.wait(lambda: len(device.acknowledged()) == (2 if observe else 3), 30, "the reading that was asked for")
    assert device.status()["interval"] == 604000 and device.matching("command") == []
    stored_once(coap, device)


def test_a_reboot_is_carried_out_once_and_keeps_what_is_stored(coap, devices):
    device = devices.started(observe=True)
    device.all_acknowledged(1)
    boot = device.status()["boot"]
    send(coap, {"interval": 604001})
    device.take("command", interval=604001)
    send(coap, {"reboot": True})
    device.take("command", reboot=True)
    device.running()
    wait_delivered(coap)
    device.all_acknowledged(2)  # the one at the start
    status = device.status()
    assert (status["boot"], status["interval"]) == (boot + 1, 604001)
    assert device.matching("command") == []
    stored_once(coap, device)


def test_what_is_desired_is_done_and_reported(coap, devices):
    coap.started()
    key = devices.credentials("psk")
    coap.in_force()
    coap.query("""select desire('dev-1', '{"interval": 604002, "colour": "red"}')""")
    # How often a device asks is also how often it sends.
    device = devices.make(key, state_poll=1, interval=1).start().running()
    device.take("command", interval=604002)
    delta = """select reported ->> 'interval', delta from device_shadow where device = 'dev-1'"""
    eventually(lambda: coap.query(delta) == [("604002", {"colour": "red"})], 30, "the report")
    coap.query("""select desire('dev-1', '{"interval": 604003}')""")
    time.sleep(1)
    device.read()
    eventually(lambda: coap.query(delta) == [("604003", {"colour": "red"})], 30, "the report of the second")
    assert device.status()["interval"] == 604003


def test_nonsense_from_the_cloud_is_refused(coap, devices):
    device = devices.started(observe=True)
    device.all_acknowledged(1)
    send(coap, {"interval": -1})
    device.take("command_refused")
    send(coap, {"interval": 604004})
    device.take("command", interval=604004)
    wait_delivered(coap)


# --- Time ---


@KINDS
def test_a_device_without_clock_asks_the_server(coap, devices, kind):
    before = time.time()
    device = devices.started(kind, clock="unknown")
    device.all_acknowledged(1)
    coap.wait_seqs("dev-1", [1])
    ((source, ts),) = coap.query("select ts_source::text, extract(epoch from ts)::float from telemetry")
    # The server's answer has whole seconds.
    assert source == "device" and before - 2 < ts < time.time() + 2


def test_readings_from_before_the_time_was_known_get_right_times(coap, devices, tmp_path):
    device = devices.started(clock="unknown", state=tmp_path / "state")
    device.kill()
    coap.server.stop()
    device.start()
    device.take("recorded")
    first = time.time()
    time.sleep(2.5)
    device.read()
    device.take("recorded")
    second = time.time()
    coap.server.start()
    device.running()
    device.wait(lambda: device.acknowledged() == device.taken(), 60, "that all is acknowledged")
    stored_once(coap, device)
    times = [ts for (ts,) in coap.query("select extract(epoch from ts)::float from telemetry order by seq")][-2:]
    assert abs(times[1] - times[0] - (second - first)) < 0.3, times
    assert abs(times[0] - first) < 1.5 and abs(times[1] - second) < 1.5
