#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write a certificate request as PEM, as DER and as a modem answers AT%KEYGEN, and an attestation alone: seeds for
fuzz_csr."""
import base64
import hashlib
import pathlib
import sys

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if len(sys.argv) != 2:
    sys.exit("usage: fuzz_csr_seeds.py DIRECTORY")
seeds = pathlib.Path(sys.argv[1])
seeds.mkdir(parents=True, exist_ok=True)


def request(curve):
    key = ec.generate_private_key(curve)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


csr = request(ec.SECP256R1())
der = csr.public_bytes(serialization.Encoding.DER)
message = cbor2.dumps(cbor2.CBORTag(55799, [9, b"u" * 16, b"\x11", hashlib.sha256(der).digest(), b"n" * 16]))
cose = cbor2.dumps(cbor2.CBORTag(18, [b"\xa1\x01\x26", {4: b"\x21"}, message, b"s" * 64]))
bare = cbor2.dumps(cbor2.CBORTag(18, [b"", {}, None, b"s" * 64]))
answer = base64url(der) + b"." + base64url(cose)
for number, seed in enumerate(
    [
        csr.public_bytes(serialization.Encoding.PEM), der, cose, bare, answer,
        base64url(der) + b"." + base64url(bare),
        b'AT%KEYGEN=16842753,2,0\r\n%KEYGEN: "' + answer + b'"\r\n\r\nOK\r\n',
        request(ec.SECP384R1()).public_bytes(serialization.Encoding.DER),
    ]
):  # fmt: skip
    (seeds / f"seed-{number}").write_bytes(seed)
