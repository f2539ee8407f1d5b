# SPDX-License-Identifier: Apache-2.0
"""Tokens of SoftHSM: what a token does, in files of one directory that only processes with its `env` see."""

import os
import pathlib
import re
import subprocess
import urllib.parse

MODULE = pathlib.Path("/usr/lib/softhsm/libsofthsm2.so")
SO_PIN = "87654321"


class SoftHsm:
    """A directory of tokens."""

    def __init__(self, dir):
        self.dir = pathlib.Path(dir)
        (self.dir / "tokens").mkdir(parents=True)
        (self.dir / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.dir}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.env = {"SOFTHSM2_CONF": str(self.dir / "softhsm2.conf")}

    def run(self, *command):
        return subprocess.run(
            [str(part) for part in command], env={**os.environ, **self.env}, check=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
        ).stdout  # fmt: skip

    def token(self, label, pin):
        """A new token."""
        self.run("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin)

    def make_key(self, label, pin, name, kind="EC:prime256v1"):
        """A key pair in the token `label`; the id of the object in hexadecimal."""
        id = os.urandom(4).hex()
        self.run(
            "pkcs11-tool", "--module", MODULE, "--token-label", label, "--login", "--pin", pin,
            "--keypairgen", "--key-type", kind, "--id", id, "--label", name,
        )  # fmt: skip
        return id

    def sensitive_keys(self, label, pin):
        """The names of the private keys that never leave the token."""
        text = self.run(
            "pkcs11-tool", "--module", MODULE, "--token-label", label, "--login", "--pin", pin, "--list-objects",
            "--type", "privkey",
        )  # fmt: skip
        return re.findall(r"label: +(\S+)\n(?:.*\n)*?.*never extractable", text)


def uri(token, object, module=MODULE, **query):
    """pkcs11:... (RFC 7512); the query as `pin_value="1234"`."""
    text = f"pkcs11:token={urllib.parse.quote(token)};object={urllib.parse.quote(object)};type=private"
    query = {"module-path": str(module) if module else None} | {k.replace("_", "-"): v for k, v in query.items()}
    parts = [f"{name}={urllib.parse.quote(value, safe='/:')}" for name, value in query.items() if value]
    return text + ("?" + "&".join(parts) if parts else "")
