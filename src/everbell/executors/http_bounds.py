"""How long a run waits for its target: until it ends, is cancelled, or is late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Bounds:
    """The timeout of one run and its wish to be cancelled, as one limit. Used once."""

    __slots__ = ("_cancel", "_limit", "_open")

    def __init__(self, cancel: asyncio.Event, timeout_s: float) -> None:
        self._cancel = cancel
        self._limit = asyncio.timeout(timeout_s)
        self._open = False

    @property
    def late(self) -> bool:
        """Whether the timeout passed; a run that was cancelled is not late."""
        return self._limit.expired() and not self._cancel.is_set()

    async def keep(self, doing: Awaitable[T]) -> T | None:
        """Return what ``doing`` gives, or None if it was interrupted by either bound."""
        stop = asyncio.ensure_future(self._cancel.wait())
        try:
            async with self._limit:
                self._open = True
                stop.add_done_callback(self._interrupt)
                try:
                    return await doing
                finally:
                    self._open = False
        except TimeoutError:
            if not self._limit.expired():
                raise
            return None
        finally:
            stop.cancel()

    def _interrupt(self, stop: asyncio.Future[bool]) -> None:
        if self._open and not stop.cancelled():
            self._limit.reschedule(asyncio.get_running_loop().time())
