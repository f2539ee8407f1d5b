# SPDX-License-Identifier: Apache-2.0
"""Clients that we did not write: libcoap's coap-client on Mbed TLS, OpenSSL and GnuTLS, and openssl s_client."""

import os
import pathlib
import secrets
import shutil
import struct
import subprocess
import time

import cbor2
import pytest

from harness.postgres import OWNER, REPOSITORY

# What this build of libcoap does not do is said here, not skipped in silence.
CLIENTS = ["mbedtls", "openssl", "gnutls"]


@pytest.fixture(scope="session")
def peers():
    """The directory with libcoap's programs on Mbed TLS."""
    result = subprocess.run([REPOSITORY / "deps/build", "--peers"], text=True, capture_output=True, check=True)
    return pathlib.Path(result.stdout.strip()) / "bin"


@pytest.fixture
def program(peers):
    def find(kind):
        if kind == "mbedtls":
            return peers / "coap-client"
        found = shutil.which(f"coap-client-{kind}")
        assert found, f"coap-client-{kind} is not installed (libcoap3-bin)"
        return found

    return find


@pytest.fixture
def run(coap, program, tmp_path):
    """run(kind, method, path, ...) -> what the client wrote of the answer, and its log."""

    def call(kind, method, path, payload=b"", *options, limit=15, timeout=30):
        answer, body = tmp_path / "answer", tmp_path / "body"
        answer.unlink(missing_ok=True)
        body.write_bytes(payload)
        command = [program(kind), "-v", "6", "-B", str(limit), "-m", method, "-o", answer, *options]
        if payload:
            command += ["-f", body]
        url = f"coaps://localhost:{coap.server.port}/{path}"
        result = subprocess.run(
            [str(part) for part in [*command, url]],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
        )
        log = (result.stdout + result.stderr).decode(errors="replace")
        assert result.returncode == 0, log
        return (answer.read_bytes() if answer.exists() else b""), log

    return call


def psk_options(key):
    return "-u", key.identity.decode(), "-k", key.key.decode()


def certificate_options(coap, credentials):
    return "-C", coap.fleet.ca, "-c", credentials.cert, "-j", credentials.key


def text_key(coap, id):
    """A pre-shared key that is text: libcoap 4.3.1's clients take no other."""
    return coap.psk(id, key=secrets.token_hex(16).encode())


@pytest.mark.parametrize("kind", CLIENTS)
def test_telemetry_with_a_psk_is_a_row(coap, run, kind):
    coap.started()
    key = text_key(coap, f"psk-{kind}")
    coap.in_force()
    _, log = run(kind, "post", "msg/d2c", cbor2.dumps({"temperature": 21.5, "seq": 7}), "-t", "60",
                 *psk_options(key))
    assert "2.01" in log, log
    coap.wait_seqs(key.id, [7])


@pytest.mark.parametrize("kind", CLIENTS)
def test_telemetry_with_a_certificate_is_a_row(coap, run, kind):
    coap.started()
    device = coap.devices(f"cert-{kind}")[f"cert-{kind}"]
    coap.in_force()
    _, log = run(kind, "post", "msg/d2c", b'{"temperature": 21.5, "seq": 8}', "-t", "50",
                 *certificate_options(coap, device))
    assert "2.01" in log, log
    coap.wait_seqs(device.id, [8])


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_wrong_psk_is_no_session(coap, run, kind):
    coap.started()
    key = text_key(coap, "wrong")
    coap.in_force()
    key.key = b"another key that is text"
    try:
        answer, log = run(kind, "post", "msg/d2c", b'{"light": 1, "seq": 1}', "-t", "50", *psk_options(key), limit=3)
        assert not answer and "2.01" not in log, log
    except (AssertionError, subprocess.TimeoutExpired):
        pass  # some clients say so by their exit code
    coap.stored()
    assert coap.seqs(key.id) == []


@pytest.mark.parametrize("kind", CLIENTS)
def test_discovery_needs_no_identity(coap, run, kind):
    coap.started()
    answer, log = run(kind, "get", ".well-known/core", b"", "-C", coap.fleet.ca)
    assert b"</msg/d2c>" in answer and b"</state>" in answer, log
    _, log = run(kind, "get", "state", b"", "-C", coap.fleet.ca)
    assert "4.01" in log, log


@pytest.mark.parametrize("kind", CLIENTS)
def test_block_wise_both_ways(coap, run, kind):
    coap.started()
    key = text_key(coap, f"block-{kind}")
    coap.in_force()
    value = os.urandom(20000)
    run(kind, "put", "store/firmware-log", value, "-t", "42", "-b", "512", *psk_options(key))
    answer, log = run(kind, "get", "store/firmware-log", b"", "-b", "256", *psk_options(key))
    assert answer == value, log


@pytest.mark.parametrize("kind", CLIENTS)
def test_observer_is_told_of_a_change_by_sql(coap, run, kind):
    coap.started()
    key = text_key(coap, f"observe-{kind}")
    coap.in_force()
    run(kind, "put", "state/desired", b'{"interval": 60}', "-t", "50", *psk_options(key))
    # The change comes from this process while the client listens.
    shell = subprocess.Popen(
        ["bash", "-c", "sleep 1.5; exec psql -q --no-psqlrc -v ON_ERROR_STOP=1 \"$0\" -c \"$1\"",
         coap.postgres.url(OWNER, coap.database),
         "update fieldgate.device_state set desired = '{\"interval\": 5}' "
         f"where device = '{key.id}'"],
        stdin=subprocess.DEVNULL)
    answer, log = run(kind, "get", "state?delta=false", b"", "-s", "5", *psk_options(key))
    assert shell.wait(timeout=10) == 0
    assert answer.count(b'"interval"') >= 2 and b"60" in answer and b": 5" in answer.replace(b":5", b": 5"), log


def test_connection_id_with_a_port_that_changes(coap, run):
    """coap-client -d 1: a new source port for every datagram."""
    server = coap.started()
    key = text_key(coap, "roaming")
    coap.in_force()
    since = server.log_position()
    _, log = run("mbedtls", "post", "msg/d2c", b'{"light": 1, "seq": 1}', "-t", "50", "-d", "1", "-G", "4",
                 *psk_options(key), timeout=40)
    assert log.count("2.01") >= 4, log
    coap.wait_seqs(key.id, [1])
    assert not server.log_lines("session_closed.*superseded", since)


class SClient:
    """openssl s_client -dtls1_2: CoAP messages are written and read as they are."""

    def __init__(self, port, *options):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-dtls1_2", "-quiet", "-connect", f"127.0.0.1:{port}",
             *[str(o) for o in options]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.mid = 100

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def request(self, code, path, payload=b"", format=None):
        """The answer's (code, payload) to one confirmable request; its token is empty."""
        self.mid += 1
        message, last = struct.pack("!BBH", 0x40, code, self.mid), 0
        options = [(11, part.encode()) for part in path.split("/")]
        if format is not None:
            options.append((12, bytes([format]) if format else b""))
        for number, value in options:
            assert number - last < 13
            length = len(value)
            message += bytes([(number - last) << 4 | min(length, 13)])
            message += bytes([length - 13]) if length >= 13 else b""
            message += value
            last = number
        if payload:
            message += b"\xff" + payload
        self.process.stdin.write(message)
        self.process.stdin.flush()
        return self._answer(self.mid)

    def _answer(self, mid):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            data = self.process.stdout.read()
            if data and data[0] >> 4 == 6 and struct.unpack("!H", data[2:4])[0] == mid:
                return f"{data[1] >> 5}.{data[1] & 31:02}", data[4:]
            time.sleep(0.01)
        raise AssertionError(f"no answer: {self.process.stderr.read1().decode(errors='replace')}")


POST, GET = 2, 1


def test_s_client_with_a_jwt(coap):
    """The server's certificate checked by OpenSSL, then auth/jwt, then telemetry, in one session."""
    server = coap.started()
    key = coap.jwt_key("modem-1")
    coap.in_force()
    with SClient(server.port, "-CAfile", coap.fleet.ca, "-verify_return_error",
                 "-verify_hostname", "localhost") as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 1}', 50)[0] == "4.01"
        assert client.request(POST, "auth/jwt", b"x.y.z", 0)[0] == "4.01"
        assert client.request(POST, "auth/jwt", key.token().encode(), 0)[0] == "2.01"
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 2}', 50)[0] == "2.01"
    coap.wait_seqs("modem-1", [2])


@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"])
def test_s_client_with_a_psk_and_each_suite(coap, suite):
    server = coap.started()
    key = coap.psk("modem-2")
    coap.in_force()
    with SClient(server.port, "-psk_identity", key.identity.decode(), "-psk", key.key.hex(),
                 "-cipher", f"{suite}:@SECLEVEL=0") as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 3}', 50)[0] == "2.01"
    coap.wait_seqs("modem-2", [3])


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM8"])
def test_s_client_with_a_certificate_and_each_suite(coap, suite):
    server = coap.started()
    device = coap.devices("modem-3")["modem-3"]
    coap.in_force()
    with SClient(server.port, "-CAfile", coap.fleet.ca, "-verify_return_error", "-cert", device.cert,
                 "-key", device.key, "-cipher", f"{suite}:@SECLEVEL=0") as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 4}', 50)[0] == "2.01"
    coap.wait_seqs("modem-3", [4])


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "PSK-AES128-CBC-SHA256", "PSK-AES128-CBC-SHA"])
def test_suites_of_old_modem_firmware_only_when_switched_on(coap, suite):
    key = coap.psk("modem-4")
    device = coap.devices("modem-5")["modem-5"]
    options = ["-cipher", f"{suite}:@SECLEVEL=0"]
    if suite.startswith("PSK"):
        options += ["-psk_identity", key.identity.decode(), "-psk", key.key.hex()]
        id = key.id
    else:
        options += ["-CAfile", coap.fleet.ca, "-cert", device.cert, "-key", device.key]
        id = device.id
    server = coap.started()
    with SClient(server.port, *options) as client:
        client.process.wait(timeout=20)
    server.stop()
    server.configure({"coap.legacy_cbc": "yes"})
    since = server.log_position()
    server.start()
    assert server.log_lines("CBC", since)
    with SClient(server.port, *options) as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 5}', 50)[0] == "2.01"
    coap.wait_seqs(id, [5])


def test_s_client_resumes_its_session(coap, tmp_path):
    """Tickets, for clients without Connection ID: who it was is still known."""
    server = coap.started()
    device = coap.devices("modem-6")["modem-6"]
    coap.in_force()
    saved = tmp_path / "session"
    options = ["-CAfile", coap.fleet.ca, "-verify_return_error"]
    with SClient(server.port, *options, "-cert", device.cert, "-key", device.key, "-sess_out", saved) as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 1}', 50)[0] == "2.01"
    since = server.log_position()
    with SClient(server.port, *options, "-sess_in", saved) as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 2}', 50)[0] == "2.01"
    coap.wait_seqs(device.id, [1, 2])
    server.wait_log(r"event=coap_status .*resumed=1\b", since)


def test_s_client_does_not_resume_a_revoked_device(coap, tmp_path):
    server = coap.started()
    device = coap.devices("modem-7")["modem-7"]
    coap.in_force()
    saved = tmp_path / "session"
    options = ["-CAfile", coap.fleet.ca, "-verify_return_error"]
    with SClient(server.port, *options, "-cert", device.cert, "-key", device.key, "-sess_out", saved) as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 1}', 50)[0] == "2.01"
    coap.set_state(device.id, "revoked")
    coap.in_force()
    with SClient(server.port, *options, "-sess_in", saved) as client:
        assert client.request(POST, "msg/d2c", b'{"light": 1, "seq": 2}', 50)[0] == "4.01"
    coap.stored()
    assert coap.seqs(device.id) == [1]
