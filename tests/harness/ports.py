# SPDX-License-Identifier: Apache-2.0
"""Ports for servers of tests: below the range from which the kernel gives ports to clients, and from a part of it
that belongs to this process of pytest alone. So nobody takes one between the choice and the server's start."""

import itertools
import os
import re
import socket

FIRST, LAST, SHARES = 20000, 32000, 8


def _candidates():
    worker = re.search(r"\d+$", os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
    size = (LAST - FIRST) // SHARES
    first = FIRST + int(worker[0]) % SHARES * size
    return itertools.cycle(range(first, first + size))


_next = _candidates()


def _free(port, kind):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family, kind) as s:
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((address, port))
            except OSError:
                return False
    return True


def _free_port(kind):
    return next(port for port in itertools.islice(_next, LAST - FIRST) if _free(port, kind))


def free_port():
    """A TCP port that nobody listens on."""
    return _free_port(socket.SOCK_STREAM)


def free_udp_port():
    """A port that no UDP socket of either family has."""
    return _free_port(socket.SOCK_DGRAM)
