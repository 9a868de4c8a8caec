"""Threads for synchronous functions: made when needed, bounded, and never waited for at exit."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

IDLE_END = None
"""Put into the queue to end one thread."""


class Call:
    """One call: ``end`` is resolved on the loop with ``answer``; an abandoned one never is."""

    __slots__ = ("abandoned", "answer", "begun", "counted", "end", "work")

    def __init__(self, work: Callable[[Call], Any], end: asyncio.Future[None]) -> None:
        self.work = work
        self.end = end
        self.answer: Any = None
        self.begun = False
        self.abandoned = False
        self.counted = False


class Threads:
    """At most ``limit`` useful threads of one loop.

    Python can't kill a thread: one whose call was abandoned goes on until its function returns,
    and another takes its place, up to twice the limit in all. They are daemons, because the
    interpreter would wait for any other kind when it ends.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._done: deque[Call] = deque()
        self._told = False
        self._alive = 0
        self._stuck = 0
        self._busy = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, work: Callable[[Call], Any]) -> Call:
        """Have a thread perform ``work``, which is handed its call; on the loop's thread."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        call = Call(work, loop.create_future())
        self._busy += 1
        useful = self._alive - self._stuck
        if useful < min(self._busy, self._limit) and self._alive < 2 * self._limit:
            self._alive += 1
            name = f"everbell-python-{self._alive}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._queue.put(call)
        return call

    def abandon(self, call: Call) -> bool:
        """Stop waiting for a call; return whether a thread still works on it."""
        call.abandoned = True
        self._busy -= 1
        call.counted = call.begun
        self._stuck += call.counted
        return call.counted

    def close(self) -> None:
        """Let idle threads end."""
        for _ in range(self._alive):
            self._queue.put(IDLE_END)
        self._alive = self._stuck = 0

    def _serve(self) -> None:
        while (call := self._queue.get()) is not IDLE_END:
            if call.abandoned:
                continue
            call.begun = True
            call.answer = call.work(call)
            self._done.append(call)
            self._tell()
            del call

    def _tell(self) -> None:
        """Wake the loop once for all that ended meanwhile."""
        if not self._told and self._loop is not None:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                self._told = False  # the loop is closed: nobody waits any more

    def _collect(self) -> None:
        self._told = False
        while self._done:
            call = self._done.popleft()
            if call.abandoned:
                self._stuck -= call.counted
                continue
            self._busy -= 1
            if not call.end.done():
                call.end.set_result(None)
