"""What all parts that use one Redis share: whether it is well, and how it is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from everbell.domain.errors import StoreError
from everbell.ports.clock import Clock
from everbell.queues.redis.line import Line, Word, meaning

log = logging.getLogger(__name__)

FIRST_S, MOST_S = 0.05, 1.0
STEADY_S = 5.0
"""A server that fails again within this time is tried less and less often."""


class Link:
    """A Redis server as one node sees it.

    ``talk`` is the connection for short commands of all parts; who blocks has a line of its own.
    While the server is away nobody but ``_mend`` tries it.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        clock: Clock,
        timeout_s: float,
        where: str,
    ) -> None:
        self._make = make
        self.clock = clock
        self.timeout_s = timeout_s
        self.where = where
        self.trouble = ""
        self._well = asyncio.Event()
        self._well.set()
        self._mending: asyncio.Task[None] | None = None
        self._since = clock.monotonic() - STEADY_S
        self._pause_s = FIRST_S
        self._closed = False
        self.talk = self.new_line()

    @property
    def healthy(self) -> bool:
        """Whether the server answers."""
        return self._well.is_set()

    def new_line(self) -> Line:
        """Return a connection that nobody else uses."""
        return Line(self._make, self.timeout_s)

    async def up(self, wait_s: float) -> bool:
        """Wait until the server answers; return whether it does."""
        if not self._well.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._well.wait()
        return self._well.is_set()

    async def ask(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Carry out short commands. Raises StoreError, at once while the server is away."""
        return await self.over(self.talk, *commands)

    async def over(self, line: Line, *commands: tuple[Word, ...], wait_s: float = 0.0) -> list[Any]:
        """Carry out commands over a line of one's own. Raises StoreError."""
        try:
            return await line.call(*commands, wait_s=wait_s)
        except StoreError as error:
            self.lost(error)
            raise

    def lost(self, error: StoreError) -> None:
        """Note that the server is away, and try it again in the background."""
        trouble = f"{error.message}: {self.where}; {error.hint}"
        if self._well.is_set():
            if self.clock.monotonic() - self._since >= STEADY_S:
                self._pause_s = FIRST_S
                log.warning("%s", trouble)
            self._well.clear()
        self.trouble = trouble
        if self._mending is None and not self._closed:
            self._mending = asyncio.get_running_loop().create_task(self._mend())

    async def _mend(self) -> None:
        try:
            while True:
                await self.clock.sleep(self._pause_s)
                self._pause_s = min(self._pause_s * 2, MOST_S)
                try:
                    [answer] = await self.talk.call(("PING",))
                except StoreError as error:
                    self.trouble = f"{error.message}: {self.where}; {error.hint}"
                    continue
                if isinstance(answer, ResponseError):
                    self.trouble = words(answer, self.where)
                    continue
                break
        finally:
            self._mending = None
        log.info("Redis answers: %s", self.where)
        self.trouble = ""
        self._since = self.clock.monotonic()
        self._well.set()

    async def close(self) -> None:
        """End the shared connection and what runs in the background. May be called twice."""
        self._closed = True
        await end(self._mending)
        await self.talk.drop()


class Duty:
    """Work that is done in the background as soon as there is some, one pass after another.

    ``work`` does one pass and returns whether there is more.
    """

    def __init__(self, work: Callable[[], Awaitable[bool]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """See to it that the work is done soon."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(_tell)

    async def finish(self, within_s: float) -> None:
        """Wait for what is being done, then end it."""
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=within_s)
        await end(task)

    async def _run(self) -> None:
        try:
            while await self._work():
                pass
        finally:
            self._task = None


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for its end."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task})


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("what Redis is told failed", exc_info=error)


def words(error: ResponseError, where: str) -> str:
    """Return a refusal as one line."""
    said, hint = meaning(error)
    return f"{said}: {where}; {hint}"
