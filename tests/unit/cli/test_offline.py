import csv
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from everbell import __version__
from everbell.cli.main import COMMANDS
from everbell.cli.main import cli as root


def test_help_lists_every_visible_command_and_no_verb(cli):
    assert cli("--help") == 0
    for name, (_, about) in COMMANDS.items():
        assert (f"\n  {name} " in cli.out) == bool(about), name


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from everbell.cli.main import run; run(['--help']); "
        "heavy = {'msgspec', 'yaml', 'starlette', 'uvicorn', 'aiohttp', 'apsw', 'asyncio', "
        "'http.client', 'everbell.config.schema', 'everbell.domain.job'} & set(sys.modules); "
        "print(sorted(heavy), len([m for m in sys.modules if m.startswith('everbell')]), "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    heavy, _, count = done.stderr.strip().rpartition(" ")
    assert heavy == "[]"
    assert int(count) <= 8


def _all_commands(group, ctx, path=()):
    import click

    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _all_commands(command, ctx, (*path, name))


def test_every_command_has_help_and_takes_config_in_three_spellings(cli):
    import click

    found = dict(_all_commands(root, click.Context(root)))
    assert len(found) > 50
    for path, command in found.items():
        assert command.help, path
        spellings = {spelling for param in command.params for spelling in param.opts}
        assert {"-c", "--config", "-config", "--json", "-o", "--server"} <= spellings, path
        assert cli(*path, "--help") == 0, path


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["strat"], "no command `everbell strat`", "did you mean `everbell start`?"),
        (["job", "lst"], "no command `everbell job lst`", "did you mean `everbell job list`?"),
        (["zzzzzz"], "no command `everbell zzzzzz`", "see `everbell --help`"),
        (["config", "show", "--orign"], "'--orign'", "everbell config show --help"),
        (["hold", "release", "1"], "missing option '--missed'", "everbell hold release"),
        (["config", "show", "--set", "x"], "--set needs KEY=VALUE", "server.port=9000"),
        (["config", "show", "--set", "server.prt=1"], "server.prt", "did you mean `server.port`?"),
        (["-config", "nope.toml", "config", "show"], "no configuration file", "config init"),
        (["schedule", "next", "@daily", "--after", "x"], "`x` is no time", "as in"),
        (["credential", "init"], "--secret-key, --username, --password: missing", "--generate"),
        (["job", "create", "x"], "has nothing to run", "--http"),
        (["job", "create", "x", "--every", "1s", "--cron", "x"], "both say when", "keep one"),
        (["job", "create", "x", "--http", "u", "--", "true"], "both say what", "keep one"),
        (["job", "create", "x", "--data", "{", "--", "true"], "not JSON", "double quotes"),
        (["job", "create", "x", "--script", "no.sh"], "can't read no.sh", "stdin"),
        (["job", "create", "x", "--env", "A=1"], "--env needs something to run", "COMMAND"),
        (["job", "create", "x", "--env", "A", "--", "true"], "--env needs NAME=VALUE", ""),
        (["job", "create", "x", "--timeout", "soon", "--", "true"], "no duration", ""),
        (["job", "edit", "x"], "nothing to change", "job edit"),
        (["run", "logs"], "name one run", "--job"),
        (["job", "list"], "neither a configuration nor a database", "everbell init"),
        (["start"], "no secrets in", "everbell init"),
        (["start", "--PGPORT", "many"], "`--PGPORT` must be", "number of a port"),
        (["start", "--REDISHOST=a b"], "`--REDISHOST` must be a host", "as in db.example.com"),
        (["start", "--PORT=x"], "'--port' / '--PORT': 'x'", "start --help"),
        (["start", "--server", "http://x"], "--server has no meaning", "--host"),
        (["--server", "ftp://x", "job", "list"], "no server address", "as in http"),
        (["--server", "http://x:y", "job", "list"], "no server address", "as in http"),
    ],
)
def test_usage_errors_say_what_and_what_next(cli, args, error, hint):
    assert cli(*args) == 2
    first, *rest = cli.err.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert not hint or any(line.startswith("hint: ") and hint in line for line in rest)
    assert cli.out == ""


def test_no_server_is_exit_code_7(cli):
    assert cli("job", "list", "--server", "http://127.0.0.1:1") == 7
    assert cli.err.startswith("error: can't reach the server at http://127.0.0.1:1 (")
    assert "hint: start one with `everbell start`" in cli.err


def test_version(cli):
    assert cli("version") == 0
    assert cli.out.startswith(f"everbell {__version__}\n")
    assert cli("--version") == 0
    assert cli.out == f"everbell {__version__}\n"
    assert cli("version", "--json") == 0
    assert json.loads(cli.out)["data"]["version"] == __version__


def test_config_init_twice_destroys_nothing(cli):
    Path("everbell.db").write_bytes(b"precious")
    assert cli("config", "init") == 0
    Path("everbell.toml").write_text("[server]\nport = 1234\n")
    assert cli("config", "init") == 0
    assert "nothing was changed" in cli.err
    assert Path("everbell.toml").read_text() == "[server]\nport = 1234\n"
    assert Path("everbell.db").read_bytes() == b"precious"
    assert cli("config", "init", "--force") == 0
    assert Path("everbell.toml.bak").read_text() == "[server]\nport = 1234\n"


def test_config_init_leaves_a_scheduler0_file_alone(cli):
    Path("config.yml").write_text("Port: 9191\nBootstrap: true\n")
    assert cli("config", "init") == 0
    assert sorted(item.name for item in Path().iterdir()) == ["config.yml"]
    assert cli("config", "show", "--origin") == 0
    assert "server.port = 9191  # config.yml:1" in cli.out
    assert "note: config.yml:2: `Bootstrap` needs a cluster; ignored on one node" in cli.err


@pytest.mark.parametrize("name", ["own.toml", "config.yml"])
def test_config_init_writes_the_file_that_was_named(cli, name):
    assert cli("config", "init", "-config", name) == 0
    assert [item.name for item in Path().iterdir()] == [name]
    assert cli("-config", name, "config", "show") == 0
    Path(name).write_text("# mine\n")
    assert cli("config", "init", "-config", name) == 0
    assert Path(name).read_text() == "# mine\n"
    assert cli("config", "init", "-config", "own.ini") == 2


def test_config_show_check_path_schema(cli):
    assert cli("config", "path") == 5
    cli("config", "init", "--format", "yaml")
    assert cli("config", "path") == 0
    assert cli.out == f"{Path('everbell.yml').absolute()}\n"
    assert cli("config", "check") == 0
    assert "secrets: none yet" in cli.out
    assert cli("config", "show", "--json", "--set", "server.port=9") == 0
    rows = {row["name"]: row for row in json.loads(cli.out)["data"]}
    assert (rows["server.port"]["value"], rows["server.port"]["origin"]) == (9, "flag")
    assert cli("config", "schema") == 0
    assert "$defs" in json.loads(cli.out)
    Path("everbell.yml").write_text("servr: {}\n")
    assert cli("config", "check") == 2
    assert cli.err.startswith("error: everbell.yml:1: unknown key `servr`\nhint: did you mean")


def test_credential_init(cli):
    assert cli("credential", "init", "--generate") == 0
    first = Path(".everbell").read_text()
    assert os.stat(".everbell").st_mode & 0o777 == 0o600
    assert cli("credential", "init", "--generate") == 0
    assert "nothing was changed" in cli.err
    assert (
        cli("credential", "init", "--secret-key", "k" * 20, "--username", "u", "--password", "p")
        == 6
    )
    assert Path(".everbell").read_text() == first
    given = ["--secret-key", "k" * 20, "--username", "u", "--password", "p", "--force"]
    assert cli("credential", "init", *given) == 0
    assert json.loads(Path(".everbell").read_text())["secret_key"] == "k" * 20


def test_a_short_secret_key_is_refused(cli):
    assert cli("credential", "init", "--generate", "--secret-key", "short") == 2
    assert not Path(".everbell").exists()


def test_schedule_explain_marks_the_clock_change(cli):
    args = ["--tz", "Europe/Berlin", "--after", "2026-03-28T12:00:00+01:00", "-n", "2"]
    assert cli("schedule", "explain", "0 2 * * *", *args) == 0
    assert "2026-03-29T03:00:00+02:00" in cli.out
    assert "02:00 is left out that day: runs right after the gap" in cli.out
    assert "clocks go forward 1 h at 2026-03-29T03:00:00+02:00: 02:00 is left out" in cli.out
    assert "note: 02:00 does not exist" in cli.err
    assert cli("schedule", "next", "0 2 * * *", *args, "--json") == 0
    rows = json.loads(cli.out)["data"]
    assert [row["utc"] for row in rows] == ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]


def test_schedule_explain_takes_all_that_decides_slots(cli):
    args = ["--tz", "Europe/Berlin", "--after", "2026-03-28T12:00:00+01:00", "-n", "2", "--json"]
    rules = ["--dst-gap", "skip", "--exclude", "2026-03-30", "--end-at", "2026-03-31T12:00:00Z"]
    assert cli("schedule", "explain", "0 2 * * *", *args, *rules) == 0
    told = json.loads(cli.out)["data"]
    assert [row["at"][:10] for row in told["next"]] == ["2026-03-31"]
    assert [row["at"][:10] for row in told["excluded"]] == ["2026-03-30"]
    assert [row["after"] - row["before"] for row in told["clock_changes"]] == [3600, -3600]
    args[-1:] = ["--dst-overlap", "both", "--after", "2026-10-24T12:00:00Z"]
    assert cli("schedule", "explain", "30 2 * * *", *args) == 0
    assert "the first 02:30 of two" in cli.out
    assert "the second 02:30 of two" in cli.out
    week = ["--week-start", "sunday", "--after", "2026-01-01", "-n", "1", "--json"]
    assert cli("schedule", "next", "weekly", *week) == 0
    assert json.loads(cli.out)["data"][0]["utc"] == "2026-01-04T00:00:00Z"
    assert cli("schedule", "check", "@daily", "--exclude", "--02-30") == 2
    assert cli.err.splitlines()[1:3] == ["  --02-30", "    ^"]


def test_schedule_check(cli):
    assert cli("schedule", "check", "*/5 * * * *") == 0
    assert cli.out == "ok\n"
    assert cli("schedule", "check", "61 * * * *") == 2
    lines = cli.err.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1:3] == ["  61 * * * *", "  ^"]
    assert lines[3].startswith("hint: ")
    assert cli("schedule", "check", "@daily", "--tz", "Mars/Base") == 2


def test_output_forms(cli):
    args = ("schedule", "next", "@daily", "-n", "2", "--after", "2026-01-01T00:00:00Z")
    cli(*args)
    assert cli.out.splitlines()[0].split("\t") == ["at", "utc", "in", "note"]
    cli(*args, "-o", "csv")
    assert next(csv.reader(io.StringIO(cli.out))) == ["at", "utc", "in", "note"]
    cli(*args, "-o", "jsonl")
    assert [json.loads(line)["utc"] for line in cli.out.splitlines()] == [
        "2026-01-02T00:00:00Z",
        "2026-01-03T00:00:00Z",
    ]
    cli(*args, "-o", "yaml")
    assert "utc: '2026-01-02T00:00:00Z'" in cli.out


def test_help_is_quick():
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def once():
        before = used()
        subprocess.run(
            [sys.executable, "-m", "everbell", "--help"], capture_output=True, check=True
        )
        return used() - before

    # The best of many, in time of the CPU: other work on the machine can only slow it down.
    assert min(once() for _ in range(10)) < 0.15
