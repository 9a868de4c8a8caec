"""A clock that goes only when a test says so."""

from __future__ import annotations

from everbell.domain.job import US

BASE_US = 1_700_000_000 * US


class HandClock:
    """Both clocks start at fixed values; ``stands`` stops the wall clock alone."""

    def __init__(self) -> None:
        self.at = 100.0
        self.wall = BASE_US
        self.stands = False

    def now_us(self) -> int:
        """Return the wall clock."""
        return self.wall

    def monotonic(self) -> float:
        """Return the other one."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.go(seconds)

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.at += seconds
        if not self.stands:
            self.wall += round(seconds * US)
