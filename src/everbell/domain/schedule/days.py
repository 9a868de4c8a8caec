"""Which days of a month match: one bit mask for each shape of month.

A month's shape is its length and the weekday of its first day, 28 shapes in all, so that stepping
through years costs a table look-up for each month.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import msgspec

from everbell.domain.schedule.base import EPOCH_ORDINAL

ALL_DAYS = 0xFFFFFFFE  # bits 1 to 31
ALL_MONTHS = 0x1FFE  # bits 1 to 12
ALL_WEEKDAYS = 0x7F  # bits 0 (Sunday) to 6
FIRST_YEAR = 1970
LAST_YEAR = 2199
_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def month_length(year: int, month: int) -> int:
    """Number of days of a month."""
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if leap else _LENGTHS[month]


class DayRule(msgspec.Struct, frozen=True, kw_only=True):
    """The day part of a schedule.

    ``days`` has bits 1..31, ``weekdays`` bits 0 (Sunday)..6, ``months`` bits 1..12.
    ``from_end`` holds distances from the last day (0 is ``L``), ``nearest`` the ``nW`` days
    (0 is ``LW``), ``nth`` pairs (weekday, k) with k = 1..5 or 0 for the last (``nL``).
    ``both``: day of month AND weekday must match (else OR). ``years`` empty: every year.
    """

    days: int = ALL_DAYS
    weekdays: int = ALL_WEEKDAYS
    months: int = ALL_MONTHS
    years: tuple[int, ...] = ()
    from_end: tuple[int, ...] = ()
    nearest: tuple[int, ...] = ()
    nth: tuple[tuple[int, int], ...] = ()
    both: bool = True

    def mask(self, length: int, first_weekday: int) -> int:
        """Matching days (bit 0 is the first) of a month with this length and first weekday."""
        by_date = (self.days >> 1) & ((1 << length) - 1)
        for distance in self.from_end:
            if distance < length:
                by_date |= 1 << (length - 1 - distance)
        for day in self.nearest:
            if day <= length:
                by_date |= 1 << (_nearest(day or length, length, first_weekday) - 1)
        by_weekday = 0
        for day in range(length):
            if self.weekdays >> ((first_weekday + day) % 7) & 1:
                by_weekday |= 1 << day
        for weekday, k in self.nth:
            first = (weekday - first_weekday) % 7
            day = first + 7 * (k - 1) if k else first + 7 * ((length - 1 - first) // 7)
            if day < length:
                by_weekday |= 1 << day
        return by_date & by_weekday if self.both else by_date | by_weekday


def _nearest(day: int, length: int, first_weekday: int) -> int:
    """The weekday nearest to a day, inside the same month (Quartz's rule for ``W``)."""
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


class Window(msgspec.Struct, frozen=True):
    """One month: epoch day numbers ``[first, end)`` and its mask of matching days."""

    first: int
    end: int
    mask: int


class DayTable:
    """Finds matching months quickly, in both directions."""

    __slots__ = ("_masks", "rule")

    def __init__(self, rule: DayRule) -> None:
        self.rule = rule
        self._masks: dict[tuple[int, int], int] = {}

    def window(self, day: int) -> Window:
        """The month that holds an epoch day."""
        at = date.fromordinal(day + EPOCH_ORDINAL)
        return self._window(at.year, at.month)

    def after(self, day: int, last_year: int) -> Window | None:
        """The first month with a matching day after the month that holds ``day``."""
        at = date.fromordinal(day + EPOCH_ORDINAL)
        month = at.month
        for year in self._years(at.year, last_year):
            first = month + 1 if year == at.year else 1
            rest = self.rule.months >> first << first
            while rest:
                month = (rest & -rest).bit_length() - 1
                rest &= rest - 1
                window = self._window(year, month)
                if window.mask:
                    return window
        return None

    def before(self, day: int, first_year: int) -> Window | None:
        """The last month with a matching day before the month that holds ``day``."""
        at = date.fromordinal(day + EPOCH_ORDINAL)
        month = at.month
        for year in self._years_back(at.year, first_year):
            rest = self.rule.months & ((1 << month) - 1 if year == at.year else ALL_MONTHS)
            while rest:
                month = rest.bit_length() - 1
                rest ^= 1 << month
                window = self._window(year, month)
                if window.mask:
                    return window
        return None

    def possible(self) -> bool:
        """Whether any day can ever match (all 28 shapes of months occur within 400 years)."""
        if self.rule.years:
            return any(
                self._window(year, month).mask
                for year in self.rule.years
                for month in range(1, 13)
                if self.rule.months >> month & 1
            )
        return any(
            self.rule.mask(length, weekday)
            for month in range(1, 13)
            if self.rule.months >> month & 1
            for length in {_LENGTHS[month], 29 if month == 2 else _LENGTHS[month]}
            for weekday in range(7)
        )

    def _years(self, first: int, last: int) -> Iterator[int]:
        if not self.rule.years:
            return iter(range(first, last + 1))
        return (year for year in self.rule.years if first <= year <= last)

    def _years_back(self, first: int, last: int) -> Iterator[int]:
        if not self.rule.years:
            return iter(range(first, last - 1, -1))
        return (year for year in reversed(self.rule.years) if last <= year <= first)

    def _window(self, year: int, month: int) -> Window:
        ordinal = date(year, month, 1).toordinal()
        length = month_length(year, month)
        rule = self.rule
        mask = 0
        if rule.months >> month & 1 and (not rule.years or year in rule.years):
            shape = (length, ordinal % 7)  # ordinal 7 was a Sunday
            known = self._masks.get(shape)
            if known is None:
                known = self._masks[shape] = rule.mask(*shape)
            mask = known
        first = ordinal - EPOCH_ORDINAL
        return Window(first, first + length, mask)
