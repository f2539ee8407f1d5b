# SPDX-License-Identifier: Apache-2.0
"""bin/coap-trace: tshark reads our own traffic, handshake, CoAP and CBOR, when it has the secret, and only then."""

import os
import subprocess
import time

import cbor2
import pytest

from harness.coap_client import CBOR, SUITES
from harness.postgres import REPOSITORY

TRACE = REPOSITORY / "bin/coap-trace"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="capturing on an interface takes root")


class Trace:
    """A capture on the loopback interface while the block runs, and what is shown of it."""

    def __init__(self, server, directory):
        self.server = server
        self.file = directory / "capture.pcapng"

    def __enter__(self):
        self.dumpcap = subprocess.Popen(
            ["dumpcap", "-q", "-i", "lo", "-f", f"udp port {self.server.port}", "-w", self.file],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.dumpcap.stderr:
            if line.startswith("File:"):
                break
        time.sleep(0.5)  # it says so before it captures
        return self

    def __exit__(self, *_):
        time.sleep(0.5)
        self.dumpcap.terminate()
        self.dumpcap.communicate(timeout=10)

    def show(self, *options):
        result = subprocess.run(
            [TRACE, "--port", str(self.server.port), *options, self.file],
            stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout


def telemetry(device):
    payload = cbor2.dumps({"temperature": 21.5, "seq": 1})
    assert device.post("msg/d2c", payload, format=CBOR).code == "2.01"


def test_a_psk_opens_handshake_coap_and_cbor(coap, tmp_path):
    server = coap.started()
    key = coap.psk("thingy")
    coap.in_force()
    secret = tmp_path / "key.hex"
    secret.write_text(key.key.hex() + "\n")
    with Trace(server, tmp_path) as trace:
        device = coap.connected(key, suites=SUITES["PSK-AES128-CCM8"])
        telemetry(device)
        device.rebind()
        telemetry(device)
    short = trace.show("--psk-file", secret)
    for step in ["Client Hello", "Hello Verify Request", "Server Hello", "Client Key Exchange", "Finished",
                 "POST", "/msg/d2c", "2.01 Created"]:
        assert step in short, short
    assert short.count("POST") == 2
    long = trace.show("--psk-file", secret, "--verbose")
    for detail in ["connection_id", "TLS_PSK_WITH_AES_128_CCM_8", "Content-type: application/cbor",
                   "Concise Binary Object Representation", "Text String: temperature", "21.5"]:
        assert detail in long, long


def test_without_the_secret_there_is_nothing_to_read(coap, tmp_path):
    server = coap.started()
    key = coap.psk("thingy")
    coap.in_force()
    other = tmp_path / "other.hex"
    other.write_text("00" * 16 + "\n")
    with Trace(server, tmp_path) as trace:
        telemetry(coap.connected(key))
    for options in ([], ["--psk-file", other]):
        shown = trace.show("--verbose", *options)
        assert "Client Hello" in shown
        assert "temperature" not in shown and "msg/d2c" not in shown


def test_the_key_log_opens_the_sessions_of_its_device_alone(coap, tmp_path):
    keys = tmp_path / "keys.log"
    server = coap.started({"coap.keylog_device": "modem-1", "coap.keylog_file": keys})
    assert server.log_lines("level=(warn|error) event=[a-z_]*keylog")
    mine, other = coap.jwt_key("modem-1", "modem-2")
    coap.in_force()
    with Trace(server, tmp_path) as trace:
        telemetry(coap.connected(mine, suites=SUITES["ECDHE-ECDSA-AES128-GCM-SHA256"]))
        telemetry(coap.connected(other, suites=SUITES["ECDHE-ECDSA-AES128-GCM-SHA256"]))
    shown = trace.show("--keylog", keys)
    assert shown.count("POST") == 2 and "/auth/jwt" in shown and "/msg/d2c" in shown, shown
    assert keys.stat().st_mode & 0o777 == 0o600


def test_mistakes_are_explained(tmp_path):
    def refused(*options):
        result = subprocess.run([TRACE, *options], stdin=subprocess.DEVNULL, text=True, capture_output=True,
                                timeout=20, check=False)
        assert result.returncode != 0
        return result.stderr

    bad = tmp_path / "bad"
    bad.write_text("no key")
    (tmp_path / "x.pcapng").write_bytes(b"")
    assert "say what to show" in refused()
    assert "cannot read it" in refused(tmp_path / "missing")
    assert "expected a port number" in refused("--port", "0", tmp_path / "x.pcapng")
    assert "one key in hexadecimal" in refused("--psk-file", bad, tmp_path / "x.pcapng")
    assert "no such option" in refused("--everything")
