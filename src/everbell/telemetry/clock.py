"""The real clock and real chance: the only module that reads them."""

from __future__ import annotations

import asyncio
import secrets
import time


class SystemClock:
    """The clock of the machine (``everbell.ports.clock.Clock``)."""

    def now_us(self) -> int:
        """Return the wall clock in microseconds since the epoch, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait at least ``seconds`` by the monotonic clock; zero or less only yields."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        end = time.monotonic() + seconds
        # A loop timer may fire up to its resolution too early.
        while (left := end - time.monotonic()) > 0:  # noqa: ASYNC110  (it is the clock)
            await asyncio.sleep(left)


class SystemEntropy:
    """Chance fit for secrets (``everbell.ports.clock.Entropy``)."""

    def token_bytes(self, length: int) -> bytes:
        """Return ``length`` random bytes from the operating system."""
        return secrets.token_bytes(length)
