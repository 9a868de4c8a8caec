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
"""A request that lasted longer tells of the store's clock only what is certain."""
SLOW_LOOKS = 5
"""After so many of these in a row a clock that may be right is taken for right."""
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
        self._doubted = False
        self._judged = False
        self._slow = 0
        self.offset_s: float | None = None
        self.trouble = ""

    def now(self) -> Moment:
        """Read both clocks."""
        return Moment(self._clock.now_us(), round(self._clock.monotonic() * US))

    def sure(self) -> bool:
        """Return whether the clock goes as it did when it was judged.

        One that was set since then is in doubt until the store's clock tells that it is right now:
        an hour too far ahead, a node would decide the slots of an hour to come. Where the store has
        no clock of its own, that of this machine counts, whatever it says.
        """
        if self.offset_s is not None and self._before is not None and not self._doubted:
            self._doubted = abs(_parted_s(self._before, self.now())) > max(PACE_S, self._most_s)
        return not self._doubted

    def right(self) -> bool:
        """Return whether the clock is known to be right: who lives and what is old go by it."""
        return self._judged and not self.trouble and self.sure()

    def lag_us(self) -> int:
        """Return what is to be added to a clock that is off to get the store's; 0 = it is right."""
        return round(self.offset_s * US) if self.trouble and self.offset_s is not None else 0

    def looked(self, begun: Moment, store_us: int | None) -> None:
        """Judge at the end of a request begun at ``begun``; ``store_us`` is the store's clock."""
        ended = self.now()
        off = self._offset(begun, ended, store_us)
        if off is not None:
            self._doubted = bool(off)
        self._judged = self._judged or store_us is None or off is not None
        said = self._pace(ended)
        if said is None:
            return
        if not said and off is None and store_us is not None:
            return
        said = said or off or ""
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
        parted_s = _parted_s(before, now)
        if abs(parted_s) <= max(PACE_S, self._most_s):
            return ""
        return f"it went {passed_s + parted_s:.1f} s in {passed_s:.1f} s; {MEND}"

    def _offset(self, begun: Moment, ended: Moment, store_us: int | None) -> str | None:
        """Compare with the store's clock, which was read about in the middle of the request.

        None = nothing can be told.
        """
        lasted_s = (ended.monotonic_us - begun.monotonic_us) / US
        if store_us is None:
            return None
        offset_s = (store_us - (begun.wall_us + ended.wall_us) / 2) / US
        is_slow, may_be_right = lasted_s > SHORT_S, abs(offset_s) - lasted_s / 2 <= self._most_s
        self._slow = self._slow + 1 if is_slow else 0
        if is_slow and may_be_right and self._slow < SLOW_LOOKS:
            return None
        self.offset_s = offset_s
        if may_be_right:
            return ""
        return (
            f"off by {-self.offset_s:+.2f} s from the database's clock; {MEND},"
            f" or raise node.max_clock_offset ({self._most_s:g})"
        )


class MendedClock:
    """What requests go by: the store's clock while the node's own is off, else that.

    A run that is asked for now at such a node, or a job made there, must not wait for its clock.
    """

    def __init__(self, clock: Clock, watch: ClockWatch) -> None:
        self._clock = clock
        self._watch = watch

    def now_us(self) -> int:
        """See Clock.now_us."""
        return self._clock.now_us() + self._watch.lag_us()

    def monotonic(self) -> float:
        """See Clock.monotonic."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See Clock.sleep."""
        await self._clock.sleep(seconds)


def _parted_s(before: Moment, now: Moment) -> float:
    """Return by how many seconds the wall clock went further than time did."""
    shown_us, passed_us = now.wall_us - before.wall_us, now.monotonic_us - before.monotonic_us
    return (shown_us - passed_us) / US
