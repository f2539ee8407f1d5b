# SPDX-License-Identifier: Apache-2.0
"""A credential that is revoked is good for nothing over CoAP within 5 s, without a reload: not for a session
that lives, sleeps, has moved or was restored, and not for its ticket."""

import time

import pytest
from harness.coap import make_psk
from harness.coap_client import ClientError

IN_FORCE_S = 5


def revoke(coap, id="dev-1"):
    """The time by which nothing of it may work any more."""
    coap.query("update credential set revoked_at = now() where principal = %s", id)
    return time.monotonic() + IN_FORCE_S


def left(deadline):
    return max(0.1, deadline - time.monotonic())


def with_session(coap, kind, **options):
    {"certificate": coap.devices, "jwt": coap.jwt_key, "psk": coap.psk}[kind]("dev-1")
    coap.in_force()
    device = coap.connected("dev-1", **options)
    assert device.telemetry(1).code == "2.01"
    return device


KINDS = pytest.mark.parametrize("kind", ["certificate", "jwt", "psk"])


@KINDS
def test_a_session_that_has_moved_is_closed_where_it_is(coap, kind):
    coap.started()
    device = with_session(coap, kind)
    old = device.rebind(keep=True)
    assert device.telemetry(2).code == "2.01"
    deadline = revoke(coap)
    assert device.closed(timeout=left(deadline)) is not None
    assert old.received(timeout=0) is None
    coap.server.wait_log("event=session_closed device=dev-1 .*revoked")


@KINDS
def test_a_session_that_moves_after_the_revocation_is_not_heard(coap, kind):
    coap.started()
    device = with_session(coap, kind)
    deadline = revoke(coap)
    # The notice of its end goes to where nobody is any more.
    device.rebind()
    time.sleep(left(deadline))
    with pytest.raises(ClientError):
        device.telemetry(2, timeout_ms=2000, ack_timeout_ms=500)
    coap.stored()
    assert coap.seqs("dev-1") == [1]


@KINDS
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_session_that_is_restored_is_closed(coap, kind, how):
    """Revoked while the server was away."""
    coap.started()
    device = with_session(coap, kind)
    getattr(coap.server, how)()
    revoke(coap)
    coap.server.start()
    coap.server.wait_log("1 sessions restored")
    assert device.closed(timeout=IN_FORCE_S) is not None
    with pytest.raises((ClientError, AssertionError)):
        coap.connected("dev-1")
    coap.stored()
    assert coap.seqs("dev-1") == [1]


def test_a_session_that_is_restored_without_the_database_is_closed_when_it_is_back(coap):
    """Until then nobody can know; the copy on disk is older."""
    coap.started()
    device = with_session(coap, "certificate")
    revoke(coap)
    assert device.closed(timeout=IN_FORCE_S) is not None
    coap.query("update credential set revoked_at = null where principal = 'dev-1'")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.telemetry(2).code == "2.01"
    coap.server.kill()
    revoke(coap)
    coap.stop_database()
    coap.server.start()
    coap.start_database()
    assert device.closed(timeout=IN_FORCE_S + 10) is not None
    assert len(coap.server.log_lines("event=session_closed device=dev-1")) == 2


@pytest.mark.parametrize("kind", ["certificate", "psk"])
def test_the_ticket_of_a_revoked_credential_is_good_for_nothing(coap, kind):
    coap.started()
    device = with_session(coap, kind, cid=False, tickets=True)
    deadline = revoke(coap)
    assert device.closed(timeout=left(deadline)) is not None
    device.rebind()
    with pytest.raises(ClientError, match="handshake"):
        device.handshake(resume=True, timeout_ms=5000)
    coap.server.wait_log("event=handshake_refused device=dev-1 .* revoked")


def replace_psk(coap, psk):
    """What fleet psk --replace writes."""
    other = make_psk(psk.id, psk.identity)
    coap.query("update credential set material = %s, created_at = now() where kind = 'psk'",
               other.row(coap.server.master_key)[3])
    return other


@pytest.mark.parametrize("restart", [False, True])
def test_a_session_of_a_key_that_was_replaced_is_closed(coap, restart):
    coap.started()
    psk = coap.psk("dev-1")
    coap.in_force()
    device = coap.connected(psk)
    assert device.telemetry(1).code == "2.01"
    if restart:
        coap.server.kill()
    other = replace_psk(coap, psk)
    if restart:
        coap.server.start()
    assert device.closed(timeout=IN_FORCE_S) is not None
    coap.server.wait_log("event=session_closed device=dev-1 .*has been replaced")
    assert coap.connected(other).telemetry(2).code == "2.01"


def test_the_ticket_of_a_key_that_was_replaced_is_good_for_nothing(coap):
    coap.started()
    psk = coap.psk("dev-1")
    coap.in_force()
    device = coap.connected(psk, cid=False, tickets=True)
    assert device.telemetry(1).code == "2.01"
    replace_psk(coap, psk)
    assert device.closed(timeout=IN_FORCE_S) is not None
    device.rebind()
    with pytest.raises(ClientError, match="handshake"):
        device.handshake(resume=True, timeout_ms=5000)


def test_another_credential_of_the_same_device_goes_on(coap):
    coap.started()
    by_certificate = with_session(coap, "certificate")
    key = coap.psk("dev-1")
    coap.in_force()
    by_psk = coap.connected(key)
    assert by_psk.telemetry(2).code == "2.01"
    coap.query("update credential set revoked_at = now() where principal = 'dev-1' and kind = 'x509'")
    assert by_certificate.closed(timeout=IN_FORCE_S) is not None
    assert by_psk.telemetry(3).code == "2.01"
