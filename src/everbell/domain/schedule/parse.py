"""The one entrance: from a text and a zone to a schedule."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule.base import MAX_US, SECOND_US, BoundedSchedule, Schedule
from everbell.domain.schedule.cron_parse import parse_cron, parse_descriptor
from everbell.domain.schedule.exclude import Calendar
from everbell.domain.schedule.excluding import ExcludingSchedule
from everbell.domain.schedule.fields import WEEKDAYS
from everbell.domain.schedule.forms import FORMS, parse_at, parse_every
from everbell.domain.schedule.options import Options
from everbell.domain.schedule.zones import get_zone

MAX_TEXT = 1000
_HASHED = re.compile(r"[hH~]")
_ANCHORED = re.compile(r"every|interval", re.IGNORECASE)
_PREFIX = re.compile(r"(?:CRON_TZ|TZ)=(\S*)")


def parse_schedule(  # noqa: PLR0913  (the public face: everything that decides slots)
    text: str,
    tz: str = "UTC",
    *,
    anchor_us: int | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    dst_gap: str = "run_after",
    dst_overlap: str = "first",
    hash_key: str = "",
    week_start: str = "monday",
    sub_second: bool = False,
    jitter_s: float = 0.0,
    exclude: Sequence[str] = (),
) -> Schedule:
    """Read a schedule text. Equal arguments give the same object (cached).

    Forms: cron with 5, 6 (seconds first) or 7 fields (year last), ``@daily`` and the like,
    ``@every 1h30m``, ``@at 2026-03-29T12:00``, ``every 10 seconds``, ``times 02:00,14:30:15``,
    ``interval 05:30``, ``daily|weekly|monthly``, ``monday at 10:00PM``; each may follow
    ``CRON_TZ=<zone>``. The rules: docs/reference/cron-dialect.md.

    Args:
        text: the schedule, at most 1000 characters.
        tz: IANA zone that the text is read in.
        anchor_us: where interval schedules count from; ``None`` is the Unix epoch.
        start_us: no slot before this instant.
        end_us: no slot after this instant.
        dst_gap: ``run_after`` or ``skip``, for fixed times that a clock change leaves out.
        dst_overlap: ``first``, ``second`` or ``both``, for fixed times that occur twice.
        hash_key: what ``H``, ``~`` and jitter are derived from, usually the job's identity.
        week_start: first day of the week, for ``weekly``.
        sub_second: allow intervals below one second.
        jitter_s: move every slot by a stable amount in ``[0, jitter_s)`` seconds.
        exclude: dates, ranges and windows without slots, on the clock of the schedule's zone:
            ``2026-12-25``, ``--12-25``, ``--12-24..--01-06``, ``sat,sun 22:00-06:00``.

    Raises:
        ScheduleError: with text, position and hint.
    """
    jitter_s = float(jitter_s)
    # Jobs that differ only in what their text does not use share one schedule.
    if not jitter_s and not _HASHED.search(text):
        hash_key = ""
    if not _ANCHORED.search(text):
        anchor_us = None
    return _parse(
        text, tz, anchor_us, start_us, end_us, dst_gap, dst_overlap, hash_key, week_start,
        sub_second, jitter_s, tuple(exclude),
    )  # fmt: skip


@lru_cache(maxsize=8192)
def _parse(*key: Any) -> Schedule:
    # fmt: off
    (text, tz, anchor_us, start_us, end_us, gap, overlap, hash_key, week_start, sub, jitter,
     exclude) = key
    # fmt: on
    _check_text(text)
    _choice(gap, "dst_gap", ("run_after", "skip"))
    _choice(overlap, "dst_overlap", ("first", "second", "both"))
    _choice(week_start, "week_start", WEEKDAYS)
    body, at, zone_name, zone_at = _prefix(text, tz)
    options = Options(
        text=text,
        zone=get_zone(zone_name, text, zone_at),
        key=key,
        anchor_us=anchor_us or 0,
        gap=gap == "run_after",
        overlap=overlap,
        hash_key=hash_key or text,
        week_start=WEEKDAYS.index(week_start),
        sub_second=sub,
    )
    schedule = _body(options, body, at)
    shift_us = _shift(jitter, hash_key or text)
    if start_us is not None or end_us is not None or shift_us:
        _check_bounds(start_us, end_us)
        schedule = BoundedSchedule(schedule, start_us=start_us, end_us=end_us, shift_us=shift_us)
    return ExcludingSchedule(schedule, Calendar(exclude, options.zone)) if exclude else schedule


def _body(options: Options, body: str, at: int) -> Schedule:
    word = body.split(None, 1)[0] if body else ""
    rest = body[len(word) :].lstrip()
    rest_at = at + len(body) - len(rest)
    if word == "@every":
        return parse_every(options, rest, rest_at)
    if word == "@at":
        return parse_at(options, rest, rest_at)
    if word.startswith("@"):
        if rest:
            options.fail(rest_at, f"nothing may follow {word[:20]}", f"write {word[:20]} alone")
        return parse_descriptor(options, word, at)
    form = FORMS.get(word.lower())
    if form is not None:
        return form(options, word.lower(), rest, rest_at)
    weekday = FORMS["on"]
    if re.search(r"\sat\s", body) or re.fullmatch(r"[a-z]+day", word.lower()):
        return weekday(options, "on", body, at)
    return parse_cron(options, body, at)


def _check_text(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise ScheduleError(
            f"the schedule is {len(text)} characters long",
            text=text[:80] + "...",
            position=80,
            hint=f"at most {MAX_TEXT} characters",
        )
    for index, one in enumerate(text):
        if not one.isprintable() and one not in "\t\n\r":
            raise ScheduleError(
                f"the schedule has the control character U+{ord(one):04X}",
                text="".join(c if c.isprintable() else " " for c in text),
                position=index,
                hint="use plain characters only",
            )


def _prefix(text: str, tz: str) -> tuple[str, int, str, int]:
    """Body, its position, zone name and the zone's position."""
    start = len(text) - len(text.lstrip())
    match = _PREFIX.match(text, start)
    if match is None:
        return text.strip(), start, tz, 0
    rest = text[match.end() :]
    body = rest.strip()
    name = match[1].strip("\"'")
    if not name or not body:
        raise ScheduleError(
            "the zone prefix has no zone" if not name else "no schedule follows the zone prefix",
            text=text,
            position=match.start(1) if not name else len(text.rstrip()),
            hint="write CRON_TZ=Europe/Stockholm 0 9 * * 1-5",
        )
    return body, match.end() + len(rest) - len(rest.lstrip()), name, match.start(1)


def _choice(value: str, name: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ScheduleError(
            f"{name} is {str(value)[:40]!r}",
            text=str(value)[:40],
            position=0,
            hint=f"{name} is one of: {', '.join(allowed)}",
        )


def _check_bounds(start_us: int | None, end_us: int | None) -> None:
    if start_us is not None and end_us is not None and end_us < start_us:
        raise ScheduleError(
            "the end lies before the start",
            text=f"{start_us} .. {end_us}",
            position=0,
            hint="give an end at or after the start",
        )


def _shift(jitter_s: float, hash_key: str) -> int:
    """A stable shift in ``[0, jitter_s)``, in microseconds."""
    if not (math.isfinite(jitter_s) and 0 <= jitter_s <= MAX_US / SECOND_US):
        raise ScheduleError(
            f"jitter is {jitter_s}",
            text=str(jitter_s),
            position=0,
            hint="jitter is a number of seconds, 0 or more",
        )
    width = int(jitter_s * SECOND_US)
    digest = hashlib.blake2b(f"{hash_key}\0jitter".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % width if width else 0
