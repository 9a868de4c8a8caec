"""The default schedule (from code) and the override (from people)."""

from __future__ import annotations

import msgspec
import pytest

from everbell.domain.job import CommandAction, Definition, compile_schedule, settle_override

US = 1_000_000


def definition(**fields):
    return Definition(name="a", action=CommandAction(argv=("true",)), **fields)


def first(made):
    schedule = compile_schedule(made, "uuid", 0)
    return None if schedule is None else schedule.next_us(0)


def test_an_override_replaces_and_clearing_restores():
    made = definition(schedule="0 9 * * *", override="times 02:00")
    assert made.active_schedule == "times 02:00"
    assert first(made) == 2 * 3600 * US
    cleared = msgspec.structs.replace(made, override=None)
    assert first(cleared) == 9 * 3600 * US


def test_an_override_alone_plans_a_job_that_was_only_triggered():
    assert first(definition()) is None
    assert first(definition(override="interval 05:30")) == 330 * US


@pytest.mark.parametrize(
    ("default", "override"),
    [
        ("0 2 * * *", "0 2 * * *"),
        ("0 2 * * *", "times 02:00"),
        ("@every 5m30s", "interval 05:30"),
        ("every 5 minutes", "@every 300s"),
        ("daily at 02:00", "0 2 * * *"),
        ("0 2 * * 0", "sunday at 02:00"),
        ("times 02:00,02:30,14:00,14:30", "0,30 2,14 * * *"),
        ("@hourly", "0 * * * *"),
        ("@at 2030-01-01T00:00Z", "@at 2030-01-01T01:00+01:00"),
    ],
)
def test_an_override_equal_to_the_default_is_stored_as_none(default, override):
    assert settle_override(definition(schedule=default, override=override)).override is None


@pytest.mark.parametrize(
    ("default", "override"),
    [
        ("0 2 * * *", "0 3 * * *"),
        # The same times, but other rules when clocks change.
        ("*/60 * * * *", "0 0-23 * * *"),
        ("0 2 * * *", "CRON_TZ=Asia/Tokyo 0 2 * * *"),
        ("times 02:00,14:30", "0,30 2,14 * * *"),
        ("@every 5m", "@every 6m"),
        ("0 2 * * *", "nonsense"),
        (None, "0 2 * * *"),
    ],
)
def test_another_override_stays(default, override):
    made = definition(schedule=default, override=override)
    assert settle_override(made) is made
