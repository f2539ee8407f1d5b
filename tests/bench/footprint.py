#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What device-fw takes of a Cortex-M33: each image of device-fw/ports/qemu_m33 is linked as a device would be, with
--gc-sections, and its sections are added up. Stack and heap are what the very image that is counted has used, in
qemu-system-arm, while it talked to fieldgate-coap. Fails above the limits."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from bench.coap_world import World, expect  # noqa: E402
from harness.m33 import IMAGES, Board  # noqa: E402

ID = "psk-000000"
STACK_PAINT = 0x5AFE57AC.to_bytes(4, "little")  # startup.c
LIMITS = {"core_rom": 8192, "core_ram": 1536, "coaps_rom": 32768, "coaps_ram": 6144}
# The seed paper's table, on an MSP430, with its IP stack: bytes of ROM and RAM.
PAPER_COAP, PAPER_COAPS = (44831, 8210), (86583, 11396)


def sections(image):
    """Bytes of the image's sections, by name."""
    output = subprocess.run(
        ["arm-none-eabi-size", "-A", "-d", str(IMAGES / f"{image}.elf")], check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split() for line in output.splitlines()]
    return {row[0]: int(row[1]) for row in rows if row and row[0].startswith(".")}


def rom_ram(image):
    found = sections(image)
    return found[".text"] + found[".data"], found[".data"] + found[".bss"]


def wait(condition, what, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        expect(time.monotonic() < deadline, f"after {timeout} s: no {what}")
        time.sleep(0.05)


def converse(world, server, board):
    """A life in short: a handshake, readings one by one and many at once, commands, sleep behind other ports."""

    def count():
        return world.postgres.value("select count(*) from telemetry where device = %s", (ID,))

    def send(payload):
        world.postgres.query("insert into downlink (device, payload) values (%s, %s)", (ID, payload.encode()))

    board.start()
    wait(lambda: count() >= 2, "telemetry")
    send('{"note": "' + 200 * "x" + '", "interval": 2, "id": 1}')
    send('{"read": true, "interval": 1}')
    wait(lambda: not world.postgres.value("select count(*) from downlink where delivered_at is null"), "delivery")
    before = count()
    board.network = False
    time.sleep(6)
    board.network = True
    wait(lambda: count() >= before + 6, "readings of the outage")
    for _ in range(2):
        board.rebind()
        before = count()
        wait(lambda: count() > before, "telemetry from another port")
    # The server has forgotten it.
    server.kill()
    shutil.rmtree(server.sessions_dir)
    server.sessions_dir.mkdir(mode=0o700)
    server.start()
    before = count()
    wait(lambda: count() > before, "telemetry after a second handshake", timeout=300)


def used_stack(board):
    stack = board.memory("stack_limit", "stack_top")
    words = (stack[at:at + 4] for at in range(0, len(stack), 4))
    untouched = next(i for i, word in enumerate(words) if word != STACK_PAINT)
    return len(stack) - 4 * untouched


def used_heap(board):
    """Up to the last byte that was ever written: blocks are taken from the beginning."""
    return len(board.memory("heap_begin", "heap_end").rstrip(b"\0"))


def measure():
    """Bytes of stack and heap."""
    with tempfile.TemporaryDirectory(prefix="fieldgate-footprint-") as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o711)
        world = World(directory, 1, 0)
        board = None
        try:
            with world.server(**{"coap.workers": 1}) as server:
                (directory / "board").mkdir()
                board = Board(directory / "board", world.keys[0], server.port, image="device", interval_s=1)
                converse(world, server, board)
                return used_stack(board), used_heap(board)
        finally:
            if board:
                board.stop()
            world.close()


def row(name, rom, ram, note=""):
    print(f"  {name:58}{rom:>9,}{ram:>9,}  {note}".rstrip())


def main():
    core, agent, coaps = map(rom_ram, ("core", "agent", "device"))
    backlog = sections("device")[".persistent"]
    stack, heap = measure()
    compiler = subprocess.run(["arm-none-eabi-gcc", "-dumpversion"], check=True, capture_output=True, text=True)
    print(f"Cortex-M33, arm-none-eabi-gcc {compiler.stdout.strip()}, -Os -flto --gc-sections{'ROM':>10}{'RAM':>9}  bytes")
    row("core: CoAP, CBOR, state machine of the session", *core, "with an application that uses them")
    row("the whole core: and backlog, commands, agent", *agent, "on a port that does nothing")
    row("a device: and DTLS 1.2 with PSK, CCM-8, Connection ID", *coaps, "and the port; nothing of a libc")
    row("  more than the whole core", *(c - a for c, a in zip(coaps, agent)))
    row("the paper's CoAP client (MSP430, with IP stack)", *PAPER_COAP)
    row("the paper's CoAPs client", *PAPER_COAPS)
    row("  more than its CoAP client", *(c - a for c, a in zip(PAPER_COAPS, PAPER_COAP)))
    print(
        "ROM is code, constants and initial values; RAM is data, in a device with all of Mbed TLS's memory (a heap of"
        f"\nfixed size, of which {heap:,} bytes were used). Not in RAM: the stack, {stack:,} bytes at most; with it the"
        f" device has\n{coaps[1] + stack:,}. Nor what stands in for flash: {backlog:,} bytes. Stack and heap were"
        " measured in qemu-system-arm, after a\nhandshake, telemetry, commands, an outage, sleep and a second handshake."
    )
    print()
    figures = {"core_rom": core[0], "core_ram": core[1], "agent_rom": agent[0], "agent_ram": agent[1],
               "coaps_rom": coaps[0], "coaps_ram": coaps[1], "coaps_stack": stack, "coaps_heap": heap}
    for name, value in figures.items():
        print(f"metric fw.{name} {value}")
    above = [f"fw.{name} {figures[name]} > {limit}" for name, limit in LIMITS.items() if figures[name] > limit]
    if above:
        print(f"footprint: above the limit: {', '.join(above)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
