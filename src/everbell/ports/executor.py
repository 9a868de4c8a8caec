"""What performs an action, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from everbell.domain.job import Action, Record
from everbell.domain.run import Outcome, Run

UNSURE_S = 0.1
"""Between two looks at whether a claim holds again."""


def always() -> bool:
    """Hold."""
    return True


class Assignment(Record, frozen=True):
    """All that an executor needs for one attempt.

    ``webhook_secret`` signs callbacks (raw bytes). ``timeout_s`` bounds the whole attempt.
    ``traceparent``: what a traced target continues; empty = it is not traced.
    ``holds`` tells, on the loop, whether the run is surely still this node's: neither was it given
    to another one, nor is the lease over.
    """

    run: Run
    job_uuid: str
    job_name: str
    project_uuid: str
    project_name: str
    action: Action
    data: Any
    timeout_s: float
    webhook_secret: bytes
    traceparent: str = ""
    holds: Callable[[], bool] = always


class OutputSink(Protocol):
    """Where an attempt's output goes, live.

    - ``write`` never blocks and never fails; it keeps order per stream ("out" or "err").
    - Output is bounded: head and tail are kept, the middle is dropped and counted.
    """

    def write(self, stream: str, data: bytes) -> None:
        """Take bytes that the target wrote."""
        ...


class CaptureSink(OutputSink, Protocol):
    """A sink as the engine sees it.

    - ``drain`` returns what arrived since the last call, in order, as (stream, bytes) pieces.
    - ``finish`` returns the rest: the note on what was dropped, and the tail.
    """

    @property
    def total_bytes(self) -> int:
        """Bytes that the target wrote, kept or not."""
        ...

    @property
    def truncated(self) -> bool:
        """Whether bytes were dropped."""
        ...

    def drain(self) -> list[tuple[str, bytes]]:
        """Return new pieces of the head."""
        ...

    def finish(self) -> list[tuple[str, bytes]]:
        """Return the last pieces; nothing is written afterwards."""
        ...


class Executor(Protocol):
    """Performs actions of one kind.

    - ``run`` returns an Outcome for everything that the target does; it raises only
      ``RefusedError`` (never to be tried again) or ``Bug``.
    - It ends within ``timeout_s`` plus a short grace, with ``timed_out``, leaving no process,
      connection or file descriptor behind.
    - When ``cancel`` is set it stops the target and returns ``cancelled``.
    - When the task itself is cancelled it stops the target before it lets the cancellation pass.
    - The target is handed the run's id, slot, attempt and token.
    - What had to wait on its way (a connection, a line) is not handed over while ``holds`` says no:
      another node may have the run by then. It waits on, until that says yes or the attempt ends.
    - ``check`` raises RefusedError or ValidationError when the action can never work on this node
      (unknown interpreter, missing binary, refused address); it does no slow I/O.
    """

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt."""
        ...

    def check(self, action: Action) -> None:
        """Refuse an action that can never work here, before it is stored."""
        ...

    async def close(self) -> None:
        """Release what is held (connection pools). May be called twice."""
        ...
