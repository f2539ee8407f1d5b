#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long fleet batch takes: keys, certificates, files that are synced, and rows, with PostgreSQL on the same machine. A
report, not a test. QUICK=1: fewer devices.
"""

import os
import pathlib
import shutil
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from harness.pki import Fleet  # noqa: E402
from harness.postgres import Postgres  # noqa: E402

QUICK = os.environ.get("QUICK", "") not in ("", "0")
DEVICES = 300 if QUICK else 1000


def main():
    dir = pathlib.Path(tempfile.mkdtemp(prefix="fieldgate-bench-"))
    os.chmod(dir, 0o711)
    postgres = Postgres(dir / "pg")
    try:
        postgres.start()
        fleet = Fleet(dir / "pki", postgres.url()).init()
        list_ = dir / "list.csv"
        list_.write_text("id\n" + "".join(f"bench-{i:04d}\n" for i in range(DEVICES)))
        started = time.monotonic()
        fleet.run("batch", list_)
        took = time.monotonic() - started
        made = postgres.value("select count(*) from fieldgate.credential")
        if made != DEVICES:
            raise RuntimeError(f"{made} of {DEVICES} devices were made")
        print(f"fleet batch of {DEVICES}: {took:.1f} s", flush=True)
        print()
        print(f"metric pki.devices_per_s {DEVICES / took:.4g} 1/s")
    finally:
        postgres.stop("immediate")
        shutil.rmtree(dir, ignore_errors=True)


if __name__ == "__main__":
    main()
