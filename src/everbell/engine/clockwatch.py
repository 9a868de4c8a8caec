"""Judges a node's wall clock: against the store's, and against time that can't be set."""

from __future__ import annotations

import logging

from everbell.domain.job import US
from everbell.domain.notice import Moment
from everbell.ports.clock import Clock

log = logging.getLogger(__name__)

BEATS = 2
"""So many looks in a row must be bad: one may be a pause between two readings."""
SHORT_S = 0.25
"""A request that lasted longer tells too little of the store's clock."""
PACE_S = 0.25
"""Seconds by which wall and monotonic clock may part between two looks."""
LEAST_S = 0.5
"""Two looks closer together than this are not compared."""
MEND = "set the clock (NTP)"


class ClockWatch:
    """``trouble`` says what is wrong with the wall clock, "" = nothing; it goes by itself.

    ``offset_s`` is the store's clock minus the node's, None as long as it is not known.
    """

    def __init__(self, clock: Clock, most_s: float) -> None:
        self._clock = clock
        self._most_s = most_s
        self._before: Moment | None = None
        # Nothing is known of the clock at the start: it has to be right at the first look.
        self._bad = BEATS - 1
        self.offset_s: float | None = None
        self.trouble = ""

    def now(self) -> Moment:
        """Read both clocks."""
        return Moment(self._clock.now_us(), round(self._clock.monotonic() * US))

    def looked(self, begun: Moment, store_us: int | None) -> None:
        """Judge at the end of a request begun at ``begun``; ``store_us`` is the store's clock."""
        ended = self.now()
        said = self._pace(ended)
        if said is None:
            return
        said = said or self._offset(begun, ended, store_us)
        self._bad = self._bad + 1 if said else 0
        trouble = said if self._bad >= BEATS else ""
        if trouble and not self.trouble:
            log.error("clock: %s", trouble)
        elif self.trouble and not trouble:
            log.warning("the clock is right again")
        self.trouble = trouble

    def _pace(self, now: Moment) -> str | None:
        """Compare with the look before; None if that was just now."""
        before = self._before
        if before is None:
            self._before = now
            return ""
        passed_s = (now.monotonic_us - before.monotonic_us) / US
        if passed_s < LEAST_S:
            return None
        self._before = now
        shown_s = (now.wall_us - before.wall_us) / US
        if abs(shown_s - passed_s) <= max(PACE_S, self._most_s):
            return ""
        return f"it went {shown_s:.1f} s in {passed_s:.1f} s; {MEND}"

    def _offset(self, begun: Moment, ended: Moment, store_us: int | None) -> str:
        """Compare with the store's clock, which was read about in the middle of the request."""
        lasted_s = (ended.monotonic_us - begun.monotonic_us) / US
        if store_us is None or lasted_s > SHORT_S:
            return ""
        self.offset_s = (store_us - (begun.wall_us + ended.wall_us) / 2) / US
        if abs(self.offset_s) - lasted_s / 2 <= self._most_s:
            return ""
        return (
            f"off by {-self.offset_s:+.2f} s from the database's clock; {MEND},"
            f" or raise node.max_clock_offset ({self._most_s:g})"
        )
