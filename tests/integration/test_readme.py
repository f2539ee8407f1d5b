# SPDX-License-Identifier: Apache-2.0
"""README.md says only what was run: its walk-through is executed as written, its table is printed by the
code that reads the settings, and the files that it names are there."""

import re
import subprocess

from harness.modem import SimulatedModem
from test_stack import ROOT, Stack, wait_until

README = (ROOT / "README.md").read_text()


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
    [block] = re.findall(r"^```sh run keys\n(.*?)^```$", README, re.M | re.S)
    stack = Stack(tmp_path / "run")
    try:
        stack.start_and_wait()
        with SimulatedModem(tmp_path) as modem:
            result = subprocess.run(
                ["bash", "-euxc", block], cwd=ROOT, env=stack.environment | {"MODEM": str(modem.port)}, text=True,
                stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
            assert result.returncode == 0, result.stdout + result.stderr
            # The modem's device is not one of those that programs play: it connects by itself.
            assert modem.mqtt(stack.mqtt_port, "tracker-7", seq=7) == 0
        for device in ("desk-1", "buoy-1", "buoy-2", "buoy-3", "meter-1"):
            assert re.search(rf"{device} +\|.*\| +3\.[69]\n", result.stdout), result.stdout
            assert stack.rows(device) == 1
        wait_until(lambda: stack.rows("tracker-7") == 1)
        assert not (stack.run_dir / "pki/devices/tracker-7/key.pem").exists()
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
