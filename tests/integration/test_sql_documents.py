# SPDX-License-Identifier: Apache-2.0
"""What devices keep in the database: their state, their values, and who is told of changes."""

import contextlib
import itertools
import json
import pathlib
import random
import sys
import threading

import psycopg2.errors
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, OWNER, READER, fresh_database, query  # noqa: E402


@pytest.fixture(scope="module")
def pure():
    """For functions that read no table."""
    with fresh_database() as database:
        yield database


@pytest.fixture
def db():
    with fresh_database() as database:
        database.query("insert into device (id) values ('x'), ('y')")
        yield database


# What a process calls, as it calls it.


def answer(db, sql, *parameters):
    (row,) = db.query(f"select * from {sql}", parameters, role=INGEST)
    return (*row[:4], None if row[4] is None else bytes(row[4]))


def state(db, part, device="x"):
    """The document, and its version."""
    outcome, _, version, form, payload = answer(db, "state_get(%s, %s)", device, part)
    assert (outcome, form) == ("ok", 50)
    return json.loads(payload) if payload else None, version


def change(db, document, desired=False, merge=True, device="x", exists=None, version=None, size=10000, depth=8):
    """Outcome, why, version."""
    document = document if isinstance(document, str) else json.dumps(document)
    return answer(
        db,
        "state_change(%s, %s, %s, %s, %s, %s, %s, %s)",
        device, desired, merge, document, exists, version, size, depth,
    )[:3]  # fmt: skip


def put(db, name, value, form=0, device="x", exists=None, version=None, size=10000, count=100):
    """Outcome, why, version."""
    return answer(
        db,
        "value_put(%s, %s, %s, %s, %s, %s, %s, %s)",
        device, name, form, value, exists, version, size, count,
    )[:3]  # fmt: skip


def get(db, name, device="x"):
    return answer(db, "value_get(%s, %s)", device, name)


def delete(db, name, exists=None, version=None):
    return answer(db, "value_delete('x', %s, %s, %s)", name, exists, version)[0]


# merge_patch

APPENDIX_A = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]


@pytest.mark.parametrize("target, patch, result", APPENDIX_A)
def test_merge_patch_as_appendix_a_of_rfc_7396(pure, target, patch, result):
    assert pure.value("select merge_patch(%s, %s) = %s::jsonb", (target, patch, result))


def test_merge_patch_as_the_example_of_rfc_7396(pure):
    target = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    patch = {"title": "Hello!", "phoneNumber": "+01-123-456-7890", "author": {"familyName": None}, "tags": ["example"]}
    assert pure.value("select merge_patch(%s, %s)", (json.dumps(target), json.dumps(patch))) == {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    }


@pytest.mark.parametrize(
    "target, patch, result",
    [
        ('{"a":{"b":1,"c":{"d":2}}}', '{"a":{"c":{"d":null,"e":[null]}}}', '{"a":{"b":1,"c":{"e":[null]}}}'),
        ('{"a":null}', "{}", '{"a":null}'),
        ('{"a":1}', '{"a":{"b":null}}', '{"a":{}}'),
        (None, '{"a":{"b":null}}', '{"a":{}}'),
        ("{}", '{"":1,"null":"null"}', '{"":1,"null":"null"}'),
    ],
)
def test_merge_patch_beyond_the_table(pure, target, patch, result):
    assert pure.value("select merge_patch(%s, %s) = %s::jsonb", (target, patch, result))


def merge_patch(target, patch):
    """As RFC 7396 section 2 writes it."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merge_patch(target.get(name), value)
    return target


def some_document(rng, depth=3):
    kind = rng.randrange(7 if depth else 4)
    if kind >= 4:
        return {name: some_document(rng, depth - 1) for name in rng.sample("abcd", rng.randrange(4))}
    return [rng.randrange(3), None, rng.choice([True, "t", 1.5]), [rng.randrange(2), {"a": None}]][kind]


def some_object(rng):
    return {name: some_document(rng) for name in rng.sample("abcde", rng.randrange(1, 6))}


def documents(seed, count=3000):
    rng = random.Random(seed)
    return [(json.dumps(some_object(rng)), json.dumps(some_object(rng))) for _ in range(count)]


def test_merge_patch_of_many_documents(pure):
    pairs = documents(7396)
    results = pure.query(
        "select merge_patch(a::jsonb, b::jsonb) from unnest(%s, %s) with ordinality as t (a, b, n) order by n",
        ([a for a, _ in pairs], [b for _, b in pairs]),
    )
    assert [r for (r,) in results] == [merge_patch(json.loads(a), json.loads(b)) for a, b in pairs]


# delta


@pytest.mark.parametrize(
    "desired, reported, result",
    [
        ("{}", "{}", "{}"),
        ('{"a":1}', "{}", '{"a":1}'),
        ("{}", '{"a":1}', "{}"),
        ('{"a":1}', '{"a":1,"b":2}', "{}"),
        ('{"a":1}', '{"a":2}', '{"a":1}'),
        ('{"a":1}', '{"a":1.0}', "{}"),
        ('{"a":1}', '{"a":"1"}', '{"a":1}'),
        ('{"a":{"b":1,"c":2}}', '{"a":{"b":1,"c":3,"d":4}}', '{"a":{"c":2}}'),
        ('{"a":{"b":{"c":1}}}', '{"a":{"b":{"c":1}}}', "{}"),
        ('{"a":{"b":1}}', '{"a":5}', '{"a":{"b":1}}'),
        ('{"a":5}', '{"a":{"b":1}}', '{"a":5}'),
        ('{"a":{}}', "{}", '{"a":{}}'),
        ('{"a":{}}', '{"a":{"b":1}}', "{}"),
        ('{"a":[1,2]}', '{"a":[1,2]}', "{}"),
        ('{"a":[1,2]}', '{"a":[2,1]}', '{"a":[1,2]}'),
        ('{"a":[{"b":1,"c":2}]}', '{"a":[{"b":1}]}', '{"a":[{"b":1,"c":2}]}'),
        ('{"a":null}', "{}", "{}"),
        ('{"a":null}', '{"a":1}', '{"a":null}'),
        ('{"a":[null]}', '{"a":[]}', '{"a":[null]}'),
    ],
)
def test_delta_is_what_is_desired_and_not_reported_so(pure, desired, reported, result):
    assert pure.value("select delta(%s, %s) = %s::jsonb", (desired, reported, result))


def test_a_device_that_reports_the_delta_back_has_done_it_all(pure):
    """Which is what Nordic's samples do."""
    pairs = documents(1)
    lefts = pure.query(
        """select a, b from unnest(%s, %s) as t (a, b)
        where delta(a::jsonb, merge_patch(b::jsonb, delta(a::jsonb, b::jsonb))) <> '{}'""",
        ([a for a, _ in pairs], [b for _, b in pairs]),
    )
    assert lefts == []
    assert pure.value(
        "select count(*) from unnest(%s, %s) as t (a, b) where delta(a::jsonb, b::jsonb) <> '{}'",
        ([a for a, _ in pairs], [b for _, b in pairs]),
    ) > len(pairs) / 2  # fmt: skip


@pytest.mark.parametrize(
    "document, depth", [("5", 0), ("{}", 1), ('{"a":1}', 1), ('{"a":[]}', 2), ('[1,{"a":[2]}]', 3), ("[" * 60 + "]" * 60, 60)]
)
def test_depth(pure, document, depth):
    assert not pure.value("select nested_deeper(%s, %s)", (document, depth))
    if depth:
        assert pure.value("select nested_deeper(%s, %s)", (document, depth - 1))


# The state of a device.


def test_a_device_without_state_has_an_empty_one(db):
    assert state(db, "all") == ({"desired": {}, "reported": {}}, 0)
    assert state(db, "delta") == (None, 0)
    assert state(db, "desired") == (None, 0)


def test_state_is_patched_and_replaced(db):
    assert change(db, {"a": 1, "b": {"c": 2}})[0] == "ok"
    assert change(db, {"b": {"d": 3}, "a": None})[0] == "ok"
    assert change(db, {"b": {"d": 4}, "n": None}, desired=True, merge=False)[0] == "ok"
    assert state(db, "all")[0] == {"desired": {"b": {"d": 4}, "n": None}, "reported": {"b": {"c": 2, "d": 3}}}
    assert state(db, "delta")[0] == {"b": {"d": 4}}
    assert state(db, "desired")[0] == {"b": {"d": 4}, "n": None}
    assert change(db, {"only": "this"}, merge=False)[0] == "ok"
    assert state(db, "all")[0]["reported"] == {"only": "this"}


def test_numbers_stay_as_they_are(db):
    change(db, '{"big": 123456789012345678901234567890, "small": 0.10}')
    payload = answer(db, "state_get('x', 'all')")[4]
    assert b"123456789012345678901234567890" in payload and b"0.10" in payload


def test_version_moves_with_every_real_change_and_with_no_other(db):
    seen = [change(db, {"a": 1})[2]]
    seen.append(change(db, {"b": 1}, desired=True)[2])
    seen.append(change(db, {"a": 2})[2])
    assert 0 < seen[0] < seen[1] < seen[2] == state(db, "delta")[1] == state(db, "all")[1]
    for document, merge in ({"a": 2}, True), ({"gone": None}, True), ({"a": 2.0}, False):
        assert change(db, document, merge=merge) == ("ok", "", seen[2])
    assert db.query("select desired_version, reported_version from device_state") == [(seen[1], seen[2])]


def test_when_and_who(db):
    change(db, {"a": 1})
    (row,) = db.query(
        """select reported_by, reported_at > now() - interval '1 minute', desired_by, desired_at, desired_version
        from device_state"""
    )
    assert row == (INGEST, True, None, None, 0)
    db.query("update device_state set desired = '{\"a\": 2}'")
    assert db.query("select desired_by, reported_by from device_state") == [(OWNER, INGEST)]
    before = db.query("select * from device_state")
    db.query("update device_state set desired = '{\"a\": 2}', desired_at = null, reported_version = 7, reported_by = 'me'")
    assert db.query("select * from device_state") == before


@pytest.mark.parametrize("document", ["5", "[]", "null", '"text"'])
@pytest.mark.parametrize("merge", [True, False])
def test_state_is_an_object(db, document, merge):
    outcome, why, _ = change(db, document, merge=merge)
    assert (outcome, "JSON object" in why) == ("bad", True)
    assert db.query("select * from device_state") == []


@pytest.mark.parametrize("document", ["", "{", "{'a': 1}", '{"a": "\\u0000"}', '{"a": 1} x'])
def test_what_is_no_json_is_an_error_of_class_22(db, document):
    with pytest.raises(psycopg2.DataError):
        change(db, document)


def test_json_nested_without_end_is_an_error(db):
    with pytest.raises(psycopg2.errors.StatementTooComplex):
        change(db, '{"a":' + "[" * 100000 + "]" * 100000 + "}")


def test_depth_is_limited(db):
    assert change(db, {"a": {"b": 1}}, depth=2)[0] == "ok"
    assert change(db, {"a": {"b": {}}}, depth=2)[:2] == ("bad", "nested deeper than 2")


def test_size_is_limited_after_the_patch(db):
    assert change(db, {"a": "x" * 100}, size=150)[0] == "ok"
    outcome, why, _ = change(db, {"b": "x" * 100}, size=150)
    assert (outcome, "may have 150" in why) == ("too_large", True)
    assert state(db, "all")[0]["reported"] == {"a": "x" * 100}
    assert change(db, {"a": None, "b": "x" * 100}, size=150)[0] == "ok"


def test_change_only_of_a_version(db):
    version = change(db, {"a": 1})[2]
    assert change(db, {"a": 2}, version=version - 1)[::2] == ("precondition", version)
    assert change(db, {"a": 2}, version=0)[0] == "precondition"
    newer = change(db, {"a": 2}, version=version)
    assert newer[0] == "ok" and newer[2] > version
    assert change(db, {"a": 3}, device="y", version=0)[0] == "ok"
    assert state(db, "all")[0]["reported"] == {"a": 2}


def test_change_only_if_there_is_none_or_one(db):
    assert change(db, {"a": 1}, exists=True)[0] == "precondition"
    assert change(db, {"a": 1}, exists=False)[0] == "ok"
    assert change(db, {"a": 2}, exists=False)[0] == "precondition"
    assert change(db, {"a": 1}, exists=False, desired=True)[0] == "ok"
    assert change(db, {"a": 3}, exists=True)[0] == "ok"


def test_a_device_that_is_not_registered_has_nothing(db):
    assert change(db, {"a": 1}, device="nobody")[0] == "not_found"
    assert put(db, "v", b"", device="nobody")[0] == "not_found"
    assert state(db, "delta", device="nobody") == (None, 0)


def test_documents_end_with_the_device_and_follow_its_name(db):
    change(db, {"a": 1})
    put(db, "v", b"1")
    db.query("update principal set id = 'z' where id = 'x'")
    assert state(db, "all", device="z")[0]["reported"] == {"a": 1}
    assert get(db, "v", device="z")[4] == b"1"
    db.query("delete from device where id = 'z'")
    assert db.query("select device from device_state union all select device from device_value") == []


def in_parallel(db, calls):
    """Run each in a connection of its own, all at the same moment."""
    barrier, errors = threading.Barrier(len(calls)), []

    def run(sql):
        try:
            with contextlib.closing(db.connect(INGEST)) as connection:
                barrier.wait(30)
                query(connection, sql)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(sql,)) for sql in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


def test_patches_at_the_same_moment_are_all_in(db):
    for device, first in ("x", False), ("y", True):
        if not first:
            change(db, {"first": 1}, device=device)
        in_parallel(
            db,
            [f"select state_change('{device}', false, true, '{{\"k{n}\": {n}}}', null, null, 9999, 8)" for n in range(8)],
        )
        reported = state(db, "all", device=device)[0]["reported"]
        reported.pop("first", None)
        assert reported == {f"k{n}": n for n in range(8)}


# Values.


def test_a_value_is_kept_as_it_is(db):
    content = bytes(range(256))
    outcome, _, version = put(db, "v", content, form=60)
    assert outcome == "created"
    assert get(db, "v") == ("ok", "", version, 60, content)
    assert put(db, "v", b"", form=None)[0] == "ok"
    assert get(db, "v")[3:] == (None, b"")
    assert get(db, "v", device="y")[0] == "not_found"
    assert delete(db, "v") == "ok"
    assert delete(db, "v") == "not_found"
    assert get(db, "v")[0] == "not_found"


def test_version_of_a_value_never_comes_again(db):
    seen = []
    for _ in range(3):
        seen += [put(db, "v", b"1")[2], put(db, "v", b"2")[2], put(db, "v", b"2", form=50)[2]]
        assert put(db, "v", b"2", form=50)[2] == seen[-1]
        delete(db, "v")
    assert sorted(set(seen)) == seen


def test_who_changed_a_value(db):
    put(db, "v", b"1")
    assert db.value("select updated_by from device_value") == INGEST
    db.query("update device_value set version = 1, updated_by = 'me'")
    assert db.value("select updated_by from device_value where version > 1") == INGEST
    db.query("update device_value set value = '2'")
    assert db.value("select updated_by from device_value") == OWNER


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "a\n", "x" * 65, "a%", "a:b"])
def test_a_bad_name_is_refused(db, name):
    with pytest.raises(psycopg2.errors.CheckViolation):
        put(db, name, b"")
    assert get(db, name)[0] == "not_found"


@pytest.mark.parametrize("name", ["a", "...", "A-z_0.9", "x" * 64])
def test_a_good_name_is_accepted(db, name):
    assert put(db, name, b"")[0] == "created"


def test_size_and_number_of_values_are_limited(db):
    assert put(db, "v", b"123", size=3)[0] == "created"
    assert put(db, "w", b"1234", size=3)[0] == "too_large"
    assert put(db, "w", b"", count=2)[0] == "created"
    outcome, why, _ = put(db, "z", b"", count=2)
    assert (outcome, why) == ("too_large", "this device has 2 values already; delete one")
    assert put(db, "w", b"1", count=2)[0] == "ok"
    assert put(db, "z", b"", count=2, device="y")[0] == "created"


def test_number_of_values_holds_at_the_same_moment(db):
    in_parallel(db, [f"select value_put('x', 'v{n}', 0, '', null, null, 10, 3)" for n in range(8)])
    assert db.value("select count(*) from device_value") == 3


def test_value_only_of_a_version(db):
    version = put(db, "v", b"1")[2]
    assert put(db, "v", b"2", version=version + 1)[0] == "precondition"
    assert delete(db, "v", version=version + 1) == "precondition"
    assert put(db, "none", b"2", version=version)[0] == "precondition"
    assert delete(db, "none", version=version) == "precondition"
    assert put(db, "v", b"2", version=version)[0] == "ok"
    assert delete(db, "v", version=version) == "precondition"
    assert delete(db, "v", version=get(db, "v")[2]) == "ok"


def test_value_only_if_there_is_none_or_one(db):
    assert put(db, "v", b"1", exists=True)[0] == "precondition"
    assert delete(db, "v", exists=True) == "precondition"
    assert put(db, "v", b"1", exists=False)[0] == "created"
    assert put(db, "v", b"2", exists=False)[0] == "precondition"
    assert put(db, "v", b"3", exists=True)[0] == "ok"
    assert delete(db, "v", exists=True) == "ok"


# Notifications.


@contextlib.contextmanager
def listening(db):
    """A function that gives what was notified since it was last called."""
    with contextlib.closing(db.connect(INGEST)) as connection:
        query(connection, "listen fieldgate_document")

        def heard():
            query(connection, "select 1")
            payloads = sorted(n.payload for n in connection.notifies)
            assert {n.channel for n in connection.notifies} <= {"fieldgate_document"}
            connection.notifies.clear()
            return payloads

        yield heard


def test_changes_by_anybody_are_notified(db):
    with listening(db) as heard:
        change(db, {"a": 1}, desired=True)
        assert heard() == ["x"]
        db.query("update device_state set desired = '{\"a\": 2}' where device = 'x'")
        assert heard() == ["x"]
        db.query("insert into device_state (device, desired) values ('y', '{\"a\": 2}')")
        assert heard() == ["y"]
        db.query("delete from device_state where device = 'y'")
        assert heard() == ["y"]
        put(db, "v", b"1")
        put(db, "v", b"2")
        assert heard() == ["x/v"] * 2
        db.query("update device_value set value = '3'")
        assert heard() == ["x/v"]
        delete(db, "v")
        assert heard() == ["x/v"]
        db.query("select desire(id, '{\"a\": 3}') from device")
        assert heard() == ["x", "y"]


def test_what_is_no_change_is_not_notified(db):
    change(db, {"a": 1})
    put(db, "v", b"1")
    with listening(db) as heard:
        change(db, {"a": 1})
        change(db, {"a": 2}, version=1)
        change(db, "5")
        put(db, "v", b"1")
        put(db, "w", b"11", size=1)
        delete(db, "w")
        state(db, "all")
        db.query("update device_state set desired = desired; update device_value set value = value")
        assert heard() == []


def test_a_report_that_leaves_the_delta_alone_says_so(db):
    """A device that observes its delta is not woken for what it has just reported itself."""
    with listening(db) as heard:
        change(db, {"the first": "report"}, device="y")
        assert heard() == ["y/"]
        db.query("delete from device_state")
        assert heard() == ["y/"]
    change(db, {"a": 1}, desired=True)
    with listening(db) as heard:
        change(db, {"temperature": 20})
        assert heard() == ["x/"]
        change(db, {"a": 1})
        assert heard() == ["x"]
        change(db, {"temperature": 20}, desired=True)
        assert heard() == ["x/"]


def test_truncated_tables_may_have_changed_anything(db):
    with listening(db) as heard:
        db.query("truncate device_state")
        assert heard() == [""]
        db.query("truncate device_value")
        assert heard() == [""]


def test_both_names_of_a_device_that_is_renamed_are_notified(db):
    change(db, {"a": 1})
    put(db, "v", b"1")
    with listening(db) as heard:
        db.query("update principal set id = 'z' where id = 'x'")
        assert heard() == ["x/", "x/v", "z/", "z/v"]
        db.query("select desire('z', '{\"a\": 2}')")
        db.query("update principal set id = 'x' where id = 'z'")
        assert heard() == ["x", "x/v", "z", "z", "z/v"]
        db.query("delete from device where id = 'x'")
        assert heard() == ["x", "x/v"]


def test_the_longest_names_are_notified(db):
    device, name = "d" * 64, "n" * 64
    db.query("insert into device (id) values (%s)", (device,))
    with listening(db) as heard:
        put(db, name, b"", device=device)
        assert heard() == [f"{device}/{name}"]


# For people.


def test_device_shadow_shows_every_device(db):
    change(db, {"a": 1, "b": 2})
    db.query("""select desire('x', '{"a": 2}')""")
    db.query("insert into principal (id, kind, policy) values ('grafana', 'service', 'none')")
    rows = db.query(
        """select device, desired, reported, delta, desired_by, reported_by, desired_version > reported_version,
        desired_at >= reported_at from device_shadow order by device""",
        role=READER,
    )
    assert rows == [
        ("x", {"a": 2}, {"a": 1, "b": 2}, {"a": 2}, OWNER, INGEST, True, True),
        ("y", {}, {}, {}, None, None, None, None),
    ]


def test_desire_patches_and_shows_what_is_to_be_done(db):
    assert db.value("""select desire('x', '{"a": 1, "b": {"c": 2}, "gone": null}')""") == {"a": 1, "b": {"c": 2}}
    change(db, {"a": 1})
    assert db.value("""select desire('x', '{"b": {"d": 3}}')""") == {"b": {"c": 2, "d": 3}}
    assert db.value("""select desire('x', '{"b": null}')""") == {}
    with pytest.raises(psycopg2.errors.CheckViolation):
        db.query("select desire('x', '5')")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        db.query("select desire('nobody', '{}')")


def test_the_built_in_policy_gives_a_device_its_own_documents(db):
    rules = db.query(
        "select action, filter from policy_rule where policy = 'device' and filter ~ '(state|store)' order by 1, 2"
    )
    filters = ["m/d/${device}/state", "m/d/${device}/state/#", "m/d/${device}/store/#"]
    assert rules == list(itertools.product(["publish", "subscribe", "receive"], filters))
