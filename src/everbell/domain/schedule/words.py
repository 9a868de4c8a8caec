"""Small helpers for English."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = (
    ("day", 86_400_000_000),
    ("hour", 3_600_000_000),
    ("minute", 60_000_000),
    ("second", 1_000_000),
    ("millisecond", 1_000),
    ("microsecond", 1),
)
_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


def duration_words(us: int) -> str:
    """A duration in words: ``90_000_000`` gives ``1 minute 30 seconds``, one unit alone loses 1."""
    parts = []
    for name, size in _UNITS:
        count, us = divmod(us, size)
        if count:
            parts.append((count, name))
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return " ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in parts)


def join_words(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    if number % 100 not in {11, 12, 13}:
        return f"{number}{_ENDINGS.get(number % 10, 'th')}"
    return f"{number}th"
