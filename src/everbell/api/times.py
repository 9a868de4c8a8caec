"""Times at the border: ISO 8601 text outside, whole microseconds since the epoch inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def iso(at_us: int | None) -> str | None:
    """Return ``2026-03-29T01:00:00Z``; a fraction only where there is one."""
    if at_us is None:
        return None
    instant = _EPOCH + timedelta(microseconds=at_us)
    return instant.replace(tzinfo=None).isoformat() + "Z"


def iso_in(at_us: int, zone: str) -> str:
    """Return the instant as local time with its offset."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(zone)).isoformat()


TIME_HINT = "such as 2026-03-29T01:00:00Z"
"""What a time that can't be read should look like."""


def parse_iso(text: str) -> int:
    """Read ISO 8601 with a zone, or a date (midnight UTC). Raises ValueError with the reason."""
    if len(text) > 40:
        raise ValueError("is no ISO 8601 time")
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("is no ISO 8601 time, such as 2026-03-29T01:00:00Z") from None
    if instant.tzinfo is None:
        if len(text.strip()) > 10:
            raise ValueError("has no zone: end it with Z, or an offset such as +02:00")
        instant = instant.replace(tzinfo=UTC)
    return (instant - _EPOCH) // _US
