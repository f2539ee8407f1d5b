# SPDX-License-Identifier: Apache-2.0
"""The function enrol(): who may call it, whom it registers, and that what was revoked stays so."""

import contextlib
import hashlib
import threading

import psycopg2.errors
import pytest

from harness.postgres import INGEST, OWNER, READER, fresh_database, query

START, END = "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"


def sha256(text):
    return hashlib.sha256(text.encode()).digest()


CA, OTHER_CA = sha256("ca"), sha256("other ca")


@pytest.fixture(scope="module")
def database():
    with fresh_database() as database:
        yield database


@pytest.fixture
def db(database):
    database.query("delete from principal; delete from revoked_certificate; delete from authority")
    add_authority(database, CA, "active")
    return database


def add_authority(db, fingerprint, enrolment, retired=None, policy="device"):
    db.query(
        "insert into authority (fingerprint, name, certificate, enrolment, policy, not_before, not_after, retired_at)"
        " values (%s, %s, 'x', %s, %s, %s, %s, %s)",
        [fingerprint, fingerprint.hex()[:8], enrolment, policy, START, END, retired],
    )


def device(id, certificate=None, serial=None, authority=CA, note="by a test"):
    certificate = certificate or f"certificate of {id}"
    return authority, id, sha256(certificate), serial or sha256(certificate).hex()[:32], START, END, note


def enrol(connection, *devices):
    """The rows it answers with."""
    return query(
        connection,
        "select id, state::text from enrol(%s::bytea[], %s, %s::bytea[], %s, %s::timestamptz[], %s::timestamptz[], %s)"
        " order by id",
        [list(column) for column in zip(*devices, strict=True)],
    )


def enrolled(db, *devices, role=INGEST):
    with contextlib.closing(db.connect(role)) as connection:
        return enrol(connection, *devices)


def ids(db):
    return [id for (id,) in db.query("select id::text from principal order by id")]


def test_who_may_call_it(db):
    assert enrolled(db, device("new-1")) == [("new-1", "active")]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        enrolled(db, device("new-2"), role=READER)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), contextlib.closing(db.connect(INGEST)) as connection:
        query(connection, "update authority set enrolment = 'active'")
    assert enrolled(db, device("new-2"), role=OWNER) == [("new-2", "active")]


def test_both_rows_say_what_was_asked(db):
    enrolled(db, device("new-1", note="n" * 300))
    assert db.query(
        "select p.kind::text, p.state::text, p.policy, length(p.note), c.kind::text, encode(c.fingerprint, 'hex'),"
        " c.serial, c.not_before = %s and c.not_after = %s, encode(c.issuer, 'hex')"
        " from principal p join credential c on c.principal = p.id",
        [START, END],
    ) == [("device", "active", "device", 200, "x509", device("new-1")[2].hex(), device("new-1")[3], True, CA.hex())]


def test_it_may_be_called_again(db):
    """A process that lost the answer asks once more."""
    before = db.value("select version from registry_version")
    assert enrolled(db, device("new-1"), device("new-2")) == [("new-1", "active"), ("new-2", "active")]
    assert enrolled(db, device("new-1"), device("new-2"), device("new-3")) == [("new-3", "active")]
    assert db.value("select count(*) from credential") == 3
    assert db.value("select version from registry_version") > before


def test_the_authority_decides_the_state(db):
    add_authority(db, OTHER_CA, "pending", policy="none")
    assert enrolled(db, device("new-1"), device("new-2", authority=OTHER_CA)) == [
        ("new-1", "active"), ("new-2", "pending"),
    ]
    assert db.value("select policy from principal where id = 'new-2'") == "none"


@pytest.mark.parametrize("change", ["enrolment = 'off'", "retired_at = now()"])
def test_an_authority_that_does_not_enrol(db, change):
    db.query(f"update authority set {change}")
    assert enrolled(db, device("new-1"), device("new-2", authority=OTHER_CA)) == [] == ids(db)


def test_a_name_that_is_taken_stays_as_it_is(db):
    db.query("insert into principal (id, state) values ('dev-1', 'suspended')")
    assert enrolled(db, device("dev-1"), device("new-1")) == [("new-1", "active")]
    assert db.query("select state::text from principal where id = 'dev-1'") == [("suspended",)]
    assert db.query("select principal::text from credential") == [("new-1",)]


def test_a_certificate_that_is_registered_for_somebody_else(db):
    enrolled(db, device("new-1", certificate="one"))
    assert enrolled(db, device("new-2", certificate="one", serial="0b")) == []
    assert ids(db) == ["new-1"]


def test_a_serial_number_is_given_once(db):
    """RFC 5280 section 4.1.2.2. Of two in one call the first counts; another authority has its own numbers."""
    add_authority(db, OTHER_CA, "active")
    assert enrolled(db, device("new-1", serial="0a"), device("new-2", serial="0a")) == [("new-1", "active")]
    assert enrolled(db, device("new-3", serial="0a")) == []
    assert enrolled(db, device("new-4", serial="0a", authority=OTHER_CA)) == [("new-4", "active")]
    assert ids(db) == ["new-1", "new-4"]


@pytest.mark.parametrize("serial", ["", "A0", "0x0a", "abc", "00" * 21])
def test_what_is_no_serial_number(db, serial):
    row = list(device("new-1"))
    row[3] = serial
    assert enrolled(db, tuple(row)) == [] == ids(db)


def test_one_name_twice_in_a_call(db):
    assert enrolled(db, device("new-1", "one"), device("new-1", "two")) == [("new-1", "active")]
    assert db.value("select encode(fingerprint, 'hex') from credential") == sha256("one").hex()


def test_what_was_revoked_is_not_enrolled_again(db):
    enrolled(db, device("new-1"), device("new-2"), device("new-3"), device("new-4"))
    db.query("update credential set revoked_at = now(), revocation_reason = 'keyCompromise' where principal = 'new-1'")
    db.query("update principal set state = 'revoked' where id = 'new-2'")
    db.query("update principal set state = 'suspended' where id = 'new-3'")
    db.query("delete from principal")
    assert db.query("select principal, revocation_reason, issuer is not null from revoked_certificate order by 1") == [
        ("new-1", "keyCompromise", True), ("new-2", None, True), ("new-3", None, True),
    ]
    # new-4 was in order, and only forgotten. A new certificate is another matter, but not under an old number.
    assert enrolled(db, *(device(f"new-{n}") for n in range(1, 5))) == [("new-4", "active")]
    assert enrolled(db, device("new-1", "a new one")) == [("new-1", "active")]
    assert enrolled(db, device("new-2", "another", serial=device("new-2")[3])) == []


def test_a_revoked_certificate_of_no_known_issuer_is_known_by_its_fingerprint(db):
    db.query("insert into principal (id) values ('new-1')")
    db.query("insert into credential (kind, fingerprint, principal, revoked_at) values ('x509', %s, 'new-1', now())",
             [device("new-1")[2]])
    db.query("delete from principal")
    assert enrolled(db, device("new-1")) == [] == ids(db)


@pytest.mark.parametrize("issuer", [CA, None])
def test_the_number_of_a_revoked_certificate_is_revoked(db, issuer):
    """The owner of a certificate can give it another fingerprint: a signature by ECDSA has two forms."""
    db.query("insert into principal (id) values ('new-1')")
    db.query("insert into credential (kind, fingerprint, principal, serial, issuer, revoked_at)"
             " values ('x509', %s, 'new-1', '0a0b', %s, now())", [sha256("before"), issuer])
    db.query("delete from principal")
    assert enrolled(db, device("new-1", "after", serial="0a0b")) == [] == ids(db)
    add_authority(db, OTHER_CA, "active")
    by_another = enrolled(db, device("new-1", "after", serial="0a0b", authority=OTHER_CA))
    assert by_another == ([("new-1", "active")] if issuer else [])


def test_a_revoked_row_that_is_deleted_alone_is_kept(db):
    enrolled(db, device("new-1"))
    db.query("delete from credential")
    assert db.value("select count(*) from revoked_certificate") == 0
    enrolled(db, device("new-2"))
    db.query("insert into credential (kind, fingerprint, principal, revoked_at) values"
             " ('psk', sha256('psk'), 'new-2', now()), ('x509_key', sha256('key'), 'new-2', now())")
    db.query("delete from credential where revoked_at is not null")
    assert db.query("select kind::text from revoked_certificate") == [("x509_key",)]


def test_two_processes_at_the_same_time_make_one_row_each(db):
    """In both orders, as often as it takes: no deadlock, nothing twice, and each is somebody's."""
    devices = [device(f"new-{n:03}") for n in range(200)]
    answers, errors = [], []

    def call(batch):
        try:
            answers.append(enrolled(db, *batch))
        except psycopg2.Error as error:
            errors.append(error)

    for _ in range(5):
        db.query("delete from principal")
        answers.clear()
        threads = [threading.Thread(target=call, args=(batch,)) for batch in (devices, devices[::-1], devices[50:])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert sorted(id for answer in answers for id, _ in answer) == [d[1] for d in devices]
        assert db.value("select count(*) from credential") == 200
