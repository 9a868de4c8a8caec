"""Explanations: what clock changes do to slots, told before the night."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from everbell.domain.schedule import parse_schedule
from everbell.domain.schedule.explain import explain

STO = "Europe/Stockholm"
SPRING, AUTUMN = "2026-03-28T12:00+01:00", "2026-10-24T12:00+02:00"


def told(text, after=SPRING, tz=STO, count=3, **options):
    schedule = parse_schedule(text, tz, **options)
    return explain(schedule, int(datetime.fromisoformat(after).timestamp()) * 1_000_000, count)


def marks(found):
    return [one.mark for one in found.slots]


def test_warnings_name_the_clock_changes_that_come():
    found = told("30 2 * * *", AUTUMN)
    assert [one for one in found.warnings if "2027-03-28" in one]
    assert [one for one in found.warnings if "2026-10-25" in one]
    found = told("30 2 * * *", "2026-10-26T12:00+01:00", exclude=["2026-12-24"])
    assert [one for one in found.warnings if "2027-10-31" in one]
    assert not [one for one in found.warnings if "2026" in one or "2025" in one]


def test_a_run_after_a_gap_is_marked():
    found = told("30 2 * * *")
    assert marks(found) == ["after_gap", "", ""]
    note = found.slots[0].note
    assert "02:30 is left out" in note
    assert "23 hours 30 minutes after the one before: clocks went forward 1 hour" in note
    assert found.slots[1].note == ""


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("first", ["first_pass", "", ""]),
        ("second", ["second_pass", "", ""]),
        ("both", ["first_pass", "second_pass", ""]),
    ],
)
def test_the_passes_of_a_repeated_hour_are_marked(overlap, expected):
    found = told("30 2 * * *", AUTUMN, dst_overlap=overlap)
    assert marks(found) == expected


def test_wildcards_show_both_passes():
    found = told("*/30 * * * *", "2026-10-25T01:31+02:00", count=5)
    assert marks(found) == ["first_pass", "first_pass", "second_pass", "second_pass", ""]


def test_a_longer_or_shorter_interval_is_told():
    found = told("0 9 * * *", AUTUMN)
    assert found.slots[0].note == "1 day 1 hour after the one before: clocks went back 1 hour"
    found = told("@every 6h", "2026-10-25T01:30+01:00")
    assert found.slots[0].note == "local time moves: clocks went back 1 hour"


def test_jitter_does_not_hide_the_mark():
    found = told("30 2 * * *", jitter_s=60.0, hash_key="a")
    assert marks(found) == ["after_gap", "", ""]
    assert "23 hours 30 minutes" in found.slots[0].note


@pytest.mark.parametrize(
    ("text", "options", "spring", "autumn"),
    [
        ("30 2 * * *", {}, "02:30 is left out: runs once, at 03:00", "once, the first time"),
        (
            "30 2 * * *",
            {"dst_gap": "skip", "dst_overlap": "second"},
            "left out, and the runs in it",
            "once, the second time",
        ),
        ("30 2 * * *", {"dst_overlap": "both"}, "runs once", "in both passes"),
        ("*/30 * * * *", {}, "left out, and the runs in it", "in both passes"),
        ("0 9 * * *", {}, "nothing: no time", "nothing: no time"),
        ("@every 6h", {}, "the interval stays", "the interval stays"),
        ("@at 2026-03-29T02:30", {}, "nothing", "nothing"),
        ("30 2 * * *", {"exclude": ["sun"]}, "nothing: excluded", "nothing: excluded"),
        ("30 2 * * *", {"end_us": 1_760_000_000_000_000}, "outside", "outside"),
    ],
)
def test_the_next_two_changes_of_the_zone_are_told(text, options, spring, autumn):
    found = told(text, count=0, **options)
    assert len(found.changes) == 2
    first, second = found.changes
    assert datetime.fromtimestamp(first.at_us // 10**6, UTC) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert (first.before_s, first.after_s) == (3600, 7200)
    assert (second.before_s, second.after_s) == (7200, 3600)
    assert spring in first.note
    assert autumn in second.note


@pytest.mark.parametrize(
    ("text", "tz", "after", "note"),
    [
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-01T00:00Z", "02:15 is left out"),
        ("0 3 * * *", "Pacific/Chatham", "2026-09-01T00:00Z", "runs once, at 03:45"),
        ("0 12 * * *", "Pacific/Apia", "2011-12-28T12:00Z", "12:00 is left out"),
    ],
)
def test_unusual_changes(text, tz, after, note):
    assert note in told(text, after, tz).changes[0].note


def test_zones_without_changes_have_none():
    assert told("0 9 * * *", tz="Asia/Tokyo").changes == ()
    assert told("0 9 * * *", tz="UTC").changes == ()


def test_excluded_instants_are_shown_beside_the_slots():
    found = told("0 9 * * *", exclude=["2026-03-29..2026-03-30"])
    assert [one.excluded for one in found.excluded] == [True, True]
    assert found.excluded[0].at_us < found.slots[0].at_us
    assert told("0 9 * * *").excluded == ()


def test_over_is_over():
    found = told("@at 2020-01-01T00:00Z")
    assert (found.slots, found.excluded) == ((), ())
    assert "once, at 2020" in found.words
