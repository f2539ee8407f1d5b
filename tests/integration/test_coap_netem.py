# SPDX-License-Identifier: Apache-2.0
"""A bad network: 30 % of all datagrams lost, others late or twice, in both directions. Whatever happens, every
acknowledged message is a row, and nothing else is; and it is a row no more often than the device has said it as a
new message. Once with the kernel's netem in a network namespace (needs root, and a kernel that has it), once with
losses that the client makes itself."""

import collections
import contextlib
import os
import shutil
import subprocess

import pytest
from harness import postgres as pg
from harness.load import CoapLoad, acknowledged, load_line, times_said

DEVICES = 20
# With 30 % loss each way half of all attempts fail; of 9 in a row (16 to 46 s) all do so once in 400 times. Then the
# session comes back with a handshake, and says the message again as a new one. Nobody can tell that from another
# that is like it: these messages have neither ts nor seq.
LOAD = {"messages": 20, "seconds": 300, "setup_seconds": 200, "max_retransmit": 8, "ack_timeout_ms": 60, "no_seq": True, "wait": True}


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextlib.contextmanager
def namespace_with_netem():
    """The words that run a program in it."""
    if os.geteuid() != 0 or not shutil.which("tc"):
        pytest.skip("NOT TESTED: 30 % loss by netem needs root and tc (iproute2)")
    name = f"fieldgate-{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    if (made := run("ip", "netns", "add", name)).returncode:
        pytest.skip(f"NOT TESTED: no network namespace can be made: {made.stdout}")
    try:
        assert not run(*inside, "ip", "link", "set", "lo", "up").returncode
        netem = "loss 30% delay 10ms 8ms reorder 25% 50% duplicate 10%".split()
        added = run(*inside, "tc", "qdisc", "add", "dev", "lo", "root", "netem", *netem)
        if added.returncode:
            pytest.skip(f"NOT TESTED: this kernel has no netem: {added.stdout}")
        yield inside
    finally:
        run("ip", "netns", "del", name)


def socket_url(coap, directory):
    """PostgreSQL through the file system, which reaches into the namespace."""
    cluster = coap.postgres.dir.resolve()
    lines = (cluster / "passfile").read_text().splitlines()
    passfile = directory / "passfile"
    passfile.touch(0o600)
    passfile.write_text("".join("*" + line[line.index(":") :] + "\n" for line in lines))
    return (
        f"host={cluster / 'data'} port={coap.postgres.port} user={pg.INGEST} dbname={coap.database}"
        f" passfile={passfile}"
    )


def check(coap, directory, figures):
    assert figures["nonces_reused"] == figures["refused"] == figures["closed_by_server"] == 0
    assert figures["retransmissions"] > figures["acknowledged"] // 10
    assert figures["unacknowledged"] == 0
    expected = acknowledged(directory / "acked")
    assert len(expected) == figures["acknowledged"] > 0
    said = times_said(directory / "sent")
    assert expected == set(said)
    assert said.total() - len(expected) < len(expected) // 20
    since = coap.server.log_position()
    coap.server.wait_log("event=store_status .*backlog_bytes=0 ", since, timeout=60)
    # A message without a number: one that was taken twice is two rows.
    rows = collections.Counter(coap.query("select device, light::int from telemetry where device like 'load-%%'"))
    assert set(rows) == expected
    assert all(rows[message] <= said[message] for message in rows)


def test_every_message_is_a_row_and_no_more_often_than_it_was_said_through_netem(coap, tmp_path):
    devices = coap.psk(*(f"load-{i}" for i in range(DEVICES)))
    with namespace_with_netem() as inside:
        server = coap.started({"database.url": socket_url(coap, tmp_path)}, prefix=inside)
        load = CoapLoad(tmp_path / "load", server.port, map(load_line, devices), prefix=inside, **LOAD)
        with load:
            load.ready()
            load.go()
            figures = load.wait()
        check(coap, tmp_path / "load", figures)
        # Before the namespace goes.
        server.stop()


@pytest.mark.parametrize("credentials, seed", [("psk", 1), ("jwt", 2)])
def test_every_message_is_a_row_and_no_more_often_than_it_was_said_through_a_bad_network(coap, tmp_path, credentials, seed):
    make = coap.psk if credentials == "psk" else coap.jwt_key
    devices = make(*(f"load-{i}" for i in range(DEVICES)))
    coap.started()
    coap.in_force()
    bad = {"drop": 0.3, "duplicate": 0.1, "reorder": 0.25, "delay_ms": 30, "seed": seed}
    options = {**LOAD, **bad, "ca": coap.fleet.ca, "host": "localhost"}
    with CoapLoad(tmp_path / "load", coap.server.port, map(load_line, devices), **options) as load:
        load.ready()
        load.go()
        figures = load.wait()
    check(coap, tmp_path / "load", figures)
