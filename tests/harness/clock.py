# SPDX-License-Identifier: Apache-2.0
"""A wall clock that a test can move under a process that runs, by libfaketime. The monotonic clock stays the
machine's own."""

import glob
import os

LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"

DAY_S = 86400
YEAR_S = 365 * DAY_S


class Clock:
    """Right at first. `prefix`: words before a server's command, which then goes by it."""

    def __init__(self, directory):
        self.file = directory / "clock"
        (library,) = glob.glob(LIBRARIES)
        self.move(0)
        sanitizer = os.environ.get("ASAN_OPTIONS")
        self.prefix = (
            "env",
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self.file}",
            "FAKETIME_NO_CACHE=1",
            "DONT_FAKE_MONOTONIC=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            # ASan wants to be the first library, and only it.
            f"ASAN_OPTIONS={sanitizer + ':' if sanitizer else ''}verify_asan_link_order=0",
        )

    def move(self, seconds):
        """So far from the right time, from now on; below 0: back."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{int(seconds):+d}s\n")
        os.rename(new, self.file)
