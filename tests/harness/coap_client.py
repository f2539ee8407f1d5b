# SPDX-License-Identifier: Apache-2.0
"""Drives coap-client (tests/coap-client/README.md): one process, any number of named devices, each of them
under the test's control down to the datagram."""

import collections
import dataclasses
import itertools
import json
import os
import selectors
import subprocess
import time

from .postgres import REPOSITORY

COAP_CLIENT = REPOSITORY / "build" / os.environ.get("MODE", "release") / "coap-client"

TEXT, LINK_FORMAT, OCTET_STREAM, JSON, MERGE_PATCH, CBOR = 0, 40, 42, 50, 52, 60
SENML_JSON, SENML_CBOR = 110, 112

ETAG, OBSERVE, CONTENT_FORMAT, MAX_AGE, BLOCK2, BLOCK1 = 4, 6, 12, 14, 23, 27

# Cipher suites by OpenSSL's names, as the settings have them.
SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-CCM8": "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",
    "ECDHE-ECDSA-AES128-SHA256": "TLS-ECDHE-ECDSA-WITH-AES-128-CBC-SHA256",
    "ECDHE-PSK-CHACHA20-POLY1305": "TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256",
    "PSK-AES128-CCM8": "TLS-PSK-WITH-AES-128-CCM-8",
    "PSK-AES128-GCM-SHA256": "TLS-PSK-WITH-AES-128-GCM-SHA256",
    "PSK-AES128-CBC-SHA256": "TLS-PSK-WITH-AES-128-CBC-SHA256",
    "PSK-AES128-CBC-SHA": "TLS-PSK-WITH-AES-128-CBC-SHA",
}


class ClientError(Exception):
    """What the client answered instead: `what` is its kind ("timeout", "handshake", "reset", ...)."""

    def __init__(self, answer):
        super().__init__(f"{answer['error']}: {answer.get('text')} {_short(answer)}")
        self.what = answer["error"]
        self.answer = answer

    @property
    def alert(self):
        """The server's TLS alert, or -1."""
        return self.answer.get("alert", -1)


def _short(answer):
    return {k: v if len(str(v)) < 200 else f"{str(v)[:200]}..." for k, v in answer.items()}


@dataclasses.dataclass
class Message:
    """A response, notification or whatever else the server has sent. `report` is all that coap-client said."""

    code: str
    payload: bytes
    options: list
    type: str
    mid: int
    token: bytes
    report: dict

    @classmethod
    def of(cls, answer):
        return cls(
            answer["code"],
            bytes.fromhex(answer["payload"]),
            [(number, bytes.fromhex(value)) for number, value in answer["options"]],
            answer["type"],
            answer["mid"],
            bytes.fromhex(answer["token"]),
            answer,
        )

    def option(self, number):
        """The first option's value, or None."""
        return next((value for n, value in self.options if n == number), None)

    def uint(self, number):
        value = self.option(number)
        return None if value is None else int.from_bytes(value, "big")

    @property
    def text(self):
        return self.payload.decode()

    @property
    def json(self):
        return json.loads(self.payload)

    @property
    def format(self):
        return self.uint(CONTENT_FORMAT)

    @property
    def max_age(self):
        return self.uint(MAX_AGE)

    @property
    def etag(self):
        return self.option(ETAG)

    @property
    def observe(self):
        return self.uint(OBSERVE)

    def __getattr__(self, name):
        """`separate`, `retransmissions`, `message`, `ms`, ... of the report."""
        try:
            return self.report[name]
        except KeyError:
            raise AttributeError(name) from None


class Pending:
    """A command that was sent and not yet answered."""

    def __init__(self, client, id, make=lambda answer: answer):
        self.client, self.id, self.make = client, id, make

    def done(self):
        self.client._read(0)
        return self.id in self.client._answers

    def wait(self, timeout=120):
        """The answer; ClientError if it is an error."""
        answer = self.client._wait(lambda: self.client._answers.pop(self.id, None), timeout)
        if answer is None:
            raise TimeoutError(f"coap-client did not answer to command {self.id} in {timeout} s")
        if "error" in answer:
            raise ClientError(answer)
        return self.make(answer)


class Client:
    """One coap-client. Use it as a context, or call close()."""

    def __init__(self):
        self.process = subprocess.Popen(
            [str(COAP_CLIENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)
        self._ids = itertools.count(1)
        self._buffer = b""
        self._answers = {}
        self.events = []
        self.devices = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """AssertionError when the server was seen to use a record number twice."""
        try:
            if self.process.poll() is None:
                self.call("quit")
                self.process.wait(10)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        assert self.process.returncode == 0, f"coap-client ended with {self.process.returncode}"
        assert not self.nonces_reused()

    def nonces_reused(self):
        return [e for e in self.events if e["event"] == "nonce_reused"]

    def submit(self, command, make=lambda answer: answer, **arguments):
        """Send a command and do not wait: a Pending. Arguments that are None are left out."""
        id = next(self._ids)
        line = {"id": id, "do": command, **{k: v for k, v in arguments.items() if v is not None}}
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        return Pending(self, id, make)

    def call(self, command, timeout=120, **arguments):
        return self.submit(command, **arguments).wait(timeout)

    def _read(self, timeout):
        if not self._selector.select(timeout):
            return
        data = self.process.stdout.read(1 << 20)
        if data == b"":
            raise RuntimeError(f"coap-client ended with {self.process.wait()}")
        *lines, self._buffer = (self._buffer + (data or b"")).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "re" in message:
                self._answers[message["re"]] = message
            else:
                self.events.append(message)

    def _wait(self, condition, timeout):
        deadline = time.monotonic() + timeout
        while True:
            found = condition()
            if found is not None:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._read(left)

    def take_event(self, name, timeout=10, **fields):
        """The oldest event of this name with these fields, which is then forgotten; None: it did not come."""

        def find():
            for i, e in enumerate(self.events):
                if e["event"] == name and all(e.get(k) == v for k, v in fields.items()):
                    return self.events.pop(i)
            return None

        return self._wait(find, timeout)

    def device(self, name, port, **options):
        """A Device that talks to `port`. See `device` in coap-client's README for options; `suites` are a list
        of OpenSSL's names, `psk` bytes."""
        if isinstance(options.get("suites"), (list, tuple)):
            options["suites"] = " ".join(SUITES.get(s, s) for s in options["suites"])
        for key in ("psk", "identity_hex"):
            if isinstance(options.get(key), bytes):
                options[key] = options[key].hex()
        for key in ("ca", "certificate", "key"):
            if options.get(key) is not None:
                options[key] = str(options[key])
        local = self.call("device", device=name, port=port, **options)["port"]
        self.devices[name] = Device(self, name, local)
        return self.devices[name]

    def socket(self, port, **options):
        """A port that is nobody's, for datagrams to this server port."""
        return Socket(self, self.call("socket", port=port, **options)["port"])

    def flood(self, port, *, rate, seconds, **options):
        """ClientHellos in the background: a Pending."""
        return self.submit("flood", port=port, rate=rate, seconds=seconds, **options)


class Socket:
    def __init__(self, client, port):
        self.client, self.port = client, port

    def send(self, datagram, times=1):
        self.client.call("send", **{"from": self.port}, hex=datagram.hex(), times=times)

    def received(self, timeout=1):
        """The next datagram that arrives, or None."""
        event = self.client.take_event("datagram", timeout, port=self.port)
        return bytes.fromhex(event["hex"]) if event else None


Record = collections.namedtuple("Record", "type epoch seq cid bytes")


@dataclasses.dataclass
class Datagram:
    """What a device has sent or received, or would have."""

    index: int
    direction: str
    fate: str
    port: int
    bytes: bytes
    records: list

    @classmethod
    def of(cls, entry):
        whole = bytes.fromhex(entry["hex"])
        records = [
            Record(r["type"], r["epoch"], r["seq"], bytes.fromhex(r["cid"]),
                   whole[r["at"] : r["at"] + r["length"]])
            for r in entry["records"]
        ]
        return cls(
            entry["index"], entry["direction"], entry["fate"], entry["port"], whole, records
        )


class Device:
    """A device of a Client. Its requests give a Message, or ClientError ("timeout", "reset", "closed")."""

    def __init__(self, client, name, port):
        self.client, self.name, self.port = client, name, port
        self.session = None

    def _call(self, command, timeout=120, **arguments):
        return self.client.call(command, timeout, device=self.name, **arguments)

    # --- The session ---

    def handshake(self, **options):
        """What was negotiated: suite, cid, resumed, own_cid, peer_cid, ms."""
        self.session = self.start_handshake(**options).wait()
        return self.session

    def start_handshake(self, **options):
        return self.client.submit("handshake", device=self.name, **options)

    def stop_handshake_after(self, flight):
        """1: ClientHello sent. 3: that with the cookie. 4: the server's flight read. 5: answered."""
        self._call("handshake", stop_after=flight)

    def close(self, notify=True):
        self._call("close", notify=notify)

    def forget(self):
        """Gone without a word."""
        self._call("forget")
        del self.client.devices[self.name]

    def closed(self, timeout=10):
        """The event of the server's having ended the session, or None."""
        return self.client.take_event("closed", timeout, device=self.name)

    @property
    def peer_cid(self):
        """The Connection ID that this device's records carry."""
        return bytes.fromhex(self.session["peer_cid"])

    # --- Requests ---

    def start(self, method, path="", payload=None, **options):
        """A request under way: a Pending."""
        if isinstance(payload, str):
            payload = payload.encode()
        elif isinstance(payload, (dict, list)):
            payload = json.dumps(payload).encode()
            options.setdefault("format", JSON)
        for key in ("etag", "if_match"):
            if isinstance(options.get(key), bytes):
                options[key] = [options[key].hex()]
        if "options" in options:
            options["options"] = [[n, bytes(v).hex()] for n, v in options["options"]]
        if isinstance(options.get("token"), bytes):
            options["token"] = options["token"].hex()
        return self.client.submit(
            "request",
            Message.of,
            device=self.name,
            method=method,
            path=path,
            payload=None if payload is None else payload.hex(),
            **options,
        )

    def request(self, method, path="", payload=None, **options):
        return self.start(method, path, payload, **options).wait()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, payload=b"", **options):
        return self.request("POST", path, payload, **options)

    def put(self, path, payload=b"", **options):
        return self.request("PUT", path, payload, **options)

    def patch(self, path, payload=b"", **options):
        return self.request("PATCH", path, payload, **options)

    def delete(self, path, **options):
        return self.request("DELETE", path, **options)

    def ping(self, **options):
        return self._call("ping", **options)

    def telemetry(self, seq, **options):
        """POST msg/d2c of a small message with this number. Taken twice it is one row: the number tells."""
        return self.post("msg/d2c", {"seq": seq, "light": seq % 100}, **options)

    def reading(self, value, **options):
        """POST msg/d2c of a message without a number: were it taken twice, it would be two rows."""
        return self.post("msg/d2c", {"light": value}, **options)

    def observe(self, path, **options):
        """The first answer; later ones are notifications. To stop: get(path, observe=1, token=its token)."""
        return self.get(path, observe=0, **options)

    def notification(self, timeout=10, token=None):
        """The next one, or None."""
        fields = {} if token is None else {"token": token.hex()}
        event = self.client.take_event("notification", timeout, device=self.name, **fields)
        return Message.of(event) if event else None

    def raw(self, message):
        """These bytes as one record. An answer is the next `message`."""
        self._call("raw", hex=bytes(message).hex())

    def message(self, timeout=10):
        event = self.client.take_event("message", timeout, device=self.name)
        return Message.of(event) if event else None

    def unexpected(self, timeout=1):
        """A CoAP message from the server that nobody waits for, or None."""
        event = self.client.take_event("unexpected", timeout, device=self.name)
        return Message.of(event) if event else None

    def answers(self, how):
        """To confirmable messages of the server: "normal", "none", "reset"."""
        self._call("answers", how=how)

    # --- Datagrams ---

    def rebind(self, keep=False, **options):
        """A new local port, as behind a NAT that has forgotten. keep: the old one, which still listens, as a
        Socket."""
        old = self.port
        self.port = self._call("rebind", keep=keep, **options)["port"]
        return Socket(self.client, old) if keep else None

    def swap(self, other):
        """The two change ports."""
        self._call("swap", **{"with": other.name})
        self.port, other.port = other.port, self.port

    def hold(self, count=1):
        """The next datagrams are not sent but kept; see `held`."""
        return self._call("hold", count=count)["next_index"]

    def datagrams(self, since=0, direction=None, fate=None):
        entries = map(Datagram.of, self._call("captured", since=since)["datagrams"])
        return [
            d
            for d in entries
            if (direction is None or d.direction == direction) and (fate is None or d.fate == fate)
        ]

    def sent(self, since=0):
        return self.datagrams(since, "out", "sent")

    def received(self, since=0):
        return self.datagrams(since, "in", "received")

    def hold_request(self, method, path, payload=b"", **options):
        """The datagram of a request that is not sent: authentic, and older than what is sent from now on."""
        since = self.hold(1)
        pending = self.start(method, path, payload, retransmit=False, **options)
        held = self.client._wait(lambda: (self.datagrams(since, fate="held") or [None])[0], 10)
        assert held is not None, "nothing was held"
        return held, pending

    def send(self, datagram, times=1):
        """As it is, from this device's port."""
        self._call("send", hex=datagram.hex(), times=times)

    def impair(self, seed=1, sent=None, received=None):
        """What happens to what it sends and to what it receives: dicts of drop, duplicate, reorder, delay_ms."""
        self._call("impair", seed=seed, out=sent or {}, **{"in": received or {}})

    def stats(self):
        return self._call("stats")
