"""Time and chance, passed in so that tests and the simulation own them."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where all time comes from.

    - ``now_us`` is the wall clock: microseconds since the Unix epoch, UTC; it may jump.
    - ``monotonic`` never goes back; only differences mean anything; seconds.
    - ``sleep`` returns no earlier than ``seconds`` later, by the monotonic clock.
    """

    def now_us(self) -> int:
        """Return the wall clock in microseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less only yields."""
        ...


class Entropy(Protocol):
    """Where all randomness comes from.

    - ``token_bytes`` is fit for secrets in production, seeded in the simulation.
    """

    def token_bytes(self, length: int) -> bytes:
        """Return ``length`` random bytes."""
        ...
