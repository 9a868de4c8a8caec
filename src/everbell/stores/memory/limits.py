"""Concurrency limits in memory."""

from __future__ import annotations

from everbell.domain.errors import no_such
from everbell.domain.job import Job
from everbell.domain.records import Limit
from everbell.stores.memory.data import Data


class MemoryLimits:
    """Implements the limits of DefinitionStore; the obligations are written there."""

    _data: Data

    async def set_limit(self, limit: Limit) -> Limit:
        """See DefinitionStore."""
        if limit.project_id not in self._data.projects:
            raise no_such("project", limit.project_id)
        self._data.limits[limit.project_id, limit.name] = limit.most
        return self._counted(limit.project_id, limit.name)

    async def delete_limit(self, project_id: int, name: str) -> None:
        """See DefinitionStore."""
        if self._data.limits.pop((project_id, name), None) is None:
            raise no_such("limit", name)

    async def list_limits(self, project_ids: tuple[int, ...] | None) -> list[Limit]:
        """See DefinitionStore."""
        used = {
            (job.project_id, name)
            for job in self._data.jobs.values()
            for name in job.definition.limits
        }
        return [
            self._counted(project_id, name)
            for project_id, name in sorted(used | set(self._data.limits))
            if project_ids is None or project_id in project_ids
        ]

    def _counted(self, project_id: int, name: str) -> Limit:
        jobs = sharing(self._data, project_id, name)
        return Limit(
            project_id=project_id,
            name=name,
            most=self._data.limits.get((project_id, name), 1),
            active=sum(self._data.active(job.id) for job in jobs),
            jobs=len(jobs),
        )


def sharing(data: Data, project_id: int, name: str) -> list[Job]:
    """Return the jobs that share a limit."""
    return [
        job
        for job in data.jobs.values()
        if job.project_id == project_id and name in job.definition.limits
    ]


def has_room(data: Data, job: Job) -> bool:
    """Return whether every limit that the job names has room for one more run."""
    return all(
        sum(data.active(other.id) for other in sharing(data, job.project_id, name))
        < data.limits.get((job.project_id, name), 1)
        for name in job.definition.limits
    )
