"""No text is expensive; and what schedules say about themselves."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import parse_schedule

BUDGET_S = 0.05
NOW_US = int(datetime(2026, 8, 1, tzinfo=UTC).timestamp()) * 1_000_000
HOSTILE = [
    ("0 0 29 2 *", "Europe/Stockholm"),
    ("0 0 0 29 2 */7", "America/New_York"),
    ("0 0 29 2 1#5", "Europe/Stockholm"),
    ("59 59 23 31 12 ? 2199", "Europe/Stockholm"),
    ("59 59 23 29 2 * 2196", "Pacific/Chatham"),
    # Always inside a gap, and following elapsed time: can never fire again.
    ("*/30 2 * 3 0L", "Europe/Stockholm"),
    ("*/30 2 * 3 0#2", "America/New_York"),
    ("0 0 30 2 *", "UTC"),
    ("0 0 31 2,4,6,9,11 *", "UTC"),
    ("0 0 0 29 2 * 2101-2103", "UTC"),
    (",".join(["0-59/7"] * 130) + " * * * *", "UTC"),
    ("0 0 " + ",".join(["*"] * 490) + " * *", "UTC"),
    ("@every " + "1h" * 490, "UTC"),
    ("@every " + "1" * 900 + "h", "UTC"),
    ("times " + ",".join(["02:00"] * 160), "Africa/Casablanca"),
    ("9" * 990, "UTC"),
    ("(" * 990, "UTC"),
    (" " * 990, "UTC"),
    ("a," * 490 + "at at at", "UTC"),
    ("on " + "a ," * 300 + " at 1", "UTC"),
    ("on " + "mon , " * 160, "UTC"),
    ("* " * 490, "UTC"),
    ("TZ=" + "A" * 900 + " * * * * *", "UTC"),
    ("* * * * *", "Europe/Stokholm"),
    ("@" + "e" * 900, "UTC"),
    ("every 1 " + "s" * 900, "UTC"),
]


@pytest.mark.parametrize(("text", "tz"), HOSTILE)
def test_no_text_costs_more_than_50_ms(text, tz):
    best = float("inf")
    for attempt in range(3):
        start = time.perf_counter()
        try:
            # Another key each time, so that the cache of schedules does not help.
            schedule = parse_schedule(text, tz, hash_key=f"{attempt}", jitter_s=1e-6 * attempt)
            schedule.next_us(NOW_US)
            schedule.previous_us(NOW_US)
            schedule.describe()
        except ScheduleError as error:
            str(error)
        best = min(best, time.perf_counter() - start)
    assert best < BUDGET_S, text[:60]


def test_rare_dates_are_found_at_least_40_years_ahead():
    after = datetime(2080, 3, 1, tzinfo=UTC)
    # 29 February on a Monday, across 2100, which is no leap year.
    found = parse_schedule("0 0 29 2 1#5").slots(datetime(2088, 3, 1, tzinfo=UTC), 1)
    assert found
    rare = parse_schedule("0 0 */29 2 MON", "Europe/Stockholm")
    assert rare.slots(after, 1)
    only = parse_schedule("0 0 0 1 1 * 2199", "Europe/Stockholm").slots(after, 2)
    assert [one.isoformat() for one in only] == ["2199-01-01T00:00:00+01:00"]


def test_never_again_is_none():
    schedule = parse_schedule("0 0 0 1 1 * 2020")
    assert schedule.next_us(NOW_US) is None
    assert schedule.slots_us(NOW_US, 5) == []
    assert parse_schedule("*/30 2 * 3 0L", "Europe/Stockholm").next_us(NOW_US) is None
    assert parse_schedule("@at 2020-01-01T00:00Z").next_us(NOW_US) is None
    assert parse_schedule("@daily").next_us(10**18) is None
    assert parse_schedule("@daily").previous_us(-(10**18)) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*/5 * * * *", "every 5 minutes (UTC)"),
        ("* * * * *", "every minute (UTC)"),
        ("* * * * * *", "every second (UTC)"),
        ("*/10 * * * * *", "every 10 seconds (UTC)"),
        ("0 9 * * 1-5", "at 09:00 on Monday to Friday (UTC)"),
        ("30 8,17 * * *", "at 08:30 and 17:30 (UTC)"),
        ("0 0 1 1 *", "at 00:00 on the 1st in January (UTC)"),
        ("0 0 L * *", "at 00:00 on the last day of the month (UTC)"),
        ("0 0 * * MON#2", "at 00:00 on the 2nd Monday of the month (UTC)"),
        ("0 * * * *", "at minute 0 of every hour (UTC)"),
        ("@every 1h30m", "every 1 hour 30 minutes"),
        ("every minute", "every minute"),
        ("times 02:00,14:30:15", "every day at 02:00 and 14:30:15 (UTC)"),
        ("weekly", "every Monday at 00:00 (UTC)"),
        ("monday at 10:00PM", "every Monday at 22:00 (UTC)"),
        ("@at 2026-02-03T04:05Z", "once, at 2026-02-03 04:05:00+0000 (UTC)"),
    ],
)
def test_describe(text, words):
    assert parse_schedule(text).describe() == words


@pytest.mark.parametrize(
    ("text", "tz", "warning"),
    [
        ("0 0 13 * FRI", "UTC", "OR day of week FRI is enough"),
        ("0 0 */2 * MON", "UTC", "AND day of week MON must match"),
        ("*/7 * * * *", "UTC", "uneven"),
        ("* * * * * *", "UTC", "every second"),
        ("30 2 * * *", "Europe/Stockholm", "does not exist on 2025-03-30"),
        ("*/30 2 * * *", "Europe/Stockholm", "does not run that day"),
        ("*/90 * * * *", "UTC", "larger than its range"),
        ("0 0 31 * *", "UTC", "L is the last day"),
        ("0 0 */2 * *", "UTC", "starts again on the 1st"),
        ("0 0 * * 2/5", "UTC", "includes Sunday"),
        ("* 3 * * *", "UTC", "write 0 as minute"),
        ("every second", "UTC", "is this meant"),
        ("30 2 * * *", "Europe/Stockholm", "occurs twice on 2025-10-26"),
        ("*/30 2 * * *", "Europe/Stockholm", "it runs twice"),
        ("@daily", "America/Havana", "00:00 occurs twice"),
        ("0 0 1,31 * *", "UTC", "day of month 31 does not exist in every month"),
        ("0 0 30 2,3 *", "UTC", "day of month 30 does not exist in all of month 2,3"),
        ("0 0 29 2 *", "UTC", "leap years only"),
        ("*/5 * * * * *", "UTC", "six fields begin with seconds"),
        ("0 0 * * 7", "UTC", "7 is Sunday here"),
    ],
)
def test_lint(text, tz, warning):
    assert any(warning in one for one in parse_schedule(text, tz).lint())


@pytest.mark.parametrize(
    "text",
    [
        "*/5 * * * *", "0 9 * * 1-5", "@daily", "0 0 L * *", "@every 5m", "0 0 31 1,12 *",
        "0 0 28-31 * *", "0 */5 * * * *", "0 0 12 1 1 ? 2028", "0 0 * * 1#2", "* * * * *",
    ],
)  # fmt: skip
def test_ordinary_texts_give_no_warning(text):
    assert parse_schedule(text, "Europe/Stockholm").lint() == []
