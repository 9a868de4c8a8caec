"""Hints from the use cases to the engine of the same process."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from everbell.domain.job import Record
from everbell.domain.run import Run, RunKey

LOG_SUBJECT: ContextVar[Run | str] = ContextVar("everbell_log_subject", default="")
"""What the running task works on: a run, or the id of a request. Log lines carry it.

Only a reference is kept: what a line says of it is made when a line is written.
"""


class Change(Record, frozen=True):
    """What a use case has durably changed.

    ``jobs``: ids whose definition or cursor changed. ``revoked``: claims withdrawn before their
    start. ``cancelled``: runs whose cancel was requested. ``work``: something may be due now.
    """

    jobs: tuple[int, ...] = ()
    revoked: tuple[RunKey, ...] = ()
    cancelled: tuple[RunKey, ...] = ()
    work: bool = True


class Hints(Protocol):
    """Told of every durable change, after it is durable.

    - ``changed`` returns at once and never fails; losing a hint costs latency, never a run.
    """

    def changed(self, change: Change) -> None:
        """Take note of a change."""
        ...
