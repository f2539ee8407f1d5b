# SPDX-License-Identifier: Apache-2.0
"""A fleet's keys and certificates for tests. `Fleet.init`, `server` and `add` run pki/fleet itself; `mint`
makes a thousand devices in a second from the CA that `init` made, with the same certificates and rows.
`Fleet.forge` makes certificates that a broker must refuse."""

import base64
import contextlib
import dataclasses
import datetime
import os
import pathlib
import secrets
import subprocess

import psycopg2
import psycopg2.extras
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FLEET = REPOSITORY / "pki" / "fleet"
# What fleet starts and make builds; the environment may name others, as for fleet itself.
BUILT = {
    f"fieldgate-{name}": pathlib.Path(
        os.environ.get(f"FIELDGATE_{name.upper()}")
        or REPOSITORY / "build" / os.environ.get("MODE", "release") / place / f"fieldgate-{name}"
    )
    for name, place in (("cert", "pki"), ("modem", "pki"), ("secret", "tools"))
}
CERT, MODEM = BUILT["fieldgate-cert"], BUILT["fieldgate-modem"]
DAY = datetime.timedelta(days=1)
DEVICE_DAYS = 3650


@dataclasses.dataclass
class Credentials:
    """A certificate and its key on disk."""

    id: str
    directory: pathlib.Path

    @property
    def cert(self):
        return self.directory / "cert.pem"

    @property
    def key(self):
        return self.directory / "key.pem"

    @property
    def certificate(self):
        return x509.load_pem_x509_certificate(self.cert.read_bytes())

    @property
    def der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def fingerprint(self):
        """As in the column credential.fingerprint."""
        return self.certificate.fingerprint(hashes.SHA256())

    def tls(self):
        """Arguments for paho's Client.tls_set, besides ca_certs."""
        return {"certfile": str(self.cert), "keyfile": str(self.key)}


class Fleet:
    """The directory `dir` and the registry at `database_url` (a role that may write it)."""

    def __init__(self, dir, database_url):
        self.dir = pathlib.Path(dir)
        self.database_url = database_url
        self._device_ca = None

    # --- pki/fleet itself ---

    def run(self, *arguments, check=True, env=None, **options):
        """Run pki/fleet; a CompletedProcess with text. `env` is added to the environment."""
        environment = {
            **os.environ,
            "FLEET_DIR": str(self.dir),
            "FIELDGATE_DATABASE_URL": self.database_url,
            **{name.upper().replace("-", "_"): str(path) for name, path in BUILT.items()},
            **(env or {}),
        }
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "timeout": 300,
            **options,
        }
        result = subprocess.run(
            [str(FLEET), *map(str, arguments)],
            env=environment,
            text=True,
            **options,
        )
        if check and result.returncode:
            raise RuntimeError(
                f"fleet {arguments} failed ({result.returncode}):\n{result.stdout}{result.stderr}"
            )
        return result

    def init(self):
        self.run("init")
        return self

    def server(self, *names, days=None):
        """Credentials of a server with these names; `chain` of its directory is a broker's certfile."""
        self.run("server", *names, *(["--days", days] if days else []))
        return Credentials(names[0], self.dir / "servers" / names[0])

    def add(self, *ids, policy=None, state=None, service=False, days=None):
        """Credentials, one for each id, in a list."""
        options = []
        for name, value in (("--policy", policy), ("--state", state), ("--days", days)):
            if value is not None:
                options += [name, value]
        self.run("add", *options, *(["--service"] if service else []), "--", *ids)
        return [self.credentials(id, service) for id in ids]

    def revoke(self, id):
        self.run("revoke", "--", id)

    # --- files ---

    @property
    def ca(self):
        """What devices trust."""
        return self.dir / "ca.pem"

    @property
    def device_ca_chain(self):
        """The cafile of a broker."""
        return self.dir / "device-ca-chain.pem"

    def server_files(self, name):
        """(certfile, keyfile) for a broker."""
        directory = self.dir / "servers" / name
        return directory / "chain.pem", directory / "key.pem"

    def credentials(self, id, service=False):
        return Credentials(id, self.dir / ("services" if service else "devices") / id)

    # --- without pki/fleet ---

    def mint(self, ids, policy=None, state="active", service=False):
        """As `add`, but fast: a list of Credentials. All ids must be new."""
        policy = policy or ("none" if service else "device")
        made = []
        for id in ids:
            credentials = self.credentials(id, service)
            self._issue(credentials, id)
            made.append(credentials)
        kind = "service" if service else "device"
        with self._connection() as connection, connection.cursor() as cursor:
            psycopg2.extras.execute_values(
                cursor,
                "insert into fieldgate.principal (id, kind, state, policy) values %s",
                [(c.id, kind, state, policy) for c in made],
            )
            insert_credentials(cursor, [(c.id, c.certificate) for c in made])
        return made

    def register(self, credentials, id=None, state="active", policy="device"):
        """Rows for a certificate that something else has made (forge), for this id: what happens to a
        certificate that the registry knows, but that is bad in itself?"""
        id = id or credentials.id
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into fieldgate.principal (id, state, policy) values (%s, %s, %s)"
                " on conflict (id) do nothing",
                (id, state, policy),
            )
            insert_credentials(cursor, [(id, credentials.certificate)])

    def forge(self, kind, id, directory=None):
        """Credentials of a bad certificate for the device `id`; nothing is registered. `kind` is a key of
        FORGERIES. They are put under `directory` (forged/<kind>/ in the fleet's directory)."""
        parent = pathlib.Path(directory) if directory else self.dir / "forged" / kind
        credentials = Credentials(id, parent / id)
        FORGERIES[kind](self, credentials, id)
        return credentials

    def authority(self, name):
        """(certificate, key) of "root", "device-ca" or "server-ca"."""
        directory = self.dir / name
        key = serialization.load_pem_private_key((directory / "key.pem").read_bytes(), None)
        return x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes()), key

    def _issue(self, credentials, id, **changes):
        if "authority" not in changes:
            self._device_ca = self._device_ca or self.authority("device-ca")
            changes["authority"] = self._device_ca
        key = changes.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
        write(credentials, device_certificate(key, id, **changes), key)

    @contextlib.contextmanager
    def _connection(self):
        """Committed when the block ends, rolled back when it fails."""
        with contextlib.closing(psycopg2.connect(self.database_url)) as connection:
            with connection:
                yield connection


def device_certificate(
    key, id, authority=None, names=None, uri=True, usage=ExtendedKeyUsageOID.CLIENT_AUTH,
    start=None, end=None, ca=False,
):
    """The profile of pki/cert/profile.c, with the differences that are asked for. `authority` None:
    self-signed; `names`: the common names; `uri`: with the SAN, or that of another id."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, n) for n in ([id] if names is None else names)]
    )
    issuer, signer = (authority[0].subject, authority[1]) if authority else (subject, key)
    issuer_key = authority[0].public_key() if authority else key.public_key()
    start = start or from_now(0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(128) or 1)
        .not_valid_before(start)
        .not_valid_after(end or start + DEVICE_DAYS * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(_key_usage(ca), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if uri:
        name = x509.UniformResourceIdentifier(
            f"urn:fieldgate:device:{id if uri is True else uri}"
        )
        # RFC 5280 section 4.2.1.6: critical when there is nothing in the subject.
        builder = builder.add_extension(
            x509.SubjectAlternativeName([name]), critical=not subject.rdns
        )
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    ).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
    )
    return builder.sign(signer, hashes.SHA256())


def _key_usage(ca):
    off = dict.fromkeys(
        (
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "encipher_only", "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **off)


def write(credentials, certificate, key):
    credentials.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for path, content in (
        (credentials.key, private),
        (credentials.cert, certificate.public_bytes(serialization.Encoding.PEM)),
    ):
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)


def certificate_request(key, name="not-a-device", form="pem"):
    """A certificate request, as a device makes it: pem, der, keygen (a modem's answer to AT%KEYGEN) or answer (the
    same with what the modem prints around it)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    if form == "pem":
        return signed.public_bytes(serialization.Encoding.PEM)
    der = signed.public_bytes(serialization.Encoding.DER)
    return der if form == "der" else _keygen(der, form)


def _keygen(der, form):
    """A modem's answer to AT%KEYGEN: the request and a COSE_Sign1 whose payload is null."""

    def text(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    cose = b"\xd2\x84\x43\xa1\x01\x26\xa0\xf6\x58\x40" + os.urandom(64)
    words = text(der) + b"." + text(cose)
    return b'%KEYGEN: "' + words + b'"\r\nOK\r\n' if form == "answer" else words + b"\n"


def insert_credentials(cursor, certificates):
    """Rows for (id, certificate), as fleet add writes them."""
    psycopg2.extras.execute_values(
        cursor,
        "insert into fieldgate.credential"
        " (kind, fingerprint, principal, serial, not_before, not_after) values %s",
        [
            (
                "x509",
                certificate.fingerprint(hashes.SHA256()),
                id,
                serial_text(certificate.serial_number),
                validity(certificate)[0],
                validity(certificate)[1],
            )
            for id, certificate in certificates
        ],
    )


def from_now(days):
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + days * DAY


def validity(certificate):
    """(not before, not after) in UTC; the names of these changed in python3-cryptography 42."""
    if hasattr(certificate, "not_valid_before_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return tuple(
        moment.replace(tzinfo=datetime.timezone.utc)
        for moment in (certificate.not_valid_before, certificate.not_valid_after)
    )


def serial_text(number):
    """As in the column credential.serial: whole bytes, lower case."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


def _other_ca(fleet, credentials, id, name=None):
    """A CA with another key, of the same name or of this one."""
    key = ec.generate_private_key(ec.SECP256R1())
    genuine, _ = fleet.authority("device-ca")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if name else genuine.subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(128) or 1)
        .not_valid_before(validity(genuine)[0])
        .not_valid_after(validity(genuine)[1])
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    fleet._issue(credentials, id, authority=(builder.sign(key, hashes.SHA256()), key))


def _forgery(**changes):
    def make(fleet, credentials, id):
        fleet._issue(credentials, id, **{k: v() if callable(v) else v for k, v in changes.items()})

    return make


def _days(days):
    return lambda: from_now(days)


def _signed_by(name, usage):
    def make(fleet, credentials, id):
        fleet._issue(credentials, id, authority=fleet.authority(name), usage=usage)
        with open(credentials.cert, "ab") as chain:
            chain.write((fleet.dir / name / "cert.pem").read_bytes())

    return make


def _device_ca_itself(fleet, credentials, id):
    certificate, key = fleet.authority("device-ca")
    write(credentials, certificate, key)


OTHER_DEVICE = "somebody-else"
STRANGER_CA = "CA of somebody else"

FORGERIES = {
    # Nothing is wrong with it, but that the device has another key.
    "other_key": _forgery(),
    "other_ca": _other_ca,
    "stranger_ca": lambda fleet, credentials, id: _other_ca(fleet, credentials, id, STRANGER_CA),
    "self_signed": _forgery(authority=None),
    "expired": _forgery(start=_days(-20), end=_days(-10)),
    "not_yet_valid": _forgery(start=_days(10), end=_days(20)),
    "wrong_eku": _forgery(usage=ExtendedKeyUsageOID.SERVER_AUTH),
    "ca_as_leaf": _forgery(ca=True),
    "device_ca_itself": _device_ca_itself,
    # Signed by the server CA, which follows in cert.pem: as its servers' are, and as a client's.
    "server_ca": _signed_by("server-ca", ExtendedKeyUsageOID.SERVER_AUTH),
    "server_ca_client_eku": _signed_by("server-ca", ExtendedKeyUsageOID.CLIENT_AUTH),
    # Good in itself, but the names: of OTHER_DEVICE, none, two, CN and SAN that disagree, not an id.
    "other_name": lambda fleet, credentials, id: fleet._issue(credentials, OTHER_DEVICE),
    "no_cn": _forgery(names=[]),
    "no_name": _forgery(names=[], uri=False),
    "two_cns": lambda fleet, credentials, id: fleet._issue(
        credentials, id, names=[id, OTHER_DEVICE], uri=False
    ),
    "cn_only": _forgery(uri=False),
    "cn_and_san_disagree": _forgery(uri=OTHER_DEVICE),
    "bad_id": lambda fleet, credentials, id: fleet._issue(credentials, "a/b+#", uri=False),
    # Good in itself, but not a key of ours.
    "rsa": _forgery(key=lambda: rsa.generate_private_key(65537, 2048)),
    "p384": _forgery(key=lambda: ec.generate_private_key(ec.SECP384R1())),
}
