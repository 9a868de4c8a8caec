"""How long a run waits for its target: until it ends, is cancelled, or is late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from everbell.domain.run import Outcome
from everbell.executors.claim import NO_LEASE, NOT_SENT

T = TypeVar("T")

GLANCE_S = 0.05
"""Most callbacks are over by then; only those that are not get a watcher of their own."""


def interrupted(bounds: Bounds, place: str, timeout_s: float, *, held: bool) -> Outcome:
    """Return how a request ended that was given up; ``held`` False: it was kept back until then."""
    if not bounds.late:
        return Outcome(
            state="cancelled", error="cancelled, connection closed" if held else NOT_SENT
        )
    late = f"no complete answer from {place} within {timeout_s:g} s"
    if not held:
        late = f"not sent within {timeout_s:g} s: {NO_LEASE}"
    return Outcome(state="timed_out", error=late)


class Bounds:
    """The timeout of one run and its wish to be cancelled, as one limit. Used once.

    A cancellation in the first ``GLANCE_S`` seconds is noticed at their end.
    """

    __slots__ = ("_cancel", "_interrupted", "_stop", "_task", "_timeout_s", "_timer", "late")

    def __init__(self, cancel: asyncio.Event, timeout_s: float) -> None:
        self._cancel = cancel
        self._timeout_s = timeout_s
        self._interrupted = False
        self._task: asyncio.Task[object] | None = None
        self._stop: asyncio.Task[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.late = False
        """Whether the timeout passed; a run that was cancelled is not late."""

    async def keep(self, doing: Awaitable[T]) -> T | None:
        """Return what ``doing`` gives, or None if it was interrupted by either bound."""
        self._task = task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(GLANCE_S, self._timeout_s), self._watch, loop)
        try:
            return await doing
        except asyncio.CancelledError:
            # Somebody else may have cancelled the task too: that cancellation passes.
            if self._interrupted and task.uncancel() <= cancelling:
                return None
            raise
        finally:
            self._task = None
            self._timer.cancel()
            if self._stop is not None:
                self._stop.cancel()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._task is None:
            return
        self._stop = loop.create_task(self._cancel.wait())
        self._stop.add_done_callback(self._cancelled)
        self._timer = loop.call_later(max(self._timeout_s - GLANCE_S, 0.0), self._expired)

    def _cancelled(self, stop: asyncio.Task[bool]) -> None:
        if not stop.cancelled():
            self._interrupt()

    def _expired(self) -> None:
        if not self._interrupted and self._task is not None:
            self.late = not self._cancel.is_set()
            self._interrupt()

    def _interrupt(self) -> None:
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()
