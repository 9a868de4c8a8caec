"""Fire times before and after an edit: what goes, what comes, what the moment of the edit does."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.domain.moves import SHOWN_MAX, SLOTS_MAX, TOTAL_MAX, loads, moves
from everbell.domain.schedule import parse_schedule

HOUR = 3_600_000_000
DAY = 24 * HOUR
LONG_AGO = 0


def us(text):
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * 1_000_000


def times(found):
    return [datetime.fromtimestamp(at / 1e6, UTC).strftime("%d %H:%M") for at in found]


def move(before, after, now="2026-05-06T12:00", days=7, since=LONG_AGO):
    now_us = us(now)
    old, new = (None if text is None else parse_schedule(text) for text in (before, after))
    return moves(old, new, now_us, now_us + days * DAY, since)


def test_equal_schedules_in_other_words_move_nothing():
    found = move("0 2 * * *", "0 2 * * 0-6")
    assert (found.gone, found.new, found.kept) == (0, 0, 7)
    assert found.seam is None
    assert found.whole


def test_a_moved_hour_is_told_slot_by_slot():
    found = move("0 2 * * *", "0 3 * * *", days=2)
    assert times(found.gone_us) == ["07 02:00", "08 02:00"]
    assert times(found.new_us) == ["07 03:00", "08 03:00"]
    assert found.kept == 0


@pytest.mark.parametrize("pair", [("0 2 * * *", None), (None, "0 2 * * *")])
def test_a_job_that_comes_or_goes_has_slots_on_one_side(pair):
    found = move(*pair)
    assert sorted((found.gone, found.new)) == [0, 7]
    assert found.seam is None


def test_an_edit_behind_the_new_time_and_before_the_old_misses_a_day():
    found = move("0 2 * * *", "30 0 * * *", now="2026-05-06T01:00")
    assert found.seam.kind == "missed"
    assert times([found.seam.last_us, found.seam.next_us]) == ["05 02:00", "07 00:30"]
    assert times(found.seam.slots_us) == ["06 00:30"]


def test_an_edit_between_the_old_time_and_the_new_doubles_a_day():
    found = move("0 2 * * *", "0 4 * * *", now="2026-05-06T03:00")
    assert found.seam.kind == "doubled"
    assert times([found.seam.last_us, found.seam.next_us]) == ["06 02:00", "06 04:00"]
    assert times(found.seam.slots_us) == ["06 04:00"]


@pytest.mark.parametrize("now", ["2026-05-06T01:00", "2026-05-06T05:00"])
def test_an_edit_before_both_times_or_after_both_neither_misses_nor_doubles(now):
    assert move("0 2 * * *", "0 4 * * *", now=now).seam is None


@pytest.mark.parametrize("pair", [("* * * * *", "0 * * * *"), ("0 * * * *", "* * * * *")])
def test_another_rhythm_neither_misses_nor_doubles(pair):
    assert move(*pair, now="2026-05-06T10:30:30").seam is None


def test_slots_from_before_the_job_was_there_never_ran():
    edit = {"now": "2026-05-06T03:00", "since": us("2026-05-06T02:30")}
    assert move("0 2 * * *", "0 4 * * *", **edit).seam is None


def test_the_last_slot_of_all_is_missed_when_the_new_schedule_is_over():
    found = move("0 2 * * *", "@at 2026-05-06T00:30", now="2026-05-06T01:00")
    assert found.seam.kind == "missed"
    assert found.seam.next_us is None


def test_a_slot_at_this_very_moment_has_run():
    assert move("0 2 * * *", "0 2 * * *", now="2026-05-06T02:00").seam is None


def test_a_clock_change_in_the_window_moves_what_the_zone_moves():
    now = us("2026-03-28T12:00")
    old = parse_schedule("30 2 * * *", "Europe/Stockholm")
    new = parse_schedule("30 2 * * *", "Europe/Stockholm", dst_gap="skip")
    found = moves(old, new, now, now + 2 * DAY, LONG_AGO)
    local = datetime.fromtimestamp(found.gone_us[0] / 1e6, ZoneInfo("Europe/Stockholm"))
    assert (found.gone, found.new, found.kept) == (1, 0, 1)
    assert local.isoformat() == "2026-03-29T03:00:00+02:00"


def test_a_busy_schedule_is_compared_over_a_shorter_time_and_says_so():
    found = move("* * * * * *", "*/2 * * * * *")
    assert not found.whole
    assert found.until_us < us("2026-05-06T12:00") + DAY
    assert found.kept == SLOTS_MAX // 2
    assert found.gone == SLOTS_MAX // 2
    assert len(found.gone_us) == SHOWN_MAX


TEXTS = st.sampled_from(
    ["* * * * *", "*/5 * * * *", "2-59/5 * * * *", "0 2 * * *", "30 0 * * 1-5", "0 0 1 * *",
     "@every 7m", "times 02:00,14:30", "0 0 29 2 *", "* * * * * *"]
)  # fmt: skip


@given(TEXTS, TEXTS, st.integers(us("2026-01-01T00:00"), us("2027-01-01T00:00")))
def test_every_slot_is_kept_gone_or_new_and_the_seam_is_true(before, after, now):
    old, new = parse_schedule(before), parse_schedule(after)
    found = moves(old, new, now, now + DAY, LONG_AGO)
    olds = set(old.slots_us(now, SLOTS_MAX + 1, found.until_us))
    news = set(new.slots_us(now, SLOTS_MAX + 1, found.until_us))
    assert found.kept == len(olds & news)
    assert found.gone == len(olds - news)
    assert found.new == len(news - olds)
    if before == after:
        assert found.seam is None
    if found.seam is not None:
        gap = found.seam.next_us - found.seam.last_us
        gaps = [one.next_us(now) - one.previous_us(now + 1) for one in (old, new)]
        assert gap >= 1.5 * max(gaps) if found.seam.kind == "missed" else gap <= min(gaps) / 2


def test_load_counts_per_hour_and_names_the_busiest_minute():
    now = us("2026-05-06T00:00") - 1
    hourly = [parse_schedule("0 * * * *")] * 3
    spread = [parse_schedule(f"{minute} * * * *") for minute in (0, 20, 40)]
    before, after = loads(hourly, spread, now, now + DAY)
    assert before.per_hour == after.per_hour == pytest.approx(3.0)
    assert (before.peak, after.peak) == (3, 1)
    assert before.peak_us == us("2026-05-06T00:00")


def test_load_of_nothing_is_nothing():
    before, after = loads([], [], 0, DAY)
    assert (before.per_hour, before.peak, before.peak_us) == (0.0, 0, None)
    assert after == before


def test_load_is_bounded_and_both_sides_cover_the_same_time():
    many = [parse_schedule(f"{one} * * * * *") for one in range(60)]
    before, after = loads(many, [parse_schedule("* * * * * *"), *many], 0, 365 * DAY)
    assert before.until_us == after.until_us < DAY
    assert after.per_hour == pytest.approx(2 * before.per_hour, rel=0.01)
    assert TOTAL_MAX // 61 == pytest.approx(before.until_us / 1e6, rel=0.01)


def test_a_share_bounds_each_side_of_one_comparison():
    now = us("2026-05-06T12:00")
    hourly, half = parse_schedule("0 * * * *"), parse_schedule("*/30 * * * *")
    found = moves(hourly, half, now, now + 7 * DAY, LONG_AGO, most=10)
    assert not found.whole
    assert (found.kept, found.new) == (5, 5)
    assert found.until_us == now + 5 * HOUR
