"""Schedules on elapsed time: a fixed interval from an anchor, and single instants."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any
from zoneinfo import ZoneInfo

from everbell.domain.schedule.base import LINT_FROM_US, MAX_US, SECOND_US, Schedule, aware
from everbell.domain.schedule.words import duration_words


class EverySchedule(Schedule):
    """Slots at ``anchor + k * interval`` for k = 1, 2, ...: no drift, deaf to clock changes."""

    __slots__ = ("_anchor", "_interval")

    def __init__(
        self, identity: tuple[str, str, tuple[Any, ...]], interval_us: int, anchor_us: int
    ) -> None:
        super().__init__(*identity)
        self._interval = interval_us
        self._anchor = anchor_us

    @property
    def interval_us(self) -> int:
        """The interval in microseconds."""
        return self._interval

    def rule(self) -> tuple[Any, ...]:
        """What decides the slots, whatever the words."""
        return ("every", self._interval, self._anchor)

    def next_us(self, after_us: int) -> int | None:
        """The first slot strictly after an instant; ``None``: beyond the year 9999."""
        interval = self._interval
        steps = (after_us - self._anchor) // interval + 1
        at = self._anchor + interval * (steps if steps > 0 else 1)
        return at if at < MAX_US else None

    def previous_us(self, before_us: int) -> int | None:
        """The last slot strictly before an instant; ``None``: there was none."""
        steps = (min(before_us, MAX_US) - self._anchor - 1) // self._interval
        return self._anchor + steps * self._interval if steps > 0 else None

    def describe(self) -> str:
        """The schedule in English words."""
        return f"every {duration_words(self._interval)}"

    def lint(self, after_us: int = LINT_FROM_US) -> list[str]:  # noqa: ARG002
        """A warning about very short intervals."""
        if self._interval <= SECOND_US:
            return [f"runs every {duration_words(self._interval)}: is this meant?"]
        return []


class AtSchedule(Schedule):
    """One instant (or two, for a repeated local time with ``dst_overlap='both'``)."""

    __slots__ = ("_instants",)

    def __init__(
        self, identity: tuple[str, str, tuple[Any, ...]], instants_us: tuple[int, ...]
    ) -> None:
        super().__init__(*identity)
        self._instants = instants_us

    def rule(self) -> tuple[Any, ...]:
        """What decides the slots, whatever the words."""
        return ("at", self._instants)

    def next_us(self, after_us: int) -> int | None:
        """The first instant strictly after another; ``None``: it is over."""
        index = bisect_right(self._instants, after_us)
        return self._instants[index] if index < len(self._instants) else None

    def previous_us(self, before_us: int) -> int | None:
        """The last instant strictly before another; ``None``: there was none."""
        index = bisect_left(self._instants, before_us)
        return self._instants[index - 1] if index else None

    def describe(self) -> str:
        """The schedule in English words."""
        zone = ZoneInfo(self._tz)
        local = [aware(at, zone) for at in self._instants]
        shown = " and ".join(f"{one:%Y-%m-%d %H:%M:%S%z}" for one in local)
        return f"once, at {shown} ({self._tz})"

    def lint(self, after_us: int = LINT_FROM_US) -> list[str]:  # noqa: ARG002
        """No warnings: whether the instant has passed depends on the clock."""
        return []
