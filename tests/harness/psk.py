# SPDX-License-Identifier: Apache-2.0
"""MQTT over TLS with a pre-shared key, by `openssl s_client`: Python's ssl module has none before 3.13."""

import select
import socket
import subprocess
import threading

from .mqtt import Client


class SClient:
    """The connection of one s_client, in the shape of a socket. What it says besides is in `said` when it has
    ended."""

    def __init__(self, port, identity, key, *options):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-ign_eof",
             "-psk_identity", identity, "-psk", key.hex(), *map(str, options or ["-tls1_2"])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )
        self.timeout = None

    def settimeout(self, timeout):
        self.timeout = timeout

    def sendall(self, data):
        self.process.stdin.write(data)

    def recv(self, size):
        if not select.select([self.process.stdout], [], [], self.timeout)[0]:
            raise socket.timeout("timed out")
        return self.process.stdout.read(size)

    def close(self):
        self.process.kill()
        self.process.stdin.close()
        self.said = self.process.stderr.read().decode(errors="replace")
        self.process.stderr.close()
        self.process.stdout.close()
        self.process.wait()


class PskClient(Client):
    """As harness.mqtt.Client. psk: a harness.coap.Psk. options: more of s_client's."""

    def __init__(self, port, client_id, psk, *options, **arguments):
        super().__init__(port, client_id, **arguments)
        self.psk, self.options = psk, options

    def open(self):
        self.buffer, self.messages = b"", []
        self.socket = SClient(self.port, self.psk.identity.decode(), self.psk.key, *self.options)
        return self


class SplitKeyExchange:
    """A relay to a TLS 1.2 server, for one connection. Of the client's ClientKeyExchange (RFC 5246 section 7.4.7)
    it passes the header on in a record of its own, sets `held`, and the rest after `go`. `done`: the server has
    finished the handshake."""

    def __init__(self, port):
        self.held, self.go, self.done = threading.Event(), threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.server = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=self._upward, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()
        self.listener.close()
        self.server.close()

    def _downward(self, client):
        try:
            stream = self.server.makefile("rb")
            while head := stream.read(5):
                client.sendall(head + stream.read(int.from_bytes(head[3:], "big")))
                if head[0] == 20:
                    self.done.set()
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _upward(self):
        try:
            client, _ = self.listener.accept()
            threading.Thread(target=self._downward, args=(client,), daemon=True).start()
            stream = client.makefile("rb")
            while head := stream.read(5):
                body = stream.read(int.from_bytes(head[3:], "big"))
                if head[0] == 22 and body[0] == 16 and not self.held.is_set():
                    self._pass(head, body[:4])
                    self.held.set()
                    self.go.wait()
                    body = body[4:]
                self._pass(head, body)
            self.server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _pass(self, head, body):
        self.server.sendall(head[:3] + len(body).to_bytes(2, "big") + body)
