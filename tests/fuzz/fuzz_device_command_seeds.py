#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write every vector of tests/vectors/commands/ as a file of its own: seeds for fuzz_device_command."""
import hashlib
import json
import pathlib
import sys

if len(sys.argv) != 2:
    sys.exit("usage: fuzz_device_command_seeds.py DIRECTORY")
seeds = pathlib.Path(sys.argv[1])
seeds.mkdir(parents=True, exist_ok=True)
vectors = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "commands"
for path in sorted(vectors.glob("*.json")):
    for vector in json.loads(path.read_text()):
        data = bytes.fromhex(vector["hex"])
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
