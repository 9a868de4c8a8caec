"""What nodes tell one another, and take from one another; losing any of it costs only time."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from everbell.domain.run import RunKey
from everbell.engine.service import Service
from everbell.ports.clock import Clock
from everbell.ports.queue import ReadyQueue
from everbell.ports.registry import Member, Registry
from everbell.ports.wakeups import WakeUps

GATHER_S = 0.02
"""Rings that follow one another so closely become one."""
IDLE_S = 3600.0
OFFERS_MAX = 20_000
"""Keys that wait to be offered; workers find the others in the store."""
TAKE_S = 1.0
FULL_S = 0.05
"""Pause while the node's own queue is full; a run that ends cuts it short."""
AWAY_S = 0.5
LAST_S = 1.0
"""For the last ring of a node that stops."""


class Lines(NamedTuple):
    """What a node is connected by besides the store; all of it may be missing, or fail."""

    ready: ReadyQueue | None = None
    wakeups: tuple[WakeUps, ...] = ()
    registry: Registry | None = None

    @property
    def trouble(self) -> str:
        """What is wrong and what to do; empty = nothing."""
        return "" if self.ready is None else self.ready.trouble


class Messenger(Service):
    """Offers handed-on runs to workers, wakes other nodes after a change, shows the node."""

    name = "messenger"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        lines: Lines,
        period_s: float = IDLE_S,
    ) -> None:
        super().__init__(clock, on_failure)
        self._queue = lines.ready
        self._wakeups = lines.wakeups
        self._registry = lines.registry
        self._period_s = period_s if lines.registry is not None else IDLE_S
        self._shown_at = -math.inf
        self.member: Callable[[], Member | None] = lambda: None
        self._keys: list[RunKey] = []
        self._ring = False

    def hand_on(self, keys: Iterable[RunKey]) -> None:
        """Offer queued runs to whoever works. Without a queue others are woken to look."""
        if self._queue is None:
            self.ring()
            return
        self._keys.extend(keys)
        del self._keys[OFFERS_MAX:]
        self.wake()

    def ring(self) -> None:
        """Wake the other nodes."""
        if self._wakeups:
            self._ring = True
            self.wake()

    async def step(self) -> float:
        """Tell what there is to tell."""
        keys, self._keys = self._keys, []
        if keys and self._queue is not None:
            await self._queue.offer(keys)
            # Workers that hear of no offers look into the store.
            self._ring = self._ring or not self._queue.healthy
        if self._ring:
            await self._ring_all()
            await self.clock.sleep(GATHER_S)
        await self._show()
        return 0.0 if self._keys or self._ring else self._period_s

    async def _ring_all(self) -> None:
        self._ring = False
        for wakeups in self._wakeups:
            await wakeups.ring()

    async def _show(self) -> None:
        now = self.clock.monotonic()
        if self._registry is None or now - self._shown_at < self._period_s / 2:
            return
        self._shown_at = now
        member = self.member()
        if member is not None:
            await self._registry.refresh(member, 3 * self._period_s)

    async def leave(self) -> None:
        """Tell what is not told yet, and take the node out of the registry."""
        if self._ring:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self._ring_all()
        member = self.member()
        if self._registry is not None and member is not None:
            await self._registry.leave(member.name)


class Intake(Service):
    """Takes offers while there is room, claims their runs in the store, and says so."""

    name = "intake"

    def __init__(
        self, clock: Clock, on_failure: Callable[[str, BaseException], None], queue: ReadyQueue
    ) -> None:
        super().__init__(clock, on_failure)
        self._queue = queue
        self.room: Callable[[], int] = lambda: 0
        self.claim: Callable[[Sequence[RunKey]], Awaitable[object]]

    async def step(self) -> float:
        """Take once."""
        room = self.room()
        if room <= 0:
            return FULL_S
        offers = await self._queue.take(room, TAKE_S)
        if offers:
            keys = [key for offer in offers for key in offer.keys]
            if self.room() > 0:
                # Not done before the claim: what a dying node took is offered to another one.
                await self.claim(keys)
            else:
                # The node may take nothing any more, since it waited: another one may.
                await self._queue.offer(keys)
            await self._queue.done(offers)
        return 0.0 if self._queue.healthy else AWAY_S
