#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write every statement and template of docs/rules.md as a file, alone, as its WHERE's condition, and with each message
of its example behind a NUL: seeds for fuzz_rule."""
import hashlib
import pathlib
import re
import sys

if len(sys.argv) != 2:
    sys.exit("usage: fuzz_rule_seeds.py DIRECTORY")
seeds = pathlib.Path(sys.argv[1])
seeds.mkdir(parents=True, exist_ok=True)
page = (pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "rules.md").read_text()


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
