"""Concurrency limits that jobs of a project share by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from everbell.domain.errors import NotFoundError, no_such
from everbell.domain.records import Limit
from everbell.stores.sqlite import rows

_ACTIVE = (
    "(SELECT count(*) FROM job_limits u JOIN runs ON runs.job_id = u.job_id"
    " AND state IN ('claimed', 'running') WHERE u.project_id = {0}.project_id"
    " AND u.name = {0}.name)"
)
_MOST = (
    "coalesce((SELECT most FROM limits m WHERE m.project_id = {0}.project_id"
    " AND m.name = {0}.name), 1)"
)
_ROOM = (
    f"SELECT project_id, name, {_MOST.format('l')} - {_ACTIVE.format('l')}"
    " FROM job_limits l WHERE job_id = ?"
)
_LIST = (
    "SELECT project_id, name, " + _MOST.format("n") + ", " + _ACTIVE.format("n") + ","
    " (SELECT count(*) FROM job_limits u WHERE u.project_id = n.project_id AND u.name = n.name)"
    " FROM (SELECT project_id, name FROM limits UNION SELECT project_id, name FROM job_limits) n"
)


def set_limit(sql: apsw.Cursor, limit: Limit) -> Limit:
    """See DefinitionStore.set_limit."""
    if sql.execute("SELECT 1 FROM projects WHERE id = ?", (limit.project_id,)).get is None:
        raise NotFoundError(f"no project {limit.project_id}", hint="create the project first")
    sql.execute(
        "REPLACE INTO limits (project_id, name, most) VALUES (?, ?, ?)",
        (limit.project_id, limit.name, limit.most),
    )
    row = sql.execute(
        f"{_LIST} WHERE project_id = ? AND name = ?", (limit.project_id, limit.name)
    ).fetchone()
    return _limit(row)


def delete_limit(sql: apsw.Cursor, project_id: int, name: str) -> None:
    """See DefinitionStore.delete_limit."""
    sql.execute("DELETE FROM limits WHERE project_id = ? AND name = ?", (project_id, name))
    if not sql.connection.changes():
        raise no_such("limit", name)


def list_limits(sql: apsw.Cursor, project_ids: tuple[int, ...] | None) -> list[Limit]:
    """See DefinitionStore.list_limits."""
    where = "" if project_ids is None else f" WHERE project_id IN ({rows.marks(len(project_ids))})"
    found = sql.execute(f"{_LIST}{where} ORDER BY project_id, name", project_ids or ())
    return [_limit(row) for row in found.fetchall()]


def name_limits(sql: apsw.Cursor, job_id: int, project_id: int, names: Sequence[str]) -> None:
    """Store which limits a job names."""
    sql.execute("DELETE FROM job_limits WHERE job_id = ?", (job_id,))
    sql.executemany(
        "INSERT INTO job_limits (project_id, name, job_id) VALUES (?, ?, ?)",
        [(project_id, name, job_id) for name in dict.fromkeys(names)],
    )
    sql.execute("UPDATE jobs SET limited = ? WHERE id = ?", (bool(names), job_id))


class Shared:
    """Places that shared limits have left; one use per transaction."""

    def __init__(self, sql: apsw.Cursor) -> None:
        self._sql = sql
        self._left: dict[tuple[int, str], int] = {}
        self._named: dict[int, tuple[tuple[int, str], ...]] = {}

    def take(self, job_id: int) -> bool:
        """Take a place under every limit that the job names, or under none."""
        if job_id not in self._named:
            found: list[Any] = self._sql.execute(_ROOM, (job_id,)).fetchall()
            self._named[job_id] = tuple((row[0], row[1]) for row in found)
            for project_id, name, left in found:
                self._left.setdefault((project_id, name), left)
        named = self._named[job_id]
        if any(self._left[one] <= 0 for one in named):
            return False
        for one in named:
            self._left[one] -= 1
        return True


def _limit(row: Any) -> Limit:
    project_id, name, most, active, jobs = row
    return Limit(project_id=project_id, name=name, most=most, active=active, jobs=jobs)
