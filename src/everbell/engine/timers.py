"""One heap and one timer for all claimed runs of a node."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable

import msgspec

from everbell.domain.job import US
from everbell.domain.notice import Moment, surely_claimed
from everbell.domain.run import Run, RunKey
from everbell.ports.clock import Clock

RECHECK_S = 1.0
"""The wall clock may jump while a timer runs, so it is read again at least this often."""


_Entry = tuple[int, int, int, int, int, RunKey]
"""Due (wall), slot, job, token, since when the claim is known here (monotonic), and the key.

In the order of numbers alone: thousands are due at one instant, and keys compare slowly.
"""


class Timers:
    """Holds runs until they are due by the wall clock, never early, and hands them to ``start``.

    ``look`` is when the node last looked at what was withdrawn. A run that may have been withdrawn
    since is kept back, and ``doubt`` called, until ``looked`` tells of the next look.
    """

    def __init__(self, clock: Clock, start: Callable[[list[Run]], None]) -> None:
        self._clock = clock
        self._start = start
        self.look = Moment(0, 0)
        self.doubt: Callable[[], None] = lambda: None
        self._heap: list[_Entry] = []
        self._doubted: list[_Entry] = []
        self._runs: dict[RunKey, Run] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._armed_us = 0

    def __len__(self) -> int:
        """Return how many runs wait."""
        return len(self._runs)

    def add(self, runs: Iterable[Run]) -> None:
        """Take runs; those that are due start in this call."""
        since_us = self._now().monotonic_us
        for run in runs:
            key = run.key
            self._runs[key] = run
            entry = (run.due_us, key.slot_us, key.job_id, run.token, since_us, key)
            heapq.heappush(self._heap, entry)
        self.fire()

    def looked(self, look: Moment) -> None:
        """Take note that all that was withdrawn before ``look`` was dropped."""
        self.look = look
        if self._doubted:
            for entry in self._doubted:
                heapq.heappush(self._heap, entry)
            self._doubted = []
            self.fire()

    def drop(self, keys: Iterable[RunKey]) -> list[Run]:
        """Forget runs and return those that were here."""
        return [run for key in keys if (run := self._runs.pop(key, None)) is not None]

    def flag(self, keys: Iterable[RunKey]) -> None:
        """Remember that the cancel of runs was asked for: they end when they are due."""
        for key in keys:
            if (run := self._runs.get(key)) is not None:
                self._runs[key] = msgspec.structs.replace(run, cancel_requested=True)

    def waiting(self) -> list[Run]:
        """Return all runs that wait."""
        return list(self._runs.values())

    def fire(self) -> None:
        """Start what is due and arm the timer for the next."""
        now = self._now()
        ready: list[Run] = []
        while self._heap and self._heap[0][0] <= now.wall_us:
            entry = heapq.heappop(self._heap)
            _, _, _, token, since_us, key = entry
            run = self._runs.get(key)
            if run is None or run.token != token:
                continue
            if surely_claimed(run, since_us, self.look, now):
                del self._runs[key]
                ready.append(run)
            else:
                self._doubted.append(entry)
        self._arm(now.wall_us)
        if self._doubted:
            self.doubt()
        if ready:
            self._start(ready)

    def _now(self) -> Moment:
        return Moment(self._clock.now_us(), int(self._clock.monotonic() * US))

    def close(self) -> None:
        """Stop the timer; the runs stay listed."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, now_us: int) -> None:
        while self._heap and self._heap[0][5] not in self._runs:
            heapq.heappop(self._heap)
        self.close()
        if self._heap:
            # Whole milliseconds, rounded up: event loops round down, and would come back at once.
            wait_ms = max(-(-(self._heap[0][0] - now_us) // 1000), 1)
            delay = min(wait_ms / 1000, RECHECK_S)
            self._handle = asyncio.get_running_loop().call_later(delay, self.fire)
