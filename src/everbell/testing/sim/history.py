"""What a simulation leaves behind: the outside log, the operations, and the store's own account."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from everbell.domain.job import Job, JobVersion
from everbell.domain.run import Attempt, Run, RunKey


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The target of a run was called. ``node`` is one life of a process; times are virtual us.

    ``wall_us`` is the latest that the node's wall clock had shown by then.
    """

    at_us: int
    wall_us: int
    node: str
    key: RunKey
    attempt: int
    token: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The target ended: ``succeeded``, ``failed``, ..., or ``killed`` (no outcome)."""

    at_us: int
    node: str
    key: RunKey
    attempt: int
    token: int
    outcome: str


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something bad, or its end: ``crash``, ``pause``, ``resume``, ``fenced``, ..."""

    at_us: int
    node: str
    kind: str


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """An acknowledged operation: ``asked`` and ``acked`` in virtual us, ``wall_us`` at the ack."""

    asked_us: int
    acked_us: int
    wall_us: int
    kind: str
    scope: Literal["all", "project", "job"] = "job"
    target: int = 0


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` of a job was replaced; ``highest_us`` is what its clock had shown by then."""

    job_id: int
    version: int
    now_us: int
    highest_us: int


Event = Start | End | Fault | Op


class History(msgspec.Struct, kw_only=True):
    """All that the checkers look at."""

    events: list[Event] = []
    rows: list[Run] = []
    attempts: dict[RunKey, list[Attempt]] = {}
    jobs: list[Job] = []
    versions: dict[int, list[JobVersion]] = {}
    changes: list[Changed] = []
    end_wall_us: int = 0
    look_ahead_us: int = 500_000
    notice_us: int = 1_000_000
    stopped: list[str] = []
    stuck: list[str] = []

    def digest(self) -> str:
        """Return a hash of everything that happened: equal for equal seeds."""
        text = "\n".join(repr(item) for item in (*self.events, *self.rows, *self.jobs))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
