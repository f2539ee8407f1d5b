#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes seeds for tests/fuzz/fuzz_device_coap.c into a directory.

The first byte of an input: bit 0 set, and the rest is one message for the parser and the writer; else the
rest is actions, and bit 1 says whether the client is a patient one. An action is a byte, of which the lower
three bits say what:

0  a request; the next byte chooses it
1  a datagram: its length, its bytes
2  to 4  an answer: how (bits 0 and 1 its type, 2 the token of what is observed, 3 the id of the request), its
   code, length and bytes of its options and payload
5  time passes: the next byte says how much
6  bit 3: sending fails from now on; bit 4: the next outcome is followed by a request at once
7  bit 3: the session is new; else the observation ends
"""

import pathlib
import sys

CON, NON, ACK, RST = range(4)
OBSERVED, OF_REQUEST = 4, 8
GET_OBSERVE = bytes([0, 8 | 32])  # GET state
CONTENT = 2 << 5 | 5


def answer(how, code, rest=b""):
    return bytes([2, how, code, len(rest)]) + rest


def block(number, more, szx, size):
    return bytes([0xD1, 23 - 13, number << 4 | more << 3 | szx, 0xFF]) + b"b" * size


def observe(number, rest=b"\xffnote"):
    return bytes([0x61, number]) + rest


def block_after_observe(number, size):
    return bytes([0x61, number, 0xD1, 17 - 13, 1 << 3 | 2, 0xFF]) + b"b" * size


def time(how):
    return bytes([5, how])


REGISTER = GET_OBSERVE + answer(ACK | OF_REQUEST, CONTENT, observe(1))

SEQUENCES = {
    "piggybacked": b"\0\1" + answer(ACK | OF_REQUEST, CONTENT, b"\xffnow"),
    "separate": b"\0\0" + answer(ACK | OF_REQUEST, 0) + answer(CON, CONTENT, b"\xffnow") * 2,
    "given_up": b"\0\1" + time(1) * 8,
    "slept": b"\0\1" + time(255) * 8,
    "reset": b"\0\2" + answer(RST | OF_REQUEST, 0),
    "unreadable": b"\0\0" + answer(CON, CONTENT, b"\xd0\x10"),
    "blocks": b"\0\0"
    + answer(ACK | OF_REQUEST, CONTENT, block(0, 1, 2, 64))
    + answer(ACK | OF_REQUEST, CONTENT, block(1, 1, 2, 64))
    + answer(ACK | OF_REQUEST, CONTENT, block(2, 0, 2, 9)),
    "etag_changes": b"\0\0"
    + answer(ACK | OF_REQUEST, CONTENT, b"\x41\x01\xd1\x06\x0a\xff" + b"b" * 64)
    + answer(ACK | OF_REQUEST, CONTENT, b"\x41\x02\xd1\x06\x1a\xff" + b"b" * 64)
    + answer(ACK | OF_REQUEST, CONTENT, b"\x41\x02\xd1\x06\x0a\xff" + b"b" * 64)
    + answer(ACK | OF_REQUEST, CONTENT, b"\x41\x02\xd1\x06\x12\xff" + b"b"),
    "notifications": REGISTER
    + answer(CON | OBSERVED, CONTENT, observe(2))
    + answer(NON | OBSERVED | 16, CONTENT, observe(3))
    + answer(CON | OBSERVED | 32, CONTENT, observe(2)),
    "observation_ends": REGISTER + answer(CON | OBSERVED, 4 << 5 | 4, b"\xffgone"),
    "renewed": REGISTER + GET_OBSERVE + answer(NON | OBSERVED, CONTENT, observe(0)),
    "long_notification": REGISTER
    + answer(CON | OBSERVED, CONTENT, block_after_observe(2, 64))
    + answer(ACK | OF_REQUEST, CONTENT, block(1, 0, 2, 5)),
    "long_notification_waits": REGISTER
    + b"\0\1"
    + answer(CON | OBSERVED, CONTENT, block_after_observe(2, 64))
    + answer(ACK | OF_REQUEST, CONTENT)
    + time(0)
    + answer(ACK | OF_REQUEST, CONTENT, b"\xffnow"),
    "stopped": REGISTER + b"\7" + answer(NON | OBSERVED, CONTENT, observe(2)),
    "new_session": REGISTER + b"\0\1\x0f" + answer(ACK | OF_REQUEST, CONTENT),
    "not_sent": b"\x0e\0\1" + time(0) + b"\6",
    "from_inside": b"\x16\0\1" + answer(ACK | OF_REQUEST, CONTENT) * 2,
    "ping": b"\1\4\x40\0\x12\x34",
    "malformed": b"\1\5\x40\1\x12\x34\xff",
}


def main():
    directory = pathlib.Path(sys.argv[1])
    for name, actions in SEQUENCES.items():
        (directory / name).write_bytes(b"\0" + actions)
        (directory / f"{name}_patient").write_bytes(b"\2" + actions)
    vectors = pathlib.Path(__file__).parent.parent / "vectors" / "coap_messages.txt"
    for number, line in enumerate(vectors.read_text().splitlines()):
        if line.startswith("message"):
            (directory / f"message_{number}").write_bytes(b"\1" + bytes.fromhex(line.split()[1]))


if __name__ == "__main__":
    main()
