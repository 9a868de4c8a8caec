"""What goes in and out of the ledger's tools."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from everbell.api.schemas import In, Out, Reason, RunOut, Seconds, Time, TimeIn


class SkipIn(In, frozen=True, kw_only=True):
    """Which coming slot does not run (the next one), and why."""

    slot: TimeIn | None = None
    reason: Reason = ""


class InsteadIn(In, frozen=True, kw_only=True):
    """Which coming slot does not run (the next one), when it runs instead (now), and why."""

    slot: TimeIn | None = None
    at: TimeIn | None = None
    reason: Reason = ""


class SkippedOut(Out, frozen=True, kw_only=True):
    """The row of a slot that a person skipped, and the run in its place."""

    skipped: RunOut
    instead: RunOut | None


class FindingOut(Out, frozen=True, kw_only=True):
    """Something that does not add up: ``count`` slots of a job, from ``first`` to ``last``.

    ``gap``: slots without a row. ``undecided``: the same from the job's next slot on. ``no_slot``:
    a row of no slot. ``wrong_count``: a range that counts other slots than the schedule has.
    ``double``: slots with two rows. ``not_final``: a row long overdue. ``why`` explains it; empty:
    nothing does.
    """

    job_id: int
    job: str
    project_id: int
    kind: Literal["gap", "undecided", "no_slot", "wrong_count", "double", "not_final"]
    first: Time
    last: Time
    count: int
    run: str | None
    detail: str
    why: str


class VerifyOut(Out, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What was compared: ``slots`` that the schedules planned, with what became of them.

    ``next`` given: ask again with it as ``cursor``; the numbers are those of this part.
    """

    from_: Time
    to: Time
    jobs: int
    slots: int
    states: Annotated[dict[str, int], Meta(description="Slots by the state of their row")]
    unexplained: int
    explained: int
    findings: tuple[FindingOut, ...]
    next: str | None


class SlotToldOut(Out, frozen=True, kw_only=True):
    """A slot, in UTC and in the job's zone, and what became of it."""

    at: Time
    local: str
    words: str
    run: RunOut | None


class WhyOut(Out, frozen=True, kw_only=True):
    """Why a job ran, or not: ``verdict`` says it, ``facts`` bear on it.

    ``slot`` is the slot at that time, ``before`` and ``after`` are the nearest ones; ``beside``
    holds runs that were active then; ``version`` is the definition's at that time.
    """

    job_id: int
    job: str
    timezone: str
    at: Time
    local: str
    verdict: str
    facts: tuple[str, ...]
    version: int | None
    slot: SlotToldOut | None
    before: SlotToldOut | None
    after: SlotToldOut | None
    beside: tuple[RunOut, ...]


class BackfillIn(In, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Which slots of the past are run: both ends belong to it; at most ``max`` of them."""

    from_: TimeIn
    to: TimeIn
    max: Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 1000})] = 100
    dry_run: bool = False
    reason: Reason = ""


class FilledSlot(Out, frozen=True, kw_only=True):
    """A slot without a successful run; ``before`` is what became of it, ``run`` what fills it."""

    at: Time
    local: str
    before: str
    run: RunOut | None


class BackfillOut(Out, frozen=True, kw_only=True):
    """The slots that are filled, or would be. ``more`` are left out, ``done`` had run,
    ``waiting`` are being filled already.
    """

    started: bool
    slots: tuple[FilledSlot, ...]
    done: int
    waiting: int
    more: int


class OutageOut(Out, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A time in which no node is up."""

    from_: Time
    to: Time
    local_from: str
    local_to: str


class FateOut(Out, frozen=True, kw_only=True):
    """What becomes of a slot, or of ``count`` slots up to ``until``; ``at``: when it runs."""

    slot: Time
    local: str
    what: Literal["runs", "late", "catch_up", "again", "lost", "skipped", "missed", "cancelled"]
    at: Time | None
    local_at: str | None
    reason: str
    until: Time | None
    count: int
    note: str


class JobFateOut(Out, frozen=True, kw_only=True):
    """One job through the outage, from the last slot before to the first one after."""

    job_id: int
    job: str
    project_id: int
    timezone: str
    misfire: str
    overlap: str
    counts: Annotated[dict[str, int], Meta(description="Slots by what becomes of them")]
    fates: tuple[FateOut, ...]
    more: int
    note: str


class SimulateOut(Out, frozen=True, kw_only=True):
    """What an outage would do. ``next`` given: more jobs follow, ask again with it as cursor."""

    timezone: str
    takes: Seconds
    outages: tuple[OutageOut, ...]
    jobs: tuple[JobFateOut, ...]
    next: str | None
