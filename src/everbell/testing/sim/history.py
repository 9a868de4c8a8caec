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


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The check of a run was called; ``code`` is its answer: 1 = nothing to do, None = too late."""

    at_us: int
    node: str
    key: RunKey
    attempt: int
    token: int
    code: int | None


class LimitSet(msgspec.Struct, frozen=True, kw_only=True):
    """A concurrency limit was to be set; from then on ``most`` runs may share it."""

    at_us: int
    name: str
    most: int


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


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A broken promise: which one, in what way, and the evidence."""

    promise: str
    kind: str
    detail: str


Event = Start | End | Checked | LimitSet | Fault | Op


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

    def troubled(self) -> set[str]:
        """Return the lives to which something happened before the end of the simulation."""
        calm = {"boot", "crash end"}
        return {it.node for it in self.events if isinstance(it, Fault) and it.kind not in calm}

    def digest(self) -> str:
        """Return a hash of everything that happened: equal for equal seeds."""
        text = "\n".join(repr(item) for item in (*self.events, *self.rows, *self.jobs))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
