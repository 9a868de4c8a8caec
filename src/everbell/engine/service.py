"""Base of a node's background services: quick start, idempotent stop, loud failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from everbell.domain.errors import StoreConflict, StoreUnavailable, StoreUnknownOutcome
from everbell.ports.clock import Clock

log = logging.getLogger(__name__)

RETRY_MAX_S = 1.0
TOLD = 8
"""Failures in a row that are logged; of those that follow, each 30th."""


class Wakeup:
    """An event that also ends a bounded wait; setting it twice is setting it once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the waiter, or the next one that comes."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return when set, or after ``seconds``; forget that it was set."""
        if seconds <= 0:
            # A store that answers at once must not keep the other services from running.
            await self._clock.sleep(0)
        elif not self._event.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._event.wait()
            except TimeoutError:
                pass
        self._event.clear()


class Service:
    """Runs ``step`` again and again in one task.

    ``step`` returns the seconds until it wants to run again; ``wake`` cuts that wait short.
    A store that is away is retried with growing pauses; any other error is a broken promise
    and is handed to ``on_failure``, which stops the node.
    """

    name = "service"
    retry_max_s = RETRY_MAX_S

    def __init__(self, clock: Clock, on_failure: Callable[[str, BaseException], None]) -> None:
        self.clock = clock
        self.wakeup = Wakeup(clock)
        self.healthy = True
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """End and wait for the end. May be called twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise

    def wake(self) -> None:
        """Make the next step run now."""
        self.wakeup.set()

    async def step(self) -> float:
        """Do one pass; return the seconds until the next."""
        raise NotImplementedError

    async def _run(self) -> None:
        pause, failures = 0.05, 0
        while True:
            try:
                delay = await self.step()
                pause, failures, self.healthy = 0.05, 0, True
            except (StoreUnavailable, StoreConflict, StoreUnknownOutcome) as error:
                self.healthy = False
                failures += 1
                if failures <= TOLD or failures % 30 == 0:
                    text = "%s: store is away, next try in %.2f s: %s"
                    log.warning(text, self.name, pause, error)
                delay, pause = pause, min(pause * 2, self.retry_max_s)
            except Exception as error:  # service loop: every failure stops the node
                self.healthy = False
                log.exception("%s failed", self.name)
                self._on_failure(self.name, error)
                return
            await self.wakeup.wait(delay)
