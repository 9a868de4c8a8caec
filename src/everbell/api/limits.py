"""What one caller may take: requests per second by key, and followed outputs at once.

Counted in this process: each node of a cluster grants the same again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from everbell.config.schema import Api
from everbell.domain.errors import UserError

MAX_BUCKETS = 10_000
"""Callers remembered; the one not seen for longest is forgotten first."""


class RateLimited(UserError):
    """The caller asks too often, or holds too many streams; ``retry_after_s`` tells when."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, *, hint: str, retry_after_s: float) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Limits:
    """Token buckets by caller, and the number of followers. Lives as long as the application."""

    def __init__(self, settings: Api) -> None:
        self._rate = settings.rate_limit
        self._burst = max(float(settings.rate_burst), 1.0)
        self._most_followers = settings.max_followers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.followers = 0

    def take(self, caller: str, now_s: float) -> None:
        """Take one token of the caller's bucket. Raises RateLimited.

        ``now_s`` is monotonic. A bucket holds ``rate_burst`` and gains ``rate_limit`` a second;
        a limit of 0 counts nothing.
        """
        if not self._rate:
            return
        tokens, since_s = self._buckets.get(caller, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - since_s) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now_s)
        self._buckets.move_to_end(caller)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimited(
                f"more than {self._rate:g} requests a second with one key",
                hint="wait as long as retry-after says (settings api.rate_limit, api.rate_burst);"
                " many jobs fit into one POST /jobs",
                retry_after_s=(1.0 - tokens) / self._rate,
            )

    def check_followers(self) -> None:
        """Raise RateLimited if no more outputs can be followed."""
        if self.followers >= self._most_followers:
            raise RateLimited(
                f"{self.followers} outputs are being followed already",
                hint="try again later, or read without follow (setting api.max_followers)",
                retry_after_s=5.0,
            )

    @contextmanager
    def following(self) -> Iterator[None]:
        """Count one follower while the block runs."""
        self.followers += 1
        try:
            yield
        finally:
            self.followers -= 1


def retry_after(error: RateLimited) -> str:
    """Return the header's value: whole seconds, at least 1."""
    return str(max(1, math.ceil(error.retry_after_s)))
