#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write what a broker may and may not send, into the client's every state and with each behaviour of its owner:
seeds for fuzz_device_mqtt."""
import hashlib
import pathlib
import sys

if len(sys.argv) != 2:
    sys.exit("usage: fuzz_device_mqtt_seeds.py DIRECTORY")
seeds = pathlib.Path(sys.argv[1])
seeds.mkdir(parents=True, exist_ok=True)

STATES = 7  # enum prelude of fuzz_device_mqtt.c
BEHAVIOURS = [0, 1, 2, 4, 1 | 4, 8, 16, 16 | 1]


def remaining(length):
    out = bytearray()
    while True:
        byte, length = length & 0x7F, length >> 7
        out.append(byte | (0x80 if length else 0))
        if not length:
            return bytes(out)


def packet(header, body):
    return bytes([header]) + remaining(len(body)) + body


def publish(header, topic, payload, packet_id=b"\x12\x34"):
    identifier = packet_id if header & 0x06 else b""
    return packet(header, len(topic).to_bytes(2, "big") + topic + identifier + payload)


CONNACKS = [packet(0x20, bytes([present, code])) for present, code in [(0, 0), (1, 0), (0, 1), (0, 3), (0, 5), (1, 5)]]
SUBACKS = [packet(0x90, b"\0\x01" + bytes([code])) for code in (0, 1, 2, 0x80)]
PUBACKS = [packet(0x40, bytes([0, number])) for number in range(4)]
PINGRESP = packet(0xD0, b"")
TOPIC = b"m/d/dev-1/c2d"
PUBLISHES = [publish(header, TOPIC, payload) for header in (0x30, 0x31, 0x32, 0x33, 0x3A)
             for payload in (b"", b"\xa1\x68interval\x18\x3c")]
LONG = [publish(0x32, TOPIC, b"p" * 509 + b"\x30"), publish(0x32, b"t" * 600, b"p"), publish(0x30, TOPIC, b"p" * 600)]
BAD = [publish(0x32, TOPIC, b"x", b"\0\0"), publish(0x34, TOPIC, b"x"), publish(0x38, TOPIC, b"x"),
       publish(0x30, b"", b"x"), publish(0x30, b"a/#", b"x"), b"\x30\xff\xff\xff\x7f", b"\x30\xff\xff\xff\xff\x01",
       b"\x30\x03\0\xffa", b"\xe0\0", b"\x82\x05\0\x01\0\x01#"]

streams = CONNACKS + SUBACKS + PUBACKS + PUBLISHES + LONG + BAD
streams += [CONNACKS[1] + PUBLISHES[5] + SUBACKS[1] + PUBACKS[2] + PINGRESP + PUBLISHES[1]]
streams += [PINGRESP + PUBACKS[2] + PUBLISHES[7] + LONG[0] + PUBLISHES[3] + bad for bad in BAD]
for state in range(STATES):
    for behaviour in BEHAVIOURS:
        for stream in streams:
            data = bytes([state, behaviour]) + stream
            (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
