"""What decides a job's slots, from the options of the command line to the stored job."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def ready(cli):
    assert cli("init") == 0
    return cli


def job(cli, key="a"):
    assert cli("job", "get", key, "--json") == 0
    return json.loads(cli.out)["data"]


def create(cli, *options):
    return cli("job", "create", "a", *options, "--", "true")


def test_every_rule_reaches_the_job(ready):
    options = [
        "--cron", "30 2 * * *", "--tz", "Europe/Stockholm", "--exclude", "--12-25",
        "--exclude", "sat,sun 22:00-06:00", "--dst-gap", "skip", "--dst-overlap", "both",
        "--week-start", "sunday", "--jitter", "5m", "--start-at", "2030-01-01T00:00:00Z",
        "--end-at", "2031-01-01T00:00:00Z", "--anchor-at", "2030-01-01T00:00:00Z", "--once",
        "--override-times", "04:00,05:00",
    ]  # fmt: skip
    assert create(ready, *options) == 0, ready.err
    made = job(ready)
    assert (made["schedule"], made["override"]) == ("30 2 * * *", "times 04:00,05:00")
    assert made["exclude"] == ["--12-25", "sat,sun 22:00-06:00"]
    assert made["dst"] == {"gap": "skip", "overlap": "both"}
    assert (made["week_start"], made["jitter"], made["repeat"]) == ("sunday", 300, False)
    assert made["start_at"] == made["anchor_at"] == "2030-01-01T00:00:00Z"
    assert made["end_at"] == "2031-01-01T00:00:00Z"


def test_an_edit_changes_one_rule_and_clears_others(ready):
    assert create(ready, "--interval", "05:30", "--exclude", "--12-25", "--dst-gap", "skip") == 0
    assert job(ready)["schedule"] == "interval 05:30"
    assert ready("job", "edit", "a", "--override-interval", "10:00", "--dst-overlap", "second") == 0
    changed = job(ready)
    assert changed["override"] == "interval 10:00"
    assert changed["dst"] == {"gap": "skip", "overlap": "second"}
    assert ready("job", "edit", "a", "--no-override", "--no-exclude", "--repeat") == 0
    changed = job(ready)
    assert (changed["override"], changed["exclude"], changed["repeat"]) == (None, [], True)
    assert ready("job", "edit", "a", "--times", "02:00") == 0
    assert job(ready)["schedule"] == "times 02:00"


def test_slots_are_shown_with_what_clock_changes_do(ready):
    at = ("--start-at", "2030-03-30T12:00:00Z")
    assert create(ready, "--cron", "30 2 * * *", "--tz", "Europe/Stockholm", *at) == 0
    assert ready("job", "next", "a", "-n", "1") == 0
    assert "02:30 is left out that day" in ready.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--times", "02:00", "--interval", "05:30"], "--times and --interval both say when"),
        (
            ["--override-times", "02:00", "--override-interval", "05:30"],
            "--override-times and --override-interval both say when",
        ),
        (["--cron", "@daily", "--exclude", "--02-30"], "there is no day 02-30"),
        (["--cron", "0 9 * * *", "--exclude", "08:00-10:00"], "leaves no slot after now"),
        (["--cron", "@daily", "--override", "0 25 * * *"], "the hour field has 25"),
    ],
)
def test_what_can_not_be_is_refused(ready, options, words):
    assert create(ready, *options) == 2
    assert words in ready.err


def test_clearing_and_setting_contradict_each_other(ready):
    assert create(ready, "--cron", "@daily") == 0
    assert ready("job", "edit", "a", "--no-override", "--override", "@hourly") == 2
    assert "--no-override and --override contradict" in ready.err
