"""The ``python`` action: a registered function, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import difflib
import logging
import traceback
from functools import partial
from typing import Any

import msgspec

from everbell.config.schema import Settings
from everbell.domain.errors import Bug, FieldProblem, RefusedError, ValidationError
from everbell.domain.job import Action, PythonAction
from everbell.domain.run import Outcome
from everbell.executors import python_calls as calls
from everbell.executors import python_inputs, python_process
from everbell.executors.claim import NO_LEASE, NOT_STARTED
from everbell.executors.python_capture import CAPTURE, HOOKS, Capture
from everbell.executors.python_find import allowed
from everbell.executors.threads import Threads
from everbell.ports.executor import Assignment, OutputSink
from everbell.ports.functions import CURRENT, STOP, Context, Function, Functions, Skip, instant

log = logging.getLogger(__name__)

MAX_ERROR = 2_000
_REASON = {True: "", False: "nothing_to_do"}
_ASKED = frozenset({"manual", "retry"})


class PythonExecutor:
    """Calls functions that the process registered, or those of allowed modules."""

    def __init__(
        self,
        settings: Settings,
        functions: Functions | None = None,
        inputs: python_inputs.Inputs | None = None,
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
            return Outcome(state="cancelled", error=NOT_STARTED)
        try:
            function = self._find(action)
        except (RefusedError, ValidationError) as error:
            return Outcome(state="failed", error=error.message, reason="refused", retryable=False)
        kwargs = action.kwargs
        if self._inputs is not None and work.run.trigger in _ASKED:
            begun = asyncio.get_running_loop().time()
            found = await python_inputs.read(self._inputs, work, cancel)
            if isinstance(found, Outcome):
                return found
            kwargs = {**kwargs, **found}
            work = _shortened(work, asyncio.get_running_loop().time() - begun)
        if action.mode == "subprocess":
            asked = python_process.Asked(function, action.args, kwargs, _told(work))
            return await python_process.run(self._settings, asked, work.timeout_s, (cancel, sink))
        return await self._here(function, kwargs, (work, cancel, sink))

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
        hint = "start a node with --app module:app that has it, or list its module in python.allow"
        if close:
            hint = f"did you mean {close[0]}? Else {hint}"
        message = f"no function {action.function[:200]!r} may be called on this node"
        problem = FieldProblem("/action/function", message, hint=hint, code="unknown")
        raise ValidationError(message, hint=hint, problems=(problem,), suggestions=tuple(close))

    async def _here(
        self,
        function: Function,
        kwargs: dict[str, Any],
        given: tuple[Assignment, asyncio.Event, OutputSink],
    ) -> Outcome:
        work, cancel, sink = given
        action = _python(work.action)
        self._hook()
        limits = self._settings.execution
        capture = Capture(sink, asyncio.get_running_loop(), 2 * limits.output_bytes)
        stop: list[str] = []
        before = CURRENT.set(partial(_told, work)), CAPTURE.set(capture), STOP.set(stop)
        if function.wants_context and function.wants_context not in kwargs:
            kwargs = {**kwargs, function.wants_context: _told(work)}
        call = calls.Call(
            function,
            action.args,
            kwargs,
            cancel,
            stop,
            work.holds,
            work.timeout_s,
            limits.kill_grace,
        )
        why: calls.Why = ""
        ended: calls.Ended | None
        try:
            if function.is_async:
                why, ended = await calls.on_loop(call)
            elif action.mode == "inline":
                ended = calls.inline(call)
            else:
                capture.share()
                why, ended = await calls.in_thread(self._threads, call)
        finally:
            capture.close()
            CURRENT.reset(before[0])
            CAPTURE.reset(before[1])
            STOP.reset(before[2])
        return self._outcome(call, why, ended, sink)

    def _hook(self) -> None:
        if not self._hooked:
            HOOKS.install()
            self._hooked = True

    def _outcome(
        self, call: calls.Call, why: calls.Why, ended: calls.Ended | None, sink: OutputSink
    ) -> Outcome:
        if why or ended is None:
            return _stopped(call, why, ended)
        if ended.error is not None:
            return _raised(ended.error, sink)
        if call.function.check:
            # Its answer is no result: the run has that of the job's own function.
            found = bool(ended.result)
            return Outcome(state="succeeded" if found else "skipped", reason=_REASON[found])
        if ended.result is not None:
            keep_result(ended.result, self._settings.python.result_bytes, sink)
        return Outcome(state="succeeded")


def _shortened(work: Assignment, by_s: float) -> Assignment:
    """Return the work with what is left of its time; less than a second is not counted."""
    if by_s < 1:
        return work
    return msgspec.structs.replace(work, timeout_s=max(round(work.timeout_s - by_s, 1), 0.1))


def keep_result(result: Any, limit: int, sink: OutputSink) -> None:
    """Store a result as JSON in the stream ``result``; say in the output why it can't be."""
    try:
        data = msgspec.json.encode(result)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        sink.write("err", f"the result is not kept: {error}\n".encode())
        return
    if len(data) > limit:
        note = f"the result is not kept: {len(data)} bytes, at most {limit} (python.result_bytes)\n"
        sink.write("err", note.encode())
        return
    sink.write("result", data)


def _stopped(call: calls.Call, why: str, ended: calls.Ended | None) -> Outcome:
    if ended is not None and not ended.begun:
        if why == "cancelled":
            return Outcome(state="cancelled", error=NOT_STARTED)
        late = f"not begun within {call.timeout_s:g} s: no thread was free (python.threads), or"
        return Outcome(state="timed_out", error=f"{late} {NO_LEASE}")
    rest = "stopped"
    if ended is None:
        kind = "task" if call.function.is_async else "thread"
        rest = f"but its {kind} goes on and can't be killed: what it returns is refused"
        log.warning("a run of %s was given up, %s", call.function.name, rest)
    if why == "timed_out":
        return Outcome(state="timed_out", error=f"still running after {call.timeout_s:g} s, {rest}")
    return Outcome(state="cancelled", error=f"cancelled, {rest}")


def _raised(error: BaseException, sink: OutputSink) -> Outcome:
    if isinstance(error, Skip):
        return Outcome(state="skipped", reason=error.reason[:200])
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == calls.__file__:
        trace = trace.tb_next  # the first frames are ours
    lines = traceback.format_exception(type(error), error, trace)
    sink.write("err", "".join(lines).encode("utf-8", "replace"))
    return Outcome(state="failed", error=describe(error))


def describe(error: BaseException) -> str:
    """Return an exception in one bounded line."""
    text = str(error)
    name = type(error).__name__
    return f"{name}: {text}"[:MAX_ERROR] if text else name


def _told(work: Assignment) -> Context:
    run = work.run
    return Context(
        run_id=run.id,
        job=work.job_name,
        project=work.project_name,
        slot=instant(run.key.slot_us),
        attempt=run.attempt,
        token=run.token,
        trigger=run.trigger,
        data=work.data,
    )


def _python(action: Action) -> PythonAction:
    if not isinstance(action, PythonAction):
        raise Bug(f"a python executor was given {type(action).__name__}")
    return action
