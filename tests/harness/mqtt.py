# SPDX-License-Identifier: Apache-2.0
"""MQTT clients for tests. `Client` speaks MQTT 3.1.1 or 5 over a plain blocking socket, without threads: it
shows each answer of the broker as it is, and a thousand of them fit into one test. `paho` is the library
that people use, for tests that want to see a usual client work."""

import dataclasses
import socket
import ssl
import struct
import time

import paho.mqtt.client
import paho.mqtt.properties
from paho.mqtt.packettypes import PacketTypes

V31, V311, V5 = 3, 4, 5

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14

SESSION_EXPIRY, WILL_DELAY = 0x11, 0x18


class Closed(Exception):
    """The broker closed the connection. code: of its DISCONNECT (MQTT 5), or None."""

    def __init__(self, code=None):
        super().__init__(f"closed by the broker, code {code}")
        self.code = code


@dataclasses.dataclass
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclasses.dataclass
class Will:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    delay: int = 0  # MQTT 5


@dataclasses.dataclass
class Connack:
    code: int
    session_present: bool


def _text(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">H", len(data)) + data


def _varint(n):
    out = bytearray()
    while True:
        n, byte = n >> 7, n & 0x7F
        out.append(byte | (0x80 if n else 0))
        if not n:
            return bytes(out)


def tls_context(ca, credentials=None, version=None):
    """credentials: (certificate file, key file). version: an ssl.TLSVersion to insist on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    if credentials:
        context.load_cert_chain(*credentials)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class WebSocket:
    """The client's side of RFC 6455, as much of it as MQTT needs, in the shape of a socket."""

    def __init__(self, plain):
        self.plain = plain
        self.raw = b""
        plain.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        while b"\r\n\r\n" not in self.raw:
            self._more()
        head, self.raw = self.raw.split(b"\r\n\r\n", 1)
        assert b" 101 " in head, head

    def _more(self):
        data = self.plain.recv(65536)
        if not data:
            raise ConnectionResetError()
        self.raw += data

    def sendall(self, data):
        length = (
            bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        )
        self.plain.sendall(b"\x82" + length + b"\0\0\0\0" + data)

    def recv(self, _size):
        while True:
            while not self._whole():
                try:
                    self._more()
                except ConnectionResetError:
                    return b""
            end, kind, start = self._end(), self.raw[0] & 0x0F, 4 if self.raw[1] == 126 else 2
            data, self.raw = self.raw[start:end], self.raw[end:]
            if kind == 8:
                return b""
            if kind in (0, 2):
                return data

    def _whole(self):
        if len(self.raw) < 2 or self.raw[1] == 126 and len(self.raw) < 4:
            return False
        return len(self.raw) >= self._end()

    def _end(self):
        length = self.raw[1] & 0x7F
        return 4 + struct.unpack_from(">H", self.raw, 2)[0] if length == 126 else 2 + length

    def settimeout(self, timeout):
        self.plain.settimeout(timeout)

    def close(self):
        self.plain.close()


class Client:
    """One connection. tls: an ssl.SSLContext, or None for plain TCP. websocket: MQTT in WebSockets."""

    def __init__(
        self,
        port,
        client_id,
        tls=None,
        *,
        version=V311,
        clean=True,
        expiry=None,
        keepalive=60,
        username=None,
        password=None,
        will=None,
        websocket=False,
        timeout=20,
    ):
        self.port, self.client_id, self.tls, self.version = port, client_id, tls, version
        self.websocket = websocket
        self.clean, self.expiry, self.keepalive = clean, expiry, keepalive
        self.username, self.password, self.will, self.timeout = username, password, will, timeout
        self.socket = None
        self.buffer = b""
        self.messages = []
        self.next_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()

    # --- The connection ---

    def open(self):
        """TCP and TLS, without CONNECT. The connections of all clients may be made before any is used."""
        self.buffer, self.messages = b"", []
        self.socket = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            try:
                self.socket = self.tls.wrap_socket(self.socket)
            except (ssl.SSLError, ConnectionError, EOFError):
                self.drop()
                raise Closed() from None
        if self.websocket:
            self.socket = WebSocket(self.socket)
        return self

    def connect(self):
        """The broker's CONNACK, whatever its code; Closed when it sends none."""
        if self.socket is None:
            self.open()
        self.send_connect()
        return self.read_connack()

    def accepted(self):
        """Connect and insist on success; the client itself, for `with Client(...).accepted() as c`."""
        connack = self.connect()
        assert connack.code == 0, f"{self.client_id}: CONNACK {connack.code}"
        return self

    def send_connect(self):
        flags = 0x02 if self.clean else 0
        properties = will_properties = b""
        if self.expiry is not None:
            properties += struct.pack(">BI", SESSION_EXPIRY, self.expiry)
        body = _text(self.client_id)
        if self.will:
            flags |= 0x04 | self.will.qos << 3 | (0x20 if self.will.retain else 0)
            if self.will.delay:
                will_properties = struct.pack(">BI", WILL_DELAY, self.will.delay)
            if self.version == V5:
                body += _varint(len(will_properties)) + will_properties
            body += _text(self.will.topic) + _text(self.will.payload)
        if self.username is not None:
            flags |= 0x80
            body += _text(self.username)
        if self.password is not None:
            flags |= 0x40
            body += _text(self.password)
        head = _text("MQIsdp" if self.version == V31 else "MQTT") + struct.pack(">BBH", self.version, flags, self.keepalive)
        if self.version == V5:
            head += _varint(len(properties)) + properties
        self.send(CONNECT, 0, head + body)

    def read_connack(self):
        body = self.expect(CONNACK)
        return Connack(code=body[1], session_present=bool(body[0] & 1))

    def disconnect(self):
        """Say goodbye."""
        self.send(DISCONNECT, 0, b"")
        self.drop()

    def drop(self):
        """End the connection without a word."""
        if self.socket is not None:
            # Not closed by SSLSocket.unwrap: a lost connection says nothing either.
            self.socket.close()
            self.socket = None

    # --- Packets ---

    def send(self, kind, flags, body):
        try:
            self.socket.sendall(bytes([kind << 4 | flags]) + _varint(len(body)) + body)
        except (ssl.SSLError, ConnectionError, BrokenPipeError):
            self._closed()

    def _closed(self):
        """What did the broker say last? Then Closed."""
        code = None
        try:
            while True:
                kind, _, body = self.packet()
                if kind == DISCONNECT and self.version == V5:
                    code = body[0] if body else 0
        except (Closed, OSError):
            pass
        self.drop()
        raise Closed(code)

    def packet(self, timeout=None):
        """The next packet: (kind, flags, body). Closed at the end; TimeoutError."""
        while True:
            packet = self._parse()
            if packet:
                return packet
            self.socket.settimeout(self.timeout if timeout is None else max(timeout, 0.001))
            try:
                data = self.socket.recv(65536)
            except (ssl.SSLError, ConnectionError) as error:
                if isinstance(error, (ssl.SSLWantReadError, TimeoutError)) or "timed out" in str(error):
                    raise TimeoutError(f"{self.client_id}: no packet") from None
                data = b""
            except socket.timeout:
                raise TimeoutError(f"{self.client_id}: no packet") from None
            finally:
                self.socket.settimeout(self.timeout)
            if not data:
                raise Closed()
            self.buffer += data

    def _parse(self):
        length = shift = 0
        for i in range(1, min(len(self.buffer), 5)):
            length |= (self.buffer[i] & 0x7F) << shift
            shift += 7
            if not self.buffer[i] & 0x80:
                end = i + 1 + length
                if len(self.buffer) < end:
                    return None
                head, body = self.buffer[0], self.buffer[i + 1 : end]
                self.buffer = self.buffer[end:]
                return head >> 4, head & 0x0F, body
        return None

    def expect(self, *kinds, timeout=None):
        """The next packet of these kinds; publishes that come before it are kept for `receive`."""
        while True:
            try:
                kind, flags, body = self.packet(timeout)
            except Closed:
                self.drop()
                raise
            if kind in kinds:
                return body
            if kind == PUBLISH:
                self._take_publish(flags, body)
            elif kind == PUBREL:
                self.send(PUBCOMP, 0, body[:2])
            elif kind == DISCONNECT:
                self.drop()
                raise Closed(body[0] if body else 0)

    def _take_publish(self, flags, body):
        qos, retain = flags >> 1 & 3, bool(flags & 1)
        (length,) = struct.unpack_from(">H", body)
        topic, at = body[2 : 2 + length].decode(), 2 + length
        if qos:
            self.send(PUBACK if qos == 1 else PUBREC, 0, body[at : at + 2])
            at += 2
        if self.version == V5:
            properties, at = self._read_varint(body, at)
            at += properties
        self.messages.append(Message(topic, body[at:], qos, retain))

    @staticmethod
    def _read_varint(body, at):
        value = shift = 0
        while True:
            value |= (body[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not body[at - 1] & 0x80:
                return value, at

    # --- What a client does ---

    def _packet_id(self):
        self.next_id = self.next_id % 65535 + 1
        return self.next_id

    def send_publish(self, topic, payload, qos=1, retain=False, packet_id=None, dup=False):
        """Publish without waiting; the packet id (None for QoS 0)."""
        if qos and packet_id is None:
            packet_id = self._packet_id()
        body = _text(topic)
        if qos:
            body += struct.pack(">H", packet_id)
        if self.version == V5:
            body += b"\0"
        payload = payload.encode() if isinstance(payload, str) else payload
        self.send(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body + payload)
        return packet_id

    def read_ack(self, packet_id, *kinds):
        """The reason code of the PUBACK, PUBREC or PUBCOMP for packet_id; 0 in MQTT 3.1.1."""
        while True:
            body = self.expect(*kinds)
            if struct.unpack_from(">H", body)[0] == packet_id:
                return body[2] if len(body) > 2 else 0

    def publish(self, topic, payload=b'{"temperature": 21.5}', qos=1, retain=False):
        """Publish and wait: the broker's code (0, or an MQTT 5 reason). QoS 0: None, nothing is awaited."""
        packet_id = self.send_publish(topic, payload, qos, retain)
        if qos == 0:
            return None
        if qos == 1:
            return self.read_ack(packet_id, PUBACK)
        code = self.read_ack(packet_id, PUBREC)
        if code < 0x80:
            self.send(PUBREL, 2, struct.pack(">H", packet_id))
            self.read_ack(packet_id, PUBCOMP)
        return code

    def publish_all(self, topics, payload=b'{"temperature": 21.5}', window=50):
        """Publish QoS 1 to each topic, `window` at a time: the codes by topic."""
        codes = {}
        for first in range(0, len(topics), window):
            part = topics[first : first + window]
            ids = [(topic, self.send_publish(topic, payload)) for topic in part]
            for topic, packet_id in ids:
                codes[topic] = self.read_ack(packet_id, PUBACK)
        return codes

    def subscribe(self, *filters, qos=1):
        """The codes of the SUBACK: the granted QoS, or 0x80 and more. One filter: its code alone."""
        packet_id = self._packet_id()
        body = struct.pack(">H", packet_id) + (b"\0" if self.version == V5 else b"")
        for topic_filter in filters:
            body += _text(topic_filter) + bytes([qos])
        self.send(SUBSCRIBE, 2, body)
        answer = self.expect(SUBACK)
        at = 2
        if self.version == V5:
            properties, at = self._read_varint(answer, at)
            at += properties
        codes = list(answer[at:])
        return codes[0] if len(filters) == 1 else codes

    def unsubscribe(self, topic_filter):
        packet_id = self._packet_id()
        body = struct.pack(">H", packet_id) + (b"\0" if self.version == V5 else b"") + _text(topic_filter)
        self.send(UNSUBSCRIBE, 2, body)
        self.expect(UNSUBACK)

    def ping(self, timeout=None):
        """A round trip; its seconds. What the broker sent before is then in `messages`."""
        start = time.monotonic()
        self.send(PINGREQ, 0, b"")
        self.expect(PINGRESP, timeout=timeout)
        return time.monotonic() - start

    def receive(self, timeout=10):
        """The next message; TimeoutError."""
        deadline = time.monotonic() + timeout
        while not self.messages:
            kind, flags, body = self.packet(deadline - time.monotonic())
            if kind == PUBLISH:
                self._take_publish(flags, body)
            elif kind == PUBREL:
                self.send(PUBCOMP, 0, body[:2])
            elif kind == DISCONNECT:
                raise Closed(body[0] if body else 0)
        return self.messages.pop(0)

    def wait_closed(self, timeout=10):
        """Wait until the broker closes the connection: the code of its DISCONNECT, or None."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                kind, flags, body = self.packet(deadline - time.monotonic())
                if kind == DISCONNECT:
                    raise Closed(body[0] if body else 0)
        except Closed as closed:
            self.drop()
            return closed.code


def eventually(check, timeout=10, what="it"):
    """Call check until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s, {what} has not happened")
        time.sleep(0.05)


class Paho:
    """A usual client: paho-mqtt 1.6 with its own thread."""

    def __init__(self, port, client_id, tls=None, *, version=V311, clean=True, keepalive=60):
        options = {"protocol": version}
        if version == V311:
            options["clean_session"] = clean
        self.client = paho.mqtt.client.Client(client_id=client_id, **options)
        if tls:
            self.client.tls_set_context(tls)
        self.port, self.version, self.clean, self.keepalive = port, version, clean, keepalive
        self.code = None
        self.suback = {}
        self.messages = []
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)

    def __enter__(self):
        self.connect()
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _client, _data, _flags, code, _properties=None):
        self.code = getattr(code, "value", code)

    def _on_subscribe(self, _client, _data, packet_id, codes, _properties=None):
        self.suback[packet_id] = [getattr(code, "value", code) for code in codes]

    def connect(self):
        """The code of the CONNACK."""
        options = {}
        if self.version == V5:
            options["clean_start"] = self.clean
            options["properties"] = paho.mqtt.properties.Properties(PacketTypes.CONNECT)
            options["properties"].SessionExpiryInterval = 0 if self.clean else 3600
        self.client.connect("127.0.0.1", self.port, self.keepalive, **options)
        self.client.loop_start()
        eventually(lambda: self.code is not None, what="CONNACK")
        return self.code

    def publish(self, topic, payload, qos=1, retain=False, timeout=10):
        """Wait for the acknowledgement."""
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish(timeout)
        assert info.is_published(), f"no acknowledgement for {topic}"

    def subscribe(self, topic_filter, qos=1):
        """The code of the SUBACK."""
        _, packet_id = self.client.subscribe(topic_filter, qos)
        return eventually(lambda: self.suback.get(packet_id), what="SUBACK")[0]
