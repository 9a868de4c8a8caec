"""What the server answers, as frozen records.

Times are aware datetimes in UTC, durations seconds, except where the name ends with ``_ms``.
Words such as states stay text: a newer server may know more of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from everbell.client.shapes import Action, Dst, Misfire, OnFailure, Retry, Then

T = TypeVar("T")
FINAL_STATES = frozenset(
    ("succeeded", "failed", "timed_out", "cancelled", "lost", "missed", "skipped")
)
"""A run in one of these has ended for good."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of answers. What a newer server adds is left out."""


class Project(Record, frozen=True):
    """A namespace of jobs. ``etag`` is empty in lists: only ``get`` and changes tell it."""

    id: int
    uuid: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    etag: str = ""


class Credential(Record, frozen=True):
    """A key. ``api_secret`` is only in the answer to its making or rotation."""

    id: int
    uuid: str
    name: str
    api_key: str
    scopes: tuple[str, ...]
    project_id: int | None
    archived: bool
    created_at: datetime
    expires_at: datetime | None
    old_secret_until: datetime | None = None
    api_secret: str | None = None

    def __repr__(self) -> str:
        return f"Credential(id={self.id}, name={self.name!r}, api_key={self.api_key!r})"


class Job(Record, frozen=True):
    """A job. ``spec``, ``startdate``, ``callback_url``, ``frequency`` repeat it in older words."""

    id: int
    uuid: str
    project_id: int
    project_uuid: str
    project: str
    name: str
    description: str
    schedule: str | None
    spec: str | None
    override: str | None
    exclude: tuple[str, ...]
    timezone: str
    start_at: datetime | None
    end_at: datetime | None
    anchor_at: datetime | None
    repeat: bool
    jitter: float
    dst: Dst
    week_start: str
    action: Action
    data: Any
    misfire: Misfire
    overlap: str
    max_running: int
    retry: Retry | None
    timeout: float | None
    on_failure: OnFailure
    delivery: str
    tags: tuple[str, ...]
    enabled: bool
    parked: str
    quarantined: str
    failures: int
    version: int
    next_run: datetime | None
    last_run: datetime | None
    last_status: str | None
    last_skipped: datetime | None
    created_at: datetime
    startdate: datetime
    updated_at: datetime
    check: Action | None = None
    then: tuple[Then, ...] = ()
    limits: tuple[str, ...] = ()
    owner: str = ""
    callback_url: str | None = None
    frequency: float | None = None

    @property
    def etag(self) -> str:
        """Its version, to be given as ``if_match``."""
        return f'"{self.version}"'


class Attempt(Record, frozen=True):
    """One try inside a run that did not end the run."""

    attempt: int
    token: int
    node: str
    state: str
    started_at: datetime | None
    finished_at: datetime | None
    code: int | None
    error: str


class Run(Record, frozen=True):
    """What became of a slot. ``until`` and ``count`` describe a range of slots in one row."""

    id: str
    job_id: int
    job_uuid: str
    job: str
    project_id: int
    slot: datetime
    trigger: str
    state: str
    reason: str
    attempt: int
    token: int
    node: str
    due_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    lateness_ms: float | None
    code: int | None
    error: str
    output_bytes: int
    truncated: bool
    until: datetime | None
    count: int
    cancel_requested: bool
    attempts: tuple[Attempt, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether its outcome is final."""
        return self.state in FINAL_STATES


class Output(Record, frozen=True):
    """A piece of a run's output. ``offset`` counts the attempt's bytes before it.

    ``id`` is the place after it: ``follow(..., after=id)`` goes on there.
    """

    attempt: int
    offset: int
    stream: str
    text: str
    id: str = ""


class End(Record, frozen=True):
    """The last event of a run that is followed."""

    run: Run


class Hold(Record, frozen=True):
    """Nothing new starts in a scope until it is released, or by itself at ``until``."""

    id: int
    scope: str
    target_id: int
    reason: str
    who: str
    created_at: datetime
    until: datetime | None = None
    then: str | None = None


class Skipped(Record, frozen=True):
    """A slot that a person skipped, and the run in its place."""

    skipped: Run
    instead: Run | None


class SlotTold(Record, frozen=True):
    """A slot, in UTC and in the job's zone, and what became of it."""

    at: datetime
    local: str
    words: str
    run: Run | None


class Why(Record, frozen=True):
    """Why a job ran, or not: ``verdict`` says it, ``facts`` bear on it.

    ``slot`` is the slot at that time, ``before`` and ``after`` are the nearest ones; ``beside``
    holds runs that were active then.
    """

    job_id: int
    job: str
    timezone: str
    at: datetime
    local: str
    verdict: str
    facts: tuple[str, ...]
    version: int | None
    slot: SlotTold | None
    before: SlotTold | None
    after: SlotTold | None
    beside: tuple[Run, ...]


class FilledSlot(Record, frozen=True):
    """A slot without a successful run: ``before`` is what became of it, ``run`` what fills it."""

    at: datetime
    local: str
    before: str
    run: Run | None


class Backfill(Record, frozen=True):
    """The slots that are filled, or would be (``started`` false).

    ``more`` are left out, ``done`` had run, ``waiting`` are being filled already.
    """

    started: bool
    slots: tuple[FilledSlot, ...]
    done: int
    waiting: int
    more: int


class Outage(Record, frozen=True, rename={"start": "from", "end": "to"}):
    """A time in which no node is up."""

    start: datetime
    end: datetime
    local_from: str
    local_to: str


class Fate(Record, frozen=True):
    """What becomes of a slot, or of ``count`` slots up to ``until``; ``at`` is when it runs."""

    slot: datetime
    local: str
    what: str
    at: datetime | None
    local_at: str | None
    reason: str
    until: datetime | None
    count: int
    note: str


class JobFate(Record, frozen=True):
    """One job through the outages; ``counts`` are its slots by what becomes of them."""

    job_id: int
    job: str
    project_id: int
    timezone: str
    misfire: str
    overlap: str
    counts: dict[str, int]
    fates: tuple[Fate, ...]
    more: int
    note: str


class Simulation(Record, frozen=True):
    """What outages would do, when each run lasts ``takes`` seconds. ``next`` leads on to more."""

    timezone: str
    takes: float
    outages: tuple[Outage, ...]
    jobs: tuple[JobFate, ...]
    next: str | None


class Finding(Record, frozen=True):
    """Something that does not add up: ``count`` slots of a job, from ``first`` to ``last``."""

    job_id: int
    job: str
    project_id: int
    kind: str
    first: datetime
    last: datetime
    count: int
    run: str | None
    detail: str
    why: str


class Verification(Record, frozen=True, rename={"start": "from", "end": "to"}):
    """A part of the ledger beside what the schedules planned. ``next`` leads on to more."""

    start: datetime
    end: datetime
    jobs: int
    slots: int
    states: dict[str, int]
    unexplained: int
    explained: int
    findings: tuple[Finding, ...]
    next: str | None


class Limit(Record, frozen=True):
    """How many runs of the jobs that name it may be active at once; ``active`` are, now."""

    name: str
    project_id: int
    project: str
    most: int
    active: int
    jobs: int


class FieldChange(Record, frozen=True):
    """A field that changes, by the name it has in a job; None = it is not there."""

    field: str
    before: Any
    after: Any


class Seam(Record, frozen=True):
    """What an edit does at the moment it is made: slots are missed, or run once more."""

    kind: str
    last: datetime
    next: datetime | None
    slots: tuple[datetime, ...]


class Moves(Record, frozen=True):
    """Slots of a job before and after, up to ``until``; ``gone`` and ``new`` are the first ones."""

    until: datetime
    whole: bool
    before: tuple[datetime, ...]
    after: tuple[datetime, ...]
    gone: tuple[datetime, ...]
    new: tuple[datetime, ...]
    gone_count: int
    new_count: int
    kept_count: int
    edit: Seam | None


class Step(Record, frozen=True):
    """What is done with one job. ``id`` None = a new one; ``moves`` None = no slot moves."""

    what: str
    project: str
    job: str
    id: int | None
    timezone: str
    fields: tuple[FieldChange, ...]
    moves: Moves | None


class Load(Record, frozen=True):
    """Mean starts per hour, and the busiest minute; None = nothing starts."""

    per_hour: float
    peak: int
    peak_at: datetime | None


class Plan(Record, frozen=True):
    """What was done, or would be (``applied`` false), and the load before and after."""

    applied: bool
    owner: str
    at: datetime
    steps: tuple[Step, ...]
    added: int
    changed: int
    removed: int
    unchanged: int
    load_before: Load
    load_after: Load
    load_until: datetime


class Slot(Record, frozen=True):
    """A planned instant, in UTC and in the schedule's zone, and what a clock change does to it."""

    at: datetime
    local: str
    mark: str
    note: str


class ClockChange(Record, frozen=True):
    """A change of the zone's clocks (offsets in seconds), and what the schedule does there."""

    at: datetime
    local: str
    before: int
    after: int
    note: str


class Preview(Record, frozen=True):
    """A schedule in words, its next slots, and what may surprise."""

    schedule: str | None
    timezone: str
    description: str
    warnings: tuple[str, ...]
    next: tuple[Slot, ...]
    excluded: tuple[Slot, ...]
    clock_changes: tuple[ClockChange, ...]


class AuditEntry(Record, frozen=True):
    """A change: ``before`` and ``after`` are digests of the thing, empty where there was none."""

    id: int
    at: datetime
    who: str
    credential_id: int | None
    address: str
    request_id: str
    what: str
    kind: str
    target: str
    project_id: int | None
    before: str
    after: str


class Health(Record, frozen=True):
    """Whether the process lives, or can work; ``notes`` tell what people should know."""

    status: str
    notes: tuple[str, ...] = ()


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list. ``total`` is counted for most lists, ``next`` leads on in the others."""

    items: list[T]
    limit: int
    offset: int | None = None
    total: int | None = None
    next: str | None = None
