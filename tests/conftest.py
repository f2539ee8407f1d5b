# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one PostgreSQL cluster and one set of certificate authorities for a run, a fresh database and
brokers of its own for each test. When a test fails, the end of its brokers' logs is printed."""

import contextlib
import functools
import itertools
import os
import pathlib
import secrets
import shutil
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

# ruff: noqa: E402
from harness import mqtt
from harness import postgres as pg
from harness.broker import Broker
from harness.coap import CoapServer, JwtKey, Psk, make_jwt_key, make_psk, register
from harness.coap_client import Client as CoapClient
from harness.coap_client import ClientError
from harness.pki import Credentials, Fleet


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture(scope="session")
def postgres():
    """The cluster: a harness.postgres.Postgres that runs."""
    # Not below pytest's own directory, which the server's user cannot reach when tests run as root.
    with tempfile.TemporaryDirectory(prefix="fieldgate-test-") as directory:
        os.chmod(directory, 0o711)
        with pg.Postgres(pathlib.Path(directory) / "postgres") as cluster:
            yield cluster


@pytest.fixture(scope="session")
def authorities(tmp_path_factory):
    """The directory of a fleet with its CAs and a server certificate for localhost."""
    directory = tmp_path_factory.mktemp("pki")
    fleet = Fleet(directory, "")
    fleet.init()
    fleet.server("localhost", "127.0.0.1")
    return directory


@pytest.fixture(scope="session")
def bare_authorities(tmp_path_factory):
    """The directory of a fleet in which fleet init has run, and nothing else; tests copy it."""
    directory = tmp_path_factory.mktemp("bare") / "pki"
    Fleet(directory, "").init()
    return directory


@pytest.fixture
def fleet(bare_authorities, tmp_path):
    """A fleet of this test's own, with a database of its own: query and connect are that one's."""
    with pg.fresh_database() as database:
        fleet = Fleet(shutil.copytree(bare_authorities, tmp_path / "pki"), database.url())
        fleet.query = database.query
        fleet.connect = database.connect
        yield fleet


@pytest.fixture
def database(postgres):
    """A migrated database of this test's own: its name."""
    with postgres.database() as name:
        yield name


class Stack:
    """What a test of the MQTT path needs: `fleet` makes credentials and their rows, `broker` brokers,
    `client` and `paho` clients, `query` and `value` ask the database."""

    def __init__(self, postgres, database, authorities, directory):
        self.postgres, self.database, self.directory = postgres, database, directory
        self.fleet = Fleet(authorities, postgres.url(pg.OWNER, database))
        self.brokers = []
        self.cleanup = contextlib.ExitStack()
        self.credentials = {}
        self.canaries = 0
        self.outage = False

    def broker(self, **options):
        """A new Broker, not started; its database role is the one for ingest."""
        directory = self.directory / f"broker{len(self.brokers)}"
        url = self.postgres.url(pg.INGEST, self.database)
        broker = Broker(directory, url, self.fleet, **options)
        self.brokers.append(broker)
        return broker

    def started(self, wait_registry=True, **options):
        broker = self.broker(**options)
        broker.start(wait_registry=wait_registry)
        return broker

    def devices(self, *ids, **options):
        """Make devices (or services) that are registered: Credentials, by id."""
        made = {c.id: c for c in self.fleet.mint(ids, **options)}
        self.credentials.update(made)
        return made

    def tls(self, credentials, **options):
        """credentials: an id that `devices` made, Credentials, or None."""
        if isinstance(credentials, str):
            credentials = self.credentials[credentials]
        files = (credentials.cert, credentials.key) if credentials else None
        return mqtt.tls_context(self.fleet.ca, files, **options)

    def client(self, broker, id, credentials=None, client_id=None, **options):
        """A harness.mqtt.Client of the device `id`, not connected; dropped when the test ends."""
        tls = self.tls(credentials or id)
        client = mqtt.Client(broker.port, id if client_id is None else client_id, tls, **options)
        self.cleanup.callback(client.drop)
        return client

    def connected(self, broker, id, **options):
        return self.client(broker, id, **options).accepted()

    def paho(self, broker, id, **options):
        return mqtt.Paho(broker.port, id, self.tls(id), **options)

    def query(self, sql, *parameters):
        return self.postgres.query(sql, parameters, dbname=self.database)

    def value(self, sql, *parameters):
        return self.postgres.value(sql, parameters, dbname=self.database)

    def wait_rows(self, sql, *parameters, count=1, timeout=15):
        """The rows, as soon as there are `count`."""
        return mqtt.eventually(
            lambda: (lambda rows: rows if len(rows) >= count else None)(self.query(sql, *parameters)),
            timeout,
            f"{count} rows of {sql} {parameters}",
        )

    def in_force(self, broker, timeout=5):
        """Wait until what was committed in the registry up to now is in force in the broker: it takes the
        registry over whole, so a new device is accepted only then."""
        self.canaries += 1
        id = f"canary-{self.canaries}"
        self.devices(id)
        mqtt.eventually(lambda: self._connects(broker, id), timeout, "the acceptance of a new device")

    def _connects(self, broker, id):
        try:
            return self.client(broker, id).connect().code == 0
        except mqtt.Closed:
            return False

    def stored(self, broker):
        """Wait until everything published up to now is stored: the journal keeps the order."""
        self.in_force(broker)
        id = f"canary-{self.canaries}"
        with self.connected(broker, id) as client:
            client.publish(f"m/d/{id}/d2c", b'{"seq": 1, "light": 0}')
        self.wait_rows("select 1 from telemetry where device = %s", id)

    def stop_database(self, mode="fast"):
        """Until start_database, or the test's end."""
        self.outage = True
        self.postgres.stop(mode)

    def pause_database(self):
        """It keeps its connections and answers nothing."""
        self.outage = True
        self.postgres.pause()

    def start_database(self):
        self.postgres.resume()
        self.postgres.start()
        self.outage = False

    def set_state(self, id, state):
        self.query("update principal set state = %s where id = %s", state, id)

    def policy(self, name, *rules):
        """rules: ("publish", filter) or ("publish", filter, "deny")."""
        self.query("insert into policy (name) values (%s)", name)
        for action, topic_filter, *effect in rules:
            self.query(
                "insert into policy_rule (policy, effect, action, filter) values (%s, %s, %s, %s)",
                name,
                effect[0] if effect else "allow",
                action,
                topic_filter,
            )

    def close(self):
        self.cleanup.close()
        try:
            for broker in self.brokers:
                broker.stop()
        finally:
            if self.outage:
                self.start_database()


class CoapStack(Stack):
    """The same for the CoAP path: `psk`, `jwt_key` and `devices` make credentials and their rows, `server` and
    `started` servers, `device` devices of the one coap-client."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._client = None
        self.keys = {}
        self.names = itertools.count(1)

    @property
    def server(self):
        """The last CoapServer that was made."""
        return self.brokers[-1]

    @property
    def client(self):
        if self._client is None:
            self._client = CoapClient()
        return self._client

    def new_server(self, settings=None, **options):
        """A CoapServer, not started. All servers of a test have the same master key."""
        url = self.postgres.url(pg.INGEST, self.database)
        directory = self.directory / f"coap{len(self.brokers)}"
        server = CoapServer(directory, url, self.fleet, settings=settings, master_key=self.master_key, **options)
        self.cleanup.callback(server.remove)
        self.brokers.append(server)
        return server

    @functools.cached_property
    def master_key(self):
        return secrets.token_bytes(32)

    def started(self, settings=None, wait_registry=True, **options):
        server = self.new_server(settings, **options)
        server.start(wait_registry=wait_registry)
        return server

    def _register(self, keys, state="active", policy="device"):
        """Rows of principals, where they are not there yet, and of their keys."""
        with contextlib.closing(self.postgres.connect(dbname=self.database)) as connection:
            register(connection, keys, self.master_key, state, policy)
        self.keys.update((key.id, key) for key in keys)
        return keys

    def psk(self, *ids, identity=None, length=16, key=None, **options):
        """Pre-shared keys, registered; they are also in `keys`. One, or a list for several."""
        made = self._register([make_psk(id, identity, length, key) for id in ids], **options)
        return made[0] if len(made) == 1 else made

    def jwt_key(self, *ids, **options):
        made = self._register([make_jwt_key(id) for id in ids], **options)
        return made[0] if len(made) == 1 else made

    def device(self, credentials=None, server=None, name=None, **options):
        """A Device of coap-client without a session. credentials: what psk, jwt_key or devices made, or an id
        of such; None: a device that proves nothing in the handshake. The server's certificate is checked. The
        server is at 127.0.0.1, or at server_address."""
        # By a Connection ID the client knows which records are its own, whoever had its port before.
        options = {"server": options.pop("server_address", None), "cid_length": 4, **options}
        if isinstance(credentials, str):
            credentials = self.keys.get(credentials) or self.credentials[credentials]
        if isinstance(credentials, Psk):
            options = {**credentials.options(), **options}
        else:
            options = {"ca": self.fleet.ca, "host": "localhost", **options}
        if isinstance(credentials, Credentials):
            options = {"certificate": credentials.cert, "key": credentials.key, **options}
        if name is None:
            name = f"{credentials.id if credentials else 'nobody'}#{next(self.names)}"
        return self.client.device(name, (server or self.server).port, **options)

    def connected(self, credentials=None, server=None, **options):
        """The same, after its handshake; with a JwtKey also after auth/jwt."""
        device = self.device(credentials, server, **options)
        device.handshake()
        if isinstance(credentials, str):
            credentials = self.keys.get(credentials)
        if isinstance(credentials, JwtKey):
            answer = device.post("auth/jwt", credentials.token(), format=0)
            assert answer.code == "2.01", answer
        return device

    def documents_ready(self, device, timeout=15):
        """Wait until the device's worker has its connection for state and store."""
        mqtt.eventually(lambda: device.get("state").code != "5.03", timeout, "the database's answer")

    def in_force(self, server=None, timeout=5):
        """Wait until what was committed in the registry up to now is in force in every worker: a new device
        is accepted by each only then."""
        server = server or self.server
        self.canaries += 1
        key = self.psk(f"canary-{self.canaries}")
        workers = int(server.settings.get("coap.workers") or 1)
        reached = set()

        def accepted():
            device = self.device(key, server)
            try:
                device.handshake(timeout_ms=2000)
                reached.add(device.peer_cid[:1])
                return len(reached) >= workers
            except ClientError:
                return False
            finally:
                device.close()
                device.forget()

        mqtt.eventually(accepted, timeout, "the acceptance of a new device by every worker")

    def seqs(self, device):
        """The numbers of its messages that are stored."""
        rows = self.query("select seq from telemetry where device = %s order by seq", device)
        return [seq for (seq,) in rows]

    def wait_seqs(self, device, expected, timeout=15):
        """Wait until exactly these are stored."""
        self._wait_exactly(self.seqs, device, expected, timeout)

    def readings(self, device):
        """What its messages without number (Device.reading) said, as often as they were taken."""
        rows = self.query("select light from telemetry where device = %s order by light", device)
        return [int(light) for (light,) in rows]

    def wait_readings(self, device, expected, timeout=15):
        """Wait until exactly these are stored."""
        self._wait_exactly(self.readings, device, expected, timeout)

    def _wait_exactly(self, ask, device, expected, timeout):
        deadline = time.monotonic() + timeout
        while ask(device) != sorted(expected) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ask(device) == sorted(expected)

    def stored(self, server=None):
        """Wait until everything acknowledged up to now is stored: the journal of a worker keeps the order."""
        server = server or self.server
        self.canaries += 1
        id = f"canary-{self.canaries}"
        key = self.psk(id)
        self.in_force(server)
        workers = int(server.settings.get("coap.workers") or 1)
        reached = set()
        for seq in range(64 * workers):
            device = self.connected(key, server)
            if device.peer_cid[:1] not in reached:
                reached.add(device.peer_cid[:1])
                assert device.telemetry(seq).code == "2.01"
            device.close()
            device.forget()
            if len(reached) == workers:
                break
        self.wait_rows("select 1 from telemetry where device = %s", id, count=workers)

    def close(self):
        try:
            if self._client is not None:
                self._client.close()
        finally:
            super().close()
        for server in self.brokers:
            assert not server.log_lines("Sanitizer:|runtime error:")


def _fixture(kind, request, *arguments):
    stack = kind(*arguments)
    try:
        yield stack
    finally:
        failed = getattr(getattr(request.node, "report_call", None), "failed", True)
        try:
            stack.close()
        finally:
            if failed:
                for broker in stack.brokers:
                    print(f"--- the end of {broker.log_file}\n{broker.log_tail()}")


@pytest.fixture
def stack(request, postgres, database, authorities, tmp_path):
    yield from _fixture(Stack, request, postgres, database, authorities, tmp_path)


@pytest.fixture
def coap(request, postgres, database, authorities, tmp_path):
    yield from _fixture(CoapStack, request, postgres, database, authorities, tmp_path)
