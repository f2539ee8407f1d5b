# SPDX-License-Identifier: Apache-2.0
"""Messages down to CoAP devices (docs/downlink.md): the queue's head by GET, what acknowledges it, Observe, the hint
on uplinks; and what is lost (nothing) and said twice when the network or a process fails."""

import base64
import contextlib
import statistics
import time

import psycopg2
import pytest
from harness.coap_client import CBOR, JSON, OCTET_STREAM, TEXT, ClientError
from harness.mqtt import eventually

HINT = b"\xa1\x63c2d\xf5"


def send(coap, device, payload, subtopic=None, format=None, expires=None):
    """Its ETag."""
    payload = payload.encode() if isinstance(payload, str) else payload
    ((id,),) = coap.query(
        "insert into downlink (device, payload, subtopic, format, expires_at)"
        " values (%s, %s, %s, %s, case %s when 'infinity' then 'infinity' else now() + %s::interval end) returning id",
        device, psycopg2.Binary(payload), subtopic, format, expires, None if expires == "infinity" else expires,
    )
    return id.to_bytes(8, "big").lstrip(b"\0")


def waiting(coap, device="dev-1"):
    """What waits for it, oldest first."""
    rows = coap.query("select payload from downlink where device = %s and delivered_at is null order by id", device)
    return [bytes(payload) for (payload,) in rows]


def wait_delivered(coap, device="dev-1", timeout=15):
    eventually(lambda: not waiting(coap, device), timeout, "that all is marked as delivered")
    assert coap.query("select distinct delivered_over from downlink where device = %s", device) == [("coap",)]


def ready(coap, *ids, settings=None, **options):
    """A server, and these devices connected; one, or a list."""
    coap.started(settings, **options)
    coap.psk(*ids)
    coap.in_force()
    devices = []
    for id in ids:
        devices.append(coap.connected(id))
        # At once: a session that has said nothing yet is the first to go when contexts are short.
        coap.documents_ready(devices[-1])
    return devices[0] if len(devices) == 1 else devices


def told(device, timeout=10):
    """The next notification's payload and ETag."""
    n = device.notification(timeout=timeout)
    assert n is not None, "no notification"
    assert (n.code, n.type) == ("2.05", "CON"), n
    return n.payload, n.etag


def assert_nothing(answer):
    assert (answer.code, answer.payload, answer.etag, answer.format) == ("2.05", b"", None, None), answer


# --- GET and what acknowledges ---


def test_the_oldest_message_is_got_until_its_etag_says_that_the_device_has_it(coap):
    device = ready(coap, "dev-1")
    assert_nothing(device.get("msg/c2d"))
    tags = [send(coap, "dev-1", f'{{"led": {i}}}') for i in range(3)]
    for _ in range(2):
        first = device.get("msg/c2d")
        assert (first.code, first.payload, first.etag, first.format) == ("2.05", b'{"led": 0}', tags[0], JSON)
        assert len(waiting(coap)) == 3
    second = device.get("msg/c2d", etag=tags[0])
    assert (second.payload, second.etag) == (b'{"led": 1}', tags[1])
    assert len(waiting(coap)) == 2
    assert device.get("msg/c2d", etag=tags[0]).etag == tags[1]
    assert device.get("msg/c2d", etag=tags[1]).etag == tags[2]
    assert_nothing(device.get("msg/c2d", etag=tags[2]))
    wait_delivered(coap)
    assert_nothing(device.get("msg/c2d", etag=tags[2]))


def test_an_etag_of_something_else_acknowledges_nothing(coap):
    device, other = ready(coap, "dev-1", "dev-2")
    mine, theirs = send(coap, "dev-1", b"1"), send(coap, "dev-2", b"2")
    for etag in (theirs, b"\0" + mine, b"\xff" * 8, b"\x7f" + b"\xff" * 7, device.get("state").etag):
        assert device.get("msg/c2d", etag=etag).etag == mine
    assert waiting(coap, "dev-2") == [b"2"]
    assert other.get("msg/c2d").payload == b"2"


def test_delete_with_if_match_acknowledges(coap):
    device = ready(coap, "dev-1")
    tags = [send(coap, "dev-1", str(i)) for i in range(2)]
    assert device.delete("msg/c2d").code == "4.00"
    assert device.delete("msg/c2d", if_match=b"").code == "4.00"
    assert device.delete("msg/c2d", if_match=b"\x55" * 3).code == "4.12"
    assert len(waiting(coap)) == 2
    for _ in range(2):
        assert device.delete("msg/c2d", if_match=tags[0]).code == "2.02"
    assert device.get("msg/c2d").etag == tags[1]


def test_the_acknowledgement_of_a_separate_answer_acknowledges(coap):
    device = ready(coap, "dev-1")
    tag = send(coap, "dev-1", b"late")
    with coap.postgres.connect(dbname=coap.database) as connection, connection.cursor() as cursor:
        connection.autocommit = False
        # The function waits for this, longer than an acknowledgement waits for its answer.
        cursor.execute("lock table fieldgate.downlink")
        pending = device.start("GET", "msg/c2d")
        time.sleep(0.8)
        connection.rollback()
    answer = pending.wait()
    assert answer.separate and (answer.payload, answer.etag) == (b"late", tag)
    wait_delivered(coap)


def test_a_path_below_is_a_subtopic_and_the_envelope_says_which(coap):
    device = ready(coap, "dev-1")
    plain, led, deep = send(coap, "dev-1", "0"), send(coap, "dev-1", "1", "led"), send(coap, "dev-1", b"\2\xff", "a/b")
    assert device.get("msg/c2d").etag == plain
    assert device.get("msg/c2d/led").etag == led
    assert device.get("msg/c2d/a/b").etag == deep
    assert_nothing(device.get("msg/c2d/a"))
    assert_nothing(device.get("msg/c2d/led", etag=led))
    envelope = device.get("msg/c2d", query="envelope", etag=plain)
    assert (envelope.etag, envelope.format) == (deep, CBOR)
    id = int.from_bytes(deep, "big")
    ((created, expires),) = coap.query(
        "select extract(epoch from created_at), extract(epoch from expires_at) from downlink where id = %s", id
    )
    times = b"\x6acreated_at\x1a" + int(created).to_bytes(4, "big") + b"\x6aexpires_at\x1a" + int(expires).to_bytes(4, "big")
    assert envelope.payload == (
        b"\xa6\x62id" + bytes([id]) + b"\x65topic\x67c2d/a/b" + times + b"\x66format\x18\x2a\x67payload\x42\2\xff"
    )
    as_json = device.get("msg/c2d/a/b", query="envelope", accept=JSON)
    assert as_json.format == JSON
    assert as_json.json == {
        "id": id, "topic": "c2d/a/b", "created_at": int(created), "expires_at": int(expires), "format": OCTET_STREAM,
        "payload_base64url": base64.urlsafe_b64encode(b"\2\xff").decode().rstrip("="),
    }
    for payload, format, shown in (('{"a": [1]}', JSON, {"a": [1]}), ("on", TEXT, "on")):
        deep = send(coap, "dev-1", payload, "a/b", expires="infinity")
        got = device.get("msg/c2d/a/b", query="envelope", accept=JSON, etag=as_json.etag)
        assert abs(got.json["created_at"] - time.time()) < 60
        expected = {"id": int.from_bytes(deep, "big"), "topic": "c2d/a/b", "format": format, "payload": shown}
        assert {k: v for k, v in got.json.items() if k != "created_at"} == expected
        as_json = got
    assert device.get("msg/c2d", query="envelope", accept=TEXT).code == "4.06"


def test_what_is_not_acceptable_is_said_and_stays(coap):
    device = ready(coap, "dev-1")
    tag = send(coap, "dev-1", '{"a": 1}')
    assert device.get("msg/c2d", accept=CBOR).code == "4.06"
    assert device.get("msg/c2d", accept=JSON).etag == tag
    assert device.observe("msg/c2d", accept=CBOR).code == "4.06"
    assert waiting(coap) == [b'{"a": 1}']


def test_expired_messages_never_come(coap):
    device = ready(coap, "dev-1")
    send(coap, "dev-1", "old", expires="-1 second")
    soon = send(coap, "dev-1", "soon", expires="2 seconds")
    later = send(coap, "dev-1", "later")
    assert device.get("msg/c2d").etag == soon
    time.sleep(2.1)
    assert device.get("msg/c2d").etag == later
    assert_nothing(device.get("msg/c2d", etag=later))
    assert device.observe("msg/c2d").observe is not None
    send(coap, "dev-1", "old", expires="-1 second")
    assert device.notification(timeout=1) is None


# --- Rights ---


def test_the_right_to_receive_is_needed_for_each_subtopic(coap):
    coap.started()
    coap.policy("little", ("receive", "m/d/${device}/c2d"), ("receive", "m/d/${device}/c2d/yes"), ("receive", "m/d/${device}/state"))
    coap.psk("dev-1", policy="little")
    coap.in_force()
    device = coap.connected("dev-1")
    coap.documents_ready(device)
    assert device.get("msg/c2d/no").code == "4.03"
    assert device.delete("msg/c2d/no", if_match=b"\1").code == "4.03"
    assert_nothing(device.get("msg/c2d/yes"))
    send(coap, "dev-1", "secret", "no")
    assert device.get("msg/c2d").code == "4.03"
    assert device.observe("msg/c2d").code == "4.03"
    yes = send(coap, "dev-1", "1", "yes")
    assert device.get("msg/c2d/yes").etag == yes
    assert_nothing(device.observe("msg/c2d/yes", etag=yes))
    coap.query("delete from policy_rule where filter like '%%/yes'")
    eventually(lambda: device.get("msg/c2d/yes").code == "4.03", 5, "the change of the policy")
    send(coap, "dev-1", "2", "yes")
    last = device.notification()
    assert last.code == "4.03" and last.observe is None
    assert waiting(coap) == [b"secret", b"2"]


def test_a_suspended_device_gets_nothing(coap):
    device = ready(coap, "dev-1")
    assert_nothing(device.observe("msg/c2d"))
    coap.set_state("dev-1", "suspended")
    assert device.closed(timeout=6)
    tag = send(coap, "dev-1", "x")
    assert device.notification(timeout=1) is None
    assert waiting(coap) == [b"x"]
    coap.set_state("dev-1", "active")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.observe("msg/c2d").etag == tag


# --- Observe ---


def test_an_observer_gets_each_message_as_it_has_acknowledged_the_last(coap):
    device = ready(coap, "dev-1")
    assert_nothing(device.observe("msg/c2d"))
    tags = [send(coap, "dev-1", str(i)) for i in range(20)]
    got = [told(device) for _ in tags]
    assert got == [(str(i).encode(), tag) for i, tag in enumerate(tags)]
    wait_delivered(coap)
    assert device.notification(timeout=1) is None
    assert_nothing(device.get("msg/c2d"))


def test_a_message_that_is_to_be_sent_once_more_is_sent_to_its_observer(coap):
    device = ready(coap, "dev-1")
    assert_nothing(device.observe("msg/c2d"))
    tag = send(coap, "dev-1", "again")
    for _ in range(3):
        assert told(device) == (b"again", tag)
        wait_delivered(coap)
        assert device.notification(timeout=0.5) is None
        coap.query("update downlink set delivered_at = null")


def test_a_registration_brings_what_waits_and_its_acknowledgement_is_enough(coap):
    device = ready(coap, "dev-1")
    tags = [send(coap, "dev-1", str(i)) for i in range(3)]
    first = device.observe("msg/c2d")
    assert first.separate and first.observe is not None
    assert (first.payload, first.etag) == (b"0", tags[0])
    assert [told(device) for _ in range(2)] == [(b"1", tags[1]), (b"2", tags[2])]
    wait_delivered(coap)


def test_what_is_not_acknowledged_is_not_delivered_and_comes_again(coap):
    device = ready(coap, "dev-1")
    assert_nothing(device.observe("msg/c2d"))
    device.answers("none")
    tag = send(coap, "dev-1", "x")
    assert told(device) == (b"x", tag)
    assert waiting(coap) == [b"x"]
    device.answers("reset")
    # RFC 7641 section 3.6: that was the end of the observation, and of nothing else.
    eventually(lambda: device.client.take_event("repeat", 0.1, device=device.name), 10, "its retransmission")
    device.answers("normal")
    send(coap, "dev-1", "y")
    assert device.notification(timeout=1) is None
    assert waiting(coap) == [b"x", b"y"]
    assert device.observe("msg/c2d").etag == tag
    assert told(device)[0] == b"y"
    wait_delivered(coap)


def test_several_observations_of_one_device(coap):
    one = ready(coap, "dev-1")
    two = coap.connected("dev-1")
    assert_nothing(one.observe("msg/c2d/a"))
    assert_nothing(one.observe("msg/c2d/b", query="envelope", accept=JSON))
    assert_nothing(two.observe("msg/c2d"))
    a = send(coap, "dev-1", "for a", "a")
    assert told(one) == (b"for a", a)
    assert told(two) == (b"for a", a)
    b = send(coap, "dev-1", "for b", "b")
    wait_delivered(coap)
    # One that is asked when the other was acknowledged has nothing to tell.
    of_one, of_two = one.notification(timeout=1), two.notification(timeout=1)
    assert of_one or of_two
    if of_one:
        assert (of_one.json["topic"], of_one.etag) == ("c2d/b", b)
    if of_two:
        assert (of_two.payload, of_two.etag) == (b"for b", b)


def test_two_workers_tell_the_observers_of_either(coap):
    coap.started({"coap.workers": 2})
    coap.psk("dev-1", "dev-2")
    coap.in_force()
    for id in ("dev-1", "dev-2"):
        sessions = {}
        for _ in range(64):
            device = coap.connected(id)
            sessions.setdefault(device.peer_cid[:1], device)
            if len(sessions) == 2:
                break
        for device in sessions.values():
            coap.documents_ready(device)
            assert_nothing(device.observe("msg/c2d"))
        tag = send(coap, id, "x")
        wait_delivered(coap, id)
        # Who asks for it when the other's device has acknowledged it finds nothing.
        told_of = [n for device in sessions.values() if (n := device.notification(timeout=1))]
        assert {(n.payload, n.etag) for n in told_of} == {(b"x", tag)}
        # Both have heard of it, and each has found out by itself that it is gone.
        for device in sessions.values():
            eventually(lambda d=device: d.telemetry(1).payload == b"", 5, "the end of the hint")


def test_a_parked_session_is_woken_for_a_message(coap):
    devices = ready(coap, *(f"dev-{i}" for i in range(20)), settings={"coap.live_contexts": 16})
    for device in devices:
        assert_nothing(device.observe("msg/c2d"))
    for i, device in enumerate(devices):
        tag = send(coap, f"dev-{i}", str(i))
        assert told(device) == (str(i).encode(), tag)
        wait_delivered(coap, f"dev-{i}")


# --- Large ones ---


@pytest.mark.parametrize("size", [1024, 1025, 1800])
def test_a_message_in_blocks_has_one_etag_and_is_delivered_only_as_a_whole(coap, size):
    device = ready(coap, "dev-1")
    payload = bytes(i * 7 % 256 for i in range(size))
    tag = send(coap, "dev-1", payload)
    # The client compares the ETags of all blocks.
    got = device.get("msg/c2d")
    assert (got.payload, got.etag, got.format) == (payload, tag, OCTET_STREAM)
    assert device.get("msg/c2d", block=64).payload == payload
    assert waiting(coap) == [payload]
    assert_nothing(device.observe("msg/c2d", etag=tag))
    wait_delivered(coap)

    tag = send(coap, "dev-1", payload)
    part, etag = told(device)
    assert (part, etag) == (payload[:1024], tag)
    time.sleep(0.5)
    if size > 1024:
        assert waiting(coap) == [payload]
        assert device.get("msg/c2d").payload == payload
        assert_nothing(device.get("msg/c2d", etag=tag))
    wait_delivered(coap)


def test_a_message_that_is_too_long_is_refused_where_it_is_sent(coap):
    with pytest.raises(psycopg2.Error, match="the message for dev-1 has 100000 bytes; it may have 1800"):
        coap.psk("dev-1")
        send(coap, "dev-1", b"x" * 100000)
    coap.query("update setting set value = 100000 where name = 'downlink_max_bytes'")
    device = ready(coap, "dev-2")
    payload = bytes(i * 7 % 256 for i in range(100000))
    tag = send(coap, "dev-2", payload)
    got = device.get("msg/c2d")
    assert (got.payload, got.etag) == (payload, tag)
    assert_nothing(device.get("msg/c2d", etag=tag))


# --- The hint ---


def test_an_uplinks_answer_says_that_a_message_waits(coap):
    device = ready(coap, "dev-1")
    assert device.telemetry(1).payload == b""
    tag = send(coap, "dev-1", "x")
    eventually(lambda: device.telemetry(2).payload, 5, "the hint")
    for answer, code in (
        (device.telemetry(3), "2.01"),
        (device.put("msg/d2c/bulk", [{"light": 1}]), "2.04"),
        (device.patch("state/reported", {"a": 1}), "2.04"),
        (device.put("store/v", b"1"), "2.01"),
    ):
        assert (answer.code, answer.payload, answer.format) == (code, HINT, CBOR)
    answer = device.post("msg/d2c", {"light": 1}, accept=JSON)
    assert (answer.code, answer.payload, answer.format) == ("2.01", b'{"c2d":true}', JSON)
    assert device.post("msg/d2c", {"light": 1}, accept=TEXT).payload == b""
    assert device.post("msg/d2c", b"\xff", format=CBOR).code == "4.00"
    assert device.get("msg/c2d").etag == tag
    assert device.telemetry(4).payload == HINT
    assert_nothing(device.get("msg/c2d", etag=tag))
    assert device.telemetry(5).payload == b""


def test_the_hint_needs_no_database(coap):
    device = ready(coap, "dev-1")
    send(coap, "dev-1", "x")
    eventually(lambda: device.telemetry(1).payload, 5, "the hint")
    coap.pause_database()
    began = time.monotonic()
    assert device.telemetry(2).payload == HINT
    assert time.monotonic() - began < 5
    coap.start_database()
    coap.stop_database()
    eventually(lambda: device.get("msg/c2d").code == "5.03", 15, "that the outage is seen")
    assert device.telemetry(3).payload == HINT
    coap.start_database()
    eventually(lambda: device.get("msg/c2d").payload == b"x", 30, "the connection to the database")


def test_a_device_that_wakes_up_now_and_then_gets_what_has_come_meanwhile(coap):
    device = ready(coap, "dev-1")
    sent, got = [], []
    for wake in range(4):
        for i in range(wake):
            sent.append(f"{wake}.{i}".encode())
            send(coap, "dev-1", sent[-1])
        time.sleep(1)
        if device.telemetry(wake).payload != HINT:
            continue
        answer = device.get("msg/c2d")
        while answer.etag:
            got.append(answer.payload)
            answer = device.get("msg/c2d", etag=answer.etag)
    assert got == sent
    wait_delivered(coap)


# --- Failures ---


class Listener:
    """A device as it should be: it registers again when it has heard nothing for a while, and knows by the ETag what
    it has. `got` counts what it took for new, `repeats` what came again with an ETag that it knew."""

    def __init__(self, device):
        self.device, self.got, self.tags, self.repeats = device, [], set(), []
        self.token = None

    def take(self, message):
        if message.code != "2.05" or message.etag is None:
            return
        if message.etag in self.tags:
            self.repeats.append(message.payload)
            return
        self.tags.add(message.etag)
        self.got.append(message.payload)

    def register(self):
        try:
            answer = self.device.observe("msg/c2d", token=self.token, timeout_ms=10000, ack_timeout_ms=500)
        except ClientError:
            return
        self.token = answer.token
        self.take(answer)

    def listen(self, done, timeout, patience=3):
        deadline = time.monotonic() + timeout
        while not done() and time.monotonic() < deadline:
            message = self.device.notification(timeout=patience)
            if message is None:
                self.register()
            else:
                self.take(message)
        assert done(), (self.got, self.repeats)


def test_a_lossy_network_loses_nothing_and_keeps_the_order(coap):
    device = ready(coap, "dev-1")
    listener = Listener(device)
    listener.register()
    bad = {"drop": 0.2, "duplicate": 0.2, "reorder": 0.2, "delay_ms": 30}
    device.impair(seed=7, sent=bad, received=bad)
    sent = [str(i).encode() for i in range(12)]
    for payload in sent:
        send(coap, "dev-1", payload)
    listener.listen(lambda: not waiting(coap), 240, patience=20)
    assert listener.got == sent
    assert device.stats()["rejected"] >= 0


def test_a_killed_server_loses_nothing(coap):
    device = ready(coap, "dev-1")
    server = coap.server
    listener = Listener(device)
    listener.register()
    send(coap, "dev-1", "0")
    listener.listen(lambda: listener.got == [b"0"], 10)
    wait_delivered(coap)
    server.kill()
    send(coap, "dev-1", "1")
    server.start()
    coap.documents_ready(device)
    # Observations end with the process: the hint says that there is something.
    eventually(lambda: device.telemetry(1).payload == HINT, 10, "the hint")
    assert device.notification(timeout=0.5) is None
    listener.register()
    send(coap, "dev-1", "2")
    listener.listen(lambda: len(listener.got) == 3, 20)
    assert listener.got == [b"0", b"1", b"2"] and listener.repeats == []
    wait_delivered(coap)


def test_what_was_acknowledged_and_not_committed_comes_once_more(coap):
    device = ready(coap, "dev-1")
    server = coap.server
    listener = Listener(device)
    listener.register()
    device.answers("none")
    send(coap, "dev-1", "x")
    listener.take(device.notification())
    coap.stop_database("immediate")
    device.answers("normal")
    # Its retransmission is acknowledged, and the database does not hear of it.
    assert device.client.take_event("repeat", 15, device=device.name)
    time.sleep(0.5)
    server.kill()
    coap.start_database()
    server.start()
    coap.documents_ready(device)
    assert waiting(coap) == [b"x"]
    listener.listen(lambda: not waiting(coap), 20, patience=1)
    assert (listener.got, listener.repeats) == ([b"x"], [b"x"])


def test_an_acknowledgement_survives_an_outage_of_the_database(coap):
    """The observation remembers what was acknowledged while the database was away."""
    device = ready(coap, "dev-1")
    listener = Listener(device)
    listener.register()
    device.answers("none")
    send(coap, "dev-1", "x")
    listener.take(device.notification())
    coap.stop_database("immediate")
    eventually(lambda: device.get("state").code == "5.03", 15, "that the outage is seen")
    device.answers("normal")
    assert device.client.take_event("repeat", 15, device=device.name)
    coap.start_database()
    wait_delivered(coap, timeout=30)
    send(coap, "dev-1", "y")
    assert told(device, timeout=15)[0] == b"y"
    wait_delivered(coap)
    assert listener.repeats == [] and device.notification(timeout=1) is None


def test_a_killed_database_loses_nothing_and_observations_go_on(coap):
    device = ready(coap, "dev-1")
    assert_nothing(device.observe("msg/c2d"))
    sent = []
    for i in range(3):
        sent.append(f"before {i}".encode())
        send(coap, "dev-1", sent[-1])
    got = [told(device)[0] for _ in sent]
    wait_delivered(coap)
    coap.stop_database("immediate")
    time.sleep(1)
    coap.start_database()
    send(coap, "dev-1", "after")
    assert told(device, timeout=30)[0] == b"after"
    assert got == sent
    wait_delivered(coap)
    assert device.notification(timeout=1) is None


# --- How long it takes ---


def test_latency_from_the_row_to_the_device_is_printed(coap):
    device = ready(coap, "dev-1")
    assert_nothing(device.observe("msg/c2d"))
    took = []
    with contextlib.closing(coap.postgres.connect(dbname=coap.database)) as connection, connection.cursor() as cursor:
        for i in range(200):
            began = time.monotonic()
            cursor.execute("insert into downlink (device, payload) values ('dev-1', %s)", (str(i),))
            assert told(device)[0] == str(i).encode()
            took.append((time.monotonic() - began) * 1000)
    print(f"insert to device, ms: median {statistics.median(took):.1f}, p95 {sorted(took)[190]:.1f}, longest {max(took):.1f}")
    wait_delivered(coap)
