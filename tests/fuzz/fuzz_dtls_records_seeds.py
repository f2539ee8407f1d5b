#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Seeds for fuzz_dtls_records: each kind of client through handshake, data, trouble and restart.

An input is a byte of settings and a row of steps, two bytes first: client * 16 + what, and an argument.
Clients 0..5 are PSK, PSK without Connection ID, certificate of the server, certificates of both, PSK
again, certificate without Connection ID. They really are there: steps say what they do, and what becomes
of their datagrams.
"""
import hashlib
import pathlib
import struct
import sys

(ANYTHING, HANDSHAKE, SAY, LISTEN, AGAIN, _, BOTH, ATTEMPT, WAIT, HABIT, RESTART, NOTIFY, SERVER) = range(13)
SMALL, SLOTS, FORGERIES, HANDSHAKES, NO_CID = 1, 2, 4, 8, 16
STRANGER, RELAY, CLIENT = 0, 4, 8
MUTE = 1


def step(what, argument=0, client=0, *more):
    return bytes([client * 16 + what, argument, *more])


def again(client, ago=0, source=CLIENT, where=0, change=0):
    return step(AGAIN, 0, client, ago, source, where, change)


def anything(data, source=STRANGER):
    return step(ANYTHING, source) + struct.pack(">H", len(data)) + data


def record(kind, body, epoch=0, sequence=0, cid=b""):
    return struct.pack(">BHHHI", kind, 0xfefd, epoch, 0, sequence) + cid + struct.pack(">H", len(body)) + body


def handshake(kind, body, sequence=0, offset=0, length=None):
    total = len(body) if length is None else length
    return (bytes([kind]) + total.to_bytes(3, "big") + struct.pack(">H", sequence)
            + offset.to_bytes(3, "big") + len(body).to_bytes(3, "big") + body)


def hello(cookie=b""):
    extensions = (b"\0\x17\0\0" b"\0\x36\0\1\0" b"\0\x0a\0\4\0\2\0\x17" b"\0\x0b\0\2\1\0"
                  b"\0\x0d\0\4\0\2\4\3" b"\0\x23\0\0")
    return (b"\xfe\xfd" + bytes(range(32)) + b"\0" + bytes([len(cookie)]) + cookie
            + b"\0\x06\xc0\x2b\xc0\xa8\xcc\xac" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions)


def seeds():
    for settings in 0, SMALL | SLOTS, FORGERIES | HANDSHAKES, NO_CID:
        for client in range(6):
            talk = step(SAY, 0, client) + step(LISTEN, 0, client)
            start = bytes([settings]) + step(HANDSHAKE, 0, client)
            yield start + talk
            yield start + talk + again(client) + again(client, 1) + talk
            yield start + talk + b"".join(
                again(client, 0, source, where, 1) for source in (STRANGER, RELAY, CLIENT + client)
                for where in (0, 3, 8, 11, 20, 30)) + talk
            yield start + step(SAY, MUTE, client) * 3 + again(client, 1, RELAY) + again(client, 2, RELAY + 1) + again(client)
            yield start + talk + step(RESTART) + talk + again(client, 1) + step(RESTART) + talk
            yield start + talk + step(ATTEMPT, 1, client) + talk + step(ATTEMPT, 1, client) + talk
            yield start + step(ATTEMPT, 0, client) + step(HANDSHAKE, 0, client) + talk
            yield start + step(ATTEMPT, 2, client) + step(HANDSHAKE, 0, client) + talk
            yield start + talk + step(NOTIFY, 0, client) + step(SAY, 0, client)
            yield start + talk + step(WAIT, 255) * 3 + talk
            for habit in 2, 4, 8, 24, 31:
                yield start + step(HABIT, habit) + talk * 2
            yield start + talk + step(SERVER, 1) + step(LISTEN, 0, client) + step(SERVER, 2)
    # Half a handshake, its flights late, twice, cut and changed.
    for client in range(6):
        late = b"\0" + b"".join(
            step(HANDSHAKE, MUTE, client) + again(client, 0, CLIENT + client) for _ in range(6))
        yield late + step(SAY, 0, client)
        yield late + again(client, 0, CLIENT + client, 5) + again(client, 1, CLIENT + client, 14, 2)
        yield late[:13] + step(WAIT, 40) * 4 + late[1:]
    every = b"".join(step(HANDSHAKE, 0, client) + step(SAY, 0, client) for client in range(6))
    yield bytes([SMALL | SLOTS]) + every * 2 + step(RESTART) + every + step(WAIT, 100) + every
    yield b"\0" + every + step(BOTH, 0, 0, 4) + step(BOTH, 0, 2, 1) + step(RESTART, 1) + every
    for data in (
        record(22, handshake(1, hello())), record(22, handshake(1, hello(b"c" * 32), 1)),
        record(22, handshake(1, hello()[:40], 0, 0, 90)), record(22, handshake(1, hello()[:20])),
        record(25, b"x" * 32, 1, 5, b"\7" + b"c" * 7), record(23, b"x" * 40, 1, 5), record(21, b"\2\x28"),
        record(20, b"\1"), record(22, handshake(20, b"v" * 12), 1), record(99, b""), b"\x19" * 21, b"\x16",
        record(22, handshake(1, hello())) * 3, record(24, b"\1\0\4abcd"),
    ):
        yield b"\0" + anything(data) + anything(data, CLIENT) + anything(data)
        yield b"\0" + step(HANDSHAKE) + anything(data, CLIENT) + step(SAY)


if len(sys.argv) != 2:
    sys.exit("usage: fuzz_dtls_records_seeds.py DIRECTORY")
directory = pathlib.Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
for seed in seeds():
    (directory / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
