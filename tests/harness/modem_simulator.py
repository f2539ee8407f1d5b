# SPDX-License-Identifier: Apache-2.0
"""An nRF91 modem behind a pty, as a process of its own: harness/modem.py starts it. It answers AT commands as Nordic's
reference says (%CMNG, %KEYGEN, +CFUN, +CMEE and a few more) and refuses what a modem refuses. The private key that
%KEYGEN makes, and pre-shared keys that are written, never leave this process: connections with them are made
here, and it is here that files are searched for them.

Commands come as JSON lines through stdin, answers go to stdout; `event` is what happens without being asked for."""

import base64
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import random
import re
import secrets
import selectors
import ssl
import sys
import time
import tty
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import mqtt  # noqa: E402
from harness.coap_client import Client as CoapClient  # noqa: E402
from harness.coap_client import ClientError  # noqa: E402

CA, CERTIFICATE, PRIVATE_KEY, PSK, IDENTITY = range(5)
CONTENT_MAX = 4096
ACTIVE_MODES = (1, 2, 21)
NOT_FOUND, NO_ACCESS, MEMORY_FULL, NOT_WHEN_ACTIVE, EXISTS, WRONG, UNKNOWN = 513, 514, 515, 518, 519, 50, 4
UNSOLICITED = ("Ready", "%MDMEV: SEARCH STATUS 2", '+CEREG: 2,"81AE","03229B10",7', "%CESQ: 54,2,17,2", "", "%XSIM: 0")


class Refused(Exception):
    """An error code of the modem."""


class Gone(Exception):
    """The modem is unplugged in the middle of a command."""


class Secrets:
    """What must never be found anywhere: every form that somebody may have written it in, by name."""

    def __init__(self):
        self.forms = {}
        self.count = 0

    def add_key(self, key):
        name = self._next("key")
        scalar = key.private_numbers().private_value.to_bytes(32, "big")
        self._add(name, scalar)
        for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
            der = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
            pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
            self._add(f"{name} {form.name} DER", der)
            # The first line of a key's PEM says the algorithm only, the second has the scalar in it.
            self.forms[f"{name} {form.name} PEM"] = pem.split(b"\n")[2]
        # A base64 of the whole depends on where it begins: in each of three ways, without its ends.
        for shift in range(3):
            text = base64.b64encode(b"\0" * shift + scalar).rstrip(b"=")
            self.forms[f"{name} base64 shifted {shift}"] = text[4:-4]

    def add_psk(self, key):
        self._add(self._next("psk"), key)

    def _next(self, kind):
        self.count += 1
        return f"{kind} {self.count}"

    def _add(self, name, data):
        self.forms[f"{name} raw"] = data
        self.forms[f"{name} hex"] = data.hex().encode()
        self.forms[f"{name} HEX"] = data.hex().upper().encode()
        self.forms[f"{name} base64"] = base64.b64encode(data).rstrip(b"=")
        self.forms[f"{name} base64url"] = base64.urlsafe_b64encode(data).rstrip(b"=")
        self.forms[f"{name} hex with colons"] = data.hex(":").encode()

    def search(self, paths):
        """(files that were read, hits): a hit is a file and the name of a form, never what was found."""
        files = [file for path in paths for file in _files(pathlib.Path(path))]
        hits = []
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                content = file.read_bytes()
                hits += [[str(file), name] for name, form in self.forms.items() if form in content]
        return len(files), hits


def _files(path):
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]


class Credentials:
    """What survives a reboot: the modem's flash."""

    def __init__(self, known):
        # Values above 2147483647 are the modem's own, and are listed.
        self.stored = {(4294967292, 11): b"the modem's identity"}
        self.known = known
        self.full = False

    def write(self, tag, kind, content):
        if not 0 <= kind <= 6 or kind == 5:
            raise Refused(WRONG)
        if (tag, kind) in self.stored:
            raise Refused(EXISTS)
        if self.full:
            raise Refused(MEMORY_FULL)
        if not content or len(content) > CONTENT_MAX or b"\r" in content:
            raise Refused(WRONG)
        if kind == PSK:
            if not re.fullmatch(rb"([0-9A-Fa-f]{2}){1,64}", content):
                raise Refused(WRONG)
            self.known.add_psk(bytes.fromhex(content.decode()))
        elif kind in (CA, CERTIFICATE):
            self._check_pem(content)
        self.stored[tag, kind] = content

    @staticmethod
    def _check_pem(content):
        if not content.startswith(b"-----BEGIN CERTIFICATE-----\n"):
            raise Refused(WRONG)
        for block in re.findall(rb"-----BEGIN.*?-----END [A-Z ]+-----", content, re.S):
            try:
                x509.load_pem_x509_certificate(block + b"\n")
            except ValueError:
                raise Refused(WRONG) from None

    def generate(self, tag, device):
        """The answer of %KEYGEN=tag,2,0."""
        if (tag, PRIVATE_KEY) in self.stored:
            raise Refused(EXISTS)
        key = ec.generate_private_key(ec.SECP256R1())
        self.known.add_key(key)
        self.stored[tag, PRIVATE_KEY] = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        usage = x509.KeyUsage(True, True, True, False, True, False, False, False, False)
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(device))]))
            .add_extension(usage, critical=False)
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )
        return f"{_base64url(request)}.{_base64url(_attestation(request, tag, device))}"


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(data):
    """CBOR: a byte string of less than 256 bytes."""
    head = bytes([0x40 + len(data)]) if len(data) < 24 else bytes([0x58, len(data)])
    return head + data


def _attestation(request, tag, device):
    """COSE_Sign1 over what the modem says of itself, signed by its identity key, which nobody has."""
    payload = b"\xd9\xd9\xf7\x85\x09" + _bytes(device.bytes) + _bytes(b"\x1a" + tag.to_bytes(4, "big"))
    payload += _bytes(hashlib.sha256(request).digest()) + _bytes(secrets.token_bytes(16))
    protected = b"\xa1\x01\x26"
    signed = b"\x84\x6aSignature1" + _bytes(protected) + b"\x40" + _bytes(payload)
    r, s = decode_dss_signature(
        ec.generate_private_key(ec.SECP256R1()).sign(signed, ec.ECDSA(hashes.SHA256()))
    )
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return b"\xd2\x84" + _bytes(protected) + b"\xa1\x04\x41\x21" + _bytes(payload) + _bytes(signature)


class Modem:
    """The AT side. `faults` are {"at": regular expression, "do": what}, each for one command that matches."""

    def __init__(self, options):
        self.known = Secrets()
        self.credentials = Credentials(self.known)
        self.device = uuid.uuid4()
        self.imei = f"35{secrets.randbelow(10**13):013d}"
        self.firmware = options.get("firmware", "mfw_nrf9160_1.3.5")
        self.chunked = options.get("chunked", True)
        self.chatty = options.get("chatty", True)
        self.random = random.Random(options.get("seed", 1))
        self.faults, self.commands = [], []
        self.held = False
        self.power_on(options)

    def power_on(self, options=None):
        options = options or {}
        self.echo, self.cmee = options.get("echo", True), 0
        self.mode = options.get("mode", 1)
        self.input, self.quoted, self.pending = b"", False, []

    # --- bytes ---

    def feed(self, data):
        """The commands that these bytes complete; what is to be echoed goes to self.pending."""
        complete = []
        for byte in data:
            char = bytes([byte])
            if self.echo:
                self.pending.append(char)
            if char == b'"':
                self.quoted = not self.quoted
            if char in b"\r\n" and not self.quoted:
                if self.input.strip():
                    complete.append(self.input.strip())
                self.input = b""
            else:
                self.input += char
        return complete

    def lines(self, lines):
        """An answer, with what nobody has asked for between its lines."""
        for line in lines:
            if self.chatty and self.random.random() < 0.4:
                self.pending.append(f"{self.random.choice(UNSOLICITED)}\r\n".encode())
            self.pending.append(f"{line}\r\n".encode())

    def chunks(self):
        """What is to be sent, in pieces that have nothing to do with lines."""
        data, self.pending = b"".join(self.pending), []
        while data:
            size = self.random.choice((1, 2, 3, 7, 61, 500)) if self.chunked else len(data)
            yield data[:size]
            data = data[size:]

    # --- commands ---

    def handle(self, command):
        """One command, and its answer to self.pending."""
        self.commands.append(_without_secrets(command))
        fault = self._fault(command)
        if fault == "unplug before":
            raise Gone
        if fault == "silent":
            return
        try:
            if fault.startswith("error"):
                raise Refused(int(fault.split()[1]))
            answer = self._execute(command.decode(errors="replace"))
        except Refused as refused:
            (code,) = refused.args
            self.lines([f"+CME ERROR: {code}" if self.cmee else "ERROR"])
            return
        if fault == "unplug after":
            raise Gone
        if fault == "active again":
            self.mode = 1
        if fault == "other digest":
            answer = [re.sub(r'"[0-9A-F]{64}"', '"' + "0" * 64 + '"', line) for line in answer]
        if fault == "long":
            answer = [*answer, "x" * 20000]
        if fault == "no answer":
            answer = []
        self.lines([*answer, "OK"])

    def _fault(self, command):
        for fault in self.faults:
            if re.search(fault["at"].encode(), command):
                self.faults.remove(fault)
                return fault["do"]
        return ""

    def _execute(self, command):
        name, _, arguments = command.partition("=")
        handlers = {
            "AT": lambda _: [], "ATE0": self._echo, "ATE1": self._echo, "AT+CMEE": self._cmee,
            "AT+CGMR": lambda _: [self.firmware], "AT+CGSN": lambda _: [self.imei],
            "AT+CFUN": self._cfun, "AT+CFUN?": lambda _: [f"+CFUN: {self.mode}"],
            "AT%CMNG": self._cmng, "AT%KEYGEN": self._keygen,
        }  # fmt: skip
        if name not in handlers:
            raise Refused(UNKNOWN)
        return handlers[name](command if name.startswith("ATE") else arguments)

    def _echo(self, command):
        self.echo = command == "ATE1"
        return []

    def _cmee(self, arguments):
        self.cmee = _number(arguments, 1)
        return []

    def _cfun(self, arguments):
        mode = _number(arguments, 44)
        self.mode = mode
        return []

    def _must_be_offline(self):
        if self.mode in ACTIVE_MODES:
            raise Refused(NOT_WHEN_ACTIVE)

    def _keygen(self, arguments):
        tag, kind, content = (_number(argument, 2**31 - 1) for argument in _split(arguments, 3))
        if (kind, content) != (2, 0):
            raise Refused(WRONG)
        self._must_be_offline()
        return [f'%KEYGEN: "{self.credentials.generate(tag, self.device)}"']

    def _cmng(self, arguments):
        operation, *rest = _fields(arguments)
        stored = self.credentials.stored
        if operation == "1":
            tag = _number(rest[0], 2**31 - 1) if rest else None
            kind = _number(rest[1], 20) if len(rest) > 1 else None
            return [
                f'%CMNG: {t},{k},"{hashlib.sha256(content).hexdigest().upper()}"'
                for (t, k), content in sorted(stored.items())
                if tag in (None, t) and kind in (None, k)
            ]
        if operation not in ("0", "2", "3") or len(rest) != (3 if operation == "0" else 2):
            raise Refused(WRONG)
        tag, kind = _number(rest[0], 2**31 - 1), _number(rest[1], 20)
        if operation == "2":
            return self._read(tag, kind)
        self._must_be_offline()
        if operation == "0":
            self.credentials.write(tag, kind, _unquote(rest[2]).encode())
        elif (tag, kind) not in stored:
            raise Refused(NOT_FOUND)
        else:
            del stored[tag, kind]
        return []

    def _read(self, tag, kind):
        if (tag, kind) not in self.credentials.stored:
            raise Refused(NOT_FOUND)
        if kind in (PRIVATE_KEY, PSK):
            raise Refused(NO_ACCESS)
        content = self.credentials.stored[tag, kind]
        return [f'%CMNG: {tag},{kind},"{hashlib.sha256(content).hexdigest().upper()}","{content.decode()}"']


def _fields(text):
    """Separated by commas, which quotes hide."""
    return [a or b for a, b in re.findall(r'(?:^|,)(?:("[^"]*")|([^,"]*))', text)]


def _split(text, count):
    fields = _fields(text)
    if len(fields) != count:
        raise Refused(WRONG)
    return fields


def _number(text, largest):
    if not re.fullmatch(r"\d{1,10}", text or "") or int(text) > largest:
        raise Refused(WRONG)
    return int(text)


def _unquote(text):
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise Refused(WRONG)
    return text[1:-1]


def _without_secrets(command):
    """For the test: contents are left out."""
    return re.sub(rb'"[^"]*("|$)', b'"..."', command).decode(errors="replace")


class Device:
    """What an application on the board would do with the credentials of a tag."""

    def __init__(self, modem):
        self.modem = modem

    def _stored(self, tag, kind):
        content = self.modem.credentials.stored.get((tag, kind))
        if content is None:
            raise RuntimeError(f"there is nothing of type {kind} in tag {tag}")
        return content

    def mqtt(self, port, id, tag, seq):
        """Connect with TLS and the tag's credentials, and publish one message; the code of CONNACK."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self._stored(tag, CA).decode())
        # OpenSSL reads keys from files only: these are in the memory of this process.
        with self._in_memory(self._key_pem(tag)) as key, self._in_memory(self._stored(tag, CERTIFICATE)) as chain:
            context.load_cert_chain(chain, key)
        client = mqtt.Client(port, id, context)
        try:
            code = client.connect().code
            if code == 0:
                client.publish(f"m/d/{id}/d2c", json.dumps({"seq": seq, "light": 1}).encode())
            return code
        except mqtt.Closed:
            return "closed"
        finally:
            client.drop()

    def coap(self, port, tag, seq):
        """The same by DTLS with the tag's pre-shared key; the code of the answer."""
        key = bytes.fromhex(self._stored(tag, PSK).decode())
        with CoapClient() as client:
            device = client.device("modem", port, identity_hex=self._stored(tag, IDENTITY), psk=key, cid_length=4)
            try:
                device.handshake()
                return device.telemetry(seq).code
            except ClientError as error:
                return error.what

    def _key_pem(self, tag):
        key = serialization.load_der_private_key(self._stored(tag, PRIVATE_KEY), None)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @contextlib.contextmanager
    def _in_memory(self, content):
        fd = os.memfd_create("credential")
        try:
            os.write(fd, content)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)


class Simulator:
    """Both ends: the pty and the test."""

    def __init__(self, options):
        self.options = options
        self.modem = Modem(options)
        self.device = Device(self.modem)
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.control)
        self.master = self.slave = None
        self.hold, self.waiting = None, []
        self.plug()

    def plug(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        tty.setraw(self.master)
        os.set_blocking(self.master, False)
        link = pathlib.Path(self.options["port"])
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self.slave))
        self.selector.register(self.master, selectors.EVENT_READ, self.serial)

    def unplug(self):
        if self.master is None:
            return
        self.selector.unregister(self.master)
        os.close(self.master)
        os.close(self.slave)
        self.master = self.slave = None
        self.waiting = []
        pathlib.Path(self.options["port"]).unlink(missing_ok=True)

    def serial(self):
        try:
            data = os.read(self.master, 4096)
        except (BlockingIOError, OSError):
            return
        self.waiting += self.modem.feed(data)
        self.send()
        self.work()

    def work(self):
        while self.waiting and not self.modem.held:
            if self.hold and re.search(self.hold, self.waiting[0]):
                self.hold, self.modem.held = None, True
                say(event="held", command=_without_secrets(self.waiting[0]))
                return
            try:
                self.modem.handle(self.waiting.pop(0))
            except Gone:
                self.unplug()
                say(event="unplugged")
                return
            self.send()

    def send(self):
        for chunk in self.modem.chunks():
            while chunk and self.master is not None:
                try:
                    chunk = chunk[os.write(self.master, chunk) :]
                except BlockingIOError:
                    time.sleep(0.001)
                except OSError:
                    return

    # --- the test's commands ---

    def control(self):
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        request = json.loads(line)
        try:
            answer = getattr(self, "do_" + request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        say(**(answer or {}))

    def do_state(self):
        stored = sorted(self.modem.credentials.stored)
        return {
            "mode": self.modem.mode, "imei": self.modem.imei, "commands": self.modem.commands,
            "stored": [[tag, kind] for tag, kind in stored if tag < 2**31],
        }  # fmt: skip

    def do_public(self, tag):
        """What everybody may know of the key: DER SubjectPublicKeyInfo, in hexadecimal."""
        key = serialization.load_der_private_key(self.modem.credentials.stored[tag, PRIVATE_KEY], None)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return {"spki": key.public_key().public_bytes(serialization.Encoding.DER, form).hex()}

    def do_content(self, tag, kind):
        if kind in (PRIVATE_KEY, PSK):
            raise RuntimeError("that does not leave the modem")
        return {"content": self.modem.credentials.stored[tag, kind].decode()}

    def do_fault(self, at, what):
        self.modem.faults.append({"at": at, "do": what})

    def do_full(self, full):
        self.modem.credentials.full = full

    def do_set(self, **values):
        for name, value in values.items():
            setattr(self.modem, name, value)

    def do_hold(self, at):
        """Stop before the next command that this regular expression matches, and say so."""
        self.hold = at.encode()

    def do_release(self):
        self.modem.held, self.hold = False, None
        self.work()

    def do_plug(self):
        """Unplug, if that has not happened, and plug in again: what is in flash is still there."""
        self.unplug()
        self.modem.power_on(self.options)
        self.modem.held = False
        self.plug()

    def do_mqtt(self, **arguments):
        return {"code": self.device.mqtt(**arguments)}

    def do_coap(self, **arguments):
        return {"code": self.device.coap(**arguments)}

    def do_search(self, paths):
        count, hits = self.modem.known.search(paths)
        return {"files": count, "hits": hits, "forms": sorted(self.modem.known.forms)}

    def do_plant(self, directory):
        """Write every form of every secret into a file of its own: does the search find them?"""
        for number, (name, form) in enumerate(sorted(self.modem.known.forms.items())):
            pathlib.Path(directory, f"{number}").write_bytes(b"log: " + form + b" and more\n")
        return {"files": len(self.modem.known.forms)}

    def run(self):
        say(event="ready", started=datetime.datetime.now(datetime.timezone.utc).isoformat())
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is not sys.stdin and self.master is None:
                    continue
                key.data()


def say(**message):
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    Simulator(json.loads(sys.argv[1])).run()
