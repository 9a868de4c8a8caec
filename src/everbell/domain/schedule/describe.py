"""Cron fields in English."""

from __future__ import annotations

from everbell.domain.schedule import fields
from everbell.domain.schedule.fields import Field
from everbell.domain.schedule.words import join_words, ordinal

_MAX_TIMES = 6


def describe_cron(parsed: tuple[Field, ...]) -> str:
    """Parsed cron fields in English, without the zone."""
    words = _times(*parsed[:3]) + _days(parsed[3], parsed[5])
    if not parsed[4].every:
        words += " in " + _list([fields.MONTHS[one - 1].capitalize() for one in _values(parsed[4])])
    if len(parsed) > 6 and not parsed[6].every:
        words += " of " + _numbers(parsed[6])
    return words


def _values(field: Field) -> list[int]:
    return field.values()


def _times(second: Field, minute: Field, hour: Field) -> str:
    count = second.mask.bit_count() * minute.mask.bit_count() * hour.mask.bit_count()
    if count <= _MAX_TIMES:
        return "at " + join_words(
            [
                f"{h:02}:{m:02}" + (f":{s:02}" if second.mask != 1 else "")
                for h in _values(hour)
                for m in _values(minute)
                for s in _values(second)
            ]
        )
    parts = []
    if second.mask != 1:
        parts.append(_clock(second))
    if second.mask == 1 or not minute.every:
        parts.append(_clock(minute))
    if not hour.every:
        parts.append("of " + _clock(hour) if hour.steps else f"of the hours {_numbers(hour)}")
    elif not minute.every and _rhythm(minute) is None:
        parts.append("of every hour")
    return " ".join(parts)


def _clock(field: Field) -> str:
    name = field.kind.name
    if field.every:
        return f"every {name}"
    rhythm = _rhythm(field)
    if rhythm is not None:
        return f"every {rhythm} {name}s"
    plural = "s" if field.mask.bit_count() > 1 else ""
    return f"at {name}{plural} {_numbers(field)}"


def _rhythm(field: Field) -> int | None:
    """The step of a field that is one even ``*/n``."""
    span = field.kind.high + 1
    if len(field.steps) == 1 and field.text == f"*/{field.steps[0][2]}":
        step = field.steps[0][2]
        return step if span % step == 0 and step < span else None
    return None


def _numbers(field: Field) -> str:
    """Values with runs of three or more shortened: ``1, 9 to 17 and 20``."""
    return join_words([f"{a}" if a == b else f"{a} to {b}" for a, b in _runs(_values(field))])


def _runs(values: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][1] == value - 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return [one for a, b in runs for one in ([(a, b)] if b - a != 1 else [(a, a), (b, b)])]


def _list(names: list[str]) -> str:
    return join_words(names)


def _days(day: Field, weekday: Field) -> str:
    if day.every and weekday.every:
        return ""
    by_weekday = _weekdays(weekday)
    by_date = _dates(day)
    if day.every:
        return f" on {by_weekday}"
    if weekday.every:
        return f" on {by_date}"
    both = "if it is also" if day.star or weekday.star else "and also on"
    return f" on {by_date} {both} {by_weekday}"


def _weekdays(field: Field) -> str:
    names = [name.capitalize() for name in fields.WEEKDAYS]
    # Monday first, as people list them.
    values = sorted((value + 6) % 7 for value in _values(field))
    parts = []
    for a, b in _runs(values):
        first, last = names[(a + 1) % 7], names[(b + 1) % 7]
        parts.append(first if a == b else f"{first} to {last}")
    for value, k in field.nth:
        which = ordinal(k) if k else "last"
        parts.append(f"the {which} {names[value]} of the month")
    return join_words(parts)


def _dates(field: Field) -> str:
    parts = []
    for a, b in _runs(_values(field)):
        parts.append(ordinal(a) if a == b else f"{ordinal(a)} to {ordinal(b)}")
    for distance in field.from_end:
        last = "last day of the month"
        parts.append(last if distance == 0 else f"{distance} days before the {last}")
    for value in field.nearest:
        where = ordinal(value) if value else "last day"
        parts.append(f"weekday nearest the {where}" if value else "last weekday of the month")
    return "the " + join_words(parts)
