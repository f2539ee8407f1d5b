# SPDX-License-Identifier: Apache-2.0
"""`make run` and its friends, as a person or a script uses them: started in a terminal's stead, watched,
interrupted, killed, and started again."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import psycopg2
import pytest

from harness.ports import free_port, free_udp_port

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 120
DEMO_ROWS = 6  # three over each protocol
STOP_LIMIT_S = 60


class Stack:
    """One RUN_DIR with its ports, and the `make run` that was started last."""

    def __init__(self, run_dir, as_user=(), command=("make", "run")):
        self.run_dir = Path(run_dir)
        self.command = command
        self.mqtt_port, self.coap_port, self.pg_port = free_port(), free_udp_port(), free_port()
        self.psk_port = free_port()
        self.as_user = list(as_user)
        self.process = None
        self.text = ""

    @property
    def environment(self):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "FIELDGATE", "MFLAGS"))}
        return clean | {
            "RUN_DIR": str(self.run_dir),
            "MQTT_PORT": str(self.mqtt_port),
            "COAP_PORT": str(self.coap_port),
            "PG_PORT": str(self.pg_port),
            "PSK_PORT": str(self.psk_port),
        }

    def make(self, *arguments):
        return subprocess.run(
            [*self.as_user, "make", *arguments], cwd=ROOT, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=START_LIMIT_S, check=False)

    def start(self, ignore_sigint=False):
        def prepare():
            if ignore_sigint:
                signal.signal(signal.SIGINT, signal.SIG_IGN)

        self.text = ""
        self.process = subprocess.Popen(
            [*self.as_user, *self.command], cwd=ROOT, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=prepare)
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()
        return self

    def _read(self, stream):
        for line in stream:
            self.text += line

    def wait_for(self, text, limit=START_LIMIT_S):
        deadline = time.monotonic() + limit
        while text not in self.text:
            assert self.process.poll() is None or text in self.text, f"ended without {text!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"no {text!r} within {limit} s:\n{self.text}"
            time.sleep(0.05)
        return self

    def start_and_wait(self, **options):
        return self.start(**options).wait_for("Ctrl-C (or make stop) stops it")

    def wait_for_end(self):
        status = self.process.wait(STOP_LIMIT_S)
        self.reader.join(STOP_LIMIT_S)
        return status

    def interrupt(self):
        """What a terminal does on Ctrl-C: SIGINT to all of the foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait_for_end()

    def env(self):
        """What a shell has after eval "$(make env)"."""
        result = subprocess.run(
            [*self.as_user, "bash", "-euc", 'output=$(make env); eval "$output"; env -0'], cwd=ROOT,
            env=self.environment, text=True, capture_output=True, timeout=60, check=True)
        return dict(entry.split("=", 1) for entry in result.stdout.split("\0") if entry)

    def processes(self):
        """Everything that runs for this RUN_DIR: by command line, working directory or environment."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) == os.getpid():
                continue
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                about = command + Path(f"/proc/{pid}/environ").read_bytes()
                about += os.readlink(f"/proc/{pid}/cwd").encode()
            except OSError:
                continue
            if command and str(self.run_dir).encode() in about:
                found[int(pid)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def pid_of(self, name):
        matches = [pid for pid, command in self.processes().items() if re.search(name, command)]
        assert matches, f"no {name} among {self.processes()}"
        return min(matches)

    def assert_nothing_left(self):
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.processes() == {}

    def rows(self, device="demo-device", env=None):
        with psycopg2.connect((env or self.env())["FIELDGATE_DATABASE_URL"]) as connection:
            cursor = connection.cursor()
            cursor.execute("select count(*) from telemetry where device = %s", (device,))
            return cursor.fetchone()[0]

    def end(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.wait_for_end()
        self.make("stop")
        self.assert_nothing_left()
        for directory in self.sessions():
            shutil.rmtree(directory)

    def sessions(self):
        """Directories of DTLS sessions, which stay on tmpfs when the stack is stopped."""
        found = Path("/dev/shm").glob("fieldgate-run-*/run_dir")
        return [file.parent for file in found if file.read_text() == f"{self.run_dir}\n"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack that runs; a test that stops it starts it again."""
    s = Stack(tmp_path_factory.mktemp("stack") / "run")
    yield s.start_and_wait()
    s.end()


@pytest.fixture
def other_stack(tmp_path):
    s = Stack(tmp_path / "other")
    yield s
    s.end()


def publish(env, device, payload, port=None):
    """One QoS 1 message over mutual TLS; returns when it is acknowledged."""
    acknowledged = threading.Event()
    client = mqtt.Client(client_id=device)
    credentials = Path(env["FIELDGATE_CREDENTIALS"]) / device
    client.tls_set(env["FIELDGATE_CA"], str(credentials / "cert.pem"), str(credentials / "key.pem"))
    client.on_publish = lambda *_: acknowledged.set()
    client.connect("localhost", int(port or env["FIELDGATE_MQTT_PORT"]))
    client.loop_start()
    client.publish(f"m/d/{device}/d2c", payload, qos=1)
    assert acknowledged.wait(20)
    client.disconnect()
    client.loop_stop()


def wait_until(condition, limit=20):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_run_shows_what_the_demo_device_published(stack):
    for transport, connection in (("MQTT", "TLS"), ("CoAP", "DTLS with Connection ID")):
        said = re.findall(rf"\[demo\] demo-device over {transport}, (.*)$", stack.text, re.M)
        assert said[0] == f"connected: {connection}, new session", stack.text
        assert re.match(r"acknowledged: reading (\d to )?3, \d+ ms", said[-1]), stack.text
    table = stack.text[stack.text.index("select device, ts, seq, temperature"):]
    rows = re.findall(r"^ demo-device \|.*$", table, re.M)
    assert len(rows) == DEMO_ROWS
    for row in rows:
        assert len([cell for cell in row.split("|") if cell.strip()]) == 10


def test_log_lines_have_a_time_and_the_name_of_their_part(stack):
    for part in ("stack", "postgres", "sql", "pki", "broker", "coap", "demo"):
        assert re.search(rf"^\d\d:\d\d:\d\d \[{part}\] \S", stack.text, re.M), part


def test_env_is_enough_to_publish_and_to_read_the_row(stack):
    env = stack.env()
    assert env["FIELDGATE_MQTT_PORT"] == str(stack.mqtt_port)
    assert env["FIELDGATE_COAP_PORT"] == str(stack.coap_port)
    before = stack.rows(env=env)
    publish(env, "demo-device", b'{"temperature": 12.25}')
    wait_until(lambda: stack.rows(env=env) == before + 1)
    with psycopg2.connect(env["FIELDGATE_DATABASE_URL"]) as connection:
        cursor = connection.cursor()
        cursor.execute("select temperature from telemetry where device = 'demo-device' order by ts desc limit 1")
        assert cursor.fetchone() == (12.25,)


def test_device_with_a_pre_shared_key_publishes_at_its_port(stack):
    env = stack.env()
    key = subprocess.run(
        [ROOT / "pki/fleet", "psk", "no-certificate"], env=os.environ | env, text=True, capture_output=True, check=True
    ).stdout.split()[-1]
    command = ["mosquitto_pub", "-h", "localhost", "-p", str(stack.psk_port), "-i", "no-certificate", "-q", "1",
               "--psk-identity", "no-certificate", "--psk", key, "-t", "m/d/no-certificate/d2c", "-m", "{}"]
    # A new device is known within the poll interval of the registry.
    wait_until(lambda: subprocess.run(command, capture_output=True, timeout=30).returncode == 0)


def test_env_prints_exports_and_nothing_else(stack):
    for arguments in (["env"], ["-s", "-C", str(ROOT), "env"]):
        lines = stack.make(*arguments).stdout.splitlines()
        assert lines and all(re.match(r"export (FIELDGATE_[A-Z_]+|FLEET_DIR)='", line) for line in lines)


def test_the_three_commands_to_try_next_work_as_printed(stack):
    shown = stack.text[stack.text.index("Try next"):].split("\n\n")[1:4]
    assert [command.split()[0].rsplit("/")[-1] for command in shown] == ["mosquitto_pub", "psql", "fleet"]
    before = stack.rows()
    output = []
    for command in shown:
        result = subprocess.run(["bash", "-euc", command], cwd=ROOT, text=True, capture_output=True, timeout=60)
        assert result.returncode == 0, command + result.stderr
        output.append(result.stdout)
        if "mosquitto_pub" in command:
            wait_until(lambda: stack.rows() == before + 1)
    assert '"co2": 612' in output[1]
    assert (stack.run_dir / "pki/devices/my-device/key.pem").stat().st_mode & 0o777 == 0o600


def test_broker_may_open_many_files_and_takes_no_long_packets(stack):
    limits = Path(f"/proc/{stack.pid_of('^mosquitto ')}/limits").read_text()
    soft, hard = re.search(r"^Max open files +(\d+) +(\d+)", limits, re.M).groups()
    assert int(soft) == min(int(hard), 65536)
    env = stack.env()
    for length, closed in ((200_000, False), (300_000, True)):
        ended, acknowledged = threading.Event(), threading.Event()
        client = mqtt.Client(client_id="demo-device")
        credentials = Path(env["FIELDGATE_CREDENTIALS"]) / "demo-device"
        client.tls_set(env["FIELDGATE_CA"], str(credentials / "cert.pem"), str(credentials / "key.pem"))
        client.on_disconnect = lambda *_: ended.set()
        client.on_publish = lambda *_: acknowledged.set()
        client.connect("localhost", stack.mqtt_port)
        try:
            client.publish("m/d/demo-device/d2c/long", b"x" * length, qos=1)
        except OSError:
            ended.set()  # while it was still being written
        client.loop_start()
        assert (ended if closed else acknowledged).wait(20)
        assert ended.is_set() == closed and acknowledged.is_set() != closed
        client.loop_stop()
        client.disconnect()


@contextlib.contextmanager
def dashboard(stack):
    """The topics of what the dashboard service is sent, in a list that grows."""
    topics = []
    subscribed = threading.Event()
    client = mqtt.Client(client_id="demo-dashboard")
    credentials = stack.run_dir / "pki/services/demo-dashboard"
    client.tls_set(stack.env()["FIELDGATE_CA"], str(credentials / "cert.pem"), str(credentials / "key.pem"))
    client.on_connect = lambda c, *_: c.subscribe("m/d/#", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _u, m: topics.append(m.topic)
    client.connect("localhost", stack.mqtt_port)
    client.loop_start()
    assert subscribed.wait(20)
    yield topics
    client.disconnect()
    client.loop_stop()


def test_dashboard_service_may_read_all_devices(stack):
    with dashboard(stack) as topics:
        publish(stack.env(), "demo-device", b'{"temperature": 1}')
        wait_until(lambda: "m/d/demo-device/d2c" in topics)


def test_what_is_posted_over_coap_is_published_and_stored_once(stack):
    env = stack.env()
    credentials = Path(env["FIELDGATE_CREDENTIALS"]) / "demo-device"
    before, posted = stack.rows(env=env), 3
    with dashboard(stack) as topics:
        subprocess.run(
            [ROOT / "build/release/fieldgate-device", "--transport", "coap", "--id", "demo-device",
             "--port", env["FIELDGATE_COAP_PORT"], "--ca", env["FIELDGATE_CA"],
             "--cert", credentials / "cert.pem", "--key", credentials / "key.pem",
             "--interval", "1", "--batch", "1", "--count", str(posted)],
            stdin=subprocess.DEVNULL, timeout=60, check=True)
        wait_until(lambda: topics.count("m/d/demo-device/d2c") >= posted)
        # What an MQTT client publishes now is behind it in the broker's journal.
        publish(env, "demo-device", b'{"temperature": 2}')
        wait_until(lambda: stack.rows(env=env) > before + posted)
        wait_until(lambda: topics.count("m/d/demo-device/d2c") > posted)
        assert topics.count("m/d/demo-device/d2c") == posted + 1
    assert stack.rows(env=env) == before + posted + 1


def test_a_second_stack_in_the_same_directory_is_refused(stack):
    result = stack.make("run")
    assert result.returncode != 0
    assert "already" in result.stderr and "make stop" in result.stderr
    assert stack.rows() > 0


@pytest.mark.parametrize("setting", ["MQTT_PORT", "PG_PORT"])
def test_port_in_use_is_named_with_its_holder_and_its_setting(other_stack, setting):
    port = {"MQTT_PORT": other_stack.mqtt_port, "PG_PORT": other_stack.pg_port}[setting]
    with socket.create_server(("127.0.0.1", port)):
        result = other_stack.make("run")
    assert result.returncode != 0
    assert f"port {port} is in use by" in result.stderr
    assert f"(pid {os.getpid()})" in result.stderr
    assert f"make run {setting}=" in result.stderr
    other_stack.assert_nothing_left()


def test_udp_port_in_use_is_named_with_its_holder_and_its_setting(other_stack):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", other_stack.coap_port))
        result = other_stack.make("run")
    assert result.returncode != 0
    assert f"port {other_stack.coap_port} is in use by" in result.stderr
    assert f"(pid {os.getpid()})" in result.stderr
    assert "make run COAP_PORT=" in result.stderr
    other_stack.assert_nothing_left()


@pytest.mark.parametrize("value", ["0", "65536", "http", "-1", "08883"])
def test_a_port_that_is_none_is_refused(other_stack, value):
    result = other_stack.make("run", f"MQTT_PORT={value}")
    assert result.returncode != 0
    assert f"MQTT_PORT={value}: expected a port number" in result.stderr


def test_two_stacks_at_once_with_an_awkward_directory(stack, tmp_path):
    """The second one's directory has a space, a quote, a letter beyond ASCII, and no room for a socket."""
    second = Stack(tmp_path / ("it's a long ü " + "x" * 120) / "run")
    try:
        second.start_and_wait()
        env = second.env()
        assert env["FIELDGATE_CREDENTIALS"] == f"{second.run_dir}/pki/devices"
        publish(env, "demo-device", b'{"temperature": 2}')
        wait_until(lambda: second.rows(env=env) == DEMO_ROWS + 1)
        assert stack.rows() > 0
        assert second.interrupt() is not None
        second.assert_nothing_left()
        assert stack.process.poll() is None
    finally:
        second.end()


def test_without_a_stack_env_fails_and_stop_does_nothing(other_stack):
    result = other_stack.make("env")
    assert result.returncode != 0 and result.stdout == ""
    assert "nothing is running" in result.stderr
    assert other_stack.make("stop").returncode == 0


def test_ctrl_c_leaves_nothing_and_a_second_run_keeps_the_data(stack):
    before = stack.rows()
    publish(stack.env(), "demo-device", b'{"temperature": 3}')
    stack.interrupt()
    assert "[stack] stopped" in stack.text
    assert "ended by itself" not in stack.text
    stack.assert_nothing_left()
    assert stack.make("env").returncode != 0

    stack.start_and_wait()
    assert stack.rows() == before + 1 + DEMO_ROWS
    assert "making a PostgreSQL cluster" not in stack.text


def test_make_stop_from_another_terminal(stack):
    result = stack.make("stop")
    assert result.returncode == 0, result.stderr
    assert stack.wait_for_end() == 0
    stack.assert_nothing_left()
    stack.start_and_wait()


def test_sigterm_to_make_alone_stops_everything(stack):
    stack.process.terminate()
    stack.wait_for_end()
    stack.assert_nothing_left()
    stack.start_and_wait()


def test_ctrl_c_reaches_a_stack_that_a_script_started_in_the_background(stack):
    """A shell without job control starts background commands with SIGINT ignored."""
    stack.interrupt()
    stack.start_and_wait(ignore_sigint=True)
    stack.interrupt()
    stack.assert_nothing_left()
    stack.start_and_wait()


@pytest.mark.parametrize("part,name", [
    ("mosquitto -c", "Mosquitto"), (r"postgres -D|postgres.*-D", "PostgreSQL"), ("fieldgate-coap /", "fieldgate-coap")])
def test_the_death_of_one_part_is_said_and_stops_the_rest(stack, part, name):
    os.kill(stack.pid_of(part), signal.SIGKILL)
    assert stack.wait_for_end() != 0
    assert f"{name} has ended by itself" in stack.text
    stack.assert_nothing_left()
    stack.start_and_wait()


def test_what_a_killed_stack_leaves_is_cleared_by_the_next_run(stack):
    before = stack.rows()
    os.kill(int((stack.run_dir / "lock").read_text()), signal.SIGKILL)
    stack.process.wait(STOP_LIMIT_S)
    assert stack.make("env").returncode != 0
    stack.start_and_wait()
    assert stack.rows() == before + DEMO_ROWS


def test_sessions_of_a_run_dir_that_is_gone_are_removed(stack, tmp_path):
    directory = Path("/dev/shm") / f"fieldgate-run-{os.geteuid()}-test{os.getpid()}"
    directory.mkdir(mode=0o700)
    (directory / "run_dir").write_text(f"{tmp_path / 'gone'}\n")
    (directory / "worker-0.slots").write_text("sessions")
    stack.interrupt()
    assert len(stack.sessions()) == 1
    stack.start_and_wait()
    assert not directory.exists()
    assert len(stack.sessions()) == 1


def test_a_revoked_demo_device_does_not_keep_the_stack_from_starting(stack):
    subprocess.run(
        ["pki/fleet", "revoke", "demo-device"], cwd=ROOT, env=stack.env(), check=True, capture_output=True, timeout=60)
    stack.interrupt()
    stack.start_and_wait()
    assert "no demonstration" in stack.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_can_run_it():
    """With everything built: `make run` would build the libraries once more for a user who cannot read root's.
    nobody owns nothing, so the directory is made here."""
    home = Path("/var/tmp") / f"fieldgate-test-{os.getpid()}"
    home.mkdir()
    as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    if subprocess.run([*as_user, "test", "-r", str(ROOT / "build.mk")], check=False).returncode != 0:
        pytest.skip("nobody cannot read the source tree")
    try:
        shutil.chown(home, "nobody", "nogroup")
        s = Stack(home / "run", as_user, ("bin/fieldgate-stack", "run"))
        try:
            s.start_and_wait()
            assert s.rows() == DEMO_ROWS
            s.interrupt()
            s.assert_nothing_left()
        finally:
            s.end()
    finally:
        shutil.rmtree(home)
