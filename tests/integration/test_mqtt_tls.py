# SPDX-License-Identifier: Apache-2.0
"""TLS of the broker as the plugin shapes it, whatever mosquitto.conf says."""

import socket
import subprocess

import pytest

PSK = "PSK-AES128-GCM-SHA256"


def s_client(stack, port, *options, text=""):
    credentials = stack.credentials["dev-1"]
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", stack.fleet.ca, "-cert",
         credentials.cert, "-key", credentials.key, *options],
        input=text, capture_output=True, text=True, timeout=30,
    )


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_groups(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    for group, name in ("P-256", "prime256v1|P-256"), ("X25519", "X25519"):
        result = s_client(stack, broker.port, version, "-groups", group)
        assert "Verify return code: 0 (ok)" in result.stdout, result.stdout + result.stderr
    for group in "P-384", "X448", "ffdhe2048":
        result = s_client(stack, broker.port, version, "-groups", group)
        assert "Cipher is (NONE)" in result.stdout, group


def test_no_compression_and_no_renegotiation(stack):
    stack.devices("dev-1")
    broker = stack.started()
    result = s_client(stack, broker.port, "-tls1_2", "-comp", text="R\n")
    assert "Compression: NONE" in result.stdout
    assert "RENEGOTIATING" in result.stderr + result.stdout
    assert "no renegotiation" in result.stderr


def test_broker_ends_cleanly_with_live_connections_and_handshakes(stack):
    stack.devices("dev-1", "dev-2")
    broker = stack.broker(psk=PSK)
    for _ in range(3):
        broker.start()
        client = stack.connected(broker, "dev-1")
        half = [socket.create_connection(("127.0.0.1", port)) for port in (broker.port, broker.psk_port) for _ in range(5)]
        for s in half[::2]:
            s.sendall(bytes.fromhex("16030100c8010000c40303"))  # the beginning of a ClientHello
        assert client.publish("m/d/dev-1/d2c") == 0
        assert broker.stop() == 0
        for s in half:
            s.close()


def test_broker_whose_database_refuses_at_once_ends(stack, tmp_path):
    broker = stack.broker(settings={"database.url": f"host={tmp_path} dbname=none"})
    broker.start(wait_registry=False)
    broker.wait_log("event=document_database_lost")
    assert broker.stop(timeout=15) == 0
