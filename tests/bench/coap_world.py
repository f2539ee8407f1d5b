# SPDX-License-Identifier: Apache-2.0
"""What bench_coap.py needs around it: PostgreSQL with a registry of 100,000 devices, fieldgate-coap, libcoap's
own coap-server (Mbed TLS build), and what each of them has used of the machine."""

import contextlib
import os
import pathlib
import re
import secrets
import signal
import subprocess
import time

import psycopg2.errors
from bench.cpu import machine_seconds, main_thread_seconds, memory_bytes, process_seconds, tree_seconds
from harness.broker import Broker
from harness.coap import CoapServer, make_psk, register
from harness.ports import free_udp_port
from harness.load import CoapLoad, load_line
from harness.pki import Fleet
from harness.postgres import INGEST, OWNER, REPOSITORY, SUPERUSER, Postgres

STOCK_KEY = "the key of coap-server"


class Wrong(Exception):
    """Not slow but wrong: the bench fails."""


def expect(condition, text):
    if not condition:
        raise Wrong(text)


class Usage:
    """CPU seconds of a server's processes, of PostgreSQL, and of everybody else since this was made."""

    def __init__(self, pids, postmaster):
        self.pids, self.postmaster = pids, postmaster
        self.began = time.monotonic()
        self.before = self._now()

    def _now(self):
        return {
            "server": sum(process_seconds(pid) for pid in self.pids),
            "postgres": tree_seconds(self.postmaster),
            "machine": machine_seconds(),
            "talking": sum(main_thread_seconds(pid) for pid in self.pids),
        }

    def read(self, load):
        """load: CPU seconds of the load meanwhile. `others` is a part of the whole machine."""
        used = {name: value - self.before[name] for name, value in self._now().items()}
        others = used["machine"] - used["server"] - used["postgres"] - load
        used["others"] = max(0.0, others / (time.monotonic() - self.began) / os.cpu_count())
        return used


class World:
    def __init__(self, dir, devices, certificates):
        self.dir = pathlib.Path(dir)
        self.cleanup = contextlib.ExitStack()
        self.loads = 0
        self.servers = 0
        self.master_key = secrets.token_bytes(32)
        self.postgres = self.cleanup.enter_context(Postgres(self.dir / "pg"))
        self.fleet = Fleet(self.dir / "pki", self.postgres.url(OWNER))
        self.fleet.init()
        self.server_credentials = self.fleet.server("localhost", "127.0.0.1")
        self.certificates = self.fleet.mint([f"cert-{i:04d}" for i in range(certificates)])
        self.keys = [make_psk(f"psk-{i:06d}", identity=f"psk-{i:06d}") for i in range(devices)]
        with contextlib.closing(self.postgres.connect()) as connection:
            register(connection, self.keys, self.master_key)

    def close(self):
        self.cleanup.close()

    @contextlib.contextmanager
    def server(self, **settings):
        """A started fieldgate-coap that counts what comes from each source, as in the field, but with a limit
        that the one address of this bench does not reach."""
        self.servers += 1
        limits = {"coap.handshakes_per_source": 1000000, "coap.forgeries_per_source": 1000000}
        server = CoapServer(
            self.dir / f"coap{self.servers}",
            self.postgres.url(INGEST),
            self.fleet,
            settings={**limits, "store.status_interval_s": 60, **settings},
            master_key=self.master_key,
        )
        try:
            server.start(timeout=120)
            yield server
            expect(server.running(), f"fieldgate-coap has ended:\n{server.log_tail()}")
        finally:
            server.stop()
            server.remove()

    @contextlib.contextmanager
    def broker(self):
        """A Mosquitto with the plugin, of the same database: the settings of a server that publishes to it."""
        (service,) = self.fleet.mint(["fieldgate-coap"], service=True, policy="bus")
        with Broker(self.dir / "broker", self.postgres.url(INGEST), self.fleet) as broker:
            yield {
                "bus.host": "localhost",
                "bus.port": broker.port,
                "bus.ca_file": self.fleet.ca,
                "bus.certificate_file": service.cert,
                "bus.key_file": service.key,
                "store.status_interval_s": 1,
            }

    def wait_published(self, server, count):
        """Wait until the broker has taken over so many messages, presence included."""
        deadline = time.monotonic() + 120
        while True:
            lines = server.log_lines("event=coap_bus ")
            figures = dict(re.findall(r"(\w+)=(\w+)", lines[-1])) if lines else {}
            if int(figures.get("published", 0)) >= count and figures["in_flight"] == "0":
                return
            expect(time.monotonic() < deadline, f"not all of {count} messages were published: {figures}")
            time.sleep(0.1)

    @contextlib.contextmanager
    def stock(self):
        """libcoap's coap-server: an object with `port` and `pid`."""
        directory = subprocess.run(
            [REPOSITORY / "deps" / "build", "--peers"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()
        port = free_udp_port() - 1  # DTLS is on the next one
        chain, key = self.fleet.server_files("localhost")
        command = [f"{directory}/bin/coap-server", "-A", "127.0.0.1", "-p", str(port), "-v", "3", "-n"]
        command += ["-h", "stock", "-k", STOCK_KEY, "-c", str(chain), "-j", str(key)]
        with open(self.dir / "stock.log", "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process.port = port + 1
        try:
            time.sleep(0.5)
            expect(process.poll() is None, (self.dir / "stock.log").read_text())
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(10)

    def load(self, server, lines, **options):
        self.loads += 1
        options = {"ca": self.fleet.ca, "host": "localhost", "logs": False, **options}
        return CoapLoad(self.dir / f"load{self.loads}", server.port, lines, **options)

    def usage(self, server):
        return Usage(processes(server), self.postmaster())

    def postmaster(self):
        return int((self.postgres.dir / "data" / "postmaster.pid").read_text().split("\n")[0])

    # --- Credentials of loads ---

    def psk_lines(self, count):
        return [load_line(key) for key in self.keys[:count]]

    def certificate_lines(self):
        return [load_line(credentials) for credentials in self.certificates]

    @staticmethod
    def anonymous_lines(count):
        return [f"nobody-{i},none" for i in range(count)]

    @staticmethod
    def stock_lines(count):
        return [f"stock-{i},psk,stock-{i},{STOCK_KEY.encode().hex()}" for i in range(count)]

    # --- Rows ---

    def forget_rows(self):
        """And that a message of the next load has come before."""
        for last in (False, False, False, True):
            try:
                self.postgres.query("truncate fieldgate.telemetry, fieldgate.sequence_seen")
                return
            except psycopg2.errors.DeadlockDetected:  # with the broker's store, which looks at the partitions
                expect(not last, "the tables cannot be emptied")

    def rows(self):
        return self.postgres.value("select count(*) from fieldgate.telemetry", role=SUPERUSER)

    def wait_for_rows(self, count, timeout=300):
        """Until all that was acknowledged is stored."""
        deadline = time.monotonic() + timeout
        while (rows := self.rows()) < count:
            expect(time.monotonic() < deadline, f"{rows} of {count} acknowledged messages are stored")
            time.sleep(0.1)
        return rows


def processes(server):
    return [server.pid, *(server.workers() if isinstance(server, CoapServer) else [])]


def memory(server):
    """(bytes in memory of a server's processes, bytes of the file with the slots of its sessions)"""
    slots = 0
    if isinstance(server, CoapServer):
        slots = sum(os.stat(p).st_blocks * 512 for p in server.sessions_dir.iterdir())
    return sum(memory_bytes(pid) for pid in processes(server)), slots
