"""A slow and obviously correct cron: every minute of local time is looked at, one by one.

It shares nothing with the engine: its fields are plain sets that the generator made together with
the text, and its clock is ``ZoneInfo``. It also holds the random expressions and the list of nights
on which clocks change, for all tests of this folder.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)

# Zone and UTC day of a change: whole hours, 30 minutes, 45 minutes in odd places, two hours, at
# midnight, one minute past midnight, a whole day left out, and Ramadan.
NIGHTS = [
    ("Europe/Stockholm", "2026-03-29"),
    ("Europe/Stockholm", "2026-10-25"),
    ("America/New_York", "2025-03-09"),
    ("America/New_York", "2025-11-02"),
    ("Australia/Lord_Howe", "2024-04-06"),
    ("Australia/Lord_Howe", "2024-10-05"),
    ("Pacific/Chatham", "2024-09-28"),
    ("Pacific/Chatham", "2025-04-05"),
    ("Pacific/Apia", "2011-12-30"),
    ("America/Havana", "2025-03-09"),
    ("America/Havana", "2025-11-02"),
    ("Africa/Cairo", "2025-04-24"),
    ("Africa/Cairo", "2025-10-30"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/St_Johns", "2006-04-02"),
    ("America/St_Johns", "2006-10-29"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Antarctica/Troll", "2026-10-25"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("UTC", "2026-02-28"),
]


@dataclass(frozen=True)
class Expression:
    """A text and, as plain sets, what it means."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # Sunday is 0

    @property
    def fixed(self) -> bool:
        minute, hour, *_ = self.text.split()
        return not minute.startswith("*") and not hour.startswith("*")

    def matches(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours:
            return False
        if wall.month not in self.months:
            return False
        day = wall.day in self.days
        weekday = wall.isoweekday() % 7 in self.weekdays
        _, _, day_text, _, weekday_text = self.text.split()
        if day_text.startswith("*") or weekday_text.startswith("*"):
            return day and weekday
        return day or weekday


def _field(rng, low, high, *, top=None, plain=0.5):
    """Text and set of one random field."""
    top = high if top is None else top
    if rng.random() < plain:
        return "*", set(range(low, high + 1))
    texts, values = [], set()
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        shape = rng.randrange(5)
        first = rng.randint(low, top)
        last = rng.randint(first, top)
        step = rng.randint(1, max(2, (high - low) // 2))
        if shape == 0 and not texts:
            texts.append(f"*/{step}")
            values |= set(range(low, high + 1, step))
        elif shape == 1:
            texts.append(f"{first}/{step}")
            values |= set(range(first, top + 1, step))
        elif shape == 2 and last > first:
            texts.append(f"{first}-{last}/{step}")
            values |= set(range(first, last + 1, step))
        elif shape == 3 and last > first:
            texts.append(f"{first}-{last}")
            values |= set(range(first, last + 1))
        else:
            texts.append(str(first))
            values.add(first)
    return ",".join(texts), values


def random_expression(rng: random.Random, *, days: float = 0.4) -> Expression:
    """A random 5-field text; ``days`` is the share with restricted day fields."""
    restricted = rng.random() < days
    minute = _field(rng, 0, 59, plain=0.2)
    hour = _field(rng, 0, 23, plain=0.3)
    day = _field(rng, 1, 31, plain=0.5 if restricted else 1)
    month = _field(rng, 1, 12, plain=0.8 if restricted else 1)
    weekday = _field(rng, 0, 6, top=7, plain=0.5 if restricted else 1)
    text = " ".join(field[0] for field in (minute, hour, day, month, weekday))
    return Expression(
        text,
        frozenset(minute[1]),
        frozenset(hour[1]),
        frozenset(day[1]),
        frozenset(month[1]),
        frozenset(value % 7 for value in weekday[1]),
    )


@lru_cache(maxsize=64)
def walls(tz: str, first: datetime, minutes: int) -> tuple[tuple[datetime, datetime], ...]:
    """Pairs of UTC minute and wall time without zone."""
    zone = ZoneInfo(tz)
    pairs = []
    for index in range(minutes):
        at = first + index * MINUTE
        pairs.append((at, at.astimezone(zone).replace(tzinfo=None)))
    return tuple(pairs)


def brute_force(expression, tz, day, *, gap="run_after", overlap="first", days=3):
    """All slots from 24 hours before the UTC day ``day``, over ``days`` days."""
    first = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)
    # One more day in front, so that the rules know the night before.
    pairs = walls(tz, first - timedelta(days=1), (days + 2) * 1440)
    shown = {}
    for at, wall in pairs:
        shown.setdefault(wall, []).append(at)
    found = set()
    before = None
    for at, wall in pairs:
        if expression.matches(wall):
            times = shown[wall]
            first_or_second = at == (times[-1] if overlap == "second" else times[0])
            if not expression.fixed or overlap == "both" or first_or_second:
                found.add(at)
        if expression.fixed and gap == "run_after" and before is not None:
            missed = before + MINUTE
            while missed < wall:
                if expression.matches(missed):
                    found.add(at)
                    break
                missed += MINUTE
        before = wall
    return sorted(at for at in found if first < at <= first + timedelta(days=days))
