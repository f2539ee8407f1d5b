# SPDX-License-Identifier: Apache-2.0
"""The core on a bare Cortex-M33 (device-fw/ports/qemu_m33), in qemu-system-arm, against fieldgate-coap: DTLS with a
pre-shared key and Connection ID over a serial line."""

import shutil

import psycopg2
import pytest
from harness.m33 import Board
from harness.mqtt import eventually
from harness.ports import free_udp_port

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("qemu-system-arm"), reason="NO qemu-system-arm: bin/install-deps firmware installs it"
    ),
    pytest.mark.skipif(
        not shutil.which("arm-none-eabi-gcc"), reason="NO arm-none-eabi-gcc: bin/install-deps firmware installs it"
    ),
]

ID = "m33-1"
TLS_PSK_WITH_AES_128_CCM_8 = 0xC0A8  # RFC 6655
TLS12_CID = 25  # RFC 9146: the content type of a record with Connection ID


@pytest.fixture
def board(coap, tmp_path):
    """A server, and a Board that has not started."""
    coap.started()
    key = coap.psk(ID)
    coap.in_force()
    board = Board(tmp_path, key, coap.server.port)
    try:
        yield board
    finally:
        board.stop()
        print(f"--- the end of the board's log\n{board.log_tail()}")


def send(coap, command):
    coap.query("insert into downlink (device, payload) values (%s, %s)", ID, psycopg2.Binary(command.encode()))


def waiting(coap):
    return coap.query("select id from downlink where delivered_at is null")


def rows(coap):
    """Number and time of its messages, oldest first; each is there once."""
    found = coap.query("select seq, ts from telemetry where device = %s order by ts, seq", ID)
    assert len({seq for seq, _ in found}) == len(found), found
    return found


def asleep(board, count=1):
    """Until it has said all it has to say."""
    board.wait("state sleeping", count)


def handshakes(board):
    return len(board.lines("connected resumed=0"))


def test_a_handshake_negotiates_ccm_8_and_a_connection_id_and_telemetry_becomes_rows(coap, board):
    board.start()
    board.wait("connected resumed=0 connection_id=1")
    asleep(board)
    coap.wait_seqs(ID, [1])
    assert coap.query(
        "select temperature::text, extra ->> 'uptime', ts_source::text, now() - ts < interval '1 minute' from telemetry"
    ) == [("21.5", "0", "device", True)]
    assert board.suites() == {TLS_PSK_WITH_AES_128_CCM_8}
    assert board.sent[-1][0] == TLS12_CID


def test_it_wakes_up_behind_another_port_without_a_handshake(coap, board):
    board.interval_s = 1
    board.start()
    for n in range(1, 4):
        asleep(board, n)
        board.rebind()
    board.wait("connected resumed=1", 3)
    recorded = len(board.lines("recorded"))
    eventually(lambda: len(rows(coap)) >= recorded, 30, "rows from the last port")
    assert handshakes(board) == 1


def test_a_command_sets_the_interval_and_both_are_reported(coap, board):
    board.interval_s = 1
    board.start()
    asleep(board)
    send(coap, '{"interval": 3600, "id": 7}')
    board.wait("command present=9 interval=3600 id=7")
    eventually(lambda: not waiting(coap), 15, "the acknowledgement of the command")
    reported = "select reported ->> 'interval' from device_state where device = %s"
    eventually(lambda: coap.query(reported, ID) == [("3600",)], 15, "the report of the interval")
    recorded = len(board.lines("recorded"))
    asleep(board, len(board.lines("state sleeping")))
    assert len(board.lines("recorded")) == recorded


def test_a_long_message_comes_in_blocks_and_one_that_is_too_long_stops_nothing(coap, board):
    """The server sends 1,024 bytes in a record to who does not say that they are too many."""
    send(coap, '{"note": "' + 200 * "x" + '", "interval": 2}')
    send(coap, '{"note": "' + 900 * "x" + '", "interval": 3}')
    board.interval_s = 1
    board.start()
    board.wait("command present=1 interval=2")
    board.wait("acknowledged", 4)
    assert handshakes(board) == 1
    assert not board.lines("interval=3")


def test_readings_of_an_outage_arrive_once_each_with_their_own_times(coap, board):
    board.interval_s = 1
    board.start()
    board.wait("acknowledged", 2)
    board.network = False
    board.wait("recorded", len(board.lines("recorded")) + 5)
    board.network = True
    recorded = len(board.lines("recorded"))
    eventually(lambda: len(rows(coap)) >= recorded, 120, f"{recorded} rows")
    found = rows(coap)
    assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
    gaps = [(after - before).total_seconds() for (_, before), (_, after) in zip(found, found[1:])]
    assert all(gap > 0.5 for gap in gaps), gaps


def test_a_killed_server_costs_neither_a_reading_nor_a_handshake(coap, board):
    board.interval_s = 1
    board.start()
    board.wait("acknowledged", 2)
    coap.server.kill()
    board.wait("recorded", len(board.lines("recorded")) + 3)
    coap.server.start()
    recorded = len(board.lines("recorded"))
    eventually(lambda: len(rows(coap)) >= recorded, 120, f"{recorded} rows")
    found = rows(coap)
    assert [seq for seq, _ in found] == list(range(1, len(found) + 1))


def test_a_server_that_has_forgotten_it_gets_a_second_handshake(coap, board):
    board.interval_s = 1
    board.start()
    board.wait("acknowledged", 2)
    coap.server.kill()
    shutil.rmtree(coap.server.sessions_dir)
    coap.server.sessions_dir.mkdir(mode=0o700)
    coap.server.start()
    coap.in_force()
    board.wait("connected resumed=0 connection_id=1", 2, timeout=180)
    recorded = len(board.lines("recorded"))
    eventually(lambda: len(rows(coap)) >= recorded, 120, f"{recorded} rows")
    found = rows(coap)
    assert [seq for seq, _ in found] == list(range(1, len(found) + 1))


def test_a_reboot_keeps_what_was_not_sent_and_goes_on_counting(coap, board):
    board.interval_s = 1
    board.start()
    board.wait("acknowledged", 2)
    send(coap, '{"reboot": true, "id": 1}')
    eventually(lambda: board.starts == 2, 60, "the reboot")
    recorded = len(board.lines("recorded"))
    board.wait("acknowledged", len(board.lines("acknowledged")) + 2)
    assert handshakes(board) == 2
    eventually(lambda: len(rows(coap)) > recorded, 30, "rows after the reboot")
    found = rows(coap)
    assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
    assert board.starts == 2, "the command is carried out once"


def test_a_wrong_key_is_refused_and_not_tried_again_at_once(coap, board):
    board.psk.key = bytes(16)
    board.start()
    board.wait("state backing_off")
    board.wait("recorded")
    assert not board.lines("connected")
