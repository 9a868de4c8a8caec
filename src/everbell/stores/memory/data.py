"""The dictionaries that all verbs of the memory store share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from everbell.domain.audit import AuditEntry
from everbell.domain.decision import Instead, LeftBehind, Mark
from everbell.domain.job import Definition, Job, JobVersion
from everbell.domain.notice import may_withdraw
from everbell.domain.records import Credential, Hold, Node, Project
from everbell.domain.run import ACTIVE, FINAL, Attempt, Run, RunKey
from everbell.ports.cluster import Assignment
from everbell.ports.store import NewRun, OutputChunk

T = TypeVar("T")


class Data:
    """What the store knows. Records are immutable, so handing them out is safe."""

    def __init__(self) -> None:
        self.projects: dict[int, Project] = {}
        self.credentials: dict[int, Credential] = {}
        self.jobs: dict[int, Job] = {}
        self.versions: dict[int, list[JobVersion]] = {}
        self.holds: dict[int, Hold] = {}
        self.runs: dict[int, dict[RunKey, Run]] = {}
        # Those of them that are not final: what is due must not cost what is past.
        self.open: dict[int, dict[RunKey, Run]] = {}
        self.kept_attempts: dict[RunKey, dict[int, Attempt]] = {}
        self.output: dict[tuple[RunKey, int], dict[int, OutputChunk]] = {}
        self.nodes: dict[str, Node] = {}
        self.drains: dict[str, str] = {}
        self.assignment = Assignment()
        self.loads: dict[int, float] = {}
        self.remembered: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.named: dict[str, str] = {}
        self.audit: list[AuditEntry] = []
        self.limits: dict[tuple[int, str], int] = {}
        self.token = 0
        self.withdrawals = 0
        self._last_id: dict[str, int] = {}

    def new_id(self, kind: str) -> int:
        """Return an id that was never used."""
        self._last_id[kind] = self._last_id.get(kind, 0) + 1
        return self._last_id[kind]

    def next_token(self) -> int:
        """Return a fencing token greater than any before."""
        self.token += 1
        return self.token

    def held(self, job: Job) -> bool:
        """Return whether a hold covers the job."""
        return any(covers(hold, job) for hold in self.holds.values())

    def plannable(self, job: Job) -> bool:
        """Return whether slots of the job may be decided."""
        return job.enabled and not (job.parked or job.quarantined or self.held(job))

    def of_job(self, job_id: int) -> dict[RunKey, Run]:
        """Return the job's runs."""
        return self.runs.setdefault(job_id, {})

    def active(self, job_id: int) -> int:
        """Return how many runs of the job are claimed or running."""
        return sum(run.state in ACTIVE for run in self.unfinished_of(job_id))

    def unfinished_of(self, job_id: int) -> Iterable[Run]:
        """Return the job's runs that are not final."""
        return self.open.get(job_id, {}).values()

    def unfinished(self) -> Iterator[Run]:
        """Return every run that is not final, in no order."""
        for runs in self.open.values():
            yield from runs.values()

    def all_runs(self) -> Iterator[Run]:
        """Return every run, in no order."""
        for runs in self.runs.values():
            yield from runs.values()

    def run(self, key: RunKey) -> Run | None:
        """Return a run, or None."""
        return self.runs.get(key.job_id, {}).get(key)

    def put(self, run: Run) -> Run:
        """Store a run."""
        self.of_job(run.key.job_id)[run.key] = run
        if run.state in FINAL:
            self.open.get(run.key.job_id, {}).pop(run.key, None)
        else:
            self.open.setdefault(run.key.job_id, {})[run.key] = run
        return run

    def drop(self, key: RunKey) -> None:
        """Remove a run's row."""
        del self.runs[key.job_id][key]
        self.open.get(key.job_id, {}).pop(key, None)

    def forget(self, key: RunKey) -> None:
        """Remove a run with its attempts and output."""
        self.drop(key)
        self.kept_attempts.pop(key, None)
        for at in [at for at in self.output if at[0] == key]:
            del self.output[at]

    def fenced(self, run: Run, states: Iterable[str] = ACTIVE) -> Run | None:
        """Return the stored run if it is in one of the states under this attempt and token."""
        found = self.run(run.key)
        same = found is not None and (found.attempt, found.token) == (run.attempt, run.token)
        return found if found is not None and same and found.state in states else None

    def keep_attempt(self, run: Run, attempt: Attempt) -> None:
        """Keep an attempt that did not end its run."""
        self.kept_attempts.setdefault(run.key, {})[attempt.attempt] = attempt

    def withdraw(self, job_ids: Iterable[int], now_us: int) -> tuple[RunKey, ...]:
        """Take back first attempts that were claimed ahead and are not due soon."""
        self.withdrawals += 1
        keys: list[RunKey] = []
        for job_id in job_ids:
            for run in list(self.of_job(job_id).values()):
                if not may_withdraw(run, now_us):
                    continue
                keys.append(run.key)
                if run.key.trigger_id:
                    self.put(replace(run, state="queued", node="", claimed_us=None))
                else:
                    self.drop(run.key)
        return tuple(sorted(keys))

    def mark(self, job: Job, version: int, mark: Mark, now_us: int) -> None:
        """Store a decided slot, or range of slots, unless it has a row."""
        key = RunKey(mark.slot_us, job.id)
        if self.run(key) is not None:
            return
        self.put(
            Run(
                key=key,
                project_id=job.project_id,
                version=version,
                state=mark.state,
                trigger=mark.trigger,
                reason=mark.reason,
                due_us=mark.slot_us,
                finished_us=None if mark.state == "queued" else now_us,
                until_us=mark.until_us,
                count=mark.count,
            )
        )
        if mark.until_us is not None:
            ranged = max(self.jobs[job.id].ranged_until_us, mark.until_us)
            self.jobs[job.id] = replace(self.jobs[job.id], ranged_until_us=ranged)

    def leave_behind(self, job: Job, left: LeftBehind, now_us: int) -> None:
        """Mark slots of a job under its version, and queue the run in the place of one."""
        for mark in left.marks:
            self.mark(job, job.version, mark, now_us)
        if left.instead is not None:
            self._queue(job, left.instead)

    def _queue(self, job: Job, run: Instead) -> None:
        """Queue the run that takes the place of a slot, unless it is there."""
        key = RunKey(run.at_us, job.id, run.trigger_id)
        if self.run(key) is None:
            self.put(
                Run(
                    key=key,
                    project_id=job.project_id,
                    version=job.version,
                    state="queued",
                    trigger="manual",
                    reason=run.reason,
                    due_us=run.at_us,
                )
            )

    def overlaps(self, job_id: int, marks: Iterable[Mark]) -> bool:
        """Return whether the job has rows inside of a mark that is a range."""
        return any(
            mark.until_us is not None
            and any(
                mark.slot_us <= key.slot_us <= mark.until_us and not key.trigger_id
                for key in self.of_job(job_id)
            )
            for mark in marks
        )

    def enqueue(self, run: NewRun) -> Run:
        """Store a queued run unless there is one with the key; return it."""
        queued = Run(
            key=run.key,
            project_id=run.project_id,
            version=run.version,
            state="queued",
            trigger=run.trigger,
            reason=run.reason,
            due_us=run.due_us,
        )
        return self.run(run.key) or self.put(queued)

    def follow(self, then: Iterable[NewRun], now_us: int) -> None:
        """Queue what follows the end of a run."""
        for run in then:
            job = self.jobs.get(run.key.job_id)
            if job is not None:
                self.skip_if_disabled(self.enqueue(run), job, now_us)

    def skip_if_disabled(self, run: Run, job: Job, now_us: int) -> None:
        """End a queued first attempt that its disabled job will never start."""
        planned = run.attempt == 1 and run.trigger != "manual"
        if planned and run.state == "queued" and not job.enabled:
            self.put(replace(run, state="skipped", reason="disabled", finished_us=now_us))


def covers(hold: Hold, job: Job) -> bool:
    """Return whether the job is in the scope of the hold."""
    if hold.scope == "all":
        return True
    return hold.target_id == (job.project_id if hold.scope == "project" else job.id)


def earliest(cursor: int | None, keys: Iterable[RunKey], job_id: int) -> int | None:
    """Return the cursor, moved back to the first planned slot that was withdrawn."""
    slots = [key.slot_us for key in keys if key.job_id == job_id and not key.trigger_id]
    if cursor is not None:
        slots.append(cursor)
    return min(slots, default=None)


def stored(definition: Definition) -> Definition:
    """Return the definition as it comes back from a store: by way of JSON."""
    return msgspec.json.decode(msgspec.json.encode(definition), type=Definition)


def by_id(items: dict[int, T], key: int | str) -> T | None:
    """Return the item whose id ``key`` can mean."""
    if isinstance(key, str):
        if not (key.isascii() and key.isdigit() and len(key) < 20):
            return None
        key = int(key)
    return items.get(key)
