#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What evaluating a rule costs, and what jq takes for the same.

First tests/bench/rule_eval.c: the CPU time of one evaluation of typical statements, the message being decoded
already, as a rule of many sees it. Then filters over a file of MESSAGES (default 200,000; QUICK=1: 50,000)
messages of 176 bytes, one a line: by jq, and by rule_eval reading the same file, both with decoding and
printing. The time is the CPU time of the whole command less that of the same command with an empty file. What
both print must be the same.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULE_EVAL = ROOT / "build/release/tests/bench/rule_eval"
QUICK = os.environ.get("QUICK", "") not in ("", "0")
MESSAGES = int(os.environ.get("MESSAGES", 50_000 if QUICK else 200_000))
EVALUATIONS = 500_000 if QUICK else 2_000_000

# What, the statement, and the same as a program for jq.
FILTERS = [
    ("nothing, so decoding alone", "SELECT x FROM '#' WHERE false", "empty"),
    (
        "one comparison, 1 % of messages",
        "SELECT temperature FROM '#' WHERE temperature >= 29.9",
        "select(.temperature >= 29.9) | {temperature}",
    ),
    (
        "three members of all messages",
        "SELECT temperature, humidity, battery.mv FROM '#'",
        "{temperature, humidity, mv: .battery.mv}",
    ),
    (
        "four conditions, 5 % of messages",
        "SELECT name, battery FROM '#' WHERE temperature BETWEEN 0 AND 40 AND state IN ('low', 'off')"
        " AND name LIKE 'sensor-%' AND rsrp < 0",
        'select(.temperature >= 0 and .temperature <= 40 and (.state | IN("low", "off"))'
        ' and (.name | startswith("sensor-")) and .rsrp < 0) | {name, battery}',
    ),
]


def cpu_seconds(command, output):
    """The CPU time of a command, its children's included; what it prints goes to output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(output, "wb") as out:
        subprocess.run(command, stdout=out, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def compare(directory, messages, what, statement, program):
    empty = directory / "empty"
    empty.touch()
    printed = {}
    ns = {}
    for name, command in (
        ("rules", lambda path: [RULE_EVAL, "run", path, statement]),
        ("jq", lambda path: ["jq", "-c", program, path]),
    ):
        start = min(cpu_seconds(command(empty), directory / "nothing") for _ in range(3))
        whole = min(cpu_seconds(command(messages), directory / name) for _ in range(2))
        ns[name] = (whole - start) / MESSAGES * 1e9
        printed[name] = lines(directory / name)
    if printed["rules"] != printed["jq"] or (not printed["jq"] and program != "empty"):
        sys.exit(f"bench_rule_eval: {what}: jq and the rule do not give the same")
    print(f"{what:34} {ns['rules']:8.0f} ns {ns['jq']:8.0f} ns   {ns['jq'] / ns['rules']:5.1f}")


def main():
    subprocess.run([RULE_EVAL, str(EVALUATIONS)], check=True)
    with tempfile.TemporaryDirectory(prefix="bench-rule-eval-") as name:
        directory = pathlib.Path(name)
        messages = directory / "messages"
        with open(messages, "wb") as out:
            subprocess.run([RULE_EVAL, "file", str(MESSAGES)], stdout=out, check=True)
        print(f"\nA file of {MESSAGES:,} messages, decoded, filtered and printed, CPU time per message:")
        print(f"{'':34} {'rule':>11} {'jq':>11}   jq / rule")
        for what, statement, program in FILTERS:
            compare(directory, messages, what, statement, program)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
