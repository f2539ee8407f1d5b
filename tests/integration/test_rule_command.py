# SPDX-License-Identifier: Apache-2.0
"""bin/fieldgate rule: what each command does, says and refuses. That rules then work is tested elsewhere."""

import json
import os
import pathlib
import pty
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.postgres import INGEST, READER, SUPERUSER, fresh_database  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = ROOT / "bin" / "fieldgate"
COMMANDS = ["add", "list", "show", "test", "rm", "enable", "disable"]
NOWHERE = "postgresql://fieldgate_owner@127.0.0.1:1/fieldgate"
HOT = "SELECT temp, device() AS device FROM 'm/d/+/d2c' WHERE temp > 60"
D2C = ["--topic", "m/d/dev-1/d2c"]


def call(*arguments, url=NOWHERE, stdin="", env=None, cwd=None):
    return subprocess.run(
        [COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "FIELDGATE_DATABASE_URL": url, **(env or {})},
    )


class Rules:
    """The command against a database of its own."""

    def __init__(self, db):
        self.db = db

    def run(self, *arguments, **options):
        return call(*arguments, url=self.db.url(), **options)

    def ok(self, *arguments, **options):
        result = self.run("rule", *arguments, **options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def refused(self, *arguments, status=1, **options):
        before = self.rows()
        result = self.run("rule", *arguments, **options)
        assert result.returncode == status, result.stdout + result.stderr
        assert result.stdout == ""
        assert self.rows() == before
        return result.stderr

    def rows(self):
        return self.db.query("select name, sql, actions, error_action, enabled, description from rule order by name")

    def row(self, name):
        (row,) = [row for row in self.rows() if row[0] == name]
        return row


@pytest.fixture
def rules():
    with fresh_database() as database:
        yield Rules(database)


# --- help and wrong usage ---


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", ["help rule {}", "rule {} --help", "rule {} -h", "rule {} something --help"])
def test_every_command_has_help_with_an_example(command, form):
    result = call(*form.format(command).split(), url="")
    assert result.returncode == 0
    assert f"usage: fieldgate rule {command}" in result.stdout
    assert re.search(rf"^example: .*fieldgate rule {command}\b", result.stdout, re.M)
    assert result.stderr == ""


def test_help_lists_every_command():
    for arguments in (["--help"], ["-h"], ["help"], ["help", "rule"], ["rule", "--help"]):
        text = call(*arguments, url="").stdout
        assert all(re.search(rf"^  rule {command} ", text, re.M) for command in COMMANDS), arguments


@pytest.mark.parametrize(
    "arguments",
    [
        "", "rule", "nonsense", "rule nonsense", "rule [a-z]*", "--database", "--database= rule list",
        "rule add", "rule add x", "rule add x y --sql z", "rule add a/b --sql z", "rule add x --sql",
        "rule add x --nonsense", "rule add x --sql z --file z --nonsense", "rule add x --sql z --qos 1",
        "rule add x --sql z --retain", "rule add x --sql z --format json", "rule add x --sql z --column a=b",
        "rule add x --sql z --store t --column a", "rule add x --sql z --store t --column =a",
        "rule add x --sql z --store t --column a=b --column a=c", "rule add x --sql z --republish t --qos 2",
        "rule add x --sql z --republish t --format xml", "rule add x --sql z --actions {",
        "rule add x --sql z --actions [] --drop", "rule add x --sql z --description",
        "rule list x", "rule show", "rule show a b", "rule show a/b", "rule rm", "rule rm a b", "rule enable",
        "rule enable a b", "rule enable a --nonsense", "rule disable", "rule test", "rule test x",
        "rule test x f", "rule test --topic t f", "rule test x y f --topic t",
        "rule test x f --topic t --drop", "rule test --sql z x f --topic t", "rule test x f --topic",
        "rule test x f --nonsense",
    ],
    ids=lambda arguments: arguments or "nothing",
)  # fmt: skip
def test_wrong_usage_is_status_2(arguments, rules):
    result = rules.run(*arguments.split(" ") if arguments else [])
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stdout == ""
    assert result.stderr
    assert rules.rows() == []


def test_a_password_in_the_arguments_is_refused():
    for url in "postgresql://u:secret@127.0.0.1/x", "host=127.0.0.1 password=secret":
        result = call("--database", url, "rule", "list")
        assert result.returncode == 2
        assert "secret" not in result.stderr
        assert "FIELDGATE_DATABASE_URL" in result.stderr


def test_a_database_that_is_not_there_is_said():
    for arguments in ["list"], ["show", "x"], ["rm", "x"], ["add", "x", "--sql", HOT], ["enable", "x"]:
        result = call("rule", *arguments)
        assert result.returncode == 1
        assert "no connection to the database" in result.stderr


def test_nothing_is_coloured_outside_of_a_terminal(rules):
    assert "\033" not in rules.refused("show", "missing")
    master, slave = pty.openpty()
    subprocess.run([COMMAND, "nonsense"], stderr=slave, check=False, env={**os.environ, "NO_COLOR": ""})
    os.close(slave)
    assert b"\033[31m" in os.read(master, 1000)
    os.close(master)


# --- add ---


def test_a_rule_is_added_as_it_was_given(rules):
    text = rules.ok(
        "add", "hot", "--sql", HOT, "--republish", "alarms/${device()}", "--qos", "1", "--retain", "--republish",
        "raw", "--format", "cbor", "--drop", "--error-republish", "errors", "--qos", "1", "--description", "it's hot",
    )  # fmt: skip
    assert text == "hot is added, and in force within 5 s: fieldgate rule show hot\n"
    assert rules.row("hot") == (
        "hot",
        HOT,
        [
            {"republish": {"topic": "alarms/${device()}", "qos": 1, "retain": True}},
            {"republish": {"topic": "raw", "format": "cbor"}},
            {"drop": {}},
        ],
        {"republish": {"topic": "errors", "qos": 1}},
        True,
        "it's hot",
    )


def test_the_statement_may_come_from_a_file_or_stdin(rules, tmp_path):
    (tmp_path / "hot.sql").write_text("SELECT *\nFROM 'a'\n\n")
    rules.ok("add", "a", "--file", tmp_path / "hot.sql")
    rules.ok("add", "b", "--file", "-", stdin="SELECT *\nFROM 'b'")
    assert [row[1] for row in rules.rows()] == ["SELECT *\nFROM 'a'", "SELECT *\nFROM 'b'"]
    assert "missing: No such file" in rules.refused("add", "c", "--file", tmp_path / "missing")


def test_actions_may_be_given_as_json(rules):
    given = [{"republish": {"topic": "a"}}, {"drop": {}}]
    rules.ok("add", "a", "--sql", HOT, "--actions", json.dumps(given), "--error-action", json.dumps(given[0]))
    assert rules.row("a")[2:4] == (given, given[0])


def test_strange_texts_are_kept_as_they_are(rules):
    sql = """SELECT '$(touch x) `id` \\ :name :''x'' "q" % ä' AS s FROM 'a'"""
    rules.ok("add", "odd", "--sql", sql, "--description", "a 'b' \"c\" \\ $d :e | f\ng")
    assert rules.row("odd")[1] == sql
    assert rules.row("odd")[5] == "a 'b' \"c\" \\ $d :e | f\ng"


def test_what_cannot_be_parsed_is_refused_with_its_place(rules):
    text = rules.refused("add", "hot", "--sql", "SELECT * FROM 'a' WHERE t >")
    assert text.startswith("fieldgate: error: rule 'hot': line 1, column 28: expected ")
    text = rules.refused("add", "hot", "--sql", HOT, "--republish", "a/${topic(}")
    assert "rule 'hot', actions[0].republish.topic: " in text
    text = rules.refused("add", "hot", "--sql", HOT, "--republish", "$SYS/x")
    assert "topics that begin with '$' are the broker's own" in text
    text = rules.refused("add", "hot", "--sql", HOT, "--actions", '[{"republish": {"topic": "a", "retian": true}}]')
    assert "it has no member 'retian'" in text
    text = rules.refused("add", "hot", "--sql", "x" * 8193)
    assert "8192" in text


def test_a_rule_that_is_there_is_only_changed_when_asked(rules):
    rules.ok("add", "hot", "--sql", HOT, "--drop", "--description", "old")
    text = rules.refused("add", "hot", "--sql", "SELECT * FROM 'b'")
    assert "there is a rule hot already" in text
    assert "--replace" in text
    text = rules.ok("add", "hot", "--sql", "SELECT * FROM 'b'", "--replace")
    assert text.startswith("hot is changed")
    assert rules.row("hot") == ("hot", "SELECT * FROM 'b'", [], None, True, "old")
    rules.ok("add", "new", "--sql", "SELECT * FROM 'b'", "--replace")
    assert rules.row("new")[4]


def test_a_rule_may_be_added_disabled(rules):
    assert "not in force before fieldgate rule enable hot" in rules.ok("add", "hot", "--sql", HOT, "--disabled")
    assert rules.row("hot")[4] is False


def test_only_the_owner_adds_rules(rules):
    result = call("rule", "add", "hot", "--sql", HOT, url=rules.db.url(READER))
    assert result.returncode == 1
    assert "Connect as fieldgate_owner" in result.stderr


# --- add, with tables ---


@pytest.fixture
def alarm(rules):
    rules.db.query(
        """create schema plant;
        create table plant.alarm (id bigserial primary key, device text not null, degrees real,
            at timestamptz not null default now());
        alter schema plant owner to fieldgate_owner;
        alter table plant.alarm owner to fieldgate_owner""",
        role=SUPERUSER,
    )
    return ["add", "hot", "--sql", HOT, "--store", "plant.alarm", "--column", "degrees=temp", "--column", "device=device"]


def test_a_table_that_is_not_there_is_refused(rules):
    text = rules.refused("add", "hot", "--sql", HOT, "--store", "nowhere")
    assert "rule 'hot', actions[0].store: there is no table public.nowhere" in text


def test_a_column_that_is_not_there_is_refused(rules, alarm):
    text = rules.refused(*alarm, "--column", "nothing=x", "--grant")
    assert "has no column nothing" in text
    # And no right was given for a rule that there is not.
    assert not rules.db.value("select has_schema_privilege('fieldgate_ingest', 'plant', 'usage')")


def test_a_right_that_is_missing_is_printed(rules, alarm):
    text = rules.refused(*alarm)
    assert "grant usage on schema plant to fieldgate_ingest;" in text
    assert "--grant" in text


def test_rights_that_are_missing_are_given_when_asked(rules, alarm):
    result = rules.run("rule", *alarm, "--grant")
    assert result.returncode == 0, result.stderr
    assert "grant usage on schema plant to fieldgate_ingest;" in result.stderr
    assert "grant insert on plant.alarm to fieldgate_ingest;" in result.stderr
    assert rules.row("hot")[2] == [
        {"store": {"table": "plant.alarm", "columns": {"device": "device", "degrees": "temp"}}}
    ]
    rules.db.query("insert into plant.alarm (device, degrees) values ('dev-1', 61)", role=INGEST)
    # There is nothing to give any more.
    assert rules.run("rule", *alarm, "--replace").stderr == ""


def test_rights_that_one_may_not_give_are_said(rules, alarm):
    rules.db.query("alter table plant.alarm owner to postgres", role=SUPERUSER)
    rules.db.query("grant usage on schema plant to fieldgate_ingest", role=SUPERUSER)
    text = rules.refused(*alarm, "--grant")
    assert "grant insert on plant.alarm to fieldgate_ingest;" in text
    assert "permission denied" in text


def test_a_grant_without_effect_is_said(rules, alarm):
    """PostgreSQL only warns somebody who may not grant a right, but has it."""
    rules.db.query("alter schema plant owner to postgres; grant usage on schema plant to fieldgate_owner", role=SUPERUSER)
    text = rules.refused(*alarm, "--grant")
    assert "grant usage on schema plant to fieldgate_ingest; This role has run it, and it had no effect" in text


def test_the_tables_of_error_actions_are_looked_at_too(rules):
    text = rules.refused("add", "hot", "--sql", HOT, "--error-action", '{"store": {"table": "nowhere"}}')
    assert "error_action.store: there is no table public.nowhere" in text


# --- list, show, rm, enable, disable ---


def judge(rules, name, problem=None):
    rules.db.query(
        "select rule_judged(name, revision, %s) from rule where name = %s", (problem, name), role=INGEST
    )


def state(rules, name):
    (line,) = [line for line in rules.ok("list").splitlines() if line.split()[:1] == [name]]
    return line


def test_list_says_how_it_stands_with_every_rule(rules):
    for name in "fresh", "good", "off", "bad":
        rules.ok("add", name, "--sql", HOT)
    rules.ok("disable", "off")
    judge(rules, "good")
    judge(rules, "bad", "the table went away")
    rules.db.query(
        """select rule_count('mqtt', '[{"rule": "good", "matched": 12, "errors": 3, "cut": 4,
            "matched_at": "2026-01-02T03:04:05Z"}]')""",
        role=INGEST,
    )
    assert "not read yet" in state(rules, "fresh")
    assert re.search(r"in force +12 +3 +4 ", state(rules, "good"))
    assert "disabled" in state(rules, "off")
    assert "refused" in state(rules, "bad")


def test_show_shows_all_of_a_rule(rules):
    rules.ok("add", "hot", "--sql", HOT, "--drop", "--error-republish", "errors", "--description", "for people")
    judge(rules, "hot", "the table went away")
    text = rules.ok("show", "hot")
    for word in "for people", "refused", "the table went away", HOT, '"drop": {', '"topic": "errors"':
        assert word in text
    judge(rules, "hot")
    assert "in force" in rules.ok("show", "hot")
    assert "there is no rule 'cold'" in rules.refused("show", "cold")


def test_rm_removes_one_rule(rules):
    rules.ok("add", "hot", "--sql", HOT)
    rules.ok("add", "cold", "--sql", HOT)
    assert "hot is removed" in rules.ok("rm", "hot")
    assert [row[0] for row in rules.rows()] == ["cold"]
    assert "there is no rule 'hot'" in rules.refused("rm", "hot")


def test_a_rule_is_disabled_and_enabled(rules):
    rules.ok("add", "hot", "--sql", HOT)
    assert "hot is disabled" in rules.ok("disable", "hot")
    assert rules.row("hot")[4] is False
    assert "disabled before" in rules.ok("disable", "hot")
    assert "hot is enabled" in rules.ok("enable", "hot")
    assert rules.row("hot")[4] is True
    assert "enabled before" in rules.ok("enable", "hot")
    assert "there is no rule 'cold'" in rules.refused("enable", "cold")
    assert "there is no rule 'cold'" in rules.refused("disable", "cold")


def test_a_rule_that_cannot_work_is_not_enabled(rules, alarm):
    rules.db.query("insert into rule (name, sql, enabled) values ('bad', 'SELECT * FRM', false)")
    assert "rule 'bad': line 1, column 10" in rules.refused("enable", "bad")
    rules.run("rule", *alarm, "--grant", "--disabled")
    rules.db.query("revoke insert on plant.alarm from fieldgate_ingest")
    assert "grant insert on plant.alarm" in rules.refused("enable", "hot")
    assert "hot is enabled" in rules.ok("enable", "hot", "--grant")


# --- docs/rules.md ---

PAGE = (ROOT / "docs" / "rules.md").read_text()


def test_the_pages_actions_are_actions(rules):
    blocks = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)]
    assert len(blocks) == 2
    rules.db.query("create table public.alarm (device text, degrees real)", role=SUPERUSER)
    sql = "SELECT temp AS t, device() AS device FROM 'm/d/+/d2c'"
    given = ["--actions", json.dumps(blocks[0]), "--error-action", json.dumps(blocks[1])]
    rules.db.query("grant insert on public.alarm to fieldgate_ingest", role=SUPERUSER)
    rules.ok("add", "page", "--sql", sql, *given)
    assert rules.row("page")[2:4] == (blocks[0], blocks[1])


def test_the_pages_commands_say_what_it_says(rules):
    rules.db.query("grant create on schema public to fieldgate_owner", role=SUPERUSER)
    commands = 0
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            result = subprocess.run(
                ["bash", "-c", command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={**os.environ, "FIELDGATE_DATABASE_URL": rules.db.url()}, check=False)  # fmt: skip
            assert result.stdout == expected, command
            commands += 1
    assert commands == 9


# --- test ---


def test_a_message_that_matches_is_told_with_all_that_comes_of_it(rules):
    text = call(
        "rule", "test", "--sql", HOT, "--republish", "alarms/${device()}", "--qos", "1", "--retain", "--store",
        "plant.alarm", "--column", "degrees=temp", "--column", "note=a.b", "--drop", *D2C, "-", stdin='{"temp": 61}',
    ).stdout  # fmt: skip
    assert text.splitlines() == [
        "rule test matches",
        '  SELECT gives {"temp":61,"device":"dev-1"}',
        '  republish to alarms/dev-1 (QoS 1, retained, JSON): {"temp":61,"device":"dev-1"}',
        "  store into plant.alarm",
        "    degrees = 61",
        "    note: the message has none, so its default or null",
        "  drop: the message is not stored in telemetry",
    ]


def test_without_columns_each_member_is_a_column(rules):
    text = call("rule", "test", "--sql", HOT, "--store", "t", *D2C, "-", stdin='{"temp": 61}').stdout
    assert text.splitlines()[2:] == ["  store into public.t", "    temp = 61", '    device = "dev-1"']


@pytest.mark.parametrize(
    "topic, message, why",
    [
        ("m/d/dev-1/c2d", '{"temp": 61}', "rule test does not match: its topic filter is 'm/d/+/d2c'"),
        ("m/d/dev-1/d2c", '{"temp": 60}', "rule test does not match: WHERE is false"),
        ("m/d/dev-1/d2c", "{}", "rule test does not match: WHERE is undefined: "),
    ],
)
def test_why_a_message_does_not_match_is_told(topic, message, why):
    result = call("rule", "test", "--sql", HOT, "--drop", "--topic", topic, "-", stdin=message)
    assert result.returncode == 0
    assert result.stdout.startswith(why)
    assert result.stdout.count("\n") == 1


def test_a_payload_that_cannot_be_decoded_is_told():
    result = call("rule", "test", "--sql", "SELECT * FROM '#'", *D2C, "-", stdin="what?")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("the payload cannot be decoded")
    assert lines[1].startswith("rule test fails: sql: `SELECT *`")


def test_the_device_is_the_one_of_the_topic_unless_it_is_given(tmp_path):
    (tmp_path / "m").write_text("{}")
    sql = ["--sql", "SELECT device() AS d FROM '#'"]
    assert '{"d":"dev-1"}' in call("rule", "test", *sql, *D2C, "m", cwd=tmp_path).stdout
    assert '{"d":"x"}' in call("rule", "test", *sql, *D2C, "--device", "x", "m", cwd=tmp_path).stdout
    assert "gives {}" in call("rule", "test", *sql, "--topic", "a/b", "m", cwd=tmp_path).stdout


def test_a_message_may_be_cbor(tmp_path):
    (tmp_path / "m").write_bytes(bytes.fromhex("a1 64 74656d70 18 3d"))
    result = call("rule", "test", "--sql", HOT, "--republish", "a", "--format", "cbor", *D2C, tmp_path / "m")
    assert '  SELECT gives {"temp":61,"device":"dev-1"}\n' in result.stdout
    assert "(QoS 0, CBOR): a26474656d70183d" in result.stdout


def test_a_rule_is_tried_with_all_that_are_enabled(rules):
    rules.ok("add", "hot", "--sql", HOT, "--republish", "hot/${device()}", "--disabled")
    rules.ok("add", "warn", "--sql", "SELECT temp + 1 AS temp FROM 'hot/+'", "--republish", "warn/x")
    rules.ok("add", "off", "--sql", "SELECT * FROM 'hot/+'", "--republish", "off/x", "--disabled")
    rules.ok("add", "other", "--sql", "SELECT * FROM 'm/d/+/d2c'", "--republish", "other/x")
    text = rules.ok("test", "hot", *D2C, "-", stdin='{"temp": 61}')
    assert text.splitlines() == [
        "rule hot matches",
        '  SELECT gives {"temp":61,"device":"dev-1"}',
        '  republish to hot/dev-1 (QoS 0, JSON): {"temp":61,"device":"dev-1"}',
        "    rule warn matches",
        '      SELECT gives {"temp":62}',
        '      republish to warn/x (QoS 0, JSON): {"temp":62}',
    ]
    assert rules.db.query("select * from rule_counter") == []


def test_a_loop_is_shown_until_it_is_cut(rules):
    rules.ok("add", "loop", "--sql", "SELECT * FROM 'm/d/+/d2c'", "--republish", "m/d/dev-1/d2c")
    lines = rules.ok("test", "loop", *D2C, "-", stdin="{}").splitlines()
    assert len([line for line in lines if "rule loop matches" in line]) == 4
    assert "rule loop is not run any more" in lines[-1]


def test_an_action_that_fails_is_shown_with_its_error_action(rules):
    rules.ok("add", "hot", "--sql", HOT, "--republish", "x/${nothing}", "--error-republish", "errors")
    lines = rules.ok("test", "hot", *D2C, "-", stdin='{"temp": 61}').splitlines()
    assert lines[2].startswith("  rule hot fails: republish: ")
    assert lines[3].startswith('  error action: republish to errors (QoS 0, JSON): {"ruleName":"hot"')


def test_a_rule_that_is_refused_cannot_be_tried(rules):
    rules.db.query("insert into rule (name, sql) values ('bad', 'SELECT * FRM')")
    assert "rule 'bad': line 1, column 10" in rules.refused("test", "bad", *D2C, "-")
    rules.ok("add", "good", "--sql", HOT)
    assert "does not match" in rules.ok("test", "good", *D2C, "-", stdin="{}")
    assert "there is no rule 'cold'" in rules.refused("test", "cold", *D2C, "-")


def test_a_topic_must_be_one_that_somebody_can_publish_to():
    result = call("rule", "test", "--sql", HOT, "--topic", "a/+", "-", stdin="{}")
    assert result.returncode == 2
    assert "'a/+' is not a topic to publish to" in result.stderr


def test_a_file_that_is_not_there_is_said(rules):
    result = call("rule", "test", "--sql", HOT, *D2C, "/nonexistent/x")
    assert result.returncode == 1
    assert "/nonexistent/x: No such file or directory" in result.stderr


def test_the_program_that_reads_rules_is_missed_by_name(tmp_path):
    home = tmp_path / "elsewhere" / "bin"
    home.parent.mkdir()
    subprocess.run(["cp", "-r", ROOT / "bin", home], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "FIELDGATE_RULE"}
    result = subprocess.run(
        [home / "fieldgate", "rule", "add", "x", "--sql", HOT], capture_output=True, text=True, env=clean)  # fmt: skip
    assert result.returncode == 1
    assert "FIELDGATE_RULE" in result.stderr
    tool = ROOT / "build/release/tools/fieldgate-rule"
    result = subprocess.run(
        [home / "fieldgate", "rule", "test", "--sql", HOT, *D2C, "-"],
        input="{}", capture_output=True, text=True, env={**os.environ, "FIELDGATE_RULE": str(tool)})  # fmt: skip
    assert "does not match" in result.stdout
