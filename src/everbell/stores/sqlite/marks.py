"""Slots and waiting runs that end without a start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import apsw

from everbell.domain.decision import Instead, Mark

_MARK = (
    "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, reason,"
    " due_us, finished_us, until_us, slots) VALUES (?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_INSIDE = (
    "SELECT 1 FROM runs WHERE job_id = ? AND slot_us BETWEEN ? AND ? AND trigger_id = '' LIMIT 1"
)
_QUEUE = (
    "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, reason,"
    " due_us) VALUES (?1, ?2, ?3, ?4, ?5, 'queued', 'manual', ?6, ?1) ON CONFLICT DO NOTHING"
)
_RANGED = "UPDATE jobs SET ranged_until_us = max(ranged_until_us, ?) WHERE id = ?"
_SKIP_OF_DISABLED = (
    "UPDATE runs SET state = 'skipped', reason = 'disabled', finished_us = ?1"
    " WHERE job_id = ?2 AND state = 'queued' AND attempt = 1 AND cause <> 'manual'"
    " AND (SELECT enabled FROM jobs WHERE id = ?2) = 0"
)


def store(
    execute: Callable[..., Any], of_job: tuple[int, int, int], mark: Mark, now_us: int
) -> None:
    """Store a decided slot, or range, of (job, project, version) unless the slot has a row."""
    job_id, project_id, version = of_job
    execute(
        _MARK,
        (
            mark.slot_us,
            job_id,
            project_id,
            version,
            mark.state,
            mark.trigger,
            mark.reason,
            mark.slot_us,
            None if mark.state == "queued" else now_us,
            mark.until_us,
            mark.count,
        ),
    )
    if mark.until_us is not None:
        execute(_RANGED, (mark.until_us, job_id))


def queue(execute: Callable[..., Any], of_job: tuple[int, int, int], run: Instead) -> None:
    """Queue the run that takes the place of a slot, unless it is there."""
    job_id, project_id, version = of_job
    execute(_QUEUE, (run.at_us, job_id, run.trigger_id, project_id, version, run.reason))


def overlap(execute: Callable[..., Any], job_id: int, found: Iterable[Mark]) -> bool:
    """Return whether the job has rows inside of a mark that is a range."""
    return any(
        mark.until_us is not None
        and execute(_INSIDE, (job_id, mark.slot_us, mark.until_us)).fetchone() is not None
        for mark in found
    )


def skip_of_disabled(sql: apsw.Cursor, job_id: int, now_us: int) -> None:
    """End queued first attempts that a job, if it is disabled, will never start."""
    sql.execute(_SKIP_OF_DISABLED, (now_us, job_id))
