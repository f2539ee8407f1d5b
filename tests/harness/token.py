# SPDX-License-Identifier: Apache-2.0
"""A PKCS#11 token of a test's own: SoftHSM, with its files in a directory."""

import os
import pathlib
import subprocess

MODULE = pathlib.Path("/usr/lib/softhsm/libsofthsm2.so")


class Token:
    """`env` is what programs need that use it."""

    label, pin = "fleet", "4711-hush"

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        tokens = self.directory / "tokens"
        tokens.mkdir(parents=True)
        configuration = self.directory / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
        self.pin_file = self.directory / "pin"
        self.pin_file.write_text(f"{self.pin}\n")
        self.pin_file.chmod(0o600)
        self.env = {"SOFTHSM2_CONF": str(configuration), "PKCS11_MODULE_PATH": str(MODULE)}
        self._run("softhsm2-util", "--init-token", "--free", "--label", self.label, "--so-pin", "so-pin-0", "--pin", self.pin)

    def _run(self, *command):
        subprocess.run(
            command, check=True, env={**os.environ, **self.env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def make_key(self, name, kind="EC:prime256v1"):
        """A key that does not leave the token: its URI, without the PIN. Each has an id of its own: by it the two
        halves of a key find each other."""
        self._run(
            "pkcs11-tool", "--module", str(MODULE), "--token-label", self.label, "--login", "--pin", self.pin,
            "--keypairgen", "--key-type", kind, "--label", name, "--sensitive",
            "--id", name.encode().hex(),
        )  # fmt: skip
        return f"pkcs11:token={self.label};object={name}"
