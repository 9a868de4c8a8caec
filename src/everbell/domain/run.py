"""The run: what became of a slot, or of a trigger; one durable row, one final outcome."""

from __future__ import annotations

from typing import Literal

import msgspec

from everbell.domain.errors import Bug, NotFoundError
from everbell.domain.job import Record

State = Literal[
    "queued",
    "claimed",
    "running",
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "skipped",
    "missed",
    "lost",
]
Trigger = Literal["schedule", "catch_up", "manual", "retry", "chain", "backfill"]

BY_HAND = "by_hand"
"""Reason (or its first word) of a slot that a person skipped, perhaps ahead of its time."""

ACTIVE: frozenset[str] = frozenset({"claimed", "running"})
FINAL: frozenset[str] = frozenset(
    {"succeeded", "failed", "timed_out", "cancelled", "skipped", "missed", "lost"}
)

WAITS: frozenset[str] = frozenset({"limit", "overlap", "queue", "worker"})
"""Why a planned run is ``queued``: for a place under a shared limit, for the end of an earlier run,
behind others that wait, for a node that works. The reason goes when the run is taken."""
PLANNED: frozenset[str] = frozenset({"schedule", "catch_up"})

TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"claimed", "cancelled", "skipped"}),
    "claimed": frozenset({"running", "queued"}) | FINAL - {"missed"},
    "running": frozenset({"claimed", "queued"}) | FINAL - {"missed"},
}
"""The one table of allowed changes. ``running -> claimed`` is a retry that waits on its node;
``-> queued`` hands the run back (node stopping, or node dead and the run taken over)."""


def check_transition(old: str, new: str) -> None:
    """Raise Bug unless the table allows ``old -> new``."""
    if new not in TRANSITIONS.get(old, frozenset()):
        message = f"a run can't go from {old} to {new}"
        raise Bug(message)


class RunKey(msgspec.Struct, frozen=True, order=True):
    """The natural key of a run. ``trigger_id`` is empty for a planned slot.

    Ordered by time, so that new runs are appended and old ones are dropped as one range.
    """

    slot_us: int
    job_id: int
    trigger_id: str = ""

    @property
    def id(self) -> str:
        """The run's public id: the same on every node, over every attempt; holds no dot."""
        tail = f"-{self.trigger_id}" if self.trigger_id else ""
        return f"{self.job_id}-{self.slot_us}{tail}"

    @classmethod
    def parse(cls, text: str) -> RunKey:
        """Read a public id. Raises NotFoundError: a malformed id names no run."""
        job, _, rest = text.partition("-")
        slot, _, trigger = rest.partition("-")
        if not (job.isascii() and job.isdigit() and slot.isascii() and slot.isdigit()):
            message = f"no run {text!r}"
            raise NotFoundError(message, hint="a run id looks like 17-1763712000000000")
        if len(job) > 18 or len(slot) > 18 or len(trigger) > 64:
            message = f"no run {text[:80]!r}"
            raise NotFoundError(message, hint="a run id looks like 17-1763712000000000")
        return cls(int(slot), int(job), trigger)


class Run(Record, frozen=True):
    """One row of the ledger.

    ``due_us``: not started before (slot, or the time of a retry). ``until_us`` and ``count``
    describe a range of slots in one row (``missed`` or ``skipped``). ``code`` is an exit code or
    an HTTP status. ``token`` fences: it only grows for a job. ``node`` is the claimant's id.
    """

    key: RunKey
    project_id: int
    version: int
    state: State
    trigger: Trigger = "schedule"
    reason: str = ""
    attempt: int = 1
    token: int = 0
    node: str = ""
    due_us: int = 0
    claimed_us: int | None = None
    started_us: int | None = None
    finished_us: int | None = None
    code: int | None = None
    error: str = ""
    output_bytes: int = 0
    truncated: bool = False
    until_us: int | None = None
    count: int = 1
    cancel_requested: bool = False
    crashes: int = 0

    @property
    def id(self) -> str:
        """The run's public id."""
        return self.key.id


class Attempt(Record, frozen=True):
    """One try inside a run that did not end the run (a retry or a take-over followed)."""

    attempt: int
    token: int
    node: str
    state: State
    started_us: int | None
    finished_us: int | None
    code: int | None = None
    error: str = ""


class Outcome(Record, frozen=True):
    """How one attempt ended, as an executor or the engine saw it."""

    state: Literal["succeeded", "failed", "timed_out", "cancelled", "skipped"]
    code: int | None = None
    error: str = ""
    reason: str = ""
    retryable: bool = True
    retry_after_s: float | None = None
    output_bytes: int = 0
    truncated: bool = False
