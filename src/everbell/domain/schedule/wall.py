"""Schedules on the local clock: cron, times of day, weekdays, start of day, week and month.

Local matches come from bit masks; the zone's segments of constant offset turn them into instants.
Clock changes follow Debian cron (cron.8): a fixed-time schedule whose time is skipped runs once at
the first instant after the gap, and once when a time occurs twice; a schedule whose minute or hour
starts with ``*`` follows elapsed time, through both passes and not for skipped times.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from everbell.domain.schedule.base import (
    DAY_S,
    LINT_FROM_US,
    MAX_US,
    MIN_S,
    SECOND_US,
    Schedule,
)
from everbell.domain.schedule.clock_times import ClockTimes
from everbell.domain.schedule.days import DayTable, Window
from everbell.domain.schedule.zones import Segment, Zone

# Rounds of the search before a schedule counts as never firing again. One year costs two or three
# rounds only if all of its matches fall into gaps, so that this is more than 60 years.
_ROUNDS = 200
# More than the largest change of offset ever made (26 hours).
_SAFE = 3 * DAY_S
_LAST_YEAR = 9999
_FIRST_YEAR = 1899
_LINT_YEARS = 10
_YEAR_S = 366 * DAY_S


class WallSchedule(Schedule):
    """A schedule on the clock of a place."""

    __slots__ = (
        "_both", "_days", "_gap", "_lint", "_month", "_second", "_times", "_window", "_words",
        "_zone",
    )  # fmt: skip

    def __init__(
        self,
        identity: tuple[str, str, tuple[Any, ...]],
        zone: Zone,
        days: DayTable,
        times: ClockTimes,
        *,
        gap: bool,
        overlap: str,
        words: Callable[[], str],
        lint: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """``gap``: run after a gap; ``overlap``: ``first``, ``second`` or ``both``."""
        super().__init__(*identity)
        self._zone = zone
        self._days = days
        self._times = times
        self._gap = gap
        self._both = overlap == "both"
        self._second = overlap == "second"
        self._words = words
        self._lint = lint
        # Caches; each is one tuple, replaced whole, so that threads never see a mixture.
        self._month = days.window(0)
        self._window = (0, 0, 0)

    def rule(self) -> tuple[Any, ...]:
        """What decides the slots, whatever the words."""
        dst = (self._gap, self._both, self._second)
        return ("wall", self._tz, self._days.rule, self._times.rule(), dst)

    def describe(self) -> str:
        """The schedule in English words."""
        return f"{self._words()} ({self._tz})"

    def lint(self, after_us: int = LINT_FROM_US) -> list[str]:
        """Warnings about texts that are legal and often not what was meant."""
        coming = self._coming(after_us // SECOND_US)
        return [*self._lint(), *self._gap_warning(coming), *self._overlap_warning(coming)]

    @property
    def after_gap(self) -> bool:
        """Whether a time that is left out runs once, right after the gap."""
        return self._gap

    @property
    def passes(self) -> str:
        """Which pass of a repeated hour it runs in: ``first``, ``second`` or ``both``."""
        return "both" if self._both else "second" if self._second else "first"

    def match_in(self, low: int, high: int) -> int | None:
        """The first matching local second (as if UTC) in ``[low, high)``."""
        local = self._local_next(low) if low < high else None
        return local if local is not None and local < high else None

    def next_us(self, after_us: int) -> int | None:
        """The first slot strictly after an instant; ``None``: never again."""
        low = after_us // SECOND_US + 1
        start, end, offset = self._window
        if start <= low < end:
            local = self._local_next(low + offset)
            if local is not None and local - offset < end:
                return (local - offset) * SECOND_US
        return self._search_next(low)

    def previous_us(self, before_us: int) -> int | None:
        """The last slot strictly before an instant; ``None``: there was none."""
        high = (before_us - 1) // SECOND_US
        start, end, offset = self._window
        if start <= high < end:
            local = self._local_previous(high + offset)
            if local is not None and local - offset >= start:
                return (local - offset) * SECOND_US
        return self._search_previous(min(high, MAX_US // SECOND_US - 1))

    def _effective(self, segment: Segment) -> tuple[int, int]:
        """The part ``[first, end)`` of a segment in which local matches are slots."""
        first, end, offset, before, behind = segment
        if not self._both:
            if self._second:
                end -= max(0, offset - behind)
            else:
                first += max(0, before - offset)
        return first, end

    def _runs_after_gap(self, segment: Segment) -> bool:
        """Whether a match is skipped by the jump forward at the segment's start."""
        if not self._gap or segment.before >= segment.offset:
            return False
        local = self._local_next(segment.start + segment.before)
        return local is not None and local < segment.start + segment.offset

    def _remember(self, first: int, end: int, segment: Segment) -> None:
        # The first instant after a gap needs a look at the gap, so it is left to the search.
        gap = segment.before < segment.offset
        self._window = (first + 1 if gap else first, end, segment.offset)

    def _search_next(self, low: int) -> int | None:
        low = max(low, MIN_S)
        for _ in range(_ROUNDS):
            segment = self._zone.segment(low)
            if segment is None:
                return None
            if low <= segment.start and self._runs_after_gap(segment):
                return segment.start * SECOND_US
            first, end = self._effective(segment)
            offset = segment.offset
            local = self._local_next(max(low, first) + offset)
            if local is not None and local - offset < end:
                self._remember(first, end, segment)
                return (local - offset) * SECOND_US
            near = segment.end - low <= _SAFE
            if local is None and not near:
                return None
            # Nothing matches before `local`; only close to a change may local time come again.
            low = segment.end if near or local is None else max(segment.end, local - offset - _SAFE)
        return None

    def _search_previous(self, high: int) -> int | None:
        for _ in range(_ROUNDS):
            segment = self._zone.segment(high)
            if segment is None:
                return None
            first, end = self._effective(segment)
            offset = segment.offset
            local = self._local_previous(min(high, end - 1) + offset)
            if local is not None and local - offset >= first:
                self._remember(first, end, segment)
                return (local - offset) * SECOND_US
            if self._runs_after_gap(segment):
                return segment.start * SECOND_US
            near = high - segment.start <= _SAFE
            if local is None and not near:
                return None
            last = segment.start - 1
            high = last if near or local is None else min(last, local - offset + _SAFE)
        return None

    def _local_next(self, local: int) -> int | None:
        """The first matching local second (as if UTC) at or after one."""
        day, second = divmod(local, DAY_S)
        month = self._month
        if not month.first <= day < month.end:
            month = self._month = self._days.window(day)
        rest = month.mask >> (day - month.first)
        if rest & 1:
            time = self._times.at_or_after(second)
            if time >= 0:
                return day * DAY_S + time
            rest ^= 1
        if rest:
            day += (rest & -rest).bit_length() - 1
            return day * DAY_S + self._times.first
        found = self._days.after(day, _LAST_YEAR)
        if found is None:
            return None
        self._month = found
        day = found.first + (found.mask & -found.mask).bit_length() - 1
        return day * DAY_S + self._times.first

    def _local_previous(self, local: int) -> int | None:
        """The last matching local second (as if UTC) at or before one."""
        day, second = divmod(local, DAY_S)
        month: Window | None = self._month
        assert month is not None
        if not month.first <= day < month.end:
            month = self._month = self._days.window(day)
        index = day - month.first
        if month.mask >> index & 1:
            time = self._times.at_or_before(second)
            if time >= 0:
                return day * DAY_S + time
        rest = month.mask & ((1 << index) - 1)
        if not rest:
            month = self._days.before(day, _FIRST_YEAR)
            if month is None:
                return None
            self._month = month
            rest = month.mask
        return (month.first + rest.bit_length() - 1) * DAY_S + self._times.last

    def _coming(self, after_s: int) -> list[Segment]:
        """The changes of the zone's clocks in the ten years after an instant."""
        year = datetime.fromtimestamp(min(max(after_s, MIN_S), MAX_US // SECOND_US), UTC).year
        changes = self._zone.transitions(year, min(year + _LINT_YEARS, _LAST_YEAR))
        return [one for one in changes if after_s < one.start <= after_s + _LINT_YEARS * _YEAR_S]

    def _gap_warning(self, changes: list[Segment]) -> list[str]:
        """A warning if a slot meets a gap of the zone."""
        for segment in changes:
            gap = (segment.start + segment.before, segment.start + segment.offset)
            if gap[0] >= gap[1]:
                continue
            local = self._local_next(gap[0])
            if local is not None and local < gap[1] and (self._gap or self._day_lost(local, gap)):
                return [self._gap_text(local)]
        return []

    def _overlap_warning(self, changes: list[Segment]) -> list[str]:
        """A warning if a slot meets a repeated time."""
        for segment in changes:
            overlap = (segment.start + segment.offset, segment.start + segment.before)
            local = self.match_in(*overlap)
            # Whoever runs all day long knows that the day has 25 hours.
            if local is None or (self._both and not self._day_lost(local, overlap)):
                continue
            at = datetime.fromtimestamp(local, UTC)
            what = {"both": "twice", "first": "once, the first time"}.get(self.passes)
            where = f"{at:%H:%M} occurs twice on {at:%Y-%m-%d} in {self._tz}"
            return [f"{where} (clocks go back): it runs {what or 'once, the second time'}"]
        return []

    def _day_lost(self, local: int, gap: tuple[int, int]) -> bool:
        """Whether all matches of a local day lie inside a gap, or an overlap."""
        day = local // DAY_S
        before = self._local_previous(gap[0] - 1)
        after = self._local_next(gap[1])
        return all(one is None or one // DAY_S != day for one in (before, after))

    def _gap_text(self, local: int) -> str:
        at = datetime.fromtimestamp(local, UTC)
        what = "runs once, right after the gap" if self._gap else "does not run that day"
        return (
            f"{at:%H:%M} does not exist on {at:%Y-%m-%d} in {self._tz} (clocks go forward): "
            f"it {what}"
        )
