"""A schedule without the slots that its exclusion calendar covers."""

from __future__ import annotations

from everbell.domain.schedule.base import (
    DAY_S,
    LINT_FROM_US,
    MAX_US,
    MIN_S,
    SECOND_US,
    Schedule,
)
from everbell.domain.schedule.exclude import Calendar
from everbell.domain.schedule.words import join_words

# Excluded stretches that one step looks past: ten years of one a day, about 20 ms.
ROUNDS = 4_000
# A step that meets nothing but excluded slots gives up after this time.
HORIZON_US = 40 * 366 * DAY_S * SECOND_US
_SHOWN = 5


class ExcludingSchedule(Schedule):
    """The slots of another schedule that lie outside a calendar; an excluded one is no slot."""

    __slots__ = ("_calendar", "_inner")

    def __init__(self, inner: Schedule, calendar: Calendar) -> None:
        super().__init__(inner.text, inner.tz, (*inner.key, calendar.entries))
        self._inner = inner
        self._calendar = calendar

    def core(self) -> tuple[Schedule, int]:
        """What lies under the exclusions, and how far its slots are moved (us)."""
        return self._inner.core()

    def next_us(self, after_us: int) -> int | None:
        """The first slot strictly after an instant; ``None``: never again, or not found."""
        step, around = self._inner.next_us, self._calendar.around
        at = step(after_us)
        if at is None:
            return None
        limit = at + HORIZON_US
        for _ in range(ROUNDS):
            stretch = around(at)
            if stretch is None:
                return at
            at = step(stretch[1] - 1)
            if at is None or at > limit:
                return at if at is not None and around(at) is None else None
        return None

    def previous_us(self, before_us: int) -> int | None:
        """The last slot strictly before an instant; ``None``: there was none, or not found."""
        step, around = self._inner.previous_us, self._calendar.around
        at = step(before_us)
        if at is None:
            return None
        limit = at - HORIZON_US
        for _ in range(ROUNDS):
            stretch = around(at)
            if stretch is None:
                return at
            at = step(stretch[0])
            if at is None or at < limit:
                return at if at is not None and around(at) is None else None
        return None

    def excluded_us(self, after_us: int, until_us: int, limit: int) -> list[int]:
        """Up to ``limit`` excluded instants after one instant and not later than another."""
        found: list[int] = []
        at = self._inner.next_us(after_us)
        for _ in range(ROUNDS):
            if at is None or at > until_us or len(found) >= limit:
                break
            if self._calendar.around(at) is not None:
                found.append(at)
            at = self._inner.next_us(at)
        return found

    def describe(self) -> str:
        """The schedule in English words."""
        entries = [one.strip() for one in self._calendar.entries]
        more = len(entries) - _SHOWN
        shown = entries if more <= 1 else [*entries[:_SHOWN], f"{more} more"]
        return f"{self._inner.describe()}, not in {join_words(shown)}"

    def lint(self, after_us: int = LINT_FROM_US) -> list[str]:
        """Warnings of the inner schedule, and one if nothing is left of it."""
        warnings = self._inner.lint(after_us)
        if self._inner.next_us(MIN_S * SECOND_US) is not None and not self._any():
            warnings.append("the exclusions leave no slot: this never runs")
        return warnings

    def _any(self) -> bool:
        first = self._inner.next_us(MIN_S * SECOND_US)
        last = self._inner.previous_us(MAX_US)
        return (first is not None and self.next_us(first - 1) is not None) or (
            last is not None and self.previous_us(last + 1) is not None
        )
