# SPDX-License-Identifier: Apache-2.0
"""Who a CoAP device is, from pki/fleet to the session: keys that `fleet psk` and `fleet jwt-key` registered
are good for fieldgate-coap, and no longer when they are revoked."""

import re
import time

from cryptography.hazmat.primitives import serialization

from harness.coap import JwtKey, Psk, make_jwt_key
from harness.coap_client import ClientError


def fleet_psk(coap, id, *options):
    """What the device is given: the two lines that fleet shows."""
    result = coap.fleet.run("psk", id, "--key-file", coap.server.secrets_file, *options)
    identity, key = re.fullmatch(r"identity: (.*)\nkey: (.*)\n", result.stdout).groups()
    return Psk(id, identity.encode(), bytes.fromhex(key))


def fleet_jwt_key(coap, id):
    made = make_jwt_key(id)
    public = made.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    file = coap.directory / f"{id}.{time.monotonic_ns()}.pem"
    file.write_bytes(public)
    coap.fleet.run("jwt-key", id, file)
    return made


def fingerprint(key):
    return key.row(b"\0" * 32)[1].hex()


def lets_in(coap, key):
    """Is the device let in with this key, and are its messages taken?"""
    try:
        device = coap.connected(key)
    except (ClientError, AssertionError):
        return False
    code = device.telemetry(1).code
    device.close()
    return code == "2.01"


def test_keys_of_fleet_are_good_for_the_server(coap):
    coap.started()
    psk, second = fleet_psk(coap, "dev-1"), fleet_psk(coap, "dev-1", "--identity", "nrf-351358811124772")
    jwt = fleet_jwt_key(coap, "dev-2")
    coap.in_force()
    assert lets_in(coap, psk) and lets_in(coap, second) and lets_in(coap, jwt)
    assert not lets_in(coap, Psk("dev-1", psk.identity, second.key))
    assert not lets_in(coap, JwtKey("dev-1", jwt.key))


def test_a_replaced_psk_is_no_good_any_more(coap):
    coap.started()
    old = fleet_psk(coap, "dev-1")
    coap.in_force()
    assert lets_in(coap, old)
    new = fleet_psk(coap, "dev-1", "--replace")
    coap.in_force()
    assert lets_in(coap, new) and not lets_in(coap, old)


def test_keys_are_rotated_without_a_gap(coap):
    """The old and the new key of a device are good at the same time, until the old one is revoked."""
    coap.started()
    old = fleet_jwt_key(coap, "dev-1")
    new = fleet_jwt_key(coap, "dev-1")
    coap.in_force()
    assert lets_in(coap, old) and lets_in(coap, new)
    coap.fleet.run("revoke", "dev-1", "--credential", fingerprint(old))
    coap.in_force()
    assert lets_in(coap, new) and not lets_in(coap, old)
    (line,) = coap.server.log_lines("event=login_refused")[:1]
    assert "device=dev-1" in line and "the key of this JWT is revoked" in line


def test_revoking_one_credential_ends_its_sessions_and_no_other(coap):
    coap.started()
    psk, jwt = fleet_psk(coap, "dev-1"), fleet_jwt_key(coap, "dev-1")
    coap.in_force()
    by_psk, by_jwt = coap.connected(psk), coap.connected(jwt)
    assert by_psk.telemetry(1).code == by_jwt.telemetry(2).code == "2.01"
    coap.fleet.run("revoke", "dev-1", "--credential", fingerprint(jwt))
    assert by_jwt.closed(timeout=5)
    assert by_psk.telemetry(3).code == "2.01"
    coap.wait_seqs("dev-1", [1, 2, 3])


def test_every_refused_login_has_the_same_answer_and_its_own_line(coap):
    coap.started({"coap.authentication_timeout_s": 600})
    jwt, other = fleet_jwt_key(coap, "dev-1"), fleet_jwt_key(coap, "dev-2")
    coap.in_force()
    now = int(time.time())
    tokens = {
        "alg": jwt.token(header={"alg": "none"}),
        "signed with none of its": JwtKey("dev-1", other.key).token(),
        "who is not registered": JwtKey("dev-9", jwt.key).token(),
        "expired": jwt.token(iat=now - 7200, exp=now - 3600),
        "more than 1024": "x" * 1025,
        "neither `exp` nor `iat`": jwt.token(iat=None, exp=None),
    }
    device = coap.connected()
    answers = []
    for why, token in tokens.items():
        # One line for each device at an address in ten seconds: those about none are in one.
        answer = device.post("auth/jwt", token, format=0)
        answers.append((answer.code, answer.text, answer.max_age))
    assert answers == [("4.01", "not let in", None)] * len(tokens)
    lines = coap.server.log_lines("event=login_refused")
    assert "only ES256 is accepted" in lines[0] and "device=" not in lines[0]
    assert "device=dev-1" in lines[1] and "signed with none of its 1 key(s)" in lines[1]
    assert len(lines) <= 3
    # Nobody until now, and nothing but the public resources.
    assert device.telemetry(1).code == "4.01"
    assert device.get("time").code == "2.05"
    answer = device.post("auth/jwt", jwt.token(), format=0)
    assert (answer.code, answer.max_age) == ("2.01", 30 * 86400)
    assert device.telemetry(1).code == "2.01"
    assert device.post("auth/jwt", other.token(), format=0).code == "4.01"
    assert device.telemetry(2).code == "2.01"
    coap.wait_seqs("dev-1", [1, 2])
    assert coap.seqs("dev-2") == []
