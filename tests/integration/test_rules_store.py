# SPDX-License-Identifier: Apache-2.0
"""Rules that store into tables of one's own: the paper's first rule, over both protocols, with tables that are
missing or locked, and under kills."""

import base64
import contextlib
import json
import random
import time

import pytest
from harness import mqtt
from harness.load import CoapLoad, Load, acknowledged, load_line
from harness.postgres import SUPERUSER

IN_FORCE_S = 5


def rule(stack, name, sql, *actions, error_action=None):
    stack.query(
        "insert into rule (name, sql, actions, error_action) values (%s, %s, %s, %s)",
        name,
        sql,
        json.dumps(actions),
        json.dumps(error_action) if error_action else None,
    )


def store(table, **columns):
    return {"store": {"table": table, **({"columns": columns} if columns else {})}}


def administrator(stack, sql):
    """What is in public is not Fieldgate's: nor is whoever makes it."""
    stack.postgres.query(sql, role=SUPERUSER, dbname=stack.database)


def table(stack, definition):
    """A table in public that the processes may insert into."""
    administrator(stack, f"create table public.{definition}")
    name = definition.split()[0]
    administrator(stack, f"grant insert on public.{name} to fieldgate_ingest; grant select on public.{name} to fieldgate_owner")


def judged(stack, name, timeout=IN_FORCE_S):
    """The rule's row of rule_status, once a process has said something about it."""
    mqtt.eventually(
        lambda: stack.value("select judged_at is not null from rule where name = %s", name),
        timeout,
        f"a verdict on the rule {name}",
    )
    [(in_force, problem)] = stack.query("select in_force, problem from rule_status where name = %s", name)
    return in_force, problem


def in_force(stack, name, processes=1):
    """In all of them: each has a position, from which it stores."""
    mqtt.eventually(
        lambda: stack.value("select in_force from rule_status where name = %s", name),
        IN_FORCE_S,
        f"rule {name} in force",
    )
    mqtt.eventually(
        lambda: stack.value("select count(*) from sink_position") >= processes, IN_FORCE_S, "the sinks' beginning"
    )


@contextlib.contextmanager
def locked(stack, name):
    connection = stack.postgres.connect(SUPERUSER, stack.database)
    connection.autocommit = False
    try:
        connection.cursor().execute(f"lock table public.{name} in access exclusive mode")
        yield
    finally:
        connection.close()


# --- The paper's rule: "storing the message in a database" if its criteria are met ---


def papers_rule(stack):
    table(stack, "alarm (device text not null, degrees real, at timestamptz not null)")
    rule(
        stack,
        "hot",
        "SELECT device() AS device, temperature AS t, timestamp() AS at FROM 'm/d/+/d2c' WHERE temperature > 30",
        store("public.alarm", device="device", degrees="t", at="at"),
    )


def test_rule_stores_into_a_table_of_ones_own_over_mqtt(stack):
    stack.devices("dev-1")
    broker = stack.started()
    papers_rule(stack)
    in_force(stack, "hot")
    client = stack.connected(broker, "dev-1")
    for temperature in (29, 31.5, 30, 44):
        assert client.publish("m/d/dev-1/d2c", b'{"temperature": %g}' % temperature) == 0
    rows = stack.wait_rows(
        "select device, degrees, now() - at < interval '1 minute' from public.alarm order by degrees", count=2
    )
    assert rows == [("dev-1", 31.5, True), ("dev-1", 44, True)]
    stack.stored(broker)
    assert stack.value("select count(*) from telemetry where device = 'dev-1'") == 4
    assert stack.value("select count(*) from public.alarm") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_rule_stores_into_a_table_of_ones_own_over_coap(coap, workers):
    coap.psk("dev-1")
    coap.started({"coap.workers": workers})
    papers_rule(coap)
    in_force(coap, "hot", workers)
    device = coap.connected("dev-1")
    for temperature in (29, 31.5, 30, 44):
        assert device.post("msg/d2c", b'{"temperature": %g}' % temperature, format=50).code == "2.01"
    rows = coap.wait_rows("select device, degrees from public.alarm order by degrees", count=2)
    assert rows == [("dev-1", 31.5), ("dev-1", 44)]
    coap.stored()
    assert coap.value("select count(*) from telemetry where device = 'dev-1'") == 4


def test_topic_that_is_no_telemetry_is_stored_by_a_rule(stack):
    stack.policy("free", ("publish", "#"))
    stack.devices("press", service=True, policy="free")
    table(stack, "press (line text, parts integer)")
    rule(stack, "press", "SELECT topic(2) AS line, n AS parts FROM 'factory/+/press'", store("press"))
    broker = stack.started()
    in_force(stack, "press")
    assert stack.connected(broker, "press").publish("factory/a/press", b'{"n": 7}') == 0
    assert stack.wait_rows("select line, parts from public.press") == [("a", 7)]


# --- Rules that are wrong ---


def test_rule_that_is_wrong_says_why_in_its_row_and_is_not_loaded(stack):
    stack.devices("dev-1")
    table(stack, "one (n integer)")
    broker = stack.started()
    rule(stack, "grammar", "SELECT n FROM 'm/d/+/d2c' WHERE n >", store("one"))
    rule(stack, "missing", "SELECT n FROM 'm/d/+/d2c'", store("public.two"))
    rule(stack, "column", "SELECT n AS m FROM 'm/d/+/d2c'", store("one"))
    for name, problem in (
        ("grammar", "rule 'grammar': line 1, column "),
        ("missing", "rule 'missing', actions[0].store: there is no table public.two"),
        ("column", "rule 'column', actions[0].store: the table public.one has no column m"),
    ):
        state, said = judged(stack, name)
        assert not state and said.startswith(problem)
    client = stack.connected(broker, "dev-1")
    assert client.publish("m/d/dev-1/d2c", b'{"n": 1}') == 0
    stack.stored(broker)
    assert stack.value("select count(*) from public.one") == 0
    table(stack, "two (n integer)")
    in_force(stack, "missing")
    assert client.publish("m/d/dev-1/d2c", b'{"n": 2}') == 0
    assert stack.wait_rows("select n from public.two") == [(2,)]


def test_grant_that_is_missing_is_in_the_rules_row(coap):
    coap.psk("dev-1")
    coap.started()
    administrator(coap, "create table public.closed (n integer)")
    rule(coap, "closed", "SELECT n FROM 'm/d/+/d2c'", store("closed"))
    state, problem = judged(coap, "closed")
    assert not state and problem.endswith("run: grant insert on public.closed to fieldgate_ingest;")
    administrator(coap, "grant insert on public.closed to fieldgate_ingest")
    in_force(coap, "closed")


def test_rows_that_are_refused_are_counted_with_the_reason(stack):
    stack.devices("dev-1")
    table(stack, "small (n smallint)")
    rule(stack, "small", "SELECT n FROM 'm/d/+/d2c'", store("small"))
    broker = stack.started()
    in_force(stack, "small")
    client = stack.connected(broker, "dev-1")
    for n in (1, 40000, 3):
        assert client.publish("m/d/dev-1/d2c", b'{"n": %d}' % n) == 0
    mqtt.eventually(
        lambda: stack.query("select matched, errors from rule_status") == [(3, 1)], 15, "the counters"
    )
    [(error, recent)] = stack.query(
        "select last_error, now() - last_match < interval '1 minute' from rule_status"
    )
    assert error == 'store public.small: value "40000" is out of range for type smallint (SQLSTATE 22003)'
    assert recent
    assert stack.query("select n from public.small order by n") == [(1,), (3,)]
    broker.restart()
    client = stack.connected(broker, "dev-1")
    assert client.publish("m/d/dev-1/d2c", b'{"n": 4}') == 0
    mqtt.eventually(
        lambda: stack.query("select matched, errors from rule_status") == [(4, 1)], 15, "the counters' sum"
    )


def test_row_that_is_refused_is_published_by_the_error_action(stack):
    stack.policy("ear", ("subscribe", "errors/#"), ("receive", "errors/#"))
    stack.devices("ear", service=True, policy="ear")
    stack.devices("dev-1")
    table(stack, "small (n smallint)")
    error_action = {"republish": {"topic": "errors/${device()}", "qos": 1}}
    rule(stack, "small", "SELECT n FROM 'm/d/+/d2c'", store("small"), error_action=error_action)
    broker = stack.started()
    in_force(stack, "small")
    ear = stack.connected(broker, "ear")
    ear.subscribe("errors/#")
    client = stack.connected(broker, "dev-1")
    assert client.publish("m/d/dev-1/d2c", b'{"n": 40000}') == 0
    message = ear.receive()
    report = json.loads(message.payload)
    assert message.topic == "errors/dev-1"
    assert (report["ruleName"], report["clientId"]) == ("small", "dev-1")
    assert base64.b64decode(report["base64OriginalPayload"]) == b'{"n": 40000}'
    [failure] = report["failures"]
    assert (failure["failedAction"], failure["failedResource"]) == ("store", "public.small")
    assert failure["errorMessage"].startswith('value "40000" is out of range for type smallint')


def test_presence_is_stored_by_a_rule(stack):
    stack.devices("dev-1")
    table(stack, "seen (device text, connected boolean, at timestamptz)")
    rule(stack, "seen", "SELECT device, connected, at FROM 'm/presence/+'", store("seen"))
    broker = stack.started()
    in_force(stack, "seen")
    stack.connected(broker, "dev-1").disconnect()
    sql = "select connected from public.seen where device = 'dev-1' order by at, connected desc"
    assert stack.wait_rows(sql, count=2) == [(True,), (False,)]


# --- Nobody waits for a rule ---


def test_locked_table_keeps_neither_telemetry_nor_other_rules_waiting(stack):
    stack.devices("dev-1")
    table(stack, "slow (n integer)")
    table(stack, "fast (n integer)")
    rule(stack, "slow", "SELECT n FROM 'm/d/+/d2c'", store("slow"))
    rule(stack, "fast", "SELECT n FROM 'm/d/+/d2c'", store("fast"))
    broker = stack.started()
    in_force(stack, "slow")
    in_force(stack, "fast")
    client = stack.connected(broker, "dev-1")
    with locked(stack, "slow"):
        for n in range(200):
            assert client.publish("m/d/dev-1/d2c", b'{"n": %d}' % n) == 0
        stack.wait_rows("select 1 from telemetry where device = 'dev-1'", count=200)
        stack.wait_rows("select n from public.fast", count=200)
        broker.kill()
        broker.start()
        client = stack.connected(broker, "dev-1")
        assert client.publish("m/d/dev-1/d2c", b'{"n": 200}') == 0
        stack.wait_rows("select n from public.fast", count=201)
    assert sorted(stack.wait_rows("select n from public.slow", count=201)) == [(n,) for n in range(201)]


# --- Kills ---


def keyed_rule(stack, processes=1):
    """A device that has no acknowledgement says it again, and a broker that was killed takes it for a new
    message: the key makes it one row."""
    table(stack, "kept (device text, seq bigint, primary key (device, seq))")
    rule(stack, "keep", "SELECT device() AS device, seq FROM 'm/d/+/d2c/#'", store("kept"))
    in_force(stack, "keep", processes)


def assert_each_is_a_row(stack, prefix, acked):
    """Each acknowledged message; and nothing that is not a message."""

    def kept():
        return set(stack.query("select device, seq from public.kept where device like %s", prefix + "%"))

    mqtt.eventually(lambda: acked <= kept(), 60, "all acknowledged messages in the rule's table")
    assert kept() <= set(stack.query("select device, seq from telemetry"))
    assert stack.query("select errors from rule_status") == [(0,)]


def test_kills_of_the_broker_under_load_leave_one_row_of_each_message(stack, tmp_path):
    seed = random.randrange(2**32)
    print(f"moments of the kills: seed {seed}")
    moments = random.Random(seed)
    stack.devices(*(f"load-{i:04d}" for i in range(10)))
    broker = stack.started()
    keyed_rule(stack)
    load = Load(
        broker.port,
        prefix="load-",
        connections=10,
        credentials=stack.fleet.dir / "devices",
        ca=stack.fleet.ca,
        resume=True,
        ack_log=tmp_path / "acks",
        rate=2000,
        seconds=12,
        drain_seconds=60,
    )
    try:
        for _ in range(5):
            time.sleep(moments.uniform(0.3, 2.0))
            broker.kill()
            broker.start()
        figures = load.wait()
    finally:
        load.stop()
    assert figures["connections_lost"] >= 5, "the kills did not hit the load"
    acked = acknowledged(tmp_path / "acks")
    assert len(acked) > 100
    stack.stored(broker)
    assert_each_is_a_row(stack, "load-", acked)


def test_kills_of_the_coap_server_under_load_leave_one_row_of_each_message(coap, tmp_path):
    devices = coap.psk(*(f"load-{i}" for i in range(30)))
    coap.started({"coap.workers": 2})
    keyed_rule(coap, 2)
    coap.in_force()
    lines = [load_line(d) for d in devices]
    options = {"rate": 300, "seconds": 8, "wait": True, "timestamp": True}
    with CoapLoad(
        tmp_path / "load", coap.server.port, lines, ca=coap.fleet.ca, host="localhost", **options
    ) as running:
        running.ready()
        running.go()
        for _ in range(3):
            time.sleep(2)
            coap.server.kill()
            coap.server.start()
        figures = running.wait()
    assert figures["unacknowledged"] == figures["refused"] == 0
    acked = acknowledged(tmp_path / "load" / "acked")
    assert len(acked) > 100
    coap.stored()
    assert_each_is_a_row(coap, "load-", acked)
