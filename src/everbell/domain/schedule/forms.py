"""The forms that are not cron: intervals, times of day, starts of periods, weekdays, instants."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from datetime import UTC, datetime

from everbell.domain.schedule.base import DAY_S, MAX_US, MIN_S, SECOND_US, Schedule, to_us
from everbell.domain.schedule.clock_times import ListTimes
from everbell.domain.schedule.days import ALL_DAYS, ALL_WEEKDAYS, DayRule, DayTable
from everbell.domain.schedule.durations import parse_clock, parse_go_duration
from everbell.domain.schedule.fields import WEEKDAY, WEEKDAYS
from everbell.domain.schedule.intervals import AtSchedule, EverySchedule
from everbell.domain.schedule.options import Options
from everbell.domain.schedule.wall import WallSchedule
from everbell.domain.schedule.words import join_words

_UNITS = {
    "second": 1,
    "sec": 1,
    "minute": 60,
    "min": 60,
    "hour": 3600,
    "day": DAY_S,
    "week": 7 * DAY_S,
}
_EVERY_HINT = "write every 10 seconds, every 5 minutes, every 2 hours, every 3 days or every minute"
# Go's time.Duration ends here: 292 years.
_LONGEST_US = ((1 << 63) - 1) // 1000
_INTERVAL = re.compile(r"([0-9]{1,4}):([0-9]{2})(?::([0-9]{2}))?")


def parse_every(options: Options, rest: str, at: int) -> Schedule:
    """``@every <Go duration>``."""
    if not rest:
        options.fail(max(at - 1, 0), "@every has no duration", "write @every 1h30m")
    return _interval(options, parse_go_duration(options, rest, at), at)


def _interval(options: Options, us: int, at: int) -> EverySchedule:
    if us <= 0:
        options.fail(at, "the interval is not positive", "give at least 1 second, such as 1s")
    if us < SECOND_US and not options.sub_second:
        options.fail(
            at,
            "the interval is below 1 second",
            "give at least 1s, or enable sub-second schedules",
        )
    if us > _LONGEST_US:
        options.fail(at, "the interval is longer than 292 years", "give a shorter one")
    return EverySchedule(options.identity, us, options.anchor_us)


def _every_words(options: Options, word: str, rest: str, at: int) -> Schedule:
    """``every 10 seconds``, ``every minute``, ``every 1h30m``, ``every monday at 10:00``."""
    words = rest.lower().split()
    if len(words) == 1 and words[0] in _UNITS:
        return _interval(options, _UNITS[words[0]] * SECOND_US, at)
    if words and words[0].removesuffix(",").split(",")[0] in WEEKDAY.names:
        return _weekday(options, word, rest, at)
    if len(words) == 1 and re.match(r"[0-9.]", words[0]):
        return _interval(options, parse_go_duration(options, rest, at), at)
    if len(words) != 2:
        options.fail(at, "can't read what follows 'every'", _EVERY_HINT)
    number, unit = words
    if not re.fullmatch(r"[0-9]{1,12}", number):
        options.fail(at, f"{number[:20]!r} is not a whole number", _EVERY_HINT)
    size = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    if size is None:
        close = difflib.get_close_matches(unit[:20], [f"{one}s" for one in _UNITS], 1)
        hint = f"did you mean {close[0]}?" if close else _EVERY_HINT
        options.fail(at + rest.lower().rindex(unit), f"unknown unit {unit[:20]!r}", hint)
    return _interval(options, int(number) * size * SECOND_US, at)


def _interval_text(options: Options, _word: str, rest: str, at: int) -> Schedule:
    """``interval 05:30`` is MM:SS, ``interval 01:05:30`` is HH:MM:SS."""
    match = _INTERVAL.fullmatch(rest)
    if match is None or int(match[3] or match[2]) > 59 or (match[3] and int(match[2]) > 59):
        options.fail(
            at,
            f"can't read the interval {rest[:20]!r}",
            "write MM:SS such as 05:30, or HH:MM:SS such as 01:00:00",
        )
    first, second, third = int(match[1]), int(match[2]), match[3]
    seconds = first * 60 + second if third is None else first * 3600 + second * 60 + int(third)
    return _interval(options, seconds * SECOND_US, at)


def _clock_schedule(
    options: Options, rule: DayRule, times: tuple[int, ...], words: str
) -> WallSchedule:
    """Fixed local times on the days of a rule."""
    return WallSchedule(
        options.identity,
        options.zone,
        DayTable(rule),
        ListTimes(times),
        gap=options.gap,
        overlap=options.overlap,
        words=lambda: words,
    )


def _times(options: Options, _word: str, rest: str, at: int) -> Schedule:
    """``times 02:00,14:30:15``: every day at each of these times."""
    found = set()
    position = at
    for part in rest.split(","):
        shift = len(part) - len(part.lstrip())
        if not part.strip():
            hint = "write times 02:00,14:30:15, without empty items"
            options.fail(position, "a time is missing", hint)
        found.add(parse_clock(options, part.strip(), position + shift, halves=False))
        position += len(part) + 1
    times = tuple(sorted(found))
    shown = [clock_words(time) for time in times]
    return _clock_schedule(options, DayRule(), times, f"every day at {join_words(shown)}")


def clock_words(second: int) -> str:
    """A second of the day as ``HH:MM`` or ``HH:MM:SS``."""
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    return f"{text}:{second % 60:02}" if second % 60 else text


def _period(options: Options, word: str, rest: str, at: int) -> Schedule:
    """``daily``, ``weekly``, ``monthly``: the start of each, or ``daily at 02:00``."""
    match = re.fullmatch(r"at\s+(.+)", rest, re.IGNORECASE)
    if rest and match is None:
        options.fail(at, f"can't read what follows {word!r}", f"write {word}, or {word} at 02:00")
    time = parse_clock(options, match[1], at + match.start(1)) if match else 0
    days, weekdays, which = ALL_DAYS, ALL_WEEKDAYS, "every day"
    if word == "weekly":
        weekdays = 1 << options.week_start
        which = f"every {WEEKDAYS[options.week_start].capitalize()}"
    if word == "monthly":
        days, which = 1 << 1, "on the 1st of every month"
    rule = DayRule(days=days, weekdays=weekdays)
    return _clock_schedule(options, rule, (time,), f"{which} at {clock_words(time)}")


def _weekday(options: Options, _word: str, rest: str, at: int) -> Schedule:
    """``monday at 10:00PM``, ``on monday,friday at 22:00``."""
    match = re.fullmatch(r"(\S+(?:\s*,\s*\S+)*?)(?:\s+at\s+(.+))?", rest, re.IGNORECASE)
    if match is None:
        options.fail(at, "can't read this as a weekday and a time", "write monday at 10:00PM")
    mask = 0
    for part in re.finditer(r"[^\s,]+", match[1]):
        value = WEEKDAY.names.get(part[0].lower())
        if value is None:
            close = difflib.get_close_matches(part[0].lower()[:20], WEEKDAYS, 1)
            hint = f"did you mean {close[0]}?" if close else "write monday at 10:00PM"
            options.fail(at + part.start(), f"unknown weekday {part[0][:20]!r}", hint)
        mask |= 1 << value
    if match[2] is None:
        options.fail(at + len(rest), "the time is missing", f"write {match[1]} at 10:00PM")
    time = parse_clock(options, match[2].strip(), at + match.start(2))
    names = [WEEKDAYS[day % 7].capitalize() for day in range(1, 8) if mask >> (day % 7) & 1]
    words = f"every {join_words(names)} at {clock_words(time)}"
    return _clock_schedule(options, DayRule(weekdays=mask), (time,), words)


def parse_at(options: Options, rest: str, at: int) -> Schedule:
    """``@at <ISO 8601>``: once; a local time without offset is read in the schedule's zone."""
    hint = "write @at 2026-10-25T02:30:00Z, or a local time without offset"
    if not rest:
        options.fail(max(at - 1, 0), "@at has no time", hint)
    try:
        if not rest.isascii():
            raise ValueError(rest)
        instant = datetime.fromisoformat(rest)
    except ValueError:
        options.fail(at, f"can't read {rest[:40]!r} as an ISO 8601 time", hint)
    if instant.tzinfo is not None:
        found: tuple[int, ...] = (to_us(instant),)
    else:
        found = _local_instants(options, to_us(instant.replace(tzinfo=UTC)), at)
    if not found or not all(MIN_S * SECOND_US <= one < MAX_US for one in found):
        options.fail(at, "the time lies outside the years 1900 to 9999", hint)
    return AtSchedule(options.identity, found)


def _local_instants(options: Options, local_us: int, at: int) -> tuple[int, ...]:
    """The instants at which the zone's clocks show a time: one, two, or none inside a gap."""
    seconds, gap_end = options.zone.instants(local_us // SECOND_US)
    found = [one * SECOND_US + local_us % SECOND_US for one in seconds]
    if len(found) > 1 and options.overlap != "both":
        return (found[0] if options.overlap == "first" else found[-1],)
    if not found and gap_end is not None:
        if options.gap:
            return (gap_end * SECOND_US,)
        options.fail(
            at,
            f"this local time does not exist in {options.zone.name}: clocks go forward",
            "give an offset such as 2026-03-29T02:30:00+01:00, or dst gap run_after",
        )
    return tuple(found)


Form = Callable[[Options, str, str, int], Schedule]
FORMS: dict[str, Form] = {
    "every": _every_words,
    "interval": _interval_text,
    "times": _times,
    "daily": _period,
    "weekly": _period,
    "monthly": _period,
    "on": _weekday,
}
