# SPDX-License-Identifier: Apache-2.0
"""docs/state.md says only what was run: its examples, in their order, with the real server; and what
it promises of outages."""

import json
import re
import time

from harness.coap_client import CBOR, JSON
from harness.mqtt import eventually
from harness.postgres import REPOSITORY

PAGE = (REPOSITORY / "docs" / "state.md").read_text()


def values(block):
    """What stands behind `-- ` in a block of SQL."""
    for line in re.findall(r"^-- (.*)$", block, re.M):
        try:
            yield json.loads(line)
        except ValueError:
            yield line


class Reader:
    """Does what the page says, as the device and as its owner."""

    def __init__(self, coap, device):
        self.coap = coap
        self.device = device
        self.observation = None
        self.examples = 0

    def sql(self, block):
        rows = self.coap.query(block)
        assert [value for row in rows for value in row] == list(values(block)), block

    def notification(self):
        return self.device.notification(token=self.observation)

    def ask(self, request):
        method, _, rest = request.partition(" ")
        if method == "NOTIFICATION":
            return self.notification()
        path, _, payload = rest.partition(" ")
        path, _, query = path.partition("?")
        options = {"query": query} if query else {}
        if method == "OBSERVE":
            answer = self.device.observe(path, **options)
            assert answer.observe is not None
            self.observation = answer.token
            return answer
        if payload:
            options |= {"payload": payload, "format": JSON}
        return self.device.request(method, path, **options)

    def coap_lines(self, block):
        for line in block.splitlines():
            request, code, payload = re.fullmatch(r"(.*?) -> (\d\.\d\d) ?(.*)", line).groups()
            answer = self.ask(request)
            if code == "4.03":
                # The registry's changes are in force within 5 s.
                deadline = time.monotonic() + 5
                while answer.code != code and time.monotonic() < deadline:
                    answer = self.ask(request)
            assert answer.code == code, (line, answer)
            if code.startswith("2"):
                assert answer.text == payload, line
            else:
                assert payload in answer.text, line
            self.examples += 1


def test_examples_of_the_page_run_as_written(coap):
    coap.started()
    coap.psk("tracker-1", "tracker-2")
    coap.query("update device set note = 'cold room' where id = 'tracker-2'")
    coap.in_force()
    reader = Reader(coap, coap.connected("tracker-1"))
    eventually(lambda: reader.device.get("state").code == "2.05", 30, "the connection to the database")
    for kind, block in re.findall(r"^```(sql|coap) run\n(.*?)^```$", PAGE, re.M | re.S):
        (reader.sql if kind == "sql" else reader.coap_lines)(block)
    assert reader.examples > 20


def test_every_block_of_the_page_is_run():
    assert set(re.findall(r"^```(.+)$", PAGE, re.M)) == {"sql run", "coap run"}


def test_answers_of_the_table_are_those_of_the_code():
    source = "".join(
        (REPOSITORY / "coap-server" / "resource" / f).read_text() for f in ("state.c", "store.c", "document.c")
    )
    codes = {f"{a}.{int(b):02}" for a, b in re.findall(r"FG_COAP_CODE\((\d), (\d+)\)", source)}
    documented = set(re.findall(r"\d\.\d\d", PAGE.split("| answer | when |")[1].split("\n\n")[0]))
    assert documented >= codes - {"2.05", "5.00"}


def test_an_outage_is_said_and_survived(coap):
    coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    eventually(lambda: device.put("store/v", b"kept").code[0] == "2", 30, "the connection to the database")
    observed = device.observe("store/v")
    assert observed.code == "2.05"
    coap.stop_database()
    eventually(lambda: device.get("store/v").code == "5.03", 10, "that the outage is seen")
    refused = device.get("state")
    assert refused.code == "5.03" and refused.max_age > 0
    assert device.post("msg/d2c", {"seq": 1, "temperature": 21.5}).code == "2.01"
    coap.start_database()
    again = device.notification(timeout=60, token=observed.token)
    assert (again.code, again.payload) == ("2.05", b"kept")
    assert device.get("store/v").payload == b"kept"


def test_all_workers_tell_what_any_of_them_changed(coap):
    coap.started({"coap.workers": 2})
    coap.psk("dev-1")
    coap.in_force()
    sessions = {}
    for _ in range(64):
        device = coap.connected("dev-1")
        sessions.setdefault(device.peer_cid[:1], device)
        if len(sessions) == 2:
            break
    observers = list(sessions.values())
    assert len(observers) == 2
    observed = []
    for device in observers:
        eventually(lambda d=device: d.get("state").code == "2.05", 30, "the connection to the database")
        observed.append(device.observe("state", accept=CBOR))
    assert observers[0].request("PATCH", "state/desired", payload='{"a": 1}', format=JSON).code == "2.04"
    for device, answer in zip(observers, observed, strict=True):
        told = device.notification(token=answer.token)
        assert (told.code, told.payload) == ("2.05", b"\xa1\x61a\x01")


def test_an_observation_ends_with_the_process_and_the_same_token_brings_it_back(coap):
    server = coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    coap.documents_ready(device)
    first = device.observe("state")
    since = server.log_position()
    server.kill_worker()
    server.wait_log("event=coap_started", since)
    coap.documents_ready(device)
    coap.query("select desire('dev-1', '{\"interval\": 60}')")
    assert device.notification(timeout=2) is None
    assert device.observe("state", token=first.token).json == {"interval": 60}
    coap.query("select desire('dev-1', '{\"interval\": 61}')")
    assert device.notification().json == {"interval": 61}
