# SPDX-License-Identifier: Apache-2.0
"""Runs mqtt-load (tests/tools/) and coap-client load (tests/coap-client/), and reads what they saw
acknowledged, to be compared with what is in PostgreSQL."""

import collections
import json
import os
import pathlib
import subprocess
import threading

from .coap import JwtKey, Psk
from .coap_client import COAP_CLIENT
from .postgres import REPOSITORY

MQTT_LOAD = REPOSITORY / "build" / os.environ.get("MODE", "release") / "mqtt-load"


class Load:
    """One run of mqtt-load in the background; wait() gives its figures."""

    def __init__(self, port, **options):
        command = [str(MQTT_LOAD), "--port", str(port)]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            command += [flag] if value is True else [flag, str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait(self, timeout=600):
        try:
            output, _ = self.process.communicate(timeout=timeout)
        finally:
            self.stop()
        if self.process.returncode:
            raise RuntimeError(f"mqtt-load ended with {self.process.returncode}")
        return json.loads(output.splitlines()[-1])

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def times_said(log):
    """The (device, seq) pairs that a load wrote down, and how often."""
    with open(log) as lines:
        return collections.Counter((device, int(seq)) for device, seq in (line.split() for line in lines))


def acknowledged(ack_log):
    """The (device, seq) pairs that a load wrote down."""
    return set(times_said(ack_log))


class CoapLoad:
    """One run of `coap-client load` in the background, with a session for each of the lines that load_line
    makes. Options as its flags: `in_flight=100`, `no_cid=True`. logs=False: `acked` and `sent` are
    not written. prefix: words before the command."""

    def __init__(self, directory, port, lines, logs=True, prefix=(), **options):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.acked, self.sent = self.directory / "acked", self.directory / "sent"
        credentials = self.directory / "credentials"
        credentials.write_text("".join(line + "\n" for line in lines))
        command = [*prefix, str(COAP_CLIENT), "load", "--port", str(port), "--credentials", str(credentials)]
        if logs:
            command += ["--acked", str(self.acked), "--sent", str(self.sent)]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            command += [flag] if value is True else [flag, str(value)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def ready(self):
        """Wait until all sessions are open: its figures of that. There is no such moment with handshakes=True."""
        return self._event("ready")

    def go(self):
        """With wait=True: begin."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait(self, timeout=600):
        """The figures at the end."""
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        try:
            figures = self._event("done")
            self.process.wait()
        finally:
            timer.cancel()
            self.stop()
        return figures

    def _event(self, name):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == name:
                return event
        raise RuntimeError(f"coap-client load ended with {self.process.wait()} before it was {name}")

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def load_line(credentials):
    """A line of CoapLoad's credentials, of a harness.coap.Psk or JwtKey or of harness.pki.Credentials."""
    if isinstance(credentials, Psk):
        return f"{credentials.id},psk,{credentials.identity.decode()},{credentials.key.hex()}"
    if isinstance(credentials, JwtKey):
        return f"{credentials.id},jwt,{credentials.token()}"
    return f"{credentials.id},cert,{credentials.cert},{credentials.key}"
