"""Warnings about cron texts that are legal and often not what was meant."""

from __future__ import annotations

from everbell.domain.schedule import fields
from everbell.domain.schedule.fields import Field

_SPANS = {"second": 60, "minute": 60, "hour": 24}
_AROUND = {"second": "minute", "minute": "hour", "hour": "day"}


def lint_cron(parsed: tuple[Field, ...]) -> tuple[str, ...]:
    """The warnings for parsed cron fields, most important first."""
    warnings = [*_and_or(parsed[3], parsed[5])]
    for field in parsed[:3]:
        warnings += _uneven(field)
    warnings += _days(parsed[3], parsed[5])
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


def _days(day: Field, weekday: Field) -> list[str]:
    found = []
    if any(step > 1 for _, _, step in day.steps):
        found.append(f"{day.text} as day of month starts again on the 1st of each month")
    plain = not (day.from_end or day.nearest)
    if plain and not day.star and day.mask & ((1 << 29) - 1) == 0:
        found.append(f"day of month {day.text} does not exist in every month: L is the last day")
    for first, last, step in weekday.steps:
        if last == fields.WEEKDAY.high and first > 0 and (7 - first) % step == 0:
            found.append(f"{weekday.text} as day of week includes Sunday, as 7")
    return found
