# SPDX-License-Identifier: Apache-2.0
"""Runs mqtt-load (tests/tools/), and compares what it saw acknowledged with what is in PostgreSQL."""

import json
import os
import subprocess

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


def acknowledged(ack_log):
    """The (device, seq) pairs that mqtt-load wrote down."""
    with open(ack_log) as lines:
        return {(device, int(seq)) for device, seq in (line.split() for line in lines)}
