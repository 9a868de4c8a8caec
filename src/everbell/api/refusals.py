"""Logins that failed and requests that were refused: counted, logged, and slowed down.

Counted in this process, as are the other limits.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from everbell.api.limits import MAX_BUCKETS, RateLimited
from everbell.domain.errors import AuthenticationError, EverbellError, ForbiddenError

_log = logging.getLogger("everbell.api")
MINUTE_S = 60.0
LOG_EVERY_S = 10.0

Caller = tuple[str, str]
"""An address, and a key or nothing."""


class Refusals:
    """Failures of the last minute by address and by key. Lives as long as the application.

    An address with too many is answered 429 before its secrets are looked at; keys that were good
    from there go on, so that one bad client does not lock out others behind the same proxy.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._failures: OrderedDict[Caller, tuple[int, float]] = OrderedDict()
        self._good: OrderedDict[Caller, None] = OrderedDict()
        self._untold = 0
        self._told_s: float | None = None
        self.unauthenticated = 0
        self.forbidden = 0
        self.throttled = 0

    def check(self, address: str, key: str, now_s: float) -> None:
        """Raise RateLimited if there were too many failures."""
        if not self._most:
            return
        caller = (address, key) if (address, key) in self._good else (address, "")
        count, since_s = self._failures.get(caller, (0, now_s))
        if count >= self._most and now_s - since_s < MINUTE_S:
            self.throttled += 1
            raise RateLimited(
                f"{count} logins from this address failed within a minute",
                hint="wait as long as retry-after says, then use a good key"
                " (setting api.max_failures)",
                retry_after_s=MINUTE_S - (now_s - since_s),
            )

    def passed(self, address: str, key: str) -> None:
        """Take note of a login that was right."""
        if (address, key) not in self._good:
            self._good[address, key] = None
            if len(self._good) > MAX_BUCKETS:
                self._good.popitem(last=False)

    def failed(self, address: str, key: str, now_s: float) -> None:
        """Count a login that was wrong."""
        for caller in ((address, ""), (address, key)):
            count, since_s = self._failures.get(caller, (0, now_s))
            if now_s - since_s >= MINUTE_S:
                count, since_s = 0, now_s
            self._failures[caller] = (count + 1, since_s)
            self._failures.move_to_end(caller)
            if len(self._failures) > MAX_BUCKETS:
                self._failures.popitem(last=False)

    def note(self, error: EverbellError, request: str, address: str, now_s: float) -> None:
        """Count a refusal and log it, at most once in a while. Neither key nor secret is told."""
        if isinstance(error, AuthenticationError):
            self.unauthenticated += 1
        elif isinstance(error, ForbiddenError):
            self.forbidden += 1
        elif not isinstance(error, RateLimited):
            return
        if self._told_s is not None and now_s - self._told_s < LOG_EVERY_S:
            self._untold += 1
            return
        more = f" ({self._untold} more since the last such line)" if self._untold else ""
        _log.warning("refused %s from %s: %s%s", request, address or "?", error.message, more)
        self._told_s, self._untold = now_s, 0
