# SPDX-License-Identifier: Apache-2.0
"""fieldgate-coap in a directory of its own, and the registry's rows for devices that talk to it: pre-shared
keys, sealed here by python3-cryptography as core/registry/secret.h says, and keys for JWTs. FIELDGATE_COAP in
the environment chooses another server."""

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import tempfile
import time

import psycopg2.extras
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .daemon import Daemon, children
from .ports import free_udp_port
from .postgres import REPOSITORY

FIELDGATE_COAP = pathlib.Path(
    os.environ.get("FIELDGATE_COAP")
    or REPOSITORY / "build" / os.environ.get("MODE", "release") / "fieldgate-coap"
)


class CoapServer(Daemon):
    """
    fleet: a harness.pki.Fleet with a server `localhost`. settings: more lines of fieldgate.conf, as a dict; None
    removes one. The port, the journal and the sessions stay the same over restarts. Limits for each source
    are off unless a test sets them: all its devices have one address. prefix: words before the command.
    """

    program = "fieldgate-coap"

    def __init__(self, dir, database_url, fleet, *, settings=None, port=None, master_key=None, prefix=()):
        super().__init__(dir)
        self.log_file = self.out_file
        self.prefix = prefix
        self.port = port or free_udp_port()
        self.state_dir = self.dir / "state"
        # On tmpfs, where pytest's directories need not be.
        self.sessions_dir = pathlib.Path(tempfile.mkdtemp(prefix="fieldgate-test-", dir="/dev/shm"))
        certificate, key = fleet.server_files("localhost")
        self.master_key = master_key or secrets.token_bytes(32)
        self.secrets_file = self.dir / "secrets"
        self.secrets_file.touch(0o600)
        self.secrets_file.write_text(self.master_key.hex() + "\n")
        self.settings = {
            "database.url": database_url,
            "state.dir": self.state_dir,
            "database.connect_timeout_s": 2,
            "store.status_interval_s": 1,
            "secrets.key_file": self.secrets_file,
            "coap.listen": f"[::]:{self.port}",
            "coap.certificate_file": certificate,
            "coap.key_file": key,
            "coap.client_ca_file": fleet.device_ca_chain,
            "coap.sessions_dir": self.sessions_dir,
            "coap.handshakes_per_source": 0,
            "coap.forgeries_per_source": 0,
            "coap.requests_per_s": 100000,
            "coap.requests_burst": 1000000,
        }
        self.configure(settings)

    def configure(self, settings=None):
        """Write fieldgate.conf, with these settings changed."""
        self.settings.update(settings or {})
        lines = [f"{name} = {value}" for name, value in self.settings.items() if value is not None]
        self.config_file.write_text("\n".join(lines) + "\n")

    @property
    def config_file(self):
        return self.dir / "fieldgate.conf"

    def begin(self):
        """Start it, and do not wait."""
        self.state_dir.mkdir(mode=0o700, exist_ok=True)
        self._spawn([*self.prefix, FIELDGATE_COAP, self.config_file])

    def start(self, timeout=30, wait_registry=True):
        """Start it and wait until all workers serve, with a registry from the database or the copy on disk;
        RuntimeError with the log's end when they do not."""
        since = self.log_position()
        self.begin()
        deadline = time.monotonic() + timeout
        while not self._ready(since, wait_registry):
            self._check_alive(deadline)
            time.sleep(0.01)

    def _ready(self, since, wait_registry):
        workers = int(self.settings.get("coap.workers") or 1)
        if not self.log_lines("event=coap_ready", since):
            return False
        known = self.log_lines(r'event=registry_loaded|event=coap_started.* known"$', since)
        return not wait_registry or len(known) >= workers

    def workers(self):
        """Process ids of the workers."""
        return children(self.pid)

    def kill(self):
        """SIGKILL to the supervisor and its workers at once; waits until all are gone."""
        if self.process is None:
            return
        pids = self.workers()
        for pid in [self.pid, *pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().kill()
        deadline = time.monotonic() + 10
        while any(_alive(pid) for pid in pids):
            assert time.monotonic() < deadline, f"workers {pids} survive SIGKILL"
            time.sleep(0.002)

    def kill_worker(self, index=0):
        pid = sorted(self.workers())[index]
        os.kill(pid, signal.SIGKILL)
        return pid

    def remove(self):
        """What is not in the test's own directory."""
        shutil.rmtree(self.sessions_dir, ignore_errors=True)


def _alive(pid):
    """A process whose first thread is a zombie lives on in the others, with all its files."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or len(threads) > 1


def seal(master_key, secret, context):
    """As core/registry/secret.h has it: version, key id, nonce, ciphertext and tag."""
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(master_key).encrypt(nonce, secret, context)
    return b"\x01" + hashlib.sha256(master_key).digest()[:8] + nonce + sealed


@dataclasses.dataclass
class Psk:
    """A device's pre-shared key, with its rows in the registry."""

    id: str
    identity: bytes
    key: bytes

    def options(self):
        """For Client.device."""
        return {"identity_hex": self.identity, "psk": self.key}

    def row(self, master_key):
        fingerprint = hashlib.sha256(self.identity).digest()
        context = b"psk\0" + fingerprint + self.id.encode()
        return "psk", fingerprint, self.id, seal(master_key, self.key, context)


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclasses.dataclass
class JwtKey:
    """A device's P-256 key, which it signs its tokens with."""

    id: str
    key: ec.EllipticCurvePrivateKey

    def options(self):
        return {}

    def row(self, _):
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return "jwt", hashlib.sha256(der).digest(), self.id, der

    def token(self, lifetime=3600, header=None, **claims):
        """ES256, as modem_jwt makes it; claims that are None are left out."""
        now = int(time.time())
        claims = {"sub": self.id, "iat": now, "exp": now + lifetime, **claims}
        parts = [{"alg": "ES256", "typ": "JWT", **(header or {})}, claims]
        signed = ".".join(
            _base64url(json.dumps({k: v for k, v in p.items() if v is not None}).encode())
            for p in parts
        )
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def make_psk(id, identity=None, length=16, key=None):
    identity = (identity if identity is not None else f"psk-{id}")
    return Psk(id, identity if isinstance(identity, bytes) else identity.encode(),
               key or secrets.token_bytes(length))


def register(connection, keys, master_key, state="active", policy="device"):
    """Rows of principals, where they are not there yet, and of their keys (Psk or JwtKey)."""
    connection.autocommit = False
    with connection, connection.cursor() as cursor:
        psycopg2.extras.execute_values(
            cursor,
            "insert into fieldgate.principal (id, state, policy) values %s on conflict do nothing",
            [(key.id, state, policy) for key in keys],
            page_size=1000,
        )
        psycopg2.extras.execute_values(
            cursor,
            "insert into fieldgate.credential (kind, fingerprint, principal, material) values %s",
            [key.row(master_key) for key in keys],
            page_size=1000,
        )


def make_jwt_key(id):
    return JwtKey(id, ec.generate_private_key(ec.SECP256R1()))
