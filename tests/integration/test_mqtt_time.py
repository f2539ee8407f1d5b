# SPDX-License-Identifier: Apache-2.0
"""A broker whose wall clock is wrong, or jumps while devices are connected."""

import time

import pytest

from harness.clock import DAY_S, YEAR_S, Clock
from harness.mqtt import Closed
from harness.pki import validity

JUMPS = {
    "20_years_on": (lambda: 20 * YEAR_S, "expired on", time.gmtime(time.time() + 20 * YEAR_S).tm_year),
    "back_to_1970": (lambda: -time.time() + DAY_S, "not valid before", 1970),
}


@pytest.fixture(params=JUMPS.values(), ids=JUMPS)
def jump(request):
    return request.param


def refused(stack, broker, id):
    """The line about it."""
    since = broker.log_position()
    with pytest.raises(Closed):
        stack.client(broker, id).connect()
    (line,) = broker.wait_log("event=tls_refused", since)
    return line


def test_certificate_before_within_and_after_its_dates(stack):
    device = stack.fleet.forge("not_yet_valid", "dev-1", stack.directory / "later")  # in 10 days, for 10 days
    stack.fleet.register(device)
    stack.credentials["dev-1"] = device
    clock = Clock(stack.directory)
    broker = stack.started(prefix=clock.prefix)
    start, end = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in validity(device.certificate))
    assert f"the certificate of dev-1 is refused: it is not valid before {start}" in refused(stack, broker, "dev-1")
    clock.move(15 * DAY_S)
    client = stack.connected(broker, "dev-1")
    clock.move(25 * DAY_S)
    assert f"the certificate of dev-1 is refused: it expired on {end}" in refused(stack, broker, "dev-1")
    # Not even this one is closed by a jump: by the other clock it is good for five more days.
    assert client.publish("m/d/dev-1/d2c") == 0


def test_clock_that_jumps_keeps_connections_and_data_and_refuses_new_ones(stack, jump):
    """No table has a partition for such a time of receipt: the messages are kept as dead letters, with the
    database's own time and the reason."""
    offset, reason, year = jump
    stack.devices("dev-1", "dev-2")
    clock = Clock(stack.directory)
    broker = stack.started(prefix=clock.prefix)
    client = stack.connected(broker, "dev-1")
    assert client.publish("m/d/dev-1/d2c", b'{"temperature": 1}') == 0
    stack.wait_rows("select 1 from telemetry")
    clock.move(offset())
    for temperature in 2, 3:
        assert client.publish("m/d/dev-1/d2c", b'{"temperature": %d}' % temperature) == 0
    assert reason in refused(stack, broker, "dev-2")
    stack.wait_rows("select 1 from dead_letter", count=2, timeout=30)
    clock.move(0)
    assert client.publish("m/d/dev-1/d2c", b'{"temperature": 4}') == 0
    stack.connected(broker, "dev-2")
    stack.wait_rows("select 1 from telemetry", count=2)
    assert stack.query("select temperature::int from telemetry order by ts") == [(1,), (4,)]
    kept = stack.query(
        "select convert_from(payload, 'UTF8'), reason from dead_letter"
        " where received_at between now() - interval '2 min' and now() order by 1"
    )
    assert [payload for payload, _ in kept] == ['{"temperature": 2}', '{"temperature": 3}']
    assert all(f"no partition is made for {year}-" in reason for _, reason in kept)
    assert broker.log_lines("event=session_closed") == []
