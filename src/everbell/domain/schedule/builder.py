"""Schedules put together in Python: ``every(10).seconds``, ``on.monday.at("10:00PM")``.

Each yields a schedule text, checked at once, so that what a program says can be shown, stored and
overridden like any other schedule.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule.fields import WEEKDAYS
from everbell.domain.schedule.parse import parse_schedule

_CLOCK = re.compile(r"\s*(\d{1,2})(?::(\d{2})(?::(\d{2}))?)?\s*(am|pm)?\s*", re.IGNORECASE)
_WORKDAYS = WEEKDAYS[1:6]
_WEEKEND = (WEEKDAYS[6], WEEKDAYS[0])


class When:
    """A schedule: ``text`` in Everbell's dialect, and its zone if one was given.

    May be called without arguments, as in ``every(10).seconds()``, and yields itself.
    """

    __slots__ = ("text", "timezone")

    def __init__(self, text: str, timezone: str | None = None) -> None:
        """Check the text. Raises ScheduleError."""
        parse_schedule(text, timezone or "UTC")
        self.text = text
        self.timezone = timezone

    def in_zone(self, timezone: str) -> When:
        """Return the schedule on the clock of a zone, such as ``Europe/Stockholm``."""
        return When(self.text, timezone)

    def __call__(self) -> When:
        """Return itself."""
        return self

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def __repr__(self) -> str:
        """Return text and zone."""
        zone = f", {self.timezone!r}" if self.timezone else ""
        return f"When({self.text!r}{zone})"

    def __eq__(self, other: object) -> bool:
        """Compare text and zone."""
        if not isinstance(other, When):
            return NotImplemented
        return (self.text, self.timezone) == (other.text, other.timezone)

    def __hash__(self) -> int:
        """Return a hash of text and zone."""
        return hash((self.text, self.timezone))


class Days:
    """Days that still lack their time: ``at`` completes them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Take names of weekdays; ScheduleError for others."""
        self._names = names
        When(f"{','.join(names)} at 00:00")

    def at(self, time: str) -> When:
        """Return the schedule at a time of day: ``10:00PM``, ``22:00`` or ``22:00:30``."""
        return When(f"{','.join(self._names)} at {time}")


class MonthDays:
    """Days of the month that still lack their time."""

    def __init__(self, days: str) -> None:
        """Take a day-of-month field."""
        self._days = days
        When(f"0 0 {days} * *")

    def at(self, time: str) -> When:
        """Return the schedule at a time of day: ``10:00PM``, ``22:00`` or ``22:00:30``."""
        hour, minute, second = _clock(time)
        head = f"{second} " if second else ""
        return When(f"{head}{minute} {hour} {self._days} * *")


class Period(When):
    """``daily``, ``weekly`` or ``monthly``: at midnight, unless ``at`` says otherwise."""

    __slots__ = ()

    def at(self, *times: str) -> When:
        """Return the schedule at a time of day, or (daily) at several."""
        if not times:
            raise ScheduleError(
                "no time is given", text=self.text, position=len(self.text), hint='at("02:00")'
            )
        if len(times) == 1:
            return When(f"{self.text} at {times[0]}", self.timezone)
        if self.text != "daily":
            raise ScheduleError(
                f"{self.text} takes one time",
                text=f"{self.text} at {', '.join(times)}",
                position=0,
                hint="make a job for each, or use cron(...)",
            )
        found = [_clock(time) for time in times]
        shown = ",".join(":".join(f"{part:02}" for part in one) for one in found)
        return When(f"times {shown}", self.timezone)


class Count:
    """A number that still lacks its unit."""

    def __init__(self, number: float) -> None:
        self._number = number

    def _of(self, unit: str, size_s: int) -> When:
        number = self._number
        if isinstance(number, int) and not isinstance(number, bool):
            return When(f"every {number} {unit}s")
        return _elapsed(number * size_s)

    @property
    def seconds(self) -> When:
        """Every so many seconds."""
        return self._of("second", 1)

    @property
    def minutes(self) -> When:
        """Every so many minutes."""
        return self._of("minute", 60)

    @property
    def hours(self) -> When:
        """Every so many hours."""
        return self._of("hour", 3600)

    @property
    def days(self) -> When:
        """Every so many times 24 hours, whatever the clocks do; see ``every.day`` for dates."""
        return self._of("day", 86_400)

    @property
    def weeks(self) -> When:
        """Every so many times 7 x 24 hours."""
        return self._of("week", 604_800)

    second, minute, hour, day, week = seconds, minutes, hours, days, weeks


class Every:
    """``every(10).seconds``, ``every.minute``, ``every.day.at("02:00")``, ``every.monday.at``."""

    def __call__(self, number: float | timedelta) -> Count:
        """Begin an interval; a timedelta is complete with any of its units."""
        if isinstance(number, timedelta):
            return _Span(number)
        return Count(number)

    @property
    def second(self) -> When:
        """Every second."""
        return When("every second")

    @property
    def minute(self) -> When:
        """Every minute."""
        return When("every minute")

    @property
    def hour(self) -> When:
        """Every hour, counted from the job's anchor."""
        return When("every hour")

    @property
    def day(self) -> Period:
        """Every day at midnight, or ``at`` a time."""
        return Period("daily")

    @property
    def week(self) -> Period:
        """Every first day of the week."""
        return Period("weekly")

    @property
    def month(self) -> Period:
        """Every first day of the month."""
        return Period("monthly")

    def __getattr__(self, name: str) -> Days:
        """``every.monday``: the same as ``on.monday``."""
        return _days(self, name)


class _Span(Count):
    def __init__(self, span: timedelta) -> None:
        super().__init__(span.total_seconds())

    def _of(self, unit: str, size_s: int) -> When:
        del unit, size_s
        return _elapsed(self._number)


class On:
    """``on.monday.at("10:00PM")``, ``on("monday", "friday").at``, ``on.day(1, 15).at("03:00")``."""

    def __call__(self, *names: str) -> Days:
        """Name several weekdays."""
        return Days(names)

    def day(self, *numbers: int) -> MonthDays:
        """Name days of the month."""
        return MonthDays(",".join(str(number) for number in numbers))

    @property
    def last_day(self) -> MonthDays:
        """The last day of every month."""
        return MonthDays("L")

    def __getattr__(self, name: str) -> Days:
        """``on.monday``; also ``on.weekdays`` and ``on.weekends``."""
        return _days(self, name)


def _days(owner: object, name: str) -> Days:
    if name in {"weekdays", "weekday"}:
        return Days(_WORKDAYS)
    if name in {"weekends", "weekend"}:
        return Days(_WEEKEND)
    if name in WEEKDAYS:
        return Days((name,))
    message = f"{type(owner).__name__.lower()} has no {name!r}: name a weekday, such as monday"
    raise AttributeError(message)


def _elapsed(seconds: float) -> When:
    return When(f"@every {f'{seconds:f}'.rstrip('0').rstrip('.')}s")


every = Every()
on = On()


def cron(text: str, timezone: str | None = None) -> When:
    """Return any schedule text, cron or another, checked. Raises ScheduleError."""
    return When(text, timezone)


def at(time: str | datetime) -> When:
    """Return a single instant; a time without offset is read on the clock of the job's zone."""
    return When(f"@at {time.isoformat() if isinstance(time, datetime) else time}")


def _clock(text: str) -> tuple[int, int, int]:
    """Read a time of day; 12-hour times need AM or PM. Raises ScheduleError."""
    When(f"daily at {text}")  # the dialect's own check, with its words
    match = _CLOCK.fullmatch(text)
    assert match is not None
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if match[4]:
        hour = hour % 12 + 12 * (match[4].lower() == "pm")
    return hour, minute, second
