# SPDX-License-Identifier: Apache-2.0
"""The process around DTLS and CoAP: start, settings, signals, workers, journals; who may ask; presence."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from harness.coap import FIELDGATE_COAP
from harness.coap_client import CBOR, JSON, OCTET_STREAM, SENML_JSON, TEXT, ClientError
from harness.mqtt import eventually


def rows(coap, device):
    return coap.query(
        "select seq, temperature, extra, subtopic from telemetry where device = %s order by received_at", device
    )


# --- From the handshake to the row ---


def test_a_device_with_psk_becomes_a_row(coap):
    coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.post("msg/d2c", {"seq": 1, "temperature": 21.5}).code == "2.01"
    coap.wait_seqs("dev-1", [1])
    assert rows(coap, "dev-1") == [(1, 21.5, None, None)]


def test_a_device_with_jwt_becomes_a_row(coap):
    coap.started()
    coap.jwt_key("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.put("msg/d2c", {"seq": 1, "temperature": 21.5}).code == "2.04"
    coap.wait_seqs("dev-1", [1])


def test_a_device_with_certificate_becomes_a_row(coap):
    coap.started()
    coap.devices("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    coap.wait_seqs("dev-1", [1])


# --- Settings ---

BUS = {
    "bus.host": "broker.example",
    "bus.ca_file": "/nonexistent/ca.pem",
    "bus.certificate_file": "/nonexistent/cert.pem",
    "bus.key_file": "/nonexistent/key.pem",
}


def check(server):
    return subprocess.run(
        [FIELDGATE_COAP, "--check", server.config_file], text=True, capture_output=True, timeout=60, check=False
    )


def test_check_says_that_settings_are_in_order(coap):
    server = coap.new_server()
    result = check(server)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{server.config_file} is in order\n"


@pytest.mark.parametrize(
    "settings,texts",
    [
        ({"coap.key_file": None}, ["coap.key_file is not", "private key"]),
        (
            {"coap.certificate_file": None, "coap.client_ca_file": None},
            ["coap.key_file is set, coap.certificate_file is not"],
        ),
        ({"coap.certificate_file": None, "coap.key_file": None}, ["coap.client_ca_file is set"]),
        (
            {
                "coap.certificate_file": None,
                "coap.key_file": None,
                "coap.client_ca_file": None,
                "secrets.key_file": None,
            },
            ["neither coap.certificate_file nor secrets.key_file"],
        ),
        ({"coap.certificate_file": "/nonexistent/chain.pem"}, ["/nonexistent/chain.pem"]),
        ({"coap.key_file": "/nonexistent/key.pem"}, ["/nonexistent/key.pem"]),
        ({"coap.client_ca_file": "/nonexistent/ca.pem"}, ["/nonexistent/ca.pem"]),
        ({"secrets.key_file": "/nonexistent/secrets"}, ["/nonexistent/secrets"]),
        ({"coap.sessions_dir": "/var/tmp"}, ["/var/tmp is not on tmpfs", "/dev/shm"]),
        ({"coap.sessions_dir": "/dev/shm/no/such"}, ["coap.sessions_dir: /dev/shm/no/such"]),
        ({"coap.sessions_dir": "/dev/shm"}, ["/dev/shm"]),
        ({"coap.suites": "PSK-AES128-CCM8 NO-SUCH-SUITE"}, ["NO-SUCH-SUITE"]),
        ({"coap.keylog_device": "dev-1"}, ["coap.keylog_device and coap.keylog_file need each other"]),
        ({"bus.host": "broker.example"}, ["bus.host is set, bus.ca_file is not", "set all, or none"]),
        ({"bus.key_file": "/etc/key.pem"}, ["bus.key_file is set, bus.host is not"]),
        ({**BUS, "bus.certificate_file": "/nonexistent/cert.pem"}, ["bus.ca_file: /nonexistent/ca.pem: No such file"]),
        ({"coap.worker": "2"}, ["fieldgate.conf:", "there is no setting coap.worker"]),
        ({"coap.workers": "0"}, ["coap.workers = 0", "from 1 to 64"]),
    ],
)
@pytest.mark.parametrize("how", ["check", "start"])
def test_bad_settings_are_one_clear_line(coap, settings, texts, how):
    server = coap.new_server(settings)
    result = subprocess.run(
        [FIELDGATE_COAP, *(["--check"] if how == "check" else []), server.config_file],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    lines = [line for line in result.stderr.splitlines() if "event=running_as_root" not in line]
    assert result.returncode == 1
    assert len(lines) == 1, result.stderr
    for text in texts:
        assert text in lines[0]


def test_a_certificate_with_another_key_is_refused(coap):
    other = coap.fleet.server("other.example")
    server = coap.new_server({"coap.key_file": other.key})
    result = check(server)
    assert result.returncode == 1
    assert str(other.key) in result.stderr


def test_the_services_key_must_fit_its_certificate(coap):
    (service,) = coap.fleet.add("bus-service", service=True)
    other = coap.fleet.server("other.example")
    bus = {"bus.host": "localhost", "bus.ca_file": coap.fleet.ca, "bus.certificate_file": service.cert}
    result = check(coap.new_server({**bus, "bus.key_file": other.key}))
    assert result.returncode == 1
    assert f"bus.key_file: {other.key}: key values mismatch" in result.stderr
    result = check(coap.new_server({**bus, "bus.key_file": service.key}))
    assert result.returncode == 0, result.stderr


def test_sessions_that_others_may_read_are_refused(coap):
    server = coap.new_server()
    server.sessions_dir.chmod(0o755)
    result = check(server)
    assert result.returncode == 1
    assert f"chmod 0700 {server.sessions_dir}" in result.stderr


def test_usage(coap):
    for arguments in ([], ["--version", "x"], ["--help"], ["a", "b", "c"]):
        result = subprocess.run([FIELDGATE_COAP, *arguments], text=True, capture_output=True, timeout=60, check=False)
        assert result.returncode == 2
        assert result.stderr.startswith("usage: fieldgate-coap [--check] FILE")


def test_a_port_in_use_is_one_clear_line(coap):
    first = coap.started()
    second = coap.new_server(port=first.port)
    with pytest.raises(RuntimeError, match=f"event=start_failed .*{first.port}: another program has this port"):
        second.start()


def test_a_journal_in_use_ends_the_start(coap):
    first = coap.started()
    second = coap.new_server({"state.dir": first.state_dir})
    with pytest.raises(RuntimeError, match="event=worker_start .*/coap/journal is in use by process"):
        second.start()
    assert first.running()


# --- Signals ---


def stop_and_measure(server):
    began = time.monotonic()
    assert server.stop(timeout=20) == 0
    return time.monotonic() - began


def test_sigterm_parks_and_ends_and_the_next_start_goes_on(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    device.telemetry(1)
    assert stop_and_measure(server) < 3
    server.start()
    assert device.telemetry(2).code == "2.01"
    coap.wait_seqs("dev-1", [1, 2])
    assert device.closed(timeout=0) is None


def test_sigterm_does_not_wait_for_a_database_that_is_silent(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    coap.pause_database()
    assert device.telemetry(1).code == "2.01"
    time.sleep(0.5)  # by now the transaction is under way
    assert stop_and_measure(server) < 3
    assert not server.log_lines("event=worker_killed"), server.log_tail()


def test_what_was_acknowledged_before_sigterm_is_stored_after_the_next_start(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    coap.stop_database()
    for seq in range(20):
        assert device.telemetry(seq).code == "2.01"
    server.stop()
    coap.start_database()
    server.start()
    coap.wait_seqs("dev-1", range(20))


def test_a_killed_worker_is_replaced_and_its_sessions_go_on(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    device.telemetry(1)
    since = server.log_position()
    pid = server.kill_worker()
    line = server.wait_log("event=worker_ended", since)[0]
    assert f"pid={pid}" in line and "signal 9" in line
    server.wait_log("event=coap_started", since)
    assert pid not in server.workers() and len(server.workers()) == 1
    assert device.telemetry(2).code == "2.01"
    coap.wait_seqs("dev-1", [1, 2])


def test_workers_end_with_their_supervisor(coap):
    server = coap.started({"coap.workers": 2})
    pids = server.workers()
    assert len(pids) == 2
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 10, "the end of the workers")
    server.process = None
    server.start()


def test_its_secrets_end_in_no_core_file(coap):
    server = coap.started()
    for pid in [server.pid, *server.workers()]:
        with open(f"/proc/{pid}/limits") as limits:
            assert re.search(r"^Max core file size +0 +0 ", limits.read(), re.M)


def test_sighup_changes_what_can_change_and_names_the_rest(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    device.telemetry(1)
    since = server.log_position()
    server.configure({"coap.requests_per_s": 1, "coap.requests_burst": 1, "coap.max_sessions": 100})
    server.sighup()
    server.wait_log("event=reload_incomplete .*coap.max_sessions", since)
    server.wait_log("event=reloaded", since)
    codes = [device.telemetry(seq).code for seq in range(2, 6)]
    assert "4.29" in codes


def test_sighup_with_a_bad_file_changes_nothing(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    for settings, text in (
        ({"coap.requests_per_s": "many"}, "coap.requests_per_s = many"),
        ({"coap.requests_per_s": 100, "coap.certificate_file": "/nonexistent"}, "/nonexistent"),
    ):
        since = server.log_position()
        server.configure(settings)
        server.sighup()
        lines = server.wait_log("event=reload_failed", since)
        assert text in lines[0] and "stay in force" in lines[0]
    assert not server.log_lines("event=reloaded")
    assert device.telemetry(1).code == "2.01"


def test_sighup_brings_a_new_certificate_and_a_new_master_key(coap):
    server = coap.started({"coap.certificate_file": None, "coap.key_file": None, "coap.client_ca_file": None})
    certificate, key = coap.fleet.server_files("localhost")
    coap.jwt_key("dev-1")
    coap.in_force()
    since = server.log_position()
    server.configure({"coap.certificate_file": certificate, "coap.key_file": key})
    server.sighup()
    server.wait_log("event=reloaded", since)
    assert coap.connected("dev-1").telemetry(1).code == "2.01"


# --- Journals of former workers ---


def test_fewer_workers_store_what_the_others_have_left_and_take_over_their_sessions(coap):
    server = coap.started({"coap.workers": 3})
    ids = [f"dev-{n}" for n in range(12)]
    coap.psk(*ids)
    coap.in_force()
    devices = [coap.connected(id) for id in ids]
    assert {d.peer_cid[0] for d in devices} == {0, 1, 2}
    coap.stop_database()
    for d in devices:
        assert d.telemetry(1).code == "2.01"
    server.stop()
    coap.start_database()
    since = server.log_position()
    server.configure({"coap.workers": 1})
    server.start()
    server.wait_log("event=sessions_moved", since)
    server.wait_log("event=journal_drained", since, count=2)
    for id in ids:
        coap.wait_seqs(id, [1])
    for d in devices:
        assert d.telemetry(2).code == "2.01"
    for id in ids:
        coap.wait_seqs(id, [1, 2])
    eventually(lambda: len(server.workers()) == 1, 10, "the end of the drains")
    sources = {s for (s,) in coap.query("select source from fieldgate_status")}
    assert sources == {"coap", "coap-1", "coap-2"}
    connected = coap.query("select source, count(*) from presence where connected group by source")
    assert [(s, n) for s, n in connected if s != "coap"] == []


# --- Who may ask ---


def test_before_a_device_has_said_who_it_is_only_public_resources_answer(coap):
    coap.started()
    device = coap.connected()
    assert device.get("time").code == "2.05"
    assert device.get(".well-known/core").code == "2.05"
    for method, path in (
        ("POST", "msg/d2c"),
        ("GET", "state"),
        ("GET", "no/such/thing"),
        ("PUT", "store/x"),
        ("GET", "fota/exec/current"),
    ):
        assert device.request(method, path, b"1" if method != "GET" else None).code == "4.01", path
    assert coap.value("select count(*) from telemetry") == 0


@pytest.mark.parametrize(
    "change,reason",
    [
        ("update principal set state = 'revoked' where id = 'dev-1'", "it was revoked"),
        ("update principal set state = 'suspended' where id = 'dev-1'", "it was suspended"),
        ("update credential set revoked_at = now() where principal = 'dev-1'", "its credential was revoked"),
    ],
)
def test_a_device_that_is_let_in_no_more_loses_its_session_although_it_is_silent(coap, change, reason):
    server = coap.started()
    coap.psk("dev-1", "dev-2")
    coap.in_force()
    device, other = coap.connected("dev-1"), coap.connected("dev-2")
    device.telemetry(1)
    other.telemetry(1)
    coap.query(change)
    assert device.closed(timeout=5) is not None
    lines = server.wait_log("event=session_closed device=dev-1")
    assert len(lines) == 1
    assert other.telemetry(2).code == "2.01"
    eventually(
        lambda: coap.query("select connected, reason from presence where device = 'dev-1'") == [(False, reason)],
        10,
        "presence",
    )
    with pytest.raises(ClientError):
        coap.connected("dev-1")


def test_more_requests_than_its_rate_are_told_when_to_come_again(coap):
    server = coap.started({"coap.requests_per_s": 1, "coap.requests_burst": 5})
    coap.psk("dev-1", "dev-2")
    coap.in_force()
    first, second, other = coap.connected("dev-1"), coap.connected("dev-1"), coap.connected("dev-2")
    codes = [first.get("time").code for _ in range(3)] + [second.get("time").code for _ in range(4)]
    assert codes[:5] == ["2.05"] * 5
    assert "4.29" in codes
    answer = second.get("time")
    while answer.code != "4.29":
        answer = second.get("time")
    assert 1 <= answer.max_age <= 2
    assert other.get("time").code == "2.05"
    server.wait_log("event=too_many_requests device=dev-1")


def test_a_session_without_identity_cannot_ask_for_ever(coap):
    coap.started()
    device = coap.connected()
    codes = [device.get("time").code for _ in range(60)]
    assert codes[:20] == ["2.05"] * 20
    assert codes.count("4.29") >= 20


def test_before_the_registry_is_loaded_nobody_is_judged(coap):
    coap.psk("dev-1")
    server = coap.new_server()
    coap.stop_database()
    server.start(wait_registry=False)
    answer = coap.connected().post("auth/jwt", b"x", format=TEXT)
    assert (answer.code, answer.max_age) == ("5.03", 5)
    with pytest.raises(ClientError):
        coap.connected("dev-1")
    server.wait_log("event=handshake_refused .*the registry is not loaded yet")
    coap.start_database()
    server.wait_log("event=registry_database_back", timeout=20)
    assert coap.connected("dev-1").telemetry(1).code == "2.01"


def test_a_device_keeps_a_handful_of_sessions(coap):
    coap.started()
    coap.psk("dev-1")
    coap.in_force()
    first = coap.connected("dev-1")
    first.telemetry(1)
    others = [coap.connected("dev-1") for _ in range(8)]
    assert first.closed(timeout=5) is not None
    assert all(d.get("time").code == "2.05" for d in others)


# --- Presence ---


def events(coap, device):
    return [e for (e,) in coap.query("select event from presence_event where device = %s order by at, seq", device)]


def test_presence_is_the_devices_not_the_sessions(coap):
    coap.started()
    coap.psk("dev-1")
    coap.in_force()
    first, second = coap.connected("dev-1"), coap.connected("dev-1")
    for d in (first, second, first):
        d.telemetry(1)
    first.close()
    second.telemetry(2)
    coap.stored()
    assert events(coap, "dev-1") == ["connected"]
    second.close()
    eventually(lambda: events(coap, "dev-1") == ["connected", "disconnected"], 10, "the second event")
    (row,) = coap.query("select source, client_id, connected, address from presence where device = 'dev-1'")
    assert row == ("coap", "dtls", False, "127.0.0.1")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_sessions_that_outlive_the_process_are_still_connected(coap, how):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    device.telemetry(1)
    coap.stored()
    getattr(server, how)()
    server.start()
    device.telemetry(2)
    coap.wait_seqs("dev-1", [1, 2])
    coap.stored()
    assert events(coap, "dev-1") == ["connected"]
    device.close()
    eventually(lambda: events(coap, "dev-1") == ["connected", "disconnected"], 10, "the second event")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_sessions_that_end_with_the_process_are_disconnected(coap, how):
    server = coap.started({"coap.sessions_dir": None})
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    device.telemetry(1)
    coap.stored()
    getattr(server, how)()
    server.start()
    eventually(lambda: events(coap, "dev-1") == ["connected", "disconnected"], 10, "the second event")


# --- Telemetry ---

SENML = [{"bn": "", "n": "temperature", "u": "Cel", "v": 4.5}]

TAKEN = [
    # path, payload, format, the row's temperature, extra, subtopic
    ("msg/d2c", b'{"temperature": 1.5}', JSON, 1.5, None, None),
    ("msg/d2c", b'{"temperature": 1.5}', None, 1.5, None, None),
    ("msg/d2c", b'{"temperature": 1.5}', TEXT, 1.5, None, None),
    ("msg/d2c", b'{"temperature": 1.5}', OCTET_STREAM, 1.5, None, None),
    ("msg/d2c", bytes.fromhex("a16b74656d7065726174757265f93e00"), CBOR, 1.5, None, None),
    ("msg/d2c", bytes.fromhex("a3016454454d5002f93e00031b0000019aa4b5e8c8"), CBOR, 1.5, None, None),
    ("msg/d2c", json.dumps(SENML).encode(), SENML_JSON, 4.5, {"temperature.unit": "Cel"}, None),
    ("msg/d2c", json.dumps(SENML).encode(), JSON, 4.5, {"temperature.unit": "Cel"}, None),
    ("msg/d2c/bulk", b'[{"appId": "TEMP", "data": 1.5}]', JSON, 1.5, None, "bulk"),
    ("msg/d2c/raw", b'{"temperature": 1.5}', OCTET_STREAM, 1.5, None, "raw"),
    ("msg/d2c/raw", b"hello, world", TEXT, None, {"value": "hello, world"}, "raw"),
    ("msg/d2c/raw", b"\xff\x00\xfe", TEXT, None, {"value": "_wD-"}, "raw"),
    ("msg/d2c/raw", b"\xff\x00\xfe", OCTET_STREAM, None, {"value": "_wD-"}, "raw"),
    ("msg/d2c/bin", b"\xff\x00\xfe", OCTET_STREAM, None, {"value": "_wD-"}, "bin"),
    ("msg/d2c/bin", b'{"temperature": 1.5}', OCTET_STREAM, None, {"value": "eyJ0ZW1wZXJhdHVyZSI6IDEuNX0"}, "bin"),
    ("msg/d2c/bin", bytes(range(256)) * 4, None, None, "long", "bin"),
]


def test_every_form_of_telemetry_becomes_a_row(coap):
    coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    for path, payload, form, *_ in TAKEN:
        answer = device.post(path, payload, format=form)
        assert answer.code == "2.01", (path, payload, form, answer)
    coap.stored()
    found = rows(coap, "dev-1")
    assert len(found) == len(TAKEN)
    for (path, payload, form, temperature, extra, subtopic), (_, t, x, s) in zip(TAKEN, found, strict=True):
        if extra == "long":
            assert len(x["value"]) == (len(payload) * 4 + 2) // 3
        else:
            assert (t, x, s) == (temperature, extra, subtopic), (path, payload, form)
    assert coap.value("select count(*) from dead_letter") == 0


REFUSED = [
    # path, payload, format, code, what the device reads, the reason in dead_letter
    ("msg/d2c", b"", JSON, "4.00", "no payload", None),
    ("msg/d2c", b'{"temperature":', JSON, "4.00", "JSON: line 1", "JSON: line 1"),
    ("msg/d2c", b'{"temperature": 1}', CBOR, "4.00", "CBOR", "CBOR"),
    ("msg/d2c", b"\xff", OCTET_STREAM, "4.00", "CBOR", "CBOR"),
    ("msg/d2c/raw", b'{"temperature":', JSON, "4.00", "JSON: line 1", "JSON: line 1"),
    ("msg/d2c", b"{}", JSON, "4.00", "no readings", "no readings"),
    ("msg/d2c", b"<a/>", 41, "4.15", "Content-Format must be", None),
    ("msg/d2c/bin", b"x" * 2000, OCTET_STREAM, "4.13", "2000", "2000"),
]


def test_what_cannot_be_decoded_is_told_and_kept(coap):
    coap.started({"payload.max_bytes": 1024})
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    for path, payload, form, code, text, _ in REFUSED:
        answer = device.post(path, payload, format=form)
        assert answer.code == code, (path, payload, form, answer)
        assert text in answer.text, (path, payload, form, answer)
    coap.stored()
    letters = coap.query("select payload, reason from dead_letter where device = 'dev-1' order by received_at")
    kept = [(payload, reason) for _, payload, _, _, _, reason in REFUSED if reason]
    assert [bytes(payload) for payload, _ in letters] == [payload for payload, _ in kept]
    for (_, found), (_, reason) in zip(letters, kept, strict=True):
        assert reason in found
    assert rows(coap, "dev-1") == []


def test_bytes_that_are_too_long_only_as_a_reading_are_no_row_either(coap):
    """They are JSON, and on this path they are not to be decoded, also not when there is no room to say so."""
    coap.started({"payload.max_bytes": 1024})
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    payload = b'{"temperature": 1.5}'.ljust(1022)
    answer = device.post("msg/d2c/bin", payload, format=OCTET_STREAM)
    assert answer.code == "4.13" and "at most 1024" in answer.text
    coap.stored()
    assert rows(coap, "dev-1") == []
    ((kept, reason),) = coap.query("select payload, reason from dead_letter where device = 'dev-1'")
    assert bytes(kept).endswith(payload) and "at most 1024" in reason
    assert device.post("msg/d2c/bin", payload[:1019], format=OCTET_STREAM).code == "2.01"


def test_what_the_policy_forbids_is_4_03_and_no_row(coap):
    coap.policy("only-bulk", ("publish", "m/d/${device}/d2c/bulk"))
    server = coap.started()
    coap.psk("dev-1", policy="only-bulk")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "4.03"
    assert device.post("msg/d2c/bulk", [{"seq": 2, "light": 1}]).code == "2.01"
    coap.wait_seqs("dev-1", [2])
    server.wait_log("event=publish_refused device=dev-1")


@pytest.mark.parametrize("durability", ["fsync", "write"])
def test_a_full_journal_is_told_with_max_age_and_nothing_acknowledged_is_lost(coap, durability):
    server = coap.started(
        {
            "journal.max_bytes": 1 << 20,
            "journal.segment_bytes": 1 << 16,
            "journal.durability": durability,
        }
    )
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    coap.stop_database()
    acknowledged = []
    for seq in range(4000):
        answer = device.post("msg/d2c", {"seq": seq, "light": 1, "text": "x" * 700})
        if answer.code != "2.01":
            break
        acknowledged.append(seq)
    assert (answer.code, answer.max_age) == ("5.03", 60)
    assert len(acknowledged) > 100
    assert len(server.log_lines("event=post_not_stored device=dev-1")) == 1
    coap.start_database()
    coap.wait_seqs("dev-1", acknowledged, timeout=30)
    eventually(lambda: device.telemetry(9999).code == "2.01", 20, "room in the journal")


def test_counters_are_logged_now_and_then(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    coap.connected("dev-1").telemetry(1)
    since = server.log_position()
    status = server.wait_log("event=coap_status", since)[0]
    assert "devices=1" in status and "live=" in status
    assert re.search(r"requests=[1-9]", server.wait_log("event=coap_requests", since)[0])


def test_workers_share_the_devices_and_each_has_its_line_in_the_status(coap):
    coap.started({"coap.workers": 2})
    ids = [f"dev-{n}" for n in range(16)]
    coap.psk(*ids)
    coap.in_force()
    devices = [coap.connected(id) for id in ids]
    assert {d.peer_cid[0] % 2 for d in devices} == {0, 1}
    for seq in (1, 2):
        for d in devices:
            assert d.telemetry(seq).code == "2.01"
    for id in ids:
        coap.wait_seqs(id, [1, 2])
    assert coap.query("select source, state from fieldgate_status order by source") == [("coap", "ok"), ("coap-1", "ok")]
    assert coap.value("select count(*) from device_status where connected and device like 'dev-%%'") == 16


def test_a_device_that_is_younger_than_the_copy_of_the_registry_keeps_its_session(coap):
    server = coap.started()
    coap.in_force()
    copy = server.state_dir / "coap" / "registry.snapshot"
    eventually(copy.exists, 10, "the copy on disk")
    old = copy.read_bytes()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    device.telemetry(1)
    server.stop()
    copy.write_bytes(old)
    coap.stop_database()
    server.start(wait_registry=False)
    assert device.telemetry(2).code == "5.03"
    coap.start_database()
    eventually(lambda: device.telemetry(3).code == "2.01", 20, "the database's word")
    assert device.closed(timeout=0) is None
