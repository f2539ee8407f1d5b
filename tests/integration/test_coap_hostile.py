# SPDX-License-Identifier: Apache-2.0
"""What somebody can do to others who may shake hands with fieldgate-coap, but never says who he is."""

from harness.coap_client import JSON, TEXT

SESSIONS = 12


def raw_block(mid, tag):
    """CON POST auth/jwt, block 0 of 16 bytes, more to come, Request-Tag."""
    return (
        bytes([0x41, 0x02, mid >> 8, mid & 255, 0x7A])
        + b"\xb4auth\x03jwt"
        + bytes([0xD1, 27 - 11 - 13, 0x08])
        + bytes([0xD1, 292 - 27 - 13, tag])
        + b"\xff"
        + b"A" * 16
    )


def test_strangers_who_hold_transfers_keep_no_device_from_its_own(coap):
    key = coap.psk("known")
    coap.started({"coap.max_transfers": 2 * SESSIONS})
    known = coap.connected(key)
    for i in range(SESSIONS):
        stranger = coap.connected(name=f"stranger-{i}")
        for mid in range(4):
            stranger.raw(raw_block(100 + mid, mid))
            assert stranger.message().code == "2.31"
    text = '{"note": "%s"}' % ("x" * 3000)
    assert known.post("msg/d2c", text, format=JSON, block=256).code == "2.01"


def test_a_stranger_may_log_in_with_a_token_in_blocks(coap):
    key = coap.jwt_key("in-blocks")
    coap.started()
    device = coap.connected()
    assert device.post("auth/jwt", key.token(), format=TEXT, block=64).code == "2.01"
    assert device.telemetry(1).code == "2.01"
