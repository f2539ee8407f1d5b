# SPDX-License-Identifier: Apache-2.0
"""Who is let in over MQTT, and what the log says about who is not."""

import hashlib
import ssl

import pytest

from harness import mqtt
from harness.mqtt import V5, V311, Client, Closed

NOT_AUTHORISED = {V311: 5, V5: 0x87}


def refusal(broker, since=0):
    """The one line about a refusal since then."""
    broker.wait_log("event=connect_", since)
    (line,) = broker.log_lines("event=connect_", since)
    return line


def assert_refused(stack, broker, client, *texts, device=None):
    since = broker.log_position()
    assert client.connect().code == NOT_AUTHORISED[client.version]
    client.drop()
    line = refusal(broker, since)
    assert "event=connect_refused" in line
    for text in (f"client {client.client_id} ", "from 127.0.0.1", *texts):
        assert text in line, line
    if device:
        assert f" device={device} " in line, line


@pytest.mark.parametrize("version", [V311, V5])
def test_registered_device_is_accepted(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.client(broker, "dev-1", version=version)
    assert client.connect() == mqtt.Connack(0, False)
    assert client.publish("m/d/dev-1/d2c") in (0, 0x10)
    assert broker.log_lines("event=connect_refused") == []


@pytest.mark.parametrize("version", [V311, V5])
def test_usual_client_publishes_and_receives(stack, version):
    stack.devices("dev-1")
    broker = stack.started()
    with stack.paho(broker, "dev-1", version=version) as client:
        assert client.code == 0
        assert client.subscribe("m/d/dev-1/c2d/#") == 1
        assert client.subscribe("m/d/dev-2/c2d") >= 0x80
        client.publish("m/d/dev-1/d2c", b'{"temperature": 7}')
    stack.wait_rows("select 1 from telemetry where device = 'dev-1' and temperature = 7")


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls(stack, tls):
    stack.devices("dev-1")
    broker = stack.started()
    context = stack.tls("dev-1", version=tls)
    with Client(broker.port, "dev-1", context).accepted() as client:
        assert client.publish("m/d/dev-1/d2c") == 0


@pytest.mark.parametrize("version", [V311, V5])
def test_unknown_certificate_is_refused(stack, version):
    stack.devices("dev-1")
    forged = stack.fleet.forge("cn_only", "dev-9")
    broker = stack.started()
    client = stack.client(broker, "dev-9", forged, version=version)
    assert_refused(stack, broker, client, "not registered", forged.fingerprint.hex())


def test_unknown_certificate_of_known_device_is_refused(stack):
    stack.devices("dev-1")
    forged = stack.fleet.forge("cn_only", "dev-1")
    broker = stack.started()
    client = stack.client(broker, "dev-1", forged)
    assert_refused(stack, broker, client, "dev-1 is registered with another certificate", device="dev-1")


def test_name_of_another_device_is_refused(stack):
    stack.devices("dev-1", "somebody-else")
    forged = stack.fleet.forge("other_name", "dev-1")
    stack.fleet.register(forged, "dev-1")
    broker = stack.started()
    for client_id in ("dev-1", "somebody-else"):
        client = stack.client(broker, client_id, forged)
        assert_refused(stack, broker, client, "names somebody-else but is registered for dev-1")


@pytest.mark.parametrize("kind", ["no_name", "two_cns", "cn_and_san_disagree", "bad_id"])
def test_certificate_without_a_clear_name_is_refused(stack, kind):
    forged = stack.fleet.forge(kind, "dev-1")
    stack.fleet.register(forged, "dev-1")
    broker = stack.started()
    client = stack.client(broker, "dev-1", forged)
    assert_refused(stack, broker, client, "its certificate is of no use", "name")


@pytest.mark.parametrize("state", ["pending", "suspended", "revoked"])
@pytest.mark.parametrize("version", [V311, V5])
def test_principal_that_is_not_active_is_refused(stack, state, version):
    stack.devices("dev-1", state=state)
    broker = stack.started()
    client = stack.client(broker, "dev-1", version=version)
    assert_refused(stack, broker, client, state, device="dev-1")


def test_revoked_certificate_is_refused_and_the_new_one_accepted(stack):
    old = stack.devices("dev-1")["dev-1"]
    stack.query("update credential set revoked_at = now()")
    new = stack.fleet.forge("cn_only", "dev-1")
    stack.fleet.register(new, "dev-1")
    broker = stack.started()
    client = stack.client(broker, "dev-1", old)
    assert_refused(stack, broker, client, "this certificate is revoked", device="dev-1")
    stack.client(broker, "dev-1", new).accepted()


@pytest.mark.parametrize(
    "kind",
    ["other_ca", "self_signed", "expired", "not_yet_valid", "wrong_eku", "server_ca", "server_ca_client_eku"],
)
def test_bad_certificate_is_refused_by_tls_even_if_registered(stack, kind):
    forged = stack.fleet.forge(kind, "dev-1")
    stack.fleet.register(forged, "dev-1")
    broker = stack.started()
    with pytest.raises(Closed):
        stack.client(broker, "dev-1", forged).connect()


def test_certificate_of_the_server_is_refused_as_client(stack):
    directory = stack.fleet.dir / "servers" / "localhost"
    broker = stack.started()
    context = mqtt.tls_context(stack.fleet.ca, (directory / "cert.pem", directory / "key.pem"))
    with pytest.raises(Closed):
        Client(broker.port, "localhost", context).connect()


def test_no_certificate_is_refused_by_tls(stack):
    broker = stack.started()
    with pytest.raises(Closed):
        Client(broker.port, "dev-1", mqtt.tls_context(stack.fleet.ca)).connect()


def test_certificate_known_by_its_public_key(stack):
    credentials = stack.fleet.forge("cn_only", "dev-1")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = credentials.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    stack.query("insert into principal (id) values ('dev-1')")
    stack.query(
        "insert into credential (kind, fingerprint, principal) values ('x509_key', %s, 'dev-1')",
        hashlib.sha256(key).digest(),
    )
    broker = stack.started()
    stack.client(broker, "dev-1", credentials).accepted()


# --- Client ids ---


@pytest.mark.parametrize("client_id", ["dev-2", "dev-1/a", "dev-1:a", "dev-10", "dev-", "DEV-1", "dev-1 "])
def test_client_id_must_be_the_device_id(stack, client_id):
    stack.devices("dev-1", "dev-2")
    broker = stack.started()
    client = stack.client(broker, "dev-1", client_id=client_id)
    assert_refused(stack, broker, client, "the client id must be dev-1", "client_id_suffix", device="dev-1")


def test_a_service_may_have_several_connections(stack):
    """Each worker of fieldgate-coap has one. Who owns an id that it begins with stays the owner."""
    stack.devices("dev-1", "backend:1")
    stack.devices("backend", service=True)
    broker = stack.started()
    clients = [stack.client(broker, "backend", client_id=id) for id in ("backend", "backend/coap-1", "backend:2")]
    for client in clients:
        client.accepted()
    client = stack.client(broker, "backend", client_id="backend:1")
    assert_refused(stack, broker, client, "belongs to backend:1", device="backend")
    for client_id in ("dev-1", "dev-1/a", "backend1", "back"):
        client = stack.client(broker, "backend", client_id=client_id)
        assert_refused(stack, broker, client, "or that followed by / or :", device="backend")
    client = stack.client(broker, "dev-1", client_id="dev-1/a")
    assert_refused(stack, broker, client, "client_id_suffix", device="dev-1")


@pytest.mark.parametrize("version", [V311, V5])
def test_empty_client_id_is_refused(stack, version):
    stack.devices("dev-1")
    broker = stack.started(settings={"mqtt.client_id_suffix": "yes"})
    client = stack.client(broker, "dev-1", client_id="", version=version)
    assert client.connect().code == NOT_AUTHORISED[version]
    assert "the client id must be dev-1" in refusal(broker)


def test_client_id_suffix(stack):
    stack.devices("gw", "gw:1", "gw:1:x")
    broker = stack.started(settings={"mqtt.client_id_suffix": "yes"})
    for client_id in ("gw", "gw/1", "gw:2", "gw:", "gw/", "gw:11", "gw:2:x", "gw/a/b:c", "gw:" + "x" * 252):
        stack.client(broker, "gw", client_id=client_id).accepted()
    for client_id, owner in (
        ("gw:1", "gw:1"),
        ("gw:1:2", "gw:1"),
        ("gw:1/2", "gw:1"),
        ("gw:1:", "gw:1"),
        ("gw:1:x", "gw:1"),
    ):
        client = stack.client(broker, "gw", client_id=client_id)
        assert_refused(stack, broker, client, f"belongs to {owner}", device="gw")
    for client_id in ("gw1", "gw-1", "g", "gw.1", "dev"):
        client = stack.client(broker, "gw", client_id=client_id)
        assert_refused(stack, broker, client, "or that followed by / or :", device="gw")
    client = stack.client(broker, "gw", client_id="gw:" + "x" * 253)
    assert client.connect().code == 5
    stack.client(broker, "gw:1", client_id="gw:1/2").accepted()
    stack.client(broker, "gw:1:x").accepted()


def test_same_client_id_takes_the_connection_over(stack):
    stack.devices("dev-1")
    broker = stack.started()
    first = stack.connected(broker, "dev-1")
    second = stack.connected(broker, "dev-1")
    first.wait_closed()
    assert second.publish("m/d/dev-1/d2c") == 0
    rows = stack.wait_rows(
        "select event, reason from presence_event where device = 'dev-1' order by at, seq", count=3
    )
    assert rows == [
        ("connected", None),
        ("disconnected", "a newer connection took over its client id"),
        ("connected", None),
    ]
    assert stack.value("select connected from presence where device = 'dev-1'")


# --- Keepalive ---


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize(
    "cap, good, bad", [(1200, (1, 60, 1200), (0, 1201, 65535)), (60, (1, 59, 60), (0, 61, 1200))]
)
def test_keepalive_cap(stack, version, cap, good, bad):
    stack.devices("dev-1")
    broker = stack.started(settings={"mqtt.max_keepalive_s": cap})
    for keepalive in good:
        with stack.client(broker, "dev-1", version=version, keepalive=keepalive) as client:
            client.accepted()
    for keepalive in bad:
        client = stack.client(broker, "dev-1", version=version, keepalive=keepalive)
        assert_refused(
            stack,
            broker,
            client,
            f"its keepalive is {keepalive} s",
            f"the cap is {cap} s",
            "mqtt.max_keepalive_s",
            device="dev-1",
        )


def test_keepalive_cap_is_off_with_0_and_spares_services(stack):
    stack.devices("dev-1")
    stack.devices("backend", service=True)
    broker = stack.started(settings={"mqtt.max_keepalive_s": 60})
    stack.client(broker, "backend", keepalive=0).accepted()
    broker.stop()
    broker.configure(mqtt_max_keepalive_s=0)
    broker.start()
    stack.client(broker, "dev-1", keepalive=0).accepted()


def test_refused_connections_do_not_flood_the_log(stack):
    """One line each for a while; then they are counted. Others are heard all the same."""
    others = [f"other-{n}" for n in range(5)]
    stack.devices("dev-1", *others)
    forged = {id: stack.fleet.forge("cn_only", id) for id in ("dev-1", "stranger", *others)}
    broker = stack.started()
    for id in ["dev-1", "stranger"] * 30 + others:
        assert stack.client(broker, id, forged[id]).connect().code == 5
    lines = broker.log_lines("event=connect_refused")
    counts = {id: len([l for l in lines if f"client {id} " in l]) for id in forged}
    assert 10 <= counts["dev-1"] < 30 and 10 <= counts["stranger"] < 30, counts
    # Two names may share a limit, not all of them.
    assert sum(counts[id] for id in others) >= 4


# --- Tokens ---


def add_token(stack, id, token, kind):
    stack.query(
        "insert into principal (id, kind, policy) values (%s, %s, 'none')", id, kind
    )
    stack.query(
        "insert into credential (kind, fingerprint, principal) values ('token', %s, %s)",
        hashlib.sha256(f"{id}\0{token}".encode()).digest(),
        id,
    )


@pytest.mark.parametrize(
    "setting, service, device", [("off", False, False), ("services", True, False), ("all", True, True)]
)
def test_tokens_are_accepted_as_the_setting_says(stack, setting, service, device):
    add_token(stack, "backend", "s3cret-token", "service")
    add_token(stack, "dev-1", "s3cret-token", "device")
    broker = stack.started(plain=True, settings={"mqtt.token_auth": setting})
    for id, accepted in (("backend", service), ("dev-1", device)):
        with Client(broker.plain_port, id, username=id, password="s3cret-token") as client:
            assert (client.connect().code == 0) == accepted
    if not service:
        assert len(broker.wait_log("event=connect_refused.*no certificate", count=2)) == 2
    elif not device:
        broker.wait_log("event=connect_refused device=dev-1 .*a device may not use a token")


def test_wrong_token_is_refused_and_never_logged(stack):
    add_token(stack, "backend", "s3cret-token", "service")
    broker = stack.started(plain=True, settings={"mqtt.token_auth": "services", "log.level": "debug"})
    for username, password in (
        ("backend", "s3cret-tokem"),
        ("backend", ""),
        ("nobody", "s3cret-token"),
        ("backend", None),
        (None, None),
    ):
        since = broker.log_position()
        with Client(broker.plain_port, "backend", username=username, password=password) as client:
            assert client.connect().code == 5
        refusal(broker, since)
    assert broker.log_lines("s3cret") == []


def test_connection_without_certificate_is_refused_on_a_plain_listener(stack):
    stack.devices("dev-1")
    broker = stack.started(plain=True)
    with Client(broker.plain_port, "dev-1", username="dev-1") as client:
        assert client.connect().code == 5
    assert "no certificate" in refusal(broker)


def test_token_of_another_client_id_is_refused(stack):
    add_token(stack, "backend", "token", "service")
    stack.devices("dev-1")
    broker = stack.started(plain=True, settings={"mqtt.token_auth": "all"})
    with Client(broker.plain_port, "dev-1", username="backend", password="token") as client:
        assert client.connect().code == 5
    assert "the client id must be backend" in refusal(broker)
