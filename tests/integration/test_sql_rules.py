# SPDX-License-Identifier: Apache-2.0
"""Rules as rows: what their table refuses, when the processes are told to read them, what these answer."""

import contextlib
import json
import pathlib
import sys

import psycopg2.errors
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, OWNER, READER, fresh_database, query  # noqa: E402

SQL = "SELECT * FROM 'm/d/+/d2c'"


@pytest.fixture
def db():
    with fresh_database() as database:
        database.query("insert into rule (name, sql) values ('hot', %s)", (SQL,))
        yield database


@pytest.fixture(scope="module")
def table():
    """For inserts that are refused."""
    with fresh_database() as database:
        yield database


def row(db, name="hot"):
    """revision, problem, judged_at"""
    return db.query("select revision, problem, judged_at from rule where name = %s", (name,))[0]


def judge(db, name, revision, problem):
    return db.query("select rule_judged(%s, %s, %s)", (name, revision, problem), role=INGEST)[0][0]


@contextlib.contextmanager
def heard(db):
    """A function: (how far registry_version has moved, how many notifications came) since it was last called."""
    with contextlib.closing(db.connect(INGEST)) as connection:
        query(connection, "listen fieldgate_registry")
        known = query(connection, "select version from registry_version")[0][0]

        def since():
            nonlocal known
            before, known = known, query(connection, "select version from registry_version")[0][0]
            count = len(connection.notifies)
            connection.notifies.clear()
            return known - before, count

        yield since


# What is refused, by a constraint whose name says what is expected.


@pytest.mark.parametrize("name", ["", "a b", "hot/1", "x" * 65, "ä"])
def test_a_name_is_one_of_principals_alphabet(table, name):
    with pytest.raises(psycopg2.errors.CheckViolation, match=r"rule\.name: 1 to 64 of A-Z a-z 0-9 _ \. : -"):
        table.query("insert into rule (name, sql) values (%s, %s)", (name, SQL))


def test_a_statement_has_a_bounded_length(table):
    for sql in "", "x" * 8193, "ä" * 4097:
        with pytest.raises(psycopg2.errors.CheckViolation, match=r"rule\.sql: 1 to 8192 bytes"):
            table.query("insert into rule (name, sql) values ('x', %s)", (sql,))


@pytest.mark.parametrize(
    "actions", ["null", "{}", '"x"', "1", "[1]", "[null]", '[{}, "drop"]', "[[]]", json.dumps([{}] * 11)]
)
def test_actions_are_an_array_of_objects(table, actions):
    with pytest.raises(psycopg2.errors.CheckViolation, match=r"rule\.actions: an array of at most 10 objects"):
        table.query("insert into rule (name, sql, actions) values ('x', %s, %s)", (SQL, actions))


@pytest.mark.parametrize("action", ["null", "[]", '"x"', "1"])
def test_an_error_action_is_one_object(table, action):
    with pytest.raises(psycopg2.errors.CheckViolation, match=r"rule\.error_action: null or an object"):
        table.query("insert into rule (name, sql, error_action) values ('x', %s, %s)", (SQL, action))


def test_actions_have_a_bounded_length(table):
    long = json.dumps({"republish": {"topic": "x" * 65535}})
    with pytest.raises(psycopg2.errors.CheckViolation, match=r"rule\.actions: at most 65535 bytes"):
        table.query("insert into rule (name, sql, actions) values ('x', %s, %s)", (SQL, f"[{long}]"))
    with pytest.raises(psycopg2.errors.CheckViolation, match=r"rule\.error_action: at most 65535 bytes"):
        table.query("insert into rule (name, sql, error_action) values ('x', %s, %s)", (SQL, long))


@pytest.mark.parametrize("column", ["name", "sql", "actions", "enabled", "description"])
def test_null_is_refused(db, column):
    with pytest.raises(psycopg2.errors.NotNullViolation):
        db.query(f"update rule set {column} = null")


def test_the_largest_rule_is_taken(db):
    db.query(
        "insert into rule (name, sql, actions, error_action) values (%s, %s, %s, %s)",
        ("x" * 64, "x" * 8192, json.dumps([{"drop": {}}] * 10), '{"republish": {}}'),
    )
    assert row(db, "x" * 64)[0] > 0


# Revisions, and who is told.

MATTERS = {
    "name": "'warm'",
    "sql": "'SELECT 1 FROM ''x'''",
    "actions": """'[{"drop": {}}]'""",
    "error_action": """'{"republish": {"topic": "x"}}'""",
    "enabled": "false",
}


@pytest.mark.parametrize("column", MATTERS)
def test_what_processes_read_makes_a_revision_and_tells_them(db, column):
    before = row(db)[0]
    assert judge(db, "hot", before, "it is wrong")
    with heard(db) as since:
        db.query(f"update rule set {column} = {MATTERS[column]}")
        assert since() == (1, 1)
    ((revision, problem, judged_at),) = db.query("select revision, problem, judged_at from rule")
    assert revision > before
    assert (problem, judged_at) == (None, None)


def test_an_error_action_that_is_taken_away_is_a_change(db):
    db.query("update rule set error_action = '{}'")
    before = row(db)[0]
    with heard(db) as since:
        db.query("update rule set error_action = null")
        assert since() == (1, 1)
    assert row(db)[0] > before


@pytest.mark.parametrize(
    "change",
    [
        "description = 'for people'",
        "problem = 'x'",
        "judged_at = now()",
        "created_at = now()",
        "revision = 1",
        "sql = sql, enabled = enabled, actions = '[ ]'",
    ],
)
def test_what_they_do_not_read_tells_nobody(db, change):
    before = row(db)[0]
    with heard(db) as since:
        db.query(f"update rule set {change}")
        assert since() == (0, 0)
    assert row(db)[0] == before


def test_inserted_deleted_and_truncated_rules_tell_them(db):
    with heard(db) as since:
        db.query("insert into rule (name, sql) values ('a', 'x'), ('b', 'x')")
        assert since() == (1, 1)
        db.query("delete from rule where name = 'a'")
        assert since() == (1, 1)
        db.query("truncate rule cascade")
        assert since() == (1, 1)


def test_one_that_matters_among_many_is_enough(db):
    db.query("insert into rule (name, sql) select 'r' || i, 'x' from generate_series(1, 100) i")
    with heard(db) as since:
        db.query("update rule set description = 'x', enabled = name <> 'r50'")
        assert since() == (1, 1)


def test_who_exchanges_names_is_heard(db):
    db.query("insert into rule (name, sql, enabled) values ('cold', %s, false)", (SQL,))
    with heard(db) as since:
        with contextlib.closing(db.connect(OWNER)) as connection:
            connection.autocommit = False
            query(connection, "update rule set name = 'x' where name = 'hot'")
            query(connection, "update rule set name = 'hot' where name = 'cold'")
            query(connection, "update rule set name = 'cold' where name = 'x'")
            connection.commit()
        assert since() == (3, 1)


def test_a_revision_does_not_come_again_with_the_name(db):
    before = row(db)[0]
    db.query("delete from rule")
    db.query("insert into rule (name, sql, revision) values ('hot', %s, 1)", (SQL,))
    assert row(db)[0] > before


def test_a_rule_does_not_come_with_a_verdict(db):
    db.query("insert into rule (name, sql, problem, judged_at) values ('new', 'x', 'y', now())")
    assert row(db, "new")[1:] == (None, None)


# What a process says of a rule.


def test_a_verdict_is_kept_once(db):
    revision = row(db)[0]
    with heard(db) as since:
        assert judge(db, "hot", revision, "line 1, column 3: expected SELECT")
        assert not judge(db, "hot", revision, "line 1, column 3: expected SELECT")
        assert row(db)[1] == "line 1, column 3: expected SELECT"
        assert judge(db, "hot", revision, None)
        assert row(db)[1] is None
        assert row(db)[2] is not None
        assert not judge(db, "hot", revision, None)
        assert since() == (0, 0)
    assert row(db)[0] == revision


def test_the_first_verdict_is_kept_also_when_it_is_in_force(db):
    assert row(db)[2] is None
    assert judge(db, "hot", row(db)[0], None)
    assert row(db)[2] is not None


def test_a_verdict_on_another_revision_is_no_verdict(db):
    old = row(db)[0]
    db.query("update rule set sql = 'SELECT'")
    assert not judge(db, "hot", old, "old")
    assert not judge(db, "gone", row(db)[0], "gone")
    assert not judge(db, None, None, None)
    assert row(db)[1:] == (None, None)


def test_a_long_verdict_is_cut_and_still_known(db):
    revision = row(db)[0]
    assert judge(db, "hot", revision, "x" * 5000)
    assert not judge(db, "hot", revision, "x" * 5000)
    assert row(db)[1] == "x" * 1000


def test_everybody_reads_rules_and_only_the_owner_writes_them(db):
    for role in INGEST, READER:
        assert db.query("select name, sql, enabled from rule", role=role) == [("hot", SQL, True)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        db.query("select rule_judged('hot', 1, null)", role=READER)


# The right of the bus.


def test_relay_is_a_right_like_the_others(db):
    with heard(db) as since:
        db.query("insert into policy_rule (policy, action, filter) values ('none', 'relay', '#')")
        assert since() == (1, 1)
    assert db.query("select action::text from policy_rule where policy = 'none'") == [("relay",)]
