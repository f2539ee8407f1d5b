# SPDX-License-Identifier: Apache-2.0
"""Messages down to devices: what may be sent, in which order it is given, and what becomes of the rest."""

import contextlib
import pathlib
import subprocess
import sys
import uuid

import psycopg2.errors
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, OWNER, READER, fresh_database, query  # noqa: E402

JOURNAL = str(uuid.uuid4())


@pytest.fixture
def db():
    with fresh_database() as database:
        database.query("insert into device (id) values ('x'), ('y'), ('z')")
        database.query("insert into principal (id, kind, policy) values ('backend', 'service', 'none')")
        database.query("insert into ingest (journal, source, segment, \"offset\") values (%s, 'mqtt', 0, 0)", (JOURNAL,))
        yield database


def send(db, payload, device="x", subtopic=None, role=OWNER, **columns):
    """The message's id."""
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    return db.value(
        f"insert into downlink (device, payload, subtopic{names}) values (%s, %s, %s{values}) returning id",
        (device, payload, subtopic),
        role,
    )


def get_next(db, device="x", subtopic=None, done=None, over="coap"):
    """As a process asks: (outcome, id, format, payload, subtopic, how many wait behind it)."""
    ((outcome, why, version, form, payload, name, waiting, *times),) = db.query(
        "select * from downlink_next(%s, %s, %s, %s)", (device, subtopic, done, over), INGEST
    )
    assert why == ""
    return outcome, version, form, None if payload is None else bytes(payload), name, waiting


def texts(db, device="x", subtopic=None):
    """Everything that waits, one after the other, each marked when the next is asked for."""
    done, found = None, []
    for _ in range(1000):
        outcome, done_next, _, payload, _, _ = get_next(db, device, subtopic, done)
        if outcome == "not_found":
            return found
        done = done_next
        found.append(payload.decode())
    raise AssertionError("it does not end")


def waiting(db):
    return sorted(name for (name,) in db.query("select * from downlink_waiting()", role=INGEST))


def setting(db, name, value):
    db.query("update setting set value = %s where name = %s", (value, name))


def age(db, interval):
    db.query(
        "update downlink set created_at = created_at - %(by)s::interval, expires_at = expires_at - %(by)s::interval,"
        " delivered_at = delivered_at - %(by)s::interval",
        {"by": interval},
    )


# One by one.


def test_one_insert_is_all_it_takes(db):
    db.query("""insert into downlink (device, payload) values ('x', '{"led": 1}')""")
    outcome, _, form, payload, name, behind = get_next(db)
    assert (outcome, form, payload, name, behind) == ("ok", None, b'{"led": 1}', None, 0)
    ((source, delivered_at, days),) = db.query(
        "select source, delivered_at, extract(epoch from expires_at - created_at) / 86400 from downlink"
    )
    assert (source, delivered_at, days) == ("sql", None, 7)


def test_the_oldest_comes_first_and_says_how_many_are_behind_it(db):
    first, second, third = (send(db, text) for text in ("1", "2", "3"))
    assert first < second < third
    assert [get_next(db)[i] for i in (1, 3, 5)] == [first, b"1", 2]
    assert [get_next(db)[i] for i in (1, 3, 5)] == [first, b"1", 2]
    assert [get_next(db, done=first)[i] for i in (1, 3, 5)] == [second, b"2", 1]
    assert [get_next(db, done=second)[i] for i in (1, 3, 5)] == [third, b"3", 0]
    assert get_next(db, done=third) == ("not_found", 0, None, None, None, 0)


def test_the_messages_of_one_statement_are_in_its_order(db):
    db.query("insert into downlink (device, payload) select 'x', n::text::bytea from generate_series(1, 100) n")
    assert texts(db) == [str(n) for n in range(1, 101)]


def test_devices_have_nothing_to_do_with_each_other(db):
    mine = send(db, "mine")
    other = send(db, "other", device="y")
    assert get_next(db, "z")[0] == "not_found"
    assert get_next(db, "x", done=other)[1] == mine
    assert get_next(db, "y")[1] == other, "whose it is counts, whatever id is given"
    assert get_next(db, "nobody")[0] == "not_found"


def test_an_answer_is_of_one_moment_whoever_delivers_meanwhile(db):
    """Two sessions of one device, say: what one has just taken is not an empty message to the other."""
    number = send(db, "1")
    toggle = (
        "do $$ begin for i in 1 .. 4000 loop"
        f" update fieldgate.downlink set delivered_at = case when i % 2 = 0 then now() end where id = {number};"
        " commit; end loop; end $$"
    )
    other = subprocess.Popen(["psql", "-XqAtc", toggle, db.cluster.url(OWNER, db.name)])
    try:
        with contextlib.closing(db.connect(INGEST)) as connection:
            seen = set()
            while other.poll() is None:
                seen |= set(
                    query(
                        connection,
                        "select distinct a.outcome, a.version, a.payload is null from generate_series(1, 1000) n,"
                        " lateral (select * from downlink_next('x', null, null, 'coap') offset n * 0) a",
                    )
                )
    finally:
        other.kill()
        other.wait()
    assert seen == {("ok", number, False), ("not_found", 0, True)}


def test_a_subtopic_can_be_asked_for_alone(db):
    for text, subtopic in (("1", "cfg"), ("2", None), ("3", "cfg"), ("4", "cfg/a")):
        send(db, text, subtopic=subtopic)
    assert get_next(db, subtopic="cfg")[3:] == (b"1", "cfg", 1)
    assert get_next(db, subtopic="")[3:] == (b"2", None, 0)
    assert get_next(db)[3:] == (b"1", "cfg", 3)
    assert get_next(db, subtopic="other") == ("not_found", 0, None, None, None, 4)
    assert texts(db, subtopic="cfg") == ["1", "3"]
    assert texts(db) == ["2", "4"]


def test_what_was_delivered_says_when_and_how(db):
    number = send(db, "1")
    get_next(db, done=number, over="mqtt")
    assert db.query("select delivered_at <= clock_timestamp(), delivered_over from downlink") == [(True, "mqtt")]
    before = db.query("select delivered_at from downlink")
    get_next(db, done=number, over="coap")
    assert db.query("select delivered_at from downlink") == before


def test_done_marks_once_and_says_ok_again(db):
    number = send(db, "1")

    def done(device, which):
        return db.value("select outcome from downlink_done(%s, %s, 'coap')", (device, which), INGEST)

    assert done("y", number) == "not_found"
    assert done("x", number + 1) == "not_found"
    assert done("x", number) == "ok"
    assert done("x", number) == "ok"
    assert get_next(db)[0] == "not_found"


def test_expired_messages_are_not_given(db):
    send(db, "old", expires_at="now() - interval '1 second'")
    send(db, "new", expires_at="now() + interval '1 hour'")
    assert texts(db) == ["new"]
    setting(db, "downlink_expire_s", 60)
    send(db, "soon")
    age(db, "61 seconds")
    assert get_next(db)[0] == "not_found"


def test_who_waits(db):
    assert waiting(db) == []
    number = send(db, "1")
    send(db, "2")
    send(db, "3", device="y")
    send(db, "4", device="z", expires_at="now()")
    assert waiting(db) == ["x", "y"]
    get_next(db, done=number)
    assert waiting(db) == ["x", "y"]
    assert texts(db) == ["2"]
    assert waiting(db) == ["y"]


def test_a_device_that_is_deleted_takes_its_messages_with_it(db):
    send(db, "1")
    send(db, "2", device="y")
    db.query("delete from device where id = 'x'; update principal set id = 'w' where id = 'y'")
    assert waiting(db) == ["w"]


# What is refused.


def test_a_message_for_nobody_is_refused(db):
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        send(db, "1", device="nobody")


def test_too_long_a_message_is_refused_with_both_lengths(db):
    send(db, "x" * 1800)
    with pytest.raises(psycopg2.errors.ProgramLimitExceeded, match="for x has 1801 bytes; it may have 1800"):
        send(db, "x" * 1801)
    setting(db, "downlink_max_bytes", 3)
    send(db, "abc")
    with pytest.raises(psycopg2.errors.ProgramLimitExceeded, match="raise downlink_max_bytes"):
        send(db, "abcd")


def test_no_more_than_so_many_wait_for_a_device(db):
    setting(db, "downlink_max_waiting", 3)
    first, *_ = (send(db, text) for text in "123")
    with pytest.raises(psycopg2.errors.ProgramLimitExceeded, match="3 messages wait for x already"):
        send(db, "4")
    send(db, "other", device="y")
    get_next(db, done=first)
    send(db, "4")
    assert texts(db) == ["2", "3", "4"]


def test_the_bound_holds_within_one_statement(db):
    with pytest.raises(psycopg2.errors.ProgramLimitExceeded, match="100 messages wait for x already"):
        db.query("insert into downlink (device, payload) select 'x', '' from generate_series(1, 101)")
    assert waiting(db) == []


def test_what_expired_or_was_delivered_does_not_count(db):
    setting(db, "downlink_max_waiting", 2)
    for _ in range(3):
        send(db, "old", expires_at="now()")
        send(db, "done", delivered_at="now()")
    send(db, "1")
    send(db, "2")
    with pytest.raises(psycopg2.errors.ProgramLimitExceeded):
        send(db, "3")


@pytest.mark.parametrize("subtopic", ["a", "a/b", "ä", "a b", "$a", ".", "x" * 200])
def test_subtopics(db, subtopic):
    send(db, "1", subtopic=subtopic)
    assert get_next(db)[4] == subtopic


@pytest.mark.parametrize(
    "subtopic", ["", "/", "a/", "/a", "a//b", "+", "a/+", "#", "a#", "a\n", "\x01", "\x7f", "\x85", "x" * 201, "ä" * 101]
)
def test_bad_subtopics_are_refused(db, subtopic):
    with pytest.raises(psycopg2.errors.CheckViolation):
        send(db, "1", subtopic=subtopic)


@pytest.mark.parametrize("form", [-1, 65536])
def test_bad_formats_are_refused(db, form):
    with pytest.raises(psycopg2.errors.CheckViolation):
        send(db, "1", format=form)


def test_whoever_may_insert_needs_no_other_right(db):
    db.query("create role test_backend login; grant usage on schema fieldgate to test_backend", role="postgres")
    try:
        db.query("grant insert (device, payload) on downlink to test_backend")
        db.query("set role test_backend; insert into downlink (device, payload) values ('x', '1')", role="postgres")
        assert texts(db) == ["1"]
    finally:
        db.query("drop owned by test_backend; drop role test_backend", role="postgres")


# Notifications.


@contextlib.contextmanager
def listening(db):
    with contextlib.closing(db.connect(INGEST)) as connection:
        query(connection, "listen fieldgate_downlink")

        def heard():
            query(connection, "select")
            payloads = [n.payload for n in connection.notifies]
            connection.notifies.clear()
            return sorted(payloads)

        yield heard


def test_an_insert_is_told_once_for_each_device(db):
    with listening(db) as heard:
        send(db, "1")
        assert heard() == ["x"]
        db.query("insert into downlink (device, payload) select id, '' from device, generate_series(1, 3)")
        assert heard() == ["x", "y", "z"]


def test_a_message_that_waits_again_is_told(db):
    number = send(db, "1", expires_at="now()")
    with listening(db) as heard:
        db.query("update downlink set expires_at = now() + interval '1 hour'")
        assert heard() == ["x"]
        get_next(db, done=number)
        db.query("update downlink set payload = '2'")
        db.query("update downlink set expires_at = expires_at + interval '1 hour'")
        assert heard() == []
        db.query("update downlink set delivered_at = null")
        assert heard() == ["x"]
        db.query("update principal set id = 'w' where id = 'x'")
        assert heard() == ["w"]


# From the store.


def enqueue(db, *messages, journal=JOURNAL, source="mqtt"):
    """Messages are (device, subtopic, payload); how many were refused."""
    rows = [
        (device, subtopic, payload.encode(), None, f"m/d/{device}/c2d" + (f"/{subtopic}" if subtopic else ""), n)
        for n, (device, subtopic, payload) in enumerate(messages)
    ]
    columns = [list(column) for column in zip(*rows)]
    return db.value(
        "select downlink_enqueue(%s, %s, %s, %s, %s::bytea[], %s::int[], %s,"
        " array_fill(now(), array[%s]), %s::bigint[])",
        (journal, source, *columns[:5], len(rows), columns[5]),
        INGEST,
    )


def seen(db, device, source, connected=False, since="now()", client_id="x"):
    db.query(
        "insert into presence (device, source, client_id, connected, since, seq)"
        f" values (%s, %s, %s, %s, {since}, 1) on conflict (device, source, client_id) do update"
        " set connected = excluded.connected, since = excluded.since",
        (device, source, client_id, connected),
    )


def test_the_batch_waits_in_its_order(db):
    assert enqueue(db, ("x", None, "1"), ("y", "a", "2"), ("x", "b/c", "3"), ("x", None, "4")) == 0
    assert texts(db) == ["1", "3", "4"]
    assert get_next(db, "y")[3:5] == (b"2", "a")
    assert db.query("select distinct source, format from downlink") == [("mqtt", None)]
    assert db.query("select * from dead_letter") == []


def test_the_batch_is_told(db):
    with listening(db) as heard:
        enqueue(db, ("x", None, "1"), ("y", None, "2"), ("x", None, "3"))
        assert heard() == ["x", "y"]


def test_devices_last_seen_over_mqtt_have_it_from_the_broker(db):
    seen(db, "y", "mqtt")
    seen(db, "z", "coap-3", connected=True)
    enqueue(db, ("x", None, "never seen"), ("y", None, "mqtt"), ("z", None, "coap"))
    assert waiting(db) == ["x", "z"]


def test_a_connection_counts_more_than_a_later_goodbye_as_in_device_status(db):
    seen(db, "x", "coap", since="now() - interval '1 hour'")
    seen(db, "x", "mqtt", since="now() - interval '1 minute'")
    enqueue(db, ("x", None, "1"))
    assert waiting(db) == []
    seen(db, "x", "coap", connected=True, since="now() - interval '1 hour'")
    enqueue(db, ("x", None, "2"))
    assert texts(db) == ["2"]


def test_unknown_devices_and_services_are_passed_over(db):
    assert enqueue(db, ("nobody", None, "1"), ("backend", None, "2"), ("no such id!", None, "3"), ("x", None, "4")) == 0
    assert waiting(db) == ["x"]
    assert db.query("select * from dead_letter") == []


def test_what_is_refused_goes_to_dead_letter_and_the_rest_is_stored(db):
    setting(db, "downlink_max_waiting", 2)
    refused = enqueue(
        db, ("x", None, "1"), ("x", None, "2" * 1801), ("x", "a+", "3"), ("x", "a/", "4"), ("x", None, "5"),
        ("x", "b", "6"), ("y", None, "7"),
    )  # fmt: skip
    assert refused == 4
    assert texts(db) == ["1", "5"]
    assert texts(db, "y") == ["7"]
    rows = db.query("select device, topic, payload, reason from dead_letter order by seq")
    assert [(device, topic, bytes(payload)[:1]) for device, topic, payload, _ in rows] == [
        ("x", "m/d/x/c2d", b"2"),
        ("x", "m/d/x/c2d/a+", b"3"),
        ("x", "m/d/x/c2d/a/", b"4"),
        ("x", "m/d/x/c2d/b", b"6"),
    ]
    reasons = [reason for *_, reason in rows]
    assert "1801 bytes" in reasons[0] and "a wildcard" in reasons[1] and "2 messages wait" in reasons[3]
    assert db.value("select dead_letters from ingest") == 4


def test_a_device_that_somebody_deletes_keeps_nobody_waiting(db):
    with contextlib.closing(db.connect()) as person:
        person.autocommit = False
        query(person, "delete from device where id = 'x'")
        with contextlib.closing(db.connect(INGEST)) as connection:
            query(connection, "set lock_timeout = '100ms'")  # it would fail
            query(
                connection,
                "select downlink_enqueue(%s, 'mqtt', '{x,y}', '{null,null}', '{1,2}', '{null,null}',"
                " '{m/d/x/c2d,m/d/y/c2d}', array[now(), now()], '{1,2}')",
                (JOURNAL,),
            )
        person.rollback()
    assert waiting(db) == ["y"]
    ((device, reason),) = db.query("select device, reason from dead_letter")
    assert device == "x" and "deleted or renamed" in reason


def test_an_open_transaction_that_sends_keeps_nobody_waiting(db):
    with contextlib.closing(db.connect()) as person:
        person.autocommit = False
        query(person, "insert into downlink (device, payload) values ('x', 'slow')")
        query(person, "update device set state = 'suspended' where id = 'x'")
        with contextlib.closing(db.connect(INGEST)) as connection:
            query(connection, "set statement_timeout = '5s'")
            query(
                connection,
                "select downlink_enqueue(%s, 'mqtt', '{x}', '{null}', '{fast}', '{null}', '{m/d/x/c2d}',"
                " array[now()], '{1}')",
                (JOURNAL,),
            )
        assert texts(db) == ["fast"]
        person.commit()
    assert texts(db) == ["slow"]


# What is kept, and what people see.


def test_maintain_forgets_what_is_long_done(db):
    for text in ("delivered", "expired"):
        send(db, text, expires_at="now() + interval '1 minute'" if text == "expired" else "now() + interval '90 days'")
    number = db.value("select id from downlink where payload = 'delivered'")
    get_next(db, done=number)
    send(db, "waits", expires_at="now() + interval '90 days'")
    age(db, "6 days")
    db.query("select * from maintain()", role=INGEST)
    assert db.value("select count(*) from downlink") == 3
    age(db, "25 hours")
    lines = [line for (line,) in db.query("select * from maintain()", role=INGEST)]
    assert "deleted 2 old messages to devices" in lines
    assert texts(db) == ["waits"]


def test_device_status_says_how_many_wait_and_since_when(db):
    send(db, "1")
    age(db, "1 hour")
    send(db, "2")
    send(db, "expired", expires_at="now()")
    rows = db.query(
        "select device, waiting, waiting_since < now() - interval '59 minutes' from device_status order by device",
        role=READER,
    )
    assert rows == [("x", 2, True), ("y", 0, None), ("z", 0, None)]


def test_expired_messages_do_not_slow_down_what_waits(db):
    db.query("alter table downlink disable trigger downlink_check")
    db.query(
        "insert into downlink (device, payload, expires_at) select 'x', '', now() - interval '1 day'"
        " from generate_series(1, 20000);"
        "insert into downlink (device, payload, expires_at, delivered_at) select 'x', '', now() + interval '1 day', now()"
        " from generate_series(1, 20000)"
    )
    db.query("alter table downlink enable trigger downlink_check")
    send(db, "1")
    db.query("analyze downlink")
    with contextlib.closing(db.connect()) as connection:
        lines = query(
            connection,
            "explain (analyze, buffers) select from downlink where device = 'x' and delivered_at is null"
            " and expires_at > now()",
        )
        text = "\n".join(line for (line,) in lines)
    assert "downlink_undelivered" in text and "Rows Removed" not in text
