"""The ledger's tools on the command line, over a real store."""

import json

import pytest


@pytest.fixture
def cli_with_job(cli):
    assert cli("init") == 0
    assert cli("job", "create", "nightly", "--cron", "0 2 * * *", "--", "true") == 0
    return cli


def data(cli):
    return json.loads(cli.out)["data"]


def test_skip_next_and_run_instead(cli_with_job):
    cli = cli_with_job
    assert cli("job", "next", "nightly", "-n", "3", "--json") == 0
    slots = [one["at"] for one in data(cli)]
    assert cli("job", "skip-next", "nightly", "--reason", "move") == 0
    assert cli.out == f"slot {slots[0]} is skipped\n"
    assert cli("job", "run-instead", "nightly", "--at", "2h", "--json") == 0
    made = data(cli)
    assert made["skipped"]["slot"] == slots[1]
    assert made["instead"]["trigger"] == "manual"
    assert cli("job", "run-instead", "nightly") == 0
    assert "queued, due" in cli.out
    assert "no node is up" in cli.err
    assert cli("job", "skip-next", "nightly", "--slot", "2026-01-01T00:00:00Z") == 2
    assert "is no coming slot" in cli.err


def test_hold_until(cli_with_job):
    cli = cli_with_job
    assert cli("hold", "job", "nightly", "--until", "2h", "--then", "once", "--json") == 0
    held = data(cli)
    assert held["then"] == "once"
    assert held["until"].endswith("Z")
    assert cli("hold", "all", "--until", "2020-01-01T00:00:00Z") == 2
    assert "/until" in cli.err
    assert cli("hold", "all", "--until", "2030-01-01T00:00:00") == 2
    assert "has no zone" in cli.err
    assert cli("hold", "all", "--until", "1d", "--reason", "x") == 0
    assert "it ends at" in cli.err


def test_why(cli_with_job):
    cli = cli_with_job
    assert cli("job", "skip-next", "nightly", "--reason", "move") == 0
    assert cli("job", "next", "nightly", "--json") == 0
    slot = data(cli)[0]["at"]
    assert cli("why", "nightly", "--at", slot) == 0
    assert "skipped: a person skipped it (move)" in cli.out
    assert "schedule `0 2 * * *` in UTC" in cli.out
    assert cli("why", "nightly", "--at", slot.replace("02:00", "03:30").rstrip("Z")) == 0
    assert "no slot at that time" in cli.out
    assert f"did you mean `--at {slot[:10]}T02:00:00+00:00`" in cli.err
    assert cli("why", "nightly", "--at", "02:00", "--json") == 0
    assert data(cli)["verdict"] == "the job did not exist yet"
    assert cli("why", "nightly", "--at", "sometime") == 2
    assert cli("why", "nightly") == 0
    assert cli("why", "nigtly") == 5
    assert "did you mean" in cli.err


def test_verify(cli_with_job):
    cli = cli_with_job
    assert cli("verify") == 0
    assert cli.out == "every slot is accounted for\n"
    assert cli("verify", "--job", "nightly", "--from", "2d ago", "--json") == 0
    assert data(cli)["jobs"] == 1
    assert cli("verify", "--database", "everbell.db") == 0
    assert cli("verify", "--database", ".everbell") == 1
    assert "no SQLite database" in cli.err
    assert cli("verify", "--database", "nowhere") == 2
