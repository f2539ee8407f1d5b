# SPDX-License-Identifier: Apache-2.0
"""Each way in which a credential can be bad is refused over CoAP, and its line in the log says which: an
operator who reads it knows what to mend. What a peer is told is the same, or an alert."""

import re
import subprocess
import time

import pytest
from harness.coap import JwtKey, Psk
from harness.coap_client import ClientError
from harness.pki import OTHER_DEVICE

REFUSED = "event=handshake_refused"

# What is wrong with the certificate itself, and the words of it. The registry knows all of these.
FAULTS = {
    "expired": r"its certificate: it expired on \d{4}-",
    "not_yet_valid": r"its certificate: it is not valid before \d{4}-",
    "other_ca": r"its certificate: it was not signed by the key of the trusted ",
    "stranger_ca": r"its certificate: it is signed by no CA of this fleet: the issuer is CN=CA of somebody else",
    "self_signed": r"its certificate: it is self-signed",
    "ca_as_leaf": r"its certificate: it is a CA certificate",
    "device_ca_itself": r"its certificate: it is a CA certificate",
    "wrong_eku": r"its certificate: its extended key usage is serverAuth, not clientAuth",
    "rsa": r"its certificate: its key is not P-256 but rsaEncryption with 2048 bits",
    "p384": r"its certificate: its key is not P-256 but id-ecPublicKey on another curve with 384 bits",
}


def s_client(coap, credentials):
    """For keys that coap-client cannot sign with: OpenSSL shows them all the same."""
    result = subprocess.run(
        ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{coap.server.port}",
         "-cert", credentials.cert, "-key", credentials.key],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False, text=True,
    )
    assert "alert" in result.stderr, result.stderr


def shake_hands(coap, credentials, **options):
    device = coap.device(credentials, **options)
    with pytest.raises(ClientError) as failed:
        device.handshake(timeout_ms=5000)
    assert failed.value.what == "handshake"
    device.forget()


def refusal(coap, attempt):
    """The one line that `attempt` leaves."""
    since = coap.server.log_position()
    attempt()
    coap.server.wait_log(REFUSED, since)
    lines = coap.server.log_lines("level=(warn|error)|event=(handshake|dtls)_", since)
    assert len(lines) == 1, lines
    assert re.search(r'msg="from 127\.0\.0\.\d:\d+: ', lines[0])
    return lines[0]


def still_serves(coap):
    coap.in_force()


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_certificate_is_refused_with_its_own_reason(coap, kind):
    coap.started()
    credentials = coap.fleet.forge(kind, f"dev-{kind}", coap.directory / "forged")
    coap.fleet.register(credentials, f"dev-{kind}")
    coap.in_force()
    show = s_client if kind == "p384" else shake_hands
    line = refusal(coap, lambda: show(coap, credentials))
    assert re.search(FAULTS[kind], line), line
    if kind != "device_ca_itself":
        assert f" device=dev-{kind} " in line
    still_serves(coap)


def test_every_fault_has_other_words(coap):
    """As above, in one log: no line fits two faults, but for the two that are the same."""
    coap.started()
    kinds = [kind for kind in FAULTS if kind not in ("p384", "device_ca_itself")]
    made = [coap.fleet.forge(kind, f"dev-{kind}", coap.directory / "forged") for kind in kinds]
    for credentials in made:
        coap.fleet.register(credentials)
    coap.in_force()
    for kind, credentials in zip(kinds, made):
        line = refusal(coap, lambda: shake_hands(coap, credentials))
        assert [k for k in kinds if re.search(FAULTS[k], line)] == [kind]


def test_a_certificate_of_another_device_is_refused(coap):
    """Issued for somebody else, and registered for this one."""
    coap.started()
    credentials = coap.fleet.forge("other_name", "dev-1", coap.directory / "forged")
    coap.fleet.register(credentials, "dev-1")
    coap.in_force()
    line = refusal(coap, lambda: shake_hands(coap, credentials))
    assert f"the certificate names {OTHER_DEVICE} but is registered for dev-1" in line


def test_the_name_of_a_device_with_another_key_is_refused(coap):
    """Of our CA, with the name of a device that is registered, but not its certificate."""
    coap.started()
    coap.devices("dev-1")
    thief = coap.fleet.forge("other_key", "dev-1", coap.directory / "forged")
    coap.in_force()
    line = refusal(coap, lambda: shake_hands(coap, thief))
    assert " device=dev-1 " in line and "dev-1 is registered with another certificate" in line
    assert coap.connected("dev-1").telemetry(1).code == "2.01"


def test_a_certificate_without_its_key_is_refused(coap):
    coap.started()
    mine, others = coap.devices("dev-1", "dev-2").values()
    coap.in_force()
    line = refusal(coap, lambda: shake_hands(coap, mine, key=others.key))
    assert " device=dev-1 " in line and "its certificate's key has not signed the handshake" in line
    still_serves(coap)


def test_a_revoked_certificate_is_refused(coap):
    coap.started()
    credentials = coap.devices("dev-1")["dev-1"]
    coap.in_force()
    coap.query("update credential set revoked_at = now() where principal = 'dev-1'")
    coap.in_force()
    line = refusal(coap, lambda: shake_hands(coap, credentials))
    assert " device=dev-1 " in line and "this certificate is revoked" in line


def test_a_certificate_that_only_the_registry_limits_is_refused(coap):
    """The row's dates count as well as the certificate's."""
    coap.started()
    credentials = coap.devices("dev-1")["dev-1"]
    coap.query("update credential set not_after = now() - interval '1 hour' where principal = 'dev-1'")
    coap.in_force()
    line = refusal(coap, lambda: shake_hands(coap, credentials))
    assert " device=dev-1 " in line and "its certificate has expired, on " in line


# --- Other credentials ---


def refused_login(coap, token):
    device = coap.connected(None)
    since = coap.server.log_position()
    answer = device.post("auth/jwt", token, format=0)
    assert (answer.code, answer.text) == ("4.01", "not let in")
    assert device.telemetry(1).code == "4.01"
    (line,) = coap.server.wait_log("event=login_refused", since)
    return line


JWT_ROWS = {
    "expired": ("not_after = now() - interval '1 minute'", "the key of its JWT has expired, on "),
    "not_yet_valid": ("not_before = now() + interval '1 day', not_after = null", "its credential is not valid before "),
    "revoked": ("revoked_at = now()", "the key of this JWT is revoked"),
}


@pytest.mark.parametrize("kind", JWT_ROWS)
def test_a_jwt_of_a_bad_key_is_refused_with_its_own_reason(coap, kind):
    change, words = JWT_ROWS[kind]
    coap.started()
    key = coap.jwt_key("dev-1")
    coap.query(f"update credential set {change} where principal = 'dev-1'")
    coap.in_force()
    line = refused_login(coap, key.token())
    assert " device=dev-1 " in line and words in line


def test_a_jwt_signed_with_the_key_of_another_device_is_refused(coap):
    coap.started()
    _, other = coap.jwt_key("dev-1", "dev-2")
    coap.in_force()
    line = refused_login(coap, JwtKey("dev-1", other.key).token())
    assert " device=dev-1 " in line and "the JWT is signed with none of its 1 key(s)" in line


PSK_ROWS = {
    "expired": ("not_after = now() - interval '1 minute'", "its pre-shared key has expired, on "),
    "revoked": ("revoked_at = now()", "this pre-shared key is revoked"),
}


@pytest.mark.parametrize("kind", PSK_ROWS)
def test_a_bad_psk_is_refused_with_its_own_reason(coap, kind):
    change, words = PSK_ROWS[kind]
    coap.started()
    key = coap.psk("dev-1")
    coap.query(f"update credential set {change} where principal = 'dev-1'")
    coap.in_force()
    line = refusal(coap, lambda: shake_hands(coap, key))
    assert " device=dev-1 " in line and words in line


def test_an_unknown_psk_and_a_wrong_one_have_their_own_reasons(coap):
    """In the log: the peer cannot tell one from the other (RFC 4279 section 2)."""
    coap.started()
    key = coap.psk("dev-1")
    coap.in_force()
    line = refusal(coap, lambda: shake_hands(coap, Psk("dev-1", key.identity, b"0123456789abcdef")))
    assert " device=dev-1 " in line and "wrong key" in line
    # From another address: of one that names nobody there is one line in ten seconds.
    line = refusal(coap, lambda: shake_hands(coap, Psk("dev-9", b"psk-dev-9", key.key), bind="127.0.0.3"))
    assert "the PSK identity 'psk-dev-9' is not registered" in line
    assert coap.connected(key).telemetry(1).code == "2.01"


# --- The other side ---


def test_a_device_that_does_not_trust_our_certificate_is_told_of(coap):
    coap.started()
    strangers = coap.fleet.forge("self_signed", "ca", coap.directory / "forged")
    line = refusal(coap, lambda: shake_hands(coap, None, ca=strangers.cert))
    assert "does not know the CA of coap.certificate_file (alert unknown_ca)" in line
    still_serves(coap)


def test_no_suite_in_common_is_told_of(coap):
    coap.started()
    line = refusal(coap, lambda: shake_hands(coap, None, suites="TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384"))
    assert "no cipher suite" in line and "coap.suites" in line
    still_serves(coap)


def test_one_device_that_tries_again_and_again_leaves_one_line(coap):
    coap.started()
    credentials = coap.fleet.forge("expired", "dev-1", coap.directory / "forged")
    since = coap.server.log_position()
    started = time.monotonic()
    for _ in range(20):
        shake_hands(coap, credentials)
    if time.monotonic() - started < 9:
        assert len(coap.server.log_lines("handshake", since)) == 1
