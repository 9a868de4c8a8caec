"""The ``python`` action: a registered function, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import contextvars
import difflib
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

import msgspec

from everbell.config.schema import Settings
from everbell.domain.errors import Bug, FieldProblem, RefusedError, ValidationError
from everbell.domain.job import Action, PythonAction
from everbell.domain.run import Outcome, Run
from everbell.executors import python_process
from everbell.executors.python_capture import CAPTURE, HOOKS, Capture
from everbell.executors.python_find import allowed
from everbell.executors.threads import Threads
from everbell.ports.executor import Assignment, OutputSink
from everbell.ports.functions import CURRENT, STOP, Context, Function, Functions, Skip, instant

log = logging.getLogger(__name__)

MAX_ERROR = 2_000
_ASKED = frozenset({"manual", "retry"})

Inputs = Callable[[Run], Awaitable[dict[str, Any]]]
"""Reads the parameters that whoever asked for a run gave to it."""


class _Ended(NamedTuple):
    """How a call ended: its result, or what it raised."""

    result: Any = None
    error: BaseException | None = None


class _Guard:
    """Ends a call at its timeout or cancel; made before the call, armed if it lasts.

    ``why`` is set once the call is to end. ``over`` is resolved when it did not end in the grace
    after that.
    """

    __slots__ = ("_grace_s", "_handles", "_interrupt", "_watcher", "over", "stop", "why")

    def __init__(
        self, over: asyncio.Future[None], stop: list[str], interrupt: Callable[[], object]
    ) -> None:
        self.over = over
        self.stop = stop
        self.why = ""
        self._interrupt = interrupt
        self._handles: list[asyncio.Handle] = []
        self._watcher: asyncio.Task[Literal[True]] | None = None
        self._grace_s = 0.0

    def soon(self, cancel: asyncio.Event, timeout_s: float, grace_s: float) -> None:
        """Arm in the next pass of the loop: what ends at once costs no timer and no task."""
        self._grace_s = grace_s
        loop = asyncio.get_running_loop()
        self._handles.append(loop.call_soon(self._arm, loop, cancel, timeout_s))

    def _arm(self, loop: asyncio.AbstractEventLoop, cancel: asyncio.Event, timeout_s: float) -> None:
        if self.over.done():
            return
        self._handles.append(loop.call_later(timeout_s, self.end, "timed_out"))
        self._watcher = loop.create_task(cancel.wait())
        self._watcher.add_done_callback(lambda task: task.cancelled() or self.end("cancelled"))

    def end(self, why: str) -> None:
        """Ask the call to end, and give up waiting for it after the grace."""
        if self.why or self.over.done():
            return
        self.why = why
        self.stop.append(why)
        self._interrupt()
        loop = asyncio.get_running_loop()
        self._handles.append(loop.call_later(self._grace_s, self._give_up))

    def _give_up(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def close(self) -> None:
        """Leave no timer and no task behind."""
        for handle in self._handles:
            handle.cancel()
        if self._watcher is not None:
            self._watcher.cancel()


class PythonExecutor:
    """Calls functions that the process registered, or those of allowed modules."""

    def __init__(
        self, settings: Settings, functions: Functions | None = None, inputs: Inputs | None = None
    ) -> None:
        self._settings = settings
        self._functions = functions if functions is not None else Functions()
        self._inputs = inputs
        self._threads = Threads(settings.python.threads)
        self._hooked = False

    def check(self, action: Action) -> None:
        """Raise ValidationError unless the function is registered here or allowed."""
        python = _python(action)
        if not python.retired:
            self._find(python)

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt."""
        action = _python(work.action)
        if cancel.is_set():
            return Outcome(state="cancelled", error="cancelled before it was started")
        try:
            function = self._find(action)
            params = await self._params(action, work.run)
        except (RefusedError, ValidationError) as error:
            return Outcome(state="failed", error=error.message, reason="refused", retryable=False)
        told = _told(work)
        if action.mode == "subprocess":
            return await python_process.run(self._settings, work, told, (params, cancel, sink))
        return await self._here(function, (work, told, params), cancel, sink)

    async def close(self) -> None:
        """End idle threads and give the streams back."""
        self._threads.close()
        if self._hooked:
            self._hooked = False
            HOOKS.remove()

    def _find(self, action: PythonAction) -> Function:
        function = self._functions.find(action)
        if function is None and not action.app:
            function = allowed(action.function, self._settings.python.allow)
        if function is not None:
            return function
        names = sorted({name for _, name in self._functions})
        close = difflib.get_close_matches(action.function, names, n=3)
        hint = "start this node with --app module:app, or list the module in python.allow"
        if close:
            hint = f"did you mean {close[0]}? else {hint}"
        message = f"this node has no function {action.function[:200]!r}"
        problem = FieldProblem("/action/function", message, hint=hint, code="unknown")
        raise ValidationError(message, hint=hint, problems=(problem,), suggestions=tuple(close))

    async def _params(self, action: PythonAction, run: Run) -> dict[str, Any]:
        """Return the keyword arguments: the job's, and those of whoever asked for the run."""
        if run.trigger not in _ASKED or self._inputs is None:
            return action.kwargs
        return {**action.kwargs, **await self._inputs(run)}

    async def _here(
        self,
        function: Function,
        about: tuple[Assignment, Context, dict[str, Any]],
        cancel: asyncio.Event,
        sink: OutputSink,
    ) -> Outcome:
        work, told, kwargs = about
        action = _python(work.action)
        if not self._hooked:
            HOOKS.install()
            self._hooked = True
        loop = asyncio.get_running_loop()
        capture = Capture(sink, loop, 2 * self._settings.execution.output_bytes)
        stop: list[str] = []
        space = contextvars.copy_context()
        space.run(_enter, told, capture, stop)
        if function.wants_context and function.wants_context not in kwargs:
            kwargs = {**kwargs, function.wants_context: told}
        try:
            if function.is_async:
                guard, ended = await self._awaited(function, (action.args, kwargs), space, (work, cancel, stop))
            elif action.mode == "inline":
                guard, ended = "", space.run(_call, function, action.args, kwargs)
            else:
                capture.share()
                guard, ended = await self._threaded(function, (action.args, kwargs), space, (work, cancel, stop))
            return self._outcome(function, guard, ended, work, sink)
        finally:
            capture.close()

    async def _awaited(self, function, given, space, limits) -> tuple[str, _Ended | None]:
        work, cancel, stop = limits
        loop = asyncio.get_running_loop()
        task = loop.create_task(_await(function, *given), context=space)
        over: asyncio.Future[None] = loop.create_future()
        task.add_done_callback(lambda _: over.done() or over.set_result(None))
        guard = _Guard(over, stop, task.cancel)
        guard.soon(cancel, work.timeout_s, self._settings.execution.kill_grace)
        try:
            await over
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task}, timeout=self._settings.execution.kill_grace)
            raise
        finally:
            guard.close()
        if not task.done():
            return guard.why, None
        if task.cancelled():
            error = asyncio.CancelledError()
            return guard.why, _Ended(error=error)
        return guard.why, task.result()

    async def _threaded(self, function, given, space, limits) -> tuple[str, _Ended | None]:
        work, cancel, stop = limits
        call = self._threads.submit(lambda: space.run(_call, function, *given))
        guard = _Guard(call.end, stop, lambda: None)
        guard.soon(cancel, work.timeout_s, self._settings.execution.kill_grace)
        try:
            await call.end
        except asyncio.CancelledError:
            stop.append("cancelled")
            raise
        finally:
            guard.close()
            if call.answer is None:
                self._threads.abandon(call)
        return guard.why, call.answer
