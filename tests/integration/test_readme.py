# SPDX-License-Identifier: Apache-2.0
"""README.md says only what was run: its walk-through is executed as written, its table is printed by the
code that reads the settings, and the files that it names are there."""

import re
import subprocess

from test_stack import ROOT, Stack

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
    known = set(re.findall(r"^  ([a-z]+) ", text, re.M))
    assert set(re.findall(r"`make ([a-z]+)", README)) <= known
