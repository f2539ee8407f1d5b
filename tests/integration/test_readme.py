# SPDX-License-Identifier: Apache-2.0
"""README.md says only what was run: its walk-through is executed as written, its table is printed by the
code that reads the settings, and the files that it names are there."""

import contextlib
import os
import re
import subprocess
import threading

from harness.modem import SimulatedModem
from test_stack import ROOT, Stack, wait_until

README = (ROOT / "README.md").read_text()


def block(name):
    [commands] = re.findall(rf"^```sh run {name}\n(.*?)^```$", README, re.M | re.S)
    return commands


def run_block(name, environment):
    """What it has printed."""
    result = subprocess.run(
        ["bash", "-euxc", block(name)], cwd=ROOT, env=environment, text=True, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_walk_through_runs_as_written(tmp_path):
    blocks = re.findall(r"^```sh run\n(.*?)^```$", README, re.M | re.S)
    assert blocks
    stack = Stack(tmp_path / "run")
    try:
        stack.start_and_wait()
        result = subprocess.run(
            ["bash", "-euxc", "\n".join(blocks)], cwd=ROOT, env=stack.environment, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(r'21\.5 +\| +48 +\| +\{"co2": 612\}', result.stdout), result.stdout
        assert re.search(r"21\.7 +\| +640", result.stdout), result.stdout
        assert "Not authorized" in result.stdout + result.stderr
        assert re.search(r"tracker-1 +\| +31\.5", result.stdout), result.stdout
        assert stack.rows("tracker-1") == 3
        assert stack.rows("tracker-2") == 0
    finally:
        stack.end()


def test_devices_get_their_keys_as_written(tmp_path):
    stack = Stack(tmp_path / "run")
    try:
        stack.start_and_wait()
        with SimulatedModem(tmp_path) as modem:
            output = run_block("keys", stack.environment | {"MODEM": str(modem.port)})
            # The modem's device is not one of those that programs play: it connects by itself.
            assert modem.mqtt(stack.mqtt_port, "tracker-7", seq=7) == 0
        for device in ("desk-1", "buoy-1", "buoy-2", "buoy-3", "meter-1"):
            assert re.search(rf"{device} +\|.*\| +3\.[69]\n", output), output
            assert stack.rows(device) == 1
        wait_until(lambda: stack.rows("tracker-7") == 1)
        assert not (stack.run_dir / "pki/devices/tracker-7/key.pem").exists()
    finally:
        stack.end()


class Terminal:
    """A terminal in which commands run, and a person who reads and types."""

    def __init__(self, commands, env):
        self.fd, inside = os.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            ["bash", "-euc", commands], cwd=ROOT, env=env, stdin=inside, stdout=inside, stderr=inside,
            start_new_session=True)
        os.close(inside)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while data := os.read(self.fd, 4096):
                self.text += data.decode(errors="replace")

    def type(self, line):
        os.write(self.fd, f"{line}\n".encode())

    def wait_for(self, pattern):
        wait_until(lambda: re.search(pattern, self.text) or self._must_run(), 60)

    def _must_run(self):
        assert self.process.poll() is None, self.text

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        status = self.process.wait()
        self.reader.join()
        os.close(self.fd)
        return status


def test_one_device_takes_commands_as_written(tmp_path):
    stack = Stack(tmp_path / "run")
    try:
        stack.start_and_wait()
        terminal = Terminal(block("device"), stack.environment)
        try:
            terminal.wait_for(r"acknowledged: reading 1\b")
            terminal.type("read")
            terminal.wait_for(r"acknowledged: reading 2\b")
            terminal.type("button 1+2")
            terminal.wait_for(r"CoAP response: Code 0x44, Token 0x[0-9a-f]+, Payload: ")
            run_block("command", stack.environment)
            terminal.wait_for(r"command from the cloud: interval 5 s read")
            terminal.wait_for(r"acknowledged: reading (\d to )?3\b")
            terminal.type("quit")
            terminal.process.wait(60)
        finally:
            assert terminal.close() == 0, terminal.text
        wait_until(lambda: stack.rows("sensor-1") >= 4)
    finally:
        stack.end()


def test_a_hundred_devices_run_as_written(tmp_path):
    stack = Stack(tmp_path / "run")
    try:
        stack.start_and_wait()
        output = run_block("devices", stack.environment)
        done = re.findall(r"^done: (\d+) of \1 readings acknowledged, 0 wait; .*, (\d+) resumed$", output, re.M)
        assert len(done) == 2 and done[0][1] == "0" and int(done[1][1]) > 100, output
        [devices, readings] = re.search(r"^ +(\d+) +\| +(\d+)$", output, re.M).groups()
        assert int(devices) == 100 and int(readings) > 400
    finally:
        stack.end()


def test_settings_table_is_what_config_prints():
    printed = subprocess.run(
        [ROOT / "build/release/tools/print_settings"], text=True, capture_output=True, check=True).stdout
    table = README.split("<!-- make settings -->\n")[1].split("\n\n")[0]
    assert table.splitlines() == printed.splitlines()


def test_files_that_it_links_to_are_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_make_target_that_it_names_is_explained_by_make_help():
    text = subprocess.run(["make", "-s", "help"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    known = set(re.findall(r"^  ([a-z-]+) ", text, re.M))
    assert set(re.findall(r"`make ([a-z-]+)", README)) <= known
