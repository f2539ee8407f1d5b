# SPDX-License-Identifier: Apache-2.0
"""The plugin as the broker and the operator see it: symbols, start, settings, stop."""

import os
import subprocess

import pytest

from harness.broker import PLUGIN

# By Debian 13's broker (2.0.21), which exports less than Debian 12's: no mosquitto_strerror, for one.
EXPORTED = {
    f"mosquitto_{name}" for name in """broker_publish broker_publish_copy callback_register callback_unregister calloc
    client_address client_certificate client_clean_session client_id client_keepalive client_protocol
    client_protocol_version client_sub_count client_username free kick_client_by_clientid kick_client_by_username
    log_printf malloc property_add_binary property_add_byte property_add_int16 property_add_int32 property_add_string
    property_add_string_pair property_add_varint property_free_all pub_topic_check realloc set_username strdup
    sub_topic_check topic_matches_sub validate_utf8""".split()
}  # fmt: skip
SYMBOLS = ["mosquitto_plugin_cleanup", "mosquitto_plugin_init", "mosquitto_plugin_version"]


def test_only_the_plugin_functions_are_exported():
    out = subprocess.run(
        ["nm", "-D", "--defined-only", PLUGIN], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert sorted(line.split()[2] for line in out.splitlines()) == SYMBOLS


def test_no_function_is_called_that_a_broker_does_not_export():
    out = subprocess.run(
        ["nm", "-D", "--undefined-only", PLUGIN], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert {s for s in (line.split()[-1] for line in out.splitlines()) if s.startswith("mosq")} <= EXPORTED


def assert_does_not_start(broker, *texts):
    with pytest.raises(RuntimeError):
        broker.start()
    lines = broker.log_lines("event=plugin_init")
    assert len(lines) == 1, broker.log_tail()
    for text in texts:
        assert text in lines[0]


def test_unknown_setting_is_one_clear_line(stack):
    broker = stack.broker(settings={"mqtt.max_keepalive": 60})
    assert_does_not_start(broker, "fieldgate.conf:", "there is no setting mqtt.max_keepalive")


def test_missing_configuration_is_one_clear_line(stack):
    broker = stack.broker()
    (broker.dir / "fieldgate.conf").unlink()
    assert_does_not_start(broker, "fieldgate.conf: cannot open")


def test_state_directory_without_parent_is_one_clear_line(stack):
    broker = stack.broker(settings={"state.dir": "/nonexistent/state"})
    assert_does_not_start(broker, "/nonexistent/state")


@pytest.mark.parametrize("which", ["state", "state/mqtt"])
def test_state_directory_that_others_may_write_is_one_clear_line(stack, which):
    """They could put a copy of the registry there in which they are let in."""
    broker = stack.broker()
    (broker.dir / "state" / "mqtt").mkdir(parents=True, mode=0o700)
    (broker.dir / which).chmod(0o770)
    assert_does_not_start(broker, f"{broker.dir / which}: ", "chmod 0700")
    (broker.dir / which).chmod(0o750)
    broker.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_state_directory_of_somebody_else_is_one_clear_line(stack):
    broker = stack.broker()
    broker.state_dir.mkdir(mode=0o700)
    os.chown(broker.state_dir, 65534, 65534)
    assert_does_not_start(broker, f"{broker.state_dir}: ", "belongs to the user 65534")


@pytest.mark.parametrize(
    "lines, text",
    [
        ([], "plugin_opt_config is missing"),
        (["plugin_opt_config {dir}/fieldgate.conf", "plugin_opt_other 1"], "no plugin_opt_other"),
    ],
)
def test_bad_plugin_options_are_one_clear_line(stack, lines, text):
    broker = stack.broker()
    path = broker.dir / "mosquitto.conf"
    config = [l for l in path.read_text().splitlines() if not l.startswith("plugin_opt_config")]
    at = next(i for i, l in enumerate(config) if l.startswith("plugin "))
    config[at + 1 : at + 1] = [l.format(dir=broker.dir) for l in lines]
    path.write_text("\n".join(config) + "\n")
    assert_does_not_start(broker, text)


def test_two_brokers_cannot_share_a_state_directory(stack):
    first = stack.started()
    second = stack.broker(settings={"state.dir": first.state_dir})
    assert_does_not_start(second, str(first.state_dir))
    assert first.running()


def test_broker_stops_cleanly_and_keeps_what_it_has(stack):
    stack.devices("dev-1")
    broker = stack.started()
    client = stack.connected(broker, "dev-1")
    for n in range(200):
        client.publish("m/d/dev-1/d2c", b'{"temperature": %d}' % n)
    assert broker.stop() == 0
    broker.start()
    stack.wait_rows("select 1 from telemetry", count=200)


def test_log_lines_of_other_threads_reach_the_broker_log(stack):
    broker = stack.started(settings={"log.level": "debug"}, mosquitto=["log_type debug"])
    # The registry's thread says that it has loaded something.
    broker.wait_log("event=registry")
