"""A schedule explained: words, next slots with what clock changes do to them, and warnings."""

from __future__ import annotations

from typing import Literal

import msgspec

from everbell.domain.schedule.base import DAY_S, SECOND_US, Schedule
from everbell.domain.schedule.excluding import ExcludingSchedule
from everbell.domain.schedule.intervals import EverySchedule
from everbell.domain.schedule.wall import WallSchedule
from everbell.domain.schedule.words import duration_words
from everbell.domain.schedule.zones import Segment, Zone, get_zone

Mark = Literal["", "after_gap", "first_pass", "second_pass"]
CHANGES = 2
# Zones that change their clocks do so every year; others are searched this far.
_SEARCH_S = 3 * 366 * DAY_S
_EXCLUDED_DAYS = 366


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A slot. ``mark`` is for programs, ``note`` says the same, and more, in English.

    ``after_gap``: its local time was left out. ``first_pass`` and ``second_pass``: its local time
    occurs twice. ``excluded``: an instant that the exclusions take out; no slot.
    """

    at_us: int
    mark: Mark = ""
    note: str = ""
    excluded: bool = False


class ClockChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the zone's clocks (offsets in seconds), and what the schedule does there."""

    at_us: int
    before_s: int
    after_s: int
    note: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be said about a schedule without running it."""

    words: str
    warnings: tuple[str, ...]
    slots: tuple[Slot, ...]
    excluded: tuple[Slot, ...]
    changes: tuple[ClockChange, ...]


def explain(schedule: Schedule, after_us: int, count: int) -> Explanation:
    """Explain a schedule from an instant on: its next slots and the zone's next two changes."""
    zone = get_zone(schedule.tz, schedule.text, 0)
    found = schedule.slots_us(after_us, count)
    return Explanation(
        words=schedule.describe(),
        warnings=tuple(schedule.lint(after_us)),
        slots=mark_slots(schedule, found),
        excluded=_excluded(schedule, after_us, found, count),
        changes=tuple(
            ClockChange(
                at_us=one.start * SECOND_US,
                before_s=one.before,
                after_s=one.offset,
                note=_at_change(schedule, one),
            )
            for one in _changes(zone, after_us // SECOND_US)
        ),
    )


def mark_slots(schedule: Schedule, slots: list[int]) -> tuple[Slot, ...]:
    """Tell of each slot (a run of neighbours) what a clock change does to it."""
    zone = get_zone(schedule.tz, schedule.text, 0)
    core, shift = schedule.core()
    before = schedule.previous_us(slots[0]) if slots else None
    marked = []
    for at in slots:
        mark, note = _mark(core, zone, (at - shift) // SECOND_US)
        notes = [note] if note else []
        if before is not None:
            notes += _elapsed(core, zone, before - shift, at - shift)
        marked.append(Slot(at_us=at, mark=mark, note="; ".join(notes)))
        before = at
    return tuple(marked)


def _mark(core: Schedule, zone: Zone, at_s: int) -> tuple[Mark, str]:
    segment = zone.segment(at_s)
    if segment is None:
        return "", ""
    if at_s == segment.start and isinstance(core, WallSchedule) and core.after_gap:
        missed = core.match_in(at_s + segment.before, at_s + segment.offset)
        if missed is not None:
            return "after_gap", f"{_clock(missed)} is left out that day: runs right after the gap"
    local = _clock(at_s + segment.offset)
    if at_s >= segment.end - (segment.offset - segment.behind):
        return "first_pass", f"the first {local} of two: clocks go back"
    if at_s < segment.start + (segment.before - segment.offset):
        return "second_pass", f"the second {local} of two: clocks went back"
    return "", ""


def _elapsed(core: Schedule, zone: Zone, before_us: int, at_us: int) -> list[str]:
    first, second = zone.segment(before_us // SECOND_US), zone.segment(at_us // SECOND_US)
    if first is None or second is None or first.offset == second.offset:
        return []
    moved = second.offset - first.offset
    way = f"clocks went {_way(moved)} {_long(abs(moved))}"
    if isinstance(core, EverySchedule):
        return [f"local time moves: {way}"]
    return [f"{_long((at_us - before_us) // SECOND_US)} after the one before: {way}"]


def _excluded(schedule: Schedule, after_us: int, slots: list[int], count: int) -> tuple[Slot, ...]:
    """The instants among the slots that exclusions take out, as many as slots were asked for."""
    if not isinstance(schedule, ExcludingSchedule) or count < 1:
        return ()
    until = slots[-1] if slots else after_us + _EXCLUDED_DAYS * DAY_S * SECOND_US
    found = schedule.excluded_us(after_us, until, count)
    return tuple(Slot(at_us=at, note="excluded", excluded=True) for at in found)


def _changes(zone: Zone, after_s: int) -> list[Segment]:
    """The segments that begin with the next changes of offset."""
    found: list[Segment] = []
    segment = zone.segment(after_s)
    while segment is not None and len(found) < CHANGES and segment.end < after_s + _SEARCH_S:
        changes = segment.behind != segment.offset
        segment = zone.segment(segment.end)
        if changes and segment is not None:
            found.append(segment)
    return found


def _at_change(schedule: Schedule, change: Segment) -> str:
    """What a schedule does at a change of its zone's clocks."""
    core, shift = schedule.core()
    moved = change.offset - change.before
    if isinstance(core, EverySchedule):
        return f"the interval stays; local times move {_way(moved)} {_long(abs(moved))}"
    if not isinstance(core, WallSchedule):
        return "nothing"
    old, new = change.start + change.before, change.start + change.offset
    local = core.match_in(min(old, new), max(old, new))
    span = f"{_clock(min(old, new))} to {_clock(max(old, new))}"
    if local is None:
        return f"nothing: no time of this schedule lies in {span}"
    if moved > 0 and not core.after_gap:
        return f"{span} is left out, and the runs in it"
    around = abs(moved) if moved < 0 else 0
    low, high = (change.start - around) * SECOND_US + shift, (change.start + around) * SECOND_US
    if not schedule.slots_us(low - 1, 1, until_us=high + shift):
        return "nothing: excluded, or outside start and end"
    if moved > 0:
        return f"{_clock(local)} is left out: runs once, at {_clock(new)}"
    which = {"both": "in both passes", "first": "once, the first time"}
    return f"{span} occurs twice: runs {which.get(core.passes, 'once, the second time')}"


def _way(moved_s: int) -> str:
    return "forward" if moved_s > 0 else "back"


def _long(seconds: int) -> str:
    """Like ``23 hours``; one unit keeps its number."""
    words = duration_words(seconds * SECOND_US)
    return words if words[:1].isdigit() else f"1 {words}"


def _clock(local_s: int) -> str:
    second = local_s % DAY_S
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    return f"{text}:{second % 60:02}" if second % 60 else text
