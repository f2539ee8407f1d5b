# SPDX-License-Identifier: Apache-2.0
"""An nRF91 modem for tests: modem_simulator.py in a process of its own, which alone knows the keys."""

import json
import pathlib
import queue
import subprocess
import sys
import threading

SIMULATOR = pathlib.Path(__file__).resolve().parent / "modem_simulator.py"
TAG = 16842753  # Nordic's usual one
CA, CERTIFICATE, PRIVATE_KEY, PSK, IDENTITY = range(5)


class SimulatedModem:
    """`port` is what fleet modem gets: a link to the pty. options: echo, mode, firmware, chunked, chatty, seed."""

    def __init__(self, directory, **options):
        self.port = pathlib.Path(directory) / "ttyACM0"
        self.log_file = pathlib.Path(directory) / "modem_simulator.err"
        arguments = json.dumps({"port": str(self.port), **options})
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, SIMULATOR, arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        self.answers, self.events = queue.Queue(), queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.event("ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()

    def _read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            (self.events if "event" in message else self.answers).put(message)

    def event(self, name, timeout=60):
        message = self.events.get(timeout=timeout)
        assert message["event"] == name, message
        return message

    def call(self, do, **arguments):
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.answers.get(timeout=120)
        if "error" in answer:
            raise RuntimeError(f"{do}: {answer['error']}")
        return answer

    @property
    def state(self):
        """mode, imei, commands (without contents) and stored: pairs of tag and type."""
        return self.call("state")

    def types(self, tag=TAG):
        return [kind for its_tag, kind in self.state["stored"] if its_tag == tag]

    def public_key(self, tag=TAG):
        """DER SubjectPublicKeyInfo."""
        return bytes.fromhex(self.call("public", tag=tag)["spki"])

    def content(self, kind, tag=TAG):
        return self.call("content", tag=tag, kind=kind)["content"]

    def fault(self, at, do):
        """For the next command that this regular expression matches: "unplug before", "unplug after" (done, but no
        answer), "silent", "error N", "active again", "other digest", "long", "no answer"."""
        self.call("fault", at=at, what=do)

    def hold(self, at):
        """Stop before the next command that this regular expression matches; wait_held waits for it. Then release
        goes on with it."""
        self.call("hold", at=at)

    def wait_held(self, timeout=60):
        return self.event("held", timeout)["command"]

    def release(self):
        self.call("release")

    def plug(self):
        """Pull the cable, if nothing has, and plug it in again: what is in flash is still there."""
        self.call("plug")
        while not self.events.empty():
            self.events.get()

    def mqtt(self, port, id, tag=TAG, seq=1):
        """Connect to a broker with what is in this tag, and publish; the code of CONNACK, or "closed"."""
        return self.call("mqtt", port=port, id=id, tag=tag, seq=seq)["code"]

    def coap(self, port, tag=TAG, seq=1):
        return self.call("coap", port=port, tag=tag, seq=seq)["code"]

    def search(self, *paths):
        """(files read, hits) of a search for every secret that this modem has had, in every form."""
        answer = self.call("search", paths=[str(path) for path in paths])
        return answer["files"], answer["hits"]

    def plant(self, directory):
        """Each form of each secret in a file, to prove that search finds it; how many."""
        return self.call("plant", directory=str(directory))["files"]
