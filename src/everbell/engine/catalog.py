"""The node's memory of job definitions, keyed by id and version, so that firing reads none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from everbell.domain.errors import NotFoundError, ScheduleError
from everbell.domain.job import Job, Record, compile_schedule
from everbell.domain.records import Project
from everbell.domain.schedule import Schedule
from everbell.ports.store import Store

ENTRIES_MAX = 200_000


class Entry(Record, frozen=True):
    """A job, ready to be planned. ``problem`` tells why it can't be."""

    job: Job
    schedule: Schedule | None
    problem: str = ""


class Catalog:
    """Reads jobs when they are first due and keeps them until their version changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[int, Entry] = {}
        self._projects: dict[int, Project] = {}

    def get(self, job_id: int, version: int) -> Entry | None:
        """Return the entry if it is of this version."""
        entry = self._entries.get(job_id)
        return entry if entry is not None and entry.job.version == version else None

    def latest(self, job_id: int) -> Entry | None:
        """Return the entry of any version."""
        return self._entries.get(job_id)

    def forget(self, job_ids: Iterable[int]) -> None:
        """Drop entries that are known to be old."""
        for job_id in job_ids:
            self._entries.pop(job_id, None)

    async def load(self, wanted: Sequence[tuple[int, int]]) -> None:
        """Read those (job, version) pairs that are not here yet."""
        missing = [job_id for job_id, version in wanted if self.get(job_id, version) is None]
        if not missing:
            return
        if len(self._entries) + len(missing) > ENTRIES_MAX:
            self._entries.clear()
        jobs = await self._store.get_jobs(missing)
        for job in jobs:
            self._entries[job.id] = _entry(job)
        # Now, ahead of time: at the instant of a storm each of its runs would ask for it.
        for project_id in {job.project_id for job in jobs}:
            await self.project(project_id)

    def known(self, job_id: int, version: int, project_id: int) -> tuple[Job, Project] | None:
        """Return a job of this version and its project, if both are here."""
        entry, project = self._entries.get(job_id), self._projects.get(project_id)
        if entry is None or project is None or entry.job.version != version:
            return None
        return entry.job, project

    async def project(self, project_id: int) -> Project | None:
        """Return a project; None if it is gone."""
        if project_id not in self._projects:
            try:
                self._projects[project_id] = await self._store.get_project(project_id)
            except NotFoundError:
                return None
        return self._projects[project_id]


def _entry(job: Job) -> Entry:
    if job.quarantined:
        return Entry(job=job, schedule=None, problem=job.quarantined)
    try:
        schedule = compile_schedule(job.definition, job.uuid, job.created_us)
    except ScheduleError as error:
        return Entry(job=job, schedule=None, problem=f"schedule can't be read: {error.message}")
    return Entry(job=job, schedule=schedule)
