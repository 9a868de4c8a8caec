"""Cron texts with 5, 6 or 7 fields, in the dialect of docs/reference/cron-dialect.md."""

from __future__ import annotations

import difflib
import re
from functools import partial

from everbell.domain.schedule import fields
from everbell.domain.schedule.clock_times import MaskTimes
from everbell.domain.schedule.days import DayRule, DayTable
from everbell.domain.schedule.describe import describe_cron
from everbell.domain.schedule.fields import Field, FieldParser
from everbell.domain.schedule.lint import lint_cron
from everbell.domain.schedule.options import Options
from everbell.domain.schedule.wall import WallSchedule

DESCRIPTORS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_OTHERS = ("@every", "@at", "@reboot")
_ORDER = (
    fields.SECOND,
    fields.MINUTE,
    fields.HOUR,
    fields.DAY,
    fields.MONTH,
    fields.WEEKDAY,
    fields.YEAR,
)
_FORMS = (
    "write 5 fields (minute hour day month weekday) such as */5 * * * *, or @every 1h30m, "
    "every 10 seconds, times 02:00,14:30, daily, monday at 22:00"
)


def parse_descriptor(options: Options, word: str, at: int) -> WallSchedule:
    """A schedule such as ``@daily``; names are case-sensitive, as in cron."""
    cron = DESCRIPTORS.get(word)
    if cron is None:
        if word == "@reboot":
            options.fail(
                at,
                "@reboot has no time: a server's start is not a slot",
                "use a cron text or @every, and run the job by hand after a restart",
            )
        lowered = word.lower()
        known = (*DESCRIPTORS, *_OTHERS[:2])
        close = difflib.get_close_matches(lowered[:20], known, 1, 0.6)
        case = " (descriptors are lower case)" if lowered in known else ""
        hint = f"did you mean {close[0]}?{case}" if close else "known: " + ", ".join(known)
        options.fail(at, f"unknown descriptor {word[:20]!r}", hint)
    return build_cron(options, _split(cron, 0), cron)


def parse_cron(options: Options, body: str, at: int) -> WallSchedule:
    """A schedule from cron fields; ``at`` is the position of ``body`` in the text."""
    words = _split(body, at)
    if not 5 <= len(words) <= 7:
        _wrong_count(options, words, at)
    return build_cron(options, words, options.text)


def _split(body: str, at: int) -> list[tuple[str, int]]:
    return [(match[0], at + match.start()) for match in re.finditer(r"\S+", body)]


def _wrong_count(options: Options, words: list[tuple[str, int]], at: int) -> None:
    count = len(words)
    if count == 0:
        options.fail(at, "the schedule is empty", _FORMS)
    if re.match(r"[A-Za-z]{2,}", words[0][0]):
        options.fail(words[0][1], f"can't read {words[0][0][:20]!r} as a schedule", _FORMS)
    position = words[7][1] if count > 7 else words[-1][1]
    hint = _FORMS if count < 5 else "give the schedule only, without a command after it"
    options.fail(position, f"a cron text has 5, 6 or 7 fields, not {count}", hint)


def build_cron(options: Options, words: list[tuple[str, int]], whole: str) -> WallSchedule:
    """The schedule of split fields; a missing seconds field is 0, a missing year is ``*``."""
    six = len(words) == 6
    if len(words) == 5:
        words = [("0", 0), *words]
    parsed = tuple(
        FieldParser(kind, word, whole=whole, position=position, hash_key=options.hash_key).parse()
        for kind, (word, position) in zip(_ORDER, words, strict=False)
    )
    second, minute, hour = parsed[:3]
    # Debian cron: the first character of the minute and hour field decides, not the meaning.
    wild = minute.text.startswith("*") or hour.text.startswith("*")
    days = DayTable(day_rule(parsed))
    if not days.possible():
        _never(options, parsed)
    return WallSchedule(
        options.identity,
        options.zone,
        days,
        MaskTimes(second.mask, minute.mask, hour.mask),
        gap=options.gap and not wild,
        overlap="both" if wild else options.overlap,
        words=partial(describe_cron, parsed),
        lint=partial(lint_cron, parsed, six=six),
    )


def day_rule(parsed: tuple[Field, ...]) -> DayRule:
    """The day part of seven (or six) parsed fields."""
    day, month, weekday = parsed[3:6]
    year = parsed[6] if len(parsed) > 6 else None
    return DayRule(
        days=day.mask,
        weekdays=weekday.mask,
        months=month.mask,
        years=() if year is None or year.every else tuple(year.values()),
        from_end=day.from_end,
        nearest=day.nearest,
        nth=weekday.nth,
        both=day.star or weekday.star,
    )


def _never(options: Options, parsed: tuple[Field, ...]) -> None:
    day, month = parsed[3], parsed[4]
    names = ", ".join(fields.MONTHS[value - 1].capitalize() for value in month.values())
    message = f"this date never occurs: day of month {day.text} in {names}"
    if len(parsed) > 6 and not parsed[6].every:
        message += f" of {parsed[6].text}"
    hint = "for the last day of a month write L, such as 0 0 L * *"
    options.fail(day.position, message, hint)
