# SPDX-License-Identifier: Apache-2.0
"""fieldgate-modem, the AT side of fleet modem, speaks to the Zephyr port's provisioning shell: its lines are those of
the firmware (harness/provision_shell.c), the modem behind it is simulated."""

import hashlib
import os
import pathlib
import re
import select
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.modem import CA, CERTIFICATE, IDENTITY, PRIVATE_KEY, PSK, TAG, SimulatedModem  # noqa: E402
from harness.pki import Fleet  # noqa: E402

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build" / os.environ.get("MODE", "release")
PROGRAM = BUILD / "pki" / "fieldgate-modem"
SHELL = BUILD / "tests" / "harness" / "provision_shell"


@pytest.fixture
def modem(tmp_path):
    """One without echo, as an nRF91 is; `shell` is the port at which the board's shell is."""
    with SimulatedModem(tmp_path, mode=1, echo=False, chatty=False) as modem:
        modem.shell = tmp_path / "ttyACM1"
        process = subprocess.Popen([SHELL, modem.shell, modem.port], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "ready\n"
            yield modem
        finally:
            process.kill()
            process.communicate()


def run(modem, *arguments, stdin=b""):
    result = subprocess.run(
        [PROGRAM, modem.shell, *map(str, arguments)], input=stdin, capture_output=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


def say(modem, text, until):
    """As a person at a terminal; what comes back, up to `until`."""
    heard = b""
    with open(modem.shell, "rb+", buffering=0) as port:
        port.write(text)
        while until not in heard:
            assert select.select([port], [], [], 30)[0], heard
            heard += port.read(4096)
    return heard


def test_a_device_is_provisioned_through_the_shell(modem, tmp_path):
    fleet = Fleet(tmp_path / "pki", "").init()
    bundle = fleet.ca.read_bytes() + fleet.device_ca_chain.read_bytes()
    assert run(modem, "check") == f"firmware\tmfw_nrf9160_1.3.5\nimei\t{modem.state['imei']}\nmode\t1\n"
    run(modem, "offline")
    assert re.fullmatch(r'%KEYGEN: "[\w-]+\.[\w-]+"\n', run(modem, "keygen", TAG))
    run(modem, "write", TAG, CA, stdin=bundle)
    assert modem.content(CA).encode() == bundle
    assert run(modem, "list", TAG) == f"0\t{hashlib.sha256(bundle).hexdigest().upper()}\n2\t\n"
    run(modem, "delete", TAG, CA, CERTIFICATE, PRIVATE_KEY)
    assert modem.types() == []


def test_the_longest_credential_fits(modem):
    run(modem, "offline")
    run(modem, "write", TAG, IDENTITY, stdin=b"x" * 4096)
    assert modem.content(IDENTITY) == "x" * 4096


def test_a_program_that_was_killed_in_the_middle_of_a_credential(modem):
    run(modem, "offline")
    for half in (f'AT%CMNG=0,{TAG},4,"dev', "AT%CMNG=3,168"):
        with open(modem.shell, "wb", buffering=0) as port:
            port.write(half.encode())
        assert "mode\t4" in run(modem, "check")
        assert modem.types() == []


def test_a_person_sees_his_commands_but_no_key(modem):
    key = b"0123456789abcdefABCDEF"
    assert say(modem, b"AT+CFUN=4\r", b"OK\r\n") == b"AT+CFUN=4\r\nOK\r\n"
    command = b"AT%%CMNG=0,%d,%d," % (TAG, PSK)
    heard = say(modem, command + b'"' + key + b'"\r', b"OK\r\n")
    assert heard == command[:-1] + b"\r\nOK\r\n"
    assert modem.types() == [PSK]


def test_what_is_no_command_is_an_error_and_does_not_reach_the_modem(modem):
    assert say(modem, b"nonsense\r", b"ERROR\r\n") == b"nonsense\r\nERROR\r\n"
    assert modem.state["commands"] == []
