#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write every statement and template of docs/rules.md as a file, alone, as its WHERE's condition, and with each message
of its example behind a NUL, and some actions: seeds for fuzz_rule."""
import hashlib
import pathlib
import re
import sys

if len(sys.argv) != 2:
    sys.exit("usage: fuzz_rule_seeds.py DIRECTORY")
seeds = pathlib.Path(sys.argv[1])
seeds.mkdir(parents=True, exist_ok=True)
page = (pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "rules.md").read_text()

ACTIONS = [
    '[{"republish": {"topic": "alarms/${device()}", "qos": 1, "retain": false, "format": "cbor"}}]',
    '[{"store": {"table": "public.alarm", "columns": {"device": "device", "degrees": "battery.mv"}}}, {"drop": {}}]',
    '{"republish": {"topic": "errors/${topic(2)}"}}',
    '{"store": {"table": "rule_error"}}',
]


def write(data):
    (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


for block in re.findall(r"^```rule\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
    texts = re.findall(r"^(?:sql|template): (.*(?:\n .*)*)$", block, re.MULTILINE)
    texts += [condition for text in texts for condition in re.findall(r" WHERE (.*)$", text)]
    messages = re.findall(r"^message: (.*)$", block, re.MULTILINE)
    for text in texts:
        write(text.encode())
        for message in messages:
            write(text.encode() + b"\0" + message.encode())

for text in ACTIONS:
    write(text.encode())
