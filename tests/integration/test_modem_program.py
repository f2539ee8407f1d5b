# SPDX-License-Identifier: Apache-2.0
"""fieldgate-modem, the AT side of fleet modem, against a simulated modem: what it understands in spite of echo,
odd chunks and lines that nobody has asked for, and what it says when something is wrong."""

import fcntl
import hashlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.modem import CA, CERTIFICATE, IDENTITY, PRIVATE_KEY, PSK, TAG, SimulatedModem  # noqa: E402
from harness.pki import Fleet  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / os.environ.get("MODE", "release") / "pki" / "fieldgate-modem"


@pytest.fixture
def modem(tmp_path):
    with SimulatedModem(tmp_path, mode=4) as modem:
        yield modem


def run(modem, *arguments, stdin=b""):
    return subprocess.run(
        [PROGRAM, modem.port, *map(str, arguments)], input=stdin, capture_output=True, timeout=120
    )


def done(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


def refused(result, *words, status=1):
    assert result.returncode == status, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr.decode()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A real CA's PEM, more than one."""
    fleet = Fleet(tmp_path_factory.mktemp("pki"), "").init()
    return fleet.ca.read_bytes() + fleet.device_ca_chain.read_bytes()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("echo", [True, False])
def test_a_dialogue_in_odd_chunks_with_lines_that_nobody_has_asked_for(tmp_path, bundle, seed, echo):
    with SimulatedModem(tmp_path, mode=1, seed=seed, echo=echo) as modem:
        assert done(run(modem, "check")) == f"firmware\tmfw_nrf9160_1.3.5\nimei\t{modem.state['imei']}\nmode\t1\n"
        assert done(run(modem, "offline")) == ""
        assert re.fullmatch(r'%KEYGEN: "[\w-]+\.[\w-]+"\n', done(run(modem, "keygen", TAG)))
        done(run(modem, "write", TAG, CA, stdin=bundle))
        sha = hashlib.sha256(bundle).hexdigest().upper()
        assert done(run(modem, "list", TAG)) == f"0\t{sha}\n2\t\n"
        assert modem.content(CA).encode() == bundle
        done(run(modem, "delete", TAG, CA, CERTIFICATE, PRIVATE_KEY))
        assert modem.types() == []


def test_only_what_is_there_is_deleted(modem):
    done(run(modem, "write", TAG, IDENTITY, stdin=b"dev-1"))
    done(run(modem, "write", TAG + 1, IDENTITY, stdin=b"dev-2"))
    done(run(modem, "delete", TAG, CA, CERTIFICATE, IDENTITY))
    assert (modem.types(), modem.types(TAG + 1)) == ([], [IDENTITY])
    assert [c for c in modem.state["commands"] if "CMNG=3" in c] == [f"AT%CMNG=3,{TAG},{IDENTITY}"]


def test_a_pre_shared_key_is_not_said_again(modem):
    key = b"0123456789abcdefABCDEF" * 2
    sha = hashlib.sha256(key).hexdigest()
    result = run(modem, "write", TAG, PSK, stdin=key)
    listed = done(run(modem, "list", TAG))
    for text in (done(result), listed):
        assert key.decode() not in text and sha.upper() not in text
    assert listed == "3\t\n"


@pytest.mark.parametrize(
    "kind, content, words",
    [
        (CA, b"", "nothing on stdin"),
        (CA, b"x" * 4097, "longer than the 4096 bytes"),
        (CA, b"a\r\nb", "carriage return"),
        (CA, b'a"b', "a quote"),
        (CA, b"a\0b", "zero byte"),
        (PSK, b"abcd\n", "hexadecimal"),
        (PSK, b"abcg", "hexadecimal"),
        (IDENTITY, b"dev-1\n", "line end"),
    ],
)
def test_what_no_modem_should_be_given_does_not_reach_it(modem, kind, content, words):
    refused(run(modem, "write", TAG, kind, stdin=content), words)
    assert modem.state["commands"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("check", 1), ("list",), ("list", "x"), ("list", -1), ("list", 2**31), ("delete", TAG), ("keygen",),
        ("write", TAG), ("write", TAG, 7), ("write", TAG, PRIVATE_KEY), ("write", TAG, CA, CA), ("erase", TAG),
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2(modem, arguments):
    refused(run(modem, *arguments), "usage", status=2)
    assert modem.state["commands"] == []


REFUSALS = {
    "518": (("write", TAG, IDENTITY), "%CMNG=0", "error 518", "it is active (518)"),
    "515": (("write", TAG, IDENTITY), "%CMNG=0", "error 515", "memory for credentials is full (515)"),
    "514": (("keygen", TAG), "%KEYGEN", "error 514", "choose another one with --tag"),
    "519": (("keygen", TAG), "%KEYGEN", "error 519", "in this tag already (519)"),
    "528": (("keygen", TAG), "%KEYGEN", "error 528", "charge the battery"),
    "4": (("keygen", TAG), "%KEYGEN", "error 4", "modem firmware 1.3"),
    "active again": (("offline",), "CFUN=4", "active again", "switched it on"),
    "no request": (("keygen", TAG), "%KEYGEN", "no answer", "no request came with it"),
    "digest": (("write", TAG, IDENTITY), "%CMNG=1", "other digest", "SHA-256 differs"),
    "not listed": (("write", TAG, IDENTITY), "%CMNG=1", "no answer", "does not list type 4"),
    "very long": (("list", TAG), "%CMNG=1", "long", "longer than any"),
    "gone before": (("check",), "CGMR", "unplug before", "the port is gone"),
    "gone after": (("check",), "CGSN", "unplug after", "the port is gone"),
    "silent": (("check",), "CGMR", "silent", "AT+CGMR: no answer"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_goes_wrong_is_said_with_what_to_do(modem, case):
    arguments, at, fault, words = REFUSALS[case]
    modem.fault(at, fault)
    refused(run(modem, *arguments, stdin=b"dev-1"), str(modem.port), words)


def test_a_plain_error_is_a_refusal_too(modem):
    modem.fault("CMEE", "error 4")
    refused(run(modem, "check"), "AT+CMEE=1: it answers ERROR and does not say why")


def test_writes_while_active_are_the_modems_to_refuse(tmp_path):
    with SimulatedModem(tmp_path, mode=1) as modem:
        refused(run(modem, "write", TAG, IDENTITY, stdin=b"x"), "(518)")
        refused(run(modem, "keygen", TAG), "(518)")
        assert modem.types() == []


def test_another_device_that_talks_at_is_no_modem_of_ours(tmp_path):
    with SimulatedModem(tmp_path, firmware="SIM7600 V1.0") as modem:
        refused(run(modem, "check"), "names no firmware of an nRF91")


def test_a_modem_that_is_slow_to_wake_is_waited_for(modem):
    modem.fault("^AT$", "silent")
    modem.fault("^AT$", "silent")
    assert "mode\t4" in done(run(modem, "check"))


def test_a_program_that_was_killed_in_the_middle_of_a_credential(modem):
    """The modem is between quotes then, and takes whatever comes for more of the credential."""
    with open(modem.port, "wb", buffering=0) as port:
        port.write(f'AT%CMNG=0,{TAG},4,"dev'.encode())
    assert "mode\t4" in done(run(modem, "check"))
    assert modem.types() == []
    with open(modem.port, "wb", buffering=0) as port:
        port.write(b"AT%CMNG=3,168")
    assert "mode\t4" in done(run(modem, "check"))
    assert not [c for c in modem.state["commands"] if c == "AT%CMNG=3,168"]


def test_ports_that_are_none(modem, tmp_path):
    plain = tmp_path / "file"
    plain.write_text("")
    for port, words in ((plain, "it must be a serial port"), (tmp_path / "none", "is the board plugged in?")):
        result = subprocess.run([PROGRAM, port, "check"], capture_output=True)
        refused(result, str(port), words)
    assert plain.read_bytes() == b""
    result = subprocess.run([PROGRAM, "--baud", "12345", modem.port, "check"], capture_output=True)
    refused(result, "115200 is usual")
    assert done(subprocess.run([PROGRAM, "--baud", "1000000", modem.port, "check"], capture_output=True))


def test_two_programs_do_not_talk_to_one_modem(modem):
    with open(modem.port, "rb+", buffering=0) as port:
        fcntl.flock(port, fcntl.LOCK_EX)
        refused(run(modem, "check"), "another program is talking to it")
    done(run(modem, "check"))
