# SPDX-License-Identifier: Apache-2.0
"""A real Mosquitto with the plugin, in a directory of its own: configuration, log, and what the broker and
Fieldgate keep on disk. MOSQUITTO in the environment chooses another broker, FIELDGATE_PLUGIN another build
of the plugin."""

import os
import pathlib
import shutil
import socket
import time

from .daemon import Daemon
from .ports import free_port
from .postgres import REPOSITORY

PLUGIN = pathlib.Path(
    os.environ.get("FIELDGATE_PLUGIN")
    or REPOSITORY / "build" / os.environ.get("MODE", "release") / "fieldgate.so"
)


def _mosquitto():
    # Debian puts it where an ordinary user's PATH does not look.
    found = os.environ.get("MOSQUITTO") or shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    return found


class Broker(Daemon):
    """
    fleet: a harness.pki.Fleet with a server `localhost`. settings: more lines of fieldgate.conf, as a dict.
    mosquitto: more lines of mosquitto.conf, before its listeners. plain: also listen without TLS on
    127.0.0.1, for tokens; websockets: the same in WebSockets. psk: also a TLS listener for pre-shared keys, with
    these cipher suites. prefix: words before the broker's command (harness.clock). The ports stay the same over restarts.
    """

    program = "mosquitto"

    def __init__(
        self,
        dir,
        database_url,
        fleet,
        *,
        settings=None,
        mosquitto=(),
        plain=False,
        websockets=False,
        psk=None,
        prefix=(),
        with_plugin=True,
        port=None,
        plain_port=None,
    ):
        super().__init__(dir)
        self.fleet = fleet
        self.port = port or free_port()
        self.plain_port = (plain_port or free_port()) if plain else None
        self.websockets_port = free_port() if websockets else None
        self.prefix = prefix
        self.psk, self.psk_port = psk, free_port() if psk else None
        self.state_dir = self.dir / "state"
        self.with_plugin = with_plugin
        self.settings = {
            "database.url": database_url,
            "state.dir": self.state_dir,
            "database.connect_timeout_s": 2,
            "store.status_interval_s": 1,
            **(settings or {}),
        }
        self.mosquitto = list(mosquitto)
        self.configure()

    def configure(self, **settings):
        """Write both files, with these settings changed (`mqtt_max_keepalive_s=60`); None removes one."""
        for name, value in settings.items():
            name = name.replace("_", ".", 1)
            self.settings.pop(name, None)
            if value is not None:
                self.settings[name] = value
        lines = [f"{name} = {value}" for name, value in self.settings.items()]
        (self.dir / "fieldgate.conf").write_text("\n".join(lines) + "\n")
        (self.dir / "mosquitto.conf").write_text("\n".join(self._mosquitto_lines()) + "\n")

    def _mosquitto_lines(self):
        yield "per_listener_settings false"
        yield f"allow_anonymous {'false' if self.with_plugin else 'true'}"
        yield "persistence true"
        yield f"persistence_location {self.dir}/"
        yield f"log_dest file {self.log_file}"
        yield "log_timestamp_format %H:%M:%S"
        yield from ("log_type error", "log_type warning", "log_type notice", "log_type information")
        # No delay for tests that count latencies.
        yield "set_tcp_nodelay true"
        yield "max_inflight_messages 100"
        yield "max_queued_messages 100000"
        if os.geteuid() == 0:
            yield "user root"
        yield from self.mosquitto
        if self.with_plugin:
            yield f"plugin {PLUGIN}"
            yield f"plugin_opt_config {self.dir / 'fieldgate.conf'}"
        yield f"listener {self.port} 127.0.0.1"
        certificate, key = self.fleet.server_files("localhost")
        yield f"cafile {self.fleet.device_ca_chain}"
        yield f"certfile {certificate}"
        yield f"keyfile {key}"
        yield "require_certificate true"
        yield "tls_version tlsv1.2"
        if self.plain_port:
            yield f"listener {self.plain_port} 127.0.0.1"
        if self.websockets_port:
            yield f"listener {self.websockets_port} 127.0.0.1"
            yield "protocol websockets"
        if self.psk_port:
            yield f"listener {self.psk_port} 127.0.0.1"
            yield "psk_hint fieldgate"
            yield "tls_version tlsv1.2"
            yield f"ciphers {self.psk}"

    def start(self, timeout=20, wait_registry=True):
        """Start it and wait until it answers and knows its devices, from the database or from the copy on
        disk; RuntimeError with the log's end when it does not."""
        since = self.log_position()
        self._spawn([*self.prefix, _mosquitto(), "-c", self.dir / "mosquitto.conf"])
        deadline = time.monotonic() + timeout
        while not self._answers():
            self._check_alive(deadline)
            time.sleep(0.02)
        # The port answers before the signal handlers are there.
        self.wait_log("mosquitto version .* running", since, timeout=timeout)
        if self.with_plugin and wait_registry:
            self.wait_log('event=registry_loaded|event=plugin_started.* known"$', since, timeout=timeout)

    def _answers(self):
        with socket.socket() as s:
            s.settimeout(1)
            return s.connect_ex(("127.0.0.1", self.port)) == 0
