#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the MQTT path costs, in one run on one machine: a bare Mosquitto, the same broker with the plugin
storing everything, and a Python subscriber that stores (peer_paho.py), under the same load of 8-value
messages from 100 connections with 20 unacknowledged messages each. Load, broker, peer and PostgreSQL share
the machine. A report, not a test. QUICK=1 shortens it to less than a minute and leaves TLS out.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from bench.cpu import process_seconds, tree_seconds  # noqa: E402
from harness.load import Load  # noqa: E402
from harness.pki import Fleet  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.postgres import INGEST, OWNER, SUPERUSER, Postgres  # noqa: E402

QUICK = os.environ.get("QUICK", "") not in ("", "0")
CONNECTIONS, WINDOW = 100, 20
FLOOD_S = 4 if QUICK else 12
PEER_FLOOD_S = 1.5 if QUICK else 3  # the broker queues what the peer cannot take
LATENCY_RATE, LATENCY_S = 1000, 5 if QUICK else 10
DEVICES = [f"load-{i:04d}" for i in range(CONNECTIONS)]
PLUGIN = REPOSITORY / "build" / os.environ.get("MODE", "release") / "fieldgate.so"

COMMON_CONF = """
persistence false
max_inflight_messages 0
max_queued_messages 0
log_type error
log_type warning
log_type information
connection_messages false
"""


class Bench:
    """Directories, the database, credentials, and brokers with generated configuration."""

    def __init__(self, dir):
        self.dir = pathlib.Path(dir)
        self.postgres = Postgres(self.dir / "pg")
        self.postgres.start()
        self.postgres.query("alter system set track_commit_timestamp = on", role=SUPERUSER)
        self.postgres.stop()
        self.postgres.start()
        self.fleet = Fleet(self.dir / "pki", self.postgres.url(OWNER))
        self.fleet.init()
        self.fleet.server("localhost", "127.0.0.1")
        self.fleet.mint(DEVICES)
        self.tokens = self.dir / "tokens"
        self.give_tokens()

    def give_tokens(self):
        with open(self.tokens, "w", opener=lambda p, f: os.open(p, f, 0o600)) as out:
            for device in DEVICES:
                token = os.urandom(16).hex()
                fingerprint = hashlib.sha256(f"{device}\0{token}".encode()).digest()
                self.postgres.query(
                    "insert into fieldgate.credential (kind, fingerprint, principal) values ('token', %s, %s)",
                    (fingerprint, device),
                )
                out.write(f"{device} {token}\n")

    def load(self, port, tls, **options):
        if tls:
            options |= {"credentials": self.fleet.dir / "devices", "ca": self.fleet.ca}
        else:
            options |= {"tokens": self.tokens}
        return Load(port, connections=CONNECTIONS, window=WINDOW, **options)

    def listener_conf(self, port, tls, plugin):
        lines = [f"listener {port} 127.0.0.1"]
        if tls:
            certificate, key = self.fleet.server_files("localhost")
            lines += [
                f"cafile {self.fleet.device_ca_chain}",
                f"certfile {certificate}",
                f"keyfile {key}",
                "require_certificate true",
            ]
        if plugin:
            lines += ["allow_anonymous false", f"plugin {PLUGIN}", f"plugin_opt_config {self.dir / 'fieldgate.conf'}"]
        else:
            lines += ["allow_anonymous true"]
        if os.geteuid() == 0:
            lines += ["user root"]
        return "\n".join(lines) + COMMON_CONF

    @contextlib.contextmanager
    def broker(self, tls, plugin=False, extra_listener=None):
        port = free_port()
        conf = self.dir / "mosquitto.conf"
        text = self.listener_conf(port, tls, plugin)
        if extra_listener:
            text += f"listener {extra_listener} 127.0.0.1\nallow_anonymous true\n"
        conf.write_text(text)
        if plugin:
            state = self.dir / f"state-{port}"
            (self.dir / "fieldgate.conf").write_text(
                f"database.url = {self.postgres.url(INGEST)}\nstate.dir = {state}\nmqtt.token_auth = all\n"
            )
        with open(self.dir / "broker.log", "w") as log:
            process = subprocess.Popen(["mosquitto", "-c", conf], stdout=log, stderr=log)
        try:
            wait_for_port(port, process)
            if plugin:
                wait_until(lambda: self.known_devices(), "the plugin to read the registry")
            yield process, port
        finally:
            stop(process)

    def known_devices(self):
        return "registry_loaded" in (self.dir / "broker.log").read_text()

    @contextlib.contextmanager
    def peer(self, port):
        script = REPOSITORY / "tests" / "bench" / "peer_paho.py"
        process = subprocess.Popen(
            ["/usr/bin/python3", script, str(port), self.postgres.url(SUPERUSER)], stdout=subprocess.PIPE, text=True
        )
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("peer_paho.py did not start")
            yield process
        finally:
            stop(process)

    def postmaster(self):
        return int((self.postgres.dir / "data" / "postmaster.pid").read_text().split("\n")[0])


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(port, process):
    def answers():
        if process.poll() is not None:
            raise RuntimeError("mosquitto ended at its start")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True

    wait_until(answers, f"port {port}")


def wait_until(condition, what, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.1)


class Cpu:
    """CPU seconds by process between start and stop."""

    def __init__(self, bench, **processes):
        self.processes = {name: p.pid for name, p in processes.items()}
        self.postmaster = bench.postmaster()
        self.before = self.read()

    def read(self):
        seconds = {name: process_seconds(pid) for name, pid in self.processes.items()}
        return seconds | {"postgres": tree_seconds(self.postmaster)}

    def per_million(self, messages):
        after = self.read()
        return {name: (after[name] - self.before[name]) * 1e6 / messages for name in after}


def stored(bench, table, seq_first=0):
    """Rows, rows per second from the first message to the last commit, and the worst lag."""
    ((count, seconds, lag),) = bench.postgres.query(
        f"""select count(*), extract(epoch from max(pg_xact_commit_timestamp(xmin)) - min(ts)),
                   max(extract(epoch from pg_xact_commit_timestamp(xmin) - ts))
            from {table}""",
        role=SUPERUSER,
    )
    return count, count / float(seconds), float(lag)


def row_latency(bench, table):
    """Milliseconds from the device's time stamp (whole milliseconds) to the commit: p50 and p99."""
    return [
        float(v)
        for v in bench.postgres.query(
            f"""select 1000 * percentile_cont(0.5) within group (order by latency),
                       1000 * percentile_cont(0.99) within group (order by latency)
                from (select extract(epoch from pg_xact_commit_timestamp(xmin) - ts)::float8 as latency
                      from {table}) t""",
            role=SUPERUSER,
        )[0]
    ]


def wait_for_rows(bench, table, count):
    def complete():
        return bench.postgres.value(f"select count(*) from {table}", role=SUPERUSER) >= count

    wait_until(complete, f"{count} rows in {table}", 300)


def run_bare(bench, tls):
    with bench.broker(tls) as (broker, port):
        cpu = Cpu(bench, broker=broker)
        figures = bench.load(port, tls, seconds=FLOOD_S).wait()
        return figures | {"cpu": cpu.per_million(figures["acked"])}


def run_fieldgate(bench, tls):
    table = "fieldgate.telemetry"
    bench.postgres.query(f"truncate {table}")
    with bench.broker(tls, plugin=True) as (broker, port):
        cpu = Cpu(bench, broker=broker)
        figures = bench.load(port, tls, seconds=FLOOD_S).wait()
        wait_for_rows(bench, table, figures["acked"])
        result = figures | {"cpu": cpu.per_million(figures["acked"])}
        result["rows"], result["rows_per_s"], result["lag_s"] = stored(bench, table)
        bench.postgres.query(f"truncate {table}")
        figures = bench.load(port, tls, seconds=LATENCY_S, rate=LATENCY_RATE).wait()
        wait_for_rows(bench, table, figures["acked"])
        result["latency"] = row_latency(bench, table)
    return result


def run_peer(bench, tls):
    table, local = "public.peer_telemetry", free_port()
    bench.postgres.query(f"drop table if exists {table}", role=SUPERUSER)
    bench.postgres.query("alter role postgres set search_path = public", role=SUPERUSER)
    with bench.broker(tls, extra_listener=local) as (broker, port), bench.peer(local) as peer:
        cpu = Cpu(bench, broker=broker, peer=peer)
        figures = bench.load(port, tls, seconds=PEER_FLOOD_S).wait()
        wait_for_rows(bench, table, figures["acked"])
        result = figures | {"cpu": cpu.per_million(figures["acked"])}
        result["rows"], result["rows_per_s"], result["lag_s"] = stored(bench, table)
        bench.postgres.query(f"truncate {table}", role=SUPERUSER)
        figures = bench.load(port, tls, seconds=LATENCY_S, rate=LATENCY_RATE).wait()
        wait_for_rows(bench, table, figures["acked"])
        result["latency"] = row_latency(bench, table)
    return result


def print_table(title, bare, ours, peer):
    print(f"\n{title}: {CONNECTIONS} connections, window {WINDOW}, QoS 1, 8 values in JSON")
    print(f"{'':28}{'acked/s':>10}{'rows/s':>10}{'lag s':>8}{'p50 ms':>8}{'p99 ms':>8}   CPU-s per million")

    def line(name, r):
        rows = f"{r['rows_per_s']:10.0f}{r['lag_s']:8.2f}" if "rows_per_s" in r else f"{'-':>10}{'-':>8}"
        latency = "".join(f"{v:8.1f}" for v in r["latency"]) if "latency" in r else f"{'-':>8}{'-':>8}"
        used = {k: v for k, v in r["cpu"].items() if "rows_per_s" in r or k != "postgres"}
        cpu = ", ".join(f"{k} {v:.1f}" for k, v in used.items())
        print(f"{name:28}{r['acked_per_s']:10.0f}{rows}{latency}   {cpu}, all {sum(used.values()):.1f}")

    line("bare Mosquitto", bare)
    line("Mosquitto + fieldgate.so", ours)
    line("Mosquitto + paho, psycopg2", peer)


def print_metrics(prefix, bare, ours, peer):
    for name, value, unit in (
        ("acked_per_s", ours["acked_per_s"], "1/s"),
        ("acked_ratio_to_bare", ours["acked_per_s"] / bare["acked_per_s"], "ratio"),
        ("rows_per_s", ours["rows_per_s"], "1/s"),
        ("rows_ratio_to_paho", ours["rows_per_s"] / peer["rows_per_s"], "ratio"),
        ("cpu_s_per_million", sum(ours["cpu"].values()), "s"),
        ("lag_s", ours["lag_s"], "s"),
        ("row_latency_p50_ms", ours["latency"][0], "ms"),
        ("row_latency_p99_ms", ours["latency"][1], "ms"),
    ):
        print(f"metric {prefix}.{name} {value:.4g} {unit}")


def main():
    dir = tempfile.mkdtemp(prefix="fieldgate-bench-")
    bench = None
    try:
        bench = Bench(dir)
        runs = [("plain TCP", "mqtt", False)] + ([] if QUICK else [("mutual TLS", "mqtt.tls", True)])
        results = []
        for title, prefix, tls in runs:
            measured = [run(bench, tls) for run in (run_bare, run_fieldgate, run_peer)]
            print_table(title, *measured)
            results.append((prefix, measured))
        print()
        for prefix, measured in results:
            print_metrics(prefix, *measured)
    finally:
        if bench:
            bench.postgres.stop("immediate")
        shutil.rmtree(dir, ignore_errors=True)


if __name__ == "__main__":
    main()
