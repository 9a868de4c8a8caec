"""Properties that hold for every text, zone and instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import parse_schedule

US = 1_000_000
LOW = -2 * 10**9 * US // 2
HIGH = 7 * 10**9 * US

number = st.integers(0, 59).map(str)
item = st.one_of(
    st.just("*"),
    number,
    st.builds("*/{}".format, st.integers(1, 70)),
    st.builds("{}/{}".format, st.integers(0, 23), st.integers(1, 30)),
    st.builds("{}-{}".format, st.integers(0, 12), st.integers(12, 23)),
    st.sampled_from(["H", "H/7", "H(2-9)", "~", "3~9"]),
)
day = st.sampled_from(["*", "?", "1", "L", "LW", "15W", "L-3", "31", "*/2", "1-7", "29,30"])
weekday = st.sampled_from(["*", "?", "MON", "1-5", "7", "5L", "2#3", "*/2", "SAT,SUN", "fri#5"])
month = st.sampled_from(["*", "2", "JAN-MAR", "*/3", "11,12"])
year = st.sampled_from(["", "", "", " *", " 2028/4", " 2020-2040"])
cron = st.builds(
    lambda s, mi, h, d, mo, w, y: f"{s} {mi} {h} {d} {mo} {w}{y}",
    item, item, item, day, month, weekday, year,
)  # fmt: skip
other = st.sampled_from(
    [
        "@every 1h30m", "@every 9600h", "every 7 seconds", "daily", "weekly", "monthly",
        "times 00:00,02:30,23:59:59", "sunday at 2:30AM", "interval 05:30", "@hourly", "@yearly",
    ]
)  # fmt: skip
zones = st.sampled_from(
    [
        "UTC", "Europe/Stockholm", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham",
        "Pacific/Apia", "America/Havana", "Africa/Casablanca", "Asia/Kathmandu", "Africa/Monrovia",
    ]
)  # fmt: skip
instants = st.integers(LOW, HIGH)


def read(text, tz, **options):
    try:
        return parse_schedule(text, tz, **options)
    except ScheduleError:
        assume(False)


@settings(max_examples=600, deadline=None)
@given(
    text=st.one_of(cron, cron, other),
    tz=zones,
    at=instants,
    gap=st.sampled_from(["run_after", "skip"]),
    overlap=st.sampled_from(["first", "second", "both"]),
    jitter=st.sampled_from([0.0, 0.0, 90.0]),
)
def test_strictly_after_rising_and_inverse(text, tz, at, gap, overlap, jitter):
    schedule = read(
        text, tz, dst_gap=gap, dst_overlap=overlap, jitter_s=jitter, hash_key="j", anchor_us=LOW
    )
    found = schedule.slots_us(at, 8)
    assert found == sorted(set(found))
    assert all(one > at for one in found)
    for one, following in pairwise(found):
        assert schedule.previous_us(following) == one
        assert schedule.next_us(following - 1) == following
        assert schedule.previous_us(one + 1) == one
    if found:
        before = schedule.previous_us(found[0])
        assert before is None or before <= at
        assert schedule.next_us(found[0] - 1) == found[0]
    before = schedule.previous_us(at)
    if before is not None:
        assert before < at
        assert schedule.next_us(before - 1) == before
        following = schedule.next_us(before)
        assert following is None or following >= at


@settings(max_examples=150, deadline=None)
@given(text=st.one_of(cron, other), tz=zones, at=instants, width=st.integers(0, 10**14))
def test_bounds_are_inclusive_and_cut_nothing_else(text, tz, at, width):
    plain = read(text, tz)
    inside = plain.slots_us(at - 1, 6)
    assume(inside)
    bounded = parse_schedule(text, tz, start_us=inside[0], end_us=inside[-1])
    assert bounded.slots_us(LOW, 100)[: len(inside)] == inside
    assert bounded.next_us(inside[-1]) is None
    assert bounded.previous_us(inside[0]) is None
    assert bounded.previous_us(HIGH * 2) == inside[-1]


@settings(max_examples=400, deadline=None)
@given(text=st.text(max_size=40), tz=st.one_of(zones, st.text(max_size=10)))
def test_any_text_is_read_or_refused_with_a_position(text, tz):
    try:
        parse_schedule(text, tz).slots(datetime(2026, 1, 1, tzinfo=UTC), 2)
    except ScheduleError as error:
        assert error.hint
        assert 0 <= error.position <= len(error.text) + 1
        assert "^" in str(error)


pieces = st.sampled_from(
    ["*", "/", "-", ",", "5", "0", "L", "W", "#", "H", "(", ")", "~", "?", " ", "@every ", "1h",
     "MON", "TZ=", "CRON_TZ=UTC", "times ", "at ", "12:00", "PM", "every ", "@at ", "99999", "\t"]
)  # fmt: skip


@settings(max_examples=800, deadline=None)
@given(text=st.lists(pieces, max_size=14).map("".join))
def test_texts_made_of_the_dialects_own_pieces_never_crash(text):
    try:
        schedule = parse_schedule(text)
    except ScheduleError as error:
        assert error.hint
        return
    schedule.slots_us(0, 2)
    assert schedule.describe()
    schedule.lint()


def test_every_counts_from_its_anchor_without_drift():
    anchor = 1_767_225_600_123_456
    schedule = parse_schedule("@every 1.5s", anchor_us=anchor)
    assert schedule.slots_us(anchor - 10**12, 2) == [anchor + 1_500_000, anchor + 3_000_000]
    assert schedule.next_us(anchor + 10**9 * 1_500_000) == anchor + (10**9 + 1) * 1_500_000
    assert schedule.previous_us(anchor + 1_500_000) is None
    assert parse_schedule("@every 9600h").slots_us(0, 1) == [400 * 86_400 * US]


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1h", 3600 * US), ("1h30m", 5400 * US), ("1m1m", 120 * US), ("1.5h", 5400 * US),
        (".5h", 1800 * US), ("1.h", 3600 * US), ("+90s", 90 * US), ("1500ms", 1_500_000),
        ("1s500us", 1_000_500), ("1s500µs", 1_000_500), ("1s500μs", 1_000_500),
        ("2000000000ns", 2 * US), ("1h0m0s", 3600 * US),
    ],
)  # fmt: skip
def test_go_durations(text, us):
    assert parse_schedule(f"@every {text}").slots_us(0, 1) == [us]


def test_sub_second_is_an_option():
    assert parse_schedule("@every 250ms", sub_second=True).slots_us(0, 2) == [250_000, 500_000]
    with pytest.raises(ScheduleError, match="not positive"):
        parse_schedule("@every 1ns", sub_second=True)


def test_hash_is_stable_spread_and_in_range():
    values = set()
    for index in range(200):
        schedule = parse_schedule("H(10-19) H * * *", hash_key=f"job-{index}")
        at = schedule.slots(datetime(2026, 1, 1, tzinfo=UTC), 1)[0]
        assert 10 <= at.minute <= 19
        values.add((at.hour, at.minute))
    assert len(values) > 100
    again = parse_schedule("H(10-19) H * * *", hash_key="job-199")
    assert again.slots(datetime(2026, 1, 1, tzinfo=UTC), 1)[0] == at


def test_hash_with_step_keeps_the_rhythm():
    schedule = parse_schedule("H(0-29)/10 * * * *", hash_key="x")
    found = [one.minute for one in schedule.slots(datetime(2025, 12, 31, 23, 59, tzinfo=UTC), 3)]
    assert found[0] < 10
    assert found == [found[0], found[0] + 10, found[0] + 20]


def test_hashed_days_exist_in_every_month():
    for index in range(100):
        schedule = parse_schedule("0 0 H * *", hash_key=f"job-{index}")
        found = schedule.slots(datetime(2026, 1, 1, tzinfo=UTC), 12)
        assert found[-1] - found[0] < timedelta(days=340)


def test_jitter_is_stable_below_its_width_and_keeps_order():
    plain = parse_schedule("* * * * *").slots_us(0, 50)
    for index in range(20):
        moved = parse_schedule("* * * * *", jitter_s=30, hash_key=f"j{index}").slots_us(30 * US, 50)
        shift = moved[0] - plain[0]
        assert 0 <= shift < 30 * US
        assert [one - shift for one in moved] == plain


def test_equal_arguments_give_equal_cached_schedules():
    first = parse_schedule("0 9 * * 1-5", "Europe/Stockholm")
    assert parse_schedule("0 9 * * 1-5", "Europe/Stockholm") is first
    assert parse_schedule("0 9 * * 1-5", "Europe/Stockholm", hash_key="other") is first
    assert parse_schedule("0 9 * * 1-5") != first
    assert len({first, parse_schedule("0 9 * * 1-5", "Europe/Stockholm")}) == 1
    with pytest.raises(AttributeError):
        first.text = "other"
    assert (first.text, first.tz) == ("0 9 * * 1-5", "Europe/Stockholm")


def test_the_zone_prefix_wins():
    schedule = parse_schedule("CRON_TZ=Asia/Tokyo 0 9 * * *", "Europe/Stockholm")
    assert schedule.tz == "Asia/Tokyo"
    found = schedule.slots(datetime(2026, 1, 1, tzinfo=UTC), 1)
    assert found[0].isoformat() == "2026-01-02T09:00:00+09:00"
    assert parse_schedule("TZ=Asia/Tokyo @every 1h").tz == "Asia/Tokyo"
    assert parse_schedule("TZ=UTC monday at 10:00").tz == "UTC"
