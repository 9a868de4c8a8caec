"""Exclusion calendars: dates and blackout windows in which a schedule has no slots.

An entry excludes what the clocks of the schedule's zone show: a date, a weekday, a time of day. So
a repeated hour is excluded in both passes, and a time that a clock change leaves out excludes
nothing. Only instants with an offset, and the two ends of ``from..to``, are points in time.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NoReturn

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule.base import DAY_S, EPOCH_ORDINAL, SECOND_US, to_us
from everbell.domain.schedule.fields import WEEKDAY, WEEKDAYS
from everbell.domain.schedule.zones import Zone

MAX_ENTRIES = 200
MAX_ENTRY = 100
WEEK_S = 7 * DAY_S
# Any leap year: days of the year are counted as in one, so that 29 February has its place.
_LEAP = 2000
_LEAP_DAYS = 366
_HINT = (
    "write a date 2026-12-25, every year --12-25, a range 2026-12-24..2027-01-06, weekdays "
    "sat,sun, a window 22:00-06:00 or sat,sun 22:00-06:00, or two times "
    "2026-12-24T18:00..2026-12-26T06:00"
)
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_WINDOW = re.compile(r"(?:([A-Za-z,\s-]*[A-Za-z,])\s*)?(?:([0-9:]+)\s*-\s*([0-9:]+))?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YEARLY = re.compile(r"--([0-9]{2})-([0-9]{2})")

Stretch = tuple[int, int]


class ExclusionError(ScheduleError):
    """An entry of an exclusion calendar that can't be read; ``index`` tells which."""

    def __init__(self, message: str, *, text: str, position: int, hint: str, index: int) -> None:
        super().__init__(message, text=text, position=position, hint=hint)
        self.index = index


class Calendar:
    """All exclusions of one schedule, merged; each kind is a sorted list of ``[start, end)``."""

    __slots__ = ("_days", "_instants", "_segment", "_week", "_year", "_zone", "entries")

    def __init__(self, entries: Sequence[str], zone: Zone) -> None:
        """Read the entries.

        Raises:
            ExclusionError: an entry can't be read, or nothing is left.
        """
        if len(entries) > MAX_ENTRIES:
            raise ExclusionError(
                f"{len(entries)} exclusions are too many",
                text=entries[MAX_ENTRIES][:MAX_ENTRY],
                position=0,
                hint=f"at most {MAX_ENTRIES}; join neighbours to ranges such as --12-24..--12-31",
                index=MAX_ENTRIES,
            )
        self.entries = tuple(entries)
        self._zone = zone
        readers = [_Entry(text, index, zone) for index, text in enumerate(entries)]
        self._week = _merged(one for reader in readers for one in reader.week)
        self._year = _merged(one for reader in readers for one in reader.year)
        self._days = _merged(one for reader in readers for one in reader.days)
        self._instants = _merged(one for reader in readers for one in reader.instants)
        if self._week == [(0, WEEK_S)] or self._year == [(0, _LEAP_DAYS)]:
            readers[-1].fail(0, "nothing is left: these exclusions cover all time", _HINT)
        self._segment = zone.segment(0)

    def around(self, at_us: int) -> Stretch | None:
        """An excluded stretch ``[start, end)`` (us) around an instant; ``None``: not excluded.

        The stretch may be a part of a longer one: ask again at its end.
        """
        inside = _find(self._instants, at_us)
        if inside is not None:
            return inside
        at_s = at_us // SECOND_US
        segment = self._segment
        if segment is None or not segment.start <= at_s < segment.end:
            segment = self._segment = self._zone.segment(at_s)
            if segment is None:
                return None
        found = self._local(at_s + segment.offset)
        if found is None:
            return None
        start = max(found[0] - segment.offset, segment.start)
        return start * SECOND_US, min(found[1] - segment.offset, segment.end) * SECOND_US

    def _local(self, local: int) -> Stretch | None:
        """The excluded stretch around a local second (as if UTC)."""
        day = local // DAY_S
        if (days := _find(self._days, day)) is not None:
            return days[0] * DAY_S, days[1] * DAY_S
        if self._year and (dates := self._in_year(day)) is not None:
            return dates
        if not self._week:
            return None
        # The epoch was a Thursday; weeks are counted from Monday here.
        since_monday = (local + 3 * DAY_S) % WEEK_S
        week = _find(self._week, since_monday)
        return (
            None
            if week is None
            else (local - since_monday + week[0], local - since_monday + week[1])
        )

    def _in_year(self, day: int) -> Stretch | None:
        at = date.fromordinal(day + EPOCH_ORDINAL)
        found = _find(self._year, _leap_day(at.month, at.day))
        if found is None:
            return None
        return _day_of_year(at.year, found[0]) * DAY_S, _day_of_year(at.year, found[1]) * DAY_S


class _Entry:
    """Reads one entry of a calendar."""

    def __init__(self, text: str, index: int, zone: Zone) -> None:
        self.text = text
        self._index = index
        self._zone = zone
        self.week: list[Stretch] = []
        self.year: list[Stretch] = []
        self.days: list[Stretch] = []
        self.instants: list[Stretch] = []
        if len(text) > MAX_ENTRY or not text.isascii() or not text.strip():
            self.text = text[:MAX_ENTRY] if text.isprintable() else ""
            self.fail(0, "the exclusion is empty, above 100 characters or not plain text", _HINT)
        body = text.strip()
        at = len(text) - len(text.lstrip())
        first, dots, last = body.partition("..")
        if dots:
            self._range(first.strip(), last.strip(), at, at + body.index("..") + 2)
        elif _YEARLY.fullmatch(body):
            day = self._yearly(body, at)
            self.year.append((day, day + 1))
        elif body[:1].isdigit() and "-" in body and ":" not in body.partition("-")[0]:
            one = self._day(body, at)
            self.days.append((one, one + 1))
        else:
            self._window(body, at)

    def fail(self, position: int, message: str, hint: str) -> NoReturn:
        """Raise an error at a position of the entry."""
        raise ExclusionError(
            message, text=self.text, position=position, hint=hint, index=self._index
        )

    def _range(self, first: str, last: str, at: int, last_at: int) -> None:
        if _YEARLY.fullmatch(first) and _YEARLY.fullmatch(last):
            start, end = self._yearly(first, at), self._yearly(last, last_at) + 1
            # Over New Year: two pieces.
            self.year += [(start, end)] if start < end else [(0, end), (start, _LEAP_DAYS)]
        elif _DAY.fullmatch(first) and _DAY.fullmatch(last):
            start, end = self._day(first, at), self._day(last, last_at) + 1
            if end <= start:
                self.fail(last_at, "the range ends before it starts", "give the earlier day first")
            self.days.append((start, end))
        elif _DAY.match(first) and _DAY.match(last):
            start, end = self._instant(first, at, 0), self._instant(last, last_at, -1)
            if end <= start:
                self.fail(last_at, "the range ends before it starts", "give the earlier time first")
            self.instants.append((start, end))
        else:
            self.fail(at, f"can't read {self.text[:60]!r} as a range", _HINT)

    def _yearly(self, text: str, at: int) -> int:
        month, day = int(text[2:4]), int(text[5:7])
        try:
            date(_LEAP, month, day)
        except ValueError:
            self.fail(at + 2, f"there is no day {text[2:]}", "write --MM-DD, such as --12-25")
        return _leap_day(month, day)

    def _day(self, text: str, at: int) -> int:
        try:
            if not _DAY.fullmatch(text):
                raise ValueError(text)
            found = date.fromisoformat(text)
        except ValueError:
            self.fail(at, f"can't read {text[:40]!r} as a date", _HINT)
        if not 1900 < found.year < 9999:
            self.fail(at, f"the year {found.year} is out of range", "use 1901 to 9998")
        return found.toordinal() - EPOCH_ORDINAL

    def _instant(self, text: str, at: int, which: int) -> int:
        """Epoch us; a local time that occurs twice: the first (0) or the last (-1) one."""
        self._day(text[:10], at)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self.fail(at, f"can't read {text[:40]!r} as a time", _HINT)
        if found.tzinfo is not None:
            return to_us(found)
        local_us = to_us(found.replace(tzinfo=UTC))
        found_s, gap_end = self._zone.instants(local_us // SECOND_US)
        if found_s:
            return found_s[which] * SECOND_US + local_us % SECOND_US
        return (local_us // SECOND_US if gap_end is None else gap_end) * SECOND_US

    def _window(self, body: str, at: int) -> None:
        match = _WINDOW.fullmatch(body)
        if match is None or not (match[1] or match[2]):
            self.fail(at, f"can't read {body[:40]!r} as an exclusion", _HINT)
        days = self._weekdays(match[1], at) if match[1] else list(range(7))
        start, end = 0, DAY_S
        if match[2]:
            start = self._clock(match[2], at + match.start(2), last=DAY_S - 1)
            end = self._clock(match[3], at + match.start(3), last=DAY_S)
            if start == end:
                hint = "for a whole day leave the times out, or write 00:00-24:00"
                self.fail(at + match.start(3), "the window is empty", hint)
        # Past midnight: it belongs to the day on which it starts.
        end += DAY_S if end < start else 0
        for day in days:
            first, last = day * DAY_S + start, day * DAY_S + end
            if last > WEEK_S:
                self.week.append((0, last - WEEK_S))
            self.week.append((first, min(last, WEEK_S)))

    def _clock(self, text: str, at: int, last: int) -> int:
        match = _CLOCK.fullmatch(text)
        if match is None:
            self.fail(at, f"can't read {text[:20]!r} as a time of day", "write HH:MM or HH:MM:SS")
        minute, second = int(match[2]), int(match[3] or 0)
        found = int(match[1]) * 3600 + minute * 60 + second
        if minute > 59 or second > 59 or found > last:
            self.fail(at, f"there is no time {text[:20]!r}", "use 00:00 to 23:59:59, or end 24:00")
        return found

    def _weekdays(self, text: str, at: int) -> list[int]:
        """Days counted from Monday = 0."""
        found: list[int] = []
        for part in re.finditer(r"[^,\s](?:[^,]*[^,\s])?|(?<![^,])\s*(?=,|$)", text):
            position = at + part.start()
            ends = [self._weekday(one.strip(), position) for one in part[0].split("-")]
            if len(ends) > 2:
                self.fail(position, f"can't read {part[0][:40]!r} as weekdays", _HINT)
            if ends[0] > ends[-1]:
                hint = "ranges do not wrap around Sunday: list the days, such as sat,sun,mon"
                self.fail(position, f"{part[0]!r} runs backwards", hint)
            found += range(ends[0], ends[-1] + 1)
        return found

    def _weekday(self, word: str, at: int) -> int:
        value = WEEKDAY.names.get(word.lower())
        if value is None:
            close = difflib.get_close_matches(word.lower()[:20], WEEKDAYS, 1)
            hint = f"did you mean {close[0]}?" if close else _HINT
            self.fail(at, f"unknown weekday {word[:20]!r}", hint)
        return (value + 6) % 7


def _merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _find(stretches: list[Stretch], at: int) -> Stretch | None:
    if not stretches:
        return None
    index = bisect_right(stretches, at, key=_start) - 1
    return stretches[index] if index >= 0 and at < stretches[index][1] else None


def _start(stretch: Stretch) -> int:
    return stretch[0]


def _leap_day(month: int, day: int) -> int:
    return date(_LEAP, month, day).timetuple().tm_yday - 1


def _day_of_year(year: int, leap_day: int) -> int:
    """The epoch day of a day counted in a leap year; 29 February counts as 1 March elsewhere."""
    at = date(_LEAP, 1, 1) + timedelta(days=leap_day)
    if at.year > _LEAP:
        return date(year + 1, 1, 1).toordinal() - EPOCH_ORDINAL
    if at.month == 2 and at.day == 29 and not (year % 4 == 0 and (year % 100 or year % 400 == 0)):
        return date(year, 3, 1).toordinal() - EPOCH_ORDINAL
    return date(year, at.month, at.day).toordinal() - EPOCH_ORDINAL
