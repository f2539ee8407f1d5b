# SPDX-License-Identifier: Apache-2.0
"""A device that nobody has registered comes with a certificate of the fleet's CA: over MQTT and over CoAP, with
the database there and away, alone and with five hundred others."""

import concurrent.futures
import ssl

import pytest

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import utils

from harness import mqtt
from harness.coap_client import ClientError
from harness.mqtt import Closed, eventually
from harness.pki import serial_text, validity

ACCEPTED, REFUSED, WITHIN_S = 0, 5, 5


class World:
    """A broker and a CoAP server over one registry, or one of them. Certificates of the fleet whose devices
    nobody has registered."""

    def __init__(self, coap):
        self.coap = coap
        self.query, self.value, self.wait_rows = coap.query, coap.value, coap.wait_rows

    def authority(self, enrolment, directory="device-ca", policy="device"):
        certificate, _ = self.coap.fleet.authority(directory)
        start, end = validity(certificate)
        self.query(
            "insert into authority (fingerprint, name, certificate, enrolment, policy, not_before, not_after)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            certificate.fingerprint(hashes.SHA256()), directory,
            certificate.public_bytes(serialization.Encoding.DER), enrolment, policy, start, end,
        )

    def unknown(self, id, kind="other_key"):
        return self.coap.fleet.forge(kind, id, self.coap.directory / "unknown" / kind)

    def start_broker(self, settings=None):
        self.broker = self.coap.broker(settings=settings)
        self.broker.start()
        return self.broker

    def start_server(self, settings=None):
        self.server = self.coap.started(settings)
        return self.server

    def mqtt(self, credentials):
        client = mqtt.Client(self.broker.port, credentials.id, self.coap.tls(credentials))
        self.coap.cleanup.callback(client.drop)
        return client

    def mqtt_code(self, credentials):
        """Of the CONNACK; None: there was none."""
        try:
            return self.mqtt(credentials).connect().code
        except (Closed, ssl.SSLError, ConnectionError):
            return None

    def coap_device(self, credentials):
        return self.coap.connected(credentials, self.server)

    def tries(self, protocol, credentials):
        """Is it let in?"""
        if protocol == "mqtt":
            return self.mqtt_code(credentials) == ACCEPTED
        device = self.coap.device(credentials, self.server)
        try:
            device.handshake()
            return True
        except ClientError:
            return False
        finally:
            device.close()
            device.forget()

    def start(self, protocol, settings=None):
        return self.start_broker(settings) if protocol == "mqtt" else self.start_server(settings)

    def says(self, protocol, pattern, since=0):
        event = "connect_refused" if protocol == "mqtt" else "handshake_refused"
        daemon = self.broker if protocol == "mqtt" else self.server
        return daemon.wait_log(f"event={event} .*{pattern}", since)

    def daemon(self, protocol):
        return self.broker if protocol == "mqtt" else self.server

    def state(self, id):
        return self.query("select state::text from principal where id = %s", id)

    def wait_enrolled(self, *ids):
        return self.wait_rows(
            "select p.id from principal p join credential c on c.principal = p.id where p.id = any(%s)",
            list(ids), count=len(ids),
        )


@pytest.fixture
def world(coap):
    return World(coap)


both = pytest.mark.parametrize("protocol", ["mqtt", "coap"])


# --- Active ---


def test_active_mqtt_device_works_in_its_first_connection(world):
    world.authority("active")
    device = world.unknown("new-1")
    world.start_broker()
    client = world.mqtt(device).accepted()
    assert client.publish("m/d/new-1/d2c", b'{"seq": 1, "temperature": 21}', qos=1) == 0
    assert client.subscribe("m/d/new-1/c2d") == 1
    world.wait_enrolled("new-1")
    world.wait_rows("select 1 from telemetry where device = 'new-1' and temperature = 21")
    world.wait_rows("select 1 from presence_event where device = 'new-1' and event = 'connected'")
    world.query("insert into downlink (device, payload) values ('new-1', 'hello')")
    assert client.receive().payload == b"hello"
    # Its policy, and no more; and the registry, which knows it by now, changes nothing of that.
    world.query("insert into principal (id) values ('canary')")
    client.ping()
    with pytest.raises(Closed):
        client.publish("m/d/other/d2c", b"{}", qos=1)


def test_active_coap_device_works_in_its_first_session(world):
    world.authority("active")
    device = world.unknown("new-1")
    world.start_server()
    session = world.coap_device(device)
    assert session.telemetry(1).code == "2.01"
    world.wait_enrolled("new-1")
    world.coap.wait_seqs("new-1", [1])
    world.wait_rows("select 1 from presence_event where device = 'new-1' and event = 'connected'")
    world.coap.documents_ready(session)
    world.query("insert into principal (id) values ('canary')")
    assert session.telemetry(2).code == "2.01"
    world.coap.wait_seqs("new-1", [1, 2])


@both
def test_what_is_registered_is_what_the_certificate_says(world, protocol):
    world.query("insert into policy (name) values ('quiet')")
    world.authority("active", policy="quiet")
    device = world.unknown("new-1")
    world.start(protocol)
    assert world.tries(protocol, device)
    world.wait_enrolled("new-1")
    certificate = device.certificate
    ca, _ = world.coap.fleet.authority("device-ca")
    assert world.query(
        "select p.kind::text, p.state::text, p.policy, c.kind::text, encode(c.fingerprint, 'hex'), c.serial,"
        " c.not_before, c.not_after, encode(c.issuer, 'hex') from principal p join credential c on c.principal = p.id"
    ) == [(
        "device", "active", "quiet", "x509", device.fingerprint.hex(), serial_text(certificate.serial_number),
        *validity(certificate), ca.fingerprint(hashes.SHA256()).hex(),
    )]
    assert "enrolled by device-ca, from 127.0.0.1" in world.value("select note from principal")
    (line,) = world.daemon(protocol).wait_log("event=device_enrolled")
    serial = serial_text(certificate.serial_number)
    for part in ("device=new-1", "state=active", "authority=device-ca", f"serial={serial}", "address=127.0.0.1"):
        assert part in line, line


@both
def test_an_enrolled_device_is_known_after_a_restart(world, protocol):
    world.authority("active")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    assert world.tries(protocol, device)
    world.wait_enrolled("new-1")
    daemon.stop()
    daemon.start()
    eventually(lambda: world.tries(protocol, device), WITHIN_S, "acceptance")
    assert len(daemon.log_lines("event=device_enrolled")) == 1


@both
def test_suspended_after_enrolment_is_out(world, protocol):
    world.authority("active")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    assert world.tries(protocol, device)
    world.wait_enrolled("new-1")
    world.coap.set_state("new-1", "suspended")
    eventually(lambda: not world.tries(protocol, device), WITHIN_S, "refusal")
    assert world.says(protocol, "pki/fleet resume new-1")
    assert len(daemon.log_lines("event=device_enrolled")) == 1


def give_another_form(credentials):
    """The same certificate with the other signature that is as good: (r, n - s), of another SHA-256."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    certificate = credentials.certificate
    r, s = utils.decode_dss_signature(certificate.signature)
    old, new = certificate.signature, utils.encode_dss_signature(r, order - s)

    def lengthened(head, body):
        """head: a tag and what stands before body."""
        content = head[1:] + body
        size = len(content)
        return head[:1] + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + content

    der = certificate.public_bytes(serialization.Encoding.DER)
    bits = lengthened(b"\x03\x00", old)
    assert der.endswith(bits) and der[1] == 0x82
    changed = lengthened(der[:1] + der[4:-len(bits)], lengthened(b"\x03\x00", new))
    pem = x509.load_der_x509_certificate(changed).public_bytes(serialization.Encoding.PEM)
    credentials.cert.write_bytes(pem)


@both
def test_another_form_of_a_revoked_certificate_is_refused(world, protocol):
    """Its device was deleted: nothing but revoked_certificate knows it."""
    world.authority("active")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    assert world.tries(protocol, device)
    world.wait_enrolled("new-1")
    world.coap.set_state("new-1", "revoked")
    world.query("delete from principal")
    before = device.fingerprint
    give_another_form(device)
    assert device.fingerprint != before
    why = "not enrolled: its certificate was revoked before new-1 was deleted"
    eventually(lambda: not world.tries(protocol, device) and daemon.log_lines(why), WITHIN_S, "refusal")
    assert world.query("select id from principal") == []


# --- Pending ---


@both
def test_pending_is_refused_until_it_is_approved(world, protocol):
    world.authority("pending")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    assert not world.tries(protocol, device)
    world.says(protocol, "pending: .*to let it in: `pki/fleet approve new-1`")
    world.wait_enrolled("new-1")
    assert world.state("new-1") == [("pending",)]
    for _ in range(3):
        assert not world.tries(protocol, device)
    assert len(daemon.log_lines("event=device_enrolled")) == 1
    (line,) = daemon.log_lines("event=device_enrolled")
    assert "device=new-1" in line and "state=pending" in line and "pki/fleet approve new-1" in line
    world.coap.set_state("new-1", "active")
    eventually(lambda: world.tries(protocol, device), WITHIN_S, "acceptance")


# --- Who is not enrolled ---


def refused(world, protocol, device, why):
    assert not world.tries(protocol, device)
    world.says(protocol, why)


@both
def test_ca_that_the_registry_does_not_know_enrols_nobody(world, protocol):
    world.start(protocol)
    refused(world, protocol, world.unknown("new-1"), "not registered")
    assert world.query("select id from principal") == []


@both
def test_ca_whose_name_another_authority_has_enrols_nobody(world, protocol):
    """Only the server CA is registered, and it has not signed this."""
    world.authority("active", "server-ca")
    world.start(protocol)
    refused(world, protocol, world.unknown("new-1"), "its CA .* is not in fieldgate.authority")
    assert world.query("select id from principal") == []


@both
def test_enrolment_that_is_off(world, protocol):
    world.authority("off")
    world.start(protocol)
    refused(world, protocol, world.unknown("new-1"), "enrolment by its CA device-ca is off")
    assert world.query("select id from principal") == []


@both
@pytest.mark.parametrize("change", ["retired_at = now()", "enrolment = 'off'"])
def test_what_an_authority_loses_holds_for_the_next_device(world, protocol, change):
    world.authority("active")
    world.start(protocol)
    assert world.tries(protocol, world.unknown("new-1"))
    world.wait_enrolled("new-1")
    world.query(f"update authority set {change}")
    attempts = iter(range(2, 1000))
    eventually(
        lambda: not world.tries(protocol, world.unknown(f"new-{next(attempts)}")), WITHIN_S, "refusal"
    )
    assert world.tries(protocol, world.unknown("new-1")) is False  # another key of a name that is taken


@both
def test_a_name_that_is_taken_is_given_no_other_certificate(world, protocol):
    world.authority("active")
    genuine = world.coap.devices("dev-1")["dev-1"]
    world.start(protocol)
    refused(world, protocol, world.unknown("dev-1"), "dev-1 is registered with another certificate")
    assert world.tries(protocol, genuine)
    assert world.value("select count(*) from credential") == 1


@both
def test_two_keys_of_one_new_name_are_one_device(world, protocol):
    world.authority("active")
    first, second = world.unknown("new-1"), world.unknown("new-1", "cn_only")
    world.start(protocol)
    assert world.tries(protocol, first)
    refused(world, protocol, second, "new-1 is registered with another certificate")
    world.wait_enrolled("new-1")
    assert world.value("select count(*) from credential") == 1


@both
@pytest.mark.parametrize("kind", ["p384", "rsa", "wrong_eku", "ca_as_leaf", "expired", "not_yet_valid"])
def test_a_certificate_that_is_not_as_the_fleets_are(world, protocol, kind):
    """TLS refuses them before anybody is asked who that is; tests/unit/test_enrolment.c goes past TLS."""
    world.authority("active")
    world.start(protocol)
    assert not world.tries(protocol, world.unknown("new-1", kind))
    assert world.query("select id from principal") == []


@both
def test_revoked_stays_revoked_when_the_device_is_deleted(world, protocol):
    world.authority("active")
    device = world.unknown("new-1")
    world.start(protocol)
    assert world.tries(protocol, device)
    world.wait_enrolled("new-1")
    world.query("update credential set revoked_at = now(); delete from principal")
    eventually(lambda: not world.tries(protocol, device), WITHIN_S, "refusal")
    world.says(protocol, "its certificate was revoked before new-1 was deleted")
    assert world.query("select id from principal") == []


@both
def test_a_full_queue_tells_devices_to_try_again(world, protocol):
    world.authority("active")
    daemon = world.start(protocol, {"registry.max_enrolments": 0})
    assert not world.tries(protocol, world.unknown("new-1"))
    daemon.wait_log("registry.max_enrolments")
    assert world.query("select id from principal") == []


@both
def test_an_authority_has_so_many_turns_in_a_minute(world, protocol):
    world.authority("active")
    daemon = world.start(protocol, {"registry.enrolments_per_minute": 2})
    let_in = [world.tries(protocol, world.unknown(f"new-{n}")) for n in range(4)]
    assert let_in == [True, True, False, False]
    daemon.wait_log("registry.enrolments_per_minute")


# --- The database is away ---


@both
def test_without_a_confirmed_registry_devices_are_told_to_try_again(world, protocol):
    world.authority("active")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    daemon.stop()
    world.coap.stop_database()
    daemon.start()
    assert not world.tries(protocol, device)
    daemon.wait_log("the database has not been read yet")
    world.coap.start_database()
    eventually(lambda: world.tries(protocol, device), 15, "acceptance")
    world.wait_enrolled("new-1")


@both
def test_a_device_that_comes_while_the_database_is_away_is_registered_later(world, protocol):
    world.authority("active")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    world.coap.stop_database()
    daemon.wait_log("event=registry_database_lost")
    if protocol == "mqtt":
        client = world.mqtt(device).accepted()
        assert client.publish("m/d/new-1/d2c", b'{"seq": 1, "temperature": 21}', qos=1) == 0
    else:
        session = world.coap_device(device)
        assert session.telemetry(1).code == "2.01"
    world.coap.start_database()
    world.wait_enrolled("new-1")
    world.wait_rows("select 1 from telemetry where device = 'new-1'", timeout=30)
    if protocol == "mqtt":
        client.ping()
    else:
        assert session.telemetry(2).code == "2.01"
    assert len(daemon.wait_log("event=device_enrolled")) == 1


@both
def test_enrolment_that_was_switched_off_while_the_database_was_away(world, protocol):
    """The device is let in by what was known, and sent away by what the database says."""
    world.authority("active")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    with world.coap.postgres.connect(dbname=world.coap.database) as blocker:
        # Nobody is registered, and nothing loaded, until this ends.
        blocker.autocommit = False
        with blocker.cursor() as cursor:
            cursor.execute("lock table authority in access exclusive mode")
            cursor.execute("update authority set enrolment = 'off'")
            if protocol == "mqtt":
                client = world.mqtt(device).accepted()
            else:
                session = world.coap_device(device)
        blocker.commit()
    if protocol == "mqtt":
        client.wait_closed(15)
    else:
        assert session.closed(timeout=15)
    daemon.wait_log("event=session_closed device=new-1 .*not registered any more")
    assert world.query("select id from principal") == []
    assert not world.tries(protocol, device)


# --- Many at once ---


def test_five_hundred_unknown_devices_at_once(world):
    world.authority("active")
    ids = [f"new-{n}" for n in range(500)]
    devices = [world.unknown(id) for id in ids]
    broker = world.start_broker()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        codes = list(pool.map(world.mqtt_code, devices))
    assert codes == [ACCEPTED] * 500
    world.wait_enrolled(*ids)
    assert world.value("select count(*) from credential") == 500
    lines = broker.wait_log("event=device_enrolled", count=500)
    assert len(lines) == 500 and len(broker.log_lines("event=session_closed")) == 0


def test_both_servers_enrol_one_device_at_the_same_time(world):
    world.authority("active")
    world.start_server({"coap.workers": 2})
    world.start_broker()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for n in range(20):
            device = world.unknown(f"new-{n}")
            over_mqtt = pool.submit(world.mqtt_code, device)
            session = world.coap_device(device)
            assert over_mqtt.result() == ACCEPTED
            assert session.telemetry(1).code == "2.01"
            session.close()
    world.wait_enrolled(*[f"new-{n}" for n in range(20)])
    world.wait_rows("select 1 from telemetry", count=20)
    assert world.query("select principal from credential group by 1 having count(*) <> 1") == []
    both = (world.broker, world.server)
    pattern = "event=device_enrolled"
    eventually(lambda: sum(len(d.log_lines(pattern)) for d in both) == 20, WITHIN_S, "a line for each")
    for daemon in both:
        assert daemon.log_lines("event=(session_closed|enrolment_failed|registry_database_lost)") == []


@both
def test_killed_at_once_the_device_is_enrolled_again(world, protocol):
    world.authority("active")
    device = world.unknown("new-1")
    daemon = world.start(protocol)
    with world.coap.postgres.connect(dbname=world.coap.database) as blocker:
        blocker.autocommit = False
        with blocker.cursor() as cursor:
            cursor.execute("lock table principal in share mode")
            assert world.tries(protocol, device)
            daemon.kill()
        blocker.rollback()
    daemon.start()
    eventually(lambda: world.tries(protocol, device), WITHIN_S, "acceptance")
    world.wait_enrolled("new-1")
    assert world.value("select count(*) from credential") == 1


def test_one_that_the_database_does_not_take_keeps_nobody_waiting(world):
    """The policy of the one CA is for services only; the devices of the other are enrolled all the same."""
    world.authority("active", policy="bus")
    broker = world.start_broker()
    world.tries("mqtt", world.unknown("new-1"))
    (line,) = broker.wait_log("event=enrolment_failed")
    assert "device=new-1" in line and "the right relay is for services" in line
    world.query("update authority set policy = 'device'")
    eventually(lambda: world.tries("mqtt", world.unknown("new-2")) and world.state("new-2"), WITHIN_S, "enrolment")
    assert world.state("new-1") == []
