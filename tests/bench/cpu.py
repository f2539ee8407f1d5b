# SPDX-License-Identifier: Apache-2.0
"""CPU seconds of processes, read from /proc."""

import os

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    # proc(5): after the name come state, ppid, ...; utime, stime, cutime, cstime are 11 to 14 from there.
    return int(fields[1]), [int(x) for x in fields[11:15]]


def process_seconds(pid):
    """User and system time of one process with all its threads."""
    return sum(_stat(pid)[1][:2]) / TICKS


def tree_seconds(pid):
    """The same for a process, its children, and those children that it has already reaped."""
    total = sum(_stat(pid)[1])
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            parent, times = _stat(entry)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            total += sum(times)
    return total / TICKS
