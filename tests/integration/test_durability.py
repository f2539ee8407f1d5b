# SPDX-License-Identifier: Apache-2.0
"""What was acknowledged is in PostgreSQL exactly once: through kills of the broker, a stopped database, and
a full journal. The load is real mutual TLS; mqtt-load keeps the list of what it saw acknowledged."""

import random
import time

import pytest
from harness import mqtt
from harness.load import Load, acknowledged

DEVICES = 20
KILLS = 10
DATABASE_STOPPED_S = 30


class Witness:
    """Load on a broker, and the comparison of what it saw acknowledged with what is stored."""

    def __init__(self, stack, prefix, directory):
        self.stack, self.prefix, self.acks = stack, prefix, directory / "acks"
        self.loads = []
        stack.devices(*(f"{prefix}{i:04d}" for i in range(DEVICES)))

    def load(self, broker, **options):
        load = Load(
            broker.port,
            prefix=self.prefix,
            connections=DEVICES,
            credentials=self.stack.fleet.dir / "devices",
            ca=self.stack.fleet.ca,
            resume=True,
            ack_log=self.acks,
            **options,
        )
        self.loads.append(load)
        return load

    def wait_until_stored(self, count, timeout=90):
        """Until that many rows are there. The writer may still be waiting for its next attempt at the
        database when this begins, so neither a quiet moment nor its last report tells that it is done."""
        mqtt.eventually(
            lambda: self.stack.value("select count(*) from telemetry") >= count, timeout, f"{count} rows"
        )

    def assert_exactly_once(self):
        """How many were acknowledged."""
        acked = acknowledged(self.acks)
        stored = self.stack.query("select device, seq from telemetry")
        assert len(stored) == len(set(stored)), "a message is stored twice"
        missing = acked - set(stored)
        assert not missing, f"{len(missing)} of {len(acked)} acknowledged are missing: {sorted(missing)[:5]}"
        assert self.stack.query("select device, reason from dead_letter") == []
        return len(acked)


@pytest.fixture
def witness(stack, tmp_path, request):
    made = []

    def make(prefix):
        made.append(Witness(stack, prefix, tmp_path))
        return made[-1]

    yield make
    for load in (load for w in made for load in w.loads):
        load.stop()


def test_broker_killed_under_load_loses_and_repeats_nothing(stack, witness):
    seed = random.randrange(2**32)
    print(f"moments of the kills: seed {seed}")
    moments = random.Random(seed)
    witness = witness("killed-")
    broker = stack.started()
    load = witness.load(broker, seconds=25, drain_seconds=60)
    for _ in range(KILLS):
        time.sleep(moments.uniform(0.3, 2.0))
        broker.kill()
        broker.start()
    figures = load.wait()
    assert figures["connections_lost"] >= KILLS, "the kills did not hit the load"
    assert figures["unacked"] == 0, "the load could not finish"
    witness.wait_until_stored(figures["acked"])
    count = witness.assert_exactly_once()
    print(f"{KILLS} kills: {count} acknowledged messages, each stored once")


def test_stopped_database_loses_nothing_and_never_stops_the_broker(stack, witness):
    witness = witness("stopped-")
    broker = stack.started()
    load = witness.load(broker, seconds=DATABASE_STOPPED_S + 10, rate=2000, drain_seconds=30)
    time.sleep(3)
    stack.stop_database("immediate")
    time.sleep(DATABASE_STOPPED_S)
    stack.start_database()
    figures = load.wait()
    assert figures["connections_lost"] == 0 and figures["unacked"] == 0
    witness.wait_until_stored(figures["acked"])
    count = witness.assert_exactly_once()
    assert count == figures["sent"]
    print(
        f"database stopped for {DATABASE_STOPPED_S} s: {count} acknowledged messages, each stored once; "
        f"worst PUBACK {figures['puback_max_ms']} ms"
    )


def test_full_journal_tells_the_device_and_its_message_arrives_later(stack, witness):
    per_device = 1000  # 20,000 messages of some 300 bytes: several times the bound
    witness = witness("full-")
    broker = stack.started(settings={"journal.max_bytes": 1048576, "journal.segment_bytes": 65536})
    broker.wait_log("registry_loaded")
    stack.stop_database("immediate")
    load = witness.load(broker, messages=per_device, seconds=60, drain_seconds=60)
    broker.wait_log("publish_not_stored.*journal is full", timeout=30)
    time.sleep(2)
    assert load.process.poll() is None, "everything was acknowledged although the journal is full"
    stack.start_database()
    figures = load.wait()
    assert figures["connections_lost"] > 0, "nobody was told"
    assert figures["acked"] == DEVICES * per_device
    witness.wait_until_stored(figures["acked"])
    assert witness.assert_exactly_once() == DEVICES * per_device
