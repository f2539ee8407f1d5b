# SPDX-License-Identifier: Apache-2.0
"""The policy of the service that fieldgate-coap shows itself to the broker as, and that no device gets the right
`relay`: what comes with it is not stored."""

import contextlib
import pathlib
import sys
import threading

import psycopg2.errors
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import OWNER, fresh_database, query  # noqa: E402


@pytest.fixture
def db():
    with fresh_database() as database:
        database.query(
            """insert into policy (name) values ('plain'), ('relays');
            insert into policy_rule (policy, action, filter) values ('relays', 'relay', 'm/#');
            insert into principal (id) values ('dev-1');
            insert into principal (id, policy) values ('dev-2', 'plain');
            insert into principal (id, kind, policy) values ('backend', 'service', 'relays')"""
        )
        yield database


def test_the_built_in_policy_publishes_and_relays_and_reads_nothing(db):
    assert db.query("select effect::text, action::text, filter from policy_rule where policy = 'bus' order by 2") == [
        ("allow", "publish", "#"),
        ("allow", "relay", "#"),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into principal (id, policy) values ('dev-3', 'bus')",
        "insert into device (id, policy) values ('dev-3', 'relays')",
        "update principal set policy = 'relays' where id = 'dev-1'",
        "update device set policy = 'bus'",
        "update principal set kind = 'device' where id = 'backend'",
        "insert into policy_rule (policy, action, filter) values ('plain', 'publish', 'x'), ('plain', 'relay', 'x')",
        "insert into policy_rule (policy, action, filter) values ('device', 'relay', '#')",
        "update policy_rule set action = 'relay' where policy = 'device' and filter = 'm/d/${device}/c2d'"
        " and action = 'receive'",
        "update policy_rule set policy = 'plain' where policy = 'relays'",
    ],
)
def test_a_device_never_has_the_right_to_relay(db, sql):
    with pytest.raises(psycopg2.errors.CheckViolation, match="may not have policy"):
        db.query(sql)


def test_services_may_have_it_and_devices_everything_else(db):
    db.query("insert into principal (id, kind, policy) values ('fieldgate-coap', 'service', 'bus')")
    db.query("update principal set state = 'suspended' where id = 'backend'")
    db.query("insert into policy_rule (policy, action, filter) values ('plain', 'publish', '#')")
    db.query("insert into policy_rule (policy, effect, action, filter) values ('plain', 'deny', 'relay', '#')")
    db.query("update principal set policy = 'none' where id = 'dev-1'")


def test_two_transactions_at_once_do_not_make_such_a_device(db):
    """One gives the policy to a device, the other the right to the policy: neither sees the other's rows."""
    with contextlib.closing(db.connect(OWNER)) as one, contextlib.closing(db.connect(OWNER)) as other:
        one.autocommit = other.autocommit = False
        query(one, "insert into policy (name) values ('fresh')")
        one.commit()
        query(one, "insert into principal (id, policy) values ('dev-3', 'fresh')")
        refused = []

        def give_right():
            try:
                query(other, "insert into policy_rule (policy, action, filter) values ('fresh', 'relay', '#')")
                other.commit()
            except psycopg2.errors.CheckViolation:
                refused.append(True)

        thread = threading.Thread(target=give_right)
        thread.start()
        thread.join(1)
        one.commit()
        thread.join(30)
        assert not thread.is_alive()
    assert refused == [True]
    assert db.query("select count(*) from policy_rule where policy = 'fresh'") == [(0,)]
