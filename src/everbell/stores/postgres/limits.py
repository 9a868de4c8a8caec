"""Concurrency limits that jobs of a project share by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from everbell.domain.errors import NotFoundError, no_such
from everbell.domain.records import Limit
from everbell.stores.postgres import locks
from everbell.stores.postgres.session import Sql

_ACTIVE = (
    "(SELECT count(*) FROM job_limits u JOIN runs r ON r.job_id = u.job_id"
    " AND r.state IN ('claimed', 'running') WHERE u.project_id = {0}.project_id"
    " AND u.name = {0}.name)"
)
_MOST = (
    "coalesce((SELECT most FROM limits m WHERE m.project_id = {0}.project_id"
    " AND m.name = {0}.name), 1)"
)
_ROOM = (
    "SELECT job_id, n.project_id, n.name,"
    f" {_MOST.format('n')} - {_ACTIVE.format('n')} FROM (SELECT DISTINCT project_id, name"
    " FROM job_limits WHERE job_id = ANY ($1::bigint[])) n"
    " JOIN job_limits l ON l.project_id = n.project_id AND l.name = n.name"
    " AND l.job_id = ANY ($1::bigint[])"
)
_LIST = (
    f"SELECT project_id, name, {_MOST.format('n')} AS most, {_ACTIVE.format('n')} AS active,"
    " (SELECT count(*) FROM job_limits u WHERE u.project_id = n.project_id AND u.name = n.name)"
    " AS jobs"
    " FROM (SELECT project_id, name FROM limits UNION SELECT project_id, name FROM job_limits) n"
)


async def set_limit(sql: Sql, limit: Limit) -> Limit:
    """See DefinitionStore.set_limit."""
    await locks.alone(sql)
    if await sql.value("SELECT 1 FROM projects WHERE id = $1", limit.project_id) is None:
        raise NotFoundError(f"no project {limit.project_id}", hint="create the project first")
    await sql.change(
        "INSERT INTO limits (project_id, name, most) VALUES ($1, $2, $3)"
        " ON CONFLICT (project_id, name) DO UPDATE SET most = excluded.most",
        limit.project_id,
        limit.name,
        limit.most,
    )
    row = await sql.row(
        f"{_LIST} WHERE project_id = $1 AND name = $2", limit.project_id, limit.name
    )
    return Limit(**dict(row))


async def delete_limit(sql: Sql, project_id: int, name: str) -> None:
    """See DefinitionStore.delete_limit."""
    if not await sql.change(
        "DELETE FROM limits WHERE project_id = $1 AND name = $2", project_id, name
    ):
        raise no_such("limit", name)


async def list_limits(sql: Sql, project_ids: tuple[int, ...] | None) -> list[Limit]:
    """See DefinitionStore.list_limits."""
    found = await sql.rows(
        f"{_LIST} WHERE $1::bigint[] IS NULL OR project_id = ANY ($1::bigint[])"
        " ORDER BY project_id, name",
        project_ids,
    )
    return [Limit(**dict(row)) for row in found]


async def name_limits(sql: Sql, jobs: Sequence[tuple[int, int, Sequence[str]]]) -> None:
    """Store which limits jobs name; each given as job, project, names."""
    ids = [job_id for job_id, _, _ in jobs]
    await sql.change("DELETE FROM job_limits WHERE job_id = ANY ($1::bigint[])", ids)
    named = [(p, name, j) for j, p, names in jobs for name in dict.fromkeys(names)]
    for project_id, name, job_id in named:
        await sql.change("INSERT INTO job_limits VALUES ($1, $2, $3)", project_id, name, job_id)
    await sql.change(
        "UPDATE jobs SET limited = EXISTS (SELECT 1 FROM job_limits l WHERE l.job_id = jobs.id)"
        " WHERE id = ANY ($1::bigint[])",
        ids,
    )


class Shared:
    """Places that shared limits have left; one use per choice."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._left: dict[tuple[int, str], int] = {}
        self._named: dict[int, list[tuple[int, str]]] = {}

    async def look(self, job_ids: Collection[int]) -> None:
        """Count for the limits of these jobs what is not counted yet."""
        new = [job_id for job_id in job_ids if job_id not in self._named]
        found: list[Any] = await self._sql.rows(_ROOM, new) if new else []
        self._named.update({job_id: [] for job_id in new})
        for job_id, project_id, name, left in found:
            self._named[job_id].append((project_id, name))
            self._left.setdefault((project_id, name), left)

    def take(self, job_id: int) -> bool:
        """Take a place under every limit that the job names, or under none."""
        named = self._named[job_id]
        if any(self._left[one] <= 0 for one in named):
            return False
        for one in named:
            self._left[one] -= 1
        return True
