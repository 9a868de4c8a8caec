"""A function in a process of its own, which can be killed whole."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from everbell.config.schema import Settings
from everbell.domain.run import Outcome
from everbell.executors.process import Spawn, run_group
from everbell.ports.executor import OutputSink
from everbell.ports.functions import Context, Function

CHILD = "everbell.executors.python_child"


class Asked(NamedTuple):
    """A call, as the child is told of it."""

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context


class Report(msgspec.Struct):
    """What the child tells at its end: ``result`` as JSON, ``skipped`` the reason of a Skip."""

    error: str = ""
    skipped: str | None = None
    result: str = ""
    note: str = ""


async def run(
    settings: Settings, asked: Asked, timeout_s: float, given: tuple[asyncio.Event, OutputSink]
) -> Outcome:
    """Call the function in a new interpreter with this one's environment and module path."""
    cancel, sink = given
    limits = settings.execution
    with tempfile.TemporaryDirectory(prefix="everbell-") as place:
        report = Path(place) / "report"
        order = {
            "function": asked.function.name.partition("#")[0],
            "args": asked.args,
            "kwargs": asked.kwargs,
            "context": asked.context,
            "context_name": asked.function.wants_context,
            "check": asked.function.check,
            "path": sys.path,
            "report": str(report),
            "result_bytes": settings.python.result_bytes,
        }
        spawn = Spawn(
            argv=(sys.executable, "-m", CHILD),
            program=sys.executable,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            cwd=None,
            user=None,
            stdin=msgspec.json.encode(order),
        )
        outcome = await run_group(
            spawn, sink, cancel, timeout_s=timeout_s, grace_s=limits.kill_grace
        )
        return _merge(outcome, report, sink, 2 * settings.python.result_bytes + 65_536)


def _merge(outcome: Outcome, path: Path, sink: OutputSink, limit: int) -> Outcome:
    try:
        with path.open("rb") as file:
            report = msgspec.json.decode(file.read(limit), type=Report)
    except (OSError, msgspec.DecodeError):
        return outcome
    if outcome.state == "failed" and report.error:
        return msgspec.structs.replace(outcome, error=report.error)
    if outcome.state != "succeeded":
        return outcome
    if report.skipped is not None:
        return Outcome(state="skipped", reason=report.skipped[:200], code=outcome.code)
    if report.note:
        sink.write("err", report.note.encode())
    if report.result:
        sink.write("result", report.result.encode())
    return outcome
