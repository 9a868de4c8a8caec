"""Commands against the real application, in this process, over a database in a directory."""

import base64
import json
from pathlib import Path

import pytest


@pytest.fixture
def ready(cli):
    assert cli("init") == 0
    return cli


def data(cli):
    return json.loads(cli.out)["data"]


def test_init_makes_all_and_keeps_all(cli):
    assert cli("init") == 0
    assert "api_secret" in cli.out
    names = {item.name for item in Path().iterdir()}
    assert {"everbell.toml", ".everbell", "everbell.db"} <= names
    secrets = Path(".everbell").read_text()
    assert cli("init") == 0
    assert cli.out == ""
    assert Path(".everbell").read_text() == secrets
    assert cli("init", "other") == 0
    assert Path("other/everbell.db").exists()
    assert cli("project", "list", "-config", "other/everbell.toml") == 0


def test_init_keeps_to_the_file_that_is_named(cli):
    Path("djinn").mkdir()
    Path("djinn/own.conf").write_text('database { url "sqlite:///own.db" }\n')
    assert cli("init", "-config", "djinn/own.conf") == 0
    assert {item.name for item in Path("djinn").iterdir()} == {"own.conf", ".everbell", "own.db"}


def test_create_credential_as_on_the_scheduler0_page(cli):
    assert cli("config", "init") == 0
    assert cli("credential", "init", "--generate") == 0
    assert cli("create", "credential", "--json") == 0
    made = data(cli)
    assert made["api_key"] and made["api_secret"]
    assert cli("list", "credentials", "--json") == 0
    listed = data(cli)
    assert [one["api_key"] for one in listed] == [made["api_key"]]
    assert "api_secret" not in listed[0]
    assert cli("credential", "rotate", str(made["id"]), "--json") == 0
    assert data(cli)["api_secret"] != made["api_secret"]
    assert cli("credential", "revoke", made["api_key"]) == 2
    assert "add --yes" in cli.err
    assert cli("credential", "revoke", made["api_key"], "--yes") == 0


def test_the_default_project_is_there_from_the_start(ready):
    assert ready("project", "get", "default", "--json") == 0
    assert data(ready)["id"] == 1
    assert ready("project", "secret", "default") == 0
    assert ready.out.startswith("whsec_")


def test_a_job_from_birth_to_death(ready):
    cli = ready
    assert cli("project", "create", "ops") == 0
    body = ["--every", "10s", "-p", "ops", "--timeout", "1.5m", "--retries", "2", "--tag", "t"]
    assert (
        cli(
            "create",
            "job",
            "nightly",
            *body,
            "--data",
            '{"a": 1}',
            "--json",
            "--",
            "echo",
            "-c",
            "hi",
        )
        == 0
    )
    job = data(cli)
    assert job["action"]["argv"] == ["echo", "-c", "hi"]
    assert (job["schedule"], job["timeout"], job["retry"]["max"]) == ("@every 10s", 90, 2)
    assert (job["data"], job["tags"], job["project"]) == ({"a": 1}, ["t"], "ops")
    assert cli("job", "create", "nightly", *body, "--", "true") == 6
    assert cli("job", "edit", "nightly", "--cron", "0 2 * * *", "--tz", "Asia/Tokyo", "--json") == 0
    assert cli("job", "get", "nightly", "--json") == 0
    job = data(cli)
    assert (job["schedule"], job["timezone"], job["data"]) == ("0 2 * * *", "Asia/Tokyo", {"a": 1})
    assert cli("job", "next", "nightly", "-n", "3", "--json") == 0
    assert len(data(cli)) == 3
    assert cli("job", "disable", "nightly") == 0
    assert cli("jobs", "list", "--disabled", "-o", "name") == 0
    assert cli.out == "nightly\n"
    assert cli("job", "enable", "nightly") == 0
    assert cli("job", "run", "nightly", "--json") == 0
    run = data(cli)
    assert run["state"] == "queued"
    assert cli("run", "list", "--job", "nightly", "--state", "queued", "-o", "name") == 0
    assert cli.out == f"{run['id']}\n"
    assert cli("run", "show", run["id"]) == 0
    assert "queued" in cli.out
    assert cli("run", "logs", run["id"]) == 0
    assert cli("run", "watch", run["id"], "--timeout", "100ms") == 8
    assert "still at work" in cli.err
    assert cli("run", "cancel", run["id"]) == 0
    assert cli("run", "watch", run["id"]) == 3
    assert "cancelled" in cli.err
    assert cli("job", "delete", "nightly", "--yes") == 0
    assert cli("project", "delete", "ops", "--yes") == 0


def test_names_near_and_ambiguous(ready):
    cli = ready
    for project in ("a", "b"):
        cli("project", "create", project)
        assert cli("job", "create", "nightly-report", "-p", project, "--", "true") == 0
    assert cli("job", "get", "nightly-reprot") == 5
    assert cli.err.startswith(
        "error: no job `nightly-reprot`\nhint: did you mean `nightly-report`?"
    )
    assert cli("job", "get", "nightly-report") == 2
    assert "--project a or --project b" in cli.err
    assert cli("job", "get", "nightly-report", "--project", "b") == 0
    assert cli("run", "logs", "--job", "nightly-report", "-p", "a") == 5
    assert "has no run yet" in cli.err


def test_holds(ready):
    cli = ready
    cli("job", "create", "x", "--every", "1h", "--", "true")
    assert cli("hold", "job", "x", "--reason", "maintenance", "--json") == 0
    hold = data(cli)
    assert (hold["scope"], hold["reason"]) == ("job", "maintenance")
    assert cli("hold", "job", "x") == 6
    assert cli("hold", "all") == 0
    assert cli("hold", "list", "--json") == 0
    assert len(data(cli)) == 2
    assert cli("hold", "release", str(hold["id"]), "--missed", "skip") == 0
    assert cli("hold", "release", str(hold["id"]), "--missed", "skip") == 5
    assert cli("status") == 0
    assert "holds    1" in cli.out


def test_scripts_and_imports(ready):
    cli = ready
    Path("s.sh").write_text("echo from script\n")
    assert cli("job", "create", "s", "--script", "s.sh", "--interpreter", "sh", "--json") == 0
    assert data(cli)["action"]["text"] == "echo from script\n"
    jobs = [
        {"name": "one", "spec": "@every 1m", "callback_url": "http://127.0.0.1:9/x"},
        {"name": "two", "frequency": 30, "script": "echo"},
    ]
    Path("jobs.json").write_text(json.dumps(jobs))
    assert cli("job", "import", "jobs.json", "--json") == 0
    assert [one["schedule"] for one in data(cli)] == ["@every 1m", "@every 30s"]
    Path("jobs.json").write_text("[1]")
    assert cli("job", "import", "jobs.json") == 2


def test_bad_input_is_told_with_field_and_hint(ready):
    cli = ready
    assert cli("job", "create", "x", "--cron", "61 * * * *", "--", "true") == 2
    assert cli.err.splitlines()[1:3] == ["  61 * * * *", "  ^"]
    assert cli("job", "create", "x", "--tz", "Mars", "--every", "1m", "--", "true") == 2
    assert "/timezone" in cli.err or "time zone" in cli.err
    assert cli("job", "create", "x", "--script", __file__, "--interpreter", "perl") == 2
    assert "perl" in cli.err
    assert cli("run", "show", "1-2") == 5
    assert cli("run", "list", "--state", "faild") == 2
    assert "failed" in cli.err


def test_a_foreign_secret_key_does_not_open_the_database(ready):
    cli = ready
    assert cli("credential", "init", "--generate", "--force") == 0
    assert cli("job", "list") == 2
    assert "secret key" in cli.err


def test_a_broken_database_is_told(ready):
    cli = ready
    Path("everbell.db").write_bytes(b"this is no database at all" * 1000)
    assert cli("job", "list") in {1, 2}
    assert cli.err.startswith("error: ")


def test_the_webhook_secret_of_a_project(ready):
    cli = ready
    for name in ("shop", "ops"):
        assert cli("project", "create", name) == 0
    assert cli("project", "secret", "shop") == 0
    secret = cli.out.strip()
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert cli("project", "secret", "shop", "--json") == 0
    assert json.loads(cli.out)["data"]["webhook_secret"] == secret
    assert cli("project", "secret", "ops") == 0
    assert cli.out.strip() != secret
    assert cli("project", "secret", "shop", "--server", "http://127.0.0.1:9") == 2
    assert "without --server" in cli.err
    assert cli("project", "secret", "opps") == 5


def test_ids_only_and_what_is_held(ready):
    cli = ready
    cli("job", "create", "x", "--every", "1h", "--", "true")
    assert cli("job", "list", "-q") == 0
    assert cli.out == "1\n"
    assert cli("job", "list", "-o", "wide") == 0
    assert cli.out.splitlines()[0].startswith("id\tname\t")
    assert cli("hold", "all") == 0
    assert "TARGET  every job" in cli.out
    assert cli("hold", "list") == 0
    assert "\tevery job\t" in cli.out
    assert cli("hold", "list", "--json") == 0
    assert "target" not in data(cli)[0]


def test_no_color(ready, monkeypatch):
    import sys

    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr("everbell.cli.output._terminal_width", lambda: 100)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True, raising=False)
    ready("job", "create", "x", "--every", "1h", "--", "true")
    assert ready("job", "list", "--no-color") == 0
    assert "\x1b" not in ready.out
    assert ready.out.splitlines()[0].startswith("ID  NAME")
