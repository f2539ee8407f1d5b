# SPDX-License-Identifier: Apache-2.0
"""A server process of a test and its log: what brokers and CoAP servers have in common."""

import os
import pathlib
import re
import signal
import subprocess
import time


class Daemon:
    """In `dir`. A subclass says in `program` what it is called, writes its configuration, and has `start`, by
    `_spawn` and `_check_alive`. The log may be the program's own file, or its output."""

    program = "?"

    def __init__(self, dir):
        self.dir = pathlib.Path(dir)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.process = None
        self.log_file = self.dir / f"{self.program}.log"
        self.out_file = self.dir / f"{self.program}.out"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def _spawn(self, command, **options):
        assert self.process is None, f"{self.program} runs already"
        with open(self.out_file, "ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **options
            )

    def _check_alive(self, deadline):
        """RuntimeError with the log's end when it is not there any more, or not ready at the deadline."""
        if self.process.poll() is not None:
            code = self.process.returncode
            self.process = None
            raise RuntimeError(f"{self.program} ended with {code}:\n{self.log_tail()}")
        if time.monotonic() > deadline:
            self.kill()
            raise RuntimeError(f"{self.program} is not ready:\n{self.log_tail()}")

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout=30):
        """As an operator would; the exit code, None when it was not running."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self):
        """SIGKILL."""
        if self.process is not None:
            process, self.process = self.process, None
            process.kill()
            process.wait()

    def restart(self):
        self.stop()
        self.start()

    def sighup(self):
        self.process.send_signal(signal.SIGHUP)

    # --- The log, over all its starts. ---

    def log(self):
        return self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else []

    def log_tail(self, lines=60):
        own = self.out_file != self.log_file and self.out_file.exists()
        out = self.out_file.read_text(errors="replace").splitlines() if own else []
        return "\n".join((self.log() + out)[-lines:])

    def log_position(self):
        """For `since`: only what is written from now on."""
        return len(self.log())

    def log_lines(self, pattern, since=0):
        expression = re.compile(pattern)
        return [line for line in self.log()[since:] if expression.search(line)]

    def wait_log(self, pattern, since=0, count=1, timeout=10):
        """The lines that match, as soon as there are `count`."""
        deadline = time.monotonic() + timeout
        while True:
            lines = self.log_lines(pattern, since)
            if len(lines) >= count:
                return lines
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{len(lines)} of {count} lines match {pattern!r} after {timeout} s:\n{self.log_tail()}"
                )
            time.sleep(0.02)


def children(pid):
    """Process ids of the direct children."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry))
    return found
