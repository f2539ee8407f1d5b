#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the CoAP path costs, per second of the server's own CPU, beside libcoap's coap-server (DTLS by the same
Mbed TLS) under the same load: telemetry of eight values in CBOR, each message acknowledged when it is in the
journal, every row counted in PostgreSQL; handshakes; memory of sessions; SIGKILL under load; ClientHellos by
the thousand. Load, server and PostgreSQL share the machine.

A report, not a test: it fails when a message is lost or a nonce used twice, never because it was slow. QUICK=1
shortens it to less than a minute, with a tenth of the sessions."""

import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from bench.coap_world import World, expect, memory, processes  # noqa: E402
from bench.cpu import process_seconds  # noqa: E402
from harness.coap_client import Client  # noqa: E402

QUICK = os.environ.get("QUICK", "") not in ("", "0")
MANY = 10_000 if QUICK else 100_000
SECONDS = 2 if QUICK else 6
CERTIFICATES = 64 if QUICK else 256
IN_FLIGHT = 256  # messages on their way at the same time
LIVE_CONTEXTS = 2000  # the setting's default
SUITE = "TLS-PSK-WITH-AES-128-CCM-8"
KILLS, KILL_AFTER_S = 3, 1
FLOOD_RATE = 10_000

metrics = []


def metric(name, value, unit):
    metrics.append(f"metric coap.{name} {value:.4g} {unit}")


def title(text):
    print(f"\n{text}", flush=True)


def count_name(n):
    return f"{n // 1000} k"


def target(text):
    return f"   (target {text})" if text else ""


# --- Messages ---


def posts(world, name, sessions, goal=None, **settings):
    """One line: messages taken and stored. What they cost, and the memory of the sessions."""
    world.forget_rows()
    with world.server(**settings) as server:
        empty = memory(server)
        options = {"in_flight": IN_FLIGHT, "seconds": SECONDS, "suites": SUITE, "wait": True, "greet": True}
        with world.load(server, world.psk_lines(sessions), **options) as load:
            load.ready()
            world.wait_for_rows(sessions)
            opened = memory(server)
            usage = world.usage(server)
            load.go()
            figures = load.wait()
            rows = world.wait_for_rows(sessions + figures["acknowledged"]) - sessions
            if "bus.host" in settings:
                world.wait_published(server, sessions + figures["acknowledged"])
            used = usage.read(figures["cpu_seconds"])
    expect(figures["nonces_reused"] == 0, f"{figures['nonces_reused']} nonces were used twice")
    expect(figures["unacknowledged"] == 0, f"{figures['unacknowledged']} messages were never answered")
    expect(rows == figures["acknowledged"], f"{figures['acknowledged']} acknowledged, {rows} rows")
    n = figures["acknowledged"]
    result = {
        "per_cpu_s": n / used["server"],
        "session_bytes": (opened[0] - empty[0]) / sessions,
        "slot_bytes": (opened[1] - empty[1]) / sessions,
    }
    latency = figures["latency_ms"]
    print(
        f"  {name:32}{n / used['server']:8.0f}{n / used['talking']:9.0f}{figures['per_s']:9.0f}"
        f"{latency['p50']:8.1f}{latency['p99']:8.1f}{latency['max']:8.1f}"
        f"{used['server'] / n * 1e6:9.1f}{used['postgres'] / n * 1e6:9.1f}{used['others']:8.0%}{target(goal)}",
        flush=True,
    )
    return result


def stock_posts(world, sessions):
    with world.stock() as server:
        empty = memory(server)
        options = {"in_flight": IN_FLIGHT, "seconds": SECONDS, "suites": SUITE, "wait": True}
        options |= {"path": "example_data", "put": True, "no_cid": True}
        with world.load(server, world.stock_lines(sessions), **options) as load:
            load.ready()
            opened = memory(server)
            usage = world.usage(server)
            load.go()
            figures = load.wait()
            used = usage.read(figures["cpu_seconds"])
    n, latency = figures["acknowledged"], figures["latency_ms"]
    print(
        f"  {'coap-server, ' + count_name(sessions) + ' sessions':32}{n / used['server']:8.0f}{'':9}"
        f"{figures['per_s']:9.0f}{latency['p50']:8.1f}{latency['p99']:8.1f}{latency['max']:8.1f}"
        f"{used['server'] / n * 1e6:9.1f}{'-':>9}{used['others']:8.0%}",
        flush=True,
    )
    return n / used["server"], (opened[0] - empty[0]) / sessions


def bench_posts(world):
    title(
        f"Messages: CON POST msg/d2c, 8 values in CBOR, {SUITE}, {IN_FLIGHT} on their way; from the first to"
        " the last row.\nCPU of fieldgate-coap with all its threads, and of the one that talks to devices;"
        " `others`: who else used\nthe machine meanwhile"
    )
    print(
        f"  {'':32}{'per CPU-s':>8}{'answers':>8}{'per s':>9}{'p50 ms':>8}{'p99':>8}{'max':>8}"
        f"{'us each':>9}{'postgres':>9}{'others':>8}"
    )
    write = {"journal.durability": "write"}
    one = posts(world, "1 k sessions", 1000, "60,000", **write)
    metric("posts_per_cpu_s_1k", one["per_cpu_s"], "1/s")
    posts(world, "1 k sessions, durability fsync", 1000, **{"journal.durability": "fsync"})
    with world.broker() as bus:
        published = posts(world, "1 k sessions, on the bus", 1000, **write, **bus)
    metric("bus_posts_per_cpu_s_1k", published["per_cpu_s"], "1/s")
    live = posts(world, "10 k sessions, all live", 10_000, **write, **{"coap.live_contexts": 20_000})
    metric("live_bytes", live["session_bytes"] + live["slot_bytes"], "B")
    parked = posts(world, f"{count_name(MANY)} sessions, mostly parked", MANY, "40,000", **write)
    if not QUICK:
        metric("posts_per_cpu_s_100k", parked["per_cpu_s"], "1/s")
    stock = [stock_posts(world, n) for n in ((1000,) if QUICK else (1000, 10_000))]
    if not QUICK:
        metric("stock_posts_per_cpu_s_10k", stock[1][0], "1/s")
    report_memory(live, parked, stock[0][1])


def report_memory(live, parked, stock):
    """Of the many some are live: their share is taken out."""
    share = (live["session_bytes"] - parked["session_bytes"]) * LIVE_CONTEXTS / (MANY - LIVE_CONTEXTS)
    own = parked["session_bytes"] - share
    title("Memory of a session, after one message each")
    print(f"  live                          {live['session_bytes']:8.0f} B and {live['slot_bytes']:.0f} B of its slot")
    print(f"  parked                        {own:8.0f} B and {parked['slot_bytes']:.0f} B of its slot{target('1 kB')}")
    print(f"  coap-server                   {stock:8.0f} B", flush=True)
    if not QUICK:
        metric("parked_bytes", own + parked["slot_bytes"], "B")


# --- Handshakes ---


def handshakes(world, name, server, lines, goal=None, **options):
    usage = world.usage(server)
    options = {"handshakes": True, "goodbye": True, "seconds": SECONDS, **options}
    with world.load(server, lines, **options) as load:
        figures = load.wait()
    used = usage.read(figures["cpu_seconds"])
    latency = figures["latency_ms"]
    expect(figures["handshakes"] > 0, f"{name}: no handshake: {figures}")
    print(
        f"  {name:44}{figures['handshakes'] / used['server']:8.0f}{figures['per_s']:9.0f}{latency['p50']:8.1f}"
        f"{latency['p99']:8.1f}{used['others']:8.0%}{target(goal)}",
        flush=True,
    )
    return figures["handshakes"] / used["server"]


def bench_handshakes(world):
    title("Handshakes, with Connection ID; the session is closed at once")
    print(f"  {'':44}{'per CPU-s':>8}{'per s':>8}{'p50 ms':>8}{'p99':>8}{'others':>8}")
    gcm = "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256"
    with world.server() as server:
        rate = handshakes(world, "server certificate", server, world.anonymous_lines(256), "8,000", suites=gcm)
        metric("cert_handshakes_per_cpu_s", rate, "1/s")
        handshakes(world, "certificates of both", server, world.certificate_lines(), suites=gcm)
        rate = handshakes(world, "pre-shared key", server, world.psk_lines(256), "20,000", suites=SUITE)
        metric("psk_handshakes_per_cpu_s", rate, "1/s")
        if not QUICK:
            ecdhe = "TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256"
            handshakes(world, "pre-shared key and ECDHE", server, world.psk_lines(256), suites=ecdhe)
    with world.stock() as server:
        handshakes(world, "coap-server: server certificate", server, world.anonymous_lines(256), suites=gcm)
        handshakes(world, "coap-server: pre-shared key", server, world.stock_lines(256), suites=SUITE)


# --- Death under load ---


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def restart(server, load):
    """Seconds from the call until it says that it serves, until the first answer after its death; and of CPU."""
    answered = size_of(load.acked)
    since = server.log_position()
    began = time.monotonic()
    server.begin()
    ready = first = None
    while ready is None or first is None:
        now = time.monotonic()
        if first is None and size_of(load.acked) > answered:
            first = now - began
        if ready is None and server.log_lines("event=coap_ready", since):
            ready = now - began
            used = sum(process_seconds(pid) for pid in processes(server))
        expect(now - began < 60, f"it does not come back:\n{server.log_tail()}")
        time.sleep(0.002)
    return ready, first, used


def bench_restart(world):
    title(f"SIGKILL with {count_name(MANY)} sessions under load, and started again; {KILLS} times, the median")
    world.forget_rows()
    with world.server(**{"journal.durability": "write"}) as server:
        options = {"in_flight": IN_FLIGHT, "rate": 5000, "seconds": 300, "suites": SUITE}
        # Devices ask again soon, so that the first answer is seen when it is given.
        options |= {"ack_timeout_ms": 100, "max_retransmit": 9, "wait": True, "logs": True}
        with world.load(server, world.psk_lines(MANY), **options) as load:
            load.ready()
            load.go()
            times = []
            for _ in range(KILLS):
                time.sleep(KILL_AFTER_S)
                server.kill()
                time.sleep(0.05)  # until the last answers that it gave are read
                times.append(restart(server, load))
            time.sleep(KILL_AFTER_S)
            load.process.terminate()  # it says what it has seen
            figures = load.wait()
        world.wait_for_rows(figures["acknowledged"])
        missing = figures["acknowledged"] - world.postgres.value(
            "select count(distinct (device, seq)) from fieldgate.telemetry"
        )
    ready, first, used = (statistics.median(column) for column in zip(*times))
    print(f"  ready after                   {ready:8.3f} s{target('0.5 s')}")
    print(f"  first answer after            {first:8.3f} s")
    print(f"  its CPU until it is ready     {used:8.3f} s")
    print(f"  handshakes                    {figures['handshakes']:8}{target('0')}")
    print(f"  nonces used twice             {figures['nonces_reused']:8}{target('0')}")
    print(f"  acknowledged and not stored   {max(0, missing):8}{target('0')}", flush=True)
    expect(missing <= 0, f"{missing} messages were acknowledged and are not stored")
    expect(figures["nonces_reused"] == 0, "nonces were used twice")
    expect(figures["handshakes"] == 0, f"{figures['handshakes']} sessions had to shake hands again")
    if not QUICK:
        metric("restart_ready_s", ready, "s")


# --- ClientHellos ---


def handshake_ms(world, client, server, count):
    times = []
    for i in range(count):
        key = world.keys[i]
        device = client.device(f"hello-{i}", server.port, cid_length=4, **key.options())
        times.append(device.handshake()["ms"])
        device.close()
        device.forget()
    return times


def bench_flood(world):
    seconds = 2 if QUICK else 5
    title(f"{FLOOD_RATE} ClientHellos a second without cookie: a legitimate handshake meanwhile")
    with world.server() as server, Client() as client, Client() as flooder:
        before = handshake_ms(world, client, server, 20)
        flood = flooder.flood(server.port, rate=FLOOD_RATE, seconds=seconds)
        during = []
        while not flood.done():
            during += handshake_ms(world, client, server, 1)
            time.sleep(0.01)
        sent = flood.wait()["sent"]
    print(f"  before                        median {statistics.median(before):.1f} ms, longest {max(before):.1f} ms")
    print(
        f"  meanwhile, {len(during)} of them".ljust(32)
        + f"median {statistics.median(during):.1f} ms, longest {max(during):.1f} ms{target('1 s')}"
    )
    print(f"  hellos a second               {sent / seconds:8.0f}", flush=True)


def main():
    dir = tempfile.mkdtemp(prefix="fieldgate-bench-")
    os.chmod(dir, 0o711)
    world = None
    try:
        world = World(dir, MANY, CERTIFICATES)
        parts = {"posts": bench_posts, "handshakes": bench_handshakes, "restart": bench_restart, "flood": bench_flood}
        for name in sys.argv[1:] or parts:
            parts[name](world)
        print()
        print("\n".join(metrics))
    finally:
        if world:
            world.close()
        shutil.rmtree(dir, ignore_errors=True)


if __name__ == "__main__":
    main()
