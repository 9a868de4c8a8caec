"""Who is told: the engine of what use cases change, observers of what becomes of runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Protocol

from everbell.domain.decision import Decision
from everbell.domain.job import Action, Job, Record
from everbell.domain.records import Project
from everbell.domain.run import Outcome, Run, RunKey
from everbell.ports.store import Decided, Finish, Finished

LOG_SUBJECT: ContextVar[Run | str] = ContextVar("everbell_log_subject", default="")
"""What the running task works on: a run, or the id of a request. Log lines carry it.

Only a reference is kept: what a line says of it is made when a line is written.
"""


class Change(Record, frozen=True):
    """What a use case has durably changed.

    ``jobs``: ids whose definition or cursor changed. ``revoked``: claims withdrawn before their
    start. ``cancelled``: runs whose cancel was requested. ``work``: something may be due now.
    ``nodes``: one was drained, or its drain is over.
    """

    jobs: tuple[int, ...] = ()
    revoked: tuple[RunKey, ...] = ()
    cancelled: tuple[RunKey, ...] = ()
    work: bool = True
    nodes: bool = False


class Hints(Protocol):
    """Told of every durable change, after it is durable.

    - ``changed`` returns at once and never fails; losing a hint costs latency, never a run.
    """

    def changed(self, change: Change) -> None:
        """Take note of a change."""
        ...


class RunObserver(Protocol):
    """Counts what becomes of slots and runs on this node.

    - Every method is called in the node's loop, returns at once and never fails.
    - Told in batches, as the store was: nothing is called once per run but ``called``.
    """

    def claimed(self, runs: Sequence[Run]) -> None:
        """Take note of claims won."""
        ...

    def decided(self, decisions: Sequence[Decision], answers: Sequence[Decided]) -> None:
        """Take note of slots decided without a run."""
        ...

    def called(self, action: Action, outcome: Outcome) -> None:
        """Take note of how an action ended."""
        ...

    def ended(self, finishes: Sequence[Finish], answers: Sequence[Finished]) -> None:
        """Take note of ends that are durable, or were refused."""
        ...


class Trace(Protocol):
    """One attempt, seen from a tracing system.

    - ``traceparent`` (W3C Trace Context) is handed to the target.
    - ``end`` is called once, whatever becomes of the attempt.
    """

    traceparent: str

    def end(self, state: str, error: str, at_us: int) -> None:
        """Take note of the end."""
        ...


class Tracer(Protocol):
    """Begins traces.

    - ``begin`` is called in the attempt's own task, right before its action; it never fails.
    """

    def begin(self, run: Run, job: Job, project: Project, at_us: int) -> Trace:
        """Begin the trace of one attempt that starts at ``at_us``."""
        ...
