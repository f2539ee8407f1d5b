# SPDX-License-Identifier: Apache-2.0
"""Runs fieldgate-device (device-fw/ports/posix/README.md): one device with its commands and events, or a fleet.
FIELDGATE_DEVICE in the environment chooses another one."""

import json
import os
import pathlib
import selectors
import subprocess
import time

from cryptography.hazmat.primitives import serialization

from .coap import JwtKey, Psk
from .load import times_said
from .postgres import REPOSITORY

FIELDGATE_DEVICE = pathlib.Path(
    os.environ.get("FIELDGATE_DEVICE")
    or REPOSITORY / "build" / os.environ.get("MODE", "release") / "fieldgate-device"
)

# A test waits for what a battery would rather sleep over.
IMPATIENT = {"ack_timeout_ms": 500, "backoff_min_ms": 200, "backoff_max_ms": 1000, "refused_min_ms": 300}


def flags(**options):
    """Options as the program has them: None and False are left out."""
    command = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        flag = "--" + name.replace("_", "-")
        command += [flag] if value is True else [flag, str(value)]
    return command


def private_file(path, text):
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def jwt_key_file(path, key):
    pem = key.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private_file(path, pem.decode())


def credential_options(directory, credentials):
    """Of a harness.coap.Psk or JwtKey, or of harness.pki.Credentials."""
    if isinstance(credentials, Psk):
        text = f"identity: {credentials.identity.decode()}\nkey: {credentials.key.hex()}\n"
        return {"psk_file": private_file(directory / "psk", text)}
    if isinstance(credentials, JwtKey):
        return {"jwt_key": jwt_key_file(directory / "jwt.pem", credentials)}
    return {"cert": credentials.cert, "key": credentials.key}


class Process:
    """The program with `arguments`, and its events, one after the other."""

    def __init__(self, directory, arguments):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.acked, self.recorded = self.directory / "acked", self.directory / "recorded"
        self.stderr_file = self.directory / "stderr"
        self.arguments = [
            str(FIELDGATE_DEVICE), *map(str, arguments), "--json",
            "--acked", str(self.acked), "--recorded", str(self.recorded),
        ]  # fmt: skip
        self.process = None

    def start(self):
        assert self.process is None or self.process.poll() is not None
        with open(self.stderr_file, "ab") as stderr:
            self.process = subprocess.Popen(
                self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0
            )
        os.set_blocking(self.process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)
        self._buffer, self._ended = b"", False
        self.events = []
        return self

    @property
    def errors(self):
        return self.stderr_file.read_text(errors="replace")

    def _read(self, timeout):
        if not self._selector.select(timeout):
            return
        data = self.process.stdout.read(1 << 20)
        if data == b"":
            self._ended = True
            self._selector.unregister(self.process.stdout)
        *lines, self._buffer = (self._buffer + (data or b"")).split(b"\n")
        self.events += [json.loads(line) for line in lines if line]

    def wait(self, condition, timeout=30, what="what is waited for"):
        """What condition() gives, as soon as that is true; it looks at `events`."""
        deadline = time.monotonic() + timeout
        while True:
            found = condition()
            if found:
                return found
            left = deadline - time.monotonic()
            if left <= 0 or self._ended:
                last = "\n".join(map(json.dumps, self.events[-30:]))
                raise AssertionError(f"no {what} within {timeout} s; the last events:\n{last}\n{self.errors}")
            self._read(min(left, 0.1))

    def matching(self, name, **fields):
        return [e for e in self.events if e["event"] == name and all(e.get(k) == v for k, v in fields.items())]

    def take(self, name, timeout=30, **fields):
        """The oldest such event; it and all before it are forgotten."""

        def find():
            for i, event in enumerate(self.events):
                if event["event"] == name and all(event.get(k) == v for k, v in fields.items()):
                    self.events = self.events[i + 1 :]
                    return event
            return None

        return self.wait(find, timeout, f"{name} {fields}")

    def figures(self, timeout=60):
        """Those at the end, which comes by itself. The exit status is in `status_code`."""
        done = self.take("done", timeout)
        self.status_code = self.process.wait(30)
        self._close()
        return done

    def kill(self):
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._close()

    def _close(self):
        if self.process is not None and not self.process.stdout.closed:
            self._selector.close()
            self.process.stdin.close()
            self.process.stdout.close()

    def acknowledged(self):
        """Numbers that were acknowledged, of all starts."""
        return {seq for _, seq in times_said(self.acked)} if self.acked.exists() else set()

    def taken(self):
        return {seq for _, seq in times_said(self.recorded)} if self.recorded.exists() else set()


class SimulatedDevice(Process):
    """One device, which takes commands. Its readings come by `read`, unless `interval` is given."""

    def __init__(self, directory, transport, port, credentials, **options):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.id = credentials.id
        options = {"interval": 604800, **IMPATIENT, **credential_options(directory, credentials), **options}
        if "psk_file" in options:
            options.pop("ca", None)
        super().__init__(
            directory, flags(id=self.id, transport=transport, port=port, interactive=True, **options)
        )

    def send(self, command):
        self.process.stdin.write(command.encode() + b"\n")

    def command(self, command, timeout=30):
        """Give it, and wait until it is taken."""
        name = command.split()[0]
        self.send(command)

        def answer():
            for event in self.events:
                if event["event"] in ("ok", "error") and event["command"] == name:
                    self.events.remove(event)
                    return event
            return None

        answer = self.wait(answer, timeout, f"answer to {command}")
        assert answer["event"] == "ok", answer

    def ask(self, command, timeout=30):
        """`get`, `put` or `button`: the response."""
        self.command(command, timeout)
        return self.take("response", timeout)

    def status(self):
        self.command("status")
        return self.take("status")

    def read(self, count=1):
        for _ in range(count):
            self.command("read")

    def running(self, timeout=30):
        """Wait for the next time that it is let in."""
        self.take("state", timeout, state="running")
        return self

    def all_acknowledged(self, count, timeout=60):
        """Wait until so many readings are, of all starts: their numbers."""
        return self.wait(
            lambda: (lambda seqs: seqs if len(seqs) >= count else None)(self.acknowledged()),
            timeout,
            f"{count} acknowledged readings",
        )

    def quit(self):
        self.send("quit")
        return self.figures()


class SimulatedFleet(Process):
    """Many devices, one for each of `lines` (fleet_line)."""

    def __init__(self, directory, transport, port, lines, **options):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        credentials = private_file(directory / "credentials", "".join(line + "\n" for line in lines))
        options = {**IMPATIENT, **options}
        super().__init__(
            directory,
            ["fleet", *flags(transport=transport, port=port, credentials=credentials, **options)],
        )


def fleet_line(directory, credentials):
    """A line of a fleet's credentials, of a harness.coap.Psk or JwtKey or of harness.pki.Credentials."""
    if isinstance(credentials, Psk):
        return f"{credentials.id},psk,{credentials.identity.decode()},{credentials.key.hex()}"
    if isinstance(credentials, JwtKey):
        return f"{credentials.id},jwt,{jwt_key_file(directory / (credentials.id + '.pem'), credentials)}"
    return f"{credentials.id},cert,{credentials.cert},{credentials.key}"
