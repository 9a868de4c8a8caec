"""Calls a function in this process, on the loop or in a thread, and ends it in time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextvars import copy_context
from functools import partial
from types import CoroutineType
from typing import Any, Literal, NamedTuple

from everbell.executors.threads import Threads
from everbell.ports.functions import Function

SPARED_S = 0.02
"""A call is not watched before: a cancel is noticed this much later at most."""

Why = Literal["", "timed_out", "cancelled"]


class Ended(NamedTuple):
    """How a call ended: its result, or what it raised; ``begun`` False: it was given up before."""

    result: Any = None
    error: BaseException | None = None
    begun: bool = True


class Call(NamedTuple):
    """What to call and how long it may take. ``stop`` tells the function that it is to end.

    ``holds``: a call that has to wait begins only while this says yes.
    """

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cancel: asyncio.Event
    stop: list[str]
    holds: Callable[[], bool]
    timeout_s: float
    grace_s: float


Result = tuple[Why, Ended | None]
"""Why the call was told to end, and how it ended; None = it did not, and goes on alone."""


class _Guard:
    """Ends a call at its timeout or cancel: ``interrupt`` at once, ``insist`` after the grace."""

    __slots__ = ("_call", "_handles", "_insist", "_interrupt", "_over", "_watcher", "why")

    def __init__(
        self, call: Call, interrupt: Callable[[], object], insist: Callable[[], object]
    ) -> None:
        self.why: Why = ""
        self._call = call
        self._over = False
        self._interrupt = interrupt
        self._insist = insist
        self._watcher: asyncio.Task[Literal[True]] | None = None
        # Armed a little later: what ends soon costs no task and no second timer.
        later_s = min(SPARED_S, call.timeout_s)
        self._handles: list[asyncio.Handle] = [
            asyncio.get_running_loop().call_later(later_s, self._arm, later_s)
        ]

    def _arm(self, passed_s: float) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._call.timeout_s - passed_s
        self._handles.append(loop.call_later(left_s, self._end, "timed_out"))
        self._watcher = loop.create_task(self._call.cancel.wait())
        self._watcher.add_done_callback(self._watched)

    def _watched(self, watcher: asyncio.Task[Literal[True]]) -> None:
        if not watcher.cancelled():
            self._end("cancelled")

    def _end(self, why: Why) -> None:
        if self.why or self._over:
            return
        self.why = why
        self._call.stop.append(why)
        self._interrupt()
        loop = asyncio.get_running_loop()
        self._handles.append(loop.call_later(self._call.grace_s, self._again))

    def _again(self) -> None:
        if not self._over:
            self._insist()
            loop = asyncio.get_running_loop()
            self._handles[-1] = loop.call_later(self._call.grace_s, self._again)

    def close(self) -> None:
        """Leave no timer and no task behind."""
        self._over = True
        for handle in self._handles:
            handle.cancel()
        if self._watcher is not None:
            self._watcher.cancel()


class _Rest:
    """Awaits what a coroutine that was begun by hand still has to do."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: CoroutineType[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        step, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    step.close()
                    raise
                except BaseException as error:  # noqa: BLE001  (handed on, not handled)
                    waits_for = step.throw(error)
                else:
                    waits_for = step.send(sent)
        except StopIteration as end:
            return end.value


async def on_loop(call: Call) -> Result:
    """Await an async function; it is cancelled when it is to end, again and again if it must be.

    In the caller's own task: one that does not wait costs no pass of the loop, and no timer. So a
    function that swallows its cancellation keeps its worker until it returns.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelling = task.cancelling()
    try:
        begun = call.function.call(*call.args, **call.kwargs)
        if isinstance(begun, CoroutineType):
            begun = _Rest(begun, begun.send(None))
    except StopIteration as end:
        return "", Ended(end.value)
    except asyncio.CancelledError as error:
        if task.cancelling() > cancelling:
            raise  # the caller itself is to end
        return "", Ended(error=error)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  (executor boundary)
        return "", Ended(error=error)
    return await _guarded(call, begun, task)


async def _guarded(call: Call, begun: Awaitable[Any], task: asyncio.Task[Any]) -> Result:
    """Wait for what was begun, in time."""
    asked = 0

    def interrupt() -> None:
        nonlocal asked
        asked += 1
        task.cancel()

    guard = _Guard(call, interrupt, interrupt)
    cancelling = task.cancelling()
    ended: Ended
    try:
        ended = Ended(await begun)
    except asyncio.CancelledError as error:
        if task.cancelling() > cancelling + asked:
            raise  # the caller itself is to end
        ended = Ended(error=error)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  (executor boundary)
        # SystemExit would end the loop, and with it the node.
        ended = Ended(error=error)
    finally:
        guard.close()
    for _ in range(asked):
        task.uncancel()
    return guard.why, ended


async def in_thread(threads: Threads, call: Call) -> Result:
    """Call a function in a thread; one that does not end in the grace is left alone."""
    space = copy_context()
    job = threads.submit(partial(space.run, inline, call), call.holds)

    def give_up() -> None:
        if not job.end.done():
            job.end.set_result(None)

    def interrupt() -> None:
        if job.drop():
            give_up()

    guard = _Guard(call, interrupt, give_up)
    try:
        await job.end
    except asyncio.CancelledError:
        call.stop.append("cancelled")
        raise
    finally:
        guard.close()
        if job.answer is None:
            threads.abandon(job)
    return guard.why, Ended(begun=False) if job.dropped else job.answer


def inline(call: Call) -> Ended:
    """Call a function here and now; whatever it raises is how it ended."""
    try:
        result = call.function.call(*call.args, **call.kwargs)
    except BaseException as error:  # noqa: BLE001  (executor boundary: its thread goes on)
        return Ended(error=error)
    if inspect.iscoroutine(result):
        result.close()
        return Ended(error=TypeError("it returned a coroutine: declare it with `async def`"))
    return Ended(result)
