# SPDX-License-Identifier: Apache-2.0
"""What a DTLS session of the CoAP server promises, over real sockets, one test for each promise: whose it is,
where it is, and what nobody can do to it who does not have its keys. The client looks by itself for record
numbers that come twice; every test fails on one (Client.close)."""

import json
import os
import pathlib
import random

import pytest
from harness.coap_client import ClientError

ATTACKER = "127.0.0.2"

# Record: type, version, epoch, sequence number (6 bytes), Connection ID (8), length (RFC 9146 section 4).
EPOCH_AT, SEQUENCE_AT, CID_AT, BODY_AT = 3, 5, 11, 21
RECORD_ALERT, RECORD_HANDSHAKE, RECORD_CID = 21, 22, 25


def watch(coap, id="dev-1", **options):
    """A device that observes its state: where notifications go tells where its session is."""
    device = coap.connected(id, **options)
    coap.documents_ready(device)
    assert device.observe("state", query="delta=false").observe is not None
    return device


def is_here(coap, device, id="dev-1"):
    """A notification that nobody but the owner has caused arrives at this device, and the session works."""
    coap.marks = getattr(coap, "marks", 0) + 1
    coap.query("select fieldgate.desire(%s, %s)", id, json.dumps({"mark": coap.marks}))
    while notification := device.notification():
        if notification.payload and notification.json.get("mark") == coap.marks:
            break
    assert notification is not None, "no notification came"
    assert device.get("time").code == "2.05"


def last_record(device):
    return device.sent()[-1].records[-1]


def flip(datagram, at):
    changed = bytearray(datagram)
    changed[at] ^= 1
    return bytes(changed)


# --- Forged, replayed, old ---

FORGERIES = {
    "a bit of the tag": lambda d, _: flip(d, -1),
    "a bit of the ciphertext": lambda d, _: flip(d, BODY_AT + 9),
    "a newer number": lambda d, _: d[:SEQUENCE_AT] + (1 << 40).to_bytes(6, "big") + d[CID_AT:],
    "another epoch": lambda d, _: flip(d, EPOCH_AT + 1),
    "another type inside": lambda d, _: flip(d, -9),
    "garbage": lambda d, _: d[:SEQUENCE_AT] + b"\0\0\0\0\1\0" + d[CID_AT:BODY_AT] + os.urandom(len(d) - BODY_AT),
    "cut off": lambda d, _: d[: BODY_AT - 2] + b"\0\5" + d[BODY_AT : BODY_AT + 5],
    "nothing in it": lambda d, _: d[: BODY_AT - 2] + b"\0\0",
    "another's record": lambda d, other: other[:CID_AT] + d[CID_AT : CID_AT + 8] + other[CID_AT + 8 :],
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=[n.replace(" ", "_") for n in FORGERIES])
def test_a_forged_record_does_not_move_a_session(coap, forge):
    coap.psk("dev-1", "dev-2")
    coap.started()
    device, other = watch(coap), coap.connected("dev-2")
    other.get("time")
    attacker = coap.client.socket(coap.server.port, bind=ATTACKER)
    attacker.send(forge(last_record(device).bytes, last_record(other).bytes), times=5)
    is_here(coap, device)
    assert attacker.received(timeout=0.3) is None


def test_a_replayed_record_does_nothing_and_moves_nothing(coap):
    coap.psk("dev-1")
    coap.started()
    device = watch(coap)
    assert device.reading(1).code == "2.01"
    replayed = last_record(device).bytes
    attacker = coap.client.socket(coap.server.port, bind=ATTACKER)
    attacker.send(replayed, times=5)
    # If it did move it, this would go to the attacker; the device's next record would bring it back.
    coap.query("select fieldgate.desire('dev-1', '{\"a\": 1}')")
    assert device.notification().json == {"a": 1}
    assert attacker.received(timeout=0.3) is None
    received = len(device.received())
    device.send(replayed, times=5)
    assert device.get("time").code == "2.05"
    assert len(device.received()) == received + 1
    coap.stored()
    assert coap.readings("dev-1") == [1]


def test_an_old_but_authentic_record_is_heard_and_moves_nothing(coap):
    coap.psk("dev-1")
    coap.started()
    device = watch(coap)
    held, pending = device.hold_request("POST", "msg/d2c", {"light": 1})
    assert device.reading(2).code == "2.01"
    somewhere = coap.client.socket(coap.server.port, bind=ATTACKER)
    somewhere.send(held.bytes)
    # Answered where the session is, not where that came from.
    assert pending.wait().code == "2.01"
    is_here(coap, device)
    assert somewhere.received(timeout=0.3) is None
    coap.wait_readings("dev-1", [1, 2])


def test_a_record_older_than_the_window_is_not_heard(coap):
    coap.psk("dev-1")
    coap.started()
    device = watch(coap)
    held, pending = device.hold_request("POST", "msg/d2c", {"light": 1}, timeout_ms=3000)
    for seq in range(2, 80):
        assert device.reading(seq).code == "2.01"
    device.send(held.bytes)
    with pytest.raises(ClientError, match="timeout"):
        pending.wait()
    coap.wait_readings("dev-1", range(2, 80))


@pytest.mark.parametrize("cid", [True, False])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_forged_alert_ends_nothing(coap, cid, epoch):
    coap.psk("dev-1")
    coap.started()
    device = watch(coap, cid=cid)
    for level, description in ((1, 0), (2, 40), (2, 20)):  # close_notify, handshake_failure, bad_record_mac
        alert = bytes([RECORD_ALERT, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 9, 0, description, 0, 2])
        device.send(alert + bytes([level, description]))
    is_here(coap, device)
    assert device.closed(timeout=0) is None


# --- Addresses ---


@pytest.mark.parametrize("cid_length", [0, 1, 8])
def test_a_session_follows_its_device_to_another_port(coap, cid_length):
    coap.psk("dev-1")
    coap.started()
    device = watch(coap, cid_length=cid_length)
    for seq in range(1, 6):
        old = device.rebind(keep=True)
        assert device.reading(seq).code == "2.01"
        is_here(coap, device)
        assert old.received(timeout=0) is None
    coap.wait_readings("dev-1", [1, 2, 3, 4, 5])


def test_until_the_device_speaks_notifications_go_where_it_was(coap):
    coap.psk("dev-1")
    coap.started()
    device = watch(coap)
    old = device.rebind(keep=True)
    coap.query("select fieldgate.desire('dev-1', '{\"a\": 1}')")
    assert old.received(timeout=10) is not None
    # It is retransmitted to the place that the session has moved to meanwhile.
    assert device.get("time").code == "2.05"
    assert device.notification(timeout=20).json == {"a": 1}


def test_a_session_follows_its_device_to_another_network(coap):
    coap.psk("dev-1")
    coap.started()
    device = watch(coap)
    for network in ("127.0.0.9", "127.1.2.3", "127.0.0.1"):
        device.rebind(bind=network)
        assert device.reading(1).code == "2.01"
        is_here(coap, device)


def test_without_connection_id_another_port_needs_a_handshake(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1", cid=False)
    assert device.session["cid"] is False
    assert device.reading(1).code == "2.01"
    device.rebind()
    with pytest.raises(ClientError, match="timeout"):
        device.reading(2, timeout_ms=1500, ack_timeout_ms=400)
    device.handshake()
    assert device.reading(3).code == "2.01"
    coap.wait_readings("dev-1", [1, 3])


def test_two_devices_swap_ports(coap):
    coap.psk("dev-1", "dev-2")
    coap.started()
    first, second = watch(coap, "dev-1"), watch(coap, "dev-2")
    for seq in range(1, 4):
        first.swap(second)
        assert first.reading(seq).code == "2.01"
        assert second.reading(10 + seq).code == "2.01"
        is_here(coap, first, "dev-1")
        is_here(coap, second, "dev-2")
    coap.wait_readings("dev-1", [1, 2, 3])
    coap.wait_readings("dev-2", [11, 12, 13])


def test_a_device_on_the_port_of_a_silent_one_stalls_neither(coap):
    coap.psk("dev-1", "dev-2")
    coap.started()
    silent, device = watch(coap, "dev-1"), watch(coap, "dev-2")
    silent.swap(device)
    assert device.reading(1).code == "2.01"
    # What is for the silent one goes to the other, who cannot read it.
    before = device.stats()["authentic"]
    coap.query("select fieldgate.desire('dev-1', '{\"a\": 1}')")
    is_here(coap, device, "dev-2")
    assert silent.get("time").code == "2.05"
    is_here(coap, silent, "dev-1")
    assert device.stats()["authentic"] == before + 2


# --- Identity ---


@pytest.mark.parametrize("cid", [True, False])
def test_a_handshake_on_a_used_address_inherits_no_identity(coap, cid):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1", cid=cid)
    assert device.reading(1).code == "2.01"
    port = device.port
    device.forget()
    nobody = coap.connected(None, local_port=port, cid=cid)
    assert nobody.port == port
    assert nobody.get("time").code == "2.05"
    assert nobody.reading(2).code == "4.01"
    assert nobody.get("state").code == "4.01"
    coap.stored()
    assert coap.readings("dev-1") == [1]


@pytest.mark.parametrize("cid", [True, False])
def test_a_handshake_on_a_used_address_has_its_own_identity(coap, cid):
    coap.psk("dev-1")
    coap.jwt_key("dev-2")
    coap.started()
    device = coap.connected("dev-1", cid=cid)
    assert device.reading(1).code == "2.01"
    port = device.port
    device.forget()
    other = coap.connected("dev-2", local_port=port, cid=cid)
    assert other.reading(2).code == "2.01"
    coap.wait_readings("dev-2", [2])
    assert coap.readings("dev-1") == [1]


def test_a_session_with_connection_id_outlives_a_handshake_on_its_address(coap):
    coap.psk("dev-1", "dev-2")
    coap.started()
    device = watch(coap)
    port = device.port
    device.rebind()
    # The server does not know yet that the device is not there any more.
    other = coap.connected("dev-2", local_port=port)
    assert other.reading(1).code == "2.01"
    assert device.reading(2).code == "2.01"
    is_here(coap, device)
    coap.wait_readings("dev-1", [2])
    coap.wait_readings("dev-2", [1])


def test_a_session_with_connection_id_outlives_that_before_its_first_request_too(coap):
    coap.psk("dev-1", "dev-2")
    coap.started()
    device = coap.connected("dev-1")
    port = device.port
    device.rebind()
    assert coap.connected("dev-2", local_port=port).reading(1).code == "2.01"
    assert device.reading(2).code == "2.01"
    coap.wait_readings("dev-1", [2])
    coap.wait_readings("dev-2", [1])


def with_cookie(hello, verify_request):
    """The second ClientHello (RFC 6347 section 4.2.1) to the first and what it was answered."""
    length = verify_request[27]
    cookie = verify_request[28 : 28 + length]
    session_id_end = 60 + hello[59]
    body = hello[25:session_id_end] + bytes([length]) + cookie + hello[session_id_end + 1 :]
    size = len(body).to_bytes(3, "big")
    message = b"\1" + size + b"\0\1" + b"\0\0\0" + size + body
    return hello[:10] + b"\1" + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("cid", [True, False])
def test_a_handshake_that_is_only_begun_on_its_address_does_not_disturb_a_session(coap, cid):
    coap.psk("dev-1", "dev-2")
    coap.started()
    device = watch(coap, cid=cid)
    other = coap.device("dev-2", cid=cid)
    other.stop_handshake_after(1)
    hello = other.sent()[0].bytes
    since = len(device.datagrams())
    device.send(hello)

    def clear():
        """Flights in clear, which the session itself ignores."""
        first = [(d, d.records[0]) for d in device.received(since)]
        return [d for d, record in first if record.type == RECORD_HANDSHAKE and record.epoch == 0]

    assert coap.client._wait(lambda: clear() or None, 10)
    device.send(with_cookie(hello, clear()[0].bytes))
    assert coap.client._wait(lambda: len(clear()) > 1 or None, 10), "no handshake was begun"
    is_here(coap, device)
    assert device.reading(1).code == "2.01"
    coap.wait_readings("dev-1", [1])


def test_a_session_is_resumed_with_its_identity(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1", cid=False, tickets=True)
    assert device.reading(1).code == "2.01"
    device.rebind()
    assert device.handshake(resume=True)["resumed"]
    assert device.reading(2).code == "2.01"
    coap.wait_readings("dev-1", [1, 2])


def test_an_identity_by_jwt_is_resumed_too(coap):
    coap.jwt_key("dev-1")
    coap.started()
    device = coap.connected("dev-1", cid=False, tickets=True)
    device.rebind()
    if device.handshake(resume=True)["resumed"]:
        # The ticket is older than the proof: it cannot say who that was.
        assert device.reading(1).code == "4.01"


def test_a_device_that_is_let_in_no_more_cannot_resume(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1", cid=False, tickets=True)
    assert device.reading(1).code == "2.01"
    coap.set_state("dev-1", "suspended")
    coap.in_force()
    device.rebind()
    with pytest.raises(ClientError, match="handshake"):
        device.handshake(resume=True, timeout_ms=5000)


# --- Handshakes of others ---


def memory_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def test_hellos_without_cookie_cost_no_memory_and_lock_nobody_out(coap):
    coap.psk("dev-1", "dev-2")
    coap.started()
    device = watch(coap)
    (worker,) = coap.server.workers()
    before = memory_kib(worker)
    flood = coap.client.flood(coap.server.port, rate=10000, seconds=5, ports=50, bind=ATTACKER)
    handshakes = 0
    while not flood.done():
        is_here(coap, device)
        other = coap.device("dev-2")
        # Far more than it should take; one that is locked out would wait for 30 s.
        assert other.handshake(timeout_ms=10000)["ms"] < 5000
        other.close()
        other.forget()
        handshakes += 1
    figures = flood.wait()
    assert figures["sent"] >= 10000 and handshakes > 0
    assert figures["server_hellos"] == 0
    # Nothing is sent to whoever is at that address that was not sent here first.
    assert figures["bytes_received"] <= figures["bytes_sent"]
    # A context for each would be 400 MB.
    assert memory_kib(worker) - before < 16 * 1024


def test_wrong_cookies_begin_no_handshake(coap):
    coap.psk("dev-1")
    coap.started()
    figures = coap.client.flood(coap.server.port, rate=2000, seconds=1, ports=20, cookie="wrong").wait()
    assert figures["with_cookie"] > 0 and figures["server_hellos"] == 0
    coap.connected("dev-1")


def test_half_finished_handshakes_lock_nobody_out_for_long(coap):
    coap.psk("dev-1", "dev-2")
    coap.started({"coap.max_handshakes": 64, "coap.handshake_timeout_s": 5})
    device = watch(coap)
    figures = coap.client.flood(
        coap.server.port, rate=500, seconds=1, ports=200, bind=ATTACKER, cookie="exchange"
    ).wait()
    assert 64 <= figures["server_hellos"]
    is_here(coap, device)
    # When the places are taken, a device's own retransmissions find one that has become free.
    coap.connected("dev-2")


def test_many_half_finished_handshakes_within_the_limit_are_not_even_noticed(coap):
    coap.psk("dev-1")
    coap.started()
    figures = coap.client.flood(
        coap.server.port, rate=1000, seconds=1, ports=500, bind=ATTACKER, cookie="exchange"
    ).wait()
    assert figures["server_hellos"] >= 500
    assert coap.connected("dev-1").session["ms"] < 5000


@pytest.mark.parametrize("flight", [1, 3, 4, 5])
@pytest.mark.parametrize("kind", ["psk", "certificate"])
def test_a_handshake_may_be_slow(coap, kind, flight):
    coap.psk("dev-1") if kind == "psk" else coap.devices("dev-1")
    coap.started()
    device = coap.device("dev-1")
    device.stop_handshake_after(flight)
    # Meanwhile the server sends its flight again, which nobody hears.
    device.client._wait(lambda: None, 1.5)
    device.handshake(go_on=True)
    assert device.reading(1).code == "2.01"
    coap.wait_readings("dev-1", [1])


def test_a_handshake_through_a_bad_network_succeeds(coap):
    coap.devices("dev-1")
    coap.started()
    bad = {"drop": 0.2, "duplicate": 0.2, "reorder": 0.3, "delay_ms": 100}
    for seed in range(1, 6):
        device = coap.device("dev-1", one_record=seed % 2 == 0, retransmit_min_ms=200)
        device.impair(seed, sent=bad, received=bad)
        device.handshake(timeout_ms=60000)
        assert device.reading(seed, ack_timeout_ms=200, max_retransmit=8).code == "2.01"
    coap.wait_readings("dev-1", [1, 2, 3, 4, 5])


def times_out(action, *arguments, **options):
    try:
        action(*arguments, **options)
    except ClientError as error:
        return error.what == "timeout" or error.answer.get("reason") == "SSL - The operation timed out"
    return False


def test_handshakes_of_one_source_are_limited_and_of_others_not(coap):
    coap.psk("dev-1")
    coap.started({"coap.handshakes_per_source": 5})

    def is_limited():
        return any(
            times_out(coap.device("dev-1", bind=ATTACKER).handshake, timeout_ms=2500) for _ in range(6)
        )

    # The count begins anew with each minute: once at most in between.
    assert is_limited() or is_limited()
    coap.connected("dev-1", bind="127.0.0.3")


def test_forgeries_of_one_source_are_limited_and_hurt_nobody_else(coap):
    coap.psk("dev-1", "dev-2", "dev-3")
    coap.started({"coap.forgeries_per_source": 20})
    device, neighbour = watch(coap), coap.connected("dev-2", bind=ATTACKER)
    moving = coap.connected("dev-3")
    assert neighbour.get("time").code == moving.get("time").code == "2.05"
    forged = flip(last_record(device).bytes, -1)
    attacker = coap.client.socket(coap.server.port, bind=ATTACKER)

    def is_limited():
        attacker.send(forged, times=200)
        # Who is known there is heard, even there.
        assert neighbour.get("time").code == "2.05"
        moving.rebind(bind=ATTACKER)
        return times_out(moving.get, "time", retransmit=False, timeout_ms=1000)

    # The count begins anew with each minute: once at most in between.
    assert is_limited() or is_limited()
    is_here(coap, device)
    moving.rebind(bind="127.0.0.4")
    assert moving.get("time").code == "2.05"


def test_records_with_unknown_connection_ids_hurt_no_neighbour(coap):
    coap.psk("dev-1")
    coap.started({"coap.forgeries_per_source": 20})
    device = watch(coap)
    record = last_record(device).bytes
    for _ in range(100):
        device.send(record[: CID_AT + 1] + os.urandom(7) + record[CID_AT + 8 :])
    is_here(coap, device)
    # A source that is distrusted would have its known ports left, and no other.
    device.rebind()
    assert device.get("time").code == "2.05"
    is_here(coap, device)


# --- Several workers ---


def test_a_session_is_found_by_its_worker_wherever_it_is(coap):
    workers = 3
    coap.psk("dev-1")
    coap.started({"coap.workers": workers})
    coap.in_force()
    of_worker = {}
    for _ in range(100):
        device = coap.connected("dev-1")
        of_worker.setdefault(device.peer_cid[0], device)
        if len(of_worker) == workers:
            break
    assert sorted(of_worker) == [0, 1, 2]
    for round in range(10):
        for number, device in of_worker.items():
            device.rebind(bind=f"127.0.{round}.{number + 1}")
            assert device.reading(10 * round + number).code == "2.01"
    coap.wait_readings("dev-1", [10 * round + number for round in range(10) for number in range(workers)])


def test_a_connection_id_of_no_worker_is_ignored(coap):
    coap.psk("dev-1")
    coap.started({"coap.workers": 3})
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.reading(1).code == "2.01"
    record = last_record(device).bytes
    stranger = coap.client.socket(coap.server.port, bind=ATTACKER)
    for worker in (*range(3), 3, 127, 255):
        stranger.send(record[:CID_AT] + bytes([worker]) + record[CID_AT + 1 :])
    assert stranger.received(timeout=0.3) is None
    assert device.reading(2).code == "2.01"


# --- Messages ---


@pytest.mark.parametrize("confirmable", [True, False])
def test_a_post_that_is_sent_again_runs_once(coap, confirmable):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    answer = device.reading(1, confirmable=confirmable)
    assert answer.code == "2.01"
    for _ in range(5):
        device.raw(bytes.fromhex(answer.message))
        again = device.message(timeout=10 if confirmable else 0.2)
        if confirmable:
            assert (again.type, again.mid, again.code) == (answer.type, answer.mid, answer.code)
        else:
            assert again is None
    coap.stored()
    assert coap.readings("dev-1") == [1]


def test_a_post_that_is_sent_again_from_elsewhere_runs_once(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    answer = device.reading(1)
    device.rebind()
    device.raw(bytes.fromhex(answer.message))
    assert device.message().mid == answer.mid
    coap.stored()
    assert coap.readings("dev-1") == [1]


def test_every_message_of_a_bad_network_is_a_row_once(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    bad = {"drop": 0.3, "duplicate": 0.3, "reorder": 0.3, "delay_ms": 200}
    device.impair(7, sent=bad, received=bad)
    for seq in range(1, 51):
        assert device.reading(seq, ack_timeout_ms=100, max_retransmit=10).code == "2.01"
    coap.wait_readings("dev-1", range(1, 51))


@pytest.mark.parametrize("block", [1024, 128])
def test_64_kb_go_up_and_down_block_by_block(coap, block):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    coap.documents_ready(device)
    body = random.Random(block).randbytes(64 * 1024)
    assert device.put("store/large", body, format=42, block=block).code in ("2.01", "2.04")
    answer = device.get("store/large", block=block)
    assert answer.code == "2.05" and answer.payload == body
    assert answer.messages == len(body) // block


def test_64_kb_go_up_and_down_through_a_bad_network(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    coap.documents_ready(device)
    bad = {"drop": 0.1, "duplicate": 0.1, "reorder": 0.1, "delay_ms": 30}
    device.impair(3, sent=bad, received=bad)
    body = random.Random(1).randbytes(64 * 1024)
    patient = {"ack_timeout_ms": 50, "max_retransmit": 10, "timeout_ms": 100000}
    assert device.put("store/large", body, format=42, **patient).code in ("2.01", "2.04")
    assert device.get("store/large", **patient).payload == body


def test_ipv6(coap):
    coap.psk("dev-1", "dev-2")
    coap.started()
    device, other = watch(coap, server_address="::1"), watch(coap, "dev-2")
    device.rebind()
    assert device.reading(1).code == "2.01"
    is_here(coap, device)
    is_here(coap, other, "dev-2")
    body = random.Random(6).randbytes(5000)
    device.put("store/six", body, format=42)
    assert device.get("store/six").payload == body
    coap.wait_readings("dev-1", [1])


def test_ipv6_alone(coap):
    coap.psk("dev-1")
    server = coap.new_server()
    server.configure({"coap.listen": f"[::1]:{server.port}"})
    server.start()
    assert coap.connected("dev-1", server_address="::1").reading(1).code == "2.01"


# --- The end ---


def test_a_session_that_was_closed_is_gone(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    assert device.reading(1).code == "2.01"
    held, _ = device.hold_request("POST", "msg/d2c", {"light": 2})
    device.close()
    received = len(device.received())
    device.send(held.bytes, times=3)
    coap.stored()
    assert coap.readings("dev-1") == [1]
    assert len(device.received()) == received


def test_a_session_without_a_request_is_closed(coap):
    coap.psk("dev-1")
    coap.started({"coap.silent_timeout_s": 5})
    device = coap.connected("dev-1")
    assert device.closed(timeout=20) is not None


def test_a_session_that_never_says_who_it_is_is_closed(coap):
    coap.started({"coap.authentication_timeout_s": 5})
    device = coap.connected(None)
    for _ in range(100):
        try:
            device.get("time")
        except ClientError as error:
            assert error.what in ("closed", "no_session")
            break
        if device.closed(timeout=0.2):
            break
    else:
        raise AssertionError("it was never closed")
