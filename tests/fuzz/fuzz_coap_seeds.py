#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Seeds for fuzz_coap: each resource as devices use it, blocks, observers, and what goes wrong.

An input is a row of steps, two bytes first: kind * 4 + session (0..3), and an argument. Sessions 0
and 1 are devices, 2 and 3 have to log in.
"""
import hashlib
import pathlib
import sys

MESSAGE, LONG_MESSAGE, TIME, ANSWER, CHANGE, JOURNAL, LOGIN, END = range(8)
CON, NON, ACK, RST = range(4)
GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH = range(1, 8)
IF_MATCH, ETAG, IF_NONE_MATCH, OBSERVE, PATH, FORMAT, QUERY, ACCEPT, BLOCK2, BLOCK1, SIZE1, TAG = (
    1, 4, 5, 6, 11, 12, 15, 17, 23, 27, 60, 292)
JSON, CBOR, SENML, MERGE = 50, 60, 110, 52


def number(n):
    return n.to_bytes((n.bit_length() + 7) // 8, "big")


def nibble(n):
    if n < 13:
        return n, b""
    return (13, bytes([n - 13])) if n < 269 else (14, (n - 269).to_bytes(2, "big"))


def coap(kind, code, mid, *options, path="", payload=b"", token=b"t"):
    options = [(o, number(v) if isinstance(v, int) else v) for o, v in options]
    options += [(PATH, segment.encode()) for segment in path.split("/") if segment]
    out, before = bytes([64 | kind << 4 | len(token), code]) + mid.to_bytes(2, "big") + token, 0
    for option, value in sorted(options, key=lambda o: o[0]):
        delta, more = nibble(option - before)
        length, extra = nibble(len(value))
        out += bytes([delta << 4 | length]) + more + extra + value
        before = option
    return out + (b"\xff" + payload if payload else b"")


def step(kind, argument=0, session=0):
    return bytes([kind * 4 + session, argument])


def say(*args, session=0, **kwargs):
    message = coap(*args, **kwargs)
    if len(message) < 256:
        return step(MESSAGE, len(message), session) + message
    return step(LONG_MESSAGE, len(message) >> 8, session) + bytes([len(message) & 255]) + message


def block(num, more, szx):
    return num << 4 | more << 3 | szx


DONE, CREATED = 7, 5
LOG_IN = step(LOGIN, 0, 2) + b"\0"


def seeds():
    yield LOG_IN + say(CON, POST, 1, (FORMAT, JSON), path="msg/d2c", payload=b'{"t":21.5}', session=2)
    yield step(LOGIN, 90, 3) + b"\x04" + say(CON, GET, 1, path="time", session=3)
    for path in "msg/d2c", "msg/d2c/bulk", "msg/d2c/raw", "msg/d2c/bin":
        for form, payload in ((JSON, b'{"temp":21.5,"ts":1700000000000}'), (CBOR, b"\xa1\x61t\x18\x15"),
                              (SENML, b'[{"n":"t","v":1}]'), (42, b"\0\1\2")):
            for session in 0, 1, 3:
                message = say(CON, POST, 7, (FORMAT, form), path=path, payload=payload, session=session)
                yield message + message
    yield step(JOURNAL, 1) + b"".join(
        say(CON, POST, i, (FORMAT, JSON), path="msg/d2c", payload=b"[1]") * 2 for i in range(5)
    ) + step(JOURNAL, 129) + step(JOURNAL, 1) + say(NON, PUT, 9, path="msg/d2c", payload=b"1") + step(JOURNAL, 128)
    yield step(JOURNAL, 2) + say(CON, POST, 1, path="msg/d2c", payload=b"1")
    for path in "time", ".well-known/core", "fota/exec/current", "state", "store/config", "nothing":
        for accept in 0, JSON, CBOR, 40:
            for session in 0, 1, 2:
                yield say(NON, GET, 3, (ACCEPT, accept), path=path, session=session) + step(ANSWER, DONE)
    yield say(CON, GET, 3, (QUERY, b"rt=fg.*"), path=".well-known/core")
    for length in 248, 249, 250:  # with "store/" 254 to 256 characters: 255 is the longest path
        yield say(CON, GET, 3, path="store/" + "n" * length) + step(ANSWER, DONE)
    for length in 221, 222, 223:  # four of 200, joined by "&": 1023 is the longest query
        yield say(CON, GET, 3, *[(QUERY, b"q" * n) for n in (200, 200, 200, 200 - 3, length)], path="state")
    for query in b"all", b"delta=false", b"":
        yield (say(CON, PATCH, 1, (FORMAT, MERGE), path="state/reported", payload=b'{"a":{"b":1}}')
               + step(ANSWER, DONE) + say(CON, GET, 2, (QUERY, query), (OBSERVE, 0), path="state")
               + step(ANSWER, DONE) + step(CHANGE, 18) + step(TIME, 10) + step(ANSWER, DONE)
               + say(ACK, 0, 0, token=b"") + step(TIME, 20) + step(TIME, 200))
    yield (say(CON, PUT, 1, (FORMAT, CBOR), path="state/desired", payload=b"\xa1\x61a\xf5")
           + step(ANSWER, CREATED) + say(CON, GET, 2, (ACCEPT, CBOR), path="state") + step(ANSWER, DONE))
    yield (say(CON, PUT, 1, (FORMAT, 42), (IF_NONE_MATCH, b""), path="store/config", payload=b"x" * 1500)
           + step(ANSWER, CREATED)
           + b"".join(say(CON, GET, 2 + i, (BLOCK2, block(i, 0, 4)), path="store/config")
                      + step(ANSWER, DONE) for i in range(7)))
    yield (say(CON, GET, 1, (OBSERVE, 0), path="store/config") + step(ANSWER, DONE)
           + b"".join(step(CHANGE, 19) + step(TIME, 10) + step(ANSWER, DONE) for _ in range(4))
           + say(RST, 0, 1, token=b"") + say(CON, GET, 9, (OBSERVE, 1), path="store/config") + step(ANSWER, 0))
    for path in "msg/c2d", "msg/c2d/a/b":
        for query, accept in (b"", JSON), (b"envelope", CBOR), (b"envelope", JSON):
            yield (say(CON, GET, 1, (OBSERVE, 0), (QUERY, query), (ACCEPT, accept), path=path) + step(ANSWER, 0)
                   + b"".join(step(CHANGE, 33 + 16) + step(TIME, 10) + step(ANSWER, DONE) for _ in range(3))
                   + say(CON, GET, 2, (ETAG, 1), (QUERY, query), path=path) + step(TIME, 100) + step(ANSWER, DONE)
                   + say(CON, DELETE, 3, (IF_MATCH, 1), path=path) + step(ANSWER, DONE))
    yield (say(CON, PUT, 1, (FORMAT, 42), path="store/config", payload=b"x" * 1500) + step(ANSWER, CREATED)
           + b"".join(say(CON, GET, 2 + i, (ETAG, 1), (BLOCK2, block(i, 0, 6)), path="msg/c2d") + step(ANSWER, DONE)
                      for i in range(2))
           + say(CON, POST, 5, path="msg/d2c", payload=b"1"))
    yield say(CON, DELETE, 1, (IF_MATCH, b"\0\0\0\0\0\0\1"), path="store/config") + step(ANSWER, 2)
    body = bytes(range(256)) * 4
    for szx, path in (2, "msg/d2c/bin"), (4, "store/config"), (6, "msg/d2c"), (0, "state/reported"):
        size = 16 << szx
        parts = [body[i:i + size] for i in range(0, len(body), size)][:12]
        yield b"".join(
            say(CON, PUT, 10 + i, (BLOCK1, block(i, i + 1 < len(parts), szx)), (SIZE1, len(body)),
                (TAG, b"r"), path=path, payload=part) for i, part in enumerate(parts)
        ) + step(ANSWER, DONE)
    yield say(CON, PUT, 1, (BLOCK1, block(3, 1, 2)), path="msg/d2c", payload=b"y" * 64) + step(TIME, 255) * 3
    yield say(CON, POST, 1, path="msg/d2c", payload=b"1") + step(END, 1) + say(CON, POST, 1, path="msg/d2c", payload=b"1")
    yield say(CON, GET, 1, path="state") + step(END, 0) + step(ANSWER, DONE) + say(CON, 0, 5, token=b"")
    yield say(CON, GET, 1, path="state") + step(CHANGE, 7) + step(ANSWER, 4) + say(CON, GET, 2, path="state")
    yield say(CON, GET, 1, (35, b"coap://x/"), path="") + say(CON, 69, 4) + say(ACK, 69, 4) + say(CON, 31, 4)


if len(sys.argv) != 2:
    sys.exit("usage: fuzz_coap_seeds.py DIRECTORY")
directory = pathlib.Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
for seed in seeds():
    (directory / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
