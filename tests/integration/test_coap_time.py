# SPDX-License-Identifier: Apache-2.0
"""Credentials and time over CoAP: a session ends with the credential that proved it, and a wall clock that
jumps ends nothing, but judges who comes new."""

import time

import pytest
from harness.clock import DAY_S, YEAR_S, Clock
from harness.coap_client import ClientError
from harness.mqtt import eventually

# The endpoint looks at all its sessions in this time.
SWEEP_S = 16


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


def to_1970():
    return -int(time.time()) + DAY_S


def expires_in(coap, id, seconds):
    coap.query(
        "update credential set not_after = now() + make_interval(secs => %s) where principal = %s", seconds, id
    )


def refused(coap, credentials, words, event="handshake_refused"):
    """In the end: a change of the clock is heard of by the next call of the server."""
    since = coap.server.log_position()
    device = coap.device(credentials)
    with pytest.raises(ClientError):
        device.handshake(timeout_ms=5000)
    device.forget()
    (line,) = coap.server.wait_log(f"event={event} device={credentials.id} ", since)
    assert words in line
    return line


def refused_login(coap, key, words):
    device = coap.connected(None)
    since = coap.server.log_position()
    assert device.post("auth/jwt", key.token(), format=0).code == "4.01"
    (line,) = coap.server.wait_log(f"event=login_refused device={key.id} ", since)
    assert words in line
    device.close()


# --- Before and after the dates ---


@pytest.mark.parametrize(
    "offset,certificate,token",
    [
        (lambda: 20 * YEAR_S, "its certificate: it expired on ", "expired"),
        # Its CA's came before.
        (to_1970, "is not valid before ", "in the future"),
    ],
    ids=["20 years ahead", "1970"],
)
def test_a_server_with_a_wrong_clock_refuses_by_the_dates_and_says_so(coap, clock, offset, certificate, token):
    coap.started(prefix=clock.prefix)
    device = coap.devices("dev-1")["dev-1"]
    jwt, psk = coap.jwt_key("dev-2"), coap.psk("dev-3")
    coap.in_force()
    clock.move(offset())
    refused(coap, device, certificate)
    refused_login(coap, jwt, token)
    # What has no dates has no need of a clock.
    assert coap.connected(psk).get("state").code != "4.01"
    clock.move(0)
    assert coap.connected(device).telemetry(1).code == "2.01"
    assert coap.connected("dev-2").telemetry(1).code == "2.01"


@pytest.mark.parametrize("offset", [lambda: 20 * YEAR_S, to_1970], ids=["20 years ahead", "1970"])
def test_a_clock_that_jumps_ends_no_session(coap, clock, offset):
    coap.started({"coap.live_contexts": 16}, prefix=clock.prefix)
    coap.devices("parked", "no-cid", "live", "newcomer")
    jwt = coap.jwt_key("by-jwt")
    others = coap.psk(*(f"other-{i}" for i in range(20)))
    coap.in_force()
    parked = {
        "certificate": coap.connected("parked"),
        "no connection id": coap.connected("no-cid", cid=False),
        "jwt": coap.connected("by-jwt"),
    }
    for device in parked.values():
        coap.documents_ready(device)
    for key in others:
        assert coap.connected(key).telemetry(1).code == "2.01"
    live = coap.connected("live")
    assert live.get("state").code == "2.05"
    clock.move(offset())
    refused(coap, coap.credentials["newcomer"], "its certificate: ")
    refused_login(coap, jwt, "")
    time.sleep(SWEEP_S + 2)
    assert live.get("state").code == "2.05"
    for name, device in parked.items():
        assert device.closed(timeout=0) is None, name
        assert device.get("state").code == "2.05", name
    clock.move(0)
    assert coap.connected("newcomer").telemetry(1).code == "2.01"
    assert coap.connected(jwt).get("state").code == "2.05"
    for device in (live, *parked.values()):
        assert device.telemetry(2).code == "2.01"
    coap.wait_seqs("parked", [2])
    assert not coap.server.log_lines("event=session_closed")


# --- The end of a credential ---


def expiring(coap, kind, seconds):
    """A device of this kind with a session, whose credential ends so many seconds from now."""
    made = {"certificate": coap.devices, "jwt": coap.jwt_key, "psk": coap.psk}[kind]("dev-1")
    expires_in(coap, "dev-1", seconds)
    coap.in_force()
    return coap.connected("dev-1" if kind == "certificate" else made)


def ends_by_itself(coap, device, timeout):
    assert device.closed(timeout=timeout) is not None
    coap.server.wait_log("event=session_closed device=dev-1 .*its credential has expired")
    eventually(
        lambda: coap.query("select connected, reason from presence where device = 'dev-1'")
        == [(False, "its credential expired")],
        10,
        "presence",
    )


@pytest.mark.parametrize("kind", ["certificate", "jwt", "psk"])
def test_a_session_ends_when_its_credential_does(coap, kind):
    coap.started()
    device = expiring(coap, kind, 8)
    assert device.telemetry(1).code == "2.01"
    ends_by_itself(coap, device, 8 + SWEEP_S + 2)
    with pytest.raises((ClientError, AssertionError)):
        coap.connected("dev-1")


def test_a_request_after_the_end_of_the_credential_is_refused_at_once(coap):
    coap.started()
    device = expiring(coap, "certificate", 6)
    codes = []
    try:
        # One of these comes between the end of the credential and the end of the session.
        for seq in range(400):
            codes.append(device.telemetry(seq).code)
            if codes[-1] != "2.01":
                break
            time.sleep(0.05)
    except ClientError:
        pass
    assert codes.count("2.01") in (len(codes), len(codes) - 1) and codes[0] == "2.01"
    assert device.closed(timeout=1) is not None or codes[-1] == "4.01"
    assert len(codes) < 200, "it was heard long after"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_session_ends_with_its_credential_over_a_restart(coap, how):
    coap.started()
    device = expiring(coap, "certificate", 10)
    assert device.telemetry(1).code == "2.01"
    getattr(coap.server, how)()
    coap.server.start()
    coap.server.wait_log("1 sessions restored")
    assert device.telemetry(2).code == "2.01"
    ends_by_itself(coap, device, 10 + SWEEP_S + 2)


def test_a_clock_that_jumps_back_makes_no_credential_last_longer(coap, clock):
    coap.started(prefix=clock.prefix)
    device = expiring(coap, "jwt", 8)
    assert device.telemetry(1).code == "2.01"
    clock.move(to_1970())
    assert device.closed(timeout=8 + SWEEP_S + 2) is not None
    coap.server.wait_log("event=session_closed device=dev-1 .*its credential has expired")


def test_a_ticket_does_not_outlive_the_credential(coap, clock):
    coap.started(prefix=clock.prefix)
    coap.psk("dev-1")
    expires_in(coap, "dev-1", 8)
    coap.in_force()
    device = coap.connected("dev-1", cid=False, tickets=True)
    assert device.telemetry(1).code == "2.01"
    ends_by_itself(coap, device, 8 + SWEEP_S + 2)
    device.rebind()
    with pytest.raises(ClientError, match="handshake"):
        device.handshake(resume=True, timeout_ms=5000)
    # Nor does a clock that is back before its end help.
    clock.move(-DAY_S / 2)
    device.rebind()
    assert not device.handshake(resume=True)["resumed"]
