"""Warnings about cron texts that are legal and often not what was meant."""

from __future__ import annotations

import re

from everbell.domain.schedule import fields
from everbell.domain.schedule.days import month_length
from everbell.domain.schedule.fields import Field

_SPANS = {"second": 60, "minute": 60, "hour": 24}
_AROUND = {"second": "minute", "minute": "hour", "hour": "day"}


def lint_cron(parsed: tuple[Field, ...], *, six: bool = False) -> tuple[str, ...]:
    """The warnings for parsed cron fields, most important first; ``six``: that many were given."""
    warnings = [*_and_or(parsed[3], parsed[5]), *_seconds_first(parsed, six=six)]
    for field in parsed[:3]:
        warnings += _uneven(field)
    warnings += _days(parsed[3], parsed[4], parsed[5])
    second, minute, hour = parsed[:3]
    if second.every and minute.every and hour.every:
        warnings.append("runs every second: is the first field meant to be a minute?")
    elif minute.text == "*" and not hour.every and second.mask.bit_count() == 1:
        warnings.append(f"runs every minute of the hour field {hour.text}: write 0 as minute?")
    return tuple(warnings)


def _and_or(day: Field, weekday: Field) -> list[str]:
    if day.every or weekday.every:
        return []
    if day.star or weekday.star:
        why = "must match, because one of them starts with *"
        return [f"day of month {day.text} AND day of week {weekday.text} {why}"]
    why = "is enough, because neither starts with *"
    return [f"day of month {day.text} OR day of week {weekday.text} {why}"]


def _uneven(field: Field) -> list[str]:
    span = _SPANS[field.kind.name]
    found = []
    for first, last, step in field.steps:
        if step > last - first and step > 1:
            found.append(f"the step {step} is larger than its range: only {first} is left")
        elif last == field.kind.high and first < step and span % step:
            found.append(
                f"{field.text} is uneven: the step {step} starts again at every "
                f"{_AROUND[field.kind.name]}; for an even rhythm use every {step} "
                f"{field.kind.name}s"
            )
    return found


def _seconds_first(parsed: tuple[Field, ...], *, six: bool) -> list[str]:
    """Six fields are read as seconds first; elsewhere the sixth is a year, or there is none."""
    second, minute, hour = parsed[:3]
    if not six or second.mask.bit_count() == 1 or (second.every and minute.every and hour.every):
        return []
    first = f"six fields begin with seconds: this runs at {second.mask.bit_count()} seconds"
    return [f"{first} of each matching minute; for minutes give five fields"]


def _days(day: Field, month: Field, weekday: Field) -> list[str]:
    found = []
    if any(step > 1 for _, _, step in day.steps):
        found.append(f"{day.text} as day of month starts again on the 1st of each month")
    found += _short_months(day, month)
    if re.search(r"(?<![0-9#/])7", weekday.text):
        found.append(
            "7 is Sunday here, as is 0; some schedulers count 1 as Sunday and 7 as Saturday"
        )
    for first, last, step in weekday.steps:
        if last == fields.WEEKDAY.high and first > 0 and (7 - first) % step == 0:
            found.append(f"{weekday.text} as day of week includes Sunday, as 7")
    return found


def _short_months(day: Field, month: Field) -> list[str]:
    """Days 29 to 31 that were named, and months that do not have them."""
    if day.star or day.every:
        return []
    # 15-31 or 28,29,30,31 means "to the end": only a day without the one before it was named.
    named = [one for one in day.values() if one >= 29 and not day.mask >> (one - 1) & 1]
    for one in named:
        short = [each for each in month.values() if month_length(2025, each) < one]
        if one == 29 and short == month.values():
            return ["29 February exists in leap years only: L is the last day"]
        if short:
            some = "every month" if month.every else f"all of month {month.text}"
            return [f"day of month {one} does not exist in {some}: L is the last day"]
    return []
