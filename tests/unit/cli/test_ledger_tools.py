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


def test_simulate(cli_with_job):
    cli = cli_with_job
    night = ["--down", "01:00-05:00", "--date", "2027-03-28", "--zone", "Europe/Stockholm"]
    edit = ["job", "edit", "nightly", "--cron", "30 2 * * *", "--tz", "Europe/Stockholm"]
    assert cli(*edit) == 0
    assert cli("simulate", *night, "--json") == 0
    told = data(cli)
    assert told["outages"][0]["from"] == "2027-03-28T00:00:00Z"
    assert told["outages"][0]["to"] == "2027-03-28T03:00:00Z"
    fates = {one["slot"]: one for one in told["jobs"][0]["fates"]}
    missed = fates["2027-03-28T01:00:00Z"]
    assert (missed["what"], missed["local"]) == ("missed", "2027-03-28T03:00:00+02:00")
    assert "is left out that day" in missed["note"]
    assert fates["2027-03-29T00:30:00Z"]["what"] == "runs"
    assert cli("simulate", *night) == 0
    assert "(3:00:00)" in cli.err
    assert "missed (misfire)" in cli.out
    assert "nightly: 1 missed, 2 runs; misfire latest, overlap skip" in cli.err
    assert cli("simulate", "--down", "1-5", "--date", "2027-03-28") == 2
    assert cli("simulate", "--down", "01:00-05:00", "--date", "yesterday") == 2
    assert cli("simulate", *night[:4], "--zone", "Moon") == 2
    # The hour that is left out can't be one of an outage.
    assert cli("simulate", *night[2:], "--down", "02:00-03:00") == 2


def test_backfill(cli):
    assert cli("init") == 0
    assert cli("job", "create", "m", "--cron", "0 * * * *", "--", "true") == 0
    assert cli("backfill", "m", "--from", "5h ago", "--dry-run", "--json") == 0
    told = data(cli)
    assert len(told["slots"]) == 5
    assert not told["started"]
    assert cli("backfill", "m", "--from", "5h ago") == 2
    assert "add --yes" in cli.err
    assert "5 to run, 0 had run" in cli.err
    assert cli("backfill", "m", "--from", "5h ago", "--yes", "--max", "3") == 0
    assert "3 queued" in cli.err
    assert "2 more are left out" in cli.err
    assert cli("backfill", "m", "--from", "5h ago", "--yes") == 0
    assert "2 queued, 0 had run, 3 are under way" in cli.err
    assert cli("backfill", "m", "--from", "5h ago", "--yes") == 0
    assert cli.out == ""
    assert cli("run", "list", "--job", "m", "--json") == 0
    runs = data(cli)
    assert {one["trigger"] for one in runs} == {"backfill"}
    assert len(runs) == 5
