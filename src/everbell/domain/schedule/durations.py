"""Durations in Go's syntax, and times of day in 24-hour and 12-hour form."""

from __future__ import annotations

import re
from fractions import Fraction

from everbell.domain.schedule.options import Options

# In microseconds. Both micro signs count: U+00B5 and the Greek letter U+03BC.
_UNITS: dict[str, Fraction] = {
    "ns": Fraction(1, 1000),
    "us": Fraction(1),
    "\u00b5s": Fraction(1),
    "\u03bcs": Fraction(1),
    "ms": Fraction(1000),
    "s": Fraction(1_000_000),
    "m": Fraction(60_000_000),
    "h": Fraction(3_600_000_000),
}
_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.\s]*)")
_HINT = "write a duration such as 1h30m, 90s or 1.5h; units: h, m, s, ms, us, ns"
_CLOCK = re.compile(r"([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2}))?)?(?:\s*(am|pm))?", re.IGNORECASE)


def parse_go_duration(options: Options, text: str, at: int) -> int:
    """Microseconds of a Go duration (time.ParseDuration), cut below one microsecond.

    Raises:
        ScheduleError: at the first part that can't be read.
    """
    index = 1 if text[:1] in {"+", "-"} else 0
    if text[index:] == "0":
        return 0
    total = Fraction(0)
    start = index
    while index < len(text):
        match = _TERM.match(text, index)
        assert match is not None
        total += _term(options, match, at)
        index = match.end()
    if index == start:
        options.fail(at, "the duration is empty", _HINT)
    return int(-total if text[0] == "-" else total)


def _term(options: Options, match: re.Match[str], at: int) -> Fraction:
    whole, part, unit = match[1], match[2] or "", match[3]
    position = at + match.start()
    if not whole and not part:
        rest = match.string[match.start() :][:20]
        options.fail(position, f"expected a number, not {rest!r}", _HINT)
    if len(whole) > 19 or len(part) > 30:
        options.fail(position, "the number is too large", _HINT)
    if not unit:
        options.fail(at + match.end(2 if match[2] is not None else 1), "a unit is missing", _HINT)
    size = _UNITS.get(unit)
    if size is None:
        hint = "there is no unit for days: write 24h" if unit in {"d", "day", "days"} else _HINT
        options.fail(at + match.start(3), f"unknown unit {unit[:20]!r}", hint)
    return (int(whole or "0") + Fraction(int(part or "0"), 10 ** len(part))) * size


def parse_clock(options: Options, text: str, at: int, *, halves: bool = True) -> int:
    """Second of the day of ``22:00``, ``14:30:15``, ``10:00PM`` or ``10 pm``.

    Raises:
        ScheduleError: not a time of day.
    """
    match = _CLOCK.fullmatch(text)
    half = match[4].lower() if match and match[4] else ""
    if match is None or (not match[2] and not half) or (half and not halves):
        hint = "write HH:MM or HH:MM:SS" + (", or 10:00PM" if halves else "")
        options.fail(at, f"can't read {text[:20]!r} as a time of day", hint)
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if minute > 59 or second > 59 or not (1 <= hour <= 12 if half else hour <= 23):
        hint = "12-hour times run from 12:00AM to 11:59PM" if half else "use 00:00 to 23:59:59"
        options.fail(at, f"there is no time {text[:20]!r}", hint)
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    return hour * 3600 + minute * 60 + second
