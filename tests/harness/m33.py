# SPDX-License-Identifier: Apache-2.0
"""The image for a Cortex-M33 in qemu-system-arm, and the host at the other end of its serial line: it tells the device
its settings (device-fw/ports/qemu_m33/main.c), and is its network."""

import json
import os
import re
import select
import socket
import subprocess
import threading
import time

import cbor2

from .postgres import REPOSITORY

IMAGES = REPOSITORY / "build" / "m33"
HOST_FRAME = 0
END, ESC, ESC_END, ESC_ESC = b"\xc0", b"\xdb", b"\xdc", b"\xdd"


def slip(frame):
    """RFC 1055, with an END before it: noise on the line is a frame of its own."""
    return END + frame.replace(ESC, ESC + ESC_ESC).replace(END, ESC + ESC_END) + END


def unslip(frame):
    return frame.replace(ESC + ESC_END, END).replace(ESC + ESC_ESC, ESC)


class Board:
    """One device with a harness.coap.Psk. `network` False: datagrams are lost, in both directions. `log`: what the
    image for tests says; `starts`: how often it has asked for its settings; `sent`, `answers`: datagrams."""

    def __init__(self, directory, psk, port, image="device-log", interval_s=3600):
        self.dir, self.psk, self.server = directory, psk, ("127.0.0.1", port)
        self.image, self.interval_s = IMAGES / f"{image}.elf", interval_s
        self.log_file = self.dir / "m33.log"
        self.process = self.line = self.udp = None
        self.network, self.starts, self.received = True, 0, b""
        self.sent, self.answers = [], []
        self._lock = threading.Lock()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        assert self.image.exists(), f"no {self.image}: make m33 builds it"
        line, self.monitor_path = self.dir / "line", self.dir / "monitor"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(line))
        listener.listen()
        listener.settimeout(30)
        self.rebind()
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                ["qemu-system-arm", "-M", "mps2-an505", "-cpu", "cortex-m33", "-display", "none",
                 "-chardev", f"socket,id=line,path={line}", "-serial", "chardev:line",
                 "-qmp", f"unix:{self.monitor_path},server=on,wait=off",
                 "-semihosting-config", "enable=on,target=native", "-kernel", str(self.image)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        self.line, _ = listener.accept()
        listener.close()
        self.stopped, self.wake = socket.socketpair()
        self.thread = threading.Thread(target=self._relay, daemon=True)
        self.thread.start()

    def stop(self):
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.wake.close()
        self.thread.join()
        for s in (self.line, self.udp, self.stopped):
            s.close()
        self.process = None

    def rebind(self):
        """From now on the server sees another port."""
        with self._lock:
            before, self.udp = self.udp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", 0))
            # Only now: the kernel might have given the same port.
            if before:
                before.close()

    def _relay(self):
        while True:
            with self._lock:
                udp = self.udp
            try:
                ready, _, _ = select.select([self.line, udp, self.stopped], [], [], 0.05)
            except (OSError, ValueError):
                continue  # rebind has closed it
            if self.stopped in ready:
                return
            if self.line in ready and not self._upward():
                return
            if udp in ready:
                self._downward(udp)

    def _upward(self):
        try:
            data = self.line.recv(4096)
        except OSError:
            data = b""
        *frames, self.received = (self.received + data).split(END)
        for frame in map(unslip, filter(None, frames)):
            if frame[0] == HOST_FRAME:
                self.starts += 1
                self.line.sendall(slip(self._settings()))
            elif self.network:
                self.sent.append(frame)
                with self._lock:
                    self.udp.sendto(frame, self.server)
        return bool(data)

    def _downward(self, udp):
        try:
            frame = udp.recv(2048)
        except OSError:
            return  # nobody listens there (ICMP), or rebind has closed it
        if self.network:
            self.answers.append(frame)
            self.line.sendall(slip(frame))

    def _settings(self):
        items = [os.urandom(48), self.psk.id, self.psk.identity, self.psk.key, self.interval_s]
        return bytes([HOST_FRAME]) + cbor2.dumps(items)

    # --- What it does ---

    def suites(self):
        """What the server has chosen, in each ServerHello (RFC 6347 section 4.2.2, RFC 5246 section 7.4.1.3)."""
        hellos = [a[13:] for a in self.answers if a[0] == 22 and a[13] == 2]
        return {int.from_bytes(h[47 + h[46]:][:2], "big") for h in hellos}

    def log(self):
        return self.log_file.read_text(errors="replace").splitlines()

    def lines(self, pattern, since=0):
        return [line for line in self.log()[since:] if re.search(pattern, line)]

    def wait(self, pattern, count=1, since=0, timeout=60):
        """The lines that match, as soon as there are `count`."""
        deadline = time.monotonic() + timeout
        while len(found := self.lines(pattern, since)) < count:
            assert self.process.poll() is None, f"qemu has ended:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"{len(found)} of {count} lines {pattern!r}:\n{self.log_tail()}"
            time.sleep(0.02)
        return found

    def log_tail(self):
        return "\n".join(self.log()[-60:])

    # --- What is in its memory ---

    def memory(self, symbol, end):
        """The bytes from one symbol of the image to another, while it runs."""
        first, last = self.symbols()[symbol], self.symbols()[end]
        file = self.dir / "memory"
        self._monitor("memsave", val=first, size=last - first, filename=str(file))
        return file.read_bytes()

    def symbols(self):
        out = subprocess.run(["arm-none-eabi-nm", str(self.image)], check=True, capture_output=True, text=True).stdout
        rows = (line.split() for line in out.splitlines())
        return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}

    def _monitor(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.monitor_path))
            stream = s.makefile("rw")
            stream.readline()  # its greeting
            for line in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(line) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
                assert "return" in answer, answer
