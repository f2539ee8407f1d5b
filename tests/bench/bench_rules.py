#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What rules cost the MQTT path: the flood of bench_mqtt.py (plain TCP, 100 connections, window 20) with 200
rules and without, in turns on one machine, and the medians of what each turn stored a second, until the last
row was committed. Load, broker and PostgreSQL share the machine. A report, not a test. QUICK=1: one turn.
"""

import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from bench.bench_mqtt import Bench, Cpu, stored, wait_for_rows, wait_until  # noqa: E402

QUICK = os.environ.get("QUICK", "") not in ("", "0")
TURNS, FLOOD_S = (1, 3) if QUICK else (3, 5)
LOADED, MATCHING = 200, 10

# Each of them holds for every message of the load.
HOLDS = "select temperature as t, device() as device from 'm/d/+/d2c' where temperature > {}"
# The load counts its messages with seq.
RARE = "select temperature as t, device() as device from 'm/d/+/d2c' where seq % 100 = {}"
REFUSES = "select * from 'm/d/+/d2c' where temperature > {}"
ELSEWHERE = "select * from 'plant/{}/+/state' where temperature > 30"


def republish(i):
    return [{"republish": {"topic": f"alarms/{i}/${{device()}}"}}]


def matching(template, actions=lambda i: []):
    return [(template.format(-1000 - i if "temperature >" in template else i), actions(i)) for i in range(MATCHING)]


def others(template):
    return [(template.format(1000 + i), []) for i in range(LOADED - MATCHING)]


# name, what it is, the rules
VARIANTS = [
    (
        "loss_200_loaded",
        f"{LOADED} loaded, {MATCHING} on the topic, all of which hold; they count and do nothing else",
        matching(HOLDS) + others(ELSEWHERE),
    ),
    (
        "loss_200_same_topic",
        f"{LOADED} on the topic, all evaluated for each message, {MATCHING} of them hold",
        matching(HOLDS) + others(REFUSES),
    ),
    (
        "loss_republish_rare",
        f"{LOADED} loaded, {MATCHING} on the topic that each republish one message in 100",
        matching(RARE, republish) + others(ELSEWHERE),
    ),
]


class Rules(Bench):
    def load_rules(self, rules):
        self.postgres.query("delete from fieldgate.rule")
        for i, (sql, actions) in enumerate(rules):
            self.postgres.query(
                "insert into fieldgate.rule (name, sql, actions) values (%s, %s, %s)",
                (f"bench-{i:03d}", sql, json.dumps(actions)),
            )

    def matched(self):
        return self.postgres.value("select coalesce(sum(matched), 0) from fieldgate.rule_counter")

    def turn(self, cbor, rules):
        """Rows stored a second, and CPU seconds per million messages of broker and PostgreSQL together."""
        self.load_rules(rules)
        self.postgres.query("truncate fieldgate.telemetry")
        with self.broker(tls=False, plugin=True) as (broker, port):
            cpu = Cpu(self, broker=broker)
            figures = self.load(port, False, seconds=FLOOD_S, format="cbor" if cbor else "json").wait()
            wait_for_rows(self, "fieldgate.telemetry", figures["acked"])
            used = sum(cpu.per_million(figures["acked"]).values())
            _, rate, _ = stored(self, "fieldgate.telemetry")
            if rules:
                self.check_matches(rules, figures["acked"])
        return rate, used

    def check_matches(self, rules, messages):
        """The rules have run over everything: else this measures nothing."""
        holding = [sql for sql, _ in rules[:MATCHING]]
        at_least = messages * len(holding) // (110 if "seq" in holding[0] else 1)
        wait_until(lambda: self.matched() >= at_least, f"{at_least} matches")


def measure(bench, cbor, variant):
    name, what, rules = variant
    pairs = [(bench.turn(cbor, []), bench.turn(cbor, rules)) for _ in range(TURNS)]
    without, loaded = ([pair[i] for pair in pairs] for i in (0, 1))
    loss = statistics.median(1 - b[0] / a[0] for a, b in pairs)
    cpu = statistics.median(b[1] / a[1] - 1 for a, b in pairs)
    payload = "CBOR" if cbor else "JSON"
    print(
        f"{payload}: {what}:\n    rows/s {statistics.median(r for r, _ in without):.0f} without, "
        f"{statistics.median(r for r, _ in loaded):.0f} with (loss {loss:.2f}); CPU {cpu:+.2f}; "
        f"medians of {TURNS} turns",
        flush=True,
    )
    return loss


def main():
    dir = tempfile.mkdtemp(prefix="fieldgate-bench-")
    bench = None
    try:
        bench = Rules(dir)
        figures = [(v[0], cbor, measure(bench, cbor, v)) for v in VARIANTS for cbor in (False, True)]
        print()
        for name, cbor, loss in figures:
            print(f"metric rules.{name}{'_cbor' if cbor else ''} {loss:.3g} ratio")
    finally:
        if bench:
            bench.postgres.stop("immediate")
        shutil.rmtree(dir, ignore_errors=True)


if __name__ == "__main__":
    main()
