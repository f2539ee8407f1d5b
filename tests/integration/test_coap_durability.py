# SPDX-License-Identifier: Apache-2.0
"""What the CoAP server acknowledged is in PostgreSQL exactly once, and sessions go on as if nothing had been: through
kills of the whole server and of single workers, at any moment, with both kinds of durability."""

import ctypes
import errno
import os
import pathlib
import random
import signal
import time

import pytest
from harness.load import CoapLoad, acknowledged, load_line
from harness.mqtt import eventually

DEVICES = 40
KILLS = 10
WORKER_KILLS = 5
WORKERS = 2


def kill_worker(server, pid):
    since = server.log_position()
    os.kill(pid, signal.SIGKILL)
    server.wait_log("event=coap_started", since, timeout=30)


@pytest.mark.parametrize("durability", ["fsync", "write"])
def test_kills_under_load_lose_and_repeat_nothing(coap, tmp_path, durability):
    seed = random.randrange(2**32)
    print(f"moments of the kills: seed {seed}")
    moments = random.Random(seed)
    server = coap.started({"coap.workers": WORKERS, "journal.durability": durability})
    keys = coap.psk(*(f"load-{n}" for n in range(DEVICES)))
    coap.in_force()
    options = {"seconds": 20, "rate": 3000, "drain_seconds": 60, "no_recovery": True, "max_retransmit": 8}
    with CoapLoad(tmp_path / "load", server.port, [load_line(k) for k in keys], **options) as load:
        load.ready()
        kinds = ["server"] * KILLS + ["worker"] * WORKER_KILLS
        moments.shuffle(kinds)
        for kind in kinds:
            time.sleep(moments.uniform(0.1, 0.8))
            if kind == "server":
                server.kill()
                server.start()
            else:
                kill_worker(server, moments.choice(server.workers()))
        figures = load.wait()
    print(figures)
    assert figures["nonces_reused"] == 0
    assert figures["handshakes"] == figures["handshakes_again"] == 0
    assert figures["unacknowledged"] == 0
    acked = acknowledged(load.acked)
    assert figures["retransmissions"] > 0, "no kill hit the load"
    eventually(
        lambda: coap.value("select count(*) from telemetry where device like 'load-%%'") >= len(acked), 90, "the rows"
    )
    coap.stored()
    stored = coap.query("select device, seq from telemetry where device like 'load-%%'")
    assert len(stored) == len(set(stored)), "a message is stored twice"
    assert set(stored) == acked
    assert coap.value("select count(*) from dead_letter") == 0


# --- Killed between the journal and the answer ---

PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000


class Stopped:
    """One thread of a process stands still, as if the disk that it waits for did not answer; until kill()."""

    def __init__(self, pid, name):
        self.pid, self.tid = pid, next(int(t.name) for t in _tasks(pid) if (t / "comm").read_text() == name + "\n")
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long] * 4
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            if libc.ptrace(request, self.tid, 0, 0) != 0:
                if ctypes.get_errno() == errno.EPERM:
                    pytest.skip("needs the right to ptrace")
                raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(self.tid, WALL)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.tid, WALL)


def _tasks(pid):
    return list(pathlib.Path(f"/proc/{pid}/task").iterdir())


def test_a_request_that_was_in_the_journal_when_its_worker_was_killed_is_not_run_again(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    # Without time and number, the row does not show that it came before.
    assert device.post("msg/d2c", {"text": "first"}).code == "2.01"
    stopped = Stopped(server.workers()[0], "pipeline-commit")
    since = server.log_position()
    answer = device.start("POST", "msg/d2c", {"text": "second"}, ack_timeout_ms=500, max_retransmit=8)
    coap.wait_rows("select 1 from telemetry where device = 'dev-1'", count=2)
    assert not answer.done()
    stopped.kill()
    server.wait_log("event=coap_started", since)
    answer = answer.wait()
    assert answer.code == "2.01" and answer.retransmissions > 0
    assert device.post("msg/d2c", {"text": "third"}).code == "2.01"
    coap.wait_rows("select 1 from telemetry where extra->>'text' = 'third'")
    assert [t for (t,) in coap.query("select extra->>'text' from telemetry where device = 'dev-1' order by received_at")] == [
        "first",
        "second",
        "third",
    ]
