"""What comes in and what goes out, as typed shapes; OpenAPI is generated from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from everbell.domain.job import (
    CommandAction,
    Dst,
    HttpAction,
    OnFailure,
    PythonAction,
    QueueAction,
    ScriptAction,
)
from everbell.domain.records import Scope
from everbell.domain.run import State, Trigger

ActionIn = HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction
Key = int | str
Time = Annotated[
    str, Meta(description="ISO 8601, UTC, ends with Z", extra_json_schema={"format": "date-time"})
]
Seconds = Annotated[float, Meta(description="Seconds")]


def _told(description: str = "", **schema: Any) -> Meta:
    """Tell readers of the reference; the use cases check, and say more than a schema can."""
    return Meta(description=description or None, extra_json_schema=schema)


_DATES = [{"format": "date-time"}, {"format": "date"}]
TimeIn = Annotated[str, _told("ISO 8601 with a zone, or a date (midnight UTC)", anyOf=_DATES)]
Name = Annotated[
    str, _told("Printable, no space around", minLength=1, maxLength=200, format="everbell-name")
]
Label = Annotated[str, _told("Printable, no space around", maxLength=200, format="everbell-name")]
Text = Annotated[str, _told(maxLength=4000, format="everbell-text")]
Reason = Annotated[str, _told(maxLength=1000, format="everbell-text")]
Cron = Annotated[
    str, _told("See the cron dialect", minLength=1, maxLength=1000, format="everbell-schedule")
]
Zone = Annotated[str, _told("IANA name", minLength=1, maxLength=100, format="everbell-timezone")]
Tag = Annotated[str, _told(minLength=1, maxLength=64, format="everbell-name")]
Owner = Annotated[str, _told("The file it was applied from", maxLength=100, format="everbell-name")]
Count = Annotated[int, _told(minimum=1, maximum=100)]
Jitter = Annotated[float, _told("Seconds", minimum=0, maximum=86_400)]
Window = Annotated[float, _told("Seconds", minimum=0, maximum=316_224_000)]
CatchUp = Annotated[int, _told(minimum=1, maximum=10_000)]
Retries = Annotated[int, _told(minimum=0, maximum=100)]
RetryDelay = Annotated[float, _told("Seconds", minimum=0, maximum=604_800)]
RetryCap = Annotated[float, _told("Seconds", minimum=0, maximum=2_678_400)]
Factor = Annotated[float, _told(minimum=1, maximum=100)]
Share = Annotated[float, _told(minimum=0, maximum=1)]
Parallel = Annotated[int, _told(minimum=1, maximum=1000)]
Timeout = Annotated[float, _told("Seconds", exclusiveMinimum=0, maximum=2_678_400)]
Grace = Annotated[float, _told("Seconds", minimum=0, maximum=2_592_000)]
Lifetime = Annotated[float, _told("Seconds", minimum=1, maximum=3_162_240_000)]


When = Annotated[
    str,
    Meta(extra_json_schema={"minLength": 1, "maxLength": 1000, "format": "everbell-schedule"}),
]
Excluded = Annotated[
    tuple[Annotated[str, Meta(extra_json_schema={"format": "everbell-exclusion"})], ...],
    Meta(
        description="Without slots: 2026-12-25, --12-25, --12-24..--01-06, sat,sun 22:00-06:00",
        extra_json_schema={"maxItems": 200},
    ),
]


class In(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies."""


class Out(msgspec.Struct, frozen=True, kw_only=True):
    """Base of answers."""


class ProjectIn(In, frozen=True, kw_only=True):
    """A project to be stored."""

    name: Name
    description: Text = ""


class ProjectPatch(In, frozen=True, kw_only=True):
    """What to change of a project."""

    name: Name | None = None
    description: Text | None = None


class ProjectOut(Out, frozen=True, kw_only=True):
    """A project."""

    id: int
    uuid: str
    name: str
    description: str
    created_at: Time
    updated_at: Time


class CredentialIn(In, frozen=True, kw_only=True):
    """A credential to be made. ``expires_in`` is in seconds."""

    name: Label = ""
    scopes: Annotated[tuple[Scope, ...], _told(minItems=1)] = ("read", "run", "write")
    project: Key | None = None
    expires_at: TimeIn | None = None
    expires_in: Lifetime | None = None


class RotateIn(In, frozen=True, kw_only=True):
    """How long the old secret stays good, in seconds."""

    grace: Grace = 86_400.0


class CredentialOut(Out, frozen=True, kw_only=True):
    """A credential; ``api_secret`` only in the answer to its making or rotation."""

    id: int
    uuid: str
    name: str
    api_key: str
    scopes: tuple[Scope, ...]
    project_id: int | None
    archived: bool
    created_at: Time
    expires_at: Time | None
    old_secret_until: Time | None = None
    api_secret: str | msgspec.UnsetType | None = msgspec.UNSET


class MisfireIn(In, frozen=True, kw_only=True):
    """What becomes of slots that no node was there to start; ``window`` in seconds."""

    policy: Literal["skip", "latest", "all"] = "latest"
    window: Window = 3600.0
    max_catch_up: CatchUp = 100


class RetryIn(In, frozen=True, kw_only=True):
    """Further attempts; ``delay`` and ``cap`` in seconds."""

    max: Retries = 0
    delay: RetryDelay = 1.0
    multiplier: Factor = 1.0
    cap: RetryCap = 3600.0
    jitter: Share = 0.0
    on: tuple[Literal["failed", "timed_out"], ...] = ("failed", "timed_out")


class ThenIn(In, frozen=True, kw_only=True):
    """A job to be started when a run ends; ``delay`` in seconds after the end."""

    job: Name
    on: Literal["success", "failure", "always"] = "success"
    delay: RetryDelay = 0.0


class JobIn(In, frozen=True, kw_only=True):
    """A job, in native names. The names of older schedulers are accepted too."""

    name: Name
    action: ActionIn
    project: Key | None = None
    description: Text = ""
    schedule: Cron | None = None
    timezone: Zone = "UTC"
    start_at: TimeIn | None = None
    end_at: TimeIn | None = None
    anchor_at: TimeIn | None = None
    override: When | None = None
    exclude: Excluded = ()
    repeat: bool = True
    jitter: Jitter = 0.0
    dst: Dst = Dst()
    week_start: str = "monday"
    misfire: MisfireIn = MisfireIn()
    overlap: Literal["skip", "queue", "allow", "replace"] = "skip"
    max_running: Parallel = 1
    retry: RetryIn | None = None
    timeout: Timeout | None = None
    on_failure: OnFailure = OnFailure()
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    data: Any = None
    check: ActionIn | None = None
    then: Annotated[tuple[ThenIn, ...], _told(maxItems=16)] = ()
    limits: Annotated[tuple[Tag, ...], _told(maxItems=8)] = ()
    tags: Annotated[tuple[Tag, ...], _told(maxItems=32)] = ()
    owner: Owner = ""
    enabled: bool = True


class JobOut(Out, frozen=True, kw_only=True):
    """A job. ``spec`` is ``schedule`` under its older name."""

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
    start_at: Time | None
    end_at: Time | None
    anchor_at: Time | None
    repeat: bool
    jitter: Seconds
    dst: Dst
    week_start: str
    action: ActionIn
    data: Any
    misfire: MisfireIn
    overlap: str
    max_running: int
    retry: RetryIn | None
    timeout: Seconds | None
    on_failure: OnFailure
    check: ActionIn | None
    then: tuple[ThenIn, ...]
    limits: tuple[str, ...]
    delivery: str
    tags: tuple[str, ...]
    owner: str
    enabled: bool
    parked: str
    quarantined: str
    failures: int
    version: int
    next_run: Time | None
    last_run: Time | None
    last_status: State | None
    last_skipped: Time | None
    created_at: Time
    startdate: Time
    updated_at: Time
    callback_url: str | msgspec.UnsetType = msgspec.UNSET
    frequency: float | msgspec.UnsetType = msgspec.UNSET


class AttemptOut(Out, frozen=True, kw_only=True):
    """One try inside a run that did not end the run."""

    attempt: int
    token: int
    node: str
    state: State
    started_at: Time | None
    finished_at: Time | None
    code: int | None
    error: str


class RunOut(Out, frozen=True, kw_only=True):
    """A run. ``until`` and ``count`` describe a range of slots in one row."""

    id: str
    job_id: int
    job_uuid: str
    job: str
    project_id: int
    slot: Time
    trigger: Trigger
    state: State
    reason: str
    attempt: int
    token: int
    node: str
    due_at: Time
    claimed_at: Time | None
    started_at: Time | None
    finished_at: Time | None
    duration_ms: float | None
    lateness_ms: float | None
    code: int | None
    error: str
    output_bytes: int
    truncated: bool
    until: Time | None
    count: int
    cancel_requested: bool
    attempts: tuple[AttemptOut, ...] | msgspec.UnsetType = msgspec.UNSET


class RunNow(In, frozen=True, kw_only=True):
    """Nothing needs to be said; ``reason`` is kept with the run."""

    reason: Reason = ""


class HoldIn(In, frozen=True, kw_only=True):
    """A hold. ``target`` is an id, uuid or name; ``project`` tells whose job's name it is.

    With ``until`` it ends by itself; ``then`` says what becomes of the slots missed (``skip``).
    """

    scope: Literal["all", "project", "job"]
    target: Key | None = None
    project: Key | None = None
    reason: Reason = ""
    until: TimeIn | None = None
    then: Literal["once", "each", "skip"] | None = None


class JobHoldIn(In, frozen=True, kw_only=True):
    """Why the job is held, and until when; ``then``: what becomes of the slots missed by then."""

    reason: Reason = ""
    until: TimeIn | None = None
    then: Literal["once", "each", "skip"] | None = None


class ReleaseIn(In, frozen=True, kw_only=True):
    """What becomes of the slots missed under the hold."""

    missed: Literal["once", "each", "skip"]


class HoldOut(Out, frozen=True, kw_only=True):
    """A hold."""

    id: int
    scope: str
    target_id: int
    reason: str
    who: str
    created_at: Time
    until: Time | None
    then: Literal["once", "each", "skip"] | None


class PreviewIn(In, frozen=True, kw_only=True):
    """A schedule to be explained; ``n`` slots (at most 100) after ``after``, or now."""

    schedule: Cron
    timezone: Zone = "UTC"
    n: Count = 5
    after: str | None = None
    start_at: str | None = None
    end_at: str | None = None
    exclude: Excluded = ()
    dst: Dst = Dst()
    week_start: str = "monday"


class SlotOut(Out, frozen=True, kw_only=True):
    """One planned instant, in UTC and in the schedule's zone.

    ``mark`` and ``note`` tell what a clock change does to it.
    """

    at: Time
    local: str
    mark: Literal["", "after_gap", "first_pass", "second_pass"]
    note: str


class ClockChangeOut(Out, frozen=True, kw_only=True):
    """A change of the zone's clocks (offsets in seconds), and what the schedule does there."""

    at: Time
    local: str
    before: int
    after: int
    note: str


class PreviewOut(Out, frozen=True, kw_only=True):
    """A schedule in words, its next slots, and what may surprise.

    ``excluded`` holds instants that the exclusions take out, ``clock_changes`` the zone's next two.
    """

    schedule: str | None
    timezone: str
    description: str
    warnings: tuple[str, ...]
    next: tuple[SlotOut, ...]
    excluded: tuple[SlotOut, ...]
    clock_changes: tuple[ClockChangeOut, ...]


class AuditOut(Out, frozen=True, kw_only=True):
    """A change: ``before`` and ``after`` are digests of the thing, empty where there was none."""

    id: int
    at: Time
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


class Health(Out, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the process lives (or can work), and why not.

    ``degraded``: it works, and ``notes`` tell what people should know.
    """

    status: Literal["ok", "ready", "degraded"]
    notes: tuple[str, ...] = ()


class PageOut(Out, frozen=True, kw_only=True):
    """Where in a list this page stands."""

    limit: int
    offset: int | msgspec.UnsetType = msgspec.UNSET
    total: int | msgspec.UnsetType = msgspec.UNSET
    next: str | msgspec.UnsetType | None = msgspec.UNSET


class ProblemField(Out, frozen=True, kw_only=True):
    """One wrong field."""

    pointer: str
    code: str
    message: str
    hint: str


class Problem(Out, frozen=True, kw_only=True):
    """An error, after RFC 9457. ``code`` is stable, for programs to branch on."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str
    instance: str
    request_id: str
    success: bool = False
    errors: tuple[ProblemField, ...] = ()
    suggestions: tuple[str, ...] = ()
    position: int | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
