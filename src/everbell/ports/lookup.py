"""What users of the store ask it in two steps."""

from __future__ import annotations

from everbell.domain.errors import NotFoundError
from everbell.domain.job import Job
from everbell.ports.store import DefinitionStore, JobFilter, Page


async def find_job(store: DefinitionStore, project_id: int, key: str) -> Job | None:
    """Return a project's job by name, id or uuid (in this order); None if there is none."""
    where = JobFilter(project_ids=(project_id,), name=key)
    named, _ = await store.list_jobs(where, Page(limit=1))
    if named:
        return named[0]
    try:
        found = await store.get_job(int(key) if key.isascii() and key.isdigit() else key)
    except NotFoundError:
        return None
    return found if found.project_id == project_id else None
