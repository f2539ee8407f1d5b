# SPDX-License-Identifier: Apache-2.0
"""`make tls-report`: testssl.sh finds nothing above "low" in our profile, and the report does see what it finds."""

import json
import os
import pathlib
import subprocess

from harness.broker import PLUGIN

ROOT = pathlib.Path(__file__).resolve().parents[2]


def report(out, *options):
    result = subprocess.run(
        [ROOT / "bin/lib/tls-report", "--out", out, *options], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=540, env={**os.environ, "FIELDGATE_PLUGIN": str(PLUGIN)},
    )
    return result.returncode, result.stdout + result.stderr


def test_profile_has_nothing_above_low(tmp_path):
    status, text = report(tmp_path)
    assert status == 0, text
    found = {f["id"]: f["severity"] for f in json.loads((tmp_path / "report.json").read_text())}
    above = {id for id, severity in found.items() if severity in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")}
    assert above == {"cert_revocation"}
    assert "HIGH     cert_revocation: " in text and "accepted: devices ask no CRL" in text
    # It was there at all, and looked.
    assert found["TLS1_2"] == found["TLS1_3"] == "OK" and len(found) > 80


def test_weak_profile_fails(tmp_path):
    weak = tmp_path / "weak.conf"
    weak.write_text("tls_version tlsv1.1\nciphers ALL:@SECLEVEL=0\n")
    status, text = report(tmp_path, "--profile", weak, "-p", "-s")
    assert status == 1, text
    assert "CRITICAL cipherlist_aNULL: offered" in text and "TLS1_1: offered (deprecated)" in text
    assert "1 above LOW that are not accepted" in text


def test_page_has_the_profile():
    page = (ROOT / "docs/tls.md").read_text()
    for name in "tls-profile.conf", "tls-profile-psk.conf":
        for line in (ROOT / "bin/lib" / name).read_text().splitlines():
            assert line.startswith("#") or f"    {line}\n" in page, line
