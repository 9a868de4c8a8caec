"""A rate budget: a token bucket with a line in front of it, first come, first served. Pure.

Times are seconds of a monotonic clock, given by the caller.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

_WHOLE = 1.0 - 1e-6
"""Rounding must not leave a token forever short of one."""


class Budget:
    """``burst`` tokens at most, ``rate`` new ones a second; each grant takes one.

    Who finds no token stands in the line under a name of its own until it is granted or leaves.
    """

    __slots__ = ("_at_s", "_burst", "_line", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now_s: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = self._burst
        self._at_s = now_s
        self._line: OrderedDict[Hashable, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many stand in the line."""
        return len(self._line)

    def take(self, now_s: float) -> bool:
        """Take a token if there is one and nobody waits."""
        self._refill(now_s)
        if self._line or self._tokens < _WHOLE:
            return False
        self._tokens -= 1.0
        return True

    def wait_s(self, now_s: float) -> float:
        """Return how long one who joins the line now would wait, if nobody leaves it."""
        self._refill(now_s)
        return max(len(self._line) + 1 - self._tokens, 0.0) / self._rate

    def join(self, name: Hashable) -> None:
        """Stand in the line, at its end."""
        self._line[name] = None

    def leave(self, name: Hashable) -> None:
        """Leave the line; those behind move up. Unknown names are ignored."""
        self._line.pop(name, None)

    def grant(self, now_s: float) -> list[Hashable]:
        """Return those whose turn it is, first come first; each takes a token."""
        self._refill(now_s)
        granted: list[Hashable] = []
        while self._line and self._tokens >= _WHOLE:
            self._tokens -= 1.0
            granted.append(self._line.popitem(last=False)[0])
        return granted

    def next_s(self, now_s: float) -> float | None:
        """Return the seconds until the first in the line can be granted; None = nobody waits."""
        if not self._line:
            return None
        self._refill(now_s)
        return max(1.0 - self._tokens, 0.0) / self._rate

    def _refill(self, now_s: float) -> None:
        gained = max(now_s - self._at_s, 0.0) * self._rate
        self._tokens = min(self._burst, self._tokens + gained)
        self._at_s = max(self._at_s, now_s)
