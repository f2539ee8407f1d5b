# SPDX-License-Identifier: Apache-2.0
"""The CoAP server, killed: sessions, what was acknowledged, and record numbers survive. The load writes down
what it has sent and what was acknowledged; that is held against PostgreSQL."""

import time

import pytest
from harness.coap_client import ClientError
from harness.load import CoapLoad, acknowledged, load_line


def load(coap, devices, directory, **options):
    """A load of these devices (what psk, jwt_key or devices made), which waits for go()."""
    lines = [load_line(d) for d in devices]
    return CoapLoad(
        directory, coap.server.port, lines, ca=coap.fleet.ca, host="localhost", wait=True, **options
    )


def stored(coap, prefix):
    """(device, seq) of every row; asserts that there is one of each."""
    rows = coap.query("select device, seq from telemetry where device like %s", prefix + "%")
    assert len(rows) == len(set(rows)), "something is stored twice"
    return set(rows)


@pytest.mark.parametrize("workers", [1, 3])
def test_sigkill_under_load_needs_no_handshake_and_repeats_no_nonce(coap, workers, tmp_path):
    devices = coap.psk(*(f"load-{i}" for i in range(60)))
    coap.started({"coap.workers": workers})
    coap.in_force()
    with load(coap, devices, tmp_path / "load", rate=400, seconds=9, timestamp=True) as running:
        running.ready()
        running.go()
        for _ in range(3):
            time.sleep(2)
            coap.server.kill()
            coap.server.start()
        figures = running.wait()
    assert figures["handshakes"] == figures["handshakes_again"] == figures["closed_by_server"] == 0
    assert figures["nonces_reused"] == 0
    # It was felt, and everything was acknowledged in the end.
    assert figures["retransmissions"] > 0
    assert figures["unacknowledged"] == figures["refused"] == 0
    assert set(figures["codes"]) <= {"2.01", "5.03"}
    expected = acknowledged(tmp_path / "load" / "acked")
    assert len(expected) == figures["acknowledged"]
    assert expected == acknowledged(tmp_path / "load" / "sent")
    coap.stored()
    assert stored(coap, "load-") == expected


def test_sigkill_of_a_worker_under_load_needs_no_handshake_and_repeats_no_nonce(coap, tmp_path):
    devices = coap.psk(*(f"load-{i}" for i in range(60)))
    coap.started({"coap.workers": 2})
    coap.in_force()
    with load(coap, devices, tmp_path / "load", rate=400, seconds=8, timestamp=True) as running:
        running.ready()
        running.go()
        for number in range(4):
            time.sleep(1.5)
            coap.server.kill_worker(number % 2)
        figures = running.wait()
    assert figures["handshakes"] == figures["closed_by_server"] == figures["nonces_reused"] == 0
    assert figures["unacknowledged"] == figures["refused"] == 0
    expected = acknowledged(tmp_path / "load" / "acked")
    assert expected == acknowledged(tmp_path / "load" / "sent")
    coap.stored()
    assert stored(coap, "load-") == expected


def test_sigkill_in_the_middle_of_parking_and_waking(coap, tmp_path):
    """With a handful of contexts nearly every message parks one session and wakes another. Handshakes need
    contexts too, until the first request: so not more of them at a time."""
    devices = coap.psk(*(f"load-{i}" for i in range(200)))
    coap.started({"coap.live_contexts": 16})
    coap.in_force()
    options = {"rate": 1000, "in_flight": 50, "handshaking": 8, "seconds": 9, "timestamp": True}
    with load(coap, devices, tmp_path / "load", **options) as running:
        running.ready()
        running.go()
        for _ in range(3):
            time.sleep(2)
            coap.server.kill()
            coap.server.start()
        figures = running.wait()
    assert figures["handshakes"] == figures["closed_by_server"] == figures["nonces_reused"] == 0
    assert figures["unacknowledged"] == figures["refused"] == 0
    coap.stored()
    assert stored(coap, "load-") == acknowledged(tmp_path / "load" / "acked")


def test_identities_of_every_kind_survive_a_crash(coap, tmp_path):
    devices = [coap.psk("dev-psk"), coap.jwt_key("dev-jwt"), *coap.devices("dev-cert").values()]
    coap.started()
    sessions = [coap.connected(d) for d in devices]
    for session in sessions:
        assert session.reading(1).code == "2.01"
    coap.server.kill()
    coap.server.start()
    for device, session in zip(devices, sessions):
        assert session.reading(2).code == "2.01"
        coap.wait_readings(device.id, [1, 2])


@pytest.mark.parametrize("cid", [True, False])
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_session_survives_the_process(coap, cid, how):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1", cid=cid)
    for seq in range(1, 4):
        assert device.reading(seq).code == "2.01"
        getattr(coap.server, how)()
        coap.server.start()
        if cid:
            device.rebind()
    assert device.reading(4).code == "2.01"
    coap.wait_readings("dev-1", [1, 2, 3, 4])


def test_an_old_record_is_a_replay_after_a_crash_too(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    for value in (1, 2, 3):
        assert device.reading(value).code == "2.01"
    records = [datagram.bytes for datagram in device.sent()[-3:]]
    coap.server.kill()
    coap.server.start()
    received = len(device.received())
    for record in records:
        device.send(record, times=3)
    assert device.reading(4).code == "2.01"
    coap.stored()
    assert coap.readings("dev-1") == [1, 2, 3, 4]
    assert len(device.received()) == received + 1


def test_a_post_whose_answer_was_lost_in_the_crash_runs_once(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1")
    answer = device.reading(1)
    coap.server.kill()
    coap.server.start()
    for _ in range(3):
        device.raw(bytes.fromhex(answer.message))
        again = device.message()
        assert (again.code, again.mid) == ("2.01", answer.mid)
    coap.stored()
    assert coap.readings("dev-1") == [1]


def test_a_session_that_moved_before_the_crash_is_where_it_moved_to(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.connected("dev-1", cid=True)
    assert device.reading(1).code == "2.01"
    old = device.rebind(keep=True)
    assert device.reading(2).code == "2.01"
    coap.server.kill()
    coap.server.start()
    # The restored server closes the session: it tells whom it believes to be there.
    coap.set_state("dev-1", "revoked")
    assert device.closed(timeout=15) is not None
    assert old.received(timeout=0) is None


def test_a_handshake_under_way_ends_with_the_process_and_succeeds_anew(coap):
    coap.psk("dev-1")
    coap.started()
    device = coap.device("dev-1")
    device.stop_handshake_after(4)
    coap.server.kill()
    coap.server.start()
    # Half a handshake is not kept; nothing of it is answered.
    with pytest.raises(ClientError, match="handshake"):
        device.handshake(go_on=True, timeout_ms=3000)
    device.handshake()
    assert device.reading(1).code == "2.01"
    coap.wait_readings("dev-1", [1])


def test_without_a_directory_for_sessions_a_device_shakes_hands_again(coap, tmp_path):
    devices = coap.psk(*(f"load-{i}" for i in range(20)))
    coap.started({"coap.sessions_dir": None})
    coap.in_force()
    options = {"rate": 100, "seconds": 4, "ack_timeout_ms": 300, "max_retransmit": 2}
    with load(coap, devices, tmp_path / "load", timestamp=True, **options) as running:
        running.ready()
        running.go()
        time.sleep(2)
        coap.server.kill()
        coap.server.start()
        figures = running.wait()
    assert figures["handshakes"] == len(devices)
    assert figures["nonces_reused"] == figures["unacknowledged"] == 0
    coap.stored()
    assert stored(coap, "load-") == acknowledged(tmp_path / "load" / "acked")
