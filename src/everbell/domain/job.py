"""The job: what to run (action), when (schedule) and how (policies)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import Schedule, parse_schedule

US = 1_000_000
"""Microseconds in a second; every time inside Everbell is whole microseconds since the epoch."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of immutable records."""


class HttpAction(Record, frozen=True, tag_field="kind", tag="http"):
    """An HTTP request. Success is a status inside ``success`` (``2xx`` or single codes).

    ``batch``: runs that start together and agree in all of this share one request, whose body is
    an array.
    """

    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "POST"
    headers: dict[str, str] = {}
    success: tuple[str, ...] = ("2xx",)
    batch: bool = False


class CommandAction(Record, frozen=True, tag_field="kind", tag="command"):
    """A program with its arguments, started without a shell.

    ``env`` is added to a small allow-listed environment; ``user`` needs a privileged node.
    """

    argv: tuple[str, ...]
    cwd: str | None = None
    env: dict[str, str] = {}
    user: str | None = None


class ScriptAction(Record, frozen=True, tag_field="kind", tag="script"):
    """A stored text, given to an allowed interpreter (sh, bash, python, node)."""

    text: str
    interpreter: str = "sh"
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = {}
    user: str | None = None


class PythonAction(Record, frozen=True, tag_field="kind", tag="python"):
    """A Python function, named as ``module:function``; args, kwargs and results are JSON values.

    ``mode``: ``auto`` awaits an async function on the loop and calls another one in a thread;
    ``inline`` calls it on the loop (it must not block); ``subprocess`` starts an interpreter that
    can be killed. ``app`` is the program that registered it; ``retired`` tells why its code no
    longer has it.
    """

    function: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    mode: Literal["auto", "thread", "inline", "subprocess"] = "auto"
    app: str = ""
    retired: str = ""


class QueueAction(Record, frozen=True, tag_field="kind", tag="queue"):
    """A message for other programs, on the queue of ``driver``, one that the settings list.

    ``data`` replaces the job's. ``max_length``: messages in the queue above which the run fails
    instead of adding; 0 = no limit, None = the node's setting.
    """

    driver: str
    data: Any = None
    max_length: int | None = None


Action = HttpAction | CommandAction | ScriptAction | PythonAction | QueueAction


class Misfire(Record, frozen=True):
    """What becomes of slots that no node was there to start.

    ``skip``: none runs. ``latest``: the newest inside the window runs. ``all``: the newest
    ``max_catch_up`` inside the window run, oldest first. The rest are ``missed`` in the ledger.
    """

    policy: Literal["skip", "latest", "all"] = "latest"
    window_s: float = 3600.0
    max_catch_up: int = 100


class Retry(Record, frozen=True):
    """``max`` further attempts; the k-th waits ``delay_s * multiplier**(k-1)``, at most ``cap_s``.

    ``jitter`` (0..1) shortens the wait by up to that share, by a value derived from the run's key.
    """

    max: int = 0
    delay_s: float = 1.0
    multiplier: float = 1.0
    cap_s: float = 3600.0
    jitter: float = 0.0
    on: tuple[Literal["failed", "timed_out"], ...] = ("failed", "timed_out")


class Dst(Record, frozen=True):
    """What a local time that does not exist, or exists twice, means (Debian cron by default)."""

    gap: Literal["run_after", "skip"] = "run_after"
    overlap: Literal["first", "second", "both"] = "first"


class OnFailure(Record, frozen=True):
    """``park_after`` N failed runs in a row parks the job until resolved; 0 = never."""

    park_after: int = 0


class Then(Record, frozen=True):
    """A job to be started when a run ends. ``job`` is a name in the same project, an id or a uuid.

    ``on``: ``success``; ``failure`` (failed, timed out, lost); ``always``. ``delay_s``: how long
    after the end. Nothing follows a run that was cancelled while it waited.
    """

    job: str
    on: Literal["success", "failure", "always"] = "success"
    delay_s: float = 0.0


class Definition(Record, frozen=True):
    """All that a person says about a job. ``schedule`` None = runs only when triggered.

    ``override`` is a schedule set by people: while it is there, it replaces ``schedule``, the
    default. ``exclude`` lists dates and windows in which there are no slots.
    ``anchor_us`` fixes the phase of ``every`` schedules (default: creation). ``repeat`` False =
    the first slot only. ``timeout_s`` and ``retry`` None = the node's defaults for the action.
    ``max_running`` is the number of runs at once before ``overlap`` decides.
    ``data`` is handed verbatim to the target.
    ``owner`` names the file that the job was applied from; only that file removes it again.
    ``check`` is performed first, for planned runs: nothing to do = the run is skipped.
    ``then`` lists jobs that follow. ``limits`` names concurrency limits shared with other jobs of
    the project.
    """

    name: str
    action: Action
    description: str = ""
    schedule: str | None = None
    override: str | None = None
    exclude: tuple[str, ...] = ()
    timezone: str = "UTC"
    start_us: int | None = None
    end_us: int | None = None
    anchor_us: int | None = None
    repeat: bool = True
    jitter_s: float = 0.0
    dst: Dst = Dst()
    week_start: str = "monday"
    misfire: Misfire = Misfire()
    overlap: Literal["skip", "queue", "allow", "replace"] = "skip"
    max_running: int = 1
    retry: Retry | None = None
    timeout_s: float | None = None
    on_failure: OnFailure = OnFailure()
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    data: Any = None
    check: Action | None = None
    then: tuple[Then, ...] = ()
    limits: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    owner: str = ""

    @property
    def active_most(self) -> int | None:
        """How many of its runs may be active at once; None = no bound."""
        return None if self.overlap == "allow" else self.max_running

    @property
    def active_schedule(self) -> str | None:
        """The text that counts: the override, or else the default; None = only triggered."""
        return self.schedule if self.override is None else self.override


class Job(Record, frozen=True):
    """A stored job. ``version`` grows with every change of the definition or of ``enabled``.

    ``next_slot_us`` is the cursor: the first slot that is not yet decided; None = none planned.
    ``release_policy`` tells what becomes of slots up to ``release_until_us``, missed under a hold.
    ``parked`` and ``quarantined`` hold the reason; empty = not.
    ``ranged_until_us``: slots up to it may be accounted for by a row that is a range, so that the
    cursor is never set back behind it.
    """

    id: int
    uuid: str
    project_id: int
    definition: Definition
    version: int
    enabled: bool
    created_us: int
    updated_us: int
    next_slot_us: int | None
    parked: str = ""
    quarantined: str = ""
    failures: int = 0
    release_policy: Literal["", "skip", "once", "each"] = ""
    release_until_us: int = 0
    ranged_until_us: int = 0

    @property
    def name(self) -> str:
        """The job's name, unique inside its project."""
        return self.definition.name


class JobVersion(Record, frozen=True):
    """What a job was from ``since_us`` on; the ledger is verified against these."""

    job_id: int
    version: int
    since_us: int
    enabled: bool
    definition: Definition


def compile_schedule(definition: Definition, uuid: str, created_us: int) -> Schedule | None:
    """Return the job's schedule, or None if only a trigger starts it.

    Raises ScheduleError for a text, a zone or bounds that can't be read.
    """
    if not definition.active_schedule:
        return None
    anchor = definition.anchor_us
    if anchor is None:
        anchor = definition.start_us if definition.start_us is not None else created_us
    schedule = _parse(definition, uuid, anchor, definition.end_us)
    if definition.repeat:
        return schedule
    first = schedule.next_us(created_us)
    return schedule if first is None else _parse(definition, uuid, anchor, first)


def _parse(definition: Definition, uuid: str, anchor_us: int, end_us: int | None) -> Schedule:
    return parse_schedule(
        definition.active_schedule or "",
        definition.timezone,
        anchor_us=anchor_us,
        start_us=definition.start_us,
        end_us=end_us,
        dst_gap=definition.dst.gap,
        dst_overlap=definition.dst.overlap,
        hash_key=uuid,
        week_start=definition.week_start.lower(),
        jitter_s=definition.jitter_s,
        exclude=definition.exclude,
    )


def settle_override(definition: Definition) -> Definition:
    """Return the definition without an override that says the same as the default.

    So that a later change of the default is not held up by an override that nobody meant. Texts
    that can't be read are left for the checks that name what is wrong.
    """
    if definition.override is None or definition.schedule is None:
        return definition
    alone = msgspec.structs.replace(
        definition, exclude=(), start_us=None, end_us=None, jitter_s=0.0
    )
    try:
        ours = _parse(alone, "", 0, None).rule()
        default = _parse(msgspec.structs.replace(alone, override=None), "", 0, None).rule()
    except ScheduleError:
        return definition
    if ours != default:
        return definition
    return msgspec.structs.replace(definition, override=None)
