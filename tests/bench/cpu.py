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


def main_thread_seconds(pid):
    """Of a process's first thread alone."""
    with open(f"/proc/{pid}/task/{pid}/schedstat") as f:
        return int(f.read().split()[0]) / 1e9


def machine_seconds():
    """What all processors have been busy with."""
    with open("/proc/stat") as f:
        fields = [int(x) for x in f.readline().split()[1:]]
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal
    return (sum(fields[:3]) + sum(fields[5:7])) / TICKS


def memory_bytes(pid):
    """What the process has in memory that is its own: no files, nothing shared."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon"))
