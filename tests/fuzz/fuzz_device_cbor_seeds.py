#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write the CBOR of tests/vectors/ and tests/vectors/commands/ as files: seeds for fuzz_device_cbor."""
import hashlib
import json
import pathlib
import sys

if len(sys.argv) != 2:
    sys.exit("usage: fuzz_device_cbor_seeds.py DIRECTORY")
seeds = pathlib.Path(sys.argv[1])
seeds.mkdir(parents=True, exist_ok=True)
vectors = pathlib.Path(__file__).resolve().parent.parent / "vectors"
for path in sorted(vectors.glob("**/*.json")):
    for vector in json.loads(path.read_text()):
        if "text" in vector:
            continue
        data = bytes.fromhex(vector["hex"])
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
