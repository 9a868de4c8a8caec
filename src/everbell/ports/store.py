"""The store: three small ports, one per consumer. Verbs are nouns of the domain, not SQL.

Common obligations:

- Each verb is one atomic batch: all of it happens or none of it.
- ``now_us`` and ids are parameters; the store reads no clock and draws no random number.
- What a verb acknowledges is durable.
- Lists are bounded by ``limit`` and ordered as said; the order is part of the contract.
- Failures: StoreUnavailable (nothing done), StoreConflict (re-read), StoreCorrupt (stop),
  StoreUnknownOutcome (re-read by key); plus NotFoundError and ConflictError where said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from everbell.domain.decision import Claim, Decision, DueJob, LeftBehind, Mark
from everbell.domain.job import Definition, Job, JobVersion, Record
from everbell.domain.records import Credential, Hold, Limit, Project
from everbell.domain.run import Attempt, Run, RunKey, State, Trigger
from everbell.ports.audit import AuditStore
from everbell.ports.cluster import Assignment, ClusterStore, Pulse, Share

__all__ = [  # noqa: RUF022  (grouped by port)
    "Claim",
    "Decision",
    "DueJob",
    "LeftBehind",
    "Mark",
    "NewJob",
    "Page",
    "JobFilter",
    "RunFilter",
    "Revoked",
    "DefinitionStore",
    "Decided",
    "NewRun",
    "Finish",
    "Verdict",
    "Finished",
    "OutputChunk",
    "RunStore",
    "Share",
    "Pulse",
    "Assignment",
    "ClusterStore",
    "Store",
]


class NewJob(Record, frozen=True):
    """A job to be stored."""

    uuid: str
    project_id: int
    definition: Definition
    next_slot_us: int | None
    enabled: bool = True


class Page(Record, frozen=True):
    """Which part of a list."""

    limit: int = 50
    offset: int = 0


class JobFilter(Record, frozen=True):
    """``project_ids`` None = every project, empty = none. ``search``: part of a name, any case.

    ``after``: only jobs with a greater id.
    """

    project_ids: tuple[int, ...] | None = None
    search: str = ""
    name: str | None = None
    enabled: bool | None = None
    parked: bool | None = None
    after: int = 0


class RunFilter(Record, frozen=True):
    """Empty tuples and None do not filter; no ``project_ids`` at all = nothing, not everything.

    Slots are inclusive bounds.
    """

    project_ids: tuple[int, ...] | None = None
    job_id: int | None = None
    states: tuple[State, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    from_us: int | None = None
    to_us: int | None = None
    node: str | None = None


class Revoked(Record, frozen=True):
    """Claims that a change withdrew before they started; nodes must drop them."""

    keys: tuple[RunKey, ...] = ()


class DefinitionStore(Protocol):
    """Projects, credentials, jobs and holds.

    - Names of projects are unique; names of jobs are unique inside a project: ConflictError.
    - ``add_jobs`` is all or nothing; LimitError if a project would have more than ``most`` jobs.
    - ``change_project``, ``delete_project`` and ``delete_job`` with an expected ``updated_us`` or
      version are compare-and-set: StoreConflict if it is not the one stored.
    - ``change_job`` is a compare-and-set on ``version``: StoreConflict if it is not the one given.
      It bumps the version, records a JobVersion and sets the cursor.
    - ``change_job`` writes the marks of ``left_behind`` under the version that it replaces, if
      the cursor is still the one given there and no range meets rows; StoreConflict if not. Its
      ``instead`` is queued in the same batch. ``ranged_until_us`` of a job is the end of the last
      range that was stored for it.
    - Of a job that is disabled after ``change_job``, queued first attempts that nobody asked for
      by hand end as ``skipped`` (``disabled``).
    - A change, disable or hold withdraws claims whose ``due_us`` is after ``now_us + NOTICE_US``
      (domain.notice), but no slot that was due when it was claimed: the runs vanish from the ledger
      and the cursor goes back to the earliest of them (a change of definition, and a disable, set
      the cursor themselves). They are returned, so that nodes can drop them. Delete withdraws all
      that is not due. Queued runs of a deleted job go with it.
    - Deleting a job removes its runs, output and versions; the name can be used again.
    - A first attempt of a queued run that was taken before it was due goes back to the queue;
      retries that wait are left, except by delete.
    - Deleting a project that has jobs is a ConflictError; its hold goes, its credentials are
      archived.
    - A job whose stored definition can't be read is returned with a placeholder (a command without
      arguments, no schedule) and as quarantined; ``change_job`` refuses to store the placeholder.
    - ``set_limit`` stores how many runs may share a limit; a name that jobs use without a stored
      limit allows one. ``list_limits`` shows both kinds, by (project, name).
    - ``release`` removes the hold and marks the jobs of its scope with the choice; slots before
      ``now_us`` are then decided by that choice.
    """

    async def add_project(self, project: Project) -> Project:
        """Store a project (its ``id`` is ignored) and return it with its id."""
        ...

    async def get_project(self, key: int | str) -> Project:
        """Return a project by id, uuid or name (in this order). Raises NotFoundError."""
        ...

    async def list_projects(
        self, ids: tuple[int, ...] | None, page: Page
    ) -> tuple[list[Project], int]:
        """Return projects in order of id, and how many there are in all."""
        ...

    async def change_project(self, project: Project, expected_us: int | None = None) -> Project:
        """Store name and description. Raises NotFoundError, ConflictError."""
        ...

    async def delete_project(self, project_id: int, expected_us: int | None = None) -> None:
        """Delete an empty project. Raises NotFoundError, ConflictError."""
        ...

    async def add_credential(self, credential: Credential) -> Credential:
        """Store a credential (its ``id`` is ignored) and return it with its id."""
        ...

    async def find_credential(self, api_key: str) -> Credential | None:
        """Return the credential with this API key."""
        ...

    async def get_credential(self, key: int | str) -> Credential:
        """Return a credential by id, uuid or api key. Raises NotFoundError."""
        ...

    async def list_credentials(self, page: Page) -> tuple[list[Credential], int]:
        """Return credentials in order of id, and how many there are in all."""
        ...

    async def change_credential(self, credential: Credential) -> Credential:
        """Store hashes, scopes, expiry and ``archived``. Raises NotFoundError."""
        ...

    async def add_jobs(
        self, jobs: Sequence[NewJob], now_us: int, most: int | None = None
    ) -> list[Job]:
        """Store jobs, all or none, and return them in the order given."""
        ...

    async def get_job(self, key: int | str) -> Job:
        """Return a job by id or uuid. Raises NotFoundError."""
        ...

    async def get_jobs(self, ids: Sequence[int]) -> list[Job]:
        """Return those of the jobs that exist, in order of id."""
        ...

    async def list_jobs(self, where: JobFilter, page: Page) -> tuple[list[Job], int]:
        """Return jobs in order of id, and how many match in all."""
        ...

    async def change_job(
        self,
        job: Job,
        expected_version: int,
        now_us: int,
        left_behind: LeftBehind | None = None,
    ) -> tuple[Job, Revoked]:
        """Store definition, enabled, parked, quarantined, failures and cursor of ``job``."""
        ...

    async def delete_job(
        self, job_id: int, now_us: int, expected_version: int | None = None
    ) -> Revoked:
        """Delete a job and all that belongs to it. Raises NotFoundError."""
        ...

    async def job_versions(self, job_id: int) -> list[JobVersion]:
        """Return what the job was, oldest first."""
        ...

    async def add_hold(self, hold: Hold) -> tuple[Hold, Revoked]:
        """Hold a scope (``id`` is ignored). ConflictError if the scope is held already."""
        ...

    async def list_holds(self) -> list[Hold]:
        """Return all holds in order of id."""
        ...

    async def release(
        self, hold_id: int, choice: Literal["skip", "once", "each"], now_us: int
    ) -> Hold:
        """Remove a hold and mark its jobs with the choice. Raises NotFoundError."""
        ...

    async def set_limit(self, limit: Limit) -> Limit:
        """Store or change a limit. Raises NotFoundError: no such project."""
        ...

    async def delete_limit(self, project_id: int, name: str) -> None:
        """Forget a limit: jobs that name it share one. Raises NotFoundError."""
        ...

    async def list_limits(self, project_ids: tuple[int, ...] | None) -> list[Limit]:
        """Return limits with what is active; None = of every project."""
        ...

    async def remember(self, scope: str, key: str, value: bytes, now_us: int) -> bytes | None:
        """Store an answer under (scope, key) unless one is there; return the earlier one if so."""
        ...

    async def meta(self, key: str, value: str | None = None) -> str:
        """Return a named value of the store; if ``value`` is given and none is there, set it."""
        ...


class Decided(Record, frozen=True):
    """The answer to one Decision.

    ``done``: stored; ``runs`` are the claims won. ``blocked``: a claim met ``max_active`` runs;
    nothing of this decision was stored. ``stale``: the job was edited, moved, held, disabled or
    deleted; nothing was stored. ``overlaps``: a mark that is a range met rows inside of it; nothing
    was stored, and the slots need a mark each. A claim whose (job, slot) exists already is left
    out of ``runs``.
    """

    outcome: Literal["done", "blocked", "stale", "overlaps"]
    runs: tuple[Run, ...] = ()


class NewRun(Record, frozen=True):
    """A run that no slot plans. The same key again starts nothing twice."""

    key: RunKey
    project_id: int
    version: int
    trigger: Trigger
    due_us: int
    reason: str = ""


class Finish(Record, frozen=True):
    """The end of an attempt. ``next_due_us`` given = the run goes on with another attempt.

    ``failures``: "reset" or "count" the job's failures in a row, or "keep"; with "count" the job
    is parked when there are ``park_after`` of them (0 = never). ``started_us`` None leaves what
    ``mark_running`` stored, and an empty ``reason`` the one that is there. ``then`` are runs to be
    queued with the end of the run, unless it was told before.
    """

    run: Run
    state: State
    started_us: int | None
    finished_us: int
    code: int | None = None
    error: str = ""
    reason: str = ""
    output_bytes: int = 0
    truncated: bool = False
    next_due_us: int | None = None
    failures: Literal["reset", "count", "keep"] = "keep"
    park_after: int = 0
    then: tuple[NewRun, ...] = ()


class Verdict(Record, frozen=True):
    """What becomes of an orphan: ``queued`` (taken over) or ``lost``; ``then`` if it is lost."""

    run: Run
    state: Literal["queued", "lost"]
    reason: str
    then: tuple[NewRun, ...] = ()


class Finished(Record, frozen=True):
    """The answer to one Finish. ``stored``: with ``run`` as it now is. ``stale``: refused."""

    outcome: Literal["stored", "stale"]
    run: Run | None = None


class OutputChunk(Record, frozen=True):
    """Part of a run's output. ``offset`` counts the bytes of the run's output before it."""

    key: RunKey
    attempt: int
    offset: int
    stream: str
    at_us: int
    data: bytes


class RunStore(Protocol):
    """The ledger.

    - One row per RunKey, ever: a second insert of a key does nothing.
    - ``due`` lists enabled, not parked, not quarantined, not held jobs whose cursor is at most
      ``until_us``, by (cursor, id); with a ``share``, jobs of other shards only if their cursor
      is at most ``until_us - behind_us``.
    - ``decide`` answers each decision by itself, in order; see Decision and Decided. Claimed runs
      carry attempt 1 and a token greater than any that the job had before.
    - ``take_queued`` claims up to ``limit`` queued runs with ``due_us <= now_us``, by (due, key),
      of jobs that are not held and have fewer active runs than their definition's ``max_running``
      (no bound for overlap ``allow``), and whose limits, shared with the active runs of other jobs,
      have room; with ``keys`` only those of them. The attempt stays, the token is new, the version
      becomes the job's current one. The reason of a planned run that waited (``domain.run.WAITS``)
      goes. Of disabled or parked jobs only manual runs and later attempts are taken.
    - ``finish`` is guarded by (key, attempt, token): a superseded attempt is ``stale``. The same
      finish again is ``stored`` again. A claim withdrawn before its start that ran nevertheless
      is recorded (the ledger tells what happened) unless the slot was claimed anew. With
      ``next_due_us`` the attempt is kept as an Attempt and the run is claimed again by the same
      node: attempt + 1, a new token.
    - ``mark_running`` is guarded the same way, and answers in order.
    - ``request_cancel``: queued runs, and claimed ones due after ``now_us + NOTICE_US``, end at
      once; other active ones are flagged; final ones are left. Returns the run as it is then.
    - ``then``, of a finish or a verdict: queued in the same batch as the end that it follows. Runs
      of jobs that are gone are left out, those of disabled jobs end as skipped.
    - ``hand_back`` returns claimed, not started runs to the queue; those that ``change_job`` would
      have ended there (their job was disabled meanwhile) end in the same way.
    - ``orphans`` lists active runs whose node is not alive at ``now_us`` (lease over or unknown).
    - ``recover`` is guarded by (key, attempt, token): state ``queued`` hands the run over under
      attempt + 1 and counts a crash, ``lost`` ends it.
    - ``still_claimed`` returns those of the (key, token) pairs that are active under that token.
    - ``cancel_flags`` returns the node's active runs whose cancel was requested.
    - ``append_output`` ignores chunks that are there already. ``read_output`` returns chunks from
      a byte offset on (the first is cut there), of the attempt given, by offset. Output of a
      deleted job is ignored.
    - ``list_runs``: newest slot first; ``before`` is the key after which to go on.
    - ``purge`` removes final runs (with output and attempts) whose slot is before ``before_us``,
      oldest first, and returns how many. Answers remembered before then are forgotten too.
    - ``next_due_us`` is the earliest instant at which ``due`` or ``take_queued`` may have
      something (of that share); None if there is nothing.
    """

    async def due(self, until_us: int, limit: int, share: Share | None = None) -> list[DueJob]:
        """Return jobs to be decided."""
        ...

    async def next_due_us(self, share: Share | None = None, *, queued: bool = True) -> int | None:
        """Return when something is due next, or None; without ``queued``, of slots only."""
        ...

    async def decide(self, node: str, decisions: Sequence[Decision], now_us: int) -> list[Decided]:
        """Carry out decisions."""
        ...

    async def enqueue(self, run: NewRun, now_us: int) -> Run:
        """Store a queued run, or return the one that has the key. NotFoundError: no such job."""
        ...

    async def take_queued(
        self, node: str, now_us: int, limit: int, keys: Sequence[RunKey] | None = None
    ) -> list[Run]:
        """Claim queued runs."""
        ...

    async def mark_running(
        self, runs: Sequence[tuple[Run, int]], now_us: int
    ) -> list[Literal["stored", "stale"]]:
        """Say that runs started, at the instant (us) given with each."""
        ...

    async def finish(self, finishes: Sequence[Finish], now_us: int) -> list[Finished]:
        """End attempts."""
        ...

    async def request_cancel(self, key: RunKey, now_us: int) -> Run:
        """Ask for the end of a run. Raises NotFoundError."""
        ...

    async def hand_back(self, runs: Sequence[Run], now_us: int) -> int:
        """Return claims to the queue; how many were."""
        ...

    async def orphans(self, now_us: int, limit: int) -> list[Run]:
        """Return active runs of dead nodes, by key."""
        ...

    async def recover(self, verdicts: Sequence[Verdict], now_us: int) -> int:
        """Hand over or give up orphans, each with a reason; how many were."""
        ...

    async def still_claimed(self, claims: Sequence[tuple[RunKey, int]]) -> list[RunKey]:
        """Return the keys that are still active under the token given."""
        ...

    async def cancel_flags(self, node: str) -> list[RunKey]:
        """Return the node's active runs that are to be cancelled."""
        ...

    async def append_output(self, chunks: Sequence[OutputChunk]) -> None:
        """Store output."""
        ...

    async def read_output(
        self, key: RunKey, attempt: int, offset: int, limit_bytes: int
    ) -> list[OutputChunk]:
        """Return output from ``offset`` on; at least one chunk if there is one."""
        ...

    async def get_run(self, key: RunKey) -> Run:
        """Return a run. Raises NotFoundError."""
        ...

    async def attempts(self, key: RunKey) -> list[Attempt]:
        """Return the earlier attempts of a run, first to last."""
        ...

    async def list_runs(
        self, where: RunFilter, limit: int, before: RunKey | None = None
    ) -> list[Run]:
        """Return runs, newest slot first."""
        ...

    async def last_runs(self, job_ids: Sequence[int]) -> dict[int, tuple[Run | None, Run | None]]:
        """Return for each job its newest started or ended run, and its newest skipped one."""
        ...

    async def purge(self, before_us: int, limit: int) -> int:
        """Forget old final runs."""
        ...


class Store(DefinitionStore, RunStore, ClusterStore, AuditStore, Protocol):
    """All ports over one engine."""

    async def close(self) -> None:
        """Let go of files and connections; acknowledged work stays. May be called twice."""
        ...
