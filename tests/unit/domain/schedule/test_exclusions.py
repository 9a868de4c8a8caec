"""Exclusion calendars: what is no slot, in which zone, and at what cost."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import parse_schedule
from everbell.domain.schedule.exclude import ExclusionError

STO = "Europe/Stockholm"
US = 1_000_000
EVE = datetime(2026, 12, 23, tzinfo=ZoneInfo(STO))


def slots(text, exclude, after=EVE, count=4, tz=STO, **options):
    found = parse_schedule(text, tz, exclude=exclude, **options).slots(after, count)
    return [f"{one:%m-%dT%H:%M}" for one in found]


@pytest.mark.parametrize(
    ("text", "exclude", "expected"),
    [
        ("0 9 * * *", ["2026-12-24"], ["12-23T09:00", "12-25T09:00"]),
        ("0 9 * * *", ["--12-24", "--12-25"], ["12-23T09:00", "12-26T09:00"]),
        ("0 9 * * *", ["--12-24..--01-06"], ["12-23T09:00", "01-07T09:00"]),
        ("0 9 * * *", ["2026-12-23..2026-12-26"], ["12-27T09:00", "12-28T09:00"]),
        ("0 9 * * *", ["thu-fri", "SAT, sunday"], ["12-23T09:00", "12-28T09:00"]),
        ("0 */6 * * *", ["18:00-06:00"], ["12-23T06:00", "12-23T12:00", "12-24T06:00"]),
        ("0 */6 * * *", ["wed 06:00-24:00"], ["12-24T00:00"]),
        ("0 */6 * * *", ["wed 18:00-06:00"], ["12-23T06:00", "12-23T12:00", "12-24T06:00"]),
        ("0 */6 * * *", ["sun 18:00-06:01"], ["12-23T06:00"]),
        ("0 0 * * MON", ["sun 18:00-06:00"], []),
        ("0 * * * *", ["2026-12-23T01:30..2026-12-24T05:00"], ["12-23T01:00", "12-24T05:00"]),
        ("0 * * * *", ["2026-12-23T01:00+01:00..2026-12-23T23:00Z"], ["12-24T00:00"]),
        ("@every 1h", ["2026-12-23..2026-12-24"], ["12-25T00:00"]),
        ("times 02:00,14:00", ["12:00-15:00"], ["12-23T02:00", "12-24T02:00"]),
        ("0 0 29 2 *", ["--02-28..--03-01"], []),
        ("0 0 1 3 *", ["--02-29"], ["03-01T00:00"]),
    ],
)
def test_an_excluded_instant_is_no_slot(text, exclude, expected):
    assert slots(text, exclude, count=len(expected) or 1) == expected


def test_a_repeated_hour_is_excluded_in_both_passes():
    night = datetime(2026, 10, 25, 1, tzinfo=ZoneInfo(STO))
    assert slots("*/30 * * * *", ["02:00-02:30"], night) == [
        "10-25T01:30", "10-25T02:30", "10-25T02:30", "10-25T03:00"
    ]  # fmt: skip


def test_a_run_moved_out_of_a_gap_counts_where_it_lands():
    night = datetime(2026, 3, 29, tzinfo=ZoneInfo(STO))
    assert slots("30 2 * * *", ["02:00-03:00"], night, 1) == ["03-29T03:00"]
    assert slots("30 2 * * *", ["03:00-04:00"], night, 1) == ["03-30T02:30"]


def test_the_zone_is_the_schedules_own():
    after = datetime(2026, 12, 24, tzinfo=UTC)
    assert slots("CRON_TZ=Asia/Tokyo 0 9 * * *", ["2026-12-25"], after, 1) == ["12-26T09:00"]


def test_jitter_and_bounds_hold_with_exclusions():
    schedule = parse_schedule(
        "0 0 * * *", exclude=["2026-01-02..2026-01-03"], jitter_s=3600, hash_key="a",
        start_us=1_767_225_600 * US, end_us=(1_767_225_600 + 5 * 86_400) * US,
    )  # fmt: skip
    days = [one.day for one in schedule.slots(datetime(2025, 1, 1, tzinfo=UTC), 9)]
    assert days == [1, 4, 5]
    assert [one.day for one in schedule.previous(datetime(2030, 1, 1, tzinfo=UTC), 9)] == [5, 4, 1]


@pytest.mark.parametrize(
    ("entry", "position", "hint"),
    [
        ("", 0, "--12-25"),
        ("2026-13-01", 0, "a date"),
        ("--02-30", 2, "--MM-DD"),
        ("mun", 0, "sun"),
        ("sat,,sun", 4, "weekdays"),
        ("sun-mon", 0, "sat,sun,mon"),
        ("22:00", 0, "22:00-06:00"),
        ("sat 22:00-22:00", 10, "whole day"),
        ("22:00-25:00", 6, "24:00"),
        ("24:00-06:00", 0, "23:59:59"),
        ("2026-01-02..2026-01-01", 12, "earlier"),
        ("2026-01-02T10:00..2026-01-02T09:00", 18, "earlier"),
        ("2026-01-02..--01-03", 0, "range"),
        ("٣", 0, "--12-25"),
        ("mon-sun", 0, "--12-25"),
        ("--01-01..--12-31", 0, "--12-25"),
        ("0001-01-01", 0, "1901"),
    ],
)
def test_refused_with_position_and_hint(entry, position, hint):
    with pytest.raises(ExclusionError) as caught:
        parse_schedule("0 9 * * *", exclude=["--12-25", entry])
    assert caught.value.position == position
    assert hint in caught.value.hint
    assert caught.value.index == 1
    assert "^" in str(caught.value)


def test_too_many_entries_are_refused():
    with pytest.raises(ExclusionError, match="201 exclusions"):
        parse_schedule("@daily", exclude=["--12-25"] * 201)


EVERY_FIVE = [
    f"{hour:02}:{minute:02}-{hour:02}:{minute + 1:02}"
    for hour in range(12)
    for minute in range(0, 60, 5)
]


@pytest.mark.parametrize(
    ("text", "exclude"),
    [
        ("0 9 * * *", ["08:00-10:00"]),
        ("0 0 29 2 *", ["--02-29"]),
        ("0 0 1 1 *", ["--01-01"]),
        ("*/5 * * * *", [*EVERY_FIVE, "12:00-24:00"]),
        ("* * * * * *", ["mon-fri", "sat-sun 00:00-23:59:59", "23:59:59-24:00"][:2]),
        ("@every 1s", ["00:00-23:59", "--01-01..--12-30"]),
        ("0 0 29 2 1#5", ["--02-29"]),
    ],
)
@pytest.mark.parametrize("tz", [STO, "Pacific/Chatham"])
def test_no_search_costs_more_than_50_ms(text, exclude, tz):
    best = float("inf")
    for attempt in range(3):
        start = time.perf_counter()
        schedule = parse_schedule(text, tz, exclude=exclude, hash_key=str(attempt))
        schedule.next_us(1_790_000_000 * US)
        best = min(best, time.perf_counter() - start)
    assert best < 0.05


def test_nothing_left_is_told():
    schedule = parse_schedule("0 9 * * *", exclude=["08:00-10:00"])
    assert schedule.next_us(0) is None
    assert schedule.previous_us(0) is None
    assert "the exclusions leave no slot: this never runs" in schedule.lint()
    assert parse_schedule("0 9 * * *", exclude=["--12-25"]).lint() == []


def test_words_name_the_exclusions():
    described = parse_schedule("0 9 * * *", exclude=["--12-25", " sat,sun "]).describe()
    assert described == "at 09:00 (UTC), not in --12-25 and sat,sun"
    many = parse_schedule("0 9 * * *", exclude=[f"--12-{day}" for day in range(10, 20)])
    assert many.describe().endswith("--12-14 and 5 more")


def test_equal_exclusions_give_equal_schedules():
    one = parse_schedule("@daily", exclude=["--12-25"])
    assert one == parse_schedule("@daily", exclude=("--12-25",))
    assert one != parse_schedule("@daily")


def _covered(at, entries):
    """The rule read slowly: does the clock show an excluded time?"""
    for kind, value in entries:
        if kind == "date" and at.date() == value:
            return True
        if kind == "yearly" and (at.month, at.day) == (value.month, value.day):
            return True
        if kind == "weekday" and at.weekday() == value:
            return True
        if kind == "window" and value[0] <= at.hour * 60 + at.minute < value[1]:
            return True
    return False


def _text(kind, value):
    if kind == "date":
        return f"{value}"
    if kind == "yearly":
        return f"--{value:%m-%d}"
    if kind == "weekday":
        return ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[value]
    return "-".join(f"{one // 60:02}:{one % 60:02}" for one in value)


dates = st.dates(date(2026, 1, 1), date(2026, 12, 31))
windows = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda two: two[0] < two[1])
entry = st.one_of(
    st.tuples(st.just("date"), dates),
    st.tuples(st.just("yearly"), dates),
    st.tuples(st.just("weekday"), st.integers(0, 6)),
    st.tuples(st.just("window"), windows),
)


@settings(max_examples=150, deadline=None)
@given(
    entries=st.lists(entry, min_size=1, max_size=4),
    text=st.sampled_from(["*/30 * * * *", "15 */5 * * *", "@every 7h", "30 2 * * *"]),
    tz=st.sampled_from(["UTC", STO, "Australia/Lord_Howe", "America/Havana", "Pacific/Chatham"]),
    day=dates,
)
def test_equals_the_rule_read_slowly_forward_and_backward(entries, text, tz, day):
    plain = parse_schedule(text, tz)
    try:
        schedule = parse_schedule(text, tz, exclude=[_text(*one) for one in entries])
    except ScheduleError as error:
        assert "nothing is left" in error.message
        return
    low = datetime(day.year, day.month, day.day, tzinfo=UTC)
    high = low + timedelta(days=5)
    low_us, high_us = (int(one.timestamp()) * US for one in (low, high))
    zone = ZoneInfo(tz)
    expected = [
        at
        for at in plain.slots_us(low_us, 5000, until_us=high_us)
        if not _covered(datetime.fromtimestamp(at // US, UTC).astimezone(zone), entries)
    ]
    assert schedule.slots_us(low_us, 5000, until_us=high_us) == expected
    back = []
    at = schedule.previous_us(high_us + 1)
    while at is not None and at > low_us:
        back.append(at)
        at = schedule.previous_us(at)
    assert back[::-1] == expected
