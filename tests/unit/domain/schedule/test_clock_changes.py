"""Clock changes: tables by hand, and every night against the minute-by-minute reference."""

from __future__ import annotations

import importlib.util
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import parse_schedule

_spec = importlib.util.spec_from_file_location(
    "schedule_reference", Path(__file__).with_name("reference.py")
)
reference = sys.modules.setdefault("schedule_reference", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(reference)

STO, HOWE = "Europe/Stockholm", "Australia/Lord_Howe"
CHA, APIA = "Pacific/Chatham", "Pacific/Apia"
NY, SAMOA = "America/New_York", "2011-12-29T10:00-10:00"
GAP = "2026-03-29T00:00+01:00"


@pytest.mark.parametrize(
    ("text", "tz", "after", "expected"),
    [
        # A gap: fixed times run once, at its end.
        ("30 2 * * *", STO, GAP, ["29T03:00+02", "30T02:30+02"]),
        ("0,30 2 * * *", STO, GAP, ["29T03:00+02", "30T02:00+02"]),
        ("0 2,3 * * *", STO, GAP, ["29T03:00+02", "30T02:00+02"]),
        ("15 30 2 * * *", STO, GAP, ["29T03:00+02", "30T02:30:15+02"]),
        ("* 30 2 * * *", STO, GAP, ["29T03:00+02", "30T02:30+02"]),
        ("times 02:10,02:50", STO, GAP, ["29T03:00+02", "30T02:10+02"]),
        ("sunday at 2:30AM", STO, GAP, ["29T03:00+02", "05T02:30+02"]),
        ("daily", "America/Sao_Paulo", "2018-11-03T12:00-03:00", ["04T01:00-02", "05T00:00-02"]),
        ("30 0 * * *", "Africa/Cairo", "2025-04-24T12:00+02:00", ["25T01:00+03", "26T00:30+03"]),
        # A gap: elapsed time loses the hour.
        ("*/30 2 * * *", STO, GAP, ["30T02:00+02", "30T02:30+02"]),
        ("0 * * * *", STO, "2026-03-29T01:00+01:00", ["29T03:00+02", "29T04:00+02"]),
        ("*/20 * * * *", STO, "2026-03-29T01:30+01:00", ["29T01:40+01", "29T03:00+02"]),
        ("0 */30 * * * *", STO, "2026-03-29T01:30+01:00", ["29T03:00+02", "29T03:30+02"]),
        # An overlap: fixed times once, elapsed time through both.
        ("30 2 * * *", STO, "2026-10-25T00:00+02:00", ["25T02:30+02", "26T02:30+01"]),
        ("0 0-23 * * *", STO, "2026-10-25T01:00+02:00", ["25T02:00+02", "25T03:00+01"]),
        ("30 * * * *", STO, "2026-10-25T02:00+02:00", ["25T02:30+02", "25T02:30+01"]),
        ("@hourly", STO, "2026-10-25T01:30+02:00", ["25T02:00+02", "25T02:00+01"]),
        # Started inside the repeated hour, in the second pass.
        ("30 1 * * *", NY, "2025-11-02T01:15-05:00", ["03T01:30-05", "04T01:30-05"]),
        ("30 1 * * *", NY, "2025-11-02T01:15-04:00", ["02T01:30-04", "03T01:30-05"]),
        # 30 and 45 minutes.
        ("0 */2 * * *", HOWE, "2024-04-07T00:30+11:00", ["07T02:00+1030", "07T04:00+1030"]),
        ("45 1 * * *", HOWE, "2024-04-07T00:30+11:00", ["07T01:45+11", "08T01:45+1030"]),
        ("15 2 * * *", HOWE, "2024-10-06T00:00+10:30", ["06T02:30+11", "07T02:15+11"]),
        ("* 3 * * *", CHA, "2024-09-29T00:00+12:45", ["29T03:45+1345", "29T03:46+1345"]),
        ("0 3 * * *", CHA, "2024-09-29T00:00+12:45", ["29T03:45+1345", "30T03:00+1345"]),
        ("0 3 * * *", CHA, "2025-04-06T00:00+13:45", ["06T03:00+1345", "07T03:00+1245"]),
        # A whole day left out.
        ("0 12 * * *", APIA, SAMOA, ["29T12:00-10", "31T00:00+14", "31T12:00+14"]),
        ("0 12 30 12 *", APIA, "2011-12-01T00:00-10:00", ["31T00:00+14", "30T12:00+14"]),
        ("0 */12 * * *", APIA, SAMOA, ["29T12:00-10", "31T00:00+14"]),
    ],
)  # fmt: skip
def test_nights(text, tz, after, expected):
    found = parse_schedule(text, tz).slots(datetime.fromisoformat(after), len(expected))
    shown = []
    for one in found:
        time = f"{one:%dT%H:%M:%S}".removesuffix(":00")
        shown.append(time + f"{one:%z}"[:3] + f"{one:%z}"[3:].replace("00", ""))
    assert shown == expected


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [("first", ["+0200"]), ("second", ["+0100"]), ("both", ["+0200", "+0100"])],
)
@pytest.mark.parametrize("text", ["30 2 * * *", "times 02:30", "sunday at 02:30"])
def test_overlap_option(overlap, expected, text):
    schedule = parse_schedule(text, "Europe/Stockholm", dst_overlap=overlap)
    first = datetime(2026, 10, 25, tzinfo=UTC) - timedelta(hours=2)
    found = [one for one in schedule.slots(first, 4) if f"{one:%d}" == "25"]
    assert [f"{one:%z}" for one in found] == expected


def test_gap_skip_option():
    schedule = parse_schedule("30 2 * * *", "Europe/Stockholm", dst_gap="skip")
    after = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert f"{schedule.slots(after, 1)[0]:%d %H:%M}" == "30 02:30"


def test_one_shot_in_a_gap_and_in_an_overlap():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    zone = "Europe/Stockholm"

    def at(text, **options):
        found = parse_schedule(text, zone, **options).slots(start, 3)
        return [one.isoformat() for one in found]

    assert at("@at 2026-03-29T02:30") == ["2026-03-29T03:00:00+02:00"]
    assert at("@at 2026-10-25T02:30") == ["2026-10-25T02:30:00+02:00"]
    assert at("@at 2026-10-25T02:30", dst_overlap="second") == ["2026-10-25T02:30:00+01:00"]
    assert len(at("@at 2026-10-25T02:30", dst_overlap="both")) == 2
    with pytest.raises(ScheduleError, match="does not exist"):
        at("@at 2026-03-29T02:30", dst_gap="skip")


@pytest.mark.parametrize(("tz", "day"), reference.NIGHTS)
def test_every_night_equals_the_minute_by_minute_reference(tz, day):
    rng = random.Random(f"{tz} {day}")
    for _ in range(60):
        expression = reference.random_expression(rng, days=0.2)
        gap = rng.choice(["run_after", "run_after", "skip"])
        overlap = rng.choice(["first", "first", "second", "both"])
        try:
            schedule = parse_schedule(expression.text, tz, dst_gap=gap, dst_overlap=overlap)
        except ScheduleError:
            continue
        expected = reference.brute_force(expression, tz, day, gap=gap, overlap=overlap)
        first = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)
        last = first + timedelta(days=3)
        low, high = (int(one.timestamp()) * 1_000_000 for one in (first, last))
        found = schedule.slots_us(low, 5000, until_us=high)
        shown = [one.astimezone(UTC).timestamp() * 1e6 for one in expected]
        assert found == shown, (expression.text, tz, day, gap, overlap)
        # Backwards the same, and from any instant in between.
        back = []
        at = schedule.previous_us(high + 1)
        while at is not None and at > low:
            back.append(at)
            at = schedule.previous_us(at)
        assert back[::-1] == found, (expression.text, tz, day, gap, overlap)
        for _ in range(20):
            point = rng.randrange(low, high)
            after = [one for one in found if one > point]
            if after:
                assert schedule.next_us(point) == after[0]
