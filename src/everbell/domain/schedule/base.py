"""What every schedule can do, and the wrapper that adds bounds and jitter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from everbell.domain.errors import UserError

SECOND_US = 1_000_000
DAY_S = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_ORDINAL = EPOCH.toordinal()
# Local time may differ from UTC by up to a day: stay clear of both ends of `datetime`.
MIN_S = -2_208_988_800  # 1900-01-01
MAX_S = 253_402_214_400  # 9999-12-31
MAX_US = MAX_S * SECOND_US
LINT_FROM_US = 1_735_689_600 * SECOND_US
"""2025-01-01: from when on clock changes are looked for where nobody says what time it is."""
_US = timedelta(microseconds=1)


class NaiveDatetimeError(UserError, ValueError):
    """A datetime without a zone was given where an instant is needed."""

    code = "naive_datetime"


def to_us(instant: datetime) -> int:
    """Epoch microseconds of an aware datetime.

    Raises:
        NaiveDatetimeError: the datetime has no zone.
    """
    if instant.utcoffset() is None:
        raise NaiveDatetimeError(
            f"{instant.isoformat()} has no time zone",
            hint="give an aware datetime, such as datetime(2026, 3, 29, tzinfo=ZoneInfo('UTC'))",
        )
    return (instant - EPOCH) // _US


class Schedule(ABC):
    """When a job runs: an endless or finite rising series of instants, called slots.

    Immutable, hashable, equal when made from equal arguments. All instants are ``int``
    microseconds since the Unix epoch; ``slots`` and ``previous`` speak aware datetimes.
    """

    __slots__ = ("_key", "_text", "_tz")

    def __init__(self, text: str, tz: str, key: tuple[Any, ...]) -> None:
        self._text = text
        self._tz = tz
        self._key = key

    @property
    def text(self) -> str:
        """The text as it was given."""
        return self._text

    @property
    def tz(self) -> str:
        """IANA name of the zone that the text is read in (a ``CRON_TZ=`` prefix wins)."""
        return self._tz

    @property
    def key(self) -> tuple[Any, ...]:
        """The arguments it was made from: equal keys are equal schedules."""
        return self._key

    @abstractmethod
    def next_us(self, after_us: int) -> int | None:
        """The first slot strictly after an instant; ``None``: never again."""

    @abstractmethod
    def previous_us(self, before_us: int) -> int | None:
        """The last slot strictly before an instant; ``None``: there was none."""

    @abstractmethod
    def describe(self) -> str:
        """The schedule in English words."""

    @abstractmethod
    def lint(self, after_us: int = LINT_FROM_US) -> list[str]:
        """Warnings about texts that are legal and often not what was meant.

        Clock changes are named that come after an instant, within ten years of it.
        """

    def rule(self) -> tuple[Any, ...]:
        """What decides the slots, whatever the words: equal rules have equal slots."""
        return self._key

    def core(self) -> tuple[Schedule, int]:
        """What lies under bounds, jitter and exclusions, and how far its slots are moved (us)."""
        return self, 0

    def slots_us(self, after_us: int, limit: int, until_us: int | None = None) -> list[int]:
        """Up to ``limit`` slots strictly after one instant and not later than another."""
        found: list[int] = []
        step = self.next_us
        at = step(after_us) if limit > 0 else None
        while at is not None and (until_us is None or at <= until_us):
            found.append(at)
            if len(found) >= limit:
                break
            at = step(at)
        return found

    def slots(self, after: datetime, limit: int) -> list[datetime]:
        """The next slots strictly after an aware datetime, in the schedule's zone.

        Raises:
            NaiveDatetimeError: ``after`` has no zone.
        """
        zone = ZoneInfo(self._tz)
        return [aware(at, zone) for at in self.slots_us(to_us(after), limit)]

    def previous(self, before: datetime, limit: int) -> list[datetime]:
        """The last slots strictly before an aware datetime, newest first, in the zone.

        Raises:
            NaiveDatetimeError: ``before`` has no zone.
        """
        zone = ZoneInfo(self._tz)
        found: list[datetime] = []
        at = self.previous_us(to_us(before))
        while at is not None and len(found) < limit:
            found.append(aware(at, zone))
            at = self.previous_us(at)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<Schedule {self._text!r} tz={self._tz}>"


def aware(at_us: int, zone: ZoneInfo) -> datetime:
    """The aware datetime of an instant, in a zone."""
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(zone)


class BoundedSchedule(Schedule):
    """A schedule shifted by a stable jitter and cut to ``[start_us, end_us]``, both inclusive.

    The slot *is* the shifted instant, and the bounds hold for it: no slot lies outside.
    """

    __slots__ = ("_end", "_inner", "_shift", "_start")

    def __init__(
        self, inner: Schedule, *, start_us: int | None, end_us: int | None, shift_us: int
    ) -> None:
        super().__init__(inner.text, inner.tz, (*inner.key, start_us, end_us, shift_us))
        self._inner = inner
        self._start = start_us
        self._end = end_us
        self._shift = shift_us

    def core(self) -> tuple[Schedule, int]:
        """What lies under the bounds, and how far its slots are moved (us)."""
        return self._inner, self._shift

    def next_us(self, after_us: int) -> int | None:
        """The first slot strictly after an instant; ``None``: never again."""
        if self._start is not None and after_us < self._start:
            after_us = self._start - 1
        at = self._inner.next_us(after_us - self._shift)
        if at is None:
            return None
        at += self._shift
        return at if self._end is None or at <= self._end else None

    def previous_us(self, before_us: int) -> int | None:
        """The last slot strictly before an instant; ``None``: there was none."""
        if self._end is not None and before_us > self._end:
            before_us = self._end + 1
        at = self._inner.previous_us(before_us - self._shift)
        if at is None:
            return None
        at += self._shift
        return at if self._start is None or at >= self._start else None

    def describe(self) -> str:
        """The schedule in English words."""
        words = self._inner.describe()
        if self._shift:
            words += f", {self._shift / SECOND_US:g} seconds late (jitter)"
        if self._start is not None:
            words += f", from {_utc(self._start)}"
        if self._end is not None:
            words += f", until {_utc(self._end)}"
        return words

    def lint(self, after_us: int = LINT_FROM_US) -> list[str]:
        """Warnings of the inner schedule, and one if the bounds leave no slot."""
        warnings = self._inner.lint(after_us)
        if self.next_us(MIN_S * SECOND_US) is None:
            warnings.append("no slot lies between the start and the end: this never runs")
        return warnings


def _utc(at_us: int) -> str:
    try:
        return (EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except OverflowError:
        return f"{at_us} us"
