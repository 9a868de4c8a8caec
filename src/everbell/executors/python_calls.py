"""Calls a function in this process, on the loop or in a thread, and ends it in time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import Context as Space
from typing import Any, Literal, NamedTuple

from everbell.executors.threads import Threads
from everbell.ports.functions import Function

Why = Literal["", "timed_out", "cancelled"]


class Ended(NamedTuple):
    """How a call ended: its result, or what it raised."""

    result: Any = None
    error: BaseException | None = None


class Call(NamedTuple):
    """What to call and how long it may take. ``stop`` tells the function that it is to end."""

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    space: Space
    cancel: asyncio.Event
    stop: list[str]
    timeout_s: float
    grace_s: float


Result = tuple[Why, Ended | None]
"""Why the call was told to end, and how it ended; None = it did not, and goes on alone."""


class _Guard:
    """Ends a call at its timeout or cancel.

    ``over`` is resolved when the call has ended, or did not end in the grace after it was told to.
    """

    __slots__ = ("_call", "_handles", "_interrupt", "_over", "_watcher", "why")

    def __init__(
        self, call: Call, over: asyncio.Future[None], interrupt: Callable[[], object]
    ) -> None:
        self.why: Why = ""
        self._call = call
        self._over = over
        self._interrupt = interrupt
        self._watcher: asyncio.Task[Literal[True]] | None = None
        # Armed in the next pass of the loop: what ends at once costs no timer and no task.
        self._handles = [asyncio.get_running_loop().call_soon(self._arm)]

    def _arm(self) -> None:
        if self._over.done():
            return
        loop = asyncio.get_running_loop()
        self._handles.append(loop.call_later(self._call.timeout_s, self._end, "timed_out"))
        self._watcher = loop.create_task(self._call.cancel.wait())
        self._watcher.add_done_callback(self._watched)

    def _watched(self, watcher: asyncio.Task[Literal[True]]) -> None:
        if not watcher.cancelled():
            self._end("cancelled")

    def _end(self, why: Why) -> None:
        if self.why or self._over.done():
            return
        self.why = why
        self._call.stop.append(why)
        self._interrupt()
        loop = asyncio.get_running_loop()
        self._handles.append(loop.call_later(self._call.grace_s, self._give_up))

    def _give_up(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def close(self) -> None:
        """Leave no timer and no task behind."""
        for handle in self._handles:
            handle.cancel()
        if self._watcher is not None:
            self._watcher.cancel()


async def on_loop(call: Call) -> Result:
    """Await an async function in a task of its own; it is cancelled when it is to end."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(_awaited(call), context=call.space)
    over: asyncio.Future[None] = loop.create_future()

    def ended(_: asyncio.Task[Ended]) -> None:
        if not over.done():
            over.set_result(None)

    task.add_done_callback(ended)
    guard = _Guard(call, over, task.cancel)
    try:
        await over
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task}, timeout=call.grace_s)
        raise
    finally:
        guard.close()
    if not task.done():
        return guard.why, None
    return guard.why, Ended(error=asyncio.CancelledError()) if task.cancelled() else task.result()


async def in_thread(threads: Threads, call: Call) -> Result:
    """Call a function in a thread; one that does not end in the grace is left alone."""
    job = threads.submit(lambda: call.space.run(inline, call))
    guard = _Guard(call, job.end, lambda: None)
    try:
        await job.end
    except asyncio.CancelledError:
        call.stop.append("cancelled")
        raise
    finally:
        guard.close()
        if job.answer is None:
            threads.abandon(job)
    return guard.why, job.answer


def inline(call: Call) -> Ended:
    """Call a function here and now; whatever it raises is how it ended."""
    try:
        result = call.function.call(*call.args, **call.kwargs)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  (executor boundary)
        return Ended(error=error)
    if inspect.iscoroutine(result):
        result.close()
        return Ended(error=TypeError("it returned a coroutine: declare it with `async def`"))
    return Ended(result)


async def _awaited(call: Call) -> Ended:
    try:
        return Ended(await call.function.call(*call.args, **call.kwargs))
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  (executor boundary)
        # SystemExit would end the loop, and with it the node.
        return Ended(error=error)
