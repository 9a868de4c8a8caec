"""Threads for synchronous functions: made when needed, bounded, and never waited for at exit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from everbell.ports.executor import UNSURE_S

IDLE_END = None
"""Put into the queue to end one thread."""
FRESH_S = 0.05
"""A call that waited for a thread for longer asks again whether it may begin."""


class Call:
    """One call: ``end`` is resolved on the loop with ``answer``; an abandoned one never is.

    It is begun by a thread or dropped by the loop, never both. ``holds`` is asked on the loop.
    """

    __slots__ = ("_open", "abandoned", "answer", "at", "dropped", "end", "holds", "work")

    def __init__(
        self, work: Callable[[], Any], holds: Callable[[], bool], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.work = work
        self.holds = holds
        self.at = loop.time()
        self.end: asyncio.Future[None] = loop.create_future()
        self.answer: Any = None
        self.abandoned = False
        self.dropped = False
        self._open = [True]

    def take(self) -> bool:
        """Return whether this caller is the first: one thread, or ``drop``."""
        with contextlib.suppress(IndexError):  # to pop is one step for all threads
            return self._open.pop()
        return False

    def drop(self) -> bool:
        """Give the call up before it begins; return False if it has begun."""
        self.dropped = self.dropped or self.take()
        return self.dropped


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

    def submit(self, work: Callable[[], Any], holds: Callable[[], bool]) -> Call:
        """Have a thread perform ``work``, which raises nothing; on the loop's thread.

        What has to wait for a thread is begun once ``holds`` says yes.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        call = Call(work, holds, loop)
        self._busy += 1
        useful = self._alive - self._stuck
        if useful < min(self._busy, self._limit) and self._alive < 2 * self._limit:
            self._alive += 1
            name = f"everbell-python-{self._alive}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._queue.put(call)
        return call

    def abandon(self, call: Call) -> None:
        """Stop waiting for a call; a thread that has begun it works on, of no use to others."""
        call.abandoned = True
        self._busy -= 1
        self._stuck += not call.drop()

    def close(self) -> None:
        """Let idle threads end."""
        for _ in range(self._alive):
            self._queue.put(IDLE_END)
        self._alive = self._stuck = 0

    def _serve(self) -> None:
        while (call := self._queue.get()) is not IDLE_END:
            if self._begins(call):
                if not call.abandoned:
                    call.answer = call.work()
                self._done.append(call)
                self._tell()
            del call

    def _begins(self, call: Call) -> bool:
        """Return whether this thread is to perform the call; wait until it may."""
        loop = self._loop
        if loop is None or loop.time() - call.at <= FRESH_S:
            return call.take()
        answer: SimpleQueue[bool] = SimpleQueue()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._ask, call, answer, loop)
            while not call.dropped:
                with contextlib.suppress(Empty):
                    return answer.get(timeout=2 * UNSURE_S)
        return False

    def _ask(self, call: Call, answer: SimpleQueue[bool], loop: asyncio.AbstractEventLoop) -> None:
        if call.dropped or call.holds():
            answer.put(call.take())
        else:
            loop.call_later(UNSURE_S, self._ask, call, answer, loop)

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
                self._stuck -= 1
                continue
            self._busy -= 1
            if not call.end.done():
                call.end.set_result(None)
