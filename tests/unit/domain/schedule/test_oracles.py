"""Differential tests against cronsim and croniter; every disagreement has a name.

A disagreement counts as explained only if a rule below names it. Around clock changes that is not
enough: our slots there must also equal the minute-by-minute reference, so that a named error of an
oracle can never hide one of ours. Sources of the names: measured while the dialect was decided.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, croniter
from cronsim import CronSim, CronSimError

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import parse_schedule

_spec = importlib.util.spec_from_file_location(
    "schedule_reference_2", Path(__file__).with_name("reference.py")
)
reference = sys.modules.setdefault("schedule_reference_2", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(reference)

ZONES = sorted({tz for tz, _ in reference.NIGHTS} | {"Asia/Kolkata", "Asia/Kathmandu"})
COUNT = 12
MIDNIGHT_GAPS = {"America/Havana", "Africa/Cairo", "America/Sao_Paulo", "America/St_Johns"}


def starts(rng):
    """Zones with instants: half of them within a day of a clock change."""
    if rng.random() < 0.5:
        tz, day = rng.choice(reference.NIGHTS)
        at = datetime.fromisoformat(day).replace(tzinfo=UTC)
        return tz, at + timedelta(minutes=rng.randrange(-1440, 1440))
    day = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(10 * 525_600))
    return rng.choice(ZONES), day


def offsets_change(tz, at):
    """Whether the zone's offset changes within 36 hours of an instant."""
    zone = ZoneInfo(tz)
    probes = (at + timedelta(hours=hours) for hours in range(-36, 37, 6))
    return len({probe.astimezone(zone).utcoffset() for probe in probes}) > 1


def first_difference(ours, theirs):
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other:
            return min(mine, other)
    return None


def reference_agrees(expression, tz, ours, at):
    """Our slots around ``at`` are those of the reference."""
    day = at.astimezone(UTC).date().isoformat()
    expected = reference.brute_force(expression, tz, day)
    low = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)
    high = low + timedelta(days=3)
    schedule = parse_schedule(expression.text, tz)
    found = schedule.slots_us(to_us(low), 5000, until_us=to_us(high))
    return found == [to_us(one) for one in expected]


def to_us(at):
    return int(at.timestamp()) * 1_000_000


def explain(oracle, expression, tz, start, theirs, at):
    """The name of a known difference at an instant, or ``None``."""
    _, _, day, _, weekday = expression.text.split()
    if oracle == "croniter":
        if day != "*" and weekday != "*" and (day[0] == "*" or weekday[0] == "*"):
            return "croniter: OR although one day field starts with * (Debian: AND)"
        parts = weekday.split(",")
        if any("/" in part and part[0].isdigit() and "-" not in part for part in parts):
            return "croniter: N/step of the weekday ends at 6, not at 7"
    if any(one <= start for one in theirs) or theirs != sorted(set(theirs)):
        return f"{oracle}: result not after the start, or the same instant twice"
    if offsets_change(tz, at):
        zone = ZoneInfo(tz)
        shift = abs(sum((_jump(zone, at)), timedelta()))
        if oracle == "croniter":
            return "croniter: own rule for gaps and overlaps (fires twice, or late)"
        if shift % timedelta(hours=1) or not _at_full_hour(zone, at):
            return "cronsim: steps whole hours across a change that is not whole hours"
        if not expression.fixed:
            return "cronsim: elapsed-time step over a change at midnight or of a whole day"
        return "cronsim: fixed time moved over a change"
    return None


def _jump(zone, at):
    first = (at - timedelta(hours=36)).astimezone(zone).utcoffset()
    last = (at + timedelta(hours=36)).astimezone(zone).utcoffset()
    return [last, -first]


def _at_full_hour(zone, at):
    before = (at - timedelta(hours=36)).astimezone(zone).utcoffset()
    return before % timedelta(hours=1) == timedelta()


class StuckError(Exception):
    """The oracle walks in a circle."""


class BoundedCronSim(CronSim):
    """cronsim with an end: at a gap at midnight its day and hour steps undo each other."""

    rounds = 0

    def tick(self, seconds=1):
        self.rounds += 1
        if self.rounds > 100_000:
            raise StuckError
        super().tick(seconds)

    def advance_day(self):
        self.rounds += 1
        if self.rounds > 100_000:
            raise StuckError
        return super().advance_day()


def cronsim_slots(text, start, tz):
    return take(BoundedCronSim(text, start.astimezone(ZoneInfo(tz))))


def croniter_slots(text, start, tz):
    walk = croniter(text, start.astimezone(ZoneInfo(tz)), ret_type=datetime)
    return take(walk)


def take(walk):
    found = []
    try:
        while len(found) < COUNT:
            found.append(next(walk).astimezone(UTC))
    except (StopIteration, CroniterBadDateError, RuntimeError):
        pass
    return found


@pytest.mark.parametrize(
    ("oracle", "walk", "count"),
    [("cronsim", cronsim_slots, 6000), ("croniter", croniter_slots, 3000)],
)
def test_random_expressions(oracle, walk, count):
    rng = random.Random(f"everbell {oracle}")
    seen = Counter()
    for _ in range(count):
        expression = reference.random_expression(rng)
        tz, start = starts(rng)
        try:
            schedule = parse_schedule(expression.text, tz)
        except ScheduleError:
            # Refused because it can never fire: the oracle finds nothing either.
            try:
                assert not walk(expression.text, start, tz), expression.text
            except CronSimError:
                pass
            seen["never"] += 1
            continue
        try:
            theirs = walk(expression.text, start, tz)
        except StuckError:
            assert tz in MIDNIGHT_GAPS, (expression.text, tz, start)
            seen["cronsim: never ends at a gap at midnight"] += 1
            continue
        ours = [one.astimezone(UTC) for one in schedule.slots(start, len(theirs))]
        at = first_difference(ours, theirs)
        if at is None:
            assert len(ours) == len(theirs)
            seen["equal"] += 1
            continue
        why = explain(oracle, expression, tz, start, theirs, at)
        assert why is not None, (oracle, expression.text, tz, start, ours, theirs)
        assert reference_agrees(expression, tz, ours, at), (why, expression.text, tz, start)
        seen[why] += 1
    print(seen)
    assert seen["equal"] > count * 0.5
    if oracle == "cronsim":
        assert seen["equal"] > count * 0.9


SPECIALS = [
    "0 0 L * *",
    "0 0 LW * *",
    "15 10 L 2,6 *",
    "0 0 * * 5L",
    "0 0 * * 0L",
    "0 0 * * MON#1",
    "0 0 * * 3#5",
    "0 0 13 * FRI",
    "0 0 */2 * MON",
    "0 0 29 2 *",
    "0 0 29 2 */2",
    "*/7 */5 * JAN-MAR *",
    "0 0 1,15 * MON#1",
    "30 */15 9-17 * * MON-FRI",
    "*/13 * * * * *",
    "0 0 12 L * *",
]


@pytest.mark.parametrize("text", SPECIALS)
def test_special_forms_equal_cronsim_in_both_directions(text):
    start = datetime(2023, 5, 17, 13, 46, 12, tzinfo=UTC)
    schedule = parse_schedule(text)
    ahead, behind = CronSim(text, start), CronSim(text, start, reverse=True)
    assert schedule.slots(start, 40) == [next(ahead) for _ in range(40)]
    assert schedule.previous(start, 15) == [next(behind) for _ in range(15)]


@pytest.mark.parametrize("text", ["0 0 15W * *", "0 0 1W * *", "0 0 8W * *", "0 0 28W * *"])
def test_nearest_weekday_equals_croniter(text):
    # 29W and later differ: croniter moves to the end of a short month, we leave the month out.
    start = datetime(2023, 5, 17, tzinfo=UTC)
    walk = croniter(text, start, ret_type=datetime)
    assert parse_schedule(text).slots(start, 60) == [next(walk) for _ in range(60)]


def test_a_range_of_one_value_with_a_step_is_one_value():
    # ISC cron; cronsim and croniter take it as 5/20.
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found = parse_schedule("5-5/20 * * * *").slots(start, 2)
    assert [one.minute for one in found] == [5, 5]
    walk = CronSim("5-5/20 * * * *", start)
    assert [next(walk).minute for _ in range(2)] == [5, 25]
