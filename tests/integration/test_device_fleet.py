# SPDX-License-Identifier: Apache-2.0
"""`fieldgate-device fleet`: many devices in one process, with everything that happens to devices."""

import os
import signal
import subprocess

import pytest
from harness.device import FIELDGATE_DEVICE, SimulatedFleet, fleet_line
from harness.mqtt import eventually

DEVICES = 60


@pytest.fixture
def fleets():
    made = []
    yield made
    for fleet in made:
        fleet.kill()


def ids(count=DEVICES):
    return [f"fleet-{n}" for n in range(count)]


def said(file):
    return {tuple(line.split()) for line in file.read_text().splitlines()}


def stored_once(stack, fleet, timeout=60):
    """What was taken was acknowledged, and is a row once."""
    acked = said(fleet.acked)
    assert acked == said(fleet.recorded)
    eventually(
        lambda: stack.value("select count(*) from telemetry where device like 'fleet-%%'") >= len(acked), timeout, "rows"
    )
    stored = [(id, str(seq)) for id, seq in stack.query("select device, seq from telemetry where device like 'fleet-%%'")]
    assert len(stored) == len(acked) and set(stored) == acked


def over_coap(coap, fleets, directory, credentials, **options):
    coap.in_force()
    lines = [fleet_line(directory, c) for c in credentials]
    options = {"ca": coap.fleet.ca, **options}
    fleets.append(SimulatedFleet(directory / "fleet", "coap", coap.server.port, lines, **options))
    return fleets[-1].start()


def test_everything_that_happens_to_devices_loses_and_repeats_nothing(coap, fleets, tmp_path):
    """Lost datagrams, NATs that forget, dead spots, sleep, and a server that is killed."""
    server = coap.started()
    kinds = coap.psk(*ids(20)) + coap.jwt_key(*(f"fleet-jwt-{n}" for n in range(20)))
    kinds += coap.devices(*(f"fleet-cert-{n}" for n in range(20))).values()
    fleet = over_coap(
        coap, fleets, tmp_path, kinds, interval=1, jitter=50, loss=0.1, duplicate=0.05, delay=2, delay_jitter=30,
        sleep=True, rebind_every=2, offline_every=4, offline_for=1, seconds=8, drain=60, ramp=1, ack_timeout_ms=200,
    )  # fmt: skip
    fleet.take("ready", timeout=60)
    server.kill()
    server.start()
    figures = fleet.figures(120)
    assert fleet.status_code == 0 and figures["waiting"] == 0 and figures["connected"] == DEVICES, figures
    assert figures["recorded"] > 3 * DEVICES and figures["resumed"] > DEVICES
    assert figures["transmissions"] > figures["messages"]
    stored_once(coap, fleet)


def test_devices_that_stay_awake_keep_their_sessions(coap, fleets, tmp_path):
    coap.started()
    fleet = over_coap(
        coap, fleets, tmp_path, coap.psk(*ids()), interval=1, rebind_every=2, count=5, metrics=3
    )  # fmt: skip
    figures = fleet.figures(120)
    assert figures["acknowledged"] == 5 * DEVICES, figures
    assert figures["handshakes"] == DEVICES, figures
    stored_once(coap, fleet)
    assert coap.value("select count(*) from telemetry where light is null and temperature is not null") == 5 * DEVICES


def test_over_mqtt(stack, fleets, tmp_path):
    made = stack.devices(*ids())
    broker = stack.started()
    lines = [fleet_line(tmp_path, c) for c in made.values()]
    fleets.append(
        SimulatedFleet(
            tmp_path / "fleet", "mqtt", broker.port, lines, ca=stack.fleet.ca, interval=1, seconds=8, drain=60,
            offline_every=3, offline_for=1,
        )
    )  # fmt: skip
    fleet = fleets[-1].start()
    fleet.take("ready", timeout=60)
    broker.kill()
    broker.start()
    figures = fleet.figures(120)
    assert fleet.status_code == 0 and figures["waiting"] == 0 and figures["connected"] == DEVICES, figures
    stored_once(stack, fleet)


def test_the_pki_of_a_fleet_is_enough(coap, fleets, tmp_path):
    coap.started()
    made = coap.devices("fleet-a", "fleet-b")
    coap.in_force()
    pki = tmp_path / "pki"
    (pki / "devices").mkdir(parents=True)
    (pki / "ca.pem").symlink_to(coap.fleet.ca)
    for id, credentials in made.items():
        (pki / "devices" / id).symlink_to(credentials.directory)
    result = subprocess.run(
        [FIELDGATE_DEVICE, "fleet", "--transport", "coap", "--port", str(coap.server.port), "--pki", pki,
         "--count", "2", "--interval", "1", "--refused-min-ms", "300"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "done: 4 of 4 readings acknowledged" in result.stdout
    eventually(lambda: coap.value("select count(*) from telemetry where device like 'fleet-_'") == 4, 15, "rows")


def test_state_outlives_the_process(coap, fleets, tmp_path):
    coap.started()
    keys = coap.psk(*ids(5))
    fleet = over_coap(coap, fleets, tmp_path, keys, interval=1, state=tmp_path / "state")
    fleet.take("ready")
    coap.server.stop()
    before = fleet.recorded.read_text().count("\n")
    fleet.wait(lambda: fleet.recorded.read_text().count("\n") >= before + 10, 60, "readings")
    fleet.kill()
    coap.server.start()
    fleet.start()
    fleet.wait(lambda: said(fleet.acked) >= said(fleet.recorded), 60, "those of before")
    fleet.process.send_signal(signal.SIGINT)
    fleet.figures()
    eventually(
        lambda: coap.value("select count(*) from telemetry where device like 'fleet-%%'") >= len(said(fleet.acked)), 30, "rows"
    )
    rows = coap.query("select device, seq from telemetry where device like 'fleet-%%'")
    assert len(rows) == len(set(rows))


def test_two_processes_do_not_have_one_state(coap, tmp_path):
    key = tmp_path / "psk"
    key.write_text("00" * 16)
    command = [
        FIELDGATE_DEVICE, "--id", "dev-1", "--transport", "coap", "--port", "9", "--psk-file", key,
        "--psk-identity", "x", "--state", tmp_path / "state", "--interactive",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        first.stdout.readline()
        second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
        first.stdin.close()
        assert second.returncode == 1 and "another process" in second.stderr
        assert first.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--transport coap or --transport mqtt"),
        (["--transport", "smoke"], "--transport smoke"),
        (["--transport", "coap"], "--id says which"),
        (["--transport", "coap", "--id", "a b"], "letters, digits"),
        (["--transport", "coap", "--id", "a"], "give one of"),
        (["--transport", "coap", "--id", "a", "--cert", "x", "--key", "y"], "--ca is wanted"),
        (["--transport", "mqtt", "--id", "a", "--jwt-key", "x"], "is for CoAP"),
        (["--transport", "coap", "--id", "a", "--psk-file", "/nowhere"], "/nowhere: No such file"),
        (["--transport", "coap", "--interval", "0"], "--interval 0: expected a whole number from 1"),
        (["--transport", "coap", "--loss", "2"], "--loss 2: expected a number from 0 to 1"),
        (["fleet", "--transport", "coap"], "give one of --credentials and --pki"),
        (["fleet", "--transport", "coap", "--credentials", os.devnull], "there are 0 devices"),
        (["--transport", "coap", "surplus"], "surplus: not an option"),
    ],
)
def test_what_makes_no_sense_is_said(arguments, words):
    result = subprocess.run([FIELDGATE_DEVICE, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode in (1, 2) and words in result.stderr, result.stderr
    assert result.stderr.count("\n") <= 2
