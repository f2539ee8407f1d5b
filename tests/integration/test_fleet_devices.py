# SPDX-License-Identifier: Apache-2.0
"""pki/fleet, the life of a device's credentials: requests whose key stays in the device, a second credential,
renewal, approval, what ends soon, revocation by serial number, and lists of it. Lists of devices are in
test_fleet_batch.py, interruptions in test_fleet_crash.py."""

import datetime
import os
import pathlib
import re
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.pki import certificate_request, serial_text, validity  # noqa: E402

DAY = datetime.timedelta(days=1)


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


def refused(result, status, *words):
    assert result.returncode == status, result.stdout + result.stderr
    for word in words:
        assert word in result.stderr
    return result


def request_file(tmp_path, key, name="dev-1.csr", **options):
    path = tmp_path / name
    path.write_bytes(certificate_request(key, **options))
    return path


def public(key):
    return key.public_key().public_numbers()


def credentials(fleet, id):
    """(serial, revoked) of each, the oldest first."""
    return fleet.query(
        "select serial, revoked_at is not null from fieldgate.credential where principal = %s"
        " and kind = 'x509' order by created_at",
        (id,),
    )


def tree(directory):
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in pathlib.Path(directory).rglob("*")
        if path.name not in (".lock", "stage")
    }


def table(text):
    """{first column: the others}, without the two lines of the head."""
    return {line.split()[0]: line.split()[1:] for line in text.strip().split("\n")[2:]}


# --- add --csr ---


@pytest.mark.parametrize("form", ["pem", "der", "keygen", "answer"])
def test_certificate_for_a_request_has_its_key_and_nothing_else_of_it(fleet, tmp_path, key, form):
    fleet.run("add", "dev-1", "--csr", request_file(tmp_path, key, form=form))
    made = fleet.credentials("dev-1")
    assert os.listdir(made.directory) == ["cert.pem"]
    certificate = made.certificate
    assert certificate.public_key().public_numbers() == public(key)
    assert [a.value for a in certificate.subject] == ["dev-1"]
    assert credentials(fleet, "dev-1") == [(serial_text(certificate.serial_number), False)]
    assert os.listdir(fleet.dir / "stage") == []


def test_request_of_stdin(fleet, tmp_path, key):
    with open(request_file(tmp_path, key)) as file:
        fleet.run("add", "dev-1", "--csr", "-", stdin=file)
    assert fleet.credentials("dev-1").certificate.public_key().public_numbers() == public(key)


def test_no_private_key_is_written_for_a_request(fleet, tmp_path, key):
    before = set(tree(fleet.dir))
    fleet.run("add", "dev-1", "--csr", request_file(tmp_path, key))
    for path in set(tree(fleet.dir)) - before:
        assert path.is_dir() or b"PRIVATE KEY" not in path.read_bytes()


def _tampered(key):
    der = bytearray(certificate_request(key, form="der"))
    der[-1] ^= 1
    return bytes(der)


BAD_REQUESTS = {
    "half an answer": lambda key: certificate_request(key, form="keygen").split(b".")[0],
    "tampered": _tampered,
    "rsa": lambda key: certificate_request(rsa.generate_private_key(65537, 2048)),
    "p384": lambda key: certificate_request(ec.generate_private_key(ec.SECP384R1())),
    "rubbish": lambda key: b"this is no request\n",
    "empty": lambda key: b"",
    "private key": lambda key: key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_bad_request_adds_nothing(fleet, tmp_path, key, kind):
    (tmp_path / "bad").write_bytes(BAD_REQUESTS[kind](key))
    before = tree(fleet.dir)
    result = refused(fleet.run("add", "dev-1", "--csr", tmp_path / "bad", check=False), 1, "error:")
    assert "PRIVATE" not in result.stderr
    assert tree(fleet.dir) == before and fleet.query("select id from fieldgate.principal") == []
    assert os.listdir(fleet.dir / "stage") == []


def test_request_that_is_not_there(fleet, tmp_path):
    refused(fleet.run("add", "dev-1", "--csr", tmp_path / "none", check=False), 1, str(tmp_path / "none"))


def test_request_for_a_device_that_has_a_certificate_changes_nothing(fleet, tmp_path, key):
    file = request_file(tmp_path, key)
    fleet.run("add", "dev-1", "--csr", file)
    before = tree(fleet.dir)
    result = fleet.run("add", "dev-1", "--csr", file)
    assert result.stdout.startswith("exists: dev-1") and result.stderr == ""
    other = request_file(tmp_path, ec.generate_private_key(ec.SECP256R1()), "other.csr")
    result = fleet.run("add", "dev-1", "--csr", other)
    assert "another key" in result.stderr and "fleet renew dev-1" in result.stderr
    assert tree(fleet.dir) == before and len(credentials(fleet, "dev-1")) == 1


def test_lost_row_of_a_request_comes_back_only_for_the_same_key(fleet, tmp_path, key):
    file = request_file(tmp_path, key)
    fleet.run("add", "dev-1", "--csr", file)
    first = fleet.credentials("dev-1").fingerprint
    fleet.query("delete from fieldgate.principal")
    assert "registered again" in fleet.run("add", "dev-1", "--csr", file).stderr
    assert fleet.credentials("dev-1").fingerprint == first
    fleet.query("delete from fieldgate.principal")
    fleet.run("add", "dev-1", "--csr", request_file(tmp_path, ec.generate_private_key(ec.SECP256R1()), "other.csr"))
    assert fleet.credentials("dev-1").fingerprint != first


# --- issuer ---


def test_rows_say_which_authority_has_signed(fleet):
    fleet.add("dev-1")
    authority = x509.load_pem_x509_certificate((fleet.dir / "device-ca/cert.pem").read_bytes())
    ((issuer, name),) = fleet.query(
        "select c.issuer, a.name from fieldgate.credential c join fieldgate.authority a on a.fingerprint = c.issuer"
    )
    assert bytes(issuer) == authority.fingerprint(hashes.SHA256())
    assert name == f"device-ca-{serial_text(authority.serial_number)[-8:]}"
    assert name in fleet.run("show", "dev-1").stdout
    fleet.query("delete from fieldgate.principal")
    fleet.run("add", "dev-1")
    assert bytes(fleet.query("select issuer from fieldgate.credential")[0][0]) == bytes(issuer)


# --- add --psk, --jwt-key ---


def test_add_of_other_credentials_makes_a_device_without_certificate(fleet, tmp_path, key):
    public_file = tmp_path / "key.pub.pem"
    public_file.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    assert re.fullmatch(r"identity: dev-1\nkey: [0-9a-f]{64}\n", fleet.run("add", "dev-1", "--psk").stdout)
    fleet.query("insert into fieldgate.policy (name) values ('reader')")
    options = ["--policy", "reader", "--state", "pending"]
    assert "added key" in fleet.run("add", *options, "--jwt-key", public_file, "--", "dev-2").stdout
    fleet.run("add", "dev-1")
    fleet.run("add", "dev-2", "--psk")
    rows = "select principal, kind::text from fieldgate.credential order by principal, kind"
    assert fleet.query(rows) == [("dev-1", "psk"), ("dev-1", "x509"), ("dev-2", "jwt"), ("dev-2", "psk")]
    assert fleet.query("select id, state::text, policy from fieldgate.principal order by id") == [
        ("dev-1", "active", "device"),
        ("dev-2", "pending", "reader"),
    ]
    refused(fleet.run("add", "dev-1", "--psk", "--policy", "reader", check=False), 1, "policy 'device', not 'reader'")


# --- renew ---


def test_renewed_certificate_is_good_beside_the_old_one(fleet):
    (device,) = fleet.add("dev-1", days=100)
    (service,) = fleet.add("grafana", service=True)
    old = {path.name: path.read_bytes() for path in device.directory.iterdir()}
    serial = serial_text(device.certificate.serial_number)
    result = fleet.run("renew", "dev-1", "grafana", "dev-1", "--days", "400")
    assert result.stdout.count("renewed ") == 2 and f"fleet revoke {serial} --reason superseded" in result.stdout
    assert [revoked for _, revoked in credentials(fleet, "dev-1")] == [False, False]
    start, end = validity(device.certificate)
    assert abs(end - start - 400 * DAY) < DAY / 24
    assert device.key.read_bytes() != old["key.pem"] and len(credentials(fleet, "grafana")) == 2
    (aside,) = (path for path in (fleet.dir / "old").iterdir() if path.name.startswith("dev-1@"))
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == old
    assert fleet.query("select count(*) from fieldgate.credential where issuer is null") == [(0,)]
    assert os.listdir(fleet.dir / "stage") == []


def test_renewal_can_revoke_the_old_certificate_in_the_same_moment(fleet):
    fleet.add("dev-1", "dev-2")
    fleet.run("psk", "dev-1")
    result = fleet.run("renew", "dev-1", "--revoke-old")
    assert f"{credentials(fleet, 'dev-1')[0][0]} is revoked" in result.stdout
    assert [revoked for _, revoked in credentials(fleet, "dev-1")] == [True, False]
    assert [revoked for _, revoked in credentials(fleet, "dev-2")] == [False]
    reasons = "select kind::text, revocation_reason from fieldgate.credential where revoked_at is not null"
    assert fleet.query(reasons) == [("x509", "superseded")]


def test_device_with_its_own_key_is_renewed_by_a_request(fleet, tmp_path, key):
    file = request_file(tmp_path, key)
    fleet.run("add", "dev-1", "--csr", file)
    before = tree(fleet.dir)
    refused(fleet.run("renew", "dev-1", check=False), 1, "key of dev-1 is not here", "--csr", "--new-key")
    assert tree(fleet.dir) == before and len(credentials(fleet, "dev-1")) == 1
    fleet.run("renew", "dev-1", "--csr", file)
    assert os.listdir(fleet.credentials("dev-1").directory) == ["cert.pem"]
    assert fleet.credentials("dev-1").certificate.public_key().public_numbers() == public(key)
    assert len({serial for serial, _ in credentials(fleet, "dev-1")}) == 2
    fleet.run("renew", "dev-1", "--new-key")
    assert fleet.credentials("dev-1").key.exists()


@pytest.mark.parametrize("why, words", [("ghost", "no 'ghost'"), ("gone", "gone is revoked")])
def test_renewal_is_all_or_nothing(fleet, why, words):
    fleet.add("dev-1", "gone")
    fleet.revoke("gone")
    before = tree(fleet.dir)
    refused(fleet.run("renew", "dev-1", why, check=False), 1, words, "Nothing was renewed")
    assert tree(fleet.dir) == before and len(credentials(fleet, "dev-1")) == 1


# --- expiring ---


def test_expiring_lists_what_ends_and_whether_there_is_a_newer_one(fleet):
    fleet.add("later", days=40)
    fleet.add("soon", days=10)
    fleet.add("renewed", days=20)
    fleet.add("gone", days=10)
    fleet.add("over")
    fleet.query("update fieldgate.credential set not_after = now() - interval '3 days' where principal = 'over'")
    fleet.run("renew", "renewed")
    fleet.revoke("gone")
    lines = table(fleet.run("expiring").stdout)
    serial = {id: credentials(fleet, id)[0][0] for id in ("soon", "renewed")}
    assert {id: (line[0], line[-1]) for id, line in lines.items()} == {
        "over": ("x509", "no"), "soon": ("x509", "no"), "renewed": ("x509", "yes"),
    }  # fmt: skip
    assert list(lines) == ["over", "soon", "renewed"]
    assert all(lines[id][1] == serial[id] for id in serial)
    assert lines["soon"][-3:-1] == ["9", "days"] and "ended" in lines["over"]
    assert fleet.run("expiring", "--ids").stdout.split() == ["over", "soon"]
    assert fleet.run("expiring", "--ids", "--days", "45").stdout.split() == ["later", "over", "soon"]
    assert fleet.run("expiring", "--ids", "--days", "1").stdout.split() == ["over"]
    fleet.run("renew", "over", "soon")
    assert fleet.run("expiring", "--ids").stdout == ""
    assert "over" not in table(fleet.run("expiring").stdout)


# --- approve ---


def test_approve_lets_in_who_waits_and_nobody_else(fleet):
    fleet.add("p-1", "p-2", state="pending")
    fleet.add("dev-1")
    fleet.query("update fieldgate.principal set note = 'enrolled over MQTT' where id = 'p-1'")
    result = fleet.run("approve", "p-1", "dev-1")
    name = fleet.query("select name from fieldgate.authority")[0][0]
    assert f"approved p-1: certificate of {name}, enrolled over MQTT\n" in result.stdout
    assert "dev-1 is active already" in result.stdout
    states = "select id, state::text from fieldgate.principal order by id"
    assert fleet.query(states) == [("dev-1", "active"), ("p-1", "active"), ("p-2", "pending")]


@pytest.mark.parametrize("who, words", [("asleep", "is suspended"), ("gone", "is revoked"), ("ghost", "no 'ghost'")])
def test_approve_undoes_nobodys_decision(fleet, who, words):
    fleet.add("p-1", state="pending")
    fleet.add("asleep", "gone")
    fleet.run("suspend", "asleep")
    fleet.revoke("gone")
    states = "select id, state from fieldgate.principal order by id"
    before = fleet.query(states)
    refused(fleet.run("approve", "p-1", who, check=False), 1, words)
    assert fleet.query(states) == before


def test_approve_all_of_an_authority(fleet):
    fleet.add("p-1", "p-2", state="pending")
    fleet.add("dev-1", "asleep")
    fleet.run("suspend", "asleep")
    name = fleet.query("select name from fieldgate.authority")[0][0]
    # Nobody of this authority has signed this one.
    fleet.query("insert into fieldgate.principal (id, state) values ('stranger', 'pending')")
    refused(fleet.run("approve", "--all-of", "nobody", check=False), 1, "no authority 'nobody'")
    assert fleet.run("approve", "--all-of", name).stdout.count("approved ") == 2
    assert fleet.query("select id from fieldgate.principal where state = 'active' order by id") == [
        ("dev-1",), ("p-1",), ("p-2",),
    ]  # fmt: skip
    assert "no device" in fleet.run("approve", "--all-of", name).stdout


# --- revoke by serial number ---


def colons(serial):
    return ":".join(serial[i : i + 2] for i in range(0, len(serial), 2)).upper()


@pytest.mark.parametrize("form", [str, str.upper, colons, lambda serial: "00" + serial])
def test_revoke_takes_a_serial_number_however_it_is_written(fleet, form):
    fleet.add("dev-1")
    fleet.run("renew", "dev-1")
    (old, _), _ = credentials(fleet, "dev-1")
    result = fleet.run("revoke", form(old), "--reason", "superseded")
    assert f"{old} is a certificate of dev-1" in result.stderr and "is revoked" in result.stdout
    assert [revoked for _, revoked in credentials(fleet, "dev-1")] == [True, False]
    assert fleet.query("select state::text from fieldgate.principal") == [("active",)]
    assert "before" in fleet.run("revoke", form(old)).stdout


def test_a_device_of_that_name_comes_before_a_serial_number(fleet):
    fleet.add("dev-1")
    ((serial, _),) = credentials(fleet, "dev-1")
    fleet.add(serial)
    result = fleet.run("revoke", serial)
    assert "is a device" in result.stderr
    assert [revoked for _, revoked in credentials(fleet, "dev-1")] == [False]
    assert fleet.query("select state::text from fieldgate.principal where id = %s", (serial,)) == [("revoked",)]


def test_serial_number_of_nobody_and_of_two(fleet):
    fleet.add("dev-1", "dev-2")
    refused(fleet.run("revoke", "0123abcd", check=False), 1, "neither a device nor the serial number")
    fleet.query("update fieldgate.credential set serial = 'abcd', issuer = null")
    refused(fleet.run("revoke", "abcd", check=False), 1, "several", "--credential", "dev-1", "dev-2")


# --- crl ---


def read_crl(fleet):
    (path,) = (fleet.dir / "crl").iterdir()
    return path, x509.load_pem_x509_crl(path.read_bytes())


def test_crl_lists_what_is_revoked_and_is_signed_by_the_authority(fleet):
    fleet.add("dev-1", "dev-2", "dev-3", "dev-4")
    fleet.run("revoke", "dev-1", "--reason", "keyCompromise")
    fleet.revoke("dev-2")
    fleet.revoke("dev-3")
    fleet.query("update fieldgate.credential set not_after = now() - interval '31 days' where principal = 'dev-3'")
    fleet.run("crl")
    path, crl = read_crl(fleet)
    assert path.name == fleet.query("select name from fieldgate.authority")[0][0] + ".pem"
    authority, _ = fleet.authority("device-ca")
    assert crl.is_signature_valid(authority.public_key()) and crl.issuer == authority.subject
    listed = {serial_text(entry.serial_number): entry for entry in crl}
    serial = {id: credentials(fleet, id)[0][0] for id in ("dev-1", "dev-2")}
    assert set(listed) == set(serial.values())
    reason = listed[serial["dev-1"]].extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason == x509.ReasonFlags.key_compromise
    first = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    fleet.run("revoke", "dev-4", "--crl")
    path, crl = read_crl(fleet)
    assert credentials(fleet, "dev-4")[0][0] in {serial_text(entry.serial_number) for entry in crl}
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > first
    assert os.listdir(fleet.dir / "stage") == []


def test_crl_of_a_fleet_without_revocations_is_an_empty_list(fleet):
    fleet.add("dev-1")
    assert "0 revoked" in fleet.run("crl", "--days", "7").stdout
    assert len(list(read_crl(fleet)[1])) == 0


def test_crl_needs_a_key(fleet):
    (fleet.dir / "device-ca/key.pem").unlink()
    refused(fleet.run("crl", check=False), 1, "no key of a device CA")


def test_revoke_says_that_third_parties_need_a_list(fleet):
    fleet.add("dev-1")
    assert "fleet crl" in fleet.run("revoke", "dev-1").stderr
