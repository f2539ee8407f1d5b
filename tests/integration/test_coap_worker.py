# SPDX-License-Identifier: Apache-2.0
"""The process around DTLS and CoAP: start, settings, signals, workers, journals; who may ask; presence."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from harness.coap import FIELDGATE_COAP
from harness.coap_client import CBOR, JSON, OCTET_STREAM, SENML_JSON, TEXT, ClientError
from harness.mqtt import eventually


def rows(coap, device):
    return coap.query(
        "select seq, temperature, extra, subtopic from telemetry where device = %s order by received_at", device
    )


# --- From the handshake to the row ---


def test_a_device_with_psk_becomes_a_row(coap):
    coap.started()
    coap.psk("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.post("msg/d2c", {"seq": 1, "temperature": 21.5}).code == "2.01"
    coap.wait_seqs("dev-1", [1])
    assert rows(coap, "dev-1") == [(1, 21.5, None, None)]


def test_a_device_with_jwt_becomes_a_row(coap):
    coap.started()
    coap.jwt_key("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.put("msg/d2c", {"seq": 1, "temperature": 21.5}).code == "2.04"
    coap.wait_seqs("dev-1", [1])


def test_a_device_with_certificate_becomes_a_row(coap):
    coap.started()
    coap.devices("dev-1")
    coap.in_force()
    device = coap.connected("dev-1")
    assert device.telemetry(1).code == "2.01"
    coap.wait_seqs("dev-1", [1])
